# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock against overlapping runs on SeaweedFS: races, expiry, adoption, and a holder that cannot renew."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import backup_store
import pytest
import services
from proxy import proxy

from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.destination.requests import Endpoint, Requests
from crypto_lakehouse.backup.errors import BackupError, DestinationError, LockedError
from crypto_lakehouse.backup.lock import Lock, S3Lock

KEY = "backup/lock"


@pytest.fixture
def bucket(object_store: services.ObjectStore) -> str:
    """Return a bucket outside of retention."""
    return backup_store.new_bucket(object_store, versions=False)


def requests(store: services.ObjectStore, url: str = "", **options: float) -> Requests:
    """Return the requests of the administrator, directly or through a proxy."""
    endpoint = Endpoint(url or store.endpoint, "us-east-1", **{"timeout_s": 60.0, **options})  # type: ignore[arg-type]
    return Requests(endpoint, backup_store.keys(store, "admin"))


@pytest.mark.parametrize("state", ["free", "released", "expired"])
def test_one_of_many_runs_gets_the_lock_and_is_named(
    object_store: services.ObjectStore, bucket: str, state: str
) -> None:
    shared, barrier = requests(object_store), Barrier(24)
    if state != "free":
        before = S3Lock(shared, bucket, KEY, "before", ttl_s=0.1 if state == "expired" else 60)
        if state == "released":
            with before.held():
                pass
        else:
            before.acquire()
            services.wait_until(lambda: before.holder() is None, "the end of the lock", 60)
            time.sleep(2)
    locks = [S3Lock(shared, bucket, KEY, f"run {number}", ttl_s=600) for number in range(24)]

    def take(lock: S3Lock) -> str:
        barrier.wait()
        try:
            lock.acquire()
        except LockedError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(take, locks))
    assert answers.count("") == 1
    winner = f"run {answers.index('')}"
    found = locks[0].holder()
    assert found is not None
    assert found.owner == winner
    expected = f"cannot start the run: {winner} holds the lock s3://{bucket}/{KEY} since {found.since}"
    assert {each for each in answers if each} == {expected}


def test_a_second_run_is_refused_until_the_first_one_ends(object_store: services.ObjectStore, bucket: str) -> None:
    shared = requests(object_store)
    with S3Lock(shared, bucket, KEY, "first").held() as guard:
        guard()
        with pytest.raises(LockedError, match="first holds the lock") as caught:
            S3Lock(shared, bucket, KEY, "second").acquire()
        assert "Wait until it ends" in caught.value.remedy
    with S3Lock(shared, bucket, KEY, "second").held() as guard:
        guard()


def test_a_lock_is_renewed_beyond_its_first_expiry(object_store: services.ObjectStore, bucket: str) -> None:
    lock = S3Lock(requests(object_store), bucket, KEY, "long", ttl_s=12)
    with lock.held() as guard:
        first = lock.holder()
        assert first is not None
        services.wait_until(lambda: (now := lock.holder()) and now.expires_at > first.expires_at, "a renewal")
        services.wait_until(lambda: not _refuses(guard), "a renewal")
        renewed = lock.holder()
        assert renewed is not None
        assert (renewed.owner, renewed.since, renewed.token) == (first.owner, first.since, first.token)
    assert lock.holder() is None


def test_a_holder_that_cannot_renew_stops_before_its_lock_expires(
    object_store: services.ObjectStore, bucket: str
) -> None:
    with proxy(object_store.endpoint) as faults:
        cut = requests(object_store, faults.url, timeout_s=1.0, attempts=1)
        lock = S3Lock(cut, bucket, KEY, "cut off", ttl_s=12)
        other = S3Lock(requests(object_store), bucket, KEY, "other", ttl_s=600)
        with lock.held() as guard:
            services.wait_until(lambda: not _refuses(guard), "a renewal")
            faults.refuse, faults.response = True, lambda _block: b""
            services.wait_until(lambda: _refuses(guard), "the end of the run")
            with pytest.raises(LockedError, match=r"could not renew its lock|lost its lock"):
                guard()
            services.wait_until(lambda: _taken(other), "the take-over")
            faults.refuse, faults.response = False, None
            with pytest.raises(LockedError):
                guard()
        found = other.holder()
        assert found is not None
        assert found.owner == "other"


def _refuses(guard: object) -> bool:
    try:
        guard()  # type: ignore[operator]
    except LockedError:
        return True
    return False


def _taken(lock: Lock) -> bool:
    try:
        lock.acquire()
    except LockedError:
        return False
    return True


def test_a_lock_that_another_run_took_is_lost(object_store: services.ObjectStore, bucket: str) -> None:
    shared = requests(object_store)
    lock = S3Lock(shared, bucket, KEY, "first", ttl_s=4)
    with lock.held() as guard:
        shared.client.delete_object(Bucket=bucket, Key=KEY)
        S3Lock(shared, bucket, KEY, "thief", ttl_s=600).acquire()
        services.wait_until(lambda: _refuses(guard), "the loss")
    assert S3Lock(shared, bucket, KEY, "third").holder() is not None


