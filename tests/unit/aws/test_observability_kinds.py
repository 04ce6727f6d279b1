# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases, topics, alarms, backups and budgets: rules that need no service."""

from __future__ import annotations

import json
import re
from typing import Any

import botocore.session
import pytest
from botocore.validate import validate_parameters
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import rds_rules
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.backup_plans import (
    RULES,
    SELECTIONS,
    plan_parameters,
    read_rules,
    read_selection,
    selection_parameters,
    selection_text,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds import alarms
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.alarms import MetricAlarm
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.cloudwatch import (
    RETENTION_DAYS,
    LogGroup,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.sns import (
    default_policy,
    is_default_policy,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.rds_instance import (
    PARAMETERS,
    SCHEMA,
    final_snapshot,
    gives_iops,
    is_busy,
    read_instance,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.diff import diff
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Actual, Owner
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property, found, wanted

TOPIC = "arn:aws:sns:eu-central-1:111122223333:alerts"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
INSTANCE: dict[str, Any] = {
    "DBInstanceIdentifier": "lake",
    "DBInstanceStatus": "available",
    "DBInstanceArn": "arn:aws:rds:eu-central-1:111122223333:db:lake",
    "Engine": "postgres",
    "EngineVersion": "16.3",
    "AllocatedStorage": 20,
    "StorageType": "gp3",
}


def shape(service: str, name: str) -> Any:
    return botocore.session.Session().get_service_model(service).shape_for(name)


def normalised(properties: dict[str, Property], given_: dict[str, Any]) -> dict[str, Any]:
    values, validation_errors = wanted(properties, given_, "salt")
    assert validation_errors == []
    return values


@pytest.mark.parametrize(
    ("daily", "weekly", "expected"),
    [
        ("02:00-03:00", "sun:04:00-sun:05:00", False),
        ("04:30-05:30", "sun:04:00-sun:05:00", True),
        ("03:30-04:00", "sun:04:00-sun:05:00", False),
        ("05:00-05:30", "Sun:04:00-Sun:05:00", False),
        ("23:30-00:30", "mon:00:00-mon:01:00", True),
        ("00:00-00:30", "sun:23:45-mon:00:15", True),
        ("12:00-12:30", "mon:00:00-wed:00:00", True),
        ("nonsense", "mon:00:00-wed:00:00", False),
        ("12:00-12:30", "nonsense", False),
    ],
)
def test_whether_two_windows_meet(daily: str, weekly: str, expected: bool) -> None:
    assert rds_rules.windows_meet(daily, weekly) is expected


MINUTES = st.integers(0, 24 * 60 - 1)


@given(MINUTES, st.integers(30, 600), st.integers(0, 6), MINUTES, st.integers(30, 600))
def test_two_windows_meet_when_they_share_a_minute(
    begin: int, length: int, day: int, start: int, duration: int
) -> None:
    week = 7 * 24 * 60
    daily = {(begin + minute + 24 * 60 * index) % week for index in range(7) for minute in range(length)}
    weekly = {(day * 24 * 60 + start + minute) % week for minute in range(duration)}

    def clock(minutes: int) -> str:
        return f"{minutes // 60 % 24:02}:{minutes % 60:02}"

    end = day * 24 * 60 + start + duration
    last = DAYS[end // (24 * 60) % 7]
    met = rds_rules.windows_meet(
        f"{clock(begin)}-{clock(begin + length)}", f"{DAYS[day]}:{clock(start)}-{last}:{clock(end)}"
    )

    assert met == bool(daily & weekly)


@pytest.mark.parametrize(
    ("wanted_version", "running", "itself", "expected"),
    [
        ("16.3", "16.3", False, True),
        ("16", "16.8", False, True),
        ("1", "16.8", True, False),
        ("16.3", "16.10", True, True),
        ("16.3", "16.10", False, False),
        ("16.10", "16.3", True, False),
        ("15.3", "16.3", True, False),
        ("17", "16.8", True, False),
        ("11.22-rds.20240418", "11.22-rds.20240808", True, True),
    ],
)
def test_whether_a_release_is_the_wanted_one(wanted_version: str, running: str, itself: bool, expected: bool) -> None:
    assert rds_rules.runs_release(wanted_version, running, upgrades_itself=itself) is expected


@pytest.mark.parametrize("value", ["a", "lake-development", "Lake1", "a" * 63])
def test_identifiers_that_rds_takes(value: str) -> None:
    assert rds_rules.identifier_fault(value) is None


@pytest.mark.parametrize("value", ["", "1a", "-a", "a-", "a--b", "a_b", "a" * 64])
def test_identifiers_that_rds_does_not_take(value: str) -> None:
    assert rds_rules.identifier_fault(value)


@pytest.mark.parametrize(
    ("value", "taken"), [("Lake 1_a.b-c", True), ("default", False), ("1a", False), ("a" * 256, False)]
)
def test_names_of_subnet_groups(value: str, taken: bool) -> None:
    assert (rds_rules.group_fault(value) is None) is taken


def test_every_parameter_of_an_instance_is_one_that_rds_knows() -> None:
    creation, change = shape("rds", "CreateDBInstanceMessage"), shape("rds", "ModifyDBInstanceMessage")
    assert {first for first, _second in PARAMETERS.values()} <= set(creation.members)
    assert {second for _first, second in PARAMETERS.values() if second} <= set(change.members)
    assert set(PARAMETERS) <= set(SCHEMA.properties)


def test_every_property_of_an_instance_that_rds_keeps_is_read_back() -> None:
    unkept = {"allow_major_version_upgrade", "apply_immediately"}
    assert set(read_instance(INSTANCE).properties) == set(SCHEMA.properties) - unkept


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("available", "ready"),
        ("backing-up", "ready"),
        ("stopped", "ready"),
        ("creating", "creating"),
        ("deleting", "deleting"),
        ("failed", "failed"),
    ],
)
def test_states_of_an_instance(status: str, expected: str) -> None:
    assert read_instance({**INSTANCE, "DBInstanceStatus": status}).status == expected


@pytest.mark.parametrize("status", ["backing-up", "creating", "modifying", "rebooting", "upgrading"])
def test_states_that_pass_by_themselves(status: str) -> None:
    assert is_busy(status)


@pytest.mark.parametrize("status", ["", "available", "deleting", "failed", "stopped", "storage-full"])
def test_states_that_do_not_pass_by_themselves(status: str) -> None:
    assert not is_busy(status)


def test_a_security_group_that_is_being_removed_is_gone_and_logs_on_their_way_are_there() -> None:
    groups = [{"VpcSecurityGroupId": f"sg-{word}", "Status": word} for word in ("active", "adding", "removing")]
    pending = {"PendingCloudwatchLogsExports": {"LogTypesToEnable": ["upgrade"], "LogTypesToDisable": ["postgresql"]}}
    read = read_instance(
        {
            **INSTANCE,
            "VpcSecurityGroups": groups,
            "EnabledCloudwatchLogsExports": ["postgresql", "iam-db-auth-error"],
            "PendingModifiedValues": pending,
        }
    ).properties
    assert read["vpc_security_group_ids"] == ["sg-active", "sg-adding"]
    assert read["enabled_cloudwatch_logs_exports"] == ["iam-db-auth-error", "upgrade"]


@pytest.mark.parametrize(
    ("id_", "environment", "expected"),
    [
        ("lake", "production", "lake-production-final-abc"),
        ("lake-production", "production", "lake-production-final-abc"),
        ("lake", "QA_2", "lake-qa-2-final-abc"),
    ],
)
def test_the_name_of_the_last_snapshot(id_: str, environment: str, expected: str) -> None:
    owner = Owner("lake", environment, "db_instance.main")
    actual = Actual(id_, {}, {"resource_id": "db-ABC"}, owner)
    assert final_snapshot(actual, environment) == expected


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"iops": 3000, "storage_type": "gp3", "allocated_storage": 100}, False),
        ({"iops": 12000, "storage_type": "gp3", "allocated_storage": 400}, True),
        ({"iops": 1000, "storage_type": "io2", "allocated_storage": 100}, True),
        ({"iops": None, "storage_type": "gp2", "allocated_storage": 500}, False),
    ],
)
def test_when_iops_are_told_again(has: dict[str, Any], expected: bool) -> None:
    assert gives_iops(has) is expected


