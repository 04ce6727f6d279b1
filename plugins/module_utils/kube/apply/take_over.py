# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute which fields of other managers an apply takes over, the required managed fields, and the removals. Pure.

An apply removes only the fields that its manager alone owns. The fields of a replaced manager are therefore added to
ours before the apply.

Source: k8s.io/client-go/util/csaupgrade, and k8s.io/kubectl/pkg/cmd/apply (migrateToSSA).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .compare import projected, same

Fields: TypeAlias = Mapping[str, Any]
Path: TypeAlias = tuple[str, ...]

CLIENT_SIDE_APPLY = "kubectl-client-side-apply"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_LAST_APPLIED_PATH: Path = ("f:metadata", "f:annotations", f"f:{LAST_APPLIED}")
_SELF = "."
# In these lists, the server rejects two elements with one name, regardless of their managers.
_UNIQUE_NAMES = frozenset({"containerPort", "port"})
# Managers of manual changes; other programs use their own names.
_BY_HAND = frozenset({"Mozilla", "curl", "k9s", "kubectl", "lens", "node-fetch", "python-requests"})
_BY_HAND_PREFIX = "kubectl-"


@dataclass(frozen=True)
class Renumbered:
    """An element of a list whose key was changed. path: of the live element. field: for readers."""

    path: Path
    field: str
    element: Fields


@dataclass(frozen=True)
class TakeOver:
    """The takeover of an object. managed_fields: as required before the apply, with our manager's first."""

    managed_fields: tuple[Fields, ...]
    renumbered: tuple[Renumbered, ...] = ()

    def patch(self, live: Fields) -> list[dict[str, Any]]:
        """Return the JSON patch that changes only the owners of the fields, of an object as it was read."""
        version = live["metadata"].get("resourceVersion")
        return [
            {"op": "replace", "path": "/metadata/managedFields", "value": list(self.managed_fields)},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]


def take_over(live: Fields, desired: Fields, manager: str, adopted: Collection[str]) -> TakeOver | None:
    """Return the fields that an apply of `desired` by `manager` takes over from other managers, or None without any.

    adopted: managers whose fields are taken over, in addition to that of kubectl's client-side apply.
    """
    entries = [entry for entry in live["metadata"].get("managedFields") or () if isinstance(entry, Mapping)]
    going = [entry for entry in entries if _is_adopted(entry, manager, adopted)]
    mine = [entry for entry in entries if entry in going or _is_ours(entry, manager)]
    renumbered = tuple(_renumbered(live, desired, entries, mine))
    paths = [one.path for one in renumbered]
    if _is_stale(live, desired, entries):
        paths.append(_LAST_APPLIED_PATH)
    if not going and not paths:
        return None
    ours = _target(entries, going, manager, str(desired["apiVersion"]))
    taken: Fields = {}
    for entry in going:
        # Paths of another version may not exist in this one.
        taken = union(taken, entry.get("fieldsV1") or {}) if entry.get("apiVersion") == ours["apiVersion"] else taken
    staying = [entry for entry in entries if entry not in going and not _is_ours(entry, manager)]
    for path in paths:
        taken = union(taken, _at_path(path, _owned(staying, path)))
    first = {**ours, "fieldsV1": union(ours.get("fieldsV1") or {}, taken)}
    return TakeOver((first, *_without_paths(staying, paths)), renumbered)


def _target(entries: Sequence[Fields], going: Sequence[Fields], manager: str, api_version: str) -> Fields:
    """Return the entry that receives the fields: ours, or else the first that is taken over, or a new one."""
    mine = next((entry for entry in entries if _is_ours(entry, manager)), None)
    if mine is not None:
        return mine
    named = {"manager": manager, "operation": "Apply"}
    return {**(going[0] if going else {"apiVersion": api_version, "fieldsType": "FieldsV1"}), **named}


def _is_adopted(entry: Fields, manager: str, adopted: Collection[str]) -> bool:
    if entry.get("subresource") or _is_ours(entry, manager):
        return False
    name = entry.get("manager")
    return name in adopted or (name == CLIENT_SIDE_APPLY and entry.get("operation") == "Update")


