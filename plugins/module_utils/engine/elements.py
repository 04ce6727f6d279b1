# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Format changed values as text, lists element by element. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from .value import Secret, Unknown, canonical, join, mapped

_NOTHING = "(none)"
_SHOWN_CHARACTERS = 400


def element_lines(path: str, before: Any, after: Any) -> Iterator[str]:
    """Yield one line for each element that was added (+), removed (-) or moved (>), also inside of documents.

    Yields nothing if neither value contains a list; the caller then shows the values.
    """
    if isinstance(before, list) and isinstance(after, list):
        yield from _list_lines(before, after)
    elif isinstance(before, Mapping) and isinstance(after, Mapping) and _has_list([*before.values(), *after.values()]):
        for key in sorted({*before, *after}):
            yield from _key_lines(join(path, str(key)), before.get(key), after.get(key))


def _key_lines(path: str, before: Any, after: Any) -> Iterator[str]:
    if canonical(before) == canonical(after):
        return
    elements = list(element_lines(path, before, after))
    yield f"{path}:" if elements else f"{path}: {shown(before)} -> {shown(after)}"
    yield from (f"  {element}" for element in elements)


def _list_lines(before: Sequence[Any], after: Sequence[Any]) -> Iterator[str]:
    old, new = [canonical(item) for item in before], [canonical(item) for item in after]
    kept = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    gone = [index for index in range(len(old)) if not any(b.a <= index < b.a + b.size for b in kept)]
    come = [index for index in range(len(new)) if not any(b.b <= index < b.b + b.size for b in kept)]
    for index in gone:
        to = next((place for place in come if new[place] == old[index]), None)
        if to is None:
            yield f"- {shown(before[index])}"
        else:
            come.remove(to)
            yield f"> {shown(before[index])}  (moved from {index + 1} to {to + 1})"
    for index in come:
        yield f"+ {shown(after[index])}"


def _has_list(values: Sequence[Any]) -> bool:
    return any(
        isinstance(value, list) or (isinstance(value, Mapping) and _has_list([*value.values()])) for value in values
    )


def shown(value: Any) -> str:
    """Return a value as text: a label for unknown and secret values, otherwise JSON of at most 400 characters."""
    if value is None:
        return _NOTHING
    if isinstance(value, Unknown) and value == Unknown(sensitive=value.sensitive):
        return str(value)
    if isinstance(value, Secret):
        return str(value)
    written = json.dumps(mapped(value, _leaf), ensure_ascii=False, sort_keys=True)
    if len(written) <= _SHOWN_CHARACTERS:
        return written
    return f"{written[:_SHOWN_CHARACTERS]}... ({len(written)} characters)"


def _leaf(leaf: Any) -> Any:
    return str(leaf) if isinstance(leaf, Unknown | Secret) else leaf
