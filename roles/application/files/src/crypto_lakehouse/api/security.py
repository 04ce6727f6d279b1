# SPDX-License-Identifier: GPL-3.0-or-later
"""The bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Annotated

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from crypto_lakehouse.api.problems import Problem

SCHEME = HTTPBearer(auto_error=False, description="The token of this deployment")


def require_token(token: str) -> Callable[..., Awaitable[None]]:
    """Return a dependency that lets a request pass only with this bearer token."""
    # Digests have one length, so that the time of the comparison tells nothing about the token's.
    expected = sha256(token.encode()).digest()

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Security(SCHEME)]) -> None:
        if given is None:
            raise _unauthorized('Bearer realm="crypto-lakehouse"', "a bearer token is needed")
        if not hmac.compare_digest(sha256(given.credentials.encode("latin-1", "replace")).digest(), expected):
            raise _unauthorized('Bearer realm="crypto-lakehouse", error="invalid_token"', "the bearer token is wrong")

    return check


def _unauthorized(challenge: str, detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": challenge})
