# SPDX-License-Identifier: GPL-3.0-or-later
"""Arithmetic of the WAL, selection of segments, reuse of base backups, and the exchange of data folders."""

from __future__ import annotations

import gzip
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse.backup.database.archive import WalRequest, fetch_histories
from crypto_lakehouse.backup.database.base import Base, BaseFile, reason_for_new_base
from crypto_lakehouse.backup.database.programs import Programs
from crypto_lakehouse.backup.database.receiver import Receiver
from crypto_lakehouse.backup.database.server import Identity, Server, Slot
from crypto_lakehouse.backup.database.swap import swap
from crypto_lakehouse.backup.database.wal import (
    Coverage,
    common_prefix,
    coverage,
    format_lsn,
    is_written,
    parse_lsn,
    partial_key,
    segment_key,
    segment_name,
    segment_number,
    stored_segments,
)
from crypto_lakehouse.backup.destination import Stored
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.errors import IntegrityError, RefusedError

SIZES = [1 << 20, 1 << 24, 1 << 30]
SYSTEM = "7713880788459917122"
MB = 1 << 20


@given(st.integers(min_value=0, max_value=(1 << 64) - 1))
def test_a_position_is_printed_as_postgresql_prints_it(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/0/0", "g/0", "0/123456789", " 0/0", "0/0\n"])
def test_a_malformed_position_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="cannot read a position"):
        parse_lsn(text)


@given(st.integers(min_value=0, max_value=1 << 44), st.sampled_from(SIZES), st.integers(1, 1 << 31))
def test_a_segment_s_name_gives_its_number(number: int, size: int, timeline: int) -> None:
    # The last number has no successor.
    number %= (1 << 64) // size - 1
    name = segment_name(timeline, number, size)
    assert len(name) == 24
    assert segment_number(name, size) == number
    assert segment_name(timeline, number, size) < segment_name(timeline, number + 1, size)


