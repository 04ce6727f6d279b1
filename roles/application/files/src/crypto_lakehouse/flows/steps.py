# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline's steps without an orchestrator: each loads one partition from one tier into the next.

A step reads only the previous tier. Run alone, repeatedly, or after an interruption at any point, it has the result of
one undisturbed run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from crypto_lakehouse.aggregate import ohlcv_daily, volatility
from crypto_lakehouse.clean import DUPLICATE
from crypto_lakehouse.clean import clean as clean_rows
from crypto_lakehouse.ingest import bronze_rows, has_raw_object, store_raw_object
from crypto_lakehouse.market import (
    ARCHIVE_EXCHANGE,
    SAMPLE_EXCHANGE,
    SAMPLE_SYMBOL,
    Archive,
    MarketDataError,
    Source,
    archive_client,
    check_request,
    sample_file,
)
from crypto_lakehouse.runs import Lines, Run, record
from crypto_lakehouse.settings import Settings, Tier
from crypto_lakehouse.tables import (
    BRONZE_KLINES,
    GOLD_OHLCV_DAILY,
    GOLD_VOLATILITY,
    SILVER_KLINES,
    SILVER_QUARANTINE,
    TIERS,
    Partition,
    Row,
    TableSpec,
    read_partition,
    replace_partition,
)

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Processed:
    """Result of a step: rows in the next tier, bytes read, and for `clean` the lines."""

    rows: int
    bytes: int
    changed: bool
    lines: Lines | None = None


class Lakehouse:
    """The stores of the steps, opened at their first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._catalogs: dict[Tier, Catalog] = {}

    def open(self) -> None:
        """Import and connect all stores, which takes seconds and does not count as processing."""
        import pyiceberg.io.pyarrow  # noqa: F401 - imported for its time alone

        for tier in TIERS:
            self.catalog(tier)
        _client = self.s3

    def catalog(self, tier: Tier) -> Catalog:
        """Return the catalog of the tier's tables."""
        from crypto_lakehouse.catalog import open_catalog

        if tier not in self._catalogs:
            self._catalogs[tier] = open_catalog(self.settings, tier)
        return self._catalogs[tier]

    @cached_property
    def s3(self) -> Any:
        """The object store's client."""
        from crypto_lakehouse.objectstore import s3_client

        return s3_client(self.settings)

    @cached_property
    def archive(self) -> Archive:
        """The exchange's public archive."""
        return Archive(archive_client(), self.settings.market_archive_url)

    def read(self, spec: TableSpec, partition: Partition) -> list[dict[str, Any]]:
        """Return the rows of a partition."""
        rows: list[dict[str, Any]] = read_partition(self.catalog(spec.tier), spec, partition).to_pylist()
        return rows

    def replace(self, spec: TableSpec, partition: Partition, rows: list[Row]) -> bool:
        """Make the partition contain exactly these rows; return whether a write was necessary."""
        return replace_partition(self.catalog(spec.tier), spec, partition, rows)

    def record(self, run: Run) -> None:
        """Write the run into the database.

        Raises:
            psycopg.Error: when the database cannot be reached or rejects the statement.
        """
        import psycopg

        with psycopg.connect(self.settings.require("database_url"), connect_timeout=10) as connection:
            record(connection, run)


Step = Callable[[Lakehouse, Partition], Processed]


def partition_of(symbol: str, interval: str, day: date) -> Partition:
    """Return the partition of a market's day: the sample's market, or one of the archive's exchange.

    Raises:
        ValueError: when symbol or interval is not valid for any exchange.
    """
    check_request(symbol, interval)
    exchange = SAMPLE_EXCHANGE if symbol == SAMPLE_SYMBOL else ARCHIVE_EXCHANGE
    return Partition(exchange, symbol, interval, day)


def source_of(partition: Partition) -> Source:
    """Return the source of a partition's candles."""
    return "sample" if partition.exchange == SAMPLE_EXCHANGE else "archive"


