# SPDX-License-Identifier: GPL-3.0-or-later
"""The generated policies are necessary and sufficient: IAM itself evaluates each call of a user with these policies."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.operator_policy import (
    BASE,
    DEPLOY,
    PLAN,
    declared,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.stack import AwsStack
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import ReadError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import Report
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Proposal
from tests.integration.aws.foundation import FOUNDATION
from tests.integration.aws.lab import Described, Lab, failures

# Only this emulator evaluates policies.
pytestmark = pytest.mark.emulators("strict")

Document = dict[str, Any]
DOCS = Path(__file__).parents[3] / "docs"
STEM = "aws_operator_policy"

STACK: Mapping[str, dict[str, Any]] = {
    **FOUNDATION,
    "nat_gateway.main": {"subnet_id": "${subnet.public-a.id}", "connectivity_type": "private"},
    # An emulator is accessed without TLS.
    "s3_bucket.bronze": {**FOUNDATION["s3_bucket.bronze"], "tls_only": False},
    "sns_topic.alerts": {"name": "crypto-lakehouse-alerts-${stack.environment}"},
}
CHANGES: Mapping[str, dict[str, Any]] = {
    "vpc.main": {"enable_dns_hostnames": False, "tags": {"Team": "data"}},
    "subnet.public-a": {"map_public_ip_on_launch": True},
    "security_group.worker": {
        "egress": [{"protocol": "tcp", "from_port": 443, "to_port": 443, "cidr_ipv4": "0.0.0.0/0"}]
    },
    "kms_key.data": {"description": "of the lake", "rotation_period_in_days": 180},
    "s3_bucket.bronze": {"versioning": True, "encryption": {"sse_algorithm": "AES256"}, "tags": {"Team": "data"}},
    "iam_role.crawler": {"description": "reads", "inline_policies": {}},
    "log_group.crawler": {"retention_in_days": 7},
    "sns_topic.alerts": {"display_name": "Lake"},
    "glue_database.catalog": {"description": "tables"},
    "secretsmanager_secret.database": {"description": "of the database"},
}
CHANGED: Mapping[str, dict[str, Any]] = {
    address: {**properties, **CHANGES.get(address, {})} for address, properties in STACK.items()
}


def policies(*names: str) -> list[Document]:
    """Return the generated policies whose file name has this prefix."""
    files = sorted(path for name in names for path in DOCS.glob(f"{STEM}_{name}*.json"))
    assert files, names
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def without(documents: Iterable[Document], *actions: str) -> list[Document]:
    """Return policies without some of their actions."""
    left = copy.deepcopy(list(documents))
    removed = set()
    for document in left:
        for statement in document["Statement"]:
            removed |= set(statement["Action"]) & set(actions)
            statement["Action"] = [action for action in statement["Action"] if action not in actions]
        document["Statement"] = [statement for statement in document["Statement"] if statement["Action"]]
    assert removed == set(actions), f"not allowed at all: {set(actions) - removed}"
    return left


# The emulator checks another resource than IAM, or does not know the tags of deleted objects.
BLIND = (
    "ec2:DeleteInternetGateway",
    "ec2:DeleteNatGateway",
    "ec2:DeleteRouteTable",
    "ec2:DeleteSecurityGroup",
    "ec2:DeleteSubnet",
    "ec2:DeleteVpc",
    "glue:DeleteCrawler",
    "iam:CreatePolicy",
)
SEEING: Document = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": list(BLIND), "Resource": ["*"]}],
}


@dataclass
class Operator:
    """A user with certain policies and access to the lab's stack."""

    lab: Lab
    key: tuple[str, str]

    @classmethod
    def having(cls, lab: Lab, documents: Sequence[Document], name: str = "operator") -> Operator:
        iam = lab.client("iam")
        iam.create_user(UserName=name)
        for number, document in enumerate(documents, 1):
            made = iam.create_policy(PolicyName=f"{name}-{number}", PolicyDocument=json.dumps(document))
            iam.attach_user_policy(UserName=name, PolicyArn=made["Policy"]["Arn"])
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return cls(lab, (key["AccessKeyId"], key["SecretAccessKey"]))

    def propose(self, described: Described, **options: Any) -> Proposal:
        return self._stack(described, **options).propose()

    def run(self, described: Described, **options: Any) -> Report:
        stack = self._stack(described, **options)
        return stack.apply(stack.propose())

    def apply(self, described: Described, **options: Any) -> Report:
        report = self.run(described, **options)
        assert report.complete, failures(report)
        return report

    def destroy(self, described: Mapping[str, Any]) -> Report:
        return self.apply(described, state="absent", unprotect=tuple(described))

    def _stack(self, described: Described, **options: Any) -> AwsStack:
        session = self.lab.session(access_key=self.key[0], secret_key=self.key[1])
        return self.lab.stack(described, session=session, **options)


