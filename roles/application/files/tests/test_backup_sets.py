# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets as a whole: kill and resumption at every write, lists, forged documents, and complete verification."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import backup_store
import pytest
import services
import sweep
from backup_store import Sources, after
from proxy import proxy

from crypto_lakehouse.backup import sets
from crypto_lakehouse.backup.create import remove_unfinished
from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.destination.digest import PART_BYTES
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.errors import DestinationError, IntegrityError, RefusedError
from crypto_lakehouse.backup.model import (
    Artifact,
    DatabasePin,
    Manifest,
    RawPin,
    Subject,
    TablePin,
    canonical,
    timestamp,
)
from crypto_lakehouse.backup.mover import ConcurrentMover, Item, Limits
from crypto_lakehouse.backup.report import set_lines
from crypto_lakehouse.backup.verify import Verification, verify

SUBJECTS = [
    Subject("tables", "data", "gold.candles", 11, "day=2024-01-01"),
    Subject("tables", "manifest", "gold.candles", 12),
    Subject("tables", "manifest-list", "silver.trades", 13),
    Subject("raw", "raw"),
]
EXPIRES = after(hours=5)


class KilledError(BaseException):
    """The end of a run at a write."""


def _kill() -> None:
    raise KilledError


@dataclass
class Run:
    """One run of a backup of a few objects. writes: remaining number of writes; None without a limit.

    at_end: an action before the next one.
    """

    destination: Destination
    sources: Sources
    set_id: str
    writes: int | None = None
    at_end: Callable[[], None] = _kill

    def guard(self) -> None:
        """End the run before the first write beyond the limit, or start a fault there."""
        if self.writes is not None:
            self.writes -= 1
            if self.writes < 0:
                self.at_end()

    def create(self) -> Manifest:
        """Create the set, its manifest last."""
        known = sets.known_artifacts(self.destination, sets.latest(self.destination))
        limits = Limits(threads=1, backoff_s=0.01)
        mover = ConcurrentMover(self.destination, EXPIRES, guard=self.guard, known=known, limits=limits)
        items = [Item(item.source, subject) for item, subject in zip(self.sources.items, SUBJECTS, strict=True)]
        document = mover.store(self._key("tables/gold/candles/metadata.json"), b'{"format-version":2}', _METADATA)
        artifacts = [document, *mover.copy(items, self.sources.read)]
        artifacts.append(mover.store(self._key("secrets.age"), b"encrypted", Subject("configuration", "secrets")))
        inventory = sets.write_inventory(mover, self.set_id, artifacts)
        manifest = _manifest(self.set_id, artifacts, inventory, document, mover.own_size)
        sets.write_manifest(self.destination, manifest, EXPIRES, self.guard)
        return manifest

    def _key(self, name: str) -> str:
        return sets.set_key(self.set_id, name)


_METADATA = Subject("tables", "metadata", "gold.candles")


def _manifest(
    set_id: str, artifacts: list[Artifact], inventory: Artifact, document: Artifact, own_size: int
) -> Manifest:
    now = timestamp(datetime.now(UTC))
    return Manifest(
        id=set_id,
        environment="test",
        started_at=started_at(set_id),
        finished_at=now,
        expires_at=timestamp(EXPIRES),
        inventory=inventory,
        versions={"seaweedfs": "4.48"},
        tables=(TablePin("gold", "candles", "u", "s3://x", "s3://x/m", document, (11, 12), 12, 5),),
        raw=RawPin("b", "raw/", 1, 1, now),
        counts={"objects": len(artifacts)},
        size=sum(each.size for each in artifacts),
        own_size=own_size,
        omitted={"database": "not part of this test"},
        protected_until=sets.protected_until(artifacts),
    )


def identifier(number: int) -> str:
    """Return the id of a set; a higher number is a later set."""
    return f"{datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number):%Y%m%dT%H%M%SZ}-abcdef"


def started_at(set_id: str) -> str:
    """Return the time in the id of a set."""
    return timestamp(datetime.strptime(set_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))


