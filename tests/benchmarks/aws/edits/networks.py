# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.aws.edits.hand import Edit, Hand, document, listed


def of_vpc(hand: Hand, address: str) -> Iterator[Edit]:
    for path, parameter in (
        ("enable_dns_support", "EnableDnsSupport"),
        ("enable_dns_hostnames", "EnableDnsHostnames"),
    ):
        off, on = {parameter: {"Value": False}}, {parameter: {"Value": True}}
        yield hand.switch(address, path, ("ec2", "modify_vpc_attribute"), {"VpcId": hand.id(address)}, off, on)


def of_subnet(hand: Hand, address: str) -> Iterator[Edit]:
    own = bool(hand.described[address].get("map_public_ip_on_launch"))
    yield hand.switch(
        address,
        "map_public_ip_on_launch",
        ("ec2", "modify_subnet_attribute"),
        {"SubnetId": hand.id(address)},
        {"MapPublicIpOnLaunch": {"Value": not own}},
        {"MapPublicIpOnLaunch": {"Value": own}},
    )


def of_internet_gateway(hand: Hand, address: str) -> Iterator[Edit]:
    fixed = {"InternetGatewayId": hand.id(address), "VpcId": hand.id("vpc.main")}
    detach, attach = (hand.call("ec2", f"{verb}_internet_gateway", **fixed) for verb in ("detach", "attach"))
    yield Edit(address, "vpc_id", detach, attach)


def of_route_table(hand: Hand, address: str) -> Iterator[Edit]:
    route = {"RouteTableId": hand.id(address), "DestinationCidrBlock": "192.168.0.0/16"}
    added = hand.call("ec2", "create_route", GatewayId=hand.id("internet_gateway.main"), **route)
    yield Edit(address, "routes", added, hand.call("ec2", "delete_route", **route))
    for reference in hand.described[address]["subnet_ids"]:
        yield _association(hand, address, reference.removeprefix("${").removesuffix(".id}"))


def _association(hand: Hand, address: str, subnet: str) -> Edit:
    table = hand.id(address)

    def disassociate() -> None:
        ec2 = hand.client("ec2")
        associations = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"][0]["Associations"]
        found = {item.get("SubnetId"): item["RouteTableAssociationId"] for item in associations}
        ec2.disassociate_route_table(AssociationId=found[hand.id(subnet)])

    associate = hand.call("ec2", "associate_route_table", RouteTableId=table, SubnetId=hand.id(subnet))
    return Edit(address, "subnet_ids", disassociate, associate)


def of_vpc_endpoint(hand: Hand, address: str) -> Iterator[Edit]:
    call, fixed = ("ec2", "modify_vpc_endpoint"), {"VpcEndpointId": hand.id(address)}
    for number in (1, 2, 3):
        table = [hand.id(f"route_table.private-{number}")]
        removed, added = {"RemoveRouteTableIds": table}, {"AddRouteTableIds": table}
        yield hand.switch(address, "route_table_ids", call, fixed, removed, added)
    found = hand.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[hand.id(address)])["VpcEndpoints"][0]
    other, own = (
        {"PolicyDocument": document("s3:GetObject", Principal="*")},
        {"PolicyDocument": found["PolicyDocument"]},
    )
    yield hand.switch(address, "policy", call, fixed, other, own)


def of_security_group(hand: Hand, address: str) -> Iterator[Edit]:
    foreign = {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "somebody's"}],
    }
    group = hand.client("ec2").describe_security_groups(GroupIds=[hand.id(address)])["SecurityGroups"][0]
    for direction, key in (("ingress", "IpPermissions"), ("egress", "IpPermissionsEgress")):
        authorize, revoke = f"authorize_security_group_{direction}", f"revoke_security_group_{direction}"
        yield _rules(hand, address, direction, (authorize, revoke), [foreign])
        for rule in map(listed, group[key]):
            yield _rules(hand, address, direction, (revoke, authorize), [rule])


def _rules(
    hand: Hand, address: str, path: str, operations: tuple[str, str], rules: Sequence[Mapping[str, Any]]
) -> Edit:
    fixed = {"GroupId": hand.id(address), "IpPermissions": rules}
    make, undo = (hand.call("ec2", operation, **fixed) for operation in operations)
    return Edit(address, path, make, undo)
