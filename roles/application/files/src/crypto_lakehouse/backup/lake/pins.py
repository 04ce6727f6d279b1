# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of tables and raw objects at one moment, and their copy.

Gold is pinned before silver, silver before bronze, bronze before raw objects. A later pin holds at least what an
earlier one was made from, so nothing in a set lacks its source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from crypto_lakehouse.backup.errors import BackupError, RefusedError, SourceChangedError
from crypto_lakehouse.backup.lake import document as documents
from crypto_lakehouse.backup.lake.catalogs import MAX_DOCUMENT_BYTES, Catalogs, Entry, Pointer, open_catalogs
from crypto_lakehouse.backup.lake.document import Document
from crypto_lakehouse.backup.lake.files import TableFile, count_rows, table_files
from crypto_lakehouse.backup.lake.store import Objects, cause, split
from crypto_lakehouse.backup.model import Artifact, RawPin, Source, Subject, TablePin, canonical, timestamp
from crypto_lakehouse.backup.mover import Item
from crypto_lakehouse.settings import Settings, Tier

DOWNSTREAM_FIRST: Final[tuple[Tier, ...]] = ("gold", "silver", "bronze")
RAW_PREFIX: Final = "raw/"
STANDARD: Final = "STANDARD"
ATTEMPTS: Final = 3
Copy = Callable[[Sequence[Item]], list[Artifact]]
"""Copies items and returns their artifacts in the same order; raises SourceChangedError where a source changed."""


@dataclass(frozen=True)
class PinnedTable:
    """A table at one moment.

    content: bytes of the metadata document, as a set stores them. rows: records in data files of the current snapshot.
    trimmed: whether the document was reduced to its current snapshot. warnings: unusual facts, as sentences.
    """

    entry: Entry
    metadata_location: str
    content: bytes
    rows: int
    pinned_at: str
    trimmed: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """`TIER.NAME`."""
        return self.entry.full_name

    @cached_property
    def document(self) -> Document:
        """The metadata document."""
        return documents.parse(self.content, self.metadata_location)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the document's bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def snapshot_ids(self) -> tuple[int, ...]:
        """All snapshots, from the oldest to the newest."""
        return tuple(int(each["snapshot-id"]) for each in documents.snapshots(self.document))

    @property
    def current_snapshot_id(self) -> int | None:
        """The current snapshot, None for a table without one."""
        return documents.current_snapshot_id(self.document)

    @property
    def subject(self) -> Subject:
        """The subject of the document's artifact."""
        return Subject("tables", "metadata", self.full_name, self.current_snapshot_id)

    def items(self, objects: Objects) -> list[Item]:
        """Return every file that the document refers to, with size and ETag of the object that is there now.

        Raises:
            SourceChangedError: where a file vanished since the pin.
            IntegrityError: where a manifest list or manifest is damaged.
        """
        files = list(table_files(self.document, objects.content))
        found = objects.find_all([file.path for file in files], str(self.document["location"]))
        return [self._item(file, found[file.path]) for file in files]

    def _item(self, file: TableFile, found: Any) -> Item:
        bucket, key = split(file.path)
        if found is None:
            source = Source(bucket, key, size=0)
            raise SourceChangedError(
                f"cannot copy {self.full_name}: {file.path} of snapshot {file.snapshot_id} vanished", source=source
            )
        subject = Subject("tables", file.kind, self.full_name, file.snapshot_id, file.partition)
        return Item(Source(bucket, key, found.size, found.etag), subject)

    def table_pin(self, document: Artifact) -> TablePin:
        """Return the pin as the manifest of a set records it.

        document: the artifact that `content` was stored as.
        """
        return TablePin(
            tier=self.entry.tier,
            name=self.entry.name,
            uuid=str(self.document["table-uuid"]),
            location=str(self.document["location"]),
            metadata_location=self.metadata_location,
            document=document,
            snapshot_ids=self.snapshot_ids,
            current_snapshot_id=self.current_snapshot_id,
            rows=self.rows,
            trimmed=self.trimmed,
        )


@dataclass(frozen=True, slots=True)
class PinnedRaw:
    """Raw objects at one moment: the newest version of each key that was not deleted.

    Those in archive classes are among them: the mover decides what becomes of them.
    """

    bucket: str
    prefix: str
    sources: tuple[Source, ...]
    pinned_at: str

    @property
    def items(self) -> list[Item]:
        """The objects as a mover takes them."""
        return [Item(source, Subject("raw", "raw")) for source in self.sources]

    @property
    def raw_pin(self) -> RawPin:
        """The pin as the manifest of a set records it."""
        size = sum(source.size for source in self.sources)
        return RawPin(self.bucket, self.prefix, len(self.sources), size, self.pinned_at)


