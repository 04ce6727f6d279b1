# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversion of raw lines into typed candles; every refused line is kept with the reason. Pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, Final

from crypto_lakehouse.market import INTERVALS
from crypto_lakehouse.tables import RAW_FIELDS, Partition

REQUIRED_FIELDS: Final = 8
"""A line has at least the fields up to `quote_volume`."""

MAX_FIELDS: Final = len(RAW_FIELDS) + 1
"""The archive ends each line with an unused field."""

DECIMAL_PLACES: Final = 18
DECIMAL_WHOLE_DIGITS: Final = 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The archive changed from milliseconds to microseconds on 2025-01-01; this many milliseconds is the year 5138.
_FIRST_MICROSECONDS = 100_000_000_000_000
_TIME = re.compile(r"[0-9]{1,17}")
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_UNIT = Decimal(1).scaleb(-DECIMAL_PLACES)
_EXACT = Context(prec=DECIMAL_WHOLE_DIGITS + DECIMAL_PLACES, traps=[Inexact, InvalidOperation])


DUPLICATE: Final = "duplicate"
REASONS: Final = ("fields", "time", "number", "precision", "period", "price", "amount", DUPLICATE)
"""Classes of reasons for quarantined lines; tables of counts contain no others."""


class RefusedLineError(ValueError):
    """A line is not a valid candle; the message gives the cause, `reason` its class, one of `REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Rows for `silver.klines` and `silver.klines_quarantine`, in the order of time and of lines.

    reasons: number of quarantined lines by class of reason.
    """

    klines: tuple[dict[str, Any], ...]
    quarantined: tuple[dict[str, Any], ...]
    reasons: Mapping[str, int]


def split_line(line: str) -> dict[str, str | None]:
    """Return the fields of a line by name, all of them None when it does not have the right number."""
    fields = [field.strip() for field in line.split(",")]
    if not REQUIRED_FIELDS <= len(fields) <= MAX_FIELDS:
        return dict.fromkeys(RAW_FIELDS)
    return {name: fields[place] if place < len(fields) else None for place, name in enumerate(RAW_FIELDS)}


def clean(rows: Iterable[Mapping[str, Any]], partition: Partition) -> Cleaned:
    """Turn the rows of one partition of `bronze.klines` into candles.

    If several valid lines have the same opening time, the last one in the file is used, because it is the exchange's
    correction. The others go to quarantine. The result does not depend on the order of `rows`, and each row is in
    exactly one of the two results.
    """
    best: dict[datetime, tuple[Mapping[str, Any], dict[str, Any]]] = {}
    quarantined = []
    reasons: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: int(row["line_number"]), reverse=True):
        try:
            kline = parse_kline(row, partition)
        except RefusedLineError as refusal:
            quarantined.append(_quarantine(row, partition, str(refusal)))
            reasons[refusal.reason] += 1
            continue
        opened = kline["open_time"]
        if opened in best:
            winner = best[opened][0]["line_number"]
            quarantined.append(_quarantine(row, partition, f"line {winner} has the same open_time"))
            reasons[DUPLICATE] += 1
        else:
            best[opened] = (row, kline)
    klines = tuple(best[opened][1] for opened in sorted(best))
    return Cleaned(klines, tuple(sorted(quarantined, key=lambda row: int(row["line_number"]))), dict(reasons))


def parse_kline(row: Mapping[str, Any], partition: Partition) -> dict[str, Any]:
    """Return a row of `silver.klines` from one of `bronze.klines`.

    Raises:
        RefusedLineError: when a field does not parse or the candle contradicts itself or its day.
    """
    if row["open_time"] is None:
        fields = str(row["line"]).count(",") + 1
        raise RefusedLineError("fields", f"{fields} fields instead of {REQUIRED_FIELDS} to {MAX_FIELDS}")
    kline = {
        **partition.as_row(),
        "open_time": _time(row, "open_time"),
        "close_time": _time(row, "close_time"),
        **{name: _decimal(row, name) for name in ("open", "high", "low", "close", "volume", "quote_volume")},
        "trades": _trades(row),
        **{name: _decimal(row, name) if row[name] else None for name in ("taker_base_volume", "taker_quote_volume")},
    }
    _check_period(kline, partition)
    _check_prices(kline)
    _check_amounts(kline)
    return kline


def _check_period(kline: Mapping[str, Any], partition: Partition) -> None:
    opened, closed = kline["open_time"], kline["close_time"]
    interval = INTERVALS[partition.kline_interval]
    if opened.date() != partition.day:
        raise RefusedLineError("period", "open_time is not on the day of the file")
    if (opened - _EPOCH) % interval:
        raise RefusedLineError("period", f"open_time is not the start of a {partition.kline_interval} candle")
    if not opened < closed <= opened + interval:
        raise RefusedLineError("period", f"close_time is not within {partition.kline_interval} after open_time")


def _check_prices(kline: Mapping[str, Any]) -> None:
    if kline["low"] <= 0:
        raise RefusedLineError("price", "low is not positive")
    for name in ("open", "close", "low"):
        if kline[name] > kline["high"]:
            raise RefusedLineError("price", f"high is below {name}")
    for name in ("open", "close"):
        if kline[name] < kline["low"]:
            raise RefusedLineError("price", f"low is above {name}")


def _check_amounts(kline: Mapping[str, Any]) -> None:
    for name in ("volume", "quote_volume", "trades", "taker_base_volume", "taker_quote_volume"):
        if kline[name] is not None and kline[name] < 0:
            raise RefusedLineError("amount", f"{name} is negative")


def _time(row: Mapping[str, Any], name: str) -> datetime:
    text = str(row[name])
    if not _TIME.fullmatch(text):
        raise RefusedLineError("time", f"{name} is not a time in milliseconds or microseconds since 1970")
    number = int(text)
    return _EPOCH + timedelta(microseconds=number if number >= _FIRST_MICROSECONDS else number * 1000)


def _decimal(row: Mapping[str, Any], name: str) -> Decimal:
    text = str(row[name])
    if not _NUMBER.fullmatch(text):
        raise RefusedLineError("number", f"{name} is not a number")
    try:
        return Decimal(text).quantize(_UNIT, context=_EXACT)
    except Inexact:
        raise RefusedLineError("precision", f"{name} has more than {DECIMAL_PLACES} decimal places") from None
    except InvalidOperation:
        message = f"{name} has more than {DECIMAL_WHOLE_DIGITS} digits before the point"
        raise RefusedLineError("precision", message) from None


def _trades(row: Mapping[str, Any]) -> int | None:
    text = row["trades"]
    if not text:
        return None
    if not _WHOLE_NUMBER.fullmatch(text):
        raise RefusedLineError("number", "trades is not a whole number")
    return int(text)


def _quarantine(row: Mapping[str, Any], partition: Partition, reason: str) -> dict[str, Any]:
    return {
        **partition.as_row(),
        **{name: row[name] for name in ("line_number", "line", "object_key", "object_sha256")},
        "reason": reason,
    }
