# SPDX-License-Identifier: GPL-3.0-or-later
"""Vaults and plans of AWS Backup: on the emulator that supports each part, and scripted where neither does."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    ReadError,
    RefusedError,
)
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call, read_timeout

VAULT = {"name": "lake-development"}
RULE = {"rule_name": "daily", "target_backup_vault_name": "lake-development", "lifecycle": {"delete_after_days": 30}}
TAG = {"condition_key": "Backup", "condition_value": "lake"}


def vault_arn(lab: Lab, name: str = VAULT["name"]) -> str:
    return f"arn:aws:backup:{lab.emulator.region}:{lab.emulator.account_id}:backup-vault:{name}"


def edit_tags(lab: Lab, arn: str, tags: dict[str, str], removed: list[str]) -> None:
    lab.client("backup").tag_resource(ResourceArn=arn, Tags=tags)
    lab.client("backup").untag_resource(ResourceArn=arn, TagKeyList=removed)


def locked(**lock: Any) -> dict[str, Any]:
    return {"backup_vault.main": {**VAULT, "lock": lock}}


def vault(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.client("backup").describe_backup_vault(BackupVaultName=VAULT["name"])
    return found


# ministack does not support locks.
@pytest.mark.emulators("moto")
def test_life_of_a_vault(lab: Lab) -> None:
    lab.assert_matrix(
        "backup_vault.main",
        VAULT,
        changes={
            "lock": {"min_retention_days": 7, "max_retention_days": 365},
            "longer": {"lock": {"min_retention_days": 14}},
            "no lock": {"lock": None},
        },
        vanish=lambda lab, id_: lab.client("backup").delete_backup_vault(BackupVaultName=id_),
        edit_tags=lambda lab, id_, tags, removed: edit_tags(lab, vault_arn(lab, id_), tags, removed),
    )


def test_another_key_is_another_vault(lab: Lab) -> None:
    keys = {f"kms_key.{name}": {"alias": f"alias/{name}"} for name in ("one", "other")}
    described = {**keys, "backup_vault.main": {**VAULT, "kms_key_arn": "${kms_key.one.arn}"}}
    lab.apply(described)
    lab.assert_unchanged(described)
    lab.assert_unchanged({**keys, "backup_vault.main": VAULT})
    described["backup_vault.main"] = {**VAULT, "kms_key_arn": "${kms_key.other.arn}"}
    with pytest.raises(RefusedError, match="kms_key_arn"):
        lab.plan(described)
    assert lab.apply(described, unprotect=("backup_vault.main",)).plan.node("backup_vault.main").action == "replace"
    lab.assert_unchanged(described)


@pytest.mark.emulators("moto")
def test_a_lock_that_will_hold_for_good_can_be_changed_until_then(lab: Lab) -> None:
    lab.apply(locked(min_retention_days=7))
    assert "LockDate" not in vault(lab)
    lab.apply(locked(min_retention_days=7, changeable_for_days=5))
    in_days = (vault(lab)["LockDate"] - dt.datetime.now(dt.UTC)).total_seconds() / 86_400
    assert 4.9 < in_days < 5.1
    lab.assert_unchanged(locked(min_retention_days=7, changeable_for_days=5))
    lab.apply(locked(min_retention_days=8, changeable_for_days=5))
    # The date can only be removed with the lock, so the lock is removed and set again.
    ran = lab.apply(locked(min_retention_days=8))
    assert [name.partition(":")[2] for name in ran.mutating] == [
        "DeleteBackupVaultLockConfiguration",
        "PutBackupVaultLockConfiguration",
    ]
    assert "LockDate" not in vault(lab)
    lab.assert_unchanged(locked(min_retention_days=8))


class Described(Behaviour):
    """Changes AWS Backup's description of a vault."""

    def __init__(self, **told: Any) -> None:
        self.told = told

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != "DescribeBackupVault" or "BackupVaultName" not in answer:
            return None
        return Answer({**{key: value for key, value in answer.items() if key != "ResponseMetadata"}, **self.told})


