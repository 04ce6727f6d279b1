# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign access in AWS: grants, access entries and pod identities that the stack's description does not contain.

Policies, attachments and rules of a resource are compared by its kind. These findings are separate objects. A tag does
not prove ownership, because any creator can set it. Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from ..shared.foreign import GRANTS, Finding, Kind

Item: TypeAlias = Mapping[str, Any]
GRANT = Kind("kms-grant", GRANTS, "bindings")
ACCESS_ENTRY = Kind("access-entry", GRANTS, "bindings")
POD_IDENTITY = Kind("pod-identity", GRANTS, "bindings")

_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.[a-z]+)?")
# IAM rejects colons in role names, so `aws:ec2-infrastructure`, which attaches volumes, is an identity of AWS.
_LINKED = re.compile(
    r"arn:[a-z-]+:(iam::\d{12}:role/aws-service-role/|sts::\d{12}:assumed-role/(aws:|AWSServiceRoleFor)).+"
)
_ADMINISTRATOR = ":eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
# The entry of the cluster's creator is as old as the cluster; others are refused until it is active, minutes later.
_WITH_CLUSTER = timedelta(minutes=5)


@dataclass(frozen=True)
class Described:
    """Resources that the description contains and that exist.

    keys: addresses of KMS keys by key id. clusters: names of EKS clusters. entries: `CLUSTER/PRINCIPAL`.
    associations: `CLUSTER/NAMESPACE/ACCOUNT`. node_groups, fargate_profiles: `CLUSTER/NAME`. roles: ARNs of IAM roles.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    clusters: tuple[str, ...] = ()
    entries: frozenset[str] = frozenset()
    associations: frozenset[str] = frozenset()
    node_groups: tuple[str, ...] = ()
    fargate_profiles: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> Described:
        """Return the described resources from the outputs of `aws_stack`, by address."""

        def values(kind: str, name: str) -> dict[str, str]:
            found = {address: item.get(name) for address, item in outputs.items() if address.startswith(f"{kind}.")}
            return {address: str(value) for address, value in found.items() if value}

        return cls(
            keys={id_: address for address, id_ in values("kms_key", "id").items()},
            clusters=tuple(sorted(values("eks_cluster", "id").values())),
            entries=frozenset(values("eks_access_entry", "id").values()),
            associations=frozenset(values("pod_identity_association", "id").values()),
            node_groups=tuple(sorted(values("eks_nodegroup", "id").values())),
            fargate_profiles=tuple(sorted(values("eks_fargate_profile", "id").values())),
            roles=frozenset(values("iam_role", "arn").values()),
        )


@dataclass(frozen=True)
class Cluster:
    """A described cluster: as EKS answers it, its access entries, and roles of its node groups and Fargate profiles.

    An entry is as EKS answers it, with `policies`: its associated access policies.
    """

    answer: Item
    entries: Sequence[Item] = ()
    node_roles: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return str(self.answer["name"])


@dataclass(frozen=True)
class Foreign:
    """A finding, and the call that removes it: service, operation, parameters."""

    finding: Finding
    service: str
    operation: str
    parameters: Mapping[str, str]
    principal: str = ""


def is_service(principal: str) -> bool:
    """Return whether a principal is a service of AWS, a service-linked role, or an identity that AWS reserves.

    Source: "AWS service principals" and "Service-linked roles" in the user guide of IAM.
    """
    return bool(_SERVICE.fullmatch(principal) or _LINKED.fullmatch(principal))


def foreign_grants(key_id: str, address: str, grants: Iterable[Item], own: Iterable[str]) -> Iterator[Foreign]:
    """Yield the grants on a key for principals that are not services.

    own: ARNs of the roles of described clusters, for which EKS creates the grant that encrypts Secrets.
    """
    roles = set(own)
    for grant in grants:
        grantee, retiring = str(grant.get("GranteePrincipal") or "?"), str(grant.get("RetiringPrincipal") or "")
        if is_service(grantee) or _SERVICE.fullmatch(retiring) or grantee in roles:
            continue
        detail = f"{', '.join(grant.get('Operations') or ())} for {grantee}"
        finding = GRANT.finding(f"{address}/{grantee}/{grant['GrantId']}", detail)
        parameters = {"KeyId": key_id, "GrantId": str(grant["GrantId"])}
        yield Foreign(finding, "kms", "revoke_grant", parameters)


def foreign_entries(cluster: Cluster, described: Iterable[str]) -> Iterator[Foreign]:
    """Yield the access entries of a cluster that neither the description nor EKS created."""
    known = set(described)
    creator = _creators_entry(cluster)
    for entry in cluster.entries:
        principal = str(entry["principalArn"])
        id_ = f"{cluster.name}/{principal}"
        is_nodes = entry.get("type", "STANDARD") != "STANDARD" and principal in cluster.node_roles
        if id_ in known or entry is creator or is_nodes or is_service(principal):
            continue
        parameters = {"clusterName": cluster.name, "principalArn": principal}
        yield Foreign(
            ACCESS_ENTRY.finding(id_, _permissions(entry)), "eks", "delete_access_entry", parameters, principal
        )


def _creators_entry(cluster: Cluster) -> Item | None:
    """Return the entry that EKS created for the cluster's creator: the oldest administrator, as old as the cluster."""
    made = cluster.answer.get("createdAt")
    config = cluster.answer.get("accessConfig") or {}
    if not isinstance(made, datetime) or config.get("bootstrapClusterCreatorAdminPermissions") is False:
        return None
    administrators = [
        entry
        for entry in cluster.entries
        if isinstance(entry.get("createdAt"), datetime)
        and entry["createdAt"] - made < _WITH_CLUSTER
        and not entry.get("kubernetesGroups")
        and [str(policy["policyArn"]).endswith(_ADMINISTRATOR) for policy in entry.get("policies") or ()] == [True]
    ]
    return min(administrators, key=lambda entry: entry["createdAt"], default=None)


