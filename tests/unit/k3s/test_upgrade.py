# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades and restarts: order, resumption after a crash, refusals before any cordon, drains, and one voter away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.configuration import desired, digest
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    VOTER_CONDITION,
    ClusterSpec,
    HostReport,
    by_host,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan, Step
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.upgrade import (
    CORDONED_BY,
    restart_plan,
    upgrade_plan,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.versions import parse
from tests.unit.k3s.hosts import (
    AGENTS,
    SERVERS,
    VERSION,
    agent,
    blank,
    cluster,
    node,
    server,
    spec,
    stopped,
    system,
    unreachable,
)

OLD, NEW = "v1.34.3+k3s1", "v1.35.5+k3s1"
ASKED = spec(version=NEW)
Nodes = Mapping[str, Mapping[str, Any]]


def at(versions: Mapping[str, str], nodes: Nodes | None = None, hosts: Nodes | None = None) -> dict[str, HostReport]:
    """Return a healthy cluster whose hosts run versions, with nodes and reports changed by host."""
    changed = nodes or {}
    seen = [
        node(host, server=host in SERVERS, **{"version": versions.get(host, OLD), **changed.get(host, {})})
        for host in (*SERVERS, *AGENTS)
    ]
    reports = [server(host, SERVERS, seen) for host in SERVERS] + [agent(host) for host in AGENTS]
    found = by_host(replace(report, version=versions.get(report.host, OLD)) for report in reports)
    return {host: replace(report, **(hosts or {}).get(host, {})) for host, report in found.items()}


def shown(plan: Plan) -> list[str]:
    return [f"{step.action} {step.host or step.value}" for step in plan.steps]


def one(host: str, wait: str) -> list[str]:
    return [
        f"cordon {host}",
        f"drain {host}",
        f"install {host}",
        f"restart {host}",
        f"{wait} {host}",
        f"uncordon {host}",
    ]


SNAPSHOT = ["snapshot s1", "verify_snapshot s1"]


def test_servers_precede_agents_after_a_verified_snapshot_with_the_leader_last() -> None:
    plan = upgrade_plan(ASKED, at({}))
    expected = [*SNAPSHOT]
    for host in ("s2", "s3", "s1"):
        expected += one(host, "wait_voter")
    for host in AGENTS:
        expected += one(host, "wait_ready")
    assert shown(plan) == expected
    assert [step.batch for step in plan.steps] == list(range(1, len(expected) + 1))
    assert {step.value for step in plan.steps if step.action == actions.INSTALL} == {NEW}


def test_a_cluster_at_its_version_needs_no_step() -> None:
    assert upgrade_plan(ASKED, at(dict.fromkeys(ASKED.hosts, NEW))).steps == ()


def test_every_release_of_the_path_runs_on_every_node_before_the_next() -> None:
    plan = upgrade_plan(spec(version="v1.34.3+k3s1"), at(dict.fromkeys(ASKED.hosts, "v1.33.5+k3s1")))
    installs = [(step.value, step.host) for step in plan.steps if step.action == actions.INSTALL]
    order = ["s2", "s3", "s1", "a1", "a2"]
    assert installs == [*(("v1.33.7+k3s3", host) for host in order), *(("v1.34.3+k3s1", host) for host in order)]
    assert shown(plan).count("snapshot s1") == 1


def test_a_waypoint_that_running_etcd_servers_satisfy_is_left_out() -> None:
    reports = at(dict.fromkeys(ASKED.hosts, "v1.33.5+k3s1"))
    for host in SERVERS:
        found = reports[host]
        reports[host] = replace(found, etcd=replace(found.etcd, version="3.5.26") if found.etcd else None)
    plan = upgrade_plan(spec(), reports)
    assert {step.value for step in plan.steps if step.action == actions.INSTALL} == {"v1.34.3+k3s1"}


def test_releases_in_between_come_from_the_inventory() -> None:
    plan = upgrade_plan(spec(version="v1.36.1+k3s1"), at({}), [parse(NEW)])
    assert [step.value for step in plan.steps if step.action == actions.INSTALL and step.host == "s2"] == [
        NEW,
        "v1.36.1+k3s1",
    ]


OURS = {"unschedulable": True, "cordoned_by": CORDONED_BY}
THEIRS = {"unschedulable": True}
NOT_READY = {"conditions": {"Ready": "False", VOTER_CONDITION: "True"}}

# Versions, nodes, reports, and the host's steps at which the run begins.
CRASHES: dict[str, tuple[dict[str, str], Nodes, Nodes, str, list[str]]] = {
    "after the cordon": (
        {"s2": NEW},
        {"s3": OURS},
        {},
        "s3",
        one("s3", "wait_voter"),
    ),
    "after the installation": (
        {"s2": NEW, "s3": NEW},
        {"s3": {**OURS, "version": OLD}},
        {},
        "s3",
        ["cordon s3", "drain s3", "restart s3", "wait_voter s3", "uncordon s3"],
    ),
    "after the restart": (
        {"s2": NEW, "s3": NEW},
        {"s3": {**OURS, **NOT_READY}},
        {"s3": {"ready": False, "service": "activating"}},
        "s3",
        ["wait_voter s3", "uncordon s3"],
    ),
    "before the uncordon": ({"s2": NEW, "s3": NEW}, {"s3": OURS}, {}, "s3", ["wait_voter s3", "uncordon s3"]),
    "at an agent": (
        {**dict.fromkeys(SERVERS, NEW), "a2": NEW},
        {"a2": OURS},
        {},
        "a2",
        ["wait_ready a2", "uncordon a2"],
    ),
}


@pytest.mark.parametrize("case", CRASHES)
def test_a_run_goes_on_where_the_last_one_ended(case: str) -> None:
    versions, nodes, hosts, host, expected = CRASHES[case]
    plan = upgrade_plan(ASKED, at(versions, nodes, hosts))
    found = [line for line in shown(plan) if line not in SNAPSHOT]
    assert [line for line in found if line.endswith(f" {host}")] == expected
    if host in SERVERS:
        assert found[: len(expected)] == expected


def test_a_server_whose_binary_was_replaced_runs_that_release_before_the_next() -> None:
    between = "v1.33.7+k3s3"
    reports = at(dict.fromkeys(SERVERS, between), {"s1": {**OURS, "version": "v1.33.5+k3s1"}})
    alone = {host: reports[host] for host in SERVERS}
    steps = upgrade_plan(spec(agents=()), alone).steps
    assert [(step.action, step.value) for step in steps if step.host == "s1"][2:5] == [
        (actions.RESTART, between),
        (actions.WAIT_VOTER, between),
        (actions.INSTALL, VERSION),
    ]


def test_a_run_that_only_uncordons_takes_no_snapshot() -> None:
    plan = upgrade_plan(ASKED, at(dict.fromkeys(ASKED.hosts, NEW), {"a1": OURS}))
    assert shown(plan) == ["wait_ready a1", "uncordon a1"]


def test_a_node_that_somebody_else_cordoned_is_upgraded_and_stays_cordoned() -> None:
    found = shown(upgrade_plan(ASKED, at({}, {"a1": THEIRS})))
    assert "install a1" in found
    assert "cordon a1" not in found
    assert "uncordon a1" not in found


@pytest.mark.parametrize(
    ("mode", "volumes", "drained"),
    [("auto", 0, True), ("auto", 2, False), ("drain", 2, True), ("cordon_only", 0, False)],
)
def test_pods_with_local_volumes_stay(mode: Any, volumes: int, drained: bool) -> None:
    found = shown(upgrade_plan(ASKED, at({}, {"a1": {"local_volumes": volumes}}), mode=mode))
    assert ("drain a1" in found) is drained
    assert "cordon a1" in found


REFUSED: dict[str, tuple[ClusterSpec, dict[str, HostReport], str]] = {
    "no server answers": (ASKED, {**cluster(), **by_host(map(stopped, SERVERS))}, "no server answers"),
    "two clusters": (ASKED, {**at({}), "s3": server("s3", cluster="c2")}, "the hosts belong to 2 clusters"),
    "cgroup v1 with a release that refuses it": (
        ASKED,
        at({}, hosts={"a1": {"system": system("a1", cgroup_version=1)}}),
        "a1 has cgroup v1, which kubelets from 1.35 on refuse",
    ),
    "a downgrade": (spec(version="v1.33.7+k3s3"), at({}), "cannot downgrade s1: it runs v1.34.3+k3s1"),
    "a downgrade of an agent": (spec(), at({"a1": NEW}), "cannot downgrade a1: it runs v1.35.5+k3s1"),
    "a skipped minor": (spec(version="v1.36.1+k3s1"), at({}), "it skips a minor"),
    "a build": (ASKED, at({}, hosts={"a1": {"version": "v1.34.3+k3s-4d137d94"}}), "a1: cannot read version"),
    "an unreachable agent": (ASKED, {**at({}), "a2": unreachable("a2")}, "a2 is unhealthy (unreachable)"),
    "a stopped agent": (ASKED, at({}, hosts={"a1": {"service": "failed"}}), "a1 is unhealthy (service failed)"),
    "a blank agent": (ASKED, {**at({}), "a1": blank("a1")}, "a1 is unhealthy (service absent)"),
    "a node that is not ready": (ASKED, at({}, {"a1": NOT_READY}), "a1 is unhealthy (node not ready)"),
    "a server that is not ready": (ASKED, at({}, hosts={"s2": {"ready": False}}), "s2 is unhealthy (API not ready)"),
    "a server that does not vote": (
        ASKED,
        at({}, {"s3": {"conditions": {"Ready": "True", VOTER_CONDITION: "False"}}}),
        "s3 is unhealthy (EtcdIsVoter is not true)",
    ),
    "two nodes in progress": (
        ASKED,
        at({}, {"a1": {**OURS, **NOT_READY}, "a2": {**OURS, **NOT_READY}}),
        "a2 is unhealthy (node not ready)",
    ),
    "an unreachable node in progress": (
        ASKED,
        {**at({}, {"a1": {**OURS, **NOT_READY}}), "a1": unreachable("a1")},
        "a1 is unhealthy",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_upgrade_is_refused_before_any_cordon(case: str) -> None:
    asked, reports, message = REFUSED[case]
    plan = upgrade_plan(asked, reports)
    assert plan.steps == ()
    assert message in " ".join(problem.message for problem in plan.problems)


def test_a_refusal_tells_the_state_of_every_node() -> None:
    (problem,) = upgrade_plan(ASKED, at({"s2": NEW}, {"a1": NOT_READY})).problems
    for text in ("s1 v1.34.3+k3s1: healthy", "s2 v1.35.5+k3s1: healthy", "a1 v1.34.3+k3s1: node not ready", "a2"):
        assert text in problem.message


def applied(reports: Mapping[str, HostReport], steps: Sequence[Step]) -> dict[str, HostReport]:
    """Return the reports after steps, each of which succeeded."""
    nodes = {found.name: found for found in reports["s1"].nodes}
    hosts = dict(reports)
    for step in steps:
        if step.action == actions.CORDON:
            nodes[step.value] = replace(nodes[step.value], unschedulable=True, cordoned_by=CORDONED_BY)
        elif step.action == actions.UNCORDON:
            nodes[step.value] = replace(nodes[step.value], unschedulable=False, cordoned_by="")
        elif step.action == actions.INSTALL:
            hosts[step.host] = replace(hosts[step.host], version=step.value)
        elif step.action == actions.RESTART:
            nodes[step.host] = replace(nodes[step.host], version=hosts[step.host].version)
    return {
        host: replace(report, nodes=tuple(nodes.values()) if report.nodes else ()) for host, report in hosts.items()
    }


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["v1.34.1+k3s1", "v1.34.3+k3s1"]))
def test_a_run_that_is_interrupted_anywhere_ends_at_the_version(first: int, second: int, start: str) -> None:
    reports = at(dict.fromkeys(ASKED.hosts, start))
    for count in (first, second, None):
        plan = upgrade_plan(ASKED, reports)
        assert not plan.refused
        reports = applied(reports, plan.steps[:count])
    assert upgrade_plan(ASKED, reports).steps == ()
    assert {report.version for report in reports.values()} == {NEW}
    assert not any(found.unschedulable for found in reports["s1"].nodes)


def test_servers_run_the_release_before_any_agent() -> None:
    steps = upgrade_plan(ASKED, at({"a1": OLD})).steps
    last_server = max(place for place, step in enumerate(steps) if step.host in SERVERS)
    assert all(place > last_server for place, step in enumerate(steps) if step.host in AGENTS)


def with_settings(asked: ClusterSpec, reports: Mapping[str, HostReport]) -> dict[str, HostReport]:
    return {
        host: replace(report, configuration=desired(asked, host), applied_digest=digest(desired(asked, host)))
        for host, report in reports.items()
    }


def restarts(asked: ClusterSpec, reports: Mapping[str, HostReport]) -> Plan:
    return restart_plan(asked, reports, asked.hosts)


CHANGED = spec(configuration={"kubelet-arg": ["max-pods=200"]})


def test_a_second_run_restarts_nothing() -> None:
    assert restarts(spec(), with_settings(spec(), cluster())).steps == ()
    assert restarts(spec(), {"s1": blank("s1")}).steps == ()


def test_a_change_restarts_servers_one_at_a_time_then_one_agent_and_then_the_others() -> None:
    asked = replace(CHANGED, agents=("a1", "a2", "a3"))
    reports = with_settings(replace(asked, configuration={}), cluster(agents=("a1", "a2", "a3")))
    plan = restarts(asked, reports)
    batches = {step.host: step.batch for step in plan.steps if step.action == actions.RESTART}
    assert list(batches) == ["s2", "s3", "s1", "a1", "a2", "a3"]
    assert batches["a2"] == batches["a3"] > batches["a1"] > batches["s1"]
    assert shown(plan)[:3] == ["write_configuration s2", "restart s2", "wait_voter s2"]
    assert plan.steps[0].reason == "changed: kubelet-arg"


def test_a_service_that_runs_with_other_settings_restarts_without_a_change() -> None:
    reports = with_settings(spec(), cluster())
    reports["s2"] = replace(reports["s2"], applied_digest="")
    assert shown(restarts(spec(), reports)) == ["restart s2", "wait_voter s2"]


def test_no_server_restarts_while_another_one_is_away() -> None:
    reports = with_settings(spec(), {**cluster(), "s3": unreachable("s3")})
    plan = restarts(CHANGED, reports)
    assert plan.problems[0].message == "cannot restart s2: the servers would lose their majority"
    assert plan.steps == ()


def test_a_single_server_restarts_although_its_api_pauses() -> None:
    alone = spec(servers=("s1",), agents=())
    reports = with_settings(alone, cluster(("s1",), ()))
    plan = restarts(replace(alone, configuration={"debug": True}), reports)
    assert shown(plan) == ["write_configuration s1", "restart s1", "wait_voter s1"]