@pytest.mark.emulators("moto")
@pytest.mark.parametrize(
    "wanted", [None, {"min_retention_days": 3, "changeable_for_days": 5}, {"min_retention_days": 7}]
)
def test_a_lock_that_holds_for_good_is_told_before_anything_is_tried(lab: Lab, wanted: dict[str, Any] | None) -> None:
    described = locked(min_retention_days=7, changeable_for_days=5)
    lab.apply(described)
    lab.wire.behaviour = Described(LockDate=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    lab.assert_unchanged(described)
    with pytest.raises(DescriptionError, match="lock: is permanent since 2026-01-01"):
        lab.plan({"backup_vault.main": {**VAULT, "lock": wanted}})


def test_a_vault_with_recovery_points_is_not_deleted_and_their_number_is_told(lab: Lab) -> None:
    described = {"backup_vault.main": VAULT}
    lab.apply(described)
    lab.wire.behaviour = Described(NumberOfRecoveryPoints=12)
    with pytest.raises(RefusedError, match=r"holds 12 recovery points; name backup_vault.main in delete_contents"):
        lab.plan(described, state="absent", unprotect=("backup_vault.main",))
    lab.wire.behaviour = Behaviour()
    lab.destroy(described)


class Policies(Behaviour):
    """Stores policies of vaults, which no emulator does."""

    def __init__(self) -> None:
        self.policies: dict[str, str] = {}

    def before(self, call: Call) -> Answer | None:
        name = str(call.parameters.get("BackupVaultName"))
        match call.operation:
            case "PutBackupVaultAccessPolicy":
                self.policies[name] = call.parameters["Policy"]
                return Answer({})
            case "DeleteBackupVaultAccessPolicy":
                del self.policies[name]
                return Answer({})
            case "GetBackupVaultAccessPolicy" if name in self.policies:
                return Answer({"BackupVaultName": name, "Policy": self.policies[name]})
            case "GetBackupVaultAccessPolicy":
                return Answer.error("ResourceNotFoundException", status=404)
        return None


def test_who_may_use_a_vault(lab: Lab) -> None:
    lab.wire.behaviour = behaviour = Policies()

    def described(effect: str) -> dict[str, Any]:
        statement = {"Effect": effect, "Principal": "*", "Action": "backup:CopyIntoBackupVault", "Resource": "*"}
        return {"backup_vault.main": {**VAULT, "policy": {"Version": "2012-10-17", "Statement": [statement]}}}

    lab.apply(described("Deny"))
    lab.assert_unchanged(described("Deny"))
    lab.apply(described("Allow"))
    assert '"Allow"' in behaviour.policies[VAULT["name"]]
    lab.assert_unchanged({"backup_vault.main": VAULT})
    lab.apply({"backup_vault.main": {**VAULT, "policy": None}})
    assert not behaviour.policies


class DeniedForNothing(Behaviour):
    """Answers for a missing vault as AWS Backup does."""

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation == "DescribeBackupVault" and "BackupVaultName" not in answer:
            return Answer.error("AccessDeniedException", "Insufficient privileges to perform this action.", 403)
        return None


def test_a_vault_that_does_not_exist_is_not_taken_for_a_missing_permission(lab: Lab) -> None:
    lab.wire.behaviour = DeniedForNothing()
    lab.apply({"backup_vault.main": VAULT})
    lab.destroy({"backup_vault.main": VAULT})


def test_a_missing_permission_is_not_taken_for_a_vault_that_does_not_exist(lab: Lab) -> None:
    class Denied(Behaviour):
        def before(self, call: Call) -> Answer | None:
            refused = call.operation == "DescribeBackupVault"
            return Answer.error("AccessDeniedException", "no", 403) if refused else None

    lab.apply({"backup_vault.main": VAULT})
    lab.wire.behaviour = Denied()
    with pytest.raises(ReadError, match="allow backup:DescribeBackupVault"):
        lab.plan({"backup_vault.main": VAULT})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a"}, "is not 2 to 50 letters"),
        ({"lock": {"min_retention_days": 10, "max_retention_days": 5}}, "10 is more than max_retention_days"),
        ({"lock": {"changeable_for_days": 2}}, "2 is not between 3 and 36500"),
        ({"lock": {"min_retention_days": 0}}, "0 is not between 1 and 36500"),
        ({"lock": {"lock_date": "2026-01-01"}}, "is AWS's to say"),
    ],
)
def test_a_vault_that_cannot_be_is_refused_before_any_is_read(lab: Lab, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        lab.plan({"backup_vault.main": {**VAULT, **change}})
    assert {call.service for call in lab.wire.calls} <= {"sts"}


def role(lab: Lab, name: str = "backup") -> str:
    return f"arn:aws:iam::{lab.emulator.account_id}:role/{name}"


def selection(lab: Lab, **changes: Any) -> dict[str, Any]:
    return {"name": "tagged", "iam_role_arn": role(lab), "list_of_tags": [TAG], **changes}


def plan(lab: Lab, **changes: Any) -> dict[str, Any]:
    return {"name": "lake-development", "rules": [RULE], "selections": [selection(lab)], **changes}


def selections(lab: Lab, id_: str) -> dict[str, dict[str, Any]]:
    client = lab.client("backup")
    listed = client.list_backup_selections(BackupPlanId=id_)["BackupSelectionsList"]
    read = [client.get_backup_selection(BackupPlanId=id_, SelectionId=item["SelectionId"]) for item in listed]
    return {item["BackupSelection"]["SelectionName"]: item["BackupSelection"] for item in read}


# moto does not support selections or updates of plans.
@pytest.mark.emulators("ministack")
def test_life_of_a_plan(lab: Lab) -> None:
    cold = {"move_to_cold_storage_after_days": 30, "delete_after_days": 120}
    weekly = {
        **RULE,
        "rule_name": "weekly",
        "schedule_expression": "cron(0 3 ? * SUN *)",
        "schedule_expression_timezone": "Europe/Berlin",
        "start_window_minutes": 60,
        "completion_window_minutes": 360,
        "lifecycle": cold,
        "recovery_point_tags": {"Tier": "gold"},
        "copy_actions": [{"destination_backup_vault_arn": vault_arn(lab, "far"), "lifecycle": cold}],
    }
    conditions = {"string_equals": [{"condition_key": "aws:ResourceTag/Backup", "condition_value": "lake"}]}
    lab.assert_matrix(
        "backup_plan.daily",
        plan(lab),
        changes={
            "name": "lake-renamed",
            "rules": [RULE, weekly],
            "in another order": {"rules": [{**weekly, "enable_continuous_backup": False}, {**RULE, "lifecycle": None}]},
            "any moment": {"rules": [{**RULE, "enable_continuous_backup": True}]},
            "selections": [
                selection(lab),
                selection(lab, name="buckets", list_of_tags=None, resources=["arn:aws:s3:::a*"]),
            ],
            "other tags": {"selections": [selection(lab, list_of_tags=[{**TAG, "condition_value": "other"}])]},
            "conditions": {"selections": [selection(lab, list_of_tags=None, resources=["*"], conditions=conditions)]},
            "another role": {"selections": [selection(lab, iam_role_arn=role(lab, "other"))]},
            "nothing": {"selections": []},
        },
        vanish=lambda lab, id_: lab.client("backup").delete_backup_plan(BackupPlanId=id_),
        edit_tags=lambda lab, id_, tags, removed: edit_tags(
            lab, lab.client("backup").get_backup_plan(BackupPlanId=id_)["BackupPlanArn"], tags, removed
        ),
    )


@pytest.mark.emulators("ministack")
def test_what_aws_adds_to_a_rule_is_no_difference(lab: Lab) -> None:
    class Adding(Behaviour):
        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            if call.operation != "GetBackupPlan" or "BackupPlan" not in answer:
                return None
            added = {
                "ScheduleExpression": "cron(0 5 ? * * *)",
                "ScheduleExpressionTimezone": "Etc/UTC",
                "StartWindowMinutes": 480,
                "CompletionWindowMinutes": 10080,
                "RuleId": "made-by-aws",
                "EnableContinuousBackup": False,
                "CopyActions": [],
                "RecoveryPointTags": {},
            }
            body = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
            rules = [{**added, **rule} for rule in body["BackupPlan"]["Rules"]]
            return Answer({**body, "BackupPlan": {**body["BackupPlan"], "Rules": rules}})

    lab.wire.behaviour = Adding()
    lab.apply({"backup_plan.daily": plan(lab)})
    lab.assert_unchanged({"backup_plan.daily": plan(lab)})


@pytest.mark.emulators("ministack")
def test_only_the_selection_that_differs_is_made_anew_and_selections_go_before_their_plan(lab: Lab) -> None:
    kept = selection(lab, name="kept", resources=["arn:aws:s3:::b", "arn:aws:s3:::a"])
    id_ = lab.apply({"backup_plan.daily": plan(lab, selections=[kept, selection(lab)])}).id("backup_plan.daily")
    changed = selection(lab, list_of_tags=[{**TAG, "condition_value": "other"}])
    described = {"backup_plan.daily": plan(lab, selections=[changed, kept])}
    assert lab.apply(described).mutating == ["backup:DeleteBackupSelection", "backup:CreateBackupSelection"]
    assert selections(lab, id_)["tagged"]["ListOfTags"][0]["ConditionValue"] == "other"
    ran = lab.destroy(described)
    assert ran.mutating == [*["backup:DeleteBackupSelection"] * 2, "backup:DeleteBackupPlan"]


@pytest.mark.emulators("ministack")
@pytest.mark.parametrize("operation", ["CreateBackupSelection", "TagResource", "UpdateBackupPlan"])
def test_an_answer_that_is_lost_makes_nothing_twice(lab: Lab, operation: str) -> None:
    class Lost(Behaviour):
        def __init__(self) -> None:
            self.lost = False

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            if call.operation == operation and not self.lost:
                self.lost = True
                raise read_timeout()
            return None

    lab.apply({"backup_plan.daily": plan(lab, selections=[])})
    lab.wire.behaviour = Lost()
    described = {"backup_plan.daily": plan(lab, rules=[{**RULE, "lifecycle": None}], tags={"Tier": "gold"})}
    ran = lab.run(described)
    assert ran.report.complete
    assert list(selections(lab, ran.id("backup_plan.daily"))) == ["tagged"]
    assert len(lab.client("backup").list_backup_plans()["BackupPlansList"]) == 1
    lab.assert_unchanged(described)


@pytest.mark.emulators("ministack")
def test_a_run_that_ends_after_the_plan_and_before_its_selection_is_completed_by_the_next(lab: Lab) -> None:
    class Ended(Behaviour):
        def before(self, call: Call) -> Answer | None:
            refused = call.operation == "CreateBackupSelection"
            return Answer.error("AccessDeniedException", "no", 403) if refused else None

    lab.wire.behaviour = Ended()
    described = {"backup_plan.daily": plan(lab)}
    report = lab.run(described).report
    assert "allow backup:CreateBackupSelection" in report.result("backup_plan.daily").message
    lab.wire.behaviour = Behaviour()
    ran = lab.apply(described)
    assert ran.mutating == ["backup:CreateBackupSelection"]
    lab.assert_unchanged(described)


@pytest.mark.emulators("ministack")
def test_a_plan_that_was_deleted_and_answers_to_the_token_of_its_creation_is_made_anew(lab: Lab) -> None:
    class Remembering(Behaviour):
        """Answers a token that was used with the plan that it created, deleted or not."""

        def __init__(self) -> None:
            self.made: dict[str, dict[str, Any]] = {}
            self.deleted: set[str] = set()

        def before(self, call: Call) -> Answer | None:
            if call.operation == "CreateBackupPlan":
                body = self.made.get(call.parameters["CreatorRequestId"])
                return Answer(body) if body else None
            if call.operation == "GetBackupPlan" and call.parameters["BackupPlanId"] in self.deleted:
                gone = {"BackupPlan": {"BackupPlanName": "gone", "Rules": []}, "DeletionDate": dt.datetime.now(dt.UTC)}
                return Answer({**gone, "BackupPlanId": call.parameters["BackupPlanId"]})
            return None

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            if call.operation == "CreateBackupPlan" and "BackupPlanId" in answer:
                body = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
                self.made[call.parameters["CreatorRequestId"]] = body
            if call.operation == "DeleteBackupPlan":
                self.deleted.add(call.parameters["BackupPlanId"])
            return None

    lab.wire.behaviour = Remembering()
    described = {"backup_plan.daily": plan(lab)}
    first = lab.apply(described).id("backup_plan.daily")
    lab.destroy(described)
    assert lab.apply(described).id("backup_plan.daily") != first
    lab.assert_unchanged(described)


@pytest.mark.emulators("ministack")
def test_a_plan_without_tags_is_adopted_by_its_name_when_that_is_asked_for(lab: Lab) -> None:
    lab.client("backup").create_backup_plan(
        BackupPlan={
            "BackupPlanName": "lake-development",
            "Rules": [{"RuleName": "other", "TargetBackupVaultName": "lake-development"}],
        }
    )
    described = {"backup_plan.daily": plan(lab)}
    with pytest.raises(RefusedError, match="adopt: true"):
        lab.plan(described)
    assert lab.apply(described, adopt=True).plan.node("backup_plan.daily").action == "adopt"
    assert len(lab.client("backup").list_backup_plans()["BackupPlansList"]) == 1
    lab.assert_unchanged(described)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": []}, "needs one rule at least"),
        ({"rules": [RULE, RULE | {"start_window_minutes": 60}]}, "daily: two rules have this name"),
        (
            {"rules": [{**RULE, "lifecycle": {"move_to_cold_storage_after_days": 30, "delete_after_days": 119}}]},
            r"rule daily: delete_after_days \(119\) is less than 90 days after",
        ),
        (
            {"rules": [{**RULE, "enable_continuous_backup": True, "lifecycle": {"delete_after_days": 36}}]},
            "continuous backups are kept 35 days at most",
        ),
        ({"rules": [{**RULE, "start_window_minutes": 30}]}, "30 is less than 60"),
        (
            {"rules": [{**RULE, "start_window_minutes": 120, "completion_window_minutes": 60}]},
            "is less than start_window_minutes",
        ),
        ({"selections": [{"name": "a", "iam_role_arn": "arn:aws:iam::1:role/a"}]}, "a: selects nothing"),
        ({"name": "lake/development"}, "is not 1 to 50 letters"),
    ],
)
# Rejections before the first read are equal on every emulator.
@pytest.mark.emulators("ministack")
def test_a_plan_that_cannot_be_is_refused_before_any_is_read(lab: Lab, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        lab.plan({"backup_plan.daily": plan(lab, **change)})
    assert {call.service for call in lab.wire.calls} <= {"sts"}
