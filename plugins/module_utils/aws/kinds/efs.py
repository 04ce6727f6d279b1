# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EFS: file systems with their mount targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import UsedTokenError
from ...engine.resource import DELETING, READY, Actual, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import is_known
from ..errors import CallError
from ..kind import (
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    document,
    given,
    owner_of,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ..policy import policy_property
from ..spelling import key_id
from ..waiters import wait_until

_ABSENT = ("FileSystemNotFound",)
# EFS returns this error for a principal that was created seconds before.
_NEW_PRINCIPAL = ("InvalidPolicyException:rincipal",)
_NO_TARGET = ("MountTargetNotFound",)
# Temporary errors of a new or changed file system.
_UNFIT = ("IncorrectFileSystemLifeCycleState", "IncorrectMountTargetState", "FileSystemNotFound", "MountTargetNotFound")
_AFTER = ("AFTER_1_DAY", *(f"AFTER_{days}_DAYS" for days in (7, 14, 30, 60, 90, 180, 270, 365)))
_POLICIES = {
    "transition_to_ia": "TransitionToIA",
    "transition_to_archive": "TransitionToArchive",
    "transition_to_primary_storage_class": "TransitionToPrimaryStorageClass",
}


def _faults(desired: Mapping[str, Any], _existing: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    provisioned, mode = desired["provisioned_throughput_in_mibps"], desired["throughput_mode"]
    if isinstance(mode, str) and (mode == "provisioned") != (provisioned is not None):
        yield "provisioned_throughput_in_mibps", f"does not go with the throughput_mode {mode}", "it is for provisioned"
    if "Name" in (desired["tags"] or {}):
        yield "tags.Name", "is what the property name says", "leave the tag out"
    policies = desired["lifecycle_policies"] if isinstance(desired["lifecycle_policies"], list) else []
    if any(isinstance(policy, Mapping) and len(policy) != 1 for policy in policies):
        yield "lifecycle_policies", "has an entry that does not say exactly one transition", "make an entry of each"
    targets = desired["mount_targets"] if isinstance(desired["mount_targets"], list) else []
    subnets = [target["subnet_id"] for target in targets if is_known(target)]
    for subnet in sorted({subnet for subnet in subnets if subnets.count(subnet) > 1}):
        yield "mount_targets", f"has two in the subnet {subnet}", "there can be one in each availability zone"


class EfsFileSystem(AwsKind):
    """A file system of EFS."""

    name = "efs_file_system"
    service = "efs"
    found_by = "tags"
    failed_states = frozenset({"error"})
    schema = Schema(
        {
            "name": Property(required=True, purpose="Name, stored in the tag `Name`."),
            "encrypted": Property(
                "boolean", default=True, when_unset=False, replace=True, purpose="Whether to encrypt data at rest."
            ),
            "kms_key_id": Property(
                computed=True,
                replace=True,
                canonical=key_id,
                purpose="ARN of the key. The AWS managed key if omitted.",
            ),
            "performance_mode": Property(
                when_unset="generalPurpose",
                choices=("generalPurpose", "maxIO"),
                replace=True,
                purpose="Optimisation for latency, or for many parallel operations.",
            ),
            "throughput_mode": Property(
                when_unset="bursting",
                choices=("bursting", "provisioned", "elastic"),
                purpose="Scaling of the throughput. AWS permits one decrease per day.",
            ),
            "provisioned_throughput_in_mibps": Property(
                "number", purpose="Throughput of the mode `provisioned` in MiB/s."
            ),
            "lifecycle_policies": Property(
                "set",
                purpose="Transitions of files between storage classes, one in each entry.",
                elements=Property(
                    "map",
                    fields={
                        "transition_to_ia": Property(
                            choices=_AFTER, purpose="Time without access until the transition to infrequent access."
                        ),
                        "transition_to_archive": Property(
                            choices=_AFTER, purpose="Time without access until the transition to the archive."
                        ),
                        "transition_to_primary_storage_class": Property(
                            choices=("AFTER_1_ACCESS",),
                            purpose="Condition for the transition back to the standard class.",
                        ),
                    },
                ),
            ),
            "backup": Property(
                "boolean",
                default=True,
                when_unset=False,
                purpose="Whether to enable automatic backups with AWS Backup.",
            ),
            "policy": policy_property(
                "Access policy. Without one, every client that reaches a mount target can mount the file system."
            ),
            "mount_targets": Property(
                "set",
                purpose="Mount targets, at most one in each availability zone.",
                elements=Property(
                    "map",
                    fields={
                        "subnet_id": Property(
                            required=True, purpose="ID of the subnet for the mount target's address."
                        ),
                        "security_group_ids": Property(
                            "set",
                            required=True,
                            elements=Property(),
                            purpose="IDs of security groups, which restrict access over NFS.",
                        ),
                    },
                ),
            ),
            "tags": TAGS,
        },
        {"id": Output("ID that AWS assigned."), "arn": Output("ARN.")},
        protected=True,
        replacement="create_first",
        check=_faults,
    )
    actions = Actions(
        read=(
            "elasticfilesystem:DescribeFileSystems",
            "elasticfilesystem:DescribeBackupPolicy",
            "elasticfilesystem:DescribeFileSystemPolicy",
            "elasticfilesystem:DescribeLifecycleConfiguration",
            "elasticfilesystem:DescribeMountTargets",
            "elasticfilesystem:DescribeMountTargetSecurityGroups",
        ),
        create=(
            "elasticfilesystem:CreateFileSystem",
            "elasticfilesystem:TagResource",
            "elasticfilesystem:PutBackupPolicy",
            "elasticfilesystem:PutFileSystemPolicy",
            "elasticfilesystem:PutLifecycleConfiguration",
            "elasticfilesystem:CreateMountTarget",
            "iam:CreateServiceLinkedRole",
            "ec2:DescribeSubnets",
            "ec2:DescribeNetworkInterfaces",
            "ec2:CreateNetworkInterface",
            "kms:DescribeKey",
            "kms:CreateGrant",
            "kms:GenerateDataKeyWithoutPlaintext",
        ),
        update=(
            "elasticfilesystem:UpdateFileSystem",
            "elasticfilesystem:DeleteFileSystemPolicy",
            "elasticfilesystem:PutBackupPolicy",
            "elasticfilesystem:PutFileSystemPolicy",
            "elasticfilesystem:PutLifecycleConfiguration",
            "elasticfilesystem:CreateMountTarget",
            "elasticfilesystem:DeleteMountTarget",
            "elasticfilesystem:ModifyMountTargetSecurityGroups",
            "elasticfilesystem:TagResource",
            "elasticfilesystem:UntagResource",
            "ec2:DescribeSubnets",
            "ec2:DescribeNetworkInterfaces",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:ModifyNetworkInterfaceAttribute",
        ),
        delete=(
            "elasticfilesystem:DeleteMountTarget",
            "elasticfilesystem:DeleteFileSystem",
            "ec2:DeleteNetworkInterface",
        ),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        def ours(system: Mapping[str, Any]) -> bool:
            found = owner_of(tag_map(system.get("Tags")))
            return found is not None and found.shares_stack_with(owner)

        return self.session.each(self._actual, filter(ours, self._all()))

    def lookalikes(self, subject: Subject) -> Sequence[Actual]:
        """Return the file systems of the same name; the name is only a tag, so there may be several."""
        name = subject.desired["name"]
        return self.session.each(self._actual, [item for item in self._all() if _name(item) == name])

    def _all(self) -> list[dict[str, Any]]:
        """Return the descriptions of all file systems; read once for a plan."""

        def listed() -> list[dict[str, Any]]:
            return self.session.pages("efs", "describe_file_systems", "FileSystems")

        return self.session.once("efs file systems", listed)

    def read(self, id_: str) -> Actual | None:
        system = self._described(id_)
        return self._actual(system) if system else None

    def _described(self, id_: str) -> dict[str, Any] | None:
        answer = self.session.look("efs", "describe_file_systems", _ABSENT, FileSystemId=id_)
        systems: list[dict[str, Any]] = answer["FileSystems"] if answer else []
        return next((system for system in systems if system["LifeCycleState"] != "deleted"), None)

    def _actual(self, system: Mapping[str, Any]) -> Actual:
        id_, tags = system["FileSystemId"], tag_map(system.get("Tags"))
        asked: list[Callable[[str], Any]] = [self._lifecycle, self._backup, self._policy, self._mount_targets]
        lifecycle, backup, policy, targets = self.session.each(lambda ask: ask(id_), asked)
        mode = system.get("ThroughputMode")
        is_provisioned = mode == "provisioned"
        tags_without_name = {key: value for key, value in property_tags(tags).items() if key != "Name"}
        properties = {
            "name": _name(system),
            "encrypted": system.get("Encrypted"),
            "kms_key_id": system.get("KmsKeyId") or None,
            "performance_mode": system.get("PerformanceMode"),
            "throughput_mode": mode,
            # The former provisioned throughput has no effect in other modes.
            "provisioned_throughput_in_mibps": system.get("ProvisionedThroughputInMibps") if is_provisioned else None,
            "lifecycle_policies": lifecycle,
            "backup": backup,
            "policy": policy,
            "mount_targets": [self._property(target) for target in targets if target["LifeCycleState"] != DELETING],
            "tags": tags_without_name,
        }
        arn = system.get("FileSystemArn") or ""
        status = _status(system["LifeCycleState"], [target["LifeCycleState"] for target in targets])
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), status, (arn,) if arn else ())

    def _lifecycle(self, id_: str) -> list[dict[str, str]]:
        answer = self.session.look("efs", "describe_lifecycle_configuration", _ABSENT, FileSystemId=id_)
        found = (answer or {}).get("LifecyclePolicies") or []
        fields = {name: field for field, name in _POLICIES.items()}
        return [{fields[name]: value} for policy in found for name, value in policy.items() if name in fields]

    def _backup(self, id_: str) -> bool:
        absent = (*_ABSENT, "PolicyNotFound")
        answer = self.session.look("efs", "describe_backup_policy", absent, FileSystemId=id_)
        return ((answer or {}).get("BackupPolicy") or {}).get("Status") in {"ENABLED", "ENABLING"}

    def _policy(self, id_: str) -> str | None:
        absent = (*_ABSENT, "PolicyNotFound")
        answer = self.session.look("efs", "describe_file_system_policy", absent, FileSystemId=id_)
        return (answer or {}).get("Policy")

    def _mount_targets(self, id_: str) -> list[dict[str, Any]]:
        """Return the mount targets with their security groups, which need one call each."""
        try:
            found = self.session.pages("efs", "describe_mount_targets", "MountTargets", FileSystemId=id_)
        except CallError as error:
            if error.is_one_of(_ABSENT):
                return []
            raise
        there = [target for target in found if target["LifeCycleState"] != "deleted"]
        return [{**target, "groups": groups} for target, groups in zip(there, self._groups(there), strict=True)]

    def _groups(self, targets: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        def asked(target: Mapping[str, Any]) -> list[str]:
            answer = self.session.look(
                "efs",
                "describe_mount_target_security_groups",
                (*_NO_TARGET, "IncorrectMountTargetState"),
                MountTargetId=target["MountTargetId"],
            )
            return list((answer or {}).get("SecurityGroups") or ())

        return self.session.each(asked, targets)

    @staticmethod
    def _property(target: Mapping[str, Any]) -> dict[str, Any]:
        return {"subnet_id": target["SubnetId"], "security_group_ids": target["groups"]}

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        answer = self._created(request)
        id_ = answer["FileSystemId"]
        if answer["LifeCycleState"] in {DELETING, "deleted"}:
            raise UsedTokenError(request.token)
        # Other calls need an available file system.
        self._wait_available(request, id_)
        if wanted["lifecycle_policies"]:
            self._write_lifecycle(id_, wanted)
        if self._backup(id_) != wanted["backup"]:
            self._write_backup(id_, wanted)
        if wanted["policy"] is not None:
            # The policy takes effect before the first mount.
            self._write_policy(id_, wanted["policy"])
        self._write_mount_targets(request, id_)
        return Actual(id_, wanted, {"id": id_}, request.owner, "creating")

    def _created(self, request: Request) -> dict[str, Any]:
        wanted = request.desired
        parameters = {
            "CreationToken": request.token,
            "Encrypted": wanted["encrypted"],
            "KmsKeyId": wanted.get("kms_key_id"),
            "PerformanceMode": wanted["performance_mode"],
            "ThroughputMode": wanted["throughput_mode"],
            "ProvisionedThroughputInMibps": wanted["provisioned_throughput_in_mibps"],
            "Backup": wanted["backup"],
            "Tags": tag_list({**all_tags(request), "Name": wanted["name"]}),
        }
        absent = ("FileSystemAlreadyExists",)
        answer = self.session.look("efs", "create_file_system", absent, **given(parameters))
        if answer is None:
            found: dict[str, Any]
            (found,) = self.session.call("efs", "describe_file_systems", CreationToken=request.token)["FileSystems"]
            return found
        return answer

    def _wait_available(self, request: Request, id_: str) -> None:
        def look() -> bool | None:
            system = self._described(id_)
            return True if system and system["LifeCycleState"] in {"available", "error"} else None

        what = f"{request.address} ({id_}) to be available"
        wait_until(look, what, timeout_s=self.timeout_s, interval_s=self.interval_s)

    def update(self, request: Request) -> Actual:
        wanted, id_ = request.desired, request.existing.id
        if request.changed("throughput_mode") or request.changed("provisioned_throughput_in_mibps"):
            parameters = {
                "ThroughputMode": wanted["throughput_mode"],
                "ProvisionedThroughputInMibps": wanted["provisioned_throughput_in_mibps"],
            }
            self.session.call("efs", "update_file_system", FileSystemId=id_, retry_on=_UNFIT, **given(parameters))
        if request.changed("lifecycle_policies"):
            self._write_lifecycle(id_, wanted)
        if request.changed("backup"):
            self._write_backup(id_, wanted)
        if request.changed("policy"):
            self._write_policy(id_, wanted["policy"])
        if request.changed("mount_targets"):
            self._write_mount_targets(request, id_)
        self._write_tags(request)
        return request.existing

    def _write_lifecycle(self, id_: str, wanted: Mapping[str, Any]) -> None:
        policies = [
            {_POLICIES[field]: value for field, value in policy.items()}
            for policy in wanted["lifecycle_policies"] or ()
        ]
        self.session.call(
            "efs", "put_lifecycle_configuration", FileSystemId=id_, retry_on=_UNFIT, LifecyclePolicies=policies
        )

    def _write_backup(self, id_: str, wanted: Mapping[str, Any]) -> None:
        policy = {"Status": "ENABLED" if wanted["backup"] else "DISABLED"}
        self.session.call("efs", "put_backup_policy", FileSystemId=id_, retry_on=_UNFIT, BackupPolicy=policy)

    def _write_policy(self, id_: str, policy: Any) -> None:
        if policy is None:
            absent = (*_ABSENT, "PolicyNotFound")
            self.session.look("efs", "delete_file_system_policy", absent, retry_on=_UNFIT, FileSystemId=id_)
            return
        retry_on = (*_UNFIT, *_NEW_PRINCIPAL)
        self.session.call("efs", "put_file_system_policy", retry_on=retry_on, FileSystemId=id_, Policy=document(policy))

    def _write_mount_targets(self, request: Request, id_: str) -> None:
        """Remove mount targets first and wait, because a zone can have only one."""
        wanted = {item["subnet_id"]: item["security_group_ids"] for item in request.desired["mount_targets"] or ()}
        there = self._mount_targets(id_)
        obsolete = [target for target in there if target["SubnetId"] not in wanted]
        self._remove_mount_targets(request, id_, obsolete)
        kept = {target["SubnetId"]: target for target in there if target["SubnetId"] in wanted}

        def write(subnet: str) -> None:
            groups = sorted(wanted[subnet])
            if subnet not in kept:
                self.session.call_once(
                    "efs",
                    "create_mount_target",
                    lambda: next((target for target in self._mount_targets(id_) if target["SubnetId"] == subnet), None),
                    retry_on=_UNFIT,
                    FileSystemId=id_,
                    SubnetId=subnet,
                    SecurityGroups=groups,
                )
            elif sorted(kept[subnet]["groups"]) != groups:
                target = kept[subnet]["MountTargetId"]
                modify = "modify_mount_target_security_groups"
                self.session.call("efs", modify, retry_on=_UNFIT, MountTargetId=target, SecurityGroups=groups)

        self.session.each(write, sorted(wanted))

    def _remove_mount_targets(self, request: Request, id_: str, targets: Sequence[Mapping[str, Any]]) -> None:
        """Delete mount targets and wait: they block new ones in their zone, and the deletion of the file system."""
        ids = {target["MountTargetId"] for target in targets}
        if not ids:
            return
        self.session.each(
            lambda target: self.session.look("efs", "delete_mount_target", _NO_TARGET, MountTargetId=target),
            sorted(ids),
        )

        def look() -> bool | None:
            left = self.session.look("efs", "describe_mount_targets", _ABSENT, FileSystemId=id_)
            return (
                None if ids & {target["MountTargetId"] for target in (left or {}).get("MountTargets") or ()} else True
            )

        what = f"the mount targets of {request.address} ({id_}) to be gone"
        wait_until(look, what, timeout_s=self.timeout_s, interval_s=self.interval_s)

    def _write_tags(self, request: Request) -> None:
        changed, removed = tag_changes(request)
        if request.changed("name"):
            changed = {**changed, "Name": request.desired["name"]}
        if changed:
            self.session.call("efs", "tag_resource", ResourceId=request.existing.id, Tags=tag_list(changed))
        if removed:
            self.session.call("efs", "untag_resource", ResourceId=request.existing.id, TagKeys=removed)

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        self._remove_mount_targets(request, id_, self._mount_targets(id_))
        self.session.look("efs", "delete_file_system", _ABSENT, retry_on=("FileSystemInUse",), FileSystemId=id_)


def _name(system: Mapping[str, Any]) -> str | None:
    """Return the name from the tag; the field `Name` may be outdated."""
    return tag_map(system.get("Tags")).get("Name") or system.get("Name")


def _status(state: str, targets: Sequence[str]) -> str:
    """Return the status of the whole file system: ready when every mount target is available."""
    if state != "available":
        return state
    if "error" in targets:
        return "error"
    return next((other for other in targets if other not in {"available", DELETING}), READY)
