# SPDX-License-Identifier: GPL-3.0-or-later
"""Node groups and Fargate profiles, as far as the emulators support EKS; tests/unit/aws covers the rest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.aws.lab import Lab
from tests.integration.aws.test_eks import ALL, FOUNDATION

GROUP: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "name": "workers",
    "node_role_arn": "${iam_role.cluster.arn}",
    "subnet_ids": ["${subnet.a.id}", "${subnet.b.id}"],
    "instance_types": ["t3.medium", "t3.large"],
    "scaling_config": {"min_size": 1, "max_size": 10, "desired_size": 3},
    "update_config": {"max_unavailable": 1},
    "labels": {"capacity": "on-demand"},
    "taints": [{"key": "spot-instance", "value": "true", "effect": "NO_SCHEDULE"}],
}
PROFILE: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "name": "batch",
    "pod_execution_role_arn": "${iam_role.cluster.arn}",
    "subnet_ids": ["${subnet.a.id}"],
    "selectors": [{"namespace": "lake", "labels": {"compute": "fargate"}}],
}


def delete_group(lab: Lab, id_: str) -> None:
    lab.client("eks").delete_nodegroup(clusterName="lake", nodegroupName=id_.partition("/")[2])


@pytest.mark.emulators("moto")  # The other does not update node groups.
def test_a_group_of_nodes_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "eks_nodegroup.workers",
        GROUP,
        FOUNDATION,
        changes={
            "labels": {"capacity": "spot", "zone": "a"},
            "taints": [{"key": "gpu", "value": "yes", "effect": "NO_EXECUTE"}],
            "scaling_config": {"min_size": 4, "max_size": 8},
            "nothing of it": {"labels": None, "taints": None},
            "capacity_type": "SPOT",
            "instance_types": ["m5.large"],
            "processor": {"ami_type": "AL2023_ARM_64_STANDARD", "instance_types": ["m6g.large"]},
            "disk_size": 50,
            "subnet_ids": ["${subnet.a.id}"],
        },
        replaces=["capacity_type", "instance_types", "processor", "disk_size", "subnet_ids"],
        vanish=delete_group,
        # It tags only clusters.
        edit_tags=None,
        unprotect=ALL,
    )


@pytest.mark.emulators("ministack")  # The same as above, as far as the emulator supports it.
def test_a_group_of_nodes_is_made_found_and_made_again(lab: Lab) -> None:
    lab.assert_matrix(
        "eks_nodegroup.workers",
        GROUP,
        FOUNDATION,
        changes={},
        vanish=delete_group,
        # It shows tags as of the creation.
        edit_tags=None,
        unprotect=ALL,
    )


@pytest.mark.emulators("moto")  # The other stores no launch template of a group.
def test_a_group_is_made_from_a_launch_template(lab: Lab) -> None:
    template = {
        "launch_template.nodes": {
            "name": "lake-nodes",
            "block_device_mappings": [{"device_name": "/dev/xvda", "ebs": {"volume_size": 50}}],
        }
    }
    group = {**GROUP, "launch_template": {"id": "${launch_template.nodes.id}", "version": "1"}}
    stack = {**FOUNDATION, **template, "eks_nodegroup.workers": group}

    lab.apply(stack)

    lab.assert_unchanged(stack)
    lab.destroy(stack)


@pytest.mark.emulators("moto")  # The other has no Fargate.
def test_a_fargate_profile_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "fargate_profile.batch",
        PROFILE,
        FOUNDATION,
        changes={"selectors": [{"namespace": "batch"}, {"namespace": "lake", "labels": {"a": "b"}}]},
        replaces=["selectors"],
        vanish=lambda lab, id_: lab.client("eks").delete_fargate_profile(
            clusterName="lake", fargateProfileName=id_.partition("/")[2]
        ),
        # It tags only clusters.
        edit_tags=None,
        unprotect=ALL,
    )
