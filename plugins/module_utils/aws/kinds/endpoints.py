# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VPC endpoints of AWS services."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import UsedTokenError
from ...engine.resource import DELETING, LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import Unknown, is_known
from ..ec2 import (
    ARN,
    ID,
    VPC_ENDPOINTS,
    first,
    raise_unsuccessful,
    replaceable,
    resource_arn,
    tag_specifications,
    write_tags,
)
from ..kind import TAGS, Actions, AwsKind, document, given, owner_of, property_tags, tag_map
from ..partitions import endpoint_services, short_service

# The default policy of AWS. Source: the VPC user guide, "Default endpoint policy".
FULL_ACCESS = {
    "Version": "2008-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}],
}
_NEW = (
    "InvalidVpcId.NotFound",
    "InvalidVpcID.NotFound",
    "InvalidRouteTableId.NotFound",
    "InvalidRouteTableID.NotFound",
    "InvalidSubnetId.NotFound",
    "InvalidSubnetID.NotFound",
    "InvalidSecurityGroupId.NotFound",
    "InvalidGroup.NotFound",
)
# Another endpoint of the stack may be in removal from the route table.
_ROUTED = ("RouteAlreadyExists",)
_BROKEN = frozenset({"failed", "rejected", "expired"})
_GONE = frozenset({"deleting", "deleted"})


def _comparable_policy(policy: Any) -> Any:
    """Return the same value for every policy that allows everything, in any spelling."""
    statements = policy.get("Statement") if isinstance(policy, Mapping) else None
    statements = [statements] if isinstance(statements, Mapping) else statements
    if not isinstance(statements, list) or len(statements) != 1 or not isinstance(statements[0], Mapping):
        return policy
    said = {key: value for key, value in statements[0].items() if key != "Sid"}
    if said.get("Principal") in ({"AWS": "*"}, {"AWS": ["*"]}):
        said["Principal"] = "*"
    plain = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in said.items()}
    return FULL_ACCESS if plain == FULL_ACCESS["Statement"][0] else policy


def _endpoint_validation_errors(
    desired: Mapping[str, Any],
    actual: Mapping[str, Any] | None,  # noqa: ARG001
) -> Iterator[ValidationError]:
    """Yield properties that the endpoint's type lacks: gateways are routes, interfaces have addresses in subnets."""
    kind = desired.get("vpc_endpoint_type")
    if isinstance(kind, Unknown):
        return
    foreign = {
        "Gateway": ("subnet_ids", "security_group_ids", "private_dns_enabled"),
        "Interface": ("route_table_ids",),
    }
    for name in foreign.get(str(kind), ()):
        if desired.get(name):
            yield name, f"an endpoint of type {kind} has none", "remove it, or change vpc_endpoint_type"


