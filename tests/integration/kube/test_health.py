# SPDX-License-Identifier: GPL-3.0-or-later
"""Health of a lakehouse on a real API server: problems are found and named, and other objects are healthy."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.examine import (
    ClusterInstallation,
    examine_cluster,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import Check, Report
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.volumes import Volume
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.modules import lakehouse_health
from tests.integration.kube.cluster import Authority, Cluster
from tests.integration.kube.kubelet import (
    Fields,
    bind,
    crash,
    deployment,
    pod_spec,
    pods_of,
    run,
    until,
    write_status,
)

API = {
    "status": "healthy",
    "components": {
        name: {"status": "healthy", "response_time_ms": 1.0, "error": None} for name in ("database", "catalog")
    },
}


class _Service(BaseHTTPRequestHandler):
    """Answers as the API does, and records its requests."""

    seen: list[Mapping[str, str]]

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        route = self.path.partition("?")[0]
        metric = f'crypto_lakehouse_pipeline_last_success_timestamp_seconds{{flow="ingest"}} {time.time()}\n'
        bodies = {"/ready": "", "/health": json.dumps(API), "/metrics": metric}
        status = {"/locked": 401, "/moved": 302, "/broken": 500}.get(route, 200 if route in bodies else 404)
        body = bodies.get(route, "").encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://elsewhere.example.com/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base
        return


@dataclass(frozen=True)
class Backend:
    """A service of this machine. address: the one for an API server, which does not accept loopback addresses."""

    address: str
    port: int
    seen: list[Mapping[str, str]]


@pytest.fixture
def backend() -> Iterator[Backend]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        # Nothing is sent: it only finds the address of this machine with the default route.
        probing.connect(("192.0.2.1", 9))
        address = probing.getsockname()[0]
    seen: list[Mapping[str, str]] = []
    server = ThreadingHTTPServer((address, 0), type("Service", (_Service,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Backend(address, server.server_address[1], seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Shop:
    """A namespace with a small healthy lakehouse: one workload, its Service, a claim, an Ingress."""

    def __init__(self, client: Client, namespace: str, backend: Backend) -> None:
        self.client, self.namespace, self.backend = client, namespace, backend
        self._in = f"namespaces/{namespace}"

    def create(self, path: str, obj: Fields) -> str:
        created = self.client.request("POST", f"{path.replace('NS', self._in)}", body=obj)
        return f"{path.replace('NS', self._in)}/{created['metadata']['name']}"

    def open(self, node: str, volume: str) -> None:
        body = deployment("api")
        body["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] = "api"
        self.create("/apis/apps/v1/NS/deployments", body)
        for pod in self.pods():
            bind(self.client, pod, node)
            run(self.client, pod, self.backend.address)
        self.add_service("api")
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        spec = {**claim, "storageClassName": "", "volumeName": volume}
        path = self.create("/api/v1/NS/persistentvolumeclaims", {"metadata": {"name": "data"}, "spec": spec})
        until(lambda: self.client.request("GET", path)["status"].get("phase") == "Bound")
        service = {"service": {"name": "api", "port": {"number": 80}}}
        body = {"metadata": {"name": "api"}, "spec": {"ingressClassName": "none", "defaultBackend": service}}
        path = self.create("/apis/networking.k8s.io/v1/NS/ingresses", body)
        write_status(self.client, path, {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}})
        available = f"/apis/apps/v1/{self._in}/deployments/api"
        until(lambda: self.client.request("GET", available)["status"].get("availableReplicas"))
        until(lambda: self.has_endpoints("api"))

    def add_service(self, name: str, app: str = "api", port: int = 0) -> None:
        """Add a Service of the workload `app`, whose pod is this machine."""
        spec = {
            "ports": [{"port": self.backend.port, "targetPort": port or self.backend.port}],
            "selector": {"app": app},
        }
        self.create("/api/v1/NS/services", {"metadata": {"name": name}, "spec": spec})

    def has_endpoints(self, name: str) -> bool:
        """Return whether the controllers have found the pods of a Service, in both forms."""
        query = {"labelSelector": f"kubernetes.io/service-name={name}"}
        path = f"/apis/discovery.k8s.io/v1/{self._in}/endpointslices"
        slices = [point for one in self.client.pages(path, query=query) for point in one.get("endpoints") or ()]
        legacy = self.client.pages(f"/api/v1/{self._in}/endpoints")
        return bool(slices) and any(one["metadata"]["name"] == name and one.get("subsets") for one in legacy)

    def add_certificate(self, name: str, days: float) -> None:
        pem = Authority.make().issue("shop", lifetime=dt.timedelta(days=days))
        data = {"tls.crt": base64.b64encode(pem).decode(), "tls.key": base64.b64encode(pem).decode()}
        body = {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}
        self.create("/api/v1/NS/secrets", body)

    def pods(self, name: str = "api") -> list[Fields]:
        found: list[Fields] = until(lambda: pods_of(self.client, self.namespace, name))
        return found


@pytest.fixture
def shop(cluster: Cluster, namespace: str, backend: Backend) -> Iterator[Shop]:
    with cluster.client() as client, a_node(client) as node, a_volume(client) as volume:
        shop = Shop(client, namespace, backend)
        shop.open(node, volume)
        yield shop


@contextlib.contextmanager
def a_node(client: Client, *conditions: Fields) -> Iterator[str]:
    """Create a node without scheduled pods."""
    name = f"lakehouse-test-{uuid.uuid4().hex[:8]}"
    taint = {"key": "lakehouse.test/nowhere", "effect": "NoSchedule"}
    client.request("POST", "/api/v1/nodes", body={"metadata": {"name": name}, "spec": {"taints": [taint]}})
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
    try:
        write_status(client, f"/api/v1/nodes/{name}", {"conditions": [*(conditions or [ready])]})
        yield name
    finally:
        client.request("DELETE", f"/api/v1/nodes/{name}")


@contextlib.contextmanager
def a_volume(client: Client) -> Iterator[str]:
    """Create a volume without a class, for the first claim that names it."""
    name = f"lakehouse-test-{uuid.uuid4().hex[:8]}"
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}
    body = {"metadata": {"name": name}, "spec": {**spec, "persistentVolumeReclaimPolicy": "Retain"}}
    client.request("POST", "/api/v1/persistentvolumes", body=body)
    try:
        yield name
    finally:
        client.request("DELETE", f"/api/v1/persistentvolumes/{name}")


def installation(shop: Shop, **changes: Any) -> ClusterInstallation:
    return replace(ClusterInstallation(namespaces=(shop.namespace,), timeout_s=10.0), **changes)


def examined(cluster: Cluster, shop: Shop, **changes: Any) -> Report:
    def connect() -> Any:
        return connection({"kubeconfig": str(cluster.kubeconfig)})

    return examine_cluster(connect, installation(shop, **changes))


def of(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks}


def of_namespace(report: Report, namespace: str) -> list[str]:
    """Return the unhealthy objects of the namespace; foreign ones may exist on a shared cluster."""
    return [name for name in report.unhealthy if namespace in name]


def test_what_is_well_is_healthy_in_every_layer(cluster: Cluster, shop: Shop) -> None:
    url = f"http://api.{shop.namespace}.svc:{shop.backend.port}"
    health = [
        {"service": "api", "type": "http", "url": f"{url}/ready", "timeout_s": 5, "expected_status": [200]},
        {"service": "worker", "type": "command", "owner": "api", "namespace": shop.namespace, "command": ["true"]},
    ]
    shop.add_certificate("tls", 90)
    report = examined(cluster, shop, health=health, api_url=url)
    found = of(report)
    place = shop.namespace
    healthy = {
        "cluster/version",
        "cluster/api-server",
        f"workloads/{place}/deployment/api",
        f"pods/{place}",
        f"storage/{place}/data",
        f"network/{place}/service/api",
        f"network/{place}/ingress/api",
        f"certificates/{place}/tls",
        "services/api",
        "services/worker",
        "data/database",
        "data/catalog",
        "pipeline/ingest",
    }
    assert {name: found[name].status for name in healthy} == dict.fromkeys(healthy, "healthy")
    assert of_namespace(report, place) == []
    assert found["services/worker"].detail == "1 of 1 pod passes its own probe"
    assert any(name.startswith("nodes/") for name in found)
    assert all(check.response_time_ms is not None for check in report.checks)


def test_a_claim_that_is_smaller_than_described_is_unhealthy(cluster: Cluster, shop: Shop) -> None:
    volume = Volume("PersistentVolumeClaim", shop.namespace, "data", "", "1Gi")
    name = f"storage/{shop.namespace}/data/size"
    assert name not in of(examined(cluster, shop, volumes=[volume.to_data()]))
    found = of(examined(cluster, shop, volumes=[replace(volume, size="2Gi").to_data()]))
    assert (found[name].status, found[f"storage/{shop.namespace}/data"].status) == ("unhealthy", "healthy")
    assert "from 1Gi to 2Gi" in found[name].detail


def test_the_api_servers_certificate_is_examined(cluster: Cluster, shop: Shop) -> None:
    check = of(examined(cluster, shop))["certificates/api-server"]
    assert check.detail.startswith(("expires in ", "expired "))


def test_a_node_that_is_not_ready_or_under_pressure_is_unhealthy(cluster: Cluster, shop: Shop) -> None:
    lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting"}
    full = {"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure"}
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": dt.datetime.now(dt.UTC).isoformat()}
    with a_node(shop.client, lost) as first, a_node(shop.client, ready, full) as second:
        found = of(examined(cluster, shop))
    assert (found[f"nodes/{first}"].status, found[f"nodes/{second}"].status) == ("unhealthy", "unhealthy")
    assert found[f"nodes/{second}"].detail == "DiskPressure: KubeletHasDiskPressure"


def test_everything_that_is_wrong_is_found_in_one_report(cluster: Cluster, shop: Shop) -> None:
    place = shop.namespace
    crash(shop.client, shop.pods()[0])
    shop.create("/apis/apps/v1/NS/deployments", deployment("stuck"))
    shop.add_service("nobody", "stuck")
    shop.add_certificate("soon", 3)
    spec = {"restartPolicy": "Never", **pod_spec()}
    shop.create("/api/v1/NS/pods", {"metadata": {"name": "alone"}, "spec": spec})
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "no"}
    shop.create("/api/v1/NS/persistentvolumeclaims", {"metadata": {"name": "lost"}, "spec": claim})
    backend = {"service": {"name": "gone", "port": {"number": 80}}}
    body = {"metadata": {"name": "web"}, "spec": {"defaultBackend": backend}}
    shop.create("/apis/networking.k8s.io/v1/NS/ingresses", body)
    until(
        lambda: (
            not shop.client.request("GET", f"/apis/apps/v1/namespaces/{place}/deployments/api")["status"].get(
                "availableReplicas"
            )
        )
    )
    report = examined(cluster, shop, namespaces=(place, "lakehouse-typo"))
    found = of(report)
    assert set(of_namespace(report, place)) == {
        f"workloads/{place}/deployment/api",
        f"workloads/{place}/deployment/stuck",
        f"pods/{place}/{shop.pods()[0]['metadata']['name']}",
        f"storage/{place}/lost",
        f"network/{place}/service/api",
        f"network/{place}/service/nobody",
        f"network/{place}/ingress/web",
        f"certificates/{place}/soon",
    }
    assert found["workloads/lakehouse-typo"].status == "unhealthy"
    assert found[f"pods/{place}/alone"].status == "degraded"
    assert "CrashLoopBackOff" in found[f"pods/{place}/{shop.pods()[0]['metadata']['name']}"].detail
    assert "Next: kubectl" in report.message()


@pytest.mark.parametrize(
    ("path", "more", "status", "detail"),
    [
        ("/ready", {}, "healthy", "HTTP 200"),
        ("/broken", {}, "unhealthy", "HTTP 500, expected 200"),
        ("/moved", {}, "unhealthy", "HTTP 302, expected 200"),
        ("/locked", {}, "unhealthy", "HTTP 401, expected 200"),
        ("/locked", {"username": "lakehouse", "secret": "prometheus_password"}, "healthy", "HTTP 401"),
        ("/missing", {"expected_status": [200, 404]}, "healthy", "HTTP 404"),
    ],
)
def test_a_service_is_asked_through_the_api_server(
    cluster: Cluster, shop: Shop, path: str, more: Fields, status: str, detail: str
) -> None:
    url = f"http://api.{shop.namespace}.svc:{shop.backend.port}{path}"
    check = of(examined(cluster, shop, health=[{"service": "api", "type": "http", "url": url, **more}]))["services/api"]
    assert (check.status, check.detail) == (status, detail)


def test_a_service_without_endpoints_and_one_that_does_not_answer_say_so(cluster: Cluster, shop: Shop) -> None:
    port = shop.backend.port
    with socket.create_server((shop.backend.address, 0)) as closed:
        shop.add_service("refuses", port=closed.getsockname()[1])
    shop.add_service("nobody", "nobody")
    until(lambda: shop.has_endpoints("refuses"))
    urls = {name: f"http://{name}.{shop.namespace}.svc:{port}/" for name in ("nobody", "refuses", "unknown")}
    health = [{"service": name, "type": "http", "url": url, "expected_status": [503]} for name, url in urls.items()]
    found = of(examined(cluster, shop, health=health))
    assert {found[f"services/{name}"].status for name in urls} == {"unhealthy"}
    assert "no endpoints available" in found["services/nobody"].detail
    assert "connection refused" in found["services/refuses"].detail
    assert "not found" in found["services/unknown"].detail


def test_no_service_sees_the_credentials_of_the_cluster(cluster: Cluster, shop: Shop) -> None:
    account = {"metadata": {"name": "looker"}}
    path = shop.create("/api/v1/NS/serviceaccounts", account)
    rules = [{"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}]
    shop.create("/apis/rbac.authorization.k8s.io/v1/NS/roles", {"metadata": {"name": "looker"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "looker", "namespace": shop.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looker"}
    binding = {"metadata": {"name": "looker"}, "subjects": [subject], "roleRef": role}
    shop.create("/apis/rbac.authorization.k8s.io/v1/NS/rolebindings", binding)
    token = shop.client.request("POST", f"{path}/token", body={"spec": {}})["status"]["token"]
    content = _with_token(cluster, token)
    url = f"http://api.{shop.namespace}.svc:{shop.backend.port}"
    given = installation(shop, health=[{"service": "api", "type": "http", "url": f"{url}/ready"}])
    report = examine_cluster(lambda: connection({"kubeconfig": content}), given)
    assert of(report)["services/api"].status == "healthy"
    assert shop.backend.seen
    assert token not in json.dumps(shop.backend.seen)
    assert not any("authorization" in map(str.lower, headers) for headers in shop.backend.seen)
    assert token not in json.dumps(report.as_result())
    # Every unreadable kind is a finding of its own, and not a crash.
    refused = of(report)["nodes/all"]
    assert refused.status == "unhealthy"
    assert "403" in refused.detail
    assert refused.remedy.startswith("grant the credentials")


def _with_token(cluster: Cluster, token: str) -> Fields:
    import yaml

    content: Fields = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"] = [{"name": content["users"][0]["name"], "user": {"token": token}}]
    return content


def test_a_token_that_is_not_accepted_is_one_unhealthy_check(cluster: Cluster, shop: Shop) -> None:
    content = _with_token(cluster, "not-a-token")
    report = examine_cluster(lambda: connection({"kubeconfig": content}), installation(shop))
    assert [check.name for check in report.checks] == ["cluster/api-server"]
    assert "401 Unauthorized" in report.message()
    assert "not-a-token" not in json.dumps(report.as_result())


def test_a_server_that_is_not_there_is_one_unhealthy_check(cluster: Cluster, shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    given = {"kubeconfig": str(cluster.kubeconfig), "host": f"https://127.0.0.1:{port}"}
    started_s = time.monotonic()
    report = examine_cluster(lambda: connection(given), installation(shop))
    assert time.monotonic() - started_s < 10
    assert [check.name for check in report.checks] == ["cluster/api-server"]
    assert "nothing listens there" in report.message()


def test_the_module_fails_with_the_names_of_what_is_unhealthy(
    cluster: Cluster, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add_certificate("expired", -0.01)
    options = {
        "target": "k3s",
        "kubeconfig": str(cluster.kubeconfig),
        "namespaces": [shop.namespace],
        "timeout_s": 10.0,
        "certificate_days": 0.0,
    }
    with patch_module_args(options), pytest.raises(SystemExit):
        lakehouse_health.main()
    returned = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert returned["failed"] is True
    assert returned["changed"] is False
    assert f"certificates/{shop.namespace}/expired" in returned["unhealthy"]
    assert {"healthy", "checks", "unhealthy", "degraded", "table", "msg"} <= set(returned)
