# SPDX-License-Identifier: GPL-3.0-or-later
"""Log groups, dashboards and alarms: their lifecycle on emulators, and behaviour that only AWS has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.cloudwatch import RETENTION_DAYS
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

GROUP = {"name": "/lake/development"}
BODY = {"widgets": [{"type": "text", "x": 0, "y": 0, "width": 6, "height": 3, "properties": {"markdown": "Lake"}}]}
DASHBOARD = {"dashboard.main": {"name": "lake-development", "body": BODY}}
ALARM = {
    "name": "lake-nodes-development",
    "namespace": "ContainerInsights",
    "metric_name": "cluster_failed_node_count",
    "dimensions": {"ClusterName": "lake-development"},
    "statistic": "Maximum",
    "period": 300,
    "evaluation_periods": 3,
    "threshold": 0,
    "comparison_operator": "GreaterThanThreshold",
    "description": "A node has failed",
}


def group_arn(lab: Lab, id_: str) -> str:
    return f"arn:aws:logs:{lab.emulator.region}:{lab.emulator.account_id}:log-group:{id_}"


def group_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    lab.client("logs").tag_resource(resourceArn=group_arn(lab, id_), tags=tags)
    lab.client("logs").untag_resource(resourceArn=group_arn(lab, id_), tagKeys=removed)


def alarm_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    client = lab.client("cloudwatch")
    arn = client.describe_alarms(AlarmNames=[id_])["MetricAlarms"][0]["AlarmArn"]
    client.tag_resource(ResourceARN=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    client.untag_resource(ResourceARN=arn, TagKeys=removed)


def group(lab: Lab, name: str = GROUP["name"]) -> dict[str, Any]:
    found: dict[str, Any] = lab.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"][0]
    return found


def test_life_of_a_log_group(lab: Lab) -> None:
    lab.assert_matrix(
        "log_group.main",
        {**GROUP, "kms_key_id": "${kms_key.one.arn}"},
        {"kms_key.one": {"alias": "alias/one"}},
        changes={"retention_in_days": 30, "for ever": {"retention_in_days": None}},
        vanish=lambda lab, id_: lab.client("logs").delete_log_group(logGroupName=id_),
        edit_tags=group_tags,
        unprotect=("log_group.main", "kms_key.one"),
    )


# moto does not store the class of a group.
@pytest.mark.emulators("ministack")
def test_another_class_is_another_group(lab: Lab) -> None:
    lab.apply({"log_group.main": GROUP})
    rare = {"log_group.main": {**GROUP, "log_group_class": "INFREQUENT_ACCESS"}}
    with pytest.raises(RefusedError, match="log_group_class"):
        lab.plan(rare)
    assert lab.apply(rare, unprotect=("log_group.main",)).plan.node("log_group.main").action == "replace"
    assert group(lab)["logGroupClass"] == "INFREQUENT_ACCESS"
    lab.assert_unchanged(rare)


def test_every_retention_that_aws_takes(lab: Lab) -> None:
    described = {
        f"log_group.for-{days}": {"name": f"/lake/{days}", "retention_in_days": days} for days in RETENTION_DAYS
    }
    lab.apply(described)
    found = lab.client("logs").describe_log_groups(logGroupNamePrefix="/lake/")["logGroups"]
    assert {item["logGroupName"]: item["retentionInDays"] for item in found} == {
        f"/lake/{days}": days for days in RETENTION_DAYS
    }
    lab.assert_unchanged(described)


def test_a_retention_that_aws_does_not_take_is_refused_before_any_group_is_read(lab: Lab) -> None:
    with pytest.raises(DescriptionError, match=r"retention_in_days: 31 is not one of its choices"):
        lab.plan({"log_group.main": {**GROUP, "retention_in_days": 31}})
    with pytest.raises(DescriptionError, match="class DELIVERY"):
        lab.plan({"log_group.main": {**GROUP, "retention_in_days": 1, "log_group_class": "DELIVERY"}})
    assert {call.service for call in lab.wire.calls} <= {"sts"}


def test_planning_writes_no_retention_and_a_group_of_another_name_is_not_taken_for_it(lab: Lab) -> None:
    lab.client("logs").create_log_group(logGroupName=f"{GROUP['name']}/more")
    described = {"log_group.main": {**GROUP, "retention_in_days": 30}}
    assert lab.plan(described).node("log_group.main").action == "create"
    lab.apply(described)
    assert "retentionInDays" not in group(lab, f"{GROUP['name']}/more")


def test_a_group_without_tags_is_adopted_only_when_that_is_asked_for(lab: Lab) -> None:
    lab.client("logs").create_log_group(logGroupName=GROUP["name"])
    with pytest.raises(RefusedError, match="adopt: true"):
        lab.plan({"log_group.main": GROUP})
    assert lab.apply({"log_group.main": GROUP}, adopt=True).plan.node("log_group.main").action == "adopt"
    lab.assert_unchanged({"log_group.main": GROUP})


class Told(Behaviour):
    """Extends CloudWatch Logs' description of every group, and receives the calls that no emulator supports."""

    def __init__(self, **told: Any) -> None:
        self.told = told

    def before(self, call: Call) -> Answer | None:
        match call.operation:
            case "PutLogGroupDeletionProtection":
                self.told["deletionProtectionEnabled"] = call.parameters["deletionProtectionEnabled"]
            case "AssociateKmsKey":
                self.told["kmsKeyId"] = call.parameters["kmsKeyId"]
            case "DisassociateKmsKey":
                del self.told["kmsKeyId"]
            case _:
                return None
        return Answer({})

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != "DescribeLogGroups":
            return None
        body = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
        return Answer({**body, "logGroups": [{**found, **self.told} for found in body["logGroups"]]})


