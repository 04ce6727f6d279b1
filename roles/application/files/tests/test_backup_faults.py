# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of whole runs on a real lake and database: kills at each write, damage to each artifact, failing stores."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import backup_run
import pyrage
import pytest
import services
import sweep
from backup_run import TIERS, Lakehouse
from proxy import proxy

from crypto_lakehouse.backup import create, sets
from crypto_lakehouse.backup.database.base import stored_bases, unfinished_bases
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.errors import BackupError, DamagedError, IntegrityError, RefusedError
from crypto_lakehouse.backup.incomplete import Record
from crypto_lakehouse.backup.lake.pins import Lake
from crypto_lakehouse.backup.lake.raw_restore import RawRestorer
from crypto_lakehouse.backup.lake.tables_restore import TableRestorer
from crypto_lakehouse.backup.lock import LOCK_KEY, S3Lock
from crypto_lakehouse.backup.model import Artifact, Manifest
from crypto_lakehouse.backup.restore import Selection
from crypto_lakehouse.backup.state import State
from crypto_lakehouse.backup.verify import verify

KEY = pyrage.x25519.Identity.generate()
LAKE = Selection(("tables", "raw"), overwrite=True)
_changes = itertools.count(1)

TTL_S = 8.0
"""Lifetime of the locks of runs that end without a release, in seconds."""


@dataclass(frozen=True)
class Place:
    """A lakehouse that backs up to a folder, including its WAL."""

    lakehouse: Lakehouse
    destination: FolderDestination

    def change(self) -> None:
        """Change the content of each kind of artifact."""
        for tier in TIERS:
            self.lakehouse.append(tier)
        self.lakehouse.put_raw("b", f"changed {next(_changes)}".encode())

    def take(self) -> Manifest:
        report = create.create(self.lakehouse.settings, self.lakehouse.backup)
        return sets.open_set(self.destination, report["set"])

    def artifacts(self, manifest: Manifest) -> list[Artifact]:
        return list(sets.inventory(self.destination, manifest))


@pytest.fixture(scope="module")
def place(object_store: services.ObjectStore) -> Iterator[Place]:
    with (
        backup_run.in_folder(object_store, recipients=str(KEY.to_public())) as found,
        backup_run.receiving(found.lakehouse, found.destination, found.folder / "spool"),
    ):
        yield Place(found.lakehouse, found.destination)


@pytest.fixture(scope="module")
def manifest(place: Place) -> Manifest:
    return place.take()


def wait_for_lock(place: Place) -> None:
    """Wait until the lock of a run that did not release it expires."""
    state = State(place.lakehouse.settings, place.lakehouse.backup)

    def is_free() -> bool:
        with state.lock("the next run").held():
            return True

    services.wait_until(is_free, "the end of the lock", 60)


# Killed at each write

_KILLED = """
import itertools, os, sys
from crypto_lakehouse import cli
from crypto_lakehouse.backup import create, state
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.lock import LOCK_KEY, S3Lock
last, moment, ttl_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
write, numbers = FolderDestination.create, itertools.count(1)
def counted(self, *arguments):
    # Several threads write.
    number = next(numbers)
    if number == last and moment == "before":
        os.kill(os.getpid(), 9)
    stored = write(self, *arguments)
    if number == last:
        os.kill(os.getpid(), 9)
    return stored
FolderDestination.create = counted
create.reason_for_new_base = lambda *_: "each kind of write is tested"
state.State.lock = lambda self, owner: S3Lock(self.requests, self._bucket, LOCK_KEY, owner, ttl_s=ttl_s)
sys.exit(cli.main(["backup", "create"]))
"""
# Secrets and configuration, a base backup, the files of three tables and a raw object, documents, inventory, manifest,
# and the proof of its sizes.
WRITES = 2 + 3 + 3 * 3 + 1 + 3 + 1 + 1 + 1


