# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores a backup set in phases, each of which can be repeated.

`plan` changes nothing. `lake` writes tables and raw objects while the stores run. `database` recovers into a new
folder, tests the recovered server and puts the folder in the place of the former one, which is kept; the database must
not run. `runs` ends the flow runs that the restored orchestrator believes to be in progress, before workers start.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from crypto_lakehouse.backup import sets
from crypto_lakehouse.backup.artifacts import read_artifact
from crypto_lakehouse.backup.configuration import unpack as unpack_files
from crypto_lakehouse.backup.configuration import unseal
from crypto_lakehouse.backup.database.archive import fetch_histories, fetch_wal
from crypto_lakehouse.backup.database.base import DESCRIPTION, Base
from crypto_lakehouse.backup.database.orchestrator import RECOVERED, complete, end_runs
from crypto_lakehouse.backup.database.programs import Deadline, programs
from crypto_lakehouse.backup.database.recover import Recovery, recover
from crypto_lakehouse.backup.database.swap import swap
from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.errors import BackupError, DamagedError, IntegrityError, RefusedError
from crypto_lakehouse.backup.incomplete import Incomplete, Record
from crypto_lakehouse.backup.lake.plan import Plan
from crypto_lakehouse.backup.lake.raw_restore import RawRestorer
from crypto_lakehouse.backup.lake.store import fetched, verify
from crypto_lakehouse.backup.lake.tables_restore import TableRestorer, TableSet
from crypto_lakehouse.backup.model import Artifact, DatabasePin, Manifest, timestamp
from crypto_lakehouse.backup.report import cut
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.jobs import progress
from crypto_lakehouse.settings import Settings

log = logging.getLogger("lakehouse.backup")

RECOVERY_DEADLINE_S: Final = 6 * 3600.0
OWN_DATABASES: Final = ("lakehouse", "orchestrator")


@dataclass(frozen=True, slots=True)
class Selection:
    """Parts of a set to restore. components: `tables`, `raw`, `database`. tables: full names, all where empty."""

    components: tuple[str, ...] = ("tables", "raw", "database")
    tables: tuple[str, ...] = ()
    restore_as: str = ""
    overwrite: bool = False


