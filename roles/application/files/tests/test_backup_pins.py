# SPDX-License-Identifier: GPL-3.0-or-later
"""A pin is the complete state of a table at one time: its document, and every file that a snapshot references."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa
import pytest
import services
from delete_files import delete_positions
from glue_server import glue_server
from hypothesis import given
from hypothesis import settings as settings_of_property
from hypothesis import strategies as st

from crypto_lakehouse.backup.errors import IntegrityError, RefusedError, SourceChangedError
from crypto_lakehouse.backup.lake import avro, document
from crypto_lakehouse.backup.lake.catalogs import Entry, S3TablesCatalogs
from crypto_lakehouse.backup.lake.files import count_rows, table_files
from crypto_lakehouse.backup.lake.pins import PinnedTable, omitted_tables, pin_and_copy, pin_raw, pin_tables
from crypto_lakehouse.backup.lake.store import Objects
from crypto_lakehouse.backup.model import Artifact, Source
from crypto_lakehouse.backup.mover import Item
from crypto_lakehouse.backup.reader import open_reader
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings

ROWS = pa.table({"id": pa.array(range(10), pa.int64()), "day": pa.array([date(2024, 5, 1)] * 10)})


@pytest.fixture
def settings(object_store: services.ObjectStore) -> Settings:
    return services.settings_from(object_store.environment("admin"))


@dataclass(frozen=True)
class SampleTable:
    """A gold table of two appends and a position delete, partitioned by day."""

    name: str
    settings: Settings

    @property
    def table(self) -> Any:
        return open_catalog(self.settings, "gold").load_table(f"gold.{self.name}")

    def pin(self, *, only_current: bool = False) -> PinnedTable:
        (found,) = pin_tables(self.settings, ("gold",), only_current, [f"gold.{self.name}"])
        return found


@pytest.fixture
def sample(settings: Settings) -> SampleTable:
    return make_table(settings, f"t{uuid4().hex[:12]}")


def make_table(settings: Settings, name: str) -> SampleTable:
    catalog = open_catalog(settings, "gold")
    catalog.create_namespace_if_not_exists("gold")
    table = catalog.create_table(f"gold.{name}", schema=ROWS.schema)
    with table.update_spec() as update:
        update.add_identity("day")
    table.append(ROWS)
    table.append(ROWS.slice(0, 4))
    return SampleTable(name, settings)


def paths(items: Sequence[Item]) -> dict[str, str]:
    return {item.source.uri: item.subject.kind for item in items}


def objects_below(settings: Settings, location: str) -> set[str]:
    where = urlsplit(location)
    pages = (
        s3_client(settings).get_paginator("list_objects_v2").paginate(Bucket=where.netloc, Prefix=where.path[1:] + "/")
    )
    return {f"s3://{where.netloc}/{each['Key']}" for page in pages for each in page.get("Contents", [])}


def test_a_pin_is_the_document_at_the_metadata_location(sample: SampleTable) -> None:
    pin, table = sample.pin(), sample.table
    assert pin.metadata_location == table.metadata_location
    assert pin.content == Objects(sample.settings).content(table.metadata_location)
    assert pin.sha256 == hashlib.sha256(pin.content).hexdigest()
    assert pin.snapshot_ids == tuple(each.snapshot_id for each in table.snapshots())
    assert (pin.current_snapshot_id, pin.rows, pin.trimmed) == (table.current_snapshot().snapshot_id, 14, False)
    assert pin.warnings == ()
    recorded = pin.table_pin(Artifact("sets/x/tables/gold/t/metadata.json", 1, "0" * 64, pin.subject))
    assert (recorded.full_name, recorded.uuid) == (f"gold.{sample.name}", str(table.metadata.table_uuid))


def test_every_file_of_all_snapshots_is_named_once_and_nothing_else(sample: SampleTable) -> None:
    sample.table.overwrite(ROWS.slice(0, 1))
    pin = sample.pin()
    s3_client(sample.settings).put_object(
        Bucket=urlsplit(pin.metadata_location).netloc, Key=f"gold/{sample.name}/data/orphan.parquet", Body=b"x"
    )
    items = pin.items(Objects(sample.settings))
    found = paths(items)
    assert len(found) == len(items)
    location = str(pin.document["location"])
    rest = {path for path in objects_below(sample.settings, location) - set(found) if "metadata.json" not in path}
    assert rest == {f"{location}/data/orphan.parquet"}
    # Two appends and the append of the overwrite, whose delete wrote its own manifests and list.
    assert Counter(found.values())["data"] == 3
    assert Counter(found.values())["manifest-list"] == len(pin.snapshot_ids) == 4


def test_an_item_names_table_snapshot_and_partition(sample: SampleTable) -> None:
    pin = sample.pin()
    subjects = [item.subject for item in pin.items(Objects(sample.settings)) if item.subject.kind == "data"]
    assert [subject.snapshot_id for subject in subjects] == list(pin.snapshot_ids)
    assert {(subject.table, subject.partition) for subject in subjects} == {(f"gold.{sample.name}", "day=2024-05-01")}


def test_delete_files_belong_to_the_table(settings: Settings) -> None:
    name = f"t{uuid4().hex[:12]}"
    table = open_catalog(settings, "gold").create_table(f"gold.{name}", schema=ROWS.schema)
    table.append(ROWS)
    delete_positions(table, [1, 2])
    sample = SampleTable(name, settings)
    files = list(table_files(sample.pin().document, Objects(settings).content))
    assert [file.kind for file in files].count("delete") == 1
    assert [file.has_paths for file in files if file.kind in ("data", "delete")] == [False, True]


def test_the_current_snapshot_alone_is_a_complete_smaller_table(sample: SampleTable) -> None:
    sample.table.manage_snapshots().create_tag(sample.pin().snapshot_ids[0], "first").commit()
    sample.table.overwrite(ROWS.slice(0, 2))
    full, trimmed = sample.pin(), sample.pin(only_current=True)
    assert (full.trimmed, trimmed.trimmed) == (False, True)
    assert trimmed.snapshot_ids == (full.current_snapshot_id,)
    for name in ("snapshot-log", "snapshots"):
        assert [each["snapshot-id"] for each in trimmed.document[name]] == [full.current_snapshot_id]
    assert set(full.document["refs"]) == {"main", "first"}
    assert set(trimmed.document["refs"]) == {"main"}
    assert trimmed.document["metadata-log"] == []
    assert trimmed.rows == full.rows == 2
    smaller, larger = paths(trimmed.items(Objects(sample.settings))), paths(full.items(Objects(sample.settings)))
    assert set(smaller) < set(larger)
    assert [kind for kind in smaller.values() if kind == "data"] == ["data"]
    assert full.table_pin(Artifact("k", 1, "0" * 64, full.subject)).trimmed is False


def test_statistics_are_kept_with_their_snapshot() -> None:
    entry = {"statistics-path": "s3://b/t/metadata/s.puffin", "file-size-in-bytes": 3}
    full = {
        "format-version": 2,
        "location": "s3://b/t",
        "current-snapshot-id": 2,
        "snapshots": [{"snapshot-id": 1, "manifests": []}, {"snapshot-id": 2, "manifests": []}],
        "statistics": [
            {**entry, "snapshot-id": 1},
            {**entry, "snapshot-id": 2, "statistics-path": "s3://b/t/2.puffin"},
        ],
    }
    trimmed = document.trim(full)
    assert [each["snapshot-id"] for each in trimmed["statistics"]] == [2]
    assert [file.kind for file in table_files(full, lambda _path: b"")] == ["statistics"] * 2
    assert document.is_trimmed(full, trimmed)
    moved = document.move(full, "s3://b/u", "new", lambda path: path.replace("/t/", "/u/"))
    assert [each["statistics-path"] for each in moved["statistics"]] == [
        "s3://b/u/metadata/s.puffin",
        "s3://b/u/2.puffin",
    ]


def test_a_table_without_a_snapshot_is_pinned(settings: Settings) -> None:
    name = f"t{uuid4().hex[:12]}"
    open_catalog(settings, "gold").create_table(f"gold.{name}", schema=ROWS.schema)
    for only_current in (False, True):
        pin = SampleTable(name, settings).pin(only_current=only_current)
        assert (pin.snapshot_ids, pin.current_snapshot_id, pin.rows, pin.trimmed) == ((), None, 0, False)
        assert pin.items(Objects(settings)) == []


def test_tables_of_every_namespace_are_pinned_gold_first(settings: Settings) -> None:
    mine = f"team{uuid4().hex[:8]}"
    for tier, namespace in (("silver", mine), ("gold", mine), ("bronze", "bronze")):
        catalog = open_catalog(settings, tier)  # type: ignore[arg-type]
        catalog.create_namespace_if_not_exists(namespace)
        catalog.create_table(f"{namespace}.{mine}", schema=ROWS.schema)
    found = [pin.full_name for pin in pin_tables(settings) if mine in pin.full_name]
    assert found == [f"gold.{mine}.{mine}", f"silver.{mine}.{mine}", f"bronze.{mine}"]
    assert [pin.full_name for pin in pin_tables(settings, ("silver",)) if mine in pin.full_name] == found[1:2]


def test_a_table_that_is_not_of_iceberg_is_named_as_left_out(settings: Settings) -> None:
    bucket = f"tables-{uuid4().hex[:12]}"
    own = settings.model_copy(update={"gold_warehouse": f"s3://{bucket}"})
    catalogs = S3TablesCatalogs(own)
    catalogs.call("CreateTableBucket", {"name": bucket, "format": "LANCE"})
    catalogs.create_namespace(Entry("gold", "vectors"))
    catalogs.call("CreateTable", {**catalogs.identity(Entry("gold", "vectors")), "format": "LANCE"})
    assert pin_tables(own, ("gold",)) == []
    assert omitted_tables(own) == {"gold.vectors": "its format is LANCE"}


def test_a_table_that_does_not_exist_is_refused_by_name(settings: Settings) -> None:
    with pytest.raises(RefusedError, match=r"cannot back up gold\.nothing: the catalog holds no such table"):
        pin_tables(settings, only=["gold.nothing"])


def test_rows_are_counted_where_the_summary_is_silent(sample: SampleTable) -> None:
    pin = sample.pin()
    assert pin.current_snapshot_id is not None
    assert count_rows(pin.document, pin.current_snapshot_id, Objects(sample.settings).content) == 14
    silent = {**pin.document, "snapshots": [{**each, "summary": {}} for each in pin.document["snapshots"]]}
    assert document.rows(silent) is None


def test_a_lost_metadata_file_does_not_lose_the_table(sample: SampleTable) -> None:
    """A commit of SeaweedFS that loses a race deletes the file of the same name that the winner wrote."""
    expected = sample.pin()
    Objects(sample.settings).delete(expected.metadata_location)
    pin = sample.pin()
    assert pin.document == expected.document
    assert "differs from the document in the catalog" in pin.warnings[0]
    Objects(sample.settings).write(
        expected.metadata_location, expected.content.replace(b'"last-updated-ms":1', b'"last-updated-ms":2')
    )
    assert sample.pin().document == expected.document


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b"not json",
        b'{"format-version":4,"location":"x"}',
        b"\x1f\x8bx",
        gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 20,
    ],
)
def test_a_document_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"cannot read s3://b/m\.json"):
        document.parse(content, "s3://b/m.json")


def test_a_compressed_document_is_read() -> None:
    assert document.parse(gzip.compress(b'{"format-version":2,"location":"s3://b/t"}'), "x")["location"] == "s3://b/t"


def test_glue_tables_are_pinned_by_their_metadata_file(object_store: services.ObjectStore) -> None:
    with glue_server() as glue:
        environment = {
            **object_store.environment("admin"),
            "LAKEHOUSE_CATALOG_TYPE": "glue",
            "LAKEHOUSE_CATALOG_URI": glue.url,
            "LAKEHOUSE_CATALOG_NAMESPACE_PREFIX": "lake_pins_",
        }
        for tier in ("bronze", "silver", "gold"):
            name = f"LAKEHOUSE_{tier.upper()}_WAREHOUSE"
            environment[name] = f"s3://{environment[f'LAKEHOUSE_{tier.upper()}_BUCKET']}/warehouse-{uuid4().hex[:8]}"
        settings = services.settings_from(environment)
        for tier in ("bronze", "silver", "gold"):
            open_catalog(settings, tier).create_namespace(f"lake_pins_{tier}")  # type: ignore[arg-type]
        table = open_catalog(settings, "gold").create_table("lake_pins_gold.t", schema=ROWS.schema)
        table.append(ROWS)
        glue.tables["lake_pins_silver", "plain"] = {"Name": "plain", "DatabaseName": "lake_pins_silver"}
        (pin,) = pin_tables(settings)
        assert (pin.full_name, pin.rows, pin.warnings) == ("gold.t", 10, ())
        assert Counter(paths(pin.items(Objects(settings))).values()) == {"manifest-list": 1, "manifest": 1, "data": 1}
        assert omitted_tables(settings) == {"silver.plain": "it is not an Iceberg table"}
        Objects(settings).delete(pin.metadata_location)
        with pytest.raises(SourceChangedError, match=r"cannot read gold\.t: s3://.*metadata\.json vanished"):
            pin_tables(settings)


@pytest.mark.parametrize("damage", ["deleted", "replaced", "truncated"])
def test_a_source_that_changed_is_named(sample: SampleTable, damage: str) -> None:
    objects = Objects(sample.settings)
    items = sample.pin().items(objects)
    source = next(item.source for item in items if item.subject.kind == "data")
    assert hashlib.sha256(b"".join(open_reader(sample.settings)(source))).hexdigest() == objects.sha256(source.uri)
    if damage == "deleted":
        objects.delete(source.uri)
    elif damage == "replaced":
        objects.write(source.uri, b"x" * source.size)
    else:
        source = replace(source, size=source.size + 1)
    with pytest.raises(SourceChangedError, match=f"cannot copy {source.uri}: it ") as raised:
        list(open_reader(sample.settings)(source))
    assert raised.value.source == source


def test_a_version_is_read_though_newer_ones_exist(settings: Settings, versioned: str) -> None:
    client = s3_client(settings)
    version = client.put_object(Bucket=versioned, Key="raw/x", Body=b"first")["VersionId"]
    client.put_object(Bucket=versioned, Key="raw/x", Body=b"second, longer")
    assert b"".join(open_reader(settings)(Source(versioned, "raw/x", 5, "", version))) == b"first"
    with pytest.raises(SourceChangedError, match=r"cannot copy s3://.*/raw/x: it changed or was deleted"):
        list(open_reader(settings)(Source(versioned, "raw/x", 5, "", "0" * 32)))


@pytest.fixture
def versioned(settings: Settings) -> str:
    name = f"raw-{uuid4().hex[:12]}"
    client = s3_client(settings)
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="raw/before", Body=b"before versioning")
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def test_raw_objects_are_the_newest_versions_without_deleted_ones(settings: Settings, versioned: str) -> None:
    client = s3_client(settings)
    for key, body in (("raw/a", b"1"), ("raw/a", b"22"), ("raw/gone", b"3"), ("other/b", b"4")):
        client.put_object(Bucket=versioned, Key=key, Body=body)
    client.delete_object(Bucket=versioned, Key="raw/gone")
    pinned = pin_raw(settings.model_copy(update={"bronze_bucket": versioned}))
    client.put_object(Bucket=versioned, Key="raw/a", Body=b"later")
    read = open_reader(settings)
    assert {item.source.key: b"".join(read(item.source)) for item in pinned.items} == {
        "raw/a": b"22",
        "raw/before": b"before versioning",
    }
    assert (pinned.raw_pin.objects, pinned.raw_pin.size, pinned.raw_pin.bucket) == (2, 19, versioned)
    assert [bool(source.version_id) for source in pinned.sources] == [True, False]


def test_raw_objects_of_a_bucket_without_versions_are_known_by_etag(settings: Settings) -> None:
    name = f"raw-{uuid4().hex[:12]}"
    client = s3_client(settings)
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="raw/a", Body=b"1")
    (source,) = pin_raw(settings.model_copy(update={"bronze_bucket": name})).sources
    assert source == Source(name, "raw/a", 1, hashlib.md5(b"1", usedforsecurity=False).hexdigest())
    client.put_object(Bucket=name, Key="raw/a", Body=b"2")
    with pytest.raises(SourceChangedError):
        list(open_reader(settings)(source))


class Copier:
    """Copies nothing and records its arguments; loses a table's files before the copy on request."""

    def __init__(self, settings: Settings, lose: str, times: int) -> None:
        self.objects = Objects(settings)
        self.lose, self.times = lose, times
        self.copied: list[str] = []

    def __call__(self, items: Sequence[Item]) -> list[Artifact]:
        items = list(items)
        name = items[0].subject.table if items else "nothing"
        if name == self.lose and self.times:
            self.times -= 1
            raise SourceChangedError(f"cannot read {items[0].source.uri}: it vanished", source=items[0].source)
        self.copied.append(name)
        return [Artifact(f"objects/{item.source.identity}", 1, "0" * 64, item.subject) for item in items]


