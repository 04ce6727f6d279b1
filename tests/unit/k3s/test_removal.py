# SPDX-License-Identifier: GPL-3.0-or-later
"""Removals: guards of everything that is deleted, order, mounts, and volumes that stay unless they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.install import install_plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import ClusterSpec, HostReport
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.paths import PathState
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.removal import (
    cluster_removal_plan,
    mounts_of_k3s,
    node_removal_plan,
)
from tests.unit.k3s.hosts import DATA_DIR, SERVERS, blank, cluster, spec, unreachable
from tests.unit.k3s.world import Host, World

STATE = PathState(DATA_DIR, True, DATA_DIR, (), "lake", (".crypto-lakehouse.json", "agent", "server", "storage"))


def states(asked: ClusterSpec, **changed: PathState) -> dict[str, PathState]:
    return {
        host: changed.get(host, replace(STATE, path=asked.data_dir, resolved=asked.data_dir)) for host in asked.hosts
    }


def removed(
    asked: ClusterSpec | None = None, confirm: str = "lake", *, delete_data: bool = False, **changed: PathState
) -> Plan:
    given = asked or spec()
    return cluster_removal_plan(given, cluster(), states(given, **changed), confirm, delete_data=delete_data)


def deleted(plan: Plan, host: str) -> list[str]:
    return [step.value for step in plan.steps if step.action == actions.DELETE_PATH and step.host == host]


def test_agents_go_side_by_side_and_the_first_server_last() -> None:
    stops = [(step.host, step.batch) for step in removed().steps if step.action == actions.STOP]
    assert [host for host, _batch in stops] == ["a1", "a2", "s3", "s2", "s1"]
    assert stops[0][1] == stops[1][1] < stops[2][1]


def test_volumes_and_their_marker_stay_unless_they_are_asked_for() -> None:
    kept = deleted(removed(), "s1")
    assert f"{DATA_DIR}/storage" not in kept
    assert DATA_DIR not in kept
    assert f"{DATA_DIR}/.crypto-lakehouse.json" not in kept
    every = deleted(removed(delete_data=True), "s1")
    assert f"{DATA_DIR}/storage" in every
    assert every[-1] == f"{DATA_DIR}/.crypto-lakehouse.json"
    assert f"{DATA_DIR}/server" in kept


def test_without_volumes_the_marker_goes_last() -> None:
    without = replace(STATE, entries=("agent", "server", ".crypto-lakehouse.json"))
    assert deleted(removed(s1=without), "s1")[-1] == f"{DATA_DIR}/.crypto-lakehouse.json"


def test_the_data_directory_of_the_inventory_is_honoured() -> None:
    asked = spec(data_dir="/srv/k3s", configuration={"default-local-storage-path": "/srv/volumes"})
    found = deleted(removed(asked, delete_data=True), "a1")
    assert {"/srv/k3s/agent", "/srv/volumes"} <= set(found)
    assert not any(path.startswith(DATA_DIR) for path in found)


MOUNTS = (
    "/var/lib/kubelet/pods/1/volumes/x",
    "/var/lib/kubelet/pods/1/volumes/x/deeper",
    "/run/k3s/containerd/io/1/rootfs",
    f"{DATA_DIR}/agent/containerd/1",
    f"{DATA_DIR}/storage/disk",
    "/var/lib/kubelet",
)


def test_mounts_of_pods_go_first_the_deepest_first_and_no_others() -> None:
    state = replace(STATE, mounts=MOUNTS)
    plan = removed(a1=state)
    first = [(step.action, step.value) for step in plan.steps if step.host == "a1"][:6]
    assert first == [
        ("stop", ""),
        ("unmount", "/var/lib/kubelet/pods/1/volumes/x/deeper"),
        ("unmount", "/var/lib/kubelet/pods/1/volumes/x"),
        ("unmount", f"{DATA_DIR}/agent/containerd/1"),
        ("unmount", "/run/k3s/containerd/io/1/rootfs"),
        ("delete_path", f"{DATA_DIR}/agent"),
    ]
    assert "/var/lib/kubelet" not in mounts_of_k3s(spec(), state)


REFUSED: dict[str, tuple[ClusterSpec, str, bool, Mapping[str, PathState], str]] = {
    "no confirmation": (spec(), "", False, {}, "the removal of lake is not confirmed"),
    "another name": (spec(), "sea", False, {}, "the removal of lake is not confirmed"),
    "an empty name": (spec(name=""), "", False, {}, "the removal of a cluster is not confirmed"),
    "an empty directory": (spec(data_dir=""), "lake", False, {}, "'' cannot be a data directory: it is empty"),
    "the root": (spec(data_dir="/"), "lake", False, {}, "'/' cannot be a data directory"),
    "a directory of the system": (spec(data_dir="/var/lib"), "lake", False, {}, "it belongs to the system"),
    "a symbolic link": (
        spec(),
        "lake",
        False,
        {"s2": replace(STATE, resolved="/mnt/disk/k3s")},
        "it leads to /mnt/disk/k3s by a symbolic link",
    ),
    "a mount below": (
        spec(),
        "lake",
        False,
        {"s2": replace(STATE, mounts=(f"{DATA_DIR}/backup",))},
        f"{DATA_DIR}/backup is mounted there",
    ),
    "a mount in volumes that are deleted": (
        spec(),
        "lake",
        True,
        {"s2": replace(STATE, mounts=(f"{DATA_DIR}/storage/disk",))},
        f"{DATA_DIR}/storage/disk is mounted there",
    ),
    "another cluster": (
        spec(),
        "lake",
        False,
        {"s2": replace(STATE, marker_cluster="sea")},
        "belongs to the cluster sea",
    ),
    "no marker": (spec(), "lake", False, {"s2": replace(STATE, marker_cluster="")}, "no marker shows"),
    "another directory on the host (k3s#11386)": (
        spec(),
        "lake",
        False,
        {"s2": replace(STATE, path="/srv/k3s", resolved="/srv/k3s")},
        "the data directory of s2 is /srv/k3s, not /var/lib/rancher/k3s",
    ),
    "a mount in volumes elsewhere": (
        spec(configuration={"default-local-storage-path": "/srv/volumes"}),
        "lake",
        True,
        {"s2": replace(STATE, mounts=("/srv/volumes/disk",))},
        "cannot delete /srv/volumes on s2: /srv/volumes/disk is mounted there",
    ),
    "volumes in a directory of the system": (
        spec(configuration={"default-local-storage-path": "/mnt"}),
        "lake",
        True,
        {},
        "'/mnt' cannot be a data directory",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_removals(case: str) -> None:
    asked, confirm, delete_data, changed, message = REFUSED[case]
    plan = removed(asked, confirm, delete_data=delete_data, **changed)
    assert plan.steps == ()
    assert message in "\n".join(problem.message for problem in plan.problems)


def test_an_unreachable_host_refuses_the_removal_of_the_cluster() -> None:
    plan = cluster_removal_plan(spec(), {**cluster(), "a2": unreachable("a2")}, states(spec()), "lake")
    assert plan.problems[0].message == "a2 cannot be reached and would go on with its part of lake"


def test_a_removal_that_ended_removes_nothing_of_the_directory_again() -> None:
    gone = PathState(DATA_DIR, exists=False)
    reports: dict[str, HostReport] = {host: blank(host) for host in spec().hosts}
    plan = cluster_removal_plan(spec(), reports, dict.fromkeys(spec().hosts, gone), "lake")
    assert not plan.refused
    assert not any(step.value.startswith(DATA_DIR) or step.action == actions.STOP for step in plan.steps)


def test_one_node_leaves_the_cluster_before_it_is_wiped() -> None:
    found = [step.action for step in node_removal_plan(spec(), cluster(), "s2", STATE).steps]
    assert found[:7] == ["cordon", "drain", "remove_member", "wait_settled", "stop", "delete_node", "delete_password"]
    assert set(found[7:]) == {"delete_path"}


def test_a_lost_node_is_not_wiped_and_a_refused_one_not_touched() -> None:
    lost = node_removal_plan(spec(), {**cluster(), "s3": unreachable("s3")}, "s3", None)
    assert [step.action for step in lost.steps][-1] == "delete_password"
    assert node_removal_plan(spec(), {**cluster(), "s3": unreachable("s3")}, "s2", STATE).refused
    assert node_removal_plan(spec(), cluster(), "s2", replace(STATE, marker_cluster="sea")).steps == ()
    assert node_removal_plan(spec(), cluster(), "s2", None).refused


@pytest.mark.parametrize("host", ["s1", "s3", "a1"])
def test_a_removal_of_a_node_that_ends_anywhere_is_completed_by_the_next_run(host: str) -> None:
    count = len(node_removal_plan(spec(), installed().reports(), host, STATE).steps)
    for end in range(count + 1):
        world = installed()
        for steps in (slice(end), slice(None)):
            plan = node_removal_plan(spec(), world.reports(), host, STATE)
            assert not plan.refused, plan.problems
            world.run(plan.steps[steps])
        assert world.voters == {*SERVERS} - {host}
        assert host not in world.nodes
        assert host not in world.passwords
        assert world.hosts[host] == Host()


def installed() -> World:
    """Return the world after an installation."""
    world = World(spec())
    world.run(install_plan(spec(), world.reports()).steps)
    return world
