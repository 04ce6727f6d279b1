# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare two states of an object: whether their content differs, and where. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...engine.value import join

Content: TypeAlias = Mapping[str, Any]

# Metadata that the server manages and that no manifest requests.
_BOOKKEEPING = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
# Fields that identify the elements of a list, for readers.
# Source: the patchMergeKey and x-kubernetes-list-map-keys of k8s.io/api.
_KEYS = ("name", "mountPath", "devicePath", "containerPort", "port", "key", "topologyKey", "ip", "uid", "type")


class _Absent:
    """Placeholder for the value of a missing key; None is a value."""

    def __repr__(self) -> str:
        return "(absent)"


_ABSENT = _Absent()
# Types whose equal values are the same. `float` is omitted, because its zeros may differ in their sign.
_SCALARS = frozenset({bool, int, str, type(None)})


@dataclass(frozen=True)
class Change:
    """One difference. `before` is None for an added value, `after` for a removed value."""

    path: str
    before: Any
    after: Any

    def to_data(self) -> dict[str, Any]:
        return {"path": self.path, "before": self.before, "after": self.after}


def content(obj: Content, *, with_status: bool = False) -> dict[str, Any]:
    """Return the requested content of an object: everything except its status and the server's metadata.

    with_status: for kinds whose status is written like any other field.
    """
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key not in _BOOKKEEPING}
    kept = {key: value for key, value in obj.items() if with_status or key != "status"}
    return {**kept, "metadata": metadata}


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal. Unlike in Python, `true` differs from 1."""
    return one is other or bool(one == other and _is_alike(one, other))


def _is_alike(one: Any, other: Any) -> bool:
    """Return whether two values that are equal in Python have the same number types and signs of zeros throughout."""
    kind = one.__class__
    if kind is other.__class__:
        if kind in _SCALARS:
            return True
        if kind is dict:
            # Most values are strings. This skips them without a call for each.
            return not any(
                value.__class__ is not str and not _is_alike(value, other[key]) for key, value in one.items()
            )
    if isinstance(one, list):
        return all(map(_is_alike, one, other))
    if isinstance(one, Mapping):
        return all(_is_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, str):
        return True
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    return isinstance(one, bool) is isinstance(other, bool) and isinstance(one, float) is isinstance(other, float)


def views(before: Content, after: Content, desired: Content) -> tuple[Any, Any]:
    """Return both states for a comparison by a reader.

    Unchanged fields outside of the manifest, and defaults that the server added, are omitted. Where the states differ
    but nothing remains, both are returned completely: changes of a webhook must be visible.
    """
    shown = _map_views(before, after, desired)
    return (before, after) if same(*shown) and not same(before, after) else shown


def _views(before: Any, after: Any, desired: Any) -> tuple[Any, Any]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return _map_views(before, after, desired)
    if isinstance(before, list) and isinstance(after, list):
        return _list_views(before, after, desired)
    return before, projected(after, desired)


def _map_views(before: Content, after: Content, desired: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    wanted = desired if isinstance(desired, Mapping) else {}
    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    for key in sorted({*before, *after}):
        old, new, asked = before.get(key, _ABSENT), after.get(key, _ABSENT), wanted.get(key, _ABSENT)
        if same(old, new):
            if asked is not _ABSENT:
                left[key] = right[key] = projected(new, asked)
        elif old is not _ABSENT or asked is not _ABSENT:
            shown = _views(old, new, asked)
            left.update({key: shown[0]} if shown[0] is not _ABSENT else {})
            right.update({key: shown[1]} if shown[1] is not _ABSENT else {})
    return left, right


def _list_views(before: Sequence[Any], after: Sequence[Any], desired: Any) -> tuple[list[Any], list[Any]]:
    wanted = desired if isinstance(desired, list) else []
    key = _key(before, after, wanted)
    if key is None:
        return _views_by_place(before, after, wanted)
    old, new, asked = _by(key, before), _by(key, after), _by(key, wanted)
    passed = {name for name in old if name in new and name not in asked and same(old[name], new[name])}
    shown = {name: _views(old[name], new[name], asked.get(name)) for name in old if name in new and name not in passed}
    left = [{key: item[key], **shown[name][0]} if name in shown else item for name, item in old.items()]
    right = [
        {key: item[key], **shown[name][1]} if name in shown else projected(item, asked.get(name))
        for name, item in new.items()
    ]
    return _without(left, key, passed), _without(right, key, passed)


def _views_by_place(before: Sequence[Any], after: Sequence[Any], wanted: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    if len(before) != len(after) or len(after) != len(wanted):
        return list(before), projected(after, wanted)
    shown = [_views(*elements) for elements in zip(before, after, wanted, strict=True)]
    return [one for one, _other in shown], [other for _one, other in shown]


def _without(items: Sequence[Content], key: str, names: Collection[str]) -> list[Any]:
    return [item for item in items if str(item[key]) not in names]


def projected(value: Any, shape: Any) -> Any:
    """Return the part of `value` that `shape` describes.

    Scalars, and values of another type than in `shape`, stay complete.
    """
    if value == shape:
        # The comparison is much faster than the recursion, and most parts of most objects equal the manifest.
        return value
    if isinstance(value, Mapping) and isinstance(shape, Mapping):
        return {key: projected(item, shape[key]) for key, item in value.items() if key in shape}
    if isinstance(value, list) and isinstance(shape, list):
        key = _key(value, shape)
        if key is not None:
            shapes = _by(key, shape)
            return [projected(item, shapes.get(name)) for name, item in _by(key, value).items()]
        if len(value) == len(shape):
            return [projected(item, part) for item, part in zip(value, shape, strict=True)]
    return value


def changes(before: Any, after: Any, path: str = "") -> tuple[Change, ...]:
    """Return every difference of two values, at the deepest possible path."""
    return tuple(_changes(before, after, path))


def _changes(before: Any, after: Any, path: str) -> Iterator[Change]:
    if same(before, after):
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _changes(before.get(key, _ABSENT), after.get(key, _ABSENT), join(path, key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_changes(before, after, path)
    else:
        yield Change(path, _shown(before), _shown(after))


def _list_changes(before: Sequence[Any], after: Sequence[Any], path: str) -> Iterator[Change]:
    key = _key(before, after)
    if key is None:
        if len(before) != len(after):
            yield Change(path, list(before), list(after))
            return
        for index, (old_item, new_item) in enumerate(zip(before, after, strict=True)):
            yield from _changes(old_item, new_item, join(path, index))
        return
    old, new = _by(key, before), _by(key, after)
    if [name for name in old if name in new] != [name for name in new if name in old]:
        yield Change(path, list(before), list(after))
        return
    for name in dict.fromkeys((*old, *new)):
        yield from _changes(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{path}[{key}={name}]")


def _shown(value: Any) -> Any:
    return None if value is _ABSENT else value


def _key(*lists: Sequence[Any]) -> str | None:
    """Return the field that identifies the elements of all these lists, or None."""
    if not any(lists) or not all(isinstance(item, Mapping) for items in lists for item in items):
        return None
    return next((key for key in _KEYS if all(_tells_apart(key, items) for items in lists)), None)


def _tells_apart(key: str, items: Sequence[Content]) -> bool:
    names = [item.get(key) for item in items]
    fit = all(isinstance(name, str | int) and not isinstance(name, bool) for name in names)
    return fit and len({str(name) for name in names}) == len(names)


def _by(key: str, items: Sequence[Content]) -> dict[str, Content]:
    return {str(item[key]): item for item in items}


def merged(before: Any, desired: Any) -> Any:
    """Return the result of an apply of `desired` to `before`, as far as it is predictable without the server.

    Maps are merged. Lists with identifiable elements are merged by element. Other values are replaced.
    """
    if isinstance(before, Mapping) and isinstance(desired, Mapping):
        both = {key: merged(before[key], value) if key in before else value for key, value in desired.items()}
        return {**before, **both}
    if isinstance(before, list) and isinstance(desired, list) and before and desired:
        key = _key(before, desired)
        if key is not None:
            old, new = _by(key, before), _by(key, desired)
            both = {name: merged(old[name], item) if name in old else item for name, item in new.items()}
            return list({**old, **both}.values())
    return desired
