# SPDX-License-Identifier: GPL-3.0-or-later
"""Every series of a rule or panel is exported by a running service, or recorded by a rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.tests.integration.monitoring.exposition import (
    SYNTHETIC,
    metrics_of,
    missing_names,
)

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles" / "catalogue" / "files"
APPLICATION = ROOT / "roles" / "application" / "files" / "src" / "crypto_lakehouse"
MANUAL = ROOT / "docs" / "monitoring.md"
# No service exports these: `lakehouse verify` and the cost report publish them, where they exist.
PUBLISHED = frozenset(
    {
        "lakehouse_verification_requested",
        "lakehouse_cost_month_to_date_usd",
        "lakehouse_cost_forecast_usd",
        "lakehouse_cost_budget_usd",
        "lakehouse_cost_last_success_timestamp_seconds",
    }
)


def rules() -> list[dict[str, str]]:
    groups = [group for path in FILES.glob("rules/*.yml") for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for path in FILES.glob("dashboards/*.json"):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        yield from (target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))


@pytest.fixture(scope="module")
def used() -> frozenset[str]:
    return frozenset().union(*(metrics_of(expression) for expression in expressions()))


def backup_names() -> set[str]:
    """Return the metrics of the service `backup`, which adds one prefix to each name."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (APPLICATION / "backup").rglob("*.py"))
    return {f"lakehouse_backup_{name}" for name in re.findall(r'\bgauges\.add\(\s*"([a-z_]+)"', source)}


def application_names() -> set[str]:
    """Return the metric names in the application's source; prometheus_client adds the suffix of a counter itself."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in APPLICATION.rglob("*.py"))
    names = set(re.findall(r'"(crypto_lakehouse_[a-z_]+)"', source))
    return (
        backup_names()
        | names
        | {f"{name}{ending}" for name in names for ending in ("_total", "_bucket", "_sum", "_count")}
    )


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (job, le) (rate(a_bucket{code=~"5..", x="}"}[5m])) > 14.4 * 0.001', {"a_bucket"}),
        ("a / ignoring (type) (b > 0) unless group by (job) (present_over_time(c[1d]))", {"a", "b", "c"}),
        ("vector(1)", set()),
        ("time() - max by (flow) (job:x:rate5m offset 30m) or 0 * up", {"job:x:rate5m", "up"}),
    ],
)
def test_names_are_found_in_an_expression(expression: str, names: set[str]) -> None:
    assert metrics_of(expression) == names


def test_the_object_store_exports_what_is_used_of_it(used: frozenset[str], object_store_metrics_url: str) -> None:
    wanted = {name for name in used if name.startswith("SeaweedFS_")}
    assert wanted
    assert missing_names(object_store_metrics_url, wanted) == set()


def test_the_node_exporter_exports_what_is_used_of_it(used: frozenset[str], node_exporter_url: str) -> None:
    wanted = {name for name in used if name.startswith("node_")}
    assert wanted
    assert missing_names(f"{node_exporter_url}/metrics", wanted) == set()


def test_prometheus_exports_what_is_used_of_it(used: frozenset[str], prometheus_url: str) -> None:
    wanted = {name for name in used if name.startswith(("prometheus_", "process_"))}
    assert wanted
    assert missing_names(f"{prometheus_url}/metrics", wanted) == set()


def test_the_application_exports_what_is_used_of_it(used: frozenset[str]) -> None:
    wanted = {name for name in used if name.startswith(("crypto_lakehouse_", "lakehouse_backup_"))}
    assert wanted
    assert wanted <= application_names()


def test_nothing_else_is_used(used: frozenset[str]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    services = ("SeaweedFS_", "node_", "prometheus_", "process_", "crypto_lakehouse_", "lakehouse_backup_")
    assert {name for name in used if not name.startswith(services)} <= recorded | SYNTHETIC | PUBLISHED


def test_what_is_published_is_used_and_is_in_the_manual(used: frozenset[str]) -> None:
    published = PUBLISHED | backup_names()
    assert used >= published
    manual = MANUAL.read_text(encoding="utf-8")
    assert {name for name in published if f"`{name}" not in manual} == set()


def test_no_rule_is_recorded_in_vain(used: frozenset[str]) -> None:
    assert {rule["record"] for rule in rules() if "record" in rule} <= used