@pytest.fixture(scope="module")
def sources(object_store: services.ObjectStore) -> Sources:
    """Return one object for each subject."""
    return backup_store.put_sources(object_store, [os.urandom(300 + number) for number in range(len(SUBJECTS))])


@pytest.fixture(scope="module")
def locked(object_store: services.ObjectStore) -> str:
    """Return a bucket whose objects are protected for one day."""
    return backup_store.new_bucket(object_store, locked_days=1)


@pytest.fixture(params=["s3", "folder"])
def destination(
    request: pytest.FixtureRequest, object_store: services.ObjectStore, locked: str, tmp_path: Path
) -> Destination:
    """Return an empty destination of each kind."""
    if request.param == "s3":
        return backup_store.destination(object_store, locked)
    return FolderDestination(tmp_path)


def _keys(destination: Destination) -> list[str]:
    return [each.key for each in destination.list("")]


def test_a_set_is_listed_opened_verified_and_proven(destination: Destination, sources: Sources) -> None:
    first = Run(destination, sources, identifier(1)).create()
    second = Run(destination, sources, identifier(2)).create()
    assert sets.latest(destination) == second == sets.open_set(destination, "latest")
    assert sets.open_set(destination, first.id) == first
    artifacts = list(sets.inventory(destination, second))
    shared = [each for each in artifacts if each.key.startswith("objects/")]
    assert shared == [each for each in sets.inventory(destination, first) if each.key.startswith("objects/")]
    assert [str(each.subject) for each in shared[:2]] == [
        "gold.candles data snapshot 11 partition day=2024-01-01",
        "gold.candles manifest snapshot 12",
    ]
    for level in (1, 2):
        result = verify(destination, second.id, level, prove=True)
        assert (result.is_good, result.objects) == (True, len(artifacts) + 1)
    newest, oldest = sets.list_sets(destination)
    assert (newest.id, newest.state, oldest.id, oldest.proof) == (second.id, "good", first.id, None)
    assert newest.proof is not None
    assert newest.proof.level == 2
    assert newest.components == ("tables", "raw", "configuration")
    assert (newest.size, newest.protected_until is None) == (second.size, not destination.is_locked)
    assert newest.shared_size > 0
    assert json.loads(json.dumps(newest.as_dict()))["omitted"] == {"database": "not part of this test"}


@pytest.mark.parametrize("writes", sweep.choose(range(22), 4))
def test_a_run_that_is_killed_at_any_write_is_resumed_without_duplicates(
    object_store: services.ObjectStore, destination: Destination, sources: Sources, writes: int
) -> None:
    with pytest.raises(KilledError):
        Run(destination, sources, identifier(1), writes).create()
    assert sets.latest(destination) is None
    left = [each.id for each in sets.list_sets(destination) if each.state == "aborted"]
    assert left == ([identifier(1)] if any(key.startswith("sets/") for key in _keys(destination)) else [])
    before = {each.key: each for each in destination.list("objects/")}
    manifest = Run(destination, sources, identifier(2)).create()
    assert verify(destination, manifest.id, 2).is_good
    after_it = {each.key: each for each in destination.list("objects/")}
    assert {key: after_it[key] for key in before} == before
    assert len(after_it) == len(SUBJECTS)
    if destination.is_locked:
        found = backup_store.versions(object_store, destination)  # type: ignore[arg-type]
        assert found == sorted(set(found))
    else:
        assert [each.name for each in Path(destination.name, ".incoming").iterdir()] == []


def test_the_last_write_of_a_run_makes_the_set_exist(destination: Destination, sources: Sources) -> None:
    Run(destination, sources, identifier(1)).create()
    counted = Run(destination, sources, identifier(2), 1000)
    counted.create()
    with pytest.raises(KilledError):
        Run(destination, sources, identifier(3), 999 - int(counted.writes or 0)).create()
    assert [each.state for each in sets.list_sets(destination)] == ["aborted", "good", "good"]
    assert sets.open_set(destination, "latest").id == identifier(2)


