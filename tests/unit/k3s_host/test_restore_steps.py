# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of steps that restore a cluster or remove a server from it: K3s refuses a reset while `server` is set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.action.k3s_plan import Request, new_id, outcome
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import HostReport
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.files import parse_plain
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.k3s_steps import find_cluster
from tests.unit.k3s.hosts import DATA_DIR, MARKER, SERVERS, blank, cluster, spec, stopped

MEMBERSHIP = "/etc/rancher/k3s/config.yaml.d/90-membership.yaml"
MARKER_PATH = f"{DATA_DIR}/crypto-lakehouse.json"
TOKEN = "0123456789ab"
SNAPSHOT = {
    "name": "lake-k3s-1",
    "created_s": 1.0,
    "size": 100,
    "verified": True,
    "token_hash": TOKEN,
    "cluster_id": "22222222-2222-4222-8222-222222222222",
}
ESCROW = {"cluster_id": SNAPSHOT["cluster_id"], "token_hash": TOKEN}
ALONE = spec(agents=())


def asked(operation: str, reports: Mapping[str, HostReport], hosts: Sequence[str] = SERVERS, **options: Any) -> Request:
    results = [{"report": report.as_dict()} for report in reports.values()]
    arguments = {"cluster": ALONE.as_dict(), "reports": results, "hosts": hosts, "options": options}
    return Request.of({**arguments, "operation": operation})


def rendered(operation: str, reports: Mapping[str, HostReport], **options: Any) -> list[dict[str, Any]]:
    """Return the steps of an operation in their order."""
    request = asked(operation, reports, **options)
    plan = request.plan(0.0)
    assert not plan.refused, plan.problems
    found = find_cluster(request.spec, request.reports, plan.steps, "", new_id(request, plan))
    return [step for batch in outcome(request, plan, found)["batches"] for step in batch]


def settings(steps: list[dict[str, Any]], action: str) -> dict[str, Any]:
    """Return the connection settings for the host of the last step of an action."""
    step = next(step for step in reversed(steps) if step["action"] == action)
    return parse_plain(step["files"][MEMBERSHIP], Path(MEMBERSHIP))


def test_a_survivor_is_reset_and_started_as_the_first_server_and_joins_another_one_at_the_end() -> None:
    reports = {"s1": stopped("s1"), "s2": blank("s2"), "s3": blank("s3")}
    steps = rendered("restore", reports, kind="quorum_loss", confirm="lake")
    for action in (actions.RESET, actions.START):
        assert settings(steps, action)["cluster-init"] is True
        assert "server" not in settings(steps, action)
    assert settings(steps, actions.JOIN_SERVER)["server"] == "https://10.0.0.11:6443"
    assert settings(steps, actions.WRITE_MEMBERSHIP)["server"] == "https://10.0.0.12:6443"
    assert {step["api_host"] for step in steps} == {"s1"}
    start = next(step for step in steps if step["action"] == actions.START)
    assert json.loads(start["files"][MARKER_PATH]) == vars(MARKER)


def test_a_datastore_that_is_moved_aside_belongs_to_a_host_that_joins() -> None:
    reports = {"s1": stopped("s1"), "s2": stopped("s2"), "s3": blank("s3")}
    steps = rendered("restore", reports, kind="quorum_loss", confirm="lake", host="s1")
    moved = next(step for step in steps if step["action"] == actions.MOVE_ASIDE)
    assert {path: json.loads(text)["state"] for path, text in moved["files"].items()} == {MARKER_PATH: "joining"}


def test_new_hosts_get_the_id_of_the_cluster_that_the_snapshot_is_of() -> None:
    given = {"snapshots": [SNAPSHOT], "escrows": [ESCROW]}
    steps = rendered("restore", {host: blank(host) for host in SERVERS}, kind="new_hosts", confirm="lake", **given)
    assert [step["action"] for step in steps[:4]] == ["place_escrow", "place_snapshot", "verify_snapshot", "restore"]
    placed = json.loads(steps[0]["files"][MARKER_PATH])
    assert (placed["cluster_id"], placed["state"]) == (SNAPSHOT["cluster_id"], "initialising")
    assert list(steps[0]["files"]) == [MARKER_PATH]
    assert settings(steps, actions.RESTORE)["cluster-init"] is True


def test_the_last_server_becomes_the_first_again_and_a_server_that_stays_is_asked() -> None:
    state = {"path": DATA_DIR, "resolved": DATA_DIR, "marker_cluster": "lake", "entries": ["server"], "remains": ["x"]}
    steps = rendered("remove", cluster(agents=()), nodes=["s1", "s2"], states={"s1": state, "s2": state})
    assert {step["api_host"] for step in steps} == {"s3"}
    assert settings(steps, actions.WRITE_MEMBERSHIP) == {
        "agent-token-file": "/etc/rancher/k3s/agent-token",
        "cluster-init": True,
        "token-file": "/etc/rancher/k3s/server-token",
    }


def test_a_restore_that_leaves_a_server_out_is_refused() -> None:
    reports = {"s1": stopped("s1"), "s2": blank("s2"), "s3": blank("s3")}
    plan = asked("restore", reports, ["s1", "s2"], kind="quorum_loss", confirm="lake").plan(0.0)
    assert ["s3 is outside of --limit" in problem.message for problem in plan.problems] == [True]
