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

The fixture `lab` runs a test once per emulator. `@pytest.mark.emulators("moto")` restricts it, with a comment about the
missing features of the others. A description maps addresses to properties. With `depends_on`, `adopt` or `protect`, it
is a list of maps as in a task. `UNREGISTERED = (TheClass,)` in a test file adds a kind that the registry does not
contain yet.

`lab.plan` proves that it changed nothing. `lab.apply` returns the report and fails the test after any failure;
`lab.run` accepts failures. `lab.wire` logs every call. `lab.wire.behaviour` disturbs calls or answers them instead of
the service (see wire.py). Waits return immediately.
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
    """A run: its plan, its report, and its mutating calls."""

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

    every_kind: whether pruning and destruction search all kinds, and not only those that this lab has described so far.
        That is slower, and each emulator lacks some service.
    unregistered: classes of kinds that the registry does not contain.
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
        """Return a client of the test itself, which `wire` does not see."""
        return self.emulator.client(service)

    def other(self, **changes: Any) -> Lab:
        """Return another stack or environment in the same account."""
        given = {name: getattr(self, name) for name in ("name", "environment", "secrets", "every_kind", "unregistered")}
        return Lab(self.emulator, **{**given, **changes})

    def session(self, **connection: Any) -> Session:
        """Return a session as in a new run; only the clients are those of the previous runs."""
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
        """Continue in a new account."""
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
        """Register the kinds of this lab."""
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
        """Return the plan, and prove that planning changed nothing."""
        return self._proposed(self.stack(described, **options)).plan

    def _proposed(self, stack: AwsStack) -> Proposal:
        before = len(self.wire.mutating)
        proposal = stack.propose()
        changed = self.wire.mutating[before:]
        assert not changed, f"planning made mutating calls: {', '.join(map(str, changed))}"
        return proposal

    def run(self, described: Described, **options: Any) -> Ran:
        """Plan and apply; failures are in the report."""
        stack = self.stack(described, **options)
        return self._carried_out(stack, stack.propose())

    def _carried_out(self, stack: AwsStack, proposal: Proposal) -> Ran:
        before = len(self.wire.mutating)
        report = stack.apply(proposal)
        return Ran(proposal.plan, report, [call.name for call in self.wire.mutating[before:]])

    def apply(self, described: Described, **options: Any) -> Ran:
        """Calculate the plan alone, then plan and apply; every step must succeed."""
        plan = self.plan(described, **options)
        ran = self.run(described, **options)
        assert ran.plan == plan, "the same world gave two plans"
        assert ran.report.complete, failures(ran.report)
        return ran

    def destroy(self, described: Described, **options: Any) -> Ran:
        """Destroy all resources, protected or not; no resource with the stack's tags may remain."""
        addresses = tuple(f"{item['kind']}.{item['name']}" for item in resources(described))
        ran = self.apply(described, state="absent", **{"unprotect": addresses, **options})
        assert not self.plan(described, state="absent", **{"unprotect": addresses, **options}).changed
        return ran

    def assert_unchanged(self, described: Described, **options: Any) -> None:
        """Prove that the plan is empty, and that applying it changes nothing."""
        stack = self.stack(described, **options)
        proposal = self._proposed(stack)
        assert not proposal.plan.changed, text(proposal.plan)
        ran = self._carried_out(stack, proposal)
        assert not ran.mutating
        assert not ran.report.changed

    def read(self, address: str, described: Described) -> Actual | None:
        """Return the resource at an address, as its kind reads it."""
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
        """Test the lifecycle of one resource: each step is planned first, without changes, and the plan is accurate.

        changes: new values by property (applied in order, each checked by an empty plan), or several properties at
        once, as `{"any word": {property: value, ...}}` under a key that is not a property. replaces: the properties
        whose change replaces the resource. vanish: deletes it with the test's own client, given its id. edit_tags:
        writes and removes tags manually, given id, tags and keys. None for either means that it is not possible; the
        test states the reason. options: of `apply`.
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
        """Change, add and remove one tag manually: the plan finds each, and the run repairs it."""
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
            # It is planned alone first: resources that are no longer described are found by their tags, or by a
            # listing.
            pruned = {**self.options, "prune": True, "unprotect": addresses}
            ran = self.lab.apply(without, **pruned)
            assert self.node(ran.plan).action == "delete", text(ran.plan)
            self.lab.assert_unchanged(without, **pruned)
            self.lab.apply(self.described, **self.options)
        ran = self.lab.destroy(self.described, **self.options)
        assert self.node(ran.plan).action == "delete", text(ran.plan)

    def step(self, action: str) -> Ran:
        """Apply, and prove that exactly this action happened to the resource."""
        ran = self.lab.apply(self.described, **{"unprotect": (self.address,), **self.options})
        assert self.node(ran.plan).action == action, text(ran.plan)
        return ran

    def node(self, plan: Plan) -> Node:
        return next(node for node in plan.nodes if node.address.partition("#")[0] == self.address)


def resources(described: Described) -> list[Mapping[str, Any]]:
    """Return a description in the format of the task."""
    if not isinstance(described, Mapping):
        return list(described)
    split = ((address.partition("."), properties) for address, properties in described.items())
    return [{"kind": kind, "name": name, "properties": properties} for (kind, _dot, name), properties in split]


def failures(report: Report) -> str:
    """Return the failures, for a test's message."""
    return "\n".join(
        f"{result.address}: {result.outcome}: {result.message}"
        for result in report.results
        if result.outcome not in {"done", "unchanged"}
    )


def ec2_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    """Edit tags of EC2 resources manually."""
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    lab.client("ec2").create_tags(Resources=[id_], Tags=pairs)
    lab.client("ec2").delete_tags(Resources=[id_], Tags=[{"Key": key} for key in removed])
