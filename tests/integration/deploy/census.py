# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lakehouse holds. Run by its own interpreter, with the settings of its bootstrap job."""

from __future__ import annotations

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


def arn_of(table_bucket: str) -> str:
    (found,) = (each["arn"] for each in s3tables.list_table_buckets()["tableBuckets"] if each["name"] == table_bucket)
    return str(found)


def show(value: Any) -> None:
    """Print what the test gets."""
    print(json.dumps(value))


def _tables(arn: str) -> list[str]:
    return sorted(
        f"{each['namespace'][0]}.{each['name']}" for each in s3tables.list_tables(tableBucketARN=arn)["tables"]
    )


def _rows(query: str, database: str = "postgres") -> list[str]:
    with psycopg.connect(settings.secret("database_admin_url") or "", dbname=database) as connection:
        return sorted(str(row[0]) for row in connection.execute(query).fetchall())


def identities(command: str) -> str:
    """Run a command of the object store's own shell and return what it prints."""
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


def rows() -> dict[str, int]:
    """Number of rows of each Iceberg table, and of runs in the database."""
    open_catalog = import_module("crypto_lakehouse.catalog").open_catalog
    names = [name for tables in census()["tables"].values() for name in tables]
    counts = {name: open_catalog(settings, name.partition(".")[0]).load_table(name).scan().count() for name in names}
    return {**counts, "pipeline runs": int(_rows("SELECT count(*) FROM pipeline_runs", "lakehouse")[0])}
