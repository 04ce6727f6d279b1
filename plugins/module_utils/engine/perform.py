# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply single steps of a plan through their kinds, with the state that earlier steps of the run left."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from .diff import diff, forced_by
from .errors import UnplannedError, UsedTokenError
from .plan import Node
from .planning import Proposal
from .resource import READY, RETIRED, Actual, Change, Request
from .steps import Step
from .value import digest, is_known, leaves, root
from .world import State, View

_TOKENS = 5


class Performer:
    """Applies the steps of one proposal. Steps of different addresses may run concurrently.

    `touched` contains the steps that began a change, including failed ones.
    """

    def __init__(self, proposal: Proposal) -> None:
        self.description, self.old, self.severed_references = (
            proposal.description,
            dict(proposal.actuals),
            proposal.severed_references,
        )
        self.erased = proposal.erased
        self.view = View(self.description)
        for address in self.description.resources:
            self.view.states[address] = State({}, proposal.actuals.get(address))
        nodes = (node for node in proposal.plan.nodes if node.action == "replace" and not node.create_first)
        self.doomed = {word for node in nodes for word in proposal.actuals[node.address].words}
        self.touched: set[str] = set()
        self.kept: set[str] = set()
        self._destroys = proposal.plan.state == "absent"

    def perform(self, step: Step) -> None:
        """Apply one step. Raises the errors of its kind, and UnplannedError for a change that is not in the plan."""
        match step.phase:
            case "main":
                self._main(step)
            case "deferred":
                self._deferred(step)
            case "clear":
                self._clear(step)
            case "delete" | "cleanup":
                self._delete(step)

    def actual(self, address: str) -> Actual | None:
        """Return the current resource at an address."""
        state = self.view.states.get(address)
        return state.actual if state else self.old.get(address)

    def outputs(self, address: str) -> dict[str, Any]:
        """Return the known outputs of an address for references, with wrapped secrets."""
        state = self.view.states.get(address)
        if state is None or state.actual is None:
            return {}
        names = self.description.schema(address).outputs
        values = {name: self.view.attribute(address, name) for name in names if name in state.actual.outputs}
        return {name: value for name, value in values.items() if is_known(value)}

    def _main(self, step: Step) -> None:
        node, address = step.node, step.node.address
        if self._destroys:
            # A kept resource has no desired properties; the targets of its references may not exist.
            return
        desired = self._known(self.description.desired(address, self.view.attribute))
        actual = self.view.states[address].actual
        if node.action == "create" or (node.action == "replace" and not node.create_first):
            if actual is not None:
                self._remove(step, actual)
            actual = self._create(step, desired)
        elif node.action == "replace" and actual is not None and forced_by(self._changes(node, desired, actual)):
            actual = self._create(step, desired)
        elif node.action != "none" and actual is not None:
            self.kept.add(address)
            actual = self._update(step, desired, self._without_what_was_cut(node, actual))
        self.view.states[address] = State(desired, actual)

    def _without_what_was_cut(self, node: Node, actual: Actual) -> Actual:
        """Return the resource without references to deleted resources in the properties that change.

        It is not read again: an eventually consistent service could still return the deleted references.
        """
        words, changing = (
            self.severed_references.get(node.address, frozenset()),
            {root(change.path) for change in node.changes},
        )
        kept = {name: without(value, words) for name, value in actual.properties.items() if name in changing}
        return replace(actual, properties={**actual.properties, **kept})

    def _deferred(self, step: Step) -> None:
        address, state = step.node.address, self.view.states[step.node.address]
        desired = self._known(self.description.desired(address, self.view.attribute, deferred=True))
        if state.actual is not None:
            actual = self._update(step, {**state.desired, **desired}, state.actual, only=desired)
            self.view.states[address] = State({**state.desired, **desired}, actual)

    def _clear(self, step: Step) -> None:
        """Remove deferred properties: all of a resource that is deleted, otherwise references to deleted resources."""
        node, actual = step.node, self.old[step.node.address]
        if node.address in self.kept:
            return
        kind = self.description.kinds[node.kind]
        leaving = node.action in {"delete", "replace"}
        before = {name: actual.properties.get(name) for name in sorted(kind.schema.deferred)}
        after = {name: None if leaving else without(value, self.doomed) for name, value in before.items()}
        changes = tuple(Change(name, before[name], after[name]) for name in before if before[name] != after[name])
        request = self._request(node, after, actual, changes)
        self.touched.add(step.id)
        actual = kind.update(request)
        if not leaving:
            self.view.states[node.address] = State({}, kind.wait(replace(request, actual=actual)))

    def _delete(self, step: Step) -> None:
        address = step.node.address
        if address in self.kept:
            return
        self._remove(step, self.old[address])
        if step.phase == "delete" and address in self.view.states:
            self.view.states[address] = State({}, None)

    def _remove(self, step: Step, actual: Actual) -> None:
        request = self.removal(step.node, actual)
        kind = self.description.kinds[step.node.kind]
        self.touched.add(step.id)
        kind.delete(request)
        kind.wait_deleted(request)

    def removal(self, node: Node, actual: Actual) -> Request:
        """Return the request that deletes the existing resource of a node."""
        request = self._request(node, self._said_of(node), actual)
        return replace(request, erases=node.address in self.erased)

    def _said_of(self, node: Node) -> dict[str, Any]:
        """Return the known described properties of a resource that is deleted."""
        address = node.address.partition("#")[0]
        if address not in self.description.resources:
            return {}
        desired = self.description.desired(address, self.view.attribute)
        return {name: value for name, value in desired.items() if is_known(value)}

    def _create(self, step: Step, desired: Mapping[str, Any]) -> Actual:
        """Create a resource and wait. The next run has the same token, which also finds resources not yet visible."""
        kind, request = self.description.kinds[step.node.kind], self._request(step.node, desired)
        self.touched.add(step.id)
        seed = {"stack": self.description.stack.salt, "address": step.node.address, "desired": desired}
        attempt = 0
        while True:
            try:
                actual = kind.create(replace(request, token=digest({**seed, "attempt": attempt}, 32)))
                return self._settled(step.node, request, actual)
            except UsedTokenError:
                attempt += 1
                if attempt == _TOKENS:
                    raise

    def _update(
        self, step: Step, desired: Mapping[str, Any], actual: Actual, only: Mapping[str, Any] | None = None
    ) -> Actual:
        """Update a resource to its desired properties, or to those of `only`; call nothing without a difference."""
        kind = self.description.kinds[step.node.kind]
        if actual.status not in {READY, RETIRED}:
            actual = self._settled(step.node, self._request(step.node, desired), actual)
        changes = self._changes(step.node, desired if only is None else only, actual)
        if forced_by(changes):
            paths = ", ".join(forced_by(changes))
            raise UnplannedError(f"{paths} would force a replacement that is not in the plan; create a new plan")
        request = self._request(step.node, desired, actual, changes)
        if not changes and not request.claim and actual.status != RETIRED:
            return actual
        self.touched.add(step.id)
        return self._settled(step.node, request, kind.update(request))

    def _settled(self, node: Node, request: Request, actual: Actual) -> Actual:
        """Wait until a resource is ready. Its state is stored first, since it also exists after a failed wait."""
        state = self.view.states[node.address]
        self.view.states[node.address] = State(state.desired, actual)
        return self.description.kinds[node.kind].wait(replace(request, actual=actual))

    def _changes(self, node: Node, desired: Mapping[str, Any], actual: Actual) -> tuple[Change, ...]:
        schema = self.description.kinds[node.kind].schema
        return diff(schema.properties, desired, self.description.actual(node.address, actual))

    def _request(
        self,
        node: Node,
        desired: Mapping[str, Any],
        actual: Actual | None = None,
        changes: tuple[Change, ...] = (),
    ) -> Request:
        owner = self.description.owner(node.address.partition("#")[0], node.kind)
        claim = actual is not None and actual.owner != owner
        return Request(node.address, owner, desired, actual, changes, claim)

    @staticmethod
    def _known(desired: dict[str, Any]) -> dict[str, Any]:
        """Return `desired`; raise UnplannedError for a value that is still unknown."""
        for name, value in desired.items():
            if not is_known(value):
                raise UnplannedError(f"{name} is still {value}: what it refers to has no such value")
        return desired


def without(value: Any, words: AbstractSet[str]) -> Any:
    """Return a list without the items that contain one of `words`; None for another value that contains one."""
    if isinstance(value, list):
        return [item for item in value if words.isdisjoint(map(str, leaves(item)))]
    return value if words.isdisjoint(map(str, leaves(value))) else None
