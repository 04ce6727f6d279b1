# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find conflicts of exclusive relations: values that only one resource of a kind can have. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

from .errors import Fault, UnresolvedError
from .reference import Reference, resolve
from .resource import Resource
from .schema import Property, Schema, comparable
from .value import Secret, Unknown, canonical, is_known

Lookup = Callable[[Reference], Any]
_ANY = Property("any")


def claim_faults(resources: Mapping[str, Resource], schemas: Mapping[str, Schema], lookup: Lookup) -> Iterator[Fault]:
    """Yield a fault for each value that an earlier resource of the kind already has.

    schemas: by kind. lookup: resolves references; references to the same unknown value are equal.
    """

    def answer(reference: Reference) -> Any:
        value = lookup(reference)
        return value if is_known(value) else Unknown(str(reference))

    owners: dict[tuple[Any, ...], str] = {}
    for address, resource in resources.items():
        for relation in schemas[resource.kind].exclusive_relations:
            for words, paths in _claims(resource, schemas[resource.kind], relation, answer):
                owner = owners.setdefault((resource.kind, relation, words), address)
                if owner != address:
                    message = f"{', '.join(words)} already belongs to {owner}"
                    yield Fault(address, ", ".join(paths), message, "keep it in only one of them")


def _claims(
    resource: Resource, schema: Schema, relation: tuple[str, ...], lookup: Lookup
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the values of a resource for a relation, as text, with the paths of the properties."""
    try:
        parts = [list(_values(resource, name, schema.properties[name], lookup)) for name in relation]
    except UnresolvedError:
        # The evaluation of the property reports this error.
        return
    for words in dict.fromkeys(product(*parts)):
        yield words, relation


def _values(resource: Resource, name: str, item: Property, lookup: Lookup) -> Iterator[str]:
    """Yield the values of a property, those of a list or a set one by one; nothing for None."""
    value = resolve(resource.properties.get(name, item.default), lookup, name)
    several = item.type in {"list", "set"} and isinstance(value, list)
    one = (item.elements or _ANY) if several else item
    for part in value if several else [value]:
        if part is not None and not isinstance(part, Secret):
            yield str(part) if isinstance(part, Unknown) else _text(comparable(one, part))


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else canonical(value)