def write_sets(destination: Destination, databases: str) -> None:
    """Write manifests of sets, one for each letter: that of its database, in lower case for a safety set."""
    for number, letter in enumerate(databases):
        set_id, content = identifier(number), b"{}"
        artifact = Artifact(sets.set_key(set_id, sets.INVENTORY), 2, hashlib.sha256(content).hexdigest(), _METADATA)
        pin = DatabasePin(
            "0/1", "lakehouse", 1, f"system {letter.upper()}", "base", "0" * 24, "17.10", timestamp(EXPIRES)
        )
        manifest = replace(
            _manifest(set_id, [artifact], artifact, artifact, 0), database=pin, omitted={}, safety=letter.islower()
        )
        sets.write_manifest(destination, manifest, EXPIRES, lambda: None)


@pytest.mark.parametrize(
    ("databases", "chosen"), [("A", 0), ("AA", 1), ("AAa", 1), ("AAb", 1), ("AABA", 3), ("AbAa", 2)]
)
def test_the_latest_set_to_restore_is_not_a_safety_set(tmp_path: Path, databases: str, chosen: int) -> None:
    destination = FolderDestination(tmp_path)
    write_sets(destination, databases)
    assert sets.open_to_restore(destination, "latest").id == identifier(chosen)
    assert sets.open_to_restore(destination, identifier(0)).id == identifier(0)
    assert [each.safety for each in reversed(sets.list_sets(destination))] == [each.islower() for each in databases]


@pytest.mark.parametrize(
    ("databases", "newer", "older"), [("BbA", 2, 0), ("AABb", 2, 1), ("ABC", 2, 1), ("AABB", 3, 1)]
)
def test_the_set_of_a_rebuilt_machine_is_not_restored_as_the_latest(
    tmp_path: Path, databases: str, newer: int, older: int
) -> None:
    destination = FolderDestination(tmp_path)
    write_sets(destination, databases)
    with pytest.raises(
        RefusedError, match=f"{identifier(newer)} is of another database than the older set {identifier(older)}"
    ):
        sets.open_to_restore(destination, "latest")
    for number in (newer, older):
        assert sets.open_to_restore(destination, identifier(number)).id == identifier(number)


def test_safety_sets_alone_are_not_the_latest(tmp_path: Path) -> None:
    destination = FolderDestination(tmp_path)
    write_sets(destination, "ab")
    with pytest.raises(RefusedError, match="has none"):
        sets.open_to_restore(destination, "latest")


def test_an_aborted_set_is_removed_and_a_good_one_is_not(tmp_path: Path, sources: Sources) -> None:
    destination = FolderDestination(tmp_path)
    Run(destination, sources, identifier(1)).create()
    with pytest.raises(KilledError):
        Run(destination, sources, identifier(2), 8).create()
    left = sets.unfinished(destination)
    assert {each.key.split("/")[1] for each in left} == {identifier(2)}
    whole = destination.create("database/1/bases/whole/base.json", iter([b"{}"]), 2, EXPIRES)
    destination.create("database/1/bases/killed/base.tar.gz", iter([b"base"]), 4, EXPIRES)
    remove_unfinished(destination)
    assert [each.id for each in sets.list_sets(destination)] == [identifier(1)]
    assert [each.key for each in destination.list("database/")] == [whole.key]


def test_without_credentials_for_pruning_an_aborted_set_stays(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    destination = backup_store.destination(object_store, locked)
    with pytest.raises(KilledError):
        Run(destination, sources, identifier(2), 8).create()
    left = sets.unfinished(destination)
    assert left
    remove_unfinished(destination)
    assert sets.unfinished(destination) == left


def _full(block: bytes) -> bytes:
    # SeaweedFS answers with 500 when its disk is full; other stores name the cause.
    head = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    body = b"<Error><Code>InsufficientStorage</Code><Message>full</Message></Error>"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body if block.startswith(b"HTTP/1.1 2") else block


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "full": ({"response": _full}, "the store is full"),
    "slow": ({"delay_s": 30.0}, "is unreachable or too slow"),
    "refusing": ({"refuse": True, "response": lambda _block: b""}, "is unreachable or too slow"),
    "dropping": ({"drop_after": 1, "drops": 1_000_000}, "is unreachable or too slow"),
}


