# SPDX-License-Identifier: GPL-3.0-or-later
"""Obstacles of a run in the cluster: version, namespace, permissions, storage and ingress classes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.marker import Marker, read_marker
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.preflight import (
    Findings,
    Question,
    examine,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.volumes import Volume
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError, KubeError

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
NAMESPACE = "/api/v1/namespaces/crypto-lakehouse"
MARKER = f"{NAMESPACE}/configmaps/crypto-lakehouse"
STORAGE = "/apis/storage.k8s.io/v1/storageclasses"
INGRESS = "/apis/networking.k8s.io/v1/ingressclasses"
QUESTION = Question(
    "deploy",
    "k3s",
    "development",
    "crypto-lakehouse",
    needs_volumes=True,
)
DEPLOYMENT = {"api_version": "apps/v1", "kind": "Deployment", "namespace": "crypto-lakehouse"}
PRIORITY = {"api_version": "scheduling.k8s.io/v1", "kind": "PriorityClass", "namespace": "crypto-lakehouse"}
UNKNOWN = {"api_version": "example.org/v1", "kind": "Thing", "namespace": "crypto-lakehouse"}
SERVED = {
    ("apps/v1", "Deployment"): Resource("apps", "v1", "Deployment", "deployments", True),
    ("scheduling.k8s.io/v1", "PriorityClass"): Resource(
        "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False
    ),
}


def storage_class(name: str, default: bool = False, made: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations, "creationTimestamp": made}}


@dataclass
class Api:
    """Answers by path; other paths are not found. `refused` are the verbs that the identity may not use.

    reviewing: whether it answers access reviews.
    """

    found: dict[str, Any] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    administrator: bool = False
    reviewing: bool = True
    refused: set[str] = field(default_factory=set)
    version: Mapping[str, str] = field(
        default_factory=lambda: {"major": "1", "minor": "35+", "gitVersion": "v1.35.2-eks-1"}
    )
    reviews: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, method: str, path: str, *, body: Any = None, **_more: Any) -> Any:
        if path == "/version":
            return dict(self.version)
        if path == REVIEWS:
            assert method == "POST"
            asked = body["spec"]["resourceAttributes"]
            with self.lock:
                self.reviews.append(asked)
            allowed = self.administrator if asked["verb"] == "*" else asked["verb"] not in self.refused
            return {"status": {"allowed": allowed}} if self.reviewing else {}
        assert method == "GET"
        if path in self.forbidden:
            raise ApiError(403, "Forbidden", "no")
        if path not in self.found:
            raise ApiError(404, "NotFound", "not there")
        return self.found[path]


class Kinds:
    """The kinds that the cluster serves."""

    def find(self, api_version: str, kind: str) -> Resource | None:
        return SERVED.get((api_version, kind))


def look(api: Api, question: Question = QUESTION, *objects: dict[str, str]) -> Findings:
    return examine(api, Kinds(), question, objects or (DEPLOYMENT,))  # type: ignore[arg-type]


@pytest.fixture
def api() -> Api:
    listed = {"items": [storage_class("slow"), storage_class("local-path", default=True)]}
    return Api({STORAGE: listed, INGRESS: {"items": [{"metadata": {"name": "traefik"}}]}})


def said(findings: Findings) -> str:
    return "\n".join(map(str, findings.problems))


METRICS = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
VERTICAL = "/apis/autoscaling.k8s.io/v1"
SPACE = "/api/v1/namespaces/autoscaling"
RECOMMENDER = "/apis/apps/v1/namespaces/autoscaling/deployments/vertical-pod-autoscaler-recommender"


def annotated(**annotations: str) -> dict[str, Any]:
    return {"metadata": {"annotations": annotations}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, ()),
        ({METRICS: {"metadata": {}}, VERTICAL: {}}, ("metrics-server", "vertical-pod-autoscaler")),
        ({METRICS: annotated(**{"meta.helm.sh/release-namespace": "kube-system"})}, ("metrics-server",)),
        # Objects that an earlier run installed need their chart again.
        ({METRICS: annotated(**{"meta.helm.sh/release-namespace": "autoscaling"})}, ()),
        ({VERTICAL: {}, RECOMMENDER: annotated()}, ()),
        ({VERTICAL: {}, SPACE: annotated(**{"crypto-lakehouse/vertical-pod-autoscaler": "true"})}, ()),
        ({VERTICAL: {}, SPACE: annotated()}, ("vertical-pod-autoscaler",)),
    ],
)
def test_parts_of_the_autoscaling_that_the_cluster_has_by_itself_are_no_charts_of_ours(
    api: Api, found: dict[str, Any], expected: tuple[str, ...]
) -> None:
    api.found |= found
    assert look(api).facts.own_parts == expected


def test_an_empty_cluster_has_nothing_against_a_deployment(api: Api) -> None:
    findings = look(api)
    assert findings.problems == []
    assert (findings.facts.server_version, findings.facts.minor_version) == ("v1.35.2-eks-1", "1.35")
    assert (findings.facts.namespace_exists, findings.facts.marker) == (False, None)
    assert findings.facts.storage_class == "local-path"


def test_a_server_that_answers_no_review_allows_nothing(api: Api) -> None:
    api.reviewing = False
    assert "its identity may not, in the whole cluster: " in said(look(api))


def test_an_administrator_is_asked_once(api: Api) -> None:
    api.administrator = True
    assert look(api).problems == []
    assert [review["verb"] for review in api.reviews] == ["*"]


def test_every_right_that_is_missing_is_named_in_one_problem_for_each_namespace(api: Api) -> None:
    api.refused = {"create", "patch"}
    findings = look(api, QUESTION, DEPLOYMENT, PRIORITY, UNKNOWN)
    assert "in namespace crypto-lakehouse: create, patch configmaps; create, patch deployments.apps; " in said(findings)
    assert "in the whole cluster: create, patch clusterrolebindings.rbac" in said(findings)
    assert "create, patch namespaces; create, patch priorityclasses.scheduling.k8s.io" in said(findings)
    assert len(findings.problems) == 2
    assert {"group": "", "resource": "pods", "subresource": "log", "verb": "get", "namespace": "crypto-lakehouse"} in (
        api.reviews
    )


@pytest.mark.parametrize("verb", ["health", "verify", "destroy"])
def test_a_verb_that_applies_nothing_asks_for_no_right_to_change(api: Api, verb: str) -> None:
    api.refused = {"create", "patch", "delete", "update"}
    assert look(api, replace(QUESTION, verb=verb)).problems == []


def test_a_destruction_is_told_which_volumes_there_are(api: Api) -> None:
    api.found[f"{NAMESPACE}/persistentvolumeclaims"] = {"items": [{"metadata": {"name": "data-database-0"}}]}
    assert look(api).facts.claims == ()
    claims = look(api, replace(QUESTION, verb="destroy")).facts.claims
    assert claims == ({"namespace": "crypto-lakehouse", "name": "data-database-0"},)


@pytest.mark.parametrize(
    ("named", "listed", "message"),
    [
        ("locl-path", [storage_class("local-path")], "no storage class 'locl-path'. Remedy: write local-path"),
        ("", [storage_class("b"), storage_class("a")], "no default storage class. Remedy: name one of: a, b"),
        ("", [], "Remedy: install a driver that provides volumes"),
        ("gp3", [], "Remedy: install a driver that provides volumes"),
    ],
)
def test_volumes_without_a_class_are_refused(api: Api, named: str, listed: list[Any], message: str) -> None:
    api.found[STORAGE] = {"items": listed}
    assert message in said(look(api, replace(QUESTION, storage_class=named)))
    assert look(api, replace(QUESTION, storage_class=named, needs_volumes=False)).problems == []


def test_of_several_default_classes_the_newest_counts_as_for_the_api_server(api: Api) -> None:
    old, new = storage_class("a", default=True), storage_class("b", default=True, made="2026-05-01T00:00:00Z")
    api.found[STORAGE] = {"items": [old, new]}
    assert look(api).facts.storage_class == "b"


def test_what_may_not_be_listed_stops_nothing(api: Api) -> None:
    api.forbidden = {STORAGE, INGRESS}
    findings = look(api, replace(QUESTION, storage_class="gp3", ingress_class="alb"))
    assert (findings.problems, findings.facts.storage_class) == ([], "gp3")


def test_an_ingress_class_that_nobody_serves_is_refused_with_the_nearest(api: Api) -> None:
    assert look(api, replace(QUESTION, ingress_class="traefik")).problems == []
    findings = look(api, replace(QUESTION, ingress_class="treafik"))
    assert "no ingress class 'treafik'. Remedy: write traefik, or set lakehouse_ingress_install" in said(findings)


def test_an_old_cluster_is_refused(api: Api) -> None:
    api.version = {"major": "1", "minor": "28", "gitVersion": "v1.28.1"}
    assert "the cluster is Kubernetes v1.28.1, and 1.30 is the oldest" in said(look(api))


def test_a_namespace_that_is_going_away_is_refused(api: Api) -> None:
    api.found[NAMESPACE] = {"metadata": {"name": "crypto-lakehouse"}, "status": {"phase": "Terminating"}}
    assert "namespace crypto-lakehouse is being deleted. Remedy: wait" in said(look(api))


def test_a_namespace_is_ours_when_we_made_it(api: Api) -> None:
    api.found[NAMESPACE] = {"metadata": {"name": "crypto-lakehouse"}}
    facts = look(api).facts
    assert (facts.namespace_exists, facts.namespace_is_ours) == (True, False)
    api.found[NAMESPACE]["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "crypto-lakehouse"}
    assert look(api).facts.namespace_is_ours


def test_the_lakehouse_of_another_environment_or_target_is_refused(api: Api) -> None:
    api.found[MARKER] = Marker("1.0.0", "gke", "production").manifest("crypto-lakehouse")
    findings = look(api)
    assert "holds the lakehouse of environment production" in said(findings)
    assert "holds a lakehouse of target gke. Remedy: set lakehouse_target: gke" in said(findings)
    assert len(findings.problems) == 2


def test_a_marker_says_what_it_was_made_from() -> None:
    marker = Marker("1.0.0", "k3s", "staging", True, False, 17, {"api": 5})
    assert read_marker(marker.manifest("here"), "here") == marker


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "was not made by this collection and was left as it is"),
        ({"collection": "somebody.else"}, "name another namespace"),
        ({"collection": "crypto_lakehouse.platform"}, "is damaged"),
        (
            {
                "collection": "crypto_lakehouse.platform",
                "version": "1.0.0",
                "target": "k3s",
                "environment": "staging",
                "scale": "[",
            },
            "is damaged .*correct it: kubectl -n here edit configmap",
        ),
    ],
)
def test_a_marker_that_says_something_else_is_left_as_it_is(data: dict[str, str], message: str) -> None:
    with pytest.raises(KubeError, match=message):
        read_marker({"data": data}, "here")


CLAIMS = f"{NAMESPACE}/persistentvolumeclaims"
SETS = "/apis/apps/v1/namespaces/crypto-lakehouse/statefulsets"
CLUSTERS = "/apis/postgresql.cnpg.io/v1/namespaces/crypto-lakehouse/clusters"
DATA = Volume("StatefulSet", "crypto-lakehouse", "database", "data", "10Gi")
OPERATED = replace(DATA, kind="Cluster", template="")


def claim(size: str = "5Gi", storage_class: str = "local-path", **metadata: Any) -> dict[str, Any]:
    head = {"name": "data-database-0", "namespace": "crypto-lakehouse", **metadata}
    spec = {"storageClassName": storage_class, "resources": {"requests": {"storage": size}}, "volumeName": "pv"}
    return {"metadata": head, "spec": spec, "status": {"phase": "Bound"}}


def database(size: str) -> dict[str, Any]:
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}}
    head = {"name": "database", "namespace": "crypto-lakehouse"}
    return {"metadata": head, "spec": {"volumeClaimTemplates": [template], "storage": {"size": size}}}


@pytest.mark.parametrize(
    ("volume", "found", "variable", "told"),
    [
        (DATA, claim(), "lakehouse_services", "storage class local-path does not allow volume expansion"),
        (replace(DATA, size="4Gi"), claim(), "lakehouse_services", "Kubernetes does not shrink volumes"),
        (
            replace(DATA, size="5Gi", storage_class="slow"),
            claim(),
            "lakehouse_storage_class",
            "from local-path to slow",
        ),
        (DATA, claim(storage_class="elastic"), "", ""),
        (replace(DATA, size="5Gi"), claim("20Gi"), "", ""),
        (OPERATED, claim(name="database-1", labels={"cnpg.io/cluster": "database"}), "lakehouse_services", "expand"),
        (
            replace(OPERATED, size="4Gi"),
            claim(name="database-1", labels={"cnpg.io/cluster": "database"}),
            "lakehouse_services",
            "shrink",
        ),
    ],
)
def test_a_volume_change_that_loses_data_is_a_problem_with_its_recipe(
    api: Api, volume: Volume, found: dict[str, Any], variable: str, told: str
) -> None:
    api.found[STORAGE]["items"].append({**storage_class("elastic"), "allowVolumeExpansion": True})
    kind = CLUSTERS if volume.kind == "Cluster" else SETS
    api.found |= {CLAIMS: {"items": [found]}, kind: {"items": [database("5Gi")]}}
    problems = look(api, replace(QUESTION, volumes=(volume,))).problems

    assert [problem.variable for problem in problems] == ([variable] if variable else [])
    assert all(told in problem.message and "back up the data" in problem.remedy for problem in problems)


@pytest.mark.parametrize(("manager", "count"), [("crypto-lakehouse", 1), ("helm", 0)])
def test_a_renamed_service_with_a_volume_is_a_problem(api: Api, manager: str, count: int) -> None:
    running = database("5Gi")
    running["metadata"]["labels"] = {"app.kubernetes.io/managed-by": manager}
    api.found |= {CLAIMS: {"items": [claim()]}, SETS: {"items": [running]}}
    problems = look(api, replace(QUESTION, volumes=(replace(DATA, workload="store"),))).problems

    assert [problem.variable for problem in problems] == ["lakehouse_services"] * count
    assert all("cannot rename StatefulSet database to store" in problem.message for problem in problems)


def test_verbs_that_apply_nothing_do_not_read_volumes(api: Api) -> None:
    api.forbidden |= {CLAIMS, SETS, CLUSTERS}
    assert look(api, replace(QUESTION, volumes=(DATA,), verb="health")).problems == []
    assert look(api, replace(QUESTION, volumes=(DATA,))).problems == []
