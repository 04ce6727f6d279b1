# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import Actions, AwsKind
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.operator_policy import (
    BASE,
    DEPLOY,
    LIMIT,
    PLAN,
    declared,
    deploy_policies,
    plan_policies,
    size,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class

ALL = [kind_class(name) for name in KINDS]


def kind(**actions: tuple[str, ...]) -> type[AwsKind]:
    empty: dict[str, tuple[str, ...]] = {"read": (), "create": (), "update": (), "delete": ()}
    return type("Any", (AwsKind,), {"actions": Actions(**{**empty, **actions})})


def statements(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [statement for document in documents for statement in document["Statement"]]


def actions(documents: list[dict[str, Any]]) -> list[str]:
    return [action for statement in statements(documents) for action in statement["Action"]]


def test_planning_takes_nothing_that_changes_anything() -> None:
    # Budgets are read with View, unlike other resources.
    verbs = ("Get", "List", "Describe", "BatchGet", "Simulate", "ViewBudget")
    changing = [name for name in actions(plan_policies(ALL)) if not name.partition(":")[2].startswith(verbs)]

    assert changing == []


def test_both_policies_together_hold_everything_that_is_declared_once() -> None:
    held = actions([*plan_policies(ALL), *deploy_policies(ALL, "lake-")])

    assert sorted(held) == sorted(declared(ALL, (*PLAN, *DEPLOY)) | BASE)


def test_no_policy_allows_a_whole_service() -> None:
    assert not [name for name in actions([*plan_policies(ALL), *deploy_policies(ALL, "lake-")]) if "*" in name]


@pytest.mark.parametrize(
    ("action", "condition"),
    [
        ("iam:PassRole", "iam:PassedToService"),
        ("iam:CreateServiceLinkedRole", "iam:AWSServiceName"),
        ("kms:CreateGrant", "kms:GrantIsForAWSResource"),
    ],
)
def test_what_could_be_turned_into_more_rights_has_a_condition(action: str, condition: str) -> None:
    (statement,) = [item for item in statements(deploy_policies(ALL, "lake-")) if action in item["Action"]]

    assert statement["Action"] == [action]
    assert condition in next(iter(statement["Condition"].values()))


def test_no_parameter_of_the_account_is_read_but_those_that_aws_publishes() -> None:
    (statement,) = [item for item in statements(plan_policies(ALL)) if "ssm:GetParameter" in item["Action"]]

    assert statement["Action"] == ["ssm:GetParameter"]
    assert statement["Resource"] == ["arn:*:ssm:*::parameter/aws/service/*"]


def test_roles_and_buckets_are_changed_only_where_their_names_begin_right() -> None:
    documents = deploy_policies([kind(create=("iam:CreateRole", "s3:CreateBucket", "iam:PassRole"))], "lake-")

    assert [resource for statement in statements(documents) for resource in statement["Resource"]] == [
        "arn:*:iam::*:role/lake-*",
        "arn:*:iam::*:policy/lake-*",
        "arn:*:iam::*:instance-profile/lake-*",
        "arn:*:s3:::lake-*",
        "arn:*:s3:::lake-*/*",
        "arn:*:iam::*:role/lake-*",
    ]


def test_what_is_guarded_is_deleted_only_where_a_stack_owns_it() -> None:
    documents = deploy_policies([kind(delete=("ec2:DeleteVpc", "ec2:DeleteTags"))], "x", "ec2:DeleteVpc".__eq__)

    by_action = {
        action: statement.get("Condition") for statement in statements(documents) for action in statement["Action"]
    }
    assert by_action == {
        "ec2:DeleteTags": None,
        "ec2:DeleteVpc": {"StringLike": {"aws:ResourceTag/lakehouse:stack": "?*/?*"}},
    }


def test_what_planning_takes_already_is_not_allowed_twice() -> None:
    documents = deploy_policies([kind(read=("a:Get",), delete=("a:Get", "a:Delete"))], "x")

    assert actions(documents) == ["a:Delete"]


def test_a_policy_that_grows_too_long_becomes_two() -> None:
    many = tuple(f"{service}:Create{number:04}" for service in "abcdef" for number in range(90))
    documents = deploy_policies([kind(create=many)], "x")

    assert len(documents) > 1
    assert max(map(size, documents)) <= LIMIT
    assert sorted(actions(documents)) == sorted(many)