@pytest.mark.parametrize("fault", sweep.choose(list(FAULTS), 2))
@pytest.mark.parametrize("writes", sweep.choose(range(22), 1))
def test_a_destination_that_fails_at_any_write_fails_the_run_and_not_the_next_one(
    object_store: services.ObjectStore, locked: str, sources: Sources, fault: str, writes: int
) -> None:
    changes, words = FAULTS[fault]
    direct = backup_store.destination(object_store, locked)
    with proxy(object_store.endpoint) as faults:
        destination = backup_store.destination(
            object_store, locked, prefix=direct.prefix, endpoint_url=faults.url, timeout_s=0.5, attempts=1
        )
        destination._lock = direct.lock

        def begin() -> None:
            for name, value in changes.items():
                setattr(faults, name, value)

        with pytest.raises(DestinationError, match=words) as caught:
            Run(destination, sources, identifier(1), writes, begin).create()
        assert caught.value.remedy
    assert sets.latest(direct) is None
    manifest = Run(direct, sources, identifier(2)).create()
    assert verify(direct, manifest.id, 2).is_good
    found = backup_store.versions(object_store, direct)
    assert found == sorted(set(found))


_KILLED = """
import os, sys
from datetime import UTC, datetime, timedelta
sys.path[:0] = sys.argv[4].split(os.pathsep)
from crypto_lakehouse.backup.destination.requests import Keys
from crypto_lakehouse.backup.destination.s3 import S3Destination
def content():
    for number in range(40):
        yield bytes([number]) * (1 << 20)
        if number == 20:
            os.kill(os.getpid(), 9)
keys = Keys(*sys.stdin.read().split())
destination = S3Destination(sys.argv[1], "us-east-1", sys.argv[2], sys.argv[3], keys)
destination.create("objects/aa/large", content(), 40 << 20, datetime.now(UTC) + timedelta(hours=1))
"""


def test_a_process_that_is_killed_during_an_upload_leaves_no_object(
    object_store: services.ObjectStore, locked: str
) -> None:
    destination = backup_store.destination(object_store, locked)
    keys = backup_store.keys(object_store, "backup-create")
    command = [sys.executable, "-c", _KILLED, object_store.endpoint, locked, destination.prefix]
    ended = subprocess.run(
        [*command, os.pathsep.join(sys.path)], input=f"{keys.access_key} {keys.secret_key}".encode(), check=False
    )
    assert ended.returncode == -9
    assert destination.find("objects/aa/large") is None
    assert backup_store.client_uploads(destination) == [f"{destination.prefix}objects/aa/large"]
    size = 40 << 20
    content = (bytes([number]) * (1 << 20) for number in range(40))
    stored = destination.create("objects/aa/large", content, size, after(hours=1))
    assert destination.find("objects/aa/large") == replace(stored, sha256="", retained_until=_protection(destination))


def _protection(destination: Any) -> str | None:
    found = destination.find("objects/aa/large")
    return str(found.retained_until)


# Damage


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    _write(path, bytes(content))


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> FolderDestination:
    """Return a folder with one set."""
    destination = FolderDestination(tmp_path_factory.mktemp("good"))
    Run(destination, sources, identifier(1)).create()
    return destination


@pytest.mark.parametrize("index", range(len(SUBJECTS) + 3))
def test_one_flipped_byte_in_any_artifact_is_found_and_named(good: FolderDestination, index: int) -> None:
    manifest = sets.open_set(good, identifier(1))
    artifact = [*sets.inventory(good, manifest), manifest.inventory][index]
    path, position = good.root / artifact.key, artifact.size // 2
    _flip(path, position)
    try:
        # The inventory is read completely at level 1, too.
        assert verify(good, manifest.id, 1).is_good is (artifact.subject.kind != "inventory")
        result = verify(good, manifest.id, 2)
    finally:
        _flip(path, position)
    (fault,) = result.faults
    subject = artifact.subject
    assert (fault.key, fault.problem, fault.component) == (artifact.key, "hash", subject.component)
    assert (fault.table, fault.snapshot_id, fault.partition) == (subject.table, subject.snapshot_id, subject.partition)
    assert str(fault).startswith(f"{subject}: {artifact.key}: ")
    assert verify(good, manifest.id, 2).is_good


