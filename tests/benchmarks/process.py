# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a measured program: seconds, memory, and its output."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCH = Path(__file__).resolve().parent / "aws" / "launch.py"
_CHANGED = re.compile(r"^localhost\s.*\bchanged=(\d+)", re.MULTILINE)


class RunError(Exception):
    """A program failed, or had an unexpected effect."""


@dataclass(frozen=True)
class Measured:
    """Measurements of one run.

    took_s: from its start to its end. cpu_s: of all its processes, which depends least on a busy machine. memory_kib:
    of the largest of them.
    """

    took_s: float
    cpu_s: float
    memory_kib: int
    output: str


def measure(command: Sequence[str | Path], folder: Path, variables: Mapping[str, str]) -> Measured:
    """Run a program to its end, in `folder`, with these variables alone. Raises RunError when it fails."""
    output, measured = folder / "output", folder / "measured"
    # Bytecode is cached as for every repeated program, and outside of the tree.
    environment = {name: value for name, value in variables.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LAUNCH), str(measured), *map(str, command)],
            cwd=folder,
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
    return Measured(float(took_s), float(cpu_s), int(memory_kib), text)


def changed(output: str) -> int:
    """Return the number of tasks that changed something in a playbook. Raises RunError if it is unknown."""
    found = _CHANGED.search(output)
    if found is None:
        raise RunError(f"the playbook told no number of changes:\n{output[-2000:]}")
    return int(found[1])
