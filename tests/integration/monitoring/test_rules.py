# SPDX-License-Identifier: GPL-3.0-or-later
"""The alerting rules: promtool accepts them, and each fires exactly when it has to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RULES = sorted((ROOT / "roles" / "catalogue" / "files" / "rules").glob("*.yml"))
RULE_TESTS = sorted((Path(__file__).parent / "rules").glob("*_test.yml"))
MANUAL = ROOT / "docs" / "monitoring.md"
SEVERITIES = {"critical", "warning", "info", "none"}


def alerts() -> list[dict[str, Any]]:
    return [rule for path in RULES for rule in rules_of(path) if "alert" in rule]


def rules_of(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def expectations() -> list[tuple[str, str | None]]:
    """Return alert and severity of every expectation of the rule tests; no severity for a silent alert."""
    expected: list[tuple[str, str | None]] = []
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for check in test["alert_rule_test"]:
                labels = [alert["exp_labels"]["severity"] for alert in check["exp_alerts"]]
                expected += [(check["alertname"], severity) for severity in labels or [None]]
    return expected


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_promtool_accepts(path: Path, run: Callable[..., str]) -> None:
    assert "rules found" in run("promtool", "check", "rules", path)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_alerts_fire_and_are_silent_as_described(path: Path, run: Callable[..., str]) -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", path)


def test_every_file_of_rules_has_tests() -> None:
    assert [path.stem for path in RULES] == [path.stem.removesuffix("_test") for path in RULE_TESTS]


def test_every_alert_is_seen_firing_at_each_of_its_severities() -> None:
    described = {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
    assert described == {(alert, severity) for alert, severity in expectations() if severity}


def test_every_alert_but_the_dead_mans_switch_is_seen_silent() -> None:
    silent = {alert for alert, severity in expectations() if severity is None}
    assert {rule["alert"] for rule in alerts()} - silent == {"Watchdog"}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_is_wrong_and_where_help_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _separator, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/monitoring.md"
    headings = [
        line.lstrip("# ").strip() for line in MANUAL.read_text(encoding="utf-8").splitlines() if line[:1] == "#"
    ]
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()


def test_every_alert_of_the_manual_exists() -> None:
    headings = [line[4:] for line in MANUAL.read_text(encoding="utf-8").splitlines() if line.startswith("### ")]
    assert set(headings) == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_catalogue_finds_nothing_to_put_in(path: Path) -> None:
    assert "${" not in path.read_text(encoding="utf-8")


def test_the_verification_alert_does_not_wait() -> None:
    (path,) = (path for path in RULES if path.stem == "verification")
    (group,) = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    assert group["interval"] == "5s"
    assert all("for" not in rule for rule in group["rules"])
