# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner process of a job on a host: it continues after the module and stops the job at its deadline.

It is a fork of the module, because the secret input of a job must not be in a file. Imports after the fork would fail:
Ansible removes the archive of the module when it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..shared.commands import PRIVATE_UMASK
from .processes import Process, is_same, read_process, read_processes, with_descendants

# Time in seconds between the request to end and the kill of processes.
GRACE_S = 10.0
_KILL_S = 10.0
_POLL_S = 0.1
_LONGEST_SLEEP_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36
_STARTED = "started"


@dataclass(frozen=True)
class Wanted:
    """A command with the settings of its start. folder: of the run. input: for its standard input."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    folder: Path
    timeout_s: float
    grace_s: float = GRACE_S
    input: str | None = field(default=None, repr=False)

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"


def start(wanted: Wanted, record: Mapping[str, Any]) -> str:
    """Start a job with its own runner. Return the reason why it cannot be started, or an empty text.

    record: content of `record.json` besides the processes.
    """
    ours, theirs = os.pipe()
    # The module does not use threads, and the child does not return to Ansible's code.
    child = os.fork()
    if child == 0:
        os.close(ours)
        _detach(wanted, record, theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return "" if said == _STARTED else said or "its runner ended at once"


def _detach(wanted: Wanted, record: Mapping[str, Any], pipe: int) -> NoReturn:
    """Leave the session of the module, so that the job continues when the session ends."""
    try:
        os.setsid()
        if os.fork() == 0:
            _Runner(wanted, record, pipe).run()
    finally:
        os._exit(0)


def _close_inherited(kept: Collection[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) > 2 and int(entry.name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(entry.name))


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a private JSON file atomically."""
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
    partial.replace(path)


def end_processes(roots: Sequence[int], grace_s: float, spared: frozenset[int] = frozenset()) -> bool:
    """End processes with all their descendants, and return whether all have ended.

    spared: roots that are kept; their descendants end.
    """
    known: dict[int, Process] = {}

    def alive() -> list[Process]:
        processes = read_processes()
        # Processes that were found once are remembered: their parent may have ended.
        again = [pid for pid, process in known.items() if is_same(process, processes.get(pid))]
        found = with_descendants([*roots, *again], processes) - spared
        known.update({pid: processes[pid] for pid in found})
        return [processes[pid] for pid in found]

    return _signal_until_gone(alive, signal.SIGTERM, grace_s) or _signal_until_gone(alive, signal.SIGKILL, _KILL_S)


def _signal_until_gone(alive: Any, number: signal.Signals, wait_s: float) -> bool:
    told: set[tuple[int, int]] = set()
    deadline = time.monotonic() + wait_s
    while left := alive():
        for process in left:
            if (process.pid, process.start_ticks) not in told or number is signal.SIGKILL:
                told.add((process.pid, process.start_ticks))
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, number)
        _reap()
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _reap() -> dict[int, int]:
    """Collect the children that ended, and return the exit status of each."""
    found = {}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return found


@dataclass
class _Runner:
    """Starts the command, waits for it, and records its end."""

    wanted: Wanted
    record: Mapping[str, Any]
    pipe: int
    _told_to_end: bool = False
    # Without a reference, Python itself collects the process, and its exit status is lost.
    _process: subprocess.Popen[bytes] | None = None
    _awake: int = -1
    _wake: int = -1

    def run(self) -> NoReturn:
        """Run the command to its end. Does not return, because the code after it belongs to the module."""
        try:
            started_s = time.monotonic()
            job = self._start()
            if job:
                cause, rc = self._wait(job, started_s + self.wanted.timeout_s)
                left = end_processes([os.getpid()], self.wanted.grace_s, frozenset({os.getpid()}))
                self._write_end(cause, rc, time.monotonic() - started_s, left)
        finally:
            os._exit(0)

    def _start(self) -> int:
        # Orphans of the job become children of this process, so that the deadline also stops daemons of the job.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._listen()
        os.umask(PRIVATE_UMASK)
        try:
            self._process = process = self._popen()
            found = [read_process(os.getpid()), read_process(process.pid)]
            ticks = [each.start_ticks if each else 0 for each in found]
            numbers = {"pid": os.getpid(), "start_ticks": ticks[0], "job_pid": process.pid, "job_start_ticks": ticks[1]}
            write_document(self.wanted.folder / "record.json", {**self.record, **numbers})
            # The lock of the slot is among them, because only now other modules can find the run.
            _close_inherited({self.pipe, self._awake, self._wake, *([process.stdin.fileno()] if process.stdin else [])})
        except OSError as error:
            self._tell(f"{error.filename or self.wanted.command[0]}: {error.strerror}")
            shutil.rmtree(self.wanted.scratch, ignore_errors=True)
            return 0
        self._tell(_STARTED)
        if process.stdin:
            threading.Thread(target=self._feed, args=(process.stdin,), daemon=True).start()
        return process.pid

    def _listen(self) -> None:
        """Interrupt the sleep between two polls by signals."""
        self._awake, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._note_end)
        signal.signal(signal.SIGCHLD, lambda *_arguments: None)

    def _popen(self) -> subprocess.Popen[bytes]:
        with (self.wanted.folder / "log").open("ab") as log:
            # AnsibleModule.run_command waits, and its process ends with the module.
            return subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with
                self.wanted.command,
                env=dict(self.wanted.environment),
                cwd=self.wanted.directory,
                stdin=subprocess.DEVNULL if self.wanted.input is None else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE_UMASK,
            )

    def _tell(self, text: str) -> None:
        os.write(self.pipe, text.encode())
        os.close(self.pipe)

    def _feed(self, pipe: Any) -> None:
        with contextlib.suppress(OSError):
            pipe.write((self.wanted.input or "").encode())
            pipe.close()

    def _note_end(self, *_arguments: object) -> None:
        self._told_to_end = True

    def _wait(self, job: int, deadline: float) -> tuple[str, int | None]:
        """Return the end of the wait (exit, deadline, replaced), and the exit status of a job that ended by itself."""
        while True:
            ended = _reap()
            if job in ended:
                return "exit", ended[job]
            left_s = deadline - time.monotonic()
            if self._told_to_end or left_s <= 0:
                return "replaced" if self._told_to_end else "deadline", None
            if select.select([self._awake], [], [], min(left_s, _LONGEST_SLEEP_S))[0]:
                os.read(self._awake, 4096)

    def _write_end(self, cause: str, rc: int | None, duration_s: float, all_gone: bool) -> None:
        shutil.rmtree(self.wanted.scratch, ignore_errors=True)
        document = {"cause": cause, "rc": rc, "duration_s": round(duration_s, 3), "all_gone": all_gone}
        with contextlib.suppress(OSError):
            write_document(self.wanted.folder / "end.json", document)
