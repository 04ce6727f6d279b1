# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on claims, Services and Ingresses, and on the backends of a URL of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.network import (
    judge_claims,
    judge_ingresses,
    judge_services,
    judge_sizes,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.proxy import service_address
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.services import judge_pods
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import Check
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.volumes import Volume

Fields = dict[str, Any]
NOW_S = 1_800_000_000.0
READY = {"type": "Ready", "status": "True"}


def thing(group: str, kind: str, name: str, spec: Fields, status: Fields | None = None, **metadata: Any) -> Fields:
    metadata = {"name": name, "namespace": "shop", **metadata}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec, "status": status or {}}


def claim(phase: str, **metadata: Any) -> Fields:
    status = {"phase": phase, "capacity": {"storage": "10Gi"}}
    return thing("v1", "PersistentVolumeClaim", "data", {"storageClassName": "gp3"}, status, **metadata)


def growing(size: str = "20Gi") -> Fields:
    found = claim("Bound")
    return {**found, "spec": {"storageClassName": "gp3", "resources": {"requests": {"storage": size}}}}


def user_of(name: str) -> Fields:
    return thing("v1", "Pod", "api", {"volumes": [{"persistentVolumeClaim": {"claimName": name}}, {"emptyDir": {}}]})


@pytest.mark.parametrize(
    ("found", "pods", "status", "detail"),
    [
        (claim("Lost"), [], "unhealthy", "the volume that it was bound to (unknown) is gone"),
        (claim("Pending"), [user_of("data")], "unhealthy", "no volume is bound to it yet (storage class gp3)"),
        (
            claim("Pending"),
            [user_of("other")],
            "healthy",
            "is bound later, when the first pod that uses it is scheduled (WaitForFirstConsumer)",
        ),
        (claim("Bound"), [user_of("data")], "healthy", "Bound, 10Gi"),
        (growing(), [user_of("data")], "degraded", "expansion from 10Gi to 20Gi: no storage driver has begun it"),
        (
            claim("Bound", deletionTimestamp="2027-01-15T07:59:00Z", finalizers=["kubernetes.io/pvc-protection"]),
            [],
            "degraded",
            "is being deleted for 60 s, held by kubernetes.io/pvc-protection",
        ),
    ],
)
def test_a_claim(found: Fields, pods: list[Fields], status: str, detail: str) -> None:
    (check,) = judge_claims([found], pods, ["gp3"], NOW_S)
    assert check == Check("storage", "shop/data", status, detail, check.remedy)


@pytest.mark.parametrize(
    ("described", "can_expand", "detail", "remedy"),
    [
        ("40Gi", True, "requests 20Gi, and 40Gi is described", "run playbooks/deploy.yml, which expands it"),
        ("40Gi", False, "storage class gp3 does not allow volume expansion", "restore the size 20Gi"),
        ("20Gi", True, None, ""),
        ("5Gi", True, None, ""),
    ],
)
def test_a_claim_that_is_smaller_than_described(
    described: str, can_expand: bool, detail: str | None, remedy: str
) -> None:
    volume = Volume("PersistentVolumeClaim", "shop", "data", "", described)
    classes = [{"metadata": {"name": "gp3"}, "allowVolumeExpansion": can_expand}]
    checks = judge_sizes([growing()], [volume], classes)

    assert len(checks) == (detail is not None)
    for check in checks:
        assert (check.layer, check.subject, check.status) == ("storage", "shop/data/size", "unhealthy")
        assert detail is not None
        assert detail in check.detail
        assert remedy in check.remedy


def service(name: str = "api", **spec: Any) -> Fields:
    return thing("v1", "Service", name, {"selector": {"app": "api"}, **spec})


def endpoints(*ready: bool | None, of: str = "api") -> Fields:
    points = [{"addresses": ["10.0.0.1"], "conditions": {} if one is None else {"ready": one}} for one in ready]
    return {
        "metadata": {"name": f"{of}-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": of}},
        "endpoints": points,
    }


@pytest.mark.parametrize(
    ("found", "slices", "status", "detail"),
    [
        (service(), [], "unhealthy", "none of its endpoints is ready"),
        (service(), [endpoints(False)], "unhealthy", "none of its endpoints is ready"),
        (service(), [{**endpoints(), "endpoints": None}], "unhealthy", "none of its endpoints is ready"),
        (service(), [endpoints(True, of="other")], "unhealthy", "none of its endpoints is ready"),
        (service(type="LoadBalancer"), [endpoints(True)], "unhealthy", "the load balancer has no address yet"),
        (service(), [endpoints(True, False), endpoints(None)], "healthy", "2 endpoints ready"),
        (service(clusterIP="None"), [endpoints(True)], "healthy", "1 endpoint ready"),
    ],
)
def test_a_service(found: Fields, slices: list[Fields], status: str, detail: str) -> None:
    (check,) = judge_services([found], slices, NOW_S)
    assert (check.name, check.status, check.detail) == ("network/shop/service/api", status, detail)
    if not slices:
        assert check.remedy == "kubectl -n shop get pods -l app=api"


