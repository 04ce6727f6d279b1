# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read lists in pages, and watches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .errors import ApiError, ExpiredError, UnreachableError, api_error

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

PAGE_ITEMS = 500
# A server sends a bookmark about every minute, so a longer silence means a lost connection.
_SILENCE_S = 90.0
_LONGEST_SERVER_TIMEOUT_S = 300
_WORTHWHILE_S = 1.0


class _Request(Protocol):
    def __call__(self, method: str, path: str, *, query: Sequence[tuple[str, Any]]) -> Any: ...


class _Patience(Protocol):
    @property
    def attempts(self) -> int: ...

    @property
    def sleep(self) -> Callable[[float], object]: ...

    def pause_s(self, attempt: int, asked_s: float | None = None) -> float: ...


@dataclass(frozen=True)
class Collection:
    """Items of a list, with apiVersion and kind, and the version of the list."""

    items: tuple[dict[str, Any], ...]
    resource_version: str


def pages(request: _Request, path: str, query: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> Iterator[Collection]:
    """Yield the pages of a list."""
    given = [*(query.items() if isinstance(query, Mapping) else query)]
    if not any(key == "limit" for key, _value in given):
        given.append(("limit", PAGE_ITEMS))
    token = ""
    while True:
        try:
            answer = request("GET", path, query=[*given, ("continue", token)] if token else given)
        except ExpiredError as error:
            # The server offers a token for the rest of the list in its current state together with the rejection.
            if not token or not error.continue_token:
                raise
            token = error.continue_token
            continue
        metadata = answer.get("metadata") or {}
        yield Collection(tuple(_complete(answer)), str(metadata.get("resourceVersion") or ""))
        token = str(metadata.get("continue") or "")
        if not token:
            return


def collect(request: _Request, path: str, query: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> Collection:
    """Return a whole list."""
    items: list[dict[str, Any]] = []
    version = ""
    for page in pages(request, path, query):
        items += page.items
        version = page.resource_version
    return Collection(tuple(items), version)


def _complete(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the items with the apiVersion and kind of their list."""
    kind = str(answer.get("kind") or "").removesuffix("List")
    for item in answer.get("items") or ():
        yield {"apiVersion": answer.get("apiVersion"), "kind": kind, **item}


def watch(
    follow: Callable[[str, Sequence[tuple[str, Any]], float], BaseHTTPResponse],
    patience: _Patience,
    path: str,
    query: Mapping[str, Any] | Sequence[tuple[str, Any]],
    resource_version: str,
    timeout_s: float,
) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Yield events until the timeout, over any number of connections."""
    given = [*(query.items() if isinstance(query, Mapping) else query)]
    deadline_s = time.monotonic() + timeout_s
    version, failures = resource_version, 0
    while (left_s := deadline_s - time.monotonic()) > 0:
        server_s = max(1, min(_LONGEST_SERVER_TIMEOUT_S, int(left_s + 0.999)))
        asked = [("watch", True), ("allowWatchBookmarks", True), ("timeoutSeconds", server_s)]
        try:
            began_s, is_idle = time.monotonic(), True
            response = follow(path, [*given, *asked, ("resourceVersion", version)], min(left_s, _SILENCE_S))
            for kind, found in _events(response, deadline_s):
                failures, is_idle = 0, False
                version = str((found.get("metadata") or {}).get("resourceVersion") or version)
                if kind != "BOOKMARK":
                    yield kind, found
            if not is_idle or time.monotonic() - began_s >= _WORTHWHILE_S:
                continue
            # An intermediate proxy closes every watch immediately. Retries therefore have a delay.
            asked_s = None
        except UnreachableError as error:
            if not error.is_passing or failures + 1 >= patience.attempts:
                raise
            asked_s = None
        except ApiError as error:
            if not error.is_passing or failures + 1 >= patience.attempts:
                raise
            asked_s = error.retry_after_s
        failures += 1
        pause_s = patience.pause_s(failures, asked_s)
        patience.sleep(max(0.0, min(pause_s, deadline_s - time.monotonic())))


def _events(response: BaseHTTPResponse, deadline_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of one connection until it ends. A lost connection is an end: the watch continues."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in response.stream(2**16, decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _event(line)
            if time.monotonic() >= deadline_s:
                return
    except HTTPError:
        return
    finally:
        # The connection does not return to the pool, because more data may follow on it.
        response.close()


def _event(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        told = json.loads(line)
    except ValueError:
        raise api_error(200, line.decode(errors="replace"), action="watch") from None
    found = told.get("object") or {}
    if told.get("type") == "ERROR":
        raise api_error(int(found.get("code") or 500), found, action="watch")
    return str(told.get("type")), found