def test_the_key_of_a_log_group_changes(lab: Lab) -> None:
    lab.wire.behaviour = behaviour = Told()
    keys = {f"kms_key.{name}": {"alias": f"alias/{name}"} for name in ("one", "other")}
    without = {**keys, "log_group.main": GROUP}
    lab.apply(without)
    for name in ("one", "other"):
        described = {**keys, "log_group.main": {**GROUP, "kms_key_id": f"${{kms_key.{name}.arn}}"}}
        ran = lab.apply(described)
        assert ran.mutating == ["cloudwatch-logs:AssociateKmsKey"]
        assert behaviour.told == {"kmsKeyId": ran.outputs(f"kms_key.{name}")["arn"]}
        lab.assert_unchanged(described)
    assert lab.apply(without).mutating == ["cloudwatch-logs:DisassociateKmsKey"]
    lab.assert_unchanged(without)


def test_deletion_protection_is_taken_off_before_the_group_is_deleted(lab: Lab) -> None:
    behaviour = Told(deletionProtectionEnabled=True)
    protected = {"log_group.main": {**GROUP, "deletion_protection_enabled": True}}
    lab.apply(protected)
    lab.wire.behaviour = behaviour
    lab.assert_unchanged(protected)
    with pytest.raises(RefusedError, match="set `deletion_protection_enabled: false`"):
        lab.plan(protected, state="absent", unprotect=("log_group.main",))
    assert group(lab)
    lab.apply({"log_group.main": GROUP})
    assert behaviour.told == {"deletionProtectionEnabled": False}
    lab.destroy({"log_group.main": GROUP})


def test_retention_that_a_policy_of_the_account_decides_about_is_no_difference(lab: Lab) -> None:
    described = {"log_group.main": {**GROUP, "retention_in_days": 30}}
    lab.apply(described)
    lab.wire.behaviour = Told(retentionInDays=7, retentionPolicyName="everywhere")
    lab.assert_unchanged(described)
    lab.wire.behaviour = Told(retentionInDays=7)
    assert [change.path for change in lab.plan(described).node("log_group.main").changes] == ["retention_in_days"]


def test_access_denied_names_the_action(lab: Lab) -> None:
    class Denied(Behaviour):
        def before(self, call: Call) -> Answer | None:
            refused = call.operation in {"PutMetricAlarm", "CreateLogGroup"}
            return Answer.error("AccessDenied", "no", 403) if refused else None

    lab.wire.behaviour = Denied()
    report = lab.run({"log_group.main": GROUP, "metric_alarm.nodes": ALARM}).report
    assert "allow logs:CreateLogGroup" in report.result("log_group.main").message
    assert "allow cloudwatch:PutMetricAlarm" in report.result("metric_alarm.nodes").message


