# SPDX-License-Identifier: GPL-3.0-or-later
"""Every line becomes a valid candle or is kept with the reason; no line is lost, in any order and content."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse.clean import REASONS, Cleaned, clean, split_line
from crypto_lakehouse.market import INTERVALS
from crypto_lakehouse.tables import SILVER_KLINES, SILVER_QUARANTINE, Partition, arrow_table

DAY = date(2024, 5, 1)
START_MS = 1_714_521_600_000
PARTITION = Partition("binance", "BTCUSDT", "1h", DAY)
FIELDS = {
    "open_time": str(START_MS),
    "open": "60000.01",
    "high": "60500.00",
    "low": "59900.50",
    "close": "60400",
    "volume": "12.5",
    "close_time": str(START_MS + 3_599_999),
    "quote_volume": "752000.1",
    "trades": "900",
    "taker_base_volume": "6.1",
    "taker_quote_volume": "366000.5",
    "unused": "0",
}


def line(**changes: str) -> str:
    return ",".join({**FIELDS, **changes}.values())


def rows(lines: Sequence[str], partition: Partition = PARTITION) -> list[dict[str, Any]]:
    origin = {"object_key": "raw/x", "object_sha256": "0" * 64, "source": "archive"}
    return [
        {**partition.as_row(), **origin, "line_number": number, "line": text, **split_line(text)}
        for number, text in enumerate(lines, start=1)
    ]


def reasons(cleaned: Cleaned) -> list[str]:
    return [row["reason"] for row in cleaned.quarantined]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"open_time": ""}, "open_time is not a time"),
        ({"open_time": "-1"}, "open_time is not a time"),
        ({"open_time": "17145216000.0"}, "open_time is not a time"),
        ({"open_time": "٣" * 13}, "open_time is not a time"),
        ({"open_time": "9" * 18}, "open_time is not a time"),
        ({"open_time": str(START_MS - 3_600_000)}, "open_time is not on the day"),
        ({"open_time": str(START_MS + 86_400_000)}, "open_time is not on the day"),
        ({"open_time": str(START_MS + 1)}, "open_time is not the start of a 1h candle"),
        ({"close_time": str(START_MS)}, "close_time is not within 1h"),
        ({"close_time": str(START_MS + 3_600_001)}, "close_time is not within 1h"),
        ({"close_time": "soon"}, "close_time is not a time"),
        ({"open": "abc"}, "open is not a number"),
        ({"open": ""}, "open is not a number"),
        ({"open": "NaN"}, "open is not a number"),
        ({"high": "Infinity"}, "high is not a number"),
        ({"open": "60_000"}, "open is not a number"),
        ({"open": "0x10"}, "open is not a number"),
        ({"volume": "1e999"}, "volume has more than 20 digits"),
        ({"volume": "1" * 21}, "volume has more than 20 digits"),
        ({"close": "60400.0000000000000000001"}, "close has more than 18 decimal places"),
        ({"low": "0"}, "low is not positive"),
        ({"low": "-5"}, "low is not positive"),
        ({"high": "60399.99"}, "high is below close"),
        ({"high": "60000"}, "high is below open"),
        ({"low": "60000.02"}, "low is above open"),
        ({"open": "60450", "low": "60400.01"}, "low is above close"),
        ({"volume": "-0.1"}, "volume is negative"),
        ({"quote_volume": "-1"}, "quote_volume is negative"),
        ({"taker_base_volume": "-1"}, "taker_base_volume is negative"),
        ({"trades": "-1"}, "trades is negative"),
        ({"trades": "1.5"}, "trades is not a whole number"),
        ({"trades": "9" * 19}, "trades is not a whole number"),
    ],
)
def test_a_line_that_is_no_candle_is_kept_with_the_reason(changes: dict[str, str], reason: str) -> None:
    cleaned = clean(rows([line(**changes)]), PARTITION)
    assert cleaned.klines == ()
    assert [row["line"] for row in cleaned.quarantined] == [line(**changes)]
    assert reasons(cleaned)[0].startswith(reason)
    assert sum(cleaned.reasons.values()) == 1
    assert set(cleaned.reasons) < set(REASONS)


@pytest.mark.parametrize("text", ["", "1,2,3", line() + ",more", "<html>not found</html>"])
def test_a_line_with_another_number_of_fields_is_kept_with_the_reason(text: str) -> None:
    cleaned = clean(rows([text]), PARTITION)
    assert "instead of 8 to 12" in reasons(cleaned)[0]


def test_of_lines_with_one_opening_time_the_last_holds_and_the_others_are_kept() -> None:
    cleaned = clean(rows([line(volume="1"), line(volume="2"), line(volume="3")]), PARTITION)
    assert [kline["volume"] for kline in cleaned.klines] == [3]
    assert reasons(cleaned) == ["line 3 has the same open_time"] * 2


def test_refused_lines_are_counted_by_class_of_reason() -> None:
    lines = [
        line(volume="1"),
        line(volume="2"),
        line(low="0"),
        line(high="1"),
        line(open="x"),
        "1,2",
        line(trades="-1"),
    ]
    cleaned = clean(rows(lines), PARTITION)
    assert cleaned.reasons == {"duplicate": 1, "price": 2, "number": 1, "fields": 1, "amount": 1}


def test_a_refused_line_takes_no_place_from_a_valid_one() -> None:
    cleaned = clean(rows([line(), line(low="0")]), PARTITION)
    assert len(cleaned.klines) == 1
    assert reasons(cleaned) == ["low is not positive"]


def test_no_digit_is_lost() -> None:
    exact = "12345678901234567890.123456789012345678"
    cleaned = clean(rows([line(volume=exact)]), PARTITION)
    table = arrow_table(SILVER_KLINES, cleaned.klines)
    assert table.column("volume").to_pylist() == [Decimal(exact)]


def test_times_in_microseconds_are_those_in_milliseconds() -> None:
    changed = line(open_time=f"{START_MS}000", close_time=f"{START_MS + 3_600_000 - 1}999")
    (kline,) = clean(rows([changed]), PARTITION).klines
    assert kline["open_time"] == datetime(2024, 5, 1, tzinfo=UTC)
    assert kline["close_time"] == datetime(2024, 5, 1, 0, 59, 59, 999_999, tzinfo=UTC)


def test_fields_that_the_source_does_not_know_are_null() -> None:
    short = ",".join(line().split(",")[:8])
    (kline,) = clean(rows([short]), PARTITION).klines
    assert (kline["trades"], kline["taker_base_volume"], kline["taker_quote_volume"]) == (None, None, None)


PRICES = st.decimals("0.00000001", "99999999", places=8)
AMOUNTS = st.decimals("0", "99999999", places=8)
GARBAGE = st.text(alphabet="0123456789.,-eE+ naif\t", max_size=40)


@st.composite
def candle_lines(draw: st.DrawFn) -> str:
    low, first, last, high = sorted(draw(st.tuples(PRICES, PRICES, PRICES, PRICES)))
    opened = START_MS + 3_600_000 * draw(st.integers(0, 23))
    open_, close = draw(st.permutations([first, last]))
    return line(
        open_time=str(opened),
        close_time=str(opened + 3_599_999),
        open=str(open_),
        close=str(close),
        high=str(high),
        low=str(low),
        volume=str(draw(AMOUNTS)),
    )


@given(st.lists(candle_lines() | GARBAGE, max_size=30))
def test_each_line_is_in_exactly_one_result(lines: list[str]) -> None:
    cleaned = clean(rows(lines), PARTITION)
    assert len(cleaned.klines) + len(cleaned.quarantined) == len(lines)
    assert len({kline["open_time"] for kline in cleaned.klines}) == len(cleaned.klines)


@given(st.lists(candle_lines() | GARBAGE, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(lines: list[str], chance: random.Random) -> None:
    ordered = rows(lines)
    shuffled = list(ordered)
    chance.shuffle(shuffled)
    assert clean(shuffled, PARTITION) == clean(ordered, PARTITION)


@given(st.lists(candle_lines() | GARBAGE, max_size=30))
def test_every_candle_keeps_the_invariants_of_its_kind(lines: list[str]) -> None:
    for kline in clean(rows(lines), PARTITION).klines:
        assert 0 < kline["low"] <= min(kline["open"], kline["close"])
        assert kline["high"] >= max(kline["open"], kline["close"])
        assert kline["volume"] >= 0
        assert kline["open_time"].date() == DAY
        assert timedelta(0) < kline["close_time"] - kline["open_time"] <= INTERVALS["1h"]


@given(st.lists(candle_lines() | GARBAGE, max_size=20))
def test_both_results_fit_their_tables(lines: list[str]) -> None:
    cleaned = clean(rows(lines), PARTITION)
    assert arrow_table(SILVER_KLINES, cleaned.klines).num_rows == len(cleaned.klines)
    assert arrow_table(SILVER_QUARANTINE, cleaned.quarantined).num_rows == len(cleaned.quarantined)


@given(candle_lines())
def test_a_valid_line_is_never_refused(text: str) -> None:
    assert len(clean(rows([text]), PARTITION).klines) == 1
