# SPDX-License-Identifier: GPL-3.0-or-later
"""Route tables: routes and subnets as sets, and foreign elements in them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab, ec2_tags
from tests.integration.aws.test_network import NETWORK, SUBNET, VPC, Losing
from tests.integration.aws.test_network_gateways import GATEWAY, NAT, WAY_OUT
from tests.integration.aws.wire import Answer, Behaviour, Call

OTHER_SUBNET = {**SUBNET, "cidr_block": "10.0.2.0/24"}
ROUTED: dict[str, dict[str, Any]] = {**NETWORK, "subnet.b": OTHER_SUBNET, "internet_gateway.main": GATEWAY}
DEFAULT = {"destination_cidr_block": "0.0.0.0/0", "gateway_id": "${internet_gateway.main.id}"}
ELSEWHERE = {"destination_cidr_block": "192.168.0.0/16", "gateway_id": "${internet_gateway.main.id}"}
TABLE = {"vpc_id": "${vpc.main.id}", "routes": [DEFAULT], "subnet_ids": ["${subnet.a.id}"]}


def remove_table(lab: Lab, id_: str) -> None:
    ec2 = lab.client("ec2")
    for association in ec2.describe_route_tables(RouteTableIds=[id_])["RouteTables"][0]["Associations"]:
        ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
    ec2.delete_route_table(RouteTableId=id_)


def test_a_route_table_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "route_table.main",
        TABLE,
        {**ROUTED, "vpc.other": {"cidr_block": "10.1.0.0/16"}},
        changes={
            "routes": [DEFAULT, ELSEWHERE],
            "subnet_ids": ["${subnet.a.id}", "${subnet.b.id}"],
            "fewer": {"routes": [ELSEWHERE], "subnet_ids": ["${subnet.b.id}"]},
            "none": {"routes": [], "subnet_ids": []},
            "vpc_id": "${vpc.other.id}",
        },
        replaces=["vpc_id"],
        vanish=remove_table,
        edit_tags=ec2_tags,
    )


@pytest.mark.emulators("moto")  # The other does not return the address of a NAT gateway.
def test_a_route_is_redirected_without_being_taken_away(lab: Lab) -> None:
    described = {**ROUTED, **WAY_OUT, "nat_gateway.main": NAT, "route_table.main": TABLE}
    lab.apply(described)
    redirected = {"destination_cidr_block": "0.0.0.0/0", "nat_gateway_id": "${nat_gateway.main.id}"}
    described["route_table.main"] = {**TABLE, "routes": [redirected]}

    assert lab.apply(described).mutating == ["ec2:ReplaceRoute"]
    lab.assert_unchanged(described)


def test_routes_added_and_removed_by_hand_are_found_and_put_right(lab: Lab) -> None:
    described = {**ROUTED, "route_table.main": TABLE}
    ran = lab.apply(described)
    ec2, table = lab.client("ec2"), ran.id("route_table.main")
    ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    ec2.create_route(
        RouteTableId=table, DestinationCidrBlock="172.16.0.0/12", GatewayId=ran.id("internet_gateway.main")
    )

    change = lab.plan(described).node("route_table.main").changes[0]
    assert [route["destination_cidr_block"] for route in change.before] == ["172.16.0.0/12"]
    assert sorted(lab.apply(described).mutating) == ["ec2:CreateRoute", "ec2:DeleteRoute"]
    lab.assert_unchanged(described)


def test_routes_where_none_are_described_are_removed(lab: Lab) -> None:
    described = {**ROUTED, "route_table.main": {"vpc_id": "${vpc.main.id}"}}
    ran = lab.apply(described)
    lab.client("ec2").create_route(
        RouteTableId=ran.id("route_table.main"),
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId=ran.id("internet_gateway.main"),
    )

    assert lab.apply(described).mutating == ["ec2:DeleteRoute"]


class Elsewhere(Behaviour):
    """Adds routes to a route table that the stack did not write."""

    FOREIGN = (
        {"DestinationPrefixListId": "pl-6ea54007", "GatewayId": "vpce-0aaa", "Origin": "CreateRoute"},
        {"DestinationCidrBlock": "10.8.0.0/16", "GatewayId": "vgw-0bbb", "Origin": "EnableVgwRoutePropagation"},
        {"DestinationIpv6CidrBlock": "2001:db8::/56", "GatewayId": "local", "Origin": "CreateRouteTable"},
        {"DestinationCidrBlock": "10.7.0.0/16", "NetworkInterfaceId": "eni-0ccc", "Origin": "Advertisement"},
    )

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != "DescribeRouteTables":
            return None
        tables = [
            {**table, "Routes": [*table["Routes"], *({**route, "State": "active"} for route in self.FOREIGN)]}
            for table in answer["RouteTables"]
        ]
        return Answer({"RouteTables": tables})


def test_local_propagated_and_endpoint_routes_are_left_alone(lab: Lab) -> None:
    described = {**ROUTED, "route_table.main": TABLE}
    lab.apply(described)
    lab.wire.behaviour = Elsewhere()

    lab.assert_unchanged(described)


class Associated(Behaviour):
    """Refuses a second route table for a subnet, as AWS does and the emulators do not."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def before(self, call: Call) -> Answer | None:
        if call.operation != "AssociateRouteTable":
            return None
        filters = [{"Name": "association.subnet-id", "Values": [call.parameters["SubnetId"]]}]
        found = self.lab.client("ec2").describe_route_tables(Filters=filters)["RouteTables"]
        return Answer.error("Resource.AlreadyAssociated", "conflicts with an existing association") if found else None


