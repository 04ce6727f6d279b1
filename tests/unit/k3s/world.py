# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, etcd and objects of nodes as far as plans concern them: steps change them, whole or in part, and reports show
them. A step that etcd or K3s would refuse, or that loses the majority, fails the test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.configuration import desired, digest
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    VOTER_CONDITION,
    ClusterSpec,
    DataDirectory,
    Etcd,
    HostReport,
    Marker,
    Member,
    Node,
    Reports,
    by_host,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Step
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.quorum import quorum
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.upgrade import CORDONED_BY
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.versions import WAYPOINTS, parse
from tests.unit.k3s.hosts import CA, DATA_DIR, MARKER, blank, member


@dataclass
class Host:
    """One machine: `configuration` and `version` are on its disk, `digest` and `runs` are those of its service."""

    marker: Marker | None = None
    data: bool = False
    running: bool = False
    configuration: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    version: str = ""
    runs: str = ""


@dataclass
class World:
    """All machines of an inventory and the cluster on them."""

    spec: ClusterSpec
    hosts: dict[str, Host] = field(default_factory=dict)
    voters: set[str] = field(default_factory=set)
    learners: set[str] = field(default_factory=set)
    nodes: dict[str, bool] = field(default_factory=dict)
    passwords: set[str] = field(default_factory=set)
    clusters: int = 0
    restarts: list[str] = field(default_factory=list)
    cordoned: set[str] = field(default_factory=set)
    snapshots: int = 0
    lost: bool = False

    def __post_init__(self) -> None:
        self.hosts = {host: self.hosts.get(host, Host()) for host in self.spec.hosts}

    @property
    def has_quorum(self) -> bool:
        """Whether a majority of the voters runs."""
        return len([host for host in self.voters if self.hosts[host].running]) >= quorum(len(self.voters))

    def reports(self) -> Reports:
        """Return the reports of all hosts."""
        return by_host(self._report(host) for host in self.spec.hosts)

    def _report(self, host: str) -> HostReport:
        state = self.hosts[host]
        is_server = host in self.spec.servers
        set_up = bool(state.configuration)
        joined = host in self.voters | self.learners or host in self.nodes
        data = DataDirectory(
            DATA_DIR,
            state.marker is not None,
            "etcd" if state.data and is_server else "none",
            CA if state.data else "",
            state.marker,
            state.data,
        )
        service = "active" if state.running and joined else "activating" if state.running else "inactive"
        report = blank(
            host,
            role=("server" if is_server else "agent") if set_up else "none",
            version=state.version,
            service=service if set_up else "absent",
            data=data,
            configuration=dict(state.configuration),
            applied_digest=state.digest,
        )
        answers = state.running and host in self.voters and self.has_quorum
        return replace(report, **self._view(host)) if answers else report

    def _view(self, host: str) -> dict[str, Any]:
        members = (*map(member, sorted(self.voters)), *(member(one, learner=True) for one in sorted(self.learners)))
        nodes = tuple(self._node(one, ready) for one, ready in sorted(self.nodes.items()))
        etcd = Etcd("c1", member(host).id, member(min(self.voters)).id, 10, members=members)
        return {"ready": True, "etcd": etcd, "nodes": nodes, "password_secrets": tuple(sorted(self.passwords))}

    def _node(self, host: str, ready: bool) -> Node:
        voter = {VOTER_CONDITION: str(host in self.voters)} if host in self.spec.servers else {}
        conditions = {"Ready": str(ready and self.hosts[host].running), **voter}
        cordoned = host in self.cordoned
        return Node(host, self.hosts[host].runs, conditions, cordoned, CORDONED_BY if cordoned else "")

    def run(self, steps: Iterable[Step]) -> None:
        """Run steps to their ends."""
        for step in steps:
            getattr(self, step.action)(step)
            assert self.lost or not self.voters or self.has_quorum

    def _configure(self, host: str, state: str) -> None:
        found = self.hosts[host]
        if not found.data:
            found.marker = replace(MARKER, state=state)  # type: ignore[arg-type]
        found.configuration = dict(desired(self.spec, host))
        found.version = self.spec.version

    def begin(self, step: Step) -> None:
        """Run the first part of a step that starts K3s: its marker and files exist, its service does not run."""
        states = {actions.INITIALISE: "initialising", actions.JOIN_SERVER: "joining", actions.JOIN_AGENT: "joining"}
        if step.action in states:
            self._configure(step.host, states[step.action])

    def initialise(self, step: Step) -> None:
        """Create a cluster, which must be the first and only one."""
        assert not self.voters
        assert not any(found.data for found in self.hosts.values())
        self.begin(step)
        self.hosts[step.host].configuration["cluster-init"] = True
        self.clusters += 1
        self.voters.add(step.host)
        self._start(step.host)

    def _start(self, host: str) -> None:
        found = self.hosts[host]
        found.running = found.data = True
        found.digest, found.runs = digest(found.configuration), found.version
        assert host not in self.passwords or host in self.nodes, "node password rejected"
        self.passwords.add(host)
        self.nodes.setdefault(host, False)

    def start(self, step: Step) -> None:
        """Start the service of a member, with the configuration of the inventory."""
        self.write_configuration(step)
        self._start(step.host)
        self.lost = self.lost and not self.has_quorum

    def join_server(self, step: Step) -> None:
        """Add a learner, as etcd allows."""
        assert self.has_quorum
        if step.host not in self.learners | self.voters:
            assert all(self.hosts[host].running for host in self.voters), "etcd: unhealthy cluster"
            assert not self.learners, "etcd: too many learner members"
            assert step.host not in self.nodes or self.hosts[step.host].data, "duplicate node"
            self.begin(step)
            self.learners.add(step.host)
        self._start(step.host)

    def wait_voter(self, step: Step) -> None:
        """Promote the learner and set its node ready; the marker is updated."""
        assert self.hosts[step.host].running
        self.learners.discard(step.host)
        self.voters.add(step.host)
        self.nodes[step.host] = True
        self.hosts[step.host].marker = MARKER

    def join_agent(self, step: Step) -> None:
        """Start an agent."""
        assert self.has_quorum
        self.begin(step)
        self._start(step.host)

    def wait_ready(self, step: Step) -> None:
        """Set the node of an agent ready."""
        assert self.hosts[step.host].running
        self.nodes[step.host] = True
        self.hosts[step.host].marker = MARKER

    def remove_member(self, step: Step) -> None:
        """Remove a member."""
        host = Member("", step.value).node
        assert self.has_quorum
        self.voters.discard(host)
        self.learners.discard(host)

    def wait_settled(self, step: Step) -> None:
        """Change nothing."""

    def delete_node(self, step: Step) -> None:
        """Delete a Node object; a running kubelet would create it again."""
        assert not self.hosts[step.value].running
        self.cordoned.discard(step.value)
        self.nodes.pop(step.value, None)

    def delete_password(self, step: Step) -> None:
        """Delete a node-password Secret."""
        assert not self.hosts[step.value].running
        self.passwords.discard(step.value)

    def write_configuration(self, step: Step) -> None:
        """Write the files of a host; the membership file stays."""
        found = self.hosts[step.host].configuration
        membership: dict[str, Any] = {name: found[name] for name in ("cluster-init", "server") if name in found}
        self.hosts[step.host].configuration = {**desired(self.spec, step.host), **membership}

    def write_membership(self, step: Step) -> None:
        """Write the address of another server."""
        assert bool(step.value) == (len(self.voters) > 1)
        found = self.hosts[step.host].configuration
        found.pop("cluster-init", None)
        found.pop("server", None)
        found.update({"server": step.value} if step.value else {"cluster-init": True})

    def restart(self, step: Step) -> None:
        """Restart a service; one voter is unavailable meanwhile."""
        found = self.hosts[step.host]
        found.running = False
        assert len(self.voters) < 3 or self.has_quorum
        former, new = parse(found.runs), parse(found.version)
        for mandatory in [waypoint.before(new) for waypoint in WAYPOINTS]:
            assert step.host not in self.voters or mandatory is None or former >= mandatory
        found.running, found.digest, found.runs = True, digest(found.configuration), found.version
        self.nodes[step.host] = False
        self.restarts.append(step.host)

    def cordon(self, step: Step) -> None:
        """Cordon a node as an upgrade does."""
        assert self.cordoned <= {step.value}, "two nodes are cordoned"
        self.cordoned.add(step.value)

    def drain(self, step: Step) -> None:
        """Evict pods of a cordoned node."""
        assert step.value in self.cordoned

    def uncordon(self, step: Step) -> None:
        """Uncordon a node that is ready."""
        assert self.nodes[step.value]
        self.cordoned.discard(step.value)

    def install(self, step: Step) -> None:
        """Replace a binary after a snapshot, one minor at a time."""
        found = self.hosts[step.host]
        assert self.snapshots
        assert parse(step.value).minor - parse(found.version).minor in (0, 1)
        found.version = step.value

    def snapshot(self, step: Step) -> None:
        """Change nothing: a snapshot counts once it is verified."""

    def verify_snapshot(self, step: Step) -> None:
        """Count a snapshot."""
        self.snapshots += 1

    def settle(self) -> None:
        """Let K3s continue without a run: it promotes learners, and nodes become ready."""
        for host in [host for host in sorted(self.nodes) if self.hosts[host].running]:
            if host in self.learners:
                self.learners.discard(host)
                self.voters.add(host)
            self.nodes[host] = True

    def stop(self, step: Step) -> None:
        """Stop a service."""
        self.hosts[step.host].running = False

    def wipe_host(self, step: Step) -> None:
        """Stop K3s and delete its files; the host is blank."""
        assert step.host not in self.voters | self.learners
        self.wipe(step.host)

    def move_aside(self, step: Step) -> None:
        """Rename a datastore; the host joins a cluster from then on."""
        self.hosts[step.host].data = False
        self.hosts[step.host].marker = replace(MARKER, state="joining")

    def copy_aside(self, step: Step) -> None:
        """Copy the datastore of a stopped server."""
        assert self.hosts[step.host].data
        assert not self.hosts[step.host].running

    def reset(self, step: Step) -> None:
        """Make a stopped server the only member."""
        assert self.lost
        assert not any(self.hosts[host].running for host in self.spec.servers)
        self.voters, self.learners = {step.host}, set()

    def wipe(self, host: str) -> None:
        """Reinstall a machine."""
        self.hosts[host] = Host()
