# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways of a network: internet gateways, NAT gateways and their addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import UsedTokenError
from ...engine.resource import DELETING, LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import is_known
from ..ec2 import (
    ADDRESSES,
    ARN,
    ID,
    INTERNET_GATEWAYS,
    NAT_GATEWAYS,
    delete_unused,
    first,
    interface_users,
    name_tag,
    replaceable,
    resource_arn,
    tag_specifications,
    write_tags,
)
from ..errors import CallError
from ..kind import TAGS, Actions, AwsKind, given, owner_of, property_tags, tag_map
from ..waiters import wait_until

_NEW_GATEWAY = ("InvalidInternetGatewayID.NotFound", "InvalidVpcID.NotFound")
# Another gateway of the stack may be in detachment from the VPC.
_OCCUPIED = ("InvalidParameterValue:already has an internet gateway attached",)
_DETACHED = ("Gateway.NotAttached", *INTERNET_GATEWAYS.absent)
_ATTACHED = frozenset({"available", "attached"})
# EC2 denies access to the address of a NAT gateway in deletion, instead of reporting it as in use.
_ADDRESS_IN_USE = ("InvalidIPAddress.InUse", "AuthFailure:permission to access the specified resource")
FAILED = "failed"


class InternetGateway(AwsKind):
    """Internet gateway of a VPC."""

    name = "internet_gateway"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    schema = Schema(
        {
            "vpc_id": Property(purpose="ID of the attached VPC."),
            "tags": TAGS,
        },
        {"id": ID, "arn": ARN},
        exclusive=(("vpc_id",),),
    )
    actions = Actions(
        read=("ec2:DescribeInternetGateways",),
        create=("ec2:CreateInternetGateway", "ec2:CreateTags", "ec2:AttachInternetGateway"),
        update=(
            "ec2:AttachInternetGateway",
            "ec2:DetachInternetGateway",
            "ec2:DescribeNetworkInterfaces",
            "ec2:CreateTags",
            "ec2:DeleteTags",
        ),
        delete=("ec2:DetachInternetGateway", "ec2:DeleteInternetGateway", "ec2:DescribeNetworkInterfaces"),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return [self._actual(found) for found in INTERNET_GATEWAYS.owned(self.session, owner)]

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the gateway of the VPC, which can have only one."""
        vpc_id = subject.desired["vpc_id"]
        if vpc_id is None:
            return ()
        if not is_known(vpc_id):
            return LATER
        found = INTERNET_GATEWAYS.matching(self.session, {"attachment.vpc-id": vpc_id})
        return [self._actual(gateway) for gateway in found]

    def read(self, id_: str) -> Actual | None:
        found = INTERNET_GATEWAYS.one(self.session, id_)
        return self._actual(found) if found else None

    def _actual(self, gateway: Mapping[str, Any]) -> Actual:
        id_, tags = gateway["InternetGatewayId"], tag_map(gateway.get("Tags"))
        attachment = next(iter(gateway.get("Attachments") or ()), {"State": "available"})
        properties = {"vpc_id": attachment.get("VpcId"), "tags": property_tags(tags)}
        status = READY if attachment["State"] in _ATTACHED else attachment["State"]
        arn = resource_arn(self.session, f"internet-gateway/{id_}")
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), status, (arn,))

    def create(self, request: Request) -> Actual:
        answer = self.session.call_once(
            "ec2",
            "create_internet_gateway",
            lambda: first(INTERNET_GATEWAYS.made(self.session, request.owner), "InternetGateway"),
            TagSpecifications=tag_specifications("internet-gateway", request),
        )
        id_ = answer["InternetGateway"]["InternetGatewayId"]
        if request.desired["vpc_id"]:
            self._attach(id_, request.desired["vpc_id"])
        return Actual(id_, request.desired, {"id": id_}, request.owner, "attaching")

    def _attach(self, id_: str, vpc_id: str) -> None:
        try:
            self.session.call(
                "ec2",
                "attach_internet_gateway",
                retry_on=(*_NEW_GATEWAY, *_OCCUPIED),
                InternetGatewayId=id_,
                VpcId=vpc_id,
            )
        except CallError as error:
            # A lost answer of the first attempt may have attached it.
            actual = self.read(id_) if error.code == "Resource.AlreadyAssociated" else None
            if actual is None or actual.properties["vpc_id"] != vpc_id:
                raise

    def _detach(self, request: Request, vpc_id: str) -> None:
        """Detach the gateway as soon as the VPC does not use public addresses."""
        delete_unused(
            self.session,
            request,
            "detach_internet_gateway",
            lambda: interface_users(self.session, {"vpc-id": vpc_id, "association.public-ip": "*"}),
            absent=_DETACHED,
            InternetGatewayId=request.existing.id,
            VpcId=vpc_id,
        )

    def update(self, request: Request) -> Actual:
        existing, wanted = request.existing, request.desired.get("vpc_id")
        if request.changed("vpc_id"):
            attached = existing.properties["vpc_id"]
            if attached:
                self._detach(request, attached)
            if wanted:
                self._attach(existing.id, wanted)
        write_tags(self.session, request)
        return existing

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        attached = request.existing.properties.get("vpc_id")
        if attached:
            self._detach(request, attached)
        self.session.look("ec2", "delete_internet_gateway", INTERNET_GATEWAYS.absent, InternetGatewayId=id_)


class ElasticIp(AwsKind):
    """Static public IPv4 address."""

    name = "elastic_ip"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    schema = Schema(
        {"tags": TAGS},
        {"id": Output("ID of the allocation."), "arn": ARN, "public_ip": Output("IPv4 address.")},
    )
    actions = Actions(
        read=("ec2:DescribeAddresses",),
        create=("ec2:AllocateAddress", "ec2:CreateTags"),
        update=("ec2:CreateTags", "ec2:DeleteTags"),
        delete=("ec2:ReleaseAddress",),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return [self._actual(found) for found in ADDRESSES.owned(self.session, owner)]

    def lookalikes(self, subject: Subject) -> Sequence[Actual]:
        name = name_tag(subject)
        found = ADDRESSES.matching(self.session, {"tag:Name": name}) if name else ()
        return [actual for actual in map(self._actual, found) if actual.owner is None]

    def read(self, id_: str) -> Actual | None:
        found = ADDRESSES.one(self.session, id_)
        return self._actual(found) if found else None

    def _actual(self, address: Mapping[str, Any]) -> Actual:
        id_, tags = address["AllocationId"], tag_map(address.get("Tags"))
        arn = resource_arn(self.session, f"elastic-ip/{id_}")
        outputs = {"id": id_, "arn": arn, "public_ip": address["PublicIp"]}
        return Actual(id_, {"tags": property_tags(tags)}, outputs, owner_of(tags), READY, (arn, address["PublicIp"]))

    def create(self, request: Request) -> Actual:
        answer = self.session.call_once(
            "ec2",
            "allocate_address",
            lambda: first(ADDRESSES.made(self.session, request.owner)),
            Domain="vpc",
            TagSpecifications=tag_specifications("elastic-ip", request),
        )
        id_ = answer["AllocationId"]
        return Actual(id_, request.desired, {"id": id_}, request.owner)

    def update(self, request: Request) -> Actual:
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        delete_unused(
            self.session,
            request,
            "release_address",
            lambda: self._users(id_),
            absent=ADDRESSES.absent,
            in_use=_ADDRESS_IN_USE,
            AllocationId=id_,
        )

    def _users(self, id_: str) -> list[str]:
        address = ADDRESSES.one(self.session, id_) or {}
        return [
            f"{noun} {address[key]}"
            for noun, key in {"instance": "InstanceId", "network interface": "NetworkInterfaceId"}.items()
            if address.get(key)
        ]


def _nat_validation_errors(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:  # noqa: ARG001
    """Yield an error unless exactly the public gateway has an elastic IP."""
    connectivity, allocation = desired.get("connectivity_type"), desired.get("allocation_id")
    if connectivity == "public" and allocation is None:
        yield "allocation_id", "is required and not given", "name an elastic_ip, or make it connectivity_type: private"
    if connectivity == "private" and allocation is not None:
        yield "allocation_id", "a private NAT gateway takes no address", "remove it"


class NatGateway(AwsKind):
    """Gateway for outbound connections of subnets."""

    name = "nat_gateway"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    timeout_s = 900.0
    failed_states = frozenset({FAILED})
    schema = Schema(
        {
            "subnet_id": Property(required=True, replace=True, purpose="ID of a public subnet."),
            "allocation_id": Property(replace=True, purpose="ID of its `elastic_ip`. Omitted for a private gateway."),
            "connectivity_type": Property(
                default="public",
                choices=("public", "private"),
                replace=True,
                purpose="Whether the gateway routes to the internet, or only to other private networks.",
            ),
            "tags": TAGS,
        },
        {"id": ID, "arn": ARN, "public_ip": Output("Public address."), "private_ip": Output("Private address.")},
        # Two gateways cannot share an address.
        unique_by=("allocation_id",),
        check=_nat_validation_errors,
    )
    actions = Actions(
        read=("ec2:DescribeNatGateways",),
        create=("ec2:CreateNatGateway", "ec2:CreateTags"),
        update=("ec2:CreateTags", "ec2:DeleteTags"),
        delete=("ec2:DeleteNatGateway",),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        found = NAT_GATEWAYS.owned(self.session, owner)
        return [
            replaceable(self._actual(gateway), self.failed_states) for gateway in found if gateway["State"] != "deleted"
        ]

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the gateways without owner with the same name and subnet."""
        name, subnet_id = name_tag(subject), subject.desired["subnet_id"]
        if not is_known(subnet_id):
            return LATER
        wanted = {"tag:Name": name, "subnet-id": subnet_id, "state": "available"}
        found = NAT_GATEWAYS.matching(self.session, wanted) if name else ()
        return [actual for actual in map(self._actual, found) if actual.owner is None]

    def read(self, id_: str) -> Actual | None:
        found = NAT_GATEWAYS.one(self.session, id_)
        return self._actual(found) if found and found["State"] != "deleted" else None

    def _actual(self, gateway: Mapping[str, Any]) -> Actual:
        id_, tags = gateway["NatGatewayId"], tag_map(gateway.get("Tags"))
        addresses = gateway.get("NatGatewayAddresses") or [{}]
        address = next((item for item in addresses if item.get("IsPrimary")), addresses[0])
        properties = {
            "subnet_id": gateway["SubnetId"],
            "allocation_id": address.get("AllocationId"),
            "connectivity_type": gateway.get("ConnectivityType", "public"),
            "tags": property_tags(tags),
        }
        arn = resource_arn(self.session, f"natgateway/{id_}")
        outputs = {
            "id": id_,
            "arn": arn,
            "public_ip": address.get("PublicIp"),
            "private_ip": address.get("PrivateIp"),
        }
        status = {"available": READY, "deleting": DELETING}.get(gateway["State"], gateway["State"])
        return Actual(id_, properties, outputs, owner_of(tags), status, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        answer = self.session.call_once(
            "ec2",
            "create_nat_gateway",
            lambda: self._made(request),
            retry_on=("InvalidSubnetID.NotFound", "InvalidAllocationID.NotFound"),
            **given(
                {
                    "SubnetId": wanted["subnet_id"],
                    "AllocationId": wanted["allocation_id"],
                    "ConnectivityType": wanted["connectivity_type"],
                    "ClientToken": request.token,
                    "TagSpecifications": tag_specifications("natgateway", request),
                }
            ),
        )
        gateway = answer["NatGateway"]
        if gateway["State"] in {"deleting", "deleted", FAILED}:
            raise UsedTokenError(f"{gateway['NatGatewayId']} is {gateway['State']}")
        return Actual(gateway["NatGatewayId"], wanted, {"id": gateway["NatGatewayId"]}, request.owner, "pending")

    def _made(self, request: Request) -> dict[str, Any] | None:
        found = NAT_GATEWAYS.made(self.session, request.owner, {"subnet-id": request.desired["subnet_id"]})
        fresh = (item for item in found if item["State"] in {"pending", "available"})
        wanted = request.desired["allocation_id"]
        fits = (item for item in fresh if self._actual(item).properties["allocation_id"] == wanted)
        return first(fits, "NatGateway")

    def failure(self, actual: Actual) -> str:
        gateway = NAT_GATEWAYS.one(self.session, actual.id) or {}
        return f"{gateway.get('FailureCode', actual.status)}: {gateway.get('FailureMessage', 'AWS gives no reason')}"

    def update(self, request: Request) -> Actual:
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("ec2", "delete_nat_gateway", NAT_GATEWAYS.absent, NatGatewayId=request.existing.id)

    def wait_deleted(self, request: Request) -> None:
        """Wait until the gateway is deleted. AWS lists a failed one, which uses no resources, for an hour."""
        id_ = request.existing.id
        seen = ""

        def look() -> bool | None:
            nonlocal seen
            actual = self.read(id_)
            seen = "" if actual is None else actual.status
            return True if actual is None or actual.status == FAILED else None

        wait_until(
            look,
            f"{request.address} ({id_}) to be gone",
            timeout_s=self.timeout_s,
            interval_s=self.interval_s,
            last=lambda: seen,
        )
