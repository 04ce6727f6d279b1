# SPDX-License-Identifier: GPL-3.0-or-later
"""Data that a destruction leaves stays readable: its key is kept, or is deleted no earlier."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Scripted

KEY = {"kms_key.data": {"alias": "alias/data", "deletion_window_in_days": 7}}
DATABASE: dict[str, Any] = {
    "identifier": "lake-development",
    "instance_class": "db.t4g.medium",
    "allocated_storage": 20,
    "engine_version": "16.3",
    "kms_key_id": "${kms_key.data.arn}",
}


def state(lab: Lab, id_: str) -> str:
    return str(lab.client("kms").describe_key(KeyId=id_)["KeyMetadata"]["KeyState"])


def test_the_key_of_a_final_snapshot_is_kept_until_that_is_deleted(lab: Lab) -> None:
    described = {**KEY, "db_instance.main": DATABASE}
    key = lab.apply(described).id("kms_key.data")
    stack = lab.stack(described, state="absent", unprotect=tuple(described))
    proposal = stack.propose()
    assert proposal.plan.node("kms_key.data").action == "none"
    assert stack.apply(proposal).complete
    assert state(lab, key) == "Enabled"
    rds = lab.client("rds")
    (snapshot,) = [item["DBSnapshotIdentifier"] for item in rds.describe_db_snapshots()["DBSnapshots"]]
    left = {item["address"]: item for item in stack.left(proposal)}
    assert left["db_instance.main"]["id"] == snapshot
    assert left["db_instance.main"]["readable_until"] == ""
    assert left["kms_key.data"]["status"] == "kept, since it encrypts the final snapshot of lake-development"

    # Neither another destruction nor pruning deletes it while the snapshot exists; the remedy works.
    again = lab.apply(described, state="absent", unprotect=tuple(described))
    assert again.plan.node("kms_key.data").reason == f"kept, since it encrypts the database snapshot {snapshot}"
    pruning = lab.stack({}, prune=True, unprotect=("kms_key.data",))
    pruned = pruning.propose()
    assert not pruned.plan.changed
    assert pruning.notices(pruned) == [f"kms_key.data: kept, since it encrypts the database snapshot {snapshot}"]
    rds.delete_db_snapshot(DBSnapshotIdentifier=snapshot)
    lab.destroy(described)
    assert state(lab, key) == "PendingDeletion"


def test_a_key_is_not_deleted_before_a_secret_that_can_be_restored(lab: Lab) -> None:
    secret = {"name": "lake", "kms_key_id": "${kms_key.data.arn}", "recovery_window_in_days": 20}
    described = {**KEY, "secretsmanager_secret.one": secret}
    lab.apply(described)
    stack = lab.stack(described, state="absent", unprotect=tuple(described))
    proposal = stack.propose()
    assert proposal.plan.node("kms_key.data").reason.startswith("in 20 days, as long as the secret ")
    assert stack.apply(proposal).complete
    left = {item["address"]: item for item in stack.left(proposal)}
    assert left["kms_key.data"]["deletion_date"][:10] >= left["secretsmanager_secret.one"]["deletion_date"][:10]
    assert (
        left["secretsmanager_secret.one"]["readable_until"][:10]
        == (left["secretsmanager_secret.one"]["deletion_date"][:10])
    )


def test_a_key_is_kept_while_a_resource_of_the_stack_uses_it(lab: Lab) -> None:
    bucket: dict[str, Any] = {
        "name": "lake-bronze-${stack.account_id}",
        "encryption": {"sse_algorithm": "aws:kms", "kms_key_id": "${kms_key.data.arn}"},
    }
    ran = lab.apply({**KEY, "s3_bucket.bronze": bucket})
    key, arn = ran.id("kms_key.data"), ran.outputs("kms_key.data")["arn"]
    other = {**KEY, "kms_key.new": {"alias": "alias/new"}}
    named = {"s3_bucket.bronze": {**bucket, "encryption": {**bucket["encryption"], "kms_key_id": arn}}}
    moved = {
        **other,
        "s3_bucket.bronze": {**bucket, "encryption": {**bucket["encryption"], "kms_key_id": "${kms_key.new.arn}"}},
    }

    pruned = lab.stack(named, prune=True, unprotect=("kms_key.data",))
    proposal = pruned.propose()
    assert not proposal.plan.changed
    assert pruned.notices(proposal) == ["kms_key.data: kept, since it encrypts s3_bucket.bronze"]
    assert pruned.apply(proposal).complete

    del moved["kms_key.data"]
    ran = lab.apply(moved, prune=True, unprotect=("kms_key.data",))
    assert "kms_key.data" not in {node.address for node in ran.plan.nodes}
    assert state(lab, key) == "Enabled"


# All of this is outside of the stack.
@pytest.mark.parametrize(
    ("source", "action", "reason"),
    [
        ("snapshot", "none", "kept, since it encrypts the snapshot snap-1"),
        ("log group", "none", "kept, since it encrypts the log group /archive"),
        ("recovery point", "none", "kept, since it encrypts the recovery point arn:aws:ec2:::snapshot/snap-2"),
        ("retired secret", "delete", "in 12 days, as long as the secret old can be restored"),
        ("secret of a service", "delete", ""),
    ],
)
@pytest.mark.emulators("moto")
def test_what_others_keep_counts_for_a_key(lab: Lab, source: str, action: str, reason: str) -> None:
    arn = lab.apply(KEY).outputs("kms_key.data")["arn"]
    date = dt.datetime.now(dt.UTC) + dt.timedelta(days=11, hours=12)
    secret = {"ARN": "arn:aws:secretsmanager:::secret:old", "Name": "old", "KmsKeyId": arn}
    answers: dict[str, Any] = {
        "snapshot": {"ec2:DescribeSnapshots": {"Snapshots": [{"SnapshotId": "snap-1", "KmsKeyId": arn}]}},
        "log group": {
            "cloudwatch-logs:DescribeLogGroups": {"logGroups": [{"logGroupName": "/archive", "kmsKeyId": arn}]}
        },
        "recovery point": {
            "backup:ListBackupVaults": {"BackupVaultList": [{"BackupVaultName": "far", "NumberOfRecoveryPoints": 1}]},
            "backup:ListRecoveryPointsByBackupVault": {
                "RecoveryPoints": [{"RecoveryPointArn": "arn:aws:ec2:::snapshot/snap-2", "EncryptionKeyArn": arn}]
            },
        },
        "retired secret": {"secrets-manager:ListSecrets": {"SecretList": [{**secret, "DeletedDate": date}]}},
        "secret of a service": {"secrets-manager:ListSecrets": {"SecretList": [{**secret, "OwningService": "rds"}]}},
    }
    script = {name: (lambda body=body, **_given: body) for name, body in answers[source].items()}
    lab.wire.behaviour = Scripted(script, passing=True)
    node = lab.plan(KEY, state="absent", unprotect=("kms_key.data",)).node("kms_key.data")
    assert (node.action, node.reason) == (action, reason)
