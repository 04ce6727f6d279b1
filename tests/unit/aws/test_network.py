# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks before any call: rejected descriptions, and equal forms of a value."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.endpoints import FULL_ACCESS
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import make_kinds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.security_rules import (
    described_rule,
    identity,
    normal_rule,
    permission,
    permitted,
    rule_request,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.diff import diff
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import DescriptionError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource, Stack
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import found, wanted
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.world import Description

KINDS = make_kinds(
    Session(Connection()),
    (
        "vpc",
        "subnet",
        "internet_gateway",
        "elastic_ip",
        "nat_gateway",
        "route_table",
        "security_group",
        "vpc_endpoint",
        "flow_log",
    ),
)
SCHEMAS = {kind.name: kind.schema for kind in KINDS}
DESCRIBED: dict[str, dict[str, Any]] = {
    "vpc.main": {"cidr_block": "10.0.0.0/16"},
    "subnet.a": {"vpc_id": "${vpc.main.id}", "cidr_block": "10.0.1.0/24", "availability_zone": "eu-central-1a"},
    "internet_gateway.main": {"vpc_id": "${vpc.main.id}"},
    "elastic_ip.one": {},
    "nat_gateway.main": {"subnet_id": "${subnet.a.id}", "allocation_id": "${elastic_ip.one.id}"},
    "route_table.main": {
        "vpc_id": "${vpc.main.id}",
        "routes": [{"destination_cidr_block": "0.0.0.0/0", "gateway_id": "${internet_gateway.main.id}"}],
    },
    "vpc_endpoint.s3": {
        "vpc_id": "${vpc.main.id}",
        "service_name": "com.amazonaws.eu-central-1.s3",
        "route_table_ids": ["${route_table.main.id}"],
    },
    "flow_log.vpc": {
        "resource_id": "${vpc.main.id}",
        "log_group_name": "/lake/flow",
        "deliver_logs_permission_arn": "arn:aws:iam::111122223333:role/flow-logs",
    },
    "security_group.app": {"name": "app", "description": "Applications", "vpc_id": "${vpc.main.id}"},
    "security_group.other": {"name": "other", "description": "Others", "vpc_id": "${vpc.main.id}"},
}
ROUTE = DESCRIBED["route_table.main"]["routes"][0]
WEB = {"protocol": "tcp", "from_port": 80, "cidr_ipv4": "0.0.0.0/0"}
EVERYTHING = {"Sid": "All", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["*"], "Resource": ["*"]}


def describe(changes: dict[str, dict[str, Any]]) -> Description:
    """Check a description in which some resources have other properties."""
    given = {address: {**properties, **changes.get(address, {})} for address, properties in DESCRIBED.items()}
    split = [(*address.partition(".")[::2], properties) for address, properties in given.items()]
    resources = [Resource(kind, name, properties) for kind, name, properties in split]
    return Description.of(Stack("lake", "development", "1.0.0"), KINDS, resources)


def changed_paths(kind: str, desired: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """Return the paths at which the desired properties differ from the reading."""
    properties = {name: item for name, item in SCHEMAS[kind].properties.items() if name in desired}
    values, validation_errors = wanted(properties, desired, "salt")
    assert not validation_errors
    return [change.path for change in diff(properties, values, found(properties, actual, "salt"))]


@pytest.mark.parametrize(
    ("address", "properties", "message"),
    [
        ("vpc.main", {"cidr_block": "10.0.0.0/8"}, "'10.0.0.0/8' is too large: AWS accepts /16 to /28"),
        ("vpc.main", {"cidr_block": "10.0.0.0/29"}, "'10.0.0.0/29' is too small: AWS accepts /16 to /28"),
        ("vpc.main", {"cidr_block": "10.0.0.1/16"}, "'10.0.0.1/16' is not an IPv4 network: 10.0.0.1/16 has host bits"),
        ("vpc.main", {"cidr_block": "127.0.0.0/16"}, "'127.0.0.0/16' is reserved, and AWS accepts none of 0.0.0.0/8"),
        ("vpc.main", {"cidr_block": "169.254.0.0/20"}, "'169.254.0.0/20' is reserved"),
        ("vpc.main", {"cidr_block": None}, "vpc.main: cidr_block: is required and not given"),
        ("subnet.a", {"cidr_block": "ten"}, "'ten' is not an IPv4 network"),
        ("subnet.a", {"map_public_ip_on_launch": "maybe"}, "'maybe' is not a boolean"),
        ("subnet.a", {"zone": "a"}, "subnet.a: zone: there is no such property"),
        ("nat_gateway.main", {"allocation_id": None}, "allocation_id: is required and not given; name an elastic_ip"),
        ("nat_gateway.main", {"connectivity_type": "private"}, "a private NAT gateway takes no address"),
        ("nat_gateway.main", {"connectivity_type": "secret"}, "'secret' is not one of its choices"),
        ("vpc_endpoint.s3", {"subnet_ids": ["s-1"]}, "subnet_ids: an endpoint of type Gateway has none"),
        ("vpc_endpoint.s3", {"vpc_endpoint_type": "Interface"}, "route_table_ids: an endpoint of type Interface has"),
        ("vpc_endpoint.s3", {"vpc_endpoint_type": "gateway"}, "did you mean 'Gateway'?"),
        ("vpc_endpoint.s3", {"policy": "{"}, "policy: is not valid JSON"),
        ("flow_log.vpc", {"log_group_name": None}, "log_group_name: is not given, nor is log_destination"),
        ("flow_log.vpc", {"log_destination": "arn:aws:s3:::b"}, "log_group_name: is given beside log_destination"),
        ("flow_log.vpc", {"deliver_logs_permission_arn": None}, "name a role that may write to the log group"),
        ("flow_log.vpc", {"log_destination": "flows"}, "'flows' is not the ARN of a bucket or of a log group"),
        ("flow_log.vpc", {"max_aggregation_interval": 300}, "300 is not one of its choices"),
        (
            "flow_log.vpc",
            {"log_group_name": None, "log_destination": "arn:aws:s3:::flows"},
            "deliver_logs_permission_arn: has no use for a bucket",
        ),
        ("security_group.app", {"name": "sg-app"}, "does not begin with sg-"),
        ("security_group.app", {"description": "Application's"}, "a description has up to 255 letters"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_call(
    address: str, properties: dict[str, Any], message: str
) -> None:
    with pytest.raises(DescriptionError) as caught:
        describe({address: properties})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ({"gateway_id": "igw-1"}, "routes[0]: has no destination; set exactly one of destination_cidr_block"),
        ({"destination_cidr_block": "0.0.0.0/0"}, "routes[0]: has no target; set exactly one of gateway_id"),
        ({**ROUTE, "nat_gateway_id": "nat-1"}, "routes[0]: has gateway_id and nat_gateway_id"),
        ({**ROUTE, "destination_cidr_block": "10.0.0.1/8"}, "routes[0].destination_cidr_block: '10.0.0.1/8' is not"),
        ({**ROUTE, "destination_cidr_block": "everywhere"}, "'everywhere' is not an IPv4 network"),
        ({**ROUTE, "gatewayid": "igw-1"}, "there is no such property; did you mean 'gateway_id'?"),
        ("0.0.0.0/0", "routes[0]: '0.0.0.0/0' is not a map"),
    ],
)
def test_a_route_that_cannot_be_is_refused_before_the_first_call(route: Any, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        describe({"route_table.main": {"routes": [route]}})
    assert message in str(caught.value)


def test_two_routes_to_one_destination_are_refused() -> None:
    twice = [ROUTE, {"destination_cidr_block": "0.0.0.0/0", "nat_gateway_id": "nat-1"}]
    with pytest.raises(DescriptionError, match=r"0\.0\.0\.0/0 has another route in routes\[0\]; keep one of them"):
        describe({"route_table.main": {"routes": twice}})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"protocol": "tcp", "from_port": 80}, "ingress[0]: has no source; set exactly one of"),
        ({**WEB, "security_group_id": "${security_group.other.id}"}, "has cidr_ipv4 and security_group_id"),
        ({**WEB, "self": True}, "ingress[0]: has cidr_ipv4 and self"),
        ({"protocol": "tcp", "cidr_ipv4": "0.0.0.0/0"}, "ingress[0].from_port: is required and not given"),
        ({**WEB, "to_port": 79}, "ingress[0]: 80 to 79 are not valid ports"),
        ({**WEB, "from_port": 70000}, "70000 is not a port"),
        ({**WEB, "protocol": "http"}, "'http' is not tcp, udp, icmp, icmpv6, -1 (all) or a protocol's number"),
        ({**WEB, "protocol": 256}, "'256' is not tcp"),
        ({"from_port": 80, "cidr_ipv4": "0.0.0.0/0"}, "ingress[0].protocol: is required and not given"),
        ({**WEB, "cidr_ipv4": "10.0.0.1/8"}, "ingress[0].cidr_ipv4: '10.0.0.1/8' is not an IPv4 network"),
        ({**WEB, "cidr_ipv4": None, "cidr_ipv6": "10.0.0.0/8"}, "'10.0.0.0/8' is not an IPv6 network"),
        ({**WEB, "description": "elbv2.k8s.aws/shared"}, "is how a controller of a cluster marks its own rules"),
        ({**WEB, "description": "für alle"}, "a description has up to 255 letters"),
        ({**WEB, "port": 80}, "ingress[0].port: there is no such property"),
        ("tcp/80", "ingress[0]: 'tcp/80' is not a map"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_before_the_first_call(rule: Any, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        describe({"security_group.app": {"ingress": [rule]}})
    assert message in str(caught.value)


def test_two_rules_that_differ_in_their_description_alone_are_refused() -> None:
    twice = [WEB, {**WEB, "protocol": "6", "to_port": 80, "description": "the same"}]
    with pytest.raises(DescriptionError, match=r"egress\[1\]: is the same rule as egress\[0\]"):
        describe({"security_group.app": {"egress": twice}})


def test_groups_may_refer_to_each_other_in_a_circle() -> None:
    def rule(name: str) -> dict[str, Any]:
        return {"protocol": "-1", "security_group_id": f"${{security_group.{name}.id}}"}

    description = describe(
        {"security_group.app": {"ingress": [rule("other")]}, "security_group.other": {"ingress": [rule("app")]}}
    )
    assert description.graph.deferred["security_group.app"] == {"security_group.other"}


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ({"protocol": "all", "cidr_ipv4": "0.0.0.0/0"}, {"protocol": "-1", "cidr_ipv4": "0.0.0.0/0"}),
        (
            {"protocol": "-1", "from_port": 0, "to_port": 0, "self": True},
            {"protocol": "-1", "from_port": -1, "to_port": -1, "self": True},
        ),
        (
            {"protocol": "TCP", "from_port": 22, "self": True},
            {"protocol": "tcp", "from_port": 22, "to_port": 22, "self": True},
        ),
        (
            {"protocol": 17, "from_port": 53, "self": "yes"},
            {"protocol": "udp", "from_port": 53, "to_port": 53, "self": True},
        ),
        (
            {"protocol": "icmp", "cidr_ipv4": "10.0.0.0/8"},
            {"protocol": "icmp", "from_port": -1, "to_port": -1, "cidr_ipv4": "10.0.0.0/8"},
        ),
        (
            {"protocol": "58", "from_port": 128, "cidr_ipv6": "::/0"},
            {"protocol": "icmpv6", "from_port": 128, "to_port": -1, "cidr_ipv6": "::/0"},
        ),
        (
            {"protocol": "50", "from_port": 0, "to_port": 0, "cidr_ipv6": "2001:DB8:0::/32", "description": ""},
            {"protocol": "50", "from_port": -1, "to_port": -1, "cidr_ipv6": "2001:db8::/32"},
        ),
        (
            {"protocol": "tcp", "from_port": 22, "cidr_ipv4": "192.0.2.7"},
            {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidr_ipv4": "192.0.2.7/32"},
        ),
    ],
)
def test_a_rule_is_the_same_in_the_form_that_ec2_answers(given: dict[str, Any], answered: dict[str, Any]) -> None:
    assert changed_paths("security_group", {"ingress": [given]}, {"ingress": [answered]}) == []


@pytest.mark.parametrize(
    "other",
    [{"to_port": 81}, {"protocol": "udp"}, {"cidr_ipv4": "10.0.0.0/8"}, {"description": "web"}],
)
def test_a_rule_that_says_something_else_differs(other: dict[str, Any]) -> None:
    actual = normal_rule({**WEB, **other})
    assert changed_paths("security_group", {"ingress": [WEB]}, {"ingress": [actual]}) == ["ingress"]


def test_rules_that_a_group_sums_up_come_apart() -> None:
    summed_up = {
        "IpProtocol": "tcp",
        "FromPort": 443,
        "ToPort": 443,
        "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "offices"}, {"CidrIp": "192.0.2.0/24"}],
        "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}],
        "PrefixListIds": [{"PrefixListId": "pl-1"}],
        "UserIdGroupPairs": [
            {"GroupId": "sg-own", "UserId": "111122223333"},
            {"GroupId": "sg-other", "Description": "elbv2.k8s.aws/targetGroupBinding=shared"},
        ],
    }
    head = {"protocol": "tcp", "from_port": 443, "to_port": 443}

    assert list(permitted([summed_up], "sg-own")) == [
        {**head, "cidr_ipv4": "10.0.0.0/8", "description": "offices"},
        {**head, "cidr_ipv4": "192.0.2.0/24"},
        {**head, "cidr_ipv6": "2001:db8::/32"},
        {**head, "prefix_list_id": "pl-1"},
        {**head, "self": True},
    ]


@pytest.mark.parametrize(
    ("source", "answered"),
    [
        ({"cidr_ipv4": "10.0.0.0/8"}, {"CidrIpv4": "10.0.0.0/8"}),
        ({"cidr_ipv6": "2001:db8::/32"}, {"CidrIpv6": "2001:db8::/32"}),
        ({"prefix_list_id": "pl-1"}, {"PrefixListId": "pl-1"}),
        ({"security_group_id": "sg-other"}, {"ReferencedGroupInfo": {"GroupId": "sg-other"}}),
        ({"self": True}, {"ReferencedGroupInfo": {"GroupId": "sg-own"}}),
    ],
)
def test_a_rule_is_recognised_by_what_ec2_made_of_it(source: dict[str, Any], answered: dict[str, Any]) -> None:
    rule = normal_rule({"protocol": "tcp", "from_port": 443, **source, "description": "one"})
    made = {"SecurityGroupRuleId": "sgr-1", "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, **answered}

    assert identity(described_rule(made, "sg-own")) == identity(rule)
    (sources,) = [value for value in permission(rule, "sg-own").values() if isinstance(value, list)]
    assert len(sources) == 1
    assert sources[0]["Description"] == "one"
    assert len(rule_request(rule, "sg-own")) == 5


@pytest.mark.parametrize(
    "policy",
    [
        FULL_ACCESS,
        {"Version": "2012-10-17", "Statement": EVERYTHING},
        {"Version": "2012-10-17", "Statement": [{**EVERYTHING, "Principal": {"AWS": ["*"]}}]},
    ],
)
def test_a_policy_that_allows_everything_is_the_same_as_none(policy: dict[str, Any]) -> None:
    assert changed_paths("vpc_endpoint", {"policy": policy}, {"policy": None}) == []
    assert changed_paths("vpc_endpoint", {"policy": None}, {"policy": policy}) == []


@pytest.mark.parametrize(
    "policy",
    [
        {"Version": "2012-10-17", "Statement": {**EVERYTHING, "Action": "s3:*"}},
        {"Version": "2012-10-17", "Statement": {**EVERYTHING, "Effect": "Deny"}},
        {"Version": "2012-10-17", "Statement": {**EVERYTHING, "Condition": {"Bool": {"aws:SecureTransport": True}}}},
        {"Version": "2012-10-17", "Statement": [EVERYTHING, {**EVERYTHING, "Effect": "Deny", "Action": "s3:Put*"}]},
    ],
)
def test_a_policy_that_allows_less_differs(policy: dict[str, Any]) -> None:
    assert changed_paths("vpc_endpoint", {"policy": None}, {"policy": policy}) == ["policy"]


def test_every_kind_says_what_its_properties_are_for() -> None:
    for kind in KINDS:
        missing = [name for name, item in kind.schema.properties.items() if not item.purpose]
        missing += [name for name, item in kind.schema.outputs.items() if not item.purpose]
        assert not missing, f"{kind.name}: {missing}"
