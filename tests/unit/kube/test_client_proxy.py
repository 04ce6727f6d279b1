# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests through a proxy that makes tunnels, asks for an account, or refuses."""

from __future__ import annotations

import base64
import http.server
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.errors import (
    ConfigError,
    UnreachableError,
)
from tests.unit.kube.server import ApiServer

ACCOUNT = f"Basic {base64.b64encode(b'joe:p@ss').decode()}"


class Proxy:
    """Makes a tunnel for whoever shows the account, if it wants one. asked: what it was asked for, with headers."""

    def __init__(self, account: str = "") -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                proxy.asked.append((self.path, headers))
                if account and headers.get("proxy-authorization") != account:
                    self.send_error(407)
                    return
                host, _colon, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port))) as other:
                    self.send_response(200)
                    self.end_headers()
                    _relay(self.connection, other)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _relay(one: socket.socket, other: socket.socket) -> None:
    partners = {one: other, other: one}
    while True:
        readable, _writable, _broken = select.select(list(partners), [], [], 5)
        for side in readable:
            data = side.recv(65536)
            if not data:
                return
            partners[side].sendall(data)
        if not readable:
            return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


@pytest.mark.parametrize("given", ["in the address", "in a header"])
def test_a_tunnel_is_made_with_the_account_and_the_cluster_is_verified_through_it(
    server: ApiServer, given: str
) -> None:
    with Proxy(ACCOUNT) as proxy:
        in_address = given == "in the address"
        address = f"http://joe:p%40ss@{proxy.address}" if in_address else f"http://{proxy.address}"
        headers = {} if in_address else {"proxy_basic_auth": "joe:p@ss"}
        client = server.client(proxy=address, proxy_headers=headers)

        assert client.request("GET", "/version")["major"] == "1"
        assert [path for path, _headers in proxy.asked] == [server.url.removeprefix("https://")]
        assert "authorization" not in proxy.asked[0][1]
        assert "Proxy-Authorization" not in server.requests[0].headers
        client.close()


def test_a_proxy_that_refuses_is_named_without_the_account(server: ApiServer) -> None:
    with Proxy(ACCOUNT) as proxy, pytest.raises(UnreachableError) as caught:
        server.client(proxy=f"http://joe:wrong@{proxy.address}").request("GET", "/version")
    message = str(caught.value)
    assert message.startswith(f"{server.url}: the proxy http://127.0.0.1:")
    assert "407" in message
    assert message.endswith("check proxy, HTTPS_PROXY and no_proxy")
    assert "wrong" not in message


def test_a_proxy_that_is_not_there_is_named(server: ApiServer) -> None:
    with pytest.raises(UnreachableError, match=r"the proxy http://127\.0\.0\.1:1 failed: Connection refused"):
        server.client(proxy="http://127.0.0.1:1").request("GET", "/version")


def test_a_cluster_behind_a_proxy_that_is_not_trusted_is_told_as_such(server: ApiServer, tmp_path: Path) -> None:
    with ApiServer(tmp_path) as other, Proxy() as proxy:
        kubeconfig = server.kubeconfig(cluster={"server": other.url})
        with pytest.raises(UnreachableError, match="its certificate is not of the authority in cluster 'lake'"):
            server.client(kubeconfig=kubeconfig, proxy=f"http://{proxy.address}").request("GET", "/version")


def test_a_proxy_of_socks_needs_a_package(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", None)
    with pytest.raises(ConfigError, match=r"the proxy socks5://127\.0\.0\.1:1 needs the Python package PySocks"):
        server.client(proxy="socks5://127.0.0.1:1").request("GET", "/version")
