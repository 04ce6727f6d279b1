# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second resource that claims an exclusive AWS setting is rejected before any call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.endpoints import VpcEndpoint
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, make_kinds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import DescriptionError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    Owner,
    Resource,
    Stack,
    Subject,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.world import Description

VPC = "${vpc.main.id}"
PREREQUISITES: Mapping[str, Mapping[str, Any]] = {
    "vpc.main": {"cidr_block": "10.0.0.0/16"},
    "subnet.a": {"vpc_id": VPC, "cidr_block": "10.0.1.0/24", "availability_zone": "eu-central-1a"},
    "subnet.b": {"vpc_id": VPC, "cidr_block": "10.0.2.0/24", "availability_zone": "eu-central-1b"},
    "elastic_ip.a": {},
    "route_table.main": {"vpc_id": VPC},
    "eks_cluster.main": {"name": "lake", "role_arn": "arn:aws:iam::1:role/x", "subnet_ids": ["${subnet.a.id}", "b"]},
}
ADDRESS = "${elastic_ip.a.id}"
CLUSTER = {"cluster_name": "${eks_cluster.main.name}"}
POD = {"namespace": "lake", "service_account": "api", "role_arn": "arn:aws:iam::1:role/x"}
S3 = {"vpc_id": VPC, "route_table_ids": ["${route_table.main.id}"]}
# Per claim the two resources, and the claimed setting; none where both are allowed.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a subnet in two route tables": (
        "route_table",
        {"vpc_id": VPC, "subnet_ids": ["${subnet.a.id}", "${subnet.b.id}"]},
        {"vpc_id": VPC, "subnet_ids": ["${subnet.b.id}"]},
        "subnet_ids: ${subnet.b.id}",
    ),
    "subnets in a table each": (
        "route_table",
        {"vpc_id": VPC, "subnet_ids": ["${subnet.a.id}"]},
        {"vpc_id": VPC, "subnet_ids": ["${subnet.b.id}"]},
        "",
    ),
    "an address in two NAT gateways": (
        "nat_gateway",
        {"subnet_id": "${subnet.a.id}", "allocation_id": ADDRESS},
        {"subnet_id": "${subnet.b.id}", "allocation_id": ADDRESS},
        f"allocation_id: {ADDRESS}",
    ),
    "two NAT gateways without an address": (
        "nat_gateway",
        {"subnet_id": "${subnet.a.id}", "connectivity_type": "private"},
        {"subnet_id": "${subnet.b.id}", "connectivity_type": "private"},
        "",
    ),
    "two internet gateways in a VPC": ("internet_gateway", {"vpc_id": VPC}, {"vpc_id": VPC}, f"vpc_id: {VPC}"),
    "an alias of two keys": (
        "kms_key",
        {"alias": "alias/lake-${stack.region}"},
        {"alias": "alias/lake-eu-central-1"},
        "alias: alias/lake-eu-central-1",
    ),
    "a route to one service twice in a table": (
        "vpc_endpoint",
        {**S3, "service_name": "s3"},
        {**S3, "service_name": "com.amazonaws.${stack.region}.s3"},
        "service_name, route_table_ids: s3, ${route_table.main.id}",
    ),
    "a service account with two roles": (
        "pod_identity_association",
        {**CLUSTER, **POD},
        {"cluster_name": "lake", **POD},
        "cluster_name, namespace, service_account: lake, lake, api",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_second_claim_is_refused_with_what_it_claims(case: str) -> None:
    kind, first, second, claim = CASES[case]
    items = {**PREREQUISITES, f"{kind}.one": first, f"{kind}.two": second}
    split = ((address.partition("."), item) for address, item in items.items())
    resources = [Resource(name, word, item) for (name, _dot, word), item in split]
    stack = Stack("lake", "development", "0", {"region": "eu-central-1"})
    kinds = make_kinds(Session(Connection(region="eu-central-1")), {item.kind for item in resources})

    refused = []
    try:
        Description.of(stack, kinds, resources)
    except DescriptionError as error:
        refused = [str(fault) for fault in error.faults]
    assert refused == [f"{kind}.two: {claim} already belongs to {kind}.one; keep it in only one of them"] * bool(claim)


def test_every_relation_is_made_of_properties() -> None:
    for kind in make_kinds(Session(Connection(region="eu-central-1")), KINDS):
        for relation in kind.schema.exclusive_relations:
            assert relation, kind.name
            assert set(relation) <= set(kind.schema.properties), kind.name


class China(Session):
    """A region of AWS China, where services have two forms of names."""

    region = "cn-north-1"
    dns_suffix = "amazonaws.com.cn"

    def __init__(self) -> None:
        super().__init__(Connection())
        self.asked: list[tuple[str, Any]] = []

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        self.asked.append((operation, parameters["Filters"]))
        return ["com.amazonaws.cn-north-1.s3", "cn.com.amazonaws.cn-north-1.sts"] if key == "ServiceNames" else []


@pytest.mark.parametrize(
    ("service", "complete"),
    [("sts", "cn.com.amazonaws.cn-north-1.sts"), ("s3", "com.amazonaws.cn-north-1.s3")],
)
def test_in_china_the_region_tells_the_complete_name_of_a_service_once(service: str, complete: str) -> None:
    session = China()
    endpoint = VpcEndpoint(session)
    desired = {"vpc_id": "vpc-1", "service_name": service, "vpc_endpoint_type": "Interface"}
    subject = Subject("vpc_endpoint.a", Owner("lake", "development", "vpc_endpoint.a"), desired)
    for _again in range(2):
        assert endpoint.lookalikes(subject) == []

    assert [operation for operation, _filters in session.asked].count("describe_vpc_endpoint_services") == 1
    assert {"Name": "service-name", "Values": [complete]} in session.asked[-1][1]