def test_life_of_a_dashboard(lab: Lab) -> None:
    # Neither emulator stores a dashboard's tags: its name assigns it to the stack.
    lab.assert_matrix(
        "dashboard.main",
        DASHBOARD["dashboard.main"],
        changes={"body": {"widgets": [*BODY["widgets"], *BODY["widgets"]]}},
        vanish=lambda lab, id_: lab.client("cloudwatch").delete_dashboards(DashboardNames=[id_]),
        edit_tags=None,
    )


def test_the_spelling_of_a_dashboard_is_no_difference_and_its_widgets_are(lab: Lab) -> None:
    lab.apply(DASHBOARD)
    client = lab.client("cloudwatch")
    client.put_dashboard(DashboardName="lake-development", DashboardBody=json.dumps(BODY, indent=4))
    lab.assert_unchanged(DASHBOARD)
    client.put_dashboard(DashboardName="lake-development", DashboardBody='{"widgets":[]}')
    assert lab.apply(DASHBOARD).mutating == ["cloudwatch:PutDashboard"]
    assert json.loads(client.get_dashboard(DashboardName="lake-development")["DashboardBody"]) == BODY


def test_a_dashboard_that_is_no_longer_described_goes_and_the_neighbours_stays(lab: Lab) -> None:
    lab.apply(DASHBOARD)
    neighbour = lab.other(environment="production")
    neighbour.apply({"dashboard.main": {"name": "lake-production", "body": BODY}})
    ran = lab.apply({}, prune=True)
    assert [node.action for node in ran.plan.nodes] == ["delete"]
    names = {entry["DashboardName"] for entry in lab.client("cloudwatch").list_dashboards()["DashboardEntries"]}
    assert names == {"lake-production"}


class Tagging(Behaviour):
    """Stores the tags of dashboards, as AWS does."""

    def __init__(self) -> None:
        self.tags: dict[str, list[dict[str, str]]] = {}

    def before(self, call: Call) -> Answer | None:
        name = str(call.parameters.get("ResourceARN", "")).rpartition("/")[2]
        if call.operation == "PutDashboard":
            # Only a creation accepts them.
            self.tags.setdefault(call.parameters["DashboardName"], call.parameters.get("Tags", []))
        elif call.operation == "TagResource":
            self.tags[name] = [*self.tags.get(name, []), *call.parameters["Tags"]]
            return Answer({})
        elif call.operation == "ListTagsForResource":
            return Answer({"Tags": self.tags.get(name, [])})
        return None


def test_where_tags_are_kept_they_say_whose_a_dashboard_is(lab: Lab) -> None:
    lab.wire.behaviour = Tagging()
    overview = {"dashboard.main": {"name": "overview", "body": BODY}}
    lab.apply(overview)
    lab.assert_unchanged(overview)
    other = lab.other(environment="production", wire=lab.wire)
    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'development'"):
        other.plan(overview)
    moved = {"dashboard.overview": overview["dashboard.main"]}
    assert lab.apply(moved).mutating == ["cloudwatch:TagResource"]


def test_a_dashboard_of_another_name_without_tags_is_adopted_only_when_that_is_asked_for(lab: Lab) -> None:
    lab.wire.behaviour = Tagging()
    lab.client("cloudwatch").put_dashboard(DashboardName="overview", DashboardBody=json.dumps(BODY))
    overview = {"dashboard.main": {"name": "overview", "body": BODY}}
    with pytest.raises(RefusedError, match="adopt: true"):
        lab.plan(overview)
    assert lab.apply(overview, adopt=True).plan.node("dashboard.main").action == "adopt"
    lab.assert_unchanged(overview)


# Neither emulator stores dashboards across regions; its widgets still identify one.
@pytest.mark.emulators("moto")
def test_a_dashboard_without_tags_belongs_to_the_region_of_its_widgets(lab: Lab) -> None:
    def body(region: str) -> dict[str, Any]:
        metric = {"region": region, "metrics": [["AWS/S3", "BucketSizeBytes"]], "title": "Size"}
        return {"widgets": [{"type": "metric", "width": 6, "height": 3, "properties": metric}]}

    described = {"dashboard.main": {"name": "lake-development${stack.region_suffix}", "body": body("eu-central-1")}}
    foreign = {"DashboardName": "lake-development", "DashboardBody": json.dumps(body("us-east-1"))}
    lab.client("cloudwatch").put_dashboard(**foreign)

    assert lab.apply(described, prune=True).id("dashboard.main") == "lake-development-euc1"
    lab.assert_unchanged(described, prune=True)
    lab.destroy(described)
    entries = lab.client("cloudwatch").list_dashboards()["DashboardEntries"]
    assert [entry["DashboardName"] for entry in entries] == ["lake-development"]

    own = {**foreign, "DashboardBody": json.dumps(body("eu-central-1"))}
    lab.client("cloudwatch").put_dashboard(**own)
    lab.assert_unchanged(described)


