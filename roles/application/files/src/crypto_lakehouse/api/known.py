# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers from the result cache, before the framework reads a request.

A repeated statement needs its authorization, one read of the catalog's pointer and one of the cache. Any other request,
including a wrong token or a malformed body, goes to the application with its body unread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crypto_lakehouse.api.security import Tokens
from crypto_lakehouse.metrics import Metrics
from crypto_lakehouse.query.engine import QueryEngine
from crypto_lakehouse.query.locate import CatalogError
from crypto_lakehouse.query.results import StoredResult
from crypto_lakehouse.signing import CredentialsError

PATH: Final = "/v1/query"
BEARER: Final = b"bearer "
MEMBERS: Final = frozenset({"sql", "max_rows"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Route:
    path: str


class KnownAnswers:
    """Answers a statement with a cached result; passes all other requests on."""

    def __init__(self, app: ASGIApp, engine: QueryEngine, tokens: Tokens, metrics: Metrics) -> None:
        self._app = app
        self._engine = engine
        self._tokens = tokens
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != PATH or not self._fits(scope):
            await self._app(scope, receive, send)
            return
        request = _Replayed(receive)
        stored = await self._known(await request.body())
        if stored is None:
            await self._app(scope, request.receive, send)
            return
        scope["route"] = _Route(PATH)
        self._metrics.observe_query(None)
        await send({"type": "http.response.start", "status": 200, "headers": _headers(stored)})
        await send({"type": "http.response.body", "body": stored.body})

    def _fits(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"")
        if headers.get(b"content-type", b"").lower() != b"application/json" or given[:7].lower() != BEARER:
            return False
        return self._tokens.name_of(given[7:].decode("latin-1")) is not None

    async def _known(self, body: bytes | None) -> StoredResult | None:
        request = _parsed(body) if body else None
        if request is None:
            return None
        try:
            return await self._engine.known(request["sql"], request.get("max_rows"))
        except (CatalogError, CredentialsError, httpx.HTTPError):
            # The application repeats the lookup, and reports the error.
            return None


class _Replayed:
    """The messages of a request, which can be read again."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: list[Message] = []
        self._error: HTTPException | None = None

    async def body(self) -> bytes | None:
        """Return the whole body, None when it is incomplete or too large."""
        parts = []
        while True:
            try:
                message = await self._receive()
            except HTTPException as error:
                self._error = error
                return None
            self._read.append(message)
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    async def receive(self) -> Message:
        """Return the messages again, then those that follow."""
        if self._read:
            return self._read.pop(0)
        if self._error is not None:
            raise self._error
        return await self._receive()


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or not request.keys() <= MEMBERS or not isinstance(request.get("sql"), str):
        return None
    rows = request.get("max_rows")
    fits = rows is None or (isinstance(rows, int) and not isinstance(rows, bool) and rows >= 1)
    return request if fits and _is_unicode(request["sql"]) else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _headers(stored: StoredResult) -> list[tuple[bytes, bytes]]:
    pairs: Mapping[str, str] = {"content-type": "application/json", "content-length": str(len(stored.body))}
    return [(name.encode(), value.encode()) for name, value in {**pairs, **stored_headers(stored)}.items()]


def stored_headers(stored: StoredResult) -> dict[str, str]:
    """Return the headers with the address of a stored result, and the entity tag of its bytes."""
    return {"content-location": f"/v1/results/{stored.id}", "etag": stored.etag}