def test_retentions_are_the_ones_of_the_service_model() -> None:
    listed = shape("logs", "Days").documentation.partition("Possible values are: ")[2].partition("</p>")[0]
    days = set(map(int, re.findall(r"\d+", listed)))
    assert days == set(RETENTION_DAYS)


def test_classes_of_log_groups_are_the_ones_of_the_service_model() -> None:
    assert set(LogGroup.schema.properties["log_group_class"].choices) == set(shape("logs", "LogGroupClass").enum)


def test_comparisons_and_statistics_of_alarms_are_the_ones_of_the_service_model() -> None:
    properties = MetricAlarm.schema.properties
    assert set(properties["comparison_operator"].choices) == set(shape("cloudwatch", "ComparisonOperator").enum)
    assert set(properties["statistic"].choices) == set(shape("cloudwatch", "Statistic").enum)


def test_an_alarm_on_expressions_is_read_as_it_was_written() -> None:
    metric = {"namespace": "AWS/S3", "metric_name": "Bytes", "dimensions": {"B": "1", "A": "2"}, "unit": "Bytes"}
    described = {
        "name": "bytes",
        "metrics": [
            {"id": "band", "expression": "ANOMALY_DETECTION_BAND(bytes)", "label": "Band", "period": 60},
            {"id": "bytes", "metric_stat": {**metric, "period": 60, "stat": "p90"}, "return_data": True},
        ],
        "threshold_metric_id": "band",
        "comparison_operator": "GreaterThanUpperThreshold",
        "datapoints_to_alarm": 1,
    }
    properties = dict(MetricAlarm.schema.properties)
    desired = normalised(properties, described)
    parameters = alarms._parameters(desired)
    validate_parameters(parameters, shape("cloudwatch", "PutMetricAlarmInput"))
    answered = {**parameters, "AlarmArn": "arn", "OKActions": []}
    read = {**alarms._properties(answered), "tags": {}}
    assert diff(properties, desired, found(properties, read, "salt")) == ()


