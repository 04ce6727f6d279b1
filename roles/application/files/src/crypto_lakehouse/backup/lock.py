# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock against overlapping runs: an object or file that is replaced on the condition that it is unchanged.

The lock of a lakehouse is in its own store, outside of retention. A second one at the destination excludes runs of
other lakehouses. Times are those of the store's clock. A holder that cannot renew stops before its lock expires, by its
own monotonic clock; an expired lock is taken over. A lock that expires later than any lock can was written before the
store's clock was set back: it is held while its holder renews it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from crypto_lakehouse.backup.destination.requests import AnswerError, Requests, server_date
from crypto_lakehouse.backup.errors import BackupError, DestinationError, LockedError
from crypto_lakehouse.backup.model import canonical, moment, timestamp

log = logging.getLogger("lakehouse.backup")

LOCK_KEY: Final = "lock.json"

TTL_S: Final = 60.0
"""Seconds after which a lock that is not renewed expires."""

DESTINATION_TTL_S: Final = 600.0
"""The same for the lock at a destination, where each renewal may leave a version that is kept for the retention."""

POLL_S: Final = 5.0

LOCK_WAIT_S: Final = 900.0
"""Seconds for which a restore, and the set that it takes before, wait for the end of another run."""

_ROUNDING_S: Final = 2.0
"""The store prints its time, and a lock its expiry, in whole seconds."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The content of a lock.

    token: of one run; turn: counts its renewals, so that no two contents are equal. lakehouse: id of the lakehouse that
    runs, empty in the lock of one lakehouse.
    """

    owner: str
    token: str
    since: str
    expires_at: str
    turn: int = 0
    lakehouse: str = ""

    def as_bytes(self) -> bytes:
        """Return the JSON form."""
        return canonical(asdict(self))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A lock as read: the time of the store, and the content with its ETag, if it exists."""

    now: datetime
    holder: Holder | None = None
    etag: str = ""


class Lock(ABC):
    """A lock in any store.

    name: for messages. owner: name that other runs see: host, process and kind of run. ttl_s: time to expiry without a
    renewal. lakehouse: id of the lakehouse that runs. A lock that another run of it left is taken over: the held lock
    of the lakehouse itself excludes that this run is active.
    """

    def __init__(self, name: str, owner: str, ttl_s: float, lakehouse: str = "") -> None:
        self._name = name
        self._owner = owner
        self._ttl_s = ttl_s
        self._lakehouse = lakehouse
        self._token = secrets.token_hex(16)
        self._mine: Holder | None = None
        self._valid_until = 0.0
        self._lost = ""
        self._stop = threading.Event()

    @contextmanager
    def held(self, wait_s: float = 0.0) -> Iterator[Callable[[], None]]:
        """Hold the lock while the block runs; return the guard to call before each write.

        wait_s: how long to wait for the end of another run.

        Raises:
            LockedError: where another run holds it; the message names its owner and since when.
        """
        self._acquire_within(wait_s)
        renewal = threading.Thread(target=self._keep, name="backup-lock", daemon=True)
        renewal.start()
        try:
            yield self.guard
        finally:
            self._stop.set()
            renewal.join()
            self._release()

    def _acquire_within(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return self.acquire()
            except LockedError as error:
                if time.monotonic() >= deadline:
                    raise
                log.info("waiting: %s", error.message)
            time.sleep(min(POLL_S, wait_s))

    def guard(self) -> None:
        """Do nothing while the run holds the lock.

        Raises:
            LockedError: where it lost the lock, or cannot be sure to hold it.
        """
        if self._lost:
            raise LockedError(f"cannot continue the run: it lost its lock {self._name}: {self._lost}", _RUN_AGAIN)
        if time.monotonic() >= self._valid_until:
            raise LockedError(f"cannot continue the run: it could not renew its lock {self._name}", _RUN_AGAIN)

    def acquire(self) -> None:
        """Take the lock where it is free, released or expired."""
        begin, seen = time.monotonic(), self._read()
        if seen.holder and self._is_left(seen.holder):
            log.info("the lock %s of %s is taken over", self._name, seen.holder.owner)
        elif seen.holder and self._expires_too_late(seen, seen.holder):
            self._wait_for_renewal(seen, seen.holder)
            # A lock that another run wrote meanwhile has another ETag, so this write fails.
            begin, seen = time.monotonic(), replace(seen, now=self._read().now)
        elif seen.holder and moment(seen.holder.expires_at) + timedelta(seconds=_ROUNDING_S) > seen.now:
            raise self._held_by(seen.holder)
        now = timestamp(seen.now)
        self._mine = Holder(self._owner, self._token, now, self._expiry(seen.now), lakehouse=self._lakehouse)
        if not self._put(self._mine, seen.etag, begin):
            other = self._read().holder
            raise self._held_by(other) if other else LockedError(f"cannot take the lock {self._name}", _RUN_AGAIN)
        if seen.holder and seen.holder.expires_at != _RELEASED and not self._is_left(seen.holder):
            log.warning(
                "the lock %s of %s since %s expired: taken over", self._name, seen.holder.owner, seen.holder.since
            )

    def _is_left(self, holder: Holder) -> bool:
        return bool(self._lakehouse) and holder.lakehouse == self._lakehouse

    def _expires_too_late(self, seen: _Seen, holder: Holder) -> bool:
        return moment(holder.expires_at) > seen.now + timedelta(seconds=self._ttl_s + 2 * _ROUNDING_S)

    def _wait_for_renewal(self, seen: _Seen, holder: Holder) -> None:
        """Return when a lock was not renewed in a time in which each holder renews it twice.

        Raises:
            LockedError: where it was.
        """
        deadline = time.monotonic() + self._ttl_s / 2
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self._ttl_s / 8))
            if self._read().etag != seen.etag:
                raise self._held_by(holder)

    def holder(self) -> Holder | None:
        """Return the holder of the lock, None where it is free, released or expired."""
        seen = self._read()
        held = seen.holder is not None and moment(seen.holder.expires_at) > seen.now
        return seen.holder if held else None

    def _keep(self) -> None:
        while not self._stop.wait(self._ttl_s / 4):
            try:
                self._renew()
            except LockedError as error:
                self._lost = error.message
                return
            except BackupError as error:
                # The next attempt may succeed; the guard stops the run when the lock is about to expire.
                log.warning("the lock %s is not renewed: %s", self._name, error)

    def _renew(self) -> None:
        begin, seen = time.monotonic(), self._read()
        mine = self._mine
        if mine is None or seen.holder is None or seen.holder.token != self._token:
            raise LockedError(f"it belongs to {seen.holder.owner if seen.holder else 'no run'} now")
        # The answer to the last renewal may have been lost, so the ETag of the read is used.
        self._mine = replace(seen.holder, expires_at=self._expiry(seen.now), turn=seen.holder.turn + 1)
        if not self._put(self._mine, seen.etag, begin):
            raise LockedError("another run took it")

    def _release(self) -> None:
        if self._lost or self._mine is None:
            return
        try:
            seen = self._read()
            if seen.holder and seen.holder.token == self._token:
                ended = replace(seen.holder, expires_at=_RELEASED, turn=seen.holder.turn + 1)
                self._put(ended, seen.etag, time.monotonic())
        except BackupError as error:
            log.warning("the lock %s is not released and expires in %.0f s: %s", self._name, self._ttl_s, error)

    def _expiry(self, now: datetime) -> str:
        return timestamp(now + timedelta(seconds=self._ttl_s + _ROUNDING_S))

    def _put(self, holder: Holder, etag: str, begin: float) -> bool:
        """Replace the lock where it is unchanged; return whether this run holds it."""
        if not self._replace(holder, etag):
            # A request that was sent twice conflicts with itself.
            return self._is_ours(holder, begin)
        self._valid_until = begin + self._ttl_s
        return True

    def _is_ours(self, holder: Holder, begin: float) -> bool:
        seen = self._read()
        if seen.holder != holder:
            return False
        self._valid_until = begin + self._ttl_s
        return True

    def _held_by(self, holder: Holder) -> LockedError:
        remedy = f"Wait until it ends; the lock of a killed run expires at {holder.expires_at}."
        if holder.lakehouse != self._lakehouse:
            remedy += " It is of another lakehouse: give each one a destination of its own (`lakehouse_backup_*`)."
        return LockedError(
            f"cannot start the run: {holder.owner} holds the lock {self._name} since {holder.since}", remedy
        )

    @abstractmethod
    def _read(self) -> _Seen:
        """Return the current lock."""

    @abstractmethod
    def _replace(self, holder: Holder, etag: str) -> bool:
        """Replace the lock; return whether it was unchanged since it was read with an ETag, or absent without one."""


class S3Lock(Lock):
    """A lock in a bucket. parameters: of each request that writes it."""

    def __init__(
        self,
        requests: Requests,
        bucket: str,
        key: str,
        owner: str,
        ttl_s: float = TTL_S,
        *,
        lakehouse: str = "",
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"s3://{bucket}/{key}", owner, ttl_s, lakehouse)
        self._requests = requests
        self._place: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._parameters = dict(parameters or {})

    def _read(self) -> _Seen:
        act = f"read the lock {self._name}"
        try:
            answer = self._requests.call(act, "get_object", **self._place)
            body = self._requests.within(act, answer["Body"].read, self._requests.endpoint.timeout_s)
        except AnswerError as error:
            if error.is_absent:
                return _Seen(error.date or datetime.now(UTC))
            raise
        return _Seen(server_date(answer) or datetime.now(UTC), _parsed(body, self._name), str(answer["ETag"]))

    def _replace(self, holder: Holder, etag: str) -> bool:
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        given: dict[str, Any] = {**self._place, **self._parameters, **condition, "Body": holder.as_bytes()}
        try:
            self._requests.call(f"write the lock {self._name}", "put_object", **given)
        except AnswerError as error:
            if not error.is_conflict:
                raise
            return False
        return True


class FolderLock(Lock):
    """A lock in a folder, with the time of its file system: machines that share it may have different clocks."""

    def __init__(self, folder: Path, owner: str, ttl_s: float = DESTINATION_TTL_S, *, lakehouse: str = "") -> None:
        super().__init__(str(folder / "lock.json"), owner, ttl_s, lakehouse)
        self._folder = folder

    def _read(self) -> _Seen:
        with self._guarded() as now:
            content = self._content()
        return _Seen(now, _parsed(content, self._name), _etag(content)) if content is not None else _Seen(now)

    def _replace(self, holder: Holder, etag: str) -> bool:
        with self._guarded():
            content = self._content()
            if ("" if content is None else _etag(content)) != etag:
                return False
            new = self._folder / "lock.json.new"
            new.write_bytes(holder.as_bytes())
            new.replace(self._name)
        return True

    def _content(self) -> bytes | None:
        try:
            return Path(self._name).read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def _guarded(self) -> Iterator[datetime]:
        """Exclude other processes from the lock; return the time of the file system."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            file = os.open(self._folder / "guard", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                os.utime(file)
                yield datetime.fromtimestamp(os.fstat(file).st_mtime, UTC)
            finally:
                os.close(file)
        except OSError as error:
            raise DestinationError(
                f"cannot use the lock {self._name}: {error.strerror}", "Check that the folder is writable and mounted."
            ) from None


_RUN_AGAIN: Final = "Run it again; it resumes from the stored objects."
_RELEASED: Final = "1970-01-01T00:00:00Z"


def _parsed(body: bytes, name: str) -> Holder:
    try:
        holder = Holder(**json.loads(body))
        moment(holder.expires_at)
    except (ValueError, TypeError):
        raise DestinationError(f"cannot read the lock {name}: it is not a lock", "Delete the object.") from None
    return holder


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
