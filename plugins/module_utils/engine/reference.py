# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""References: `${kind.name.attribute}`, `${stack.X}`, `${secret.NAME}`; `$${` stands for `${` itself.

A property may contain them anywhere: as a whole value, inside a string, in lists, in values and keys of maps.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..shared.nearest import suggestion
from .errors import UnresolvedError
from .value import LISTS, MAPS, Secret, Unknown, digest, join

STACK, SECRET = "stack", "secret"
_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)(\})?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${...}`. `address` is `kind.name`, or the bare word `stack` or `secret`; `inside` digs into the value."""

    address: str
    attribute: str
    inside: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "${" + ".".join((self.address, self.attribute, *self.inside)) + "}"


Lookup = Callable[[Reference], Any]


def _reference(body: str) -> Reference:
    words = body.split(".")
    reserved = words[0] in {STACK, SECRET}
    if len(words) < (2 if reserved else 3) or not all(_WORD.fullmatch(word) for word in words):
        raise ValueError(
            f"${{{body}}} is not a reference; write ${{kind.name.attribute}}, ${{stack.X}} or ${{secret.NAME}},"
            f" and $${{{body}}} for the text itself"
        )
    if reserved:
        return Reference(words[0], words[1], tuple(words[2:]))
    return Reference(f"{words[0]}.{words[1]}", words[2], tuple(words[3:]))


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> tuple[str | Reference, ...]:
    """Split a text into literal pieces and references. Raises ValueError on a malformed text."""
    parts: list[str | Reference] = []
    end = 0
    for match in _TOKEN.finditer(text):
        literal = text[end : match.start()]
        end = match.end()
        if match[0] == "$${":
            parts.append(literal + "${")
            continue
        if match[2] is None:
            raise ValueError(f"{text[match.start() :]!r} is never closed; write $${{ for the text itself")
        parts += [literal, _reference(match[1])]
    parts.append(text[end:])
    return tuple(part for part in parts if part != "")


def find(value: Any, path: str = "") -> Iterator[tuple[str, Reference]]:
    """Yield every reference in `value` with the path it stands at. Raises UnresolvedError on a malformed one."""
    if isinstance(value, str):
        if "${" in value:
            yield from ((path, part) for part in _parsed(value, path) if isinstance(part, Reference))
    elif isinstance(value, LISTS):
        for index, item in enumerate(value):
            if not _is_literal(item):
                yield from find(item, join(path, index))
    elif isinstance(value, MAPS):
        for key, item in value.items():
            if not _is_literal(key):
                yield from find(str(key), join(path, str(key)))
            if not _is_literal(item):
                yield from find(item, join(path, str(key)))


def refers(value: Any) -> bool:
    """Return whether a reference, an escaped or a malformed one may stand in `value`."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, LISTS):
        return any(map(refers, value))
    return isinstance(value, MAPS) and any(refers(str(key)) or refers(item) for key, item in value.items())


def _is_literal(value: Any) -> bool:
    """Return whether a value is a text without a reference."""
    return isinstance(value, str) and "${" not in value


def _parsed(text: str, path: str) -> tuple[str | Reference, ...]:
    try:
        return parse(text)
    except ValueError as error:
        raise UnresolvedError(path, str(error)) from error


def resolve(value: Any, lookup: Lookup, path: str = "") -> Any:
    """Return `value` with its references replaced by what `lookup` answers.

    A value that is one reference keeps the type of its answer. Raises UnresolvedError where that is not possible.
    """
    if _is_literal(value):
        return value
    if isinstance(value, LISTS):
        return [resolve(item, lookup, join(path, index)) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return _resolve_map(value, lookup, path) if isinstance(value, MAPS) else value
    parts = _parsed(value, path)
    answers = [_answer(part, lookup, path) if isinstance(part, Reference) else part for part in parts]
    if len(parts) == 1:
        return answers[0]
    return _joined(parts, answers, path)


def _resolve_map(value: Mapping[Any, Any], lookup: Lookup, path: str) -> Any:
    resolved: dict[str, Any] = {}
    unknown: Unknown | None = None
    for key, item in value.items():
        place, name = join(path, str(key)), key
        if not _is_literal(key):
            name = resolve(str(key), lookup, place)
        if isinstance(name, Secret) or not isinstance(name, str | int | Unknown):
            raise UnresolvedError(place, "a key of a map has to be a plain string")
        answer = resolve(item, lookup, place)
        if isinstance(name, Unknown):
            unknown = Unknown(sensitive=name.sensitive)
        elif str(name) in resolved:
            raise UnresolvedError(place, f"two keys of the map are {str(name)!r}")
        else:
            resolved[str(name)] = answer
    # A map whose keys are not all known is not known: its size and order may still change.
    return resolved if unknown is None else unknown


def _answer(reference: Reference, lookup: Lookup, path: str) -> Any:
    try:
        value = lookup(reference)
    except UnresolvedError as error:
        raise UnresolvedError(path, error.message, error.remedy) from error
    for word in reference.inside:
        if isinstance(value, Unknown):
            return value
        value = _inside(value, word, reference, path)
    return value


def _inside(value: Any, word: str, reference: Reference, path: str) -> Any:
    if isinstance(value, Mapping):
        if word in value:
            return value[word]
        raise UnresolvedError(path, f"{reference}: there is no {word!r}", suggestion(word, map(str, value)))
    if isinstance(value, list | tuple):
        if word.isdigit() and int(word) < len(value):
            return value[int(word)]
        raise UnresolvedError(path, f"{reference}: there is no item {word!r}", f"the list has {len(value)} items")
    raise UnresolvedError(path, f"{reference}: there is nothing inside {value!s}")


def _joined(parts: Sequence[str | Reference], answers: list[Any], path: str) -> str | Unknown | Secret:
    for part, answer in zip(parts, answers, strict=True):
        if not isinstance(answer, str | int | float | bool | Unknown | Secret):
            kind = "nothing" if answer is None else f"a {'map' if isinstance(answer, Mapping) else 'list'}"
            raise UnresolvedError(path, f"{part} is {kind} and cannot stand inside a string", "use it as a whole value")
    if any(isinstance(answer, Unknown) for answer in answers):
        sensitive = any(isinstance(a, Secret) or (isinstance(a, Unknown) and a.sensitive) for a in answers)
        return Unknown("".join(map(text_of, answers)), sensitive)
    if any(isinstance(answer, Secret) for answer in answers):
        values = [answer.value if isinstance(answer, Secret) else answer for answer in answers]
        return Secret(digest(answers, 32), None if None in values else "".join(map(text_of, values)))
    return "".join(map(text_of, answers))


def text_of(value: Any) -> str:
    """Return a scalar as it stands inside a string: booleans and numbers as in JSON."""
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)