def pin_tables(
    settings: Settings, tiers: Iterable[Tier] = DOWNSTREAM_FIRST, only_current: bool = False, only: Sequence[str] = ()
) -> list[PinnedTable]:
    """Return the tables of the catalog, those of gold first, then silver, then bronze.

    tiers: tiers to pin. only_current: whether to reduce each document to its current snapshot. only: full names of the
    tables to pin, all where empty.

    Raises:
        RefusedError: where `only` names a table that does not exist.
        CatalogError: where a catalog does not answer.
    """
    lake = Lake(settings, only_current)
    pinned = [pin for tier in DOWNSTREAM_FIRST if tier in set(tiers) for pin in lake.pin_tier(tier, only)]
    missing = sorted(set(only) - {pin.full_name for pin in pinned})
    if missing:
        raise RefusedError(f"cannot back up {missing[0]}: the catalog holds no such table", "Name an existing table.")
    return pinned


def omitted_tables(settings: Settings) -> dict[str, str]:
    """Return the reason for each table of the catalog, by full name, that a set cannot hold."""
    catalogs = open_catalogs(settings)
    return {name: why for tier in DOWNSTREAM_FIRST for name, why in catalogs.omitted(tier).items()}


def pin_raw(settings: Settings, prefix: str = RAW_PREFIX) -> PinnedRaw:
    """Return the raw objects of the bronze bucket.

    Raises:
        BackupError: where the store does not answer.
    """
    return Lake(settings).pin_raw(prefix)


def current_items(settings: Settings, only_current: bool = False) -> Iterator[Item]:
    """Yield every file of tables and raw objects that a set would hold now, without tables that change meanwhile."""
    lake = Lake(settings, only_current)
    for pin in pin_tables(settings, only_current=only_current):
        with suppress(SourceChangedError):
            yield from pin.items(lake.objects)
    yield from lake.pin_raw().items


class Lake:
    """Tables and raw objects of the store and catalog that the settings name."""

    def __init__(self, settings: Settings, only_current: bool = False, catalogs: Catalogs | None = None) -> None:
        self._settings = settings
        self._only_current = only_current
        self._catalogs = catalogs or open_catalogs(settings)
        self.objects = Objects(settings)

    def pin_tier(self, tier: Tier, only: Sequence[str] = ()) -> list[PinnedTable]:
        """Return the tables of one tier, by name; a table that is dropped meanwhile is left out."""
        entries = [entry for entry in self._catalogs.entries(tier) if not only or entry.full_name in only]
        pins = [self.pin(entry) for entry in entries]
        return [pin for pin in pins if pin is not None]

    def pin(self, entry: Entry) -> PinnedTable | None:
        """Return one table, None where it does not exist.

        Raises:
            SourceChangedError: where the document cannot be read at the address that the catalog names.
        """
        pointer, content = None, None
        for _attempt in range(ATTEMPTS):
            pointer = self._catalogs.pointer(entry)
            content = self._stored(pointer) if pointer else None
            if pointer is None or content is not None:
                break
        if pointer is None:
            return None
        if content is not None:
            return self._pinned(entry, pointer, content)
        if pointer.document is None:
            raise SourceChangedError(f"cannot read {entry.full_name}: {pointer.metadata_location} vanished")
        # Readers get the catalog's own document, whatever became of the file: a commit that lost a race deletes it.
        warning = f"{pointer.metadata_location} differs from the document in the catalog, which was stored instead"
        return self._pinned(entry, pointer, canonical(pointer.document), (warning,))

    def _stored(self, pointer: Pointer) -> bytes | None:
        """Return the document's file where it holds what the catalog answers with."""
        try:
            content = self.objects.content(pointer.metadata_location)
        except SourceChangedError:
            return None
        if pointer.document is None or documents.parse(content, pointer.metadata_location) == pointer.document:
            return content
        return None

    def _pinned(self, entry: Entry, pointer: Pointer, content: bytes, warnings: tuple[str, ...] = ()) -> PinnedTable:
        pinned_at = timestamp(datetime.now(UTC))
        full = documents.parse(content, pointer.metadata_location)
        trimmed = documents.trim(full) if self._only_current else full
        if pointer.document is not None and len(canonical(trimmed)) > MAX_DOCUMENT_BYTES:
            warnings += (f"{entry.full_name} has too many snapshots for a restore of all: its metadata is too large",)
        return PinnedTable(
            entry=entry,
            metadata_location=pointer.metadata_location,
            content=canonical(trimmed) if self._only_current else content,
            rows=self._rows(full),
            pinned_at=pinned_at,
            trimmed=documents.is_trimmed(full, trimmed),
            warnings=warnings,
        )

    def _rows(self, document: Document) -> int:
        counted = documents.rows(document)
        current = documents.current_snapshot_id(document)
        if counted is None and current is not None:
            return count_rows(document, current, self.objects.content)
        return counted or 0

    def pin_raw(self, prefix: str = RAW_PREFIX) -> PinnedRaw:
        """Return the raw objects of the bronze bucket; see `pin_raw` of this module."""
        bucket = self._settings.bucket("bronze")
        pinned_at = timestamp(datetime.now(UTC))
        return PinnedRaw(bucket, prefix, tuple(pin_newest(self.objects, bucket, prefix)), pinned_at)


