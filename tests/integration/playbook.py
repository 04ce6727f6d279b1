# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a playbook run, and the end of one."""

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
    """The result of one playbook run."""

    exit_code: int
    output: str

    @property
    def changed(self) -> int:
        return int(re.findall(r"changed=(\d+)", self.output)[-1])

    @property
    def words(self) -> str:
        """The output on one line, without line breaks."""
        return " ".join(self.output.split())


def played(
    command: Sequence[str], place: Path, environment: Mapping[str, str], output: Path, silence_s: float = HANG_S
) -> Run:
    """Run a playbook to its end. It has no limit as long as it prints.

    output: file for its output. silence_s: longest time without output before it is killed with an error.
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
    """Kill a playbook, its workers and their modules, like a power failure.

    Workers have their own sessions, and one whose playbook is gone may wait forever for its reader.
    """
    with contextlib.suppress(ProcessLookupError):
        # It starts no further processes during the search.
        os.kill(playbook.pid, signal.SIGSTOP)
    for pid in with_descendants([playbook.pid], read_processes()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    playbook.wait()
