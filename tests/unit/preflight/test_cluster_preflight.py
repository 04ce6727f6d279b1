# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions of the preflight of a cluster, without Ansible and the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.program import helm_problems
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.version import COLLECTION_VERSION
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import cluster_preflight as cluster
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.chart_defaults import CHARTS, chart_defaults
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.cluster_run import ClusterRun
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.cluster_scale import scale_problems

MAJOR = int(COLLECTION_VERSION.partition(".")[0])
ROLES = Path(__file__).resolve().parents[3] / "roles"
DEFAULTS = chart_defaults(ROLES)
DOOR = {"lakehouse_domain": "lake.example.org"}


def settings(**given: Any) -> dict[str, Any]:
    """Return checked settings of a small cluster."""
    values = {"lakehouse_target": "k3s", "lakehouse_environment": "development", **given}
    found, problems = check(values)
    assert problems == []
    return found


def marker(**words: Any) -> dict[str, Any]:
    """Return the marker of an earlier run."""
    told = {"version": COLLECTION_VERSION, "made_namespace": False, "removed": False, "postgresql_major": 17}
    return {**told, "scale": {}, **words}


def facts(found: dict[str, Any] | None = None, **words: Any) -> dict[str, Any]:
    return {"marker": found, "namespace_exists": False, "namespace_is_ours": False, **words}


def service(authenticated: bool = True, private: str | None = None, **keys: Any) -> dict[str, Any]:
    """Return a service with an HTTP port."""
    port = {"authenticated": authenticated, "private": private}
    return {"ports": {"http": port}, "health": None, "login": None, "scale": None, **keys}


RENDERED: dict[str, Any] = {
    "addresses": {
        "api": {"http": "api.crypto-lakehouse.svc:8080"},
        "orchestrator": {"http": "orchestrator.crypto-lakehouse.svc:4200"},
        "prometheus": {"http": "monitoring-prometheus.monitoring.svc:9090"},
        "quotes": {"http": "quotes.crypto-lakehouse.svc:8090"},
        "grafana": {"http": "monitoring-grafana.monitoring.svc:80"},
    },
    "services": {
        "api": service(health={"path": "/ready"}, scale={"min": 1, "max": 20}),
        "orchestrator": service(private="its pages open", login="orchestrator_password"),
        "prometheus": service(login="prometheus_password"),
        "quotes": service(authenticated=False),
        "grafana": service(),
        "worker": service(scale={"min": 1, "max": 20}),
        "database": service(),
    },
    "secrets": [{"name": "orchestrator_password"}, {"name": "prometheus_password"}],
    "workloads": [
        {"service": "api", "kind": "Deployment", "replicas": 1},
        {"service": "worker", "kind": "StatefulSet", "replicas": 1},
        {"service": "database", "kind": "Cluster", "replicas": 3},
        {"service": "bootstrap", "kind": "Job", "replicas": 1},
    ],
}


@pytest.mark.parametrize(("target", "parts"), [("k3s", ["metrics-server"]), ("gke", [])])
def test_a_cluster_that_is_only_planned_has_what_its_target_brings(target: str, parts: list[str]) -> None:
    asked = settings(lakehouse_target=target, lakehouse_auto_scaling=True)
    planned = cluster.planned_facts(asked, "1.34", [])
    assert planned["own_parts"] == parts
    wanted = cluster.autoscaling_charts(asked, planned)
    assert wanted == [name for name in cluster.AUTOSCALING_CHARTS if name not in parts]


def doors(*names: str) -> dict[str, dict[str, Any]]:
    chosen = settings(**DOOR, lakehouse_ingress_services=list(names))
    return {door["name"]: door for door in cluster.backends(chosen, RENDERED)}


def test_only_what_asks_who_calls_is_open() -> None:
    found = doors("api", "orchestrator", "prometheus", "quotes")
    assert [name for name, door in found.items() if door["authenticates"]] == ["api"]
    assert found["orchestrator"]["password_secret"] == "orchestrator_password_bcrypt"
    assert found["prometheus"]["namespace"] == "monitoring"
    assert found["quotes"]["password_secret"] == "quotes_password_bcrypt"


def test_the_door_of_grafana_is_the_monitorings_own() -> None:
    assert doors("grafana") == {}


