# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup, tags and the deletion of resources in use, which all kinds of EC2 share."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..engine.resource import DELETING, Actual, Owner, Request, Subject, activity
from ..engine.schema import Output
from ..engine.value import is_known
from .errors import CallError, WaitError
from .kind import all_tags, owner_tags, stack_tag, tag_changes, tag_list
from .session import Session

ID = Output("ID that AWS assigned.")
ARN = Output("ARN.")
# A controller needs minutes to delete its load balancers. Users that stay the same for so long are not being deleted.
_STILL_S = 300.0
_LONGEST_S = 1800.0
_FIRST_PAUSE_S, _PAUSE_S = 1.0, 15.0


@dataclass(frozen=True)
class Describe:
    """Describe call of EC2.

    operation: method of the client. key: of the answer. ids: parameter for ids. absent: error codes for a missing id.
    filters: parameter for filters, which has another name in two calls.
    """

    operation: str
    key: str
    ids: str
    absent: tuple[str, ...]
    filters: str = "Filters"

    def matching(self, session: Session, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return all resources that match every filter; a filter is a name and a value."""
        filters = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
        return session.pages("ec2", self.operation, self.key, **{self.filters: filters})

    def owned(self, session: Session, owner: Owner) -> list[dict[str, Any]]:
        """Return all resources with the tags of the owner's stack."""
        return self.matching(session, {"tag:lakehouse:stack": stack_tag(owner)})

    def made(self, session: Session, owner: Owner, wanted: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return the resources that a create with a lost answer may have created.

        wanted: filters for properties that force a replacement, because the replaced resource has the same tags.
        """
        tags = {f"tag:{key}": value for key, value in owner_tags(owner).items()}
        return self.matching(session, {**tags, **(wanted or {})})

    def one(self, session: Session, id_: str) -> dict[str, Any] | None:
        """Return the resource with an id, or None."""
        answer = session.look("ec2", self.operation, self.absent, **{self.ids: [id_]})
        return first(answer[self.key]) if answer else None


VPCS = Describe("describe_vpcs", "Vpcs", "VpcIds", ("InvalidVpcID.NotFound",))
SUBNETS = Describe("describe_subnets", "Subnets", "SubnetIds", ("InvalidSubnetID.NotFound",))
INTERNET_GATEWAYS = Describe(
    "describe_internet_gateways",
    "InternetGateways",
    "InternetGatewayIds",
    ("InvalidInternetGatewayID.NotFound",),
)
ADDRESSES = Describe(
    "describe_addresses", "Addresses", "AllocationIds", ("InvalidAllocationID.NotFound", "InvalidAddress.NotFound")
)
NAT_GATEWAYS = Describe(
    "describe_nat_gateways", "NatGateways", "NatGatewayIds", ("NatGatewayNotFound",), filters="Filter"
)
ROUTE_TABLES = Describe("describe_route_tables", "RouteTables", "RouteTableIds", ("InvalidRouteTableID.NotFound",))
VPC_ENDPOINTS = Describe(
    "describe_vpc_endpoints",
    "VpcEndpoints",
    "VpcEndpointIds",
    ("InvalidVpcEndpointId.NotFound", "InvalidVpcEndpoint.NotFound"),
)
FLOW_LOGS = Describe("describe_flow_logs", "FlowLogs", "FlowLogIds", ("InvalidFlowLogId.NotFound",), filters="Filter")
# AWS does not return malformed ids, so a resource with an id that AWS calls malformed does not exist.
SECURITY_GROUPS = Describe(
    "describe_security_groups", "SecurityGroups", "GroupIds", ("InvalidGroup.NotFound", "InvalidGroupId.Malformed")
)
NETWORK_INTERFACES = Describe(
    "describe_network_interfaces",
    "NetworkInterfaces",
    "NetworkInterfaceIds",
    ("InvalidNetworkInterfaceID.NotFound",),
)


def ipv4_network(value: str) -> str | None:
    """Return the problem of an IPv4 network, or None."""
    try:
        ipaddress.IPv4Network(value)
    except ValueError as error:
        return f"{value!r} is not an IPv4 network: {error}"
    return None


def ipv6_network(value: str) -> str | None:
    """Return the problem of an IPv6 network, or None."""
    try:
        ipaddress.IPv6Network(value)
    except ValueError as error:
        return f"{value!r} is not an IPv6 network: {error}"
    return None


def normal_network(value: str) -> str:
    """Return a network in the form that EC2 returns; other values are returned unchanged."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return value


def owned_filters(owner: Owner) -> list[dict[str, Any]]:
    """Return the filter of describe calls for all resources of a stack."""
    return [{"Name": "tag:lakehouse:stack", "Values": [stack_tag(owner)]}]


def resource_arn(session: Session, resource: str) -> str:
    """Return the ARN of an EC2 resource whose description does not contain it; resource: `vpc/vpc-1`."""
    identity = session.identity()
    return f"arn:{identity.partition}:ec2:{session.region}:{identity.account_id}:{resource}"


def name_tag(subject: Subject) -> str | None:
    """Return the value of the tag `Name`, or None where it is missing or unknown."""
    tags = subject.desired.get("tags")
    name = tags.get("Name") if isinstance(tags, Mapping) else None
    return str(name) if name and is_known(name) else None


def tag_specifications(resource_type: str, request: Request) -> list[dict[str, Any]]:
    """Return tags in the form of EC2's create calls."""
    return [{"ResourceType": resource_type, "Tags": tag_list(all_tags(request))}]


def write_tags(session: Session, request: Request) -> None:
    """Write and remove tags of an EC2 resource."""
    changed, removed = tag_changes(request)
    if changed:
        session.call("ec2", "create_tags", Resources=[request.existing.id], Tags=tag_list(changed))
    if removed:
        session.call("ec2", "delete_tags", Resources=[request.existing.id], Tags=[{"Key": key} for key in removed])


def first(items: Iterable[dict[str, Any]], key: str = "") -> dict[str, Any] | None:
    """Return the first item, under a key where one is given, or None."""
    item = next(iter(items), None)
    return item if item is None or not key else {key: item}


def replaceable(actual: Actual, failed_states: frozenset[str]) -> Actual:
    """Return a failed resource as one in deletion: it never becomes ready, and the next run creates another one."""
    return replace(actual, status=DELETING) if actual.status in failed_states else actual


def raise_unsuccessful(call: str, answer: Mapping[str, Any] | None, absent: Sequence[str] = ()) -> None:
    """Raise the error that a call for several resources returns for its only resource."""
    for item in (answer or {}).get("Unsuccessful") or ():
        error = item.get("Error") or {}
        failed = CallError(call, str(error.get("Code", "Unknown")), str(error.get("Message", "")))
        if not failed.is_one_of(absent):
            raise failed


def delete_unused(
    session: Session,
    request: Request,
    operation: str,
    users: Callable[[], Sequence[str]],
    *,
    absent: Sequence[str],
    in_use: Sequence[str] = ("DependencyViolation",),
    **parameters: Any,
) -> None:
    """Make a call that deletes or detaches a resource as soon as it is unused.

    The call waits while `users` (texts for a message) change. It raises WaitError with all users when they stay the
    same for too long.
    """
    seen: Sequence[str] = ()
    still_s = waited_s = pause_s = 0.0
    while True:
        try:
            session.call("ec2", operation, **parameters)
        except CallError as error:
            if error.is_one_of(absent):
                return
            if not error.is_one_of(in_use):
                raise
            found = _seen(users)
            still_s = still_s + pause_s if found == seen else 0.0
            seen = found
            if still_s >= _STILL_S or waited_s >= _LONGEST_S:
                raise WaitError(_in_use(request, seen, error)) from error
        else:
            return
        pause_s = min(_PAUSE_S, pause_s * 2 or _FIRST_PAUSE_S)
        waited_s += pause_s
        if activity().sleep(pause_s):
            raise WaitError(f"stopped waiting for {request.address} ({request.existing.id}) to be unused")


def _seen(users: Callable[[], Sequence[str]]) -> list[str]:
    try:
        return sorted(users())
    except CallError as error:
        # The permission to delete does not imply the permission to describe. The message of AWS is used then.
        if error.is_denied:
            return []
        raise


def _in_use(request: Request, users: Sequence[str], error: CallError) -> str:
    thing = f"{request.address} ({request.existing.id}) cannot be deleted"
    if not users:
        return f"{thing}: {error}"
    remedy = "delete these or their owners, and run this again"
    return f"{thing}, this still uses it: {'; '.join(users)}; {remedy} ({error})"


def interface_users(session: Session, wanted: Mapping[str, str]) -> list[str]:
    """Return the network interfaces that match the filters, each with its owner."""
    return [_interface_words(found) for found in NETWORK_INTERFACES.matching(session, wanted)]


def _interface_words(interface: Mapping[str, Any]) -> str:
    described = interface.get("Description")
    attachment = interface.get("Attachment") or {}
    public = (interface.get("Association") or {}).get("PublicIp")
    words = [
        f"network interface {interface['NetworkInterfaceId']}",
        f'"{described}"' if described else "without a description",
        f"of {interface.get('RequesterId') if interface.get('RequesterManaged') else interface.get('OwnerId')}",
        f"at {attachment['InstanceId']}" if attachment.get("InstanceId") else str(interface.get("Status", "")),
        f"with the address {public}" if public else "",
    ]
    return " ".join(word for word in words if word)
