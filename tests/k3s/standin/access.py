# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens, and authenticated requests to a supervisor."""

from __future__ import annotations

import base64
import http.client
import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.k3s.standin import tls
from tests.k3s.standin.common import FatalError, log

HASH_LENGTH = 64
BOOTSTRAP_TOKEN = re.compile(r"^[a-z0-9]{6}\.[a-z0-9]{16}$")
REQUEST_LIMIT_S = 10.0


class RequestError(FatalError):
    """A failed request; `status` is 0 without an answer."""

    def __init__(self, message: str, status: int = 0, body: str = "") -> None:
        super().__init__(message)
        self.status, self.body = status, body


@dataclass(frozen=True)
class Token:
    """A parsed token."""

    ca_hash: str
    user: str
    password: str


def parse_token(text: str) -> Token:
    """Return the parts of a token; raise FatalError with K3s' message for another format."""
    if not text:
        raise FatalError("token must not be empty")
    if not text.startswith("K10"):
        return Token("", "", text)
    digest, separator, credentials = text[3:].partition("::")
    if not separator:
        digest, credentials = "", digest
    if digest and len(digest) != HASH_LENGTH:
        raise FatalError("invalid token CA hash length")
    user, _separator, password = credentials.partition(":")
    if BOOTSTRAP_TOKEN.match(credentials):
        return Token(digest, "", credentials)
    if not password:
        raise FatalError("invalid token format")
    return Token(digest, user, password)


@dataclass
class Access:
    """A supervisor, and the credentials of requests to it: a password, or a certificate without its suffix."""

    url: str
    ca: str = ""
    user: str = ""
    password: str = ""
    certificate: Path | None = None

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        limit_s: float = REQUEST_LIMIT_S,
    ) -> str:
        """Return the body of the answer; raise RequestError for other statuses than 2xx."""
        context = tls.client_context(self.ca, self.certificate)
        connection = http.client.HTTPSConnection(urlsplit(self.url).netloc, timeout=limit_s, context=context)
        sent = {"Content-Type": "application/json", "Connection": "close", **(headers or {})}
        if self.user:
            sent["Authorization"] = f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise RequestError(f'{method.capitalize()} "{self.url}{path}": {error}') from error
        finally:
            connection.close()
        if response.status // 100 != 2:
            raise RequestError(f"{self.url}{path}: {response.status} {response.reason}", response.status, text)
        return text

    def get(self, path: str, headers: dict[str, str] | None = None) -> str:
        """Return the body of the answer to a GET request."""
        return self.request("GET", path, headers=headers)


def validate(url: str, text: str, user: str) -> Access:
    """Fetch the CA of a server, verify the server with it, compare it with the token, and return the access."""
    token, url = parse_token(text), url.rstrip("/")
    if urlsplit(url).scheme != "https":
        raise FatalError(f"only https:// URLs are supported, invalid scheme: {url}")
    try:
        ca = Access(url).get("/cacerts")
        Access(url, ca).get("/cacerts")
    except RequestError as error:
        raise FatalError(f"failed to get CA certs: {error}") from None
    if not token.ca_hash:
        log(
            "warning",
            "Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA hash.",
        )
    elif token.ca_hash != (found := tls.ca_hash(ca)):
        raise FatalError(f"token CA hash does not match the Cluster CA certificate hash: {token.ca_hash} != {found}")
    return Access(url, ca, user, token.password)
