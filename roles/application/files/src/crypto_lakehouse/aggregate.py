# SPDX-License-Identifier: GPL-3.0-or-later
"""Aggregation of a day's candles into the figures of that day. Pure functions; days are independent.

A day's figures depend on that day's candles only. So days can be loaded in any order, repeatedly and
in parallel. Every row of the gold tier equals that of a single pass over all days.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any, Final

from crypto_lakehouse.market import INTERVALS
from crypto_lakehouse.tables import Partition

DAYS_PER_YEAR: Final = 365
"""Crypto markets trade on every day of the year, so figures are annualised with 365 days, not 252."""


def ohlcv_daily(klines: Iterable[Mapping[str, Any]], partition: Partition) -> dict[str, Any] | None:
    """Return the day's row of `gold.ohlcv_daily`, or None when the day has no candle.

    Open is that of the first candle, close that of the last, by `open_time`; volumes are exact sums.
    """
    ordered = _by_time(klines)
    if not ordered:
        return None
    return {
        **partition.as_row(),
        "open": ordered[0]["open"],
        "high": max(kline["high"] for kline in ordered),
        "low": min(kline["low"] for kline in ordered),
        "close": ordered[-1]["close"],
        "volume": _exact_sum(kline["volume"] for kline in ordered),
        "quote_volume": _exact_sum(kline["quote_volume"] for kline in ordered),
        "klines": len(ordered),
        "expected_klines": timedelta(days=1) // INTERVALS[partition.kline_interval],
    }


def volatility(klines: Iterable[Mapping[str, Any]], partition: Partition) -> dict[str, Any] | None:
    """Return the day's row of `gold.volatility`, or None when the day has no candle.

    Realised volatility is the square root of realised variance, the sum of the squared intraday log
    returns r_i: sqrt(r_1^2 + ... + r_n^2), with r_i = ln(close_i / close_{i-1}) and the day's first
    open standing for close_0. It is a figure for one day (a ratio, not percent); times sqrt(365) it
    is annualised.

    Source: Andersen, Bollerslev, Diebold and Labys, "Modeling and Forecasting Realized Volatility",
    Econometrica 71 (2003), 579-625.
    """
    ordered = _by_time(klines)
    if not ordered:
        return None
    prices = [ordered[0]["open"], *(kline["close"] for kline in ordered)]
    returns = [math.log(float(price)) - math.log(float(before)) for before, price in pairwise(prices)]
    realised = math.sqrt(math.fsum(value * value for value in returns))
    return {
        **partition.as_row(),
        "log_returns": len(returns),
        "realised_volatility": realised,
        "annualised_volatility": realised * math.sqrt(DAYS_PER_YEAR),
    }


def _by_time(klines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(klines, key=lambda kline: kline["open_time"])


def _exact_sum(values: Iterable[Decimal]) -> Decimal:
    # The default context rounds to 28 digits.
    with localcontext() as context:
        context.prec = 60
        return sum(values, start=Decimal(0))
