# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of Alertmanager, with and without Slack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.tests.integration.monitoring.rendering import (
    alertmanager_configuration as rendered,
)

WEBHOOK_FILE = "${secret.alertmanager_slack_webhook_url|json}"


@pytest.fixture(params=[False, True], ids=["without Slack", "with Slack"])
def configuration(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the file of a host, in which a file path replaces the reference to the secret."""
    webhook = tmp_path / "webhook"
    webhook.write_text("https://hooks.slack.example/services/T0/B0/secret", encoding="utf-8")
    path = tmp_path / "alertmanager.yml"
    path.write_text(
        rendered(alertmanager_slack_enabled=request.param).replace(WEBHOOK_FILE, str(webhook)), encoding="utf-8"
    )
    return path


def receiver(run: Callable[..., str], configuration: Path, **labels: str) -> str:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    return run("amtool", "config", "routes", "test", f"--config.file={configuration}", *pairs).strip()


def test_amtool_accepts(configuration: Path, run: Callable[..., str]) -> None:
    assert "SUCCESS" in run("amtool", "check-config", configuration)


@pytest.mark.parametrize("alert", ["LakehouseVerification", "Watchdog"])
def test_an_alert_that_is_meant_to_fire_disturbs_nobody(
    alert: str, configuration: Path, run: Callable[..., str]
) -> None:
    assert receiver(run, configuration, alertname=alert, severity="info") == "silent"


@pytest.mark.parametrize("severity", ["info", "none"])
def test_what_is_worth_a_look_disturbs_nobody(severity: str, configuration: Path, run: Callable[..., str]) -> None:
    assert receiver(run, configuration, alertname="CPUThrottlingHigh", severity=severity) == "silent"


@pytest.mark.parametrize("severity", ["critical", "warning"])
@pytest.mark.parametrize("alert", ["LakehouseApiDown", "LakehouseDiskSpaceLow", "AnAlertOfTheUser"])
def test_any_other_alert_goes_to_slack_when_there_is_a_webhook(
    alert: str, severity: str, configuration: Path, run: Callable[..., str]
) -> None:
    expected = "slack" if "slack_configs" in configuration.read_text(encoding="utf-8") else "silent"
    assert receiver(run, configuration, alertname=alert, severity=severity) == expected


def test_slack_is_off_when_nothing_is_said_about_it() -> None:
    assert yaml.safe_load(rendered())["receivers"] == [{"name": "silent"}]


def test_the_webhook_is_read_from_a_file_and_is_not_in_the_text() -> None:
    (slack,) = yaml.safe_load(rendered(alertmanager_slack_enabled=True))["receivers"][1]["slack_configs"]
    assert slack["api_url_file"] == WEBHOOK_FILE
    assert "api_url" not in slack
    assert slack["channel"] == "#alerts"


def test_alerts_are_grouped_and_repeated_as_specified() -> None:
    route = yaml.safe_load(rendered())["route"]
    times = {name: route[name] for name in ("group_by", "group_wait", "group_interval", "repeat_interval")}
    assert times == {
        "group_by": ["alertname"],
        "group_wait": "10s",
        "group_interval": "10s",
        "repeat_interval": "1h",
    }


def test_a_critical_alert_silences_its_own_warning_alone() -> None:
    (rule,) = yaml.safe_load(rendered())["inhibit_rules"]
    assert rule["source_matchers"] == ['severity = "critical"']
    assert rule["target_matchers"] == ['severity = "warning"']
    # The labels that distinguish the objects of alerts of the same name, on a host and in a cluster.
    things = {"job", "instance", "mountpoint", "flow", "namespace", "pod", "persistentvolumeclaim"}
    assert {"alertname"} | things <= set(rule["equal"])
