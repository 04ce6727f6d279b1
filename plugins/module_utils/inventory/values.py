# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory variables, and the checks of their values.

This module is pure: a check takes a value and returns it normalised, or raises :class:`InvalidValueError`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..secrets.rules import FORMS
from ..shared.foreign import REMOVABLE, pattern_problem
from ..shared.nearest import closest

# ansible.module_utils.parsing.convert_bool accepts the same words.
_TRUE = frozenset({"y", "yes", "on", "1", "true", "t"})
_FALSE = frozenset({"n", "no", "off", "0", "false", "f"})
CLIENT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class InvalidValueError(ValueError):
    """A value is invalid for its variable; `remedy` describes valid values."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Variable:
    """One inventory variable: its name, meaning, default and the function that normalises or refuses a value.

    of_run: whether it concerns one run and describes nothing that is kept.
    """

    name: str
    purpose: str
    normalise: Callable[[Any], Any]
    default: Any = None
    required: bool = False
    secret: bool = False
    of_run: bool = False


def shown(value: Any) -> str:
    """Return a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def choice(*choices: str) -> Callable[[Any], str]:
    def normalise(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        near = closest(str(value), choices)
        hint = f"; did you mean {near!r}?" if near else ""
        raise InvalidValueError(f"{shown(value)} is not known{hint}", f"set it to one of: {', '.join(choices)}")

    return normalise


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidValueError(f"{shown(value)} is not a boolean", "set it to true or false")


def as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValueError(f"{shown(value)} is not a string", "set it to a string")
    return value


def whole_number(low: int, high: int) -> Callable[[Any], int]:
    def normalise(value: Any) -> int:
        number: int | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and value.strip().lstrip("-").isdigit():
            number = int(value)
        if number is None or not low <= number <= high:
            raise InvalidValueError(
                f"{shown(value)} is not a whole number from {low} to {high}", f"set it from {low} to {high}"
            )
        return number

    return normalise


def whole_numbers(low: int, high: int) -> Callable[[Any], list[int]]:
    """Return a check for a list of whole numbers; a single text is split at commas."""
    one = whole_number(low, high)

    def normalise(value: Any) -> list[int]:
        entries = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(entries, list):
            raise InvalidValueError(f"{shown(value)} is not a list of whole numbers", "write it as a list: [1, 2]")
        return [one(entry) for entry in entries]

    return normalise


def absolute_path(value: Any) -> str:
    text = as_text(value)
    if text == "":
        return text
    path = PurePosixPath(text)
    if text.startswith("~"):
        return text
    if not path.is_absolute():
        raise InvalidValueError(f"{shown(value)} is not an absolute path", "set it to a path that starts with / or ~")
    if ".." in path.parts:
        raise InvalidValueError(f"{shown(value)} climbs with ..", "write the path without ..")
    if any(character in text for character in "\n\r\0"):
        raise InvalidValueError(f"{shown(value)} holds a control character", "use a plain path")
    if len(path.parts) < 3:
        raise InvalidValueError(
            f"{shown(value)} is a top-level folder of the machine", "name a folder of its own below it"
        )
    return str(path)


def ipv4_address(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Address(as_text(value)))
    except ipaddress.AddressValueError as error:
        raise InvalidValueError(
            f"{shown(value)} is not an IPv4 address", "set it to an IPv4 address of the machine, e.g. 127.0.0.1"
        ) from error


def system_user(value: Any) -> str:
    text = as_text(value)
    plain = text.replace("-", "").replace("_", "")
    if (
        not text
        or not plain.isascii()
        or not plain.isalnum()
        or not text[0].isalpha()
        or len(text) > 32
        or text != text.lower()
    ):
        raise InvalidValueError(
            f"{shown(value)} is not a system user name", "use lower case letters, digits, - and _, at most 32"
        )
    if text == "root":
        raise InvalidValueError("the services must not run as root", "name an unprivileged system user")
    return text


def http_url(value: Any) -> str:
    text = as_text(value)
    if re.match(r"[a-z]+://[^/?#]*@", text):
        raise InvalidValueError("the address holds credentials", "leave user and password out of the address")
    if not FORMS["http_url"].pattern.fullmatch(text):
        raise InvalidValueError(
            f"{shown(value)} is not an http(s) address", "set it to an address such as https://example.org"
        )
    return text.rstrip("/")


def as_mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidValueError(f"{shown(value)} is not a mapping", "write it as `name: value` pairs")
    return dict(value)


def as_texts(value: Any) -> dict[str, str]:
    for key, entry in as_mapping(value).items():
        if not isinstance(entry, str):
            raise InvalidValueError(f"the value of {key!r} is not a string", f"quote the value of {key!r}")
    return dict(value)


def secret_mapping(value: Any) -> dict[str, Any]:
    """Return secrets by name. Their values are checked with the descriptions of the secrets."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidValueError("it is not a mapping", "write it as `secret name: value` pairs")
    return dict(value)


def token_shares(value: Any) -> dict[str, int]:
    """Return names of tokens with their shares, relative to each other and to the main token's share of 1."""
    shares: dict[str, int] = {}
    for name, share in as_mapping(value).items():
        if not CLIENT_NAME.fullmatch(str(name)):
            raise InvalidValueError(
                f"{shown(name)} cannot name a token",
                "use at most 40 lower-case letters, digits, underscores and hyphens, and begin with a letter",
            )
        try:
            shares[name] = whole_number(1, 1000)(share)
        except InvalidValueError as error:
            raise InvalidValueError(f"the share of {name!r}: {error}", error.remedy) from None
    return shares


def as_words(value: Any) -> list[str]:
    """Return a list of texts; a single text is split at commas, as in extra vars."""
    entries = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
        raise InvalidValueError(f"{shown(value)} is not a list of texts", "write it as a list: [first, second]")
    return list(entries)


def matching(pattern: str, what: str, example: str) -> Callable[[Any], str]:
    """Return a check that a text matches a pattern. An empty text passes."""
    form = re.compile(pattern)

    def normalise(value: Any) -> str:
        text = as_text(value)
        if text and not form.fullmatch(text):
            raise InvalidValueError(f"{shown(value)} is not {what}", f"write it as {example}")
        return text

    return normalise


def each_of(check_one: Callable[[Any], str]) -> Callable[[Any], list[str]]:
    return lambda value: [check_one(entry) for entry in as_words(value)]


def distinct(check: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    """Return a check for a list that holds each entry once."""

    def normalise(value: Any) -> list[str]:
        entries = check(value)
        twice = sorted({entry for entry in entries if entries.count(entry) > 1})
        if twice:
            raise InvalidValueError(f"{', '.join(twice)} is listed twice", "list each entry once")
        return entries

    return normalise


def ipv4_network(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Network(as_text(value)))
    except ValueError as error:
        raise InvalidValueError(f"{shown(value)} is not an IPv4 network", "write it as 203.0.113.0/24") from error


def foreign_groups(value: Any) -> list[str]:
    """Return the groups of foreign resources that a run removes."""
    return [choice(*REMOVABLE)(entry) for entry in as_words(value)]


def foreign_patterns(value: Any) -> list[str]:
    """Return patterns of foreign resources that are expected."""
    patterns = as_words(value)
    for pattern in patterns:
        problem = pattern_problem(pattern)
        if problem:
            raise InvalidValueError(problem, "write it as drift lists it, for example role/reporting_*")
    return patterns
