# SPDX-License-Identifier: GPL-3.0-or-later
"""Launch templates and key pairs, in both emulators."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from tests.integration.aws.lab import Lab, ec2_tags, failures
from tests.integration.aws.wire import Answer, Behaviour, Call, read_timeout

TEMPLATE: dict[str, Any] = {
    "name": "lake-nodes",
    "metadata_options": {"http_tokens": "required", "http_endpoint": "enabled", "http_put_response_hop_limit": 1},
    "block_device_mappings": [
        {"device_name": "/dev/xvda", "ebs": {"volume_type": "gp3", "volume_size": 50, "delete_on_termination": True}}
    ],
    "tag_specifications": [
        {"resource_type": "instance", "tags": {"Name": "lake-node", "cost_center": "data"}},
        {"resource_type": "volume", "tags": {"Name": "lake-node"}},
    ],
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEBJUQ9Uf0hlJ1nhdQjnIA1rXaqwYY8AKTsq2Qbo6nTA someone@somewhere"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKlfVTS2ITYThm1g0nBhmHlhXNgGnSFhtYLTRfsY8Gvs someone@somewhere"


def delete_template(lab: Lab, id_: str) -> None:
    lab.client("ec2").delete_launch_template(LaunchTemplateId=id_)


def template(**changes: Any) -> dict[str, dict[str, Any]]:
    return {"launch_template.nodes": {**TEMPLATE, **changes}}


def data(lab: Lab, version: str = "$Latest") -> dict[str, Any]:
    answer = lab.client("ec2").describe_launch_template_versions(
        LaunchTemplateName=TEMPLATE["name"], Versions=[version]
    )
    found: dict[str, Any] = answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return found


def test_a_launch_template_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "launch_template.nodes",
        TEMPLATE,
        changes={
            "instance_type": "m5.large",
            "image_id": "ami-12345678",
            "user_data": "#!/bin/sh\necho hello\n",
            "security_group_ids": ["sg-2", "sg-1"],
            "metadata_options": {"http_tokens": "optional", "http_put_response_hop_limit": 2},
            "block_device_mappings": [
                {"device_name": "/dev/xvda", "ebs": {"volume_type": "gp3", "volume_size": 60, "iops": 4000}},
                {"device_name": "/dev/xvdb", "ebs": {"volume_size": 10, "encrypted": True}},
            ],
            "tag_specifications": [{"resource_type": "instance", "tags": {"Name": "other"}}],
            "nothing of it": {"image_id": None, "user_data": None, "security_group_ids": None},
            "name": "lake-workers",
        },
        replaces=["name"],
        vanish=delete_template,
        # Neither emulator shows the result of a template's tags; see the test of the calls below.
        edit_tags=None,
    )


def test_a_change_is_a_new_version_and_the_default_one(lab: Lab) -> None:
    created = lab.apply(template())
    changed = lab.apply(template(instance_type="m5.large"))

    assert created.outputs("launch_template.nodes")["latest_version"] == "1"
    assert changed.outputs("launch_template.nodes")["latest_version"] == "2"
    assert changed.mutating == ["ec2:CreateLaunchTemplateVersion", "ec2:ModifyLaunchTemplate"]
    described = lab.client("ec2").describe_launch_templates(LaunchTemplateNames=[TEMPLATE["name"]])
    assert described["LaunchTemplates"][0]["DefaultVersionNumber"] == 2
    assert data(lab)["InstanceType"] == "m5.large"
    assert "InstanceType" not in data(lab, "1")


def test_whoever_refers_to_the_newest_version_waits_for_it(lab: Lab) -> None:
    lab.apply(template())

    plan = lab.plan(
        {
            **template(instance_type="m5.large"),
            "launch_template.copy": {"name": "copy", "user_data": "made from ${launch_template.nodes.latest_version}"},
        }
    )

    told = {change.path: str(change.after) for change in plan.node("launch_template.copy").changes}
    assert told["user_data"] == "made from (known after apply)"


def test_user_data_is_text_here_and_encoded_there(lab: Lab) -> None:
    lab.apply(template(user_data="#!/bin/sh\necho ü\n"))

    assert base64.b64decode(data(lab)["UserData"]).decode() == "#!/bin/sh\necho ü\n"


def test_instances_ask_for_tokens_where_nothing_is_said(lab: Lab) -> None:
    lab.apply({"launch_template.nodes": {"name": TEMPLATE["name"]}})

    assert data(lab)["MetadataOptions"]["HttpTokens"] == "required"


def test_a_default_version_that_was_moved_by_hand_is_put_back(lab: Lab) -> None:
    lab.apply(template())
    lab.apply(template(instance_type="m5.large"))
    lab.client("ec2").modify_launch_template(LaunchTemplateName=TEMPLATE["name"], DefaultVersion="1")

    plan = lab.plan(template(instance_type="m5.large"))
    ran = lab.apply(template(instance_type="m5.large"))

    assert [(c.path, c.before, c.after) for c in plan.node("launch_template.nodes").changes] == [
        ("default_version", "1", "$Latest")
    ]
    assert ran.mutating == ["ec2:ModifyLaunchTemplate"]


def test_a_version_that_was_made_by_hand_is_found(lab: Lab) -> None:
    lab.apply(template())
    lab.client("ec2").create_launch_template_version(
        LaunchTemplateName=TEMPLATE["name"], LaunchTemplateData={"InstanceType": "x1.32xlarge"}
    )

    plan = lab.plan(template())

    assert ("instance_type", "x1.32xlarge", None) in [
        (change.path, change.before, change.after) for change in plan.node("launch_template.nodes").changes
    ]
    lab.apply(template())
    lab.assert_unchanged(template())


def test_the_tags_of_a_template_are_written_and_removed_as_described(lab: Lab) -> None:
    lab.apply(template(tags={"Kept": "a", "Lost": "b"}))

    lab.run(template(tags={"Kept": "c"}))

    written = [call.parameters for call in lab.wire.mutating if call.operation in {"CreateTags", "DeleteTags"}]
    assert [tag for call in written for tag in call["Tags"]] == [{"Key": "Kept", "Value": "c"}, {"Key": "Lost"}]


class LosingAnswers(Behaviour):
    """Loses the answer of the first call of an operation, after it had its effect."""

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation == self.operation:
            self.operation = ""
            raise read_timeout()
        return None


def test_a_template_whose_creation_was_not_answered_is_found_again(lab: Lab) -> None:
    lab.wire.behaviour = LosingAnswers("CreateLaunchTemplate")

    ran = lab.run(template())

    assert ran.report.complete, failures(ran.report)
    assert ran.mutating == ["ec2:CreateLaunchTemplate"]
    lab.assert_unchanged(template())


def test_a_template_of_somebody_else_is_not_taken(lab: Lab) -> None:
    lab.client("ec2").create_launch_template(
        LaunchTemplateName=TEMPLATE["name"], LaunchTemplateData={"InstanceType": "m5.large"}
    )

    with pytest.raises(RefusedError, match="does not carry this stack's tags"):
        lab.plan(template())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata_options": {"http_tokens": "never"}}, "metadata_options.http_tokens: 'never' is not one of its"),
        ({"block_device_mappings": [{"ebs": {}}]}, "block_device_mappings[0].device_name: is required and not given"),
        ({"default_version": "1"}, "default_version: '1' is not one of its choices"),
        ({"image": "ami-1"}, "image: there is no such property; did you mean 'image_id'?"),
    ],
)
@pytest.mark.emulators("moto")  # Nothing reaches either.
def test_a_wrong_template_is_refused_before_any_call(lab: Lab, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        lab.plan(template(**changes))
    assert f"launch_template.nodes: {message}" in str(caught.value)
    assert not [name for name in lab.wire.names() if name.startswith("ec2:")]


def pair(key: str = KEY, **changes: Any) -> dict[str, dict[str, Any]]:
    return {"key_pair.ops": {"name": "ops", "public_key": key, **changes}}


def delete_pair(lab: Lab, id_: str) -> None:
    found = lab.client("ec2").describe_key_pairs()["KeyPairs"]
    (name,) = [item["KeyName"] for item in found if item["KeyPairId"] == id_]
    lab.client("ec2").delete_key_pair(KeyName=name)


@pytest.mark.emulators("moto")  # The other keeps neither tags nor public keys.
def test_a_key_pair_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "key_pair.ops",
        pair()["key_pair.ops"],
        changes={"public_key": OTHER_KEY, "name": "ops-2"},
        replaces=["public_key", "name"],
        vanish=delete_pair,
        edit_tags=ec2_tags,
    )


@pytest.mark.emulators("moto")  # The other keeps neither tags nor public keys.
def test_the_comment_of_a_key_is_no_difference(lab: Lab) -> None:
    lab.apply(pair())

    lab.assert_unchanged(pair(f"{' '.join(KEY.split()[:2])} another comment"))


@pytest.mark.emulators("moto")  # The other keeps neither tags nor public keys.
def test_a_key_pair_whose_import_was_not_answered_is_found_again(lab: Lab) -> None:
    lab.wire.behaviour = LosingAnswers("ImportKeyPair")

    ran = lab.run(pair())

    assert ran.report.complete, failures(ran.report)
    assert ran.mutating == ["ec2:ImportKeyPair"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            f"-----BEGIN OPENSSH {'PRIVATE'} KEY-----\nc2VjcmV0\n",
            "public_key: is a private key, which has no place here",
        ),
        ("ecdsa-sha2-nistp256 AAAA x", "public_key: is not a public key of type ssh-ed25519 or ssh-rsa"),
        ("ssh-rsa", "public_key: is not a public key of type ssh-ed25519 or ssh-rsa"),
    ],
)
@pytest.mark.emulators("moto")  # Nothing reaches either.
def test_a_wrong_key_is_refused_and_never_shown(lab: Lab, key: str, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        lab.plan(pair(key))
    assert message in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
