# SPDX-License-Identifier: GPL-3.0-or-later
"""Destruction in the order of the graph, independent of the service's checks, with a complete report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import ReadError, RefusedError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Proposal
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import RETIRED
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import leaves
from tests.integration.aws.foundation import foundation, picture
from tests.integration.aws.lab import Lab, failures
from tests.integration.aws.wire import Answer, Behaviour, Call, unreachable

_REMOVING = ("Delete", "Release", "Schedule")
# A dependency of a resource that stays.
_PARTS = {"DeleteRolePolicy", "DeleteRoute", "DeleteBucketPolicy", "DeletePolicyVersion"}


class Watching(Behaviour):
    """Records the times at which each mutating call was sent and answered, on one scale."""

    def __init__(self) -> None:
        self.moments: dict[int, list[int]] = {}
        self.calls: dict[int, Call] = {}
        self._moment = 0
        self._lock = threading.Lock()

    def before(self, call: Call) -> Answer | None:
        self._note(call)
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        self._note(call)
        return None

    def _note(self, call: Call) -> None:
        with self._lock:
            self._moment += 1
            self.calls[call.number] = call
            self.moments.setdefault(call.number, []).append(self._moment)


def removals(watched: Watching, proposal: Proposal) -> dict[str, tuple[int, int]]:
    """Return per address the times at which its deletion was sent and answered."""
    found: dict[str, tuple[int, int]] = {}
    words = {word: address for address, actual in proposal.actuals.items() for word in actual.words}
    for number, call in watched.calls.items():
        named = {words[leaf] for leaf in leaves(call.parameters) if isinstance(leaf, str) and leaf in words}
        if call.operation.startswith(_REMOVING) and len(named) == 1 and call.operation not in _PARTS:
            sent, answered = watched.moments[number]
            found[named.pop()] = (sent, answered)
    return found


def test_everything_goes_after_what_needs_it(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.apply(described)
    stack = lab.stack(described, state="absent", unprotect=tuple(described))
    proposal = stack.propose()
    lab.wire.behaviour = watched = Watching()

    report = stack.apply(proposal)
    assert report.complete, failures(report)
    removed = removals(watched, proposal)
    assert set(removed) == set(described)
    late = [
        f"{address} was sent at {removed[address][0]}, {user} answered at {removed[user][1]}"
        for user, needs in proposal.description.graph.needs.items()
        for address in needs
        if removed[address][0] < removed[user][1]
    ]
    assert not late


def test_groups_that_know_each_other_are_parted_before_either_goes(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.apply(described)
    lab.wire.behaviour = watched = Watching()
    lab.run(described, state="absent", unprotect=tuple(described))

    groups = {call.number: call.operation for call in watched.calls.values() if "SecurityGroup" in call.operation}
    severed_references = [watched.moments[number][1] for number, name in groups.items() if name.startswith("Revoke")]
    gone = [watched.moments[number][0] for number, name in groups.items() if name == "DeleteSecurityGroup"]
    assert len(severed_references) >= 2
    assert len(gone) == 2
    assert sorted(severed_references)[1] < min(gone)


def owned(lab: Lab) -> list[str]:
    """Return the resources that still have this stack's tag."""
    return [line for line in picture(lab.emulator) if f"{lab.name}/{lab.environment}" in line]


