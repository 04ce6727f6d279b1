# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's own description, rendered for every kind of cluster in every environment."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import ENVIRONMENTS
from tests.unit.catalogue.clusters import (
    NAMESPACE,
    PLATFORM,
    TARGETS,
    Entry,
    container,
    everything,
    of_kind,
    platform_on,
    pods,
    workloads,
)

ALL = [(target, environment) for target in TARGETS for environment in ENVIRONMENTS]
BCRYPT = "$2b$12$abcdefghijklmnopqrstuv0123456789ABCDEFGHIJKLMNOPQRSTU"


def variables(result: Entry, name: str) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container(result, name).get("env", [])}


def omitted(result: Entry) -> dict[str, str]:
    return {entry["service"]: entry["reason"] for entry in result["omitted"]}


def test_workers_have_as_long_to_end_as_a_flow_may_take() -> None:
    result = platform_on("k3s", "production")
    assert variables(result, "worker")["LAKEHOUSE_WORKER_STOP_TIMEOUT_S"] == "660"
    assert pods(result)["worker"]["terminationGracePeriodSeconds"] >= 660
    # Both workers may be replaced one after the other before a deployment times out.
    assert result["rollout_s"] >= 2 * 660


@pytest.mark.parametrize(("target", "environment"), ALL)
def test_every_service_is_there_or_it_is_said_what_stands_in_for_it(target: str, environment: str) -> None:
    result = platform_on(target, environment)
    operated = set(of_kind(result, "Cluster"))
    services = {
        name: words
        for name, words in PLATFORM["catalogue_services"].items()
        if target in words.get("only_on", [target])
    }
    provided = {name for name, words in services.items() if words.get("provided_by")}
    there = set(workloads(result)) | operated | (provided & set(of_kind(result, "Service")))
    assert there | set(omitted(result)) == set(services)
    assert not there & set(omitted(result))
    stack = {name for name, reason in omitted(result).items() if reason == "provided by kube-prometheus-stack"}
    assert stack == {"alertmanager", "grafana", "node-exporter", "prometheus"}


@pytest.mark.parametrize(("target", "environment"), ALL)
def test_a_pod_is_the_same_when_its_volume_grows(target: str, environment: str) -> None:
    grown = {
        name: {"volumes": {volume: {"size": "999Gi"} for volume, each in volumes.items() if not each.get("ephemeral")}}
        for name, keys in PLATFORM["catalogue_services"].items()
        if (volumes := keys.get("volumes", {})) and target in keys.get("only_on", [target])
    }
    before, after = platform_on(target, environment), platform_on(target, environment, overrides=grown)
    assert "999Gi" in json.dumps(after)
    assert pods(after) == pods(before)


@pytest.mark.parametrize(("target", "environment"), ALL)
def test_every_service_is_checked_and_the_kubelet_sees_all_that_the_check_sees(target: str, environment: str) -> None:
    result = platform_on(target, environment)
    assert result["notices"] == []
    for name, found in workloads(result).items():
        if found["kind"] != "Job":
            assert "readinessProbe" in container(result, name)


@pytest.mark.parametrize(("target", "environment"), ALL)
def test_no_value_of_a_secret_and_no_marker_is_outside_of_secrets(target: str, environment: str) -> None:
    result = platform_on(target, environment)
    for each in everything(result):
        text = json.dumps({key: value for key, value in each.items() if key != "stringData"})
        assert "secret_value" not in text
        assert "data" not in each or each["kind"] == "ConfigMap"


@pytest.mark.parametrize(("target", "environment"), ALL)
def test_everything_that_asks_for_a_secret_finds_it(target: str, environment: str) -> None:
    result = platform_on(target, environment)
    held = {name: set(found["stringData"]) for name, found in of_kind(result, "Secret").items()}
    for text in {json.dumps(each) for each in everything(result)}:
        for match in re.finditer(r'"key": "([^"]+)", "name": "([^"]+)"', text):
            assert match[1] in held[match[2]]
    described = {secret["name"] for secret in result["secrets"]}
    markers = set(re.findall(r"secret_value\.([a-z0-9_]+)", json.dumps(of_kind(result, "Secret"))))
    assert markers <= described


