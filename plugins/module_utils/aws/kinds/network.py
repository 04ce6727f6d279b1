# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks: VPC and subnets."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Property, Schema
from ...engine.value import is_known
from ..ec2 import (
    ARN,
    ID,
    INTERNET_GATEWAYS,
    NAT_GATEWAYS,
    ROUTE_TABLES,
    SECURITY_GROUPS,
    SUBNETS,
    VPC_ENDPOINTS,
    VPCS,
    Describe,
    delete_unused,
    first,
    interface_users,
    name_tag,
    resource_arn,
    tag_specifications,
    write_tags,
)
from ..kind import TAGS, Actions, AwsKind, owner_of, property_tags, tag_map

_NEW_VPC = ("InvalidVpcID.NotFound",)
_NEW_SUBNET = ("InvalidSubnetID.NotFound",)
# Resources in a VPC other than network interfaces, and the filter of each.
_HELD: Mapping[str, tuple[Describe, str, str]] = {
    "subnet": (SUBNETS, "vpc-id", "SubnetId"),
    "security group": (SECURITY_GROUPS, "vpc-id", "GroupId"),
    "route table": (ROUTE_TABLES, "vpc-id", "RouteTableId"),
    "internet gateway": (INTERNET_GATEWAYS, "attachment.vpc-id", "InternetGatewayId"),
    "NAT gateway": (NAT_GATEWAYS, "vpc-id", "NatGatewayId"),
    "endpoint": (VPC_ENDPOINTS, "vpc-id", "VpcEndpointId"),
}


