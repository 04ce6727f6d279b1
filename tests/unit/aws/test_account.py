# SPDX-License-Identifier: GPL-3.0-or-later
"""Missing quotas and permissions reject the plan; values that the caller may not read reject nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.permissions import judge, principal_arn
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.quotas import quota_faults
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import make_kinds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Identity, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Node
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Change

ACCOUNT = "111122223333"
DENIED = CallError("servicequotas:GetServiceQuota", "AccessDeniedException", "no")


class Account(Session):
    """An account that answers from a table; other values are not readable."""

    def __init__(self, answers: Mapping[str, Any], arn: str = f"arn:aws:iam::{ACCOUNT}:user/me") -> None:
        super().__init__(Connection(region="eu-central-1"))
        self.answers, self.caller = dict(answers), Identity(ACCOUNT, "aws", arn)
        self.asked: list[dict[str, Any]] = []

    def identity(self) -> Identity:
        return self.caller

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        answer = self.answers.get(parameters.get("QuotaCode", operation))
        if answer is None:
            raise DENIED
        return dict(answer(**parameters) if callable(answer) else answer)

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        return list(self.answers.get(operation, []))


def creation(address: str, **properties: Any) -> Node:
    changes = tuple(Change(name, None, value) for name, value in properties.items())
    return Node(address, address.partition(".")[0], "create", changes=changes)


def quota(value: float) -> dict[str, Any]:
    return {"Quota": {"Value": value}}


GROUP = creation(
    "eks_nodegroup.main", capacity_type="ON_DEMAND", instance_types=["m5.large"], scaling_config={"desired_size": 5}
)
TYPES = {"InstanceTypes": [{"InstanceType": "m5.large", "VCpuInfo": {"DefaultVCpus": 2}}]}
RUNNING = [{"Instances": [{"InstanceType": "t3.medium", "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2}}]}]
ROLES = {"SummaryMap": {"Roles": 999, "RolesQuota": 1000}}
DATABASES = {"AccountQuotas": [{"AccountQuotaName": "DBInstances", "Used": 40, "Max": 40}]}


@pytest.mark.parametrize(
    ("nodes", "answers", "words"),
    [
        (
            [creation("vpc.main")],
            {"L-F678F1CE": quota(5), "describe_vpcs": [{}] * 5},
            "vpc.main: needs 1 VPCs, and the account has 5 of at most 5; increase the quota in Service Quotas",
        ),
        (
            [creation(f"elastic_ip.{number}") for number in range(3)],
            {"L-0263D0A3": quota(5), "describe_addresses": [{}] * 3},
            "elastic_ip.0: needs 3 elastic addresses, and the account has 3 of at most 5",
        ),
        (
            [creation("iam_role.a"), creation("iam_role.b")],
            {"get_account_summary": ROLES},
            "iam_role.a: needs 2 roles, and the account has 999 of at most 1000",
        ),
        (
            [creation("db_instance.main")],
            {"describe_account_attributes": DATABASES},
            "db_instance.main: needs 1 database instances, and the account has 40 of at most 40",
        ),
        (
            [GROUP],
            {"L-1216C47A": quota(8), "describe_instance_types": TYPES, "describe_instances": RUNNING},
            "eks_nodegroup.main: scaling_config: needs 10 virtual processors, and the account has 2 of at most 8",
        ),
    ],
)
def test_a_quota_that_a_plan_exceeds_is_refused(nodes: Sequence[Node], answers: dict[str, Any], words: str) -> None:
    (fault,) = quota_faults(Account(answers), nodes)
    assert str(fault).startswith(words)

    raised = {name: quota(100) if name.startswith("L-") else answer for name, answer in answers.items()}
    raised |= {"get_account_summary": {"SummaryMap": {"Roles": 999, "RolesQuota": 5000}}}
    raised |= {"describe_account_attributes": {"AccountQuotas": [{**DATABASES["AccountQuotas"][0], "Max": 50}]}}
    assert quota_faults(Account(raised), nodes) == []


def test_a_quota_that_may_not_be_read_refuses_nothing() -> None:
    assert quota_faults(Account({}), [creation("vpc.main"), creation("db_instance.main"), GROUP]) == []


def test_what_exists_needs_no_quota() -> None:
    account = Account({"L-F678F1CE": quota(5), "describe_vpcs": [{}] * 5})
    assert quota_faults(account, [Node("vpc.main", "vpc", "update", "vpc-1")]) == []
    assert account.asked == []


def simulated(decisions: Mapping[str, str], missing: Sequence[str] = ()) -> Any:
    """Return IAM's simulator; it allows actions that are not named."""

    def answer(ActionNames: Sequence[str], **_rest: Any) -> dict[str, Any]:  # noqa: N803 - the name of the parameter
        results = [
            {
                "EvalActionName": name,
                "EvalDecision": decisions.get(name, "allowed"),
                "MissingContextValues": ["aws:RequestTag/Team"] if name in missing else [],
            }
            for name in ActionNames
        ]
        return {"EvaluationResults": results}

    return {"simulate_principal_policy": answer}


