# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resources that span regions: their owning regions, and names that are unique across regions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..engine.errors import Fault, UnresolvedError
from ..engine.reference import STACK, Reference, find, resolve
from ..engine.resource import Actual, Owner, Resource, Stack, Subject
from ..engine.value import leaves
from ..engine.world import World
from .errors import CallError
from .kind import AwsKind

ATTRIBUTE = "region_suffix"
_REFERENCE = f"${{{STACK}.{ATTRIBUTE}}}"
_NAME = "name"
_PLACES = {"scope": "REGIONAL", "path": "/"}
_REGION = r"([a-z]{2,}(?:-[a-z]+)+-\d+)"
# An ARN with a region, the issuer of an EKS cluster, and a dashboard's widget.
_MENTIONS = (
    re.compile(rf"\barn:[a-z-]+:[a-z0-9-]+:{_REGION}:"),
    re.compile(rf"\boidc\.eks\.{_REGION}\."),
    re.compile(rf'"region"\s*:\s*"{_REGION}"'),
)
_INITIALS = {"northeast": "ne", "northwest": "nw", "southeast": "se", "southwest": "sw"}
_INITIALS |= {word: word[0] for word in ("central", "east", "gov", "north", "south", "west")}

Each = Callable[[Callable[[Resource], "Actual | None"], Iterable[Resource]], "list[Actual | None]"]


def abbreviation(region: str) -> str:
    """Return the short form of a region, as in AWS zone ids: `euc1` for `eu-central-1`."""
    return "".join(_INITIALS.get(word, word) for word in region.split("-"))


def mentioned(value: Any) -> frozenset[str]:
    """Return the regions that texts inside a value name."""
    texts = [leaf for leaf in leaves(value) if isinstance(leaf, str)]
    return frozenset(region for text in texts for pattern in _MENTIONS for region in pattern.findall(text))


def home(unmarked: Iterable[Actual], region: str) -> str:
    """Return the region that owns resources whose tags do not name one, as earlier versions created them.

    They share one region: `region`, unless their properties name other regions only.
    """
    regions = frozenset[str]().union(*(mentioned(actual.properties) for actual in unmarked))
    return region if region in regions else min(regions, default=region)


def attributed(world: World, spanning: Iterable[str], own: Owner) -> World:
    """Return the observed resources, with an owner of another region where their tags do not name a region.

    spanning: the kinds that span regions. own: any owner of the stack, with its region.
    """
    kinds = frozenset(spanning)
    found = [actual for address, items in world.found.items() if address.partition(".")[0] in kinds for actual in items]
    owned = [actual for kind in sorted(kinds) for actual in world.owned.get(kind, ())]
    region = home((actual for actual in (*found, *owned) if _is_unmarked(actual, own)), own.region)
    if region == own.region:
        return world

    def marked(actual: Actual) -> Actual:
        owner = actual.owner
        return replace(actual, owner=replace(owner, region=region)) if owner and _is_unmarked(actual, own) else actual

    def all_marked(groups: Mapping[str, tuple[Actual, ...]]) -> dict[str, tuple[Actual, ...]]:
        return {
            key: tuple(map(marked, items)) if key.partition(".")[0] in kinds else items for key, items in groups.items()
        }

    return replace(world, found=all_marked(world.found), owned=all_marked(world.owned))


def misplaced(resources: Iterable[Resource], spanning: Iterable[str]) -> Iterator[Fault]:
    """Yield every reference to the suffix outside of the name of a resource that spans regions."""
    kinds = frozenset(spanning)
    for resource in resources:
        try:
            found = list(find(resource.properties))
        except UnresolvedError:
            # The engine reports it.
            continue
        for path, reference in found:
            is_suffix = (reference.address, reference.attribute) == (STACK, ATTRIBUTE)
            if is_suffix and not (path == _NAME and resource.kind in kinds):
                message = f"{_REFERENCE} can only be a part of `name`, of a resource that spans regions"
                yield Fault(resource.address, path, message, "use ${stack.region} for the name of the region")


