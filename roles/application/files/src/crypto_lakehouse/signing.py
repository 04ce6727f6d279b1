# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed requests to AWS-like services over httpx: asynchronous, with real timeouts, and without a boto3 client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

import httpx
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.session import Session

from crypto_lakehouse.settings import Settings

COPIED_HEADERS = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-SHA256")


class CredentialsError(Exception):
    """The settings have no keys, and the default chain has none."""


@dataclass(slots=True)
class KeySource:
    """The keys of this process: those in its settings, else those of the default credential chain."""

    settings: Settings
    _chain: Any = field(default=None, init=False)

    async def keys(self) -> ReadOnlyCredentials:
        """Return the keys that are valid now.

        Raises:
            CredentialsError: when there are none.
        """
        access_key, secret_key = self.settings.secret("s3_access_key"), self.settings.secret("s3_secret_key")
        if access_key and secret_key:
            return ReadOnlyCredentials(access_key, secret_key, None)
        # The chain may call a metadata or token service, now and at each renewal.
        return await asyncio.to_thread(self._from_chain)

    def _from_chain(self) -> ReadOnlyCredentials:
        if self._chain is None:
            self._chain = Session().get_credentials()
        if self._chain is None:
            raise CredentialsError("no credentials for the object store")
        frozen: ReadOnlyCredentials = self._chain.get_frozen_credentials()
        return frozen


class Signer(httpx.Auth):
    """Signs each request with Signature Version 4 for one service and region."""

    requires_request_body = True

    def __init__(self, source: KeySource, service: str, region: str) -> None:
        self._source = source
        self._service = service
        self._region = region

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign the request and send it once."""
        keys = await self._source.keys()
        signed = AWSRequest(
            method=request.method,
            url=str(request.url),
            data=request.content,
            headers={"Host": request.url.netloc.decode(), "X-Amz-Content-SHA256": sha256(request.content).hexdigest()},
        )
        algorithm = S3SigV4Auth if self._service == "s3" else SigV4Auth
        algorithm(keys, self._service, self._region).add_auth(signed)
        for name in COPIED_HEADERS:
            if name in signed.headers:
                request.headers[name] = signed.headers[name]
        yield request


@cache
def aws_endpoint(service: str, region: str) -> str:
    """Return the address of an AWS service in a region, whatever its partition."""
    # Only the address is needed: the client gets placeholder keys, so that it does not search for real ones.
    nobody = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    session: Any = Session()
    client = session.create_client(service, region_name=region, **nobody)
    return str(client.meta.endpoint_url)
