# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests through a proxy that creates tunnels, requires credentials, or refuses."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ConfigError,
    UnreachableError,
)
from tests.unit.kube.server import ApiServer
from tests.unit.kube.tunnel import Proxy

ACCOUNT = f"Basic {base64.b64encode(b'joe:p@ss').decode()}"


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
