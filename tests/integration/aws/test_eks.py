# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters, addons and access, as far as the emulators support EKS; tests/unit/aws covers the rest."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab

ROLE: dict[str, dict[str, Any]] = {
    "iam_role.cluster": {
        "name": "lake-cluster",
        "assume_role_policy": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        },
    }
}
NETWORK: dict[str, dict[str, Any]] = {
    "vpc.main": {"cidr_block": "10.0.0.0/16"},
    "subnet.a": {
        "vpc_id": "${vpc.main.id}",
        "cidr_block": "10.0.1.0/24",
        "availability_zone": "eu-central-1a",
    },
    "subnet.b": {
        "vpc_id": "${vpc.main.id}",
        "cidr_block": "10.0.2.0/24",
        "availability_zone": "eu-central-1b",
    },
}
CLUSTER: dict[str, Any] = {
    "name": "lake",
    "version": "1.34",
    "role_arn": "${iam_role.cluster.arn}",
    "subnet_ids": ["${subnet.a.id}", "${subnet.b.id}"],
    "logging": ["api", "audit"],
}
PREREQUISITES = {**ROLE, **NETWORK}
FOUNDATION = {**PREREQUISITES, "eks_cluster.main": CLUSTER}
ALL = ("eks_cluster", *FOUNDATION)


def described(**changes: Any) -> dict[str, dict[str, Any]]:
    return {**PREREQUISITES, "eks_cluster.main": {**CLUSTER, **changes}}


def edit_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    client = lab.client("eks")
    arn = client.describe_cluster(name=id_)["cluster"]["arn"]
    client.tag_resource(resourceArn=arn, tags=tags)
    client.untag_resource(resourceArn=arn, tagKeys=removed)


@pytest.mark.emulators("moto")  # The other shows tags as of the creation.
def test_a_cluster_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "eks_cluster.main",
        CLUSTER,
        PREREQUISITES,
        # Neither answers an update of a cluster as EKS does.
        changes={},
        vanish=lambda lab, id_: lab.client("eks").delete_cluster(name=id_),
        edit_tags=edit_tags,
        unprotect=ALL,
    )


@pytest.mark.emulators("ministack")  # The same as above, except for the tags.
def test_a_cluster_is_made_found_and_made_again(lab: Lab) -> None:
    lab.assert_matrix(
        "eks_cluster.main",
        CLUSTER,
        PREREQUISITES,
        changes={},
        vanish=lambda lab, id_: lab.client("eks").delete_cluster(name=id_),
        # It shows tags as of the creation.
        edit_tags=None,
        unprotect=ALL,
    )


@pytest.mark.emulators("ministack")  # The other does not support access modes and key associations.
def test_a_cluster_is_made_as_described_and_encrypted_later(lab: Lab) -> None:
    lab.apply(described(authentication_mode="API_AND_CONFIG_MAP", endpoint_private_access=True))
    made = lab.client("eks").describe_cluster(name="lake")["cluster"]
    key = lab.client("kms").create_key()["KeyMetadata"]["Arn"]

    ran = lab.apply(described(authentication_mode="API_AND_CONFIG_MAP", encryption_key_arn=key))

    assert made["accessConfig"]["authenticationMode"] == "API_AND_CONFIG_MAP"
    assert made["resourcesVpcConfig"]["endpointPublicAccess"] is False
    assert ran.mutating == ["eks:AssociateEncryptionConfig"]
    encrypted = lab.client("eks").describe_cluster(name="lake")["cluster"]["encryptionConfig"]
    assert encrypted == [{"resources": ["secrets"], "provider": {"keyArn": key}}]


SUBNETS = ["subnet-0aaaaaaa", "subnet-0bbbbbbb"]


def test_a_cluster_of_another_environment_is_refused(lab: Lab) -> None:
    lab.apply(described())

    with pytest.raises(RefusedError, match="lake belongs to stack 'lake' in 'development'"):
        lab.other(environment="production").plan(
            {"eks_cluster.main": {**CLUSTER, "role_arn": "arn:aws:iam::111122223333:role/x", "subnet_ids": SUBNETS}}
        )


ADDON: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "name": "vpc-cni",
    "version": "v1.20.0-eksbuild.1",
    "configuration_values": {"enableNetworkPolicy": "true"},
}


@pytest.mark.emulators("ministack")  # The other has no addons.
def test_an_addon_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "eks_addon.cni",
        ADDON,
        FOUNDATION,
        changes={
            "version": "v1.20.1-eksbuild.1",
            "configuration_values": {"enableNetworkPolicy": "false"},
            "service_account_role_arn": "${iam_role.cluster.arn}",
        },
        vanish=lambda lab, _id: lab.client("eks").delete_addon(clusterName="lake", addonName="vpc-cni"),
        # It shows tags as of the creation.
        edit_tags=None,
        unprotect=ALL,
    )


@pytest.mark.emulators("ministack")  # The other has no addons.
def test_an_addon_whose_versions_cannot_be_listed_is_left_to_eks(lab: Lab) -> None:
    without = {name: value for name, value in ADDON.items() if name != "version"}

    lab.apply({**FOUNDATION, "eks_addon.cni": without})

    (created,) = [call for call in lab.wire.mutating if call.operation == "CreateAddon"]
    assert "addonVersion" not in created.parameters


ENTRY: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "principal_arn": "arn:aws:iam::111122223333:role/team/admins",
    "access_policies": [{"policy_arn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"}],
}
VIEW = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"


@pytest.mark.emulators("ministack")  # The other has no access entries.
def test_an_access_entry_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "eks_access_entry.admins",
        ENTRY,
        FOUNDATION,
        changes={
            "kubernetes_groups": ["viewers"],
            "access_policies": [{"policy_arn": VIEW, "scope": "namespace", "namespaces": ["a", "b"]}],
            "nothing": {"kubernetes_groups": None, "access_policies": None},
            "type": "EC2_LINUX",
        },
        replaces=["type"],
        vanish=lambda lab, _id: lab.client("eks").delete_access_entry(
            clusterName="lake", principalArn=ENTRY["principal_arn"]
        ),
        # It shows tags as of the creation.
        edit_tags=None,
        unprotect=ALL,
    )


ASSOCIATION: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "namespace": "lake",
    "service_account": "pipeline",
    "role_arn": "${iam_role.cluster.arn}",
}


def forget_association(lab: Lab, _id: str) -> None:
    client = lab.client("eks")
    (found,) = client.list_pod_identity_associations(clusterName="lake")["associations"]
    client.delete_pod_identity_association(clusterName="lake", associationId=found["associationId"])


@pytest.mark.emulators("ministack")  # The other has no pod identities.
def test_a_pod_identity_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "pod_identity_association.pipeline",
        ASSOCIATION,
        FOUNDATION,
        changes={"role_arn": "arn:aws:iam::111122223333:role/other"},
        vanish=forget_association,
        # It tags no associations.
        edit_tags=None,
        unprotect=ALL,
    )
