# SPDX-License-Identifier: GPL-3.0-or-later
"""Every value of DuckDB becomes a JSON value."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse.query.values import to_json


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("NULL", None),
        ("true", True),
        ("170141183460469231731687303715884105727::HUGEINT", 170141183460469231731687303715884105727),
        ("1.10::DECIMAL(18, 8)", "1.10000000"),
        ("0.00000001::DECIMAL(18, 8)", "0.00000001"),
        ("'NaN'::DOUBLE", None),
        ("'-Infinity'::FLOAT", None),
        ("DATE '2024-02-29'", "2024-02-29"),
        ("TIMESTAMP '2024-01-01 01:02:03.5'", "2024-01-01T01:02:03.500000"),
        ("TIMESTAMPTZ '2024-01-01 01:00:00+05'", "2023-12-31T20:00:00Z"),
        ("TIME '01:02:03'", "01:02:03"),
        ("INTERVAL '2 days 3 seconds'", "P2DT3S"),
        ("INTERVAL '-1 second'", "-P0DT1S"),
        ("INTERVAL '1500 milliseconds'", "P0DT1.5S"),
        ("'ab'::BLOB", "6162"),
        ("'00000000-0000-0000-0000-000000000001'::UUID", "00000000-0000-0000-0000-000000000001"),
        ("[1, NULL, 3]", [1, None, 3]),
        ("[1, 2]::INTEGER[2]", [1, 2]),
        ("{'a': [1.5::DECIMAL(2, 1)], 'b': {'c': 'NaN'::DOUBLE}}", {"a": ["1.5"], "b": {"c": None}}),
        ("MAP {'x': 1}", {"x": 1}),
        ("MAP {DATE '2024-01-01': 1.5::DECIMAL(2, 1)}", [{"key": "2024-01-01", "value": "1.5"}]),
        ("'x'::ENUM('x', 'y')", "x"),
        ("'ünï 🚀'", "ünï 🚀"),
        ("union_value(k := 1)", 1),
        ("'{\"a\": 1}'::JSON", '{"a": 1}'),
    ],
)
def test_each_type_has_one_form(sql: str, expected: Any) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute(f"SELECT {sql}").fetchone()
    assert row is not None
    assert to_json(row[0]) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals()
        | st.dates() | st.times() | st.datetimes(timezones=st.none() | st.timezones()) | st.timedeltas() | st.uuids(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=12,
    )
)  # fmt: skip
def test_everything_is_strict_json(value: object) -> None:
    json.loads(json.dumps(to_json(value), allow_nan=False))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8))
def test_no_digit_of_a_decimal_is_lost(value: Decimal) -> None:
    assert Decimal(to_json(value)) == value


@given(st.datetimes(min_value=dt.datetime(2, 1, 1), max_value=dt.datetime(9998, 1, 1), timezones=st.timezones()))  # noqa: DTZ001
def test_a_moment_with_a_zone_is_the_same_moment_in_utc(moment: dt.datetime) -> None:
    assert dt.datetime.fromisoformat(to_json(moment)) == moment.astimezone(dt.UTC)


@given(st.floats())
def test_a_number_that_json_does_not_have_is_null(value: float) -> None:
    assert (to_json(value) is None) == (not math.isfinite(value))
