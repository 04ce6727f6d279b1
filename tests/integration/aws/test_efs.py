# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems and their mount targets, on the emulators and where they answer too soon against a script."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

SUBNET = {"vpc_id": "${vpc.main.id}"}
GROUP = {"description": "NFS", "vpc_id": "${vpc.main.id}"}
NETWORK: dict[str, dict[str, Any]] = {
    "vpc.main": {"cidr_block": "10.0.0.0/16"},
    "subnet.a": {**SUBNET, "cidr_block": "10.0.1.0/24", "availability_zone": "eu-central-1a"},
    "subnet.a2": {**SUBNET, "cidr_block": "10.0.2.0/24", "availability_zone": "eu-central-1a"},
    "subnet.b": {**SUBNET, "cidr_block": "10.0.3.0/24", "availability_zone": "eu-central-1b"},
    "security_group.one": {**GROUP, "name": "one"},
    "security_group.two": {**GROUP, "name": "two"},
}
A, A2, B = (
    {"subnet_id": f"${{subnet.{name}.id}}", "security_group_ids": ["${security_group.one.id}"]}
    for name in ("a", "a2", "b")
)
KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"


def edit_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    client = lab.client("efs")
    client.tag_resource(ResourceId=id_, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    client.untag_resource(ResourceId=id_, TagKeys=removed)


def vanish(lab: Lab, id_: str) -> None:
    client = lab.client("efs")
    for target in client.describe_mount_targets(FileSystemId=id_)["MountTargets"]:
        client.delete_mount_target(MountTargetId=target["MountTargetId"])
    client.delete_file_system(FileSystemId=id_)


def test_a_file_system_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "efs_file_system.shared",
        {"name": "lake", "mount_targets": [A, B], "lifecycle_policies": [{"transition_to_ia": "AFTER_30_DAYS"}]},
        NETWORK,
        changes={
            "other group": {"mount_targets": [A, {**B, "security_group_ids": ["${security_group.two.id}"]}]},
            "other subnet of the zone": {"mount_targets": [A2, B]},
            "one": {"mount_targets": [B]},
            "lifecycle_policies": [
                {"transition_to_ia": "AFTER_7_DAYS"},
                {"transition_to_primary_storage_class": "AFTER_1_ACCESS"},
            ],
            "no lifecycle_policies": {"lifecycle_policies": None},
            "name": "pond",
            "encrypted": False,
        },
        replaces=("encrypted",),
        vanish=vanish,
        edit_tags=edit_tags,
    )


# moto answers 500 to both updates.
@pytest.mark.emulators("ministack")
def test_throughput_and_backup_are_changed_in_place(lab: Lab) -> None:
    lab.assert_matrix(
        "efs_file_system.shared",
        {"name": "lake", "kms_key_id": KEY},
        changes={
            "backup": False,
            "throughput_mode": "elastic",
            "provisioned": {"throughput_mode": "provisioned", "provisioned_throughput_in_mibps": 12.5},
            "more": {"provisioned_throughput_in_mibps": 20},
            "bursting": {"throughput_mode": "bursting", "provisioned_throughput_in_mibps": None},
            "performance_mode": "maxIO",
        },
        replaces=("performance_mode",),
        vanish=None,
        edit_tags=None,
    )


def test_one_without_tags_is_taken_over_by_its_name_and_only_when_told(lab: Lab) -> None:
    lab.client("efs").create_file_system(
        CreationToken="terraform-1", Encrypted=True, Backup=True, Tags=[{"Key": "Name", "Value": "lake"}]
    )
    described = {"efs_file_system.shared": {"name": "lake", "backup": lab.emulator.name == "moto"}}
    with pytest.raises(RefusedError, match="adopt: true"):
        lab.plan(described)
    lab.apply(described, adopt=True)
    lab.assert_unchanged(described)


class _Slow(Behaviour):
    """AWS accepts its time: what was made is `creating` at first, what was deleted `deleting`."""

    def __init__(self) -> None:
        self.looks: dict[str, int] = {}

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        for key, id_ in (("FileSystems", "FileSystemId"), ("MountTargets", "MountTargetId")):
            for item in answer.get(key, ()):
                seen = self.looks[item[id_]] = self.looks.get(item[id_], 0) + 1
                item["LifeCycleState"] = "creating" if seen < 4 else item["LifeCycleState"]
        return None

    def before(self, call: Call) -> Answer | None:
        if call.operation == "CreateMountTarget" and self.looks[call.parameters["FileSystemId"]] < 4:
            return Answer.error("IncorrectFileSystemLifeCycleState", status=409)
        return None


def test_mount_targets_wait_for_the_file_system_and_the_end_for_both(lab: Lab) -> None:
    lab.wire.behaviour = slow = _Slow()
    described = {**NETWORK, "efs_file_system.shared": {"name": "lake", "mount_targets": [A, B]}}
    ran = lab.apply(described)
    assert slow.looks[ran.id("efs_file_system.shared")] >= 4
    assert all(count >= 4 for count in slow.looks.values())
    lab.assert_unchanged(described)
    ran = lab.destroy(described)
    assert ran.mutating.index("efs:DeleteMountTarget") < ran.mutating.index("efs:DeleteFileSystem")


class _Lost(Behaviour):
    """The answer to the first call of an operation does not arrive."""

    def __init__(self, *operations: str) -> None:
        self.todo = set(operations)

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation in self.todo:
            self.todo.remove(call.operation)
            return Answer.error("InternalServerError", status=500)
        return None


def test_a_lost_answer_makes_nothing_twice(lab: Lab) -> None:
    lab.wire.behaviour = _Lost("CreateFileSystem", "CreateMountTarget")
    described = {**NETWORK, "efs_file_system.shared": {"name": "lake", "mount_targets": [A, B]}}
    lab.apply(described)
    (system,) = lab.client("efs").describe_file_systems()["FileSystems"]
    assert system["NumberOfMountTargets"] == 2
    lab.assert_unchanged(described)
