# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the changes from existing resources to a description. Pure: equal inputs give equal plans in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .diff import again, creation, diff, forced_by, managed
from .errors import DescriptionError, Fault, OptionRemedy, RefusedError
from .plan import Action, Node, Plan
from .reference import find
from .resource import DELETING, READY, RETIRED, Actual, Change, Kind, Resource, Stack
from .schema import Property
from .value import MAPS, PLAIN, Secret, digest, join, leaves, root
from .world import Description, State, ToleratedErrors, View, World, no_tolerated_errors, refresh, rule_faults


@dataclass(frozen=True)
class Options:
    """The changes that the caller permits.

    prune: delete resources with the stack's tags that are no longer described (`absent` always does).
    adopt: adopt existing resources without tags. unprotect: addresses and kinds that may be deleted or replaced in
    spite of their protection. delete_contents: addresses and kinds whose contents may be deleted with them.
    lists_undescribed: list the resources that prune would delete, where it is not set.
    """

    state: Literal["present", "absent"] = "present"
    prune: bool = False
    adopt: bool = False
    unprotect: frozenset[str] = frozenset()
    delete_contents: frozenset[str] = frozenset()
    lists_undescribed: bool = False

    @property
    def lists(self) -> bool:
        """Whether all resources with the stack's tags must be listed."""
        return self.deletes_undescribed or self.lists_undescribed

    @property
    def deletes_undescribed(self) -> bool:
        return self.prune or self.state == "absent"


