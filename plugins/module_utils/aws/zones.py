# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Availability zones of a description: each position keeps the zone of its existing subnets. Makes no call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..engine.errors import Fault, OptionRemedy, UnresolvedError
from ..engine.reference import STACK, Reference, find, parse
from ..engine.resource import Resource
from ..shared.nearest import suggestion

ATTRIBUTE = "availability_zones"
_PROPERTY = "availability_zone"
# Ids of the zones in which EKS places no control plane.
# Source: "Subnet requirements for clusters" in the Amazon EKS user guide.
_REFUSED_BY_EKS = frozenset({"cac1-az3", "use1-az3", "usw1-az2"})


@dataclass(frozen=True)
class ZoneUse:
    """Use of zones in a description.

    positions: N of `${stack.availability_zones.N}` by address. names: named zone by address.
    referenced: every N in any property. refers_to_all: a property refers to the whole list.
    has_cluster: the description contains an EKS cluster.
    """

    positions: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    referenced: frozenset[int] = frozenset()
    refers_to_all: bool = False
    has_cluster: bool = False

    def __bool__(self) -> bool:
        return bool(self.names or self.referenced or self.refers_to_all)

    @classmethod
    def of(cls, resources: Iterable[Resource], region: str) -> ZoneUse:
        """Return the use of zones by resources. The engine reports malformed references."""
        listed = list(resources)
        references = [item for resource in listed for item in _references(resource)]
        zones = {item.address: item.properties.get(_PROPERTY) for item in listed}
        texts = {address: zone for address, zone in zones.items() if isinstance(zone, str)}
        named = {address: zone.replace("${stack.region}", region) for address, zone in texts.items()}
        return cls(
            {address: place for address, zone in texts.items() if (place := _position(zone)) is not None},
            {address: zone for address, zone in named.items() if "${" not in zone},
            frozenset(place for item in references if (place := _place(item)) is not None),
            any(not item.inside for item in references),
            any(item.kind == "eks_cluster" for item in listed),
        )

    def is_settled_by(self, existing: Mapping[str, str], given: Sequence[str]) -> bool:
        """Return whether the existing subnets (their zones by address) determine all positions."""
        pinned = self.pins(existing)
        named = all(existing.get(address) == zone for address, zone in self.names.items())
        all_pinned = self.referenced <= pinned.keys() and set(given) <= set(pinned.values())
        return named and all_pinned and not self.refers_to_all

    def pins(self, existing: Mapping[str, str]) -> dict[int, str]:
        """Return the zone of the first existing subnet by position."""
        pinned: dict[int, str] = {}
        for address, place in sorted(self.positions.items()):
            if address in existing:
                pinned.setdefault(place, existing[address])
        return pinned

    def choose(self, existing: Mapping[str, str], pool: Sequence[str]) -> list[str]:
        """Return the zone of each position: that of existing subnets, else the next unused zone of the pool.

        The list ends where the pool is exhausted, and after the last referenced position.
        """
        pinned = self.pins(existing)
        free = iter([zone for zone in pool if zone not in pinned.values()])
        chosen: list[str] = []
        for place in range(max((*self.referenced, *pinned), default=-1) + 1):
            zone = pinned.get(place) or next(free, "")
            if not zone and all(later < place for later in pinned):
                break
            chosen.append(zone)
        return [*chosen, *free] if self.refers_to_all else chosen

    def faults(
        self, existing: Mapping[str, str], given: Sequence[str], known: Mapping[str, str], region: str
    ) -> Iterator[Fault]:
        """Yield every unusable zone. given: names in the task. known: ids by names.

        A zone of an existing resource is valid even where AWS does not list it any more.
        """
        for address, zone in self.names.items():
            if zone not in known and existing.get(address) != zone:
                yield Fault(address, _PROPERTY, f"{region} has no zone {zone!r}", suggestion(zone, known))
        taken = frozenset(self.pins(existing).values())
        for index, zone in enumerate(given):
            message, remedy = self._fault_of(zone, taken, known, region)
            if zone in given[:index]:
                message, remedy = f"{zone} is listed twice", "list each zone once"
            if message:
                yield Fault("", ATTRIBUTE, message, remedy)
        chosen = self.choose(existing, given or supported(known))
        for address in sorted(self.positions):
            zone = existing.get(address, "")
            if zone and given and zone not in given:
                message = f"exists in {zone}, which `{ATTRIBUTE}` does not list, and cannot move"
                yield Fault(address, _PROPERTY, message, f"add {zone} to the list")
        missing = [place for place in sorted(self.referenced) if not "".join(chosen[place : place + 1])]
        if missing:
            whose = f"`{ATTRIBUTE}` lists" if given else f"{region} has"
            count, needed = len([zone for zone in chosen if zone]), max(self.referenced) + 1
            message = f"{whose} {count} zone{'' if count == 1 else 's'}, and the description needs {needed}"
            yield Fault("", ATTRIBUTE, message, OptionRemedy("describe fewer zones", ATTRIBUTE, str(count)))

    def _fault_of(self, zone: str, taken: frozenset[str], known: Mapping[str, str], region: str) -> tuple[str, str]:
        """Return the problem of a zone in the task, and the remedy; empty for a valid zone."""
        if zone in taken:
            return "", ""
        if zone not in known:
            return f"{region} has no zone {zone!r}", suggestion(zone, known)
        if self.has_cluster and known[zone] in _REFUSED_BY_EKS:
            return f"EKS does not support {zone} ({known[zone]})", f"choose from {', '.join(supported(known))}"
        return "", ""


def supported(known: Mapping[str, str]) -> list[str]:
    """Return the names of the zones that EKS supports, in their order. known: ids by names."""
    return [name for name in sorted(known) if known[name] not in _REFUSED_BY_EKS]


def _references(resource: Resource) -> list[Reference]:
    try:
        found = [reference for _path, reference in find(resource.properties)]
    except UnresolvedError:
        return []
    return [item for item in found if item.address == STACK and item.attribute == ATTRIBUTE]


def _place(reference: Reference) -> int | None:
    return int(reference.inside[0]) if len(reference.inside) == 1 and reference.inside[0].isdigit() else None


def _position(text: str) -> int | None:
    """Return N of a text that is exactly `${stack.availability_zones.N}`."""
    try:
        parts = parse(text)
    except ValueError:
        return None
    part = parts[0] if len(parts) == 1 else None
    if not isinstance(part, Reference) or (part.address, part.attribute) != (STACK, ATTRIBUTE):
        return None
    return _place(part)