def test_without_a_domain_there_is_no_door() -> None:
    assert cluster.backends(settings(), RENDERED) == []


@pytest.mark.parametrize(
    ("target", "exposed", "expected"),
    [
        ("k3s", ["api", "orchestrator"], ["Middleware"]),
        ("k3s", ["api", "nothing"], []),
        ("eks", ["orchestrator"], []),
    ],
)
def test_a_login_of_traefik_needs_its_middleware(target: str, exposed: list[str], expected: list[str]) -> None:
    chosen = settings(**DOOR, lakehouse_target=target, lakehouse_ingress_services=exposed)
    assert [each["kind"] for each in cluster.locks(chosen, RENDERED["services"])] == expected
    assert cluster.locks(settings(lakehouse_ingress_services=exposed), RENDERED["services"]) == []


def test_a_description_with_problems_does_not_hide_the_missing_middleware() -> None:
    asked: list[Mapping[str, Any]] = []
    known = facts(marker(), autoscalers={}, unserved=["traefik.io"])

    def ask(question: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"facts": known, "problems": [], "unreached": ""}

    run = ClusterRun(
        verb="deploy",
        given={},
        settings=settings(**DOOR, lakehouse_ingress_services=["orchestrator"]),
        known={"orchestrator": {"login": "orchestrator_password"}},
        problems=[],
        render=lambda _place, _services: {},
        ask=ask,
        chart_defaults=DEFAULTS,
    )
    run.prepare(lambda _rendered, _secrets: [])
    assert [each["kind"] for each in asked[0]["objects"]] == ["Middleware"]
    assert "it has no Middleware of traefik.io" in str(run.problems)


def test_locks_bring_the_secrets_that_no_service_has() -> None:
    extra = cluster.extra_secrets(doors("orchestrator", "quotes").values(), RENDERED)
    assert extra == [
        {"name": "orchestrator_password_bcrypt", "kind": "bcrypt", "of": "orchestrator_password"},
        {"name": "quotes_password", "kind": "password"},
        {"name": "quotes_password_bcrypt", "kind": "bcrypt", "of": "quotes_password"},
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (DOOR, "name lakehouse_ingress_tls_secret"),
        ({**DOOR, "lakehouse_target": "eks"}, "lakehouse_ingress_certificate_arn"),
        ({**DOOR, "lakehouse_ingress_tls_secret": "tls", "lakehouse_ingress_services": "apo"}, "write api"),
    ],
)
def test_a_door_without_certificate_or_service_is_refused(given: dict[str, Any], message: str) -> None:
    (problem,) = cluster.ingress_problems(settings(**given), RENDERED["services"])
    assert message in str(problem)


@pytest.mark.parametrize("verb", ["drift", "upgrade", "scale", "health", "verify"])
@pytest.mark.parametrize("found", [None, marker(removed=True)])
def test_a_verb_that_needs_a_lakehouse_is_refused_where_there_is_none(verb: str, found: Any) -> None:
    (problem,) = cluster.version_problems(verb, facts(found), "here")
    assert (
        str(problem)
        == "lakehouse_namespace: namespace here holds no lakehouse. Remedy: run playbooks/deploy.yml first."
    )


@pytest.mark.parametrize(
    ("verb", "version", "message"),
    [
        ("deploy", f"{MAJOR - 1}.9.9", "run playbooks/upgrade.yml"),
        ("scale", f"{MAJOR - 1}.9.9", "run playbooks/upgrade.yml"),
        ("upgrade", f"{MAJOR - 2}.0.0" if MAJOR > 1 else f"{MAJOR + 1}.0.0", "use a collection of the version named"),
        ("health", f"{MAJOR}.999.0", "use a collection of the version named"),
    ],
)
def test_versions_move_by_upgrade_alone_and_never_back(verb: str, version: str, message: str) -> None:
    (problem,) = cluster.version_problems(verb, facts(marker(version=version)), "here")
    assert problem.remedy == message


@pytest.mark.parametrize("verb", ["deploy", "plan", "destroy"])
def test_a_verb_that_begins_or_ends_a_lakehouse_needs_none(verb: str) -> None:
    assert cluster.version_problems(verb, facts(), "here") == []


