# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of hosts and the cluster that the inventory asks for, as data.

The JSON schema of `HostReport` is the interface of the module that reads a host. Every decision of this package is a
function of a `ClusterSpec` and the reports of all hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .shapes import as_plain, from_plain

# The condition that K3s sets on nodes with an etcd member, pkg/etcd/etcd.go.
VOTER_CONDITION = "EtcdIsVoter"
# The name of an etcd member is the node's name, a hyphen and eight hexadecimal digits, `setName` in pkg/etcd/etcd.go.
_MEMBER_SUFFIX_LENGTH = 9


@dataclass(frozen=True)
class TakenPort:
    """A port with a listener. `holder` is the name of its process, empty where it is not known."""

    number: int
    protocol: Literal["tcp", "udp"] = "tcp"
    holder: str = ""


@dataclass(frozen=True)
class System:
    """Facts of a machine. `architecture` is that of `uname -m`; `disk_free_mib` is that of the data directory's disk.

    time_offset_s: the machine's clock minus the controller's. addresses: those of the machine's interfaces, the source
    address of its default route first, without interfaces of K3s (`cni0`, `flannel*`, `kube-*`, `veth*`).
    """

    hostname: str
    machine_id: str
    architecture: str
    kernel: str
    cgroup_version: int
    memory_mib: int
    disk_free_mib: int
    time_offset_s: float = 0.0
    addresses: tuple[str, ...] = ()
    ports_taken: tuple[TakenPort, ...] = ()
    systemd: bool = True


@dataclass(frozen=True)
class Marker:
    """The record of this collection in a data directory, written before K3s starts there for the first time."""

    cluster: str
    cluster_id: str
    state: Literal["initialising", "joining", "member"] = "member"


@dataclass(frozen=True)
class DataDirectory:
    """State of K3s on a disk. `ca_hash` is the hash of the cluster's CA as in a token, empty without a CA."""

    path: str = ""
    exists: bool = False
    datastore: Literal["none", "etcd", "sqlite"] = "none"
    ca_hash: str = ""
    marker: Marker | None = None
    node_password: bool = False
    token_hash: str = ""


@dataclass(frozen=True)
class Member:
    """An etcd member. `address` is the host part of its peer URL; a member that never started has no name."""

    id: str
    name: str = ""
    address: str = ""
    learner: bool = False

    @property
    def node(self) -> str:
        """The name of the member's node."""
        return self.name[:-_MEMBER_SUFFIX_LENGTH] if self.name[-_MEMBER_SUFFIX_LENGTH:-8] == "-" else self.name


@dataclass(frozen=True)
class Etcd:
    """The etcd cluster as one member sees it. `raft_index` is the last index that the member has applied.

    version: that of the member's etcd server, such as `3.5.26`.
    """

    cluster_id: str
    member_id: str
    leader_id: str = ""
    raft_index: int = 0
    version: str = ""
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Node:
    """A Node object. `conditions` maps a type to its status; `cordoned_by` is the value of the annotation of a cordon.

    local_volumes: number of pods on the node that use volumes which exist on that node alone. addresses: the internal
    ones that its kubelet reports.
    """

    name: str
    version: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    unschedulable: bool = False
    cordoned_by: str = ""
    local_volumes: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the kubelet reports the node as ready."""
        return self.conditions.get("Ready") == "True"

    @property
    def voter(self) -> bool:
        """Whether K3s reports the node's etcd member as voting."""
        return self.conditions.get(VOTER_CONDITION) == "True"


@dataclass(frozen=True)
class HostReport:
    """State of one host. An unreachable host has only its name.

    role: the unit that is installed. version, sha256: the binary on the disk. started_at: the start of the service's
    main process. ready: whether the local `/readyz` succeeds. configuration: the settings on the disk, fragments
    merged, without secrets. applied_digest: hash of the settings that the running service was started with; the role
    records it before a start, and it counts for a process that is younger than the record. nodes, password_secrets:
    Node objects and names of nodes with a node-password Secret, as the local API server returns them.
    """

    host: str
    reachable: bool = True
    role: Literal["none", "server", "agent"] = "none"
    system: System | None = None
    version: str = ""
    sha256: str = ""
    service: Literal["absent", "inactive", "activating", "active", "failed"] = "absent"
    started_at: str = ""
    data: DataDirectory = field(default_factory=DataDirectory)
    etcd: Etcd | None = None
    ready: bool = False
    configuration: Mapping[str, Any] = field(default_factory=dict)
    applied_digest: str = ""
    nodes: tuple[Node, ...] = ()
    password_secrets: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, value: Any) -> HostReport:
        """Return the report from JSON values; raise `ShapeError` for another shape."""
        return from_plain(cls, value, "report")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        plain: dict[str, Any] = as_plain(self)
        return plain

    @property
    def answers(self) -> bool:
        """Whether the host runs a server that is ready and whose etcd answers."""
        return self.reachable and self.role == "server" and self.service == "active" and self.ready and bool(self.etcd)

    @property
    def holds_data(self) -> bool:
        """Whether the host holds a datastore or a CA of any cluster."""
        return self.data.datastore != "none" or bool(self.data.ca_hash)


