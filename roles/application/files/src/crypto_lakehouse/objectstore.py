# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to a client of the object store, for SeaweedFS and for S3 itself."""

from __future__ import annotations

from typing import Any

from crypto_lakehouse.settings import Settings


def s3_client(settings: Settings, *, service: str = "s3", timeout_s: float = 60.0, attempts: int = 4) -> Any:
    """Return a boto3 client of `service` ("s3", "s3tables" or "glue").

    Without an endpoint it talks to AWS; without keys it uses boto3's default credential chain, which
    is how a pod gets the rights of its own role.
    """
    # boto3 costs half a second and 20 MB: only processes that use it pay.
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=min(timeout_s, 10.0),
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
        max_pool_connections=16,
    )
    # The stubs know a client by a literal name only.
    client: Any = boto3.client
    return client(
        service,
        region_name=settings.s3_region,
        endpoint_url=settings.catalog_uri if service == "glue" else settings.s3_endpoint,
        aws_access_key_id=settings.secret("s3_access_key"),
        aws_secret_access_key=settings.secret("s3_secret_key"),
        config=config,
    )
