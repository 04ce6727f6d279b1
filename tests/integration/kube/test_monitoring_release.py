# SPDX-License-Identifier: GPL-3.0-or-later
"""The role monitoring on a real API server, with the real Helm and a small chart."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import APPLY, MERGE, Client
from tests.integration.kube.applying import Fields, b64, look
from tests.integration.kube.cluster import Cluster
from tests.integration.kube.kubelet import until, write_status
from tests.integration.kube.roleplay import HELM, ROOT, Played, play

CHART = ROOT / "tests" / "integration" / "kube" / "charts" / "kube-prometheus-stack"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PASSWORD, WEBHOOK = "grafana-word-7391", "https://hooks.slack.com/services/T0/B0/word-5512"
GROUP = "monitoring.coreos.com"


@dataclass
class Stack:
    """A separate monitoring in a cluster. secrets: values that no output and no release may contain."""

    cluster: Cluster
    client: Client
    folder: Path
    namespace: str
    chart: Path
    secrets: tuple[str, ...] = (PASSWORD, WEBHOOK)

    def play(self, *arguments: str, **changes: Any) -> Played:
        given = {
            "monitoring_namespace": f"{self.namespace}-monitoring",
            "monitoring_lakehouse_namespace": self.namespace,
            "monitoring_domain": "example.org",
            "monitoring_slack": True,
            "monitoring_secret_store": "lakehouse-secrets",
            "monitoring_chart": {"path": str(self.chart), "version": ""},
            "monitoring_helm": {"binary": str(HELM)},
            "monitoring_connection": {"kubeconfig": str(self.cluster.kubeconfig)},
            "monitoring_wait": False,
            **changes,
        }
        played = play(self.folder, "monitoring", *arguments, facts=("helm_release_result",), **given)
        for secret in self.secrets:
            assert secret not in played.output
            assert b64(secret) not in played.output
        return played

    def path(self, plural: str, name: str = "", api: str = "/api/v1") -> str:
        return f"{api}/namespaces/{self.namespace}-monitoring/{plural}" + (f"/{name}" if name else "")

    def get(self, plural: str, name: str, api: str = "/api/v1") -> Fields | None:
        return look(self.client, self.path(plural, name, api))

    def prometheus(self) -> Fields:
        found = self.get("prometheuses", "monitoring", f"/apis/{GROUP}/v1")
        assert found is not None
        return found

    def revisions(self) -> dict[str, str]:
        """Return the status of each revision that Helm knows."""
        query = {"labelSelector": "owner=helm,name=monitoring"}
        found = self.client.pages(self.path("secrets"), query=query)
        return {item["metadata"]["labels"]["version"]: item["metadata"]["labels"]["status"] for item in found}

    def record(self, age_s: float) -> None:
        """Write a revision that a Helm process began some time ago and never completed."""
        labels = {"owner": "helm", "name": "monitoring", "status": "pending-upgrade", "version": "99"}
        labels["modifiedAt"] = str(int(time.time() - age_s))
        metadata = {"name": "sh.helm.release.v1.monitoring.v99", "labels": labels}
        body = {"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1", "metadata": metadata}
        self.client.request("POST", self.path("secrets"), body=body)


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return an installed monitoring, created by the first run; shared definitions are left unchanged."""
    folder, client = tmp_path_factory.mktemp("stack"), cluster.client()
    namespace = f"lakehouse-stack-{time.time_ns()}"
    chart = shutil.copytree(CHART, folder / "kube-prometheus-stack")
    names = [f"{path.stem.removeprefix('crd-')}.{GROUP}" for path in (chart / "crds").iterdir()]
    foreign = [name for name in names if look(client, f"{DEFINITIONS}/{name}")]
    if foreign:
        shutil.rmtree(chart / "crds")
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    client.request("POST", "/api/v1/namespaces", body=made)
    store = {"grafana_admin_password": b64(PASSWORD), "alertmanager_slack_webhook_url": b64(WEBHOOK)}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lakehouse-secrets"}, "data": store}
    client.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body=body)
    found = Stack(cluster, client, folder, namespace, chart)
    try:
        check_without_a_namespace(found)
        check_mode = found.play("--check", "--diff").succeeded()
        assert "kind: Prometheus" in check_mode.output
        assert check_mode.changed > 0
        assert look(client, f"/api/v1/namespaces/{namespace}-monitoring") is None
        assert found.play("--diff").succeeded().facts["helm_release_result"]["changed"] is True
        yield found
    finally:
        for name in (namespace, f"{namespace}-monitoring", f"{namespace}-monitoring-nodes"):
            if look(client, f"/api/v1/namespaces/{name}"):
                client.request("DELETE", f"/api/v1/namespaces/{name}")
        for name in [] if foreign else names:
            if look(client, f"{DEFINITIONS}/{name}"):
                client.request("DELETE", f"{DEFINITIONS}/{name}")
        client.close()


