# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests know of a playbook that was run, and how one is ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    read_processes,
    with_descendants,
)
from tests.integration.patience import HANG_S

POLL_S = 0.1


@dataclass(frozen=True)
class Run:
    """How one run of a playbook ended."""

    exit_code: int
    output: str

    @property
    def changed(self) -> int:
        return int(re.findall(r"changed=(\d+)", self.output)[-1])

    @property
    def words(self) -> str:
        """The output on one line, as if the screen were endlessly wide."""
        return " ".join(self.output.split())


def played(
    command: Sequence[str], place: Path, environment: Mapping[str, str], output: Path, silence_s: float = HANG_S
) -> Run:
    """Run a playbook to its end. It has no limit as long as it prints.

    output: file that it prints into. silence_s: how long it may print nothing before it is ended and an error.
    """
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            if time.time() - output.stat().st_mtime > silence_s:
                raise AssertionError(f"{' '.join(command)} hangs\n{output.read_text(errors='replace')[-12000:]}")
            time.sleep(POLL_S)
    finally:
        if process.poll() is None:
            kill(process)
    return Run(process.returncode, output.read_text(errors="replace"))


def kill(playbook: subprocess.Popen[bytes]) -> None:
    """End a playbook, its workers and their modules, as a machine that is switched off would.

    Workers are in sessions of their own, and one whose playbook is gone may wait forever to be heard.
    """
    with contextlib.suppress(ProcessLookupError):
        # So that it starts nothing more while they are looked for.
        os.kill(playbook.pid, signal.SIGSTOP)
    for pid in with_descendants([playbook.pid], read_processes()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    playbook.wait()
