# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets and destinations for the tests of backups, on the object store of the session."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import services

from crypto_lakehouse.backup.destination import Stored
from crypto_lakehouse.backup.destination.requests import Endpoint, Keys, Requests
from crypto_lakehouse.backup.destination.s3 import S3Destination
from crypto_lakehouse.backup.model import Artifact, Source, Subject
from crypto_lakehouse.backup.mover import Item
from crypto_lakehouse.backup.reader import S3Reader

TIMEOUT_S = 60.0


def keys(store: services.ObjectStore, identity: str) -> Keys:
    """Return the keys of an identity."""
    found = store.credentials[identity]
    return Keys(found.access_key, found.secret_key)


def client(store: services.ObjectStore, identity: str = "admin") -> Any:
    """Return a client of an identity."""
    return Endpoint(store.endpoint, "us-east-1", timeout_s=TIMEOUT_S).client(keys(store, identity))


def new_bucket(store: services.ObjectStore, *, locked_days: int = 0, versions: bool = True) -> str:
    """Create a bucket for the identities of backups; it has object lock if a default retention is given."""
    name, admin = f"backup-{secrets.token_hex(4)}", client(store)
    admin.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked_days > 0)
    if locked_days:
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": locked_days}}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        admin.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=configuration)
    elif versions:
        admin.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def destination(
    store: services.ObjectStore, bucket: str, identity: str = "backup-create", **options: Any
) -> S3Destination:
    """Return a destination in a separate folder."""
    options = {"timeout_s": TIMEOUT_S, "endpoint_url": store.endpoint, "prefix": secrets.token_hex(4), **options}
    return S3Destination(region="us-east-1", bucket=bucket, create=keys(store, identity), **options)


def blocks(content: bytes, size: int = 1 << 20) -> Any:
    """Return the content in blocks, as in a stream."""
    return iter([content[start : start + size] for start in range(0, len(content), size)])


def after(**span: float) -> datetime:
    """Return a time relative to now."""
    return datetime.now(UTC) + timedelta(**span)


def client_uploads(place: S3Destination) -> list[str]:
    """Return the keys of unfinished uploads."""
    admin = place.requests.client
    found = admin.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix).get("Uploads", [])
    return [each["Key"] for each in found]


@dataclass(frozen=True)
class Sources:
    """Objects to back up, and the reader of their store."""

    items: list[Item]
    contents: list[bytes]
    read: S3Reader


def put_sources(store: services.ObjectStore, contents: list[bytes], *, versions: bool = True) -> Sources:
    """Put objects into a new bucket."""
    bucket, admin = new_bucket(store, versions=versions), client(store)
    items = []
    for number, content in enumerate(contents):
        key = f"raw/number {number}"
        answer = admin.put_object(Bucket=bucket, Key=key, Body=content)
        source = Source(bucket, key, len(content), answer["ETag"], answer.get("VersionId"))
        items.append(Item(source, Subject("raw", "raw")))
    endpoint = Endpoint(store.endpoint, "us-east-1", timeout_s=TIMEOUT_S)
    return Sources(items, contents, S3Reader(Requests(endpoint, keys(store, "admin"))))


def stored(artifact: Artifact) -> Stored:
    """Return an artifact that one request stored, as `stat` returns it."""
    return Stored(artifact.key, artifact.size, artifact.sha256, artifact.version_id, artifact.retained_until)


def versions(store: services.ObjectStore, place: S3Destination) -> list[str]:
    """Return the keys at a destination, one for each version; delete markers have none."""
    pages = client(store).get_paginator("list_object_versions").paginate(Bucket=place.bucket, Prefix=place.prefix)
    return sorted(each["Key"].removeprefix(place.prefix) for page in pages for each in page.get("Versions", []))
