# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies objects of the lakehouse to a backup destination: concurrently, once, and hashed on the way."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar, cast

from crypto_lakehouse.backup.destination import BLOCK_BYTES, Destination, Stored
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, SourceError
from crypto_lakehouse.backup.model import Artifact, Source, Subject
from crypto_lakehouse.backup.reader import archived_error

log = logging.getLogger("lakehouse.backup")

T = TypeVar("T")
R = TypeVar("R")

OBJECTS: Final = "objects/"
"""Folder of the content that sets share."""

WINDOW: Final = 64
"""Items of each thread that wait for their turn or for an earlier one; they do not hold content in memory."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object to copy, and its subject."""

    source: Source
    subject: Subject


Reader = Callable[[Source], Iterator[bytes]]
"""Returns the content of a source in blocks; raises SourceChangedError where it vanished or changed."""

Progress = Callable[[int, int, int, int], None]
"""Receives objects done, all objects, bytes done and all bytes of one copy; from several threads, one at a time."""

ArchivePolicy = Literal["fail", "skip_recorded", "restore_first"]


class Mover(Protocol):
    """Stores the artifacts of one set. Before each write it verifies that the run still holds its lock."""

    def copy(self, items: Iterable[Item], read: Reader) -> list[Artifact]:
        """Copy the objects that the destination lacks, and return an artifact for each item in the items' order.

        An object whose identity an earlier set recorded is not read again; its protection is extended where needed.

        Raises:
            SourceChangedError: where a source vanished or changed; the message names it.
            DestinationError: where the destination cannot be written.
        """

    def store(self, key: str, content: bytes | Path, subject: Subject, encoding: str = "") -> Artifact:
        """Store a document or file of the set under a key of its own."""


class Archive(Protocol):
    """Access to objects in archive classes."""

    def is_readable(self, source: Source) -> bool:
        """Return whether the object can be read now."""

    def request(self, source: Source) -> None:
        """Request the restore of an object."""

    def wait(self, source: Source) -> None:
        """Return when the object can be read."""


class SameStore(Protocol):
    """A destination in the store of the sources, which copies objects itself."""

    def copy_from(self, source: Source, key: str, until: datetime) -> Stored | None:
        """Copy an object and hash the copy; return None where the key exists."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a mover's concurrency and bandwidth.

    threads: objects at a time; each holds at most two parts of 16 MiB. bytes_per_s: of the content that is read, None
    without a limit. attempts: of one object, beside those of each request. backoff_s: wait after the first attempt.
    """

    threads: int = 8
    bytes_per_s: float | None = None
    attempts: int = 3
    backoff_s: float = 1.0


