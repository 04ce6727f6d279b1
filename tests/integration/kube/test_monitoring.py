# SPDX-License-Identifier: GPL-3.0-or-later
"""Values and objects of the role monitoring, rendered by the real Helm, without a cluster.

The chart is a small one with the schema that the role requires, and the real one where LAKEHOUSE_TEST_CHARTS names a
folder with its package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.yaml.documents import read
from tests.integration.kube.roleplay import CHARTS, ROOT, helm, play

LEVELS = ("basic", "enhanced", "comprehensive")
OWN_CHART = ROOT / "tests" / "integration" / "kube" / "charts" / "kube-prometheus-stack"
CATALOGUE = ROOT / "roles" / "catalogue" / "files"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
# Every variable with an effect on the objects.
EVERYTHING: dict[str, Any] = {
    "monitoring_environment": "production",
    "monitoring_storage_class": "fast",
    "monitoring_domain": "example.org",
    "monitoring_ingress_class": "alb",
    "monitoring_slack": True,
    "monitoring_secret_store": "lakehouse-secrets",
    "monitoring_images": {"registry": "mirror.example.org:5000/hub", "pull_secrets": ["pull"]},
    "monitoring_client_environment": {"HTTPS_PROXY": "http://proxy.example.org:3128"},
}
VERSIONS = ("1.33", "1.34", "1.35", "1.36")
Fields = dict[str, Any]


def packages() -> list[Path]:
    return [OWN_CHART, *sorted(Path(CHARTS).glob("kube-prometheus-stack-*.tgz") if CHARTS else [])]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Fields]:
    """Return the role's values for a level, with all settings in use; each level is evaluated once."""
    folder = tmp_path_factory.mktemp("described")
    bundle = folder / "ca.pem"
    bundle.write_text(CERTIFICATE, encoding="utf-8")
    known: dict[str, Fields] = {}

    def describe(level: str) -> Fields:
        if level not in known:
            given = {**EVERYTHING, "monitoring_level": level, "monitoring_ca_bundle": str(bundle)}
            played = play(folder, "monitoring:describe", facts=("monitoring_described",), **given).succeeded()
            assert played.changed == 0
            known[level] = played.facts["monitoring_described"]
        return known[level]

    return describe


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=packages(), ids=lambda path: "own chart" if path == OWN_CHART else path.stem)
def objects(
    request: pytest.FixtureRequest, level: str, described: Callable[[str], Fields], tmp_path: Path
) -> list[Fields]:
    """Return the objects of a release of each chart."""
    values = tmp_path / "values.json"
    values.write_text(json.dumps(described(level)["values"]), encoding="utf-8")
    text = helm("template", "monitoring", request.param, "--namespace", "monitoring", "--values", values, "--no-hooks")
    documents, faults = read(text)
    assert faults == []
    return [document.content for document in documents]


def of_kind(objects: list[Fields], *kinds: str) -> list[Fields]:
    return [each for each in objects if each["kind"] in kinds]


def pods(objects: list[Fields]) -> Iterator[tuple[str, Fields]]:
    for each in of_kind(objects, "Deployment", "DaemonSet", "StatefulSet", "Job"):
        yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(pod: Fields) -> list[Fields]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def test_services_have_the_names_that_the_platform_finds_them_by(objects: list[Fields]) -> None:
    names = {each["metadata"]["name"] for each in of_kind(objects, "Service")}
    assert names >= {"monitoring-prometheus", "monitoring-alertmanager"}
    assert {each["spec"].get("type", "ClusterIP") for each in of_kind(objects, "Service")} == {"ClusterIP"}


def test_grafana_alone_is_reachable_from_outside_and_by_tls(objects: list[Fields]) -> None:
    (ingress,) = of_kind(objects, "Ingress", "HTTPRoute")
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "grafana.example.org"
    assert rule["http"]["paths"][0]["backend"]["service"]["name"] == "monitoring-grafana"
    assert ingress["spec"]["tls"] == [{"secretName": "grafana-tls", "hosts": ["grafana.example.org"]}]


def test_no_secret_is_in_the_release(objects: list[Fields]) -> None:
    found = {each["metadata"]["name"]: each for each in of_kind(objects, "Secret")}
    # The configuration of Alertmanager, which contains a file name.
    assert set(found) == {"alertmanager-monitoring"}
    assert not any("hooks.slack.com" in text for text in texts(objects))


