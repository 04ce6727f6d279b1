# SPDX-License-Identifier: GPL-3.0-or-later
"""A day's figures match its candles, compared with an independent source and computation."""

from __future__ import annotations

import math
import random
import statistics
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse.aggregate import ohlcv_daily, volatility
from crypto_lakehouse.clean import clean
from crypto_lakehouse.ingest import bronze_rows
from crypto_lakehouse.market import sample_file
from crypto_lakehouse.tables import GOLD_OHLCV_DAILY, GOLD_VOLATILITY, Partition, arrow_table

DAY = date(2024, 5, 1)
PARTITION = Partition("binance", "BTCUSDT", "1h", DAY)
PRICES = st.decimals("0.0001", "9999999", places=4)


def kline(hour: int, open_: str, high: str, low: str, close: str, volume: str = "1") -> dict[str, Any]:
    opened = datetime(2024, 5, 1, hour, tzinfo=UTC)
    numbers = {"open": open_, "high": high, "low": low, "close": close, "volume": volume, "quote_volume": volume}
    return {
        **PARTITION.as_row(),
        "open_time": opened,
        "close_time": opened + timedelta(hours=1),
        **{name: Decimal(text) for name, text in numbers.items()},
    }


@st.composite
def days(draw: st.DrawFn) -> list[dict[str, Any]]:
    hours = draw(st.lists(st.integers(0, 23), min_size=1, max_size=24, unique=True))
    found = []
    for hour in hours:
        low, first, last, high = map(str, sorted(draw(st.tuples(PRICES, PRICES, PRICES, PRICES))))
        found.append(kline(hour, first, high, low, last, str(draw(PRICES))))
    return found


def test_a_day_without_a_candle_has_no_figures() -> None:
    assert ohlcv_daily([], PARTITION) is None
    assert volatility([], PARTITION) is None


# Daily candles of the same market from a separate file of the sample's origin (see sample/SOURCE.md).
@pytest.mark.parametrize(
    ("day", "open_", "high", "low", "close", "volume", "quote_volume"),
    [
        (date(2019, 7, 1), "10761.26", "11210.52", "9953", "10577.63", "37633.9", "396857365.17"),
        (date(2019, 8, 15), "10025.86", "10445", "9470", "10300.01", "26273.06", "262525694.3"),
        (date(2019, 9, 30), "8052.4", "8393.23", "7701", "8304.96", "14235.43", "114990553.14"),
    ],
)
def test_hours_of_the_sample_add_up_to_the_daily_candle_of_its_origin(
    day: date, open_: str, high: str, low: str, close: str, volume: str, quote_volume: str
) -> None:
    raw = sample_file(day)
    cleaned = clean(bronze_rows(raw), raw.partition)
    figures = ohlcv_daily(cleaned.klines, raw.partition)
    assert figures is not None
    assert [figures[name] for name in ("open", "high", "low", "close")] == [
        Decimal(x) for x in (open_, high, low, close)
    ]
    # The origin rounds each volume to two places, so 24 of them may differ by as many halves.
    assert abs(figures["volume"] - Decimal(volume)) <= Decimal("0.12")
    assert abs(figures["quote_volume"] - Decimal(quote_volume)) <= Decimal("0.12")
    assert (figures["klines"], figures["expected_klines"]) == (24, 24)
    assert cleaned.quarantined == ()


def test_volatility_by_hand() -> None:
    # 100 -> 110 -> 99: ln 1.1 = 0.0953102, ln 0.9 = -0.1053605; root of the sum of squares = 0.1420735.
    found = volatility([kline(0, "100", "110", "100", "110"), kline(1, "110", "110", "99", "99")], PARTITION)
    assert found is not None
    assert found["log_returns"] == 2
    assert found["realised_volatility"] == pytest.approx(0.1420735, abs=1e-7)
    assert found["annualised_volatility"] == pytest.approx(0.1420735 * 19.1049732, abs=1e-6)


def test_a_price_that_stands_still_has_no_volatility() -> None:
    found = volatility([kline(hour, "5", "5", "5", "5") for hour in range(24)], PARTITION)
    assert found is not None
    assert found["realised_volatility"] == 0


@given(days())
def test_volatility_equals_another_way_of_computing_it(klines: list[dict[str, Any]]) -> None:
    found = volatility(klines, PARTITION)
    ordered = sorted(klines, key=lambda each: each["open_time"])
    prices = [float(ordered[0]["open"]), *(float(each["close"]) for each in ordered)]
    ratios = [math.log(after / before) for before, after in pairwise(prices)]
    # n times the population's second moment about zero.
    expected = math.sqrt(len(ratios) * (statistics.pvariance(ratios) + statistics.fmean(ratios) ** 2))
    assert found is not None
    assert found["realised_volatility"] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(days())
def test_the_daily_candle_keeps_the_invariants_of_its_kind(klines: list[dict[str, Any]]) -> None:
    figures = ohlcv_daily(klines, PARTITION)
    assert figures is not None
    assert figures["low"] <= min(figures["open"], figures["close"])
    assert figures["high"] >= max(figures["open"], figures["close"])
    assert figures["low"] == min(each["low"] for each in klines)
    assert figures["volume"] == sum(each["volume"] for each in klines)
    assert figures["klines"] <= figures["expected_klines"]


@given(days(), st.randoms(use_true_random=False))
def test_the_order_of_candles_does_not_matter(klines: list[dict[str, Any]], chance: random.Random) -> None:
    shuffled = list(klines)
    chance.shuffle(shuffled)
    assert ohlcv_daily(shuffled, PARTITION) == ohlcv_daily(klines, PARTITION)
    assert volatility(shuffled, PARTITION) == volatility(klines, PARTITION)


@given(days())
def test_the_figures_fit_their_tables(klines: list[dict[str, Any]]) -> None:
    for spec, figures in ((GOLD_OHLCV_DAILY, ohlcv_daily), (GOLD_VOLATILITY, volatility)):
        row = figures(klines, PARTITION)
        assert row is not None
        assert arrow_table(spec, [row]).num_rows == 1


def test_sums_are_exact_beyond_the_usual_28_digits() -> None:
    klines = [
        kline(0, "1", "1", "1", "1", "12345678901234567890.000000000000000001"),
        kline(1, "1", "1", "1", "1", "1"),
    ]
    figures = ohlcv_daily(klines, PARTITION)
    assert figures is not None
    assert figures["volume"] == Decimal("12345678901234567891.000000000000000001")
