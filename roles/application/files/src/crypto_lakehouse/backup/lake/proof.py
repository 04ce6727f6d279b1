# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that a restored table is that of the set: read both, compare them, and append a row that does not stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import SEEK_END
from typing import IO, TYPE_CHECKING, Any, Final
from uuid import uuid4

from crypto_lakehouse.backup.errors import IntegrityError
from crypto_lakehouse.backup.lake.catalogs import ConflictError, Entry, Pointer, S3TablesCatalogs
from crypto_lakehouse.backup.lake.document import PROOF_BRANCH, Document, current_snapshot_id, is_same, snapshots
from crypto_lakehouse.backup.lake.files import table_files
from crypto_lakehouse.backup.lake.store import Objects, StoreError, cause
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.table import Table

UNSUPPORTED: Final = (NotImplementedError, ImportError, ValueError)
"""Errors of pyiceberg for tables that it reads and cannot write, such as those partitioned by `bucket`."""


@dataclass(frozen=True, slots=True)
class TableProof:
    """Result of a comparison. append: result of an append; rows: of the current snapshot, read back."""

    rows: int
    snapshots: int
    columns: int
    append: str


def checksums(table: Table, snapshot_id: int | None) -> tuple[int, dict[str, int]]:
    """Return the rows of a snapshot and a checksum by column that does not depend on the order of rows."""
    import duckdb

    if snapshot_id is None:
        return 0, {}
    reader = table.scan(snapshot_id=snapshot_id).to_arrow_batch_reader()
    names = list(reader.schema.names)
    sums = ", ".join(f"coalesce(sum(hash({_quoted(name)})::HUGEINT), 0)" for name in names)
    with duckdb.connect() as connection:
        connection.register("restored", reader)
        ((rows, *found),) = connection.execute(f"SELECT count(*), {sums} FROM restored").fetchall()  # noqa: S608 - quoted
    return int(rows), dict(zip(names, (int(each) for each in found), strict=True))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def table_of_set(document: Document, metadata_location: str, open_file: Callable[[str], IO[bytes]]) -> Table:
    """Return a table whose files are opened through `open_file`, by the paths that its document holds."""
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.io import FileIO, InputFile, OutputFile
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadataUtil

    damage: list[IntegrityError] = []

    class SetFile(InputFile):
        def __len__(self) -> int:
            with open_file(self.location) as file:
                return file.seek(0, SEEK_END)

        def exists(self) -> bool:
            return True

        def open(self, seekable: bool = True) -> Any:  # noqa: ARG002 - pyiceberg names it
            try:
                return open_file(self.location)
            except IntegrityError as error:
                damage.append(error)
                raise

    class SetFiles(FileIO):
        # The query engine reports an error of a file as one of its own.
        noted = damage

        def new_input(self, location: str) -> InputFile:
            return SetFile(location)

        def new_output(self, location: str) -> OutputFile:
            raise IntegrityError(f"cannot write {location}: a backup set is never changed")

        def delete(self, location: str | InputFile | OutputFile) -> None:
            raise IntegrityError(f"cannot delete {location}: a backup set is never changed")

    metadata = TableMetadataUtil.parse_obj(dict(document))
    return Table(("set", "table"), metadata, metadata_location, SetFiles(), NoopCatalog("set"))


def prove(
    settings: Settings, catalogs: S3TablesCatalogs, entry: Entry, expected: Document, of_set: Table
) -> TableProof:
    """Load a restored table through the catalog and compare it with that of the set.

    Compared are UUID, schema, snapshots and history, then rows and column checksums of the current and of the oldest
    snapshot. expected: the document that was restored. of_set: the table as the set holds it.

    Raises:
        IntegrityError: naming table and snapshot, where they differ.
        StoreError: where catalog or store do not answer.
    """
    from pyiceberg.exceptions import NoSuchTableError, RESTError

    try:
        return _prove(settings, catalogs, entry, expected, of_set)
    except (RESTError, NoSuchTableError, OSError) as error:
        raise StoreError(f"cannot prove the restore of {entry.full_name}: {cause(error)}") from error