def _is_ours(entry: Fields, manager: str) -> bool:
    named = entry.get("manager") == manager and entry.get("operation") == "Apply"
    return named and not entry.get("subresource")


def _is_stale(live: Fields, desired: Fields, entries: Sequence[Fields]) -> bool:
    """Return whether kubectl's annotation of its last client-side apply exists, and this apply would not update it."""
    has, wants = ((one["metadata"].get("annotations") or {}) for one in (live, desired))
    writers = [entry for entry in entries if entry.get("operation") == "Update"]
    owned = any(_get(entry.get("fieldsV1"), _LAST_APPLIED_PATH) is not None for entry in writers)
    return LAST_APPLIED in has and LAST_APPLIED not in wants and owned


def _without_paths(entries: Sequence[Fields], paths: Sequence[Path]) -> Iterator[Fields]:
    """Yield the entries without the fields at the paths, and without entries that own nothing else."""
    for entry in entries:
        fields = entry.get("fieldsV1") or {}
        for path in paths:
            fields = _without(fields, path)
        if fields:
            yield {**entry, "fieldsV1": fields}


def union(one: Fields, other: Fields) -> dict[str, Any]:
    """Return the fields of both sets."""
    both = {key: union(value, other[key]) if key in other else value for key, value in one.items()}
    return {**both, **{key: value for key, value in other.items() if key not in one}}


def _get(fields: Any, path: Path) -> Any:
    for part in path:
        fields = fields.get(part) if isinstance(fields, Mapping) else None
    return fields


def _without(fields: Fields, path: Path) -> dict[str, Any]:
    """Return a set without the field at a path, and without parents that become empty."""
    first, rest = path[0], path[1:]
    if first not in fields:
        return dict(fields)
    inner = _without(fields[first], rest) if rest else {}
    left = {key: value for key, value in fields.items() if key != first}
    return {**left, first: inner} if inner and set(inner) != {_SELF} else left


def _owned(entries: Sequence[Fields], path: Path) -> Fields:
    found: Fields = {_SELF: {}} if path[-1].startswith("k:") else {}
    for entry in entries:
        found = union(found, _get(entry.get("fieldsV1"), path) or {})
    return found


def _at_path(path: Path, fields: Fields) -> Fields:
    for part in reversed(path):
        fields = {part: fields}
    return fields


def _renumbered(
    live: Fields, desired: Fields, entries: Sequence[Fields], mine: Sequence[Fields]
) -> Iterator[Renumbered]:
    """Yield live elements that match elements of `desired` under another key, and that our manager does not own."""
    noted = {
        index: entry["fieldsV1"]
        for index, entry in enumerate(entries)
        if isinstance(entry.get("fieldsV1"), Mapping) and not entry.get("subresource")
    }
    ours = {index for index in noted if entries[index] in mine}
    if set(noted) <= ours:
        return
    hands = {index for index in noted if _is_by_hand(str(entries[index].get("manager")))}
    yield from _Search(ours, hands).look(live, desired, noted, (), "")


def _is_by_hand(manager: str) -> bool:
    return manager in _BY_HAND or manager.startswith(_BY_HAND_PREFIX)


