# SPDX-License-Identifier: GPL-3.0-or-later
"""From a source file to the bronze tier: the raw object, and its lines as rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crypto_lakehouse.clean import split_line
from crypto_lakehouse.market import RawFile, raw_folder
from crypto_lakehouse.tables import Partition


def store_raw_object(client: Any, bucket: str, raw: RawFile) -> bool:
    """Upload the file to the bucket unless it exists; return whether it was uploaded.

    The key contains the content's hash, so an existing object has this content.

    Raises:
        botocore.exceptions.ClientError: when the object store rejects the request.
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
    """Return whether a file of this day is stored, with any content.

    Raises:
        botocore.exceptions.ClientError: when the object store rejects the request.
    """
    return bool(client.list_objects_v2(Bucket=bucket, Prefix=raw_folder(partition), MaxKeys=1).get("KeyCount"))


def bronze_rows(raw: RawFile) -> Iterator[dict[str, Any]]:
    """Yield the rows of `bronze.klines` for a file, without empty lines.

    Raises:
        MarketDataError: when the file cannot be unpacked or is not text.
    """
    origin = {"object_key": raw.object_key, "object_sha256": raw.sha256, "source": raw.source}
    for number, line in enumerate(raw.lines(), start=1):
        if line.strip():
            yield {**raw.partition.as_row(), **origin, "line_number": number, "line": line, **split_line(line)}