@dataclass
class Restore:
    """A restore of one set from a destination. guard: raises LockedError where the run may not write."""

    settings: Settings
    backup: BackupSettings
    destination: Destination
    manifest: Manifest
    selection: Selection
    guard: Callable[[], None] = lambda: None

    @cached_property
    def artifacts(self) -> list[Artifact]:
        """Every artifact of the set."""
        return list(sets.inventory(self.destination, self.manifest))

    def fetch(self, artifact: Artifact) -> Iterator[bytes]:
        """Return the stored bytes of an artifact; see `read_artifact`."""
        return read_artifact(self.destination, artifact)

    @property
    def tables(self) -> list[TableSet]:
        """The selected tables.

        Raises:
            RefusedError: where the set lacks a named table.
        """
        if "tables" not in self.selection.components:
            return []
        known = {pin.full_name: pin for pin in self.manifest.tables}
        for name in self.selection.tables:
            if name not in known:
                raise RefusedError(
                    f"cannot restore {name}: set {self.manifest.id} does not hold it",
                    f"Name one of: {', '.join(sorted(known)) or 'none'}.",
                )
        # In the order of the set, downstream first, in any order of the names.
        chosen = [name for name in known if not self.selection.tables or name in self.selection.tables]
        return [TableSet.of(known[name], self.artifacts) for name in chosen]

    def plan(self) -> dict[str, Any]:
        """Return what a restore would write, replace and leave alone; nothing is written.

        A table that cannot be restored because an artifact is damaged is among the warnings.
        """
        planned, damaged = Plan(()), Damage()
        restorer = TableRestorer(self.settings, self.fetch)
        for table in self.tables:
            progress(f"planning {table.pin.full_name}")
            with damaged.noted():
                planned += restorer.plan(table, self._new_name)
        if "raw" in self.selection.components:
            progress("planning raw objects")
            with damaged.noted():
                planned += RawRestorer(self.settings, self.fetch).plan(self._raw)
        described, database = describe(planned), self._database_plan()
        return {
            **described,
            "needs_overwrite": described["needs_overwrite"] or bool(database and database["replaces"]),
            "database": database,
            "components": list(self.selection.components),
            "set": self.manifest.id,
            "warnings": [*self.manifest.warnings, *damaged.messages],
        }

    def lake(self) -> dict[str, Any]:
        """Restore tables and raw objects, and compare every restored table with the set.

        Raises:
            RefusedError: before any write, where a replacement is necessary and not allowed.
            DamagedError: naming the damaged artifacts, after everything else was restored.
        """
        restorer, damaged = TableRestorer(self.settings, self.fetch), Damage()
        tables = self.tables
        if not self.selection.overwrite:
            # A table that must not be replaced stops the restore before the first write.
            for table in tables:
                with damaged.noted():
                    restorer.plan(table, self._new_name).require(overwrite=False)
            if "raw" in self.selection.components:
                with damaged.noted():
                    RawRestorer(self.settings, self.fetch).plan(self._raw).require(overwrite=False)
        self._begin("lake")
        restored, changed = [], False
        # Sources come before derived data: an interrupted restore has no row without its source.
        if "raw" in self.selection.components:
            progress("restoring raw objects")
            self.guard()
            with damaged.noted():
                raw = RawRestorer(self.settings, self.fetch).restore(self._raw, overwrite=self.selection.overwrite)
                changed = bool(raw.plan.of("write", "replace"))
        for number, table in enumerate(reversed(tables), start=1):
            progress(f"restoring {table.pin.full_name}", objects=(number, len(tables)))
            self.guard()
            with damaged.noted():
                found = restorer.restore(table, restore_as=self._new_name, overwrite=self.selection.overwrite)
                changed = changed or bool(found.plan.of("write", "replace"))
                proof = None if found.proof is None else asdict(found.proof)
                restored.append({"name": found.name, "uuid": found.uuid, **describe(found.plan), "proof": proof})
        self._end("lake")
        damaged.report(self.manifest.id)
        return {"changed": changed, "set": self.manifest.id, "tables": restored}

    @property
    def _record(self) -> Record | None:
        """The record of incomplete restores; None where nothing that exists is replaced."""
        folder = self.backup.database_folder
        return Record.beside(Path(folder)) if folder and not self.selection.restore_as else None

    def _begin(self, phase: str) -> None:
        if self._record:
            self._record.begin(self._recorded, phase)

    def _end(self, phase: str) -> None:
        if self._record:
            self._record.end(self._recorded, phase)

    @property
    def _recorded(self) -> Incomplete:
        selection, now = self.selection, timestamp(datetime.now(UTC))
        return Incomplete(self.manifest.id, now, selection.components, selection.tables, ())

    @property
    def _new_name(self) -> str:
        return self.selection.restore_as.partition(".")[2]

    @property
    def _raw(self) -> list[Artifact]:
        return [each for each in self.artifacts if each.subject.component == "raw"]

    @property
    def _pin(self) -> DatabasePin:
        if self.manifest.database is None:
            raise RefusedError(f"cannot restore the database: set {self.manifest.id} does not hold it", "Name another.")
        return self.manifest.database

    def _database_plan(self) -> dict[str, Any] | None:
        if "database" not in self.selection.components:
            return None
        pin, live = self._pin, Path(self.backup.require("database_folder"))
        self._refuse_other_release(pin)
        size = sum(each.size for each in self.artifacts if each.subject.component == "database")
        return {"restore_point": pin.restore_point, "lsn": pin.lsn, "bytes": size, "replaces": live.exists()}

    def _refuse_other_release(self, pin: DatabasePin) -> None:
        """Compare the major release of the set with the installed one: another one cannot read its files."""
        installed = programs(self.backup).run("postgres", ["--version"], Deadline(60.0))
        found = re.search(r"(\d+)", installed)
        if found and found[1] != pin.server_version.partition(".")[0]:
            raise RefusedError(
                f"cannot restore the database: set {self.manifest.id} is of PostgreSQL {pin.server_version}, and "
                f"release {found[1]} is installed",
                "Deploy the release of the collection that took the set, restore, and upgrade after that.",
            )

    def database(self) -> dict[str, Any]:
        """Recover the database up to the restore point, test it, and replace the former one.

        Raises:
            RefusedError: where the database runs, or one exists and must not be replaced.
        """
        live = Path(self.backup.require("database_folder"))
        restored = live.with_name(f"{live.name}.restored-{self.manifest.id}")
        aside = live.with_name(f"{live.name}.before-{self.manifest.id}")
        if _recovered_set(live) != self.manifest.id:
            if live.exists() and not self.selection.overwrite:
                raise RefusedError(
                    f"cannot restore the database: {live} exists",
                    "Set `lakehouse_restore_overwrite: true` to replace it.",
                )
            self._replace(live, restored, aside)
        self._end("database")
        former = str(aside) if aside.exists() else None
        return {"set": self.manifest.id, "lsn": self._pin.lsn, "former": former}

    def _replace(self, live: Path, restored: Path, aside: Path) -> None:
        """Recover where it was not done yet, and put the recovered folder in the place of the former one."""
        before = self._record.entries() if self._record else []
        self._begin("database")
        try:
            if _recovered_set(restored) != self.manifest.id:
                shutil.rmtree(restored, ignore_errors=True)
                self._recover(restored)
            if live.exists() and aside.exists():
                # Left by an earlier restore of the same set.
                aside.rename(_free_name(aside))
            self.guard()
            swap(live, restored, aside)
        except BackupError:
            # The former database is still in place: the record is that of the phases before.
            if self._record:
                self._record.put_back(before)
            raise

    def _recover(self, folder: Path) -> None:
        work = Path(self.backup.require("work_folder")) / f"recovery-{self.manifest.id}"
        shutil.rmtree(work, ignore_errors=True)
        files, wal = work / "base", work / "wal"
        for path in (files, wal):
            path.mkdir(mode=0o700, parents=True)
        try:
            base = self._fetch_base(files)
            progress("fetching write-ahead log")
            fetch_wal(self.destination, self._of_kind("wal"), wal, base.segment_bytes)
            fetch_histories(self.destination, base.system_identifier, wal)
            progress("recovering the database")
            with tempfile.TemporaryDirectory(prefix="recovery-") as scratch:
                recovery = Recovery(base, self._pin, files, wal, folder, Path(scratch))
                recover(recovery, programs(self.backup), check_databases, RECOVERY_DEADLINE_S)
            (folder / RECOVERED).write_text(self.manifest.id, encoding="utf-8")
            programs(self.backup).give(folder / RECOVERED)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _fetch_base(self, folder: Path) -> Base:
        """Write the verified files of the base backup into a folder, and return its description.

        Raises:
            IntegrityError: where one of them is damaged, or the set lacks the description.
        """
        progress("fetching the base backup")
        for artifact in (*self._of_kind("base"), *self._of_kind("base-manifest")):
            digest, size = hashlib.sha256(), 0
            with (folder / artifact.key.rpartition("/")[2]).open("wb") as file:
                for block in self.fetch(artifact):
                    digest.update(block)
                    size += len(block)
                    file.write(block)
            verify(artifact, size, digest.hexdigest())
        description = folder / DESCRIPTION
        if not description.exists():
            raise IntegrityError(
                f"cannot restore the database: set {self.manifest.id} lacks {DESCRIPTION}", "Restore another set."
            )
        return Base.from_bytes(description.read_bytes())

    def _of_kind(self, kind: str) -> list[Artifact]:
        return [each for each in self.artifacts if each.subject.kind == kind]

    def runs(self) -> dict[str, Any]:
        """End the flow runs that were in progress when the set was taken: the last step of a restored database."""
        folder = Path(self.backup.require("database_folder"))
        ended = complete(self.settings, folder) or end_runs(self.settings)
        self._end("runs")
        return asdict(ended)

    def configuration(self, identity: str) -> dict[str, Any]:
        """Decrypt secrets and configuration of the set into a new folder that only this user can read.

        A repeated call changes nothing.

        Raises:
            RefusedError: where the set holds none, or the folder exists with other files.
        """
        documents = [each for each in self.artifacts if each.subject.component == "configuration"]
        if not documents:
            raise RefusedError(
                f"cannot decrypt secrets: set {self.manifest.id} holds none", "Set `lakehouse_backup_recipients`."
            )
        folder = Path(self.backup.require("work_folder")) / f"configuration-{self.manifest.id}"
        archives = [unseal(fetched(each, self.fetch), identity) for each in documents]
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.parent.glob(f"{folder.name}-*"):
            # Left by a killed call.
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as name:
            new = Path(name) / "files"
            new.mkdir(mode=0o700)
            files = len([path for each in archives for path in unpack_files(each, new)])
            if not folder.exists():
                new.rename(folder)
            elif _contents(folder) != _contents(new):
                raise RefusedError(
                    f"cannot decrypt into {folder}: it exists with other files", "Move it away or remove it."
                )
        inventory = folder / INVENTORY
        return {"folder": str(folder), "files": files, "inventory": str(inventory) if inventory.exists() else ""}


