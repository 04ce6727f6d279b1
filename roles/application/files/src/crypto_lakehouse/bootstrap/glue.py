# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases and tables of AWS Glue, over buckets of the foundation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from crypto_lakehouse.bootstrap import iceberg
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.tables import TIERS, TableSpec


def ensure(settings: Settings, ledger: Ledger, s3: Any) -> None:
    """Create and update databases and tables.

    Raises:
        SettingsError: when the name of a bucket was not given.
        BootstrapError: when a bucket is missing, or a table cannot be changed as described.
    """
    from crypto_lakehouse.objectstore import s3_client

    for tier in TIERS:
        _require_bucket(s3, settings.require(f"{tier}_bucket"))
    glue = s3_client(settings, service="glue", timeout_s=20, attempts=4)
    namespaces = {tier: _known(partial(glue.get_database, Name=settings.namespace(tier))) is not None for tier in TIERS}
    iceberg.ensure(settings, ledger, namespaces, partial(_read_metadata, settings, s3, glue))


def _require_bucket(s3: Any, name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        reason = {404: "is missing: deploy the AWS foundation first", 403: "may not be read by this identity"}
        raise BootstrapError(f"bucket {name} {reason.get(status, f'answers {status}')}") from error


def _read_metadata(settings: Settings, s3: Any, glue: Any, spec: TableSpec) -> iceberg.Metadata | None:
    """Return the metadata of a table, None when there is none.

    Raises:
        BootstrapError: when a table of the name is not one of Iceberg.
    """
    found = _known(partial(glue.get_table, DatabaseName=settings.namespace(spec.tier), Name=spec.name))
    if found is None:
        return None
    location = found["Table"].get("Parameters", {}).get("metadata_location")
    if not location:
        raise BootstrapError(
            f"table {settings.namespace(spec.tier)}.{spec.name} of Glue is not one of Iceberg: rename it"
        )
    return iceberg.metadata_file(s3, location)


def _known(get: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        return get()
    except ClientError as error:
        if error.response["Error"]["Code"] == "EntityNotFoundException":
            return None
        raise