@dataclass(frozen=True)
class _Search:
    """A search for renumbered elements.

    ours, hands: indexes of the entries of our manager, and of those of manual changes. Each tree is identified by the
    index of its entry.
    """

    ours: Collection[int]
    hands: Collection[int]

    def look(self, live: Any, desired: Any, noted: Mapping[int, Any], path: Path, field: str) -> Iterator[Renumbered]:
        if isinstance(live, Mapping) and isinstance(desired, Mapping):
            for key in desired:
                inner = _below(noted, f"f:{key}")
                if key in live and any(inner.values()):
                    yield from self.look(live[key], desired[key], inner, (*path, f"f:{key}"), f"{field}.{key}")
        elif isinstance(live, list) and isinstance(desired, list):
            yield from self._look_in_list(live, desired, noted, path, field)

    def _look_in_list(
        self, live: list[Any], desired: list[Any], noted: Mapping[int, Any], path: Path, field: str
    ) -> Iterator[Renumbered]:
        parts = {part for tree in noted.values() for part in tree if part.startswith("k:")}
        elements = [*live, *desired]
        if not parts or not all(isinstance(element, Mapping) for element in elements):
            return
        keys = frozenset(_key_of(min(parts)))
        places = {index: next((p for p in parts if _is_part(p, element)), "") for index, element in enumerate(live)}
        left, missing = dict(enumerate(live)), []
        for element in desired:
            index = next((index for index, one in left.items() if _has_key(one, element, keys)), None)
            if index is None:
                missing.append(element)
                continue
            part = places[index]
            yield from self.look(left.pop(index), element, _below(noted, part), (*path, part), f"{field}[{part[2:]}]")
        for index, element in left.items():
            owners = set(_below(noted, places[index]))
            if (
                places[index]
                and not owners & set(self.ours)
                and any(_replaces(element, one, keys, is_by_hand=owners <= set(self.hands)) for one in missing)
            ):
                yield Renumbered((*path, places[index]), f"{field}[{places[index][2:]}]", element)


def _below(noted: Mapping[int, Any], part: str) -> dict[int, Any]:
    return {index: tree[part] for index, tree in noted.items() if isinstance(tree, Mapping) and part in tree}


@functools.lru_cache(maxsize=4096)
def _key_of(part: str) -> Fields:
    """Return the key that a part like `k:{"name":"web"}` records."""
    found: Fields = json.loads(part[2:])
    return found


def _is_part(part: str, element: Fields) -> bool:
    return all(key in element and same(element[key], value) for key, value in _key_of(part).items())


def _has_key(live: Fields, desired: Fields, keys: Collection[str]) -> bool:
    """Return whether both have one key. A key that the manifest leaves to its default is in the live element only."""
    return all(same(live.get(key), desired[key]) for key in keys if key in desired)


def _replaces(live: Fields, missing: Fields, keys: Collection[str], *, is_by_hand: bool) -> bool:
    """Return whether a live element is the missing one under another key: by its name, or else by all other fields."""
    if not is_by_hand and not _UNIQUE_NAMES & set(keys):
        return False
    if "name" not in keys and ("name" in live or "name" in missing):
        return bool(same(live.get("name"), missing.get("name")))
    rest = {key: value for key, value in missing.items() if key not in keys}
    if not rest and set(live) <= set(keys):
        return True
    return (bool(_UNIQUE_NAMES & set(keys)) or _says_something(rest)) and same(projected(live, rest), rest)


def _says_something(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_says_something, value.values()))
    return any(map(_says_something, value)) if isinstance(value, list) else value is not None


def without_taken(live: Any, desired: Any, taken: Fields, others: Sequence[Fields]) -> Any:
    """Return `live` without the taken-over fields that an apply of `desired` removes.

    taken: the set of these fields. others: sets of the managers that stay, whose fields also stay.
    """
    if isinstance(live, Mapping):
        wanted = desired if isinstance(desired, Mapping) else {}
        kept = {}
        for key, value in live.items():
            part = f"f:{key}"
            inner = taken.get(part)
            if inner is None:
                kept[key] = value
                continue
            below = [one[part] for one in others if part in one]
            if key in wanted and _is_atomic(value, [inner, *below]):
                kept[key] = projected(value, wanted[key])
            elif key in wanted:
                kept[key] = without_taken(value, wanted[key], inner, below)
            elif _is_owned_whole(inner):
                kept.update({key: value} if below else {})
            else:
                left = without_taken(value, {}, inner, below)
                kept.update({key: left} if left or below else {})
        return kept
    return _list_without_taken(live, desired, taken, others) if isinstance(live, list) else live


