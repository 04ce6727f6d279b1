# SPDX-License-Identifier: GPL-3.0-or-later
"""Days pass the tiers of a real object store and catalog, and no interruption leaves anything behind."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import prepared
import psycopg
import pytest
import services
from test_clean import FIELDS, START_MS
from test_market import archive, published, zipped

from crypto_lakehouse import tables
from crypto_lakehouse.flows import steps
from crypto_lakehouse.flows.steps import STEPS, Lakehouse, load_days, partition_of, run_step
from crypto_lakehouse.ingest import store_raw_object
from crypto_lakehouse.market import MarketDataError
from crypto_lakehouse.runs import record
from crypto_lakehouse.tables import (
    GOLD_OHLCV_DAILY,
    GOLD_VOLATILITY,
    SILVER_KLINES,
    TABLES,
    Partition,
    WriteConflictError,
)

ROOT = date(2024, 5, 1)
_days = itertools.count()

State = dict[str, list[dict[str, Any]]]


def line(day: date, hour: int, **changes: str) -> str:
    opened = START_MS + ((day - ROOT).days * 24 + hour) * 3_600_000
    times = {"open_time": str(opened), "close_time": str(opened + 3_599_999)}
    return ",".join({**FIELDS, **times, **changes}.values())


def good_day(day: date) -> str:
    return "\n".join(line(day, hour, volume=str(hour + 1)) for hour in range(24))


@pytest.fixture(scope="module")
def in_place(object_store: services.ObjectStore, database_server: services.DatabaseServer) -> None:
    prepared.put_in_place(object_store, database_server)


@pytest.fixture
def open_lakehouse(
    in_place: None, object_store: services.ObjectStore, database_server: services.DatabaseServer
) -> Callable[[], Lakehouse]:
    """Return a function that opens the stores with the worker's rights."""
    environment = prepared.pipeline_environment(object_store, database_server)
    return lambda: Lakehouse(services.settings_from(environment))


@pytest.fixture
def lakehouse(open_lakehouse: Callable[[], Lakehouse]) -> Lakehouse:
    return open_lakehouse()


@pytest.fixture
def partition() -> Partition:
    """Return a day that no other test uses."""
    return partition_of("BTCUSDT", "1h", ROOT + timedelta(days=next(_days)))


def publish(lakehouse: Lakehouse, day: date, text: str) -> None:
    lakehouse.archive = archive(published(day, zipped(text)))


def run_all(lakehouse: Lakehouse, partition: Partition) -> list[bool]:
    return [run_step(name, lakehouse, partition).changed for name in STEPS]


def state(lakehouse: Lakehouse, partition: Partition) -> State:
    return {spec.full_name: lakehouse.read(spec, partition) for spec in TABLES}


def snapshots(lakehouse: Lakehouse) -> dict[str, list[int]]:
    return {
        spec.full_name: [
            each.snapshot_id for each in lakehouse.catalog(spec.tier).load_table((spec.tier, spec.name)).snapshots()
        ]
        for spec in TABLES
    }


def raw_objects(lakehouse: Lakehouse, partition: Partition) -> list[str]:
    folder = f"raw/klines/{partition}/"
    found = lakehouse.s3.list_objects_v2(Bucket=lakehouse.settings.bucket("bronze"), Prefix=folder)
    return [each["Key"] for each in found.get("Contents", [])]


