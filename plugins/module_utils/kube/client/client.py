# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send requests to one API server: JSON over pooled connections, safe retries, and errors with causes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ...shared.version import COLLECTION_VERSION
from . import streams
from .connection import Connection
from .credentials import Certificate, rejection
from .errors import ApiError, IdentityError, KubeError, with_remedy
from .paths import check_path, place_in
from .patience import Patience, Tried, is_ambiguous
from .transport import make_pool, unreachable
from .wire import JSON, Query, checked, is_status, payload_of, target_of, warnings_of

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["APPLY", "JSON", "JSON_PATCH", "MERGE", "METADATA", "METADATA_LIST", "Answer", "Client", "Patience", "Query"]
_Given = TypeVar("_Given")
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
# For `accept` of a request: the answer contains the object's metadata only, which is a small part of a large object.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# Methods without a second effect: an apply, a read, and a deletion, whose object may already be gone.
_REPEATABLE = frozenset({"GET", "HEAD", "DELETE"})
_CONNECT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """Answer to a request. body: parsed JSON, or text. warnings: of this request.

    repeated: whether an earlier attempt of the same request may have had its effect already.
    """

    status: int
    body: Any
    warnings: tuple[str, ...] = ()
    repeated: bool = False


class Client:
    """Client of one API server for one run. Safe to use from several threads.

    calls: number of requests, including retries. warnings: distinct warnings of the server.
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
        """Close all idle connections."""
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
        """Send a request and return the parsed answer, or text where the server sends text. See `send`."""
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
        """Send a request, retry it where it may then succeed, and return the answer.

        Requests that the server did not process (429, 503 with Retry-After, a webhook that is not ready) are always
        retried. Requests with an unknown effect (5xx, a lost connection) are retried only with `repeat`. It defaults to
        true for reads, deletions and server-side applies. Raises PathError before anything is sent, ApiError,
        UnreachableError, ConfigError.
        """
        repeatable = method in _REPEATABLE or content_type == APPLY if repeat is None else repeat
        target = target_of(path, query)
        payload = payload_of(body)
        headers = {"Accept": accept, **({} if payload is None else {"Content-Type": content_type})}
        attempt, repeated = 0, False
        started_s = time.monotonic()
        while True:
            try:
                return self._once(method, target, payload, headers, timeout_s, repeated)
            except KubeError as error:
                tried = Tried(attempt + 1, time.monotonic() - started_s, is_silent=not self._answered)
                if not self._patience.allows(error, tried, repeatable=repeatable):
                    raise self._explained(error) from None
                repeated = repeated or is_ambiguous(error)
                asked_s = error.retry_after_s if isinstance(error, ApiError) else None
            self._patience.sleep(self._patience.pause_s(attempt, asked_s))
            attempt += 1

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
        def ask(authorization: str) -> Answer:
            response = self._open(method, target, payload, headers, timeout_s or self._timeout_s, authorization)
            said = warnings_of(response)
            with self._lock:
                self.warnings += [text for text in said if text not in self.warnings]
            return Answer(response.status, checked(response, f"{method} {target.partition('?')[0]}"), said, repeated)

        return self._as_somebody(ask)

    def _as_somebody(self, ask: Callable[[str], _Given]) -> _Given:
        """Send a request with the authorization header, and once more with a renewed one if the server rejects it."""
        credential = self.connection.credential
        authorization = credential.authorization()
        try:
            return ask(authorization)
        except ApiError as error:
            if not (error.is_unauthorized and credential.renew(authorization)):
                raise
        return ask(credential.authorization())

    def ask(self, path: str, *, timeout_s: float | None = None) -> Answer:
        """Send one GET request, and return the answer as text regardless of its status, for proxied services.

        Redirects are not followed, so that credentials are sent to the API server only. Raises ApiError for a rejection
        by the API server itself, PathError, UnreachableError, ConfigError.
        """
        check_path(path.partition("?")[0])
        authorization = self.connection.credential.authorization()
        response = self._open("GET", path, None, {"Accept": "*/*"}, timeout_s or self._timeout_s, authorization)
        if response.status >= 400 and is_status(response):
            checked(response, f"GET {path.partition('?')[0]}")
        return Answer(response.status, response.data.decode(errors="replace"))

    def _open(
        self,
        method: str,
        target: str,
        payload: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        authorization: str,
        *,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request once. Raises UnreachableError, ConfigError."""
        from urllib3 import HTTPHeaderDict, Timeout
        from urllib3.exceptions import HTTPError

        pool = self._connections()
        given = HTTPHeaderDict(headers)
        given.extend(self.connection.headers)
        given["User-Agent"] = f"crypto-lakehouse/{COLLECTION_VERSION}"
        if authorization:
            given["Authorization"] = authorization
        if self.connection.compresses and not stream:
            given["Accept-Encoding"] = "gzip"
        with self._lock:
            self.calls += 1
        try:
            response = pool.request(
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
        """Return the connection pool, which is replaced when the client certificate was renewed."""
        shown = self.connection.credential.certificate()
        with self._lock:
            if self._pool is None or shown != self._shown:
                self._pool, self._shown = make_pool(self.connection, shown, self._pool_size), shown
            return self._pool

    def pages(self, path: str, *, query: Query = (), accept: str = JSON) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page. Raises the same errors as `send`."""
        for page in streams.pages(partial(self.request, accept=accept), path, query):
            yield from page.items

    def collect(self, path: str, *, query: Query = ()) -> streams.Collection:
        """Return all items of a list, and the resource version for a watch."""
        return streams.collect(self.request, path, query)

    def watch(
        self, path: str, *, query: Query = (), resource_version: str, timeout_s: float
    ) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """Yield ('ADDED' | 'MODIFIED' | 'DELETED', object) for changes after a version, until the timeout.

        A lost connection is resumed at the last version. Raises ExpiredError when the version is too old, and the same
        errors as `send`. Close the iterator to stop earlier.
        """
        return streams.watch(self._follow, self._patience, path, query, resource_version, timeout_s)

    def _follow(self, path: str, query: Sequence[tuple[str, Any]], timeout_s: float) -> BaseHTTPResponse:
        def ask(authorization: str) -> BaseHTTPResponse:
            target = target_of(path, query)
            response = self._open("GET", target, None, {"Accept": JSON}, timeout_s, authorization, stream=True)
            if response.status != 200:
                checked(response, f"GET {path}")
            return response

        try:
            return self._as_somebody(ask)
        except ApiError as error:
            raise self._explained(error) from None


def look(client: Client, path: str) -> dict[str, Any] | None:
    """Return an object, or None if it does not exist. Raises the same errors as `Client.send`, and IdentityError."""
    try:
        found: dict[str, Any] = client.request("GET", path)
    except ApiError as error:
        if error.is_not_found:
            return None
        raise
    check_answer(found, path)
    return found


def check_answer(found: Any, path: str, kind: str = "") -> None:
    """Raise IdentityError unless an answer is the object of this path, and of `kind` unless that is empty."""
    metadata = found.get("metadata") if isinstance(found, Mapping) else None
    named = metadata if isinstance(metadata, Mapping) else {}
    there = kind and found.get("kind"), str(named.get("namespace") or ""), str(named.get("name") or "")
    namespace, name = place_in(path)
    if there != (kind, namespace, name):
        asked = "/".join(part for part in (namespace, name) if part)
        answered = f"{there[0] or 'an object'} {'/'.join(part for part in there[1:] if part) or 'without a name'}"
        raise IdentityError(
            f"cannot use the answer to GET {path}: it is {answered}, not {f'{kind} ' if kind else ''}{asked}; "
            "check the address of the server and the proxy before it"
        )
