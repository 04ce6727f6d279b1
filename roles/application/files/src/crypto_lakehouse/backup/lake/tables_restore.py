# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores tables of a backup set into SeaweedFS: in place at once, where they are missing, or under another name.

Two obvious ways destroy tables there and are not used. `register_table` stores only an address: the next load gives an
empty table with a new UUID. `drop_table` deletes every file. Instead the catalog gets the whole metadata document in
one call, by version token, so a reader sees the table before or after it and never misses it.

Files of the set return to their own paths first, then manifests, lists and the document under a new name; the catalog
is last. A copy under another name has files of its own: expiring snapshots of one table does not damage the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Final
from uuid import uuid4

from crypto_lakehouse.backup.errors import IntegrityError, RefusedError
from crypto_lakehouse.backup.lake import document as documents
from crypto_lakehouse.backup.lake.catalogs import (
    MAX_DOCUMENT_BYTES,
    ConflictError,
    Entry,
    Pointer,
    S3TablesCatalogs,
    require_release,
)
from crypto_lakehouse.backup.lake.document import Document
from crypto_lakehouse.backup.lake.files import table_files
from crypto_lakehouse.backup.lake.plan import Change, Plan, Present, must_read, plan_objects, plan_table
from crypto_lakehouse.backup.lake.proof import TableProof, prove, table_of_set
from crypto_lakehouse.backup.lake.relocate import Mapping as PathMapping
from crypto_lakehouse.backup.lake.relocate import relocate
from crypto_lakehouse.backup.lake.store import Fetch, Objects, fetched, leaves_folder, split, spooled
from crypto_lakehouse.backup.model import Artifact, TablePin, canonical
from crypto_lakehouse.settings import Settings, Tier

ATTEMPTS: Final = 5
WRITERS: Final = 4
CACHED_FILES: Final = 64
_NAME: Final = re.compile(r"[0-9a-z][0-9a-z_]{0,254}")
_VERSION: Final = re.compile(r"/(?:v|0*)(\d+)[^/]*\.metadata\.json$")


@dataclass(frozen=True, slots=True)
class TableSet:
    """A table as a set holds it: its pin and the artifacts of its files."""

    pin: TablePin
    files: tuple[Artifact, ...]

    @classmethod
    def of(cls, pin: TablePin, artifacts: Iterable[Artifact]) -> TableSet:
        """Return the table with those artifacts of an inventory that belong to it."""
        files = (each for each in artifacts if each.subject.table == pin.full_name and each.subject.kind != "metadata")
        return cls(pin, tuple(files))

    @property
    def entry(self) -> Entry:
        """The table in the catalog."""
        return Entry(self.pin.tier, self.pin.name)


@dataclass(frozen=True, slots=True)
class RestoredTable:
    """A restored table, its changes, and its comparison; proof: None without a comparison."""

    name: str
    uuid: str
    metadata_location: str
    plan: Plan
    proof: TableProof | None


@dataclass(frozen=True, slots=True)
class _Target:
    """Files and document that a restore writes.

    copies: artifacts by address, data first. rewritten: manifests, then lists, by address. document: metadata document.
    """

    entry: Entry
    copies: Mapping[str, Artifact]
    rewritten: Mapping[str, bytes]
    document: Document
    is_copy: bool


