# SPDX-License-Identifier: GPL-3.0-or-later
"""From a file as it came to the bronze tier: the raw object, and its lines as rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crypto_lakehouse.clean import split_line
from crypto_lakehouse.market import RawFile, raw_folder
from crypto_lakehouse.tables import Partition


def store_raw_object(client: Any, bucket: str, raw: RawFile) -> bool:
    """Put the file into the bucket unless it is there; return whether it was put.

    The key holds the content's hash, so an object that is there has this content.

    Raises:
        botocore.exceptions.ClientError: when the object store refuses.
    """
    from botocore.exceptions import ClientError

    if _exists(client, bucket, raw.object_key):
        return False
    try:
        client.put_object(
            Bucket=bucket,
            Key=raw.object_key,
            Body=raw.content,
            IfNoneMatch="*",
            Metadata={"source": raw.source, "uri": raw.uri, "sha256": raw.sha256},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise
    return True


def _exists(client: Any, bucket: str, key: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def has_raw_object(client: Any, bucket: str, partition: Partition) -> bool:
    """Return whether a file of this day has been stored, whatever it holds.

    Raises:
        botocore.exceptions.ClientError: when the object store refuses.
    """
    return bool(client.list_objects_v2(Bucket=bucket, Prefix=raw_folder(partition), MaxKeys=1).get("KeyCount"))


def bronze_rows(raw: RawFile) -> Iterator[dict[str, Any]]:
    """Yield the rows of `bronze.klines` for a file; empty lines carry nothing and are left out.

    Raises:
        MarketDataError: when the file cannot be unpacked or is not text.
    """
    origin = {"object_key": raw.object_key, "object_sha256": raw.sha256, "source": raw.source}
    for number, line in enumerate(raw.lines(), start=1):
        if line.strip():
            yield {**raw.partition.as_row(), **origin, "line_number": number, "line": line, **split_line(line)}