class VpcEndpoint(AwsKind):
    """Private connection from a VPC to an AWS service."""

    name = "vpc_endpoint"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    timeout_s = 900.0
    failed_states = _BROKEN
    schema = Schema(
        {
            "vpc_id": Property(required=True, replace=True, purpose="ID of the VPC."),
            "service_name": Property(
                required=True,
                replace=True,
                canonical=short_service,
                purpose="Service, such as `s3`, or its full name, such as `com.amazonaws.eu-central-1.s3`.",
            ),
            "vpc_endpoint_type": Property(
                default="Gateway",
                choices=("Gateway", "Interface"),
                replace=True,
                purpose="`Gateway` for S3 and DynamoDB, free of charge; `Interface` for others.",
            ),
            "route_table_ids": Property(
                "set", elements=Property(), purpose="IDs of route tables with routes to a gateway endpoint."
            ),
            "subnet_ids": Property(
                "set", elements=Property(), purpose="IDs of subnets with an address of an interface endpoint."
            ),
            "security_group_ids": Property(
                "set",
                elements=Property(),
                computed=True,
                purpose="IDs of security groups of an interface endpoint. The VPC's default group if omitted.",
            ),
            "private_dns_enabled": Property(
                "boolean",
                computed=True,
                purpose="Whether the service's hostname resolves to an interface endpoint. Chosen by AWS if omitted.",
            ),
            "policy": Property(
                "policy",
                when_unset=FULL_ACCESS,
                canonical=_comparable_policy,
                purpose="Endpoint policy. Full access if omitted.",
            ),
            "tags": TAGS,
        },
        {
            "id": ID,
            "arn": ARN,
            "dns_name": Output("DNS name of an interface endpoint."),
            "network_interface_ids": Output("IDs of network interfaces of an interface endpoint."),
        },
        unique_by=("vpc_id", "service_name"),
        exclusive=(("service_name", "route_table_ids"),),
        check=_endpoint_validation_errors,
    )
    actions = Actions(
        read=("ec2:DescribeVpcEndpointServices", "ec2:DescribeVpcEndpoints"),
        create=("ec2:CreateVpcEndpoint", "ec2:CreateTags", "route53:AssociateVPCWithHostedZone"),
        update=(
            "ec2:ModifyVpcEndpoint",
            "ec2:CreateTags",
            "ec2:DeleteTags",
            "route53:AssociateVPCWithHostedZone",
            "route53:DisassociateVPCFromHostedZone",
        ),
        delete=("ec2:DeleteVpcEndpoints", "route53:DisassociateVPCFromHostedZone"),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        found = VPC_ENDPOINTS.owned(self.session, owner)
        return [
            replaceable(self._actual(endpoint), self.failed_states)
            for endpoint in found
            if _state(endpoint) != "deleted"
        ]

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the endpoints without owner from the same VPC to the same service."""
        wanted = subject.desired
        if not is_known([wanted["vpc_id"], wanted["service_name"]]):
            return LATER
        place = {"vpc-id": wanted["vpc_id"], "service-name": self._service(wanted["service_name"])}
        found = VPC_ENDPOINTS.matching(self.session, place)
        same = [item for item in found if _type(item) == wanted["vpc_endpoint_type"]]
        actuals = [self._actual(item) for item in same if _state(item) not in _GONE | _BROKEN]
        return [actual for actual in actuals if actual.owner is None]

    def _service(self, name: str) -> str:
        """Return the full name of a service in this region and partition."""
        names = endpoint_services(name, self.session.region, self.session.dns_suffix)
        return names[0] if len(names) == 1 else self.session.once(f"service {name}", lambda: self._offered(names))

    def _offered(self, names: Sequence[str]) -> str:
        """Return the first of these names that exists in the region."""
        wanted = [{"Name": "service-name", "Values": list(names)}]
        offered = self.session.pages("ec2", "describe_vpc_endpoint_services", "ServiceNames", Filters=wanted)
        return next((name for name in names if name in offered), names[0])

    def read(self, id_: str) -> Actual | None:
        found = VPC_ENDPOINTS.one(self.session, id_)
        return self._actual(found) if found and _state(found) != "deleted" else None

    def _actual(self, endpoint: Mapping[str, Any]) -> Actual:
        id_, tags = endpoint["VpcEndpointId"], tag_map(endpoint.get("Tags"))
        properties = {
            "vpc_id": endpoint["VpcId"],
            "service_name": endpoint["ServiceName"],
            "vpc_endpoint_type": _type(endpoint),
            "route_table_ids": endpoint.get("RouteTableIds"),
            "subnet_ids": endpoint.get("SubnetIds"),
            "security_group_ids": [group["GroupId"] for group in endpoint.get("Groups") or ()],
            "private_dns_enabled": endpoint.get("PrivateDnsEnabled"),
            "policy": json.loads(endpoint["PolicyDocument"]) if endpoint.get("PolicyDocument") else None,
            "tags": property_tags(tags),
        }
        arn = resource_arn(self.session, f"vpc-endpoint/{id_}")
        names = [entry["DnsName"] for entry in endpoint.get("DnsEntries") or () if entry.get("DnsName")]
        outputs = {
            "id": id_,
            "arn": arn,
            "dns_name": next(iter(names), None),
            "network_interface_ids": endpoint.get("NetworkInterfaceIds") or [],
        }
        status = {"available": READY, "deleting": DELETING}.get(_state(endpoint), _state(endpoint))
        return Actual(id_, properties, outputs, owner_of(tags), status, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        everything = _comparable_policy(wanted["policy"]) == FULL_ACCESS
        answer = self.session.call_once(
            "ec2",
            "create_vpc_endpoint",
            lambda: self._made(request),
            retry_on=_NEW,
            **given(
                {
                    "VpcId": wanted["vpc_id"],
                    "ServiceName": self._service(wanted["service_name"]),
                    "VpcEndpointType": wanted["vpc_endpoint_type"],
                    "RouteTableIds": wanted["route_table_ids"],
                    "SubnetIds": wanted["subnet_ids"],
                    "SecurityGroupIds": wanted.get("security_group_ids"),
                    "PrivateDnsEnabled": wanted.get("private_dns_enabled"),
                    # Some services reject a policy; full access is the default.
                    "PolicyDocument": None if everything else document(wanted["policy"]),
                    "ClientToken": request.token,
                    "TagSpecifications": tag_specifications("vpc-endpoint", request),
                }
            ),
        )
        endpoint = answer["VpcEndpoint"]
        if _state(endpoint) in _GONE | _BROKEN:
            raise UsedTokenError(f"{endpoint['VpcEndpointId']} is {_state(endpoint)}")
        return Actual(endpoint["VpcEndpointId"], wanted, {"id": endpoint["VpcEndpointId"]}, request.owner, "pending")

    def _made(self, request: Request) -> dict[str, Any] | None:
        wanted = request.desired
        place = {"vpc-id": wanted["vpc_id"], "service-name": self._service(wanted["service_name"])}
        found = VPC_ENDPOINTS.made(self.session, request.owner, place)
        fresh = (item for item in found if _state(item) not in _GONE | _BROKEN)
        return first((item for item in fresh if _type(item) == wanted["vpc_endpoint_type"]), "VpcEndpoint")

    def failure(self, actual: Actual) -> str:
        endpoint = VPC_ENDPOINTS.one(self.session, actual.id) or {}
        error = endpoint.get("LastError") or {}
        reason = endpoint.get("FailureReason") or error.get("Message") or "AWS gives no reason"
        return f"{actual.status}: {reason}"

    def update(self, request: Request) -> Actual:
        changes = _modifications(request)
        if changes:
            id_, retry_on = request.existing.id, (*_NEW, *_ROUTED)
            self.session.call("ec2", "modify_vpc_endpoint", retry_on=retry_on, VpcEndpointId=id_, **changes)
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        answer = self.session.look(
            "ec2", "delete_vpc_endpoints", VPC_ENDPOINTS.absent, VpcEndpointIds=[request.existing.id]
        )
        raise_unsuccessful("ec2:DeleteVpcEndpoints", answer, VPC_ENDPOINTS.absent)


def _modifications(request: Request) -> dict[str, Any]:
    """Return the parameters of the single call for all changes."""
    before, after = request.existing.properties, request.desired
    changes: dict[str, Any] = {}
    for name, noun in {
        "route_table_ids": "RouteTableIds",
        "subnet_ids": "SubnetIds",
        "security_group_ids": "SecurityGroupIds",
    }.items():
        if request.changed(name):
            there, wanted = set(before.get(name) or ()), set(after.get(name) or ())
            changes[f"Add{noun}"] = sorted(wanted - there) or None
            changes[f"Remove{noun}"] = sorted(there - wanted) or None
    if request.changed("private_dns_enabled"):
        changes["PrivateDnsEnabled"] = after["private_dns_enabled"]
    if request.changed("policy"):
        changes["PolicyDocument"] = document(after["policy"])
    return given(changes)


def _type(endpoint: Mapping[str, Any]) -> str:
    return str(endpoint.get("VpcEndpointType", "Gateway"))


def _state(endpoint: Mapping[str, Any]) -> str:
    # The API returns `available`, its model contains `Available`.
    return str(endpoint.get("State", "")).lower()
