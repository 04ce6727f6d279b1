# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that is only described has bounds of scaling, a login on an ingress, and limits of its sockets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.words import CatalogueError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import cluster_preflight as cluster
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.cluster_run import ClusterRun
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.cluster_scale import bounds
from tests.unit.catalogue.descriptions import PLACES, ROLE, platform

CLUSTER = {"namespace": "crypto-lakehouse"}
QUOTES = {
    "purpose": "Streams quotes.",
    "image": "registry.example.org/quotes:1.0",
    "command": ["/opt/quotes", "--socket=${volume.run}/quotes.sock"],
    "ports": {"http": {"port": 8090}},
    "volumes": {"run": {"path": "/run/quotes", "ephemeral": True}},
    "sockets": ["${volume.run}/quotes.sock"],
    "scale": {"min": 2, "max": 5},
    "login": "quotes_key",
    "replicas": 2,
}


def rendered(target: str, **keys: Any) -> dict[str, Any]:
    described = platform()
    settings = {**described["catalogue_settings"], **(PLACES if target == "host" else CLUSTER)}
    services, secrets = (
        {**described["catalogue_services"], "quotes": {**QUOTES, **keys}},
        described["catalogue_secrets"],
    )
    return render(services, secrets, target, "development", None, settings, str(ROLE))


def test_sockets_of_a_host_are_paths_below_its_home() -> None:
    assert set(rendered("host")["sockets"]) == {
        "run/database/socket/.s.PGSQL.65535",
        "run/object-store/run/filer.sock",
        "run/quotes/run/quotes.sock",
    }


@pytest.mark.parametrize("target", ["k3s", "gke"])
def test_scaling_and_login_of_a_cluster_follow_the_description(target: str) -> None:
    found = rendered(target)
    assert bounds(found, {}) == {**bounds(found, {}), "quotes": (2, 5), "api": (1, 20), "database": (1, 1)}
    given = {"lakehouse_target": target, "lakehouse_environment": "development", "lakehouse_domain": "example.org"}
    settings, problems = check({**given, "lakehouse_ingress_services": ["quotes"]})
    assert problems == []
    (door,) = cluster.backends(settings, found)
    assert (door["authenticates"], door["password_secret"]) == (False, "quotes_key_bcrypt")
    assert {secret["name"] for secret in cluster.extra_secrets([door], found)} == {"quotes_key", "quotes_key_bcrypt"}


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("orchestrator", "orchestrator_password"),
        ("prometheus", "prometheus_password"),
        ("alertmanager", "alertmanager_password"),
        ("trino", "trino_password"),
        ("api", None),
        ("grafana", None),
    ],
)
def test_services_of_the_platform_without_own_authentication_have_a_login(name: str, password: str | None) -> None:
    assert rendered("k3s")["services"][name]["login"] == password


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scale": {"min": 0, "max": 2}}, "catalogue_services.quotes.scale.min: 0 is too small"),
        ({"sockets": ["${volume.ran}/x"]}, r"catalogue_services.quotes.sockets\[0\]: \$\{volume.ran\} is not known"),
        ({"kind": "job", "replicas": 1}, "catalogue_services.quotes.scale: a job has no replicas"),
    ],
)
def test_invalid_keys_are_rejected(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        rendered("k3s", **keys)


@pytest.mark.parametrize(
    ("target", "exposed", "expected"),
    [
        ("k3s", ["api", "grafana", "prometheus", "alertmanager"], ["api"]),
        ("eks", ["api", "grafana"], ["api"]),
        # The renderer rejects these: they are managed, and have no address that an ingress could use.
        ("eks", ["iceberg-catalog", "node-exporter"], ["iceberg-catalog", "node-exporter"]),
        ("k3s", ["unknown"], []),
    ],
)
def test_services_of_other_software_are_left_to_it(target: str, exposed: list[str], expected: list[str]) -> None:
    given = {"lakehouse_target": target, "lakehouse_environment": "development", "lakehouse_domain": "example.org"}
    settings, _problems = check({**given, "lakehouse_ingress_services": exposed})
    placed: list[dict[str, Any]] = []

    def render(place: Mapping[str, Any], _services: Mapping[str, Any]) -> dict[str, Any]:
        placed.append(dict(place))
        return {}

    run = ClusterRun(
        verb="deploy",
        given={"kubernetes_version": "1.36"},
        settings=settings,
        known=platform()["catalogue_services"],
        problems=[],
        render=render,
        ask=lambda _question: {},
        chart_defaults={},
    )
    run.prepare(lambda _rendered, _secrets: [Problem("lakehouse_x", "ends the run", "none")])
    assert placed[0]["ingress_services"] == expected
