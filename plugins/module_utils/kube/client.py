# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to one API server: JSON over pooled connections, repeated where that is safe, with errors that say why."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube import streams
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.connection import Connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.credentials import Certificate, rejection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.errors import (
    ApiError,
    KubeError,
    UnreachableError,
    api_error,
    with_remedy,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.transport import make_pool, unreachable
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.version import COLLECTION_VERSION

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

Query = Mapping[str, Any] | Sequence[tuple[str, Any]]
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
# The same again means the same: an apply, a look, and a removal of what may be gone by then.
_REPEATABLE = frozenset({"GET", "HEAD", "DELETE"})
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
_CONNECT_S = 10.0
_INTERNAL_ATTEMPTS = 6


@dataclass(frozen=True)
class Patience:
    """How often and how long a request that may succeed later is repeated.

    attempts: on throttling, 5xx and lost connections. silent_attempts: while the server has never answered yet.
    longest_s: of a pause, also of one that the server asks for. webhook_s: how long a webhook may take to come up.
    """

    attempts: int = 10
    silent_attempts: int = 3
    first_s: float = 0.1
    longest_s: float = 30.0
    webhook_s: float = 90.0
    sleep: Callable[[float], object] = time.sleep

    def pause_s(self, attempt: int, asked_s: float | None = None) -> float:
        """Return how long to wait before the next attempt (0 is the first): exponential, the half of it by chance."""
        exponential_s = min(8.0, self.first_s * 2.0 ** min(attempt, 16))
        # Not for anything secret: it only spreads the requests of many threads.
        jittered_s = exponential_s * random.uniform(0.5, 1.0)  # noqa: S311
        return min(self.longest_s, jittered_s + (asked_s or 0.0))


@dataclass(frozen=True)
class Answer:
    """What came back. body: parsed JSON, or text. warnings: of this request.

    repeated: an earlier sending of the same request may have had its effect already.
    """

    status: int
    body: Any
    warnings: tuple[str, ...] = ()
    repeated: bool = False


class Client:
    """Everything that asks one API server in one run. Safe to use from several threads.

    calls: how many requests were sent, repetitions included. warnings: what the server remarked, each once.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        pool_size: int = 16,
        timeout_s: float = 30.0,
        patience: Patience | None = None,
    ) -> None:
        self.connection = connection
        self.calls = 0
        self.warnings: list[str] = []
        self._pool_size, self._timeout_s = pool_size, timeout_s
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._pool: PoolManager | None = None
        self._shown: Certificate | None = None
        self._answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            if self._pool is not None:
                self._pool.clear()
                self._pool = None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        repeat: bool | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Send a request and return the parsed answer (text where the server sends text). See `send`."""
        return self.send(
            method,
            path,
            query=query,
            body=body,
            content_type=content_type,
            accept=accept,
            repeat=repeat,
            timeout_s=timeout_s,
        ).body

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        repeat: bool | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Send a request, again where it may then succeed, and return the answer.

        What the server did not even begin (429, 503 with Retry-After, a webhook that is not up) is always sent again;
        where nobody knows (5xx, a lost connection) only with `repeat`, which by default is right for looks, deletes
        and server-side apply. Raises ApiError, UnreachableError, ConfigError.
        """
        repeatable = method in _REPEATABLE or content_type == APPLY if repeat is None else repeat
        target = f"{path}?{_encoded(query)}" if query else path
        payload = _payload(body)
        headers = {"Accept": accept, **({} if payload is None else {"Content-Type": content_type})}
        attempt, repeated, renewed = 0, False, False
        started_s = time.monotonic()
        while True:
            try:
                return self._once(method, target, payload, headers, timeout_s, repeated)
            except KubeError as error:
                if isinstance(error, ApiError) and error.is_unauthorized and not renewed:
                    renewed = self.connection.credential.renew()
                    if renewed:
                        continue
                if not self._again(error, attempt, repeatable, started_s):
                    raise self._explained(error) from None
                repeated = repeated or _is_ambiguous(error)
                asked_s = error.retry_after_s if isinstance(error, ApiError) else None
            self._patience.sleep(self._patience.pause_s(attempt, asked_s))
            attempt += 1

    def _again(self, error: KubeError, attempt: int, repeatable: bool, started_s: float) -> bool:
        if isinstance(error, UnreachableError):
            attempts = self._patience.attempts if self._answered else self._patience.silent_attempts
            return error.is_passing and (repeatable or not error.sent) and attempt + 1 < attempts
        if not isinstance(error, ApiError):
            return False
        if error.is_webhook_down:
            return time.monotonic() - started_s < self._patience.webhook_s
        safe = error.is_undone or (repeatable and error.is_passing)
        # What the server calls internal is as often for good.
        attempts = _INTERNAL_ATTEMPTS if error.status == 500 else self._patience.attempts
        return safe and attempt + 1 < min(attempts, self._patience.attempts)

    def _explained(self, error: KubeError) -> KubeError:
        if not isinstance(error, ApiError) or error.remedy:
            return error
        if error.is_unauthorized:
            return with_remedy(error, rejection(self.connection.credential))
        if error.is_forbidden and error.reason == "Forbidden":
            return with_remedy(error, "grant it by a Role or ClusterRole, or come with other credentials")
        return error

    def _once(
        self,
        method: str,
        target: str,
        payload: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float | None,
        repeated: bool,
    ) -> Answer:
        response = self._open(method, target, payload, headers, timeout_s or self._timeout_s)
        said = _warnings(response)
        with self._lock:
            self.warnings += [text for text in said if text not in self.warnings]
        return Answer(response.status, _checked(response, f"{method} {target.partition('?')[0]}"), said, repeated)

    def ask(self, path: str, *, timeout_s: float | None = None) -> Answer:
        """Send a GET once, and return the answer as text whatever its status: it may be of what the server stands for.

        Redirects are not followed, so that the credentials go nowhere else. Raises ApiError for what the API server
        itself refuses, UnreachableError, ConfigError.
        """
        response = self._open("GET", path, None, {"Accept": "*/*"}, timeout_s or self._timeout_s)
        if response.status >= 400 and _is_status(response):
            _checked(response, f"GET {path.partition('?')[0]}")
        return Answer(response.status, response.data.decode(errors="replace"))

    def _open(
        self,
        method: str,
        target: str,
        payload: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        *,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """Send once. Raises UnreachableError, ConfigError."""
        from urllib3 import HTTPHeaderDict, Timeout
        from urllib3.exceptions import HTTPError

        credential = self.connection.credential
        pool = self._connections()
        given = HTTPHeaderDict(headers)
        given.extend(self.connection.headers)
        given["User-Agent"] = f"crypto-lakehouse/{COLLECTION_VERSION}"
        if authorization := credential.authorization():
            given["Authorization"] = authorization
        if self.connection.compress and not stream:
            given["Accept-Encoding"] = "gzip"
        with self._lock:
            self.calls += 1
        try:
            response = pool.urlopen(
                method,
                f"{self.connection.server}{target}",
                body=payload,
                headers=given,
                redirect=False,
                retries=False,
                preload_content=not stream,
                timeout=Timeout(connect=min(_CONNECT_S, timeout_s), read=timeout_s),
            )
        except HTTPError as error:
            raise unreachable(error, self.connection) from None
        self._answered = True
        return response

    def _connections(self) -> PoolManager:
        """Return the pool, which a renewed client certificate makes anew."""
        shown = self.connection.credential.certificate()
        with self._lock:
            if self._pool is None or shown != self._shown:
                self._pool, self._shown = make_pool(self.connection, shown, self._pool_size), shown
            return self._pool

    def pages(self, path: str, *, query: Query = ()) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page. Raises as `send` does."""
        for page in streams.pages(self.request, path, query):
            yield from page.items

    def collect(self, path: str, *, query: Query = ()) -> streams.Collection:
        """Return all items of a list, and the version to watch from."""
        return streams.collect(self.request, path, query)

    def watch(
        self, path: str, *, query: Query = (), resource_version: str, timeout_s: float
    ) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """Yield ('ADDED' | 'MODIFIED' | 'DELETED', object) for what happens after a version, until the time is over.

        A lost connection is taken up again where it was. Raises ExpiredError when the server has forgotten the
        version, and as `send` does. Close the iterator to stop earlier.
        """
        return streams.watch(self._follow, self._patience, path, query, resource_version, timeout_s)

    def _follow(self, path: str, query: Sequence[tuple[str, Any]], timeout_s: float) -> BaseHTTPResponse:
        response = self._open("GET", f"{path}?{_encoded(query)}", None, {"Accept": JSON}, timeout_s, stream=True)
        if response.status != 200:
            try:
                _checked(response, f"GET {path}")
            except ApiError as error:
                raise self._explained(error) from None
        return response


def _encoded(query: Query) -> str:
    pairs = query.items() if isinstance(query, Mapping) else query
    texts = {True: "true", False: "false"}
    return urlencode([(key, texts[value] if isinstance(value, bool) else value) for key, value in pairs])


def _payload(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=dict).encode()


def _warnings(response: BaseHTTPResponse) -> tuple[str, ...]:
    texts = _WARNING.findall(", ".join(response.headers.getlist("Warning")))
    return tuple(re.sub(r"\\(.)", r"\1", text) for text in dict.fromkeys(texts))


def _checked(response: BaseHTTPResponse, action: str) -> Any:
    """Return what an answer says. Raises ApiError when it is a refusal, or not of an API server."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    text = response.data.decode(errors="replace")
    body: Any = text
    if kind == JSON:
        try:
            body = json.loads(text)
        except ValueError:
            kind = ""
    if response.status >= 300:
        if location := response.headers.get("Location"):
            body = f"redirected to {location.partition('?')[0]}"
        raise api_error(response.status, body, action=action, retry_after_s=_retry_after_s(response))
    if kind not in {JSON, "text/plain"}:
        raise api_error(response.status, text or "an empty answer", action=action)
    return body


def _is_status(response: BaseHTTPResponse) -> bool:
    """Return whether a refusal is in the API server's own words."""
    try:
        body = json.loads(response.data)
    except ValueError:
        return False
    return isinstance(body, dict) and (body.get("apiVersion"), body.get("kind")) == ("v1", "Status")


def _retry_after_s(response: BaseHTTPResponse) -> float | None:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        # A date, which API servers do not send, or nothing.
        return None


def _is_ambiguous(error: KubeError) -> bool:
    """Return whether the request may have had its effect all the same."""
    if isinstance(error, UnreachableError):
        return error.sent
    return isinstance(error, ApiError) and not error.is_undone
