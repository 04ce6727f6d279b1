# SPDX-License-Identifier: GPL-3.0-or-later
"""Operator policies contain the actions that the kinds declare, and only actions that IAM has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import Actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class
from tools import write_policies


def test_a_policy_that_is_out_of_date_or_not_wanted_any_more_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write_policies, "FOLDER", tmp_path)
    (tmp_path / "aws_operator_policy_deploy_99.json").write_text("{}")

    assert write_policies.main(["--check"]) == 1
    errors = capsys.readouterr().err
    assert "docs/aws_operator_policy_plan.json is out of date; run tools/write_policies.py" in errors
    assert "docs/aws_operator_policy_deploy_99.json is out of date" in errors
    assert write_policies.main([]) == 0
    assert write_policies.main(["--check"]) == 0


def test_the_policies_of_the_repository_are_up_to_date() -> None:
    assert list(write_policies.problems()) == []


@pytest.mark.parametrize("action", ["s3:PutBucketEncryption", "ec2:CreateVPCs", "nothing:DoIt", "no colon"])
def test_an_action_that_iam_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """The first has the name of the call; the action is PutEncryptionConfiguration."""
    kind = kind_class("vpc")
    monkeypatch.setattr(kind, "actions", Actions(("ec2:DescribeVpcs",), (action,), (), ()))

    assert f"vpc declares {action}, which IAM does not have" in list(write_policies.problems())


@pytest.mark.parametrize("name", KINDS)
def test_what_an_action_needs_of_other_services_is_declared_beside_it(name: str) -> None:
    """IAM's own list contains the further actions of a call in the caller's name: PassRole, service-linked roles."""
    actions = kind_class(name).actions
    missing = []
    for operation in ("create", "update", "delete"):
        declared = {*getattr(actions, operation), *actions.read}
        for action in getattr(actions, operation):
            known = write_policies.details(action)
            assert known is not None, action
            needed = {
                *known["dependentActions"],
                *(n for kind in known["resourceTypes"] for n in kind["dependentActions"]),
            }
            missing += [f"{operation}: {action} needs {other}" for other in sorted(needed - declared - UNUSED)]
    assert missing == []


# Actions that a call needs only with parameters that no kind uses.
UNUSED: frozenset[str] = frozenset()


def test_every_statement_can_be_told_apart() -> None:
    statements = [item for text in write_policies.pages().values() for item in json.loads(text)["Statement"]]
    ids = [item["Sid"] for item in statements]

    assert len(set(ids)) == len(ids)
    assert all(sid.isalnum() for sid in ids)
