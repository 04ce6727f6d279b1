# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of a backup set as data: manifest, pins and artifacts, with their JSON form.

Times are UTC in ISO 8601 with seconds and `Z`. Sizes are in bytes. SHA-256 digests are 64 lower-case hexadecimal
digits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from crypto_lakehouse.backup.errors import IntegrityError
from crypto_lakehouse.settings import Tier

FORMAT: Final = 1
"""Version of the documents; a reader rejects a newer one."""

Component = Literal["tables", "raw", "database", "configuration"]
COMPONENTS: Final[tuple[Component, ...]] = ("tables", "raw", "database", "configuration")

ARCHIVE_CLASSES: Final = ("GLACIER", "DEEP_ARCHIVE")

SET_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
STRICT: Final = ConfigDict(extra="forbid", strict=True)
"""Documents are foreign input, also with a matching digest: unknown fields and other types are rejected."""

_WITHOUT_MARKS: Final = str.maketrans("", "", "-:")

T = TypeVar("T")


def is_key(key: str) -> bool:
    """Return whether a key stays below the destination's root: no empty, `.` or `..` segment, no NUL or backslash."""
    segments = key.split("/")
    return bool(key) and not any(each in ("", ".", "..") for each in segments) and not re.search(r"[\x00-\x1f\\]", key)