@pytest.fixture
def one_table_a_tier(settings: Settings) -> list[str]:
    name = f"t{uuid4().hex[:12]}"
    for tier in ("gold", "silver", "bronze"):
        catalog = open_catalog(settings, tier)
        catalog.create_namespace_if_not_exists(tier)
        catalog.create_table(f"{tier}.{name}", schema=ROWS.schema).append(ROWS)
    return [f"{tier}.{name}" for tier in ("gold", "silver", "bronze")]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_vanished_file_pins_its_table_and_everything_upstream_again(
    settings: Settings, one_table_a_tier: list[str], place: int
) -> None:
    copier = Copier(settings, one_table_a_tier[place], 2)
    copied = pin_and_copy(settings, copier, only=one_table_a_tier)
    again = [*one_table_a_tier[place:], "raw"]
    assert list(copied.repinned) == again * 2
    assert [table.pin.full_name for table in copied.tables] == one_table_a_tier
    assert copier.copied[:3] == one_table_a_tier
    assert all(len(table.files) == 3 for table in copied.tables)


def test_files_that_keep_vanishing_fail_the_set(settings: Settings, one_table_a_tier: list[str]) -> None:
    with pytest.raises(SourceChangedError, match=r"it vanished, after 3 attempts\. Stop what deletes files"):
        pin_and_copy(settings, Copier(settings, one_table_a_tier[1], 3), only=one_table_a_tier)