def test_what_a_destruction_leaves_is_reported_with_its_date(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.apply(described)
    stack = lab.stack(described, state="absent", unprotect=tuple(described))
    proposal = stack.propose()
    assert stack.apply(proposal).complete

    left = {item["address"]: item for item in stack.left(proposal)}
    assert set(left) == {"kms_key.data", "secretsmanager_secret.database"}
    for item in left.values():
        assert item["status"] == RETIRED
        assert item["deletion_date"]
    key = lab.client("kms").describe_key(KeyId=left["kms_key.data"]["id"])["KeyMetadata"]
    secret = lab.client("secretsmanager").describe_secret(SecretId=left["secretsmanager_secret.database"]["id"])
    assert key["KeyState"] == "PendingDeletion"
    assert str(key["DeletionDate"].date()) == left["kms_key.data"]["deletion_date"][:10]
    assert secret["DeletedDate"]
    # A listing hides secrets that are being deleted.
    assert [line.partition(" ")[0] for line in owned(lab)] == ["key"]


def test_what_was_destroyed_comes_back_with_the_key_and_the_secret_that_were_to_go(lab: Lab) -> None:
    described = foundation(lab.emulator)
    before = lab.apply(described)
    lab.destroy(described)

    ran = lab.run(described)
    assert ran.report.complete, failures(ran.report)
    for address in ("kms_key.data", "secretsmanager_secret.database"):
        assert ran.plan.node(address).action == "update"
        assert ran.id(address) == before.id(address)
    assert ran.id("vpc.main") != before.id("vpc.main")
    assert not lab.plan(described).changed


def test_a_second_destruction_has_nothing_to_do(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.apply(described)
    lab.destroy(described)

    ran = lab.run(described, state="absent", unprotect=tuple(described))
    assert not ran.plan.changed
    assert ran.mutating == []


# moto lacks the listings of some kinds.
@pytest.mark.emulators("ministack")
def test_what_nobody_describes_any_more_is_found_among_all_kinds_and_goes_in_order(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.apply(described)
    lab.every_kind = True
    stack = lab.stack({}, state="absent", unprotect=tuple(described))
    proposal = stack.propose()
    assert {node.address for node in proposal.plan.nodes if node.action == "delete"} == set(described)
    lab.wire.behaviour = watched = Watching()

    report = stack.apply(proposal)
    assert report.complete, failures(report)
    removed = removals(watched, proposal)
    # The description no longer provides the graph; existing resources still reference their dependencies.
    late = [
        f"{address} was sent at {removed[address][0]}, {user} answered at {removed[user][1]}"
        for user, address in users(proposal)
        if removed[address][0] < removed[user][1]
    ]
    assert not late
    assert [line.partition(" ")[0] for line in owned(lab)] == ["key"]


class Unserved(Behaviour):
    """Fails every call to a service."""

    def __init__(self, fault: Callable[[], Answer]) -> None:
        self.fault = fault

    def before(self, call: Call) -> Answer | None:
        return self.fault() if call.service == "wafv2" else None


def nowhere() -> Answer:
    raise unreachable()


def test_what_is_not_described_any_more_is_listed_without_prune(lab: Lab) -> None:
    kept, dropped = {"log_group.main": {"name": "/lake"}}, {"log_group.old": {"name": "/old"}}
    lab.apply({**kept, **dropped})
    stack = lab.stack(kept, lists_undescribed=True)
    proposal = stack.propose()
    assert not proposal.plan.changed
    # A run without a listing calculates the same plan, so that a saved one matches it.
    assert proposal.plan == lab.plan(kept)
    remedy = "set prune (in an inventory lakehouse_aws_prune) to delete them"
    assert stack.notices(proposal) == [f"1 resource is not described any more: log_group.old; {remedy}"]

    # The remedy.
    ran = lab.apply(kept, prune=True, unprotect=("log_group.old",))
    assert ran.plan.node("log_group.old").action == "delete"
    assert stack.notices(lab.stack(kept, lists_undescribed=True).propose()) == []


class Unlisted(Behaviour):
    """Refuses to list the security groups with the stack's tags."""

    def before(self, call: Call) -> Answer | None:
        is_listing = call.operation == "DescribeLogGroups" and "logGroupNamePrefix" not in call.parameters
        return Answer.error("AccessDeniedException", "not authorized") if is_listing else None


def test_a_plan_needs_no_permission_to_list_what_is_not_described(lab: Lab) -> None:
    described = {"log_group.main": {"name": "/lake"}}
    lab.apply(described)
    lab.wire.behaviour = Unlisted()
    stack = lab.stack(described, lists_undescribed=True)
    proposal = stack.propose()
    assert not proposal.plan.changed
    (notice,) = stack.notices(proposal)
    assert "log_group: was not searched: its resources cannot be listed (" in notice
    assert "allow logs:DescribeLogGroups" in notice
    with pytest.raises(ReadError, match="allow logs:DescribeLogGroups"):
        lab.plan(described, prune=True)


# moto lacks the listings of some kinds.
@pytest.mark.emulators("ministack")
@pytest.mark.parametrize("has_it", [True, False])
def test_a_service_that_the_region_does_not_have_is_a_notice_where_nothing_of_it_is_described(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, *, has_it: bool
) -> None:
    described = {"log_group.main": {"name": "/lake"}}
    lab.apply(described)
    monkeypatch.setattr(Session, "lacks", lambda _session, service: service == "wafv2" and not has_it)
    lab.every_kind = True
    stack = lab.stack(described, state="absent", unprotect=tuple(described))
    lab.wire.behaviour = Unserved(nowhere)
    if has_it:
        with pytest.raises(ReadError, match="web_acl: cannot be read: wafv2:ListWebACLs: EndpointConnectionError"):
            stack.propose()
        return

    proposal = stack.propose()
    assert [node.address for node in proposal.plan.nodes] == ["log_group.main"]
    (notice,) = stack.notices(proposal)
    assert notice.startswith("web_acl: was not searched: eu-central-1 does not have its service (wafv2:ListWebACLs: ")

    lab.wire.behaviour = Unserved(lambda: Answer.error("AccessDeniedException", "not authorized"))
    with pytest.raises(ReadError, match="allow wafv2:ListWebACLs to the identity that runs this"):
        stack.propose()


def users(proposal: Proposal) -> Iterator[tuple[str, str]]:
    """Yield (user, dependency) for every reference by id, except in deferred properties."""
    words = {word: address for address, actual in proposal.actuals.items() for word in actual.words}
    for user, actual in proposal.actuals.items():
        deferred = proposal.description.kinds[user.partition(".")[0]].schema.deferred
        given = {name: value for name, value in actual.properties.items() if name not in deferred}
        for leaf in leaves(given):
            if isinstance(leaf, str) and words.get(leaf, user) != user:
                yield user, words[leaf]


def test_what_holds_data_stays_and_nothing_else_is_begun(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.apply(described)
    before = picture(lab.emulator)

    with pytest.raises(RefusedError) as caught:
        lab.run(described, state="absent")
    protected = {address for address in described if kind_class(address.partition(".")[0]).schema.protected}
    assert {fault.address for fault in caught.value.faults} == protected
    assert {"kms_key.data", "secretsmanager_secret.database", "s3_bucket.bronze"} <= protected
    assert all("set `protect: false` on it, or add" in str(fault) for fault in caught.value.faults)
    assert picture(lab.emulator) == before


class Strict(Behaviour):
    """Enforces a rule of AWS that the emulators lack: a subnet with network interfaces cannot be deleted."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def before(self, call: Call) -> Answer | None:
        if call.name != "ec2:DeleteSubnet":
            return None
        inside = [{"Name": "subnet-id", "Values": [call.parameters["SubnetId"]]}]
        found = self.lab.client("ec2").describe_network_interfaces(Filters=inside)["NetworkInterfaces"]
        message = f"The subnet '{call.parameters['SubnetId']}' has dependencies and cannot be deleted."
        return Answer.error("DependencyViolation", message) if found else None


@pytest.mark.emulators("moto")  # ministack returns every interface, for any requested subnet.
def test_an_interface_of_somebody_else_is_named_and_holds_only_what_it_is_in(lab: Lab) -> None:
    network = {address: item for address, item in foundation(lab.emulator).items() if _is_plain_network(address)}
    ran = lab.apply(network)
    ec2 = lab.client("ec2")
    made = ec2.create_network_interface(SubnetId=ran.id("subnet.private-a"), Description="of somebody else")
    foreign = made["NetworkInterface"]["NetworkInterfaceId"]
    lab.wire.behaviour = Strict(lab)

    report = lab.run(network, state="absent").report
    outcomes = {result.address: result.outcome for result in report.results}
    assert outcomes.pop("subnet.private-a") == "failed"
    assert outcomes.pop("vpc.main") == "skipped"
    assert set(outcomes.values()) == {"done"}, failures(report)
    failed = report.result("subnet.private-a")
    assert foreign in failed.message
    assert "of somebody else" in failed.message
    assert failed.id == ran.id("subnet.private-a")
    assert report.result("vpc.main").message == "subnet.private-a failed"
    assert "ec2:DeleteNetworkInterface" not in lab.wire.names()

    ec2.delete_network_interface(NetworkInterfaceId=foreign)
    lab.destroy(network)
    assert owned(lab) == []


def _is_plain_network(address: str) -> bool:
    return address.startswith(("vpc.", "subnet.", "internet_gateway.", "security_group.", "route_table.public"))


def test_what_is_deleted_by_hand_in_the_meantime_is_no_failure(lab: Lab) -> None:
    described = foundation(lab.emulator)
    ran = lab.apply(described)
    stack = lab.stack(described, state="absent", unprotect=tuple(described))
    proposal = stack.propose()
    by_hand(lab, {address: ran.id(address) for address in described})

    report = stack.apply(proposal)
    assert report.complete, failures(report)
    assert [line.partition(" ")[0] for line in owned(lab)] == ["key"]


def by_hand(lab: Lab, ids: Mapping[str, str]) -> None:
    """Delete some resources manually, between plan and destruction."""
    lab.client("glue").delete_crawler(Name=ids["glue_crawler.bronze"])
    lab.client("logs").delete_log_group(logGroupName=ids["log_group.crawler"])
    lab.client("s3").delete_bucket(Bucket=ids["s3_bucket.bronze"])
    lab.client("secretsmanager").delete_secret(SecretId=ids["secretsmanager_secret.database"])
    lab.client("ec2").delete_nat_gateway(NatGatewayId=ids["nat_gateway.main"])
