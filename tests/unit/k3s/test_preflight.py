# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight: bad inventories as a table, each with its expected problem, and all problems in one report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    ClusterSpec,
    HostReport,
    SnapshotSettings,
    TakenPort,
    by_host,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.paths import (
    PathState,
    path_problems,
    state_problems,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.preflight import needed_ports, preflight
from tests.unit.k3s.hosts import address, blank, cluster, server, spec, system, unreachable

Hosts = Mapping[str, Mapping[str, Any]]


def blanks(asked: ClusterSpec, hosts: Hosts | None = None) -> dict[str, HostReport]:
    """Return blank hosts whose machines differ as given by host."""
    return by_host(blank(host, system=system(host, **(hosts or {}).get(host, {}))) for host in asked.hosts)


def test_a_good_inventory_has_no_problem() -> None:
    assert preflight(spec(), blanks(spec())) == []
    assert preflight(spec(), cluster()) == []


PRODUCTION = spec(environment="production", snapshots=SnapshotSettings(recipients=("age1key",)))

# The inventory, differing machines by host, the variable, and a part of the message.
BAD: dict[str, tuple[ClusterSpec, Hosts, str, str]] = {
    "two servers": (
        spec(servers=("s1", "s2")),
        {},
        "k3s_servers",
        "2 servers tolerate no more failures than 1",
    ),
    "four servers": (spec(servers=("s1", "s2", "s3", "s4")), {}, "k3s_servers", "no more failures than 3"),
    "no server": (spec(servers=()), {}, "k3s_servers", "no server is listed"),
    "a host in both groups": (spec(agents=("a1", "s1")), {}, "k3s_servers", "s1 is listed 2 times"),
    "settings of a host that is not listed": (
        spec(host_configuration={"s9": {"debug": True}}),
        {},
        "k3s_host_configuration",
        "s9 is in neither group",
    ),
    "a bad name of the cluster": (spec(name="Lake House"), {}, "k3s_cluster_name", "'Lake House' is not a name"),
    "one hostname twice": (
        spec(),
        {"s2": {"hostname": "S1"}},
        "k3s_host_configuration",
        "s1, s2 share the node name s1",
    ),
    "one node name twice": (
        spec(host_configuration={"a1": {"node-name": "a2"}}),
        {},
        "k3s_host_configuration",
        "a1, a2 share the node name a2",
    ),
    "a hostname with an underscore": (
        spec(),
        {"a1": {"hostname": "node_1"}},
        "k3s_host_configuration",
        "a1 would register as 'node_1'",
    ),
    "one machine id twice": (
        spec(),
        {"a1": {"machine_id": "f" * 32}, "a2": {"machine_id": "f" * 32}},
        "inventory_hostname",
        f"a1, a2 share the machine id {'f' * 32}",
    ),
    "no machine id": (spec(), {"a1": {"machine_id": ""}}, "inventory_hostname", "a1 has no machine id"),
    "one address twice": (
        spec(),
        {"s2": {"addresses": (address("s1"),)}},
        "inventory_hostname",
        "s1, s2 have the address 10.0.0.11",
    ),
    "no address": (
        spec(),
        {"s2": {"addresses": ("127.0.0.1", "fe80::1", "nonsense")}},
        "inventory_hostname",
        "s2 has no address in a network",
    ),
    "another host's node-ip": (
        spec(host_configuration={"s2": {"node-ip": "10.0.0.11"}}),
        {},
        "k3s_host_configuration",
        "`node-ip` 10.0.0.11 is not an address of s2",
    ),
    "clocks apart": (
        spec(),
        {"s1": {"time_offset_s": -2.0}, "a2": {"time_offset_s": 2.5}},
        "inventory_hostname",
        "the clocks of s1 and a2 are 4.5 s apart",
    ),
    "the API's port": (
        spec(),
        {"s1": {"ports_taken": (TakenPort(6443, "tcp", "haproxy"),)}},
        "inventory_hostname",
        "port 6443/tcp of s1 is taken (haproxy)",
    ),
    "etcd's port": (spec(), {"s3": {"ports_taken": (TakenPort(2380),)}}, "inventory_hostname", "port 2380/tcp of s3"),
    "the kubelet's port on an agent": (
        spec(),
        {"a1": {"ports_taken": (TakenPort(10250),)}},
        "inventory_hostname",
        "port 10250/tcp of a1",
    ),
    "flannel's port": (spec(), {"a1": {"ports_taken": (TakenPort(8472, "udp"),)}}, "inventory_hostname", "8472/udp"),
    "a small server": (
        spec(),
        {"s1": {"memory_mib": 1024}},
        "inventory_hostname",
        "s1 has 1024 MiB of memory, 1800 are needed",
    ),
    "a small agent": (spec(), {"a1": {"memory_mib": 256}}, "inventory_hostname", "a1 has 256 MiB of memory, 460"),
    "a full disk": (spec(), {"a1": {"disk_free_mib": 900}}, "k3s_data_dir", "a1 has 900 MiB free below"),
    "a server of 32 bits": (
        spec(),
        {"s1": {"architecture": "armv7l"}},
        "inventory_hostname",
        "s1 is armv7l, on which K3s runs no server",
    ),
    "an unknown architecture": (spec(), {"a1": {"architecture": "mips"}}, "inventory_hostname", "K3s runs no agent"),
    "an old kernel": (spec(), {"a1": {"kernel": "5.4.0-100"}}, "inventory_hostname", "a1 runs kernel 5.4.0-100"),
    "cgroup v1 with Kubernetes 1.35": (
        spec(version="v1.35.5+k3s1"),
        {"a1": {"cgroup_version": 1}},
        "inventory_hostname",
        "a1 has cgroup v1, which kubelets from 1.35 on refuse",
    ),
    "no cgroups": (spec(), {"a1": {"cgroup_version": 0}}, "inventory_hostname", "a1 has no cgroups"),
    "no systemd": (spec(), {"a1": {"systemd": False}}, "inventory_hostname", "a1 does not run systemd"),
    "a channel": (spec(version="stable"), {}, "k3s_version", "cannot read version 'stable'"),
    "one server in production": (
        replace(PRODUCTION, servers=("s1",)),
        {},
        "k3s_servers",
        "1 server cannot fail without an outage",
    ),
    "production without recipients": (
        replace(PRODUCTION, snapshots=SnapshotSettings()),
        {},
        "lakehouse_backup_recipients",
        "a snapshot is useless without them",
    ),
    "no retention": (
        spec(snapshots=SnapshotSettings(count=0)),
        {},
        "k3s_snapshots",
        "count 0 and age_hours 168 would keep no snapshot",
    ),
    "a schedule of another format": (
        spec(snapshots=SnapshotSettings(schedule="@daily")),
        {},
        "k3s_snapshots",
        "schedule '@daily' is not a cron schedule of 5 fields",
    ),
    "a data directory of the system": (spec(data_dir="/var/lib"), {}, "k3s_data_dir", "belongs to the system"),
    "a setting that does not exist": (
        spec(configuration={"flanel-backend": "none"}),
        {},
        "k3s_configuration",
        "`flanel-backend` is not a setting of K3s",
    ),
    "pods and services overlap": (
        spec(configuration={"service-cidr": "10.42.128.0/17"}),
        {},
        "k3s_configuration",
        "`cluster-cidr` 10.42.0.0/16 and `service-cidr` 10.42.128.0/17 overlap",
    ),
    "pods and a host overlap": (
        spec(configuration={"cluster-cidr": "10.0.0.0/16"}),
        {},
        "k3s_configuration",
        "the address 10.0.0.11 of s1 lies in `cluster-cidr` 10.0.0.0/16",
    ),
    "services and a host overlap": (
        spec(),
        {"a1": {"addresses": ("10.43.7.7",)}},
        "k3s_configuration",
        "the address 10.43.7.7 of a1 lies in `service-cidr` 10.43.0.0/16",
    ),
    "a malformed network": (
        spec(configuration={"cluster-cidr": "10.42.0.0/33"}),
        {},
        "k3s_configuration",
        "`cluster-cidr` is malformed",
    ),
    "a network with bits of a host": (
        spec(configuration={"cluster-cidr": "10.42.0.1/16"}),
        {},
        "k3s_configuration",
        "`cluster-cidr` is malformed",
    ),
    "one family in pods and two in services": (
        spec(configuration={"service-cidr": "10.43.0.0/16,fd43::/112"}),
        {},
        "k3s_configuration",
        "`cluster-cidr` is IPv4 and `service-cidr` is IPv4+v6",
    ),
    "one family twice": (
        spec(configuration={"cluster-cidr": "10.42.0.0/16,10.44.0.0/16", "service-cidr": "10.43.0.0/16,10.45.0.0/16"}),
        {},
        "k3s_configuration",
        "lists one family twice",
    ),
    "IPv6 on hosts of IPv4": (
        spec(configuration={"cluster-cidr": "10.42.0.0/16,fd42::/48", "service-cidr": "10.43.0.0/16,fd43::/112"}),
        {},
        "k3s_configuration",
        "s1 has no IPv6 address",
    ),
    "services too wide": (
        spec(configuration={"service-cidr": "172.16.0.0/11"}),
        {},
        "k3s_configuration",
        "`service-cidr` is malformed",
    ),
    "services wider than kube-apiserver takes": (
        spec(configuration={"service-cidr": "172.0.0.0/11"}),
        {},
        "k3s_configuration",
        "`service-cidr` 172.0.0.0/11 is too wide",
    ),
    "pods too narrow for the nodes": (
        spec(configuration={"cluster-cidr": "10.42.0.0/22"}),
        {},
        "k3s_configuration",
        "each of 5 nodes gets a /24",
    ),
    "pods narrower than a node's share": (
        spec(configuration={"cluster-cidr": "10.42.0.0/25"}),
        {},
        "k3s_configuration",
        "is too narrow",
    ),
    "a name server outside the services": (
        spec(configuration={"cluster-dns": "10.42.0.10"}),
        {},
        "k3s_configuration",
        "`cluster-dns` 10.42.0.10 is not in `service-cidr`",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inventories(case: str) -> None:
    asked, hosts, variable, message = BAD[case]
    found = preflight(asked, blanks(asked, hosts))
    named = [problem for problem in found if problem.variable == variable and message in problem.message]
    assert named, [str(problem) for problem in found]
    assert all(problem.remedy for problem in found)


def test_all_problems_of_all_hosts_are_found_at_once() -> None:
    asked = spec(servers=("s1", "s2"), version="latest", configuration={"service-cidr": "10.42.0.0/16"})
    hosts: Hosts = {"s1": {"memory_mib": 100}, "a1": {"kernel": "3.10"}, "a2": {"systemd": False, "disk_free_mib": 1}}
    found = preflight(asked, blanks(asked, hosts))
    assert len(found) == 7
    assert found == sorted(found)


def test_installed_versions_are_changed_by_an_upgrade_only() -> None:
    reports = {**cluster(), "s2": server("s2", version="v1.33.7+k3s3")}
    (problem,) = preflight(spec(), reports)
    assert problem.message == "v1.34.3+k3s1 is asked for, and other versions are installed (s2: v1.33.7+k3s3)"
    assert "k3s_upgrade" in problem.remedy
    assert preflight(spec(), reports, upgrading=True) == []


def test_k3s_itself_may_hold_its_ports_and_less_disk_is_enough_once_it_is_installed() -> None:
    running = server("s1", system=system("s1", ports_taken=(TakenPort(6443, "tcp", "k3s-server"),), disk_free_mib=2000))
    assert preflight(spec(), {**cluster(), "s1": running}) == []


def test_bridges_for_virtual_machines_may_have_one_address_on_all_hosts() -> None:
    hosts: Hosts = {host: {"addresses": (address(host), "172.17.0.1", "fe80::1")} for host in spec().hosts}
    assert preflight(spec(), blanks(spec(), hosts)) == []


def test_an_unreachable_host_is_not_judged() -> None:
    assert preflight(spec(), {**blanks(spec()), "a1": unreachable("a1")}) == []


def test_ports_follow_the_role_and_the_configuration() -> None:
    assert needed_ports(spec(), "a1") == {(10250, "tcp"), (8472, "udp")}
    changed = spec(configuration={"flannel-backend": "wireguard-native", "https-listen-port": 7443})
    assert (51820, "udp") in needed_ports(changed, "a1")
    assert {(7443, "tcp"), (2379, "tcp"), (2380, "tcp")} <= needed_ports(changed, "s1")
    assert needed_ports(spec(configuration={"flannel-backend": "none"}), "a1") == {(10250, "tcp")}


DUAL = spec(
    configuration={"cluster-cidr": ["10.42.0.0/16", "fd42::/56"], "service-cidr": ["10.43.0.0/16", "fd43::/112"]},
    agents=(),
)


def test_two_families_on_hosts_of_both_are_good() -> None:
    hosts = {host: {"addresses": (address(host), f"fd00::{number}")} for number, host in enumerate(DUAL.servers, 1)}
    assert preflight(DUAL, blanks(DUAL, hosts)) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("/", "belongs to the system"),
        ("//", "belongs to the system"),
        ("/var/lib/", "belongs to the system"),
        ("/var/lib/rancher", "belongs to the system"),
        ("/home", "belongs to the system"),
        ("/etc/k3s", "volatile or not for data"),
        ("/tmp/k3s", "volatile or not for data"),
        ("k3s", "it is not absolute"),
        ("~/k3s", "it is not absolute"),
        ("/var/lib/k3s/..", "contains `.` or `..`"),
        ("/var/lib/k3s/../../etc", "contains `.` or `..`"),
        ("/data/k3s\n", "control characters"),
        ("/data/k3s ", "white space"),
    ],
)
def test_bad_paths(path: str, reason: str) -> None:
    (problem,) = path_problems("k3s_data_dir", path)
    assert reason in problem.message


def test_good_paths() -> None:
    for path in ("/var/lib/rancher/k3s", "/data/k3s", "/srv/k3s/", "/opt/k3s"):
        assert path_problems("k3s_data_dir", path) == []


GOOD = PathState("/data/k3s", True, "/data/k3s", (), "lake", ("agent", "server"))
STATES: dict[str, tuple[PathState, str]] = {
    "a link": (replace(GOOD, resolved="/mnt/disk/k3s"), "it leads to /mnt/disk/k3s by a symbolic link"),
    "above a mount": (replace(GOOD, mounts=("/data/k3s", "/data/k3s/storage/x")), "/data/k3s/storage/x is mounted"),
    "no marker": (replace(GOOD, marker_cluster=""), "no marker shows that this collection created it"),
    "another cluster": (replace(GOOD, marker_cluster="other"), "it belongs to the cluster other, not lake"),
    "the root": (replace(GOOD, path="/"), "belongs to the system"),
}


@pytest.mark.parametrize("case", STATES)
def test_directories_that_are_not_deleted(case: str) -> None:
    state, message = STATES[case]
    (problem,) = state_problems("k3s_data_dir", state, "lake")
    assert message in problem.message


def test_directories_that_are_deleted() -> None:
    pods = ("/data/k3s/agent/x", "/data/k3s/agent/y")
    assert state_problems("k3s_data_dir", GOOD, "lake") == []
    assert state_problems("k3s_data_dir", replace(GOOD, mounts=("/data/k3s",)), "lake") == []
    assert state_problems("k3s_data_dir", replace(GOOD, mounts=pods), "lake", unmounted=pods) == []
    assert state_problems("k3s_data_dir", PathState("/data/k3s", exists=False), "lake") == []
    assert state_problems("k3s_data_dir", PathState("/data/k3s"), "lake") == []