def deployer(lab: Lab, documents: Sequence[Document] | None = None) -> Operator:
    """Return a user with the generated policies, or with the remaining part of them."""
    return Operator.having(lab, [*(policies("plan", "deploy") if documents is None else documents), SEEING])


def done(report: Report) -> dict[str, str]:
    return {result.address: result.action for result in report.results if result.action != "none"}


def test_the_generated_policies_are_enough_to_deploy_change_and_destroy(lab: Lab) -> None:
    operator = deployer(lab)

    assert set(done(operator.apply(STACK))) == set(STACK)
    assert done(operator.apply(STACK)) == {}
    assert done(operator.apply(CHANGED)) == dict.fromkeys(CHANGES, "update")
    assert done(operator.destroy(CHANGED)) == dict.fromkeys(STACK, "delete")
    assert lab.client("logs").describe_log_groups()["logGroups"] == []


def test_whoever_plans_sees_everything_and_changes_nothing(lab: Lab) -> None:
    deployer(lab).apply(STACK)
    planner = Operator.having(lab, policies("plan"), "planner")

    assert not planner.propose(STACK).plan.changed
    plan = planner.propose(CHANGED).plan
    assert {node.address for node in plan.nodes if node.action == "update"} == set(CHANGES)
    report = planner.run(CHANGED)
    assert all("not authorized to perform" in result.message for result in report.failed), failures(report)
    assert {result.outcome for result in report.results if result.address in CHANGES} <= {"failed", "skipped"}
    assert planner.propose(CHANGED).plan == plan


def test_planning_takes_every_kind_that_can_be_listed_here(lab: Lab) -> None:
    """A user who may only plan searches the kinds of the stack for resources that are no longer described."""
    deployer(lab).apply(STACK)
    planner = Operator.having(lab, policies("plan"), "planner")

    plan = planner.propose({}, prune=True, unprotect=tuple(STACK)).plan

    assert {node.address for node in plan.nodes if node.action == "delete"} == set(STACK)


@pytest.mark.parametrize(
    ("action", "address"),
    [
        ("ec2:CreateSubnet", "subnet.public-a"),
        ("ec2:ModifyVpcAttribute", "vpc.main"),
        ("ec2:AuthorizeSecurityGroupIngress", "security_group.cluster"),
        ("kms:CreateAlias", "kms_key.data"),
        ("s3:PutEncryptionConfiguration", "s3_bucket.bronze"),
        ("iam:PutRolePolicy", "iam_role.crawler"),
        ("logs:PutRetentionPolicy", "log_group.crawler"),
        ("sns:CreateTopic", "sns_topic.alerts"),
        ("glue:CreateDatabase", "glue_database.catalog"),
        ("secretsmanager:CreateSecret", "secretsmanager_secret.database"),
    ],
)
def test_a_refused_call_names_its_action_and_its_address(lab: Lab, action: str, address: str) -> None:
    operator = deployer(lab, without(policies("plan", "deploy"), action))

    report = operator.run(STACK)

    result = report.result(address)
    assert result.outcome in {"failed", "incomplete"}, failures(report)
    assert f"allow {action} to the identity that runs this" in result.message
    assert all(f"allow {action} to" in other.message for other in report.failed), failures(report)
    # The other changes are applied, and the next run only needs the permission.
    deployed = [other.address for other in report.results if other.outcome == "done"]
    assert set(STACK) - set(deployed) == {address} | {
        other.address for other in report.results if other.outcome != "done"
    }


def test_a_refused_read_names_its_action_and_its_kind(lab: Lab) -> None:
    operator = deployer(lab, without(policies("plan", "deploy"), "ec2:DescribeSubnets", "iam:GetRole"))

    with pytest.raises(ReadError) as caught:
        operator.propose(STACK)

    faults = {fault.address: fault.message for fault in caught.value.faults}
    assert set(faults) == {"subnet", "iam_role"}
    assert "allow ec2:DescribeSubnets to the identity that runs this" in faults["subnet"]
    assert "allow iam:GetRole to the identity that runs this" in faults["iam_role"]
    assert not lab.wire.mutating


