# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory for kinds of AWS resources: plan, apply and destroy a description in a test's own account.

    PREREQUISITES = {"vpc.main": {"cidr_block": "10.0.0.0/16"}}

    def test_a_subnet_goes_through_its_life(lab: Lab) -> None:
        lab.assert_matrix(
            "subnet.a",
            {"vpc_id": "${vpc.main.id}", "cidr_block": "10.0.1.0/24", "availability_zone": "eu-central-1a"},
            PREREQUISITES,
            changes={"map_public_ip_on_launch": True, "cidr_block": "10.0.2.0/24"},
            vanish=lambda lab, id_: lab.client("ec2").delete_subnet(SubnetId=id_),
            edit_tags=ec2_tags,
        )

The fixture `lab` comes once per emulator; `@pytest.mark.emulators("moto")` restricts it, with a comment that says what
the others lack. A description is a mapping of addresses to properties, or a list of maps as the task gives it, where
`depends_on`, `adopt` or `protect` are wanted. A kind that the registry does not name yet is known to the lab of a test
file that says `UNREGISTERED = (TheClass,)`. `lab.plan` proves that it changed nothing; `lab.apply` returns the report
and fails the test where anything failed; `lab.run` leaves that to the test. `lab.wire` is the log of every call, and
`lab.wire.behaviour` disturbs them or answers in the service's place (see wire.py). Waiting takes no time here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import stack as stack_module
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import AwsKind
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.stack import AwsStack, StackDescription
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import Report
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Node, Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Proposal
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.render import text
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Actual
from tests.integration.aws.emulator import Emulator
from tests.integration.aws.wire import Wire

Properties = Mapping[str, Any]
Described = Mapping[str, Any] | Sequence[Mapping[str, Any]]
EditTags = Callable[["Lab", str, dict[str, str], list[str]], object]
Vanish = Callable[["Lab", str], object]


@dataclass(frozen=True)
class Ran:
    """What a run planned, what became of it, and which mutating calls it made."""

    plan: Plan
    report: Report
    mutating: list[str]

    def id(self, address: str) -> str:
        return self.report.result(address).id

    def outputs(self, address: str) -> Mapping[str, Any]:
        return self.report.result(address).outputs


