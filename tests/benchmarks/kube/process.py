# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a program against a cluster: seconds, memory, and what it tells of itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
LAUNCH = HERE.parent / "aws" / "launch.py"
COLLECTIONS = ROOT / ".venv" / "collections"
PROGRAMS = ROOT / ".cache" / "kube" / "bin"
_CHANGED = re.compile(r"^localhost\s.*\bchanged=(\d+)", re.MULTILINE)


class RunError(Exception):
    """A program failed, or did what it was not to do."""


@dataclass(frozen=True)
class Run:
    """took_s: from its start to its end. cpu_s: of all its processes. memory_kib: of the largest of them.
    told: the JSON of its last line, where it prints some."""

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
        """Return how many tasks of a playbook changed something."""
        found = _CHANGED.search(self.output)
        if found is None:
            raise RunError(f"the playbook told no number of changes:\n{self.output[-2000:]}")
        return int(found[1])


def middle(runs: Iterable[Run]) -> Run:
    """Return the medians of several runs, and of the seconds of their phases."""
    every = list(runs)
    phases = [run.told["phase_s"] for run in every if "phase_s" in run.told]
    told = {**every[-1].told, **({"phase_s": median(phases)} if phases else {})}
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
        output, measured = self.folder / "output", self.folder / "measured"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("K8S_AUTH_", "ANSIBLE"))}
        environment = {**inherited, "HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig), **(variables or {})}
        # Bytecode is kept as on every machine that runs something twice, and not in the tree.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(self.folder / "bytecode")
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCH), str(measured), *map(str, command)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait()
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise
        text = output.read_text("utf-8", errors="replace")
        if process.returncode:
            raise RunError(f"{Path(command[0]).name} failed with exit code {process.returncode}:\n{text[-4000:]}")
        took_s, cpu_s, memory_kib = measured.read_text("ascii").split()
        last = text.rstrip().rpartition("\n")[2]
        told = json.loads(last) if last.startswith("{") else {}
        return Run(float(took_s), float(cpu_s), int(memory_kib), text, told)

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
        """Run a module of this package in a Python of its own, with a file of JSON that nobody else can read."""
        file = self.folder / f"{module}.json"
        file.touch(0o600)
        file.write_text(json.dumps(given), "utf-8")
        path = {"PYTHONPATH": f"{ROOT}{os.pathsep}{COLLECTIONS}"}
        return self.run([sys.executable, "-m", f"tests.benchmarks.kube.{module}", file], path)