class TableRestorer:
    """Restores tables of one set. `fetch` returns the bytes of its artifacts."""

    def __init__(self, settings: Settings, fetch: Fetch) -> None:
        self._settings = settings
        self._fetch = fetch
        self._catalogs = S3TablesCatalogs(settings)
        self._objects = Objects(settings)

    def check(self, tiers: Iterable[Tier]) -> None:
        """Compare the object store with what a restore of tables needs; nothing is written.

        Raises:
            RefusedError: where the catalog is not that of SeaweedFS, its release is too old, or a table bucket keeps
                versions: metadata that is written there cannot be read.
        """
        if self._settings.catalog_type != "rest":
            raise RefusedError(
                f"cannot restore tables: catalog type {self._settings.catalog_type} is not supported",
                "Restore into a lakehouse whose catalog is that of SeaweedFS.",
            )
        require_release(self._objects.server())
        for tier in tiers:
            bucket = self._catalogs.bucket(tier)
            if self._objects.keeps_versions(bucket):
                raise RefusedError(
                    f"cannot restore tables of {tier}: table bucket {bucket} keeps versions",
                    f"Suspend versioning of bucket {bucket}.",
                )

    def plan(self, table: TableSet, restore_as: str = "", only_current: bool = False) -> Plan:
        """Return what a restore of the table would write, replace and leave alone; nothing is written.

        restore_as: another name for the table in the same namespace. only_current: whether to leave out all snapshots
        but the current one.

        Raises:
            RefusedError: where the table cannot be restored under that name.
            IntegrityError: where the set's documents are damaged.
        """
        self.check([table.entry.tier])
        return self._plan(self._target(table, restore_as, only_current))

    def restore(
        self,
        table: TableSet,
        *,
        restore_as: str = "",
        only_current: bool = False,
        overwrite: bool = False,
        proven: bool = True,
    ) -> RestoredTable:
        """Restore one table, and compare it with that of the set.

        restore_as, only_current: see `plan`. overwrite: whether a table or object that exists and differs may be
        replaced. proven: whether to compare.

        Raises:
            RefusedError: before any write, where something would be replaced and must not be.
            IntegrityError: where an artifact is damaged, or the restored table is not that of the set.
            ConflictError: where other commits keep changing the table.
        """
        self.check([table.entry.tier])
        target = self._target(table, restore_as, only_current)
        plan = self._plan(target)
        plan.require(overwrite)
        changed = {change.name for change in plan.of("write", "replace")}
        self._catalogs.create_namespace(target.entry)
        self._write_files(target, changed)
        location = self._commit(target, overwrite)
        proof = None
        if proven:
            of_set = table_of_set(self._document(table), table.pin.metadata_location, self._opener(table))
            proof = prove(self._settings, self._catalogs, target.entry, target.document, of_set)
        return RestoredTable(target.entry.full_name, str(target.document["table-uuid"]), location, plan, proof)

    def _target(self, table: TableSet, restore_as: str, only_current: bool) -> _Target:
        document = documents.without_history(self._document(table))
        if only_current:
            document = documents.trim(document)
        if len(canonical(document)) > MAX_DOCUMENT_BYTES:
            raise RefusedError(
                f"cannot restore {table.pin.full_name}: its metadata is larger than the catalog accepts at once, with "
                f"{len(documents.snapshots(document))} snapshots",
                "Restore the current snapshot alone.",
            )
        # A file that the set lacks, or a damaged manifest, is found before anything is written.
        find = _finder(table)
        needed = [find(file.path) for file in table_files(document, self._reader(table))]
        if restore_as:
            target = self._copy(table, needed, document, restore_as)
        else:
            ordered = sorted(needed, key=lambda each: _ORDER[each.subject.kind])
            target = _Target(table.entry, {_uri(each): each for each in ordered}, {}, document, is_copy=False)
        self._require_inside(table, target)
        return target

    def _require_inside(self, table: TableSet, target: _Target) -> None:
        """Compare every address that is written with the tier's table bucket: a set is foreign input.

        Raises:
            IntegrityError: naming the first address that lies outside.
        """
        bucket = self._catalogs.bucket(table.entry.tier)
        for uri in (str(target.document["location"]), *target.copies, *target.rewritten):
            found, key = split(uri)
            if found != bucket or leaves_folder(key):
                raise IntegrityError(
                    f"cannot restore {table.pin.full_name}: {uri} lies outside of table bucket {bucket}",
                    "Restore another set, or into a lakehouse whose table bucket has the name that the set recorded.",
                )

    def _copy(self, table: TableSet, needed: Sequence[Artifact], document: Document, name: str) -> _Target:
        """Return the table under another name, with a location and UUID of its own."""
        entry = self._free_entry(table, name)
        uuid = str(uuid4())
        location = self._free_location(entry, uuid)
        moved = relocate(document, location, uuid, self._reader(table), table.pin.full_name)
        new_path = PathMapping(str(document["location"]), location)
        contents = [each for each in needed if each.subject.kind not in ("manifest", "manifest-list")]
        copies = {new_path(_uri(each)): each for each in contents}
        return _Target(entry, copies, {**moved.manifests, **moved.lists}, moved.document, is_copy=True)

    def _free_entry(self, table: TableSet, name: str) -> Entry:
        if not _NAME.fullmatch(name):
            raise RefusedError(
                f"cannot restore {table.pin.full_name} as {name!r}: it is not a table name",
                "Use lower-case letters, digits and underscores.",
            )
        entry = Entry(table.entry.tier, ".".join([*table.pin.name.split(".")[:-1], name]))
        if self._catalogs.pointer(entry) is not None:
            raise RefusedError(
                f"cannot restore {table.pin.full_name} as {entry.full_name}: that table exists",
                "Name a table that does not exist.",
            )
        return entry

    def _free_location(self, entry: Entry, uuid: str) -> str:
        identity = self._catalogs.identity(entry)
        bucket, prefix = self._catalogs.bucket(entry.tier), f"{'.'.join(identity['namespace'])}/{identity['name']}"
        # Files that another table left there must not become part of this one.
        is_taken = self._objects.names(f"s3://{bucket}/{prefix}")
        return f"s3://{bucket}/{prefix}" + (f"-{uuid}" if is_taken else "")

    def _document(self, table: TableSet) -> Document:
        return documents.parse(fetched(table.pin.document, self._fetch), table.pin.document.key)

    def _reader(self, table: TableSet) -> Callable[[str], bytes]:
        """Return a function that reads manifests and lists from the set, by the paths in the table's document."""
        find = _finder(table)

        @lru_cache(maxsize=CACHED_FILES)
        def read(path: str) -> bytes:
            return fetched(find(path), self._fetch)

        return read

    def _opener(self, table: TableSet) -> Callable[[str], IO[bytes]]:
        """Return a function that opens any file of the table from the set."""
        find = _finder(table)
        return lambda path: spooled(find(path), self._fetch)

    def _plan(self, target: _Target) -> Plan:
        found = self._objects.find_all(list(target.copies), str(target.document["location"]))
        present = {uri: None if each is None else Present(each.size, each.etag) for uri, each in found.items()}
        for uri, artifact in target.copies.items():
            state = present[uri]
            if state is not None and must_read(artifact, state):
                present[uri] = Present(state.size, state.etag, self._objects.sha256(uri))
        objects = plan_objects(target.copies, present)
        rewritten = Plan(tuple(_write(uri, content) for uri, content in target.rewritten.items()))
        pointer = self._catalogs.pointer(target.entry)
        in_catalog = _current(pointer) if pointer else None
        size = len(canonical(target.document))
        return objects + rewritten + plan_table(target.entry.full_name, target.document, in_catalog, size)

    def _write_files(self, target: _Target, changed: set[str]) -> None:
        """Write data before the manifests that name it, and manifests before their lists."""
        with ThreadPoolExecutor(WRITERS) as pool:
            for order in sorted(set(_ORDER.values())):
                due = [
                    (uri, each)
                    for uri, each in target.copies.items()
                    if uri in changed and _ORDER[each.subject.kind] == order
                ]
                list(pool.map(lambda pair: self._objects.restore(pair[1], self._fetch, pair[0]), due))
        for uri, content in target.rewritten.items():
            self._objects.write(uri, content)

    def _commit(self, target: _Target, overwrite: bool) -> str:
        """Write the document under a new name and let the catalog refer to it; return its address."""
        conflict: ConflictError | None = None
        for _attempt in range(ATTEMPTS):
            pointer = self._catalogs.pointer(target.entry)
            present = _current(pointer) if pointer else None
            if pointer and present and documents.is_same(present, target.document):
                return pointer.metadata_location
            may_replace = overwrite and not target.is_copy
            if present is not None and not may_replace and not _holds_nothing(present, target.document):
                raise RefusedError(
                    f"cannot restore {target.entry.full_name}: a table of that name was created meanwhile",
                    "Repeat the restore.",
                )
            version = self._next_version(target, pointer)
            location = f"{target.document['location']}/metadata/{version:05d}-{uuid4()}.metadata.json"
            self._objects.write(location, canonical(target.document))
            try:
                self._point(target, pointer, location, version)
            except ConflictError as error:
                self._objects.delete(location)
                conflict = error
            else:
                return location
        raise conflict or ConflictError(f"cannot restore {target.entry.full_name}: it keeps changing")

    def _point(self, target: _Target, pointer: Pointer | None, location: str, version: int) -> None:
        if pointer is None:
            self._catalogs.create(target.entry, target.document, location, version)
        else:
            self._catalogs.update(target.entry, pointer.token, target.document, location, version)

    def _next_version(self, target: _Target, pointer: Pointer | None) -> int:
        """Return a number above that of every document of the location: the catalog names the next one after it."""
        names: Sequence[str] = [f"/{name}" for name in self._objects.names(f"{target.document['location']}/metadata")]
        used = [int(found[1]) for found in map(_VERSION.search, names) if found]
        return max([*used, pointer.version if pointer else 0]) + 1


