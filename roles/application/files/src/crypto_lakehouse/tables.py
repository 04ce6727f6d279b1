# SPDX-License-Identifier: GPL-3.0-or-later
"""The Iceberg tables of the three tiers, and the only function that writes rows into them.

A table is replaced partition by partition: the wanted rows of a partition are compared with the existing rows. Only a
difference is committed, on top of exactly the snapshot that was compared. If another writer commits in between, this
commit fails and is retried from the start. So a rerun commits nothing, and two concurrent runs have the result of one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from crypto_lakehouse.settings import Tier

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

Row = Mapping[str, Any]

DECIMAL: Final = "decimal(38, 18)"
"""Exact for every price and volume that an exchange prints; a longer one is quarantined, not rounded."""

TIERS: Final[tuple[Tier, ...]] = ("bronze", "silver", "gold")

PROPERTIES: Final[Mapping[str, str]] = {
    # A retry inside pyiceberg would commit on a snapshot that was not compared.
    "commit.retry.num-retries": "0",
}

COMMIT_ATTEMPTS: Final = 10

NAMESPACE_PREFIX: Final = "lakehouse.namespace-prefix"
"""Property of a catalog: the prefix of its namespaces before the tier's name."""


class WriteConflictError(RuntimeError):
    """Other writers changed the partition during every attempt."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `type` in Iceberg's notation."""

    name: str
    type: str
    doc: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: `tier` is also the end of its namespace. `order` sorts the rows of a partition for comparison."""

    tier: Tier
    name: str
    doc: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]

    def identifier(self, catalog: Catalog) -> tuple[str, str]:
        """Return namespace and name in this catalog's form."""
        return (f"{catalog.properties.get(NAMESPACE_PREFIX, '')}{self.tier}", self.name)

    @property
    def full_name(self) -> str:
        """`tier.name`, as SQL writes it."""
        return f"{self.tier}.{self.name}"


@dataclass(frozen=True, slots=True)
class Partition:
    """The candles of one market and interval on one day (UTC): the unit that a run reads and replaces."""

    exchange: str
    symbol: str
    kline_interval: str
    day: date

    def as_row(self) -> dict[str, Any]:
        """Return the values of the partition columns."""
        return {name: getattr(self, name) for name in PARTITION_COLUMNS}

    def __str__(self) -> str:
        return f"{self.exchange}/{self.symbol}/{self.kline_interval}/{self.day.isoformat()}"


PARTITION_COLUMNS: Final = ("exchange", "symbol", "kline_interval", "day")

_KEY: Final = (
    Column("exchange", "string", "market place that published the candle", required=True),
    Column("symbol", "string", "instrument, as the exchange writes it", required=True),
    Column("kline_interval", "string", "length of a candle: 1m, 1h, ...", required=True),
    Column("day", "date", "UTC day of the candle's opening", required=True),
)
_ORIGIN: Final = (
    Column("line_number", "int", "1 for the first line of the raw object", required=True),
    Column("line", "string", "the line as it came", required=True),
    Column("object_key", "string", "key of the raw object in the bronze bucket", required=True),
    Column("object_sha256", "string", "SHA-256 of the raw object", required=True),
)

RAW_FIELDS: Final = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_base_volume",
    "taker_quote_volume",
)
"""Fields of a line in their order; an exchange may omit those after `quote_volume`."""

BRONZE_KLINES: Final = TableSpec(
    tier="bronze",
    name="klines",
    doc="Candles as they came, one row a line of the raw object; fields are null when a line does not split.",
    columns=(
        *_KEY,
        *_ORIGIN,
        Column("source", "string", "archive or sample", required=True),
        *(Column(name, "string", f"field {name} as it came") for name in RAW_FIELDS),
    ),
    order=("line_number",),
)

SILVER_KLINES: Final = TableSpec(
    tier="silver",
    name="klines",
    doc="Valid candles, typed, one a market, interval and opening time.",
    columns=(
        *_KEY,
        Column("open_time", "timestamptz", "opening of the candle", required=True),
        Column("close_time", "timestamptz", "end of the candle, as the exchange states it", required=True),
        Column("open", DECIMAL, "first price", required=True),
        Column("high", DECIMAL, "highest price", required=True),
        Column("low", DECIMAL, "lowest price", required=True),
        Column("close", DECIMAL, "last price", required=True),
        Column("volume", DECIMAL, "traded amount in the base asset", required=True),
        Column("quote_volume", DECIMAL, "traded amount in the quote asset", required=True),
        Column("trades", "long", "number of trades, null when the source does not know it"),
        Column("taker_base_volume", DECIMAL, "amount bought by takers, null when not known"),
        Column("taker_quote_volume", DECIMAL, "the same in the quote asset, null when not known"),
    ),
    order=("open_time",),
)

SILVER_QUARANTINE: Final = TableSpec(
    tier="silver",
    name="klines_quarantine",
    doc="Every line that did not become a candle, with the reason.",
    columns=(*_KEY, *_ORIGIN, Column("reason", "string", "why the line was refused", required=True)),
    order=("line_number",),
)

