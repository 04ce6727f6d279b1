# SPDX-License-Identifier: GPL-3.0-or-later
"""Destruction of resources that hold data: refused by the plan, or destroyed with their contents, of every kind."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

VAULT = "lake-development"
NETWORK: dict[str, dict[str, Any]] = {
    "vpc.main": {"cidr_block": "10.0.0.0/16"},
    "subnet.a": {
        "vpc_id": "${vpc.main.id}",
        "cidr_block": "10.0.1.0/24",
        "availability_zone": "eu-central-1a",
    },
    "security_group.nfs": {"name": "nfs", "description": "NFS", "vpc_id": "${vpc.main.id}"},
}
TARGET = {"subnet_id": "${subnet.a.id}", "security_group_ids": ["${security_group.nfs.id}"]}
# Resources that AWS does not delete while they have content.
REFUSED = ("athena_workgroup.main", "backup_vault.main", "ecr_repository.platform", "s3_bucket.gold")


def described(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return all resources that hold data. The bucket has a lock that a permission bypasses."""
    bucket = f"gold-{lab.emulator.account_id}"
    return {
        **NETWORK,
        "s3_bucket.gold": {
            "name": bucket,
            "versioning": True,
            "tls_only": False,
            "object_lock": {"mode": "GOVERNANCE", "days": 30},
        },
        "ecr_repository.platform": {"name": "lake/platform"},
        "athena_workgroup.main": {"name": VAULT},
        "efs_file_system.shared": {"name": "lake", "mount_targets": [TARGET]},
        "backup_vault.main": {"name": VAULT, "lock": {"min_retention_days": 7}},
    }


class Full(Behaviour):
    """Refuses to delete resources with content, as AWS does and the emulators do not always. Stores recovery points.

    lock_date: time from which the lock of the vault is permanent.
    """

    def __init__(self, lab: Lab, points: int, lock_date: dt.datetime | None = None) -> None:
        self.lab, self.lock_date = lab, lock_date
        # One is in progress: it cannot be deleted immediately.
        statuses = ["CREATING", *["COMPLETED"] * points][:points]
        self.points = {f"arn:aws:ec2:eu-central-1::snapshot/snap-{index}": item for index, item in enumerate(statuses)}
        self.is_locked = True
        self._lock = threading.Lock()

    def before(self, call: Call) -> Answer | None:
        answers: Mapping[str, Callable[..., Answer | None]] = {
            "DeleteBucket": self._delete_bucket,
            "DeleteRepository": self._delete_repository,
            "DeleteWorkGroup": self._delete_work_group,
            "DeleteFileSystem": self._delete_file_system,
            "DeleteBackupVault": self._delete_vault,
            "DeleteBackupVaultLockConfiguration": self._unlock,
            "ListRecoveryPointsByBackupVault": self._list_points,
            "DeleteRecoveryPoint": self._delete_point,
        }
        with self._lock:
            return answers[call.operation](**call.parameters) if call.operation in answers else None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != "DescribeBackupVault" or "BackupVaultName" not in answer:
            return None
        told = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
        date = {"LockDate": self.lock_date} if self.lock_date else {}
        lock = {"Locked": self.is_locked, "MinRetentionDays": 7, **date}
        return Answer({**told, "NumberOfRecoveryPoints": len(self.points), **lock})

    def _delete_bucket(self, Bucket: str, **_given: Any) -> Answer | None:  # noqa: N803 - as S3 writes it
        client = self.lab.client("s3")
        versions = client.list_object_versions(Bucket=Bucket)
        held = [name for name in ("Versions", "DeleteMarkers") if versions.get(name)]
        uploads = client.list_multipart_uploads(Bucket=Bucket).get("Uploads")
        return Answer.error("BucketNotEmpty", "The bucket is not empty.", 409) if held or uploads else None

    def _delete_repository(self, force: bool = False, **_given: Any) -> Answer | None:
        return None if force else Answer.error("RepositoryNotEmptyException", "It has images.")

    def _delete_work_group(self, RecursiveDeleteOption: bool = False, **_given: Any) -> Answer | None:  # noqa: N803
        return None if RecursiveDeleteOption else Answer.error("InvalidRequestException", "WorkGroup is not empty")

    def _delete_file_system(self, FileSystemId: str) -> Answer | None:  # noqa: N803
        targets = self.lab.client("efs").describe_mount_targets(FileSystemId=FileSystemId)["MountTargets"]
        return Answer.error("FileSystemInUse", "It has mount targets.", 409) if targets else None

    def _delete_vault(self, **_given: Any) -> Answer | None:
        return Answer.error("InvalidRequestException", "It has recovery points.") if self.points else None

    def _unlock(self, **_given: Any) -> Answer:
        self.is_locked = False
        return Answer({})

    def _list_points(self, BackupVaultName: str, **_given: Any) -> Answer:  # noqa: N803
        # Each listing is later: deletions in progress have completed, and creations in progress as well.
        self.points = {arn: status for arn, status in self.points.items() if status != "DELETING"}
        now = dt.datetime.now(dt.UTC)
        told = [
            {
                "RecoveryPointArn": arn,
                "BackupVaultName": BackupVaultName,
                "Status": status,
                "CalculatedLifecycle": {"DeleteAt": now.replace(year=2099, month=1, day=1 + number)},
            }
            for number, (arn, status) in enumerate(self.points.items())
        ]
        return Answer({"RecoveryPoints": told})

    def _delete_point(self, RecoveryPointArn: str, **_given: Any) -> Answer:  # noqa: N803
        if self.is_locked:
            return Answer.error("InvalidRequestException", "The vault is locked.")
        if self.points[RecoveryPointArn] == "CREATING":
            self.points[RecoveryPointArn] = "COMPLETED"
            return Answer.error("InvalidResourceStateException", "It is being made.")
        self.points[RecoveryPointArn] = "DELETING"
        return Answer({})