@dataclass
class Damage:
    """Damaged artifacts of a set, while the rest is restored. messages: each names artifact, table and snapshot."""

    messages: list[str] = field(default_factory=list)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Record an IntegrityError of the block and continue after it."""
        try:
            yield
        except IntegrityError as error:
            self.messages += [error.message] if error.message not in self.messages else []

    def report(self, set_id: str) -> None:
        """Raise a DamagedError where an error was recorded."""
        if self.messages:
            raise DamagedError(
                f"cannot restore all of set {set_id}: {'; '.join(cut(self.messages, 'faults'))}; the rest is restored",
                "Restore what is named from another set.",
                self.messages,
            )


INVENTORY: Final = "inventory/variables.json"
"""File below the lakehouse's home with the variables of its inventory, which a deployment writes."""


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _recovered_set(folder: Path) -> str:
    try:
        return (folder / RECOVERED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _free_name(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(each for each in candidates if not each.exists())


def describe(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON types: changes that write or replace, the number of those left alone, and the bytes."""
    return {
        "changes": [asdict(each) for each in plan.of("write", "replace")],
        "left": len(plan.of("leave")),
        "bytes": plan.size,
        "needs_overwrite": plan.needs_overwrite,
    }


def check_databases(conninfo: str) -> None:
    """Check that a recovered server has the platform's databases, and that each answers.

    Raises:
        BackupError: where one is missing.
    """
    import psycopg

    for name in OWN_DATABASES:
        try:
            with psycopg.connect(conninfo, dbname=name) as connection:
                connection.execute("SELECT count(*) FROM pg_class")
        except psycopg.Error as error:
            raise BackupError(
                f"cannot use the recovered database {name}: {' '.join(str(error).split())}", "Restore another set."
            ) from None


def select(components: Sequence[str], tables: Sequence[str], restore_as: str, *, overwrite: bool) -> Selection:
    """Return the requested selection: naming tables selects the component `tables` alone.

    Raises:
        RefusedError: where tables are named without their component, or a new name does not fit one named table.
    """
    chosen = tuple(components) or (("tables",) if tables else Selection().components)
    if tables and "tables" not in chosen:
        raise RefusedError(
            f"cannot restore {tables[0]}: the component `tables` is not selected",
            "Select it, or name no table.",
        )
    if restore_as:
        _refuse_new_name(restore_as, chosen, set(tables))
    return Selection(chosen, tuple(tables), restore_as, overwrite)


def _refuse_new_name(new_name: str, components: Sequence[str], tables: Collection[str]) -> None:
    if len(tables) != 1 or tuple(components) != ("tables",):
        raise RefusedError(
            f"cannot restore as {new_name}: a new name is for one table alone", "Name exactly one table to restore."
        )
    (table,) = tables
    tier, _dot, name = new_name.partition(".")
    if tier != table.partition(".")[0] or not name:
        raise RefusedError(
            f"cannot restore {table} as {new_name}: the new name is not in the tier of the table",
            f"Use `{table.partition('.')[0]}.NAME`.",
        )
