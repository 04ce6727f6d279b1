# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare desired and actual properties by the schema. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .resource import Change
from .schema import Property, comparable
from .value import Unknown, canonical, is_known, join

_ANY = Property("any")


def diff(
    properties: Mapping[str, Property], desired: Mapping[str, Any], actual: Mapping[str, Any]
) -> tuple[Change, ...]:
    """Return the changes that turn `actual` into `desired`; both are normalised.

    A property that `desired` omits, or that has another owner, is not compared.
    """
    return tuple(_of_properties(properties, desired, actual, "", None))


def creation(properties: Mapping[str, Property], desired: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the properties of a new resource as changes from None."""
    wanted = [(name, value) for name, value in desired.items() if value is not None]
    return tuple(Change(name, None, value) for name, value in wanted if name in properties)


def again(
    properties: Mapping[str, Property], desired: Mapping[str, Any], actual: Mapping[str, Any], names: Iterable[str]
) -> tuple[Change, ...]:
    """Return whole properties as changes, also unchanged ones: earlier steps of the plan remove their values."""
    return tuple(
        Change(name, actual.get(name), desired[name], _replaces(properties[name], actual.get(name), desired[name]))
        for name in names
    )


def forced_by(changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Return the paths that cannot be changed in place."""
    return tuple(change.path for change in changes if change.forces_replacement)


def managed(
    properties: Mapping[str, Property], desired: Mapping[str, Any], actual: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the part of `actual` that the description governs, in comparable form."""
    values = {}
    for name, item in properties.items():
        if name not in desired or item.owned_by:
            continue
        value, wanted = actual.get(name), desired[name]
        if item.fields and isinstance(value, Mapping):
            inner = wanted if isinstance(wanted, Mapping) else dict.fromkeys(item.fields)
            values[name] = managed(item.fields, inner, value)
        else:
            values[name] = comparable(item, value)
    return values


def _of_properties(
    properties: Mapping[str, Property],
    desired: Mapping[str, Any],
    actual: Mapping[str, Any],
    path: str,
    outer: Property | None,
) -> Iterator[Change]:
    for name, value in desired.items():
        item = properties[name]
        if not item.owned_by:
            # If a property forces a replacement, each of its fields does.
            governing = outer if outer is not None and outer.replace else item
            yield from _of_value(item, governing, value, actual.get(name), join(path, name))


def _of_value(item: Property, governing: Property, desired: Any, actual: Any, path: str) -> Iterator[Change]:
    if isinstance(desired, Mapping) and isinstance(actual, Mapping) and item.type == "map":
        if item.fields:
            yield from _of_properties(item.fields, desired, actual, path, governing)
        else:
            inner = item.elements or _ANY
            for key in sorted({*desired, *actual}):
                yield from _of_value(inner, governing, desired.get(key), actual.get(key), join(path, key))
    elif not _same(item, desired, actual):
        yield Change(path, actual, desired, _replaces(governing, actual, desired))


def _same(item: Property, desired: Any, actual: Any) -> bool:
    if desired is None or actual is None:
        return desired is actual
    if isinstance(desired, str) and isinstance(actual, str) and desired == actual:
        return True
    return is_known(desired) and canonical(comparable(item, desired)) == canonical(comparable(item, actual))


def _replaces(item: Property, before: Any, after: Any) -> bool:
    if not callable(item.replace):
        return item.replace
    # While the value is unknown, the plan shows a replacement; applying the plan compares again.
    return isinstance(after, Unknown) or not is_known(after) or item.replace(before, after)