@pytest.mark.parametrize("number", sweep.choose(range(1, WRITES + 1), 1))
@pytest.mark.parametrize("moment_of_write", sweep.choose(["before", "after"], 1))
def test_a_run_that_is_killed_at_any_write_is_resumed(
    place: Place, manifest: Manifest, number: int, moment_of_write: str, tmp_path: Path
) -> None:
    place.change()
    before = sets.list_sets(place.destination)
    command = [sys.executable, "-c", _KILLED, str(number), moment_of_write, str(TTL_S)]
    with (tmp_path / "log").open("wb") as log:
        ended = subprocess.run(
            command, env=place.lakehouse.environment, stdout=log, stderr=log, cwd="/", check=False, timeout=600
        )
    assert ended.returncode == -9, (tmp_path / "log").read_text()
    exists = number > WRITES - 1 or (number == WRITES - 1 and moment_of_write == "after")
    assert [each.id for each in sets.list_sets(place.destination) if each.state == "good"][int(exists) :] == [
        each.id for each in before if each.state == "good"
    ]
    stored = {each.key for each in place.destination.list("objects/")}
    wait_for_lock(place)
    resumed = place.take()
    assert verify(place.destination, resumed.id, 2).is_good
    assert sets.latest(place.destination) == resumed
    assert stored <= {each.key for each in place.destination.list("objects/")}
    assert {each.state for each in sets.list_sets(place.destination)} <= {"good", "damaged"}
    assert unfinished_bases(place.destination) == []
    assert not list(place.destination.root.glob(".incoming/*"))
    assert not list(place.lakehouse.work.glob("base-*"))
    assert manifest.id < resumed.id


