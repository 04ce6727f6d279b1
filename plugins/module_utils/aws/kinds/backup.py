# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Backup: vaults."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...engine.errors import EngineError
from ...engine.resource import READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import is_known
from ..backup import ABSENT, read_tags, write_tags
from ..errors import CallError
from ..kind import (
    STACK_TAG,
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    contents_remedy,
    document,
    given,
    owner_of,
    property_tags,
)
from ..policy import policy_property
from ..spelling import key_id
from ..waiters import wait_until

_AVAILABLE = "AVAILABLE"
# The deletion of recovery points of a large file system takes long.
_POINTS_S = 7200.0
_NAME = re.compile(r"[A-Za-z0-9_-]{2,50}")
# A destruction keeps vaults; the tag contains their owner.
_DISOWN = f"remove its tag {STACK_TAG}"
_SHORTEST_COOLING_DAYS, _LONGEST_DAYS = 3, 36_500


def _vault_name_fault(value: str) -> str | None:
    return None if _NAME.fullmatch(value) else f"{value!r} is not 2 to 50 letters, digits, '-' and '_'"


def _days_fault(value: int) -> str | None:
    return None if 1 <= value <= _LONGEST_DAYS else f"{value} is not between 1 and {_LONGEST_DAYS}"


def _cooling_fault(value: int) -> str | None:
    if _SHORTEST_COOLING_DAYS <= value <= _LONGEST_DAYS:
        return None
    return f"{value} is not between {_SHORTEST_COOLING_DAYS} and {_LONGEST_DAYS}"


def _told_fault(_value: str) -> str | None:
    return "is AWS's to say"


def _vault_rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    wanted, has = desired["lock"], (actual or {}).get("lock") or {}
    if isinstance(wanted, Mapping) and is_known(wanted):
        least, most = wanted["min_retention_days"], wanted["max_retention_days"]
        if least is not None and most is not None and least > most:
            yield "lock.min_retention_days", f"{least} is more than max_retention_days ({most})", ""
    date = has.get("lock_date")
    if date and is_known(wanted) and dt.datetime.fromisoformat(date) <= dt.datetime.now(dt.UTC):
        changes = [name for name in _LOCK if (wanted or {}).get(name) != has.get(name)]
        if wanted is None or changes:
            remedy = "describe the existing lock: neither the owner nor AWS can change or remove it"
            yield "lock", f"is permanent since {date}", remedy


_LOCK = ("min_retention_days", "max_retention_days", "changeable_for_days")


