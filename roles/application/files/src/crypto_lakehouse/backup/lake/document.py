# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata documents of Iceberg tables: references, reduction to one snapshot, and relocation. Pure functions.

Source: Iceberg table specification, "Table Metadata Fields", versions 1 to 3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from crypto_lakehouse.backup.errors import IntegrityError

Document = Mapping[str, Any]

NONE: Final = -1
"""Snapshot id that older writers use for "no snapshot"."""

PROOF_BRANCH: Final = "restore-proof"
"""Beginning of the name of a branch that a restore appends to and removes again."""

PATH_PROPERTIES: Final = (
    "write.data.path",
    "write.metadata.path",
    "write.object-storage.path",
    "write.folder-storage.path",
)


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Return the document of its bytes.

    Raises:
        IntegrityError: where it is not a metadata document of format version 1 to 3.
    """
    import gzip
    import zlib

    try:
        plain = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        document = json.loads(plain)
        version, _location = document["format-version"], document["location"]
    except (ValueError, KeyError, TypeError, EOFError, OSError, RecursionError, zlib.error):
        raise IntegrityError(f"cannot read {name}: it is not a metadata document of Iceberg") from None
    if version not in (1, 2, 3):
        raise IntegrityError(
            f"cannot read {name}: format version {version} is not supported", "Use a release that supports it."
        )
    return dict(document)


def snapshots(document: Document) -> list[dict[str, Any]]:
    """Return the snapshots from the oldest to the newest."""
    return sorted(
        document.get("snapshots") or [], key=lambda each: (each.get("sequence-number", 0), each.get("timestamp-ms", 0))
    )


def current_snapshot_id(document: Document) -> int | None:
    """Return the id of the current snapshot, None for a table without one."""
    current = document.get("current-snapshot-id")
    return None if current in (None, NONE) else int(str(current))


def rows(document: Document) -> int | None:
    """Return the records in data files of the current snapshot, None where its summary does not contain them."""
    current = current_snapshot_id(document)
    if current is None:
        return 0
    for snapshot in snapshots(document):
        if snapshot["snapshot-id"] == current:
            total = str((snapshot.get("summary") or {}).get("total-records", ""))
            return int(total) if total.isdecimal() else None
    raise IntegrityError(f"cannot read the metadata of {document['location']}: snapshot {current} is missing")


def statistics(document: Document) -> list[tuple[str, int]]:
    """Return path and snapshot id of each statistics file."""
    entries = [*(document.get("statistics") or []), *(document.get("partition-statistics") or [])]
    return [(str(entry["statistics-path"]), int(entry["snapshot-id"])) for entry in entries]


def without_history(document: Document) -> dict[str, Any]:
    """Return the document without its log of earlier documents, which a backup set does not hold."""
    return {**document, "metadata-log": []}


def is_same(first: Document, second: Document) -> bool:
    """Return whether two documents describe the same state of a table, independent of its history."""
    return without_history(first) == without_history(second)


def is_empty(document: Document) -> bool:
    """Return whether a table has never held a row, such as one that a deployment has just created."""
    return not snapshots(document)


def is_unfinished_proof(present: Document, wanted: Document) -> bool:
    """Return whether a table differs from the wanted one by nothing but the branch of an interrupted proof."""
    branches = {name: ref for name, ref in (present.get("refs") or {}).items() if name.startswith(PROOF_BRANCH)}
    added = {ref["snapshot-id"] for ref in branches.values()}
    if not branches:
        return False
    cleaned = {
        **present,
        "refs": {name: ref for name, ref in present["refs"].items() if name not in branches},
        "snapshots": [each for each in present["snapshots"] if each["snapshot-id"] not in added],
    }
    # The append counted these up.
    counters = ("last-sequence-number", "last-updated-ms", "next-row-id")
    return is_same({**cleaned, **{name: wanted[name] for name in counters if name in wanted}}, wanted)


def trim(document: Document) -> dict[str, Any]:
    """Return the document with its current snapshot alone.

    References (branches, tags) to other snapshots, their log entries and statistics are left out. The current snapshot
    keeps the id of its parent, as it does after an expiry.
    """
    current = current_snapshot_id(document)

    def kept(entry: Mapping[str, Any]) -> bool:
        return bool(entry["snapshot-id"] == current)

    trimmed = without_history(document)
    for name in ("snapshots", "snapshot-log", "statistics", "partition-statistics"):
        if name in trimmed:
            trimmed[name] = [entry for entry in trimmed[name] or [] if kept(entry)]
    if "refs" in trimmed:
        trimmed["refs"] = {name: ref for name, ref in (trimmed["refs"] or {}).items() if kept(ref)}
    return trimmed


def is_trimmed(document: Document, trimmed: Document) -> bool:
    """Return whether the second document lacks a snapshot of the first."""
    return len(snapshots(trimmed)) < len(snapshots(document))


def move(document: Document, location: str, uuid: str, new_path: Callable[[str], str]) -> dict[str, Any]:
    """Return the document of a copy of the table: another location and UUID, paths by `new_path`, no history."""
    moved = {**without_history(document), "location": location, "table-uuid": uuid}
    properties = dict(moved.get("properties") or {})
    moved["properties"] = {name: value for name, value in properties.items() if name not in PATH_PROPERTIES}
    moved["snapshots"] = [_move_snapshot(each, new_path) for each in moved.get("snapshots") or []]
    for name in ("statistics", "partition-statistics"):
        if moved.get(name):
            moved[name] = [{**each, "statistics-path": new_path(each["statistics-path"])} for each in moved[name]]
    return moved


def _move_snapshot(snapshot: Mapping[str, Any], new_path: Callable[[str], str]) -> dict[str, Any]:
    if "manifest-list" in snapshot:
        return {**snapshot, "manifest-list": new_path(snapshot["manifest-list"])}
    return {**snapshot, "manifests": [new_path(path) for path in snapshot.get("manifests") or []]}
