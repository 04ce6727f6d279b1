# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of the engine: plain JSON types, and types for unknown and secret values."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .errors import EngineError

KNOWN_AFTER_APPLY = "(known after apply)"
SENSITIVE = "(sensitive)"
# A version id is in plans and tags, so guessing its value must be expensive.
_KDF_ROUNDS = 50_000
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MARKS = ("$unknown", "$sensitive_unknown", "$secret", "$map")
# Exact types come first: `isinstance` with an abstract class takes ten times as long.
PLAIN = (str, int, float, bool, type(None))
# Types in the order in which a value is looked at.
LISTS = (list, tuple)
SEQUENCES = (*LISTS, set, frozenset)
MAPS = (dict, Mapping)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that exists only after the plan is applied. `text` is how it prints: the known parts stay readable."""

    text: str = KNOWN_AFTER_APPLY
    sensitive: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that is never printed or stored. Two are equal when their `version` is; often only that was read."""

    version: str
    value: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, value: Any, salt: str) -> Secret:
        """Wrap a value. The same value under the same salt always has the same version."""
        return cls(_slow_version(json.dumps(plain(value), sort_keys=True), salt), plain(value))

    def reveal(self) -> Any:
        """Return the value itself, for the one call that needs it."""
        if self.value is None:
            raise EngineError("this secret was read as a version only; its value is not known here")
        return self.value

    def __str__(self) -> str:
        return SENSITIVE


@lru_cache(maxsize=1024)
def _slow_version(text: str, salt: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", text.encode(), salt.encode(), _KDF_ROUNDS, 16)
    return str(uuid.UUID(bytes=digest))


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return `value` with every leaf replaced by `function(leaf)`."""
    if isinstance(value, PLAIN):
        return function(value)
    if isinstance(value, SEQUENCES):
        return [mapped(item, function) for item in value]
    if isinstance(value, MAPS):
        return {key: mapped(item, function) for key, item in value.items()}
    return function(value)


def plain(value: Any) -> Any:
    """Return `value` with every secret revealed."""
    return mapped(value, lambda leaf: leaf.reveal() if isinstance(leaf, Secret) else leaf)


def leaves(value: Any) -> Iterator[Any]:
    """Yield every leaf of a nested value; a map's keys are not leaves."""
    if isinstance(value, PLAIN):
        yield value
    elif isinstance(value, SEQUENCES):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, MAPS):
        for item in value.values():
            yield from leaves(item)
    else:
        yield value


def holds(value: Any, types: tuple[type, ...]) -> bool:
    """Return whether a leaf of a nested value has one of these types, which are not plain ones."""
    if isinstance(value, PLAIN):
        return False
    if isinstance(value, SEQUENCES):
        return any(holds(item, types) for item in value if not isinstance(item, PLAIN))
    if isinstance(value, MAPS):
        return any(holds(item, types) for item in value.values() if not isinstance(item, PLAIN))
    return isinstance(value, types)


def is_known(value: Any) -> bool:
    return not holds(value, (Unknown,))


def encode(value: Any) -> Any:
    """Return `value` as JSON types that :func:`decode` turns back; secrets are left behind, their versions stay."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Unknown):
        return {"$sensitive_unknown" if value.sensitive else "$unknown": value.text}
    if isinstance(value, Secret):
        return {"$secret": value.version}
    if isinstance(value, LISTS):
        return [encode(item) for item in value]
    if isinstance(value, MAPS):
        encoded = {str(key): encode(item) for key, item in value.items()}
        return {"$map": encoded} if any(mark in encoded for mark in _MARKS) else encoded
    raise TypeError(f"a {type(value).__name__} is not a value the engine knows")


def decode(value: Any) -> Any:
    """Undo :func:`encode`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$unknown": text}:
            return Unknown(str(text))
        case {"$sensitive_unknown": text}:
            return Unknown(str(text), sensitive=True)
        case {"$secret": version}:
            return Secret(str(version))
        case {"$map": inner}:
            return {key: decode(item) for key, item in inner.items()}
    return {key: decode(item) for key, item in value.items()}


def canonical(value: Any) -> str:
    """Return the one text that stands for `value`: equal texts are equal values."""
    return _ENCODER.encode(encode(value))


def digest(value: Any, length: int = 64) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


@lru_cache(maxsize=16384)
def join(path: str, key: str | int) -> str:
    """Return the path of `key` below `path`: `tags.Name`, `rules[0]`, `tags["a.b"]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def root(path: str) -> str:
    """Return the property that a path begins with."""
    return path.partition(".")[0].partition("[")[0]