def ingest(lakehouse: Lakehouse, partition: Partition) -> Processed:
    """Load one day from its source into the bronze tier: the file as an object, its lines as rows.

    Raises:
        MarketDataError: when the source does not have the day, or returns other data.
    """
    if source_of(partition) == "sample":
        raw = sample_file(partition.day)
    else:
        raw = lakehouse.archive.fetch(partition.symbol, partition.kline_interval, partition.day)
    if raw.partition != partition:
        raise MarketDataError(f"the source has {raw.partition}, not {partition}")
    rows: list[Row] = list(bronze_rows(raw))
    put = store_raw_object(lakehouse.s3, lakehouse.settings.bucket("bronze"), raw)
    written = lakehouse.replace(BRONZE_KLINES, partition, rows)
    return Processed(rows=len(rows), bytes=len(raw.content), changed=put or written)


def clean(lakehouse: Lakehouse, partition: Partition) -> Processed:
    """Convert the bronze rows of one day into candles of the silver tier and refused lines; an empty file into none.

    Raises:
        MarketDataError: when the day was not ingested.
    """
    lines = lakehouse.read(BRONZE_KLINES, partition)
    if not lines and not has_raw_object(lakehouse.s3, lakehouse.settings.bucket("bronze"), partition):
        raise MarketDataError(f"{BRONZE_KLINES.full_name} holds nothing of {partition}: run ingest first")
    cleaned = clean_rows(lines, partition)
    refused = lakehouse.replace(SILVER_QUARANTINE, partition, list(cleaned.quarantined))
    accepted = lakehouse.replace(SILVER_KLINES, partition, list(cleaned.klines))
    duplicated = cleaned.reasons.get(DUPLICATE, 0)
    return Processed(
        rows=len(cleaned.klines),
        bytes=sum(len(row["line"]) for row in lines),
        changed=refused or accepted,
        lines=Lines(
            read=len(lines),
            accepted=len(cleaned.klines),
            refused=len(cleaned.quarantined) - duplicated,
            duplicated=duplicated,
            reasons=cleaned.reasons,
        ),
    )


def aggregate(lakehouse: Lakehouse, partition: Partition) -> Processed:
    """Compute the day's figures of the gold tier from the silver candles; a day without any has none."""
    table = read_partition(lakehouse.catalog("silver"), SILVER_KLINES, partition)
    klines = table.to_pylist()
    figures = {GOLD_OHLCV_DAILY: ohlcv_daily(klines, partition), GOLD_VOLATILITY: volatility(klines, partition)}
    changed = [lakehouse.replace(spec, partition, [row] if row else []) for spec, row in figures.items()]
    return Processed(rows=sum(row is not None for row in figures.values()), bytes=table.nbytes, changed=any(changed))


STEPS: dict[str, Step] = {"ingest": ingest, "clean": clean, "aggregate": aggregate}


def load_days(days: Sequence[date], load: Callable[[date], list[str]]) -> list[str]:
    """Load each day, and return the lines of all of them; a failed day does not stop the others.

    Raises:
        MarketDataError: after the last day, when any failed; it names each failed day with its cause.
        TimeoutError: at once, when the time limit of the run is exceeded.
    """
    outcomes: list[str] = []
    failed: dict[date, Exception] = {}
    for day in days:
        try:
            outcomes += load(day)
        except TimeoutError:
            # The time limit of the whole run is exceeded.
            raise
        except Exception as error:  # noqa: BLE001 - any cause that stops one day concerns that day alone
            failed[day] = error
    if failed:
        causes = "; ".join(f"{day}: {error}" for day, error in failed.items())
        raise MarketDataError(f"{len(failed)} of {len(days)} days failed: {causes}")
    return outcomes


def run_step(name: str, lakehouse: Lakehouse, partition: Partition) -> Run:
    """Run one step and record its result.

    Raises:
        KeyError: for an unknown step.
        MarketDataError: when the step has no input.
    """
    lakehouse.open()
    started = time.perf_counter()
    done = STEPS[name](lakehouse, partition)
    run = Run(
        flow=name,
        partition=partition,
        source=source_of(partition),
        rows=done.rows,
        bytes=done.bytes,
        lines=done.lines,
        duration_s=time.perf_counter() - started,
        changed=done.changed,
    )
    lakehouse.record(run)
    return run
