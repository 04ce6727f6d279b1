# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of the cluster and its nodes. The emulator does not support most changes: those edits are in its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.benchmarks.aws.edits.hand import Alter, Altered, Edit, Hand, merge


def of_eks_cluster(hand: Hand, address: str) -> Iterator[Edit]:
    changes: Mapping[str, Mapping[str, Any]] = {
        "version": {"version": "1.32"},
        "subnet_ids": {"resourcesVpcConfig": {"subnetIds": [hand.id("subnet.private-1")]}},
        "security_group_ids": {"resourcesVpcConfig": {"securityGroupIds": [hand.id("security_group.alb")]}},
        "endpoint_private_access": {"resourcesVpcConfig": {"endpointPrivateAccess": False}},
        "endpoint_public_access": {"resourcesVpcConfig": {"endpointPublicAccess": True}},
        "public_access_cidrs": {
            "resourcesVpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["192.0.2.0/24"]}
        },
        "encryption_key_arn": {
            "encryptionConfig": [{"resources": ["secrets"], "provider": {"keyArn": hand.arn("kms_key.s3")}}]
        },
        "logging": {"logging": {"clusterLogging": [{"types": ["audit"], "enabled": False}]}},
        "authentication_mode": {"accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"}},
        "support_type": {"upgradePolicy": {"supportType": "STANDARD"}},
        "deletion_protection": {"deletionProtection": True},
    }
    for path, change in changes.items():
        yield Edit(address, path, altered=Altered("eks", "DescribeCluster", _merged("cluster", change)))


def of_eks_nodegroup(hand: Hand, address: str) -> Iterator[Edit]:
    described = hand.described[address]
    fixed = {"clusterName": hand.outputs["eks_cluster.main"]["id"], "nodegroupName": described["name"]}
    update = ("eks", "update_nodegroup_config")
    scaling = described["scaling_config"]
    sizes = {"minSize": scaling["min_size"], "maxSize": scaling["max_size"], "desiredSize": scaling["desired_size"]}
    for path, key in (("scaling_config.min_size", "minSize"), ("scaling_config.max_size", "maxSize")):
        other = {"scalingConfig": {**sizes, key: sizes[key] + 1}}
        yield hand.switch(address, path, update, fixed, other, {"scalingConfig": sizes})
    added: dict[str, Any] = {"labels": {"addOrUpdateLabels": {"owner": "somebody"}}}
    yield hand.switch(address, "labels", update, fixed, added, {"labels": {"removeLabels": ["owner"]}})
    taint = [{"key": "owner", "value": "somebody", "effect": "NO_EXECUTE"}]
    added = {"taints": {"addOrUpdateTaints": taint}}
    yield hand.switch(address, "taints", update, fixed, added, {"taints": {"removeTaints": taint}})
    own = {"updateConfig": {"maxUnavailable": described["update_config"]["max_unavailable"]}}
    for path, changed in (
        ("update_config.max_unavailable", {"maxUnavailable": 5}),
        ("update_config.max_unavailable_percentage", {"maxUnavailablePercentage": 50}),
    ):
        yield hand.switch(address, path, update, fixed, {"updateConfig": changed}, own)
    template = {"launchTemplate": {"id": "lt-0123456789abcdef0", "name": "somebodys", "version": "1"}}
    change, asked = _merged("nodegroup", template), {"nodegroupName": described["name"]}
    yield Edit(address, "launch_template", altered=Altered("eks", "DescribeNodegroup", change, asked))


def _merged(key: str, changes: Mapping[str, Any]) -> Alter:
    return lambda answer: merge(answer[key], changes)