class BackupVault(AwsKind):
    """A vault for recovery points. Its deletion deletes them only where the run allows it.

    A lock without `changeable_for_days` can be removed by any administrator of the vault. With it, the lock becomes
    permanent after these days: the lock and unexpired recovery points can then not be removed. Each change of such a
    lock before that restarts the days.
    """

    name = "backup_vault"
    service = "backup"
    failed_states = frozenset({"FAILED"})
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=_vault_name_fault, purpose="Name, unique in the account and region."
            ),
            "kms_key_arn": Property(
                computed=True,
                replace=True,
                canonical=key_id,
                purpose="ARN of the encryption key. The account's key for AWS Backup if omitted.",
            ),
            "lock": Property(
                "map",
                fields={
                    "min_retention_days": Property(
                        "integer", check=_days_fault, purpose="Minimum retention in days of a recovery point."
                    ),
                    "max_retention_days": Property(
                        "integer", check=_days_fault, purpose="Maximum retention in days of a recovery point."
                    ),
                    "changeable_for_days": Property(
                        "integer",
                        check=_cooling_fault,
                        purpose="Days until the lock becomes permanent. Never if omitted.",
                    ),
                    "lock_date": Property(
                        computed=True, check=_told_fault, purpose="Date on which the lock becomes permanent. Read-only."
                    ),
                },
                purpose="Lock that prevents the early deletion of recovery points.",
            ),
            "policy": policy_property("Access policy of the vault. Unmanaged if omitted.", computed=True),
            "tags": TAGS,
        },
        {
            "id": Output("Name."),
            "arn": Output("ARN."),
            "lock_date": Output("Date on which the lock becomes permanent, if it does.", changes_with=("lock",)),
        },
        protected=True,
        unique_by=("name",),
        check=_vault_rules,
    )
    actions = Actions(
        read=(
            "backup:DescribeBackupVault",
            "backup:GetBackupVaultAccessPolicy",
            "backup:ListRecoveryPointsByBackupVault",
            "backup:ListTags",
        ),
        list=("backup:ListBackupVaults",),
        create=(
            "backup:CreateBackupVault",
            "backup:PutBackupVaultAccessPolicy",
            "backup:PutBackupVaultLockConfiguration",
            "backup:TagResource",
            "backup-storage:MountCapsule",
            "kms:CreateGrant",
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:GenerateDataKey",
            "kms:RetireGrant",
        ),
        update=(
            "backup:DeleteBackupVaultAccessPolicy",
            "backup:DeleteBackupVaultLockConfiguration",
            "backup:PutBackupVaultAccessPolicy",
            "backup:PutBackupVaultLockConfiguration",
            "backup:TagResource",
            "backup:UntagResource",
        ),
        delete=(
            "backup:DeleteBackupVault",
            "backup:DeleteBackupVaultLockConfiguration",
            "backup:DeleteRecoveryPoint",
            "backup-storage:MountCapsule",
        ),
    )

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        wanted = {subject.address: subject.desired for subject in subjects}
        found = super().read_all(subjects)
        answers: dict[str, Sequence[Actual] | Later] = {}
        for address, actuals in found.items():
            described = wanted[address]
            answers[address] = (
                actuals if isinstance(actuals, Later) else [self._as_described(item, described) for item in actuals]
            )
        return answers

    def _as_described(self, actual: Actual, desired: Mapping[str, Any]) -> Actual:
        """Add the policy where one is described, and the days of a lock, which AWS keeps only as a date."""
        properties = dict(actual.properties)
        lock, wanted = properties["lock"], desired.get("lock")
        days = wanted.get("changeable_for_days") if isinstance(wanted, Mapping) else None
        if lock and lock["changeable_for_days"] is not None and days is not None:
            properties["lock"] = {**lock, "changeable_for_days": days}
        if "policy" in desired:
            answer = self.session.look("backup", "get_backup_vault_access_policy", ABSENT, BackupVaultName=actual.id)
            properties["policy"] = (answer or {}).get("Policy")
        return replace(actual, properties=properties)

    def read(self, id_: str) -> Actual | None:
        vault = self._vault(id_)
        return None if vault is None else self._actual(vault)

    def _vault(self, name: str) -> dict[str, Any] | None:
        try:
            return self.session.look("backup", "describe_backup_vault", ABSENT, BackupVaultName=name)
        except CallError as error:
            # AWS Backup also denies access to vaults that do not exist.
            if not error.is_denied or name in {vault["BackupVaultName"] for vault in self._vaults()}:
                raise
            return None

    def _vaults(self) -> list[dict[str, Any]]:
        return self.session.pages("backup", "list_backup_vaults", "BackupVaultList")

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        actuals = self.session.each(self._actual, self._vaults())
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def _actual(self, vault: Mapping[str, Any]) -> Actual:
        name, arn, date = vault["BackupVaultName"], vault["BackupVaultArn"], vault.get("LockDate")
        tags = read_tags(self.session, arn)
        lock = {
            "min_retention_days": vault.get("MinRetentionDays"),
            "max_retention_days": vault.get("MaxRetentionDays"),
            "changeable_for_days": None if date is None else _days_until(date),
            "lock_date": None if date is None else date.isoformat(),
        }
        properties = {
            "name": name,
            "kms_key_arn": vault.get("EncryptionKeyArn") or None,
            "lock": lock if vault.get("Locked") else None,
            "tags": property_tags(tags),
        }
        outputs = {"id": name, "arn": arn, "lock_date": lock["lock_date"]}
        state = str(vault.get("VaultState") or _AVAILABLE)
        return Actual(name, properties, outputs, owner_of(tags), READY if state == _AVAILABLE else state, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        answer = self.session.call_once(
            "backup",
            "create_backup_vault",
            lambda: self._made(request),
            BackupVaultName=wanted["name"],
            BackupVaultTags=all_tags(request),
            **given({"EncryptionKeyArn": wanted.get("kms_key_arn")}),
        )
        if wanted["lock"] is not None:
            self._write_lock(wanted["name"], wanted["lock"])
        if wanted.get("policy") is not None:
            self._write_policy(wanted["name"], wanted["policy"])
        return Actual(wanted["name"], wanted, {"id": wanted["name"], "arn": answer["BackupVaultArn"]}, request.owner)

    def _made(self, request: Request) -> dict[str, Any] | None:
        actual = self.read(request.desired["name"])
        return {"BackupVaultArn": actual.outputs["arn"]} if actual and actual.owner == request.owner else None

    def _write_lock(self, name: str, lock: Mapping[str, Any] | None) -> None:
        if lock is None:
            self.session.call("backup", "delete_backup_vault_lock_configuration", BackupVaultName=name)
            return
        parameters = {
            "MinRetentionDays": lock["min_retention_days"],
            "MaxRetentionDays": lock["max_retention_days"],
            "ChangeableForDays": lock["changeable_for_days"],
        }
        self.session.call("backup", "put_backup_vault_lock_configuration", BackupVaultName=name, **given(parameters))

    def _write_policy(self, name: str, policy: Any) -> None:
        if policy is None:
            self.session.look("backup", "delete_backup_vault_access_policy", ABSENT, BackupVaultName=name)
        else:
            self.session.call("backup", "put_backup_vault_access_policy", BackupVaultName=name, Policy=document(policy))

    def update(self, request: Request) -> Actual:
        name, wanted = request.existing.id, request.desired
        if request.changed("lock"):
            lock, has = wanted["lock"], request.existing.properties["lock"] or {}
            if lock is not None and lock["changeable_for_days"] is None and has.get("lock_date"):
                # Only the deletion of the lock removes the date on which it becomes permanent.
                self._write_lock(name, None)
            self._write_lock(name, lock)
        if request.changed("policy"):
            self._write_policy(name, wanted["policy"])
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        name = request.existing.id
        vault = self._vault(name)
        if vault is None:
            return
        points = _count(vault)
        if points and not request.erases:
            raise EngineError(f"the vault {name} holds {points} recovery points; {_remedy(request)}")
        if points:
            if vault.get("Locked"):
                self._write_lock(name, None)
            self._delete_points(request)
        self.session.look("backup", "delete_backup_vault", ABSENT, BackupVaultName=name)

    def obstacles(self, request: Request) -> Sequence[ValidationError]:
        """Return the recovery points that must not be deleted, or that a permanent lock retains."""
        name = request.existing.id
        vault = self._vault(name) or {}
        points, date = _count(vault), vault.get("LockDate")
        if not points:
            return []
        if vault.get("Locked") and date is not None and date <= dt.datetime.now(dt.UTC):
            ends = [(point.get("CalculatedLifecycle") or {}).get("DeleteAt") for point in self._points(name)]
            known = [end for end in ends if end is not None]
            if len(known) < len(ends) or not known:
                until, remedy = "some of which never expire", f"to keep the vault, {_DISOWN}"
            else:
                until = f"the last of which expires on {max(known).isoformat()}"
                remedy = f"destroy it after that date, or to keep the vault, {_DISOWN}"
            message = f"is permanent since {date.isoformat()} and retains {points} recovery points, {until}"
            return [("lock", message, remedy)]
        if request.erases:
            return []
        return [("", f"the vault {name} holds {points} recovery points", _remedy(request))]

    def _points(self, name: str) -> list[dict[str, Any]]:
        operation = "list_recovery_points_by_backup_vault"
        return self.session.pages("backup", operation, "RecoveryPoints", BackupVaultName=name)

    def _delete_points(self, request: Request) -> None:
        """Delete all recovery points and wait; one in creation is deleted when it is complete."""
        name, left = request.existing.id, [0]

        def delete(point: Mapping[str, Any]) -> None:
            absent = (*ABSENT, "InvalidResourceStateException")
            arn = point["RecoveryPointArn"]
            self.session.look("backup", "delete_recovery_point", absent, BackupVaultName=name, RecoveryPointArn=arn)

        def look() -> bool | None:
            points = self._points(name)
            self.session.each(delete, [point for point in points if point.get("Status") != "DELETING"])
            left[0] = len(points)
            return None if points else True

        what = f"the recovery points of {request.address} ({name}) to be gone"
        wait_until(
            look, what, timeout_s=_POINTS_S, interval_s=self.interval_s, last=lambda: f"{left[0]} of them are left"
        )


def _count(vault: Mapping[str, Any]) -> int:
    return int(vault.get("NumberOfRecoveryPoints") or 0)


def _remedy(request: Request) -> str:
    return contents_remedy(request, "or wait until they expire")


def _days_until(date: dt.datetime) -> int:
    return max(0, (date - dt.datetime.now(dt.UTC)).days)