GOLD_OHLCV_DAILY: Final = TableSpec(
    tier="gold",
    name="ohlcv_daily",
    doc="One candle a market and UTC day.",
    columns=(
        *_KEY,
        Column("open", DECIMAL, "first price of the day", required=True),
        Column("high", DECIMAL, "highest price of the day", required=True),
        Column("low", DECIMAL, "lowest price of the day", required=True),
        Column("close", DECIMAL, "last price of the day", required=True),
        Column("volume", DECIMAL, "traded amount in the base asset", required=True),
        Column("quote_volume", DECIMAL, "traded amount in the quote asset", required=True),
        Column("klines", "int", "number of candles the day was made from", required=True),
        Column("expected_klines", "int", "number of candles that a full day has", required=True),
    ),
    order=("day",),
)

GOLD_VOLATILITY: Final = TableSpec(
    tier="gold",
    name="volatility",
    doc="Realised volatility of a market's log returns within one UTC day.",
    columns=(
        *_KEY,
        Column("log_returns", "int", "number of log returns the figure was made from", required=True),
        Column("realised_volatility", "double", "root of the sum of squared log returns of the day", required=True),
        Column("annualised_volatility", "double", "realised_volatility times the root of 365", required=True),
    ),
    order=("day",),
)

TABLES: Final = (BRONZE_KLINES, SILVER_KLINES, SILVER_QUARANTINE, GOLD_OHLCV_DAILY, GOLD_VOLATILITY)


def iceberg_schema(spec: TableSpec) -> Schema:
    """Return the table's schema; field ids follow the order of the columns."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    return Schema(
        *(
            NestedField(field_id=number, name=column.name, type=column.type, required=column.required, doc=column.doc)
            for number, column in enumerate(spec.columns, start=1)
        )
    )


def partition_spec(schema: Schema) -> PartitionSpec:
    """Return the partitioning of all tables: the identity of the four key columns."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform

    return PartitionSpec(
        *(
            PartitionField(
                source_id=schema.find_field(name).field_id, field_id=number, transform=IdentityTransform(), name=name
            )
            for number, name in enumerate(PARTITION_COLUMNS, start=1000)
        )
    )


def table_properties(spec: TableSpec) -> dict[str, str]:
    """Return the properties that the table must have."""
    return {**PROPERTIES, "comment": spec.doc}


def arrow_table(spec: TableSpec, rows: Sequence[Row]) -> pa.Table:
    """Return the rows as an Arrow table of the table's schema, in the table's order.

    Raises:
        pyarrow.ArrowInvalid: when a value does not fit its column.
    """
    import pyarrow as pa

    return pa.Table.from_pylist([dict(row) for row in rows], schema=_arrow_schema(spec)).sort_by(_sort_keys(spec))


def read_partition(catalog: Catalog, spec: TableSpec, partition: Partition) -> pa.Table:
    """Return the current rows of the partition, in the table's order."""
    return _scan(catalog.load_table(spec.identifier(catalog)), spec, partition)


def replace_partition(catalog: Catalog, spec: TableSpec, partition: Partition, rows: Sequence[Row]) -> bool:
    """Make the partition contain exactly `rows`; return whether a write was necessary.

    Raises:
        WriteConflictError: when other writers committed first in each of `COMMIT_ATTEMPTS` attempts.
        ValueError: when a row belongs to another partition.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

    key = partition.as_row()
    if any(row[name] != value for row in rows for name, value in key.items()):
        raise ValueError(f"a row for {spec.full_name} lies outside the partition {partition}")
    wanted = arrow_table(spec, rows)
    for attempt in range(COMMIT_ATTEMPTS):
        table = catalog.load_table(spec.identifier(catalog))
        found = _scan(table, spec, partition)
        if found.equals(wanted):
            return False
        try:
            _commit(table, partition, found, wanted)
        except (CommitFailedException, CommitStateUnknownException):
            # The next attempt reads the current state, so an unknown outcome needs no special handling.
            time.sleep((1 + secrets.randbelow(5)) * 0.02 * 2 ** min(attempt, 5))
        else:
            return True
    raise WriteConflictError(f"{spec.full_name}: {partition} was changed by others in {COMMIT_ATTEMPTS} attempts")


def _commit(table: Table, partition: Partition, found: pa.Table, wanted: pa.Table) -> None:
    # An overwrite from or to an empty partition would create two snapshots, one of them empty.
    if not found.num_rows:
        table.append(wanted)
    elif not wanted.num_rows:
        table.delete(_filter(partition))
    else:
        table.overwrite(wanted, overwrite_filter=_filter(partition))


def _scan(table: Table, spec: TableSpec, partition: Partition) -> pa.Table:
    schema = _arrow_schema(spec)
    found = table.scan(row_filter=_filter(partition)).to_arrow()
    return found.select(schema.names).cast(schema).sort_by(_sort_keys(spec))


def _filter(partition: Partition) -> BooleanExpression:
    from pyiceberg.expressions import And, EqualTo, Reference

    first, *others = (EqualTo(term=Reference(name), value=value) for name, value in partition.as_row().items())
    expression: BooleanExpression = first
    for other in others:
        expression = And(expression, other)
    return expression


def _arrow_schema(spec: TableSpec) -> pa.Schema:
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    schema = schema_to_pyarrow(iceberg_schema(spec), include_field_ids=False)
    return pa.schema([field.remove_metadata() for field in schema])


def _sort_keys(spec: TableSpec) -> list[tuple[str, str]]:
    return [(name, "ascending") for name in spec.order]
