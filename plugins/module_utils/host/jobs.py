# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start jobs of a host, find running ones, and read their results.

A run has the folder `run/jobs/SLOT/RUN_ID`: `record.json` (owner, start, digest, its processes), `log`, `progress`,
`result`, `scratch` and, after its end, `end.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..shared.jobs import LOG_BYTES, JobError, Request, Run, bytes_of, occupied, progress_in, readable
from .job_runner import GRACE_S, Wanted, end_processes, start, write_document
from .processes import Process, read_process, wait_until

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
AGAIN = "Run the playbook again"
_PIECE_BYTES = 1 << 20
# The end of a short job is detected within one twentieth of its duration.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _PAUSE_GROWTH = 0.02, 0.5, 1.05
_FOLDER_MODE = 0o700
_ENDED_KEPT = 1
_CHECKS_KEPT_S = 24 * 3600


@dataclass(frozen=True)
class Jobs:
    """The jobs of one home. hide: masks secrets in shown text."""

    home: Path
    hide: Callable[[str], str] = str

    @property
    def folder(self) -> Path:
        return self.home / "run/jobs"

    def start(self, request: Request, command: Sequence[str], environment: Mapping[str, str]) -> Run:
        """Start a job, or attach to the run that `request.running` allows. Raises JobError."""
        with self._locked(request):
            going = self._going(request.slot)
            if going and request.running == "attach" and going.digest == request.digest:
                return replace(going.run, attached=True)
            if going and request.running != "replace":
                raise occupied(request, going.run)
            if going:
                self._replace(request, going)
            self._forget_ended(request.slot)
            self._forget_checks(request)
            return self._start(request, command, environment)

    def _start(self, request: Request, command: Sequence[str], environment: Mapping[str, str]) -> Run:
        run_id = secrets.token_hex(8)
        folder = self.folder / request.slot / run_id
        folder.mkdir(_FOLDER_MODE)
        record = {
            "run_id": run_id,
            "owner": request.owner,
            "started_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "digest": request.digest,
            "boot_id": BOOT_ID.read_text(encoding="ascii").strip(),
        }
        given = _told(folder, request)
        if request.scratch:
            self._make_scratch(request, folder)
        wanted = Wanted(
            command,
            {**environment, **given},
            self.home,
            folder,
            request.timeout_s,
            GRACE_S,
            request.input,
        )
        problem = start(wanted, record)
        if problem:
            raise JobError("start", request.name, problem, "Install the software first, or correct `command`")
        return Run(run_id, request.owner, record["started_at"])

    def _make_scratch(self, request: Request, folder: Path) -> None:
        wanted, free = bytes_of(request.scratch), shutil.disk_usage(folder).free
        if free < wanted:
            cause = f"`scratch` needs {wanted} bytes, and the file system of {self.home} has {free} left"
            raise JobError("start", request.name, cause, "Free space there, or lower `scratch`")
        (folder / "scratch").mkdir(_FOLDER_MODE)

    def wait(self, name: str, slot: str, run_id: str, wait_s: float) -> Run:
        """Return a run when it has ended, or after `wait_s`. Raises JobError if the run does not exist."""
        found = self._find(slot, run_id)
        if found is None:
            cause = f"there is no run {run_id} in {self.folder / slot}"
            raise JobError("find", name, cause, "Start the job without `run_id`")
        deadline, pause_s = time.monotonic() + wait_s, _FIRST_PAUSE_S
        while not found.has_ended() and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(pause_s, left_s))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * _PAUSE_GROWTH)
        return self._outcome(name, found)

    def end_all(self) -> list[str]:
        """End all active runs, and return their slots."""
        slots = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        going = [(slot, found) for slot in slots if (found := self._going(slot))]
        for _slot, found in going:
            found.end()
        return [slot for slot, _found in going]

    def going(self) -> list[str]:
        """Return the slots with an active run."""
        slots = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        return [slot for slot in slots if self._going(slot)]

    @contextlib.contextmanager
    def _locked(self, request: Request) -> Iterator[None]:
        """Hold the lock of a slot, so that the second of two concurrent starts finds the run of the first."""
        place = self.folder / request.slot
        try:
            place.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            remedy = f"Make {self.home} a folder of the user that runs the job"
            raise JobError("start", request.name, f"{error.filename}: {error.strerror}", remedy) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _runs(self, slot: str) -> list[_Found]:
        place = self.folder / slot
        folders = sorted(place.iterdir()) if place.is_dir() else []
        return [found for folder in folders if (found := _read(folder))]

    def _find(self, slot: str, run_id: str) -> _Found | None:
        return next((found for found in self._runs(slot) if found.run.run_id == run_id), None)

    def _going(self, slot: str) -> _Found | None:
        return next((found for found in self._runs(slot) if found.is_going()), None)

    def _replace(self, request: Request, going: _Found) -> None:
        if not going.end():
            cause = f"processes of the run {going.run.run_id} are still running after {GRACE_S:.0f} s"
            raise JobError("replace", request.name, cause, f"End the process {going.record['job_pid']} first")

    def _forget_ended(self, slot: str) -> None:
        """Remove earlier runs, except the last ones, which another task may still read."""
        place = self.folder / slot
        known = {found.folder: found for found in self._runs(slot)}
        for folder in place.iterdir():
            if folder.is_dir() and folder not in known:
                shutil.rmtree(folder, ignore_errors=True)
        ended = sorted(known.values(), key=lambda found: found.folder.stat().st_mtime)
        for found in ended[:-_ENDED_KEPT]:
            shutil.rmtree(found.folder, ignore_errors=True)
        for found in ended[-_ENDED_KEPT:]:
            shutil.rmtree(found.folder / "scratch", ignore_errors=True)

    def _forget_checks(self, request: Request) -> None:
        """Remove slots of earlier check runs; each software and each set of arguments has its own slot."""
        for place in self.folder.glob(f"{request.name}-check-*"):
            is_old = time.time() - place.stat().st_mtime > _CHECKS_KEPT_S
            if place.name != request.slot and is_old and not self._going(place.name):
                shutil.rmtree(place, ignore_errors=True)

    def _outcome(self, name: str, found: _Found) -> Run:
        progress = progress_in(_tail(found.folder / "progress").splitlines(), self.hide)
        run = replace(found.run, progress=progress)
        if not found.has_ended():
            return run
        if found.is_going():
            # Without its runner, the job would not end at its deadline.
            found.end()
        end = _document(found.folder / "end.json")
        reason, remedy = _reason(name, found, end)
        log = readable(_tail(found.folder / "log"), self.hide)
        result = _result(name, found.folder / "result")
        rc, duration_s = end.get("rc"), float(end.get("duration_s") or 0.0)
        return replace(
            run,
            finished=True,
            succeeded=not reason,
            rc=rc,
            duration_s=duration_s,
            reason=reason,
            remedy=remedy,
            log=log,
            result=result,
        )


@dataclass(frozen=True)
class _Found:
    """A run that was started, from its record."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def run(self) -> Run:
        run_id, owner, started_at = (str(self.record.get(key, "")) for key in ("run_id", "owner", "started_at"))
        return Run(run_id, owner, started_at)

    @property
    def digest(self) -> str:
        return str(self.record.get("digest", ""))

    def has_ended(self) -> bool:
        """Return whether it recorded its end, or can no longer record it."""
        return (self.folder / "end.json").exists() or not self._process("pid")

    def is_going(self) -> bool:
        """Return whether one of its processes runs: its runner, or the job after a kill of its runner."""
        if (self.folder / "end.json").exists():
            return False
        return bool(self._process("pid") or self._process("job_pid"))

    def _process(self, key: str) -> Process | None:
        if self.record.get("boot_id") != BOOT_ID.read_text(encoding="ascii").strip():
            return None
        prefix = key.removesuffix("pid")
        process = read_process(int(self.record[key]))
        return process if process and process.start_ticks == self.record[f"{prefix}start_ticks"] else None

    def end(self) -> bool:
        """End it with all its processes, and return whether they have ended."""
        runner = self._process("pid")
        if runner:
            with contextlib.suppress(ProcessLookupError):
                os.kill(runner.pid, signal.SIGTERM)
            wait_until(lambda: self._process("pid") is None, 2 * GRACE_S + 1)
        left = [process.pid for key in ("pid", "job_pid") if (process := self._process(key))]
        gone = not left or end_processes(left, GRACE_S)
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        if not (self.folder / "end.json").exists():
            write_document(self.folder / "end.json", {"cause": "lost", "rc": None})
        return gone


def _read(folder: Path) -> _Found | None:
    record = _document(folder / "record.json")
    return _Found(folder, record) if {"run_id", "pid", "job_pid"} <= record.keys() else None


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _told(folder: Path, request: Request) -> dict[str, str]:
    """Return the environment variables of the interface between job and module."""
    told = {"LAKEHOUSE_JOB_PROGRESS": str(folder / "progress"), "LAKEHOUSE_JOB_RESULT": str(folder / "result")}
    if request.input is not None:
        told["LAKEHOUSE_JOB_INPUT"] = "/dev/stdin"
    if request.scratch:
        told |= {"LAKEHOUSE_JOB_SCRATCH": str(folder / "scratch"), "TMPDIR": str(folder / "scratch")}
    return told


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return file.read(LOG_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _result(name: str, path: Path) -> Any:
    """Return the document that a job returned; None without one."""
    try:
        with path.open("rb") as file:
            pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
            return json.loads(b"".join(pieces))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise JobError("read the result of", name, f"{path}: {error}", AGAIN) from None


def _reason(name: str, found: _Found, end: Mapping[str, Any]) -> tuple[str, str]:
    """Return cause and remedy of a failed run; both are empty if it succeeded."""
    rc, log = end.get("rc"), found.folder / "log"
    cause = end.get("cause", "lost")
    if cause == "exit" and rc == 0:
        return "", ""
    if cause == "exit" and isinstance(rc, int):
        how = f"exit status {rc}" if rc > 0 else f"it was ended by signal {-rc}"
        return f"cannot run job {name}: {how}", f"Read its log: {log}"
    if cause == "deadline":
        left = "" if end.get("all_gone") else "; processes of it are still running"
        return f"cannot run job {name}: it was ended at its deadline{left}", "Set `timeout` to more seconds"
    if cause == "replaced":
        return f"cannot run job {name}: another run replaced it", AGAIN
    return f"cannot run job {name}: its runner was killed, or the machine restarted", AGAIN