NODES = [creation("vpc.main"), creation("s3_bucket.a", name="lake-a"), creation("iam_role.a", name="lake", path="/x/")]


def judged(answers: Mapping[str, Any], **words: Any) -> tuple[list[str], list[str], Account]:
    account = Account(answers, **words)
    kinds = {kind.name: kind for kind in make_kinds(account, {node.kind for node in NODES})}
    found = judge(account, kinds, NODES)
    return [str(fault) for fault in found.faults], found.doubts, account


def test_a_permission_that_is_denied_is_refused_before_the_first_change() -> None:
    decisions = {"s3:CreateBucket": "implicitDeny", "iam:CreateRole": "explicitDeny", "ec2:CreateVpc": "explicitDeny"}

    faults, doubts, account = judged(simulated(decisions))

    assert faults == [
        "s3_bucket.a: needs s3:CreateBucket, which the caller is not allowed; allow s3:CreateBucket to the caller",
        "iam_role.a: needs iam:CreateRole, which the caller is not allowed; allow iam:CreateRole to the caller",
        "vpc.main: needs ec2:CreateVpc, which the caller is not allowed; allow ec2:CreateVpc to the caller",
    ]
    assert doubts == []
    resources = [question["ResourceArns"] for question in account.asked]
    assert resources == [["arn:aws:s3:::lake-a"], [f"arn:aws:iam::{ACCOUNT}:role/x/lake"], ["*"]]
    assert judged(simulated({}))[0] == []


def test_a_policy_may_allow_it_on_the_resources_that_are_meant() -> None:
    faults, doubts, _account = judged(simulated({"ec2:CreateVpc": "implicitDeny"}))
    assert (faults, doubts) == ([], ["ec2:CreateVpc"])


def test_a_condition_that_only_the_call_fulfils_counts_as_allowed() -> None:
    faults, doubts, _account = judged(simulated({"s3:CreateBucket": "implicitDeny"}, missing=["s3:CreateBucket"]))
    assert (faults, doubts) == ([], [])


@pytest.mark.parametrize("arn", [f"arn:aws:iam::{ACCOUNT}:user/me", f"arn:aws:iam::{ACCOUNT}:root"])
def test_whoever_may_not_simulate_is_refused_nothing(arn: str) -> None:
    assert judged({}, arn=arn)[:2] == ([], [])


@pytest.mark.parametrize(
    ("arn", "principal"),
    [
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/session", f"arn:aws:iam::{ACCOUNT}:role/deployer"),
        (f"arn:aws:iam::{ACCOUNT}:user/team/me", f"arn:aws:iam::{ACCOUNT}:user/team/me"),
        (f"arn:aws:iam::{ACCOUNT}:root", ""),
    ],
)
def test_a_session_is_judged_by_its_role(arn: str, principal: str) -> None:
    assert principal_arn(Identity(ACCOUNT, "aws", arn)) == principal
