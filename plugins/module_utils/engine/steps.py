# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert a plan to steps, with the order in which resources are created, detached, replaced and deleted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from .errors import EngineError
from .graph import find_cycle, reverse
from .plan import Node
from .planning import Proposal
from .value import leaves

# main: create, adopt or update. deferred: properties that need both ends. clear: remove them before one end is deleted.
# delete: before a replacement is created. cleanup: delete the old resource after all dependents use the new one.
Phase = Literal["clear", "delete", "main", "deferred", "cleanup"]

# Strength of a wait. Waits form a cycle only if existing resources and the description contradict each other; then the
# weakest wait is removed. A reference that is both described and seen is the strongest of the two reasons.
_DESCRIBED, _SEEN, _ALWAYS = 1, 2, 4


@dataclass(frozen=True)
class Step:
    """One phase of one node of the plan."""

    node: Node
    phase: Phase

    @property
    def id(self) -> str:
        return f"{self.node.address} {self.phase}"


@dataclass(frozen=True)
class Steps:
    """All steps, and for each the steps it waits for.

    waived: the removed waits, each (step, other), although existing resources contain the reference: a service that
        requires this order rejects the step.
    """

    items: Mapping[str, Step]
    waits: Mapping[str, frozenset[str]]
    waived: tuple[tuple[str, str], ...] = ()


def make_steps(proposal: Proposal) -> Steps:
    """Return the steps of a proposal and their order."""
    builder = _Builder(proposal)
    builder.add_building()
    builder.add_removing()
    return builder.steps()


class _Builder:
    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.graph = proposal.description.graph
        self.nodes = {node.address: node for node in proposal.plan.nodes}
        self.items: dict[str, Step] = {}
        self.waits: dict[str, dict[str, int]] = {}
        self.removals: dict[str, str] = {}
        self.held: list[tuple[str, str]] = []

    def steps(self) -> Steps:
        waived = (*self.held, *self._break_circles())
        return Steps(self.items, {step: frozenset(waits) for step, waits in self.waits.items()}, waived)

    def add_building(self) -> None:
        """Add steps that create and update: dependencies first, deferred properties after both ends exist."""
        for address, node in self.nodes.items():
            if node.action == "delete":
                self.removals[address] = self._add(node, "delete")
                continue
            main = self._add(node, "main")
            last = main
            if address in self.proposal.deferred:
                last = self._add(node, "deferred")
                self._wait(last, main, _ALWAYS)
            if node.action == "replace":
                self.removals[address] = removal = self._add(node, "cleanup" if node.create_first else "delete")
                after, before = (removal, last) if node.create_first else (main, removal)
                self._wait(after, before, _ALWAYS)
        for address in self.nodes:
            for need in self.graph.needs.get(address, ()):
                self._wait(f"{address} main", f"{need} main", _ALWAYS)
            for end in self.graph.deferred.get(address, ()):
                self._wait(f"{address} deferred", f"{end} main", _ALWAYS)

    def add_removing(self) -> None:
        """Add steps that delete: each resource after its users are deleted, updated or detached from it."""
        described = reverse(self.graph.needs)
        described_later = reverse(self.graph.deferred)
        seen, seen_later = self._mentions()
        for address in self.removals:
            self._add_clearing(address, seen_later)
            self._add_detaching(address, seen_later[address])
        for address in self.removals:
            base = address.partition("#")[0]
            described_here = described.get(base, set())
            for user in sorted(described_here | seen[address]):
                strength = _DESCRIBED * (user in described_here) + _SEEN * (user in seen[address])
                self._release(address, user, strength)
            for user in sorted(described_later.get(base, set()) | seen_later[address]):
                self._wait(self.removals[address], f"{user} clear", _SEEN)
                self._outlive(address, user, _SEEN)

    def _add_clearing(self, address: str, seen_later: Mapping[str, set[str]]) -> None:
        """Detach a deleted resource from other deleted resources that a deferred property connects."""
        ends = {other for other, users in seen_later.items() if address in users}
        ends |= self.graph.deferred.get(address, frozenset()) & self.removals.keys()
        node = self.nodes[address]
        actual = self.proposal.actuals[address]
        deferred = self.proposal.description.kinds[node.kind].schema.deferred
        if not ends or not any(actual.properties.get(name) for name in deferred):
            return
        clear = self._add(node, "clear")
        self._wait(self.removals[address], clear, _ALWAYS)
        if node.create_first:
            self._wait(clear, f"{address} main", _ALWAYS)
            self._wait(clear, f"{address} deferred", _ALWAYS)
            for user in sorted(reverse(self.graph.needs).get(address, ())):
                self._wait(clear, f"{user} main", _DESCRIBED)

    def _add_detaching(self, address: str, users: set[str]) -> None:
        """Detach kept resources from one that is deleted before it is recreated; then attach them to the new one."""
        node = self.nodes[address]
        for user in sorted(users - self.removals.keys()):
            if node.action == "replace" and not node.create_first and user in self.proposal.deferred:
                clear = self._add(self.nodes[user], "clear")
                self._wait(f"{user} main", clear, _ALWAYS)

    def _release(self, address: str, user: str, strength: int) -> None:
        """Let the deletion of an address wait until `user` no longer references it."""
        node = self.nodes[address]
        if user in self.removals:
            self._wait(self.removals[address], self.removals[user], strength)
        elif node.action == "replace" and not node.create_first and strength >= _SEEN:
            self.held.append((self.removals[address], f"{user} main"))
        self._outlive(address, user, strength)

    def _outlive(self, address: str, user: str, strength: int) -> None:
        node = self.nodes[address]
        # A resource that is deleted before it is recreated still has users; they are updated after its creation.
        if node.action != "replace" or node.create_first:
            self._wait(self.removals[address], f"{user} main", strength)
            self._wait(self.removals[address], f"{user} deferred", strength)

    def _mentions(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Return the users of every deleted resource: by plain properties, and by deferred ones."""
        words: dict[str, list[str]] = {}
        for address in self.removals:
            for word in self.proposal.actuals[address].words:
                words.setdefault(word, []).append(address)
        seen: dict[str, set[str]] = {address: set() for address in self.removals}
        seen_later: dict[str, set[str]] = {address: set() for address in self.removals}
        for user, actual in self.proposal.actuals.items():
            deferred = self.proposal.description.kinds[self.nodes[user].kind].schema.deferred
            own = actual.words
            for name, value in actual.properties.items():
                for word in {leaf for leaf in leaves(value) if isinstance(leaf, str)} - own:
                    for address in words.get(word, ()):
                        (seen_later if name in deferred else seen)[address].add(user)
        return seen, seen_later

    def _add(self, node: Node, phase: Phase) -> str:
        step = Step(node, phase)
        self.items[step.id] = step
        self.waits.setdefault(step.id, {})
        return step.id

    def _wait(self, step: str, other: str, strength: int) -> None:
        """Let `step` wait for `other` if both exist."""
        if step in self.items and other in self.items and step != other:
            self.waits[step][other] = max(strength, self.waits[step].get(other, 0))

    def _break_circles(self) -> Iterator[tuple[str, str]]:
        while circle := find_cycle({step: waits.keys() for step, waits in self.waits.items()}):
            links: Iterable[tuple[str, str]] = pairwise(circle)
            step, other = min(links, key=lambda link: (self.waits[link[0]][link[1]], link))
            if self.waits[step][other] == _ALWAYS:
                raise EngineError(f"steps wait for each other: {' -> '.join(circle)}")
            if self.waits[step].pop(other) >= _SEEN:
                yield step, other
