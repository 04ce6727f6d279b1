# SPDX-License-Identifier: GPL-3.0-or-later
"""Receives the WAL of the database server continuously and stores it at the destination.

`pg_receivewal` writes to a local folder and confirms to its slot only flushed WAL. So the position of the slot is the
end of the WAL in the last, unfinished segment. Finished segments are stored as soon as they are complete. WAL of
the unfinished one is stored at an interval, each time the part since the last upload: stored objects are protected, and
whole segments would add up to gigabytes a day. When a backup run asks for WAL, the unfinished segment is stored
from its begin, so that a set needs one object of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from crypto_lakehouse.backup.database import server as servers
from crypto_lakehouse.backup.database.archive import NEW_BASE, WalRequest, find_wal
from crypto_lakehouse.backup.database.base import stored_bases
from crypto_lakehouse.backup.database.programs import Programs, kill, last_lines, redact, stop
from crypto_lakehouse.backup.database.server import Identity, Server, ServerError, Slot
from crypto_lakehouse.backup.database.wal import (
    HISTORY,
    PARTIAL,
    SEGMENT,
    Lsn,
    format_lsn,
    is_written,
    partial_key,
    segment_key,
    segment_name,
    segment_number,
)
from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, LockedError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from crypto_lakehouse.backup.database.server import Connection

log = logging.getLogger("lakehouse.backup")

STOP_TIMEOUT_S: Final = 10.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 30.0
STABLE_S: Final = 60.0
"""A receiver that ran this long is restarted without delay."""
COMPRESSION_LEVEL: Final = 4


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """Settings of the receiver.

    keep, keep_partial: minimum protection of finished segments and of parts beyond what the destination gives every
    object; a set extends that of the segments that it needs. Longer than a bucket's default retention it takes the
    permission to retain.
    spool_bytes: size of the local folder at which receiving pauses, so that a destination that is down does not fill
    the disk: the server then keeps WAL for the slot as far as it may.
    """

    interval_s: float = 60.0
    poll_s: float = 2.0
    assess_s: float = 60.0
    keep: timedelta = timedelta(0)
    keep_partial: timedelta = timedelta(0)
    spool_bytes: int = 1 << 31


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """State of the receiver, as reported. slot: `streaming`, `waiting` or `unreachable`.

    was_lost: whether a slot was lost since the newest base backup. lag_bytes: flushed WAL that is not stored yet.
    last_upload: when WAL was last stored, or none was left to store, in seconds since 1970; None before that.
    gap: name of the first segment that is missing for good, or empty. problem: last error, or empty.
    """

    slot: str = "waiting"
    was_lost: bool = False
    lag_bytes: int = 0
    last_upload: float | None = None
    gap: str = ""
    needs_new_base: bool = True
    problem: str = ""

    @property
    def is_receiving(self) -> bool:
        """Whether the server sends its WAL now."""
        return self.slot == "streaming"


class ReceiverMetrics:
    """The series of the receiver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from crypto_lakehouse.backup.metrics import Gauges

        self._gauges = gauges = Gauges(registry)
        self.lag = gauges.add("wal_lag_bytes", "Flushed WAL that is not stored at the backup destination")
        self.last_upload = gauges.add(
            "wal_last_upload_timestamp_seconds", "When WAL was last stored, or none was left to store"
        )
        self.slot_lost = gauges.add("slot_lost", "Whether the server removed WAL that the slot of backups needs")
        self.gap = gauges.add("wal_gap", "Whether WAL after the newest base backup is missing")

    def show(self, state: ReceiverState) -> None:
        """Publish the known values of a state."""
        self._gauges.publish(self.lag, state.lag_bytes)
        self._gauges.publish(self.last_upload, state.last_upload)
        self._gauges.publish(self.slot_lost, state.was_lost)
        self._gauges.publish(self.gap, bool(state.gap))


def slot_name(timeline: int) -> str:
    """Return the slot of a timeline: a restored server has another one, as it has no slot of its predecessor."""
    return f"backup_{timeline:08x}"