def recorded(lakehouse: Lakehouse, partition: Partition) -> dict[str, dict[str, Any]]:
    with psycopg.connect(lakehouse.settings.require("database_url"), row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute(
            "SELECT * FROM pipeline_runs WHERE symbol = %s AND day = %s", [partition.symbol, partition.day]
        ).fetchall()
    return {row["flow"]: row for row in found}


def test_a_day_that_is_not_published_leaves_nothing_behind(lakehouse: Lakehouse, partition: Partition) -> None:
    lakehouse.archive = archive({})
    with pytest.raises(MarketDataError, match="not published"):
        run_step("ingest", lakehouse, partition)
    with pytest.raises(MarketDataError, match="run ingest first"):
        run_step("clean", lakehouse, partition)
    assert all(rows == [] for rows in state(lakehouse, partition).values())
    assert raw_objects(lakehouse, partition) == []
    assert recorded(lakehouse, partition) == {}


def test_a_changed_download_is_not_stored(lakehouse: Lakehouse, partition: Partition) -> None:
    files = published(partition.day, zipped(good_day(partition.day)))
    files = {path: content if path.endswith("CHECKSUM") else content[:-1] for path, content in files.items()}
    lakehouse.archive = archive(files)
    with pytest.raises(MarketDataError, match="published checksum"):
        run_step("ingest", lakehouse, partition)
    assert raw_objects(lakehouse, partition) == []


def test_a_day_arrives_in_every_tier(lakehouse: Lakehouse, partition: Partition) -> None:
    publish(lakehouse, partition.day, good_day(partition.day))
    assert run_all(lakehouse, partition) == [True, True, True]
    found = state(lakehouse, partition)
    assert {name: len(rows) for name, rows in found.items()} == {
        "bronze.klines": 24,
        "silver.klines": 24,
        "silver.klines_quarantine": 0,
        "gold.ohlcv_daily": 1,
        "gold.volatility": 1,
    }
    assert found["gold.ohlcv_daily"][0]["volume"] == sum(range(1, 25))
    (key,) = raw_objects(lakehouse, partition)
    content = lakehouse.s3.get_object(Bucket=lakehouse.settings.bucket("bronze"), Key=key)["Body"].read()
    assert content == zipped_again(lakehouse, partition)
    assert found["bronze.klines"][0]["object_key"] == key
    assert found["bronze.klines"][0]["object_sha256"] == hashlib.sha256(content).hexdigest()


def zipped_again(lakehouse: Lakehouse, partition: Partition) -> bytes:
    return lakehouse.archive.fetch(partition.symbol, partition.kline_interval, partition.day).content


def test_running_a_day_again_changes_nothing(lakehouse: Lakehouse, partition: Partition) -> None:
    publish(lakehouse, partition.day, good_day(partition.day) + "\nbroken")
    run_all(lakehouse, partition)
    before = state(lakehouse, partition), snapshots(lakehouse), versions(lakehouse, partition)
    assert run_all(lakehouse, partition) == [False, False, False]
    assert (state(lakehouse, partition), snapshots(lakehouse), versions(lakehouse, partition)) == before


def versions(lakehouse: Lakehouse, partition: Partition) -> list[str]:
    bucket = lakehouse.settings.bucket("bronze")
    found = lakehouse.s3.list_object_versions(Bucket=bucket, Prefix=f"raw/klines/{partition}/")
    return [each["VersionId"] for each in found.get("Versions", [])]


def test_a_rerun_renews_the_time_of_the_record_and_keeps_its_figures(
    lakehouse: Lakehouse, partition: Partition
) -> None:
    publish(lakehouse, partition.day, good_day(partition.day))
    run_all(lakehouse, partition)
    first = recorded(lakehouse, partition)
    run_all(lakehouse, partition)
    again = recorded(lakehouse, partition)
    assert set(first) == set(again) == {"ingest", "clean", "aggregate"}
    for flow, row in first.items():
        assert again[flow]["finished_at"] > row["finished_at"]
        assert {**again[flow], "finished_at": None} == {**row, "finished_at": None}
        assert row["duration_s"] > 0
        assert row["source"] == "archive"
    assert (first["ingest"]["rows"], first["aggregate"]["rows"]) == (24, 2)
    assert first["ingest"]["bytes"] == len(zipped_again(lakehouse, partition))


def test_bad_lines_go_to_quarantine_and_the_others_on(lakehouse: Lakehouse, partition: Partition) -> None:
    day = partition.day
    bad = [
        line(day, 3, high="1"),
        "not,a,candle",
        line(day + timedelta(days=1), 0),
        line(day, 5),
        line(day, 6, open="x"),
    ]
    publish(lakehouse, day, "\n".join([*(line(day, hour) for hour in range(6)), *bad]))
    assert run_all(lakehouse, partition) == [True, True, True]
    found = state(lakehouse, partition)
    assert len(found["bronze.klines"]) == len(found["silver.klines"]) + len(found["silver.klines_quarantine"]) == 11
    assert [(row["line_number"], row["reason"]) for row in found["silver.klines_quarantine"]] == [
        (6, "line 10 has the same open_time"),
        (7, "high is below open"),
        (8, "3 fields instead of 8 to 12"),
        (9, "open_time is not on the day of the file"),
        (11, "open is not a number"),
    ]
    assert found["silver.klines_quarantine"][2]["line"] == "not,a,candle"
    row = recorded(lakehouse, partition)["clean"]
    counts = [row[f"lines_{name}"] for name in ("read", "accepted", "refused", "duplicated")]
    assert counts == [11, 6, 4, 1]
    assert row["refusals"] == {"duplicate": 1, "price": 1, "fields": 1, "period": 1, "number": 1}
    assert recorded(lakehouse, partition)["ingest"]["lines_read"] is None


def test_a_day_that_fails_does_not_stop_the_others() -> None:
    days = [ROOT + timedelta(days=number) for number in range(3)]
    loaded = []

    def load(day: date) -> list[str]:
        if day == days[1]:
            raise MarketDataError("not published")
        loaded.append(day)
        return [str(day)]

    assert load_days(days[:1], load) == ["2024-05-01"]
    with pytest.raises(MarketDataError, match=r"^1 of 3 days failed: 2024-05-02: not published$"):
        load_days(days, load)
    assert loaded == [days[0], days[0], days[2]]


def test_a_run_whose_time_has_passed_loads_no_further_day() -> None:
    loaded = []

    def load(day: date) -> list[str]:
        loaded.append(day)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        load_days([ROOT, ROOT + timedelta(days=1)], load)
    assert loaded == [ROOT]


def test_the_line_of_a_run_names_the_refused_lines(lakehouse: Lakehouse, partition: Partition) -> None:
    publish(lakehouse, partition.day, f"{good_day(partition.day)}\nbroken\nbroken")
    run_step("ingest", lakehouse, partition)
    described = run_step("clean", lakehouse, partition).describe()
    assert "24 rows written, 2 of 26 lines refused and 0 duplicated (fields 2), " in described


def test_an_empty_file_is_a_day_without_candles(lakehouse: Lakehouse, partition: Partition) -> None:
    publish(lakehouse, partition.day, "")
    assert run_all(lakehouse, partition) == [True, False, False]
    assert all(rows == [] for rows in state(lakehouse, partition).values())
    row = recorded(lakehouse, partition)["clean"]
    assert (row["rows"], row["lines_read"], row["lines_refused"]) == (0, 0, 0)


def test_a_corrected_file_replaces_the_rows_and_both_files_are_kept(lakehouse: Lakehouse, partition: Partition) -> None:
    publish(lakehouse, partition.day, "all of it broken")
    run_all(lakehouse, partition)
    broken = state(lakehouse, partition)
    assert broken["silver.klines"] == broken["gold.ohlcv_daily"] == []
    assert len(broken["silver.klines_quarantine"]) == 1
    publish(lakehouse, partition.day, good_day(partition.day))
    assert run_all(lakehouse, partition) == [True, True, True]
    corrected = state(lakehouse, partition)
    assert [len(corrected[spec.full_name]) for spec in TABLES] == [24, 24, 0, 1, 1]
    assert len(raw_objects(lakehouse, partition)) == 2
    publish(lakehouse, partition.day, "all of it broken")
    run_all(lakehouse, partition)
    assert state(lakehouse, partition) == broken


def test_loading_a_day_touches_no_other(lakehouse: Lakehouse, partition: Partition) -> None:
    publish(lakehouse, partition.day, good_day(partition.day))
    run_all(lakehouse, partition)
    before = state(lakehouse, partition)
    other = partition_of("BTCUSDT", "1h", ROOT + timedelta(days=next(_days)))
    publish(lakehouse, other.day, good_day(other.day))
    run_all(lakehouse, other)
    assert state(lakehouse, partition) == before
    assert len(lakehouse.read(SILVER_KLINES, other)) == 24


def test_the_sample_needs_no_network(lakehouse: Lakehouse) -> None:
    partition = partition_of("BTCUSD", "1h", date(2019, 8, 15))
    run_all(lakehouse, partition)
    (figures,) = lakehouse.read(GOLD_OHLCV_DAILY, partition)
    assert figures["high"] == 10445
    assert recorded(lakehouse, partition)["ingest"]["source"] == "sample"


class Killed(BaseException):
    """Represents the end of the process: the application must not catch it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, place: int, *, after: bool) -> None:
    """End the process at its `place`-th change of a store, before it or when its answer is lost."""
    counter = itertools.count()

    def fragile(call: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **options: Any) -> Any:
            now = next(counter) == place
            if now and not after:
                raise Killed
            result = call(*arguments, **options)
            if now:
                raise Killed
            return result

        return changed

    monkeypatch.setattr(tables, "_commit", fragile(tables._commit))
    monkeypatch.setattr(steps, "store_raw_object", fragile(store_raw_object))
    monkeypatch.setattr(steps, "record", fragile(record))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_is_killed_at_any_change_is_made_good_by_the_next(
    lakehouse: Lakehouse, partition: Partition, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    text = good_day(partition.day) + "\nbroken"
    publish(lakehouse, partition.day, text)
    run_all(lakehouse, partition)
    undisturbed = {name: len(rows) for name, rows in state(lakehouse, partition).items()}
    # Changes of one run: raw object, bronze, record; quarantine, silver, record; two of gold, record.
    for place in range(9):
        other = partition_of("BTCUSDT", "1h", ROOT + timedelta(days=next(_days)))
        publish(lakehouse, other.day, good_day(other.day) + "\nbroken")
        with monkeypatch.context() as context:
            kill_at(context, place, after=after)
            with pytest.raises(Killed):
                run_all(lakehouse, other)
        run_all(lakehouse, other)
        assert {name: len(rows) for name, rows in state(lakehouse, other).items()} == undisturbed
        assert len(raw_objects(lakehouse, other)) == 1
        assert set(recorded(lakehouse, other)) == {"ingest", "clean", "aggregate"}


def test_concurrent_runs_of_a_day_leave_what_one_leaves(
    open_lakehouse: Callable[[], Lakehouse], partition: Partition
) -> None:
    def run(_number: int) -> None:
        lakehouse = open_lakehouse()
        publish(lakehouse, partition.day, good_day(partition.day) + "\nbroken")
        run_all(lakehouse, partition)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    lakehouse = open_lakehouse()
    assert [len(rows) for rows in state(lakehouse, partition).values()] == [25, 24, 1, 1, 1]
    assert len(raw_objects(lakehouse, partition)) == 1


def test_concurrent_runs_of_different_days_lose_nothing(open_lakehouse: Callable[[], Lakehouse]) -> None:
    days = [ROOT + timedelta(days=next(_days)) for _time in range(4)]

    def run(day: date) -> None:
        lakehouse = open_lakehouse()
        publish(lakehouse, day, good_day(day))
        run_all(lakehouse, partition_of("BTCUSDT", "1h", day))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, days))
    lakehouse = open_lakehouse()
    for day in days:
        found = state(lakehouse, partition_of("BTCUSDT", "1h", day))
        assert [len(rows) for rows in found.values()] == [24, 24, 0, 1, 1]


def test_a_writer_that_always_loses_gives_up_with_a_message(
    lakehouse: Lakehouse, partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.exceptions import CommitFailedException

    def lose(*_: Any) -> None:
        raise CommitFailedException("another snapshot")

    monkeypatch.setattr(tables, "_commit", lose)
    monkeypatch.setattr(tables, "COMMIT_ATTEMPTS", 2)
    publish(lakehouse, partition.day, good_day(partition.day))
    with pytest.raises(WriteConflictError, match="changed by others in 2 attempts"):
        run_step("ingest", lakehouse, partition)


def test_a_row_of_another_day_is_never_written(lakehouse: Lakehouse, partition: Partition) -> None:
    other = partition_of("ETHUSDT", "1h", partition.day)
    with pytest.raises(ValueError, match="outside the partition"):
        lakehouse.replace(GOLD_VOLATILITY, partition, [other.as_row()])


LOOP = """
import sys
from datetime import date
from crypto_lakehouse.flows.steps import Lakehouse, STEPS, partition_of, run_step
from crypto_lakehouse.settings import Settings
lakehouse = Lakehouse(Settings.from_environment())
lakehouse.open()
print("ready", flush=True)
for day in sys.argv[1:]:
    for step in STEPS:
        run_step(step, lakehouse, partition_of("BTCUSD", "1h", date.fromisoformat(day)))
"""


@pytest.mark.parametrize("after_s", [0.15, 0.4])
def test_a_process_that_is_really_killed_is_made_good_by_the_next_run(
    lakehouse: Lakehouse,
    object_store: services.ObjectStore,
    database_server: services.DatabaseServer,
    after_s: float,
) -> None:
    first = date(2019, 7, 1 if after_s < 0.3 else 5)
    days = [first + timedelta(days=number) for number in range(4)]
    environment = {**os.environ, **prepared.pipeline_environment(object_store, database_server)}
    command = [sys.executable, "-c", LOOP, *(day.isoformat() for day in days)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    for day in days:
        partition = partition_of("BTCUSD", "1h", day)
        run_all(lakehouse, partition)
        assert [len(rows) for rows in state(lakehouse, partition).values()] == [24, 24, 0, 1, 1]
        assert len(raw_objects(lakehouse, partition)) == 1
