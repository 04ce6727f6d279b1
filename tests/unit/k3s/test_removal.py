# SPDX-License-Identifier: GPL-3.0-or-later
"""Removals: guards of every deletion, order, mounts, and volumes that stay unless their removal is requested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.install import install_plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import ClusterSpec, HostReport
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.paths import (
    APPLIED_FILE,
    MARKER_FILE,
    PathState,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.removal import (
    cluster_removal_plan,
    nodes_removal_plan,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.wiping import (
    Scope,
    directories,
    mounts_of_k3s,
    records,
)
from tests.unit.k3s.hosts import DATA_DIR, SERVERS, blank, cluster, node, server, spec, unreachable
from tests.unit.k3s.world import Host, World

ENTRIES = ("agent", MARKER_FILE, "server", "storage")
STATE = PathState(DATA_DIR, True, DATA_DIR, (), "lake", ENTRIES, remains=(f"{DATA_DIR}/agent",))


def states(asked: ClusterSpec, **changed: PathState) -> dict[str, PathState]:
    return {
        host: changed.get(host, replace(STATE, path=asked.data_dir, resolved=asked.data_dir)) for host in asked.hosts
    }


def removed(
    asked: ClusterSpec | None = None, confirm: str = "lake", *, delete_data: bool = False, **changed: PathState
) -> Plan:
    given = asked or spec()
    return cluster_removal_plan(given, cluster(), states(given, **changed), confirm, delete_data=delete_data)


def hosts(plan: Plan) -> list[tuple[str, int]]:
    return [(step.host, step.batch) for step in plan.steps if step.action == actions.WIPE_HOST]


def test_agents_go_side_by_side_and_the_first_server_last() -> None:
    assert hosts(removed()) == [("a1", 1), ("a2", 1), ("s3", 2), ("s2", 3), ("s1", 4)]


def test_a_plan_says_what_becomes_of_volumes() -> None:
    assert "volumes stay" in removed().steps[0].reason
    assert "volumes are deleted" in removed(delete_data=True).steps[0].reason


LAKE = Scope("lake", DATA_DIR)


def test_volumes_and_their_marker_stay_unless_they_are_asked_for() -> None:
    assert f"{DATA_DIR}/storage" not in directories(LAKE)
    assert DATA_DIR not in directories(LAKE)
    assert records(LAKE, STATE) == [f"{DATA_DIR}/{APPLIED_FILE}"]
    every = replace(LAKE, delete_data=True)
    assert f"{DATA_DIR}/storage" in directories(every)
    assert records(every, STATE) == [f"{DATA_DIR}/{APPLIED_FILE}", f"{DATA_DIR}/{MARKER_FILE}"]


def test_the_marker_stays_beside_what_is_not_ours() -> None:
    for entries, kept in (((), False), (("agent", MARKER_FILE, APPLIED_FILE), False), (("backup",), True)):
        found = records(replace(LAKE, delete_data=True), replace(STATE, entries=entries))
        assert (f"{DATA_DIR}/{MARKER_FILE}" not in found) is kept


def test_the_configuration_shows_to_the_end_that_the_host_is_ours() -> None:
    assert directories(LAKE)[-1] == "/etc/rancher/k3s"


def test_the_data_directory_of_the_inventory_is_honoured() -> None:
    asked = spec(data_dir="/srv/k3s/", configuration={"default-local-storage-path": "/srv/volumes"})
    found = directories(Scope.of(asked, delete_data=True))
    assert {"/srv/k3s/agent", "/srv/volumes"} <= set(found)
    assert not any(path.startswith(DATA_DIR) for path in found)


MOUNTS = (
    "/var/lib/kubelet/pods/1/volumes/x",
    "/var/lib/kubelet/pods/1/volumes/x/deeper",
    "/run/k3s/containerd/io/1/rootfs",
    f"{DATA_DIR}/agent/containerd/1",
    f"{DATA_DIR}/storage/disk",
    f"{DATA_DIR}/server/db",
    "/var/lib/kubelet",
    "/run/netns/cni-1",
    "/run/netns/other",
)


def test_mounts_of_pods_go_the_deepest_first_and_no_others() -> None:
    assert mounts_of_k3s(LAKE, MOUNTS) == [
        "/var/lib/kubelet/pods/1/volumes/x/deeper",
        "/var/lib/kubelet/pods/1/volumes/x",
        f"{DATA_DIR}/agent/containerd/1",
        "/run/k3s/containerd/io/1/rootfs",
        "/run/netns/cni-1",
    ]


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
    "a disk of an administrator": (
        spec(),
        "lake",
        False,
        {"s2": replace(STATE, mounts=(f"{DATA_DIR}/server/db",))},
        f"{DATA_DIR}/server/db is mounted there",
    ),
    "a symbolic link beside the directory": (
        spec(),
        "lake",
        False,
        {"s2": replace(STATE, links={"/var/lib/kubelet": "/mnt/kubelet"})},
        "cannot delete /var/lib/kubelet on s2: it leads to /mnt/kubelet",
    ),
    "a home directory": (spec(data_dir="/home/me"), "lake", False, {}, "it is a home directory"),
    "one part": (spec(data_dir="/k3s"), "lake", False, {}, "it is directly below the root"),
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


def test_a_removal_that_ended_removes_nothing_again() -> None:
    gone = PathState(DATA_DIR, exists=False)
    reports: dict[str, HostReport] = {host: blank(host) for host in spec().hosts}
    plan = cluster_removal_plan(spec(), reports, dict.fromkeys(spec().hosts, gone), "lake")
    assert (plan.refused, plan.steps) == (False, ())


def leave(reports: Mapping[str, HostReport], *nodes: str, **given: PathState | None) -> Plan:
    found = {host: given.get(host, STATE) for host in nodes}
    return nodes_removal_plan(spec(), reports, nodes, {host: state for host, state in found.items() if state})


def test_one_node_leaves_the_cluster_before_it_is_wiped() -> None:
    found = [step.action for step in leave(cluster(), "s2").steps]
    assert found == [
        *("cordon", "drain", "remove_member", "wait_settled", "stop", "delete_node", "delete_password", "wipe_host")
    ]


def test_nodes_leave_one_after_the_other() -> None:
    steps = leave(cluster(), "a1", "s2").steps
    assert len({step.batch for step in steps}) == len(steps)
    assert [step.host for step in steps if step.action == actions.WIPE_HOST] == ["a1", "s2"]


def rewritten(plan: Plan) -> list[tuple[str, str]]:
    return [(step.host, step.value) for step in plan.steps if step.action == actions.WRITE_MEMBERSHIP]


def test_the_rest_of_a_cluster_no_longer_joins_a_removed_server() -> None:
    """The reports of hosts join s1, which is 10.0.0.11."""
    found = [(step.host, step.value) for step in leave(cluster(), "s1").steps if step.action == "write_membership"]
    assert found == [("s2", "https://10.0.0.13:6443"), ("s3", "https://10.0.0.12:6443")]
    alone = [
        (step.host, step.value) for step in leave(cluster(), "s1", "s2").steps if step.action == "write_membership"
    ]
    assert alone == [("s3", "")]
    assert not any(step.action == "write_membership" for step in leave(cluster(), "s2").steps)


def test_an_even_number_of_servers_is_mentioned() -> None:
    assert any("2 servers need 2" in notice for notice in leave(cluster(), "s1").notices)
    assert len(leave(cluster(), "a1").notices) == 1


def test_a_lost_node_is_not_wiped_and_a_refused_one_not_touched() -> None:
    nodes = [node("s1"), node("s2"), node("s3", conditions={"Ready": "Unknown"})]
    reports = {**cluster(), **{host: server(host, SERVERS, nodes) for host in ("s1", "s2")}, "s3": unreachable("s3")}
    lost = leave(reports, "s3", s3=None)
    assert [step.action for step in lost.steps][-1] == "delete_password"
    assert leave(reports, "s2").refused
    assert leave(cluster(), "s2", s2=replace(STATE, marker_cluster="sea")).steps == ()
    assert leave(cluster(), "s2", s2=None).refused


@pytest.mark.parametrize("gone", [("s1",), ("s3",), ("a1",), ("a2", "s1"), ("s1", "s2")])
def test_a_removal_of_nodes_that_ends_anywhere_is_completed_by_the_next_run(gone: tuple[str, ...]) -> None:
    states = dict.fromkeys(gone, STATE)
    count = len(nodes_removal_plan(spec(), installed().reports(), gone, states).steps)
    for end in range(count + 1):
        world = installed()
        for steps in (slice(end), slice(None)):
            plan = nodes_removal_plan(spec(), world.reports(), gone, states)
            assert not plan.refused, plan.problems
            world.run(plan.steps[steps])
        assert world.voters == {*SERVERS} - {*gone}
        assert not {*gone} & (world.nodes.keys() | world.passwords)
        assert all(world.hosts[host] == Host() for host in gone)


def installed() -> World:
    """Return the world after an installation."""
    world = World(spec())
    world.run(install_plan(spec(), world.reports()).steps)
    return world
