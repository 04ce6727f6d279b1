# SPDX-License-Identifier: GPL-3.0-or-later
"""Internet gateways, elastic addresses and NAT gateways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab, ec2_tags, failures
from tests.integration.aws.test_network import NETWORK, SUBNET, VPC, Losing, Refusing
from tests.integration.aws.wire import Answer, Behaviour, Call, Scripted

GATEWAY = {"vpc_id": "${vpc.main.id}"}
NAT = {"subnet_id": "${subnet.a.id}", "allocation_id": "${elastic_ip.one.id}"}
WAY_OUT: dict[str, dict[str, Any]] = {**NETWORK, "internet_gateway.main": GATEWAY, "elastic_ip.one": {}}


def remove_gateway(lab: Lab, id_: str) -> None:
    ec2 = lab.client("ec2")
    found = ec2.describe_internet_gateways(InternetGatewayIds=[id_])["InternetGateways"][0]
    for attachment in found["Attachments"]:
        ec2.detach_internet_gateway(InternetGatewayId=id_, VpcId=attachment["VpcId"])
    ec2.delete_internet_gateway(InternetGatewayId=id_)


def test_an_internet_gateway_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "internet_gateway.main",
        GATEWAY,
        {**VPC, "vpc.other": {"cidr_block": "10.1.0.0/16"}},
        changes={"vpc_id": "${vpc.other.id}", "detached": {"vpc_id": None}, "attached": GATEWAY},
        vanish=remove_gateway,
        edit_tags=ec2_tags,
    )


def test_a_gateway_that_a_crash_left_unattached_is_attached(lab: Lab) -> None:
    described = {**VPC, "internet_gateway.main": GATEWAY}
    lab.wire.behaviour = Refusing("AttachInternetGateway", "UnauthorizedOperation")
    assert lab.run(described).report.result("internet_gateway.main").outcome == "failed"

    lab.wire.behaviour = Behaviour()
    ran = lab.apply(described)

    assert ran.mutating == ["ec2:AttachInternetGateway"]
    lab.assert_unchanged(described)


@pytest.mark.parametrize("operation", ["CreateInternetGateway", "AttachInternetGateway", "AllocateAddress"])
def test_a_lost_answer_makes_nothing_twice(lab: Lab, operation: str) -> None:
    described = {**VPC, "internet_gateway.main": GATEWAY, "elastic_ip.one": {}}
    lab.wire.behaviour = losing = Losing(operation)

    lab.apply(described)

    assert losing.lost == 1
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(described)
    ec2 = lab.client("ec2")
    ours = [{"Name": "tag:lakehouse:stack", "Values": ["lake/development"]}]
    assert len(ec2.describe_internet_gateways(Filters=ours)["InternetGateways"]) == 1
    assert len(ec2.describe_addresses(Filters=ours)["Addresses"]) == 1


def test_a_gateway_is_detached_when_the_last_public_address_is_gone(lab: Lab) -> None:
    described = {**VPC, "internet_gateway.main": GATEWAY}
    lab.apply(described)
    left = iter([True, True, False])
    lab.wire.behaviour = refusing = Refusing("DetachInternetGateway", "DependencyViolation", lambda: next(left))

    lab.destroy(described)

    assert refusing.refused == 2


def test_a_gateway_that_the_vpc_has_already_is_taken_over_only_when_told_to(lab: Lab) -> None:
    vpc_id = lab.apply(VPC).id("vpc.main")
    ec2 = lab.client("ec2")
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc_id)
    described = {**VPC, "internet_gateway.main": GATEWAY}

    with pytest.raises(RefusedError, match=f"exists as {gateway}"):
        lab.plan(described)
    assert lab.apply(described, adopt=True).id("internet_gateway.main") == gateway
    lab.assert_unchanged(described)


class Occupied(Behaviour):
    """A VPC refuses a second gateway, as on AWS: a new gateway arrives before the old one is detached."""

    def __init__(self, times: int) -> None:
        self.times = times

    def before(self, call: Call) -> Answer | None:
        if call.operation != "AttachInternetGateway" or self.times == 0:
            return None
        self.times -= 1
        message = f"Network {call.parameters['VpcId']} already has an internet gateway attached"
        return Answer.error("InvalidParameterValue", message)


def test_two_gateways_change_places_in_one_run(lab: Lab) -> None:
    vpcs = {f"vpc.{name}": {"cidr_block": f"10.{number}.0.0/16"} for number, name in enumerate("ab")}
    before = {f"internet_gateway.{name}": {"vpc_id": f"${{vpc.{name}.id}}"} for name in "ab"}
    after = {f"internet_gateway.{name}": {"vpc_id": f"${{vpc.{other}.id}}"} for name, other in ("ab", "ba")}
    lab.apply({**vpcs, **before})
    lab.wire.behaviour = Occupied(3)
    lab.apply({**vpcs, **after})
    lab.assert_unchanged({**vpcs, **after})


def test_an_elastic_address_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "elastic_ip.one",
        {},
        changes={},
        vanish=lambda lab, id_: lab.client("ec2").release_address(AllocationId=id_),
        edit_tags=ec2_tags,
    )


def test_an_address_that_is_still_in_use_says_by_whom(lab: Lab) -> None:
    described: dict[str, dict[str, Any]] = {"elastic_ip.one": {}}
    id_ = lab.apply(described).id("elastic_ip.one")
    found = {"AllocationId": id_, "PublicIp": "203.0.113.7", "NetworkInterfaceId": "eni-0aaa"}

    class Used(Refusing):
        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            is_look = call.operation == "DescribeAddresses" and "AllocationIds" in call.parameters
            return Answer({"Addresses": [found]}) if is_look else None

    lab.wire.behaviour = Used("ReleaseAddress", "InvalidIPAddress.InUse")
    message = lab.run(described, state="absent").report.result("elastic_ip.one").message
    assert f"elastic_ip.one ({id_}) cannot be deleted, this still uses it: network interface eni-0aaa" in message


# ministack does not return the address of a NAT gateway, and moto's keeps its address after its deletion.
@pytest.mark.emulators("moto")
def test_a_nat_gateway_goes_through_its_life(lab: Lab) -> None:
    prerequisites = {**WAY_OUT, "subnet.b": {**SUBNET, "cidr_block": "10.0.2.0/24"}, "elastic_ip.two": {}}
    lab.assert_matrix(
        "nat_gateway.main",
        NAT,
        prerequisites,
        changes={
            "moved": {"subnet_id": "${subnet.b.id}", "allocation_id": "${elastic_ip.two.id}"},
            "private": {"connectivity_type": "private", "allocation_id": None},
        },
        replaces=["moved", "private"],
        vanish=lambda lab, id_: lab.client("ec2").delete_nat_gateway(NatGatewayId=id_),
        edit_tags=ec2_tags,
    )


@pytest.mark.emulators("moto")  # The other does not return the address of a NAT gateway.
def test_a_nat_gateway_whose_answer_is_lost_is_found_again(lab: Lab) -> None:
    described = {**WAY_OUT, "nat_gateway.main": NAT}
    lab.wire.behaviour = Losing("CreateNatGateway")

    ran = lab.apply(described)

    assert ran.mutating.count("ec2:CreateNatGateway") == 1
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(described)


class NatService:
    """NAT gateways with the behaviour of AWS: asynchronous, with tokens, visible for an hour after their deletion."""

    def __init__(self, *fates: str) -> None:
        self.fates = list(fates)
        self.gateways: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.looks = 0

    def create(self, **given: Any) -> Mapping[str, Any]:
        id_ = self.tokens.setdefault(given["ClientToken"], f"nat-{len(self.tokens)}")
        if id_ not in self.gateways:
            self.gateways[id_] = {
                "NatGatewayId": id_,
                "SubnetId": given["SubnetId"],
                "State": "pending",
                "ConnectivityType": given["ConnectivityType"],
                "Tags": given["TagSpecifications"][0]["Tags"],
                "NatGatewayAddresses": [{"AllocationId": given["AllocationId"], "PublicIp": "203.0.113.7"}],
            }
        return {"NatGateway": self.gateways[id_], "ClientToken": given["ClientToken"]}

    def describe(self, NatGatewayIds: list[str] | None = None, **_filters: Any) -> Mapping[str, Any]:  # noqa: N803
        self.looks += 1
        for gateway in self.gateways.values():
            if NatGatewayIds and gateway["State"] == "pending" and self.looks % 3 == 0:
                gateway["State"] = self.fates.pop(0)
                if gateway["State"] == "failed":
                    gateway["FailureCode"] = "Gateway.NotAttached"
                    gateway["FailureMessage"] = "Network vpc-1 has no Internet gateway attached"
            elif NatGatewayIds and gateway["State"] == "deleting" and self.looks % 3 == 0:
                gateway["State"] = "deleted"
        chosen = [item for id_, item in self.gateways.items() if NatGatewayIds is None or id_ in NatGatewayIds]
        return {"NatGateways": chosen}

    def delete(self, NatGatewayId: str) -> Mapping[str, Any]:  # noqa: N803
        self.gateways[NatGatewayId]["State"] = "deleting"
        return {"NatGatewayId": NatGatewayId}

    def script(self) -> Scripted:
        script: dict[str, Callable[..., Any]] = {
            "ec2:CreateNatGateway": self.create,
            "ec2:DescribeNatGateways": self.describe,
            "ec2:DeleteNatGateway": self.delete,
        }
        return Scripted(script, passing=True)


def states(service: NatService) -> list[str]:
    return [gateway["State"] for gateway in service.gateways.values()]


@pytest.mark.emulators("moto")  # The test provides the NAT gateways.
def test_a_nat_gateway_is_waited_for_and_its_end_as_well(lab: Lab) -> None:
    described = {**WAY_OUT, "nat_gateway.main": NAT}
    service = NatService("available")
    lab.wire.behaviour = service.script()

    ran = lab.apply(described)

    assert ran.outputs("nat_gateway.main")["public_ip"] == "203.0.113.7"
    lab.assert_unchanged(described)
    lab.destroy(described)
    assert states(service) == ["deleted"]


@pytest.mark.emulators("moto")  # The test provides the NAT gateways.
def test_a_nat_gateway_that_fails_says_why_and_the_next_run_makes_another(lab: Lab) -> None:
    described = {**WAY_OUT, "nat_gateway.main": NAT}
    service = NatService("failed", "available")
    lab.wire.behaviour = service.script()

    report = lab.run(described).report
    assert "cannot become ready: Gateway.NotAttached: Network vpc-1 has no Internet gateway attached" in failures(
        report
    )
    ran = lab.apply(described)

    assert ran.plan.node("nat_gateway.main").action == "create"
    assert states(service) == ["deleted", "available"]
    lab.assert_unchanged(described)
