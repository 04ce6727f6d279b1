# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists in pages, and watches that continue after lost connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client import streams
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client, Patience
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ApiError,
    ExpiredError,
    UnreachableError,
)
from tests.unit.kube.server import DROPPED, HANG, RESET, ApiServer, Reply, events, status

PATH = "/api/v1/namespaces/shop/configmaps"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def page(*names: str, token: str = "", version: str = "7") -> Reply:
    metadata = {"resourceVersion": version, "continue": token}
    items = [{"metadata": {"name": name}} for name in names]
    return Reply(body={"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items})


def found(name: str, version: int) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": str(version)}}


ENDED = status(403, "the script of this test ended")


def watched(client: Client, *, version: str = "5", timeout_s: float = 60.0, count: int = 0) -> list[tuple[str, str]]:
    """Return the events of a watch until its timeout, `count` events, or the answer `ENDED`."""
    told = []
    watch = client.watch(PATH, resource_version=version, timeout_s=timeout_s)
    try:
        for kind, thing in watch:
            told.append((kind, thing["metadata"]["name"]))
            if len(told) == count:
                break
    except ApiError as error:
        if "the script of this test ended" not in str(error):
            raise
    return told


def versions(server: ApiServer) -> list[str]:
    return [request.options["resourceVersion"] for request in server.requests]


@pytest.mark.parametrize("fault", [DROPPED, RESET, status(503), status(429)])
def test_a_page_that_is_lost_is_asked_for_again(server: ApiServer, fault: Reply) -> None:
    server.on("GET", PATH, page("a", token="t1"), fault, page("b"))

    assert [item["metadata"]["name"] for item in server.client().pages(PATH)] == ["a", "b"]


def test_a_list_that_expires_goes_on_where_the_server_says(server: ApiServer) -> None:
    expired = status(410, "too old", "Expired")
    expired.body["metadata"] = {"continue": "inconsistent"}
    server.on("GET", PATH, page("a", token="t1"), expired, page("b", version="9"))

    collection = server.client().collect(PATH)
    assert [item["metadata"]["name"] for item in collection.items] == ["a", "b"]
    assert collection.resource_version == "9"
    assert [request.options.get("continue") for request in server.requests] == [None, "t1", "inconsistent"]


def test_a_list_that_expires_for_good_is_an_error(server: ApiServer) -> None:
    server.on("GET", PATH, page("a", token="t1"), status(410, "too old", "Expired"))

    with pytest.raises(ExpiredError, match="too old"):
        server.client().collect(PATH)


def test_pages_are_asked_for_with_the_same_query(server: ApiServer) -> None:
    server.on("GET", PATH, page("a", token="t1"), page("b", token="t2"), page())

    items = server.client().collect(PATH, query={"labelSelector": "a=b", "limit": 1}).items
    assert items[0] == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    assert [request.query for request in server.requests] == [
        [("labelSelector", "a=b"), ("limit", "1")],
        [("labelSelector", "a=b"), ("limit", "1"), ("continue", "t1")],
        [("labelSelector", "a=b"), ("limit", "1"), ("continue", "t2")],
    ]


def test_an_empty_list(server: ApiServer) -> None:
    server.on("GET", PATH, Reply(body={"kind": "ConfigMapList", "apiVersion": "v1", "items": None}))

    assert server.client().collect(PATH) == streams.Collection((), "")
    assert server.requests[0].options["limit"] == str(streams.PAGE_ITEMS)


@pytest.mark.parametrize("reply", [status(410, "too old", "Expired"), events(("ERROR", status(410, "too old").body))])
def test_a_watch_of_a_version_that_is_forgotten_says_so(server: ApiServer, reply: Reply) -> None:
    server.on("GET", PATH, reply)

    with pytest.raises(ExpiredError, match="too old"):
        watched(server.client())


@pytest.mark.parametrize("reply", [status(403, "no", "Forbidden"), events(("ERROR", status(400, "no").body))])
def test_a_watch_that_is_refused_says_so(server: ApiServer, reply: Reply) -> None:
    server.on("GET", PATH, reply)

    with pytest.raises(ApiError, match="no"):
        watched(server.client())
    assert len(server.requests) == 1


def test_a_watch_that_is_answered_by_something_else_says_so(server: ApiServer) -> None:
    server.on("GET", PATH, Reply(stream=lambda: iter([b"<html>Log in</html>\n"])))

    with pytest.raises(ApiError, match="<html>Log in</html>; the answer is not from a Kubernetes API"):
        watched(server.client())


@pytest.mark.parametrize("then", ["", "cut", "drop"])
def test_a_watch_goes_on_where_it_was_lost(server: ApiServer, then: str) -> None:
    server.on(
        "GET",
        PATH,
        events(("ADDED", found("a", 6)), ("BOOKMARK", found("", 8)), then=then),
        DROPPED,
        status(503),
        events(("DELETED", found("a", 9))),
        ENDED,
    )

    assert watched(server.client()) == [("ADDED", "a"), ("DELETED", "a")]
    assert versions(server)[:5] == ["5", "8", "8", "8", "9"]
    assert server.requests[0].options["watch"] == server.requests[0].options["allowWatchBookmarks"] == "true"
    assert server.requests[0].options["timeoutSeconds"] == "60"


def test_a_watch_ends_when_its_time_is_over(server: ApiServer) -> None:
    server.on("GET", PATH, HANG)

    began_s = time.monotonic()
    assert watched(server.client(), timeout_s=0.2) == []
    assert 0.2 <= time.monotonic() - began_s < 50
    assert watched(server.client(), timeout_s=0) == []


def test_a_watch_hears_what_happens_meanwhile(server: ApiServer) -> None:
    client = server.client()
    client.request("PATCH", f"{PATH}/a", body=found("a", 0))
    version = client.collect(PATH).resource_version
    timer = threading.Timer(0.05, client.request, args=("DELETE", f"{PATH}/a"))
    timer.start()

    assert watched(client, version=version, timeout_s=60, count=1) == [("DELETED", "a")]
    timer.join()


def test_events_that_come_in_pieces_are_put_together(server: ApiServer) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"type": "ADDED", "obj'
        yield b'ect": {"metadata": {"name": "\xc3'
        yield b'\xbc"}}}\n\n{"type": "DELETED", "object": {"metadata": {"name": "b"}}}\n'

    server.on("GET", PATH, Reply(stream=pieces), ENDED)
    assert watched(server.client()) == [("ADDED", "ü"), ("DELETED", "b")]


def test_a_watch_is_given_up_when_nobody_answers_any_more(tmp_path: Path) -> None:
    pauses: list[float] = []
    with ApiServer(tmp_path) as server:
        client = server.client(patience=Patience(sleep=pauses.append))

    with pytest.raises(UnreachableError, match="nothing listens there"):
        watched(client, timeout_s=60)
    assert len(pauses) == 9


def test_a_watch_that_was_lost_long_ago_does_not_count_old_failures(server: ApiServer) -> None:
    rounds = [reply for number in range(20) for reply in (DROPPED, events(("ADDED", found(str(number), number))))]
    server.on("GET", PATH, *rounds, HANG)

    assert len(watched(server.client(), timeout_s=60, count=20)) == 20