def test_life_of_an_alarm(lab: Lab) -> None:
    topic = f"arn:aws:sns:{lab.emulator.region}:{lab.emulator.account_id}:alerts"
    lab.assert_matrix(
        "metric_alarm.nodes",
        ALARM,
        changes={
            "description": "Another text",
            "no description": {"description": None},
            "namespace": "AWS/EKS",
            "metric_name": "other",
            "dimensions": {"ClusterName": "other"},
            "no dimensions": {"dimensions": None},
            "statistic": "Sum",
            "period": 60,
            "unit": "Count",
            "evaluation_periods": 5,
            "threshold": 80.5,
            "comparison_operator": "LessThanThreshold",
            "treat_missing_data": "notBreaching",
            "alarm_actions": [topic],
            "ok_actions": [topic],
            "insufficient_data_actions": [topic],
            "nobody": {"alarm_actions": [], "ok_actions": None, "insufficient_data_actions": []},
            "actions_enabled": False,
        },
        vanish=lambda lab, id_: lab.client("cloudwatch").delete_alarms(AlarmNames=[id_]),
        edit_tags=alarm_tags,
    )


# ministack returns a statistic instead of a percentile.
@pytest.mark.emulators("moto")
def test_an_alarm_on_a_percentile(lab: Lab) -> None:
    lab.apply({"metric_alarm.nodes": ALARM})
    described = {"metric_alarm.nodes": {**ALARM, "statistic": None, "extended_statistic": "p99"}}
    lab.apply(described)
    lab.assert_unchanged(described)


# ministack does not store the metrics of an alarm.
@pytest.mark.emulators("moto")
def test_an_alarm_on_an_expression(lab: Lab) -> None:
    stat = {
        "namespace": "AWS/NATGateway",
        "metric_name": "ErrorPortAllocation",
        "dimensions": {"NatGatewayId": "nat-1"},
        "period": 60,
        "stat": "Sum",
    }
    alarm = {
        "name": "lake-ports",
        "metrics": [
            {"id": "ports", "expression": "failed * 2", "label": "Ports"},
            {"id": "failed", "metric_stat": stat, "return_data": False},
        ],
        "threshold": 0,
        "comparison_operator": "GreaterThanThreshold",
    }
    lab.apply({"metric_alarm.ports": alarm})
    lab.assert_unchanged({"metric_alarm.ports": alarm})
    alarm["metrics"] = [alarm["metrics"][0], {**alarm["metrics"][1], "metric_stat": {**stat, "stat": "Maximum"}}]  # type: ignore[index]
    assert lab.apply({"metric_alarm.ports": alarm}).mutating == ["cloudwatch:PutMetricAlarm"]
    lab.assert_unchanged({"metric_alarm.ports": alarm})


def test_many_alarms_are_described_by_few_calls(lab: Lab) -> None:
    described = {f"metric_alarm.a{number}": {**ALARM, "name": f"lake-{number}"} for number in range(120)}
    lab.apply(described)
    before = len(lab.wire.calls)
    assert not lab.plan(described).changed
    names = [call.operation for call in lab.wire.calls[before:]]
    assert names.count("DescribeAlarms") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": [{"id": "a", "expression": "1"}]}, "one of metric_name and metrics"),
        ({"metric_name": None}, "one of metric_name and metrics"),
        ({"statistic": None}, "one of statistic and extended_statistic"),
        ({"namespace": None}, "namespace: is required with metric_name"),
        ({"period": 45}, "45 is neither 10, 20 or 30 nor a multiple of 60"),
        ({"threshold": None}, "one of threshold and threshold_metric_id"),
        ({"comparison_operator": "Greater"}, "is not one of its choices"),
        ({"alarm_actions": [f"arn:{number}" for number in range(6)]}, "has 6 actions"),
    ],
)
def test_an_alarm_that_cannot_be_is_refused_before_any_is_read(lab: Lab, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        lab.plan({"metric_alarm.nodes": {**ALARM, **change}})
    assert {call.service for call in lab.wire.calls} <= {"sts"}
