# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of the object store, for SeaweedFS and for S3 itself."""

from __future__ import annotations

from functools import cache
from typing import Any

from crypto_lakehouse.settings import Settings


def s3_client(
    settings: Settings, *, service: str = "s3", timeout_s: float = 60.0, attempts: int = 4, transfers: bool = False
) -> Any:
    """Return a client of `service` ("s3", "s3tables", "iam" or "glue").

    Without an endpoint it connects to AWS; without keys it uses botocore's default credential chain, with which a pod
    gets the credentials of its own role. `transfers` adds boto3's methods for objects in several parts, whose import
    takes a tenth of a second.
    """
    # botocore takes a third of a second and 20 MB: only processes that use it import it.
    from botocore.config import Config

    config = Config(
        connect_timeout=min(timeout_s, 10.0),
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
        max_pool_connections=16,
    )
    return (_transferring_client if transfers else _plain_client)(
        service,
        region_name=settings.s3_region,
        endpoint_url=settings.catalog_uri if service == "glue" else settings.s3_endpoint,
        aws_access_key_id=settings.secret("s3_access_key"),
        aws_secret_access_key=settings.secret("s3_secret_key"),
        config=config,
    )


def _transferring_client(service: str, **options: Any) -> Any:
    import boto3

    # The stubs accept a literal name only.
    client: Any = boto3.client
    return client(service, **options)


def _plain_client(service: str, **options: Any) -> Any:
    return _session().create_client(service, **options)


@cache
def _session() -> Any:
    """Return the session that all clients of this process share, with its models of services."""
    from botocore.session import get_session

    return get_session()