def _prove(
    settings: Settings, catalogs: S3TablesCatalogs, entry: Entry, expected: Document, of_set: Table
) -> TableProof:
    pointer = _pointer(catalogs, entry)
    if not is_same(_document(pointer), expected):
        raise IntegrityError(f"cannot prove the restore of {entry.full_name}: the catalog holds another document")
    table = _load(settings, catalogs, entry)
    known = [int(each["snapshot-id"]) for each in snapshots(expected)]
    if sorted(known) != sorted(each.snapshot_id for each in table.snapshots()):
        raise IntegrityError(f"cannot prove the restore of {entry.full_name}: its snapshots differ")
    current = current_snapshot_id(expected)
    found: tuple[int, dict[str, int]] = (0, {})
    for snapshot_id in [each for each in dict.fromkeys([*known[:1], current]) if each is not None]:
        found = checksums(table, snapshot_id)
        _compare(entry, snapshot_id, found, _checksums_of_set(of_set, snapshot_id))
    append = prove_append(settings, catalogs, entry)
    return TableProof(found[0], len(known), len(found[1]), append)


def _checksums_of_set(of_set: Table, snapshot_id: int) -> tuple[int, dict[str, int]]:
    """Return the checksums of a table of a set.

    Raises:
        IntegrityError: where one of its files is damaged.
    """
    try:
        return checksums(of_set, snapshot_id)
    except Exception:
        damage: list[IntegrityError] = getattr(of_set.io, "noted", [])
        if damage:
            raise damage[0] from None
        raise


def _compare(
    entry: Entry, snapshot_id: int, found: tuple[int, Mapping[str, int]], expected: tuple[int, Mapping[str, int]]
) -> None:
    place = f"{entry.full_name} at snapshot {snapshot_id}"
    if found[0] != expected[0]:
        raise IntegrityError(f"cannot prove the restore of {place}: it has {found[0]} rows, the set {expected[0]}")
    differing = sorted(name for name in expected[1] if found[1].get(name) != expected[1][name])
    if differing:
        raise IntegrityError(f"cannot prove the restore of {place}: column {differing[0]} has other values")


def prove_append(settings: Settings, catalogs: S3TablesCatalogs, entry: Entry) -> str:
    """Append one row and set the table back; return how it went, as a sentence.

    The row goes to a branch of its own, which readers of the table do not see. Then the catalog is set back to the
    restored document, by token, and the files of the append are deleted by name.
    """
    before = _pointer(catalogs, entry)
    table = _load(settings, catalogs, entry)
    # A table without snapshots has no branches and no valid row to copy: it proves an empty commit.
    branch = f"{PROOF_BRANCH}-{uuid4().hex[:8]}" if table.current_snapshot() else "main"
    try:
        table.append(table.scan(limit=1).to_arrow(), branch=branch)
    except UNSUPPORTED as error:
        return f"not proven: this client cannot append to the table ({type(error).__name__})"
    after = _pointer(catalogs, entry)
    try:
        catalogs.update(entry, after.token, _document(before), before.metadata_location, after.version)
    except ConflictError:
        if branch != "main":
            _load(settings, catalogs, entry).manage_snapshots().remove_branch(branch).commit()
        return "proven; another writer committed meanwhile, so the appended snapshot stays until it expires"
    _delete_added(Objects(settings), before, after)
    return "proven and set back"


def _delete_added(objects: Objects, before: Pointer, after: Pointer) -> None:
    known = {file.path for file in table_files(_document(before), objects.content)}
    added = [file.path for file in table_files(_document(after), objects.content) if file.path not in known]
    for uri in [*added, after.metadata_location]:
        objects.delete(uri)


def _pointer(catalogs: S3TablesCatalogs, entry: Entry) -> Pointer:
    pointer = catalogs.pointer(entry)
    if pointer is None:
        raise IntegrityError(f"cannot prove the restore of {entry.full_name}: the catalog does not hold it")
    return pointer


def _document(pointer: Pointer) -> Document:
    if pointer.document is None:
        raise IntegrityError(f"cannot prove the restore of {pointer.metadata_location}: the catalog holds no document")
    return pointer.document


def _load(settings: Settings, catalogs: S3TablesCatalogs, entry: Entry) -> Table:
    identity = catalogs.identity(entry)
    parts: Sequence[str] = [*identity["namespace"], identity["name"]]
    return open_catalog(settings, entry.tier).load_table(tuple(parts))