@dataclass(frozen=True)
class SnapshotSettings:
    """Retention of snapshots: the newest `count`, and every one younger than `age_hours`.

    s3_endpoint: URL of a service other than AWS. s3_folder: folder of the bucket that holds the snapshots.
    """

    count: int = 14
    age_hours: int = 168
    schedule: str = "0 */6 * * *"
    s3_bucket: str = ""
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_folder: str = ""
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterSpec:
    """The cluster that the inventory asks for.

    configuration: settings of K3s for every node. host_configuration: settings of one host, by its name. endpoints:
    names and addresses of the API, for certificates and kubeconfigs. ca_hash: hash of the cluster's CA where a
    kubeconfig or an escrow already holds it.
    """

    name: str
    version: str
    servers: tuple[str, ...]
    agents: tuple[str, ...] = ()
    data_dir: str = "/var/lib/rancher/k3s"
    environment: str = "development"
    configuration: Mapping[str, Any] = field(default_factory=dict)
    host_configuration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    endpoints: tuple[str, ...] = ()
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    ca_hash: str = ""

    @classmethod
    def from_dict(cls, value: Any) -> ClusterSpec:
        """Return the specification from JSON values; raise `ShapeError` for another shape."""
        return from_plain(cls, value, "cluster")

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as JSON values."""
        plain: dict[str, Any] = as_plain(self)
        return plain

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, servers first."""
        return (*self.servers, *self.agents)


Reports = Mapping[str, HostReport]


def node_name(spec: ClusterSpec, report: HostReport) -> str:
    """Return the name of a host's Node object: as set up, else as the inventory sets it, else its hostname.

    Empty for an unreachable host whose name the inventory does not set.
    """
    planned = spec.host_configuration.get(report.host, {}).get("node-name")
    hostname = report.system.hostname if report.system else ""
    return str(report.configuration.get("node-name") or planned or hostname).lower()


def by_host(reports: Iterable[HostReport]) -> dict[str, HostReport]:
    """Return the reports by the name of their host."""
    return {report.host: report for report in reports}


def report_of(reports: Reports, host: str) -> HostReport:
    """Return the report of a host; a host without a report counts as unreachable."""
    return reports.get(host) or HostReport(host, reachable=False)


@dataclass(frozen=True)
class ClusterView:
    """The running cluster as one server that answers sees it: members and objects of nodes.

    names: names of Node objects by host of the inventory.
    """

    host: str
    etcd: Etcd
    nodes: Mapping[str, Node]
    password_secrets: frozenset[str]
    names: Mapping[str, str]

    def name_of(self, report: HostReport) -> str:
        """Return the name of a host's Node object; empty where it is not known."""
        return self.names.get(report.host, "")

    def member_of(self, report: HostReport) -> Member | None:
        """Return the etcd member of a host: by its member id, the name of its node or one of its addresses."""
        own_id = report.etcd.member_id if report.etcd else ""
        addresses = report.system.addresses if report.system else ()
        for member in self.etcd.members:
            named = bool(member.node) and member.node == self.name_of(report)
            if member.id == own_id or named or (not member.name and member.address in addresses):
                return member
        return None

    def node_of(self, report: HostReport) -> Node | None:
        """Return the Node object of a host."""
        return self.nodes.get(self.name_of(report))


def cluster_view(spec: ClusterSpec, reports: Reports, without: Collection[str] = ()) -> ClusterView | None:
    """Return the view of the first listed server that answers, other than those of `without`; None where none does."""
    names = {host: node_name(spec, report) for host, report in reports.items()}
    for host in spec.servers:
        report = report_of(reports, host)
        if host not in without and report.answers and report.etcd:
            nodes = {node.name: node for node in report.nodes}
            return ClusterView(host, report.etcd, nodes, frozenset(report.password_secrets), names)
    return None
