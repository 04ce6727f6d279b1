# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lakehouse orchestrator`: Prefect's server behind one password, with pages that call no other host.

Prefect requires its password for the API only: its pages and its documentation are public. They load scripts from
hosts on the internet and report to them, even where analytics are off.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from crypto_lakehouse.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS: Final = frozenset({"/api/health", "/api/ready"})
"""Read-only health, which the kubelet reads without a password; the catalogue lists them with the reason."""

POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Content security policy of the pages: they may load from and call this host only."""
PAGE_SETTINGS: Final = "/ui-settings"
HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
CHALLENGE: Final = b'Basic realm="crypto-lakehouse", charset="UTF-8"'
UNAUTHORIZED: Final = b'{"exception_message":"Unauthorized"}'
"""The body that Prefect's own clients require."""


class OnePassword:
    """Requires the account of the API before any other answer, and restricts browsers to this host.

    A websocket without the account passes, because Prefect requires it in the first message. A browser that has signed
    in sends the account with every request, so its pages need not request it again.
    """

    def __init__(self, app: ASGIApp, account: str) -> None:
        """`account` is `USER:PASSWORD`."""
        self._app, self._account = app, account
        # Digests have one length, so that the time of the comparison does not depend on the password's.
        self._expected = sha256(account.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 to a request without the account."""
        if scope["type"] == "websocket":
            await self._app(scope, self._signed_in(receive) if self._is_known(scope) else receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not _is_open(scope) and not self._is_known(scope):
            await _refuse(send)
        elif scope["path"].endswith(PAGE_SETTINGS):
            await self._app(_uncompressed(scope), receive, _without_sign_in(_with_headers(send)))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _signed_in(self, receive: Receive) -> Receive:
        """Return a channel whose authentication message contains the account, which the handshake has verified."""

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and _is_authentication(message.get("text")):
                return {**message, "text": json.dumps({"type": "auth", "token": self._account})}
            return message

        return receiving

    def _is_known(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _space, encoded = given[0].partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            account = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(sha256(account).digest(), self._expected)


def _is_authentication(text: str | None) -> bool:
    try:
        message = json.loads(text or "")
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "auth"


def _uncompressed(scope: Scope) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    return {**scope, "headers": headers}


def _without_sign_in(send: Send) -> Send:
    """Return a channel that tells Prefect's pages not to request an account."""
    head: list[Message] = []
    body = bytearray()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            head.append(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        told = _told_to_pages(bytes(body))
        headers = [(name, value) for name, value in head[0].get("headers", ()) if name != b"content-length"]
        await send({**head[0], "headers": [*headers, (b"content-length", str(len(told)).encode())]})
        await send({"type": "http.response.body", "body": told})

    return sending


def _told_to_pages(body: bytes) -> bytes:
    try:
        settings = json.loads(body)
    except ValueError:
        return body
    return json.dumps({**settings, "auth": None}).encode() if isinstance(settings, dict) else body


def _is_open(scope: Scope) -> bool:
    return scope["path"] in OPEN_PATHS and scope["method"] in ("GET", "HEAD")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return sending


async def _refuse(send: Send) -> None:
    length = str(len(UNAUTHORIZED)).encode()
    headers = [(b"www-authenticate", CHALLENGE), (b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 401, "headers": [*headers, *HEADERS]})
    await send({"type": "http.response.body", "body": UNAUTHORIZED})


def main(argv: Sequence[str]) -> int:
    """Serve Prefect until the process receives a signal."""
    argparse.ArgumentParser(prog="lakehouse orchestrator", description="Serve the orchestrator.").parse_args(argv)
    account = Settings.from_environment().require("prefect_server_api_auth_string")

    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    settings = get_current_settings().server
    server = uvicorn.Server(
        uvicorn.Config(
            OnePassword(create_app(final=True), account),
            host=settings.api.host,
            port=settings.api.port,
            timeout_keep_alive=settings.api.keepalive_timeout,
            log_level=settings.logging_level.lower(),
            proxy_headers=False,
            server_header=False,
        )
    )
    server.run()
    return 0 if server.started else 1
