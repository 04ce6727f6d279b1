# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies, access lists and CORS rules of buckets, and identities, that bootstrap did not create; buckets of users."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from crypto_lakehouse.bootstrap import weed
from crypto_lakehouse.bootstrap.ledger import Foreign, Ledger
from crypto_lakehouse.bootstrap.storage import table_bucket
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.tables import TIERS

BUCKET: Final = "bucket"
TABLE_BUCKET: Final = "table-bucket"
BUCKET_POLICY: Final = "bucket-policy"
BUCKET_ACL: Final = "bucket-acl"
BUCKET_CORS: Final = "bucket-cors"
TABLE_BUCKET_POLICY: Final = "table-bucket-policy"
TABLE_POLICY: Final = "table-policy"
IDENTITY: Final = "s3-identity"
DISABLED_IDENTITY: Final = "s3-identity-without-access"
SERVICE_ACCOUNT: Final = "s3-service-account"
GROUP: Final = "s3-group"

IDENTITIES: Final = ("admin", "pipeline", "query", "verify", "backup", "restore", "backup-create", "backup-restore")
"""Names of the identities in the configuration of the object store."""
PARALLEL: Final = 8

_NO_POLICY: Final = (
    "NoSuchBucketPolicy",
    "NoSuchPolicy",
    "NoSuchCORSConfiguration",
    "NotFoundException",
    "NoSuchBucket",
    "NoSuchTable",
)
_NOT_IMPLEMENTED: Final = ("NotImplemented", "MethodNotAllowed")

Pending = tuple[Foreign, Callable[[], object] | None]


def report(settings: Settings, ledger: Ledger) -> None:
    """Record undescribed access and objects, and remove those that this run is requested to remove.

    Where Glue is the catalog, the store is AWS, whose policies and identities belong to the foundation.

    Raises:
        SettingsError: when an address or the name of a bucket was not given.
    """
    if settings.catalog_type == "glue":
        return
    from crypto_lakehouse.objectstore import s3_client

    s3 = s3_client(settings, timeout_s=20, attempts=2)
    s3tables = s3_client(settings, service="s3tables", timeout_s=20, attempts=2)
    iam = partial(s3_client, settings, service="iam", timeout_s=20, attempts=2)
    buckets = sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"])
    table_buckets = {bucket["name"]: str(bucket["arn"]) for bucket in _pages(s3tables.list_table_buckets)}
    described = {settings.require(f"{tier}_bucket") for tier in (*TIERS, "backups")} | {settings.backup_state_bucket}
    described_tables = {table_bucket(settings, tier) for tier in TIERS}
    for name in buckets:
        if name not in described and name not in table_buckets:
            ledger.report(Foreign(BUCKET, name))
    for name in sorted(table_buckets.keys() - described_tables):
        ledger.report(Foreign(TABLE_BUCKET, name))
    readers = [partial(_of_bucket, s3, name) for name in buckets]
    readers += [
        partial(_of_table_bucket, s3tables, name, arn, described=name in described_tables)
        for name, arn in sorted(table_buckets.items())
    ]
    readers.append(partial(_identities, iam, settings.store_master))
    with ThreadPoolExecutor(PARALLEL) as pool:
        for found in pool.map(lambda read: list(read()), readers):
            for foreign, remove in found:
                ledger.report(foreign, remove)


def _of_bucket(s3: Any, name: str) -> Iterator[Pending]:
    found = _known(partial(s3.get_bucket_policy, Bucket=name))
    if found is not None:
        detail = grants(json.loads(found["Policy"]))
        yield Foreign(BUCKET_POLICY, name, detail), partial(s3.delete_bucket_policy, Bucket=name)
    acl = _known(partial(s3.get_bucket_acl, Bucket=name))
    others = [] if acl is None else _of_others(acl)
    if others:
        yield Foreign(BUCKET_ACL, name, "; ".join(others)), partial(s3.put_bucket_acl, Bucket=name, ACL="private")
    cors = _known(partial(s3.get_bucket_cors, Bucket=name))
    if cors is not None:
        yield Foreign(BUCKET_CORS, name, _origins(cors)), partial(s3.delete_bucket_cors, Bucket=name)


def _origins(cors: Mapping[str, Any]) -> str:
    """Return the permissions of pages of other origins, as text."""
    rules = cors.get("CORSRules", ())
    told = [f"{', '.join(rule.get('AllowedMethods', ()))} from {', '.join(rule['AllowedOrigins'])}" for rule in rules]
    return "; ".join(told) or "no rule"