def _is_atomic(live: Any, sets: Sequence[Fields]) -> bool:
    """Return whether the server replaces a map as a whole, such as a selector: no manager owns a part of it."""
    return isinstance(live, Mapping) and bool(live) and all(map(_is_owned_whole, sets))


def _is_owned_whole(fields: Fields) -> bool:
    return not set(fields) - {_SELF}


def _list_without_taken(live: list[Any], desired: Any, taken: Fields, others: Sequence[Fields]) -> list[Any]:
    wanted = desired if isinstance(desired, list) else []
    kept = []
    for element in live:
        part = next((part for part in taken if _is_element(part, element)), "")
        below = [one[part] for one in others if part in one]
        keys = set(_key_of(part)) if part.startswith("k:") else set()
        same_key = next((one for one in wanted if keys and _has_key(element, one, keys)), None)
        if not part or (not keys and any(same(element, one) for one in wanted)):
            kept.append(element)
        elif same_key is not None:
            kept.append(without_taken(element, same_key, taken[part], below))
        elif below:
            kept.append(without_taken(element, {key: element[key] for key in keys}, taken[part], below))
    return kept


def _is_element(part: str, element: Any) -> bool:
    if part.startswith("k:"):
        return isinstance(element, Mapping) and _is_part(part, element)
    return part.startswith("v:") and same(json.loads(part[2:]), element)


def applied(live: Any, desired: Any, sets: Sequence[Fields]) -> Any:
    """Return the result of an apply of `desired` to `live`, without its removals.

    sets: the fields of every manager. Only they contain the keys by which the server merges a list. Source:
    sigs.k8s.io/structured-merge-diff/typed, merge.go.
    """
    if isinstance(live, Mapping) and isinstance(desired, Mapping):
        both = {
            key: applied(live[key], value, _sets_below(sets, f"f:{key}")) if key in live else value
            for key, value in desired.items()
        }
        return {**live, **both}
    if not isinstance(live, list) or not isinstance(desired, list):
        return desired
    part = next((part for fields in sets for part in fields if part.startswith(("k:", "v:"))), "")
    if part.startswith("v:"):
        return [*(one for one in live if not any(same(one, other) for other in desired)), *desired]
    return _elements_applied(live, desired, sets, frozenset(_key_of(part))) if part else desired


def _elements_applied(
    live: Sequence[Any], desired: Sequence[Any], sets: Sequence[Fields], keys: Collection[str]
) -> list[Any]:
    """Return the elements in the order of `desired`. Other elements precede the first element that follows them."""
    left, found = list(live), []
    for element in desired:
        while left and not any(_has_key(left[0], one, keys) for one in desired):
            found.append(left.pop(0))
        index = next((index for index, one in enumerate(left) if _has_key(one, element, keys)), None)
        if index is None:
            found.append(element)
            continue
        old = left.pop(index)
        part = next((part for fields in sets for part in fields if _is_element(part, old)), "")
        found.append(applied(old, element, _sets_below(sets, part)))
    return [*found, *left]


def _sets_below(sets: Sequence[Fields], part: str) -> list[Fields]:
    return [fields[part] for fields in sets if isinstance(fields.get(part), Mapping)]


def given_up(
    content: Fields, entries: Sequence[Fields], desired: Fields, manager: str, adopted: Collection[str]
) -> Any:
    """Return the content without the fields that an apply of `desired` by `manager` removes, including its takeovers.

    entries: the managed fields of the object with this content.
    """
    mine: Fields = {}
    others = []
    for entry in entries:
        fields = entry.get("fieldsV1") or {}
        if _is_ours(entry, manager) or _is_adopted(entry, manager, adopted):
            mine = union(mine, fields)
        elif not entry.get("subresource"):
            others.append(fields)
    return without_taken(content, desired, mine, others)


def merge_patch(before: Any, after: Any) -> Any:
    """Return the JSON merge patch (RFC 7396) that changes `before` to `after`."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    changed = {
        key: merge_patch(before[key], value) if key in before else value
        for key, value in after.items()
        if key not in before or not same(before[key], value)
    }
    return {**changed, **{key: None for key in before if key not in after}}
