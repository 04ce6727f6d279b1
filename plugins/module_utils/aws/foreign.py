# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read access to a stack that its description does not contain, and remove it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.errors import EngineError
from ..shared.foreign import judge, listing, removal
from . import eks
from .arguments import connection
from .errors import CallError
from .expected import (
    Cluster,
    Described,
    Foreign,
    foreign_associations,
    foreign_entries,
    foreign_grants,
    is_candidate,
    role_of,
)
from .session import Session

READ_ACTIONS = frozenset(
    {
        "eks:DescribeAccessEntry",
        "eks:DescribeCluster",
        "eks:DescribeFargateProfile",
        "eks:DescribeNodegroup",
        "eks:DescribePodIdentityAssociation",
        "eks:ListAccessEntries",
        "eks:ListAssociatedAccessPolicies",
        "eks:ListClusters",
        "eks:ListPodIdentityAssociations",
        "kms:ListGrants",
    }
)
REMOVAL_ACTIONS = frozenset({"eks:DeleteAccessEntry", "eks:DeletePodIdentityAssociation", "kms:RevokeGrant"})
# The grants of a key in deletion do not allow its use.
_NO_KEY = ("NotFoundException", "KMSInvalidStateException")
_GONE = (*eks.ABSENT, "NotFoundException")


def read_foreign(session: Session, described: Described) -> list[Foreign]:
    """Return the foreign grants, access entries and pod identities. Raises CallError."""
    answered = session.each(lambda name: _cluster(session, name, described), described.clusters)
    there = [cluster for cluster in answered if cluster is not None]
    own = {str(cluster.answer["roleArn"]) for cluster in there if cluster.answer.get("roleArn")}
    found = [one for cluster in there for one in foreign_entries(cluster, described.entries)]
    found += foreign_associations(_associations(session, described), described)
    keys = list(described.keys.items())
    answers = session.each(lambda key: _grants(session, key[0]), keys)
    for (key, address), grants in zip(keys, answers, strict=True):
        found += foreign_grants(key, address, grants, own)
    return found


def _cluster(session: Session, name: str, described: Described) -> Cluster | None:
    answer = session.look("eks", "describe_cluster", eks.ABSENT, name=name)
    if answer is None:
        return None
    principals = eks.listed(session, "list_access_entries", "accessEntries", clusterName=name)
    entries = [entry for entry in session.each(lambda arn: _entry(session, name, arn), principals) if entry]
    return Cluster(answer["cluster"], entries, _node_roles(session, name, described))


def _entry(session: Session, cluster: str, principal: str) -> dict[str, Any] | None:
    place = {"clusterName": cluster, "principalArn": principal}
    answer = session.look("eks", "describe_access_entry", eks.ABSENT, **place)
    if answer is None:
        return None
    entry: dict[str, Any] = answer["accessEntry"]
    if entry.get("type", "STANDARD") not in {"STANDARD", "EC2"}:
        return entry
    policies = eks.listed(session, "list_associated_access_policies", "associatedAccessPolicies", **place)
    return {**entry, "policies": policies}


def _node_roles(session: Session, cluster: str, described: Described) -> frozenset[str]:
    """Return the roles of the described node groups and Fargate profiles, for which EKS makes entries."""

    def role(operation: str, parameter: str, key: str, field: str, id_: str) -> str:
        place = {"clusterName": cluster, parameter: id_.partition("/")[2]}
        answer = session.look("eks", operation, eks.ABSENT, **place)
        return str((answer or {key: {}})[key].get(field) or "")

    asked = [("describe_nodegroup", "nodegroupName", "nodegroup", "nodeRole", id_) for id_ in described.node_groups]
    asked += [
        ("describe_fargate_profile", "fargateProfileName", "fargateProfile", "podExecutionRoleArn", id_)
        for id_ in described.fargate_profiles
    ]
    ours = [item for item in asked if item[4].partition("/")[0] == cluster]
    return frozenset(filter(None, session.each(lambda item: role(*item), ours)))


def _associations(session: Session, described: Described) -> list[dict[str, Any]]:
    """Return candidates of every cluster of the region: other clusters may use roles of the stack."""
    if not described.clusters and not described.roles:
        return []
    names = eks.cluster_names(session)
    operation, key = "list_pod_identity_associations", "associations"
    listings = session.each(lambda name: eks.listed(session, operation, key, clusterName=name), names)
    candidates = [item for found in listings for item in found if is_candidate(item, described)]

    def whole(item: dict[str, Any]) -> dict[str, Any] | None:
        place = {"clusterName": item["clusterName"], "associationId": item["associationId"]}
        answer = session.look("eks", "describe_pod_identity_association", eks.ABSENT, **place)
        return answer["association"] if answer else None

    return [found for found in session.each(whole, candidates) if found]


def _grants(session: Session, key: str) -> list[dict[str, Any]]:
    try:
        return session.pages("kms", "list_grants", "Grants", KeyId=key)
    except CallError as error:
        if error.is_one_of(_NO_KEY):
            return []
        raise


def outcome(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module `aws_foreign` for its parameters, also when it fails."""
    try:
        return compare(
            Session(connection(parameters)),
            Described.of(parameters["outputs"]),
            parameters["expected"],
            parameters["remove"],
            only_plans=check_mode,
        )
    except EngineError as error:
        return {"failed": True, "msg": str(error)}


def compare(
    session: Session, described: Described, expected: Sequence[str], remove: Sequence[str], *, only_plans: bool
) -> dict[str, Any]:
    """Remove the findings to be removed, and return the report. Raises EngineError when a removal fails."""
    found = read_foreign(session, described)
    report = judge([one.finding for one in found], expected, remove)
    doomed = [one for one in found if one.finding in report.removing]
    _keep_own(session, doomed)
    if doomed and not only_plans:
        _remove(session, doomed)
    return {
        **removal(report),
        "grants": listing(report.remaining),
        "expected": listing(report.expected),
        "api_calls": len(session.calls),
    }


def _keep_own(session: Session, doomed: Sequence[Foreign]) -> None:
    """Raise EngineError where a run would remove the access entry that it uses itself."""
    if not any(one.principal for one in doomed):
        return
    own = role_of(session.identity().arn)
    for one in doomed:
        if one.principal and role_of(one.principal) == own:
            raise EngineError(
                f"cannot remove {one.finding.address}: this run reaches the cluster with it; "
                "add its principal to `lakehouse_eks_admin_arns`, or its address to `lakehouse_expected_foreign`"
            )


def _remove(session: Session, doomed: Sequence[Foreign]) -> None:
    def removed(one: Foreign) -> str:
        try:
            session.look(one.service, one.operation, _GONE, **one.parameters)
        except CallError as error:
            return f"cannot remove {one.finding.address}: {error}"
        return ""

    stay = [text for text in session.each(removed, doomed) if text]
    if stay:
        raise EngineError("\n".join(stay))
