# SPDX-License-Identifier: GPL-3.0-or-later
"""Records restores that began to change data and did not end.

The record is a file beside the data folder of the database. It exists while a restore is incomplete, and a health check
reads it: each entry has a `message` and a `remedy`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

NAME: Final = "restore.json"
PHASES: Final = {"lake": "tables and raw objects", "database": "database", "runs": "flow runs"}
"""Phases of a restore in their order, and what each restores or ends."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A restore that began and did not end. tables: all where empty. left: its phases that did not end."""

    set_id: str
    began_at: str
    components: tuple[str, ...]
    tables: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def phases(self) -> tuple[str, ...]:
        """Its phases, in their order."""
        lake = ("lake",) if {"tables", "raw"} & set(self.components) else ()
        return (*lake, *(("database", "runs") if "database" in self.components else ()))

    @property
    def message(self) -> str:
        """The set, the begin and the missing phases."""
        left = ", ".join(PHASES[phase] for phase in self.left)
        return f"restore of set {self.set_id}, begun at {self.began_at}, did not end; missing: {left}"

    @property
    def remedy(self) -> str:
        """The command that completes the restore."""
        options = [f"lakehouse_backup_set={self.set_id}", "lakehouse_restore_overwrite=true"]
        if self.tables or set(self.components) != {"tables", "raw", "database"}:
            options.append(f"lakehouse_restore_components={','.join(self.components)}")
        if self.tables:
            options.append(f"lakehouse_restore_tables={','.join(self.tables)}")
        restore = f"run playbooks/backup_restore.yml {' '.join(f'-e {each}' for each in options)}"
        if self.left == ("runs",):
            return f"run playbooks/deploy.yml, which starts the worker that ends them, or {restore}"
        return f"wait for the restore if it still runs, otherwise {restore}"

    def covers(self, other: Incomplete) -> bool:
        """Return whether this restore replaces everything that is left of the other one."""
        lake = {"tables", "raw"} if "lake" in other.left else set()
        database = {"database"} if {"database", "runs"} & set(other.left) else set()
        missing = set(other.components) & (lake | database)
        has_tables = not self.tables or (bool(other.tables) and set(other.tables) <= set(self.tables))
        return missing <= set(self.components) and (has_tables or "tables" not in missing)

    def is_same(self, other: Incomplete) -> bool:
        """Return whether both restore the same parts of the same set."""
        return replace(self, began_at=other.began_at, left=other.left) == other

    def without(self, phases: Sequence[str]) -> Incomplete:
        """Return the restore after phases ended."""
        return replace(self, left=tuple(each for each in self.left if each not in phases))


@dataclass(frozen=True, slots=True)
class Record:
    """The incomplete restores of one machine."""

    path: Path

    @classmethod
    def beside(cls, database_folder: Path) -> Record:
        """Return the record of the machine with this data folder of the database."""
        return cls(database_folder.with_name(NAME))

    def entries(self) -> list[Incomplete]:
        """Return the incomplete restores; an unreadable record has none, so that it does not block a restore."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            found = json.loads(self.path.read_text(encoding="utf-8"))["incomplete"]
            return [_entry(each) for each in found]
        return []

    def begin(self, restore: Incomplete, phase: str) -> None:
        """Record that a phase of a restore begins. A restore that replaces the same data ends that of another set."""
        if phase not in restore.phases:
            return
        known = next((each for each in self.entries() if each.is_same(restore)), restore)
        ahead = restore.phases[restore.phases.index(phase) :]
        left = tuple(each for each in restore.phases if each in ahead or each in known.left)
        entry = replace(known, left=left)
        self._write([*(each for each in self.entries() if not entry.covers(each)), entry])

    def end(self, restore: Incomplete, phase: str) -> None:
        """Record that a phase of a restore ended."""
        self._write(each.without([phase]) if each.is_same(restore) else each for each in self.entries())

    def end_database(self, set_id: str) -> None:
        """Record that the database of a set is in place and its flow runs ended."""
        phases = ("database", "runs")
        self._write(each.without(phases) if each.set_id == set_id else each for each in self.entries())

    def put_back(self, entries: Iterable[Incomplete]) -> None:
        """Replace the record by an earlier one: what began since then changed nothing."""
        self._write(entries)

    def _write(self, entries: Iterable[Incomplete]) -> None:
        """Replace the record in one step; it is removed where nothing is incomplete."""
        left = [each for each in entries if each.left]
        if not left:
            self.path.unlink(missing_ok=True)
            return
        document = {"incomplete": [{**asdict(each), "message": each.message, "remedy": each.remedy} for each in left]}
        new = self.path.with_name(f".{NAME}.new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def _entry(found: dict[str, object]) -> Incomplete:
    def words(name: str) -> tuple[str, ...]:
        value = found[name]
        return tuple(map(str, value)) if isinstance(value, list) else ()

    return Incomplete(
        str(found["set_id"]),
        str(found["began_at"]),
        words("components"),
        words("tables"),
        tuple(each for each in words("left") if each in PHASES),
    )
