# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schema of an RDS instance, and its conversion from the answers of RDS. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..engine.resource import DELETING, READY, Actual
from ..engine.schema import Output, Property, Schema
from ..engine.value import Secret
from . import rds_rules as rules
from .kind import TAGS, owner_of, property_tags, tag_map

# Values that RDS does not return: the version of the password, and whether a deletion skips the final snapshot.
PASSWORD_TAG = "lakehouse:master-user-password-version"  # noqa: S105 - the tag, not the password
SKIP_TAG = "lakehouse:skip-final-snapshot"
OWN_TAGS = (PASSWORD_TAG, SKIP_TAG)
_EACH_RUN = "each run"

# A larger disk repairs a full one. An instance that was stopped to save cost stays stopped.
# Source: "Viewing Amazon RDS DB instance status" in the user guide of RDS.
_USABLE = frozenset({"available", "backing-up", "storage-full", "storage-optimization", "stopped"})
FAILED = frozenset(
    {
        "failed",
        "inaccessible-encryption-credentials",
        "inaccessible-encryption-credentials-recoverable",
        "incompatible-credentials",
        "incompatible-network",
        "incompatible-option-group",
        "incompatible-parameters",
        "incompatible-restore",
        "insufficient-capacity",
        "restore-error",
    }
)


# Parameters of creation and change by property; an empty text where none exists.
PARAMETERS = {
    "allocated_storage": ("AllocatedStorage", "AllocatedStorage"),
    "auto_minor_version_upgrade": ("AutoMinorVersionUpgrade", "AutoMinorVersionUpgrade"),
    "availability_zone": ("AvailabilityZone", ""),
    "backup_retention_period": ("BackupRetentionPeriod", "BackupRetentionPeriod"),
    "ca_certificate_identifier": ("CACertificateIdentifier", "CACertificateIdentifier"),
    "copy_tags_to_snapshot": ("CopyTagsToSnapshot", "CopyTagsToSnapshot"),
    "db_name": ("DBName", ""),
    "db_parameter_group_name": ("DBParameterGroupName", "DBParameterGroupName"),
    "db_subnet_group_name": ("DBSubnetGroupName", ""),
    "deletion_protection": ("DeletionProtection", "DeletionProtection"),
    "enabled_cloudwatch_logs_exports": ("EnableCloudwatchLogsExports", ""),
    "engine": ("Engine", ""),
    "engine_version": ("EngineVersion", "EngineVersion"),
    "iam_database_authentication_enabled": ("EnableIAMDatabaseAuthentication", "EnableIAMDatabaseAuthentication"),
    "instance_class": ("DBInstanceClass", "DBInstanceClass"),
    "iops": ("Iops", "Iops"),
    "kms_key_id": ("KmsKeyId", ""),
    "master_username": ("MasterUsername", ""),
    "max_allocated_storage": ("MaxAllocatedStorage", "MaxAllocatedStorage"),
    "monitoring_interval": ("MonitoringInterval", "MonitoringInterval"),
    "monitoring_role_arn": ("MonitoringRoleArn", "MonitoringRoleArn"),
    "multi_az": ("MultiAZ", "MultiAZ"),
    "performance_insights_enabled": ("EnablePerformanceInsights", "EnablePerformanceInsights"),
    "performance_insights_retention_period": (
        "PerformanceInsightsRetentionPeriod",
        "PerformanceInsightsRetentionPeriod",
    ),
    "port": ("Port", "DBPortNumber"),
    "preferred_backup_window": ("PreferredBackupWindow", "PreferredBackupWindow"),
    "preferred_maintenance_window": ("PreferredMaintenanceWindow", "PreferredMaintenanceWindow"),
    "publicly_accessible": ("PubliclyAccessible", "PubliclyAccessible"),
    "storage_encrypted": ("StorageEncrypted", ""),
    "storage_throughput": ("StorageThroughput", "StorageThroughput"),
    "storage_type": ("StorageType", "StorageType"),
    "vpc_security_group_ids": ("VpcSecurityGroupIds", "VpcSecurityGroupIds"),
}
# Properties that RDS returns under another name than that of their creation.
_ANSWERS = {
    "enabled_cloudwatch_logs_exports": "EnabledCloudwatchLogsExports",
    "iam_database_authentication_enabled": "IAMDatabaseAuthenticationEnabled",
    "performance_insights_enabled": "PerformanceInsightsEnabled",
}

