# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks: VPC, subnets, gateways, routes, endpoints, flow logs."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.ec2 import (
    owned_filters,
    owner_filters,
    tag_specifications,
    write_tags,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import (
    TAGS,
    Actions,
    AwsKind,
    owner_of,
    property_tags,
    tag_map,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    READY,
    Actual,
    Owner,
    Request,
    Subject,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Output, Property, Schema
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import is_known

ID = Output("The id that AWS gave it.")


def cidr_block(value: str) -> str | None:
    """Say what is wrong with an IPv4 network, or return None."""
    try:
        ipaddress.IPv4Network(value)
    except ValueError as error:
        return f"{value!r} is not an IPv4 network: {error}"
    return None


class Vpc(AwsKind):
    """A virtual private cloud."""

    name = "vpc"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    schema = Schema(
        {
            "cidr_block": Property(required=True, replace=True, check=cidr_block, purpose="Its IPv4 network."),
            "enable_dns_support": Property("boolean", default=True, purpose="Whether the resolver of AWS answers."),
            "enable_dns_hostnames": Property("boolean", default=True, purpose="Whether instances get names."),
            "tags": TAGS,
        },
        {"id": ID},
        replacement="create_first",
    )
    actions = Actions(
        read=("ec2:DescribeVpcs", "ec2:DescribeVpcAttribute"),
        create=("ec2:CreateVpc", "ec2:CreateTags", "ec2:ModifyVpcAttribute"),
        update=("ec2:ModifyVpcAttribute", "ec2:CreateTags", "ec2:DeleteTags"),
        delete=("ec2:DeleteVpc", "ec2:DescribeNetworkInterfaces"),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return self._described(Filters=owned_filters(owner))

    def lookalikes(self, subject: Subject) -> Sequence[Actual]:
        name, cidr = (subject.desired.get("tags") or {}).get("Name"), subject.desired["cidr_block"]
        if not name or not is_known([name, cidr]):
            return ()
        wanted = {"tag:Name": name, "cidr": cidr}
        return self._described(Filters=[{"Name": key, "Values": [value]} for key, value in wanted.items()])

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("ec2", "describe_vpcs", ("InvalidVpcID.NotFound",), VpcIds=[id_])
        return next(iter(self.session.each(self._actual, answer["Vpcs"])), None) if answer else None

    def _described(self, **parameters: Any) -> list[Actual]:
        return self.session.each(self._actual, self.session.pages("ec2", "describe_vpcs", "Vpcs", **parameters))

    def _actual(self, vpc: Mapping[str, Any]) -> Actual:
        id_, tags = vpc["VpcId"], tag_map(vpc.get("Tags"))
        support, hostnames = self.session.each(
            lambda name: self.session.call("ec2", "describe_vpc_attribute", VpcId=id_, Attribute=name),
            ("enableDnsSupport", "enableDnsHostnames"),
        )
        properties = {
            "cidr_block": vpc["CidrBlock"],
            "enable_dns_support": support["EnableDnsSupport"]["Value"],
            "enable_dns_hostnames": hostnames["EnableDnsHostnames"]["Value"],
            "tags": property_tags(tags),
        }
        status = READY if vpc["State"] == "available" else vpc["State"]
        return Actual(id_, properties, {"id": id_}, owner_of(tags), status)

    def create(self, request: Request) -> Actual:
        answer = self.session.call_once(
            "ec2",
            "create_vpc",
            lambda: self._made(request.owner),
            CidrBlock=request.desired["cidr_block"],
            TagSpecifications=tag_specifications("vpc", request),
        )
        id_ = answer["Vpc"]["VpcId"]
        self._write_attributes(id_, request.desired)
        return Actual(id_, request.desired, {"id": id_}, request.owner, "pending")

    def _made(self, owner: Owner) -> dict[str, Any] | None:
        found = self.session.pages("ec2", "describe_vpcs", "Vpcs", Filters=owner_filters(owner))
        return {"Vpc": found[0]} if found else None

    def _write_attributes(self, id_: str, wanted: Mapping[str, Any]) -> None:
        """Write the attributes one after the other: names need the resolver, and each call takes only one."""
        for parameter, name in (
            ("EnableDnsSupport", "enable_dns_support"),
            ("EnableDnsHostnames", "enable_dns_hostnames"),
        ):
            if name in wanted:
                self.session.call(
                    "ec2",
                    "modify_vpc_attribute",
                    retry_on=("InvalidVpcID.NotFound",),
                    VpcId=id_,
                    **{parameter: {"Value": wanted[name]}},
                )

    def update(self, request: Request) -> Actual:
        changed = {name: value for name, value in request.desired.items() if request.changed(name) and name != "tags"}
        self._write_attributes(request.existing.id, changed)
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("ec2", "delete_vpc", ("InvalidVpcID.NotFound",), VpcId=request.existing.id)
