# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve plain YAML scalars as kubectl does, which follows neither YAML 1.1 nor 1.2 exactly.

kubectl parses YAML with sigs.k8s.io/yaml, which uses go.yaml.in/yaml/v2. These rules are those of its resolve.go.
`yes`, `on` and `y` are booleans. `=`, `12:30:45` and timestamps are strings. `017` and `0o17` are 15, `08` is 8. `1e3`
is 1000, because Go's JSON writes whole floats this way. Keys that are numbers or booleans become their text.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Any

_PREFIX = "tag:yaml.org,2002:"
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
# Scalars with any other first character are strings.
HINTS = frozenset("+-.0123456789yYnNtTfFoO~")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_INTEGER = re.compile(r"([-+]?)(?:0([xX])([0-9a-fA-F]+)|0([bB])([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_LARGEST_UNSIGNED = 2**64 - 1
_SMALLEST = -(2**63)
# Above this value, Go writes a float with an exponent, which integer fields reject.
_LARGEST_WHOLE = 1e21
# The smallest number that is rounded to infinity.
_TOO_LARGE_FOR_32_BITS = 2.0**128 - 2.0**103
# After a leading point, an underscore may only separate digits. Elsewhere it is ignored.
_POINT = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?", re.ASCII)


class ScalarError(ValueError):
    """A scalar does not match its tag, or cannot be represented in JSON."""


def plain(text: str) -> Any:
    """Return the value of a scalar without quotes: a string, bool, int, float or None. Raises ScalarError."""
    value = _resolved(text)
    return whole(finite(value, text)) if isinstance(value, float) else value


def plain_key(text: str) -> str:
    """Return the key of a scalar without quotes. Raises ScalarError."""
    return _key(_resolved(text))


def tagged_key(tag: str, text: str) -> str:
    """Return the key of a scalar with a tag. Raises ScalarError."""
    return _key(tagged(tag, text))


def _resolved(text: str) -> Any:
    if text and text[0] not in HINTS:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "yYnNtTfFoO~" or (text[0] == "." and not _POINT.fullmatch(text)):
        return text
    digits = text.replace("_", "")
    integer = _integer(digits)
    return _fraction(digits, text) if integer is None else integer


def whole(number: float) -> int | float:
    """Return a number as Go's JSON writes it: without a fraction if it is whole."""
    return int(number) if number.is_integer() and abs(number) < _LARGEST_WHOLE else number


def finite(value: Any, text: str) -> Any:
    """Return the value. Raises ScalarError for numbers that JSON cannot represent."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ScalarError(f"{text} is not a number in JSON; quote it if it is a string")
    return value


def tagged(tag: str, text: str) -> Any:
    """Return the value of a scalar with a tag. Raises ScalarError."""
    kind = tag.removeprefix(_PREFIX)
    if kind in {"str", "timestamp", "!"}:
        return text
    if kind == "binary":
        return _binary(text)
    value = plain(text)
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if (kind, type(value)) in {("int", int), ("bool", bool), ("null", type(None))}:
        return value
    if kind in {"int", "float", "bool", "null"}:
        raise ScalarError(f"{text!r} is tagged !!{kind}, which it is not")
    raise ScalarError(f"the tag {kind if kind.startswith('!') else f'!!{kind}'} means nothing to Kubernetes")


def _key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise ScalarError("a key is empty or null; quote it")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _shortest(value)


def _integer(digits: str) -> int | None:
    match = _INTEGER.fullmatch(digits)
    if match is None:
        return None
    sign, _hex, hexadecimal, _bin, binary, octal, decimal = match.groups()
    texts = ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10))
    number = next(int(text, base) for text, base in texts if text is not None)
    number = -number if sign == "-" else number
    # Go's unsigned numbers have no sign, not even a plus.
    largest = _LARGEST_UNSIGNED if not sign else 2**63 - 1
    return number if _SMALLEST <= number <= largest else None


def _fraction(digits: str, text: str) -> Any:
    if not _FLOAT.fullmatch(digits):
        return text
    number = float(digits)
    # Out of range; a string in kubectl.
    return number if math.isfinite(number) else text


def _shortest(number: float) -> str:
    """Return the shortest text of a number with the precision of 32 bits, as Go's FormatFloat(x, 'g', -1, 32)."""
    if math.isnan(number):
        return ".nan"
    if abs(number) >= _TOO_LARGE_FOR_32_BITS:
        return ".inf" if number > 0 else "-.inf"
    (rounded,) = struct.unpack("f", struct.pack("f", number))
    texts = (f"{rounded:.{precision}e}" for precision in range(9))
    text = next(text for text in texts if struct.pack("f", float(text)) == struct.pack("f", rounded))
    mantissa, _e, exponent = text.partition("e")
    places = len(mantissa.partition(".")[2])
    if -4 <= int(exponent) < 6:
        return f"{float(text):.{max(0, places - int(exponent))}f}"
    return f"{mantissa}e{int(exponent):+03d}"


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ScalarError("a !!binary value is not base64 text; use base64 without the tag") from None
