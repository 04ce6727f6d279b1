# SPDX-License-Identifier: GPL-3.0-or-later
"""Bearer tokens: the deployment's own, and a derived one for each named client."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from crypto_lakehouse.api.problems import Problem

SCHEME = HTTPBearer(auto_error=False, description="The token of this deployment, or one derived from it for a client")
MAIN: Final = ""
"""The name of the deployment's own token, which derived tokens cannot have."""
DERIVATION: Final = b"crypto-lakehouse api token "


class Tokens:
    """The valid tokens of the API, by the name under which their use is counted."""

    def __init__(self, token: str, names: Iterable[str]) -> None:
        # Digests have one length, so that the time of the comparison does not depend on the token's.
        self._expected = {MAIN: _digest(token)} | {name: _digest(derived_token(token, name)) for name in names}

    def name_of(self, given: str) -> str | None:
        """Return the name of a token, None for an invalid one."""
        digest, found = _digest(given), None
        for name, expected in self._expected.items():
            if hmac.compare_digest(digest, expected):
                found = name
        return found


def derived_token(token: str, name: str) -> str:
    """Return the token of the client `name`: it is derived from the deployment's own, and does not reveal it."""
    return f"{name}.{hmac.new(token.encode(), DERIVATION + name.encode(), sha256).hexdigest()}"


def require_token(tokens: Tokens) -> Callable[..., Awaitable[str]]:
    """Return a dependency that requires a valid bearer token, and returns the token's name."""

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Security(SCHEME)]) -> str:
        if given is None:
            raise _unauthorized('Bearer realm="crypto-lakehouse"', "a bearer token is needed")
        name = tokens.name_of(given.credentials)
        if name is None:
            raise _unauthorized('Bearer realm="crypto-lakehouse", error="invalid_token"', "the bearer token is wrong")
        return name

    return check


def _digest(text: str) -> bytes:
    return sha256(text.encode("latin-1", "replace")).digest()


def _unauthorized(challenge: str, detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": challenge})
