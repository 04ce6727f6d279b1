# SPDX-License-Identifier: GPL-3.0-or-later
"""From a metric in a file to Alertmanager, through the real programs and the real rules."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.monitoring.exposition import (
    get,
)
from tests.integration.patience import is_within

# A scrape and an evaluation, each up to 5 s late, and the same as a margin.
LIMIT_S = 25.0


def alerts(alertmanager_url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(get(f"{alertmanager_url}/api/v2/alerts"))
    return found


def wait_for(alertmanager_url: str, limit_s: float, **labels: str) -> dict[str, Any]:
    begun_s = time.monotonic()
    while is_within(begun_s, limit_s):
        for alert in alerts(alertmanager_url):
            if labels.items() <= alert["labels"].items():
                return alert
        time.sleep(0.2)
    pytest.fail(f"no alert with {labels} within {limit_s:g} s: {alerts(alertmanager_url)}")


def publish(folder: Path, name: str, text: str) -> None:
    partial = folder / f".{name}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, folder / name)  # noqa: PTH105  a scrape never sees half a file


def test_the_dead_mans_switch_arrives_by_itself(alertmanager_url: str, prometheus_url: str) -> None:
    alert = wait_for(alertmanager_url, 60.0, alertname="Watchdog")
    assert alert["receivers"] == [{"name": "silent"}]


def test_a_verification_request_is_an_alert_within_seconds(
    alertmanager_url: str, prometheus_url: str, textfiles: Path
) -> None:
    wait_for(alertmanager_url, 60.0, alertname="Watchdog")
    started = time.monotonic()
    publish(textfiles, "verification.prom", 'lakehouse_verification_requested{id="run-1"} 1\n')
    alert = wait_for(alertmanager_url, LIMIT_S, alertname="LakehouseVerification", id="run-1")
    assert is_within(started, LIMIT_S)
    assert alert["labels"]["severity"] == "info"
    assert alert["receivers"] == [{"name": "silent"}]
    assert not alert["status"]["silencedBy"]
    assert not alert["status"]["inhibitedBy"]