def pin_newest(objects: Objects, bucket: str, prefix: str) -> list[Source]:
    """Return the newest version of each key below a prefix, without deleted ones."""
    return [_raw_source(bucket, each) for each in _newest(objects, bucket, prefix)]


def _newest(objects: Objects, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import BotoCoreError, ClientError

    client = objects.client
    try:
        if client.get_bucket_versioning(Bucket=bucket).get("Status"):
            for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
                yield from (each for each in page.get("Versions", []) if each["IsLatest"])
        else:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                yield from page.get("Contents", [])
    except (BotoCoreError, ClientError) as error:
        raise BackupError(f"cannot list s3://{bucket}/{prefix}: {cause(error)}", "Check the object store.") from None


def _raw_source(bucket: str, listed: Mapping[str, Any]) -> Source:
    version, storage_class = listed.get("VersionId"), str(listed.get("StorageClass") or "")
    return Source(
        bucket=bucket,
        key=listed["Key"],
        size=int(listed["Size"]),
        etag=str(listed.get("ETag", "")).strip('"'),
        # One from before versioning has the version `null`, which the next write in a suspended bucket replaces.
        version_id=None if version == "null" else version,
        storage_class="" if storage_class == STANDARD else storage_class,
    )


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A pinned table, and the artifacts of its files."""

    pin: PinnedTable
    files: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """Tables and raw objects of a set.

    repinned: full names of tables, and `raw`, that were pinned again because a file vanished, one entry for each time.
    """

    tables: tuple[CopiedTable, ...]
    raw: PinnedRaw | None
    raw_files: tuple[Artifact, ...]
    repinned: tuple[str, ...] = ()


def pin_and_copy(
    settings: Settings,
    copy: Copy,
    *,
    tiers: Sequence[Tier] = DOWNSTREAM_FIRST,
    only: Sequence[str] = (),
    only_current: bool = False,
    with_raw: bool = True,
) -> Copied:
    """Pin tables and raw objects and copy their files.

    A file that vanished between pin and copy (an expiry, a compaction, a dropped table) causes new pins of its table
    and of everything upstream: upstream must not be older than the tables that are derived from it.

    Raises:
        SourceChangedError: where files vanished in each of three attempts.
    """
    pins = pin_tables(settings, tiers, only_current, only)
    lake = Lake(settings, only_current)
    run = _Run(lake, copy, tuple(tiers), tuple(only), {pin.entry: pin for pin in pins})
    run.raw = lake.pin_raw() if with_raw else None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return run.copy_missing()
        except SourceChangedError as error:
            if attempt == ATTEMPTS:
                message = f"{error.message}, after {ATTEMPTS} attempts"
                remedy = "Stop what deletes files of tables, then repeat the backup."
                raise SourceChangedError(message, remedy, error.source) from None
            run.pin_again()
    raise AssertionError


@dataclass
class _Run:
    lake: Lake
    copy: Copy
    tiers: tuple[Tier, ...]
    only: tuple[str, ...]
    pins: dict[Entry, PinnedTable]
    raw: PinnedRaw | None = None
    done: dict[Entry, tuple[Artifact, ...]] = field(default_factory=dict)
    raw_done: tuple[Artifact, ...] | None = None
    repinned: list[str] = field(default_factory=list)
    copying: Entry | None = None

    def copy_missing(self) -> Copied:
        for entry, pin in self.pins.items():
            if entry not in self.done:
                self.copying = entry
                self.done[entry] = tuple(self.copy(pin.items(self.lake.objects)))
        self.copying = None
        if self.raw is not None and self.raw_done is None:
            self.raw_done = tuple(self.copy(self.raw.items))
        tables = tuple(CopiedTable(pin, self.done[entry]) for entry, pin in self.pins.items())
        return Copied(tables, self.raw, self.raw_done or (), tuple(self.repinned))

    def pin_again(self) -> None:
        """Pin the table whose copy failed and everything upstream of it, downstream first."""
        if self.copying is not None:
            self._replace([self.copying], [self.lake.pin(self.copying)])
            for tier in DOWNSTREAM_FIRST[DOWNSTREAM_FIRST.index(self.copying.tier) + 1 :]:
                if tier in self.tiers:
                    # A table that was created meanwhile may be a source, too.
                    self._replace(
                        [entry for entry in self.pins if entry.tier == tier], self.lake.pin_tier(tier, self.only)
                    )
        if self.raw is not None:
            self.raw, self.raw_done = self.lake.pin_raw(self.raw.prefix), None
            self.repinned.append("raw")

    def _replace(self, entries: Sequence[Entry], pins: Sequence[PinnedTable | None]) -> None:
        """Pin tables again; those that no longer exist are left out."""
        for entry in entries:
            self.repinned.append(entry.full_name)
            del self.pins[entry]
            self.done.pop(entry, None)
        self.pins |= {pin.entry: pin for pin in pins if pin is not None}
