# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad inventories and hosts in `k3s_install.yml`: all problems with remedies in one report, and unchanged hosts.

One run contains the problems of many rows, as the preflight reports all of them together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.integration.k3s.machines import Machine, Site
from tests.integration.playbook import Run

VERSION = "v1.34.3+k3s1"
STANDING: dict[str, Any] = {"k3s_version": VERSION, "k3s_cluster_name": "lake"}
ETCD = "k3s/server/db/etcd/member/wal"


def machine(name: str, number: int, **given: Any) -> Machine:
    """Return a host without a fault, changed as given."""
    return Machine(**{"name": name, "address": f"10.77.0.{number}", **given})


def marker(cluster: str) -> str:
    """Return the marker of a member of a cluster."""
    return json.dumps({"cluster": cluster, "cluster_id": "11111111-1111-4111-8111-111111111111", "state": "member"})


def settings(folder: Path) -> Site:
    """Return two hosts with an inventory whose settings are wrong."""
    s1, s2 = machine("s1", 1), machine("s2", 2)
    return Site(
        folder,
        [s1, s2],
        [s1],
        variables={
            "k3s_version": "stable",
            "k3s_cluster_name": "Lake House",
            "lakehouse_environment": "production",
            "k3s_data_dir": "/var/lib",
            "k3s_host_configuration": {"s9": {"debug": True}},
            "k3s_snapshots": {"count": 0, "schedule": "@daily"},
            "k3s_configuration": {"flanel-backend": "none"},
        },
    )


def machines(folder: Path) -> Site:
    """Return hosts that cannot be nodes."""
    copied = "f" * 32
    return Site(
        folder,
        [
            machine("s1", 1, ports=(6443,), disk_mib=900),
            machine("s2", 2, hostname="s1", personality="i686"),
            machine("s3", 3, machine_id="", memory_mib=1024),
        ],
        [
            machine("a1", 11, machine_id=copied, clock_s=3600.0),
            machine("a2", 12, machine_id=copied, systemd=False, personality="--uname-2.6"),
            machine("a3", 1, hostname="node_3"),
            machine("a4", 14, address="", cgroups=False),
        ],
        variables=STANDING,
    )


def networks(folder: Path) -> Site:
    """Return a host with incompatible networks."""
    configuration = {"cluster-cidr": "10.77.0.0/16", "service-cidr": "10.77.128.0/17", "cluster-dns": "10.9.9.9"}
    return Site(folder, [machine("s1", 1)], variables={**STANDING, "k3s_configuration": configuration})


def clusters(folder: Path) -> Site:
    """Return hosts of other clusters, and an unreachable one."""
    old = "#!/bin/sh\necho 'k3s version v1.33.5+k3s1 (0123456)'\n"
    return Site(
        folder,
        [
            machine("s1", 1, data={ETCD: "", "k3s/crypto-lakehouse.json": marker("other")}),
            machine("s2", 2),
            machine("s3", 3, data={ETCD: "", "k3s/crypto-lakehouse.json": marker("lake")}),
        ],
        [machine("a1", 11, data={ETCD: ""}), machine("a2", 12, programs={"k3s": old})],
        unreachable=("s2",),
        variables=STANDING,
    )


