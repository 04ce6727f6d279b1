# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading foreign objects: the requests, and the parts of a cluster that roles apply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.expected import Described
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.foreign import PART_OF, read_foreign
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.examine import (
    ClusterInstallation,
    _description,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import DEGRADED, HEALTHY
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import (
    JSON,
    METADATA_LIST,
    Client,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError, ConfigError
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.cluster_parts import (
    RELEASES,
    SETS,
    described_parts,
)

ROLES = Path(__file__).resolve().parents[3] / "roles"
BINDING = {
    "metadata": {"name": "evil"},
    "roleRef": {"kind": "ClusterRole", "name": "admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "api", "namespace": "lake"}],
}


class Lists:
    """Replaces a client: namespaces with their labels, and one binding of the cluster."""

    def __init__(self, namespaces: Mapping[str, Mapping[str, str]], error: ApiError | None = None) -> None:
        self.namespaces, self.error = namespaces, error
        self.asked: dict[str, tuple[str, Mapping[str, str]]] = {}

    @property
    def client(self) -> Client:
        return cast("Client", self)

    def request(self, _method: str, path: str, **_options: Any) -> Any:
        name = path.rpartition("/")[2]
        if name not in self.namespaces:
            raise ApiError(404, "NotFound", "nothing there")
        return {"metadata": {"name": name, "labels": self.namespaces[name]}}

    def pages(self, path: str, *, query: Mapping[str, str], accept: str) -> Iterator[Any]:
        if self.error:
            raise self.error
        self.asked[path] = accept, query
        yield from [BINDING] if path.endswith("/clusterrolebindings") else []


def test_one_list_a_kind_and_namespace_is_read_and_no_content_of_secrets() -> None:
    label, value = PART_OF
    lists = Lists({"lake": {}, "monitoring": {label: value}, "shared": {}})
    described = Described(("lake", "monitoring", "shared", "missing"))
    assert [one.finding.name for one in read_foreign(lists.client, described)] == ["evil"]
    # Nine kinds in two namespaces of the platform, and the bindings of the cluster.
    places = [re.sub("^.*/namespaces/([^/]*)/.*$", r"\1", path) for path in lists.asked]
    assert {place: places.count(place) for place in places if "/" not in place} == {"lake": 9, "monitoring": 9}
    assert len(lists.asked) == 19
    accept, query = lists.asked["/api/v1/namespaces/lake/secrets"]
    assert accept == METADATA_LIST
    assert query == {"fieldSelector": "type!=kubernetes.io/service-account-token,type!=helm.sh/release.v1"}
    assert lists.asked["/apis/rbac.authorization.k8s.io/v1/namespaces/lake/roles"][0] == JSON


@pytest.mark.parametrize("namespaces", [(), ("../x",)])
def test_what_is_no_namespace_is_refused(namespaces: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        read_foreign(Lists({}).client, Described(namespaces))


@pytest.mark.parametrize(
    ("expected", "error", "status", "words"),
    [
        ((), None, DEGRADED, "lakehouse_remove_foreign: [bindings]"),
        (("cluster-role-binding/ev*",), None, HEALTHY, ""),
        ((), ApiError(403, "Forbidden", "roles is forbidden"), DEGRADED, "grant the credentials list"),
    ],
)
def test_health_names_what_grants_access(
    expected: tuple[str, ...], error: ApiError | None, status: str, words: str
) -> None:
    installation = ClusterInstallation(description={"namespaces": ["lake"]}, expected_foreign=expected)
    (examination,) = _description(Lists({"lake": {}}, error).client, installation)
    (check,) = examination.run()
    assert (check.layer, check.status) == ("description", status)
    assert words in check.remedy


def test_health_compares_nothing_without_a_description() -> None:
    assert _description(Lists({}).client, ClusterInstallation()) == []


def test_the_described_parts_are_those_of_the_roles() -> None:
    texts = [path.read_text("utf-8") for path in sorted(ROLES.glob("*/*/*.yml"))]
    sets = {name for text in texts for name in re.findall(r"(?:_set|prune): (lakehouse-[-a-z]+)\n", text)}
    described = {name for names in SETS.values() for name in names}
    # One has the name of its release.
    assert described == sets | {"lakehouse-vertical-pod-autoscaler"}
    releases = {name for text in texts for name in re.findall(r"helm_release_name: ([-a-z]+)\n", text)}
    releases |= {name for text in texts for name in re.findall(r"- release: ([-a-z]+)\n", text)}
    releases |= {name for text in texts for name in re.findall(r"_monitoring_release: ([-a-z]+)\n", text)}
    ingress = (ROLES / "ingress/vars/main.yml").read_text("utf-8")
    releases |= set(re.findall(r"^    name: ([-a-z]+)$", ingress, re.MULTILINE))
    assert releases == {name for names in RELEASES.values() for name in names}


def test_secrets_that_the_inventory_names_are_expected() -> None:
    settings = {
        "lakehouse_namespace": "lake",
        "lakehouse_image_pull_secrets": ["registry"],
        "lakehouse_ingress_tls_secret": "",
    }
    parts = described_parts(settings)
    assert parts["expected"] == ["secret/*/registry"]
    assert parts["namespaces"][0] == "lake"
    assert "lake/lakehouse-services" in parts["sets"]
