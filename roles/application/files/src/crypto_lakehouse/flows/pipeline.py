# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows that Prefect runs: `pipeline`, and its three steps, each a flow that also runs alone.

`pipeline` calls the steps as tasks in its own process: another process would take seconds for each step, and a flow
within the flow six requests to the orchestrator, a task none.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache

from prefect import flow, task
from prefect.logging import get_run_logger

from crypto_lakehouse.flows.steps import STEPS, Lakehouse, load_days, partition_of, run_step
from crypto_lakehouse.market import select
from crypto_lakehouse.settings import Settings

RETRIES = 2
RETRY_DELAY_S = 5
END_S = 60.0
"""Time of the worker's shutdown timeout for the start of a flow's process and its own end."""


def flow_timeout_s(settings: Settings) -> float | None:
    """Return the time limit of a flow, None without a shutdown timeout of the worker.

    A worker that receives a signal waits for its flows: a flow must not take longer than the shutdown timeout.
    """
    given_s = settings.worker_stop_timeout_s
    return None if given_s is None else max(1.0, given_s - END_S)


_TIMEOUT_S = flow_timeout_s(Settings.from_environment())


@lru_cache(maxsize=1)
def _lakehouse() -> Lakehouse:
    return Lakehouse(Settings.from_environment())


@task(task_run_name="{step} {symbol} {day}", retries=RETRIES, retry_delay_seconds=RETRY_DELAY_S)
def _step(step: str, symbol: str, interval: str, day: date) -> str:
    outcome = run_step(step, _lakehouse(), partition_of(symbol, interval, day)).describe()
    get_run_logger().info(outcome)
    return outcome


@flow(name="ingest", timeout_seconds=_TIMEOUT_S)
def ingest(symbol: str, interval: str, day: date) -> str:
    """Load the raw candles of one day into the bronze tier."""
    return _step("ingest", symbol, interval, day)


@flow(name="clean", timeout_seconds=_TIMEOUT_S)
def clean(symbol: str, interval: str, day: date) -> str:
    """Create typed, valid, unique candles from one day's bronze rows; refused lines go to quarantine."""
    return _step("clean", symbol, interval, day)


@flow(name="aggregate", timeout_seconds=_TIMEOUT_S)
def aggregate(symbol: str, interval: str, day: date) -> str:
    """Compute one day's candle and realised volatility for the gold tier."""
    return _step("aggregate", symbol, interval, day)


@flow(name="pipeline", timeout_seconds=_TIMEOUT_S)
def pipeline(symbol: str, interval: str, day: date | None = None, days: int | None = None) -> list[str]:
    """Load the `days` days that end with `day` (default: the newest published one) into all tiers.

    Without `days`, one day is loaded where `day` is given, else three. The result has one line per step and day.
    When no day was given and the archive cannot be reached, the packaged sample is loaded instead, under its own
    exchange and symbol. A day that fails does not stop the others: the run fails after them and names each.
    """
    selection = select(_lakehouse().archive, symbol, interval, day, days, datetime.now(UTC).date())
    if selection.symbol != symbol:
        get_run_logger().warning("%s; loading the packaged sample of %s", selection.reason, selection.symbol)
    return load_days(
        selection.days,
        lambda chosen: [_step(step, selection.symbol, selection.kline_interval, chosen) for step in STEPS],
    )
