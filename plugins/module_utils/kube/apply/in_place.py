# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove from the live object alone that an apply would change nothing. Pure.

The server records the fields that a manager applied. If they are exactly the fields of the manifest, with the same
values, an apply sets nothing, removes nothing and conflicts with nothing. Values in another notation than the server's
(a quantity, a default inside an atomic list) are not proven, so their object is applied.

Source: k8s.io/apimachinery/pkg/util/managedfields, sigs.k8s.io/structured-merge-diff/fieldpath (the form of fieldsV1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .applyset import entry_of
from .compare import same

# Fields that identify an object; they have no manager.
_NAMING = frozenset({"name", "namespace"})
_SELF = "."


def is_in_place(live: Mapping[str, Any], desired: Mapping[str, Any], manager: str) -> bool:
    """Return whether an apply of `desired` by `manager` provably leaves `live` unchanged.

    live: as the server returned it, in the version of `desired`, with its managed fields.
    """
    entry = entry_of(live, manager) or {}
    if entry.get("apiVersion") != desired["apiVersion"] or live["metadata"].get("deletionTimestamp"):
        return False
    return _is_as_noted(_content(live), _content(desired), entry.get("fieldsV1"))


def _content(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an object that a manager can own."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _NAMING}
    # Manifest generators write null for a time that is not yet known.
    if "creationTimestamp" in metadata and metadata["creationTimestamp"] is None:
        del metadata["creationTimestamp"]
    content = {key: value for key, value in obj.items() if key not in {"apiVersion", "kind", "metadata"}}
    # The metadata come first, because they differ most often.
    return {"metadata": metadata, **content} if metadata else content


def _is_as_noted(live: Any, desired: Any, noted: Any) -> bool:
    if desired is None or not isinstance(noted, Mapping):
        return False
    parts = [part for part in noted if part != _SELF]
    if not parts:
        # A scalar, or a map or a list that one manager owns as a whole.
        return same(live, desired)
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        return {f"f:{key}" for key in desired} == set(parts) and all(
            key in live and _is_as_noted(live[key], value, noted[f"f:{key}"]) for key, value in desired.items()
        )
    if isinstance(desired, list) and isinstance(live, list) and len(desired) == len(parts):
        if all(part.startswith("k:") for part in parts):
            return _elements_are_as_noted(live, desired, {part: json.loads(part[2:]) for part in parts}, noted)
        if all(part.startswith("v:") for part in parts):
            return _values_are_as_noted(live, desired, [json.loads(part[2:]) for part in parts])
    return False


def _elements_are_as_noted(
    live: Sequence[Any], desired: Sequence[Any], keys: Mapping[str, Mapping[str, Any]], noted: Mapping[str, Any]
) -> bool:
    """Compare lists whose elements have keys. The order is significant. keys: the key of each part of `noted`."""
    places = []
    left = dict(keys)
    for element in desired:
        # A key that the manifest leaves to its default is in the managed fields and in the object.
        fitting = [part for part, key in left.items() if _fits(element, key)]
        if len(fitting) != 1:
            return False
        key = left.pop(fitting[0])
        found = [index for index, one in enumerate(live) if _has(one, key)]
        if len(found) != 1 or not _is_as_noted(live[found[0]], element, noted[fitting[0]]):
            return False
        places.append(found[0])
    return places == sorted(places)


def _fits(element: Any, key: Mapping[str, Any]) -> bool:
    return isinstance(element, Mapping) and all(same(element.get(name, value), value) for name, value in key.items())


def _has(element: Any, key: Mapping[str, Any]) -> bool:
    return isinstance(element, Mapping) and all(
        name in element and same(element[name], value) for name, value in key.items()
    )


def _values_are_as_noted(live: Sequence[Any], desired: Sequence[Any], noted: Sequence[Any]) -> bool:
    """Compare lists that are sets. Values of other managers between those of this manager are ignored."""
    ours = [one for one in live if any(same(one, value) for value in desired)]
    return same(ours, desired) and all(any(same(one, value) for value in noted) for one in desired)