@dataclass
class _Stream:
    """The receiver of one timeline: its folder, its process, and how far its WAL is stored."""

    identity: Identity
    folder: Path
    log: IO[bytes]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S
    stored_end: Lsn = 0
    partial_at: float = float("-inf")

    @property
    def slot(self) -> str:
        return slot_name(self.identity.timeline)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def note_stored(self, name: str) -> None:
        """Record that a finished segment is stored."""
        end = (segment_number(name, self.identity.segment_bytes) + 1) * self.identity.segment_bytes
        self.stored_end = max(self.stored_end, end)

    def next_segment(self, slot: Slot) -> int:
        """Return the number of the first segment that is still to be stored."""
        local = [each.name[:24] for each in self.files() if SEGMENT.match(each.name)]
        names = [segment_number(name, self.identity.segment_bytes) for name in local]
        return min([*names, (slot.end or slot.server_end) // self.identity.segment_bytes])


@dataclass
class Receiver:
    """Receives and stores the WAL of one server, until it is stopped.

    spool: folder of its own. requested: returns the newest request of a backup run.
    """

    server: Server
    programs: Programs
    destination: Destination
    spool: Path
    options: ReceiverOptions = field(default_factory=ReceiverOptions)
    requested: Callable[[], WalRequest | None] = lambda: None
    metrics: ReceiverMetrics | None = None
    state: ReceiverState = field(default_factory=ReceiverState)
    _stream: _Stream | None = None
    _histories: set[str] = field(default_factory=set)
    _assessed_at: float = float("-inf")

    def run(self, stopping: threading.Event) -> None:
        """Receive until `stopping` is set; problems are logged, reported in `state`, and retried.

        Raises:
            LockedError: where another receiver uses the folder.
        """
        with _exclusive(self.spool):
            try:
                while not stopping.is_set():
                    self._try(self._step)
                    stopping.wait(self.options.poll_s)
                self._try(self._last_step)
            finally:
                self._end_stream()

    def _try(self, step: Callable[[], None]) -> None:
        problem, changes = "", {}
        try:
            step()
        except ServerError as error:
            problem, changes = str(error), {"slot": "unreachable"}
        except BackupError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - the service outlives whatever a client library raises
            problem = redact(f"cannot store the WAL: {type(error).__name__}: {error}", self.server.secrets)
        if problem and problem != self.state.problem:
            log.error("%s", problem)
        self._report(problem=problem, **changes)

    def _step(self) -> None:
        try:
            with self.server.connect() as connection:
                stream = self._current_stream(connection)
                slot = self._usable_slot(connection, stream)
                self._supervise(connection, stream, slot)
        except ServerError:
            self._store_finished()
            raise
        stream.stored_end = max(stream.stored_end, stream.next_segment(slot) * stream.identity.segment_bytes)
        self._report(lag_bytes=max(0, slot.server_end - stream.stored_end))
        self._store(stream, slot)
        self._assess(stream, slot)

    def _last_step(self) -> None:
        """Store the received WAL before the receiver stops."""
        if self._stream and self._stream.process:
            with self.server.connect() as connection:
                slot = servers.slot(connection, self._stream.slot)
            if slot:
                self._store(self._stream, slot, at_once=True)

    def _report(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        if self.metrics:
            self.metrics.show(self.state)

    def _current_stream(self, connection: Connection) -> _Stream:
        """Return the stream of the server's timeline; a restored server begins one of its own."""
        found = servers.identity(connection)
        if self._stream and self._stream.identity.line == found.line:
            return self._stream
        self._end_stream()
        folder = self.spool / f"{found.system_identifier}-{found.timeline:08X}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._stream = _Stream(found, folder, tempfile.TemporaryFile())  # noqa: SIM115 - closed with the stream
        self._assessed_at = float("-inf")
        log.info("receiving WAL of server %s, timeline %d", *found.line)
        return self._stream

    def _end_stream(self) -> None:
        if self._stream:
            if self._stream.process:
                stop(self._stream.process, signal.SIGINT, STOP_TIMEOUT_S)
            self._stream.log.close()
        self._stream = None

    def _usable_slot(self, connection: Connection, stream: _Stream) -> Slot:
        """Return the slot; a lost one is replaced, which leaves a gap."""
        found = servers.slot(connection, stream.slot)
        if found and found.is_lost:
            log.error("slot %s is lost: the server removed WAL that was not received. %s", stream.slot, NEW_BASE)
            self._report(was_lost=True, needs_new_base=True)
            self._replace_slot(connection, stream)
            found = None
        elif found is None:
            servers.create_slot(connection, stream.slot)
        if found is None:
            self._assessed_at = float("-inf")
            found = servers.slot(connection, stream.slot)
        if found is None:
            raise BackupError(f"cannot use slot {stream.slot}: it was dropped meanwhile")
        return found

    def _replace_slot(self, connection: Connection, stream: _Stream) -> None:
        if stream.process:
            stop(stream.process, signal.SIGINT, STOP_TIMEOUT_S)
            stream.process = None
        self._store_finished()
        for left in stream.files():
            left.unlink()
        servers.drop_slot(connection, stream.slot)
        servers.create_slot(connection, stream.slot)

    def _supervise(self, connection: Connection, stream: _Stream, slot: Slot) -> None:
        """Start the receiving process where it does not run, and pause it where the folder is full."""
        now = time.monotonic()
        if sum(each.stat().st_size for each in stream.files()) > self.options.spool_bytes:
            if stream.process:
                stop(stream.process, signal.SIGINT, STOP_TIMEOUT_S)
                stream.process = None
            self._report(slot="waiting")
            return
        if stream.is_running:
            self._report(slot="streaming" if slot.is_active else "waiting")
            return
        if stream.process:
            self._note_end(stream, now)
        if now >= stream.not_before:
            if slot.is_active:
                servers.free_slot(connection, stream.slot)
            stream.log.seek(0)
            stream.log.truncate(0)
            stream.process = self.programs.start(
                "pg_receivewal", self._arguments(stream), stream.log, self.server.environment
            )
            stream.started = now

    def _note_end(self, stream: _Stream, now: float) -> None:
        """Log the end of the receiving process and delay the next one, longer each time."""
        if stream.process:
            kill(stream.process)
            reason = last_lines(stream.log, self.server.secrets)
            log.warning("pg_receivewal ended with status %d: %s", stream.process.returncode, reason)
        is_stable = now - stream.started >= STABLE_S
        stream.backoff_s = FIRST_BACKOFF_S if is_stable else min(stream.backoff_s * 2, LONGEST_BACKOFF_S)
        stream.not_before = now + stream.backoff_s
        stream.process = None

    def _arguments(self, stream: _Stream) -> list[str]:
        return [
            f"--dbname={self.server.conninfo}",
            f"--directory={stream.folder}",
            f"--slot={stream.slot}",
            "--no-loop",
            "--no-password",
            # Confirms flushed WAL at once: the position of the slot is that of the file.
            "--synchronous",
        ]

    def _store_finished(self) -> None:
        """Store the finished segments of every timeline, and remove the folders of earlier ones."""
        for folder in sorted(each for each in self.spool.iterdir() if each.is_dir()):
            system_identifier = folder.name.partition("-")[0]
            for file in sorted(folder.iterdir()):
                if SEGMENT.fullmatch(file.name) or HISTORY.fullmatch(file.name):
                    self._store_file(system_identifier, file)
            if self._stream and folder != self._stream.folder:
                shutil.rmtree(folder)

    def _store_file(self, system_identifier: str, file: Path) -> None:
        key = segment_key(system_identifier, file.name)
        if HISTORY.fullmatch(file.name):
            # The file stays: pg_receivewal looks for it at each start.
            if key not in self._histories:
                self._create(key, file.read_bytes(), self.options.keep)
                self._histories.add(key)
            return
        self._create(key, file.read_bytes(), self.options.keep)
        file.unlink()
        if self._stream and self._stream.folder == file.parent:
            self._stream.note_stored(file.name)

    def _store(self, stream: _Stream, slot: Slot, *, at_once: bool = False) -> None:
        """Store finished segments, and the unfinished one where it is due."""
        self._store_finished()
        end = slot.end or 0
        if end > stream.stored_end:
            if self._is_requested(stream, end):
                self._store_part(stream, end, whole=True)
            elif at_once or time.monotonic() - stream.partial_at >= self.options.interval_s:
                self._store_part(stream, end)
        lag_bytes = max(0, slot.server_end - stream.stored_end)
        # An idle server leaves nothing to store: the stored WAL is as new as the server.
        self._report(lag_bytes=lag_bytes, last_upload=self.state.last_upload if lag_bytes else time.time())

    def _is_requested(self, stream: _Stream, end: Lsn) -> bool:
        request = self.requested()
        is_ours = request is not None and (request.system_identifier, request.timeline) == stream.identity.line
        return request is not None and is_ours and stream.stored_end < request.lsn <= end

    def _store_part(self, stream: _Stream, end: Lsn, *, whole: bool = False) -> None:
        """Store the unfinished segment from the last stored position on, or from its begin."""
        segment_bytes = stream.identity.segment_bytes
        name = segment_name(stream.identity.timeline, end // segment_bytes, segment_bytes)
        try:
            content = (stream.folder / f"{name}{PARTIAL}").read_bytes()
        except FileNotFoundError:
            return
        if len(content) != segment_bytes or not is_written(content, end, segment_bytes):
            return
        begin = end // segment_bytes * segment_bytes
        start = begin if whole else max(begin, stream.stored_end)
        key = partial_key(stream.identity.system_identifier, name, start, end)
        # WAL after the position may be written already: the content depends on the positions alone.
        self._create(key, content[start - begin : end - begin], self.options.keep_partial)
        stream.stored_end, stream.partial_at = end, time.monotonic()
        log.debug("stored WAL up to %s", format_lsn(end))

    def _create(self, key: str, content: bytes, keep: timedelta) -> None:
        compressed = gzip.compress(content, COMPRESSION_LEVEL, mtime=0)
        try:
            self.destination.create(key, iter([compressed]), len(compressed), datetime.now(UTC) + keep)
        except IntegrityError:
            self._compare(key, content)
        self._report(last_upload=time.time())

    def _compare(self, key: str, content: bytes) -> None:
        """Accept an object that another release of zlib compressed; reject WAL of a server that branched off."""
        found = self.destination.find(key)
        stored = b"".join(self.destination.read(key, found.version_id)) if found else b""
        with contextlib.suppress(OSError, EOFError, zlib.error):
            if gzip.decompress(stored) == content:
                return
        self._report(gap=key.rpartition("/")[2][:24], needs_new_base=True)
        raise IntegrityError(
            f"cannot store {key}: it exists with other content, so that two servers write the same timeline",
            "Stop the copy of the server, or restore it with `backup_restore`, which begins a timeline of its own.",
        )

    def _assess(self, stream: _Stream, slot: Slot) -> None:
        """Compare stored WAL with the needs of the newest base backup and with the WAL that is still to come.

        The receiver stores segments in their order: without a missing segment, only the loss of a slot opens a gap.
        """
        is_known = self._assessed_at > float("-inf") and not self.state.needs_new_base
        if is_known or time.monotonic() - self._assessed_at < self.options.assess_s:
            return
        bases = stored_bases(self.destination, stream.identity.system_identifier)
        base = next((each for each in bases if each.timeline == stream.identity.timeline), None)
        gap = ""
        if base:
            found = find_wal(self.destination, base)
            is_skipped = segment_number(found.missing, base.segment_bytes) < stream.next_segment(slot)
            gap = found.missing if found.has_gap or is_skipped else ""
        needs_new_base = base is None or bool(gap)
        self._report(gap=gap, needs_new_base=needs_new_base, was_lost=self.state.was_lost and needs_new_base)
        self._assessed_at = time.monotonic()


@contextmanager
def _exclusive(spool: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(spool / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise LockedError(f"cannot receive WAL into {spool}: another receiver uses the folder") from None
    try:
        yield
    finally:
        os.close(handle)
