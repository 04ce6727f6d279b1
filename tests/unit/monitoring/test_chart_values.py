# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that the role monitoring rejects."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.filter.monitoring_problems import monitoring_problems
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.chart_values import problems

NAMES: dict[str, Any] = {"fullnameOverride": "monitoring", "grafana": {"fullnameOverride": "monitoring-grafana"}}


def found(**values: Any) -> list[str]:
    merged = {**NAMES, **values}
    if "grafana" in values:
        merged["grafana"] = {**NAMES["grafana"], **values["grafana"]}
    return [problem.message for problem in problems(merged)]


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"grafana": {"adminPassword": "x"}}, "grafana.adminPassword"),
        ({"alertmanager": {"config": {"global": {"slack_api_url": "x"}}}}, "alertmanager.config.global.slack_api_url"),
        (
            {"alertmanager": {"config": {"receivers": [{"slack_configs": [{"api_url": "https://x"}]}]}}},
            "alertmanager.config.receivers[0].slack_configs[0].api_url",
        ),
        ({"alertmanager": {"config": {"global": {"smtp_auth_password": "x"}}}}, "smtp_auth_password"),
        ({"grafana": {"grafana.ini": {"auth.github": {"client_secret": "x"}}}}, "auth.github.client_secret"),
        ({"grafana": {"grafana.ini": {"database": {"password": "x"}}}}, "database.password"),
        ({"prometheus": {"prometheusSpec": {"remoteWrite": [{"bearerToken": "x"}]}}}, "remoteWrite[0].bearerToken"),
        ({"extraManifests": ["-----BEGIN RSA " + "PRIVATE KEY-----"]}, "extraManifests[0]"),
        ({"a": {"url": "https://hooks.slack.com/services/T/B/x"}}, "a.url"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(values: dict[str, Any], path: str) -> None:
    (message,) = found(**values)
    assert path in message
    assert "Helm stores values on disk and in the cluster" in message


@pytest.mark.parametrize(
    "values",
    [
        {"grafana": {"admin": {"existingSecret": "s", "userKey": "u", "passwordKey": "p"}}},
        {"alertmanager": {"config": {"receivers": [{"slack_configs": [{"api_url_file": "/etc/x"}]}]}}},
        {"grafana": {"grafana.ini": {"database": {"password": "$__file{/etc/secrets/db}"}}}},
        {"grafana": {"adminPassword": ""}},
        {"alertmanager": {"alertmanagerSpec": {"configSecret": "s", "secrets": ["a"]}}},
        {"prometheus": {"prometheusSpec": {"topologySpreadConstraints": [{"topologyKey": "zone"}]}}},
        {"grafana": {"envValueFrom": {"X": {"secretKeyRef": {"name": "s", "key": "k"}}}}},
        {"prometheus": {"ingress": {"enabled": False}, "service": {"type": "ClusterIP"}}},
        {"grafana": {"ingress": {"enabled": True}, "service": {"type": "LoadBalancer"}}},
    ],
)
def test_what_only_names_a_secret_or_asks_for_an_account_is_taken(values: dict[str, Any]) -> None:
    assert found(**values) == []


@pytest.mark.parametrize("part", ["prometheus", "alertmanager", "thanosRuler"])
@pytest.mark.parametrize(
    ("words", "path"),
    [
        ({"ingress": {"enabled": True}}, "ingress.enabled"),
        ({"ingress": {"enabled": "true"}}, "ingress.enabled"),
        ({"ingressPerReplica": {"enabled": True}}, "ingressPerReplica.enabled"),
        ({"route": {"main": {"enabled": True}}}, "route.main.enabled"),
        ({"service": {"type": "NodePort"}}, "service.type"),
        ({"service": {"type": "LoadBalancer"}}, "service.type"),
        ({"service": {"externalIPs": ["192.0.2.1"]}}, "service.externalIPs"),
        ({"anySpec": {"hostNetwork": True}}, "anySpec.hostNetwork"),
    ],
)
def test_a_door_without_accounts_is_refused(part: str, words: dict[str, Any], path: str) -> None:
    (message,) = found(**{part: words})
    assert f"{part}.{path} would permit access without authentication" in message


@pytest.mark.parametrize("value", [True, "true", "True", 1])
def test_a_grafana_for_everybody_is_refused(value: object) -> None:
    (message,) = found(grafana={"grafana.ini": {"auth.anonymous": {"enabled": value}}})
    assert "auth.anonymous.enabled would permit access without authentication" in message


@pytest.mark.parametrize("values", [{"fullnameOverride": "kps"}, {"grafana": {"fullnameOverride": "g"}}])
def test_another_name_is_refused(values: dict[str, Any]) -> None:
    (message,) = found(**values)
    assert "the platform finds its services by this name" in message


def test_maps_of_another_shape_are_no_reason_to_stop() -> None:
    assert found(prometheus=None, alertmanager=[], thanosRuler="x") == []


def test_everything_wrong_is_said_at_once_with_remedies() -> None:
    values = {**NAMES, "prometheus": {"ingress": {"enabled": True}}, "alertmanager": {"service": {"type": "NodePort"}}}
    text = monitoring_problems(values)
    assert text.startswith("2 problems, nothing was changed:")
    assert text.count("Remedy: ") == 2


def test_good_values_have_no_problem() -> None:
    assert monitoring_problems(NAMES) == ""
