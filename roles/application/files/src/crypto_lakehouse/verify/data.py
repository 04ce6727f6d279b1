# SPDX-License-Identifier: GPL-3.0-or-later
"""The data part of the contract: a day goes through every tier and is read back in more than one way.

The expected content of each tier is computed here from the packaged sample, with the functions of the flows. It is
compared with the content of the stores, row by row.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from crypto_lakehouse.aggregate import ohlcv_daily, volatility
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.clean import clean
from crypto_lakehouse.flows.deployments import DEPLOYMENT, PrefectApi
from crypto_lakehouse.flows.steps import partition_of
from crypto_lakehouse.ingest import bronze_rows
from crypto_lakehouse.market import SAMPLE_INTERVAL, SAMPLE_LAST_DAY, SAMPLE_SYMBOL, sample_file
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings, Tier
from crypto_lakehouse.tables import (
    BRONZE_KLINES,
    GOLD_OHLCV_DAILY,
    GOLD_VOLATILITY,
    SILVER_KLINES,
    SILVER_QUARANTINE,
    TABLES,
    TIERS,
    Column,
    Row,
    TableSpec,
    read_partition,
)
from crypto_lakehouse.verify import Patience, VerificationError, api
from crypto_lakehouse.verify.record import RUN_TAG

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

PARTITION: Final = partition_of(SAMPLE_SYMBOL, SAMPLE_INTERVAL, SAMPLE_LAST_DAY)
POLL_S: Final = 0.1
TERMINAL_STATES: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
NOT_STARTED: Final = ("SCHEDULED", "PENDING")

Fingerprint = Mapping[str, tuple[int, str]]
"""Number of rows and their checksum by table."""


def flow_runs(settings: Settings, timeout_s: float, patience: Patience) -> str:
    """The deployed worker takes the day through every tier, and once more without changing anything.

    Where the day was there before, the first run is already the repetition.

    Raises:
        VerificationError: when a run does not complete in `timeout_s`, or a repetition changes the tiers.
    """
    with closing(PrefectApi(settings, patience_s=patience.left_s)) as prefect:
        started = time.monotonic()
        run = _trigger(prefect)
        before = fingerprint(settings, patience)
        undisturbed = _state(prefect, run) in NOT_STARTED
        _wait(prefect, run, timeout_s)
        first_s = time.monotonic() - started
        after = fingerprint(settings, patience)
        if not (undisturbed and before == expected_fingerprint()):
            before = after
            _wait(prefect, _trigger(prefect), timeout_s)
            after = fingerprint(settings, patience)
    if before != after:
        raise VerificationError(f"running {PARTITION} again changed the tiers: {_differences(before, after)}")
    return f"{PARTITION} in {first_s:.1f} s on the deployed worker; running it again changed nothing"


def _trigger(prefect: PrefectApi) -> str:
    deployment = prefect.find(f"deployments/name/pipeline/{DEPLOYMENT}")
    if deployment is None:
        raise VerificationError(f"Prefect has no deployment pipeline/{DEPLOYMENT}: run lakehouse bootstrap")
    parameters = {
        "symbol": PARTITION.symbol,
        "interval": PARTITION.kline_interval,
        "day": PARTITION.day.isoformat(),
        "days": 1,
    }
    request = {
        "parameters": parameters,
        "state": {"type": "SCHEDULED"},
        "tags": [RUN_TAG],
        # A request that is repeated because of a lost answer requests the same run.
        "idempotency_key": secrets.token_hex(16),
    }
    return str(prefect.post(f"deployments/{deployment['id']}/create_flow_run", request)["id"])


def _state(prefect: PrefectApi, run: str) -> str:
    return str((prefect.find(f"flow_runs/{run}") or {}).get("state_type"))


def _wait(prefect: PrefectApi, run: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (state := _state(prefect, run)) not in TERMINAL_STATES:
        if time.monotonic() > deadline:
            hint = ": does the worker run?" if state in NOT_STARTED else ""
            raise VerificationError(f"flow run {run} is {state} after {timeout_s:.0f} s{hint}")
        time.sleep(POLL_S)
    if state != "COMPLETED":
        found = prefect.find(f"flow_runs/{run}") or {}
        raise VerificationError(f"flow run {run} is {state}: {(found.get('state') or {}).get('message')}")


def fingerprint(settings: Settings, patience: Patience) -> Fingerprint:
    """Return number and checksum of the rows of the verified day in every table."""
    found = {}
    for spec in TABLES:
        rows = patience.ask(partial(_read_with_catalog, settings, spec))
        found[spec.full_name] = (len(rows), checksum(spec, rows))
    return found


@lru_cache(maxsize=1)
def expected_rows() -> Mapping[str, list[Row]]:
    """Return the expected rows of the verified day in every table, computed from the packaged sample."""
    lines = list(bronze_rows(sample_file(PARTITION.day)))
    cleaned = clean(lines, PARTITION)
    figures = {GOLD_OHLCV_DAILY: ohlcv_daily, GOLD_VOLATILITY: volatility}
    return {
        BRONZE_KLINES.full_name: list(lines),
        SILVER_KLINES.full_name: list(cleaned.klines),
        SILVER_QUARANTINE.full_name: list(cleaned.quarantined),
        **{spec.full_name: [row] for spec, of in figures.items() if (row := of(cleaned.klines, PARTITION))},
    }


def expected_fingerprint() -> Fingerprint:
    """Return number and checksum of `expected_rows`."""
    rows = expected_rows()
    return {spec.full_name: (len(rows[spec.full_name]), checksum(spec, rows[spec.full_name])) for spec in TABLES}


def bronze_is_complete(settings: Settings, patience: Patience) -> str:
    """The raw object is the file that was loaded, and the bronze rows are its lines, read in two ways.

    Raises:
        VerificationError: saying what differs.
    """
    raw = sample_file(PARTITION.day)
    content = patience.ask(partial(_raw_object, settings, raw.object_key))
    if hashlib.sha256(content).hexdigest() != raw.sha256:
        raise VerificationError(f"the raw object {raw.object_key} is not the file that was loaded")
    return f"raw object of {len(content)} bytes unchanged; {_compare(settings, patience, BRONZE_KLINES)}"


def _raw_object(settings: Settings, key: str) -> bytes:
    content: bytes = _s3(settings).get_object(Bucket=settings.bucket("bronze"), Key=key)["Body"].read()
    return content


def silver_is_right(settings: Settings, patience: Patience) -> str:
    """Silver candles and quarantine are what the lines amount to, read in two ways.

    Raises:
        VerificationError: saying what differs.
    """
    return f"{_compare(settings, patience, SILVER_KLINES)}; {_compare(settings, patience, SILVER_QUARANTINE)}"


def gold_is_right(settings: Settings, patience: Patience) -> str:
    """The gold figures are what the candles amount to, read through the API, DuckDB and the catalog.

    Raises:
        VerificationError: saying what differs.
    """
    with api.client(settings) as http:

        def ask(spec: TableSpec) -> list[Row]:
            return list(patience.ask(lambda: api.query(http, _select(spec, spec.full_name))))

        return "; ".join(
            _compare(settings, patience, spec, {"the API": ask(spec)}) for spec in (GOLD_OHLCV_DAILY, GOLD_VOLATILITY)
        )


def gold_is_answered(settings: Settings) -> str:
    """The API answers one query with the gold figures of the verified day.

    Raises:
        VerificationError: saying what differs.
    """
    spec = GOLD_OHLCV_DAILY
    with api.client(settings) as http:
        rows: list[Row] = list(api.query(http, _select(spec, spec.full_name)))
    return _agree(spec, {"the API": rows})


def _compare(
    settings: Settings, patience: Patience, spec: TableSpec, further: Mapping[str, list[Row]] | None = None
) -> str:
    readings = {
        "the catalog": patience.ask(lambda: _read_with_catalog(settings, spec)),
        "DuckDB": patience.ask(lambda: _read_with_duckdb(settings, spec)),
        **(further or {}),
    }
    return _agree(spec, readings)


def _agree(spec: TableSpec, readings: Mapping[str, list[Row]]) -> str:
    """Compare the result of each reader with the expected rows; return a summary."""
    expected = checksum(spec, expected_rows()[spec.full_name])
    for way, rows in readings.items():
        if checksum(spec, rows) != expected:
            wanted = len(expected_rows()[spec.full_name])
            raise VerificationError(
                f"{spec.full_name} read through {way} has {len(rows)} rows of {PARTITION} with checksum "
                f"{checksum(spec, rows)[:12]}, expected {wanted} with {expected[:12]}"
            )
    count = len(expected_rows()[spec.full_name])
    return f"{spec.full_name}: {count} rows, checksum {expected[:12]} through {', '.join(readings)}"


def checksum(spec: TableSpec, rows: Iterable[Row]) -> str:
    """Return a SHA-256 of the rows that depends neither on their order nor on how a reader types a value."""
    lines = sorted(json.dumps([_canonical(row[column.name], column) for column in spec.columns]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _canonical(value: Any, column: Column) -> str | None:
    if value is None:
        return None
    if column.type.startswith("decimal"):
        digits = f"{Decimal(str(value)):.18f}"
        return digits.rstrip("0").rstrip(".")
    if column.type == "double":
        return repr(float(value))
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


def _read_with_catalog(settings: Settings, spec: TableSpec) -> list[Row]:
    rows: list[Row] = read_partition(_catalog(settings, spec.tier), spec, PARTITION).to_pylist()
    return rows


def _read_with_duckdb(settings: Settings, spec: TableSpec) -> list[Row]:
    catalog = _catalog(settings, spec.tier)
    location = catalog.load_table(spec.identifier(catalog)).metadata_location
    with _duckdb(settings) as connection:
        found = connection.execute(_select(spec, "iceberg_scan(?)"), [location]).fetchall()
    return [dict(zip((column.name for column in spec.columns), row, strict=True)) for row in found]


def _duckdb(settings: Settings) -> Any:
    from crypto_lakehouse.query.sandbox import open_engine, quote
    from crypto_lakehouse.signing import KeySource

    connection = open_engine()
    # A pod has only the keys of its service account, which DuckDB does not find by itself.
    keys = asyncio.run(KeySource(settings).keys())
    options = {
        "KEY_ID": keys.access_key,
        "SECRET": keys.secret_key,
        "SESSION_TOKEN": keys.token,
        "REGION": settings.s3_region,
    }
    if settings.s3_endpoint:
        scheme, _separator, host = settings.s3_endpoint.rstrip("/").partition("://")
        options |= {"ENDPOINT": host, "URL_STYLE": "path", "USE_SSL": str(scheme == "https").lower()}
    given = ", ".join(f"{name} {quote(value)}" for name, value in options.items() if value)
    connection.execute(f"CREATE SECRET verification (TYPE s3, {given})")
    return connection


def _select(spec: TableSpec, source: str) -> str:
    columns = ", ".join(f'"{column.name}"' for column in spec.columns)
    condition = " AND ".join(f"{name} = '{value}'" for name, value in PARTITION.as_row().items())
    return f"SELECT {columns} FROM {source} WHERE {condition}"  # noqa: S608 - constants of this package


def _differences(before: Fingerprint, after: Fingerprint) -> str:
    return ", ".join(f"{name} {before[name]} -> {after[name]}" for name in before if before[name] != after[name])


@lru_cache(maxsize=len(TIERS))
def _catalog(settings: Settings, tier: Tier) -> Catalog:
    return open_catalog(settings, tier)


@lru_cache(maxsize=1)
def _s3(settings: Settings) -> Any:
    return s3_client(settings)