def _permissions(entry: Item) -> str:
    kind = str(entry.get("type") or "STANDARD")
    groups = [f"group {name}" for name in entry.get("kubernetesGroups") or ()]
    policies = [_policy(policy) for policy in entry.get("policies") or ()]
    return "; ".join([*([] if kind == "STANDARD" else [f"type {kind}"]), *groups, *policies]) or "without permissions"


def _policy(policy: Item) -> str:
    scope = policy.get("accessScope") or {}
    where = ", ".join(scope.get("namespaces") or ()) or "the cluster"
    return f"{str(policy['policyArn']).rpartition('/')[2]} in {where}"


def is_candidate(association: Item, described: Described) -> bool:
    """Return whether a listed pod identity association may be foreign: neither described nor owned by an addon."""
    return _association_id(association) not in described.associations and not association.get("ownerArn")


def foreign_associations(associations: Iterable[Item], described: Described) -> Iterator[Foreign]:
    """Yield candidates that give a role to pods of a described cluster, or a described role to pods of another one."""
    for association in associations:
        role = str(association.get("roleArn") or "?")
        if association["clusterName"] not in described.clusters and role not in described.roles:
            continue
        parameters = {
            "clusterName": str(association["clusterName"]),
            "associationId": str(association["associationId"]),
        }
        finding = POD_IDENTITY.finding(_association_id(association), f"role {role}")
        yield Foreign(finding, "eks", "delete_pod_identity_association", parameters)


def _association_id(association: Item) -> str:
    return "/".join(str(association[name]) for name in ("clusterName", "namespace", "serviceAccount"))


def role_of(arn: str) -> str:
    """Return `ACCOUNT/NAME` of the ARN of a role or its session, else the ARN: a session's ARN has no path."""
    found = re.fullmatch(r"arn:[a-z-]+:(?:iam|sts)::(\d{12}):(?:role/(?:.*/)?|assumed-role/)([^/]+)(?:/[^/]+)?", arn)
    if not found:
        return arn
    if ":role/" in arn:
        return f"{found[1]}/{arn.rpartition('/')[2]}"
    return f"{found[1]}/{found[2]}"
