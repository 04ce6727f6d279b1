# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a cluster for a role."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster import facts as cluster_facts
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError

WANTED = {"api_version": "apps/v1", "kind": "Deployment", "namespace": "n", "name": "d"}
NOTHING = {"found": False, "labels": {}, "annotations": {}}


class Cluster(Client):
    """A cluster of two groups; the server of the second one is down. answer: that of the single object."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def request(self, method: str, path: str, **_arguments: Any) -> Any:
        if path == "/version":
            return {"major": "1", "minor": "35+", "gitVersion": "v1.35.2-eks-1"}
        if path == "/api":
            return {"kind": "APIGroupDiscoveryList", "items": []}
        if path == "/apis":
            deployments = {
                "resource": "deployments",
                "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                "scope": "Namespaced",
                "verbs": ["get"],
            }
            apps = {"version": "v1", "resources": [deployments], "freshness": "Current"}
            metrics = {"version": "v1beta1", "resources": [], "freshness": "Stale"}
            return {
                "kind": "APIGroupDiscoveryList",
                "items": [
                    {"metadata": {"name": "apps"}, "versions": [apps]},
                    {"metadata": {"name": "metrics.k8s.io"}, "versions": [metrics]},
                ],
            }
        assert (method, path) == ("GET", "/apis/apps/v1/namespaces/n/deployments/d")
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def test_an_answer_other_than_that_it_is_not_there_is_an_error() -> None:
    with pytest.raises(ApiError, match="forbidden"):
        cluster_facts.gather(Cluster(ApiError(403, "Forbidden", "forbidden")), [WANTED])


def test_what_is_not_there_is_not_found() -> None:
    cluster = Cluster(ApiError(404, "NotFound", "x"))
    assert cluster_facts.gather(cluster, [WANTED])["objects"] == [NOTHING]


def test_a_kind_that_the_cluster_does_not_know_is_not_found() -> None:
    assert cluster_facts.gather(Cluster(None), [{**WANTED, "api_version": "x/v1"}])["objects"] == [NOTHING]


def test_an_object_is_found_with_its_marks() -> None:
    cluster = Cluster({"metadata": {"name": "d", "namespace": "n", "labels": {"a": "b"}}})
    (found,) = cluster_facts.gather(cluster, [WANTED])["objects"]
    assert found == {"found": True, "labels": {"a": "b"}, "annotations": {}}


def test_a_server_that_is_down_for_a_moment_is_not_missing() -> None:
    result = cluster_facts.gather(Cluster(None), [])
    assert result["api_versions"] == ["apps/v1", "metrics.k8s.io/v1beta1"]
    assert (result["version"], result["minor"]) == ("v1.35.2-eks-1", "1.35")


@pytest.mark.parametrize("version", ["1.35", "v1.35.2"])
def test_a_planned_cluster_has_nothing(version: str) -> None:
    assert cluster_facts.planned(version, [WANTED]) == {
        "version": version,
        "minor": "1.35",
        "api_versions": [],
        "objects": [NOTHING],
    }