SCHEMA = Schema(
    {
        "identifier": Property(
            required=True,
            replace=True,
            check=rules.identifier_fault,
            canonical=str.lower,
            purpose="Name, unique in the account and region. RDS stores it in lower case.",
        ),
        "engine": Property(default="postgres", choices=("postgres",), replace=True, purpose="Database engine."),
        "engine_version": Property(
            computed=True, purpose="Version, such as `16` (any minor release) or `16.4`. Chosen by RDS if omitted."
        ),
        "allow_major_version_upgrade": Property(
            "boolean",
            default=False,
            owned_by=_EACH_RUN,
            purpose="Whether to permit an upgrade of `engine_version` to another major version.",
        ),
        "instance_class": Property(required=True, purpose="Instance class, such as `db.t4g.medium`."),
        "allocated_storage": Property("integer", required=True, purpose="Storage in GiB. It can only grow."),
        "max_allocated_storage": Property("integer", purpose="Maximum storage in GiB for the autoscaling of RDS."),
        "storage_type": Property(default="gp3", choices=("gp3", "gp2", "io1", "io2"), purpose="Storage type."),
        "iops": Property("integer", computed=True, purpose="I/O operations per second. Chosen by RDS if omitted."),
        "storage_throughput": Property("integer", computed=True, purpose="Throughput in MiB/s, for gp3 only."),
        "storage_encrypted": Property("boolean", default=True, replace=True, purpose="Whether to encrypt the storage."),
        "kms_key_id": Property(
            computed=True,
            replace=True,
            check=rules.key_fault,
            canonical=lambda value: value.rpartition(":key/")[2],
            purpose="ARN of the encryption key. The account's key for RDS if omitted.",
        ),
        "db_name": Property(computed=True, replace=True, purpose="Name of the initial database."),
        "master_username": Property(default="postgres", replace=True, purpose="Name of the master user."),
        "master_user_password": Property(
            sensitive=True, purpose="Password of the master user, as `${secret.NAME}`. A tag contains its version."
        ),
        "manage_master_user_password": Property(
            "boolean",
            computed=True,
            purpose="Whether Secrets Manager manages the password. True if no password is set.",
        ),
        "multi_az": Property(
            "boolean", default=False, purpose="Whether to run a standby in another availability zone."
        ),
        "availability_zone": Property(computed=True, replace=True, purpose="Availability zone, without a standby."),
        "db_subnet_group_name": Property(
            computed=True, replace=True, canonical=str.lower, purpose="Name of the subnet group."
        ),
        "vpc_security_group_ids": Property(
            "set",
            computed=True,
            elements=Property("string"),
            purpose="IDs of security groups. The VPC's default group if omitted.",
        ),
        "port": Property("integer", computed=True, purpose="Port. 5432 if omitted."),
        "publicly_accessible": Property("boolean", default=False, purpose="Whether to assign a public address."),
        "backup_retention_period": Property(
            "integer",
            default=7,
            check=rules.backup_days_fault,
            purpose="Days to keep automated backups. 0 disables them.",
        ),
        "preferred_backup_window": Property(
            computed=True, check=rules.daily_window_fault, purpose="Window for backups, such as `02:00-03:00`, in UTC."
        ),
        "preferred_maintenance_window": Property(
            computed=True,
            check=rules.weekly_window_fault,
            canonical=str.lower,
            purpose="Window for maintenance, such as `sun:04:00-sun:05:00`, in UTC.",
        ),
        "apply_immediately": Property(
            "boolean",
            default=False,
            owned_by=_EACH_RUN,
            purpose="Whether to apply changes immediately instead of in the maintenance window.",
        ),
        "auto_minor_version_upgrade": Property("boolean", default=True, purpose="Whether RDS installs minor releases."),
        "copy_tags_to_snapshot": Property("boolean", default=True, purpose="Whether to copy tags to snapshots."),
        "deletion_protection": Property("boolean", default=False, purpose="Whether RDS refuses a deletion."),
        "skip_final_snapshot": Property(
            "boolean", default=False, purpose="Whether to delete the instance without a final snapshot."
        ),
        "performance_insights_enabled": Property(
            "boolean", default=False, purpose="Whether to enable Performance Insights."
        ),
        "performance_insights_retention_period": Property(
            "integer", computed=True, purpose="Days to keep data of Performance Insights. 7 if omitted."
        ),
        "monitoring_interval": Property(
            "integer",
            default=0,
            choices=(0, 1, 5, 10, 15, 30, 60),
            purpose="Interval of Enhanced Monitoring in seconds. 0 disables it.",
        ),
        "monitoring_role_arn": Property(purpose="ARN of the role for Enhanced Monitoring."),
        "iam_database_authentication_enabled": Property(
            "boolean", default=False, purpose="Whether to permit logins with IAM."
        ),
        "enabled_cloudwatch_logs_exports": Property(
            "set",
            elements=Property(choices=("postgresql", "upgrade", "iam-db-auth-error")),
            purpose="Logs to export to CloudWatch.",
        ),
        "db_parameter_group_name": Property(
            computed=True, purpose="Parameter group. The default of the version if omitted."
        ),
        "ca_certificate_identifier": Property(
            computed=True, purpose="Certificate authority of the server certificate."
        ),
        "tags": TAGS,
    },
    {
        "id": Output("Identifier."),
        "arn": Output("ARN."),
        "address": Output("Hostname."),
        "port": Output("Port.", changes_with=("port",)),
        "resource_id": Output("Resource ID, which IAM policies for logins contain."),
        "master_user_secret_arn": Output(
            "ARN of the secret with the master user's password, if Secrets Manager manages it.",
            changes_with=("manage_master_user_password", "master_user_password"),
        ),
    },
    protected=True,
    locked_by="deletion_protection",
    unique_by=("identifier",),
    check=rules.instance_rules,
)