def test_only_another_major_version_of_postgresql_is_refused() -> None:
    assert [str(p) for p in cluster.data_problems("deploy", facts(marker()), 17)] == []
    assert [str(p) for p in cluster.data_problems("deploy", facts(), 18)] == []
    assert [str(p) for p in cluster.data_problems("health", facts(marker()), 18)] == []
    (problem,) = cluster.data_problems("upgrade", facts(marker()), 18)
    assert "written by PostgreSQL 17, which PostgreSQL 18 does not read" in str(problem)


@pytest.mark.parametrize(
    ("manifest", "major"),
    [
        ({"kind": "Cluster", "spec": {"imageName": "ghcr.io/cloudnative-pg/postgresql:17.11-minimal-trixie"}}, 17),
        ({"kind": "StatefulSet", "spec": {"template": {"spec": {"containers": [{"image": "r/postgres:16"}]}}}}, 16),
        ({"kind": "Service", "spec": {"ports": []}}, 0),
        ({"kind": "ConfigMap"}, 0),
    ],
)
def test_the_major_version_is_that_of_the_image(manifest: dict[str, Any], major: int) -> None:
    assert cluster.postgresql_major([manifest]) == major


@pytest.mark.parametrize(
    ("exists", "is_ours", "before", "made"),
    [
        (False, False, None, "true"),
        (True, False, None, "false"),
        (True, True, None, "true"),
        (True, False, marker(made_namespace=True), "true"),
    ],
)
def test_a_namespace_is_taken_down_only_by_who_made_it(exists: bool, is_ours: bool, before: Any, made: str) -> None:
    told = facts(before, namespace_exists=exists, namespace_is_ours=is_ours)
    assert cluster.marker(settings(), told, 17)["made_namespace"] == made


def test_what_was_scaled_stays_unless_the_inventory_says_otherwise() -> None:
    told = facts(marker(scale={"api": 4, "worker": 3}))
    chosen = settings(lakehouse_scale={"worker": 2}, lakehouse_services={"api": {"replicas": 6}})
    assert cluster.overrides(chosen, told, {"api", "worker"}) == {"api": {"replicas": 6}, "worker": {"replicas": 2}}
    assert cluster.overrides(chosen, told, {"api"}) == {"api": {"replicas": 6}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "it says nothing to scale"),
        ({"lakehouse_scale": {"apo": 2}}, "write api"),
        ({"lakehouse_scale": {"worker": 21}}, "beyond its bounds, 1 to 20"),
        ({"lakehouse_scale": {"api": 11}}, "beyond its bounds, 1 to 10"),
        ({"lakehouse_scale": {"database": 2}}, "database has 3 and no other number of replicas"),
        ({"lakehouse_scale": {"bootstrap": 2}}, "no service 'bootstrap' runs here"),
        ({"lakehouse_scale_nodes": {"on-demand": 3}}, "only the node groups of eks"),
        ({"lakehouse_target": "eks", "lakehouse_scale_nodes": {"on-demand": 11}}, "beyond its bounds, 1 to 10"),
        (
            {"lakehouse_target": "eks", "lakehouse_node_max": 12, "lakehouse_scale_nodes": {"on-demand": 13}},
            "beyond its bounds, 1 to 12",
        ),
        ({"lakehouse_target": "eks", "lakehouse_scale_nodes": {"spot": 1}}, "there is no node group 'spot'"),
    ],
)
def test_scaling_is_held_within_its_bounds(given: dict[str, Any], message: str) -> None:
    (problem,) = scale_problems(settings(**given), RENDERED, {"api": {"min": 3, "max": 10}})
    assert message in str(problem)


def test_what_is_within_the_bounds_is_scaled() -> None:
    chosen = settings(
        lakehouse_target="eks",
        lakehouse_spot_nodes=True,
        lakehouse_scale={"api": 10, "worker": 20},
        lakehouse_scale_nodes={"on-demand": 10, "spot": 0},
    )
    assert list(scale_problems(chosen, RENDERED, {"api": {"min": 3, "max": 10}})) == []


