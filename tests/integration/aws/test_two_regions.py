# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two regions of one stack and environment in one account: neither reads, changes or removes resources of the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Plan
from tests.integration.aws.emulator import Emulator
from tests.integration.aws.foundation import allow, foundation, picture
from tests.integration.aws.lab import Lab

SUFFIX = "${stack.region_suffix}"
OTHER = "us-east-1"


def described(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return the representative stack, with names for two regions. The emulators store dashboards by region."""
    profile = {"name": "crypto-lakehouse-node-${stack.environment}", "role": "${iam_role.crawler.name}"}
    items = {**foundation(lab.emulator), "instance_profile.node": profile}
    items["iam_policy.read"] = {**items["iam_policy.read"], "policy": allow("kms:Decrypt", "${kms_key.data.arn}")}
    for address in ("iam_policy.read", "iam_role.crawler", "s3_bucket.bronze", "instance_profile.node"):
        items[address] = {**items[address], "name": f"{items[address]['name']}{SUFFIX}"}
    return items


def pair(lab: Lab) -> tuple[Lab, Lab]:
    """Return the labs of the two regions."""
    elsewhere = Emulator(lab.emulator.server, lab.emulator.account_id, OTHER)
    elsewhere.__dict__["key"] = lab.emulator.key
    return lab, replace(lab.other(), emulator=elsewhere)


def names(lab: Lab) -> set[str]:
    """Return the names of all objects in the account that span regions."""
    iam = lab.client("iam")
    return {
        *(role["RoleName"] for role in iam.list_roles()["Roles"]),
        *(policy["PolicyName"] for policy in iam.list_policies(Scope="Local")["Policies"]),
        *(profile["InstanceProfileName"] for profile in iam.list_instance_profiles()["InstanceProfiles"]),
        *(bucket["Name"] for bucket in lab.client("s3").list_buckets()["Buckets"]),
    }


def changed(plan: Plan) -> dict[str, str]:
    return {node.address: f"{node.action}: {node.reason}" for node in plan.nodes if node.action != "none"}


# The other one keeps the objects whose name has no region.
@pytest.mark.emulators("moto")
def test_each_region_is_built_and_destroyed_beside_the_other(lab: Lab) -> None:
    first, second = pair(lab)
    items = described(lab)
    first.apply(items)
    before, names_before = picture(first.emulator), names(first)

    assert set(changed(second.plan(items)).values()) == {"create: "}
    second.apply(items)
    # Roles, policies and buckets are in both pictures.
    assert set(before) <= set(picture(first.emulator))
    assert names(first) == names_before | {f"{name}-use1" for name in names_before}
    first.assert_unchanged(items, prune=True)
    second.assert_unchanged(items, prune=True)

    first.destroy(items)
    assert names(first) == {f"{name}-use1" for name in names_before}
    # A name is chosen once, even if the other one becomes free.
    second.assert_unchanged(items, prune=True)
    first.apply(items)
    assert names(first) == names_before | {f"{name}-use1" for name in names_before}
    second.destroy(items)
    first.assert_unchanged(items, prune=True)


def forget_region(lab: Lab) -> None:
    """Write the tags of earlier versions, which contained no region."""
    iam, s3, key = lab.client("iam"), lab.client("s3"), "lakehouse:region"
    for role in iam.list_roles()["Roles"]:
        iam.untag_role(RoleName=role["RoleName"], TagKeys=[key])
    for policy in iam.list_policies(Scope="Local")["Policies"]:
        iam.untag_policy(PolicyArn=policy["Arn"], TagKeys=[key])
    for profile in iam.list_instance_profiles()["InstanceProfiles"]:
        iam.untag_instance_profile(InstanceProfileName=profile["InstanceProfileName"], TagKeys=[key])
    for bucket in s3.list_buckets()["Buckets"]:
        tags = s3.get_bucket_tagging(Bucket=bucket["Name"])["TagSet"]
        kept = [tag for tag in tags if tag["Key"] != key]
        s3.put_bucket_tagging(Bucket=bucket["Name"], Tagging={"TagSet": kept})


@pytest.mark.emulators("moto")
def test_a_stack_of_an_earlier_version_is_taken_over_in_place_by_its_own_region(lab: Lab) -> None:
    first, second = pair(lab)
    items = described(lab)
    ids = {result.address: result.id for result in first.apply(items).report.results}
    forget_region(first)
    before = names(first)

    # The other region first: it neither adopts nor prunes nor destroys foreign resources.
    assert set(changed(second.plan(items, prune=True)).values()) == {"create: "}
    assert not second.plan(items, state="absent").changed

    ran = first.apply(items, prune=True)
    marked = dict.fromkeys(
        ("iam_policy.read", "iam_role.crawler", "instance_profile.node", "s3_bucket.bronze"),
        "update: its tags do not name its region, eu-central-1",
    )
    assert changed(ran.plan) == marked
    assert {result.address: result.id for result in ran.report.results} == ids
    assert names(first) == before
    assert all("Tag" in call for call in ran.mutating), ran.mutating
    first.assert_unchanged(items, prune=True)
    second.apply(items)
    first.assert_unchanged(items, prune=True)


@pytest.mark.emulators("moto")
def test_a_name_without_the_suffix_is_refused_with_its_region(lab: Lab) -> None:
    first, second = pair(lab)
    role = {**described(lab)["iam_role.crawler"], "name": "crawler", "managed_policy_arns": []}
    first.apply({"iam_role.crawler": role})

    with pytest.raises(
        RefusedError, match=r"crawler belongs to stack 'lake' in 'development', eu-central-1; use another name"
    ):
        second.plan({"iam_role.crawler": role}, adopt=True)
    second.apply({"iam_role.crawler": {**role, "name": f"crawler{SUFFIX}"}})
    assert names(first) == {"crawler", "crawler-use1"}


@pytest.mark.emulators("moto")
def test_the_suffix_is_for_names_that_span_regions(lab: Lab) -> None:
    with pytest.raises(
        DescriptionError, match=r"log_group.main: name: \$\{stack.region_suffix\} can only be a part of"
    ):
        lab.plan({"log_group.main": {"name": f"/lake{SUFFIX}"}})
    assert lab.wire.names() == []
