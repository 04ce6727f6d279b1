# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Permissions that a plan needs and the caller lacks, as IAM's simulator judges them before the first change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.errors import Fault
from ..engine.plan import Node
from .errors import CallError
from .kind import AwsKind
from .session import Identity, Session

ACTIONS = frozenset({"iam:SimulatePrincipalPolicy"})
_OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "create": ("create",),
    "update": ("update",),
    "adopt": ("update",),
    "replace": ("create", "delete"),
    "delete": ("delete",),
}
# The names contain enough for the ARNs; ARNs of other resources are known after their creation.
_ARNS: Mapping[str, str] = {
    "iam_role": "arn:{partition}:iam::{account}:role{path}{name}",
    "iam_policy": "arn:{partition}:iam::{account}:policy{path}{name}",
    "instance_profile": "arn:{partition}:iam::{account}:instance-profile{path}{name}",
    "s3_bucket": "arn:{partition}:s3:::{name}",
}
_MOST_RESULTS = 1000
# These actions are evaluated on another resource, or with conditions that only the call itself meets.
_UNJUDGED = frozenset({"iam:CreateServiceLinkedRole", "iam:PassRole", "kms:CreateGrant"})


@dataclass
class Judged:
    """Result of the simulation. faults: denied actions. doubts: actions that no policy allows on every resource.

    A policy may still allow the latter on the intended resources.
    """

    faults: list[Fault] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def principal_arn(identity: Identity) -> str:
    """Return the user or role of a caller, or an empty text for the root user, whose permissions are unlimited."""
    kind, _slash, name = identity.arn.rpartition(":")[2].partition("/")
    if kind == "assumed-role":
        return f"arn:{identity.partition}:iam::{identity.account_id}:role/{name.partition('/')[0]}"
    return identity.arn if kind in {"user", "role"} else ""


def judge(session: Session, kinds: Mapping[str, AwsKind], nodes: Sequence[Node]) -> Judged:
    """Return the permissions that the caller lacks for a plan. Empty where the simulator must not be called."""
    principal = principal_arn(session.identity())
    judged = Judged()
    if not principal:
        return judged
    try:
        for node, actions in _named(kinds, nodes):
            denied = _denied(session, principal, actions, [_arn(session.identity(), node)])
            judged.faults += [_fault(node.address, action) for action, _decision in denied]
        for action, decision in _denied(session, principal, _others(kinds, nodes), ["*"]):
            if decision == "explicitDeny":
                judged.faults.append(_fault(_first(kinds, nodes, action), action))
            else:
                judged.doubts.append(action)
    except CallError:
        # The permission to deploy does not imply the permission to simulate.
        return Judged()
    return judged


def _fault(address: str, action: str) -> Fault:
    return Fault(address, "", f"needs {action}, which the caller is not allowed", f"allow {action} to the caller")


def _needed(kinds: Mapping[str, AwsKind], node: Node) -> Iterator[str]:
    for operation in _OPERATIONS.get(node.action, ()):
        yield from getattr(kinds[node.kind].actions, operation)


def _own(kind: str, actions: Iterable[str]) -> list[str]:
    """Return the actions of a kind on its own resources."""
    prefix = "s3:" if kind == "s3_bucket" else "iam:"
    return sorted({action for action in actions if action.startswith(prefix)} - _UNJUDGED)


def _named(kinds: Mapping[str, AwsKind], nodes: Sequence[Node]) -> Iterator[tuple[Node, list[str]]]:
    """Yield one node of each kind with a known ARN, and an action with its context: names hardly change the result."""
    seen: set[tuple[str, str]] = set()
    for node in nodes:
        if node.kind in _ARNS and (node.kind, node.action) not in seen and _name(node):
            seen.add((node.kind, node.action))
            actions = _own(node.kind, _needed(kinds, node))
            if actions:
                yield node, actions


def _others(kinds: Mapping[str, AwsKind], nodes: Sequence[Node]) -> list[str]:
    needed = {action for node in nodes for action in _needed(kinds, node)} - _UNJUDGED
    named = {action for kind in _ARNS if kind in kinds for action in _own(kind, needed)}
    return sorted(needed - named)


def _first(kinds: Mapping[str, AwsKind], nodes: Sequence[Node], action: str) -> str:
    return next(node.address for node in nodes if action in set(_needed(kinds, node)))


def _name(node: Node) -> str:
    return node.id or str(next((change.after for change in node.changes if change.path == "name"), ""))


def _arn(identity: Identity, node: Node) -> str:
    if node.id.startswith("arn:"):
        return node.id
    path = str(next((change.after for change in node.changes if change.path == "path"), "/"))
    return _ARNS[node.kind].format(
        partition=identity.partition, account=identity.account_id, path=path, name=_name(node)
    )


def _denied(
    session: Session, principal: str, actions: Sequence[str], resources: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the denied actions with IAM's decision. Conditions on missing context values count as met."""
    if not actions:
        return []
    results = session.ask(
        "iam",
        "simulate_principal_policy",
        PolicySourceArn=principal,
        ActionNames=list(actions),
        ResourceArns=list(resources),
        MaxItems=_MOST_RESULTS,
    )["EvaluationResults"]
    decisions: dict[str, Any] = defaultdict(str)
    for result in results:
        if result["EvalDecision"] != "allowed" and not result.get("MissingContextValues"):
            decisions[result["EvalActionName"]] = result["EvalDecision"]
    return sorted(decisions.items())
