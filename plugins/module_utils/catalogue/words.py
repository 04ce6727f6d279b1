# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads plain data (what YAML gives) into frozen dataclasses and collects every problem on the way.

The dataclasses are the grammar: a field is a word, its type says what the word may hold, its metadata says the rest.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..shared.nearest import replacement
from ..shared.problem import Problem

Complaint = tuple[str, str]
"""What is wrong with a value, and the remedy."""
Check = Callable[[Any], "Complaint | None"]

_NAMES = {str: "a string", bool: "true or false", int: "a whole number"}


class CatalogueError(ValueError):
    """The catalogue cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def word(text: str, check: Check | None = None, keys: Check | None = None) -> Mapping[str, Any]:
    """Return the metadata that make a dataclass field a word of the catalogue.

    `text` explains it in a sentence, `check` looks at the value (of a list or map: at each entry), `keys` at the keys
    of a map.
    """
    return {"text": text, "check": check, "keys": keys}


def path_to(parent: str, key: object) -> str:
    """Return the path of `key` inside `parent`; a key that holds a dot is put in brackets."""
    return f"{parent}[{key}]" if "." in str(key) or not str(key) else f"{parent}.{key}"


@dataclasses.dataclass
class Reader:
    """Reads values of one source; `partial` accepts missing words and nulls, as overlays have them."""

    problems: list[Problem]
    partial: bool = False

    def read(self, kind: type[Any], data: object, path: str, also: Iterable[str] = (), **given: Any) -> Any:
        """Return a `kind` made of the map `data`, or None when that is not possible.

        `also` are words that the caller reads, `given` are fields that the caller sets.
        """
        if not isinstance(data, Mapping):
            return self._refuse(path, f"{_shown(data)} is not a map", "write it as `key: value` lines")
        fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in given}
        hints = _hints(kind)  # type: ignore[arg-type]  # every class is hashable
        before = len(self.problems)
        values = dict(given)
        for key, value in data.items():
            place = path_to(path, key)
            if key in also:
                continue
            if key not in fields:
                self._refuse(place, f"unsupported key {key!r}", replacement(str(key), [*fields, *also]))
            elif not (value is None and self.partial):
                values[key] = self._value(hints[key], value, place, fields[key].metadata)
        missing = [name for name, field in fields.items() if name not in values and _is_required(field)]
        if missing and not self.partial:
            for name in missing:
                self._refuse(
                    path_to(path, name), "it is missing", f"add it: {fields[name].metadata['text'].rstrip('.')}"
                )
        return None if self.partial or len(self.problems) > before else kind(**values)

    def _value(self, hint: Any, value: object, path: str, metadata: Mapping[str, Any]) -> Any:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            return self._value(arguments[0], value, path, metadata)
        if origin is typing.Literal:
            return self._choice(arguments, value, path)
        if origin is tuple:
            return self._list(arguments[0], value, path, metadata)
        if origin is not None:
            return self._map(arguments[1], value, path, metadata)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.read(hint, value, path)
        return self._checked(self._scalar(hint, value, path), path, metadata["check"])

    def _list(self, hint: Any, value: object, path: str, metadata: Mapping[str, Any]) -> Any:
        if not isinstance(value, (list, tuple)):
            return self._refuse(path, f"{_shown(value)} is not a list", "write it as a list: [one, two]")
        return tuple(self._value(hint, entry, f"{path}[{index}]", metadata) for index, entry in enumerate(value))

    def _map(self, hint: Any, value: object, path: str, metadata: Mapping[str, Any]) -> Any:
        if not isinstance(value, Mapping):
            return self._refuse(path, f"{_shown(value)} is not a map", "write it as `name: value` lines")
        entries = {}
        for key, entry in value.items():
            place = path_to(path, key)
            if self._checked(self._scalar(str, key, place), place, metadata["keys"]) is None:
                continue
            if not (entry is None and self.partial):
                entries[str(key)] = self._value(hint, entry, place, metadata)
        return entries

    def _choice(self, choices: tuple[str, ...], value: object, path: str) -> Any:
        if isinstance(value, str) and value in choices:
            return str(value)
        return self._refuse(path, f"{_shown(value)} is not known here", replacement(str(value), choices))

    def _scalar(self, hint: Any, value: object, path: str) -> Any:
        # YAML reads an unquoted 8080 as a number; as text it can only mean itself. Not so yes, 1.10 or 0x1F.
        if hint is str and isinstance(value, int) and not isinstance(value, bool):
            return str(int(value))
        if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
            return "".join(value) if hint is str else value
        remedy = (
            f"put it in quotes: '{value}'" if hint is str and isinstance(value, (bool, float)) else "correct its type"
        )
        return self._refuse(path, f"{_shown(value)} is not {_NAMES[hint]}", remedy)

    def _checked(self, value: Any, path: str, check: Check | None) -> Any:
        complaint = check(value) if check and value is not None else None
        return value if complaint is None else self._refuse(path, *complaint)

    def _refuse(self, path: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(path, message, remedy))


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
