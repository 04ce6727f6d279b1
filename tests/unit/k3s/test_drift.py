# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between hosts and their description as tables, and the steps that repair files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.drift import (
    File,
    describe_differences,
    file_differences,
    with_repairs,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import HostReport
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan, Step, in_batches, refusal
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from tests.unit.k3s.hosts import AGENTS, SERVERS, cluster, member, node, server, spec, unreachable

CONFIG, TOKEN = "/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/agent-token"


@pytest.mark.parametrize(
    ("wanted", "found", "reason"),
    [
        (File("a"), File("a"), ""),
        (File("a"), File("b"), "has other content"),
        (File("a"), File("b", "0644"), "has other content"),
        (File("a"), File("a", "0644"), "has mode 0644, not 0600"),
        (File("a", "0755"), File("a", "4755"), "has mode 4755, not 0755"),
        (File(), File("", "0640"), "has mode 0640, not 0600"),
        (File("a"), None, "is missing"),
        (None, File("a"), "is not described"),
    ],
)
def test_files_differ_by_content_mode_and_existence(wanted: File | None, found: File | None, reason: str) -> None:
    differences = file_differences({CONFIG: wanted} if wanted else {}, {CONFIG: found} if found else {})
    assert differences == ({CONFIG: reason} if reason else {})


def test_files_are_repaired_after_restarts_side_by_side() -> None:
    restart = Step(actions.RESTART, "s1", "changed: debug")
    plan = in_batches([[restart]])
    repaired = with_repairs(plan, {"s1": {CONFIG: "is missing", TOKEN: "has mode 0644, not 0600"}, "s2": {}})
    reason = f"{CONFIG} is missing; {TOKEN} has mode 0644, not 0600"
    assert repaired.steps == (replace(restart, batch=1), Step(actions.WRITE_FILES, "s1", reason, batch=2))
    assert with_repairs(plan, {"s1": {}}) == plan


def test_a_refused_plan_repairs_nothing() -> None:
    refused = refusal([Problem("k3s_servers", "no server is listed", "list one")])
    assert with_repairs(refused, {"s1": {CONFIG: "is missing"}}) == refused
    assert with_repairs(Plan(), {}) == Plan()


def strangers() -> dict[str, HostReport]:
    """Return the reports of a cluster with a member and two nodes that are not hosts of the inventory."""
    nodes = [*map(node, (*SERVERS, "s9")), *(node(host, server=False) for host in (*AGENTS, "a9"))]
    members = [*map(member, SERVERS), member("s9")]
    return {**cluster(), **{host: server(host, members, nodes) for host in SERVERS}}


REMOVE = "belongs to no listed host: list its host, or remove the node with `k3s_remove`"


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param(cluster(), [], id="as described"),
        pytest.param(
            strangers(),
            [f"node a9 {REMOVE}", f"node s9 {REMOVE}", f"etcd member s9-0a1b2c3d {REMOVE}"],
            id="a node and a voter that are not listed",
        ),
        pytest.param(
            {**cluster(), "a2": unreachable("a2")}, ["a2 cannot be reached and was not compared"], id="unreachable"
        ),
    ],
)
def test_nodes_and_members_of_no_listed_host_are_told(reports: dict[str, HostReport], expected: list[str]) -> None:
    assert describe_differences(spec(), reports, {}) == expected


def test_each_host_and_file_is_named() -> None:
    found = {"s1": {CONFIG: "is missing"}, "s2": {}, "a1": {TOKEN: "has mode 0644, not 0600"}}
    assert describe_differences(spec(), cluster(), found) == [
        f"s1: {CONFIG} is missing",
        f"a1: {TOKEN} has mode 0644, not 0600",
    ]
