# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds that a cluster serves, from servers with and without aggregated discovery."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery, Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from tests.unit.kube.server import ApiServer, Reply, status

DEPLOYMENT = Resource(
    "apps", "v1", "Deployment", "deployments", True, frozenset({"get", "patch"}), frozenset({"scale", "status"})
)
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps", True, frozenset({"get"}))
NODE = Resource("", "v1", "Node", "nodes", False, frozenset({"get"}))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def aggregated(resource: Resource) -> dict[str, Any]:
    return {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "verbs": sorted(resource.verbs),
        "subresources": [{"subresource": name, "verbs": ["get"]} for name in sorted(resource.subresources)],
    }


def group(name: str, *versions: tuple[str, list[dict[str, Any]]], freshness: str = "Current") -> dict[str, Any]:
    found = [{"version": version, "resources": items, "freshness": freshness} for version, items in versions]
    return {"metadata": {"name": name} if name else {"creationTimestamp": None}, "versions": found}


def serve_aggregated(server: ApiServer, *extra: dict[str, Any]) -> None:
    core = [group("", ("v1", [aggregated(CONFIG_MAP), aggregated(NODE)]))]
    apps = [group("apps", ("v1", [aggregated(DEPLOYMENT)])), *extra]
    for path, items in (("/api", core), ("/apis", apps)):
        server.on("GET", f"^{path}$", Reply(body={"kind": "APIGroupDiscoveryList", "items": items}))


def legacy(resource: Resource) -> list[dict[str, Any]]:
    base = {"namespaced": resource.namespaced, "verbs": sorted(resource.verbs)}
    children = [{**base, "name": f"{resource.plural}/{child}", "kind": "Scale"} for child in resource.subresources]
    return [{**base, "name": resource.plural, "kind": resource.kind}, *children]


def serve_legacy(server: ApiServer) -> None:
    versions = [{"groupVersion": "apps/v1beta1"}, {"groupVersion": "apps/v1"}]
    groups = [
        {"name": "apps", "versions": versions, "preferredVersion": {"groupVersion": "apps/v1"}},
        {"name": "metrics.k8s.io", "versions": [{"groupVersion": "metrics.k8s.io/v1beta1"}]},
    ]
    old = Resource("apps", "v1beta1", "Deployment", "deployments", True)
    for path, body in {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": groups},
        "/api/v1": {"kind": "APIResourceList", "resources": legacy(CONFIG_MAP) + legacy(NODE)},
        "/apis/apps/v1": {"kind": "APIResourceList", "resources": legacy(DEPLOYMENT)},
        "/apis/apps/v1beta1": {"kind": "APIResourceList", "resources": legacy(old)},
    }.items():
        server.on("GET", f"^{path}$", Reply(body=body))
    server.on("GET", "^/apis/metrics.k8s.io/v1beta1$", status(503, "the server is currently unable"))


def test_a_kind_that_is_not_served_is_none(server: ApiServer) -> None:
    serve_aggregated(server)
    discovery = Discovery(server.client())

    assert discovery.find("apps/v1", "Deploymnet") is None
    assert discovery.find("apps/v2", "Deployment") is None
    assert discovery.find("v1", "Deployment") is None


@pytest.mark.parametrize(
    ("api_version", "kind", "words"),
    [
        ("apps/v1beta1", "Deployment", "Deployment is served as apps/v1"),
        ("extensions/v1beta1", "Deployment", "Deployment is served as apps/v1"),
        ("apps/v1", "Deploymnet", "did you mean Deployment?"),
        ("apps/v1", "Zebra", "apps/v1 has no such kind"),
        ("zoo.example/v1", "Zebra", "install the CRD or the server that brings zoo.example/v1"),
        (
            "metrics.example/v1",
            "Metric",
            "the server behind metrics.example/v1 does not answer: look at its APIService",
        ),
    ],
)
def test_a_kind_that_is_not_served_comes_with_what_to_do(
    server: ApiServer, api_version: str, kind: str, words: str
) -> None:
    serve_aggregated(server, group("metrics.example", ("v1", []), freshness="Stale"))

    assert Discovery(server.client()).hint(api_version, kind) == words