def timestamp(moment: datetime) -> str:
    """Return the time in the format of the documents."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Return the time of a text in a document."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _checked_key(key: str) -> str:
    if not is_key(key):
        raise ValueError(f"malformed key {key!r}")
    return key


def _checked_moment(text: str) -> str:
    if timestamp(moment(text)) != text:
        raise ValueError(f"malformed time {text!r}")
    return text


Key = Annotated[str, AfterValidator(_checked_key)]
Time = Annotated[str, AfterValidator(_checked_moment)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SetId = Annotated[str, Field(pattern=rf"^{SET_ID.pattern}$")]
Size = Annotated[int, Field(ge=0)]


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class Source:
    """The object that an artifact is a copy of.

    version_id: version to read, where the bucket keeps versions. storage_class: as the store lists it, empty where it
    is the standard one. An object is unchanged when its identity is.
    """

    bucket: str
    key: str
    size: Size
    etag: str = ""
    version_id: str | None = None
    storage_class: str = ""

    @property
    def is_archived(self) -> bool:
        """Whether the object is in a class that must be restored before it can be read."""
        return self.storage_class in ARCHIVE_CLASSES

    @property
    def identity(self) -> str:
        """SHA-256 of bucket, key, version, size and ETag: the name of the copy at the destination."""
        parts = [self.bucket, self.key, self.version_id or "", str(self.size), "" if self.version_id else self.etag]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def uri(self) -> str:
        """`s3://BUCKET/KEY`."""
        return f"s3://{self.bucket}/{self.key}"


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class Subject:
    """Component, table and snapshot of an artifact, for reports.

    kind: `data`, `delete`, `manifest`, `manifest-list`, `statistics`, `metadata`, `raw`, `base`, `base-manifest`,
    `wal`, `secrets`, `configuration` or `inventory`. table: `TIER.NAME`; snapshot_id: first snapshot that refers to
    the file; partition: as Iceberg prints it.
    """

    component: Component
    kind: str
    table: str = ""
    snapshot_id: int | None = None
    partition: str = ""

    def __str__(self) -> str:
        """Return the text for a report: component, table, snapshot and partition, as far as they are known."""
        parts = [self.table or self.component, self.kind]
        parts += [f"snapshot {self.snapshot_id}"] if self.snapshot_id is not None else []
        return " ".join(parts + ([f"partition {self.partition}"] if self.partition else []))


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class Artifact:
    """One object of a set at the destination.

    key: relative to the destination's root. version_id: version to read; None where the destination keeps none.
    retained_until: end of its protection against deletion; None where there is none.
    encoding: `gzip` where the stored bytes are compressed; size and sha256 are those of the stored bytes.
    """

    key: Key
    size: Size
    sha256: Sha256
    subject: Subject
    version_id: str | None = None
    source: Source | None = None
    retained_until: Time | None = None
    encoding: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, without empty fields."""
        return dict(_without_empty(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Artifact:
        """Return the artifact of its JSON form.

        Raises:
            IntegrityError: where a field is missing, unknown or malformed.
        """
        return validated(cls, canonical(values), "an artifact")


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class TablePin:
    """One Iceberg table at the moment of the set.

    document: the complete metadata document, as an artifact. snapshot_ids: all snapshots of the document, in order.
    rows: rows of the current snapshot. trimmed: whether the document was reduced to its current snapshot.
    """

    tier: Tier
    name: str
    uuid: str
    location: str
    metadata_location: str
    document: Artifact
    snapshot_ids: tuple[int, ...] = ()
    current_snapshot_id: int | None = None
    rows: Size = 0
    trimmed: bool = False

    @property
    def full_name(self) -> str:
        """`TIER.NAME`."""
        return f"{self.tier}.{self.name}"


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class DatabasePin:
    """The moment of the database: a restore replays WAL from the base backup up to `lsn`.

    lsn: of the named restore point, as PostgreSQL prints it (`0/3000148`). base_id: base backup that recovery begins
    with. start_wal: first WAL segment that it needs, by file name.
    """

    lsn: str
    restore_point: str
    timeline: int
    system_identifier: str
    base_id: str
    start_wal: str
    server_version: str
    pinned_at: Time


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class RawPin:
    """The raw objects at the moment of the set: the newest version of each key, without deleted ones."""

    bucket: str
    prefix: str
    objects: Size
    size: Size
    pinned_at: Time


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup set. It is written last, and its version at the destination is the oldest one of its key.

    inventory: compressed JSON lines with every artifact of the set, those of other sets included. own_size: bytes that
    this run stored. omitted: missing components, with the reason. versions: of the collection and the servers.
    protected_until: end of the protection that ends first among its artifacts; None where one has none. safety: whether
    a restore took the set, as a copy of the state that it was about to replace.
    """

    id: SetId
    environment: str
    started_at: Time
    finished_at: Time
    expires_at: Time
    inventory: Artifact
    versions: Mapping[str, str]
    tables: tuple[TablePin, ...] = ()
    raw: RawPin | None = None
    database: DatabasePin | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    size: Size = 0
    own_size: Size = 0
    omitted: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    protected_until: Time | None = None
    safety: bool = False

    def to_bytes(self) -> bytes:
        """Return the document, with a digest of its content that shows truncation and edits."""
        content = {"format": FORMAT, **_without_empty(asdict(self))}
        return canonical({**content, "digest": hashlib.sha256(canonical(content)).hexdigest()})

    @classmethod
    def from_bytes(cls, document: bytes) -> Manifest:
        """Return the manifest of a document.

        Raises:
            IntegrityError: where it is truncated, edited, malformed or of a newer format, or names another start than
                its id does: one of the future would hide that no further set is taken.
        """
        found = validated(cls, canonical(_verified(document)), "the manifest")
        if not found.id.startswith(found.started_at.translate(_WITHOUT_MARKS)):
            raise IntegrityError(f"cannot read the manifest: set {found.id} did not start at {found.started_at}")
        return found


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def validated(cls: type[T], document: bytes, name: str) -> T:
    """Return the data class of a JSON document.

    name: for error messages.

    Raises:
        IntegrityError: naming the first field that is missing, unknown or malformed.
    """
    try:
        found: T = _adapter(cast("Any", cls)).validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise IntegrityError(f"cannot read {name}: {place}: {first['msg']}") from None
    return found


def _verified(document: bytes) -> dict[str, Any]:
    try:
        values = json.loads(document)
        digest, is_newer = values.pop("digest"), values["format"] > FORMAT
        found = hashlib.sha256(canonical(values)).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IntegrityError("cannot read the manifest: it is truncated or not a manifest") from None
    if found != digest:
        raise IntegrityError("cannot read the manifest: its content does not match its digest")
    if is_newer:
        raise IntegrityError(
            f"cannot read the manifest: format {values['format']} is newer than {FORMAT}",
            "Use the release that wrote the set.",
        )
    del values["format"]
    return dict(values)


def canonical(value: object) -> bytes:
    """Return JSON whose bytes depend on the content alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def encode_inventory(artifacts: Iterable[Artifact]) -> Iterator[bytes]:
    """Return one JSON line for each artifact."""
    return (canonical(artifact.as_dict()) + b"\n" for artifact in artifacts)


def decode_inventory(lines: Iterable[bytes]) -> Iterator[Artifact]:
    """Return the artifacts of JSON lines.

    Raises:
        IntegrityError: where a line is malformed.
    """
    for line in lines:
        yield validated(Artifact, line, "the inventory of artifacts")


def _without_empty(values: Any) -> Any:
    if isinstance(values, Mapping):
        kept = {name: _without_empty(value) for name, value in values.items()}
        return {name: value for name, value in kept.items() if value not in (None, "", {}, [])}
    if isinstance(values, list | tuple):
        return [_without_empty(value) for value in values]
    return values
