# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schemas of kinds: properties, their types and defaults, and the effect of changing each."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..shared.nearest import suggestion
from ..shared.problem import Problem
from .reference import text_of
from .value import LISTS, MAPS, PLAIN, SEQUENCES, Secret, Unknown, canonical, holds, is_known, join, leaves

Type = Literal["string", "integer", "number", "boolean", "list", "set", "map", "json", "policy", "any"]
ValidationError = tuple[str, str, str]
# The values of Ansible's boolean filter, since values of the command line are strings.
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Property:
    """One property of a kind.

    type: `set` is unordered; `json` is an ordered document; `policy` is an unordered document, in which `x` and `[x]`
        are equal.
    default: the desired value if omitted. None means `when_unset`, unless the property is `computed`.
    when_unset: the value if the service returns none, and the value of an explicit null.
    computed: unmanaged if omitted; the service chooses the value.
    replace: whether a change requires a replacement. A function of (before, after) decides if it depends on the values.
    sensitive: the value is a secret; it is compared by version and never printed.
    deferred: applied after both ends of its references exist, cleared first on destroy. Cannot force a replacement.
    owned_by: the component that changes it after creation (an autoscaler). Set at creation, never compared afterwards.
    elements: the elements of a list or set, or the values of a map with free keys. fields: the keys of a map.
    check: returns the fault of a value, as a Problem if there is a remedy, or None.
    canonical: returns a form in which equal values are equal.
    """

    type: Type = "string"
    purpose: str = ""
    required: bool = False
    default: Any = None
    when_unset: Any = None
    computed: bool = False
    replace: bool | Callable[[Any, Any], bool] = False
    sensitive: bool = False
    deferred: bool = False
    owned_by: str = ""
    choices: tuple[Any, ...] = ()
    elements: Property | None = None
    fields: Mapping[str, Property] = field(default_factory=dict)
    check: Callable[[Any], str | Problem | None] | None = None
    canonical: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.deferred and (self.replace or self.required):
            raise ValueError("a deferred property comes after creation: it can neither replace nor be required")
        if self.elements is not None and any(part.computed or part.owned_by for part in self.elements.fields.values()):
            raise ValueError("an element of a list is compared as a whole: none of its fields can belong to others")


@dataclass(frozen=True)
class Output:
    """A value of an existing resource, for references.

    changes_with: the properties whose update changes the value (a launch template's latest version).
    """

    purpose: str = ""
    sensitive: bool = False
    changes_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """The engine's knowledge about a kind.

    protected: holds data, so deletion and replacement require permission by the description or the caller.
    spans_regions: one namespace for all regions of an account, so the tags of a resource name the owner's region.
    locked_by: the property whose true value makes the service refuse every deletion.
    replacement: `delete_first` for resources with fixed names, `create_first` for those that can exist twice.
    unique_by: the properties that identify a resource of the kind: if one changes, both can exist temporarily.
    exclusive: groups of properties whose values only one resource can have: a subnet's route table, a listener's port.
        Each element of a list or a set counts separately. None means one group, `unique_by`.
    check: rules over several properties; yields (path, message, remedy) for the desired properties, which may contain
        unknown values, and the existing ones (None before creation).
    """

    properties: Mapping[str, Property]
    outputs: Mapping[str, Output] = field(default_factory=dict)
    protected: bool = False
    spans_regions: bool = False
    locked_by: str = ""
    replacement: Literal["delete_first", "create_first"] = "delete_first"
    unique_by: tuple[str, ...] = ()
    exclusive: tuple[tuple[str, ...], ...] | None = None
    check: Callable[[Mapping[str, Any], Mapping[str, Any] | None], Iterable[ValidationError]] | None = None

    @functools.cached_property
    def exclusive_relations(self) -> tuple[tuple[str, ...], ...]:
        """Return the groups of properties whose values only one resource can have."""
        if self.exclusive is None:
            return (self.unique_by,) if self.unique_by else ()
        return self.exclusive

    @functools.cached_property
    def attributes(self) -> frozenset[str]:
        """Return the attributes that a reference may name."""
        return frozenset(self.outputs) | {name for name, item in self.properties.items() if not item.deferred}

    @functools.cached_property
    def deferred(self) -> frozenset[str]:
        return frozenset(name for name, item in self.properties.items() if item.deferred)


def wanted(
    properties: Mapping[str, Property], given: Mapping[str, Any], salt: str
) -> tuple[dict[str, Any], list[ValidationError]]:
    """Return every managed property with its desired value (None: no value), and the faults."""
    normaliser = _Normaliser(salt, desired=True)
    return normaliser.properties(properties, given, ""), normaliser.validation_errors


def found(properties: Mapping[str, Property], read: Mapping[str, Any], salt: str) -> dict[str, Any]:
    """Return the read properties in the same form. A value of another type is kept, as a difference."""
    return _Normaliser(salt, desired=False).properties(properties, read, "")


_ANY = Property("any")