def test_a_table_that_is_dropped_meanwhile_is_left_out(settings: Settings, one_table_a_tier: list[str]) -> None:
    class Dropping(Copier):
        def __call__(self, items: Sequence[Item]) -> list[Artifact]:
            found = list(items)
            if found and found[0].subject.table == self.lose and self.times:
                open_catalog(settings, "silver").drop_table(self.lose)
            return super().__call__(found)

    copied = pin_and_copy(settings, Dropping(settings, one_table_a_tier[1], 1), only=one_table_a_tier)
    assert [table.pin.full_name for table in copied.tables] == [one_table_a_tier[0], one_table_a_tier[2]]


SCHEMA = {
    "type": "record",
    "name": "entry",
    "fields": [
        {"name": "text", "type": ["null", "string"]},
        {"name": "number", "type": "long"},
        {"name": "flag", "type": "boolean"},
        {"name": "real", "type": "double"},
        {"name": "half", "type": ["null", "float"]},
        {"name": "raw", "type": "bytes"},
        {"name": "fixed", "type": {"type": "fixed", "name": "f4", "size": 4}},
        {"name": "again", "type": ["null", "f4"]},
        {"name": "list", "type": {"type": "array", "items": "int"}},
        {"name": "map", "type": {"type": "map", "values": "string"}},
    ],
}
RECORDS = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(),
        "number": st.integers(-(2**63), 2**63 - 1),
        "flag": st.booleans(),
        "real": st.floats(allow_nan=False),
        "half": st.none() | st.floats(width=32, allow_nan=False),
        "raw": st.binary(),
        "fixed": st.binary(min_size=4, max_size=4),
        "again": st.none() | st.binary(min_size=4, max_size=4),
        "list": st.lists(st.integers(-(2**31), 2**31 - 1)),
        "map": st.dictionaries(st.text(), st.text()),
    }
)