def test_the_order_of_a_run_gives_everything_its_source_and_all_its_writes_are_tested(
    place: Place, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.change()
    written: list[str] = []
    order: list[str] = []
    write = FolderDestination.create

    def noted(owner: object, name: str) -> None:
        act = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            order.append(arguments[1] if name == "pin_tier" else name)
            return act(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (create, "take_base"),
        (create, "pin_database"),
        (Lake, "pin_tier"),
        (Lake, "pin_raw"),
        (create, "wait_for_wal"),
        (sets, "write_manifest"),
    ):
        noted(owner, name)

    def counted(self: FolderDestination, key: str, *arguments: Any) -> Any:
        written.append(key)
        return write(self, key, *arguments)

    monkeypatch.setattr(create, "reason_for_new_base", lambda *_: "each kind of write is counted")
    monkeypatch.setattr(FolderDestination, "create", counted)
    taken = place.take()
    tiers = ["gold", "silver", "bronze"]
    assert order == ["take_base", "pin_database", *tiers, "pin_raw", "wait_for_wal", "write_manifest"]
    assert len([key for key in written if not key.startswith("wal/")]) == WRITES
    assert taken.database
    assert manifest.database
    assert taken.database.base_id != manifest.database.base_id


# Damage

KINDS = (
    "data",
    "manifest",
    "manifest-list",
    "metadata",
    "raw",
    "base",
    "base-manifest",
    "wal",
    "secrets",
    "configuration",
    "inventory",
)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


@contextmanager
def damaged(place: Place, artifact: Artifact, how: str) -> Iterator[None]:
    path, lost = place.destination.root / artifact.key, place.lakehouse.folder / "lost"
    if how == "flipped":
        flip(path)
    else:
        path.rename(lost)
    try:
        yield
    finally:
        if how == "flipped":
            flip(path)
        else:
            lost.rename(path)


def of_kind(place: Place, manifest: Manifest, kind: str) -> list[Artifact]:
    found = [*place.artifacts(manifest), manifest.inventory]
    return [each for each in found if each.subject.kind == kind and each.size]


PROBLEMS = {"flipped": "hash", "lost": "missing"}


@pytest.mark.parametrize("kind", sweep.choose(KINDS, 1))
@pytest.mark.parametrize("how", sweep.choose(list(PROBLEMS), 1))
def test_damage_is_found_the_rest_is_restored_and_the_next_set_is_good(place: Place, kind: str, how: str) -> None:
    manifest = place.take()
    artifacts = of_kind(place, manifest, kind)
    assert artifacts
    for artifact in artifacts:
        with damaged(place, artifact, how):
            (fault,) = verify(place.destination, manifest.id, 2).faults
        subject = artifact.subject
        assert (fault.key, fault.problem, fault.component) == (artifact.key, PROBLEMS[how], subject.component)
        assert (fault.table, fault.snapshot_id, fault.partition) == (
            subject.table,
            subject.snapshot_id,
            subject.partition,
        )
    with damaged(place, artifacts[0], how):
        RESTORED.get(kind, restored_lake)(place, manifest, artifacts[0])
        assert not verify(place.destination, manifest.id, 2, prove=True).is_good
        damaged_sets = [each.id for each in sets.list_sets(place.destination) if each.state == "damaged"]
        following = place.take()
        assert verify(place.destination, following.id, 2).is_good
        # The lost object is stored again under its key.
        assert how == "lost" or verify(place.destination, manifest.id, 2).faults
    assert manifest.id in damaged_sets
    assert next(each.state for each in sets.list_sets(place.destination) if each.id == following.id) == "good"


def restored_lake(place: Place, manifest: Manifest, artifact: Artifact) -> None:
    """Restore everything except the damaged table or object.

    A table whose data files are still in the lake is restored too, and cannot be proven.
    """
    lakehouse, rows = place.lakehouse, rows_of(manifest)
    # Earlier cases may have left other content than the first one.
    raw = {name: lakehouse.raw(name) for name in ("a", "b")}
    place.change()
    lakehouse.put_raw("a", f"replaced after {manifest.id}".encode())
    restore = lakehouse.restore(manifest.id, LAKE)
    with pytest.raises(DamagedError, match="the rest is restored") as caught:
        restore.lake()
    assert artifact.key in caught.value.message
    assert any(artifact.key in each for each in caught.value.damaged)
    table, source = artifact.subject.table, artifact.source
    assert {name: lakehouse.rows(name) - count for name, count in rows.items()} == {
        name: int(name == table and artifact.subject.kind != "data") for name in rows
    }
    lost = source.key if source and not table else ""
    assert {name: lakehouse.raw(name) == content for name, content in raw.items()} == {
        name: lost != f"raw/{name}" for name in raw
    }
    if table and artifact.subject.kind != "data":
        assert any(artifact.key in line for line in lakehouse.restore(manifest.id, LAKE).plan()["warnings"])


INTERRUPTED = {"raw objects": (RawRestorer, "restore"), "the first table": (TableRestorer, "restore")}


@pytest.mark.parametrize("step", sweep.choose(list(INTERRUPTED), 1))
@pytest.mark.parametrize("moment_of_step", sweep.choose(["before", "after"], 1))
def test_a_restore_of_the_lake_that_was_interrupted_is_recorded_until_the_same_one_ends(
    place: Place, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, step: str, moment_of_step: str
) -> None:
    owner, name = INTERRUPTED[step]
    act = getattr(owner, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if moment_of_step == "after":
            act(*arguments, **options)
        raise KeyboardInterrupt

    place.change()
    restore = place.lakehouse.restore(manifest.id, LAKE)
    record = Record.beside(place.lakehouse.database.data)
    with pytest.raises(RefusedError):
        place.lakehouse.restore(manifest.id, replace(LAKE, overwrite=False)).lake()
    assert record.entries() == []
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore.lake()
    assert [(each.set_id, each.left) for each in record.entries()] == [(manifest.id, ("lake",))]
    assert restore.lake()["changed"]
    assert record.entries() == []
    assert {name: place.lakehouse.rows(name) for name in rows_of(manifest)} == rows_of(manifest)


def rows_of(manifest: Manifest) -> dict[str, int]:
    return {pin.full_name: pin.rows for pin in manifest.tables}


def refused_database(place: Place, manifest: Manifest, artifact: Artifact) -> None:
    """Restore the lake, and keep the database unchanged."""
    live = place.lakehouse.folder / "another" / "data"
    there = place.lakehouse.using(database_folder=str(live))
    live.mkdir(parents=True)
    (live / "PG_VERSION").write_text("17\n")
    try:
        with pytest.raises(IntegrityError, match=r"cannot restore|it does not exist"):
            there.restore(manifest.id, Selection(("database",), overwrite=True)).database()
        # Nothing is replaced, so that no restore is incomplete.
        assert [each.name for each in live.parent.iterdir()] == ["data"] or artifact.subject.kind == "base-manifest"
        assert [each.name for each in live.iterdir()] == ["PG_VERSION"]
    finally:
        shutil.rmtree(live.parent)
    place.change()
    assert place.lakehouse.restore(manifest.id, LAKE).lake()["changed"]


def refused_configuration(place: Place, manifest: Manifest, _artifact: Artifact) -> None:
    with pytest.raises(IntegrityError, match=r"its content is damaged|it does not exist"):
        place.lakehouse.restore(manifest.id).configuration(str(KEY))
    place.change()
    assert place.lakehouse.restore(manifest.id, LAKE).lake()["changed"]


def refused_set(place: Place, manifest: Manifest, artifact: Artifact) -> None:
    with pytest.raises(IntegrityError, match=artifact.key):
        place.lakehouse.restore(manifest.id, LAKE).lake()


RESTORED: dict[str, Callable[[Place, Manifest, Artifact], None]] = {
    **dict.fromkeys(("base", "base-manifest", "wal"), refused_database),
    **dict.fromkeys(("secrets", "configuration"), refused_configuration),
    "inventory": refused_set,
}


# The clock, and failing stores


def test_a_base_backup_of_the_future_or_of_long_ago_gives_way_to_the_newest_usable_one(
    place: Place, manifest: Manifest
) -> None:
    lakehouse = place.lakehouse
    state = State(lakehouse.settings, lakehouse.backup)
    context = create._context(lakehouse.settings, lakehouse.backup, place.destination, state, lambda: None)

    def base_at(started: datetime) -> tuple[str, str]:
        found, reason = create._usable_base(replace(context, started=started), lakehouse.database.server)
        return (found.base.id if found else ""), reason

    usable = base_at(context.started)
    assert usable[0]
    for jump in (timedelta(days=400), timedelta(days=-400)):
        found, reason = base_at(context.started + jump)
        assert (found, "is too old" in reason) == ("", True)
    newest = stored_bases(place.destination, manifest.database.system_identifier)[0]  # type: ignore[union-attr]
    future = replace(newest, id="20990101T000000Z-abcdef", taken_at="2099-01-01T00:00:00Z")
    content = future.to_bytes()
    stored = place.destination.create(future.key("base.json"), iter([content]), len(content), context.expires)
    try:
        assert base_at(context.started) == usable
    finally:
        place.destination.delete(stored)


def test_a_source_store_that_fails_during_a_run_fails_the_set_and_not_the_next_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        State, "lock", lambda self, owner: S3Lock(self.requests, self._bucket, LOCK_KEY, owner, ttl_s=TTL_S)
    )
    good = [each.id for each in sets.list_sets(place.destination) if each.state == "good"]
    copy = create._copy_lake
    with proxy(place.lakehouse.store.endpoint) as faults:
        store = replace(place.lakehouse.store, endpoint=faults.url)
        there = replace(place, lakehouse=replace(place.lakehouse, store=store))
        there.change()

        def copy_without_store(context: create.Context) -> Any:
            faults.refuse, faults.response = True, lambda _block: b""
            return copy(context)

        with monkeypatch.context() as patch:
            patch.setattr(create, "_copy_lake", copy_without_store)
            with pytest.raises(BackupError) as caught:
                there.take()
    assert "Check the object store" in caught.value.remedy
    assert [each.id for each in sets.list_sets(place.destination) if each.state == "good"] == good
    wait_for_lock(place)
    assert verify(place.destination, place.take().id, 2).is_good