_ORDER: Final[Mapping[str, int]] = {"data": 0, "delete": 0, "statistics": 0, "manifest": 1, "manifest-list": 2}


def _uri(artifact: Artifact) -> str:
    if artifact.source is None:
        raise IntegrityError(f"cannot restore {artifact.key}: the set does not record where it came from")
    return artifact.source.uri


def _finder(table: TableSet) -> Callable[[str], Artifact]:
    """Return a function that finds the artifact of a file by its path; raises IntegrityError where the set lacks it."""
    known = {split(_uri(each)): each for each in table.files}

    def find(path: str) -> Artifact:
        if split(path) not in known:
            raise IntegrityError(f"cannot restore {table.pin.full_name}: the set lacks {path}", "Restore another set.")
        return known[split(path)]

    return find


def _current(pointer: Pointer) -> Document:
    """Return the table as readers see it: empty where the catalog has only its address, after `register_table`."""
    return {"snapshots": []} if pointer.document is None else pointer.document


def _holds_nothing(present: Document, wanted: Document) -> bool:
    """Return whether replacing the table loses nothing."""
    return documents.is_empty(present) or documents.is_unfinished_proof(present, wanted)


def _write(uri: str, content: bytes) -> Change:
    return Change("write", "object", uri, len(content), "its paths are rewritten")
