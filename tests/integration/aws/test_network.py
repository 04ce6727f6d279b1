# SPDX-License-Identifier: GPL-3.0-or-later
"""VPC and subnets: their lifecycle, obstacles of their deletion, and adoption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab, ec2_tags, failures
from tests.integration.aws.wire import Answer, Behaviour, Call, connection_reset

VPC = {"vpc.main": {"cidr_block": "10.0.0.0/16"}}
SUBNET = {"vpc_id": "${vpc.main.id}", "cidr_block": "10.0.1.0/24", "availability_zone": "eu-central-1a"}
NETWORK: dict[str, dict[str, Any]] = {**VPC, "subnet.a": SUBNET}


class Refusing(Behaviour):
    """Refuses a call with a code while `while_true` returns true."""

    def __init__(self, operation: str, code: str, while_true: Callable[[], bool] = lambda: True) -> None:
        self.operation, self.code, self.while_true = operation, code, while_true
        self.refused = 0

    def before(self, call: Call) -> Answer | None:
        if call.operation == self.operation and self.while_true():
            self.refused += 1
            return Answer.error(self.code, "has dependencies and cannot be deleted")
        return None


class Losing(Behaviour):
    """Loses the answer to the first call of an operation, after its effect."""

    def __init__(self, operation: str) -> None:
        self.operation, self.lost = operation, 0

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation == self.operation and not self.lost:
            self.lost += 1
            raise connection_reset()
        return None


def interface(lab: Lab, subnet_id: str, description: str, *groups: str) -> str:
    """Create a network interface outside of the stack."""
    chosen = {"Groups": list(groups)} if groups else {}
    made = lab.client("ec2").create_network_interface(SubnetId=subnet_id, Description=description, **chosen)
    return str(made["NetworkInterface"]["NetworkInterfaceId"])


def test_a_vpc_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "vpc.main",
        {"cidr_block": "10.0.0.0/16"},
        changes={"enable_dns_hostnames": False, "enable_dns_support": False, "cidr_block": "10.1.0.0/16"},
        replaces=["cidr_block"],
        vanish=lambda lab, id_: lab.client("ec2").delete_vpc(VpcId=id_),
        edit_tags=ec2_tags,
    )


def test_a_subnet_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "subnet.a",
        SUBNET,
        {**VPC, "vpc.other": {"cidr_block": "10.0.0.0/16"}},
        changes={
            "map_public_ip_on_launch": True,
            "cidr_block": "10.0.2.0/24",
            "availability_zone": "eu-central-1b",
            "vpc_id": "${vpc.other.id}",
        },
        replaces=["cidr_block", "availability_zone", "vpc_id"],
        vanish=lambda lab, id_: lab.client("ec2").delete_subnet(SubnetId=id_),
        edit_tags=ec2_tags,
    )


@pytest.mark.parametrize(("operation", "address"), [("CreateVpc", "vpc.main"), ("CreateSubnet", "subnet.a")])
def test_a_create_whose_answer_is_lost_is_found_again(lab: Lab, operation: str, address: str) -> None:
    lab.wire.behaviour = losing = Losing(operation)

    ran = lab.apply(NETWORK)

    assert losing.lost == 1
    assert [name for name in ran.mutating if name == f"ec2:{operation}"] == [f"ec2:{operation}"]
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(NETWORK)


def test_a_replacement_whose_answer_is_lost_is_not_taken_for_what_it_replaces(lab: Lab) -> None:
    before = lab.apply(VPC).id("vpc.main")
    lab.wire.behaviour = Losing("CreateVpc")
    replaced = {"vpc.main": {"cidr_block": "10.9.0.0/16"}}

    ran = lab.apply(replaced)

    assert ran.id("vpc.main") != before
    assert ran.mutating.count("ec2:CreateVpc") == 1
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(replaced)


def test_a_subnet_waits_for_the_interfaces_of_a_load_balancer_that_is_going(lab: Lab) -> None:
    subnet_id = lab.apply(NETWORK).id("subnet.a")
    left = [interface(lab, subnet_id, f"ELB app/lake/{number}") for number in range(3)]

    def one_goes() -> bool:
        if left:
            lab.client("ec2").delete_network_interface(NetworkInterfaceId=left.pop())
        return bool(left)

    lab.wire.behaviour = refusing = Refusing("DeleteSubnet", "DependencyViolation", one_goes)
    lab.destroy(NETWORK)
    assert refusing.refused == 2


@pytest.mark.parametrize(("operation", "address"), [("DeleteSubnet", "subnet.a"), ("DeleteVpc", "vpc.main")])
def test_what_stays_in_use_is_named_with_its_description_and_owner(lab: Lab, operation: str, address: str) -> None:
    subnet_id = lab.apply(NETWORK).id("subnet.a")
    foreign = interface(lab, subnet_id, "ELB app/k8s-lake/50dc6c495c0c9188")
    lab.wire.behaviour = refusing = Refusing(operation, "DependencyViolation")

    report = lab.run(NETWORK, state="absent").report

    failed = report.result(address)
    assert failed.outcome == "failed"
    assert f'network interface {foreign} "ELB app/k8s-lake/50dc6c495c0c9188" of {lab.emulator.account_id}' in (
        failed.message
    )
    assert "delete these or their owners, and run this again" in failed.message
    # Five minutes without a change, at increasing intervals.
    assert 20 <= refusing.refused <= 30


def test_a_vpc_names_what_else_is_in_it(lab: Lab) -> None:
    vpc_id = lab.apply(VPC).id("vpc.main")
    group = lab.client("ec2").create_security_group(GroupName="k8s-elb", Description="of a controller", VpcId=vpc_id)
    table = lab.client("ec2").create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    lab.wire.behaviour = Refusing("DeleteVpc", "DependencyViolation")

    message = lab.run(VPC, state="absent").report.result("vpc.main").message

    assert f'security group {group["GroupId"]} "k8s-elb"' in message
    assert f"route table {table}" in message
    assert '"default"' not in message
    assert message.count("route table") == 1


def test_somebody_who_may_not_look_around_reads_the_words_of_aws(lab: Lab) -> None:
    lab.apply(NETWORK)

    class Denied(Refusing):
        def before(self, call: Call) -> Answer | None:
            if call.operation == "DescribeNetworkInterfaces":
                return Answer.error("UnauthorizedOperation", "You are not authorized", 403)
            return super().before(call)

    lab.wire.behaviour = Denied("DeleteSubnet", "DependencyViolation")
    message = lab.run(NETWORK, state="absent").report.result("subnet.a").message
    assert "cannot be deleted: ec2:DeleteSubnet: DependencyViolation: has dependencies" in message


def test_a_refused_call_names_the_action_to_allow(lab: Lab) -> None:
    lab.wire.behaviour = Refusing("CreateSubnet", "UnauthorizedOperation")

    report = lab.run(NETWORK).report

    assert "allow ec2:CreateSubnet to the identity that runs this" in failures(report)
    assert report.result("vpc.main").outcome == "done"


def test_a_network_that_somebody_else_made_is_taken_over_only_when_told_to(lab: Lab) -> None:
    ec2 = lab.client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc_id], Tags=[{"Key": "Name", "Value": "crypto-lakehouse-vpc"}])
    made = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24", AvailabilityZone="eu-central-1a")
    described = {
        "vpc.main": {"cidr_block": "10.0.0.0/16", "tags": {"Name": "crypto-lakehouse-vpc"}},
        "subnet.a": SUBNET,
    }

    with pytest.raises(RefusedError, match="set `adopt: true` on it to adopt it"):
        lab.plan(described)
    ran = lab.apply(described, adopt=True)

    assert {node.address: node.action for node in ran.plan.nodes} == {"vpc.main": "adopt", "subnet.a": "adopt"}
    assert (ran.id("vpc.main"), ran.id("subnet.a")) == (vpc_id, made["Subnet"]["SubnetId"])
    lab.assert_unchanged(described)


def test_two_environments_have_the_same_network_in_one_account(lab: Lab) -> None:
    described = {
        "vpc.main": {"cidr_block": "10.0.0.0/16", "tags": {"Name": "crypto-lakehouse-vpc"}},
        "subnet.a": SUBNET,
    }
    staging = lab.other(environment="staging")

    one, other = lab.apply(described), staging.apply(described)

    assert one.id("vpc.main") != other.id("vpc.main")
    staging.destroy(described)
    lab.assert_unchanged(described)


def test_a_subnet_of_another_environment_is_refused(lab: Lab) -> None:
    vpc_id = lab.apply(NETWORK).id("vpc.main")

    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'development'"):
        lab.other(environment="staging").plan({"subnet.a": {**SUBNET, "vpc_id": vpc_id}}, adopt=True)


def test_tags_of_a_clusters_controllers_are_left_alone(lab: Lab) -> None:
    subnet_id = lab.apply(NETWORK).id("subnet.a")
    tags = [{"Key": "kubernetes.io/cluster/lake", "Value": "shared"}]
    lab.client("ec2").create_tags(Resources=[subnet_id], Tags=tags)

    lab.assert_unchanged(NETWORK)


def test_all_subnets_are_read_with_one_call_for_their_zones_and_one_for_the_rest(lab: Lab) -> None:
    described = {**VPC, **{f"subnet.n{n}": {**SUBNET, "cidr_block": f"10.0.{n}.0/24"} for n in range(1, 10)}}
    lab.apply(described)

    lab.wire.calls.clear()
    lab.plan(described)

    assert lab.wire.names().count("ec2:DescribeSubnets") == 2
    assert "ec2:DescribeAvailabilityZones" not in lab.wire.names()
