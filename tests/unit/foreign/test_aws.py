# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign access in AWS, and objects that AWS services create for the stack's own resources, which are not foreign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.expected import (
    Cluster,
    Described,
    foreign_associations,
    foreign_entries,
    foreign_grants,
    is_candidate,
    role_of,
)

ACCOUNT = "arn:aws:iam::111122223333"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
ADMINISTRATOR = {
    "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
    "accessScope": {"type": "cluster"},
}
OUTPUTS = {
    "kms_key.data": {"id": "1234", "arn": "arn:aws:kms:eu-central-1:111122223333:key/1234"},
    "eks_cluster.main": {"id": "lake"},
    "eks_access_entry.admin": {"id": f"lake/{ACCOUNT}:role/admin"},
    "pod_identity_association.pipeline": {"id": "lake/crypto-lakehouse/pipeline"},
    "eks_nodegroup.general": {"id": "lake/general"},
    "iam_role.pipeline": {"id": "pipeline", "arn": f"{ACCOUNT}:role/pipeline"},
    "vpc.main": {"id": "vpc-1"},
}


def grants(grantee: str, retiring: str = "") -> list[str]:
    grant = {"GrantId": "g1", "GranteePrincipal": grantee, "RetiringPrincipal": retiring, "Operations": ["Decrypt"]}
    return [str(one.finding) for one in foreign_grants("1234", "kms_key.data", [grant], [f"{ACCOUNT}:role/eks"])]


@pytest.mark.parametrize(
    "grantee",
    [
        f"{ACCOUNT}:user/evil",
        f"{ACCOUNT}:root",
        "arn:aws:iam::999999999999:role/elsewhere",
        f"{ACCOUNT}:role/aws-service-role",
        f"{ACCOUNT}:role/team/aws-service-role/evil",
        "arn:aws:sts::111122223333:assumed-role/pipeline/session",
        f"{ACCOUNT}:user/rds.amazonaws.com",
        "",
    ],
)
def test_a_grant_for_a_principal_that_is_no_service_is_foreign(grantee: str) -> None:
    principal = grantee or "?"

    assert grants(grantee) == [f"kms-grant/kms_key.data/{principal}/g1: Decrypt for {principal}"]


@pytest.mark.parametrize(
    ("grantee", "retiring"),
    [
        ("rds.eu-central-1.amazonaws.com", ""),
        ("ec2.cn-north-1.amazonaws.com.cn", ""),
        (f"{ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling", ""),
        ("arn:aws-us-gov:sts::111122223333:assumed-role/aws:ec2-infrastructure/i-0123", ""),
        ("arn:aws:sts::111122223333:assumed-role/AWSServiceRoleForBackup/session", ""),
        (f"{ACCOUNT}:role/eks", ""),
        (f"{ACCOUNT}:role/anything", "secretsmanager.eu-central-1.amazonaws.com"),
    ],
)
def test_a_grant_that_a_service_made_for_a_resource_is_not_foreign(grantee: str, retiring: str) -> None:
    assert grants(grantee, retiring) == []


def entry(name: str, after: timedelta = timedelta(days=1), **fields: Any) -> dict[str, Any]:
    given = {"principalArn": f"{ACCOUNT}:role/{name}", "createdAt": CREATED + after, "policies": [ADMINISTRATOR]}
    return {"clusterName": "lake", "type": "STANDARD", "kubernetesGroups": [], **given, **fields}


def foreign(*entries: dict[str, Any], **answer: Any) -> list[str]:
    cluster = Cluster(
        {"name": "lake", "createdAt": CREATED, **answer}, entries, node_roles=frozenset({f"{ACCOUNT}:role/node"})
    )
    return [str(one.finding) for one in foreign_entries(cluster, Described.of(OUTPUTS).entries)]


def test_an_access_entry_that_is_not_described_tells_what_it_allows() -> None:
    view = {
        "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
        "accessScope": {"type": "namespace", "namespaces": ["a", "b"]},
    }
    assert foreign(
        entry("admin"),
        entry("evil"),
        entry("reader", policies=[view], kubernetesGroups=["readers"]),
        entry("host", type="EC2_LINUX", policies=[]),
    ) == [
        f"access-entry/lake/{ACCOUNT}:role/evil: AmazonEKSClusterAdminPolicy in the cluster",
        f"access-entry/lake/{ACCOUNT}:role/reader: group readers; AmazonEKSViewPolicy in a, b",
        f"access-entry/lake/{ACCOUNT}:role/host: type EC2_LINUX",
    ]


def test_entries_that_eks_makes_are_not_foreign() -> None:
    service = entry("aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS")
    at_once = timedelta(seconds=2)

    assert foreign(entry("creator", at_once), entry("node", type="EC2_LINUX", policies=[]), service) == []
    # A single one is the creator's: the oldest administrator of the cluster, where the cluster creates one.
    assert len(foreign(entry("second", timedelta(seconds=3)), entry("creator", at_once))) == 1
    assert len(foreign(entry("late", timedelta(minutes=6)))) == 1
    assert len(foreign(entry("group", at_once, kubernetesGroups=["more"]))) == 1
    assert len(foreign(entry("none", at_once), accessConfig={"bootstrapClusterCreatorAdminPermissions": False})) == 1
    # A role of nodes that administers the cluster is not a node entry.
    assert len(foreign(entry("node"))) == 1


def association(cluster: str, account: str, role: str, **fields: str) -> dict[str, str]:
    place = {"clusterName": cluster, "namespace": "crypto-lakehouse", "serviceAccount": account}
    return {**place, "associationId": "a-1", "roleArn": f"{ACCOUNT}:role/{role}", **fields}


def test_pod_identities_of_our_cluster_and_of_our_roles_are_foreign() -> None:
    described = Described.of(OUTPUTS)
    listed = [
        association("lake", "pipeline", "pipeline"),
        association("lake", "addon", "cni", ownerArn="arn:aws:eks:eu-central-1:111122223333:addon/lake/vpc-cni/1"),
        association("lake", "evil", "other"),
        association("pond", "pipeline", "pipeline"),
        association("pond", "theirs", "other"),
    ]
    found = foreign_associations([item for item in listed if is_candidate(item, described)], described)

    assert [str(one.finding) for one in found] == [
        f"pod-identity/lake/crypto-lakehouse/evil: role {ACCOUNT}:role/other",
        f"pod-identity/pond/crypto-lakehouse/pipeline: role {ACCOUNT}:role/pipeline",
    ]


@pytest.mark.parametrize(
    ("arn", "role"),
    [
        (f"{ACCOUNT}:role/deploy", "111122223333/deploy"),
        (f"{ACCOUNT}:role/team/deploy", "111122223333/deploy"),
        ("arn:aws:sts::111122223333:assumed-role/deploy/session", "111122223333/deploy"),
        (f"{ACCOUNT}:user/deploy", f"{ACCOUNT}:user/deploy"),
    ],
)
def test_a_session_is_that_of_its_role(arn: str, role: str) -> None:
    assert role_of(arn) == role
