# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a table: every one that a snapshot of its metadata document refers to, read from its manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from crypto_lakehouse.backup.lake import avro
from crypto_lakehouse.backup.lake.document import Document, snapshots, statistics

Kind = Literal["data", "delete", "manifest", "manifest-list", "statistics"]

READERS: Final = 8
"""Manifests that are read at a time."""

DELETED: Final = 2
"""Status of a manifest's entry whose file no longer belongs to the table."""

POSITION_DELETES: Final = 1

Read = Callable[[str], bytes]
"""Returns the content of the file at a path."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file that a table refers to.

    snapshot_id: first snapshot that refers to it. partition: as Iceberg prints it. has_paths: whether the content names
    other files (position deletes and deletion vectors).
    """

    path: str
    kind: Kind
    snapshot_id: int | None = None
    partition: str = ""
    has_paths: bool = False


def table_files(document: Document, read: Read) -> Iterator[TableFile]:
    """Yield each file of all snapshots of the document once, those of the oldest snapshot first.

    Raises:
        IntegrityError: where a manifest list or manifest is damaged.
    """
    seen: set[str] = set()
    with ThreadPoolExecutor(READERS) as pool:
        for snapshot in snapshots(document):
            new = []
            for file in _lists(snapshot, read):
                if file.path not in seen:
                    seen.add(file.path)
                    new.append(file)
                    yield file
            manifests = [file for file in new if file.kind == "manifest"]
            for entries in pool.map(lambda manifest: list(_entries(manifest, read)), manifests):
                for entry in entries:
                    if entry.path not in seen:
                        seen.add(entry.path)
                        yield entry
    for path, snapshot_id in statistics(document):
        if path not in seen:
            seen.add(path)
            yield TableFile(path, "statistics", snapshot_id)


def _lists(snapshot: Mapping[str, Any], read: Read) -> list[TableFile]:
    """Return the manifest list of a snapshot and its manifests."""
    snapshot_id = int(snapshot["snapshot-id"])
    path = snapshot.get("manifest-list")
    if not path:
        # Format version 1 may name the manifests in the snapshot itself.
        return [TableFile(name, "manifest", snapshot_id) for name in snapshot.get("manifests") or []]
    records = avro.decode(read(path), path).records
    manifests = [TableFile(record["manifest_path"], "manifest", snapshot_id) for record in records]
    return [TableFile(path, "manifest-list", snapshot_id), *manifests]


def _entries(manifest: TableFile, read: Read) -> Iterator[TableFile]:
    """Yield the live files of a manifest."""
    file = avro.decode(read(manifest.path), manifest.path)
    describe = _partition_printer(file)
    for entry in file.records:
        if entry["status"] != DELETED:
            data = entry["data_file"]
            content = data.get("content") or 0
            partition = describe(data.get("partition") or {})
            kind: Kind = "delete" if content else "data"
            yield TableFile(
                data["file_path"], kind, manifest.snapshot_id, partition, has_paths=content == POSITION_DELETES
            )


def _partition_printer(file: avro.AvroFile) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that prints a partition of the manifest as Iceberg does, `name=value/name=value`."""
    spec, types = _partition_types(file.text("schema"), file.text("partition-spec"))

    def describe(partition: Mapping[str, Any]) -> str:
        return "/".join(
            f"{name}={spec[name].to_human_string(types[name], value) if name in types else value}"
            for name, value in partition.items()
        )

    return describe


@cache
def _partition_types(schema_json: str, spec_json: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return transform and type of each partition field; none where the manifest's header does not describe it."""
    from pyiceberg.partitioning import PartitionField
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    try:
        schema = Schema.model_validate_json(schema_json)
        fields = [PartitionField.model_validate(each) for each in json.loads(spec_json)]
        sources: list[tuple[PartitionField, NestedField]] = [
            (field, schema.find_field(field.source_id)) for field in fields
        ]
        types = {field.name: field.transform.result_type(source.field_type) for field, source in sources}
    except (ValueError, TypeError):
        return {}, {}
    return {field.name: field.transform for field in fields}, types


def count_rows(document: Document, snapshot_id: int, read: Read) -> int:
    """Return the records in data files of a snapshot, as its manifests count them."""
    (snapshot,) = (each for each in snapshots(document) if each["snapshot-id"] == snapshot_id)
    counted = 0
    for manifest in _lists(snapshot, read):
        if manifest.kind == "manifest":
            for entry in avro.decode(read(manifest.path), manifest.path).records:
                is_data = not (entry["data_file"].get("content") or 0)
                counted += entry["data_file"]["record_count"] if is_data and entry["status"] != DELETED else 0
    return counted