def test_charts_come_from_a_folder_a_mirror_or_their_own_place(tmp_path: Path) -> None:
    (tmp_path / "traefik-41.3.0.tgz").touch()
    (tmp_path / "traefik-crds-1.0.0.tgz").touch()
    given = {"lakehouse_chart_folder": str(tmp_path), "lakehouse_chart_repository": "oci://r.example.org/charts"}
    chosen = settings(**given, lakehouse_charts={"cloudnative-pg": {"version": "0.29.0"}})
    found = cluster.charts(chosen, DEFAULTS)
    assert found["traefik"]["path"] == str(tmp_path / "traefik-41.3.0.tgz")
    assert found["metrics-server"] == {
        "version": DEFAULTS["metrics-server"]["version"],
        "repository": "oci://r.example.org/charts",
        "path": "",
        "checksum": "",
    }
    assert found["cloudnative-pg"]["path"] == str(tmp_path / "cloudnative-pg-0.29.0.tgz")


CHOSEN = {"repository": "https://charts.example.org", "version": "9.9.9", "path": "/x.tgz", "checksum": "0" * 64}


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_has_the_source_of_its_role_unless_the_inventory_has_another(chart: str) -> None:
    assert cluster.charts(settings(), DEFAULTS) == DEFAULTS
    assert set(DEFAULTS[chart]) == set(CHOSEN)
    assert DEFAULTS[chart]["repository"].startswith("https://")
    for key, value in CHOSEN.items():
        found = cluster.charts(settings(lakehouse_charts={chart: {key: value}}), DEFAULTS)
        assert found == {**DEFAULTS, chart: {**DEFAULTS[chart], key: value}}


def test_roles_get_the_sources_that_preflight_reads() -> None:
    for chart, (role, option) in CHARTS.items():
        options = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text("utf-8"))
        described = options["argument_specs"]["main"]["options"][f"{role}_{option}"]["options"]
        assert {key: spec["default"] for key, spec in described.items()} == DEFAULTS[chart]


def test_roles_get_helm_without_its_password_and_the_source_of_images() -> None:
    given = {"lakehouse_image_registry": "r.example.org", "lakehouse_image_pull_secrets": ["pull"]}
    chosen = settings(**MIRROR, **ACCOUNT, **given, lakehouse_helm_binary="/opt/helm")
    assert cluster.helm(chosen) == {"binary": "/opt/helm", "username": "puller"}
    assert cluster.images(chosen) == {"registry": "r.example.org", "pull_secrets": ["pull"]}


def test_a_chart_that_the_folder_lacks_and_one_that_nobody_wants_are_named(tmp_path: Path) -> None:
    chosen = settings(lakehouse_chart_folder=str(tmp_path), lakehouse_charts={"traefk": {}})
    told = "\n".join(map(str, cluster.chart_problems(chosen, ["kube-prometheus-stack"])))
    assert "write traefik" in told
    assert "holds no chart kube-prometheus-stack" in told


@pytest.mark.parametrize(
    ("scaled", "own", "expected"),
    [
        (False, [], []),
        (True, [], ["metrics-server", "prometheus-adapter", "vertical-pod-autoscaler"]),
        (True, ["metrics-server"], ["prometheus-adapter", "vertical-pod-autoscaler"]),
    ],
)
def test_charts_of_the_autoscaling_that_the_folder_lacks_are_named(
    tmp_path: Path, scaled: bool, own: list[str], expected: list[str]
) -> None:
    chosen = settings(lakehouse_chart_folder=str(tmp_path), lakehouse_auto_scaling=scaled)
    wanted = cluster.autoscaling_charts(chosen, facts(own_parts=own))
    told = [problem.message for problem in cluster.folder_problems(chosen, wanted)]
    assert told == [f"{tmp_path} holds no chart {name}" for name in expected]


MIRROR = {"lakehouse_chart_repository": "https://charts.example.org/all"}
ACCOUNT = {"lakehouse_chart_username": "puller", "lakehouse_chart_password": "word-4471"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**MIRROR, "lakehouse_chart_username": "puller"}, "set lakehouse_chart_password"),
        ({**MIRROR, "lakehouse_chart_password": "word-4471"}, "set lakehouse_chart_username"),
        (ACCOUNT, "lakehouse_chart_username is an account of nothing"),
        (
            {**MIRROR, **ACCOUNT, "lakehouse_charts": {"traefik": {"repository": "https://traefik.github.io/charts"}}},
            "traefik comes from another host than the mirror",
        ),
    ],
)
def test_an_account_is_told_to_the_mirror_and_to_nobody_else(given: dict[str, Any], message: str) -> None:
    told = "\n".join(map(str, cluster.chart_problems(settings(**given), [])))
    assert message in told
    assert "word-4471" not in told


