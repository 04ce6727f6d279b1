# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of a set is restored to its former state, and stays available to readers."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
import services
import sweep
from delete_files import delete_positions

from crypto_lakehouse.backup.errors import IntegrityError, RefusedError
from crypto_lakehouse.backup.lake.catalogs import (
    MAX_DOCUMENT_BYTES,
    CatalogError,
    ConflictError,
    Entry,
    Pointer,
    S3TablesCatalogs,
    require_release,
)
from crypto_lakehouse.backup.lake.pins import pin_tables
from crypto_lakehouse.backup.lake.store import Objects, split
from crypto_lakehouse.backup.lake.tables_restore import TableRestorer, TableSet
from crypto_lakehouse.backup.model import Artifact, Source, Subject, canonical
from crypto_lakehouse.backup.reader import open_reader
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.verify.data import _duckdb

ROWS = pa.table(
    {
        "id": pa.array(range(10), pa.int64()),
        "day": pa.array([date(2024, 5, 1 + number % 2) for number in range(10)]),
        "price": pa.array([Decimal(number) / 4 for number in range(10)], pa.decimal128(20, 4)),
    },
    schema=pa.schema(
        [pa.field("id", pa.int64(), nullable=False), ("day", pa.date32()), ("price", pa.decimal128(20, 4))]
    ),
)


