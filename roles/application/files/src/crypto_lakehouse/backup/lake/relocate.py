# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a table under another location: manifests, manifest lists and document with rewritten paths.

Iceberg stores absolute paths. A manifest list also records the length of each manifest, and readers skip files where it
is wrong (apache/iceberg#13719), so manifests are rewritten before lists. Position deletes hold paths in their content
and are refused by name (apache/iceberg#11645).
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crypto_lakehouse.backup.errors import RefusedError
from crypto_lakehouse.backup.lake import avro
from crypto_lakehouse.backup.lake.document import Document, move, snapshots
from crypto_lakehouse.backup.lake.files import DELETED, POSITION_DELETES

Read = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Moved:
    """A table under its new location.

    manifests, lists: content by new path. document: metadata document.
    """

    manifests: dict[str, bytes]
    lists: dict[str, bytes]
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mapping:
    """New paths of a table's files: those below the old location keep their place below the new one."""

    old: str
    new: str

    def __call__(self, path: str) -> str:
        """Return the new path of a file."""
        base = f"{self.old.rstrip('/')}/"
        if path.startswith(base):
            return f"{self.new}/{path.removeprefix(base)}"
        folder = "metadata" if path.endswith((".avro", ".puffin", ".stats")) and "/metadata/" in path else "data"
        digest = hashlib.sha256(path.encode()).hexdigest()[:8]
        return f"{self.new}/{folder}/{digest}-{posixpath.basename(path)}"


def relocate(document: Document, location: str, uuid: str, read: Read, name: str) -> Moved:
    """Return a table's manifests, lists and document for another location.

    read: returns a file of the table by its old path. name: what errors call the table.

    Raises:
        RefusedError: where the table has position deletes or deletion vectors, naming the first.
        IntegrityError: where a manifest or list is damaged.
    """
    new_path = Mapping(str(document["location"]), location)
    manifests: dict[str, bytes] = {}
    lists: dict[str, bytes] = {}

    def moved(path: str) -> bytes:
        target = new_path(path)
        if target not in manifests:
            manifests[target] = _manifest(path, read, new_path, name)
        return manifests[target]

    for snapshot in snapshots(document):
        path = snapshot.get("manifest-list")
        if path:
            lists[new_path(path)] = _manifest_list(path, read, new_path, moved)
        for manifest in () if path else snapshot.get("manifests") or ():
            moved(manifest)
    return Moved(manifests, lists, move(document, location, uuid, new_path))


def _manifest_list(path: str, read: Read, new_path: Mapping, moved: Callable[[str], bytes]) -> bytes:
    file = avro.decode(read(path), path)
    records = []
    for record in file.records:
        content = moved(record["manifest_path"])
        records.append({**record, "manifest_path": new_path(record["manifest_path"]), "manifest_length": len(content)})
    return avro.encode(avro.replace(file, records))


def _manifest(path: str, read: Read, new_path: Mapping, name: str) -> bytes:
    file = avro.decode(read(path), path)
    return avro.encode(avro.replace(file, [_entry(entry, new_path, name) for entry in file.records]))


def _entry(entry: dict[str, Any], new_path: Mapping, name: str) -> dict[str, Any]:
    data = entry["data_file"]
    if data.get("content") == POSITION_DELETES and entry["status"] != DELETED:
        raise RefusedError(
            f"cannot restore {name} under another name: {data['file_path']} deletes rows by the paths of data files",
            "Restore the table under its own name, or compact it before the next backup.",
        )
    changed = {"file_path": new_path(data["file_path"])}
    if data.get("referenced_data_file"):
        changed["referenced_data_file"] = new_path(data["referenced_data_file"])
    return {**entry, "data_file": {**data, **changed}}