class ConcurrentMover:
    """Stores the artifacts of one set in a pool of threads.

    until: minimum end of the protection. guard: raises LockedError where the run may not write. known: artifacts of
    earlier sets by the identity of their source. damaged: keys whose content a verification found damaged.
    same_store: whether the destination copies sources itself.
    """

    def __init__(
        self,
        destination: Destination,
        until: datetime,
        *,
        guard: Callable[[], None],
        known: Mapping[str, Artifact] | None = None,
        damaged: Collection[str] = (),
        limits: Limits | None = None,
        progress: Progress | None = None,
        archived: ArchivePolicy = "fail",
        archive: Archive | None = None,
        same_store: bool = False,
    ) -> None:
        self.destination = destination
        self.until = until
        self.skipped: list[Item] = []
        """Objects in archive classes that the policy `skip_recorded` left out."""
        self.own_size = 0
        """Bytes that this mover stored."""
        self._guard = guard
        self._known = known or {}
        self._damaged = set(damaged)
        self._limits = limits or Limits()
        self._bandwidth = Bandwidth(self._limits.bytes_per_s)
        self._archived = archived
        self._archive = archive
        self._same_store = same_store
        self._progress = progress
        self._index: Mapping[str, Stored] | None = None
        self._lock = threading.Lock()

    def copy(self, items: Iterable[Item], read: Reader) -> list[Artifact]:
        """Copy the objects that the destination lacks, and return an artifact for each item in the items' order.

        Objects that the policy `skip_recorded` leaves out are in `skipped` and not in the answer.

        Raises:
            SourceChangedError: where a source vanished or changed. RefusedError: where one must be restored first.
            DestinationError: where the destination cannot be written. LockedError: where the run lost its lock.
        """
        self._guard()
        wanted = list(items)
        with ThreadPoolExecutor(self._limits.threads, thread_name_prefix="mover") as pool:
            wanted = self._without_archived(wanted, pool)
            batch = Batch(self._progress, len(wanted), sum(item.source.size for item in wanted))
            try:
                return list(in_order(pool, lambda item: self._item(item, read, batch), wanted, self._limits.threads))
            except BaseException as error:  # noqa: BLE001 - an interrupt stops the other threads too
                batch.fail(error)
                raise batch.error or error from None

    def store(self, key: str, content: bytes | Path, subject: Subject, encoding: str = "") -> Artifact:
        """Store a document or file of the set under a key of its own.

        Raises:
            IntegrityError: where the key exists with other content.
            DestinationError: where the destination cannot be written. LockedError: where the run lost its lock.
        """
        size = len(content) if isinstance(content, bytes) else content.stat().st_size

        def attempt() -> Stored:
            self._guard()
            return self.destination.create(key, self._stream(_blocks(content), None), size, self.until)

        stored = self._attempts(attempt)
        self._count(size)
        return _artifact(stored, subject, encoding=encoding)

    def _item(self, item: Item, read: Reader, batch: Batch) -> Artifact:
        source = item.source
        try:
            stored = self._attempts(lambda: self._stored(source, read, batch), batch)
        except BaseException as error:
            batch.fail(error)
            raise
        batch.finish(source.size)
        return _artifact(stored, item.subject, source)

    def _stored(self, source: Source, read: Reader, batch: Batch) -> Stored:
        batch.check()
        self._guard()
        key = copy_key(source, self._damaged)
        found, known = self._existing().get(key), self._known.get(source.identity)
        if found and known and (known.key, known.size, known.version_id) == (key, found.size, found.version_id):
            return self.destination.extend(_stored(known), self.until)
        if self._archived == "restore_first" and source.is_archived and self._archive:
            self._archive.wait(source)
        if found:
            try:
                return self.destination.match(found, self._stream(read(source), batch), source.size, self.until)
            except IntegrityError as error:
                log.warning("%s is damaged and is stored again: %s", key, error.message)
                self._damaged.add(key)
                return self._stored(source, read, batch)
        stored = self._copied(source, key) or self._created(source, key, read, batch)
        self._count(source.size)
        return stored

    def _copied(self, source: Source, key: str) -> Stored | None:
        from crypto_lakehouse.backup.destination.s3 import COPY_LIMIT_BYTES

        # Without a version or an ETag the store cannot detect a change of the source.
        pinned = bool(source.version_id or source.etag)
        if not self._same_store or not pinned or source.size > COPY_LIMIT_BYTES:
            return None
        return cast("SameStore", self.destination).copy_from(source, key, self.until)

    def _created(self, source: Source, key: str, read: Reader, batch: Batch) -> Stored:
        return self.destination.create(key, self._stream(read(source), batch), source.size, self.until)

    def _stream(self, content: Iterator[bytes], batch: Batch | None) -> Iterator[bytes]:
        for block in content:
            self._guard()
            if batch is not None:
                batch.check()
            self._bandwidth.take(len(block))
            yield block
        self._guard()

    def _attempts(self, attempt: Callable[[], Stored], batch: Batch | None = None) -> Stored:
        """Return the result of an attempt; temporary errors are retried with exponential backoff."""
        for number in itertools.count(1):
            try:
                return attempt()
            except BackupError as error:
                if not error.transient or number >= self._limits.attempts:
                    raise
            (batch.stopped if batch else threading.Event()).wait(self._limits.backoff_s * 2 ** (number - 1))
        raise AssertionError("unreachable")

    def _existing(self) -> Mapping[str, Stored]:
        """Return the shared content at the destination by key, listed once: objects of aborted runs are among it."""
        with self._lock:
            if self._index is None:
                self._index = {each.key: each for each in self.destination.list(OBJECTS)}
            return self._index

    def _without_archived(self, items: Sequence[Item], pool: ThreadPoolExecutor) -> list[Item]:
        """Apply the policy to the objects in archive classes that the destination lacks and that cannot be read."""
        archived = [item for item in items if item.source.is_archived and not self._is_stored(item.source)]
        unreadable = {
            id(item) for item, ready in zip(archived, pool.map(self._is_readable, archived), strict=True) if not ready
        }
        found = [item for item in archived if id(item) in unreadable]
        if not found:
            return list(items)
        if self._archived == "fail" or (self._archived == "restore_first" and self._archive is None):
            raise archived_error(found[0].source, len(found))
        if self._archived == "restore_first" and self._archive:
            list(pool.map(self._archive.request, [item.source for item in found]))
            return list(items)
        self.skipped += found
        return [item for item in items if id(item) not in unreadable]

    def _is_stored(self, source: Source) -> bool:
        return source.identity in self._known and copy_key(source, self._damaged) in self._existing()

    def _is_readable(self, item: Item) -> bool:
        return self._archive is not None and self._archive.is_readable(item.source)

    def _count(self, size: int) -> None:
        with self._lock:
            self.own_size += size