def test_names_are_those_of_postgresql() -> None:
    assert segment_name(1, parse_lsn("0/147D670") // (1 << 24), 1 << 24) == "000000010000000000000001"
    assert segment_name(1, parse_lsn("1/FF000000") // (1 << 24), 1 << 24) == "0000000100000001000000FF"
    assert partial_key(SYSTEM, "000000010000000000000001", parse_lsn("0/1000000"), parse_lsn("0/147D670")) == (
        f"wal/{SYSTEM}/00000001/000000010000000000000001.0000000001000000-000000000147D670.partial.gz"
    )


def test_a_page_that_was_not_received_is_told_from_one_that_was() -> None:
    content = bytearray(MB)
    content[8192 + 8 : 8192 + 16] = (5 * MB + 8192).to_bytes(8, "little")
    assert is_written(bytes(content), 5 * MB + 8192 + 100, MB)
    assert is_written(bytes(content), 5 * MB + 2 * 8192, MB)
    assert not is_written(bytes(content), 5 * MB + 2 * 8192 + 1, MB)
    assert not is_written(bytes(content), 6 * MB + 8192 + 100, MB)


def stored(*numbers: float | tuple[float, float]) -> list[Stored]:
    """Return completed segments of 1 MB, for a fraction one that is partially filled, and for a pair a part of one."""
    found = []
    for each in numbers:
        start, end = each if isinstance(each, tuple) else (int(each), each)
        name = segment_name(1, int(start), MB)
        is_finished = each == int(end)
        key = segment_key(SYSTEM, name) if is_finished else partial_key(SYSTEM, name, int(start * MB), int(end * MB))
        found.append(Stored(key, 1))
    return found


@pytest.mark.parametrize(
    ("numbers", "until", "chosen", "end", "has_gap"),
    [
        ((), None, (), 3, False),
        ((3, 4), None, (3, 4), 5, False),
        ((3, 4, 5.25, 5.5), None, (3, 4, 5.5), 5.5, False),
        ((3, 4, 5.25, 5.5, 5.75), 5.375, (3, 4, 5.5), 5.5, False),
        ((3, 4, 5.25, 5.5), 5.75, (3, 4, 5.5), 5.5, False),
        ((3, 4, 5, 5.25, 6), 5.25, (3, 4, 5), 6, False),
        ((3, 4, 5, 6), 5, (3, 4), 5, False),
        ((1, 2, 3, 4), None, (3, 4), 5, False),
        ((3, 5), None, (3,), 4, True),
        ((3, 5.5), None, (3,), 4, True),
        ((3, 3.5, 5), None, (3,), 4, True),
        ((4, 5), None, (), 3, True),
        ((3, 5), 4, (3,), 4, False),
        ((3, 4.5, 6), 4.25, (3, 4.5), 4.5, False),
        ((3, 4.5, 6), 4.75, (3, 4.5), 4.5, True),
        ((3, (4, 4.25), (4.25, 4.5), (4.5, 4.75)), None, (3, (4, 4.25), (4.25, 4.5), (4.5, 4.75)), 4.75, False),
        ((3, (4, 4.25), (4.25, 4.5), (4.5, 4.75)), 4.375, (3, (4, 4.25), (4.25, 4.5)), 4.5, False),
        ((3, (4, 4.25), (4.25, 4.5), (4.5, 4.75)), 4.25, (3, (4, 4.25)), 4.25, False),
        # One object from the begin of the segment instead of several parts.
        ((3, (4, 4.25), (4.25, 4.5), (4, 4.5)), 4.375, (3, (4, 4.5)), 4.5, False),
        # After a restart of the receiver.
        ((3, (4, 4.25), (4.25, 4.5), (4, 4.375), (4.375, 4.75)), None, (3, (4, 4.375), (4.375, 4.75)), 4.75, False),
        # A part whose predecessor is missing.
        ((3, (4, 4.25), (4.5, 4.75)), None, (3, (4, 4.25)), 4.25, False),
        ((3, (4.25, 4.5)), None, (3,), 4, False),
        ((3, (4, 4.25), (4.5, 4.75), 6), 4.5, (3, (4, 4.25)), 4.25, True),
        ((3, 4, (4, 4.25), (4.25, 4.5)), None, (3, 4), 5, False),
    ],
)
def test_stored_wal_is_covered_up_to_the_first_missing_segment(
    numbers: tuple[float | tuple[float, float], ...],
    until: float | None,
    chosen: tuple[float | tuple[float, float], ...],
    end: float,
    has_gap: bool,
) -> None:
    objects = stored(*numbers)
    random.Random(7).shuffle(objects)
    position = None if until is None else int(until * MB)
    found = coverage(stored_segments(objects), segment_name(1, 3, MB), MB, position)
    assert [each.stored.key for each in found.segments] == [each.key for each in stored(*chosen)]
    assert (found.end, found.has_gap) == (int(end * MB), has_gap)


def test_objects_that_are_no_segments_are_left_out() -> None:
    names = ["00000001.history.gz", "000000010000000000000001", "x.gz", "000000010000000000000001.1-2.partial.gz"]
    assert stored_segments(Stored(f"wal/{SYSTEM}/00000001/{name}", 1) for name in names) == []


def test_common_prefixes() -> None:
    assert [common_prefix("abc", other) for other in ("abd", "abc", "x")] == ["ab", "abc", ""]


NOW = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
IDENTITY = Identity(SYSTEM, 2, 9 * MB, MB, "17.10")
BASE = Base(
    id="20261129T080000Z-0a1b2c",
    system_identifier=SYSTEM,
    timeline=2,
    start_lsn="0/300028",
    end_lsn="0/300100",
    start_wal=segment_name(2, 3, MB),
    segment_bytes=MB,
    server_version="17.10",
    taken_at="2026-11-29T08:00:00Z",
    files=(BaseFile("base.tar.gz", 3, "0" * 64),),
)
WHOLE = Coverage((), 9 * MB, segment_name(2, 9, MB), has_gap=False)
SLOT = Slot("reserved", 9 * MB + 8192, is_active=True, server_end=9 * MB + 8192)


@pytest.mark.parametrize(
    ("base", "identity", "wal", "slot", "reason"),
    [
        (BASE, IDENTITY, WHOLE, SLOT, ""),
        (None, IDENTITY, WHOLE, SLOT, "there is no base backup"),
        (BASE, replace(IDENTITY, system_identifier="1"), WHOLE, SLOT, "the server is another one"),
        (BASE, replace(IDENTITY, timeline=3), WHOLE, SLOT, "the server was restored to another timeline"),
        (replace(BASE, taken_at="2026-11-22T08:00:00Z"), IDENTITY, WHOLE, SLOT, "is too old"),
        (replace(BASE, taken_at="2026-12-01T08:00:00Z"), IDENTITY, WHOLE, SLOT, "is too old"),
        (BASE, IDENTITY, replace(WHOLE, has_gap=True), SLOT, "WAL after the base backup is missing"),
        (BASE, IDENTITY, WHOLE, None, ""),
        (BASE, IDENTITY, WHOLE, replace(SLOT, wal_status="lost"), "the slot of the receiver is lost"),
        (BASE, IDENTITY, WHOLE, replace(SLOT, end=10 * MB), "WAL after the base backup is missing"),
        (BASE, IDENTITY, None, SLOT, "WAL after the base backup is missing"),
    ],
)
def test_a_base_backup_is_used_again_only_where_recovery_from_it_is_possible(
    base: Base | None, identity: Identity, wal: Coverage | None, slot: Slot | None, reason: str
) -> None:
    found = reason_for_new_base(base, identity, wal, timedelta(days=7), NOW, slot)
    assert found == reason if not reason else reason in found


def test_descriptions_and_requests_are_read_as_they_were_written() -> None:
    assert Base.from_bytes(BASE.to_bytes()) == BASE
    request = WalRequest(SYSTEM, 2, 9 * MB)
    assert WalRequest.from_bytes(request.to_bytes()) == request
    for document in (b"", b"[]", b"{}", b'{"files": 1}', BASE.to_bytes()[:-1]):
        with pytest.raises(IntegrityError, match="cannot read the description of a base backup"):
            Base.from_bytes(document)
        with pytest.raises(IntegrityError, match="cannot read the request for WAL"):
            WalRequest.from_bytes(document)


DAMAGED = gzip.compress(b"1")[:10] + b"\xff" * 20


def test_a_damaged_history_still_keeps_recovery_from_its_timeline(tmp_path: Path) -> None:
    destination, folder = FolderDestination(tmp_path / "sets"), tmp_path / "wal"
    for path in (destination.root, folder):
        path.mkdir()
    (folder / "00000002.history").write_text("of the set")
    for name in ("00000002.history", "00000003.history", f"{2:08X}{0:08X}{1:08X}"):
        destination.create(segment_key(SYSTEM, name), iter([DAMAGED]), len(DAMAGED), NOW)
    fetch_histories(destination, SYSTEM, folder)
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {"00000002.history": "of the set", "00000003.history": ""}


def test_a_damaged_segment_is_other_content_and_leads_to_a_new_base(tmp_path: Path) -> None:
    destination = FolderDestination(tmp_path)
    receiver = Receiver(Server("postgresql://backup@127.0.0.1/postgres"), Programs(), destination, tmp_path / "spool")
    name = f"{1:08X}{0:08X}{1:08X}"
    key = segment_key(SYSTEM, name)
    destination.create(key, iter([DAMAGED]), len(DAMAGED), NOW)
    with pytest.raises(IntegrityError, match="it exists with other content"):
        receiver._create(key, b"a segment", timedelta(0))
    assert (receiver.state.gap, receiver.state.needs_new_base) == (name, True)


def data_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "PG_VERSION").write_text("17\n")
    (path / "content").write_text(content)
    return path


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_an_exchange_that_is_interrupted_at_any_rename_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    live, restored = data_folder(tmp_path / "live", "old"), data_folder(tmp_path / "restored", "new")
    aside = tmp_path / "aside"
    done: list[Path] = []
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(self)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        if renames < 2:
            with pytest.raises(KeyboardInterrupt):
                swap(live, restored, aside)
        else:
            swap(live, restored, aside)
    for _time in range(2):
        swap(live, restored, aside)
        assert (live / "content").read_text() == "new"
        assert (aside / "content").read_text() == "old"
        assert not restored.exists()


def test_a_machine_without_a_database_gets_the_recovered_one(tmp_path: Path) -> None:
    swap(tmp_path / "live", data_folder(tmp_path / "restored", "new"), tmp_path / "aside")
    assert (tmp_path / "live" / "content").read_text() == "new"
    assert not (tmp_path / "aside").exists()


@pytest.mark.parametrize("wrong", ["nothing recovered", "in use", "aside exists", "not a data folder"])
def test_an_exchange_that_could_lose_data_is_refused_and_changes_nothing(tmp_path: Path, wrong: str) -> None:
    live, restored, aside = data_folder(tmp_path / "live", "old"), tmp_path / "restored", tmp_path / "aside"
    if wrong != "nothing recovered":
        data_folder(restored, "new")
    if wrong == "in use":
        (live / "postmaster.pid").write_text(f"{os.getpid()}\n")
    if wrong == "aside exists":
        data_folder(aside, "older")
    if wrong == "not a data folder":
        (restored / "PG_VERSION").unlink()
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    with pytest.raises(RefusedError, match="cannot"):
        swap(live, restored, aside)
    assert sorted(str(each) for each in tmp_path.rglob("*")) == before
    assert (live / "content").read_text() == "old"