# Source: "VPC CIDR blocks" in the Amazon VPC user guide.
_REFUSED_NETWORKS = tuple(map(ipaddress.IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4")))


def cidr_block(value: str) -> str | None:
    """Return the problem of the IPv4 network of a VPC or a subnet, or None."""
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        return f"{value!r} is not an IPv4 network: {error}"
    if not 16 <= network.prefixlen <= 28:
        return f"{value!r} is too {'large' if network.prefixlen < 16 else 'small'}: AWS accepts /16 to /28"
    if any(map(network.overlaps, _REFUSED_NETWORKS)):
        return f"{value!r} is reserved, and AWS accepts none of {', '.join(map(str, _REFUSED_NETWORKS))}"
    return None


class Vpc(AwsKind):
    """A virtual private cloud."""

    name = "vpc"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    schema = Schema(
        {
            "cidr_block": Property(required=True, replace=True, check=cidr_block, purpose="IPv4 network."),
            "enable_dns_support": Property(
                "boolean", default=True, purpose="Whether to enable the DNS resolver of AWS."
            ),
            "enable_dns_hostnames": Property(
                "boolean", default=True, purpose="Whether to assign DNS names to instances."
            ),
            "tags": TAGS,
        },
        {"id": ID, "arn": ARN},
        replacement="create_first",
    )
    actions = Actions(
        read=("ec2:DescribeVpcs", "ec2:DescribeVpcAttribute"),
        create=("ec2:CreateVpc", "ec2:CreateTags", "ec2:ModifyVpcAttribute"),
        update=("ec2:ModifyVpcAttribute", "ec2:CreateTags", "ec2:DeleteTags"),
        delete=(
            "ec2:DeleteVpc",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeRouteTables",
            "ec2:DescribeInternetGateways",
            "ec2:DescribeNatGateways",
            "ec2:DescribeVpcEndpoints",
        ),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return self._actuals(VPCS.owned(self.session, owner))

    def lookalikes(self, subject: Subject) -> Sequence[Actual]:
        """Return the VPCs without owner with the same name and network. AWS allows several."""
        name, cidr = name_tag(subject), subject.desired["cidr_block"]
        if name is None or not is_known(cidr):
            return ()
        found = self._actuals(VPCS.matching(self.session, {"tag:Name": name, "cidr": cidr}))
        return [actual for actual in found if actual.owner is None]

    def read(self, id_: str) -> Actual | None:
        vpc = VPCS.one(self.session, id_)
        return self._actual(vpc) if vpc else None

    def _actuals(self, vpcs: Sequence[Mapping[str, Any]]) -> list[Actual]:
        return [actual for actual in self.session.each(self._actual, vpcs) if actual is not None]

    def _actual(self, vpc: Mapping[str, Any]) -> Actual | None:
        id_, tags = vpc["VpcId"], tag_map(vpc.get("Tags"))
        support, hostnames = self.session.each(
            lambda name: self.session.look("ec2", "describe_vpc_attribute", VPCS.absent, VpcId=id_, Attribute=name),
            ("enableDnsSupport", "enableDnsHostnames"),
        )
        if support is None or hostnames is None:
            return None
        properties = {
            "cidr_block": vpc["CidrBlock"],
            "enable_dns_support": support["EnableDnsSupport"]["Value"],
            "enable_dns_hostnames": hostnames["EnableDnsHostnames"]["Value"],
            "tags": property_tags(tags),
        }
        status = READY if vpc["State"] == "available" else vpc["State"]
        arn = resource_arn(self.session, f"vpc/{id_}")
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), status, (arn,))

    def create(self, request: Request) -> Actual:
        cidr = request.desired["cidr_block"]
        answer = self.session.call_once(
            "ec2",
            "create_vpc",
            lambda: first(VPCS.made(self.session, request.owner, {"cidr": cidr}), "Vpc"),
            CidrBlock=cidr,
            TagSpecifications=tag_specifications("vpc", request),
        )
        id_ = answer["Vpc"]["VpcId"]
        self._write_attributes(id_, request.desired)
        return Actual(id_, request.desired, {"id": id_}, request.owner, "pending")

    def _write_attributes(self, id_: str, wanted: Mapping[str, Any]) -> None:
        """Write the attributes one after the other: DNS hostnames require DNS support, and each call takes one."""
        for parameter, name in (
            ("EnableDnsSupport", "enable_dns_support"),
            ("EnableDnsHostnames", "enable_dns_hostnames"),
        ):
            if name in wanted:
                value = {parameter: {"Value": wanted[name]}}
                self.session.call("ec2", "modify_vpc_attribute", retry_on=_NEW_VPC, VpcId=id_, **value)

    def update(self, request: Request) -> Actual:
        changed = {name: value for name, value in request.desired.items() if request.changed(name) and name != "tags"}
        self._write_attributes(request.existing.id, changed)
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        delete_unused(self.session, request, "delete_vpc", lambda: self._users(id_), absent=VPCS.absent, VpcId=id_)

    def _users(self, id_: str) -> list[str]:
        """Return the resources in a VPC that AWS does not delete with it."""

        def held(noun: str) -> list[str]:
            describe, by, key = _HELD[noun]
            found = describe.matching(self.session, {by: id_})
            return [f"{noun} {item[key]}{_called(item)}" for item in found if not _belongs_to_vpc(item)]

        interfaces = interface_users(self.session, {"vpc-id": id_})
        return [*interfaces, *(user for users in self.session.each(held, _HELD) for user in users)]


def _belongs_to_vpc(item: Mapping[str, Any]) -> bool:
    """Return whether AWS created it with the VPC, or it is deleted but still listed."""
    is_main = any(association.get("Main") for association in item.get("Associations") or ())
    is_gone = str(item.get("State", "")).lower() == "deleted"
    return is_main or is_gone or item.get("GroupName") == "default"


def _called(item: Mapping[str, Any]) -> str:
    name = item.get("GroupName") or tag_map(item.get("Tags")).get("Name")
    return f' "{name}"' if name else ""


class Subnet(AwsKind):
    """A part of a VPC in one availability zone."""

    name = "subnet"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    schema = Schema(
        {
            "vpc_id": Property(required=True, replace=True, purpose="ID of the VPC."),
            "cidr_block": Property(
                required=True, replace=True, check=cidr_block, purpose="IPv4 network within that of the VPC."
            ),
            "availability_zone": Property(
                required=True, replace=True, purpose="Availability zone, such as `eu-central-1a`."
            ),
            "map_public_ip_on_launch": Property(
                "boolean", default=False, purpose="Whether to assign public addresses to instances."
            ),
            "tags": TAGS,
        },
        {"id": ID, "arn": ARN},
        unique_by=("vpc_id", "cidr_block"),
    )
    actions = Actions(
        read=("ec2:DescribeSubnets",),
        create=("ec2:CreateSubnet", "ec2:CreateTags", "ec2:ModifySubnetAttribute"),
        update=("ec2:ModifySubnetAttribute", "ec2:CreateTags", "ec2:DeleteTags"),
        delete=("ec2:DeleteSubnet", "ec2:DescribeNetworkInterfaces"),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return [_subnet(found) for found in SUBNETS.owned(self.session, owner)]

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the subnet with this network in this VPC, which is unique."""
        wanted = {"vpc-id": subject.desired["vpc_id"], "cidr-block": subject.desired["cidr_block"]}
        if not is_known(wanted):
            return LATER
        return [_subnet(found) for found in SUBNETS.matching(self.session, wanted)]

    def read(self, id_: str) -> Actual | None:
        found = SUBNETS.one(self.session, id_)
        return _subnet(found) if found else None

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        place = {"vpc-id": wanted["vpc_id"], "cidr-block": wanted["cidr_block"]}
        answer = self.session.call_once(
            "ec2",
            "create_subnet",
            lambda: first(SUBNETS.made(self.session, request.owner, place), "Subnet"),
            retry_on=_NEW_VPC,
            VpcId=wanted["vpc_id"],
            CidrBlock=wanted["cidr_block"],
            AvailabilityZone=wanted["availability_zone"],
            TagSpecifications=tag_specifications("subnet", request),
        )
        id_ = answer["Subnet"]["SubnetId"]
        if wanted["map_public_ip_on_launch"]:
            self._write_mapping(id_, wanted)
        return Actual(id_, wanted, {"id": id_}, request.owner, "pending")

    def _write_mapping(self, id_: str, wanted: Mapping[str, Any]) -> None:
        value = {"Value": wanted["map_public_ip_on_launch"]}
        self.session.call(
            "ec2", "modify_subnet_attribute", retry_on=_NEW_SUBNET, SubnetId=id_, MapPublicIpOnLaunch=value
        )

    def update(self, request: Request) -> Actual:
        if request.changed("map_public_ip_on_launch"):
            self._write_mapping(request.existing.id, request.desired)
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        delete_unused(
            self.session,
            request,
            "delete_subnet",
            lambda: interface_users(self.session, {"subnet-id": id_}),
            absent=SUBNETS.absent,
            SubnetId=id_,
        )


def _subnet(subnet: Mapping[str, Any]) -> Actual:
    id_, tags = subnet["SubnetId"], tag_map(subnet.get("Tags"))
    properties = {
        "vpc_id": subnet["VpcId"],
        "cidr_block": subnet["CidrBlock"],
        "availability_zone": subnet["AvailabilityZone"],
        "map_public_ip_on_launch": subnet["MapPublicIpOnLaunch"],
        "tags": property_tags(tags),
    }
    status = READY if subnet["State"] == "available" else subnet["State"]
    return Actual(
        id_, properties, {"id": id_, "arn": subnet["SubnetArn"]}, owner_of(tags), status, (subnet["SubnetArn"],)
    )