def test_a_discovery_that_is_forbidden_is_an_error(server: ApiServer) -> None:
    server.on("GET", "^/api$", status(403, "no", "Forbidden"))

    with pytest.raises(ApiError, match="grant it by a Role"):
        Discovery(server.client()).all()


def test_a_group_that_is_forbidden_in_an_old_server_is_an_error(server: ApiServer) -> None:
    serve_legacy(server)
    server.on("GET", "^/apis/apps/v1$", status(403, "no", "Forbidden"))

    with pytest.raises(ApiError, match="GET /apis/apps/v1: 403 no"):
        Discovery(server.client()).all()


@pytest.mark.parametrize("serve", [serve_aggregated, serve_legacy])
def test_what_is_served_is_found_whole(server: ApiServer, serve: Any) -> None:
    serve(server)
    discovery = Discovery(server.client())

    assert discovery.find("apps/v1", "Deployment") == DEPLOYMENT
    assert discovery.find("v1", "ConfigMap") == CONFIG_MAP
    assert discovery.find("v1", "Node") == NODE
    assert {CONFIG_MAP, NODE, DEPLOYMENT} <= set(discovery.all())


def test_two_requests_are_enough_and_they_are_made_once(server: ApiServer) -> None:
    serve_aggregated(server)
    client = server.client()
    discovery = Discovery(client)
    assert client.calls == 0

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _number: discovery.find("v1", "Node"), range(50))) == {NODE}
    assert client.calls == 2
    assert "v=v2;as=APIGroupDiscoveryList" in server.requests[0].headers["Accept"]


def test_an_old_server_names_the_preferred_version_first_and_what_is_stale(server: ApiServer) -> None:
    serve_legacy(server)
    discovery = Discovery(server.client())

    assert [resource.api_version for resource in discovery.all()] == ["v1", "v1", "apps/v1", "apps/v1beta1"]
    assert discovery.stale == {"metrics.k8s.io/v1beta1"}


def test_what_came_later_is_found_after_a_refresh(server: ApiServer) -> None:
    discovery = Discovery(server.client())
    assert discovery.find("zoo.example/v1", "Zebra") is None

    server.objects.kinds["zoo.example/v1"] = [("Zebra", "zebras", True)]
    assert discovery.find("zoo.example/v1", "Zebra") is None
    discovery.refresh()
    assert discovery.find("zoo.example/v1", "Zebra") is not None


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (DEPLOYMENT, ("shop", "api"), "/apis/apps/v1/namespaces/shop/deployments/api"),
        (DEPLOYMENT, ("shop",), "/apis/apps/v1/namespaces/shop/deployments"),
        (DEPLOYMENT, (), "/apis/apps/v1/deployments"),
        (DEPLOYMENT, ("shop", "api", "scale"), "/apis/apps/v1/namespaces/shop/deployments/api/scale"),
        (CONFIG_MAP, ("shop", "a"), "/api/v1/namespaces/shop/configmaps/a"),
        (NODE, ("shop", "n1"), "/api/v1/nodes/n1"),
        (NODE, (None, "system:a b?"), "/api/v1/nodes/system:a%20b%3F"),
    ],
)
def test_paths(resource: Resource, arguments: tuple[Any, ...], path: str) -> None:
    assert resource.path(*arguments) == path


@pytest.mark.parametrize(
    ("told", "minor"),
    [
        ({"major": "1", "minor": "36", "gitVersion": "v1.36.1"}, (1, 36)),
        ({"major": "1", "minor": "33+", "gitVersion": "v1.33.2-eks-1"}, (1, 33)),
        ({}, (0, 0)),
    ],
)
def test_the_version_of_the_server_is_asked_once(
    server: ApiServer, told: dict[str, str], minor: tuple[int, int]
) -> None:
    server.on("GET", "^/version$", Reply(body=told))
    client = server.client()
    discovery = Discovery(client)

    assert discovery.server_minor == minor
    assert discovery.server_version == told.get("gitVersion", "")
    assert client.calls == 1