def check_without_a_namespace(stack: Stack) -> None:
    """Assert that errors are reported before any change."""
    refusals = {
        "sha256:": {"monitoring_chart": {"path": str(package(stack)), "version": "", "checksum": "0" * 64}},
        "lakehouse_helm_binary": {"monitoring_helm": {"binary": "/nowhere/helm"}},
        "is kube-prometheus-stack 1.0.0 and not 9.9.9": {
            "monitoring_chart": {"path": str(stack.chart), "version": "9.9.9"}
        },
    }
    for message, variables in refusals.items():
        played = stack.play(**variables).failed()
        assert message in " ".join(played.output.split())
        assert played.changed == 0


def package(stack: Stack) -> Path:
    return Path(shutil.make_archive(str(stack.folder / "package"), "gztar", stack.folder, stack.chart.name))


def test_a_second_run_changes_nothing(stack: Stack) -> None:
    played = stack.play("--diff").succeeded()
    assert played.changed == 0
    assert played.facts["helm_release_result"]["changed"] is False
    assert stack.revisions() == {"1": "deployed"}


def test_secrets_arrive_and_are_in_no_release(stack: Stack) -> None:
    admin, slack = (
        stack.get("secrets", "monitoring-grafana-admin"),
        stack.get("secrets", "monitoring-alertmanager-slack"),
    )
    assert admin is not None
    assert slack is not None
    assert base64.b64decode(admin["data"]["admin-password"]).decode() == PASSWORD
    assert base64.b64decode(slack["data"]["url"]).decode() == WEBHOOK
    release = stack.get("secrets", "sh.helm.release.v1.monitoring.v1")
    assert release is not None
    # Helm compresses it and encodes it in base64, and Kubernetes encodes it again.
    text = gzip.decompress(base64.b64decode(base64.b64decode(release["data"]["release"]))).decode()
    assert json.loads(text)["name"] == "monitoring"
    assert not any(secret in text or b64(secret) in text for secret in stack.secrets)
    config = stack.get("secrets", "alertmanager-monitoring")
    assert config is not None
    assert "api_url_file" in base64.b64decode(config["data"]["alertmanager.yaml"]).decode()


def test_rules_dashboards_and_doors_are_there(stack: Stack) -> None:
    assert stack.get("prometheusrules", "lakehouse-cost", f"/apis/{GROUP}/v1")
    assert stack.get("configmaps", "lakehouse-dashboard-lakehouse")
    assert stack.get("networkpolicies", "lakehouse-prometheus", "/apis/networking.k8s.io/v1")


def test_what_was_changed_by_hand_is_shown_and_repaired(stack: Stack) -> None:
    path = stack.path("prometheuses", "monitoring", f"/apis/{GROUP}/v1")
    stack.client.request("PATCH", path, body={"spec": {"retention": "1d"}}, content_type=MERGE)
    stack.client.request("DELETE", stack.path("services", "monitoring-prometheus"))
    shown = stack.play("--check", "--diff").succeeded()
    assert "-  retention: 1d" in shown.output
    assert "+  retention: 7d" in shown.output
    assert stack.prometheus()["spec"]["retention"] == "1d"
    assert stack.play().succeeded().changed == 1
    assert stack.prometheus()["spec"]["retention"] == "7d"
    assert stack.get("services", "monitoring-prometheus")
    assert stack.revisions() == {"1": "deployed"}


def test_another_value_is_a_revision_of_helm_and_what_others_set_beside_it_stays(stack: Stack) -> None:
    path = stack.path("prometheuses", "monitoring", f"/apis/{GROUP}/v1")
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Prometheus", "metadata": {"labels": {"of": "another"}}}
    stack.client.request("PATCH", path, query={"fieldManager": "another"}, body=body, content_type=APPLY)
    stack.play(monitoring_retention="9d").succeeded()
    assert stack.prometheus()["spec"]["retention"] == "9d"
    assert stack.prometheus()["metadata"]["labels"]["of"] == "another"
    assert stack.revisions()[str(len(stack.revisions()))] == "deployed"
    assert stack.play(monitoring_retention="9d").succeeded().changed == 0


VOLUME = "prometheus-monitoring-db-prometheus-monitoring-0"


@contextlib.contextmanager
def claim_of_prometheus(stack: Stack, storage: str) -> Iterator[None]:
    """Create a storage class without expansion, and the claim of Prometheus with a volume, as its operator does."""
    classes, volumes = "/apis/storage.k8s.io/v1/storageclasses", "/api/v1/persistentvolumes"
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage}
    reference = {"namespace": f"{stack.namespace}-monitoring", "name": VOLUME}
    bound = {"capacity": {"storage": "20Gi"}, "hostPath": {"path": "/nonexistent"}, "claimRef": reference}
    asked = {**spec, "resources": {"requests": {"storage": "20Gi"}}, "volumeName": storage}
    head = {"metadata": {"name": storage}}
    stack.client.request("POST", classes, body={**head, "provisioner": "example.org/none"})
    stack.client.request("POST", volumes, body={**head, "spec": {**spec, **bound}})
    stack.client.request(
        "POST", stack.path("persistentvolumeclaims"), body={"metadata": {"name": VOLUME}, "spec": asked}
    )
    if not stack.cluster.has_controllers:
        write_status(stack.client, stack.path("persistentvolumeclaims", VOLUME), {"phase": "Bound"})
    try:
        until(lambda: (stack.get("persistentvolumeclaims", VOLUME) or {}).get("status", {}).get("phase") == "Bound")
        yield
    finally:
        for path in (stack.path("persistentvolumeclaims", VOLUME), f"{volumes}/{storage}", f"{classes}/{storage}"):
            stack.client.request("DELETE", path)


def sizes(stack: Stack) -> tuple[str, str]:
    """Return the described storage size of Prometheus, and the size that its claim requests."""
    claim = stack.get("persistentvolumeclaims", VOLUME)
    assert claim is not None
    specs = stack.prometheus()["spec"]["storage"]["volumeClaimTemplate"]["spec"], claim["spec"]
    described, asked = (spec["resources"]["requests"]["storage"] for spec in specs)
    return described, asked


def test_a_grown_volume_is_refused_before_helm_runs_and_expanded_where_its_class_allows_that(stack: Stack) -> None:
    before, storage = stack.revisions(), f"rigid-{stack.namespace}"
    with claim_of_prometheus(stack, storage):
        refused = stack.play(monitoring_prometheus_volume_gib=30).failed()
        told = " ".join(refused.output.split())
        assert f"storage class {storage} does not allow volume expansion" in told
        assert sizes(stack) == ("20Gi", "20Gi")
        assert stack.revisions() == before

        (patch,) = set(re.findall(rf"kubectl patch storageclass {storage} -p '([^']+)'", told))
        path = f"/apis/storage.k8s.io/v1/storageclasses/{storage}"
        stack.client.request("PATCH", path, body=patch, content_type=MERGE, repeat=True)
        stack.play(monitoring_prometheus_volume_gib=30).succeeded()
        assert sizes(stack) == ("30Gi", "30Gi")
        assert stack.play(monitoring_prometheus_volume_gib=30).succeeded().changed == 0
        # A smaller description leaves the claim unchanged.
        stack.play().succeeded()
        assert sizes(stack) == ("20Gi", "30Gi")


def test_definitions_are_upgraded_before_the_release(stack: Stack) -> None:
    crds = stack.chart / "crds"
    path = crds / "crd-prometheuses.yaml"
    if not path.exists():
        pytest.skip("the cluster has definitions of its own, which no test touches")
    old = path.read_text(encoding="utf-8")
    path.write_text(
        old.replace("singular: prometheus}", "singular: prometheus, shortNames: [newer]}"), encoding="utf-8"
    )
    try:
        stack.play(monitoring_retention="9d").succeeded()
        found = look(stack.client, f"{DEFINITIONS}/prometheuses.{GROUP}")
        assert found is not None
        assert found["spec"]["names"]["shortNames"] == ["newer"]
    finally:
        path.write_text(old, encoding="utf-8")


def test_a_helm_that_may_be_at_work_is_left_alone(stack: Stack) -> None:
    stack.record(age_s=5)
    try:
        played = stack.play().failed()
        assert "is pending-upgrade since" in " ".join(played.output.split())
        assert stack.revisions()["99"] == "pending-upgrade"
    finally:
        stack.client.request("DELETE", stack.path("secrets", "sh.helm.release.v1.monitoring.v99"))


def test_what_an_interrupted_helm_left_is_removed(stack: Stack) -> None:
    stack.record(age_s=600)
    stack.play().succeeded()
    assert "99" not in stack.revisions()


def test_a_level_without_a_volume_of_grafana_leaves_it_and_a_later_one_uses_it_again(stack: Stack) -> None:
    def claim() -> str:
        found = stack.get("persistentvolumeclaims", "monitoring-grafana")
        return str(found["metadata"]["uid"]) if found else ""

    stack.play(monitoring_grafana_volume_gib=10).succeeded()
    before = claim()
    assert before
    for size in (0, 10):
        stack.play(monitoring_grafana_volume_gib=size).succeeded()
        assert claim() == before


def test_it_goes_and_leaves_what_holds_data(stack: Stack) -> None:
    shown = stack.play("--check", monitoring_state="absent").succeeded()
    assert shown.changed > 0
    assert stack.prometheus()
    stack.play(monitoring_state="absent").succeeded()
    assert stack.get("prometheuses", "monitoring", f"/apis/{GROUP}/v1") is None
    assert stack.get("configmaps", "lakehouse-dashboard-lakehouse") is None
    assert stack.get("persistentvolumeclaims", "monitoring-grafana")
    assert look(stack.client, f"/api/v1/namespaces/{stack.namespace}-monitoring")
    assert look(stack.client, f"{DEFINITIONS}/prometheuses.{GROUP}")
    assert stack.play(monitoring_state="absent").succeeded().changed == 0
