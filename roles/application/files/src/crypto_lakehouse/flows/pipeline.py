# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows that Prefect runs: `pipeline`, and its three steps, each a flow that also runs alone.

`pipeline` calls the steps as tasks in its own process: another process would cost seconds a step, a flow
within the flow six requests to the orchestrator where a task costs none.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache

from prefect import flow, task
from prefect.logging import get_run_logger

from crypto_lakehouse.flows.steps import STEPS, Lakehouse, partition_of, run_step
from crypto_lakehouse.market import select
from crypto_lakehouse.settings import Settings

RETRIES = 2
RETRY_DELAY_S = 5


@lru_cache(maxsize=1)
def _lakehouse() -> Lakehouse:
    return Lakehouse(Settings.from_environment())


@task(task_run_name="{step} {symbol} {day}", retries=RETRIES, retry_delay_seconds=RETRY_DELAY_S)
def _step(step: str, symbol: str, interval: str, day: date) -> str:
    outcome = run_step(step, _lakehouse(), partition_of(symbol, interval, day)).describe()
    get_run_logger().info(outcome)
    return outcome


@flow(name="ingest")
def ingest(symbol: str, interval: str, day: date) -> str:
    """Bring the candles of one day into the bronze tier, as they came."""
    return _step("ingest", symbol, interval, day)


@flow(name="clean")
def clean(symbol: str, interval: str, day: date) -> str:
    """Make typed, valid, unique candles of one day's bronze rows; refused lines go to quarantine."""
    return _step("clean", symbol, interval, day)


@flow(name="aggregate")
def aggregate(symbol: str, interval: str, day: date) -> str:
    """Compute one day's candle and realised volatility for the gold tier."""
    return _step("aggregate", symbol, interval, day)


@flow(name="pipeline")
def pipeline(symbol: str, interval: str, day: date | None = None, days: int = 1) -> list[str]:
    """Take the `days` days that end with `day` (the newest published one when not given) through all tiers.

    The result has one line a step and day. When no day was given and the archive cannot be reached,
    the packaged sample is loaded instead, under its own exchange and symbol.
    """
    selection = select(_lakehouse().archive, symbol, interval, day, days, datetime.now(UTC).date())
    if selection.symbol != symbol:
        get_run_logger().warning("%s; loading the packaged sample of %s", selection.reason, selection.symbol)
    return [
        _step(step, selection.symbol, selection.kline_interval, chosen) for chosen in selection.days for step in STEPS
    ]
