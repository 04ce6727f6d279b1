# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a program: seconds, memory, and the calls that reached the emulator meanwhile."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.aws.account import HERE, ROOT, SECRET
from tests.benchmarks.process import changed, measure
from tests.integration.aws.emulator import Emulator

KUBERNETES = "1.33"
PEER_PROGRAMS = ROOT / ".cache" / "bench-aws" / "venv" / "bin"
COLLECTIONS = ROOT / ".venv" / "collections"
# The emulator logs a call shortly after its answer.
_LOGGED_S = 0.3


@dataclass(frozen=True)
class Run:
    """Measurements of one run.

    took_s: from its start to its end. cpu_s: of all its processes, which depends least on a busy machine. memory_kib:
    of the largest of them. calls: number of answered ones.
    """

    took_s: float
    cpu_s: float
    memory_kib: int
    calls: int
    output: str = ""

    def in_words(self) -> str:
        return f"{self.took_s:.2f} s, {self.cpu_s:.2f} s of processors, {self.calls} calls"

    @property
    def changed(self) -> int:
        """Return the number of tasks that changed something in a playbook."""
        return changed(self.output)


def middle(runs: Iterable[Run]) -> Run:
    """Return the medians of several runs."""
    every = list(runs)
    return Run(
        median(run.took_s for run in every),
        median(run.cpu_s for run in every),
        int(median(run.memory_kib for run in every)),
        int(median(run.calls for run in every)),
    )


@dataclass(frozen=True)
class Runner:
    """Runs programs against an account, without this machine's AWS configuration in their environment."""

    account: Emulator
    folder: Path

    def run(self, command: Sequence[str | Path], variables: Mapping[str, str] | None = None) -> Run:
        """Run a program to its end. Raises RunError when it fails."""
        log = self.account.server.log
        before = log.stat().st_size
        environment = {**self.account.variables(self.folder), **(variables or {})}
        measured = measure(command, self.folder, environment)
        time.sleep(_LOGGED_S)
        with log.open("rb") as file:
            file.seek(before)
            calls = file.read().count(b" HTTP/1.1")
        return Run(measured.took_s, measured.cpu_s, measured.memory_kib, calls, measured.output)

    def play(self, playbook: str, programs: Path, **variables: Any) -> Run:
        """Run a playbook of this folder."""
        given = {"region": self.account.region, "secret": SECRET, **variables}
        settings = {
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS if programs != PEER_PROGRAMS else self.folder),
        }
        program = programs / "ansible-playbook"
        command: list[str | Path] = [program, "-i", "localhost,", HERE / playbook, "-e", json.dumps(given)]
        return self.run(command, settings)

    def play_ours(self) -> Run:
        """Apply the foundation with this collection."""
        return self.play("ours.yml", Path(sys.executable).parent, endpoint_url=self.account.url)

    def play_peer(self) -> Run:
        """Apply the foundation with the community's collections."""
        given = {"account": self.account.account_id, "kubernetes_version": KUBERNETES}
        return self.play("peer.yml", PEER_PROGRAMS, **given)

    def python(self, module: str, given: Mapping[str, Any]) -> Run:
        """Run a module of this package in a separate Python, with a file of JSON."""
        file = self.folder / f"{module}.json"
        file.write_text(json.dumps(given), "utf-8")
        path = {"PYTHONPATH": f"{ROOT}{os.pathsep}{COLLECTIONS}"}
        return self.run([sys.executable, "-m", f"tests.benchmarks.aws.{module}", file], path)
