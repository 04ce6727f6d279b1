# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Route tables, and the subnets that use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Property, Schema, ValidationError
from ...engine.value import Unknown, is_known
from ..ec2 import (
    ARN,
    ID,
    ROUTE_TABLES,
    delete_unused,
    first,
    ipv4_network,
    ipv6_network,
    name_tag,
    normal_network,
    resource_arn,
    tag_specifications,
    write_tags,
)
from ..errors import CallError
from ..kind import TAGS, Actions, AwsKind, owner_of, property_tags, tag_map

Route = Mapping[str, Any]
_DESTINATIONS = {
    "destination_cidr_block": "DestinationCidrBlock",
    "destination_ipv6_cidr_block": "DestinationIpv6CidrBlock",
    "destination_prefix_list_id": "DestinationPrefixListId",
}
_TARGETS = {
    "gateway_id": "GatewayId",
    "nat_gateway_id": "NatGatewayId",
    "egress_only_internet_gateway_id": "EgressOnlyInternetGatewayId",
    "transit_gateway_id": "TransitGatewayId",
    "vpc_peering_connection_id": "VpcPeeringConnectionId",
    "vpc_endpoint_id": "VpcEndpointId",
    "carrier_gateway_id": "CarrierGatewayId",
    "local_gateway_id": "LocalGatewayId",
    "core_network_arn": "CoreNetworkArn",
    "odb_network_arn": "OdbNetworkArn",
    # After the instance, whose route also contains the interface.
    "network_interface_id": "NetworkInterfaceId",
}
# Errors of resources that are new and not visible everywhere yet.
_NEW = (
    "InvalidRouteTableID.NotFound",
    "InvalidGatewayID.NotFound",
    "InvalidInternetGatewayID.NotFound",
    "InvalidNatGatewayID.NotFound",
    "InvalidSubnetID.NotFound",
    "InvalidVpcEndpointId.NotFound",
)
_ASSOCIATED = "Resource.AlreadyAssociated"


_ROUTE = Property(
    "map",
    fields={
        "destination_cidr_block": Property(check=ipv4_network, canonical=normal_network, purpose="IPv4 network."),
        "destination_ipv6_cidr_block": Property(check=ipv6_network, canonical=normal_network, purpose="IPv6 network."),
        "destination_prefix_list_id": Property(purpose="ID of a managed prefix list."),
        "gateway_id": Property(purpose="ID of an `internet_gateway`, or of a virtual private gateway."),
        "nat_gateway_id": Property(purpose="ID of a `nat_gateway`."),
        "egress_only_internet_gateway_id": Property(purpose="ID of an egress-only internet gateway."),
        "transit_gateway_id": Property(purpose="ID of a transit gateway."),
        "vpc_peering_connection_id": Property(purpose="ID of a peering connection."),
        "vpc_endpoint_id": Property(purpose="ID of an endpoint of a Gateway Load Balancer."),
        "carrier_gateway_id": Property(purpose="ID of a carrier gateway."),
        "local_gateway_id": Property(purpose="ID of a local gateway."),
        "core_network_arn": Property(purpose="ARN of a core network."),
        "odb_network_arn": Property(purpose="ARN of an Oracle Database network."),
        "network_interface_id": Property(purpose="ID of a network interface, such as that of an instance."),
    },
)


