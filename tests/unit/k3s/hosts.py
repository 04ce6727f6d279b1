# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of hosts for the tests of K3s decisions: blank hosts, members of a cluster, agents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    VOTER_CONDITION,
    ClusterSpec,
    DataDirectory,
    Etcd,
    HostReport,
    Marker,
    Member,
    Node,
    System,
)

VERSION = "v1.34.3+k3s1"
DATA_DIR = "/var/lib/rancher/k3s"
CA = "a" * 64
OTHER_CA = "b" * 64
MARKER = Marker("lake", "11111111-1111-4111-8111-111111111111")
SERVERS = ("s1", "s2", "s3")
AGENTS = ("a1", "a2")


def spec(**given: Any) -> ClusterSpec:
    """Return three servers and two agents, changed as given."""
    return replace(ClusterSpec("lake", VERSION, SERVERS, AGENTS), **given)


def address(host: str) -> str:
    """Return the address of a host: different for each name."""
    return f"10.0.{1 if host.startswith('a') else 0}.{10 + int(host.strip('sax'))}"


def system(host: str, **given: Any) -> System:
    """Return a machine without a fault, changed as given."""
    found = System(host, f"{host:0>32}", "x86_64", "6.1.0-18-amd64", 2, 8192, 40_000, 0.0, (address(host),))
    return replace(found, **given)


def blank(host: str, **given: Any) -> HostReport:
    """Return a host that never ran K3s."""
    return replace(HostReport(host, system=system(host), data=DataDirectory(DATA_DIR)), **given)


def unreachable(host: str) -> HostReport:
    """Return a host that did not answer."""
    return HostReport(host, reachable=False)


def member(host: str, *, learner: bool = False) -> Member:
    """Return the etcd member of a host."""
    return Member(f"id-{host}", f"{host}-0a1b2c3d", address(host), learner)


def node(host: str, *, server: bool = True, **given: Any) -> Node:
    """Return the ready Node object of a host."""
    conditions = {"Ready": "True", **({VOTER_CONDITION: "True"} if server else {})}
    return replace(Node(host, VERSION, conditions), **given)


def server(
    host: str,
    members: Iterable[str | Member] = SERVERS,
    nodes: Sequence[Node] | None = None,
    *,
    cluster: str = "c1",
    **given: Any,
) -> HostReport:
    """Return a server that answers, with the members and nodes that it sees."""
    listed = tuple(member(one) if isinstance(one, str) else one for one in members)
    seen = tuple(nodes) if nodes is not None else tuple(node(one.node) for one in listed)
    etcd = Etcd(cluster, f"id-{host}", listed[0].id if listed else "", 100, members=listed)
    report = HostReport(
        host,
        role="server",
        system=system(host),
        version=VERSION,
        service="active",
        started_at="2026-11-30T12:00:00Z",
        data=DataDirectory(DATA_DIR, True, "etcd", CA, MARKER, True, "0123456789ab"),
        etcd=etcd,
        ready=True,
        configuration={"server": "https://10.0.0.11:6443"},
        nodes=seen,
        password_secrets=tuple(one.name for one in seen),
    )
    return replace(report, **given)


def stopped(host: str, **given: Any) -> HostReport:
    """Return a server whose service is not running and whose disk holds a datastore."""
    return replace(server(host, nodes=()), service="inactive", ready=False, etcd=None, **given)


def agent(host: str, **given: Any) -> HostReport:
    """Return a running agent of the cluster."""
    data = DataDirectory(DATA_DIR, True, "none", CA, MARKER, True)
    report = HostReport(host, role="agent", system=system(host), version=VERSION, service="active", data=data)
    return replace(report, **given)


def cluster(servers: Sequence[str] = SERVERS, agents: Sequence[str] = AGENTS, **given: Any) -> dict[str, HostReport]:
    """Return the reports of a healthy cluster."""
    nodes = [*map(node, servers), *(node(host, server=False) for host in agents)]
    found = {host: server(host, servers, nodes, **given) for host in servers}
    return {**found, **{host: agent(host) for host in agents}}