@dataclass
class MemorySet:
    """A backup set in memory."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def store(self, key: str, content: bytes, subject: Subject, **more: Any) -> Artifact:
        self.contents[key] = content
        return Artifact(key, len(content), hashlib.sha256(content).hexdigest(), subject, **more)

    def fetch(self, artifact: Artifact) -> Iterator[bytes]:
        content = self.contents[artifact.key]
        yield content[:100]
        yield content[100:]


@dataclass
class Place:
    """A table of the lake, and a set of it."""

    settings: Settings
    name: str
    backup: MemorySet = field(default_factory=MemorySet)

    @property
    def catalogs(self) -> S3TablesCatalogs:
        return S3TablesCatalogs(self.settings)

    @property
    def identifier(self) -> str:
        return self.name if "." in self.name else f"gold.{self.name}"

    @property
    def table(self) -> Any:
        return open_catalog(self.settings, "gold").load_table(self.identifier)

    @property
    def restorer(self) -> TableRestorer:
        return TableRestorer(self.settings, self.backup.fetch)

    @property
    def pointer(self) -> Pointer:
        found = self.catalogs.pointer(Entry("gold", self.name))
        assert found is not None
        return found

    def take(self, *, only_current: bool = False) -> TableSet:
        (pin,) = pin_tables(self.settings, ("gold",), only_current, [f"gold.{self.name}"])
        objects, read = Objects(self.settings), open_reader(self.settings)
        files = [
            self.backup.store(
                f"objects/{item.source.identity}", b"".join(read(item.source)), item.subject, source=item.source
            )
            for item in pin.items(objects)
        ]
        document = self.backup.store(f"sets/x/{pin.full_name}/metadata.json", pin.content, pin.subject)
        return TableSet.of(pin.table_pin(document), [document, *files])

    def rows(self, **scan: Any) -> pa.Table:
        return self.table.scan(**scan).to_arrow().sort_by([("id", "ascending"), ("day", "ascending")])

    def remove_everything(self) -> None:
        """Drop the table: SeaweedFS deletes all of its files."""
        open_catalog(self.settings, "gold").drop_table(self.identifier)


@pytest.fixture
def settings(object_store: services.ObjectStore) -> Settings:
    return services.settings_from(object_store.environment("admin"))


@pytest.fixture
def place(settings: Settings) -> Place:
    name = f"r{uuid4().hex[:12]}"
    catalog = open_catalog(settings, "gold")
    catalog.create_namespace_if_not_exists("gold")
    table = catalog.create_table(f"gold.{name}", schema=ROWS.schema)
    with table.update_spec() as update:
        update.add_identity("day")
    table.append(ROWS)
    table.append(ROWS.slice(0, 4))
    return Place(settings, name)


def assert_restored(place: Place, taken: TableSet, expected: pa.Table) -> None:
    table = place.table
    assert str(table.metadata.table_uuid) == taken.pin.uuid
    assert tuple(each.snapshot_id for each in table.snapshots()) == taken.pin.snapshot_ids
    assert list(table.refs()) == ["main"]
    assert place.rows().equals(expected)
    assert place.rows(snapshot_id=taken.pin.snapshot_ids[0]).num_rows == ROWS.num_rows
    table.append(ROWS.slice(0, 1))
    assert place.rows().num_rows == expected.num_rows + 1


def test_registering_a_table_loses_it(place: Place) -> None:
    """The reason why a restore never calls `register_table`: the result is an empty table with a new UUID."""
    taken = place.take()
    location = place.table.metadata_location.replace("/v3.", "/00003-copy.")
    Objects(place.settings).write(location, place.backup.contents[taken.pin.document.key])
    catalog = open_catalog(place.settings, "gold")
    catalog.register_table(f"gold.{place.name}_registered", location)
    registered = catalog.load_table(f"gold.{place.name}_registered")
    assert registered.metadata.snapshots == []
    assert str(registered.metadata.table_uuid) != taken.pin.uuid


def test_a_table_that_was_registered_is_repaired(place: Place) -> None:
    expected, taken = place.rows(), place.take()
    place.remove_everything()
    location = taken.pin.metadata_location
    Objects(place.settings).write(location, place.backup.contents[taken.pin.document.key])
    open_catalog(place.settings, "gold").register_table(f"gold.{place.name}", location)
    assert place.pointer.document is None
    place.restorer.restore(taken)
    assert_restored(place, taken, expected)


def test_dropping_a_table_deletes_its_files(place: Place) -> None:
    """The reason why a restore never drops a table that it replaces: a failure after the drop would leave nothing."""
    taken = place.take()
    place.remove_everything()
    uris = [each.source.uri for each in taken.files if each.source]
    assert set(Objects(place.settings).find_all(uris, taken.pin.location).values()) == {None}


def test_a_table_is_set_back_in_place(place: Place) -> None:
    expected, taken = place.rows(), place.take()
    place.table.delete()
    with pytest.raises(
        RefusedError, match=rf"cannot restore gold\.{place.name}: the table is at snapshot \d+, the set at"
    ):
        place.restorer.restore(taken)
    assert place.rows().num_rows == 0
    restored = place.restorer.restore(taken, overwrite=True)
    assert [change.name for change in restored.plan.of("replace")] == [f"gold.{place.name}"]
    assert restored.plan.of("write") == ()
    assert restored.proof is not None
    assert (restored.proof.rows, restored.proof.snapshots, restored.proof.columns) == (14, 2, 3)
    assert restored.proof.append == "proven and set back"
    assert_restored(place, taken, expected)


def test_the_proof_leaves_the_table_as_restored_and_no_file_behind(place: Place) -> None:
    taken = place.take()
    place.table.delete()
    place.restorer.restore(taken, overwrite=True, proven=False)
    before = below(place)
    document = place.pointer.document
    place.restorer.restore(taken)
    assert (below(place), place.pointer.document) == (before, document)


def below(place: Place) -> set[str]:
    bucket, prefix = split(f"{place.table.location()}/")
    pages = Objects(place.settings).client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {each["Key"] for page in pages for each in page.get("Contents", [])}


def test_a_restored_table_is_left_alone_the_second_time(place: Place) -> None:
    taken = place.take()
    place.remove_everything()
    place.restorer.restore(taken, proven=False)
    plan = place.restorer.plan(taken)
    assert plan.of("write", "replace") == ()
    assert len(plan.of("leave")) == len(taken.files) + 1
    location = place.pointer.metadata_location
    assert place.restorer.restore(taken).metadata_location == location


def test_a_missing_table_returns_with_its_files(place: Place) -> None:
    expected, taken = place.rows(), place.take()
    place.remove_everything()
    plan = place.restorer.plan(taken)
    assert plan.is_target_empty
    assert plan.size >= sum(each.size for each in taken.files)
    restored = place.restorer.restore(taken)
    assert restored.plan == plan
    assert_restored(place, taken, expected)


def test_a_table_that_was_created_again_is_replaced_only_when_allowed(place: Place) -> None:
    expected, taken = place.rows(), place.take()
    place.remove_everything()
    other = open_catalog(place.settings, "gold").create_table(
        f"gold.{place.name}", schema=pa.schema([("x", pa.int32())])
    )
    other.append(pa.table({"x": pa.array([1], pa.int32())}))
    with pytest.raises(RefusedError, match=f"another table of that name exists, with UUID {other.metadata.table_uuid}"):
        place.restorer.restore(taken)
    place.restorer.restore(taken, overwrite=True)
    assert_restored(place, taken, expected)


def test_an_empty_table_that_a_deployment_created_is_no_obstacle(place: Place) -> None:
    expected, taken = place.rows(), place.take()
    place.remove_everything()
    open_catalog(place.settings, "gold").create_table(f"gold.{place.name}", schema=ROWS.schema)
    assert [change.reason for change in place.restorer.plan(taken).changes][-1] == "the table is empty"
    place.restorer.restore(taken)
    assert_restored(place, taken, expected)


def test_a_missing_file_is_put_back_and_another_of_its_name_is_never_overwritten_silently(place: Place) -> None:
    expected, taken = place.rows(), place.take()
    objects = Objects(place.settings)
    lost, changed = [each.source.uri for each in taken.files if each.source and each.subject.kind == "data"][:2]
    objects.delete(lost)
    objects.write(changed, b"something else")
    plan = place.restorer.plan(taken)
    assert [(change.name, change.reason) for change in plan.of("write")] == [(lost, "it is missing")]
    assert [change.name for change in plan.of("replace")] == [changed]
    with pytest.raises(RefusedError, match=r"other content\. Set `lakehouse_restore_overwrite: true`"):
        place.restorer.restore(taken)
    assert objects.content(changed) == b"something else"
    assert objects.find(lost) is None
    place.restorer.restore(taken, overwrite=True)
    assert_restored(place, taken, expected)


def test_an_equal_file_with_another_etag_is_left_alone(place: Place) -> None:
    taken = place.take()
    objects = Objects(place.settings)
    artifact = next(each for each in taken.files if each.subject.kind == "data")
    assert artifact.source is not None
    objects.write(artifact.source.uri, place.backup.contents[artifact.key])
    found = objects.find(artifact.source.uri)
    assert found is not None
    assert found.etag != artifact.source.etag
    assert place.restorer.plan(taken).of("write", "replace") == ()


@pytest.mark.parametrize("kind", ["data", "manifest", "manifest-list", "metadata"])
def test_a_damaged_artifact_is_named_and_not_restored(place: Place, kind: str) -> None:
    taken = place.take()
    place.remove_everything()
    artifacts = [taken.pin.document, *taken.files]
    damaged = next(each for each in artifacts if each.subject.kind == kind)
    content = place.backup.contents[damaged.key]
    place.backup.contents[damaged.key] = content[:-1] + bytes([content[-1] ^ 1])
    words = rf"cannot restore {damaged.key} \(gold\.{place.name} {kind} snapshot {damaged.subject.snapshot_id}"
    with pytest.raises(IntegrityError, match=words):
        place.restorer.restore(taken)
    assert place.catalogs.pointer(Entry("gold", place.name)) is None


def test_a_stale_token_is_refused_and_read_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, taken = place.rows(), place.take()
    update = S3TablesCatalogs.update
    commits = [ROWS, ROWS.slice(0, 1)]

    def late(self: S3TablesCatalogs, *arguments: Any) -> None:
        if commits:
            place.table.append(commits.pop())
        update(self, *arguments)

    monkeypatch.setattr(S3TablesCatalogs, "update", late)
    place.table.append(ROWS)
    at = place.pointer
    with pytest.raises(ConflictError, match="Version token mismatch"):
        update(place.catalogs, Entry("gold", place.name), "stale", at.document or {}, at.metadata_location, 9)
    place.restorer.restore(taken, overwrite=True)
    assert commits == []
    assert_restored(place, taken, expected)


def test_a_table_that_keeps_changing_is_not_restored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = place.take()
    place.table.append(ROWS)

    def conflict(*_: Any) -> None:
        raise ConflictError("cannot restore it: Version token mismatch")

    monkeypatch.setattr(S3TablesCatalogs, "update", conflict)
    before = below(place)
    with pytest.raises(ConflictError):
        place.restorer.restore(taken, overwrite=True)
    assert below(place) == before


def test_a_table_that_appears_during_the_restore_is_not_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = place.take()
    place.remove_everything()
    create = S3TablesCatalogs.create

    def late(self: S3TablesCatalogs, *arguments: Any) -> None:
        open_catalog(place.settings, "gold").create_table(f"gold.{place.name}", schema=ROWS.schema).append(ROWS)
        create(self, *arguments)

    monkeypatch.setattr(S3TablesCatalogs, "create", late)
    with pytest.raises(RefusedError, match="a table of that name was created meanwhile"):
        place.restorer.restore(taken)
    assert place.rows().num_rows == ROWS.num_rows


def test_a_table_of_too_many_snapshots_is_restored_at_its_current_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, taken = place.rows(), place.take()
    limit = len(place.backup.contents[taken.pin.document.key]) - 600
    monkeypatch.setattr("crypto_lakehouse.backup.lake.pins.MAX_DOCUMENT_BYTES", limit)
    monkeypatch.setattr("crypto_lakehouse.backup.lake.tables_restore.MAX_DOCUMENT_BYTES", limit)
    (pin,) = pin_tables(place.settings, ("gold",), only=[f"gold.{place.name}"])
    assert "too many snapshots for a restore of all" in pin.warnings[0]
    place.remove_everything()
    with pytest.raises(RefusedError, match="larger than the catalog accepts at once, with 2 snapshots"):
        place.restorer.restore(taken)
    plan = place.restorer.plan(taken, only_current=True)
    restored = place.restorer.restore(taken, only_current=True)
    assert restored.plan == plan
    assert (len(place.table.snapshots()), place.rows().equals(expected)) == (1, True)


def test_the_catalog_takes_documents_up_to_the_limit(place: Place) -> None:
    pointer, entry = place.pointer, Entry("gold", place.name)

    def padded(size: int) -> dict[str, Any]:
        document = {**(pointer.document or {}), "properties": {"padding": ""}}
        return {**document, "properties": {"padding": "x" * (size - len(canonical(document)))}}

    place.catalogs.update(entry, pointer.token, padded(MAX_DOCUMENT_BYTES), pointer.metadata_location, pointer.version)
    with pytest.raises(CatalogError, match="cannot"):
        place.catalogs.update(entry, "", padded(MAX_DOCUMENT_BYTES + 8192), pointer.metadata_location, 9)


class Interrupted(BaseException):
    """Represents the end of the process: the application must not catch it."""


def interrupt_at(monkeypatch: pytest.MonkeyPatch, place: int, *, after: bool) -> None:
    """End the process at its `place`-th change of the store, before it or when its answer is lost."""
    counter = itertools.count()

    def fragile(call: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: Any, **options: Any) -> None:
            now = next(counter) == place
            if not now or after:
                call(*arguments, **options)
            if now:
                raise Interrupted

        return changed

    monkeypatch.setattr(Objects, "_upload", fragile(Objects._upload))
    monkeypatch.setattr(S3TablesCatalogs, "_change", fragile(S3TablesCatalogs._change))


# Changes in a restore of the table of these tests: 4 data files, 2 manifests, 2 lists, document, catalog.
PLACES = [(place, after) for place in range(10) for after in (False, True)]


@pytest.mark.parametrize(("number", "after"), sweep.choose(PLACES, 4))
def test_an_interrupted_restore_is_completed_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    expected, taken = place.rows(), place.take()
    place.remove_everything()
    with monkeypatch.context() as context:
        interrupt_at(context, number, after=after)
        with pytest.raises(Interrupted):
            place.restorer.restore(taken, proven=False)
    # The table appears only with the last change.
    is_there = place.catalogs.pointer(Entry("gold", place.name)) is not None
    assert is_there is ((number, after) == PLACES[-1])
    assert place.restorer.plan(taken).of("replace") == ()
    place.restorer.restore(taken)
    assert_restored(place, taken, expected)


def test_an_interrupted_proof_is_no_reason_to_refuse_the_next_restore(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, taken = place.rows(), place.take()
    place.remove_everything()

    def interrupt(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as context:
        context.setattr(S3TablesCatalogs, "update", interrupt)
        with pytest.raises(Interrupted):
            place.restorer.restore(taken)
    assert len(place.table.refs()) == 2
    assert place.rows().equals(expected)
    assert [change.reason for change in place.restorer.plan(taken).of("write")] == [
        "an interrupted restore left a branch"
    ]
    place.restorer.restore(taken)
    assert_restored(place, taken, expected)


def test_the_current_snapshot_alone_is_restored(place: Place) -> None:
    expected, taken = place.rows(), place.take(only_current=True)
    place.remove_everything()
    restored = place.restorer.restore(taken)
    assert restored.proof is not None
    assert (restored.proof.snapshots, restored.proof.rows) == (1, 14)
    assert [each.snapshot_id for each in place.table.snapshots()] == [taken.pin.current_snapshot_id]
    assert place.rows().equals(expected)


def test_a_reader_never_misses_the_table_during_a_restore_in_place(place: Place) -> None:
    taken = place.take()
    good = place.rows().num_rows
    place.table.append(ROWS)
    seen: list[int] = []
    failures: list[Exception] = []
    done = threading.Event()

    def query() -> None:
        catalog = open_catalog(place.settings, "gold")
        while not done.is_set():
            try:
                seen.append(catalog.load_table(f"gold.{place.name}").scan().to_arrow().num_rows)
            except Exception as error:  # noqa: BLE001 - any failure is what the test looks for
                failures.append(error)

    thread = threading.Thread(target=query)
    thread.start()
    try:
        services.wait_until(lambda: seen, "the reader")
        for _time in range(3):
            place.restorer.restore(taken, overwrite=True)
            place.table.append(ROWS)
        place.restorer.restore(taken, overwrite=True)
        mark = len(seen)
        services.wait_until(lambda: len(seen) > mark + 1 or failures, "the reader")
    finally:
        done.set()
        thread.join()
    assert failures == []
    # Rows before and after, never another number: the row of the proof is on a separate branch.
    assert set(seen) == {good, good + ROWS.num_rows}


def test_a_table_returns_under_another_name_with_files_of_its_own(place: Place) -> None:
    expected, taken = place.rows(), place.take()
    first = place.rows(snapshot_id=taken.pin.snapshot_ids[0])
    copy = f"{place.name}_copy"
    plan = place.restorer.plan(taken, copy)
    assert plan.is_target_empty
    restored = place.restorer.restore(taken, restore_as=copy)
    assert (restored.name, restored.plan.size) == (f"gold.{copy}", plan.size)
    assert restored.uuid != taken.pin.uuid
    place.remove_everything()
    moved = Place(place.settings, copy)
    assert moved.table.location().endswith(f"/gold/{copy}")
    assert moved.rows().equals(expected)
    assert moved.rows(snapshot_id=taken.pin.snapshot_ids[0]).equals(first)
    assert duckdb_rows(moved) == expected.num_rows
    moved.table.append(ROWS)
    assert moved.rows().num_rows == expected.num_rows + ROWS.num_rows


def duckdb_rows(place: Place) -> int:
    with _duckdb(place.settings) as connection:
        found = connection.execute("SELECT count(*) FROM iceberg_scan(?)", [place.table.metadata_location]).fetchone()
    return int(found[0])


def test_leftover_files_of_another_table_do_not_become_part_of_a_copy(place: Place) -> None:
    taken = place.take()
    copy = f"{place.name}_copy"
    objects = Objects(place.settings)
    stray = taken.pin.location.replace(place.name, copy) + "/data/stray.parquet"
    objects.write(stray, b"stray")
    place.restorer.restore(taken, restore_as=copy)
    assert not Place(place.settings, copy).table.location().endswith(f"/{copy}")
    assert objects.content(stray) == b"stray"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Upper", "it is not a table name"),
        ("a.b", "it is not a table name"),
        ("../x", "it is not a table name"),
        ("", "another table"),
        ("existing", "that table exists"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused(place: Place, name: str, message: str) -> None:
    taken = place.take()
    if not name:
        assert place.restorer.plan(taken).of("write", "replace") == ()
        return
    with pytest.raises(RefusedError, match=message):
        place.restorer.restore(taken, restore_as=place.name if name == "existing" else name)


def test_position_deletes_are_refused_by_name_under_another_name_and_restored_in_place(settings: Settings) -> None:
    place = Place(settings, f"r{uuid4().hex[:12]}")
    table = open_catalog(settings, "gold").create_table(f"gold.{place.name}", schema=ROWS.schema)
    table.append(ROWS)
    delete_positions(table, [1, 2])
    expected, taken = place.rows(), place.take()
    with pytest.raises(RefusedError, match=r"under another name: s3://.*-deletes\.parquet deletes rows by the paths"):
        place.restorer.restore(taken, restore_as=f"{place.name}_copy")
    place.remove_everything()
    restored = place.restorer.restore(taken)
    assert restored.proof is not None
    assert restored.proof.rows == expected.num_rows == 8
    assert place.rows().equals(expected)


def test_a_table_without_rows_is_restored(settings: Settings) -> None:
    place = Place(settings, f"r{uuid4().hex[:12]}")
    open_catalog(settings, "gold").create_table(f"gold.{place.name}", schema=ROWS.schema)
    taken = place.take()
    place.remove_everything()
    restored = place.restorer.restore(taken)
    assert restored.proof is not None
    assert (restored.proof.rows, restored.proof.append) == (0, "proven and set back")
    assert place.table.snapshots() == []
    place.table.append(ROWS)
    assert place.rows().num_rows == ROWS.num_rows


def test_a_restored_table_with_other_values_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = place.take()
    data = next(
        each for each in taken.files if each.subject.kind == "data" and each.subject.partition == "day=2024-05-02"
    )
    other = next(
        each for each in taken.files if each.subject.kind == "data" and each.subject.partition == "day=2024-05-01"
    )
    place.remove_everything()
    restore = Objects.restore

    def wrong(self: Objects, artifact: Artifact, fetch: Any, uri: str, **options: Any) -> None:
        restore(self, other if artifact == data else artifact, fetch, uri, **options)

    monkeypatch.setattr(Objects, "restore", wrong)
    with pytest.raises(IntegrityError, match=rf"cannot prove the restore of gold\.{place.name} at snapshot"):
        place.restorer.restore(taken)


@pytest.mark.parametrize("namespace", ["team", "team.desk"])
def test_a_table_of_another_namespace_returns_with_its_namespace(settings: Settings, namespace: str) -> None:
    bucket = f"tables-{uuid4().hex[:12]}"
    s3_client(settings, service="s3tables").create_table_bucket(name=bucket)
    place = Place(settings.model_copy(update={"gold_warehouse": f"s3://{bucket}"}), f"{namespace}.t")
    catalog = open_catalog(place.settings, "gold")
    parts = namespace.split(".")
    for depth in range(1, len(parts) + 1):
        catalog.create_namespace(tuple(parts[:depth]))
    catalog.create_table(place.identifier, schema=ROWS.schema).append(ROWS)
    taken = place.take()
    place.remove_everything()
    for depth in range(len(parts), 0, -1):
        catalog.drop_namespace(tuple(parts[:depth]))
    assert pin_tables(place.settings, ("gold",)) == []
    assert place.restorer.restore(taken).name == f"gold.{namespace}.t"
    assert place.rows().equals(ROWS)
    assert [pin.full_name for pin in pin_tables(place.settings, ("gold",))] == [f"gold.{namespace}.t"]
    restored = place.restorer.restore(taken, restore_as="copy")
    assert restored.name == f"gold.{namespace}.copy"
    assert open_catalog(place.settings, "gold").load_table(f"{namespace}.copy").scan().to_arrow().num_rows == 10


def test_versions_in_a_table_bucket_are_refused(settings: Settings) -> None:
    bucket = f"tables-{uuid4().hex[:12]}"
    s3_client(settings, service="s3tables").create_table_bucket(name=bucket)
    restorer = TableRestorer(settings.model_copy(update={"gold_warehouse": f"s3://{bucket}"}), MemorySet().fetch)
    restorer.check(["gold", "silver"])
    versioning = {"Status": "Enabled"}
    s3_client(settings).put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
    with pytest.raises(RefusedError, match=f"table bucket {bucket} keeps versions"):
        restorer.check(["gold", "silver"])


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("SeaweedFS 30GB 4.47", "SeaweedFS 4.47 is older than 4.48"),
        ("SeaweedFS 8000GB 3.99", "SeaweedFS 3.99 is older than 4.48"),
        ("AmazonS3", "calls itself 'AmazonS3', not SeaweedFS"),
        ("", "calls itself 'nothing', not SeaweedFS"),
        ("SeaweedFS", "not SeaweedFS"),
    ],
)
def test_another_release_of_the_store_is_refused(server: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        require_release(server)


@pytest.mark.parametrize("server", ["SeaweedFS 8000GB 4.48", "SeaweedFS 30GB 4.100", "SeaweedFS 30GB 5.0"])
def test_a_newer_release_is_accepted(server: str) -> None:
    require_release(server)


def test_another_catalog_is_refused(place: Place) -> None:
    glue = place.settings.model_copy(update={"catalog_type": "glue"})
    with pytest.raises(RefusedError, match="catalog type glue is not supported"):
        TableRestorer(glue, place.backup.fetch).check(["gold"])


def test_a_table_bucket_that_does_not_exist_is_named(place: Place) -> None:
    elsewhere = place.settings.model_copy(update={"gold_warehouse": "s3://nowhere-at-all"})
    with pytest.raises(CatalogError, match="cannot find table bucket nowhere-at-all"):
        pin_tables(elsewhere, ("gold",))


@pytest.mark.parametrize("part", ["location", "file", "parent"])
def test_an_address_outside_of_the_table_bucket_is_refused_before_any_write(place: Place, part: str) -> None:
    taken, gold = place.take(), place.catalogs.bucket("gold")
    victim = (
        f"s3://{gold}/{place.name}/../victim" if part == "parent" else f"s3://{place.settings.bucket('gold')}/victim"
    )
    statistics = {"snapshot-id": taken.pin.snapshot_ids[0], "statistics-path": victim, "file-size-in-bytes": 4}
    document = dict(place.restorer._document(taken))
    document |= {"location": victim} if part == "location" else {"statistics": [statistics]}
    source = Source(*split(victim), size=4)
    subject = Subject("tables", "statistics", taken.pin.full_name)
    forged = TableSet(
        replace(taken.pin, document=place.backup.store("forged", canonical(document), taken.pin.document.subject)),
        (*taken.files, place.backup.store("objects/forged", b"evil", subject, source=source)),
    )
    place.table.delete()
    before = place.pointer
    for act in (place.restorer.plan, partial(place.restorer.restore, overwrite=True)):
        with pytest.raises(IntegrityError, match=f"lies outside of table bucket {gold}"):
            act(forged)
    assert place.pointer == before
    assert Objects(place.settings).find(f"s3://{place.settings.bucket('gold')}/victim") is None


@pytest.mark.parametrize("restore_as", ["", "copy"])
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_a_set_that_lacks_a_file_is_refused_before_any_write(place: Place, kind: str, restore_as: str) -> None:
    taken = place.take()
    place.table.delete()
    files = [each for each in taken.files if each.subject.kind == kind]
    lacking = replace(taken, files=tuple(each for each in taken.files if each != files[0]))
    before = place.pointer
    with pytest.raises(IntegrityError, match=rf"cannot restore gold\.{place.name}: the set lacks s3://"):
        place.restorer.restore(lacking, restore_as=restore_as and f"{place.name}_copy", overwrite=True)
    assert place.pointer == before