def _of_others(acl: Mapping[str, Any]) -> list[str]:
    owner = acl.get("Owner", {}).get("ID")
    granted = [(each["Grantee"], each["Permission"]) for each in acl.get("Grants", ())]
    return sorted(
        f"{grantee.get('URI', grantee.get('ID', '?')).rpartition('/')[2]}: {permission}"
        for grantee, permission in granted
        if grantee.get("ID") != owner or grantee.get("URI")
    )


def _of_table_bucket(s3tables: Any, name: str, arn: str, *, described: bool) -> Iterator[Pending]:
    if not described:
        found = _known(partial(s3tables.get_table_bucket_policy, tableBucketARN=arn))
        if found is not None:
            remove = partial(s3tables.delete_table_bucket_policy, tableBucketARN=arn)
            yield Foreign(TABLE_BUCKET_POLICY, name, grants(json.loads(found["resourcePolicy"]))), remove
    for table in _pages(s3tables.list_tables, tableBucketARN=arn):
        place = {"tableBucketARN": arn, "namespace": table["namespace"][0], "name": table["name"]}
        found = _known(partial(s3tables.get_table_policy, **place))
        if found is not None:
            full_name = f"{name}/{place['namespace']}.{place['name']}"
            detail = grants(json.loads(found["resourcePolicy"]))
            yield Foreign(TABLE_POLICY, full_name, detail), partial(s3tables.delete_table_policy, **place)


def _identities(client: Callable[[], Any], master: str | None) -> Iterator[Pending]:
    """Yield identities beside those of the configuration: the store keeps them among its own files.

    Without the store's shell, it reports users and groups only.
    """
    if master is None:
        iam = client()
        for user in iam.list_users().get("Users", ()):
            if user["UserName"] not in IDENTITIES:
                yield Foreign(IDENTITY, str(user["UserName"])), None
        for group in iam.list_groups().get("Groups", ()):
            yield Foreign(GROUP, str(group["GroupName"])), None
        return
    found = weed.read_identities(master)
    for user in found.get("identities") or ():
        if user.get("isStatic"):
            continue
        name = str(user["name"])
        if user.get("disabled"):
            yield Foreign(DISABLED_IDENTITY, name), None
        else:
            yield Foreign(IDENTITY, name, _rights(user)), partial(weed.disable_user, master, name)
    for account in found.get("serviceAccounts") or ():
        name = str(account["id"])
        detail = f"has the rights of {account.get('parentUser', '?')}"
        yield Foreign(SERVICE_ACCOUNT, name, detail), partial(weed.delete_service_account, master, name)
    for group in found.get("groups") or ():
        name = str(group["name"])
        yield Foreign(GROUP, name), partial(weed.delete_group, master, name)


def _rights(user: Mapping[str, Any]) -> str:
    return ", ".join([*(user.get("actions") or ()), *(user.get("policyNames") or ())]) or "no rights yet"


def grants(policy: Mapping[str, Any]) -> str:
    """Return the content of a policy's statements, as text."""
    statements = policy.get("Statement", ())
    listed = [statements] if isinstance(statements, Mapping) else list(statements)
    return "; ".join(_statement(each) for each in listed) or "no statement"


def _statement(statement: Mapping[str, Any]) -> str:
    principal = statement.get("Principal", statement.get("NotPrincipal", "?"))
    named = principal.values() if isinstance(principal, Mapping) else [principal]
    who = ", ".join(each for value in named for each in _texts(value))
    what = ", ".join(_texts(statement.get("Action", statement.get("NotAction", "?"))))
    negated = "all but " if "NotPrincipal" in statement else ""
    return f"{statement.get('Effect', '?')} {negated}{'everybody' if who == '*' else who}: {what}"


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _pages(read: Callable[..., Mapping[str, Any]], **arguments: Any) -> Iterable[Mapping[str, Any]]:
    """Yield every item of a paged list, whose only list of an answer is the items."""
    token: dict[str, Any] = {}
    while True:
        answer = read(**arguments, **token)
        yield from next((value for value in answer.values() if isinstance(value, list)), [])
        if not answer.get("continuationToken"):
            return
        token = {"continuationToken": answer["continuationToken"]}


def _known(get: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Return the result of `get`, None when the object does not exist or the store does not support the call."""
    from botocore.exceptions import ClientError

    try:
        return get()
    except ClientError as error:
        if error.response["Error"]["Code"] in (*_NO_POLICY, *_NOT_IMPLEMENTED):
            return None
        raise
