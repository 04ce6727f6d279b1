# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboards: Grafana's requirements, and expressions that Prometheus can parse."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.monitoring.exposition import (
    get,
)

DASHBOARDS = sorted(
    (Path(__file__).resolve().parents[3] / "roles" / "catalogue" / "files" / "dashboards").glob("*.json")
)
PANEL_TYPES = {"row", "stat", "bargauge", "table", "timeseries"}
GRID_COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "$datasource"}


def load(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return dashboard


def expressions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield title and expression of every query of a dashboard."""
    dashboard = load(path)
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_each_dashboard_has_an_address_and_a_title_of_its_own() -> None:
    dashboards = [load(path) for path in DASHBOARDS]
    assert [path.stem for path in DASHBOARDS] == ["backup", "cost", "lakehouse", "pipeline", "storage"]
    for word in ("uid", "title"):
        assert len({dashboard[word] for dashboard in dashboards}) == len(dashboards)
    # Grafana rejects a longer one.
    assert all(len(dashboard["uid"]) <= 40 for dashboard in dashboards)


def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    dashboard = load(path)
    # With an id of another Grafana the file would overwrite a foreign dashboard.
    assert dashboard["id"] is None
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["timezone"] == "utc"
    (variable,) = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")


def test_panels_are_complete_and_use_the_chosen_data_source(path: Path) -> None:
    panels = load(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in PANEL_TYPES
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"]
        assert panel["datasource"] == DATASOURCE
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["datasource"] for target in panel["targets"]] == [DATASOURCE] * len(panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


def test_panels_do_not_lie_on_each_other(path: Path) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in load(path)["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= GRID_COLUMNS
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_the_catalogue_finds_nothing_to_put_in(path: Path) -> None:
    assert "${" not in path.read_text(encoding="utf-8")


def test_prometheus_reads_every_expression(path: Path, prometheus_url: str) -> None:
    for title, expression in expressions(path):
        # Grafana replaces this before the query.
        query = urllib.parse.urlencode({"query": expression.replace("$__rate_interval", "5m")})
        answer = json.loads(get(f"{prometheus_url}/api/v1/query?{query}"))
        assert answer["status"] == "success", title