@dataclass(frozen=True)
class Proposal:
    """A plan with the data to apply it. `actuals`: the existing resources, by the addresses of the plan's nodes.

    deferred: the paths of changes in the second phase. reads: the API calls of each kind for reading.
    severed_references: by address, the properties that refer to resources which are deleted before they are recreated.
    missing: by kind that is neither described nor supported by the region, the error that shows this.
    erased: addresses of nodes whose contents may be deleted with them.
    kept: by address of a resource that is not deleted, the reason. undescribed: by address, the ids that prune would
    delete.
    """

    plan: Plan
    description: Description
    actuals: Mapping[str, Actual]
    deferred: Mapping[str, frozenset[str]] = field(default_factory=dict)
    reads: Mapping[str, int] = field(default_factory=dict)
    severed_references: Mapping[str, frozenset[str]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()
    kept: Mapping[str, str] = field(default_factory=dict)
    undescribed: Mapping[str, str] = field(default_factory=dict)


Review = Callable[[Proposal], tuple[Proposal, Sequence[Fault]]]


def no_review(proposal: Proposal) -> tuple[Proposal, Sequence[Fault]]:
    """Return the plan unchanged."""
    return proposal, ()


def propose(
    stack: Stack,
    kinds: Iterable[Kind],
    resources: Iterable[Resource],
    secrets: Mapping[str, Secret] | None = None,
    options: Options | None = None,
    *,
    parallelism: int = 10,
    tolerated_errors: ToleratedErrors = no_tolerated_errors,
    revise: Callable[[World], World] | None = None,
    review: Review = no_review,
) -> Proposal:
    """Check a description, read the existing resources, and return the plan.

    tolerated_errors: decides about an error of a kind that the region does not support.
    revise: returns the state completed with facts that require all of it.
    review: returns the final plan and the obstacles to it; it may read more.
    Raises DescriptionError before the first call, ReadError, or RefusedError.
    """
    options = options or Options()
    absent = options.state == "absent"
    description = Description.of(stack, kinds, resources, secrets, any_secret=absent)
    world = refresh(
        description,
        listing=options.lists,
        must_list=options.deletes_undescribed,
        choosing=not absent,
        parallelism=parallelism,
        tolerated_errors=tolerated_errors,
    )
    return make_plan(description, world if revise is None else revise(world), options, review)


def make_plan(description: Description, world: World, options: Options, review: Review = no_review) -> Proposal:
    """Return the plan. Raises DescriptionError or RefusedError, each with all faults."""
    planner = _Planner(replace(description, chosen=world.chosen), world, options)
    if options.state == "present":
        planner.present()
    else:
        planner.absent()
    planner.prune()
    if planner.validation_errors:
        raise DescriptionError(planner.validation_errors)
    proposal, faults = review(planner.proposal())
    refusals = [*planner.refusals, *faults]
    if refusals:
        raise RefusedError(refusals)
    return proposal


class _Planner:
    """Plans one address after the other, dependencies first."""

    def __init__(self, description: Description, world: World, options: Options) -> None:
        self.description, self.world, self.options = description, world, options
        self.view = View(description)
        self.nodes: dict[str, Node] = {}
        self.extra: dict[str, Node] = {}
        self.actuals: dict[str, Actual] = {}
        self.deferred: dict[str, frozenset[str]] = {}
        self.severed_references: dict[str, frozenset[str]] = {}
        self.evidence: dict[str, dict[str, str]] = {}
        self.undescribed: dict[str, str] = {}
        self.validation_errors: list[Fault] = []
        self.refusals: list[Fault] = []
        self._normalised: dict[str, tuple[Actual, dict[str, Any]]] = {}

    def present(self) -> None:
        for address in self.description.graph.order:
            try:
                self._decide(address)
            except DescriptionError as error:
                self.validation_errors += error.faults
                self.view.states[address] = State({}, None)
        for address in self.nodes:
            try:
                self._decide_deferred(address)
            except DescriptionError as error:
                self.validation_errors += error.faults
        # Two references, or a reference and an id, may resolve to the same value.
        self.validation_errors += self.description.claim_faults(self.view.attribute)

    def absent(self) -> None:
        for address in reversed(self.description.graph.order):
            actual, reason = self._ours(address), ""
            if actual is None:
                reason = "does not exist" if not self.world.found.get(address) else "exists outside this stack"
            elif actual.status == RETIRED:
                reason = RETIRED
            self._keep(address, "none" if reason else "delete", actual, reason=reason)
            if not reason:
                self._guard(address, self.description.resources[address], actual, "deleted")
            self._note(address, {}, actual)

    def prune(self) -> None:
        """Plan or list the deletion of undescribed and formerly replaced resources with our tags."""
        if not self.options.lists:
            return
        taken = {(node.kind, node.id) for node in (*self.nodes.values(), *self.extra.values()) if node.id}
        for kind, actuals in sorted(self.world.owned.items()):
            for actual in sorted(actuals, key=lambda item: item.id):
                owner = actual.owner
                ours = owner is not None and owner.shares_stack_with(self.description.owner("", kind))
                if owner is None or not ours or (kind, actual.id) in taken or actual.status == RETIRED:
                    continue
                if self.options.deletes_undescribed:
                    self._remove(owner.address, kind, actual, "no longer described")
                else:
                    self.undescribed[f"{owner.address}#{actual.id}"] = actual.id

    def proposal(self) -> Proposal:
        stack = self.description.stack
        self.evidence["stack"] = {
            f"stack:{path}": digest(value, 16)
            for path, value in {
                **{f"attributes.{name}": value for name, value in stack.attributes.items()},
                "name": stack.name,
                "environment": stack.environment,
                "version": stack.version,
                "prune": self.options.prune,
                "adopt": self.options.adopt,
                "unprotect": sorted(self.options.unprotect),
                "delete_contents": sorted(self.options.delete_contents),
            }.items()
        }
        nodes = (*self.nodes.values(), *(self.extra[address] for address in sorted(self.extra)))
        plan = Plan(stack.name, stack.environment, self.options.state, nodes, self.evidence)
        world = self.world
        return Proposal(
            plan,
            self.description,
            self.actuals,
            self.deferred,
            world.api_calls,
            self.severed_references,
            world.missing,
            frozenset(node.address for node in nodes if self._erases(node)),
            undescribed=self.undescribed,
        )

    def _erases(self, node: Node) -> bool:
        names = {node.address, node.address.partition("#")[0], node.kind}
        return not self.options.delete_contents.isdisjoint(names)

    def _decide(self, address: str) -> None:
        resource, schema = self.description.resources[address], self.description.schema(address)
        desired = self.description.desired(address, self.view.attribute)
        actual = self._ours(address, desired)
        adopted = actual is None
        if actual is None:
            actual = self._unowned(address, resource)
        adopted = adopted and actual is not None
        existing = None if actual is None else self._existing(address, actual)
        self.validation_errors += rule_faults(schema, address, desired, existing)
        self._note(address, desired, actual)
        if actual is None or existing is None or actual.status == DELETING:
            reason = "after the current deletion completes" if actual is not None else ""
            self._keep(address, "create", actual, creation(schema.properties, desired), reason)
            self.view.states[address] = State(desired, actual, renewed=True)
            return
        changes = diff(schema.properties, desired, existing)
        anew = self._deleted_first(address)
        cut = self._cut(resource, desired, existing, changes, anew)
        changes += again(schema.properties, desired, existing, cut)
        action, reason = self._action(address, resource, actual, changes, adopted=adopted)
        if cut and not reason:
            reason = f"{', '.join(anew)} {'is' if len(anew) == 1 else 'are'} recreated"
        self._keep(address, action, actual, changes, reason)
        changed = frozenset(root(change.path) for change in changes)
        self.view.states[address] = State(desired, actual, action == "replace", changed)

    def _deleted_first(self, address: str) -> dict[str, frozenset[str]]:
        """Return dependencies that are deleted before they are recreated, each with the values that name it."""
        nodes = [self.nodes[need] for need in sorted(self.description.graph.needs[address]) if need in self.nodes]
        # An existing resource with the action create is currently being deleted.
        going = [node for node in nodes if node.id and (node.action == "create" or _is_deleted_first(node))]
        return {node.address: self.actuals[node.address].words for node in going}

    def _cut(
        self,
        resource: Resource,
        desired: Mapping[str, Any],
        existing: Mapping[str, Any],
        changes: tuple[Change, ...],
        anew: Mapping[str, frozenset[str]],
    ) -> list[str]:
        """Return the properties that match now, but not after the deletion of the resources that they name.

        A deleted role leaves its profile, and a deleted policy its roles, even if replacements have the same names.
        """
        if not anew:
            return []
        words = frozenset().union(*anew.values())
        self.severed_references[resource.address] = words
        changing = {root(change.path) for change in changes}
        return [
            name
            for name, value in resource.properties.items()
            if name in desired
            and name not in changing
            and any(reference.address in anew for _path, reference in find(value))
            and not words.isdisjoint(map(str, leaves(existing.get(name))))
        ]

    def _action(
        self, address: str, resource: Resource, actual: Actual, changes: tuple[Change, ...], *, adopted: bool
    ) -> tuple[Action, str]:
        forced = forced_by(changes)
        if adopted and forced:
            message = "cannot be adopted: this property differs and cannot be changed"
            remedy = "describe the existing value, or use another name"
            self.refusals += [Fault(address, path, message, remedy) for path in forced]
        if adopted:
            return "adopt", f"exists as {actual.id} without tags"
        if forced:
            self._guard(address, resource, actual, f"replaced ({', '.join(forced)})")
            return "replace", ""
        if actual.status not in {READY, RETIRED}:
            return "update", f"is {actual.status}"
        if actual.status == RETIRED:
            return "update", "its deletion is cancelled"
        if actual.owner is not None and actual.owner.address != address:
            return "update", f"was {actual.owner.address}"
        own = self.description.owner(address)
        if actual.owner is not None and actual.owner != own:
            return "update", f"its tags do not name its region, {own.region}"
        return ("update" if changes else "none"), ""

    def _decide_deferred(self, address: str) -> None:
        """Add the changes that are applied when both ends exist. The action of the other end is known by now."""
        node, schema = self.nodes[address], self.description.schema(address)
        if not schema.deferred:
            return
        desired = self.description.desired(address, self.view.attribute, deferred=True)
        actual = self.actuals.get(address)
        if actual is None or node.action in {"create", "replace"}:
            changes = creation(schema.properties, desired)
        else:
            changes = diff(schema.properties, desired, self._existing(address, actual))
            self._note(address, {**self.view.states[address].desired, **desired}, actual)
        if changes:
            self.deferred[address] = frozenset(change.path for change in changes)
            action: Action = "update" if node.action == "none" else node.action
            self.nodes[address] = replace(node, action=action, changes=node.changes + changes)

    def _ours(self, address: str, desired: Mapping[str, Any] | None = None) -> Actual | None:
        """Return the resource with the stack's tags, and remove remainders of an interrupted replacement."""
        own = self.description.owner(address)
        mine = [item for item in self.world.found.get(address, ()) if item.owner and item.owner.shares_stack_with(own)]
        if not mine:
            return None
        properties = self.description.schema(address).properties

        def unfit(actual: Actual) -> tuple[bool, bool, bool]:
            changes = () if desired is None else diff(properties, desired, self._existing(address, actual))
            elsewhere = actual.owner is not None and actual.owner.address != address
            return actual.status == DELETING, elsewhere, bool(forced_by(changes))

        first = min(mine, key=unfit) if len(mine) > 1 else mine[0]
        for other in mine:
            if other is not first and other.owner == own and other.status != RETIRED:
                self._remove(address, self.description.resources[address].kind, other, f"left over beside {first.id}")
        return first if self._free(address, first) else None

    def _existing(self, address: str, actual: Actual) -> dict[str, Any]:
        """Return the read properties in normal form. Those of an address are normalised once."""
        known = self._normalised.get(address)
        if known is None or known[0] is not actual:
            known = self._normalised[address] = (actual, self.description.actual(address, actual))
        return known[1]

    def _free(self, address: str, actual: Actual) -> bool:
        """Return whether the resource found here does not belong to another description."""
        other = actual.owner.address if actual.owner else address
        if other != address and other in self.description.resources:
            if self.options.state == "present":
                message = f"{actual.id} is already {other}"
                self.refusals.append(Fault(address, "", message, "describe it once, or use another name"))
            return False
        return True

    def _unowned(self, address: str, resource: Resource) -> Actual | None:
        """Return an existing resource without tags that may be adopted; refuse resources of other owners."""
        candidates = [item for item in self.world.found.get(address, ()) if item.status != DELETING]
        own = self.description.owner(address)
        for item in candidates:
            if item.owner is not None and not item.owner.shares_stack_with(own):
                environment = item.owner.environment
                whose = f"stack {item.owner.stack!r} in {environment!r}" if environment else item.owner.stack
                whose += f", {item.owner.region}" if item.owner.region not in {"", own.region} else ""
                self.refusals.append(Fault(address, "", f"{item.id} belongs to {whose}", "use another name"))
                return None
        free = [item for item in candidates if item.owner is None]
        if not free:
            return None
        allowed = self.options.adopt if resource.adopt is None else resource.adopt
        if not allowed:
            message = f"exists as {free[0].id} and does not carry this stack's tags"
            remedy = OptionRemedy("set `adopt: true` on it to adopt it", "adopt")
            self.refusals.append(Fault(address, "", message, remedy))
        elif len(free) > 1:
            message = f"{', '.join(sorted(item.id for item in free))} match"
            self.refusals.append(Fault(address, "", message, "tag the resource to adopt, or delete the others"))
        return free[0]

    def _keep(
        self, address: str, action: Action, actual: Actual | None, changes: tuple[Change, ...] = (), reason: str = ""
    ) -> None:
        graph, kind = self.description.graph, self.description.resources[address].kind
        if actual is not None:
            self.actuals[address] = actual
        self.nodes[address] = Node(
            address,
            kind,
            action,
            actual.id if actual is not None else "",
            changes,
            reason,
            tuple(sorted(graph.needs[address] | graph.deferred[address])),
            create_first=action == "replace" and self._creates_first(address, changes),
        )

    def _creates_first(self, address: str, changes: tuple[Change, ...]) -> bool:
        """Return whether the replacement is created first: never if a dependency is deleted before it is recreated."""
        schema = self.description.schema(address)
        distinct = any(root(change.path) in schema.unique_by for change in changes)
        if schema.replacement == "delete_first" and not distinct:
            return False
        used = set(map(str, leaves(self.actuals[address].properties)))
        return all(used.isdisjoint(words) for words in self._deleted_first(address).values())

    def _remove(self, address: str, kind: str, actual: Actual, reason: str) -> None:
        resource = self.description.resources.get(address)
        name = address if resource is None and address not in self.extra else f"{address}#{actual.id}"
        self.extra[name] = Node(name, kind, "delete", actual.id, reason=reason)
        self.actuals[name] = actual
        self.evidence[name] = _identity(actual)
        self._guard(name, resource or Resource(kind, name.removeprefix(f"{kind}.")), actual, "deleted")

    def _guard(self, address: str, resource: Resource, actual: Actual | None, verb: str) -> None:
        """Refuse to delete or replace resources that are protected here or by their service, with a remedy."""
        schema = self.description.kinds[resource.kind].schema
        protected = schema.protected if resource.protect is None else resource.protect
        if protected and not self.options.unprotect & {address, resource.address, resource.kind}:
            described = resource.address in self.description.resources
            remedy = f"set `protect: false` on it, or add {resource.address} to `unprotect`"
            remedy = remedy if described else f"add {resource.address} to `unprotect`"
            allowed = OptionRemedy(remedy, "unprotect", resource.address)
            self.refusals.append(Fault(address, "", f"is protected and would be {verb}", allowed))
        if schema.locked_by and actual is not None and actual.properties.get(schema.locked_by):
            message = f"is true, so it cannot be {verb}"
            remedy = f"set `{schema.locked_by}: false` and deploy this change first"
            self.refusals.append(Fault(address, schema.locked_by, message, remedy))

    def _note(self, address: str, desired: Mapping[str, Any], actual: Actual | None) -> None:
        """Record the digests of described and read properties as evidence."""
        resource, schema = self.description.resources[address], self.description.schema(address)
        evidence = {
            f"described:{option}": digest(value, 16)
            for option, value in {
                "adopt": resource.adopt,
                "protect": resource.protect,
                "depends_on": list(resource.depends_on),
            }.items()
        }
        for name, value in resource.properties.items():
            # The evidence contains possible secrets only by their version.
            shown = desired.get(name) if _may_be_secret(schema.properties[name]) else value
            evidence |= {f"described:{path}": digest(leaf, 16) for path, leaf in _flat(name, shown)}
        for name, value in self.description.chosen.get(address, {}).items():
            evidence[f"chosen:{name}"] = digest(value, 16)
        if actual is not None:
            evidence |= _identity(actual)
            existing = managed(schema.properties, desired, self._existing(address, actual))
            for name, value in existing.items():
                evidence |= {f"read:{path}": digest(leaf, 16) for path, leaf in _flat(name, value)}
        self.evidence[address] = evidence


def _is_deleted_first(node: Node) -> bool:
    return node.action == "replace" and not node.create_first


def _identity(actual: Actual) -> dict[str, str]:
    owner = actual.owner
    tags: Sequence[str] = (owner.stack, owner.environment, owner.address, owner.region) if owner else ()
    parts = {"id": actual.id, "status": actual.status, "owner": list(tags)}
    return {f"read:{name}": digest(value, 16) for name, value in parts.items()}


def _may_be_secret(item: Property) -> bool:
    inner = (*item.fields.values(), *((item.elements,) if item.elements else ()))
    return item.sensitive or any(map(_may_be_secret, inner))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested maps with their paths."""
    if not isinstance(value, PLAIN) and isinstance(value, MAPS) and value:
        for key, item in value.items():
            yield from _flat(join(path, str(key)), item)
    else:
        yield path, value
