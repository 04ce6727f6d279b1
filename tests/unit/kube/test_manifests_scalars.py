# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain scalars of YAML, with the values that kubectl 1.36 reads."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.yaml.scalars import (
    HINTS,
    ScalarError,
    plain,
    plain_key,
    tagged,
    tagged_key,
)

PREFIX = "tag:yaml.org,2002:"

WORDS: dict[str, Any] = {
    **dict.fromkeys(["yes", "Yes", "on", "ON", "y", "Y", "true", "TRUE"], True),
    **dict.fromkeys(["no", "No", "off", "n", "N", "false", "False"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **{word: word for word in ["=", "<<x", "tRue", "nUll", "Yess", "nan", "NaN", "Inf", "inf", "v1", "e1", "-", "+"]},
}
NUMBERS: dict[str, int | float] = {
    "0": 0,
    "-0": 0,
    "+5": 5,
    "017": 15,
    "-017": -15,
    "0o17": 15,
    "0O17": 15,
    "08": 8,
    "0888": 888,
    "0x1F": 31,
    "+0X1f": 31,
    "-0x1F": -31,
    "0b11": 3,
    "-0B11": -3,
    "1_000": 1000,
    "1__0": 10,
    "1_": 1,
    "0x_1F": 31,
    "0_17": 15,
    "1_0.5": 10.5,
    "1.5": 1.5,
    "-1.5": -1.5,
    "5.": 5,
    "5.e2": 500,
    ".5": 0.5,
    ".5e3": 500,
    ".1_0": 0.1,
    "-.5": -0.5,
    "1e3": 1000,
    "1E+3": 1000,
    "1e-3": 0.001,
    "100.0": 100,
    "-0.0": 0,
    "9223372036854775807": 2**63 - 1,
    "18446744073709551615": 2**64 - 1,
    "1e20": 10**20,
}
TEXTS = [
    *["12:30", "12:30:45", "190:20:30", "2001-01-01", "2001-12-14T21:59:43Z", "2001-12-14 21:59:43.10", "1.2.3"],
    *["0x", "0b", "0o", "0o8", "0b102", "1,000", "--5", "+-5", "5e", "5e+", "1k", "500m", "1Gi", "1d", "_1", ".", ".."],
    *["1e400", "-1e400", "0x1.8p1", ".8p1", "._1", ".1_", ".1__0", "٣"],
]
KEYS = {
    "a": "a",
    "1": "1",
    "017": "15",
    "y": "true",
    "off": "false",
    "1.50": "1.5",
    "100.0": "100",
    "1e6": "1e+06",
    "123456.0": "123456",
    "1234567.0": "1.234567e+06",
    "123456789.125": "1.2345679e+08",
    "0.0001": "0.0001",
    "0.00001": "1e-05",
    "-0.0": "-0",
    "1e20": "1e+20",
    "1e300": ".inf",
    "-1e300": "-.inf",
    ".inf": ".inf",
    "-.inf": "-.inf",
    ".nan": ".nan",
    "2001-01-01": "2001-01-01",
    "=": "=",
}


@pytest.mark.parametrize("text", [".inf", "-.inf", "+.INF", ".nan", ".NaN"])
def test_what_json_has_no_number_for_is_refused(text: str) -> None:
    with pytest.raises(ScalarError, match="is not a number in JSON; quote it if it is a string"):
        plain(text)


@pytest.mark.parametrize(("text", "value"), WORDS.items())
def test_words(text: str, value: object) -> None:
    assert plain(text) is value or plain(text) == value


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_numbers(text: str, value: float) -> None:
    assert plain(text) == value
    assert type(plain(text)) is type(value)


@pytest.mark.parametrize("text", TEXTS)
def test_what_only_looks_like_a_number_is_text(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(("text", "key"), KEYS.items())
def test_keys_become_text(text: str, key: str) -> None:
    assert plain_key(text) == key


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_null_is_no_key(text: str) -> None:
    with pytest.raises(ScalarError, match="a key is empty or null; quote it"):
        plain_key(text)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("int", "x"),
        ("int", "1.5"),
        ("bool", "1"),
        ("null", "a"),
        ("float", "x"),
        ("float", "true"),
        ("binary", "a b=c"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(tag: str, text: str) -> None:
    with pytest.raises(ScalarError):
        tagged(PREFIX + tag, text)


@pytest.mark.parametrize("tag", ["!vault", "!Ref", f"{PREFIX}set", f"{PREFIX}python/object:os.system"])
def test_a_tag_that_kubernetes_does_not_know_is_refused(tag: str) -> None:
    with pytest.raises(ScalarError, match=r"the tag !\S+ means nothing to Kubernetes"):
        tagged(tag, "x")


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [
        ("str", "123", "123"),
        ("int", "0x10", 16),
        ("float", "5", 5),
        ("float", "1.5", 1.5),
        ("bool", "yes", True),
        ("null", "~", None),
        ("timestamp", "2001-01-01", "2001-01-01"),
        ("binary", "aGVs\n  bG8=", "hello"),
    ],
)
def test_tags_that_fit(tag: str, text: str, value: object) -> None:
    assert tagged(PREFIX + tag, text) == value
    assert tagged("!", text) == text


def test_tagged_keys() -> None:
    assert tagged_key(f"{PREFIX}str", "yes") == "yes"
    assert tagged_key(f"{PREFIX}bool", "yes") == "true"


@given(st.text())
@example("0x_")
def test_whatever_is_written_means_something_that_json_can_say(text: str) -> None:
    try:
        value = plain(text)
    except ScalarError:
        return
    assert json.loads(json.dumps(value)) == value
    if text and text[0] not in HINTS:
        assert value == text


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_stay_what_they_are(number: int) -> None:
    assert plain(str(number)) == number
    if number >= 0:
        assert plain(hex(number)) == plain(oct(number)) == plain(bin(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_with_a_fraction_stay_what_they_are(number: float) -> None:
    value = plain(repr(number))
    assert value == number
    assert isinstance(value, int) == (number.is_integer() and abs(number) < 1e21)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_as_a_key_is_exact_to_32_bits(number: float) -> None:
    import struct

    key = plain_key(f"{number:.9e}")
    assert re.fullmatch(r"-?(\d+(\.\d+)?|\d(\.\d+)?e[+-]\d\d)", key)
    assert struct.pack("f", float(key)) == struct.pack("f", number)
    assert math.copysign(1, float(key)) == math.copysign(1, number)
