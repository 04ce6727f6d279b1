# SPDX-License-Identifier: GPL-3.0-or-later
"""Position delete files, which pyiceberg reads but does not write."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record

# Field identifiers that the specification of Iceberg reserves.
POSITION_DELETE = pa.schema(
    [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
)


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _AddDeleteFile(_FastAppendFiles):
    delete_file: DataFile

    def _existing_manifests(self) -> list[ManifestFile]:
        metadata = self._transaction.table_metadata
        path = f"{metadata.location}/metadata/{uuid4()}-deletes.avro"
        writer = _DeleteManifestWriter(
            metadata.spec(), metadata.schema(), self._io.new_output(path), self._snapshot_id, self._compression
        )
        with writer:
            writer.add(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=self._snapshot_id,
                    sequence_number=None,
                    file_sequence_number=None,
                    data_file=self.delete_file,
                )
            )
        return [*super()._existing_manifests(), writer.to_manifest_file()]


def delete_positions(table: Table, positions: Sequence[int]) -> None:
    """Commit a delete file for rows of the table's only data file."""
    (task,) = table.scan().plan_files()
    content = pa.table(
        {"file_path": [task.file.file_path] * len(positions), "pos": list(positions)}, schema=POSITION_DELETE
    )
    path = f"{table.location()}/data/{uuid4()}-deletes.parquet"
    with table.io.new_output(path).create() as stream:
        pq.write_table(content, stream)
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(positions),
        file_size_in_bytes=len(table.io.new_input(path)),
    )
    file.spec_id = table.spec().spec_id
    transaction = Transaction(table)
    producer = _AddDeleteFile(Operation.DELETE, transaction, table.io)
    producer.delete_file = file
    producer.commit()
    transaction.commit_transaction()