def test_a_lock_of_before_the_clock_was_set_back_is_held_while_it_is_renewed(
    object_store: services.ObjectStore, bucket: str
) -> None:
    shared = requests(object_store)
    lock, other = (S3Lock(shared, bucket, KEY, name, ttl_s=20) for name in ("first", "second"))
    with lock.held() as guard:
        mine = lock.holder()
        assert mine
        later = replace(mine, expires_at="2099-01-01T00:00:00Z")
        shared.client.put_object(Bucket=bucket, Key=KEY, Body=later.as_bytes())
        with pytest.raises(LockedError, match="first holds the lock"):
            other.acquire()
        services.wait_until(lambda: not _refuses(guard), "a renewal")
    killed = replace(later, token="of a killed run")
    shared.client.put_object(Bucket=bucket, Key=KEY, Body=killed.as_bytes())
    with S3Lock(shared, bucket, KEY, "third", ttl_s=12).held() as guard:
        services.wait_until(lambda: not _refuses(guard), "a renewal")
        with pytest.raises(LockedError, match="third holds the lock"):
            S3Lock(shared, bucket, KEY, "fourth", ttl_s=12).acquire()


def test_an_answer_that_is_lost_does_not_lose_the_lock(object_store: services.ObjectStore, bucket: str) -> None:
    with proxy(object_store.endpoint) as faults:
        flaky = requests(object_store, faults.url, timeout_s=10.0)
        faults.drop_after, faults.drops = 1, 2
        with S3Lock(flaky, bucket, KEY, "flaky", ttl_s=60).held() as guard:
            guard()
            assert faults.drops <= 0
            found = S3Lock(requests(object_store), bucket, KEY, "x").holder()
            assert found is not None
            assert found.owner == "flaky"


def test_what_is_not_a_lock_is_an_error(object_store: services.ObjectStore, bucket: str) -> None:
    shared = requests(object_store)
    for body in (b"", b"[]", b'{"owner":1}', b'{"owner":"a","token":"b","since":"c","expires_at":"never"}'):
        shared.client.put_object(Bucket=bucket, Key=KEY, Body=body)
        with pytest.raises(DestinationError, match="it is not a lock"):
            S3Lock(shared, bucket, KEY, "x").acquire()


def test_a_store_that_is_down_is_an_error(object_store: services.ObjectStore, bucket: str) -> None:
    down = requests(object_store, "http://127.0.0.1:1", timeout_s=1.0, attempts=1)
    with pytest.raises(BackupError, match="unreachable"):
        S3Lock(down, bucket, KEY, "x").acquire()


# The lock at a destination, against runs of other lakehouses

At = Callable[[str], Destination]
"""Returns the destination of an environment."""


@pytest.fixture(params=["locked bucket", "folder"])
def at(request: pytest.FixtureRequest, object_store: services.ObjectStore, tmp_path: Path) -> At:
    """Return a function that opens destinations in one bucket or folder."""
    if request.param == "locked bucket":
        name = backup_store.new_bucket(object_store, locked_days=1)
        return lambda prefix: backup_store.destination(object_store, name, prefix=prefix)

    def folder(prefix: str) -> Destination:
        (tmp_path / prefix).mkdir(mode=0o700, exist_ok=True)
        return FolderDestination(tmp_path / prefix)

    return folder


def test_two_lakehouses_of_one_destination_do_not_run_beside_each_other(at: At) -> None:
    first, second = (at("production").run_lock(f"backup on {name}, process 7", name) for name in ("one", "two"))
    with first.held() as guard:
        guard()
        with pytest.raises(LockedError, match="backup on one, process 7 holds the lock") as caught:
            second.acquire()
        assert "It is of another lakehouse" in caught.value.remedy
        with at("staging").run_lock("backup on two, process 8", "two").held() as beside:
            beside()
    with second.held() as guard:
        guard()
    assert list(at("production").list("sets/")) == []


def test_a_lakehouse_takes_over_what_its_own_killed_run_left(at: At) -> None:
    at("production").run_lock("killed", "one").acquire()
    with pytest.raises(LockedError, match="killed holds the lock"):
        at("production").run_lock("other", "two").acquire()
    with at("production").run_lock("next", "one").held() as guard:
        guard()
        found = at("production").run_lock("another", "two").holder()
        assert found is not None
        assert found.owner == "next"


def test_one_of_many_lakehouses_gets_the_lock_of_a_destination(at: At) -> None:
    barrier = Barrier(8)
    locks = [at("production").run_lock(f"run {number}", f"lakehouse {number}") for number in range(8)]

    def take(lock: Lock) -> bool:
        barrier.wait()
        return _taken(lock)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, locks)) == 1


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="cannot use the lock"):
        FolderDestination(tmp_path / "missing").run_lock("run", "one").acquire()
