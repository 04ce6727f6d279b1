# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs PostgreSQL's programs: each with a deadline, in its own process group, without secrets in its arguments."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

from crypto_lakehouse.backup.errors import BackupError, RefusedError
from crypto_lakehouse.backup.settings import BackupSettings

LOG_LINES: Final = 8
"""Last lines of a program's output that its failure shows."""
LOG_BYTES: Final = 16_384


class DeadlineError(BackupError):
    """A step did not end in its time."""


class Deadline:
    """A moment of the monotonic clock that several steps share."""

    def __init__(self, seconds: float) -> None:
        """Begin now."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return self.left_s == 0.0


@dataclass(frozen=True, slots=True)
class Programs:
    """PostgreSQL's programs.

    folder: where they lie; None finds them through PATH. user: system user that a server runs as where this process is
    root, whom PostgreSQL refuses.
    """

    folder: Path | None = None
    user: str | None = None

    def path(self, name: str) -> str:
        """Return the path of a program.

        Raises:
            RefusedError: where it is not installed.
        """
        found = shutil.which(name, path=str(self.folder) if self.folder else None)
        if found is None:
            raise RefusedError(
                f"cannot run {name}: it is not in {self.folder or 'PATH'}",
                "Install the client and server programs of PostgreSQL.",
            )
        return found

    def run(
        self,
        name: str,
        arguments: Sequence[str],
        deadline: Deadline,
        environment: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> str:
        """Run a program to its end and return its output.

        Raises:
            DeadlineError: where the deadline passes; the whole group is killed then.
            BackupError: where it fails.
        """
        with tempfile.TemporaryFile() as log:
            process = self.start(name, arguments, log, environment)
            try:
                status = process.wait(deadline.left_s)
            except subprocess.TimeoutExpired:
                raise DeadlineError(
                    f"cannot run {name}: it did not end within {deadline.seconds:.0f} s",
                    "Raise the deadline, or see why the server does not answer.",
                ) from None
            finally:
                kill(process)
            if status != 0:
                raise BackupError(f"cannot run {name}: status {status}: {last_lines(log, secrets)}")
            log.seek(0)
            return log.read().decode(errors="replace")

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        log: IO[bytes],
        environment: Mapping[str, str] | None = None,
        *,
        as_user: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a program in a process group of its own; output and errors go to `log`.

        It ends with this process, also where that is killed; not so as another user, where Linux forgets it.
        """
        command, identity = [self.path(name), *arguments], dict[str, Any]()
        if as_user and self.user and os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return subprocess.Popen(
            command if identity else bound(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", **(environment or {})},
            cwd="/",
            start_new_session=True,
            **identity,
        )

    def give(self, path: Path) -> None:
        """Give a file or folder to the user that servers run as."""
        if self.user and os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


# PR_SET_PDEATHSIG of prctl(2) stays with a new program. A function between fork and exec, which would save the
# interpreter, is unsafe in a process with threads.
_BOUND: Final = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


def bound(command: Sequence[str]) -> list[str]:
    """Return a command that gets SIGTERM when the thread that starts it ends, however it ends.

    command: path of a program and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the remaining processes of a program's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stop(process: subprocess.Popen[bytes], number: int, timeout_s: float) -> int:
    """Signal a program, kill its group when it does not end in time, and return its status."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    kill(process)
    return process.returncode


def last_lines(log: IO[bytes], secrets: Iterable[str] = ()) -> str:
    """Return the last lines of a log in one line, without secrets."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - LOG_BYTES))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return redact("; ".join(lines[-LOG_LINES:]) or "it said nothing", secrets)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every secret as `***`."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text


def programs(backup: BackupSettings) -> Programs:
    """Return PostgreSQL's programs at the path in the settings, else those in PATH."""
    return Programs(Path(backup.program_folder) if backup.program_folder else None)