def test_a_subnet_moves_from_one_table_to_another(lab: Lab) -> None:
    bare = {"vpc_id": "${vpc.main.id}"}
    described = {**ROUTED, "route_table.one": {**bare, "subnet_ids": ["${subnet.a.id}"]}, "route_table.two": bare}
    lab.apply(described)
    lab.wire.behaviour = Associated(lab)
    described |= {"route_table.one": bare, "route_table.two": {**bare, "subnet_ids": ["${subnet.a.id}"]}}

    ran = lab.run(described)

    assert ran.report.complete
    lab.assert_unchanged(described)


class LetGo(Behaviour):
    """Refuses the first association, as if the other table released the subnet right after it."""

    def __init__(self) -> None:
        self.refused = 0

    def before(self, call: Call) -> Answer | None:
        if call.operation != "AssociateRouteTable" or self.refused == 2:
            return None
        self.refused += 1
        return Answer.error("Resource.AlreadyAssociated", "conflicts with an existing association")


def test_a_subnet_that_another_table_lets_go_of_meanwhile_is_associated(lab: Lab) -> None:
    lab.apply(ROUTED)
    lab.wire.behaviour = letting_go = LetGo()
    described = {**ROUTED, "route_table.main": TABLE}

    ran = lab.run(described)

    assert ran.report.complete
    assert letting_go.refused == 2
    lab.assert_unchanged(described)


def test_a_subnet_that_uses_a_foreign_table_is_taken_in_one_step(lab: Lab) -> None:
    ran = lab.apply(ROUTED)
    ec2 = lab.client("ec2")
    foreign = ec2.create_route_table(VpcId=ran.id("vpc.main"))["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=foreign, SubnetId=ran.id("subnet.a"))
    lab.wire.behaviour = Associated(lab)
    described = {**ROUTED, "route_table.main": TABLE}

    assert "ec2:ReplaceRouteTableAssociation" in lab.apply(described).mutating
    lab.assert_unchanged(described)


@pytest.mark.parametrize("operation", ["CreateRouteTable", "CreateRoute", "AssociateRouteTable"])
def test_a_lost_answer_makes_nothing_twice(lab: Lab, operation: str) -> None:
    described = {**ROUTED, "route_table.main": TABLE}
    lab.wire.behaviour = losing = Losing(operation)

    lab.apply(described)

    assert losing.lost == 1
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(described)
    ours = [{"Name": "tag:lakehouse:stack", "Values": ["lake/development"]}]
    assert len(lab.client("ec2").describe_route_tables(Filters=ours)["RouteTables"]) == 1


def test_a_table_of_the_same_name_is_taken_over_only_when_told_to(lab: Lab) -> None:
    ran = lab.apply(ROUTED)
    ec2 = lab.client("ec2")
    foreign = ec2.create_route_table(VpcId=ran.id("vpc.main"))["RouteTable"]["RouteTableId"]
    ec2.create_tags(Resources=[foreign], Tags=[{"Key": "Name", "Value": "crypto-lakehouse-public"}])
    described = {**ROUTED, "route_table.main": {**TABLE, "tags": {"Name": "crypto-lakehouse-public"}}}

    with pytest.raises(RefusedError, match=f"exists as {foreign}"):
        lab.plan(described)
    assert lab.apply(described, adopt=True).id("route_table.main") == foreign
    lab.assert_unchanged(described)


def test_all_tables_are_read_with_one_call(lab: Lab) -> None:
    described = {**VPC, **{f"route_table.n{n}": {"vpc_id": "${vpc.main.id}"} for n in range(5)}}
    lab.apply(described)

    lab.wire.calls.clear()
    lab.plan(described)

    assert lab.wire.names().count("ec2:DescribeRouteTables") == 1
