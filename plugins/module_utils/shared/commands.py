# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a command to its end, or to a deadline that holds for everything that it starts."""

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
    """Exit status (negative: the signal that ended it), and what was printed on both outputs."""

    status: int
    output: str


def run_command(
    command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Finished:
    """Run without a shell and without input; files that it makes are private.

    Raises `TimeoutError` when it does not end in time, after killing its whole process group, and `OSError` when it
    cannot be started.
    """
    # AnsibleModule.run_command needs a module, and knows no deadline.
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
            # The command's own children hold the pipe open as well: the whole session has to go.
            os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"{command[0]} did not end within {timeout_s:g} s") from None
    return Finished(process.returncode, output.decode(errors="replace"))
