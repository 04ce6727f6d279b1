# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command while no backup or restore does: for jobs that expire snapshots or remove orphaned files.

A set consists of files that tables refer to when they are pinned. Jobs that delete such files wait until the
manifest is written, and a backup waits until they have ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from crypto_lakehouse.backup.create import owner
from crypto_lakehouse.backup.database.programs import bound, stop
from crypto_lakehouse.backup.errors import RefusedError
from crypto_lakehouse.backup.lock import LOCK_WAIT_S
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.backup.state import State
from crypto_lakehouse.settings import Settings

POLL_S: Final = 0.5
STOP_TIMEOUT_S: Final = 30.0
PREFIX: Final = "LAKEHOUSE_"


def hold(settings: Settings, backup: BackupSettings, command: Sequence[str]) -> int:
    """Run a command under the lock of backups and return its status; it does not get the variables of this process.

    Raises:
        RefusedError: where the program does not exist.
        LockedError: where a run holds the lock for too long, or the lock was lost; the command was ended then.
    """
    program = shutil.which(command[0])
    if program is None:
        raise RefusedError(f"cannot run {command[0]}: no such program", "Name an executable file.")
    with State(settings, backup).lock(owner("maintenance")).held(LOCK_WAIT_S) as guard:
        return _run([program, *command[1:]], _without_own(os.environ), guard)


def _run(command: Sequence[str], environment: Mapping[str, str], guard: Callable[[], None]) -> int:
    process = subprocess.Popen(bound(command), env=environment, start_new_session=True)
    try:
        while True:
            try:
                status = process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                guard()
            else:
                return status if status >= 0 else 128 - status
    finally:
        stop(process, signal.SIGTERM, STOP_TIMEOUT_S)


def _without_own(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(PREFIX)}
