# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags and permissions boundaries of a whole stack on emulators, and tags of other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.tag_rules import IgnoredTags
from tests.integration.aws.foundation import foundation, trust
from tests.integration.aws.lab import Lab, ec2_tags
from tests.integration.aws.wire import Call
from tests.unit.aws.test_tags import TAGGING, UNTAGGED

TAGS = {"CostCenter": "4711", "Team": "data platform"}
IGNORED = IgnoredTags(frozenset({"Owner"}), ("scan:",))
BY_HAND = {"Owner": "somebody", "scan:date": "2026-11-30"}
BUCKET: dict[str, dict[str, Any]] = {"s3_bucket.bronze": {"name": "lake-bronze-${stack.account_id}"}}
VPC = {"vpc.main": {"cidr_block": "10.0.0.0/16"}}
ROLE = {"iam_role.one": {"name": "lake-one", "assume_role_policy": trust("glue.amazonaws.com")}}
READ_ONLY, POWER = (f"arn:aws:iam::aws:policy/{name}" for name in ("ReadOnlyAccess", "PowerUserAccess"))


def _taggable(lab: Lab, call: Call) -> Iterator[str]:
    """Yield the parameters of a call whose names contain tags, from the model of its service."""
    for client in (lab.client(name) for name in SERVICES if name == SERVICE_OF.get(call.service, call.service)):
        model = client.meta.service_model
        if call.operation in model.operation_names:
            members = model.operation_model(call.operation).input_shape.members
            yield from (name for name in members if name.lower().endswith(("tags", "tagspecifications")))


SERVICES = ("ec2", "s3", "kms", "iam", "secretsmanager", "glue", "logs", "sns", "eks")
SERVICE_OF = {"secrets-manager": "secretsmanager", "cloudwatch-logs": "logs"}


def test_every_call_that_can_tag_what_it_creates_tags_it(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.apply(described, tags=TAGS)
    creating = [call for call in lab.wire.mutating if not TAGGING.fullmatch(call.operation)]
    seen = 0
    for call in creating:
        for name in _taggable(lab, call):
            if f"{call.service}:{call.operation}.{name}" not in UNTAGGED:
                assert _texts(call.parameters.get(name)) >= {*TAGS, *TAGS.values()}, call
                seen += 1
    assert seen > 15
    lab.assert_unchanged(described, tags=TAGS)


def _texts(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {*map(str, value)} | {text for item in value.values() for text in _texts(item)}
    return {text for item in value for text in _texts(item)} if isinstance(value, list) else {str(value)}


def bucket_tags(lab: Lab, name: str) -> dict[str, str]:
    found = lab.client("s3").get_bucket_tagging(Bucket=name)["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in found}


def test_tags_of_others_stay_and_are_no_difference(lab: Lab) -> None:
    described = {**BUCKET, **VPC}
    ran = lab.apply(described)
    id_, bucket = ran.id("vpc.main"), ran.id("s3_bucket.bronze")
    by_hand = {**BY_HAND, "Added": "by hand"}
    ec2_tags(lab, id_, by_hand, [])
    s3 = lab.client("s3")
    pairs = [{"Key": key, "Value": value} for key, value in {**bucket_tags(lab, bucket), **by_hand}.items()]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": pairs})

    plan = lab.plan(described, ignored_tags=IGNORED)
    for address in described:
        assert [change.path for change in plan.node(address).changes] == ["tags.Added"]
    # A change of other tags keeps them, also where a service sets all tags at once.
    lab.apply(described, ignored_tags=IGNORED, tags=TAGS)
    lab.assert_unchanged(described, ignored_tags=IGNORED, tags=TAGS)
    vpc = lab.client("ec2").describe_vpcs(VpcIds=[id_])["Vpcs"][0]["Tags"]
    for tags in (bucket_tags(lab, bucket), {tag["Key"]: tag["Value"] for tag in vpc}):
        assert tags.items() >= {**BY_HAND, **TAGS}.items()
        assert "Added" not in tags

    # Described tags are managed even if they are ignored; without the option, a foreign tag is a difference.
    owned = {**BUCKET, "vpc.main": {**VPC["vpc.main"], "tags": {"Owner": "data platform"}}}
    changes = lab.plan(owned, ignored_tags=IGNORED, tags=TAGS).node("vpc.main").changes
    assert [(change.path, change.before, change.after) for change in changes] == [
        ("tags.Owner", "somebody", "data platform")
    ]
    assert {change.path for change in lab.plan(described, tags=TAGS).node("vpc.main").changes} == {
        "tags.Owner",
        'tags["scan:date"]',
    }


def boundary(lab: Lab) -> str | None:
    role = lab.client("iam").get_role(RoleName="lake-one")["Role"]
    return (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")


@pytest.mark.parametrize("by_hand", ["removed", "replaced"])
def test_a_boundary_is_set_at_creation_and_repaired(lab: Lab, by_hand: str) -> None:
    ran = lab.apply(ROLE, permissions_boundary=READ_ONLY)
    assert ran.mutating == ["iam:CreateRole"], "a role exists without its boundary for a moment"
    assert boundary(lab) == READ_ONLY
    lab.assert_unchanged(ROLE, permissions_boundary=READ_ONLY)

    iam = lab.client("iam")
    if by_hand == "removed":
        iam.delete_role_permissions_boundary(RoleName="lake-one")
    else:
        iam.put_role_permissions_boundary(RoleName="lake-one", PermissionsBoundary=POWER)
    (change,) = lab.plan(ROLE, permissions_boundary=READ_ONLY).node("iam_role.one").changes
    assert (change.path, change.after) == ("permissions_boundary", READ_ONLY)
    lab.apply(ROLE, permissions_boundary=READ_ONLY)
    assert boundary(lab) == READ_ONLY
    # A role's own boundary has precedence.
    own = {"iam_role.one": {**ROLE["iam_role.one"], "permissions_boundary": POWER}}
    lab.apply(own, permissions_boundary=READ_ONLY)
    assert boundary(lab) == POWER
