# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDS: instances of PostgreSQL, and their subnet groups."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...engine.resource import DELETING, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema
from ...engine.value import Secret, is_known
from .. import rds_rules as rules
from ..errors import CallError
from ..kind import (
    TAGS,
    Actions,
    AwsKind,
    Left,
    Retained,
    all_tags,
    given,
    owner_of,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ..rds_instance import (
    FAILED,
    OWN_TAGS,
    PARAMETERS,
    PASSWORD_TAG,
    SCHEMA,
    SKIP_TAG,
    final_snapshot,
    gives_iops,
    is_busy,
    log_changes,
    read_instance,
)
from ..session import Session
from ..waiters import wait_until

_NO_GROUP = ("DBSubnetGroupNotFoundFault",)
_NO_INSTANCE = ("DBInstanceNotFound", "DBInstanceNotFoundFault")
_BUSY = ("InvalidDBInstanceState", "InvalidDBInstanceStateFault")
_TAKEN = ("DBSnapshotAlreadyExists", "DBSnapshotAlreadyExistsFault")
# The role was created seconds before.
_NEW_ROLE = ("InvalidParameterValue:IAM role",)


def _write_tags(session: Session, request: Request, own: Mapping[str, str | None]) -> None:
    """Write and remove tags. `own`: tags for values that RDS does not store; None removes one."""
    arn = request.existing.outputs["arn"]
    changed, removed = tag_changes(request)
    changed |= given(own)
    removed += [key for key, value in own.items() if value is None]
    if changed:
        session.call("rds", "add_tags_to_resource", ResourceName=arn, Tags=tag_list(changed))
    if removed:
        session.call("rds", "remove_tags_from_resource", ResourceName=arn, TagKeys=removed)


class DbSubnetGroup(AwsKind):
    """Subnets for database instances."""

    name = "db_subnet_group"
    service = "rds"
    schema = Schema(
        {
            "name": Property(
                required=True,
                replace=True,
                check=rules.group_fault,
                canonical=str.lower,
                purpose="Name, unique in the account and region. RDS stores it in lower case.",
            ),
            "description": Property(default="Subnets for databases", purpose="Description."),
            "subnet_ids": Property(
                "set",
                required=True,
                elements=Property("string"),
                purpose="IDs of subnets in at least two availability zones.",
            ),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN."), "vpc_id": Output("ID of the subnets' VPC.")},
        unique_by=("name",),
        check=rules.group_rules,
    )
    actions = Actions(
        read=("rds:DescribeDBSubnetGroups", "rds:ListTagsForResource"),
        create=("rds:CreateDBSubnetGroup", "rds:AddTagsToResource", "iam:CreateServiceLinkedRole"),
        update=("rds:ModifyDBSubnetGroup", "rds:AddTagsToResource", "rds:RemoveTagsFromResource"),
        delete=("rds:DeleteDBSubnetGroup",),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        return str(desired["name"]).lower()

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("rds", "describe_db_subnet_groups", _NO_GROUP, DBSubnetGroupName=id_)
        return self._actual(answer["DBSubnetGroups"][0]) if answer and answer["DBSubnetGroups"] else None

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        groups = self.session.pages("rds", "describe_db_subnet_groups", "DBSubnetGroups")
        actuals = self.session.each(self._actual, groups)
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def _actual(self, group: Mapping[str, Any]) -> Actual:
        name, arn = group["DBSubnetGroupName"], group["DBSubnetGroupArn"]
        tags = tag_map(self.session.call("rds", "list_tags_for_resource", ResourceName=arn).get("TagList"))
        properties = {
            "name": name,
            "description": group.get("DBSubnetGroupDescription"),
            "subnet_ids": [subnet["SubnetIdentifier"] for subnet in group.get("Subnets") or ()],
            "tags": property_tags(tags),
        }
        outputs = {"id": name, "arn": arn, "vpc_id": group.get("VpcId")}
        return Actual(name, properties, outputs, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        wanted, name = request.desired, self.identify(request.desired)
        answer = self.session.call_once(
            "rds",
            "create_db_subnet_group",
            lambda: self._made(name, request.owner),
            DBSubnetGroupName=name,
            DBSubnetGroupDescription=wanted["description"],
            SubnetIds=wanted["subnet_ids"],
            Tags=tag_list(all_tags(request)),
        )
        outputs = {"id": name, "arn": answer["DBSubnetGroup"]["DBSubnetGroupArn"]}
        return Actual(name, wanted, outputs, request.owner)

    def _made(self, name: str, owner: Owner) -> dict[str, Any] | None:
        actual = self.read(name)
        found = actual is not None and actual.owner == owner
        return {"DBSubnetGroup": {"DBSubnetGroupArn": actual.outputs["arn"]}} if actual and found else None

    def update(self, request: Request) -> Actual:
        wanted = request.desired
        if request.changed("description") or request.changed("subnet_ids"):
            self.session.call(
                "rds",
                "modify_db_subnet_group",
                DBSubnetGroupName=request.existing.id,
                DBSubnetGroupDescription=wanted["description"],
                SubnetIds=wanted["subnet_ids"],
            )
        _write_tags(self.session, request, {})
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("rds", "delete_db_subnet_group", _NO_GROUP, DBSubnetGroupName=request.existing.id)


class DbInstance(AwsKind):
    """An instance of PostgreSQL.

    Secrets Manager generates the password of its master user, or the description contains it. RDS never returns the
    latter, so a tag contains its version. Changes that wait for the maintenance window count as applied. Storage that
    RDS extended, and minor releases that it installed, are not changed. A deletion creates a snapshot, named with the
    environment, unless `skip_final_snapshot` was applied before.
    """

    name = "db_instance"
    service = "rds"
    # The creation of a large standby, or a major upgrade, takes hours.
    timeout_s = 7200.0
    interval_s = 15.0
    failed_states = FAILED
    schema = SCHEMA
    actions = Actions(
        read=("rds:DescribeDBInstances",),
        create=(
            "rds:CreateDBInstance",
            "rds:AddTagsToResource",
            "iam:CreateServiceLinkedRole",
            "iam:PassRole",
            "kms:CreateGrant",
            "kms:DescribeKey",
            "secretsmanager:CreateSecret",
            "secretsmanager:TagResource",
        ),
        update=(
            "rds:ModifyDBInstance",
            "rds:AddTagsToResource",
            "rds:RemoveTagsFromResource",
            "iam:PassRole",
            "kms:CreateGrant",
            "kms:DescribeKey",
            "secretsmanager:CreateSecret",
            "secretsmanager:TagResource",
        ),
        delete=(
            "rds:DeleteDBInstance",
            "rds:CreateDBSnapshot",
            "rds:AddTagsToResource",
            "rds:DescribeDBSnapshots",
        ),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        return str(desired["identifier"]).lower()

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return is_known(desired.get("identifier"))

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        wanted = {subject.address: subject.desired for subject in subjects}
        return {
            address: actuals
            if isinstance(actuals, Later)
            else [_as_described(actual, wanted[address]) for actual in actuals]
            for address, actuals in super().read_all(subjects).items()
        }

    def read(self, id_: str) -> Actual | None:
        instance = self._instance(id_)
        return None if instance is None else read_instance(instance)

    def _instance(self, id_: str) -> dict[str, Any] | None:
        answer = self.session.look("rds", "describe_db_instances", _NO_INSTANCE, DBInstanceIdentifier=id_)
        found: list[dict[str, Any]] = answer["DBInstances"] if answer else []
        return found[0] if found else None

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        actuals = map(read_instance, self.session.pages("rds", "describe_db_instances", "DBInstances"))
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def create(self, request: Request) -> Actual:
        wanted, id_ = request.desired, self.identify(request.desired)
        parameters = {parameter: wanted.get(name) for name, (parameter, _change) in PARAMETERS.items()}
        own = {key: value for key, value in self._own_tags(request).items() if value is not None}
        answer = self.session.call_once(
            "rds",
            "create_db_instance",
            lambda: self._made(id_, request.owner),
            retry_on=_NEW_ROLE,
            DBInstanceIdentifier=id_,
            Tags=tag_list({**all_tags(request), **own}),
            **given(parameters),
            **self._password(request),
        )
        return read_instance(answer["DBInstance"])

    def _made(self, id_: str, owner: Owner) -> dict[str, Any] | None:
        instance = self._instance(id_)
        if instance is None or owner_of(tag_map(instance.get("TagList"))) != owner:
            return None
        return {"DBInstance": instance}

    def _password(self, request: Request) -> dict[str, Any]:
        password = self.revealed(request, "master_user_password")
        if password is None:
            return {"ManageMasterUserPassword": True}
        managed = request.actual is not None and request.actual.properties.get("manage_master_user_password")
        return {"MasterUserPassword": str(password), **({"ManageMasterUserPassword": False} if managed else {})}

    @staticmethod
    def _own_tags(request: Request) -> dict[str, str | None]:
        password = request.desired.get("master_user_password")
        return {
            PASSWORD_TAG: password.version if isinstance(password, Secret) else None,
            SKIP_TAG: "true" if request.desired["skip_final_snapshot"] else None,
        }

    def update(self, request: Request) -> Actual:
        parameters = self._modification(request)
        if parameters:
            self._modify(request, ApplyImmediately=bool(request.desired.get("apply_immediately")), **parameters)
        own, has = self._own_tags(request), request.existing.properties
        changed = {
            PASSWORD_TAG: request.changed("master_user_password"),
            SKIP_TAG: request.changed("skip_final_snapshot"),
        }
        kept = {PASSWORD_TAG: has.get("master_user_password"), SKIP_TAG: has.get("skip_final_snapshot")}
        # A missing tag is not removed.
        writes = {key: own[key] for key in OWN_TAGS if changed[key] and (own[key] is not None or kept[key])}
        _write_tags(self.session, request, writes)
        return request.existing

    def _modification(self, request: Request) -> dict[str, Any]:
        wanted, has = request.desired, request.existing.properties
        changed = {name for name in PARAMETERS if request.changed(name)}
        parameters = {PARAMETERS[name][1]: wanted[name] for name in sorted(changed) if PARAMETERS[name][1]}
        if "engine_version" in changed:
            parameters["AllowMajorVersionUpgrade"] = wanted["allow_major_version_upgrade"]
        if "max_allocated_storage" in changed and wanted["max_allocated_storage"] is None:
            # RDS has no other value that disables storage autoscaling.
            parameters["MaxAllocatedStorage"] = wanted["allocated_storage"]
        if "allocated_storage" in changed and "iops" not in changed and gives_iops(has):
            parameters["Iops"] = has["iops"]
        if "monitoring_role_arn" in changed and wanted["monitoring_role_arn"] is None:
            parameters["MonitoringRoleArn"] = ""
        if "enabled_cloudwatch_logs_exports" in changed:
            parameters["CloudwatchLogsExportConfiguration"] = log_changes(wanted, has)
        if request.changed("master_user_password") or request.changed("manage_master_user_password"):
            parameters |= self._password(request)
        return parameters

    def _modify(self, request: Request, **parameters: Any) -> None:
        """Change an instance as soon as its current operation completes."""
        call = {"DBInstanceIdentifier": request.existing.id, **parameters}
        try:
            self.session.call("rds", "modify_db_instance", retry_on=_NEW_ROLE, **call)
        except CallError as error:
            if not error.is_one_of(_BUSY) or not self._calm_down(request):
                raise
            self.session.call("rds", "modify_db_instance", retry_on=_NEW_ROLE, **call)

    def _calm_down(self, request: Request) -> bool:
        """Wait until no operation runs; return whether one was running and the instance still exists."""
        id_, seen = request.existing.id, [self._status(request.existing.id)]

        def look() -> str | None:
            seen.append(self._status(id_))
            return None if is_busy(seen[-1]) else seen[-1]

        if not is_busy(seen[0]):
            return False
        what = f"{request.address} ({id_}) to be done with what it is doing"
        wait_until(look, what, timeout_s=self.timeout_s, interval_s=self.interval_s, last=lambda: seen[-1])
        return seen[-1] not in {"", DELETING}

    def _status(self, id_: str) -> str:
        instance = self._instance(id_)
        return "" if instance is None else str(instance["DBInstanceStatus"])

    def wait(self, request: Request) -> Actual:
        """Wait until the instance is ready and, with `apply_immediately`, until no change is pending."""
        if request.changes and request.desired.get("apply_immediately"):
            id_, pending = request.existing.id, [""]

            def look() -> bool | None:
                instance = self._instance(id_) or {}
                pending[0] = ", ".join(sorted(instance.get("PendingModifiedValues") or ()))
                done = not pending[0] or instance.get("DBInstanceStatus") in FAILED
                return True if done else None

            what = f"{request.address} ({id_}) to be changed"
            wait_until(
                look, what, timeout_s=self.timeout_s, interval_s=self.interval_s, last=lambda: f"pending: {pending[0]}"
            )
        return _as_described(super().wait(request), request.desired)

    def delete(self, request: Request) -> None:
        if request.existing.properties.get("skip_final_snapshot"):
            self._delete(request, SkipFinalSnapshot=True)
            return
        snapshot = final_snapshot(request.existing, request.owner.environment)
        try:
            self._delete(request, SkipFinalSnapshot=False, FinalDBSnapshotIdentifier=snapshot)
        except CallError as error:
            if not error.is_one_of(_TAKEN):
                raise
            # An interrupted deletion left this snapshot; another one could have the same second.
            snapshot = f"{snapshot}-{dt.datetime.now(dt.UTC):%Y%m%d%H%M%S%f}"
            self._delete(request, SkipFinalSnapshot=False, FinalDBSnapshotIdentifier=snapshot)

    def retains(self, existing: Actual) -> Sequence[Retained]:
        """Return the final snapshot, which is encrypted with the instance's key."""
        key = existing.properties.get("kms_key_id")
        if existing.properties.get("skip_final_snapshot") or not key:
            return ()
        return (Retained(existing.id, f"the final snapshot of {existing.id}", str(key)),)

    def left_by(self, existed: Actual, owner: Owner) -> Sequence[Left]:
        """Return the final snapshots of the instance; an interrupted deletion may have left further ones."""
        if existed.properties.get("skip_final_snapshot"):
            return ()
        name = final_snapshot(existed, owner.environment)
        snapshots = self.session.pages("rds", "describe_db_snapshots", "DBSnapshots", DBInstanceIdentifier=existed.id)
        names = sorted(str(snapshot["DBSnapshotIdentifier"]) for snapshot in snapshots)
        return [Left(found, "final snapshot") for found in names if found == name or found.startswith(f"{name}-")]

    def _delete(self, request: Request, **parameters: Any) -> None:
        """Delete an instance as soon as its current operation completes."""
        call = {"DBInstanceIdentifier": request.existing.id, **parameters}
        try:
            self.session.look("rds", "delete_db_instance", _NO_INSTANCE, **call)
        except CallError as error:
            if not error.is_one_of(_BUSY):
                raise
            if self._calm_down(request):
                self.session.look("rds", "delete_db_instance", _NO_INSTANCE, **call)
            elif self._status(request.existing.id) not in {"", DELETING}:
                raise


def _as_described(actual: Actual, desired: Mapping[str, Any]) -> Actual:
    return replace(actual, properties=rules.as_described(actual.properties, desired))
