# SPDX-License-Identifier: GPL-3.0-or-later
"""Middleware of every request: body limit, metrics, log line, and the answer to unhandled errors."""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crypto_lakehouse.api.problems import problem_response
from crypto_lakehouse.metrics import OTHER, Metrics

SERVER_ERROR: Final = 500
TOO_LARGE: Final = 413
CLOSE: Final = {"Connection": "close"}
"""The rest of a body that is too large is not read, so its connection cannot be used again."""
MAX_LOGGED_PATH: Final = 200
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
NO_STORE: Final = (b"cache-control", b"no-store")
PROBES: Final = frozenset({"/health", "/ready", "/live", "/metrics"})

access_log = logging.getLogger("crypto_lakehouse.access")
log = logging.getLogger(__name__)


class Observed:
    """Counts and logs every request; converts an unhandled error into a problem document."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), NOSNIFF]
                cached = any(name == NO_STORE[0] for name, _value in headers)
                message["headers"] = headers if cached else [*headers, NO_STORE]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        except Exception:
            log.exception("a request failed")
            if not status:
                answer = problem_response(SERVER_ERROR, "internal", "the service failed on this request")
                await answer(scope, receive, observed_send)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, duration_s: float) -> None:
        endpoint = getattr(scope.get("route"), "path", OTHER)
        failed = status >= SERVER_ERROR and endpoint not in PROBES
        self._metrics.observe_request(scope["method"], endpoint, duration_s, failed=failed)
        # The raw path is percent-encoded, so it cannot forge a log line; a query string could contain a secret.
        path = scope.get("raw_path", b"").decode("ascii", "replace")[:MAX_LOGGED_PATH]
        level = logging.DEBUG if endpoint in PROBES and status < SERVER_ERROR else logging.INFO
        client = (scope.get("client") or ("-",))[0]
        access_log.log(level, '%s "%s %s" %s %.1f ms', client, scope["method"], path, status or "-", duration_s * 1000)


class BodyLimit:
    """Rejects a request body of more than `max_bytes`, whatever its headers say."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless its body is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_length(scope) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # FastAPI passes on only this type of exception when it reads a body.
                raise HTTPException(TOO_LARGE, headers=CLOSE)
            return message

        await self._app(scope, limited_receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"a request may hold {self._max_bytes} bytes at most"
        await problem_response(TOO_LARGE, "too-large", detail, CLOSE)(scope, receive, send)


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