def _validation_errors(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:  # noqa: ARG001
    """Yield an error unless each route has one destination and one target, and destinations are unique."""
    routes = desired.get("routes")
    if routes is None or isinstance(routes, Unknown):
        return
    seen: dict[str, int] = {}
    for index, route in enumerate(routes):
        if isinstance(route, Unknown):
            continue
        path = f"routes[{index}]"
        yield from _one_of(route, _DESTINATIONS, path, "a destination")
        yield from _one_of(route, _TARGETS, path, "a target")
        destination = next((route[name] for name in _DESTINATIONS if route.get(name) is not None), None)
        if destination is None or not is_known(destination):
            continue
        if destination in seen:
            yield path, f"{destination} has another route in routes[{seen[destination]}]", "keep one of them"
        seen[destination] = index


def _one_of(route: Route, names: Iterable[str], path: str, what: str) -> Iterator[ValidationError]:
    given = [name for name in names if route.get(name) is not None]
    if len(given) != 1:
        message = f"has {' and '.join(given)}" if given else f"has no {what.partition(' ')[2]}"
        yield path, message, f"set exactly one of {', '.join(names)}"


class RouteTable(AwsKind):
    """Routes for the associated subnets. Routes inside of the VPC are implicit."""

    name = "route_table"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    schema = Schema(
        {
            "vpc_id": Property(required=True, replace=True, purpose="ID of the VPC."),
            "routes": Property(
                "set",
                elements=_ROUTE,
                purpose="Routes, without local, propagated and gateway endpoint routes, which AWS adds.",
            ),
            "subnet_ids": Property(
                "set",
                elements=Property(),
                purpose="IDs of subnets that use this table instead of the VPC's main table.",
            ),
            "tags": TAGS,
        },
        {"id": ID, "arn": ARN},
        exclusive=(("subnet_ids",),),
        replacement="create_first",
        check=_validation_errors,
    )
    actions = Actions(
        read=("ec2:DescribeRouteTables",),
        create=(
            "ec2:CreateRouteTable",
            "ec2:CreateTags",
            "ec2:CreateRoute",
            "ec2:ReplaceRoute",
            "ec2:AssociateRouteTable",
            "ec2:ReplaceRouteTableAssociation",
        ),
        update=(
            "ec2:CreateRoute",
            "ec2:ReplaceRoute",
            "ec2:DeleteRoute",
            "ec2:AssociateRouteTable",
            "ec2:ReplaceRouteTableAssociation",
            "ec2:DisassociateRouteTable",
            "ec2:CreateTags",
            "ec2:DeleteTags",
        ),
        delete=("ec2:DisassociateRouteTable", "ec2:DeleteRouteTable"),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return [self._actual(found) for found in ROUTE_TABLES.owned(self.session, owner)]

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the tables without owner with the same name and VPC."""
        name, vpc_id = name_tag(subject), subject.desired["vpc_id"]
        if not is_known(vpc_id):
            return LATER
        found = ROUTE_TABLES.matching(self.session, {"tag:Name": name, "vpc-id": vpc_id}) if name else ()
        return [actual for actual in map(self._actual, found) if actual.owner is None]

    def read(self, id_: str) -> Actual | None:
        found = ROUTE_TABLES.one(self.session, id_)
        return self._actual(found) if found else None

    def _actual(self, table: Mapping[str, Any]) -> Actual:
        id_, tags = table["RouteTableId"], tag_map(table.get("Tags"))
        properties = {
            "vpc_id": table["VpcId"],
            "routes": list(_routes(table)),
            "subnet_ids": list(_associations(table)),
            "tags": property_tags(tags),
        }
        arn = resource_arn(self.session, f"route-table/{id_}")
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        answer = self.session.call_once(
            "ec2",
            "create_route_table",
            lambda: first(ROUTE_TABLES.made(self.session, request.owner, {"vpc-id": wanted["vpc_id"]}), "RouteTable"),
            retry_on=("InvalidVpcID.NotFound",),
            VpcId=wanted["vpc_id"],
            TagSpecifications=tag_specifications("route-table", request),
        )
        id_ = answer["RouteTable"]["RouteTableId"]
        self._write_routes(id_, wanted["routes"] or [], {})
        for subnet_id in wanted["subnet_ids"] or []:
            self._associate(id_, subnet_id)
        return Actual(id_, wanted, {"id": id_}, request.owner)

    def update(self, request: Request) -> Actual:
        existing = request.existing
        if request.changed("routes") or request.changed("subnet_ids"):
            self._write(existing.id, request)
        write_tags(self.session, request)
        return existing

    def _write(self, id_: str, request: Request) -> None:
        """Write changes based on the current state: another table may have taken a subnet in the meantime."""
        table = ROUTE_TABLES.one(self.session, id_) or {}
        if request.changed("routes"):
            self._write_routes(
                id_, request.desired["routes"] or [], {_destination(item): item for item in _routes(table)}
            )
        if request.changed("subnet_ids"):
            wanted, there = set(request.desired["subnet_ids"] or ()), _associations(table)
            for subnet_id in sorted(wanted - there.keys()):
                self._associate(id_, subnet_id)
            for subnet_id in sorted(there.keys() - wanted):
                self._disassociate(there[subnet_id])

    def _write_routes(self, id_: str, wanted: Sequence[Route], there: Mapping[tuple[str, str], Route]) -> None:
        """Add and replace routes before others are deleted, so that permanent destinations do not lose traffic."""
        destinations = {_destination(route): route for route in wanted}
        for destination, route in destinations.items():
            if destination not in there:
                self._add_route(id_, route)
            elif _target(there[destination]) != _target(route):
                self._call("replace_route", id_, route)
        for name, value in there.keys() - destinations.keys():
            self.session.look(
                "ec2", "delete_route", ("InvalidRoute.NotFound",), RouteTableId=id_, **{_DESTINATIONS[name]: value}
            )

    def _add_route(self, id_: str, route: Route) -> None:
        try:
            self._call("create_route", id_, route)
        except CallError as error:
            # A lost answer or another client has created the route.
            if error.code != "RouteAlreadyExists":
                raise
            self._call("replace_route", id_, route)

    def _call(self, operation: str, id_: str, route: Route) -> None:
        names = {**_DESTINATIONS, **_TARGETS}
        parameters = {names[name]: value for name, value in route.items()}
        self.session.call("ec2", operation, retry_on=_NEW, RouteTableId=id_, **parameters)

    def _associate(self, id_: str, subnet_id: str) -> None:
        given = {"RouteTableId": id_, "SubnetId": subnet_id}
        try:
            self.session.call("ec2", "associate_route_table", retry_on=_NEW, **given)
        except CallError as error:
            if error.code != _ASSOCIATED:
                raise
            if not self._take(id_, subnet_id):
                # The other table has been disassociated since.
                self.session.call("ec2", "associate_route_table", retry_on=(*_NEW, _ASSOCIATED), **given)

    def _take(self, id_: str, subnet_id: str) -> bool:
        """Associate a subnet that uses another table, in one step. Return whether it uses this table now."""
        for table in ROUTE_TABLES.matching(self.session, {"association.subnet-id": subnet_id}):
            association = _associations(table).get(subnet_id)
            if association is None:
                continue
            if table["RouteTableId"] == id_:
                return True
            replaced = self.session.look(
                "ec2",
                "replace_route_table_association",
                ("InvalidAssociationID.NotFound",),
                AssociationId=association,
                RouteTableId=id_,
            )
            return replaced is not None
        return False

    def _disassociate(self, association: str) -> None:
        self.session.look(
            "ec2", "disassociate_route_table", ("InvalidAssociationID.NotFound",), AssociationId=association
        )

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        table = ROUTE_TABLES.one(self.session, id_) or {}
        for association in table.get("Associations") or ():
            if not association.get("Main"):
                self._disassociate(association["RouteTableAssociationId"])
        delete_unused(
            self.session,
            request,
            "delete_route_table",
            lambda: self._users(id_),
            absent=ROUTE_TABLES.absent,
            RouteTableId=id_,
        )

    def _users(self, id_: str) -> list[str]:
        table = ROUTE_TABLES.one(self.session, id_) or {}
        return [
            f"the VPC {table['VpcId']}, whose main table it is"
            if association.get("Main")
            else f"{association.get('SubnetId') or association.get('GatewayId') or 'something'}, associated with it"
            for association in table.get("Associations") or ()
        ]


def _routes(table: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the routes that clients created, in the schema's form."""
    for route in table.get("Routes") or ():
        gateway = str(route.get("GatewayId", ""))
        is_of_gateway_endpoint = gateway.startswith("vpce-") and "DestinationPrefixListId" in route
        if route.get("Origin", "CreateRoute") == "CreateRoute" and gateway != "local" and not is_of_gateway_endpoint:
            yield _route({**route, "GatewayId": None, "VpcEndpointId": gateway} if gateway[:5] == "vpce-" else route)


def _route(route: Mapping[str, Any]) -> dict[str, str]:
    destination = next((name, key) for name, key in _DESTINATIONS.items() if route.get(key))
    target = next(((name, key) for name, key in _TARGETS.items() if route.get(key)), None)
    return {name: str(route[key]) for name, key in (destination, *((target,) if target else ()))}


def _destination(route: Route) -> tuple[str, str]:
    name = next(name for name in _DESTINATIONS if route.get(name) is not None)
    return name, route[name] if name == "destination_prefix_list_id" else normal_network(route[name])


def _target(route: Route) -> tuple[str, str] | None:
    return next(((name, route[name]) for name in _TARGETS if route.get(name) is not None), None)


def _associations(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the subnets that use a table, each with the id of its association."""
    return {
        item["SubnetId"]: item["RouteTableAssociationId"]
        for item in table.get("Associations") or ()
        if item.get("SubnetId") and (item.get("AssociationState") or {}).get("State") != "disassociated"
    }