def test_every_pod_but_the_node_exporter_is_restricted(objects: list[Fields]) -> None:
    for name, pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod.get("hostNetwork", False) is (name == "monitoring-node-exporter")
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, (name, container["name"])
            assert context["readOnlyRootFilesystem"] is True, (name, container["name"])
            assert context["capabilities"]["drop"] == ["ALL"], (name, container["name"])


def test_every_container_says_what_it_needs_and_what_it_may_take(objects: list[Fields]) -> None:
    for name, pod in pods(objects):
        for container in containers(pod):
            for words in ("requests", "limits"):
                assert set(container["resources"][words]) == {"cpu", "memory"}, (name, container["name"])


def test_every_image_has_a_version_and_comes_from_the_mirror(objects: list[Fields]) -> None:
    own = [each["spec"]["image"] for each in of_kind(objects, "Prometheus", "Alertmanager") if "image" in each["spec"]]
    images = [container["image"] for _name, pod in pods(objects) for container in containers(pod)]
    for image in [*own, *images]:
        assert image.startswith("mirror.example.org:5000/hub/"), image
        assert image.rpartition("/")[2].partition(":")[2] not in ("", "latest"), image
    assert {pod["imagePullSecrets"][0]["name"] for _name, pod in pods(objects)} <= {"pull"}


def test_nobody_may_read_secrets_of_all_namespaces_but_the_operator(objects: list[Fields]) -> None:
    readers = {
        role["metadata"]["name"]
        for role in of_kind(objects, "ClusterRole", "Role")
        for rule in role["rules"]
        if "secrets" in rule.get("resources", []) or "*" in rule.get("resources", [])
    }
    assert readers <= {"monitoring-operator"}


@pytest.mark.parametrize("version", VERSIONS)
def test_servers_of_all_supported_versions_take_the_objects(objects: list[Fields], version: str) -> None:
    for each in objects:
        if "monitoring.coreos.com" not in each["apiVersion"]:
            kubernetes_validate.validate(each, version, strict=True)


def test_sizes_are_those_of_the_specification_where_everything_is_asked_for(
    described: Callable[[str], Fields],
) -> None:
    values = described("comprehensive")["values"]
    prometheus, alertmanager = values["prometheus"]["prometheusSpec"], values["alertmanager"]["alertmanagerSpec"]
    assert prometheus["retention"] == "30d"
    for claim, size in ((prometheus["storageSpec"], "100Gi"), (alertmanager["storage"], "10Gi")):
        spec = claim["volumeClaimTemplate"]["spec"]
        assert (spec["resources"]["requests"]["storage"], spec["storageClassName"]) == (size, "fast")
    assert values["grafana"]["persistence"] == {
        "enabled": True,
        "size": "10Gi",
        "storageClassName": "fast",
        "annotations": {"helm.sh/resource-policy": "keep"},
    }
    assert (prometheus["replicas"], alertmanager["replicas"]) == (2, 3)


def test_the_smallest_level_keeps_little(described: Callable[[str], Fields]) -> None:
    values = described("basic")["values"]
    assert values["prometheus"]["prometheusSpec"]["retention"] == "7d"
    assert values["grafana"]["persistence"] == {"enabled": False}
    assert values["alertmanager"]["alertmanagerSpec"]["replicas"] == 1
    assert values["grafana"]["defaultDashboardsEnabled"] is False


def test_figures_are_dropped_before_a_volume_is_full(level: str, described: Callable[[str], Fields]) -> None:
    spec = described(level)["values"]["prometheus"]["prometheusSpec"]
    volume = spec["storageSpec"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]
    assert int(spec["retentionSize"].removesuffix("GB")) <= 0.85 * int(volume.removesuffix("Gi"))


def test_alerts_go_to_slack_as_specified(described: Callable[[str], Fields]) -> None:
    config = described("basic")["values"]["alertmanager"]["config"]
    route = config["route"]
    times = {name: route[name] for name in ("group_by", "group_wait", "group_interval", "repeat_interval", "receiver")}
    assert times == {
        "group_by": ["alertname"],
        "group_wait": "10s",
        "group_interval": "10s",
        "repeat_interval": "1h",
        "receiver": "slack",
    }
    (slack,) = next(one for one in config["receivers"] if one["name"] == "slack")["slack_configs"]
    assert slack["channel"] == "#alerts"
    assert slack["api_url_file"] == "/etc/alertmanager/secrets/monitoring-alertmanager-slack/url"
    assert "api_url" not in slack