def test_a_policy_that_denies_is_not_answered_with_allowing(lab: Lab) -> None:
    denying: Document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "ec2:CreateVpc", "Resource": "*"}],
    }
    operator = deployer(lab, [*policies("plan", "deploy"), denying])

    (failed,) = operator.run({"vpc.main": STACK["vpc.main"]}).failed

    assert "change the policy that denies ec2:CreateVpc: allowing it does not help" in failed.message


def test_what_names_fence_in_is_refused_outside(lab: Lab) -> None:
    operator = deployer(lab)
    role = {**STACK["iam_role.crawler"], "name": "other-crawler", "managed_policy_arns": None}

    report = operator.run({"s3_bucket.a": {"name": "other-bucket", "tls_only": False}, "iam_role.a": role})

    assert {result.address: result.outcome for result in report.results} == dict.fromkeys(
        ("s3_bucket.a", "iam_role.a"), "failed"
    )
    assert "allow s3:CreateBucket to" in report.result("s3_bucket.a").message
    assert "allow iam:CreateRole to" in report.result("iam_role.a").message


def test_what_carries_no_stacks_tag_is_not_deleted(lab: Lab) -> None:
    operator = deployer(lab)
    lab.client("logs").create_log_group(logGroupName="of-somebody", tags={"lakehouse:address": "log_group.x"})
    theirs = lab.emulator.client("logs", key=operator.key)

    with pytest.raises(ClientError, match="not authorized to perform: logs:DeleteLogGroup"):
        theirs.delete_log_group(logGroupName="of-somebody")


def allows(documents: Iterable[Document], action: str, resource: str, **keys: str) -> bool:
    """Return whether policies allow a call. keys: condition values, by the word after the last `:` or `/`."""

    def met(condition: Mapping[str, Mapping[str, Any]]) -> bool:
        wanted = [(key, value) for operator in condition.values() for key, value in operator.items()]
        return all(
            any(
                fnmatchcase(keys.get(key.rpartition(":")[2], ""), pattern)
                for pattern in ([value] if isinstance(value, str) else value)
            )
            for key, value in wanted
        )

    return any(
        action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        and met(statement.get("Condition", {}))
        for document in documents
        for statement in document["Statement"]
    )


@pytest.mark.parametrize("action", [action for action in BLIND if action != "iam:CreatePolicy"])
def test_what_the_emulator_cannot_judge_is_deleted_only_with_a_stacks_tag(action: str) -> None:
    documents = policies("plan", "deploy")

    assert allows(documents, action, "arn:aws:any:::thing/x", stack="lake/development")
    assert not allows(documents, action, "arn:aws:any:::thing/x")
    assert not allows(documents, action, "arn:aws:any:::thing/x", stack="/")


@pytest.mark.parametrize(("name", "allowed"), [("crypto-lakehouse-read", True), ("other-read", False)])
def test_policies_are_created_only_where_their_names_begin_right(name: str, allowed: bool) -> None:
    arn = f"arn:aws:iam::111122223333:policy/{name}"

    assert allows(policies("plan", "deploy"), "iam:CreatePolicy", arn) is allowed


@pytest.mark.parametrize(
    ("role", "service", "allowed"),
    [
        ("crypto-lakehouse-crawler", "glue.amazonaws.com", True),
        ("crypto-lakehouse-crawler", "lambda.amazonaws.com", False),
        ("administrator", "glue.amazonaws.com", False),
    ],
)
def test_a_role_is_handed_only_to_the_services_of_the_stack(role: str, service: str, allowed: bool) -> None:
    """The emulator does not check iam:PassRole."""
    arn = f"arn:aws:iam::111122223333:role/{role}"

    assert allows(policies("plan", "deploy"), "iam:PassRole", arn, PassedToService=service) is allowed


def test_every_call_is_of_an_action_that_its_kinds_declare(lab: Lab) -> None:
    """No policy contains less than its kinds declare: reduced to the kinds of this stack, they are still sufficient."""
    kinds = [kind_class(name) for name in {address.partition(".")[0] for address in STACK}]
    needed = declared(kinds, (*PLAN, *DEPLOY)) | BASE
    everything = policies("plan", "deploy")
    held = {action for document in everything for statement in document["Statement"] for action in statement["Action"]}
    operator = deployer(lab, without(everything, *(held - needed)))

    operator.apply(STACK)
    operator.apply(CHANGED)
    operator.destroy(CHANGED)
