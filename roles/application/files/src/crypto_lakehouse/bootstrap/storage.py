# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets with their lifecycle, table buckets with their access rules, namespaces and Iceberg tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from crypto_lakehouse.bootstrap import glue, iceberg
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger
from crypto_lakehouse.settings import Settings, Tier
from crypto_lakehouse.tables import TIERS, TableSpec

log = logging.getLogger("lakehouse.bootstrap")

ARCHIVE_DAYS: Final[Mapping[str, int]] = {"STANDARD_IA": 30, "GLACIER": 90, "DEEP_ARCHIVE": 365}
"""Age in days at which a raw object moves to the colder storage class."""

_NO_LOCK: Final = ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration")
_ABSENT: Final = ("NoSuchNamespace", "NoSuchPolicy", "NoSuchTable", "NotFoundException")

OLD_VERSION_DAYS: Final = 30
UNFINISHED_UPLOAD_DAYS: Final = 7

READ_TABLES: Final = (
    "s3tables:GetTableBucket",
    "s3tables:GetNamespace",
    "s3tables:ListNamespaces",
    "s3tables:ListTables",
    "s3tables:GetTable",
    "s3tables:GetTableData",
    "s3tables:GetTableMetadataLocation",
)

CLEAN_UP: Final[Mapping[str, Any]] = {
    "ID": "clean-up",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "Expiration": {"ExpiredObjectDeleteMarker": True},
    "NoncurrentVersionExpiration": {"NoncurrentDays": OLD_VERSION_DAYS},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_UPLOAD_DAYS},
}

ABORT_UPLOADS: Final[Mapping[str, Any]] = {
    "ID": "abort-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_UPLOAD_DAYS},
}
"""The only rule of a bucket of backups: a restore reads objects by the version that was current at the backup."""


def archive_rule(status: str) -> dict[str, Any]:
    """Return the rule that moves raw objects to colder classes; table files are never under its prefix."""
    return {
        "ID": "archive-raw",
        "Status": status,
        "Filter": {"Prefix": "raw/"},
        "Transitions": [{"Days": days, "StorageClass": name} for name, days in ARCHIVE_DAYS.items()],
    }


BUCKET_RULES: Final[Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]] = {
    "bronze": [[archive_rule(status), CLEAN_UP] for status in ("Enabled", "Disabled")],
    "silver": [[CLEAN_UP]],
    "gold": [[CLEAN_UP]],
    "backups": [[ABORT_UPLOADS]],
}
"""Accepted lifecycle rules by bucket, the preferred ones first."""


def ensure(settings: Settings, ledger: Ledger) -> None:
    """Create and update buckets, table buckets, namespaces and tables.

    Where Glue is the catalog, the foundation owns the buckets: they are read and not changed.

    Raises:
        SettingsError: when an address or the name of a bucket was not given.
        BootstrapError: when the object store does not answer or rejects a request, or a table cannot be changed.
    """
    from crypto_lakehouse.objectstore import s3_client

    s3 = s3_client(settings, timeout_s=20, attempts=2)
    if settings.catalog_type == "glue":
        glue.ensure(settings, ledger, s3)
        return
    present = ledger.wait_for("the object store", partial(_bucket_names, s3), (ConnectionError,))
    for tier in (*TIERS, "backups"):
        name = settings.require(f"{tier}_bucket")
        ledger.ensure(f"bucket {name}", name in present, partial(_create_bucket, s3, settings, name))
        _ensure_versioning(s3, ledger, name, exists=name in present)
        _ensure_lifecycle(s3, ledger, name, exists=name in present, rules=BUCKET_RULES[tier])
    _ensure_backups(s3, settings, ledger, present)
    s3tables = s3_client(settings, service="s3tables", timeout_s=20, attempts=2)
    arns = {tier: _ensure_table_bucket(s3, s3tables, settings, ledger, tier) for tier in TIERS}
    namespaces = {tier: bool(arn) and _has_namespace(s3tables, str(arn), tier) for tier, arn in arns.items()}
    iceberg.ensure(settings, ledger, namespaces, partial(_read_metadata, s3, s3tables, arns))


def _bucket_names(s3: Any) -> set[str]:
    """Return the names of all buckets.

    Raises:
        ConnectionError: when the object store does not answer, or not yet.
    """
    from botocore import exceptions

    try:
        return {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
        raise ConnectionError(str(error)) from error
    except exceptions.ClientError as error:
        # A store whose components are still connecting.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
            raise ConnectionError(str(error)) from error
        raise


def _create_bucket(s3: Any, settings: Settings, name: str) -> None:
    # us-east-1 is the only region that must not be named.
    region = settings.s3_region
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **place)


def _ensure_backups(s3: Any, settings: Settings, ledger: Ledger, present: Collection[str]) -> None:
    """Protect stored backups against deletion, and create the bucket of their locks, where backups are taken."""
    state = settings.backup_state_bucket
    if state is None:
        return
    name = settings.require("backups_bucket")
    wanted = {"Mode": "COMPLIANCE", "Days": settings.backup_retention_days}
    protected = name in present and _default_retention(s3, name) == wanted
    ledger.ensure(f"bucket {name}: object lock", protected, partial(_put_retention, s3, name, wanted))
    ledger.ensure(f"bucket {state}", state in present, partial(_create_bucket, s3, settings, state))
    _ensure_lifecycle(s3, ledger, state, exists=state in present, rules=[[ABORT_UPLOADS]])


