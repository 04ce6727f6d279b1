# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command until it ends or its deadline passes. The deadline includes its child processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PRIVATE_UMASK = 0o077


@dataclass(frozen=True)
class Finished:
    """Exit status (negative: the signal that ended the command) and both outputs."""

    status: int
    output: str


def run_command(
    command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Finished:
    """Run a command without a shell and without input. Files that it creates are private.

    Raises `TimeoutError` after the deadline, with the whole process group killed, and `OSError` when the command cannot
    be started.
    """
    # AnsibleModule.run_command requires a module and does not support a deadline.
    with subprocess.Popen(  # pylint: disable=ansible-bad-function
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        umask=PRIVATE_UMASK,
    ) as process:
        try:
            output = process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            # Child processes also keep the pipe open, so the whole session is killed.
            os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"{command[0]} did not end within {timeout_s:g} s") from None
    return Finished(process.returncode, output.decode(errors="replace"))
