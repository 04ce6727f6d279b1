# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints of AWS services in a VPC, and flow logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab, ec2_tags, failures
from tests.integration.aws.test_network import NETWORK, VPC, Losing
from tests.integration.aws.wire import Answer, Behaviour, Call, Scripted

TABLES: dict[str, dict[str, Any]] = {
    **VPC,
    "route_table.a": {"vpc_id": "${vpc.main.id}"},
    "route_table.b": {"vpc_id": "${vpc.main.id}"},
}
S3 = {
    "vpc_id": "${vpc.main.id}",
    "service_name": "com.amazonaws.${stack.region}.s3",
    "route_table_ids": ["${route_table.a.id}"],
}
STS = {
    "vpc_id": "${vpc.main.id}",
    "service_name": "com.amazonaws.${stack.region}.sts",
    "vpc_endpoint_type": "Interface",
    "subnet_ids": ["${subnet.a.id}"],
    "private_dns_enabled": True,
}
READ_ONLY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}],
}
ROLE = "arn:aws:iam::111122223333:role/flow-logs"
TO_LOGS = {"resource_id": "${vpc.main.id}", "log_group_name": "/lake/flow", "deliver_logs_permission_arn": ROLE}


def remove_endpoint(lab: Lab, id_: str) -> None:
    lab.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[id_])


def remove_flow_log(lab: Lab, id_: str) -> None:
    lab.client("ec2").delete_flow_logs(FlowLogIds=[id_])


def test_a_gateway_endpoint_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "vpc_endpoint.s3",
        S3,
        TABLES,
        changes={"service_name": "com.amazonaws.${stack.region}.dynamodb"},
        replaces=["service_name"],
        vanish=remove_endpoint,
        edit_tags=ec2_tags,
    )


# moto cannot delete an endpoint whose route tables were changed.
@pytest.mark.emulators("ministack")
def test_a_gateway_endpoint_moves_to_other_route_tables_in_one_call(lab: Lab) -> None:
    described = {**TABLES, "vpc_endpoint.s3": S3}
    lab.apply(described)
    described["vpc_endpoint.s3"] = {**S3, "route_table_ids": ["${route_table.b.id}"]}

    assert lab.apply(described).mutating == ["ec2:ModifyVpcEndpoint"]
    lab.assert_unchanged(described)
    lab.destroy(described)


def test_a_route_table_that_another_endpoint_is_about_to_leave_is_waited_for(lab: Lab) -> None:
    class Routed(Behaviour):
        times = 3

        def before(self, call: Call) -> Answer | None:
            if call.operation != "ModifyVpcEndpoint" or not self.times:
                return None
            self.times -= 1
            return Answer.error("RouteAlreadyExists", "the table already has a route with this prefix list")

    described = {**TABLES, "vpc_endpoint.s3": S3}
    lab.apply(described)
    described["vpc_endpoint.s3"] = {**S3, "route_table_ids": ["${route_table.b.id}"]}
    lab.wire.behaviour = Routed()
    assert lab.apply(described).mutating == ["ec2:ModifyVpcEndpoint"] * 4
    lab.assert_unchanged(described)


@pytest.mark.emulators("moto")  # The other stores no policy, groups and private names of an endpoint.
def test_an_interface_endpoint_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "vpc_endpoint.sts",
        STS,
        NETWORK,
        changes={"service_name": "com.amazonaws.${stack.region}.ecr.api"},
        replaces=["service_name"],
        vanish=remove_endpoint,
        edit_tags=ec2_tags,
    )


class EndpointService:
    """Endpoints with the behaviour of AWS: asynchronous, with tokens, visible for a while after their deletion."""

    def __init__(self, *fates: str) -> None:
        self.fates = list(fates)
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.looks = 0

    def create(self, **given: Any) -> Mapping[str, Any]:
        id_ = self.tokens.setdefault(given["ClientToken"], f"vpce-{len(self.tokens)}")
        if id_ not in self.endpoints:
            kept = {key: given[key] for key in given if key not in {"ClientToken", "SecurityGroupIds"}}
            tags = kept.pop("TagSpecifications")[0]["Tags"]
            groups = [{"GroupId": group, "GroupName": group} for group in given.get("SecurityGroupIds", ["sg-default"])]
            extra = {"VpcEndpointId": id_, "State": "pending", "Tags": tags, "Groups": groups}
            self.endpoints[id_] = {"PrivateDnsEnabled": False, **kept, **extra}
        return {"VpcEndpoint": self.endpoints[id_]}

    def describe(self, VpcEndpointIds: list[str] | None = None, **_filters: Any) -> Mapping[str, Any]:  # noqa: N803
        self.looks += 1
        for endpoint in self.endpoints.values():
            if VpcEndpointIds and endpoint["State"] == "pending" and self.looks % 3 == 0:
                endpoint["State"] = self.fates.pop(0)
                if endpoint["State"] == "failed":
                    endpoint["LastError"] = {"Code": "Busy", "Message": "the service is not available here"}
            elif VpcEndpointIds and endpoint["State"] == "deleting" and self.looks % 3 == 0:
                endpoint["State"] = "deleted"
        found = self.endpoints.items()
        return {"VpcEndpoints": [item for id_, item in found if VpcEndpointIds is None or id_ in VpcEndpointIds]}

    def modify(self, VpcEndpointId: str, **given: Any) -> Mapping[str, Any]:  # noqa: N803
        endpoint = self.endpoints[VpcEndpointId]
        for name in ("SubnetIds", "RouteTableIds"):
            ids = {*endpoint.get(name, ()), *given.pop(f"Add{name}", ())} - {*given.pop(f"Remove{name}", ())}
            endpoint[name] = sorted(ids)
        groups = {group["GroupId"] for group in endpoint["Groups"]} | {*given.pop("AddSecurityGroupIds", ())}
        groups -= {*given.pop("RemoveSecurityGroupIds", ())}
        endpoint["Groups"] = [{"GroupId": group, "GroupName": group} for group in sorted(groups)]
        endpoint.update(given)
        endpoint["State"] = "pending"
        self.fates.append("available")
        return {"Return": True}

    def delete(self, VpcEndpointIds: list[str]) -> Mapping[str, Any]:  # noqa: N803
        for id_ in VpcEndpointIds:
            self.endpoints[id_]["State"] = "deleting"
        return {"Unsuccessful": []}

    def script(self) -> Scripted:
        script: dict[str, Callable[..., Any]] = {
            "ec2:CreateVpcEndpoint": self.create,
            "ec2:DescribeVpcEndpoints": self.describe,
            "ec2:ModifyVpcEndpoint": self.modify,
            "ec2:DeleteVpcEndpoints": self.delete,
        }
        return Scripted(script, passing=True)


GROUP = {"name": "endpoints", "description": "Endpoints", "vpc_id": "${vpc.main.id}"}


@pytest.mark.emulators("moto")  # The test provides the endpoints: neither emulator updates one as AWS does.
def test_an_interface_endpoint_is_waited_for_changed_in_place_and_removed(lab: Lab) -> None:
    service = EndpointService("available")
    lab.wire.behaviour = service.script()
    second = {"vpc_id": "${vpc.main.id}", "cidr_block": "10.0.2.0/24", "availability_zone": "eu-central-1b"}
    described = {**NETWORK, "subnet.b": second, "security_group.ends": GROUP, "vpc_endpoint.sts": STS}
    lab.apply(described)
    lab.assert_unchanged(described)

    for change in (
        {"subnet_ids": ["${subnet.b.id}"]},
        {"security_group_ids": ["${security_group.ends.id}"]},
        {"private_dns_enabled": False},
        {"policy": READ_ONLY},
        {"policy": None},
    ):
        described["vpc_endpoint.sts"] = {**described["vpc_endpoint.sts"], **change}
        assert lab.apply(described).mutating == ["ec2:ModifyVpcEndpoint"], change
        lab.assert_unchanged(described)
    lab.destroy(described)
    assert [endpoint["State"] for endpoint in service.endpoints.values()] == ["deleted"]


@pytest.mark.emulators("moto")  # The test provides the endpoints.
def test_an_endpoint_that_fails_says_why_and_the_next_run_makes_another(lab: Lab) -> None:
    service = EndpointService("failed", "available")
    lab.wire.behaviour = service.script()
    described = {**TABLES, "vpc_endpoint.s3": S3}

    report = lab.run(described).report
    assert "cannot become ready: failed: the service is not available here" in failures(report)
    lab.apply(described)

    assert sorted(endpoint["State"] for endpoint in service.endpoints.values()) == ["available", "deleted"]
    lab.assert_unchanged(described)


def test_an_endpoint_whose_answer_is_lost_is_found_again(lab: Lab) -> None:
    described = {**TABLES, "vpc_endpoint.s3": S3}
    lab.wire.behaviour = Losing("CreateVpcEndpoint")

    ran = lab.apply(described)

    assert ran.mutating.count("ec2:CreateVpcEndpoint") == 1
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(described)