def _default_retention(s3: Any, name: str) -> Any:
    from botocore.exceptions import ClientError

    try:
        found = s3.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _NO_LOCK:
            return None
        raise
    return found.get("Rule", {}).get("DefaultRetention")


def _put_retention(s3: Any, name: str, retention: Mapping[str, Any]) -> None:
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": dict(retention)}}
    s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=rule)


def _ensure_versioning(s3: Any, ledger: Ledger, name: str, *, exists: bool) -> None:
    enabled = exists and s3.get_bucket_versioning(Bucket=name).get("Status") == "Enabled"
    change = partial(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    ledger.ensure(f"bucket {name}: versioning", enabled, change)


def _ensure_lifecycle(
    s3: Any, ledger: Ledger, name: str, *, exists: bool, rules: Sequence[Sequence[Mapping[str, Any]]]
) -> None:
    found = _lifecycle(s3, name) if exists else []
    accepted = [[dict(rule) for rule in choice] for choice in rules]
    ledger.ensure(f"bucket {name}: lifecycle", found in accepted, partial(_put_lifecycle, s3, name, accepted))


def _lifecycle(s3: Any, name: str) -> list[Any]:
    from botocore.exceptions import ClientError

    try:
        rules: list[Any] = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchLifecycleConfiguration":
            return []
        raise
    return rules


def _put_lifecycle(s3: Any, name: str, choices: list[list[Any]]) -> None:
    """Write the first rules that the store accepts: one without colder classes rejects an enabled transition."""
    from botocore.exceptions import ClientError

    for rules in choices:
        try:
            s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
        except ClientError as error:
            if rules is choices[-1] or error.response["Error"]["Code"] != "NotImplemented":
                raise
            log.info("bucket %s: the object store has no colder classes; its archive rule is kept disabled", name)
        else:
            return


def _ensure_table_bucket(s3: Any, s3tables: Any, settings: Settings, ledger: Ledger, tier: Tier) -> str | None:
    """Create or update a tier's table bucket; return the ARN that it had before, None when it was missing."""
    name = table_bucket(settings, tier)
    arn = _table_bucket_arn(s3tables, name)
    ledger.ensure(f"table bucket {name}", arn is not None, partial(s3tables.create_table_bucket, name=name))
    backup = settings.backup_state_bucket is not None
    closed = arn is not None and _policy(s3tables, arn) == access_policy(arn, tier, backup=backup)
    ledger.ensure(f"table bucket {name}: policy", closed, partial(_put_policy, s3tables, name, tier, backup=backup))
    _ensure_lifecycle(s3, ledger, name, exists=arn is not None, rules=[[CLEAN_UP]])
    return arn


def table_bucket(settings: Settings, tier: Tier) -> str:
    """Return the name of the tier's table bucket."""
    return settings.warehouse(tier).removeprefix("s3://")


def access_policy(arn: str, tier: Tier, *, backup: bool = False) -> dict[str, Any]:
    """Return the policy of a tier's tables: the object store's identities are named after their service.

    backup: whether backups are taken, whose identities read and restore the tables.
    """
    readers = [*(["query"] if tier == "gold" else []), "verify", *(["backup"] if backup else [])]
    grants: Mapping[str, tuple[list[str], list[str]]] = {
        "write": (["pipeline", *(["restore"] if backup else [])], ["s3tables:*"]),
        "read": (readers, list(READ_TABLES)),
    }
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": name,
                "Effect": "Allow",
                "Principal": {"AWS": identities},
                "Action": actions,
                "Resource": [arn, f"{arn}/*"],
            }
            for name, (identities, actions) in grants.items()
        ],
    }


def _policy(s3tables: Any, arn: str) -> Any:
    found = _known(partial(s3tables.get_table_bucket_policy, tableBucketARN=arn))
    return None if found is None else json.loads(found["resourcePolicy"])


def _put_policy(s3tables: Any, name: str, tier: Tier, *, backup: bool) -> None:
    # The bucket may be new, so its ARN is read here.
    arn = _table_bucket_arn(s3tables, name)
    if arn is None:
        raise BootstrapError(f"table bucket {name} is gone")
    s3tables.put_table_bucket_policy(
        tableBucketARN=arn, resourcePolicy=json.dumps(access_policy(arn, tier, backup=backup))
    )


def _table_bucket_arn(s3tables: Any, name: str) -> str | None:
    found = s3tables.list_table_buckets(prefix=name).get("tableBuckets") or []
    return next((str(bucket["arn"]) for bucket in found if bucket["name"] == name), None)


def _has_namespace(s3tables: Any, arn: str, name: str) -> bool:
    return _known(partial(s3tables.get_namespace, tableBucketARN=arn, namespace=name)) is not None


def _read_metadata(s3: Any, s3tables: Any, arns: Mapping[Tier, str | None], spec: TableSpec) -> iceberg.Metadata | None:
    get = partial(s3tables.get_table, tableBucketARN=arns[spec.tier], namespace=spec.tier, name=spec.name)
    found = _known(get)
    return None if found is None else iceberg.metadata_file(s3, found["metadataLocation"])


def _known(get: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Return the result of `get`, None for a missing object: S3 Tables and SeaweedFS report that differently."""
    from botocore.exceptions import ClientError

    try:
        return get()
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise
