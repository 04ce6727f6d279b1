# SPDX-License-Identifier: GPL-3.0-or-later
"""The role autoscaling: on a real API server with the real Helm and small charts, and on a planned cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE, Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.yaml.documents import read
from tests.integration.kube.applying import Fields, look
from tests.integration.kube.cluster import Cluster
from tests.integration.kube.roleplay import CHARTS, HELM, ROOT, Played, helm, play, play_tasks

OWN_CHARTS = ROOT / "tests" / "integration" / "kube" / "charts"
ROLE = ROOT / "roles" / "autoscaling"
PARTS = {"adapter": "prometheus-adapter", "vertical": "vertical-pod-autoscaler", "metrics": "metrics-server"}
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/verticalpodautoscalers.autoscaling.k8s.io"
VERSIONS = ("1.33", "1.34", "1.35", "1.36")
METRICS = {"found": False, "labels": {}, "annotations": {}}
OURS = {"found": True, "labels": {}, "annotations": {"meta.helm.sh/release-namespace": "autoscaling"}}
MARKED = {"found": True, "labels": {}, "annotations": {"crypto-lakehouse/vertical-pod-autoscaler": "installed"}}
THEIRS = {"found": True, "labels": {"k8s-app": "metrics-server"}, "annotations": {}}
# The objects of the specification, field by field.
HORIZONTAL: Fields = {
    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"},
    "minReplicas": 3,
    "maxReplicas": 20,
    "metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
        {
            "type": "Resource",
            "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 80}},
        },
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "crypto_lakehouse_active_connections"},
                "target": {"type": "AverageValue", "averageValue": "100"},
            },
        },
    ],
    "behavior": {
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
        "scaleUp": {
            "stabilizationWindowSeconds": 60,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}],
        },
    },
}
BOUNDS: Fields = {
    "containerName": "api",
    "minAllowed": {"cpu": "100m", "memory": "128Mi"},
    "maxAllowed": {"cpu": "2000m", "memory": "4Gi"},
    "controlledResources": ["cpu", "memory"],
}
FLAGS = {
    "--v=4",
    "--stderrthreshold=info",
    "--cloud-provider=aws",
    "--skip-nodes-with-local-storage=false",
    "--expander=least-waste",
    "--node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/lake-production",
    "--balance-similar-node-groups",
    "--skip-nodes-with-system-pods=false",
}


def evaluated(folder: Path, *names: str, cluster: Fields, **variables: Any) -> Fields:
    """Return the variables of the role for a cluster whose facts are known, without any action."""
    told = folder / "told.json"
    content = "{{ {" + ", ".join(f"'{name}': {name}" for name in names) + "} | to_json }}"
    files = [
        {"ansible.builtin.include_vars": {"file": str(ROLE / place)}}
        for place in ("defaults/main.yml", "vars/main.yml")
    ]
    given = {**variables, "_autoscaling_cluster": cluster, "role_path": str(ROLE)}
    write = {"ansible.builtin.copy": {"content": content, "dest": str(told), "mode": "0600"}}
    link = folder / "templates"
    if not link.exists():
        link.symlink_to(ROLE / "templates")
    play_tasks(folder, [*files, write], "-e", json.dumps(given)).succeeded()
    found: Fields = json.loads(told.read_text(encoding="utf-8"))
    return found


def of(
    *,
    metrics: Fields | None = None,
    recommender: Fields | None = None,
    namespace: Fields | None = None,
    served: tuple[str, ...] = (),
) -> Fields:
    """Return a cluster with known facts. served: in addition to the kinds that every cluster serves."""
    found = [metrics or METRICS, recommender or METRICS, namespace or METRICS]
    return {"minor": "1.35", "api_versions": ["apps/v1", *served], "objects": found}


@pytest.mark.parametrize(
    ("cluster", "installs"),
    [
        (of(), ["metrics-server", "prometheus-adapter", "vertical-pod-autoscaler"]),
        (of(metrics=THEIRS), ["prometheus-adapter", "vertical-pod-autoscaler"]),
        (of(metrics=OURS), ["metrics-server", "prometheus-adapter", "vertical-pod-autoscaler"]),
        (of(metrics=THEIRS, served=("autoscaling.k8s.io/v1",)), ["prometheus-adapter"]),
        (
            of(metrics=THEIRS, namespace=MARKED, served=("autoscaling.k8s.io/v1",)),
            ["prometheus-adapter", "vertical-pod-autoscaler"],
        ),
        (
            of(metrics=THEIRS, recommender=OURS, served=("autoscaling.k8s.io/v1",)),
            ["prometheus-adapter", "vertical-pod-autoscaler"],
        ),
    ],
    ids=[
        "an empty cluster",
        "metrics of its own",
        "metrics of ours",
        "a recommender of its own",
        "definitions of a run of ours that was cut off",
        "a recommender of ours",
    ],
)
def test_what_the_cluster_has_is_left_alone_and_what_is_ours_is_kept_up_to_date(
    cluster: Fields, installs: list[str], tmp_path: Path
) -> None:
    found = evaluated(tmp_path, "_autoscaling_releases", "_autoscaling_object_files", cluster=cluster)
    assert [one["release"] for one in found["_autoscaling_releases"] if one["wanted"]] == installs
    by_release = "vertical-pod-autoscaler" in installs
    assert ("vertical" in found["_autoscaling_object_files"]) is not by_release


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """Return objects and values with all settings in use."""
    folder = tmp_path_factory.mktemp("described")
    bundle = folder / "ca.pem"
    bundle.write_text("certificates", encoding="utf-8")
    folders = [
        f"'{name}': lookup('ansible.builtin.template', 'values/{name}.yml.j2') | from_yaml" for name in PARTS.values()
    ]
    return evaluated(
        folder,
        "_autoscaling_objects",
        "_told_values",
        cluster=of(served=("autoscaling.k8s.io/v1",), recommender=METRICS),
        _told_values="{{ {" + ", ".join(folders) + "} }}",
        autoscaling_cluster_name="lake-production",
        autoscaling_region="eu-central-1",
        autoscaling_images={"registry": "mirror.example.org/hub/", "pull_secrets": ["pull"]},
        autoscaling_ca_bundle=str(bundle),
        autoscaling_client_environment={"HTTPS_PROXY": "http://proxy.example.org:3128"},
    )


def of_kind(described: Fields, kind: str) -> Fields:
    (found,) = (each for each in described["_autoscaling_objects"] if each["kind"] == kind)
    return dict(found)


def test_the_horizontal_autoscaler_is_that_of_the_specification(described: Fields) -> None:
    assert of_kind(described, "HorizontalPodAutoscaler")["spec"] == HORIZONTAL


def test_the_vertical_one_recommends_within_the_bounds_of_the_specification_and_changes_nothing(
    described: Fields,
) -> None:
    spec = of_kind(described, "VerticalPodAutoscaler")["spec"]
    assert spec["updatePolicy"] == {"updateMode": "Off"}
    assert spec["resourcePolicy"] == {"containerPolicies": [BOUNDS]}
    values = described["_told_values"]["vertical-pod-autoscaler"]
    assert values["updater"] == values["admissionController"] == {"enabled": False}


def test_the_cluster_autoscaler_has_the_flags_of_the_specification_and_the_version_of_the_cluster(
    described: Fields,
) -> None:
    pod = of_kind(described, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert set(container["command"][1:]) == FLAGS
    assert container["image"] == "mirror.example.org/hub/autoscaling/cluster-autoscaler:v1.35.0"
    assert container["resources"] == {words: {"cpu": "100m", "memory": "300Mi"} for words in ("requests", "limits")}
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {
        "AWS_REGION": "eu-central-1",
        "HTTPS_PROXY": "http://proxy.example.org:3128",
        "SSL_CERT_FILE": "/etc/lakehouse/ca.crt",
    }


def test_the_cluster_autoscaler_is_restricted(described: Fields) -> None:
    pod = of_kind(described, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "hostNetwork" not in pod


def test_the_cluster_autoscaler_may_change_nodes_and_evict_and_nothing_else(described: Fields) -> None:
    role = of_kind(described, "ClusterRole")
    look_only = {"get", "list", "watch"}
    changes = {
        (rule["resources"][0], verb) for rule in role["rules"] for verb in rule["verbs"] if verb not in look_only
    }
    assert changes == {
        ("nodes", "update"),
        ("pods/eviction", "create"),
        ("pods/status", "update"),
        ("events", "create"),
        ("events", "patch"),
    }
    assert not any("secrets" in rule["resources"] or "*" in rule["resources"] for rule in role["rules"])
    assert of_kind(described, "Role")["metadata"]["namespace"] == "kube-system"


def test_the_adapter_tells_what_is_scaled_on_and_nothing_else(described: Fields) -> None:
    rules = described["_told_values"]["prometheus-adapter"]["rules"]
    (rule,) = rules["custom"]
    assert rules["default"] is False
    metric = HORIZONTAL["metrics"][2]["pods"]["metric"]["name"]
    assert rule["seriesQuery"] == f'{metric}{{namespace!="",pod!=""}}'
    source = ROOT / "roles" / "application" / "files" / "src" / "crypto_lakehouse" / "metrics.py"
    assert f'"{metric}"' in source.read_text(encoding="utf-8")


@pytest.mark.parametrize("version", VERSIONS)
def test_servers_of_all_supported_versions_take_the_objects(described: Fields, version: str) -> None:
    for each in described["_autoscaling_objects"]:
        if each["kind"] != "VerticalPodAutoscaler":
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.charts
@pytest.mark.parametrize("name", PARTS.values())
def test_the_real_charts_make_restricted_pods_of_the_mirror(name: str, described: Fields, tmp_path: Path) -> None:
    (path,) = Path(CHARTS or "").glob(f"{name}-*.tgz")
    values = tmp_path / "values.json"
    values.write_text(json.dumps(described["_told_values"][name]), encoding="utf-8")
    served = ("--api-versions", "apiregistration.k8s.io/v1")
    documents, faults = read(helm("template", name, path, "--namespace", "autoscaling", "--values", values, *served))
    assert faults == []
    objects = [document.content for document in documents]
    (workload,) = (each for each in objects if each["kind"] == "Deployment")
    pod = workload["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] in ([{"name": "pull"}], ["pull"])
    for container in pod["containers"]:
        merged = {**pod.get("securityContext", {}), **container["securityContext"]}
        assert merged["runAsNonRoot"] is True
        assert merged["allowPrivilegeEscalation"] is False
        assert merged["capabilities"]["drop"] == ["ALL"]
        assert merged["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["image"].startswith("mirror.example.org/hub/")
        assert set(container["resources"]) == {"requests", "limits"}
    for each in objects:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=False)


def test_a_cluster_that_is_only_planned_is_planned_for(tmp_path: Path) -> None:
    played = play(
        tmp_path, "autoscaling", facts=("autoscaling_changes",), **charts(autoscaling_kubernetes_version="1.36")
    )
    assert played.succeeded().changed > 0
    assert "autoscalers" in played.facts["autoscaling_changes"]


def charts(**variables: Any) -> Fields:
    small = {
        f"autoscaling_{part}_chart": {"path": str(OWN_CHARTS / name), "version": ""} for part, name in PARTS.items()
    }
    return {**small, "autoscaling_helm": {"binary": str(HELM)}, "autoscaling_wait": False, **variables}


@dataclass
class Scaled:
    """A platform with its own autoscalers in a cluster."""

    cluster: Cluster
    client: Client
    folder: Path
    namespace: str

    def play(self, *arguments: str, **changes: Any) -> Played:
        given = {
            "autoscaling_namespace": f"{self.namespace}-autoscaling",
            "autoscaling_lakehouse_namespace": self.namespace,
            "autoscaling_connection": {"kubeconfig": str(self.cluster.kubeconfig)},
            **changes,
        }
        return play(self.folder, "autoscaling", *arguments, facts=("autoscaling_changes",), **charts(**given))

    def horizontal(self) -> Fields | None:
        return look(self.client, self.path)

    @property
    def path(self) -> str:
        return f"/apis/autoscaling/v2/namespaces/{self.namespace}/horizontalpodautoscalers/api"


@pytest.fixture(scope="module")
def scaled(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    client, namespace = cluster.client(), f"lakehouse-scaled-{time.time_ns()}"
    has_definition = look(client, DEFINITION) is not None
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    client.request("POST", "/api/v1/namespaces", body=made)
    found = Scaled(cluster, client, tmp_path_factory.mktemp("scaled"), namespace)
    try:
        shown = found.play("--check", "--diff").succeeded()
        assert "averageUtilization: 70" in shown.output
        assert found.horizontal() is None
        found.play().succeeded()
        yield found
    finally:
        for name in (namespace, f"{namespace}-autoscaling"):
            if look(client, f"/api/v1/namespaces/{name}"):
                client.request("DELETE", f"/api/v1/namespaces/{name}")
        if not has_definition and look(client, DEFINITION):
            client.request("DELETE", DEFINITION)
        client.close()


def test_a_second_run_changes_nothing(scaled: Scaled) -> None:
    played = scaled.play("--diff").succeeded()
    assert (played.changed, played.facts["autoscaling_changes"]) == (0, [])


def test_the_server_has_what_the_specification_says(scaled: Scaled) -> None:
    found = scaled.horizontal()
    assert found is not None
    metrics = found["spec"].pop("metrics")
    assert sorted(metrics, key=json.dumps) == sorted(HORIZONTAL["metrics"], key=json.dumps)
    spec = found["spec"]
    for direction in ("scaleUp", "scaleDown"):
        rules = spec["behavior"][direction]
        assert {name: rules[name] for name in HORIZONTAL["behavior"][direction]} == HORIZONTAL["behavior"][direction]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 20)
    vertical = f"/apis/autoscaling.k8s.io/v1/namespaces/{scaled.namespace}/verticalpodautoscalers/api"
    recommender = look(scaled.client, vertical)
    assert recommender is not None
    assert recommender["spec"]["updatePolicy"]["updateMode"] == "Off"


def test_bounds_that_somebody_else_took_over_are_named_and_left_alone(scaled: Scaled) -> None:
    query = {"fieldManager": "somebody"}
    scaled.client.request("PATCH", scaled.path, query=query, body={"spec": {"maxReplicas": 50}}, content_type=MERGE)
    played = scaled.play().failed()
    assert "somebody" in played.output
    assert "maxReplicas" in played.output
    found = scaled.horizontal()
    assert found is not None
    assert found["spec"]["maxReplicas"] == 50


def test_they_go(scaled: Scaled) -> None:
    scaled.play(autoscaling_state="absent").succeeded()
    assert scaled.horizontal() is None
    assert scaled.play(autoscaling_state="absent").succeeded().changed == 0