def fill(lab: Lab, system: str) -> None:
    """Add content to all resources: versions, a delete marker, an upload, an image, a query, an access point."""
    s3, bucket = lab.client("s3"), f"gold-{lab.emulator.account_id}"
    for body in (b"1", b"2"):
        s3.put_object(Bucket=bucket, Key="raw/a", Body=body)
    s3.delete_object(Bucket=bucket, Key="raw/a")
    s3.create_multipart_upload(Bucket=bucket, Key="raw/unfinished")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/json", "size": 1, "digest": f"sha256:{'1' * 64}"},
        "layers": [],
    }
    lab.client("ecr").put_image(repositoryName="lake/platform", imageManifest=json.dumps(manifest), imageTag="1")
    lab.client("athena").create_named_query(Name="q", Database="d", QueryString="SELECT 1", WorkGroup=VAULT)
    lab.client("efs").create_access_point(FileSystemId=system)


# ministack does not support locks of vaults.
@pytest.mark.emulators("moto")
def test_what_holds_data_is_refused_by_the_plan_and_destroyed_where_that_is_allowed(lab: Lab) -> None:
    wanted = described(lab)
    ran = lab.apply(wanted)
    fill(lab, ran.id("efs_file_system.shared"))
    lab.wire.behaviour = full = Full(lab, points=3)
    with pytest.raises(RefusedError) as caught:
        lab.plan(wanted, state="absent", unprotect=tuple(wanted))
    messages = {fault.address: str(fault) for fault in caught.value.faults}
    assert sorted(messages) == sorted(REFUSED)
    assert all(f"name {address} in delete_contents" in message for address, message in messages.items())
    content = "it contains 2 old versions, 1 delete markers, 1 unfinished uploads (raw/a, raw/unfinished)"
    assert content in messages["s3_bucket.gold"]
    assert "3 recovery points" in messages["backup_vault.main"]

    ran = lab.destroy(wanted, delete_contents=REFUSED)
    assert not full.points
    assert lab.client("s3").list_buckets()["Buckets"] == []
    assert {"s3:AbortMultipartUpload", "backup:DeleteBackupVaultLockConfiguration"} <= set(ran.mutating)
    (emptied,) = [call for call in lab.wire.calls if call.operation == "DeleteObjects"]
    assert emptied.parameters["BypassGovernanceRetention"] is True


@pytest.mark.emulators("moto")
def test_a_vault_that_is_locked_for_good_is_refused_with_the_date(lab: Lab) -> None:
    wanted = {"backup_vault.main": {"name": VAULT, "lock": {"min_retention_days": 7, "changeable_for_days": 5}}}
    lab.apply(wanted)
    allowed = {"state": "absent", "unprotect": tuple(wanted), "delete_contents": tuple(wanted)}
    lab.wire.behaviour = Full(lab, points=2, lock_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    with pytest.raises(RefusedError) as caught:
        lab.plan(wanted, **allowed)
    (fault,) = caught.value.faults
    assert (fault.address, fault.path) == ("backup_vault.main", "lock")
    assert fault.message.startswith("is permanent since 2026-01-01")
    assert "2 recovery points, the last of which expires on 2099-01-02" in fault.message
    assert fault.remedy == "destroy it after that date, or to keep the vault, remove its tag lakehouse:stack"
    client = lab.client("backup")
    arn = client.describe_backup_vault(BackupVaultName=VAULT)["BackupVaultArn"]
    stack = client.list_tags(ResourceArn=arn)["Tags"]["lakehouse:stack"]
    client.untag_resource(ResourceArn=arn, TagKeyList=["lakehouse:stack"])
    assert not lab.plan(wanted, **allowed).changed
    client.tag_resource(ResourceArn=arn, Tags={"lakehouse:stack": stack})
    # Once they have expired, the lock does not block the deletion any more.
    lab.wire.behaviour = Full(lab, points=0, lock_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    assert lab.run(wanted, **allowed).report.complete


def test_objects_that_nobody_may_delete_yet_are_refused_with_the_date(lab: Lab) -> None:
    name = f"gold-{lab.emulator.account_id}"
    lock = {"mode": "COMPLIANCE", "days": 30}
    wanted = {"s3_bucket.gold": {"name": name, "versioning": True, "tls_only": False, "object_lock": lock}}
    lab.apply(wanted)
    allowed = {"state": "absent", "unprotect": tuple(wanted), "delete_contents": ("s3_bucket",)}
    assert lab.plan(wanted, **allowed).node("s3_bucket.gold").action == "delete"
    lab.client("s3").put_object(Bucket=name, Key="a", Body=b"1")
    date = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    with pytest.raises(RefusedError, match=f"object_lock: .* cannot be deleted before {date:%Y-%m-%d}T.*; destroy it"):
        lab.plan(wanted, **allowed)
