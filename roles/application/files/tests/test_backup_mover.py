# SPDX-License-Identifier: GPL-3.0-or-later
"""The mover of backups: order, resumption, known objects, faults of source and destination, archive classes."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import backup_store
import pytest
import services
from archive_server import archive_server
from backup_store import Sources, after
from proxy import proxy

from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.destination.digest import PART_BYTES
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.destination.requests import Endpoint, Keys, Requests
from crypto_lakehouse.backup.errors import LockedError, RefusedError, SourceChangedError, SourceError
from crypto_lakehouse.backup.model import Artifact, Source, Subject, moment
from crypto_lakehouse.backup.mover import ConcurrentMover, Item, Limits, object_key
from crypto_lakehouse.backup.reader import S3Archive, S3Reader

RAW = Subject("raw", "raw")
FAST = Limits(threads=4, backoff_s=0.01)


@pytest.fixture(scope="module")
def locked(object_store: services.ObjectStore) -> str:
    """Return a bucket whose objects are protected for one day."""
    return backup_store.new_bucket(object_store, locked_days=1)


@pytest.fixture(scope="module")
def sources(object_store: services.ObjectStore) -> Sources:
    """Return twelve objects of different sizes, one of them larger than a part of an upload."""
    sizes = [0, 1, 100, 5000, PART_BYTES + 1, *range(200, 207)]
    return backup_store.put_sources(object_store, [os.urandom(size) for size in sizes])


@pytest.fixture(params=["s3", "folder"])
def destination(
    request: pytest.FixtureRequest, object_store: services.ObjectStore, locked: str, tmp_path: Path
) -> Destination:
    """Return an empty destination of each kind."""
    if request.param == "s3":
        return backup_store.destination(object_store, locked)
    return FolderDestination(tmp_path)


def free() -> None:
    """Act as the guard of a run that holds its lock."""


def unread(source: Source) -> Iterator[bytes]:
    """Act as the reader of a run that must not read."""
    raise AssertionError(f"{source.uri} was read")


def mover(destination: Destination, **options: Any) -> ConcurrentMover:
    """Return a mover of a run that holds its lock."""
    return ConcurrentMover(destination, after(hours=1), **{"guard": free, "limits": FAST, **options})


def test_objects_are_copied_in_their_order_with_progress(destination: Destination, sources: Sources) -> None:
    seen: list[tuple[int, int, int, int]] = []
    moved = mover(destination, progress=lambda *each: seen.append(each))
    artifacts = moved.copy(sources.items, sources.read)
    assert [each.source for each in artifacts] == [item.source for item in sources.items]
    assert [each.sha256 for each in artifacts] == [hashlib.sha256(each).hexdigest() for each in sources.contents]
    total = sum(len(each) for each in sources.contents)
    assert moved.own_size == total
    assert seen[-1] == (len(artifacts), len(artifacts), total, total)
    assert [each[0] for each in seen] == list(range(1, len(artifacts) + 1))
    last = artifacts[-1]
    assert b"".join(destination.read(last.key, last.version_id)) == sources.contents[-1]
    assert {Artifact.from_dict(each.as_dict()) for each in artifacts} == set(artifacts)


def test_known_objects_are_neither_read_nor_written(destination: Destination, sources: Sources) -> None:
    first = mover(destination).copy(sources.items, sources.read)
    again = mover(destination, known={str(each.source and each.source.identity): each for each in first})
    assert again.copy(sources.items, unread) == first
    assert again.own_size == 0


def test_what_an_aborted_run_stored_is_used(destination: Destination, sources: Sources) -> None:
    first = mover(destination).copy(sources.items[:7], sources.read)
    resumed = mover(destination)
    artifacts = resumed.copy(sources.items, sources.read)
    assert [each.version_id for each in artifacts[:7]] == [each.version_id for each in first]
    assert [each.sha256 for each in artifacts[:7]] == [each.sha256 for each in first]
    assert resumed.own_size == sum(len(each) for each in sources.contents[7:])


def test_a_known_object_that_vanished_is_copied_again(object_store: services.ObjectStore, sources: Sources) -> None:
    bucket = backup_store.new_bucket(object_store)
    destination = backup_store.destination(
        object_store, bucket, "admin", prune=backup_store.keys(object_store, "admin")
    )
    first = mover(destination).copy(sources.items[:3], sources.read)
    gone = destination.find(first[1].key)
    assert gone is not None
    destination.delete(gone)
    known = {str(each.source and each.source.identity): each for each in first}
    again = mover(destination, known=known).copy(sources.items[:3], sources.read)
    assert again[0] == first[0]
    assert again[1].version_id != first[1].version_id
    assert destination.find(first[1].key) is not None


@pytest.mark.parametrize("is_reported", [True, False])
def test_a_damaged_copy_is_stored_again_under_another_key(tmp_path: Path, sources: Sources, is_reported: bool) -> None:
    destination, items = FolderDestination(tmp_path), sources.items[2:4]
    first = mover(destination).copy(items, sources.read)
    path = tmp_path / first[0].key
    path.chmod(0o600)
    path.write_bytes(b"x" * first[0].size)
    # A verification reports the damage; without an inventory each object is compared with its source.
    known = {str(each.source and each.source.identity): each for each in first} if is_reported else {}
    damaged = [first[0].key] if is_reported else []
    again = mover(destination, known=known, damaged=damaged).copy(items, sources.read)
    assert [each.key for each in again] == [f"{first[0].key}.2", first[1].key]
    assert b"".join(destination.read(again[0].key)) == sources.contents[2]
    known |= {str(each.source and each.source.identity): each for each in again}
    assert (
        mover(destination, known=known, damaged=damaged).copy(items, unread if is_reported else sources.read) == again
    )


def test_protection_of_known_objects_is_extended_when_the_set_outlives_it(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    destination = backup_store.destination(object_store, locked, "backup-extend")
    first = mover(destination).copy(sources.items[:3], sources.read)
    known = {str(each.source and each.source.identity): each for each in first}
    assert mover(destination, known=known).copy(sources.items[:3], unread) == first
    until = after(days=2)
    aged = ConcurrentMover(destination, until, guard=free, known=known).copy(sources.items[:3], unread)
    assert {moment(str(each.retained_until)) for each in aged} == {until.replace(microsecond=0)}
    assert [destination.stat(each.key, each.version_id) for each in aged] == [
        backup_store.stored(each) for each in aged
    ]


def test_objects_of_the_same_store_are_copied_by_the_store(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    destination = backup_store.destination(object_store, locked, "backup-extend")
    artifacts = mover(destination, same_store=True).copy(sources.items, unread)
    assert [each.sha256 for each in artifacts] == [hashlib.sha256(each).hexdigest() for each in sources.contents]
    assert all(moment(str(each.retained_until)) > after(minutes=50) for each in artifacts)


def test_a_changed_or_deleted_source_is_named_and_stops_the_copy(
    object_store: services.ObjectStore, destination: Destination
) -> None:
    fresh = backup_store.put_sources(object_store, [b"one", b"two", b"three"], versions=False)
    admin = backup_store.client(object_store)
    changed, deleted = fresh.items[1].source, fresh.items[2].source
    admin.put_object(Bucket=changed.bucket, Key=changed.key, Body=b"TWO")
    admin.delete_object(Bucket=deleted.bucket, Key=deleted.key)
    for index, name in ((1, changed.key), (2, deleted.key)):
        with pytest.raises(SourceChangedError, match=f"{name}: it changed or was deleted"):
            mover(destination).copy([fresh.items[0], fresh.items[index]], fresh.read)
    for size in (2, 4):
        other = replace(fresh.items[0].source, size=size, etag="")
        with pytest.raises(SourceChangedError, match=fresh.items[0].source.key) as caught:
            mover(destination).copy([Item(other, RAW)], fresh.read)
        assert caught.value.source == other


def test_an_object_that_is_replaced_while_it_is_read_is_never_mixed(
    object_store: services.ObjectStore, destination: Destination
) -> None:
    size = 4 << 20
    (item,) = backup_store.put_sources(object_store, [b"a" * size], versions=False).items
    admin, source = backup_store.client(object_store), item.source

    def replacing(blocks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(blocks, b"")
        admin.put_object(Bucket=source.bucket, Key=source.key, Body=b"b" * size)
        yield from blocks

    with proxy(object_store.endpoint) as faults:
        reader = S3Reader(Requests(Endpoint(faults.url, "us-east-1"), backup_store.keys(object_store, "admin")))
        faults.drop_after, faults.drops = 2 << 20, 1
        with pytest.raises(SourceChangedError, match="it changed or was deleted") as caught:
            mover(destination).copy([item], lambda wanted: replacing(reader(wanted)))
        assert faults.drops < 1
    assert caught.value.source == source
    assert list(destination.list("")) == []


def test_errors_that_pass_are_retried_and_others_are_not(destination: Destination, sources: Sources) -> None:
    failures = iter([True, True, False])

    def flaky(source: Source) -> Iterator[bytes]:
        yield b""
        if next(failures, False):
            error = SourceError("cannot read it: the store is down")
            error.transient = True
            raise error
        yield from sources.read(source)

    assert len(mover(destination).copy(sources.items[3:4], flaky)) == 1
    failures = iter([True] * 9)
    with pytest.raises(SourceError, match="the store is down"):
        mover(destination).copy(sources.items[4:5], flaky)
    assert list(failures) == [True] * 6


def test_a_source_store_that_is_down_is_an_error_of_the_source(
    object_store: services.ObjectStore, destination: Destination, sources: Sources
) -> None:
    keys = backup_store.keys(object_store, "admin")
    read = S3Reader(Requests(Endpoint("http://127.0.0.1:1", "us-east-1", attempts=1, timeout_s=1), keys))
    with pytest.raises(SourceError, match="unreachable"):
        mover(destination, limits=Limits(attempts=2, backoff_s=0.01)).copy(sources.items, read)


def test_a_broken_connection_to_either_store_is_survived(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    keys = backup_store.keys(object_store, "admin")
    with proxy(object_store.endpoint) as faults:
        destination = backup_store.destination(object_store, locked, endpoint_url=faults.url)
        assert destination.is_locked
        read = S3Reader(Requests(Endpoint(faults.url, "us-east-1", timeout_s=60), keys))
        faults.drop_after, faults.drops = 150, 4
        artifacts = mover(destination).copy(sources.items, read)
    assert [each.sha256 for each in artifacts] == [hashlib.sha256(each).hexdigest() for each in sources.contents]
    assert backup_store.versions(object_store, destination) == sorted(each.key for each in artifacts)


def test_a_lost_lock_stops_before_the_next_write(destination: Destination, sources: Sources) -> None:
    def lost() -> None:
        raise LockedError("cannot continue the run: it lost its lock")

    with pytest.raises(LockedError):
        mover(destination, guard=lost).copy(sources.items, sources.read)
    with pytest.raises(LockedError):
        mover(destination, guard=lost).store("sets/x", b"x", RAW)
    assert list(destination.list("")) == []


def test_a_lock_that_is_lost_while_an_object_is_read_stops_its_write(
    destination: Destination, sources: Sources
) -> None:
    held = threading.Event()
    held.set()

    def guard() -> None:
        if not held.is_set():
            raise LockedError("cannot continue the run: it lost its lock")

    def read(source: Source) -> Iterator[bytes]:
        yield from sources.read(source)
        held.clear()

    with pytest.raises(LockedError):
        mover(destination, guard=guard, limits=Limits(threads=1)).copy(sources.items[:2], read)
    assert list(destination.list("")) == []


def test_bandwidth_is_limited(destination: Destination, sources: Sources) -> None:
    size = PART_BYTES + 1
    begin = time.monotonic()
    mover(destination, limits=Limits(bytes_per_s=size / 1.5)).copy(sources.items[4:5], sources.read)
    assert time.monotonic() - begin > 1.4


def test_memory_does_not_grow_with_the_objects(tmp_path: Path) -> None:
    size, count = 1 << 20, 150
    items = [Item(Source("b", f"k{number}", size, f'"{number}"'), RAW) for number in range(count)]

    def read(source: Source) -> Iterator[bytes]:
        yield from (source.key.encode().ljust(size // 4) for _quarter in range(4))

    tracemalloc.start()
    try:
        assert len(mover(FolderDestination(tmp_path)).copy(items, read)) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * size


def test_documents_and_files_are_stored(destination: Destination, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("file") / "base.tar.gz"
    file.write_bytes(os.urandom(3 << 20))
    moved = mover(destination)
    base = moved.store("database/1/bases/a/base.tar.gz", file, Subject("database", "base"), encoding="gzip")
    text = moved.store("sets/x/secrets.age", b"", Subject("configuration", "secrets"))
    assert (base.size, base.sha256) == (3 << 20, hashlib.sha256(file.read_bytes()).hexdigest())
    assert (base.encoding, text.size) == ("gzip", 0)
    assert b"".join(destination.read(base.key, base.version_id)) == file.read_bytes()


def _archived(sources: Sources) -> list[Item]:
    item = sources.items[6]
    return [*sources.items[:3], replace(item, source=replace(item.source, storage_class="DEEP_ARCHIVE"))]


def test_objects_in_archive_classes_fail_before_any_write(destination: Destination, sources: Sources) -> None:
    with pytest.raises(RefusedError, match=r"storage class DEEP_ARCHIVE must be restored first") as caught:
        mover(destination).copy(_archived(sources), sources.read)
    assert sources.items[6].source.uri in caught.value.message
    assert "skip_recorded" in caught.value.remedy
    assert list(destination.list("")) == []


def test_objects_in_archive_classes_are_skipped_and_recorded(destination: Destination, sources: Sources) -> None:
    items = _archived(sources)
    moved = mover(destination, archived="skip_recorded")
    assert [each.source for each in moved.copy(items, sources.read)] == [item.source for item in items[:3]]
    assert moved.skipped == items[3:]


def test_an_object_that_was_copied_before_it_was_archived_is_used(destination: Destination, sources: Sources) -> None:
    items = _archived(sources)
    first = mover(destination).copy([sources.items[6]], sources.read)
    known = {str(each.source and each.source.identity): each for each in first}
    last = mover(destination, known=known).copy(items, sources.read)[-1]
    assert (last.key, last.version_id, last.sha256) == (first[0].key, first[0].version_id, first[0].sha256)


def test_objects_in_archive_classes_are_restored_first(destination: Destination, sources: Sources) -> None:
    items = _archived(sources)
    with archive_server(polls=2) as server:
        requests = Requests(Endpoint(server.url, "us-east-1", timeout_s=60), Keys("a", "b"))
        archive = S3Archive(requests, poll_s=0.01)
        moved = mover(destination, archived="restore_first", archive=archive)
        assert len(moved.copy(items, sources.read)) == 4
        assert server.restored == [f"/{items[3].source.bucket}/{items[3].source.key}"]
        with pytest.raises(RefusedError, match="must be restored first"):
            list(S3Reader(requests)(items[3].source))
        archive.request(items[3].source)
        assert len(server.restored) == 1
        server.polls = 9
        late = S3Archive(requests, poll_s=0.01, deadline_s=0.01)
        with pytest.raises(SourceError, match=r"its restore from DEEP_ARCHIVE takes longer"):
            late.wait(items[3].source)


def test_a_store_without_restores_says_so(
    object_store: services.ObjectStore, destination: Destination, sources: Sources
) -> None:
    requests = Requests(Endpoint(object_store.endpoint, "us-east-1"), backup_store.keys(object_store, "admin"))
    moved = mover(destination, archived="restore_first", archive=S3Archive(requests))
    with pytest.raises(SourceError, match=r"cannot restore s3://.*MethodNotAllowed"):
        moved.copy(_archived(sources), sources.read)


@pytest.mark.parametrize(
    "act", [lambda one: replace(one, size=9), lambda one: replace(one, etag='"1"', version_id=None)]
)
def test_another_size_version_or_etag_is_another_object(sources: Sources, act: Callable[[Source], Source]) -> None:
    source = sources.items[0].source
    assert object_key(act(source)) != object_key(source)
    assert object_key(replace(source, storage_class="GLACIER")) == object_key(source)
