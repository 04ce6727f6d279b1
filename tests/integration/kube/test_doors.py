# SPDX-License-Identifier: GPL-3.0-or-later
"""No ingress without authentication, in all renderings of targets, environments and levels, without a cluster."""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.yaml.documents import read
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import cluster_preflight
from tests.integration.kube.doors import doors, open_doors
from tests.integration.kube.roleplay import CHARTS, ROOT, helm, play_tasks
from tests.unit.catalogue.clusters import everything, platform_on

TARGETS, ENVIRONMENTS = ("k3s", "gke", "eks"), ("development", "staging", "production")
LEVELS = ("basic", "enhanced", "comprehensive")
EXPOSED = ["alertmanager", "api", "grafana", "orchestrator", "prometheus", "trino"]
OIDC = {"issuer": "https://id.example.org", "secretName": "oidc"} | {
    f"{word}Endpoint": f"https://id.example.org/{word}" for word in ("authorization", "token", "userInfo")
}
TAGS = {"Team": "data platform", "CostCenter": "4711"}
OWN_CHART = ROOT / "tests" / "integration" / "kube" / "charts" / "kube-prometheus-stack"
# Each of both in one pair: level and target are independent of each other.
STACKED = list(zip(TARGETS, LEVELS, strict=True))
STACKS = [OWN_CHART, *sorted(Path(CHARTS).glob("kube-prometheus-stack-*.tgz") if CHARTS else [])]
Fields = dict[str, Any]


def backend(name: str) -> Fields:
    return {"service": {"name": name, "port": {"number": 80}}}


def ingress(name: str, service: str, **annotations: str) -> Fields:
    rules = [{"host": "x.example.org", "http": {"paths": [{"path": "/", "backend": backend(service)}]}}]
    metadata = {"name": name, "namespace": "lake", "annotations": annotations}
    return {"kind": "Ingress", "metadata": metadata, "spec": {"rules": rules}}


def of(kind: str, name: str, **spec: Any) -> Fields:
    return {"kind": kind, "metadata": {"name": name, "namespace": "lake"}, "spec": spec}


MIDDLEWARE = of("Middleware", "door", basicAuth={"secret": "door"})
BEHIND = {"traefik.ingress.kubernetes.io/router.middlewares": "lake-door@kubernetescrd"}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([ingress("a", "monitoring-prometheus")], ["Ingress/a leads to monitoring-prometheus"]),
        ([of("Ingress", "a", defaultBackend=backend("trino"))], ["Ingress/a leads to trino"]),
        # A missing authentication middleware, and one without a password.
        ([ingress("a", "orchestrator", **BEHIND)], ["Ingress/a leads to orchestrator"]),
        ([ingress("a", "orchestrator", **BEHIND), MIDDLEWARE], ["Ingress/a leads to orchestrator"]),
        (
            [ingress("a", "trino", **{"alb.ingress.kubernetes.io/auth-type": "oidc"})],
            ["Ingress/a leads to trino"],
        ),
        ([of("Service", "trino", type="LoadBalancer")], ["Service/trino leads to trino"]),
        ([of("Service", "x", type="NodePort", selector={"app": "prefect"})], ["Service/x leads to prefect"]),
        ([of("Service", "grafana", externalIPs=["192.0.2.1"])], ["Service/grafana leads to grafana"]),
        ([of("HTTPRoute", "r", rules=[{"backendRefs": [{"name": "trino"}]}])], ["HTTPRoute/r leads to trino"]),
        ([of("Prometheus", "p", hostNetwork=True)], ["Prometheus/p leads to prometheus of the node"]),
        ([ingress("a", "orchestrator", **BEHIND), MIDDLEWARE, of("Secret", "door")], []),
        ([ingress("a", "api"), ingress("g", "monitoring-grafana"), of("Service", "trino", type="ClusterIP")], []),
    ],
)
def test_a_door_without_a_lock_is_seen_and_one_with_a_lock_is_none(objects: list[Fields], expected: list[str]) -> None:
    assert open_doors(objects) == expected