def test_a_byte_that_is_flipped_on_the_way_from_a_bucket_is_found(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    with proxy(object_store.endpoint) as faults:
        destination = backup_store.destination(object_store, locked, endpoint_url=faults.url)
        manifest = Run(destination, sources, identifier(1)).create()
        for content, subject in zip(sources.contents, SUBJECTS, strict=True):
            forged = content[:-1] + bytes([content[-1] ^ 1])
            faults.response = partial(_replaced, content, forged)
            (fault,) = verify(destination, manifest.id, 2).faults
            assert (fault.problem, str(fault).partition(":")[0]) == ("hash", str(subject))
        faults.response = None
        assert verify(destination, manifest.id, 2).is_good


def _replaced(content: bytes, forged: bytes, block: bytes) -> bytes:
    return block.replace(content, forged)


def test_all_faults_are_found_at_once(good: FolderDestination, tmp_path: Path) -> None:
    manifest = sets.open_set(good, identifier(1))
    flipped, truncated, missing, unreadable, *_rest = sets.inventory(good, manifest)
    saved = {each.key: (good.root / each.key).read_bytes() for each in sets.inventory(good, manifest)}
    _flip(good.root / flipped.key, 0)
    _write(good.root / truncated.key, saved[truncated.key][:-1])
    (good.root / missing.key).unlink()
    (good.root / unreadable.key).unlink()
    (good.root / unreadable.key).mkdir()
    try:
        first, second = verify(good, manifest.id, 1), verify(good, manifest.id, 2)
    finally:
        (good.root / unreadable.key).rmdir()
        for key, content in saved.items():
            path = good.root / key
            path.unlink(missing_ok=True)
            path.write_bytes(content)
    assert _problems(first) == {truncated.key: "size", missing.key: "missing", unreadable.key: "unreadable"}
    assert _problems(second) == {**_problems(first), flipped.key: "hash"}
    assert second.objects == len(saved) + 1
    document = second.as_dict()
    assert (document["ok"], document["fault_count"], len(document["faults"])) == (False, 4, 4)


def _problems(result: Verification) -> dict[str, str]:
    return {each.key: each.problem for each in result.faults}


def _truncated(document: bytes) -> bytes:
    return document[: len(document) // 2]


def _edited(document: bytes) -> bytes:
    return document.replace(b'"environment":"test"', b'"environment":"best"')


def _newer(document: bytes) -> bytes:
    return _resigned(document, format=99)


def _of_another_set(document: bytes) -> bytes:
    return _resigned(document, id=identifier(77), started_at=started_at(identifier(77)))


def _with_a_malformed_id(document: bytes) -> bytes:
    return _resigned(document, id="../../etc")


def _with_an_unknown_field(document: bytes) -> bytes:
    return _resigned(document, surprise=1)


def _resigned(document: bytes, **changed: Any) -> bytes:
    values = {**json.loads(document), **changed}
    del values["digest"]
    return canonical({**values, "digest": hashlib.sha256(canonical(values)).hexdigest()})


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _edited,
        _newer,
        _of_another_set,
        _with_a_malformed_id,
        _with_an_unknown_field,
        lambda _document: b"",
        lambda _document: b"[]",
        lambda _document: b"\xff\xfe",
        lambda document: document + b"x",
    ],
)
def test_a_damaged_or_forged_manifest_is_listed_as_unreadable_and_never_opened(
    good: FolderDestination, damage: Callable[[bytes], bytes]
) -> None:
    path = good.root / sets.manifest_key(identifier(1))
    document = path.read_bytes()
    _write(path, damage(document))
    try:
        (listed,) = sets.list_sets(good)
        assert (listed.state, sets.latest(good)) == ("unreadable", None)
        assert listed.problems
        with pytest.raises(IntegrityError, match="cannot read"):
            sets.open_set(good, identifier(1))
        (fault,) = verify(good, identifier(1), 1).faults
        assert (fault.kind, fault.key) == ("manifest", sets.manifest_key(identifier(1)))
    finally:
        _write(path, document)