class _Normaliser:
    """Converts values to the types of a schema, and collects faults as (path, message, remedy).

    The salt is part of the versions of secrets: equal secrets have different versions in different stacks.
    """

    def __init__(self, salt: str, *, desired: bool) -> None:
        self.salt = salt
        self.desired = desired
        self.validation_errors: list[ValidationError] = []

    def properties(self, properties: Mapping[str, Property], given: Mapping[str, Any], path: str) -> dict[str, Any]:
        if self.desired:
            for name in sorted(map(str, set(given) - set(properties))):
                self._validation_error(join(path, name), "there is no such property", suggestion(name, properties))
        values: dict[str, Any] = {}
        for name, item in properties.items():
            if self.desired and item.computed and name not in given:
                continue
            value = given.get(name, item.default if self.desired else None)
            value = None if value is None else self._value(item, value, join(path, name))
            if value is None and item.required and self.desired and given.get(name) is None:
                self._validation_error(join(path, name), "is required and not given", item.purpose)
            values[name] = item.when_unset if value is None else value
        return values

    def _value(self, item: Property, value: Any, path: str) -> Any:
        if item.sensitive:
            return self._secret(value)
        if isinstance(value, Unknown) and not value.sensitive:
            return value
        try:
            typed = self._typed(item, value, path)
        except ValueError as error:
            self._validation_error(path, str(error))
            return value
        if self.desired and typed is not None and (item.choices or item.check) and is_known(typed):
            self._accept(item, typed, path)
        return typed

    def _secret(self, value: Any) -> Secret | Unknown:
        if isinstance(value, Secret) and value.value is None:
            return value
        if not is_known(value):
            return Unknown(sensitive=True)
        return Secret.of(value, self.salt)

    def _accept(self, item: Property, value: Any, path: str) -> None:
        if item.choices and value not in item.choices:
            self._validation_error(path, f"{value!r} is not one of its choices", _hint(value, item.choices))
        found = item.check(value) if item.check is not None else None
        if isinstance(found, Problem):
            self._validation_error(path, found.message, found.remedy)
        elif found:
            self._validation_error(path, found)

    def _typed(self, item: Property, value: Any, path: str) -> Any:
        match item.type:
            case "list" | "set":
                return self._sequence(item, value, path)
            case "map":
                return self._map(item, value, path)
            case "json" | "policy":
                return _open(_document(value))
            case "any":
                return _open(value)
        return _scalar(item.type, _open(value))

    def _sequence(self, item: Property, value: Any, path: str) -> list[Any] | None:
        if not isinstance(value, SEQUENCES):
            raise ValueError(f"{shown(value)} is not a list")
        inner = item.elements or _ANY
        values = [self._value(inner, part, join(path, index)) for index, part in enumerate(value)]
        if inner.fields:
            values = [_without_none(part) for part in values]
        if item.type == "set":
            values = [same[0] for _text, same in sorted(_by_text(values, inner).items())]
        return values or None

    def _map(self, item: Property, value: Any, path: str) -> dict[str, Any] | None:
        if not isinstance(value, MAPS):
            raise ValueError(f"{shown(value)} is not a map")
        if item.fields:
            return self.properties(item.fields, value, path)
        inner = item.elements or _ANY
        given = {str(key): part for key, part in value.items() if part is not None}
        return {key: self._value(inner, part, join(path, key)) for key, part in given.items()} or None

    def _validation_error(self, path: str, message: str, remedy: str = "") -> None:
        self.validation_errors.append((path, message, remedy))


def comparable(item: Property, value: Any) -> Any:
    """Return the canonical form of a property's value."""
    if value is None or isinstance(value, Unknown | Secret):
        return value
    if item.canonical is not None and is_known(value):
        value = item.canonical(value)
    if item.type == "policy":
        return _unordered(value)
    if isinstance(value, PLAIN):
        return value
    if item.elements is not None and isinstance(value, list):
        return [comparable(item.elements, part) for part in value]
    if item.elements is not None and isinstance(value, MAPS):
        return {key: comparable(item.elements, part) for key, part in value.items()}
    if item.fields and isinstance(value, MAPS):
        return {key: comparable(item.fields.get(key, _ANY), part) for key, part in value.items()}
    return value


def _by_text(values: list[Any], item: Property) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for value in values:
        grouped.setdefault(canonical(comparable(item, value)), []).append(value)
    return grouped


def _unordered(document: Any) -> Any:
    """Return a policy document in one order, without repetitions, and with `x` for `[x]`.

    Source: the policy grammar of AWS IAM, where every list may be a single item and no list has an order.
    """
    if isinstance(document, str):
        return document
    if isinstance(document, MAPS):
        return {key: _unordered(item) for key, item in document.items()}
    if isinstance(document, LISTS):
        items = {canonical(item): item for item in map(_unordered, document)}
        ordered = [items[key] for key in sorted(items)]
        return ordered[0] if len(ordered) == 1 else ordered
    return text_of(document) if isinstance(document, bool | int | float) else document


def _open(value: Any) -> Any:
    """Return a value that may be shown. Raises ValueError if it contains a secret."""
    if not holds(value, (Secret, Unknown)):
        return value
    if any(isinstance(leaf, Secret) or (isinstance(leaf, Unknown) and leaf.sensitive) for leaf in leaves(value)):
        raise ValueError("would show a secret; only a property that is marked sensitive takes one")
    return value


def _document(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from error


def _scalar(type_name: str, value: Any) -> Any:
    if type_name == "boolean":
        word = str(value).lower()
        if isinstance(value, bool | str) and word in _BOOLEANS:
            return _BOOLEANS[word]
        raise ValueError(f"{shown(value)} is not a boolean")
    if type_name == "string":
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
        raise ValueError(f"{shown(value)} is not a string")
    return _number(type_name, value)


def _number(type_name: str, value: Any) -> int | float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if number.is_integer():
            return int(value) if isinstance(value, int) or str(value).lstrip("+-").isdigit() else int(number)
        if type_name == "number" and math.isfinite(number):
            return number
    raise ValueError(f"{shown(value)} is not {'a number' if type_name == 'number' else 'a whole number'}")


def _hint(value: Any, choices: tuple[Any, ...]) -> str:
    """Return a hint with the closest choice; for numbers, the nearest one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"did you mean {min(choices, key=lambda choice: abs(choice - value))}?"
    return suggestion(str(value), map(str, choices))


def _without_none(value: Any) -> Any:
    return {key: part for key, part in value.items() if part is not None} if isinstance(value, Mapping) else value


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
