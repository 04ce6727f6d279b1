# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the dependency graph from references, order it, and find the path of a cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from ..shared.nearest import suggestion
from .errors import DescriptionError, Fault, UnresolvedError
from .reference import SECRET, STACK, Reference, find
from .resource import Kind, Resource

Edges = Mapping[str, AbstractSet[str]]


@dataclass(frozen=True)
class Graph:
    """The dependencies of every address, and those of deferred properties only. `order` lists dependencies first."""

    needs: Edges
    deferred: Edges
    order: tuple[str, ...]


def build(
    resources: Mapping[str, Resource],
    kinds: Mapping[str, Kind],
    stack_values: Iterable[str],
    secrets: Iterable[str] | None,
) -> Graph:
    """Return the graph of a description. `secrets` None accepts any name.

    Raises DescriptionError with every unknown reference at once, or with the path of a cycle.
    """
    checker = _Checker(resources, kinds, frozenset(stack_values), None if secrets is None else frozenset(secrets))
    needs: dict[str, frozenset[str]] = {}
    deferred: dict[str, frozenset[str]] = {}
    places: dict[tuple[str, str], str] = {}
    for address, resource in resources.items():
        hard, soft = checker.dependencies(resource)
        for target, path in hard.items():
            places[address, target] = path
        needs[address] = frozenset(hard)
        deferred[address] = frozenset(soft) - frozenset(hard) - {address}
    if checker.faults:
        raise DescriptionError(checker.faults)
    cycle = find_cycle(needs)
    if cycle:
        raise DescriptionError([_cycle_fault(cycle, places)])
    return Graph(needs, deferred, tuple(_sorter(needs).static_order()))


def find_cycle(edges: Edges) -> list[str]:
    """Return the nodes of a cycle, each before its dependency and the first repeated at the end, or an empty list."""
    try:
        _sorter(edges).prepare()
    except CycleError as error:
        nodes: list[str] = error.args[1]
        return nodes[::-1]
    return []


def reverse(edges: Edges) -> dict[str, set[str]]:
    """Return the dependents of every node."""
    dependents: dict[str, set[str]] = {node: set() for node in edges}
    for node, needs in edges.items():
        for need in needs:
            dependents.setdefault(need, set()).add(node)
    return dependents


def heights(edges: Edges) -> dict[str, int]:
    """Return for every node the length of its longest chain of dependents."""
    found: dict[str, int] = {}
    dependents = reverse(edges)
    for node in reversed(tuple(_sorter(edges).static_order())):
        found[node] = 1 + max((found[other] for other in dependents[node]), default=-1)
    return found


def _sorter(edges: Edges) -> TopologicalSorter[str]:
    # The order of a set differs between processes, and plans are compared across processes.
    return TopologicalSorter({node: sorted(needs) for node, needs in edges.items()})


def _cycle_fault(cycle: list[str], places: Mapping[tuple[str, str], str]) -> Fault:
    links = [f"{node} ({places[node, need]})" for node, need in pairwise(cycle)]
    return Fault(
        cycle[0],
        places[cycle[0], cycle[1]],
        f"needs itself: {' -> '.join([*links, cycle[-1]])}",
        "remove one of these references",
    )


class _Checker:
    """Finds the targets of references, and collects a fault for each reference without a target."""

    def __init__(
        self,
        resources: Mapping[str, Resource],
        kinds: Mapping[str, Kind],
        stack_values: frozenset[str],
        secrets: frozenset[str] | None,
    ) -> None:
        self.resources, self.kinds = resources, kinds
        self.stack_values, self.secrets = stack_values, secrets
        self.faults: list[Fault] = []

    def dependencies(self, resource: Resource) -> tuple[dict[str, str], dict[str, str]]:
        """Return the plain and the deferred targets of a resource, each with the path of its first reference."""
        hard: dict[str, str] = {}
        soft: dict[str, str] = {}
        for target in resource.depends_on:
            if target in self.resources:
                hard.setdefault(target, "depends_on")
            else:
                self._fault(
                    resource, "depends_on", f"there is no resource {target!r}", suggestion(target, self.resources)
                )
        later = self.kinds[resource.kind].schema.deferred
        for name, value in resource.properties.items():
            try:
                found = list(find(value, str(name)))
            except UnresolvedError as error:
                self._fault(resource, error.path, error.message, error.remedy)
                continue
            for path, reference in found:
                if self._is_target(resource, path, reference):
                    (soft if name in later else hard).setdefault(reference.address, path)
        return hard, soft

    def _is_target(self, resource: Resource, path: str, reference: Reference) -> bool:
        if reference.address == STACK:
            self._one_of(resource, path, reference, self.stack_values)
        elif reference.address == SECRET:
            if self.secrets is not None:
                self._one_of(resource, path, reference, self.secrets)
        elif reference.address not in self.resources:
            message = f"{reference}: there is no resource {reference.address!r}"
            self._fault(resource, path, message, suggestion(reference.address, self.resources))
        else:
            kind = self.kinds[self.resources[reference.address].kind]
            return self._one_of(resource, path, reference, kind.schema.attributes)
        return False

    def _one_of(self, resource: Resource, path: str, reference: Reference, known: frozenset[str]) -> bool:
        if reference.attribute in known:
            return True
        message = f"{reference}: {reference.address} has no {reference.attribute!r}"
        self._fault(resource, path, message, suggestion(reference.attribute, known))
        return False

    def _fault(self, resource: Resource, path: str, message: str, remedy: str) -> None:
        self.faults.append(Fault(resource.address, path, message, remedy))