@pytest.mark.emulators("moto")  # The other stores no policy of an endpoint.
def test_a_policy_that_allows_everything_is_the_same_however_it_is_said(lab: Lab) -> None:
    lab.apply({**TABLES, "vpc_endpoint.s3": S3})
    everything = {
        "Version": "2012-10-17",
        "Statement": {"Sid": "All", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["*"], "Resource": ["*"]},
    }
    lab.assert_unchanged({**TABLES, "vpc_endpoint.s3": {**S3, "policy": everything}})


def test_an_endpoint_that_somebody_else_made_is_taken_over_only_when_told_to(lab: Lab) -> None:
    ran = lab.apply(TABLES)
    made = lab.client("ec2").create_vpc_endpoint(
        VpcId=ran.id("vpc.main"),
        ServiceName="com.amazonaws.eu-central-1.s3",
        VpcEndpointType="Gateway",
        RouteTableIds=[ran.id("route_table.a")],
    )
    described = {**TABLES, "vpc_endpoint.s3": S3}

    with pytest.raises(RefusedError, match=f"exists as {made['VpcEndpoint']['VpcEndpointId']}"):
        lab.plan(described)
    assert lab.apply(described, adopt=True).id("vpc_endpoint.s3") == made["VpcEndpoint"]["VpcEndpointId"]
    lab.assert_unchanged(described)


# ministack does not tag a flow log at its creation.
@pytest.mark.emulators("moto")
def test_a_flow_log_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "flow_log.vpc",
        TO_LOGS,
        {**NETWORK, "vpc.other": {"cidr_block": "10.1.0.0/16"}},
        changes={
            "log_group_name": "/lake/other",
            "traffic_type": "REJECT",
            "max_aggregation_interval": 60,
            "deliver_logs_permission_arn": f"{ROLE}-2",
            "resource_id": "${vpc.other.id}",
            "of a subnet": {"resource_id": "${subnet.a.id}", "resource_type": "Subnet"},
        },
        replaces=[
            "log_group_name",
            "traffic_type",
            "max_aggregation_interval",
            "deliver_logs_permission_arn",
            "resource_id",
            "of a subnet",
        ],
        vanish=remove_flow_log,
        edit_tags=ec2_tags,
    )


@pytest.mark.emulators("moto")  # The other does not tag a flow log at its creation.
def test_flow_logs_go_into_a_bucket(lab: Lab) -> None:
    lab.client("s3").create_bucket(Bucket="flows", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    described = {**VPC, "flow_log.vpc": {"resource_id": "${vpc.main.id}", "log_destination": "arn:aws:s3:::flows"}}

    lab.apply(described)

    lab.assert_unchanged(described)
    lab.destroy(described)


@pytest.mark.emulators("moto")  # The other creates it nevertheless.
def test_a_flow_log_that_aws_refuses_says_why(lab: Lab) -> None:
    described = {**VPC, "flow_log.vpc": {"resource_id": "${vpc.main.id}", "log_destination": "arn:aws:s3:::nowhere"}}
    report = lab.run(described).report
    assert "ec2:CreateFlowLogs: 400: LogDestination: nowhere does not exist" in failures(report)


@pytest.mark.emulators("moto")  # The other does not tag a flow log at its creation.
def test_a_flow_log_whose_answer_is_lost_is_found_again(lab: Lab) -> None:
    described = {**VPC, "flow_log.vpc": TO_LOGS}
    lab.wire.behaviour = Losing("CreateFlowLogs")

    assert lab.apply(described).mutating.count("ec2:CreateFlowLogs") == 1
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(described)


@pytest.mark.emulators("moto")  # The other does not tag a flow log at its creation.
def test_a_flow_log_waits_for_a_role_that_is_not_everywhere_yet(lab: Lab) -> None:
    class Young(Behaviour):
        refused = 0

        def before(self, call: Call) -> Answer | None:
            if call.operation == "CreateFlowLogs" and self.refused < 2:
                self.refused += 1
                return Answer.error("InvalidParameter", "Unable to assume given IAM role")
            return None

    lab.wire.behaviour = young = Young()
    lab.apply({**VPC, "flow_log.vpc": TO_LOGS})
    assert young.refused == 2


@pytest.mark.emulators("moto")  # The other does not tag a flow log at its creation.
def test_a_flow_log_to_a_log_group_by_its_arn_is_the_same_as_by_its_name(lab: Lab) -> None:
    lab.apply({**VPC, "flow_log.vpc": TO_LOGS})
    arn = f"arn:aws:logs:eu-central-1:{lab.emulator.account_id}:log-group:/lake/flow:*"
    named = {key: value for key, value in TO_LOGS.items() if key != "log_group_name"}

    lab.assert_unchanged({**VPC, "flow_log.vpc": {**named, "log_destination": arn}})