@settings_of_property(max_examples=10)
@given(st.lists(RECORDS, max_size=3))
def test_what_is_written_as_avro_is_read_back(records: list[dict[str, Any]]) -> None:
    file = avro.AvroFile({"avro.schema": json.dumps(SCHEMA).encode(), "kept": b"as it is"}, records)
    content = avro.encode(file)
    found = avro.decode(content, "x")
    assert (found.records, found.text("kept")) == (records, "as it is")
    assert avro.encode(found) == content


@settings_of_property(max_examples=20)
@given(st.data())
def test_a_damaged_avro_file_is_an_integrity_error_or_read(data: st.DataObject) -> None:
    file = avro.AvroFile({"avro.schema": json.dumps(SCHEMA["fields"][1]).encode()}, [])
    content = bytearray(avro.encode(file))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(IntegrityError):
        avro.decode(bytes(content[: data.draw(st.integers(0, len(content)))]), "s3://b/m.avro")


def packed(codec: str) -> bytes:
    """Return an Avro file of the numbers from 0 to 63, compressed according to the specification."""
    plain = bytes(range(0, 128, 2))
    deflated = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    block = {
        "null": plain,
        "deflate": deflated.compress(plain) + deflated.flush(),
        "snappy": bytes(pa.compress(plain, codec="snappy", asbytes=True)) + b"\0" * 4,
        "zstandard": bytes(pa.compress(plain, codec="zstd", asbytes=True)),
    }[codec]
    output, sync = bytearray(avro.MAGIC), b"s" * avro.SYNC_BYTES
    avro._write_long(output, 2)
    for word in (b"avro.schema", b'"long"', b"avro.codec", codec.encode()):
        avro._write_bytes(output, word)
    output += b"\0" + sync
    avro._write_long(output, len(plain))
    avro._write_bytes(output, block)
    return bytes(output + sync)


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
def test_each_damaged_byte_of_a_compressed_file_is_an_integrity_error_or_read(codec: str) -> None:
    content = packed(codec)
    assert avro.decode(content, "x").records == list(range(64))  # type: ignore[comparison-overlap]
    for at, bit in itertools.product(range(len(content)), (1, 0x80)):
        with suppress(IntegrityError):
            avro.decode(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :], "s3://b/m.avro")
        with suppress(IntegrityError):
            avro.decode(content[:at], "s3://b/m.avro")


def test_a_rewritten_manifest_is_read_by_pyiceberg_as_before(sample: SampleTable) -> None:
    objects, table = Objects(sample.settings), sample.table
    (manifest, *_others) = table.current_snapshot().manifests(table.io)

    def entries() -> list[tuple[Any, ...]]:
        files = [entry.data_file for entry in manifest.fetch_manifest_entry(table.io)]
        return [(file.file_path, file.record_count, file.partition, dict(file.column_sizes)) for file in files]

    before = entries()
    path = f"{table.location()}/metadata/{uuid4()}-m0.avro"
    objects.write(path, avro.encode(avro.decode(objects.content(manifest.manifest_path), "x")))
    manifest._data[0] = path
    assert entries() == before
