# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of KMS on emulators: their lifecycle, and states of key and alias after a crash, manual change or rescue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

ALIAS = "alias/crypto-lakehouse-s3-development"
KEY = {"kms_key.s3": {"alias": ALIAS, "description": "Buckets"}}


def policy(principal: str, sid: str = "Root") -> dict[str, Any]:
    statement = {"Sid": sid, "Effect": "Allow", "Principal": {"AWS": principal}, "Action": "kms:*", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def edit_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    pairs = [{"TagKey": key, "TagValue": value} for key, value in tags.items()]
    lab.client("kms").tag_resource(KeyId=id_, Tags=pairs)
    lab.client("kms").untag_resource(KeyId=id_, TagKeys=removed)


def keys(lab: Lab) -> list[str]:
    return [key["KeyId"] for key in lab.client("kms").list_keys()["Keys"]]


def state(lab: Lab, id_: str) -> str:
    return str(lab.client("kms").describe_key(KeyId=id_)["KeyMetadata"]["KeyState"])


def target(lab: Lab, alias: str = ALIAS) -> str:
    return str(lab.client("kms").describe_key(KeyId=alias)["KeyMetadata"]["KeyId"])


def aliases(lab: Lab) -> set[str]:
    found = {item["AliasName"] for item in lab.client("kms").list_aliases()["Aliases"]}
    return {alias for alias in found if not alias.startswith("alias/aws/")}


def test_life(lab: Lab) -> None:
    # A key cannot vanish: a manual deletion schedules it, which has a test of its own.
    lab.assert_matrix(
        "kms_key.s3",
        KEY["kms_key.s3"],
        changes={
            "description": "Buckets of the lake",
            "enable_key_rotation": False,
            "rotating again": {"enable_key_rotation": True},
            "policy": policy(lab.emulator.account_id),
            "deletion_window_in_days": 30,
            "enabled": False,
            "enabled again": {"enabled": True},
            "alias": "alias/renamed",
        },
        vanish=None,
        edit_tags=edit_tags,
    )


# moto stores no rotation period.
@pytest.mark.emulators("ministack")
def test_rotation_period(lab: Lab) -> None:
    first, second = ({"kms_key.s3": {**KEY["kms_key.s3"], "rotation_period_in_days": days}} for days in (180, 90))
    id_ = lab.apply(first).id("kms_key.s3")
    lab.assert_unchanged(first)
    lab.apply(second)
    assert lab.client("kms").get_key_rotation_status(KeyId=id_)["RotationPeriodInDays"] == 90
    lab.client("kms").disable_key_rotation(KeyId=id_)
    assert {change.path for change in lab.plan(second).node("kms_key.s3").changes} == {
        "enable_key_rotation",
        "rotation_period_in_days",
    }
    lab.apply(second)
    lab.assert_unchanged(second)


def test_a_renamed_key_leaves_no_alias_behind(lab: Lab) -> None:
    lab.apply(KEY)
    ran = lab.apply({"kms_key.s3": {**KEY["kms_key.s3"], "alias": "alias/renamed"}})
    assert aliases(lab) == {"alias/renamed"}
    assert ran.outputs("kms_key.s3")["alias_name"] == "alias/renamed"
    assert str(ran.outputs("kms_key.s3")["alias_arn"]).endswith(f"{lab.emulator.account_id}:alias/renamed")


def test_an_account_in_a_policy_is_the_root_that_kms_answers(lab: Lab) -> None:
    described = {"kms_key.s3": {**KEY["kms_key.s3"], "policy": policy(lab.emulator.account_id)}}
    id_ = lab.apply(described).id("kms_key.s3")
    stored = policy(f"arn:aws:iam::{lab.emulator.account_id}:root")
    lab.client("kms").put_key_policy(KeyId=id_, PolicyName="default", Policy=json.dumps(stored))
    lab.assert_unchanged(described)
    lab.client("kms").put_key_policy(
        KeyId=id_, PolicyName="default", Policy=json.dumps(policy(lab.emulator.account_id, "Edited"))
    )
    lab.apply(described)
    lab.assert_unchanged(described)


def test_a_deletion_by_hand_is_taken_back_and_the_key_is_enabled(lab: Lab) -> None:
    id_ = lab.apply(KEY).id("kms_key.s3")
    lab.client("kms").schedule_key_deletion(KeyId=id_, PendingWindowInDays=7)
    assert lab.plan(KEY).node("kms_key.s3").reason == "its deletion is cancelled"
    lab.apply(KEY)
    assert state(lab, id_) == "Enabled"
    lab.assert_unchanged(KEY)


def test_what_was_destroyed_comes_back_with_the_same_id(lab: Lab) -> None:
    described = {"kms_key.s3": {**KEY["kms_key.s3"], "deletion_window_in_days": 11}}
    id_ = lab.apply(described).id("kms_key.s3")
    lab.destroy(described)
    assert state(lab, id_) == "PendingDeletion"
    (deletion,) = [call for call in lab.wire.calls if call.operation == "ScheduleKeyDeletion"]
    assert deletion.parameters["PendingWindowInDays"] == 11
    assert lab.apply(described).id("kms_key.s3") == id_
    assert keys(lab) == [id_]


def test_what_is_scheduled_for_deletion_tells_its_date(lab: Lab) -> None:
    lab.apply(KEY)
    stack = lab.stack(KEY, state="absent", unprotect=("kms_key.s3",))
    proposal = stack.propose()
    stack.apply(proposal)
    (left,) = stack.left(proposal)
    assert left["status"] == "scheduled for deletion"
    assert left["deletion_date"].startswith("20")


def test_an_alias_that_was_removed_by_hand_comes_back_to_its_key(lab: Lab) -> None:
    id_ = lab.apply(KEY).id("kms_key.s3")
    lab.client("kms").delete_alias(AliasName=ALIAS)
    assert [change.path for change in lab.plan(KEY).node("kms_key.s3").changes] == ["alias"]
    lab.apply(KEY)
    assert target(lab) == id_
    assert keys(lab) == [id_]
    lab.assert_unchanged(KEY)


def test_an_alias_that_was_given_to_another_key_by_hand_is_taken_back(lab: Lab) -> None:
    id_ = lab.apply(KEY).id("kms_key.s3")
    other = lab.client("kms").create_key()["KeyMetadata"]["KeyId"]
    lab.client("kms").update_alias(AliasName=ALIAS, TargetKeyId=other)
    assert lab.apply(KEY).id("kms_key.s3") == id_
    assert target(lab) == id_
    lab.assert_unchanged(KEY)


def test_an_alias_of_another_stack_is_refused(lab: Lab) -> None:
    lab.other(environment="staging").apply(KEY)
    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'staging'"):
        lab.plan(KEY)


def test_an_alias_is_not_taken_from_another_stack_by_a_key_that_has_lost_it(lab: Lab) -> None:
    lab.apply(KEY)
    lab.client("kms").delete_alias(AliasName=ALIAS)
    theirs = lab.other(environment="staging").apply(KEY).id("kms_key.s3")
    ran = lab.run(KEY)
    assert "is kms_key.s3 of stack 'lake' in 'staging'" in ran.report.result("kms_key.s3").message
    assert target(lab) == theirs


def test_a_key_without_tags_is_adopted_with_its_alias(lab: Lab) -> None:
    made = lab.client("kms").create_key(Description="by another tool")["KeyMetadata"]["KeyId"]
    lab.client("kms").create_alias(AliasName=ALIAS, TargetKeyId=made)
    with pytest.raises(RefusedError, match="set `adopt: true`"):
        lab.plan(KEY)
    assert lab.apply(KEY, adopt=True).id("kms_key.s3") == made
    lab.assert_unchanged(KEY)
    lab.client("kms").delete_alias(AliasName=ALIAS)
    assert lab.apply(KEY).id("kms_key.s3") == made


def test_it_is_protected(lab: Lab) -> None:
    lab.apply(KEY)
    with pytest.raises(RefusedError, match="is protected and would be deleted"):
        lab.plan(KEY, state="absent")


class DeadAfter(Behaviour):
    """The process is dead after a call: calls have no effect any more."""

    def __init__(self, operation: str) -> None:
        self.operation, self.dead = operation, False

    def before(self, call: Call) -> Answer | None:
        return Answer.error("AccessDenied", "the process is dead") if self.dead else None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        self.dead = self.dead or call.operation == self.operation
        return None


@pytest.mark.parametrize("operation", ["CreateKey", "CreateAlias", "EnableKeyRotation"])
def test_a_crash_leaves_no_second_key(lab: Lab, operation: str) -> None:
    lab.wire.behaviour = DeadAfter(operation)
    assert not lab.run(KEY).report.complete
    lab.wire.behaviour = Behaviour()
    lab.apply(KEY)
    assert target(lab) in keys(lab)
    assert len(keys(lab)) == 1
    lab.assert_unchanged(KEY)


@pytest.mark.parametrize("operation", ["CreateAlias", "DeleteAlias"])
def test_a_crash_while_renaming_leaves_one_alias(lab: Lab, operation: str) -> None:
    renamed = {"kms_key.s3": {**KEY["kms_key.s3"], "alias": "alias/renamed"}}
    lab.apply(KEY)
    lab.wire.behaviour = DeadAfter(operation)
    assert not lab.run(renamed).report.complete
    lab.wire.behaviour = Behaviour()
    lab.apply(renamed)
    assert aliases(lab) == {"alias/renamed"}
    lab.assert_unchanged(renamed)


class LostAnswer(Behaviour):
    """The first answer of an operation is lost after its effect."""

    def __init__(self, operation: str) -> None:
        self.operation, self.lost = operation, False

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != self.operation or self.lost:
            return None
        self.lost = True
        return Answer.error("InternalFailure", status=500)


@pytest.mark.parametrize("operation", ["CreateKey", "CreateAlias"])
def test_a_lost_answer_makes_nothing_twice(lab: Lab, operation: str) -> None:
    lab.wire.behaviour = LostAnswer(operation)
    lab.apply(KEY)
    assert len(keys(lab)) == 1
    lab.assert_unchanged(KEY)


def test_no_change_takes_four_calls_a_key(lab: Lab) -> None:
    lab.apply(KEY)
    before = len(lab.wire.calls)
    lab.plan(KEY)
    asked = [call.operation for call in lab.wire.calls[before:] if call.service == "kms"]
    assert sorted(asked) == ["DescribeKey", "GetKeyPolicy", "GetKeyRotationStatus", "ListResourceTags"]


def test_a_refused_call_names_the_action(lab: Lab) -> None:
    class Refusing(Behaviour):
        def before(self, call: Call) -> Answer | None:
            return Answer.error("AccessDeniedException") if call.operation == "CreateKey" else None

    lab.wire.behaviour = Refusing()
    assert "allow kms:CreateKey" in lab.run(KEY).report.result("kms_key.s3").message