@pytest.mark.parametrize(("target", "environment"), list(product(TARGETS, ENVIRONMENTS)))
def test_no_service_of_the_catalogue_opens_a_door_by_itself(target: str, environment: str) -> None:
    result = platform_on(target, environment, ingress_services=["api", "orchestrator"])
    assert doors(everything(result)) == set()


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Return the objects of the role ingress by target, and the values of the role monitoring by target and level."""
    tasks = [task for target in TARGETS for task in describing_ingress(target)]
    tasks += [task for target, level in STACKED for task in describing_monitoring(target, level)]
    names = (*(f"ingress_{target}" for target in TARGETS), *(f"{target}_{level}" for target, level in STACKED))
    folder = tmp_path_factory.mktemp("described")
    # A lookup of a play finds templates beside the play, like a lookup of a role.
    (folder / "templates").symlink_to(ROOT / "roles" / "ingress" / "templates")
    return play_tasks(folder, tasks, facts=names).succeeded().facts


def describing_ingress(target: str) -> list[Fields]:
    """Return tasks that record every possible ingress, as the playbooks request them from the role."""
    given = {
        "lakehouse_target": target,
        "lakehouse_environment": "production",
        "lakehouse_domain": "example.org",
        "lakehouse_ingress_services": EXPOSED,
    }
    settings, problems = check(given)
    assert problems == []
    rendered = platform_on(target, "production")
    variables = {
        "ingress_target": target,
        "ingress_domain": "example.org",
        "ingress_backends": cluster_preflight.backends(settings, rendered),
        "ingress_tls_secret": "tls",
        "ingress_certificate_arn": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
        "ingress_oidc": OIDC,
        "ingress_aws": {"cluster_name": "lake", "tags": TAGS if target == "eks" else {}},
    }
    include = {"name": "crypto_lakehouse.platform.ingress", "tasks_from": "describe", "public": True}
    values = "{{ _ingress_controllers.aws['values'] }}"
    objects = {"objects": "{{ _ingress_objects }}", "problems": "{{ _ingress_problems }}"}
    note = {f"ingress_{target}": {**objects, "aws_values": values}}
    return [
        {"vars": variables, "block": [{"ansible.builtin.include_role": include}, {"ansible.builtin.set_fact": note}]}
    ]


def describing_monitoring(target: str, level: str) -> list[Fields]:
    variables = {
        "monitoring_target": target,
        "monitoring_level": level,
        "monitoring_environment": "production",
        "monitoring_domain": "example.org",
        "monitoring_slack": True,
        "monitoring_secret_store": "lakehouse-secrets",
    }
    include = {"name": "crypto_lakehouse.platform.monitoring", "tasks_from": "describe"}
    return [
        {"ansible.builtin.include_role": include, "vars": variables},
        {"ansible.builtin.set_fact": {f"{target}_{level}": "{{ monitoring_described }}"}},
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_every_door_that_can_be_asked_for_has_a_lock(target: str, described: Mapping[str, Any]) -> None:
    found = described[f"ingress_{target}"]
    assert found["problems"] == []
    services = doors(found["objects"])
    assert {word for word in ("orchestrator", "prometheus", "alertmanager") if any(word in each for each in services)}
    assert len(services) >= 4
    assert open_doors(found["objects"]) == []


def test_load_balancers_of_aws_have_the_tags_of_the_stack_whoever_installs_their_controller(
    described: Mapping[str, Any],
) -> None:
    found = described["ingress_eks"]
    assert found["aws_values"]["defaultTags"] == TAGS
    ingresses = [each for each in found["objects"] if each["kind"] == "Ingress"]
    annotations = {each["metadata"]["annotations"]["alb.ingress.kubernetes.io/tags"] for each in ingresses}
    assert annotations == {"CostCenter=4711,Team=data platform"}
    assert "defaultTags" not in str(described["ingress_k3s"]["objects"])


@pytest.mark.parametrize("chart", STACKS, ids=lambda path: path.name)
@pytest.mark.parametrize(("target", "level"), STACKED)
def test_the_monitoring_opens_no_door_but_to_grafana_which_asks(
    target: str, level: str, chart: Path, described: Mapping[str, Any], tmp_path: Path
) -> None:
    found = described[f"{target}_{level}"]
    values = tmp_path / "values.json"
    values.write_text(json.dumps(found["values"]), "utf-8")
    text = helm("template", "monitoring", chart, "--namespace", "monitoring", "--values", values)
    documents, faults = read(text)
    assert faults == []
    objects = [*(document.content for document in documents), *found["prerequisites"], *found["additions"]]
    assert open_doors(objects) == []
    assert doors(objects) <= {"monitoring-grafana"}
    grafana = found["values"]["grafana"]
    assert grafana["admin"]["existingSecret"]
    assert not (grafana.get("grafana.ini") or {}).get("auth.anonymous", {}).get("enabled")
    settings = [each["data"]["grafana.ini"] for each in objects if each and "grafana.ini" in (each.get("data") or {})]
    for text in settings:
        ini = configparser.ConfigParser(interpolation=None)
        # Text before the first section belongs to none.
        ini.read_string(f"[general]\n{text}")
        assert not ini.getboolean("auth.anonymous", "enabled", fallback=False)


def test_each_inventory_is_among_what_was_looked_at() -> None:
    for inventory in (ROOT / "inventories").iterdir():
        said = "\n".join(path.read_text("utf-8") for path in inventory.rglob("*.yml"))
        for name, known in (("target", (*TARGETS, "host", "compose")), ("monitoring", LEVELS)):
            lines = [line for line in said.splitlines() if line.startswith(f"lakehouse_{name}:")]
            assert {str(yaml.safe_load(line)[f"lakehouse_{name}"]) for line in lines} <= set(known), inventory.name
