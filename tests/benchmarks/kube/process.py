# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a program against a cluster: seconds, memory, and its own report."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.process import changed, measure

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
COLLECTIONS = ROOT / ".venv" / "collections"
PROGRAMS = ROOT / ".cache" / "kube" / "bin"


@dataclass(frozen=True)
class Run:
    """Measurements of one run.

    took_s: from its start to its end. cpu_s: of all its processes. memory_kib: of the largest of them. `told`: the JSON
    of its last line, if there is any.
    """

    took_s: float
    cpu_s: float
    memory_kib: int
    output: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)

    def in_words(self) -> str:
        phase = f", {self.told['phase_s']:.2f} s of them the phase" if "phase_s" in self.told else ""
        return f"{self.took_s:.2f} s, {self.cpu_s:.2f} s of processors{phase}"

    @property
    def changed(self) -> int:
        """Return the number of tasks that changed something in a playbook."""
        return changed(self.output)


def middle(runs: Iterable[Run]) -> Run:
    """Return the medians of several runs, and of the seconds of their phases."""
    every = list(runs)
    timed = [name for name in ("phase_s", "phase_cpu_s") if name in every[-1].told]
    told = {**every[-1].told, **{name: median(run.told[name] for run in every) for name in timed}}
    took_s, cpu_s = median(run.took_s for run in every), median(run.cpu_s for run in every)
    return Run(took_s, cpu_s, int(median(run.memory_kib for run in every)), every[-1].output, told)


@dataclass(frozen=True)
class Runner:
    """Runs programs against the cluster of a kubeconfig, with the objects of a file."""

    kubeconfig: Path
    objects: Path
    folder: Path

    def run(self, command: Sequence[str | Path], variables: Mapping[str, str] | None = None) -> Run:
        """Run a program to its end. Raises RunError when it fails."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("K8S_AUTH_", "ANSIBLE"))}
        environment = {**inherited, "HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig), **(variables or {})}
        measured = measure(command, self.folder, environment)
        last = measured.output.rstrip().rpartition("\n")[2]
        told = json.loads(last) if last.startswith("{") else {}
        return Run(measured.took_s, measured.cpu_s, measured.memory_kib, measured.output, told)

    def kubectl(self) -> Run:
        """Apply the objects with kubectl."""
        options = ["--server-side", "--field-manager=benchmark-kubectl", "--validate=strict"]
        return self.run([PROGRAMS / "kubectl", "apply", *options, f"--filename={self.objects}"])

    def play(self, playbook: str) -> Run:
        """Run a playbook of this folder."""
        given = {"kubeconfig": str(self.kubeconfig), "objects": str(self.objects)}
        settings = {
            "ANSIBLE_CONFIG": str(HERE.parent / "aws" / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        }
        program = Path(sys.executable).parent / "ansible-playbook"
        return self.run([program, "-i", "localhost,", HERE / playbook, "-e", json.dumps(given)], settings)

    def python(self, module: str, given: Mapping[str, Any]) -> Run:
        """Run a module of this package in a separate Python, with a private file of JSON."""
        file = self.folder / f"{module}.json"
        file.touch(0o600)
        file.write_text(json.dumps(given), "utf-8")
        path = {"PYTHONPATH": f"{ROOT}{os.pathsep}{COLLECTIONS}"}
        return self.run([sys.executable, "-m", f"tests.benchmarks.kube.{module}", file], path)
