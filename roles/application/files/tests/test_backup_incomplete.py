# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of incomplete restores: its content, its removal, and replacement by another restore."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crypto_lakehouse.backup.incomplete import NAME, Incomplete, Record

ALL = ("tables", "raw", "database")
RESTORE = Incomplete("20261130T020000Z-1a2b3c", "2026-12-01T03:00:00Z", ALL, (), ())
OTHER = replace(RESTORE, set_id="20261129T020000Z-1a2b3c")
GOLD = ("gold.ohlcv_daily",)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.beside(tmp_path / "cluster")


def begun(record: Record, *restores: Incomplete) -> None:
    for restore in restores:
        record.begin(restore, restore.phases[0])


def left(record: Record) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.set_id, each.left) for each in record.entries()]


def test_a_restore_is_recorded_from_its_first_phase_to_the_end_of_its_flow_runs(record: Record, tmp_path: Path) -> None:
    for phase, remaining in (("lake", ("database", "runs")), ("database", ("runs",))):
        record.begin(RESTORE, phase)
        assert left(record) == [(RESTORE.set_id, (phase, *remaining))]
        record.end(RESTORE, phase)
        assert left(record) == [(RESTORE.set_id, remaining)]
    record.end_database(RESTORE.set_id)
    assert list(tmp_path.iterdir()) == []


def test_the_record_states_what_did_not_end_and_the_command_that_ends_it(record: Record) -> None:
    begun(record, RESTORE)
    (entry,) = json.loads(record.path.read_text())["incomplete"]
    assert entry["message"] == (
        f"restore of set {RESTORE.set_id}, begun at {RESTORE.began_at}, did not end; "
        "missing: tables and raw objects, database, flow runs"
    )
    assert entry["remedy"] == (
        "wait for the restore if it still runs, otherwise run playbooks/backup_restore.yml "
        f"-e lakehouse_backup_set={RESTORE.set_id} -e lakehouse_restore_overwrite=true"
    )


@pytest.mark.parametrize(
    ("components", "tables", "options"),
    [
        (ALL, (), ""),
        (("raw",), (), " -e lakehouse_restore_components=raw"),
        (("tables",), GOLD, " -e lakehouse_restore_components=tables -e lakehouse_restore_tables=gold.ohlcv_daily"),
    ],
)
def test_the_command_restores_the_same_parts(
    components: tuple[str, ...], tables: tuple[str, ...], options: str
) -> None:
    restore = replace(RESTORE, components=components, tables=tables, left=("lake",))
    assert restore.remedy.endswith(f"-e lakehouse_restore_overwrite=true{options}")


def test_flow_runs_that_are_left_are_ended_by_the_worker_of_a_deployment() -> None:
    assert replace(RESTORE, left=("runs",)).remedy.startswith("run playbooks/deploy.yml")


def test_the_same_restore_again_keeps_the_time_of_its_begin_and_does_everything_again(record: Record) -> None:
    begun(record, RESTORE)
    record.end(RESTORE, "lake")
    begun(record, replace(RESTORE, began_at="2026-12-01T04:00:00Z"))
    assert left(record) == [(RESTORE.set_id, ("lake", "database", "runs"))]
    assert record.entries()[0].began_at == RESTORE.began_at


@pytest.mark.parametrize(
    ("known", "done", "new", "stays"),
    [
        (RESTORE, (), OTHER, False),
        (RESTORE, (), replace(OTHER, components=("tables", "raw")), True),
        (RESTORE, ("lake",), replace(OTHER, components=("database",)), False),
        (RESTORE, (), replace(OTHER, tables=GOLD), True),
        (replace(RESTORE, components=("tables",), tables=GOLD), (), OTHER, False),
        (replace(RESTORE, components=("tables",), tables=GOLD), (), replace(OTHER, components=("raw",)), True),
        (replace(RESTORE, components=("raw",)), (), replace(OTHER, components=("raw",)), False),
        # Another part of the same set.
        (RESTORE, (), replace(RESTORE, components=("tables",), tables=GOLD), True),
    ],
)
def test_a_restore_that_replaces_the_same_data_ends_another_one(
    record: Record, known: Incomplete, done: tuple[str, ...], new: Incomplete, stays: bool
) -> None:
    begun(record, known)
    for phase in done:
        record.end(known, phase)
    begun(record, new)
    for phase in new.phases:
        record.end(new, phase)
    assert [each.is_same(known) for each in record.entries()] == [True] * stays


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"incomplete": 1}', '{"incomplete": [{"set_id": "x"}]}', "null"])
def test_a_record_that_cannot_be_read_prevents_no_restore(record: Record, content: str) -> None:
    record.path.write_text(content)
    assert record.entries() == []
    begun(record, RESTORE)
    assert left(record) == [(RESTORE.set_id, RESTORE.phases)]


def test_a_killed_write_leaves_the_record_as_it_was(record: Record) -> None:
    begun(record, RESTORE)
    record.path.with_name(f".{NAME}.new").write_text("{")
    assert left(record) == [(RESTORE.set_id, RESTORE.phases)]
    for phase in RESTORE.phases:
        record.end(RESTORE, phase)
    assert not record.path.exists()