@dataclass(frozen=True)
class RegionNames:
    """Choice of the suffix of each name: a name gets it where another region of the stack uses the name without it.

    The choice is final: an existing resource keeps its name.
    """

    stack: Stack
    kinds: Mapping[str, AwsKind]
    each: Each

    def choose(self, resources: Sequence[Resource]) -> list[Resource]:
        """Return the resources with their names."""
        described = {resource.address: resource for resource in resources if _REFERENCE in _name(resource)}
        plain = {address: _with_suffix(resource, "") for address, resource in described.items()}
        suffixed = {address: _with_suffix(resource, self._suffix) for address, resource in described.items()}
        found = self._probe(plain)
        unmarked = [actual for actual in found.values() if actual is not None and _is_unmarked(actual, self._own)]
        region = home(unmarked, self.stack.region)
        undecided = [address for address, actual in found.items() if not self._is_ours(actual, region)]
        others = self._probe({address: suffixed[address] for address in undecided})
        chosen = {
            address: suffixed[address]
            for address in undecided
            if self._is_ours(others.get(address), region) or self._is_other_region(found[address], region)
        }
        return [chosen.get(item.address) or plain.get(item.address) or item for item in resources]

    @property
    def _own(self) -> Owner:
        return self.stack.owner("", spans_regions=True)

    @property
    def _suffix(self) -> str:
        return f"-{abbreviation(self.stack.region)}"

    def _probe(self, resources: Mapping[str, Resource]) -> dict[str, Actual | None]:
        """Return the resource that exists under each name."""
        known = {address: item for address, item in resources.items() if self._subject(item) is not None}
        return dict(zip(known, self.each(self._found, known.values()), strict=True))

    def _found(self, resource: Resource) -> Actual | None:
        subject = self._subject(resource)
        try:
            return None if subject is None else self.kinds[resource.kind].probe(subject)
        except CallError as error:
            # The read of the resource itself reports it, with all other denied reads.
            if error.is_denied:
                return None
            raise

    def _subject(self, resource: Resource) -> Subject | None:
        """Return the subject of a lookup, or None where the name contains an unknown reference."""
        try:
            name = resolve(_name(resource), self._value)
        except UnresolvedError:
            return None
        # Further properties that identify a resource, with their defaults.
        scope, path = (resource.properties.get(key) or default for key, default in _PLACES.items())
        desired = {_NAME: name, "scope": scope, "path": path}
        return Subject(resource.address, self.stack.owner(resource.address, spans_regions=True), desired)

    def _value(self, reference: Reference) -> Any:
        if reference.address != STACK or reference.attribute not in self.stack.values:
            raise UnresolvedError("", f"{reference} is not known yet")
        return self.stack.values[reference.attribute]

    def _is_ours(self, actual: Actual | None, unmarked_region: str) -> bool:
        return self._region_of(actual, unmarked_region) == self.stack.region

    def _is_other_region(self, actual: Actual | None, unmarked_region: str) -> bool:
        return self._region_of(actual, unmarked_region) not in {None, self.stack.region}

    def _region_of(self, actual: Actual | None, unmarked_region: str) -> str | None:
        """Return the owning region of a resource; None where the stack does not own it."""
        owner = actual.owner if actual else None
        if owner is None or (owner.stack, owner.environment) != (self.stack.name, self.stack.environment):
            return None
        return owner.region or unmarked_region


def _name(resource: Resource) -> str:
    name = resource.properties.get(_NAME)
    return name if isinstance(name, str) else ""


def _with_suffix(resource: Resource, suffix: str) -> Resource:
    return replace(resource, properties={**resource.properties, _NAME: _name(resource).replace(_REFERENCE, suffix)})


def _is_unmarked(actual: Actual, own: Owner) -> bool:
    owner = actual.owner
    return owner is not None and not owner.region and owner.shares_stack_with(own)
