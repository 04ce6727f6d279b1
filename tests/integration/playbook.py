# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests know of a playbook that was run, and how one is ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    read_processes,
    with_descendants,
)


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