def test_what_stolen_credentials_write_does_not_change_a_set(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    destination = backup_store.destination(object_store, locked)
    manifest = Run(destination, sources, identifier(1)).create()
    thief = backup_store.client(object_store, "backup-create")
    for key in _keys(destination):
        thief.put_object(Bucket=locked, Key=destination.prefix + key, Body=b"forged")
    assert sets.open_set(destination, "latest") == manifest
    assert verify(destination, manifest.id, 1).is_good
    assert verify(destination, manifest.id, 2, prove=True).is_good
    assert [each.state for each in sets.list_sets(destination)] == ["good"]


def test_every_credential_fails_to_destroy_the_last_good_set(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    from botocore.exceptions import ClientError

    destination = backup_store.destination(object_store, locked)
    manifest = Run(destination, sources, identifier(1)).create()
    objects = list(destination.list(""))
    soon = {"Mode": "COMPLIANCE", "RetainUntilDate": after(seconds=5)}
    for identity in object_store.credentials:
        thief = backup_store.client(object_store, identity)
        # The administrator of the store and the service know every object; for the others one represents all.
        for stored in objects if identity in ("admin", "backup-extend") else objects[-1:]:
            place = {"Bucket": locked, "Key": destination.prefix + stored.key}
            version = {**place, "VersionId": stored.version_id}
            for attack in (
                partial(thief.delete_object, **version),
                partial(thief.delete_object, **version, BypassGovernanceRetention=True),
                partial(thief.put_object_retention, **version, Retention=soon),
                partial(thief.put_object, **place, Body=b"forged"),
                partial(thief.delete_object, **place),
            ):
                with suppress(ClientError):
                    attack()
    assert sets.open_set(destination, "latest") == manifest
    assert verify(destination, manifest.id, 2).is_good
    assert [each.state for each in sets.list_sets(destination)] == ["good"]


def test_a_set_without_its_protection_is_a_fault(
    object_store: services.ObjectStore, locked: str, sources: Sources
) -> None:
    destination = backup_store.destination(object_store, locked)
    manifest = Run(destination, sources, identifier(1)).create()
    artifacts = [replace(each, retained_until="2099-01-01T00:00:00Z") for each in sets.inventory(destination, manifest)]
    mover = ConcurrentMover(destination, EXPIRES, guard=lambda: None)
    inventory = sets.write_inventory(mover, identifier(2), artifacts)
    start = started_at(identifier(2))
    forged = replace(manifest, id=identifier(2), started_at=start, inventory=inventory, tables=())
    sets.write_manifest(destination, forged, EXPIRES, lambda: None)
    assert verify(destination, identifier(2), 1).is_good
    result = verify(destination, identifier(2), 2)
    assert {each.problem for each in result.faults} == {"unprotected"}
    assert len(result.faults) == len(artifacts)


def test_a_proof_counts_only_for_its_manifest(good: FolderDestination) -> None:
    verify(good, identifier(1), 1, prove=True)
    (listed,) = sets.list_sets(good)
    assert listed.proof is not None
    forged = canonical({"ok": True, "level": 2, "finished_at": "2030-01-01T00:00:00Z", "manifest_sha256": "0" * 64})
    for name, content in (("20300101T000000Z", forged), ("20300101T000001Z", b"{"), ("20300101T000002Z", b"[]")):
        key = sets.set_key(identifier(1), f"proofs/{name}-level2.json")
        good.create(key, iter([content]), len(content), EXPIRES)
    assert sets.list_sets(good)[0].proof == listed.proof


@pytest.mark.parametrize(
    ("results", "state", "level"),
    [
        ([(2, "")], "good", 2),
        ([(1, ""), (2, "hash")], "damaged", None),
        ([(2, ""), (2, "hash")], "damaged", None),
        ([(2, ""), (1, "missing")], "damaged", None),
        ([(2, "unprotected"), (1, "")], "damaged", None),
        ([(2, "hash"), (2, "")], "good", 2),
        ([(1, "size"), (2, "")], "good", 2),
        ([(2, ""), (2, "unreadable")], "good", 2),
    ],
)
def test_a_set_is_damaged_until_a_later_verification_finds_it_good(
    tmp_path: Path, results: list[tuple[int, str]], state: str, level: int | None
) -> None:
    destination = FolderDestination(tmp_path)
    write_sets(destination, "A")
    sha256 = sets.manifest_sha256(destination, identifier(0))
    for number, (each, problem) in enumerate(results):
        finished = datetime(2026, 1, 2, 0, number, tzinfo=UTC)
        faults = [{"key": "objects/x", "problem": problem}] if problem else []
        content = {"ok": not problem, "fault_count": len(faults), "faults": faults, "manifest_sha256": sha256}
        content |= {"finished_at": timestamp(finished)}
        sets.write_proof(destination, identifier(0), each, finished, content, EXPIRES)
    (listed,) = sets.list_sets(destination)
    assert (listed.state, listed.proof and listed.proof.level) == (state, level)
    assert any("found 1 faults" in line for line in set_lines([listed])) is (state == "damaged")
    assert sets.open_set(destination, "latest").id == identifier(0)


def test_a_proof_of_the_future_is_none(tmp_path: Path) -> None:
    destination = FolderDestination(tmp_path)
    write_sets(destination, "A")
    later = datetime.now(UTC) + timedelta(days=1)
    content = {"ok": True, "manifest_sha256": sets.manifest_sha256(destination, identifier(0))}
    sets.write_proof(destination, identifier(0), 2, later, {**content, "finished_at": timestamp(later)}, EXPIRES)
    assert sets.list_sets(destination)[0].proof is None


def test_a_set_of_the_future_hides_no_other(tmp_path: Path, sources: Sources) -> None:
    destination = FolderDestination(tmp_path)
    Run(destination, sources, identifier(1)).create()
    Run(destination, sources, "29990101T000000Z-abcdef").create()
    future, present = sets.list_sets(destination)
    assert (future.state, present.state) == ("unreadable", "good")
    assert sets.open_set(destination, "latest").id == identifier(1)


def test_a_second_manifest_of_a_set_is_refused(destination: Destination, sources: Sources) -> None:
    manifest = Run(destination, sources, identifier(1)).create()
    sets.write_manifest(destination, manifest, EXPIRES, lambda: None)
    with pytest.raises(IntegrityError, match="exists with other content"):
        sets.write_manifest(destination, replace(manifest, environment="other"), EXPIRES, lambda: None)


@pytest.mark.parametrize("set_id", ["", "x", "../20260101T000001Z-abcdef", "20260101T000001Z-abcdef/..", "LATEST"])
def test_what_is_not_the_id_of_a_set_is_refused(good: FolderDestination, set_id: str) -> None:
    for act in (sets.open_set, verify):
        with pytest.raises(RefusedError, match="it is not the id of a set"):
            act(good, set_id)


def test_a_set_that_does_not_exist_is_refused(good: FolderDestination, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="does not exist or was aborted"):
        verify(good, identifier(999))
    with pytest.raises(RefusedError, match="has none"):
        sets.open_set(FolderDestination(tmp_path), "latest")
    with pytest.raises(RefusedError, match="unsupported level 3"):
        verify(good, identifier(1), 3)


def test_a_large_inventory_is_streamed(tmp_path: Path) -> None:
    destination = FolderDestination(tmp_path)
    mover = ConcurrentMover(destination, EXPIRES, guard=lambda: None)

    def artifacts() -> Iterator[Artifact]:
        for number in range(5_000):
            yield Artifact(f"objects/aa/{number:064d}", number, f"{number:064d}", SUBJECTS[0])

    inventory = sets.write_inventory(mover, identifier(1), artifacts())
    manifest = Manifest(identifier(1), "test", "", "", timestamp(EXPIRES), inventory, {})
    assert inventory.size < 5_000 * 60 < PART_BYTES
    assert sum(1 for _each in sets.inventory(destination, manifest)) == 5_000
    assert sets.write_inventory(mover, identifier(1), artifacts()) == inventory
