# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers by botocore's models: faults of a request, and an answer made of placeholders. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from ..engine.value import MAPS
from ..shared.nearest import suggestion

# Placeholder of an unknown value. Texts that contain it are not checked against constraints.
PLACEHOLDER = "known-after-apply"
# A new resource differs from the resources in its properties.
_ANSWERED = f"{PLACEHOLDER}-answered"
# Statuses that a new resource gets, in this order of preference.
_READY = ("available", "AVAILABLE", "ACTIVE", "active")
# Enumerations that AWS extends between two releases of botocore: instance types, node images, regions.
_GROWING = frozenset({"AMITypes", "BucketLocationConstraint", "InstanceType"})
_DEEPEST = 4
_CLASSES_OF_JAVA = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s", r"\p{Space}": r"\s"}
_NEXT_PAGE = re.compile(r"(?i)(?:token|marker)$")


class PlaceholderNumber(int):
    """Number that is known later."""


@dataclass(frozen=True)
class ShapeFault:
    """Parameter of a request that the service would reject.

    path: from the request inwards, keys of structures and maps and positions in lists.
    value: None where the parameter is missing. allowed: description of valid values.
    """

    path: tuple[str | int, ...]
    value: Any
    message: str
    allowed: str

    @property
    def parameter(self) -> str:
        """The innermost name."""
        return next((part for part in reversed(self.path) if isinstance(part, str)), "")

    @property
    def is_missing(self) -> bool:
        return self.value is None


def request_faults(shape: Any, value: Any, path: tuple[str | int, ...] = ()) -> Iterator[ShapeFault]:
    """Yield all errors of a value by botocore's shape: required, type, enumeration, pattern, length, range."""
    if isinstance(value, PlaceholderNumber) or (isinstance(value, str) and PLACEHOLDER in value):
        return
    check = _CHECKS.get(shape.type_name)
    if check is None or getattr(shape, "is_document_type", False):
        return
    expected, words = _TYPES[shape.type_name]
    is_boolean = isinstance(value, bool) and shape.type_name != "boolean"
    if is_boolean or not isinstance(value, expected):
        yield ShapeFault(path, value, f"is not {words}", f"give {words}")
    else:
        yield from check(shape, value, path)


def _structure(shape: Any, value: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[ShapeFault]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield ShapeFault((*path, name), None, "is required and not given", "give it")
    for name, item in value.items():
        if name not in shape.members:
            yield ShapeFault((*path, name), item, "is not a parameter of AWS", suggestion(name, shape.members))
        elif item is not None:
            yield from request_faults(shape.members[name], item, (*path, name))


def _list(shape: Any, value: list[Any], path: tuple[str | int, ...]) -> Iterator[ShapeFault]:
    # Unknown values have equal placeholders, so a set of them is shorter than the final one.
    yield from _bounds(shape, value, len(value), path, "entries", is_short=not _waits(value))
    for index, item in enumerate(value):
        yield from request_faults(shape.member, item, (*path, index))


def _map(shape: Any, value: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[ShapeFault]:
    yield from _bounds(shape, value, len(value), path, "entries")
    for key, item in value.items():
        yield from request_faults(shape.key, key, (*path, key))
        yield from request_faults(shape.value, item, (*path, key))


def _string(shape: Any, value: str, path: tuple[str | int, ...]) -> Iterator[ShapeFault]:
    if shape.enum and value not in shape.enum:
        if shape.name not in _GROWING:
            yield ShapeFault(path, value, "is not one of its choices", suggestion(value, shape.enum))
        return
    pattern = _pattern(shape.metadata.get("pattern"))
    if pattern is not None and not pattern.fullmatch(value):
        yield ShapeFault(path, value, "has another form", f"AWS accepts the pattern {pattern.pattern}")
    yield from _bounds(shape, value, len(value), path, "characters")


def _number(shape: Any, value: float, path: tuple[str | int, ...]) -> Iterator[ShapeFault]:
    yield from _bounds(shape, value, value, path, "")


def _blob(shape: Any, value: Any, path: tuple[str | int, ...]) -> Iterator[ShapeFault]:
    yield from _bounds(shape, value, len(value), path, "bytes")


def _anything(_shape: Any, _value: Any, _path: tuple[str | int, ...]) -> Iterator[ShapeFault]:
    return iter(())


def _bounds(
    shape: Any, value: Any, size: float, path: tuple[str | int, ...], unit: str, *, is_short: bool = True
) -> Iterator[ShapeFault]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    has = f"has {size} {unit}" if unit else "is out of range"
    if low is not None and size < low and is_short:
        yield ShapeFault(path, value, has, f"AWS accepts at least {low}{f' {unit}' if unit else ''}")
    elif high is not None and size > high:
        yield ShapeFault(path, value, has, f"AWS accepts at most {high}{f' {unit}' if unit else ''}")


def _waits(value: list[Any]) -> bool:
    return any(isinstance(item, str) and PLACEHOLDER in item for item in value)


@functools.lru_cache(maxsize=1024)
def _pattern(given: str | None) -> re.Pattern[str] | None:
    """Return a pattern of a model, or None where Python's regular expressions do not support it."""
    if not given:
        return None
    text = given
    for written, known in _CLASSES_OF_JAVA.items():
        text = text.replace(written, known)
    # Java's character classes match ASCII only, those of Unicode all characters.
    flags = re.UNICODE if "\\p{" in given else re.ASCII
    try:
        return re.compile(text, flags)
    except re.error:
        return None


_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "structure": (MAPS, "a map"),
    "list": ((list, tuple), "a list"),
    "map": (MAPS, "a map"),
    "string": ((str,), "a string"),
    "character": ((str,), "a string"),
    "integer": ((int,), "a whole number"),
    "long": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
    "boolean": ((bool,), "a boolean"),
    "blob": ((bytes, bytearray, str), "bytes"),
    "timestamp": ((str, int, float, date), "a date"),
}
_CHECKS: Mapping[str, Callable[[Any, Any, tuple[str | int, ...]], Iterator[ShapeFault]]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "boolean": _anything,
    "blob": _blob,
    "timestamp": _anything,
}


def placeholder_answer(shape: Any, *, finds: bool = False, depth: int = 0) -> Any:
    """Return an answer in the form of a shape. Statuses are those of ready resources; dates and page tokens are absent.

    finds: a listing of existing resources contains one item. All other lists of structures are lists of errors, and
    empty.
    """
    match shape.type_name:
        case "structure":
            members = shape.members if depth < _DEEPEST else {}
            return {
                name: placeholder_answer(member, finds=finds, depth=depth + 1)
                for name, member in members.items()
                if member.type_name not in {"timestamp", "blob"} and not (finds and _NEXT_PAGE.search(name))
            }
        case "list":
            if shape.member.type_name == "string":
                return [_ANSWERED]
            return [placeholder_answer(shape.member, depth=depth + 1)] if finds and depth == 1 else []
        case "map":
            return {}
        case "string":
            return next((word for word in _READY if word in shape.enum), _ANSWERED)
        case "boolean":
            return False
    return PlaceholderNumber(0)