def test_each_service_is_monitored_where_the_machine_s_own_monitoring_would_look() -> None:
    result = platform_on("k3s", "production")
    assert set(of_kind(result, "ServiceMonitor")) == {"api", "object-store", "orchestrator"}
    assert set(of_kind(result, "PodMonitor")) == {"database", "verify"}
    (endpoint,) = of_kind(result, "ServiceMonitor")["orchestrator"]["spec"]["endpoints"]
    assert endpoint["basicAuth"]["password"] == {"name": "orchestrator", "key": "metrics.password"}


def test_the_verification_reads_prometheus_of_the_stack_and_shows_it_the_test_alert_s_figure() -> None:
    found = variables(platform_on("k3s", monitoring_namespace="watch"), "verify")
    assert found["LAKEHOUSE_PROMETHEUS_URL"] == "http://monitoring-prometheus.watch.svc:9090"
    assert found["LAKEHOUSE_VERIFICATION_PORT"] == "9109"
    assert found["LAKEHOUSE_METRICS_NAMESPACE"] == NAMESPACE
    assert "LAKEHOUSE_PROMETHEUS_PASSWORD" not in found


@pytest.mark.parametrize("target", ["k3s", "gke"])
def test_production_s_database_is_replicated_by_its_operator(target: str) -> None:
    result = platform_on(target, "production")
    assert result["operators"] == ["cloudnative-pg"]
    spec = of_kind(result, "Cluster")["database"]["spec"]
    assert (spec["instances"], spec["storage"]["size"]) == (3, "100Gi")
    assert spec["postgresql"]["synchronous"]["number"] == 1
    assert spec["bootstrap"]["initdb"]["builtinLocale"] == "C.UTF-8"
    superuser = of_kind(result, "Secret")[spec["superuserSecret"]["name"]]
    assert superuser["stringData"]["password"] == "${secret_value.database_superuser_password}"
    url = of_kind(result, "Secret")["bootstrap"]["stringData"]["env.LAKEHOUSE_DATABASE_ADMIN_URL"]
    assert url.endswith(f"@database-rw.{NAMESPACE}.svc:5432/postgres")
    # Healthy replicas do not help clients that write.
    (check,) = (one for one in result["health"] if one["service"] == "database")
    assert check["labels"] == {"cnpg.io/instanceRole": "primary"}
    # A restarted pod is enough for development.
    assert workloads(platform_on(target))["database"]["kind"] == "StatefulSet"


