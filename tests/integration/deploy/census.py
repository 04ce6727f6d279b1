# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of a lakehouse. Runs with the lakehouse's interpreter and the settings of its bootstrap job."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from typing import Any

# The checkers of these tests do not have the application's packages.
psycopg: Any = import_module("psycopg")
s3_client: Any = import_module("crypto_lakehouse.objectstore").s3_client

settings = import_module("crypto_lakehouse.settings").Settings.from_environment()
s3 = s3_client(settings)
s3tables = s3_client(settings, service="s3tables")
prefect = import_module("crypto_lakehouse.flows.deployments").PrefectApi(settings)

# Without the time: the contract test at the end of a restore runs a flow again.
RUNS = 'SELECT md5(ROW(flow, exchange, symbol, kline_interval, day, "rows", "bytes", source)::text) FROM pipeline_runs'


def arn_of(table_bucket: str) -> str:
    (found,) = (each["arn"] for each in s3tables.list_table_buckets()["tableBuckets"] if each["name"] == table_bucket)
    return str(found)


def show(value: Any) -> None:
    """Print the result for the test."""
    print(json.dumps(value))


def _tables(arn: str) -> list[str]:
    return sorted(
        f"{each['namespace'][0]}.{each['name']}" for each in s3tables.list_tables(tableBucketARN=arn)["tables"]
    )


def _rows(query: str, database: str = "postgres") -> list[str]:
    with psycopg.connect(settings.secret("database_admin_url") or "", dbname=database) as connection:
        return sorted(str(row[0]) for row in connection.execute(query).fetchall())


def identities(command: str) -> str:
    """Run a command of the object store's shell and return its output."""
    weed = import_module("crypto_lakehouse.bootstrap.weed")
    return str(weed._run(settings.store_master, command))


def keys_of(identity: str) -> list[dict[str, Any]]:
    """Return the access keys that the object store accepts from an identity."""
    weed = import_module("crypto_lakehouse.bootstrap.weed")
    found = weed.read_identities(settings.store_master)["identities"]
    return [key for each in found if each["name"] == identity and not each["disabled"] for key in each["credentials"]]


def database(statement: str, name: str = "postgres") -> None:
    """Run a statement as the administrator, outside of a transaction."""
    with psycopg.connect(settings.secret("database_admin_url") or "", dbname=name, autocommit=True) as connection:
        connection.execute(statement)


def deployments() -> list[dict[str, Any]]:
    found: Any = prefect.post("deployments/filter", {})
    return sorted(found, key=lambda each: str(each["entrypoint"]))


def census() -> dict[str, Any]:
    table_buckets = s3tables.list_table_buckets()["tableBuckets"]
    pools: Any = prefect.post("work_pools/filter", {})
    return {
        "buckets": sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"]),
        "tables": {bucket["name"]: _tables(bucket["arn"]) for bucket in table_buckets},
        "databases": _rows("SELECT datname FROM pg_database WHERE NOT datistemplate"),
        "roles": _rows("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'"),
        "deployments": [each["entrypoint"] for each in deployments()],
        "schedules": [len(each["schedules"]) for each in deployments()],
        "work pools": sorted(pool["name"] for pool in pools),
    }


def catalog_of(tier: str) -> Any:
    """Return the Iceberg catalog of a tier."""
    return import_module("crypto_lakehouse.catalog").open_catalog(settings, tier)


def table(name: str) -> Any:
    """Return an Iceberg table by ``TIER.NAME``."""
    return catalog_of(name.partition(".")[0]).load_table(name)


def names_of_tables() -> list[str]:
    return sorted(name for bucket in s3tables.list_table_buckets()["tableBuckets"] for name in _tables(bucket["arn"]))


def rows() -> dict[str, int]:
    """Return the number of rows of each Iceberg table, and of runs in the database."""
    counts = {name: int(table(name).scan().count()) for name in names_of_tables()}
    return {**counts, "pipeline runs": int(_rows("SELECT count(*) FROM pipeline_runs", "lakehouse")[0])}


def rows_of(name: str) -> list[str]:
    return sorted(map(repr, table(name).scan().to_arrow().to_pylist()))


def digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def raw() -> dict[str, str]:
    """Return the digest of each raw object."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=settings.bronze_bucket, Prefix="raw/")
    keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
    return {key: digest(s3.get_object(Bucket=settings.bronze_bucket, Key=key)["Body"].read()) for key in keys}


def content() -> dict[str, Any]:
    """Return digests of all rows, independent of their files, of raw objects, and of every recorded run."""
    names = names_of_tables()
    return {
        "tables": {name: digest(rows_of(name)) for name in names},
        "snapshots": {name: [each.snapshot_id for each in table(name).metadata.snapshots] for name in names},
        "uuids": {name: str(table(name).metadata.table_uuid) for name in names},
        "raw": raw(),
        "runs": _rows(RUNS, "lakehouse"),
    }
