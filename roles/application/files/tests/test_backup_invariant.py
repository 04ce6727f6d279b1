# SPDX-License-Identifier: GPL-3.0-or-later
"""Every object in a set has its source, for any concurrent writes while the set, or parts of it, are pinned."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import backup_run
import prepared
import psycopg
import pytest
import services
import sweep
from test_flows import line
from test_market import archive, published, zipped

from crypto_lakehouse.backup import create, sets
from crypto_lakehouse.backup.database.pin import pin_database
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.errors import SourceChangedError
from crypto_lakehouse.backup.lake.files import table_files
from crypto_lakehouse.backup.lake.pins import Copied, Copy, PinnedRaw, PinnedTable, pin_and_copy, pin_raw, pin_tables
from crypto_lakehouse.backup.lake.store import Objects
from crypto_lakehouse.backup.model import Artifact
from crypto_lakehouse.backup.mover import Item
from crypto_lakehouse.bootstrap import storage
from crypto_lakehouse.bootstrap.ledger import Ledger
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.flows.steps import STEPS, Lakehouse, partition_of, run_step
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.tables import TABLES

FIRST = date(2034, 1, 1)
SETS = 100
IN_GATE = 10
WHOLE_IN_GATE = 2
WRITERS = 2
SYMBOL = "BTCUSDT"
STEP_OF_TABLE = {"ingest": "bronze.klines", "clean": "silver.klines", "aggregate": "gold.ohlcv_daily"}

PIPELINE = tuple(spec.full_name for spec in TABLES)

_days = itertools.count()


@dataclass
class Writers:
    """Threads that move one day after another through all tiers, as flows do."""

    environment: dict[str, str]
    loaded: list[date] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        lakehouse = Lakehouse(services.settings_from(self.environment))
        while not self.stop.is_set():
            try:
                self.loaded.append(load_day(lakehouse))
            except Exception as error:  # noqa: BLE001 - the test reports whatever stops a writer
                self.failures.append(error)
                return

    def wait_for_progress(self) -> None:
        before = len(self.loaded)
        services.wait_until(lambda: self.failures or len(self.loaded) > before, "another day")
        assert self.failures == []


def load_day(lakehouse: Lakehouse) -> date:
    day = FIRST + timedelta(days=next(_days))
    lakehouse.archive = archive(published(day, zipped("\n".join(line(day, hour) for hour in range(2)))))
    for step in STEPS:
        run_step(step, lakehouse, partition_of(SYMBOL, "1h", day))
    return day


@dataclass(frozen=True)
class Pinned:
    """The content of a set: days by recorded step, by table, and of raw objects."""

    recorded: dict[str, set[date]]
    tables: dict[str, set[date]]
    raw: set[date]

    def violations(self) -> list[str]:
        """Return the objects without their source."""
        lacking = {
            f"recorded {step} without {table}": self.recorded.get(step, set()) - self.tables[table]
            for step, table in STEP_OF_TABLE.items()
        }
        lacking |= {
            f"{name} without {source}": self.tables[name] - self.tables[source]
            for name, source in (
                ("gold.ohlcv_daily", "silver.klines"),
                ("gold.volatility", "silver.klines"),
                ("silver.klines", "bronze.klines"),
                ("silver.klines_quarantine", "bronze.klines"),
            )
        }
        lacking["bronze.klines without its raw object"] = self.tables["bronze.klines"] - self.raw
        return [f"{what}: {sorted(days)}" for what, days in lacking.items() if days]


@pytest.fixture(scope="module")
def environment(object_store: services.ObjectStore, database_server: services.DatabaseServer) -> dict[str, str]:
    prepared.put_in_place(object_store, database_server)
    return prepared.pipeline_environment(object_store, database_server)


@pytest.fixture
def settings(environment: dict[str, str], object_store: services.ObjectStore) -> Settings:
    return services.settings_from({**environment, **object_store.environment("admin")})


@contextmanager
def writing(environment: dict[str, str]) -> Iterator[Writers]:
    """Write in threads while the block runs, in a lake without what earlier blocks wrote."""
    forget(services.settings_from(environment))
    group = Writers(environment)
    threads = [threading.Thread(target=group.run) for _number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield group
    finally:
        group.stop.set()
        for thread in threads:
            thread.join()


def forget(settings: Settings) -> None:
    """Remove the days of writers from the tables and the recorded runs."""
    for spec in TABLES:
        open_catalog(settings, spec.tier).load_table(spec.full_name).delete(f"day >= '{FIRST}'")
    with psycopg.connect(settings.require("database_url")) as connection:
        connection.execute("DELETE FROM pipeline_runs WHERE day >= %s", [FIRST])


def rounds(numbers: Sequence[int]) -> list[Sequence[int]]:
    """Return the numbers of sets in groups, each for a lake without the days of others.

    A set takes time for every day of the lake: 100 sets of one that grows would take hours.
    """
    return [numbers[begin : begin + IN_GATE] for begin in range(0, len(numbers), IN_GATE)]


@dataclass
class Copies:
    """Copies nothing. In the copy with the number `failing`, counted from 1, a file disappears."""

    failing: int
    number: int = 0

    def __call__(self, _items: Sequence[Item]) -> list[Artifact]:
        self.number += 1
        if self.number == self.failing:
            raise SourceChangedError("cannot copy a file: it vanished")
        return []


def recorded_days(settings: Settings) -> dict[str, set[date]]:
    with psycopg.connect(settings.require("database_url")) as connection:
        rows = connection.execute("SELECT flow, day FROM pipeline_runs WHERE day >= %s", [FIRST]).fetchall()
    return {flow: {day for name, day in rows if name == flow} for flow in STEPS}


def days_of(pin: PinnedTable, settings: Settings) -> set[date]:
    """Return the days with a data file, by the partitions in the table's manifests."""
    files = table_files(pin.document, Objects(settings).content)
    found = {day_of_partition(file.partition) for file in files if file.kind == "data"}
    return {day for day in found if day >= FIRST}


def day_of_partition(partition: str) -> date:
    return date.fromisoformat(dict(part.split("=") for part in partition.split("/"))["day"])


def days_of_raw(raw: PinnedRaw) -> set[date]:
    found = {day_of_key(source.key) for source in raw.sources if f"/{SYMBOL}/" in source.key}
    return {day for day in found if day >= FIRST}


def day_of_key(key: str) -> date:
    return date.fromisoformat(key.split("/")[-2])


def pinned(settings: Settings, recorded: dict[str, set[date]], pins: list[PinnedTable], raw: PinnedRaw) -> Pinned:
    return Pinned(recorded, {pin.full_name: days_of(pin, settings) for pin in pins}, days_of_raw(raw))


@dataclass
class Judged:
    """Violations of the invariant in sets, and tables that were pinned again. last: content of the last set."""

    violations: list[str] = field(default_factory=list)
    repinned: set[str] = field(default_factory=set)
    last: Pinned | None = None

    def add(self, number: int, found: Pinned, repinned: Iterable[str]) -> None:
        self.violations += [f"set {number}: {each}" for each in found.violations()]
        self.repinned.update(repinned)
        self.last = found

    def check(self) -> None:
        assert self.violations == []
        assert self.repinned
        assert self.last is not None
        assert self.last.tables["gold.ohlcv_daily"]
        assert self.last.recorded["aggregate"]


def test_nothing_in_a_set_lacks_its_source_under_constant_writes(
    settings: Settings, environment: dict[str, str]
) -> None:
    judged = Judged()
    for numbers in rounds(sweep.choose(range(SETS), IN_GATE)):
        with writing(environment) as writers:
            for number in numbers:
                writers.wait_for_progress()
                # The order of a set: database, gold, silver, bronze, raw objects.
                recorded = recorded_days(settings)
                copied = pin_and_copy(settings, Copies(number % (len(PIPELINE) + 2)), only=PIPELINE, only_current=True)
                assert copied.raw
                found = pinned(settings, recorded, [table.pin for table in copied.tables], copied.raw)
                judged.add(number, found, copied.repinned)
    judged.check()


@dataclass(frozen=True)
class Place:
    """A separate lakehouse whose sets are stored in a folder."""

    lakehouse: backup_run.Lakehouse
    destination: FolderDestination

    def stored(self, set_id: str, recorded: dict[str, set[date]]) -> Pinned:
        """Return the content of a stored set."""
        tables: dict[str, set[date]] = {name: set() for name in PIPELINE}
        raw: set[date] = set()
        for artifact in sets.inventory(self.destination, sets.open_set(self.destination, set_id)):
            subject = artifact.subject
            if subject.kind == "data" and subject.table in tables:
                tables[subject.table].add(day_of_partition(subject.partition))
            elif subject.component == "raw" and artifact.source and f"/{SYMBOL}/" in artifact.source.key:
                raw.add(day_of_key(artifact.source.key))
        return Pinned(recorded, tables, raw)


@pytest.fixture(scope="module")
def place(object_store: services.ObjectStore) -> Iterator[Place]:
    with backup_run.in_folder(object_store, only_current_snapshots="true") as place:
        found = place.lakehouse
        own_backups = {"LAKEHOUSE_BACKUPS_BUCKET": f"{found.store.buckets['bronze_bucket']}-backups"}
        storage.ensure(services.settings_from({**found.environment, **own_backups}), Ledger(check=False, wait_s=30))
        with backup_run.receiving(found, place.destination, place.folder / "spool"):
            yield Place(found, place.destination)


@dataclass
class Faults:
    """Observes the steps of sets. In the copy with the number `failing`, counted from 1, a file disappears.

    recorded: records of the database right after its pin, at least those of the pin.
    """

    settings: Settings
    recorded: dict[str, set[date]] = field(default_factory=dict)
    failing: int = 0

    def pin_database(self, *arguments: Any) -> Any:
        pin = pin_database(*arguments)
        self.recorded = recorded_days(self.settings)
        return pin

    def pin_and_copy(self, settings: Settings, copy: Copy, **options: Any) -> Copied:
        numbers = itertools.count(1)

        def failing(items: Sequence[Item]) -> list[Artifact]:
            if next(numbers) == self.failing:
                raise SourceChangedError("cannot copy a file: it vanished")
            return copy(items)

        return pin_and_copy(settings, failing, **options)


def test_nothing_in_a_stored_set_lacks_its_source_under_constant_writes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = place.lakehouse.database.url("lakehouse", "lakehouse")
    environment = {**place.lakehouse.environment, "LAKEHOUSE_DATABASE_URL": url}
    faults = Faults(services.settings_from(environment))
    for step in ("pin_database", "pin_and_copy"):
        monkeypatch.setattr(create, step, getattr(faults, step))
    judged = Judged()
    for numbers in rounds(sweep.choose(range(SETS), WHOLE_IN_GATE)):
        with writing(environment) as writers:
            for index, number in enumerate(numbers):
                writers.wait_for_progress()
                # In every other set one of the tables or the raw objects is pinned again.
                faults.failing = index % 2 * (1 + number % (len(PIPELINE) + 1))
                set_id = create.create(place.lakehouse.settings, place.lakehouse.backup)["set"]
                warnings = sets.open_set(place.destination, set_id).warnings
                repinned = [each for each in warnings if "was pinned again" in each]
                judged.add(number, place.stored(set_id, faults.recorded), repinned)
    judged.check()


def test_pinning_upstream_first_would_break_the_set(settings: Settings, environment: dict[str, str]) -> None:
    """The invariant can fail: here the source is pinned before the objects derived from it."""
    lakehouse = Lakehouse(services.settings_from(environment))
    load_day(lakehouse)
    gold, others = (
        tuple(name for name in PIPELINE if name.startswith("gold.") is is_gold) for is_gold in (True, False)
    )
    raw, upstream = pin_raw(settings), pin_tables(settings, ("bronze", "silver"), only_current=True, only=others)
    day = load_day(lakehouse)
    pins = [*pin_tables(settings, ("gold",), only_current=True, only=gold), *upstream]
    found = pinned(settings, recorded_days(settings), pins, raw)
    assert f"gold.ohlcv_daily without silver.klines: {[day]}" in found.violations()
    assert f"recorded ingest without bronze.klines: {[day]}" in found.violations()
