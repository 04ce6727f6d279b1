# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordon and drain against a small API: evicted pods, permitted uncordons, and the error of an incomplete drain."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.access import (
    CORDONED_BY,
    AccessError,
    Api,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.cluster import Site
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.drain import (
    cordon,
    drain,
    selects,
    uncordon,
)

NODE, OWNER = "/api/v1/nodes/s1", "k3s_upgrade"
BUDGET = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}}


def pod(name: str, kind: str = "ReplicaSet", **meta: Any) -> dict[str, Any]:
    owners = [{"kind": kind, "controller": True}] if kind else []
    found = {"namespace": "apps", "name": name, "labels": {"app": name}, "ownerReferences": owners, **meta}
    return {"metadata": found, "spec": {"nodeName": "s1"}, "status": {"phase": "Running"}}


@dataclass(frozen=True)
class Cluster(Api):
    """One node with pods; a budget blocks those that are named in `held`."""

    data: Path = Path("/nowhere")
    node: dict[str, Any] = field(default_factory=lambda: {"metadata": {"name": "s1"}, "spec": {}})
    pods: list[dict[str, Any]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)

    def get(self, path: str, headers: Any = None) -> Any:
        if path.startswith("/api/v1/pods?fieldSelector=spec.nodeName%3Ds1"):
            return {"items": list(self.pods)}
        return {"items": [BUDGET]} if "poddisruptionbudgets" in path else self.node

    def patch(self, path: str, body: Any) -> Any:
        assert path == NODE
        for part, values in body.items():
            target = self.node[part]
            target.update(values if part == "spec" else {"annotations": values["annotations"]})
        return self.node

    def post(self, path: str, body: Any) -> Any:
        assert path.endswith(f"/pods/{body['metadata']['name']}/eviction")
        if body["metadata"]["name"] in self.held:
            raise AccessError("blocked", 429)
        self.pods[:] = [one for one in self.pods if one["metadata"]["name"] != body["metadata"]["name"]]
        return {}


def site(api: Cluster, timeout_s: float = 5.0) -> Site:
    return Site(Path("/nowhere"), api, timeout_s)


def test_only_a_node_that_was_cordoned_by_the_owner_is_uncordoned() -> None:
    api = Cluster()
    assert cordon(site(api), "s1", OWNER)
    assert api.node["metadata"]["annotations"] == {CORDONED_BY: OWNER}
    assert not cordon(site(api), "s1", OWNER)
    assert not uncordon(site(api), "s1", "k3s_remove")
    assert uncordon(site(api), "s1", OWNER)
    assert not api.node["spec"]["unschedulable"]


def test_a_cordon_of_somebody_else_stays() -> None:
    api = Cluster(node={"metadata": {"name": "s1"}, "spec": {"unschedulable": True}})
    assert not cordon(site(api), "s1", OWNER)
    assert not uncordon(site(api), "s1", OWNER)
    assert api.node["spec"]["unschedulable"]


def test_pods_of_daemonsets_and_of_files_stay() -> None:
    stays = [pod("net", "DaemonSet"), pod("static", "Node", annotations={"kubernetes.io/config.mirror": "x"})]
    api = Cluster(pods=[*stays, pod("web"), pod("done", "") | {"status": {"phase": "Succeeded"}}])
    assert drain(site(api), "s1")
    assert api.pods == stays
    assert not drain(site(api), "s1")


def test_a_pod_that_nothing_starts_again_ends_the_drain_before_any_eviction() -> None:
    api = Cluster(pods=[pod("web"), pod("alone", "")])
    with pytest.raises(HostError, match="no controller would start apps/alone again"):
        drain(site(api), "s1")
    assert len(api.pods) == 2


def test_the_limit_names_pods_and_the_budget_that_blocks_them() -> None:
    leaving = pod("slow", deletionTimestamp="2026-11-30T12:00:00Z")
    api = Cluster(pods=[pod("web"), leaving, pod("free")], held={"web"})
    with pytest.raises(HostError) as caught:
        drain(site(api, 0.0), "s1")
    said = str(caught.value)
    assert "apps/web (budget web allows no disruption)" in said
    assert "apps/slow (it does not end)" in said
    assert "`k3s_upgrade_mode: cordon_only`" in said


SELECTORS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"matchLabels": {"app": "web"}}, True),
    ({"matchLabels": {"app": "db"}}, False),
    ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True),
    ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
    ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
    ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
]


@pytest.mark.parametrize(("selector", "expected"), SELECTORS)
def test_selectors_of_budgets(selector: dict[str, Any], expected: bool) -> None:
    assert selects(selector, {"app": "web"}) is expected