def final_snapshot(existing: Actual, environment: str) -> str:
    """Return the name of the final snapshot of a deletion.

    A repeated deletion gets the same name; a later instance with the same identifier gets another one.
    """
    resource_id = str(existing.outputs.get("resource_id") or "").removeprefix("db-")
    parts = (existing.id, "" if environment in existing.id else environment, "final", resource_id)
    return re.sub(r"[^a-z0-9]+", "-", "-".join(filter(None, parts)).lower()).strip("-")


def is_busy(status: str) -> bool:
    """Return whether a status is temporary and rejects changes."""
    return status == "backing-up" or status not in {*_USABLE, *FAILED, "", DELETING}


def gives_iops(has: Mapping[str, Any]) -> bool:
    """Return whether RDS requires the IOPS again when storage grows; below this size it rejects them.

    Source: ModifyDBInstance in the API reference of RDS, and "gp3 storage" in its user guide.
    """
    return bool(has.get("iops")) and (has["storage_type"] in {"io1", "io2"} or has["allocated_storage"] >= 400)


def log_changes(wanted: Mapping[str, Any], has: Mapping[str, Any]) -> dict[str, list[str]]:
    after = set(wanted["enabled_cloudwatch_logs_exports"] or ())
    before = set(has.get("enabled_cloudwatch_logs_exports") or ())
    return {"EnableLogTypes": sorted(after - before), "DisableLogTypes": sorted(before - after)}


def read_instance(instance: Mapping[str, Any]) -> Actual:
    tags, arn = tag_map(instance.get("TagList")), instance.get("DBInstanceArn")
    endpoint, secret = instance.get("Endpoint") or {}, instance.get("MasterUserSecret") or {}
    outputs = {
        "id": instance["DBInstanceIdentifier"],
        "arn": arn,
        "address": endpoint.get("Address"),
        "port": endpoint.get("Port"),
        "resource_id": instance.get("DbiResourceId"),
        "master_user_secret_arn": secret.get("SecretArn"),
    }
    status = str(instance["DBInstanceStatus"])
    return Actual(
        outputs["id"],
        _properties(instance, tags),
        outputs,
        owner_of(tags),
        READY if status in _USABLE else status,
        (arn,) if arn else (),
    )


def _properties(instance: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    # Pending changes count as applied: they wait for the maintenance window, or are in progress.
    now = {**instance, **(instance.get("PendingModifiedValues") or {})}
    groups = [group for group in instance.get("VpcSecurityGroups") or () if group.get("Status") != "removing"]
    # A maximum equal to the current size disables storage autoscaling.
    most, has = now.get("MaxAllocatedStorage"), now.get("AllocatedStorage") or 0
    parameter_groups = [group["DBParameterGroupName"] for group in instance.get("DBParameterGroups") or ()]
    certificate = now.get("CACertificateIdentifier") or (instance.get("CertificateDetails") or {}).get("CAIdentifier")
    version = tags.get(PASSWORD_TAG)
    return {
        **{name: now.get(_ANSWERS.get(name, parameter)) for name, (parameter, _change) in PARAMETERS.items()},
        "identifier": instance["DBInstanceIdentifier"],
        "kms_key_id": instance.get("KmsKeyId") or None,
        "max_allocated_storage": most if most and most > has else None,
        "port": now.get("Port") or (instance.get("Endpoint") or {}).get("Port"),
        "db_subnet_group_name": (instance.get("DBSubnetGroup") or {}).get("DBSubnetGroupName"),
        "db_parameter_group_name": next(iter(parameter_groups), None),
        "vpc_security_group_ids": [group["VpcSecurityGroupId"] for group in groups],
        "monitoring_interval": instance.get("MonitoringInterval") or 0,
        "monitoring_role_arn": instance.get("MonitoringRoleArn") or None,
        "performance_insights_enabled": bool(instance.get("PerformanceInsightsEnabled")),
        "iam_database_authentication_enabled": bool(now.get("IAMDatabaseAuthenticationEnabled")),
        "enabled_cloudwatch_logs_exports": _exported(instance),
        "ca_certificate_identifier": certificate,
        "manage_master_user_password": bool(instance.get("MasterUserSecret")),
        "master_user_password": Secret(version) if version else None,
        "skip_final_snapshot": tags.get(SKIP_TAG) == "true",
        "tags": {key: value for key, value in property_tags(tags).items() if key not in OWN_TAGS},
    }


def _exported(instance: Mapping[str, Any]) -> list[str]:
    pending = (instance.get("PendingModifiedValues") or {}).get("PendingCloudwatchLogsExports") or {}
    logs = {*(instance.get("EnabledCloudwatchLogsExports") or ()), *(pending.get("LogTypesToEnable") or ())}
    return sorted(logs - set(pending.get("LogTypesToDisable") or ()))
