# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan of a restore of tables and raw objects: writes, replacements and unchanged objects. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from crypto_lakehouse.backup.errors import RefusedError
from crypto_lakehouse.backup.lake.document import Document, current_snapshot_id, is_empty, is_same, is_unfinished_proof
from crypto_lakehouse.backup.model import Artifact

Action = Literal["write", "replace", "leave"]

OVERWRITE: Literal["lakehouse_restore_overwrite"] = "lakehouse_restore_overwrite"


@dataclass(frozen=True, slots=True)
class Change:
    """Change of one table of the catalog or one object of the store.

    name: `TIER.NAME`, or the object's address. size: bytes that are written. reason: a sentence without a full stop.
    """

    action: Action
    kind: Literal["table", "object"]
    name: str
    size: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes of a restore, in the order in which they are made."""

    changes: tuple[Change, ...]

    def of(self, *actions: Action) -> tuple[Change, ...]:
        """Return the changes with one of these actions."""
        return tuple(change for change in self.changes if change.action in actions)

    @property
    def size(self) -> int:
        """Bytes that are written."""
        return sum(change.size for change in self.of("write", "replace"))

    @property
    def needs_overwrite(self) -> bool:
        """Whether something that exists would be replaced."""
        return bool(self.of("replace"))

    @property
    def is_target_empty(self) -> bool:
        """Whether nothing of the set exists at the target."""
        return not self.of("replace", "leave")

    def require(self, overwrite: bool) -> None:
        """Compare the plan with the permissions of the run.

        Raises:
            RefusedError: naming the first object or table that would be replaced, where overwriting was not allowed.
        """
        replaced = self.of("replace")
        if replaced and not overwrite:
            others = f", like {len(replaced) - 1} others" if len(replaced) > 1 else ""
            raise RefusedError(
                f"cannot restore {replaced[0].name}: {replaced[0].reason}{others}",
                f"Set `{OVERWRITE}: true` to replace what exists.",
            )

    def __add__(self, other: Plan) -> Plan:
        return Plan(self.changes + other.changes)


@dataclass(frozen=True, slots=True)
class Present:
    """An object that exists at the target. sha256: empty where it was not read."""

    size: int
    etag: str = ""
    sha256: str = ""


def plan_object(uri: str, artifact: Artifact, present: Present | None) -> Change:
    """Return the change of one object: an equal one is left alone, another one of its name replaced."""
    if present is None:
        return Change("write", "object", uri, artifact.size, "it is missing")
    if is_equal(artifact, present):
        return Change("leave", "object", uri, reason="it is unchanged")
    return Change("replace", "object", uri, artifact.size, "an object of that name has other content")


def is_equal(artifact: Artifact, present: Present) -> bool:
    """Return whether an object has the content of an artifact, by size, and ETag or SHA-256."""
    same_etag = bool(artifact.source and present.etag and artifact.source.etag == present.etag)
    return artifact.size == present.size and (same_etag or artifact.sha256 == present.sha256)


def must_read(artifact: Artifact, present: Present | None) -> bool:
    """Return whether only its content tells whether an object is that of an artifact.

    The ETag of an object that was uploaded in parts differs from that of its copy.
    """
    return present is not None and present.size == artifact.size and not is_equal(artifact, present)


def plan_objects(wanted: Mapping[str, Artifact], present: Mapping[str, Present | None]) -> Plan:
    """Return the changes of objects. wanted: artifacts by address."""
    return Plan(tuple(plan_object(uri, artifact, present.get(uri)) for uri, artifact in wanted.items()))


def plan_table(name: str, pinned: Document, present: Document | None, size: int) -> Plan:
    """Return the change of a table of the catalog.

    present: its metadata document, None where there is no such table. size: bytes of the document that is written.
    """
    if present is None:
        return Plan((Change("write", "table", name, size, "the catalog has no such table"),))
    if is_same(pinned, present):
        return Plan((Change("leave", "table", name, reason="it is in the state of the set"),))
    if is_empty(present):
        return Plan((Change("write", "table", name, size, "the table is empty"),))
    if is_unfinished_proof(present, pinned):
        return Plan((Change("write", "table", name, size, "an interrupted restore left a branch"),))
    return Plan((Change("replace", "table", name, size, _difference(pinned, present)),))


def _difference(pinned: Document, present: Document) -> str:
    if pinned["table-uuid"] != present["table-uuid"]:
        return f"another table of that name exists, with UUID {present['table-uuid']}"
    is_at, was_at = current_snapshot_id(present), current_snapshot_id(pinned)
    if is_at != was_at:
        return f"the table is at snapshot {is_at or 'none'}, the set at {was_at or 'none'}"
    return "the table has the same snapshot and another schema, property or history"


def plan_raw(bucket: str, artifacts: Iterable[Artifact], newest: Mapping[str, Present | None]) -> Plan:
    """Return the changes of raw objects. newest: the newest version by key, without deleted keys."""
    wanted = {artifact.source.key: artifact for artifact in artifacts if artifact.source}
    changes = [plan_object(f"s3://{bucket}/{key}", artifact, newest.get(key)) for key, artifact in wanted.items()]
    others = [key for key in newest if key not in wanted]
    left = [Change("leave", "object", f"s3://{bucket}/{key}", reason="the set does not hold it") for key in others]
    return Plan((*changes, *left))