@dataclass
class Lab:
    """One account, and one stack in it.

    every_kind: what is pruned or destroyed is looked for among all kinds, not only among those that this lab has
        described so far: that is slower, and each emulator lacks the one or the other service.
    unregistered: classes of kinds that the registry does not name.
    """

    emulator: Emulator
    name: str = "lake"
    environment: str = "development"
    secrets: Mapping[str, str] = field(default_factory=dict)
    wire: Wire = field(default_factory=Wire)
    every_kind: bool = False
    unregistered: Sequence[type[AwsKind]] = ()
    seen: set[str] = field(default_factory=set)
    parallelism: int = 16
    _first: Session | None = None

    def client(self, service: str) -> Any:
        """Return a client of the test's own, which `wire` does not see."""
        return self.emulator.client(service)

    def other(self, **changes: Any) -> Lab:
        """Return another stack or environment in the same account."""
        given = {name: getattr(self, name) for name in ("name", "environment", "secrets", "every_kind", "unregistered")}
        return Lab(self.emulator, **{**given, **changes})

    def session(self, **connection: Any) -> Session:
        """Return a session as a new run has one; only the clients are those of the runs before."""
        if connection:
            return self.wire.attach(self.emulator.session(**connection))
        session = self.emulator.session(parallelism=self.parallelism)
        if self._first is None:
            self._first = self.wire.attach(session)
        else:
            session.__dict__["_botocore"] = self._first._botocore
            session._clients = self._first._clients
        return session

    def move(self) -> None:
        """Go on in a fresh account."""
        others = () if self._first is None else (self._first._botocore.get_credentials(),)
        self.emulator.move(*others)

    def stack(self, described: Described, *, session: Session | None = None, **options: Any) -> AwsStack:
        """Return the stack of a description. options: of `StackDescription`."""
        listed = resources(described)
        given = {"secret_values": self.secrets, **options}
        description = StackDescription(self.name, self.environment, listed, **given)
        with self._kinds({str(item.get("kind")) for item in listed}):
            return AwsStack(session or self.session(), description)

    def _kinds(self, described: set[str]) -> Any:
        """Let the registry hold what this lab needs."""
        extra = {kind.name: kind for kind in self.unregistered}
        self.seen |= described
        names = {name: KINDS.get(name, ("", "")) for name in (*KINDS, *extra) if self.every_kind or name in self.seen}

        def find(name: str) -> type[AwsKind]:
            return extra[name] if name in extra else kind_class(name)

        def make(session: Session, wanted: Iterable[str]) -> list[AwsKind]:
            chosen = set(wanted)
            return [find(name)(session) for name in names if name in chosen]

        return patch.multiple(stack_module, KINDS=names, kind_class=find, make_kinds=make)

    def propose(self, described: Described, **options: Any) -> Proposal:
        return self.stack(described, **options).propose()

    def plan(self, described: Described, **options: Any) -> Plan:
        """Return the plan, and prove that making it changed nothing."""
        return self._proposed(self.stack(described, **options)).plan

    def _proposed(self, stack: AwsStack) -> Proposal:
        before = len(self.wire.mutating)
        proposal = stack.propose()
        changed = self.wire.mutating[before:]
        assert not changed, f"planning made mutating calls: {', '.join(map(str, changed))}"
        return proposal

    def run(self, described: Described, **options: Any) -> Ran:
        """Plan and carry out; what failed is in the report."""
        stack = self.stack(described, **options)
        return self._carried_out(stack, stack.propose())

    def _carried_out(self, stack: AwsStack, proposal: Proposal) -> Ran:
        before = len(self.wire.mutating)
        report = stack.apply(proposal)
        return Ran(proposal.plan, report, [call.name for call in self.wire.mutating[before:]])

    def apply(self, described: Described, **options: Any) -> Ran:
        """Plan and carry out, planned alone first; everything must succeed."""
        plan = self.plan(described, **options)
        ran = self.run(described, **options)
        assert ran.plan == plan, "the same world gave two plans"
        assert ran.report.complete, failures(ran.report)
        return ran

    def destroy(self, described: Described, **options: Any) -> Ran:
        """Remove everything, protected or not; nothing with the stack's tags may be left."""
        addresses = tuple(f"{item['kind']}.{item['name']}" for item in resources(described))
        ran = self.apply(described, state="absent", **{"unprotect": addresses, **options})
        assert not self.plan(described, state="absent", **{"unprotect": addresses, **options}).changed
        return ran

    def assert_unchanged(self, described: Described, **options: Any) -> None:
        """Prove that there is nothing to do, and that carrying that out does nothing."""
        stack = self.stack(described, **options)
        proposal = self._proposed(stack)
        assert not proposal.plan.changed, text(proposal.plan)
        ran = self._carried_out(stack, proposal)
        assert not ran.mutating
        assert not ran.report.changed

    def read(self, address: str, described: Described) -> Actual | None:
        """Return what exists at an address, as its kind reads it."""
        return self.propose(described).actuals.get(address)

    def assert_matrix(
        self,
        address: str,
        properties: Properties,
        prerequisites: Mapping[str, Any] | None = None,
        *,
        changes: Mapping[str, Any],
        vanish: Vanish | None,
        edit_tags: EditTags | None,
        replaces: Iterable[str] = (),
        **options: Any,
    ) -> None:
        """Take one resource through its life, each step planned first: the plan changes nothing and comes true.

        changes: per property the value it is changed to (one after the other, each checked by a plan that finds
        nothing left to do), or several properties at once, as `{"any word": {property: value, ...}}` under a name
        that is no property. replaces: the names whose change replaces it. vanish: deletes it with the test's own
        client, given its id. edit_tags: writes and removes tags by hand, given id, tags and keys. None for either
        says that it cannot be: the test that gives it says why. options: of `apply`.
        """
        _Matrix(self, address, dict(properties), dict(prerequisites or {}), options).run(
            changes, vanish, edit_tags, frozenset(replaces)
        )