# The site, the variable, a part of the message as a regular expression, and the remedy.
BAD: dict[str, tuple[Callable[[Path], Site], str, str, str]] = {
    "two servers": (
        settings,
        "k3s_servers",
        "2 servers tolerate no more failures than 1",
        "list 1 or 3 servers",
    ),
    "a host in both groups": (
        settings,
        "k3s_servers",
        "s1 is listed 2 times",
        "list it once, as server or as agent",
    ),
    "settings of a host that is not listed": (
        settings,
        "k3s_host_configuration",
        "s9 is in neither group",
        "list the host, or remove its settings",
    ),
    "a name with a blank": (
        settings,
        "k3s_cluster_name",
        "'Lake House' is not a name for a cluster",
        "use 1 to 40 lower-case letters, digits and hyphens",
    ),
    "a channel": (settings, "k3s_version", "cannot read version 'stable'", "pin a release, not a channel"),
    "two servers in production": (
        settings,
        "k3s_servers",
        "cannot fail without an outage",
        "list 3 servers in production",
    ),
    "production without recipients": (
        settings,
        "lakehouse_backup_recipients",
        "a snapshot is useless without them",
        "set the public key of a recipient",
    ),
    "a data directory of the system": (settings, "k3s_data_dir", "belongs to the system", "set a directory of its own"),
    "no retention": (
        settings,
        "k3s_snapshots",
        "count 0 and age_hours 168 would keep no snapshot",
        "set both to 1 or more",
    ),
    "a schedule of another format": (
        settings,
        "k3s_snapshots",
        "schedule '@daily' is not a cron schedule",
        "write one such as",
    ),
    "a setting that does not exist": (
        settings,
        "k3s_configuration",
        "`flanel-backend` is not a setting of K3s",
        "set `flannel-backend`",
    ),
    "a port that is taken": (
        machines,
        "inventory_hostname",
        r"port 6443/tcp of s1 is taken \(python3\)",
        "stop the program that listens there",
    ),
    "a full disk": (
        machines,
        "k3s_data_dir",
        "s1 has 900 MiB free below /var/lib/rancher/k3s, 5120 are needed",
        "free space there, or set another directory for a new cluster",
    ),
    "one hostname twice": (
        machines,
        "k3s_host_configuration",
        "s1, s2 share the node name s1",
        "give each host a hostname or a `node-name` of its own",
    ),
    "a processor of 32 bits": (
        machines,
        "inventory_hostname",
        "s2 is i686, on which K3s runs no server",
        "use aarch64 or x86_64",
    ),
    "no machine id": (
        machines,
        "inventory_hostname",
        "s3 has no machine id",
        "delete /etc/machine-id, run `systemd-machine-id-setup` and reboot",
    ),
    "little memory": (
        machines,
        "inventory_hostname",
        "s3 has 1024 MiB of memory, 1800 are needed",
        "use a larger machine",
    ),
    "one machine id twice": (
        machines,
        "inventory_hostname",
        f"a1, a2 share the machine id {'f' * 32}",
        "delete /etc/machine-id, run `systemd-machine-id-setup` and reboot",
    ),
    "a clock that is ahead": (
        machines,
        "inventory_hostname",
        r"the clocks of \w+ and a1 are 3[45]\d\d\.\d s apart",
        "keep clocks set with chrony or systemd-timesyncd",
    ),
    "no systemd": (machines, "inventory_hostname", "a2 does not run systemd", "use a host with systemd"),
    "an old kernel": (
        machines,
        "inventory_hostname",
        r"a2 runs kernel 2\.6\.\S+; cgroup v2 needs 5\.8",
        "upgrade the kernel",
    ),
    "a hostname with an underscore": (
        machines,
        "k3s_host_configuration",
        "a3 would register as 'node_3', which is not a node name",
        "set a hostname or `node-name` of letters, digits, hyphens",
    ),
    "one address twice": (
        machines,
        "inventory_hostname",
        "s1, a3 have the address 10.77.0.1",
        "list a machine once, and give each machine its own address",
    ),
    "no address": (machines, "inventory_hostname", "a4 has no address in a network", "configure its network"),
    "no cgroups": (machines, "inventory_hostname", "a4 has no cgroups", "mount cgroup v2"),
    "networks that overlap": (
        networks,
        "k3s_configuration",
        "`cluster-cidr` 10.77.0.0/16 and `service-cidr` 10.77.128.0/17 overlap",
        "choose networks that do not overlap",
    ),
    "a host in the network of pods": (
        networks,
        "k3s_configuration",
        "the address 10.77.0.1 of s1 lies in `cluster-cidr` 10.77.0.0/16",
        "choose a `cluster-cidr` outside the networks of the hosts",
    ),
    "a name server outside the services": (
        networks,
        "k3s_configuration",
        "`cluster-dns` 10.9.9.9 is not in `service-cidr`",
        "choose an address of the services, such as the tenth",
    ),
    "a server that cannot be reached": (
        clusters,
        "k3s_servers",
        "no server answers, and s2 cannot be reached: the cluster may exist there",
        "make every listed server reachable, or take lost ones out of the inventory and use `k3s_restore`",
    ),
    "data of another cluster": (
        clusters,
        "k3s_servers",
        "s1 holds data of another cluster",
        "list another host, or remove that data with `k3s_remove`",
    ),
    "data of a server that does not answer": (
        clusters,
        "k3s_servers",
        "no server answers, and s3 holds data of lake",
        "start the service on s3, use `k3s_restore`, or remove the data with `k3s_remove`",
    ),
    "a server that is listed as agent": (
        clusters,
        "k3s_agents",
        "a1 is listed as agent and set up as server",
        "list it as server, or remove the node with `k3s_remove` before it changes its role",
    ),
    "another release": (
        clusters,
        "k3s_version",
        r"other versions are installed \(a2: v1\.33\.5\+k3s1\)",
        "use `k3s_upgrade`, or set the installed version",
    ),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], Site]], Run]:
    """Return the run of a site, which all of its rows share. It may change no host."""

    @cache
    def run(build: Callable[[Path], Site]) -> Run:
        site = build(tmp_path_factory.mktemp(build.__name__))
        before = site.state()
        found = site.run("k3s_install")
        assert found.exit_code != 0, found.output
        assert set(re.findall(r"changed=(\d+)", found.output)) == {"0"}, found.output
        assert site.state() == before
        return found

    return run


@pytest.mark.parametrize("case", BAD)
def test_a_bad_inventory_is_refused_with_its_remedy(
    refused: Callable[[Callable[[Path], Site]], Run], case: str
) -> None:
    build, variable, message, remedy = BAD[case]
    run = refused(build)
    told = rf"- {variable}: [^\n]*{message}[^\n]*\. Remedy: {re.escape(remedy)}"
    assert re.search(told, run.output), run.output


@pytest.mark.parametrize("build", dict.fromkeys(row[0] for row in BAD.values()))
def test_every_problem_is_told_at_once(
    refused: Callable[[Callable[[Path], Site]], Run], build: Callable[[Path], Site]
) -> None:
    (count,) = re.findall(r"(\d+) problems, nothing was changed", refused(build).output)
    rows = sum(row[0] is build for row in BAD.values())
    assert int(count) >= rows
