# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names from input never lead a request to a different path than intended."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.secrets import Wish
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.proxy import ServiceAddress
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.chart_pull import (
    ChartError,
    Wanted,
    check_identifiers,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client, look
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ConfigError,
    IdentityError,
    KubeError,
    ManifestError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.paths import (
    PathError,
    check_path,
    core_path,
    path_of,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.names import rule_of
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.schemas import PackagedSchemas
from tests.unit.kube.server import ApiServer

HOSTILE = ("", ".", "..", "a/b", "../x", "x/..", "/", "%2e%2e", "a%2fb", "a%", "a\x00", "a\nb", "\x7f", "\ud800")
hostile = st.one_of(
    st.sampled_from(HOSTILE),
    st.builds(
        lambda before, mark, after: before + mark + after,
        st.text(max_size=4),
        st.sampled_from(["/", "%", "\x00", "\r"]),
        st.text(max_size=4),
    ),
)
KINDS = [
    Resource(
        api_version.rpartition("/")[0], api_version.rpartition("/")[2], kind, f"{kind.lower()}s", namespaced=namespaced
    )
    for api_version, kind in PackagedSchemas("1.34").kinds()
    for namespaced in (True, False)
] + [Resource("example.org", "v1", "Widget", "widgets", namespaced=True)]


@given(resource=st.sampled_from(KINDS), name=hostile, sub=st.sampled_from(["", "status", "scale"]))
def test_no_kind_has_a_path_for_a_name_that_leads_elsewhere(resource: Resource, name: str, sub: str) -> None:
    with pytest.raises(PathError, match=r"cannot send the request: the path segment .*; correct the name"):
        resource.path("shop", name, sub)


@given(resource=st.sampled_from([one for one in KINDS if one.namespaced]), namespace=hostile)
def test_no_kind_has_a_path_for_a_namespace_that_leads_elsewhere(resource: Resource, namespace: str) -> None:
    with pytest.raises(PathError):
        resource.path(namespace, "web")


@given(resource=st.sampled_from(KINDS), sub=hostile.filter(lambda text: text != ""))
def test_no_kind_has_a_path_for_a_subresource_that_leads_elsewhere(resource: Resource, sub: str) -> None:
    with pytest.raises(PathError):
        resource.path("shop", "web", sub)


@given(
    resource=st.sampled_from(KINDS),
    field=st.sampled_from(["group", "version", "plural"]),
    segment=hostile.filter(lambda text: text != ""),
)
def test_no_served_kind_leads_elsewhere(resource: Resource, field: str, segment: str) -> None:
    parts = {"group": resource.group, "version": resource.version, "plural": resource.plural, field: segment}
    with pytest.raises(PathError):
        Resource(parts["group"], parts["version"], resource.kind, parts["plural"], namespaced=True).path("shop", "web")


@given(segments=st.lists(st.text(st.characters(), min_size=1, max_size=8), min_size=1, max_size=6))
def test_a_path_is_refused_or_keeps_every_segment(segments: list[str]) -> None:
    try:
        path = path_of(*segments)
    except PathError:
        return
    check_path(path)
    assert posixpath.normpath(path) == path
    assert [unquote(part) for part in path[1:].split("/")] == segments


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "a/b"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/{}/configmaps/x",
        "/api/v1/namespaces/a/configmaps/{}",
        "/api/v1/namespaces/a/pods/{}/log",
        "/api/v1/namespaces/a/services/{}/proxy/x",
        "/apis/{}/v1/widgets/x",
    ],
)
def test_the_client_refuses_every_path_with_such_a_segment(path: str, name: str) -> None:
    with pytest.raises(PathError):
        check_path(path.format(name))