@dataclass
class _Matrix:
    lab: Lab
    address: str
    properties: dict[str, Any]
    prerequisites: dict[str, Properties]
    options: dict[str, Any]

    @property
    def described(self) -> dict[str, Properties]:
        return {**self.prerequisites, self.address: self.properties}

    def run(
        self,
        changes: Mapping[str, Any],
        vanish: Vanish | None,
        edit_tags: EditTags | None,
        replaces: frozenset[str],
    ) -> None:
        self.create()
        for name, value in changes.items():
            self.change(name, value, replaces=name in replaces)
        if edit_tags is not None:
            self.repair_tags(edit_tags)
        if vanish is not None:
            self.come_back(vanish)
        self.destroy()

    def create(self) -> None:
        self.step("create")
        self.lab.assert_unchanged(self.described, **self.options)

    def change(self, name: str, value: Any, *, replaces: bool) -> None:
        given = {name: value} if name in self.schema_names() else dict(value)
        self.properties.update(given)
        self.step("replace" if replaces else "update")
        self.lab.assert_unchanged(self.described, **self.options)

    def schema_names(self) -> set[str]:
        kind = self.address.partition(".")[0]
        found = {item.name: item for item in self.lab.unregistered}
        return set((found.get(kind) or kind_class(kind)).schema.properties)

    def repair_tags(self, edit: EditTags) -> None:
        """One tag changed, one added, one removed by hand: each is found and put right."""
        self.properties["tags"] = {**(self.properties.get("tags") or {}), "Kept": "as described", "Lost": "come back"}
        ran = self.step("update")
        edit(self.lab, ran.id(self.address), {"Kept": "edited by hand", "Added": "by hand"}, ["Lost"])
        plan = self.lab.plan(self.described, **self.options)
        found = {change.path: (change.before, change.after) for change in plan.node(self.address).changes}
        expected = {
            "tags.Kept": ("edited by hand", "as described"),
            "tags.Added": ("by hand", None),
            "tags.Lost": (None, "come back"),
        }
        assert found == expected, found
        self.step("update")
        self.lab.assert_unchanged(self.described, **self.options)

    def come_back(self, vanish: Vanish) -> None:
        ran = self.lab.run(self.described, **self.options)
        vanish(self.lab, ran.id(self.address))
        self.step("create")
        self.lab.assert_unchanged(self.described, **self.options)

    def destroy(self) -> None:
        without = {**self.prerequisites}
        addresses = tuple(self.described)
        if without:
            # Alone first: what is no longer described is found by its tags, or by a listing.
            pruned = {**self.options, "prune": True, "unprotect": addresses}
            ran = self.lab.apply(without, **pruned)
            assert self.node(ran.plan).action == "delete", text(ran.plan)
            self.lab.assert_unchanged(without, **pruned)
            self.lab.apply(self.described, **self.options)
        ran = self.lab.destroy(self.described, **self.options)
        assert self.node(ran.plan).action == "delete", text(ran.plan)

    def step(self, action: str) -> Ran:
        """Apply, and prove that exactly this happened to the resource."""
        ran = self.lab.apply(self.described, **{"unprotect": (self.address,), **self.options})
        assert self.node(ran.plan).action == action, text(ran.plan)
        return ran

    def node(self, plan: Plan) -> Node:
        return next(node for node in plan.nodes if node.address.partition("#")[0] == self.address)


def resources(described: Described) -> list[Mapping[str, Any]]:
    """Return a description as the task gives it."""
    if not isinstance(described, Mapping):
        return list(described)
    split = ((address.partition("."), properties) for address, properties in described.items())
    return [{"kind": kind, "name": name, "properties": properties} for (kind, _dot, name), properties in split]


def failures(report: Report) -> str:
    """Return what went wrong, for a test's message."""
    return "\n".join(
        f"{result.address}: {result.outcome}: {result.message}"
        for result in report.results
        if result.outcome not in {"done", "unchanged"}
    )


def ec2_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    """Edit the tags of anything in EC2 by hand."""
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    lab.client("ec2").create_tags(Resources=[id_], Tags=pairs)
    lab.client("ec2").delete_tags(Resources=[id_], Tags=[{"Key": key} for key in removed])