def altered(**changes: Any) -> dict[str, Any]:
    policy = default_policy(TOPIC)
    return {**policy, "Statement": [{**policy["Statement"][0], **changes}]}


@pytest.mark.parametrize(
    "policy",
    [
        default_policy(TOPIC),
        altered(Action=["SNS:Publish", "SNS:Subscribe", "SNS:Receive"]),
    ],
)
def test_the_policy_that_sns_gives_a_topic_is_known(policy: dict[str, Any]) -> None:
    assert is_default_policy(json.dumps(policy), TOPIC)


@pytest.mark.parametrize(
    "policy",
    [
        altered(Condition={}),
        altered(Action=["SNS:*"]),
        altered(Action="SNS:Publish"),
        altered(Condition={"StringEquals": {"AWS:SourceOwner": "444455556666"}}),
        altered(Resource="*"),
        altered(Sid="mine"),
        {**default_policy(TOPIC), "Statement": [*default_policy(TOPIC)["Statement"], {"Effect": "Allow"}]},
        {**default_policy(TOPIC), "Statement": {}},
    ],
)
def test_a_policy_that_differs_from_the_one_that_sns_gives_is_somebodys(policy: dict[str, Any]) -> None:
    assert not is_default_policy(json.dumps(policy), TOPIC)


@pytest.mark.parametrize("text", ["", "[]", "not JSON", '"text"'])
def test_what_is_no_policy_is_not_the_one_that_sns_gives(text: str) -> None:
    assert not is_default_policy(text, TOPIC)


DAYS_KEPT = st.integers(1, 400)


@given(DAYS_KEPT, DAYS_KEPT)
def test_what_goes_to_cold_storage_stays_there_for_ninety_days(cold: int, deleted: int) -> None:
    lifecycle = {"move_to_cold_storage_after_days": cold, "delete_after_days": deleted}
    rules = [{"rule_name": "a", "target_backup_vault_name": "vault", "lifecycle": lifecycle}]
    _values, validation_errors = wanted({"rules": RULES}, {"rules": rules}, "salt")
    assert bool(validation_errors) is (deleted < cold + 90)


def test_the_lifecycle_of_a_copy_is_judged_as_well() -> None:
    copy = {
        "destination_backup_vault_arn": "arn",
        "lifecycle": {"move_to_cold_storage_after_days": 1, "delete_after_days": 2},
    }
    rules = [{"rule_name": "a", "target_backup_vault_name": "vault", "copy_actions": [copy]}]
    _values, validation_errors = wanted({"rules": RULES}, {"rules": rules}, "salt")
    assert "less than 90 days after" in validation_errors[0][1]


def test_a_plan_is_read_as_it_was_written() -> None:
    lifecycle = {"move_to_cold_storage_after_days": 30, "delete_after_days": 120}
    rule = {
        "rule_name": "daily",
        "target_backup_vault_name": "vault",
        "schedule_expression_timezone": "UTC",
        "lifecycle": {**lifecycle, "opt_in_to_archive_for_supported_resources": True},
        "recovery_point_tags": {"some_tag": "kept as it is"},
        "copy_actions": [{"destination_backup_vault_arn": "arn", "lifecycle": lifecycle}],
    }
    desired = normalised({"rules": RULES}, {"rules": [rule]})
    parameters = plan_parameters({"name": "plan", **desired})
    validate_parameters(parameters, shape("backup", "BackupPlanInput"))
    assert parameters["Rules"][0]["RecoveryPointTags"] == {"some_tag": "kept as it is"}
    read = found({"rules": RULES}, {"rules": read_rules(parameters)}, "salt")
    assert diff({"rules": RULES}, desired, read) == ()


def test_a_selection_is_read_as_it_was_written_in_whichever_order() -> None:
    tags = [{"condition_key": key, "condition_value": "yes"} for key in ("a", "b")]
    conditions = {"string_equals": tags, "string_not_like": tags[:1]}
    selection = {"name": "all", "iam_role_arn": "arn", "not_resources": ["c"], "conditions": conditions}

    def one(resources: list[str], list_of_tags: list[dict[str, str]]) -> dict[str, Any]:
        given_ = {"selections": [{**selection, "resources": resources, "list_of_tags": list_of_tags}]}
        result: dict[str, Any] = normalised({"selections": SELECTIONS}, given_)["selections"][0]
        return result

    first, second = one(["a", "b"], tags), one(["b", "a"], tags[::-1])
    parameters = selection_parameters(first)
    validate_parameters(parameters, shape("backup", "BackupSelection"))
    turned = {**parameters, "Resources": parameters["Resources"][::-1], "ListOfTags": parameters["ListOfTags"][::-1]}
    read = found({"selections": SELECTIONS}, {"selections": [read_selection(turned)]}, "salt")
    assert diff({"selections": SELECTIONS}, {"selections": [first]}, read) == ()
    assert selection_text(first) == selection_text(second) == selection_text(read_selection(turned))
