# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan rejects changes that AWS would refuse because of existing objects or features of a region."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.foundation import trust
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Scripted

ZONES = "eu-central-1a", "eu-central-1b", "eu-central-1c"


def refusals(lab: Lab, described: dict[str, Any], **options: Any) -> list[str]:
    """Return the faults of a plan, which must have made no mutating call."""
    with pytest.raises(RefusedError) as caught:
        lab.plan(described, **options)
    assert lab.wire.mutating == []
    return [str(fault) for fault in caught.value.faults]


def role(name: str) -> dict[str, Any]:
    return {f"iam_role.{name}": {"name": name, "assume_role_policy": trust("glue.amazonaws.com")}}


def test_a_permissions_boundary_that_does_not_exist_is_refused_once_before_the_first_change(lab: Lab) -> None:
    arn = f"arn:aws:iam::{lab.emulator.account_id}:policy/limits"
    described = {**role("one"), **role("other")}
    (fault,) = refusals(lab, described, permissions_boundary=arn)
    remedy = "create the policy, or name one that exists"
    assert fault == f"iam_role.one: permissions_boundary: there is no policy {arn}; {remedy}"

    # The remedy.
    allowed = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
    lab.client("iam").create_policy(PolicyName="limits", PolicyDocument=allowed)
    lab.apply(described, permissions_boundary=arn)
    # A boundary that may not be read is checked by the calls that set it.
    lab.wire.behaviour = Scripted({"iam:GetPolicy": lambda **_given: Answer.error("AccessDenied", "no")}, passing=True)
    lab.plan(described, permissions_boundary=f"{arn}-of-others")


def cluster(*zones: str, **group: Any) -> dict[str, Any]:
    """Return a cluster with a subnet in each availability zone, and a node group in them."""
    subnets = {
        f"subnet.{zone[-1]}": {
            "vpc_id": "${vpc.main.id}",
            "cidr_block": f"10.0.{number}.0/24",
            "availability_zone": zone,
        }
        for number, zone in enumerate(zones)
    }
    references = [f"${{{address}.id}}" for address in subnets]
    return {
        "vpc.main": {"cidr_block": "10.0.0.0/16"},
        **subnets,
        **role("cluster"),
        "eks_cluster.main": {"name": "lake", "role_arn": "${iam_role.cluster.arn}", "subnet_ids": references},
        "eks_nodegroup.main": {
            "cluster_name": "${eks_cluster.main.name}",
            "name": "main",
            "node_role_arn": "${iam_role.cluster.arn}",
            "subnet_ids": references,
            "instance_types": ["t3.medium"],
            "scaling_config": {"min_size": 1, "max_size": 2},
            **group,
        },
    }


# The other one has no instance types.
@pytest.mark.emulators("moto")
def test_instance_types_that_the_region_or_the_image_does_not_have_are_refused(lab: Lab) -> None:
    faults = refusals(lab, cluster(*ZONES[:2], instance_types=["t3.medium", "m5.huge", "m6g.large"]))
    place, needed = "eks_nodegroup.main: instance_types", "the image AL2023_x86_64_STANDARD is for x86_64"
    assert faults == [
        f"{place}[1]: EC2 has no instance type m5.huge in eu-central-1; choose one that the region has",
        f"{place}[2]: m6g.large has the architecture arm64, and {needed}; choose instance types with x86_64",
    ]
    lab.apply(cluster(*ZONES[:2]))
    calls = len(lab.wire.mutating)
    # Another image for the unchanged types.
    with pytest.raises(RefusedError, match="has the architecture x86_64, and the image"):
        lab.plan(cluster(*ZONES[:2], ami_type="AL2023_ARM_64_STANDARD"), unprotect=("eks_nodegroup",))
    assert len(lab.wire.mutating) == calls
    lab.plan(cluster(*ZONES[:2], ami_type="AL2023_ARM_64_STANDARD", instance_types=["m6g.large"]))


# The other one has other zones.
@pytest.mark.emulators("moto")
def test_a_cluster_stays_in_the_availability_zones_that_it_was_created_in(lab: Lab) -> None:
    lab.apply(cluster(*ZONES[:2]))
    calls = len(lab.wire.mutating)
    with pytest.raises(RefusedError) as caught:
        lab.plan(cluster(*ZONES))
    assert len(lab.wire.mutating) == calls
    both = "eu-central-1a, eu-central-1b"
    message = f"would be in {both}, eu-central-1c, and EKS keeps a cluster in the availability zones"
    assert str(caught.value) == (
        f"eks_cluster.main: subnet_ids: {message} that it was created in, {both}; describe subnets in {both} alone"
    )
    # The remedy, and another subnet in a zone of the cluster.
    more = cluster(*ZONES[:2])
    more["subnet.c"] = {**more["subnet.a"], "cidr_block": "10.0.9.0/24"}
    more["eks_cluster.main"]["subnet_ids"] = [*more["eks_cluster.main"]["subnet_ids"], "${subnet.c.id}"]
    assert lab.plan(more).node("eks_cluster.main").action == "update"