class Batch:
    """The progress of one copy, and whether it stopped at an error."""

    def __init__(self, progress: Progress | None, objects: int, size: int) -> None:
        self.stopped = threading.Event()
        self.error: BaseException | None = None
        self.size = size
        self._progress = progress
        self._objects = objects
        self._done = (0, 0)
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise an error where another object of the copy failed."""
        if self.stopped.is_set():
            raise SourceError("cannot continue the copy: another object failed")

    def fail(self, error: BaseException) -> None:
        """Stop the copy; the first error is kept."""
        with self._lock:
            self.error = self.error or error
            self.stopped.set()

    def finish(self, size: int) -> None:
        """Count one object."""
        with self._lock:
            objects, done = self._done
            self._done = (objects + 1, done + size)
            if self._progress:
                self._progress(self._done[0], self._objects, self._done[1], self.size)


class Bandwidth:
    """Bytes per second that several threads share."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._rate = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Return when `size` bytes may pass."""
        if not self._rate:
            return
        with self._lock:
            begin = max(time.monotonic(), self._free_at)
            self._free_at = begin + size / self._rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


def in_order(pool: ThreadPoolExecutor, act: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Return the results in the items' order; only a window of the items is in the pool."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(act, item))
            if len(waiting) >= WINDOW * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()


def object_key(source: Source) -> str:
    """Return the key of the copy of an object."""
    return f"{OBJECTS}{source.identity[:2]}/{source.identity}"


def copy_key(source: Source, damaged: Collection[str]) -> str:
    """Return the key of an undamaged copy of an object: a key is never written twice, so another one follows."""
    key = object_key(source)
    candidates = itertools.chain([key], (f"{key}.{number}" for number in itertools.count(2)))
    return next(each for each in candidates if each not in damaged)


def _blocks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES))
        return
    with content.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _stored(artifact: Artifact) -> Stored:
    return Stored(artifact.key, artifact.size, artifact.sha256, artifact.version_id, artifact.retained_until)


def _artifact(stored: Stored, subject: Subject, source: Source | None = None, encoding: str = "") -> Artifact:
    return Artifact(
        stored.key, stored.size, stored.sha256, subject, stored.version_id, source, stored.retained_until, encoding
    )
