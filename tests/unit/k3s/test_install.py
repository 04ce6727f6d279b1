# SPDX-License-Identifier: GPL-3.0-or-later
"""Installations: all problems in one report, order of joins and restarts, and runs interrupted at any step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.install import install_plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import ClusterSpec, by_host
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.upgrade import upgrade_plan
from tests.unit.k3s.hosts import SERVERS, VERSION, blank, cluster, server, spec, unreachable
from tests.unit.k3s.world import World


def installed(asked: ClusterSpec) -> World:
    """Return the world after an installation on blank hosts."""
    world = World(asked)
    world.run(install_plan(asked, world.reports()).steps)
    return world


def shown(plan: Plan) -> list[str]:
    assert not plan.refused, plan.problems
    return [f"{step.action} {step.host or step.value}" for step in plan.steps]


def test_a_second_run_has_no_step() -> None:
    world = installed(spec())
    assert (world.voters, world.clusters) == (set(SERVERS), 1)
    assert install_plan(spec(), world.reports()).steps == ()


def test_problems_of_preflight_and_discovery_are_told_at_once() -> None:
    reports = {**by_host(map(blank, spec().hosts)), "s3": unreachable("s3")}
    text = str(install_plan(spec(name="Lake House"), reports).problems)
    assert "is not a name for a cluster" in text
    assert "s3 cannot be reached" in text


def test_two_clusters_are_refused_and_nothing_is_planned() -> None:
    plan = install_plan(spec(), {**cluster(), "s3": server("s3", cluster="c2")})
    assert plan.steps == ()
    assert "the hosts belong to 2 clusters" in plan.problems[0].message


@pytest.mark.parametrize("host", spec().hosts)
def test_one_unchanged_run_heals_any_wiped_host(host: str) -> None:
    world = installed(spec())
    world.wipe(host)
    world.run(install_plan(spec(), world.reports()).steps)
    assert (world.voters, world.clusters, world.restarts) == (set(SERVERS), 1, [])
    assert install_plan(spec(), world.reports()).steps == ()


def test_a_changed_setting_restarts_the_nodes_that_it_concerns() -> None:
    asked = spec(configuration={"kube-apiserver-arg": ["v=2"]})
    world = installed(spec())
    world.spec = asked
    world.run(install_plan(asked, world.reports()).steps)
    assert world.restarts == ["s2", "s3", "s1"]
    assert install_plan(asked, world.reports()).steps == ()


def test_a_lost_server_joins_before_a_changed_setting_restarts_the_others() -> None:
    asked = spec(configuration={"debug": True})
    world = installed(spec())
    world.wipe("s3")
    world.spec = asked
    steps = shown(install_plan(asked, world.reports()))
    assert steps.index("wait_voter s3") < steps.index("restart s1")
    world.run(install_plan(asked, world.reports()).steps)
    assert "s3" not in world.restarts
    assert install_plan(asked, world.reports()).steps == ()


def test_a_changed_critical_setting_restarts_the_servers_before_a_new_one_joins() -> None:
    world = installed(spec(servers=("s1",), agents=()))
    asked = spec(agents=(), configuration={"flannel-backend": "host-gw"})
    grown = World(asked, world.hosts, world.voters, world.learners, world.nodes, world.passwords, world.clusters)
    steps = shown(install_plan(asked, grown.reports()))
    assert steps[:3] == ["write_configuration s1", "restart s1", "wait_voter s1"]
    assert "join_server s2" in steps[3:]


def test_a_changed_critical_setting_is_refused_while_a_server_is_lost() -> None:
    asked = spec(configuration={"flannel-backend": "host-gw"})
    world = installed(spec())
    world.wipe("s3")
    assert "would lose their majority" in install_plan(asked, world.reports()).problems[0].message


def test_a_server_that_fails_with_its_settings_restarts_first_with_corrected_ones() -> None:
    world = installed(spec())
    world.hosts["s2"].configuration["kube-apiserver-arg"] = ["no-such-flag=1"]
    reports = dict(world.reports())
    reports["s2"] = replace(reports["s2"], ready=False, etcd=None, service="activating")
    assert shown(install_plan(spec(), reports)) == [
        "write_configuration s2",
        "restart s2",
        "wait_voter s2",
        "wait_voter s2",
    ]


def test_an_invalid_setting_that_one_server_has_does_not_reach_the_others() -> None:
    asked = spec(configuration={"kube-apiserver-arg": ["no-such-flag=1"]})
    world = installed(spec())
    world.spec = asked
    steps = install_plan(asked, world.reports()).steps
    world.run(steps[:1])
    reports = dict(world.reports())
    reports["s2"] = replace(reports["s2"], ready=False, etcd=None, service="activating")
    found = shown(install_plan(asked, reports))
    assert found[:2] == ["restart s2", "wait_voter s2"]
    assert not any(line.endswith(("s1", "s3")) for line in found[:3])


def test_an_unreachable_server_defers_restarts_of_the_others() -> None:
    asked = spec(configuration={"debug": True})
    world = installed(spec())
    reports: dict[str, Any] = {**world.reports(), "s3": unreachable("s3")}
    assert "would lose their majority" in install_plan(asked, reports).problems[0].message


def test_a_changed_label_is_applied_to_the_node_without_a_restart() -> None:
    asked = spec(host_configuration={"a1": {"node-label": ["disk=ssd"]}})
    assert shown(install_plan(asked, installed(spec()).reports())) == ["apply_registration a1"]


def test_growth_from_one_server_to_three_joins_both_and_restarts_nothing() -> None:
    world = installed(spec(servers=("s1",)))
    grown = World(spec(), world.hosts, world.voters, world.learners, world.nodes, world.passwords, world.clusters)
    grown.run(install_plan(spec(), grown.reports()).steps)
    assert (grown.voters, grown.clusters, grown.restarts) == (set(SERVERS), 1, [])


# Each run ends after some steps, perhaps inside the next one. K3s may continue by itself before the next run.
Cut = tuple[int, bool, bool]
cuts = st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans()), max_size=4)


@given(cuts)
def test_an_installation_that_ends_anywhere_is_completed_by_the_next_run(ends: list[Cut]) -> None:
    world = World(spec())
    interrupted(world, ends)
    world.run(install_plan(spec(), world.reports()).steps)
    assert (world.voters, world.clusters) == (set(SERVERS), 1)
    assert all(world.nodes[host] for host in spec().hosts)
    assert not any("cluster-init" in world.hosts[host].configuration for host in SERVERS)
    assert all(found.marker and found.marker.state == "member" for found in world.hosts.values())
    assert install_plan(spec(), world.reports()).steps == ()


@given(st.sampled_from(SERVERS), st.booleans(), cuts)
def test_a_repair_that_ends_anywhere_is_completed_by_the_next_run(host: str, changed: bool, found: list[Cut]) -> None:
    world = installed(spec())
    world.wipe(host)
    world.spec = replace(spec(), configuration={"debug": True} if changed else {})
    interrupted(world, found)
    world.run(install_plan(world.spec, world.reports()).steps)
    assert (world.voters, world.clusters) == (set(SERVERS), 1)
    assert install_plan(world.spec, world.reports()).steps == ()


@given(st.sampled_from(["v1.33.5+k3s1", "v1.34.1+k3s1"]), cuts)
def test_an_upgrade_that_ends_anywhere_is_completed_by_the_next_run(start: str, ends: list[Cut]) -> None:
    world = installed(spec(version=start))
    world.spec = spec()
    interrupted(world, ends, upgrade_plan)
    world.run(upgrade_plan(spec(), world.reports()).steps)
    assert all(found.runs == found.version == VERSION for found in world.hosts.values())
    assert (world.voters, world.clusters, world.cordoned) == (set(SERVERS), 1, set())
    assert upgrade_plan(spec(), world.reports()).steps == install_plan(spec(), world.reports()).steps == ()


def interrupted(world: World, found: list[Cut], planned: Callable[..., Plan] = install_plan) -> None:
    """Run plans that end after some steps, or in the middle of the next one."""
    for count, inside, settled in found:
        plan = planned(world.spec, world.reports())
        assert not plan.refused, plan.problems
        world.run(plan.steps[:count])
        if inside and count < len(plan.steps):
            world.begin(plan.steps[count])
        if settled:
            world.settle()


def test_every_action_of_a_plan_is_in_the_table() -> None:
    assert {step.action for step in install_plan(spec(), World(spec()).reports()).steps} <= actions.ACTIONS.keys()
