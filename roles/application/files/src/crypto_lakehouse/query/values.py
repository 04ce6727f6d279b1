# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of DuckDB as values of JSON."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def to_json(value: Any) -> Any:
    """Return `value` in a form for `json.dumps`, without losing exactness.

    DECIMAL becomes a string, a time with a zone is given in UTC with `Z`, an INTERVAL as an ISO 8601 duration,
    a BLOB in hexadecimal, NaN and infinities as null, a MAP whose keys are not text as a list of pairs.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return _scalar(value)


def _mapping(value: Mapping[Any, Any]) -> Any:
    if all(isinstance(key, str) for key in value):
        return {key: to_json(item) for key, item in value.items()}
    return [{"key": to_json(key), "value": to_json(item)} for key, item in value.items()]


def _scalar(value: Any) -> str | None:
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, dt.datetime):
        return _moment(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return _duration(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)


def _moment(value: dt.datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    try:
        return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat() + "Z"
    except OverflowError:  # at either end of the calendar
        return value.isoformat()


def _duration(value: dt.timedelta) -> str:
    sign = "-" if value < dt.timedelta() else ""
    whole = abs(value)
    seconds = (
        f"{whole.seconds}.{whole.microseconds:06d}".rstrip("0").rstrip(".") if whole.microseconds else whole.seconds
    )
    return f"{sign}P{whole.days}DT{seconds}S"
