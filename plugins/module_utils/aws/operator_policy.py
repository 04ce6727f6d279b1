# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM policies of the identity that plans and deploys a stack, from the actions that its kinds declare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from .foreign import READ_ACTIONS as FOREIGN_ACTIONS
from .foreign import REMOVAL_ACTIONS
from .kind import STACK_TAG, AwsKind
from .partitions import principals_everywhere
from .permissions import ACTIONS as PERMISSION_ACTIONS
from .prerequisites import ACTIONS as PREREQUISITE_ACTIONS
from .quotas import ACTIONS as QUOTA_ACTIONS
from .release import ACTIONS as RELEASE_ACTIONS

Document = dict[str, Any]
Operation = Literal["read", "list", "create", "update", "delete"]
PLAN: tuple[Operation, ...] = ("read", "list")
DEPLOY: tuple[Operation, ...] = ("create", "update", "delete")
# Actions before the first resource is read, and before a cluster is deleted.
BASE = frozenset(
    {
        "sts:GetCallerIdentity",
        "ec2:DescribeAvailabilityZones",
        *FOREIGN_ACTIONS,
        *RELEASE_ACTIONS,
        *PERMISSION_ACTIONS,
        *PREREQUISITE_ACTIONS,
        *QUOTA_ACTIONS,
    }
)
# Characters of a managed policy without white space.
# Source: "IAM and AWS STS quotas" in the IAM user guide.
LIMIT = 6144
_VERSION = "2012-10-17"
# Roles can be passed to these services only, and service-linked roles created for these only.
_PASSED_TO = (
    "backup",
    "ec2",
    "eks",
    "eks-fargate-pods",
    "glue",
    "monitoring-rds",
    "pods-eks",
    "vpc-flow-logs",
)
_LINKED_TO = ("backup", "eks", "eks-fargate", "eks-nodegroup", "elasticfilesystem", "rds", "spot")
_CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "iam:PassRole": {"StringEquals": {"iam:PassedToService": principals_everywhere(_PASSED_TO)}},
    "iam:CreateServiceLinkedRole": {"StringLike": {"iam:AWSServiceName": principals_everywhere(_LINKED_TO)}},
    # Allows grants for services, never for other principals.
    "kms:CreateGrant": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
}
# The description contains the names of these services' resources, so a prefix limits the permissions.
_NAMED: Mapping[str, tuple[str, ...]] = {
    "iam": ("role/{}", "policy/{}", "instance-profile/{}"),
    "s3": ("{}", "{}/*"),
}
# Public parameters of AWS only: the parameters of an account may be secrets.
_READ_AT: Mapping[str, str] = {"ssm:GetParameter": "arn:*:ssm:*::parameter/aws/service/*"}
_ARNS: Mapping[str, str] = {"iam": "arn:*:iam::*:", "s3": "arn:*:s3:::"}


def declared(kinds: Iterable[type[AwsKind]], operations: Iterable[Operation]) -> frozenset[str]:
    """Return the IAM actions that kinds declare for operations."""
    wanted = tuple(operations)
    return frozenset(action for kind in kinds for name in wanted for action in getattr(kind.actions, name))


def plan_policies(kinds: Iterable[type[AwsKind]]) -> list[Document]:
    """Return the actions for plans and drift checks; they are read-only."""
    actions = BASE | declared(kinds, PLAN)
    fenced = sorted(actions & _READ_AT.keys())
    narrow = [_statement(f"Read{_word(action.partition(':')[2])}", [action], [_READ_AT[action]]) for action in fenced]
    return _packed([*_statements("Read", actions - set(fenced)), *narrow])


def deploy_policies(
    kinds: Iterable[type[AwsKind]], prefix: str, is_guarded: Callable[[str], bool] = lambda _action: False
) -> list[Document]:
    """Return the actions for deployment and destruction, in addition to those for plans.

    prefix: of the names of roles, policies, instance profiles and buckets. is_guarded: whether an action is allowed
    only on resources with the tag of any stack.
    """
    known = list(kinds)
    actions = declared(known, DEPLOY) - declared(known, PLAN) - BASE
    guarded = {action for action in actions if action not in _CONDITIONS and is_guarded(action)}
    conditional = {action for action in actions if action in _CONDITIONS}
    return _packed(
        [
            *_fenced(actions - guarded - conditional, prefix),
            *_conditional(conditional, prefix),
            *_statements("DeleteOwn", guarded, {"StringLike": {f"aws:ResourceTag/{STACK_TAG}": "?*/?*"}}),
        ]
    )


def removal_policy() -> Document:
    """Return the additional actions that remove undescribed access: such objects lack the stack's tags."""
    (document,) = _packed(_statements("RemoveForeign", REMOVAL_ACTIONS))
    return document


def size(document: Document) -> int:
    """Return the number of characters that IAM counts."""
    return len(json.dumps(document, separators=(",", ":")))


def _fenced(actions: Iterable[str], prefix: str) -> list[Document]:
    """Return statements limited to named resources where the names have a prefix, else for every resource."""
    statements: list[Document] = []
    for service, names in sorted(_by_service(actions).items()):
        outside = [name for name in names if service not in _NAMED or "OpenIDConnectProvider" in name]
        inside = [name for name in names if name not in outside]
        if inside:
            statements.append(_statement(f"Write{_word(service)}Named", inside, _arns(service, prefix)))
        if outside:
            statements.append(_statement(f"Write{_word(service)}", outside, ["*"]))
    return statements


def _conditional(actions: Iterable[str], prefix: str) -> list[Document]:
    statements = []
    for action in sorted(actions):
        resources = _arns("iam", prefix)[:1] if action == "iam:PassRole" else ["*"]
        name = _word(action.partition(":")[2])
        statements.append(_statement(name, [action], resources, _CONDITIONS[action]))
    return statements


def _statements(sid: str, actions: Iterable[str], condition: Mapping[str, Any] | None = None) -> list[Document]:
    grouped = sorted(_by_service(actions).items())
    return [_statement(f"{sid}{_word(service)}", names, ["*"], condition) for service, names in grouped]


def _by_service(actions: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for action in sorted(actions):
        grouped.setdefault(action.partition(":")[0], []).append(action)
    return grouped


def _statement(
    sid: str, actions: list[str], resources: list[str], condition: Mapping[str, Any] | None = None
) -> Document:
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": dict(condition)} if condition else statement


def _arns(service: str, prefix: str) -> list[str]:
    return [_ARNS[service] + name.format(f"{prefix}*") for name in _NAMED[service]]


def _word(text: str) -> str:
    """Return a text as part of a statement's id, which can contain letters and digits only."""
    return "".join(part[:1].upper() + part[1:] for part in text.split("-"))


def _packed(statements: Iterable[Document]) -> list[Document]:
    """Return the smallest number of documents for the statements, in their order."""
    documents: list[Document] = []
    for statement in statements:
        last = documents[-1] if documents else None
        if last is None or size({**last, "Statement": [*last["Statement"], statement]}) > LIMIT:
            documents.append({"Version": _VERSION, "Statement": [statement]})
        else:
            last["Statement"].append(statement)
    return documents