def test_slack_is_reached_by_the_proxy_and_trusted_by_the_bundle(described: Callable[[str], Fields]) -> None:
    described_all = described("basic")
    client = described_all["values"]["alertmanager"]["config"]["global"]["http_config"]
    spec = described_all["values"]["alertmanager"]["alertmanagerSpec"]
    (bundle,) = of_kind(described_all["prerequisites"], "ConfigMap")
    assert client["proxy_from_environment"] is True
    assert client["tls_config"]["ca_file"] == f"/etc/alertmanager/configmaps/{bundle['metadata']['name']}/ca.crt"
    assert bundle["data"] == {"ca.crt": CERTIFICATE}
    assert spec["containers"] == [
        {"name": "alertmanager", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"}]}
    ]


def test_secrets_come_from_the_store_by_their_names(described: Callable[[str], Fields]) -> None:
    secrets = {each["metadata"]["name"]: each["stringData"] for each in of_kind(prerequisites(described), "Secret")}
    assert secrets == {
        "monitoring-grafana-admin": {
            "admin-user": "lakehouse",
            "admin-password": "${secret_value.grafana_admin_password}",
        },
        "monitoring-alertmanager-slack": {"url": "${secret_value.alertmanager_slack_webhook_url}"},
    }


def prerequisites(described: Callable[[str], Fields]) -> list[Fields]:
    found: list[Fields] = described("basic")["prerequisites"]
    return found


def test_the_namespace_is_restricted_and_that_of_the_node_exporter_is_another(
    described: Callable[[str], Fields],
) -> None:
    enforced = {
        each["metadata"]["name"]: each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for each in of_kind(prerequisites(described), "Namespace")
    }
    assert enforced == {"monitoring": "restricted", "monitoring-nodes": "privileged"}


def test_rules_and_dashboards_are_those_of_the_host(described: Callable[[str], Fields]) -> None:
    additions = described("basic")["additions"]
    rules = {each["metadata"]["name"]: each["spec"] for each in of_kind(additions, "PrometheusRule")}
    assert rules == {
        f"lakehouse-{path.stem}": yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in CATALOGUE.glob("rules/*.yml")
    }
    boards = {name: text for each in of_kind(additions, "ConfigMap") for name, text in each["data"].items()}
    assert {name: json.loads(text) for name, text in boards.items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in CATALOGUE.glob("dashboards/*.json")
    }
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in of_kind(additions, "ConfigMap")} == {"1"}


def test_who_may_ask_prometheus_is_named(described: Callable[[str], Fields]) -> None:
    policies = {
        each["metadata"]["name"]: each["spec"] for each in described("basic")["additions"] if "Policy" in each["kind"]
    }
    assert policies["lakehouse-default"]["ingress"] == [{"from": [{"podSelector": {}}]}]
    callers = [
        (
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"],
        )
        for peer in policies["lakehouse-prometheus"]["ingress"][0]["from"]
    ]
    assert callers == [("crypto-lakehouse", "verify"), ("autoscaling", "prometheus-adapter")]
    assert len(policies["lakehouse-alertmanager"]["ingress"][0]["from"]) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_servers_of_all_supported_versions_take_what_is_added(described: Callable[[str], Fields], version: str) -> None:
    whole = described("comprehensive")
    for each in [*whole["prerequisites"], *whole["additions"]]:
        if each["kind"] != "PrometheusRule":
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"prometheus": {"ingress": {"enabled": True}}},
            "prometheus.ingress.enabled would permit access",
        ),
        (
            {"alertmanager": {"service": {"type": "NodePort"}}},
            "alertmanager.service.type would permit access",
        ),
        ({"grafana": {"adminPassword": "hunter2"}}, "grafana.adminPassword is a secret"),
    ],
)
def test_what_would_expose_something_is_refused_before_anything_is_done(
    values: Fields, message: str, tmp_path: Path
) -> None:
    played = play(tmp_path, "monitoring", monitoring_values=values, monitoring_helm={"binary": "/nowhere"}).failed()
    assert message in " ".join(played.output.split())
    assert played.changed == 0


def test_a_variable_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    played = play(tmp_path, "monitoring", monitoring_level="everything").failed()
    assert "monitoring_level" in played.output