def test_each_pod_of_the_database_gives_the_superuser_the_password_of_today() -> None:
    spec = workloads(platform_on("k3s"))["database"]["spec"]
    (first,) = spec["template"]["spec"]["initContainers"]
    mark = first["command"][4]
    volumes = {mount["name"] for mount in first["volumeMounts"] if mark.startswith(f"{mount['mountPath']}/")}
    # A claim would keep the old password after a rotation.
    assert volumes == {"socket"}
    assert "socket" not in {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert "ALTER ROLE postgres PASSWORD" in " ".join(first["command"])


def test_on_eks_s3_glue_and_rds_stand_in_and_no_key_is_needed() -> None:
    result = platform_on("eks", "production")
    reasons = omitted(result)
    assert {name: reasons[name] for name in ("object-store", "iceberg-catalog", "database")} == {
        "object-store": "provided by s3",
        "iceberg-catalog": "provided by glue",
        "database": "provided by rds",
    }
    assert not [secret["name"] for secret in result["secrets"] if secret["name"].startswith("object_store_")]
    for name in ("api", "bootstrap", "verify", "worker"):
        found = variables(result, name)
        assert not {"LAKEHOUSE_S3_ENDPOINT", "LAKEHOUSE_S3_ACCESS_KEY", "LAKEHOUSE_CATALOG_URI"} & set(found)
        assert found["LAKEHOUSE_CATALOG_TYPE"] == "glue"
        assert found["LAKEHOUSE_GOLD_WAREHOUSE"] == "s3://crypto-lakehouse-gold-production/warehouse"
        assert found["LAKEHOUSE_CATALOG_NAMESPACE_PREFIX"] == "crypto_lakehouse_production_"
    accounts = {name: pod["serviceAccountName"] for name, pod in pods(result).items()}
    assert (accounts["worker"], accounts["api"], accounts["orchestrator"]) == ("pipeline", "query", "orchestrator")
    assert set(accounts.values()) == set(of_kind(result, "ServiceAccount"))


def test_trino_is_on_in_production_only_and_on_no_machine() -> None:
    assert "trino" not in workloads(platform_on("k3s"))
    result = platform_on("k3s", "production")
    assert workloads(result)["trino-worker"]["spec"]["replicas"] == 2
    files = of_kind(result, "ConfigMap")["trino"]["data"]
    assert "coordinator=true" in files["trino.config.properties"].splitlines()
    assert "http-server.authentication.type=PASSWORD" in files["trino.config.properties"].splitlines()
    gold = files["trino.catalog.gold.properties"].splitlines()
    assert {"iceberg.security=read_only", "iceberg.rest-catalog.security=SIGV4"} <= set(gold)
    assert "iceberg.rest-catalog.warehouse=s3://crypto-lakehouse-gold-tables-production" in gold
    worker = of_kind(result, "ConfigMap")["trino-worker"]["data"]["trino.config.properties"].splitlines()
    assert f"discovery.uri=http://trino.{NAMESPACE}.svc:8080" in worker
    assert "http-server.authentication.type=PASSWORD" not in worker
    for text in [*files.values(), *worker]:
        assert "$$" not in text


def test_trino_on_eks_reads_glue() -> None:
    files = of_kind(platform_on("eks", "production"), "ConfigMap")["trino"]["data"]
    silver = files["trino.catalog.silver.properties"].splitlines()
    assert {"iceberg.catalog.type=glue", "hive.metastore.glue.region=us-east-1"} <= set(silver)
    assert not [line for line in silver if line.startswith(("s3.endpoint", "s3.aws", "iceberg.rest"))]


def test_trino_s_password_file_is_written_in_its_own_words(tmp_path: Path) -> None:
    (step,) = pods(platform_on("k3s", "production"))["trino"]["initContainers"]
    given, wanted = tmp_path / "given", tmp_path / "passwords"
    given.write_text(f"lakehouse:{BCRYPT}\n", encoding="utf-8")
    places = {"/etc/lakehouse/passwords": str(given), "/data/trino/passwords": str(wanted)}
    command = [places.get(word, word) for word in step["command"]]
    for _again in range(2):
        subprocess.run(command, check=True, env={})
        assert wanted.read_text(encoding="utf-8") == f"lakehouse:$2y{BCRYPT.removeprefix('$2b')}\n"


def test_the_test_alert_and_the_monitoring_need_no_secret_that_is_not_described() -> None:
    names = {secret["name"] for secret in platform_on("eks")["secrets"]}
    assert {"grafana_admin_password", "alertmanager_slack_webhook_url"} <= names
    assert "trino_password" not in names
    assert "trino_password" in {secret["name"] for secret in platform_on("eks", "production")["secrets"]}


def test_every_image_is_pulled_from_the_registry_that_the_inventory_names() -> None:
    result = platform_on("gke", "production", image_registry="mirror.example.org")
    assert result["images"]
    assert all(image.startswith("mirror.example.org/") for image in result["images"])
    named = set(re.findall(r'"image(?:Name)?": "([^"]+)"', json.dumps(everything(result))))
    assert named == set(result["images"])