def test_services_that_lead_outside_of_the_cluster_are_left_out() -> None:
    assert judge_services([service(type="ExternalName"), service(selector=None)], [], NOW_S) == []


def ingress(*addresses: Fields, **spec: Any) -> Fields:
    status = {"loadBalancer": {"ingress": [*addresses]}}
    return thing("networking.k8s.io/v1", "Ingress", "web", {"ingressClassName": "alb", **spec}, status)


def backend(service_name: str, **port: Any) -> Fields:
    return {"backend": {"service": {"name": service_name, "port": port or {"number": 80}}}}


AT = {"hostname": "lb.example.com"}


@pytest.mark.parametrize(
    ("found", "status", "detail"),
    [
        (ingress(), "unhealthy", "has no address yet: no controller of class alb took it"),
        (
            ingress(AT, rules=[{"http": {"paths": [backend("gone"), backend("api")]}}, {"host": "x"}]),
            "unhealthy",
            "refers to gone, which does not exist",
        ),
        (
            ingress(AT, defaultBackend=backend("gone")["backend"]),
            "unhealthy",
            "refers to gone, which does not exist",
        ),
        (
            ingress(AT, rules=[{"http": {"paths": [backend("redirect", name="use-annotation"), backend("api")]}}]),
            "healthy",
            "at lb.example.com",
        ),
    ],
)
def test_an_ingress(found: Fields, status: str, detail: str) -> None:
    (check,) = judge_ingresses([found], [service()], NOW_S)
    assert (check.name, check.status, check.detail) == ("network/shop/ingress/web", status, detail)


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("http://api.shop.svc:8080", "/health", "/api/v1/namespaces/shop/services/api:8080/proxy/health"),
        ("http://api.shop.svc:8080/ready?x=1", "", "/api/v1/namespaces/shop/services/api:8080/proxy/ready?x=1"),
        ("http://api.shop.svc:8080/base/", "/health", "/api/v1/namespaces/shop/services/api:8080/proxy/base/health"),
        ("https://api.shop.svc.cluster.local", "", "/api/v1/namespaces/shop/services/https:api:443/proxy/"),
        ("http://api", "/metrics", "/api/v1/namespaces/lakehouse/services/api:80/proxy/metrics"),
    ],
)
def test_the_address_of_a_service_is_asked_through_the_api_server(url: str, path: str, expected: str) -> None:
    address = service_address(url, "lakehouse")
    assert address is not None
    assert address.proxied(path) == expected


@pytest.mark.parametrize(
    "url", ["https://api.example.com", "http://10.0.0.7:80", "http://localhost:8080", "http://api.shop.example"]
)
def test_any_other_address_is_asked_directly(url: str) -> None:
    assert service_address(url, "shop") is None


@pytest.mark.parametrize("url", ["", "api:8080", "ftp://api", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        service_address(url, "shop")


def pod(phase: str, ready: bool, **labels: str) -> Fields:
    status = {"phase": phase, "conditions": [READY] if ready else []}
    return thing("v1", "Pod", "p", {}, status, labels=labels)


NAME = {"app.kubernetes.io/name": "database"}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], (False, "none of its pods runs")),
        ([pod("Succeeded", True, **NAME)], (False, "none of its pods runs")),
        ([pod("Running", False, **NAME)], (False, "0 of 1 pod passes its own probe")),
        (
            [pod("Running", True, **NAME), pod("Running", False, **{"cnpg.io/cluster": "database"})],
            (True, "1 of 2 pods pass their own probe"),
        ),
    ],
)
def test_a_service_that_speaks_no_http_is_judged_by_the_probes_of_its_pods(
    pods: list[Fields], expected: tuple[bool, str]
) -> None:
    assert judge_pods("database", "shop", [*pods, pod("Running", True, **{"app.kubernetes.io/name": "x"})]) == expected
    assert judge_pods("database", "elsewhere", pods) == (False, "none of its pods runs")


PRIMARY = {"cnpg.io/instanceRole": "primary"}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], (False, "none of its pods runs")),
        (
            [pod("Running", True, **NAME), pod("Running", True, **NAME)],
            (False, "none of its pods (2) is active: none has the label cnpg.io/instanceRole=primary"),
        ),
        (
            [pod("Running", False, **NAME, **PRIMARY), pod("Running", True, **NAME)],
            (False, "0 of 1 pod passes its own probe"),
        ),
        (
            [pod("Running", True, **NAME, **PRIMARY), pod("Running", False, **NAME)],
            (True, "1 of 1 pod passes its own probe"),
        ),
    ],
)
def test_of_a_service_whose_pods_stand_by_only_those_that_work_count(
    pods: list[Fields], expected: tuple[bool, str]
) -> None:
    assert judge_pods("database", "shop", pods, PRIMARY) == expected