WAYS: dict[str, Callable[[Client, str], object]] = {
    "POST": lambda client, path: client.request("POST", path, body={}),
    "PATCH": lambda client, path: client.request("PATCH", path, body={}),
    "DELETE": lambda client, path: client.request("DELETE", path),
    "send": lambda client, path: client.send("GET", path),
    "ask": lambda client, path: client.ask(path),
    "look": look,
    "pages": lambda client, path: list(client.pages(path)),
    "collect": lambda client, path: client.collect(path),
    "watch": lambda client, path: list(client.watch(path, resource_version="1", timeout_s=1.0)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/api/v1/namespaces/victim/configmaps/..", "/api/v1/namespaces/%2e%2e/secrets"])
def test_nothing_that_the_client_does_sends_such_a_path(tmp_path: Path, way: str, path: str) -> None:
    with ApiServer(tmp_path) as server, server.client() as client:
        with pytest.raises(PathError):
            WAYS[way](client, path)
        assert server.requests == []


@pytest.mark.parametrize("path", ["/api/v1/nodes?x=1", "/api/v1/nodes#x", "api/v1", "/api/v1/a b", "/api/v1/%2E%2e/x"])
def test_the_client_refuses_what_is_no_quoted_path(path: str) -> None:
    with pytest.raises(PathError):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/version",
        "/apis/apps/v1/namespaces/shop/deployments/web/scale",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/an%20odd%20one",
        "/api/v1/namespaces/shop/services/https:api:8080/proxy/",
        "/api/v1/namespaces/shop/services/api:8080/proxy/-/ready",
    ],
)
def test_the_paths_of_the_api_are_sent(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("route", ["/../x", "/a/../../../secrets", "/%2e%2e/secrets", "//x"])
def test_a_path_behind_the_proxy_stays_behind_it(route: str) -> None:
    with pytest.raises(PathError):
        check_path(ServiceAddress("http", "api", "shop", 80, route).proxied())


@given(name=hostile)
def test_a_secret_path_is_refused_or_safe(name: str) -> None:
    for given_ in ((name, "secrets", "x"), ("shop", "secrets", name), ("shop", "pods", "x", name)):
        with pytest.raises(PathError):
            core_path(*given_)


def manifest(api_version: str, kind: str, name: str, namespace: str = "victim") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


@given(resource=st.sampled_from(KINDS), name=hostile)
def test_every_kind_refuses_such_a_name_when_its_manifest_is_read(resource: Resource, name: str) -> None:
    with pytest.raises(ManifestError):
        load([manifest(resource.api_version, resource.kind, name)])


@given(resource=st.sampled_from(KINDS), namespace=hostile.filter(lambda text: text != ""))
def test_every_kind_refuses_such_a_namespace(resource: Resource, namespace: str) -> None:
    with pytest.raises(ManifestError):
        load([manifest(resource.api_version, resource.kind, "web", namespace)])


@given(api_version=hostile, kind=st.sampled_from(["ConfigMap", "Widget"]))
def test_every_group_and_version_is_checked(api_version: str, kind: str) -> None:
    for given_ in (f"{api_version}/v1", f"apps/{api_version}", f"a/b/{api_version}"):
        with pytest.raises(ManifestError):
            load([manifest(given_, kind, "web")])


@pytest.mark.parametrize("kind", ["..", "Config/Map", "a b", "%"])
def test_every_kind_is_checked(kind: str) -> None:
    with pytest.raises(ManifestError, match="is not a kind; use at most 63 letters and digits"):
        load([manifest("v1", kind, "web")])


@pytest.mark.parametrize(
    ("api_version", "kind", "name"),
    [
        ("v1", "ConfigMap", "with.dots-1"),
        ("v1", "Service", "1web"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "system:Node reader"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", "a:b"),
        ("networking.k8s.io/v1", "IPAddress", "2001:db8::1"),
        ("certificates.k8s.io/v1beta1", "ClusterTrustBundle", "example.org:sign:bundle"),
        ("apiregistration.k8s.io/v1", "APIService", "v1beta1.metrics.k8s.io"),
        ("image.openshift.io/v1", "ImageStreamTag", "web:latest"),
    ],
)
def test_names_that_a_server_accepts_are_read(api_version: str, kind: str, name: str) -> None:
    assert load([manifest(api_version, kind, name, "shop")])[0].name == name


@pytest.mark.parametrize(
    ("api_version", "kind", "name", "noun"),
    [
        ("v1", "ConfigMap", "..", "DNS-1123 subdomain"),
        ("v1", "ConfigMap", "Upper", "DNS-1123 subdomain"),
        ("v1", "ConfigMap", "x" * 254, "DNS-1123 subdomain"),
        ("v1", "Namespace", "a.b", "DNS-1123 label"),
        ("v1", "Service", "x" * 64, "DNS-1123 label"),
        ("apps/v1", "Deployment", "-web", "DNS-1123 subdomain"),
        ("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "a_b", "DNS-1123 subdomain"),
    ],
)
def test_a_name_is_refused_by_the_rule_of_its_kind(api_version: str, kind: str, name: str, noun: str) -> None:
    said = f"cannot use {kind} {name}: metadata.name {name!r} is not a {noun}; use at most"
    with pytest.raises(ManifestError) as error:
        load([manifest(api_version, kind, name, "shop")])
    assert said in str(error.value)


@pytest.mark.parametrize("group", ["example.org", "postgresql.cnpg.io"])
def test_another_api_server_has_its_own_rules(group: str) -> None:
    assert rule_of(group, "Widget").fault("A:b") == ""
    assert rule_of(group, "Widget").fault("..") == "is '..'"


@given(name=hostile.filter(lambda text: text != ""))
def test_a_secret_store_is_not_named_so(name: str) -> None:
    for place in ((name, "shop"), ("secrets", name)):
        with pytest.raises(ConfigError, match="cannot use `name"):
            Wish(*place, specs=())


@given(word=st.sampled_from(["name", "version"]), value=hostile.filter(lambda text: text != ""))
def test_a_chart_is_not_named_so(word: str, value: str) -> None:
    with pytest.raises(ChartError, match="cannot use the chart"):
        check_identifiers(Wanted(**{"name": "web", "version": "1.0.0", word: value}))


@pytest.mark.parametrize("path", ["/../x", "/a//b", "/a/%2e%2e", "/a?x=1", "/a#x", "/a b"])
def test_a_chart_repository_has_a_plain_path(path: str) -> None:
    with pytest.raises(ChartError, match="cannot use the repository of the chart web"):
        check_identifiers(Wanted("web", "1.0.0", f"https://charts.example.org{path}"))


@pytest.mark.parametrize("version", ["1", "1.2.3", "v1.2.3-rc.1+build.5", "0.28.2"])
@pytest.mark.parametrize("repository", ["https://charts.example.org", "oci://registry.example.org/charts/"])
def test_charts_that_exist_are_taken(version: str, repository: str) -> None:
    check_identifiers(Wanted("kube-prometheus-stack", version, repository))


def test_all_these_errors_are_errors_of_the_package() -> None:
    assert issubclass(PathError, KubeError)
    assert issubclass(IdentityError, KubeError)


def test_no_request_path_is_written_with_names_in_it() -> None:
    plugins = Path(__file__).parents[3] / "plugins"
    written = re.compile(r"""f["'][^"']*/(?:api/v1/(?!query)|apis/)[^"']*\{|namespaces/\{""")
    found = [path.name for path in plugins.rglob("*.py") if written.search(path.read_text(encoding="utf-8"))]
    assert found == []