def test_an_account_of_the_mirror_is_fine_and_its_password_is_not_handed_on() -> None:
    elsewhere = {"traefik": {"repository": "https://charts.example.org/other"}, "cloudnative-pg": {"path": "/x.tgz"}}
    chosen = settings(**MIRROR, **ACCOUNT, lakehouse_charts=elsewhere)
    assert list(cluster.chart_problems(chosen, [])) == []
    assert "word-4471" not in str(cluster.handed_on(chosen))


def test_bundles_lie_on_the_controller(tmp_path: Path) -> None:
    text = "-----BEGIN CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(text, "utf-8")
    given = {f"lakehouse_{setting}": str(tmp_path / "ca.pem") for setting in cluster.BUNDLES}
    assert cluster.read_bundles(settings(**given)) == (dict.fromkeys(cluster.BUNDLES, text), [])
    assert cluster.read_bundles(settings()) == (dict.fromkeys(cluster.BUNDLES, ""), [])
    for name in given:
        bundles, (problem,) = cluster.read_bundles(settings(**{**given, name: str(tmp_path / "no.pem")}))
        assert sorted(bundles.values()) == ["", text]
        assert problem.variable == name
        assert "cannot be read: No such file" in str(problem)


def test_no_secret_is_handed_on() -> None:
    chosen = settings(lakehouse_secrets={"api_token": "hunter2hunter2"})
    assert "hunter2" not in str(cluster.handed_on(chosen))
    assert cluster.service_secrets(chosen) == {"api_token": "hunter2hunter2"}
    on_aws = settings(lakehouse_target="eks", lakehouse_secrets={"api_keys": "x" * 9, "api_token": "y" * 9})
    assert list(cluster.service_secrets(on_aws)) == ["api_token"]


def _says(text: str, status: int = 0) -> Any:
    def run(command: Sequence[str]) -> tuple[int, str, str]:
        return status, text, ""

    return run


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (_says("v3.13.9+g1"), "3.14 is the oldest"),
        (_says("v2.17.0"), "3.14 is the oldest"),
        (_says("segfault", 139), "is not a working Helm: segfault"),
        (_says("hello"), "is not a working Helm"),
    ],
)
def test_a_helm_that_is_too_old_or_none_is_refused_with_where_to_get_one(
    tmp_path: Path, run: Any, message: str
) -> None:
    program = tmp_path / "helm"
    program.touch(0o755)
    _found, (problem,) = helm_problems(run, str(program))
    assert message in str(problem)
    assert "https://helm.sh/docs/intro/install" in problem.remedy


def test_a_helm_that_works_is_told(tmp_path: Path) -> None:
    program = tmp_path / "helm"
    program.touch(0o755)
    assert helm_problems(_says("v4.1.4+g2"), str(program)) == ({"path": str(program), "version": "v4.1.4"}, [])
    _found, (problem,) = helm_problems(_says(""), str(tmp_path / "none"))
    assert "is not a program" in str(problem)


def test_bounds_are_those_of_the_description_and_not_of_what_is_asked_for() -> None:
    def render(_place: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        replicas = overrides.get("database", {}).get("replicas", 1)
        workloads = [{"service": "database", "kind": "StatefulSet", "replicas": replicas}]
        return {**RENDERED, "manifests": [], "operators": [], "workloads": workloads}

    known = facts(marker(), autoscalers={}, unserved=[])
    run = ClusterRun(
        verb="scale",
        given={},
        settings=settings(lakehouse_scale={"database": 2}),
        known={"database": {}},
        problems=[],
        render=render,
        ask=lambda _question: {"facts": known, "problems": [], "unreached": ""},
        chart_defaults=DEFAULTS,
    )
    run.prepare(lambda _rendered, _secrets: [])
    assert "database has 1 and no other number of replicas, 2 is asked for" in str(run.problems[0])
    assert len(run.problems) == 1
