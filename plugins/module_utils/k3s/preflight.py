# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight of a K3s cluster: all problems of the inventory and of all hosts at once, before any host is changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..shared.problem import Problem
from .configuration import canonical, change_problems, configuration_problems, effective
from .model import ClusterSpec, HostReport, Reports, System, node_name, report_of
from .networks import addresses, network_problems
from .paths import path_problems
from .settings import SETTINGS
from .snapshots import settings_problems
from .versions import parse, version_problems

# Suffixes of the release's binaries by the architecture of `uname -m`. etcd supports 64 bits alone.
ARCHITECTURES: Mapping[str, str] = {"x86_64": "", "aarch64": "-arm64", "armv7l": "-armhf"}
_SERVER_ARCHITECTURES = frozenset({"x86_64", "aarch64"})
# docs.k3s.io/installation/requirements asks for 2 GiB and 512 MiB; a kernel reports a tenth less than the machine has.
MEMORY_MIB = {"server": 1800, "agent": 460}
DISK_MIB_NEW, DISK_MIB_INSTALLED = 5120, 1024
# etcd warns of a drift of 1 s between members; the rest is the error of a measurement over ssh.
CLOCK_SPREAD_S = 3.0
# https://kubernetes.io/docs/concepts/architecture/cgroups/; kubernetes#134298: kubelets of 1.35 refuse cgroup v1.
CGROUP2_KERNEL = (5, 8)
CGROUP2_ONLY_MINOR = 35
PRODUCTION = "production"
PRODUCTION_SERVERS = 3
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", re.ASCII)
_CLUSTER_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", re.ASCII)
_KERNEL = re.compile(r"(\d+)\.(\d+)", re.ASCII)


def preflight(spec: ClusterSpec, reports: Reports, *, upgrading: bool = False) -> list[Problem]:
    """Return all problems, sorted and without repetitions. An unreachable host is judged by discovery.

    upgrading: whether installed versions may differ from the one that is asked for.
    """
    of_inventory = {problem for check in _INVENTORY_CHECKS for problem in check(spec)}
    checks = _HOST_CHECKS if upgrading else (*_HOST_CHECKS, check_installed_versions)
    of_hosts = {problem for check in checks for problem in check(spec, reports)}
    return sorted(of_inventory | of_hosts)


def _systems(spec: ClusterSpec, reports: Reports) -> list[tuple[HostReport, System]]:
    listed = [report_of(reports, host) for host in dict.fromkeys(spec.hosts)]
    return [(report, report.system) for report in listed if report.reachable and report.system]


def _role(spec: ClusterSpec, host: str) -> str:
    return "server" if host in spec.servers else "agent"


def check_servers(spec: ClusterSpec) -> Iterable[Problem]:
    """Refuse an even or missing number of servers, and a host that is listed twice."""
    count = len(spec.servers)
    if count == 0:
        yield Problem("k3s_servers", "no server is listed", "list one, three or five servers")
    elif count % 2 == 0:
        message = f"{count} servers tolerate no more failures than {count - 1}"
        yield Problem("k3s_servers", message, f"list {count - 1} or {count + 1} servers")
    for host, times in sorted(Counter(spec.hosts).items()):
        if times > 1:
            yield Problem("k3s_servers", f"{host} is listed {times} times", "list it once, as server or as agent")
    for host in sorted(set(spec.host_configuration) - set(spec.hosts)):
        yield Problem("k3s_host_configuration", f"{host} is in neither group", "list the host, or remove its settings")


def check_names(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse names that Kubernetes does not accept, and hosts that share a node name."""
    if not _CLUSTER_NAME.fullmatch(spec.name):
        remedy = "use 1 to 40 lower-case letters, digits and hyphens"
        yield Problem("k3s_cluster_name", f"{spec.name!r} is not a name for a cluster", remedy)
    names: dict[str, list[str]] = {}
    for report, _system in _systems(spec, reports):
        names.setdefault(node_name(spec, report), []).append(report.host)
    for name, hosts in sorted(names.items()):
        if not _NODE_NAME.fullmatch(name):
            message = f"{', '.join(hosts)} would register as {name!r}, which is not a node name"
            yield Problem(
                "k3s_host_configuration", message, "set a hostname or `node-name` of letters, digits, hyphens"
            )
        elif len(hosts) > 1:
            message = f"{', '.join(hosts)} share the node name {name}"
            yield Problem("k3s_host_configuration", message, "give each host a hostname or a `node-name` of its own")


def _shared(found: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    """Return the values that several hosts share, with those hosts."""
    holders: dict[str, list[str]] = {}
    for value, host in found:
        holders.setdefault(value, []).append(host)
    return [(value, hosts) for value, hosts in sorted(holders.items()) if value and len(hosts) > 1]


def check_machine_ids(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse machines without an id or with a shared one, as copies of one image have."""
    systems = _systems(spec, reports)
    remedy = "delete /etc/machine-id, run `systemd-machine-id-setup` and reboot"
    for value, hosts in _shared((system.machine_id, report.host) for report, system in systems):
        yield Problem("inventory_hostname", f"{', '.join(hosts)} share the machine id {value}", remedy)
    for report, system in systems:
        if not system.machine_id:
            yield Problem("inventory_hostname", f"{report.host} has no machine id", remedy)


def check_addresses(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse hosts without an address, with a shared first one, and a `node-ip` that is not on the host.

    Other addresses may be equal on all hosts, such as those of bridges for virtual machines.
    """
    systems = _systems(spec, reports)
    first = [(str(own[0]), report.host) for report, _system in systems if (own := addresses(reports, report.host))]
    for value, hosts in _shared(first):
        message = f"{', '.join(hosts)} have the address {value}"
        yield Problem("inventory_hostname", message, "list a machine once, and give each machine its own address")
    for report, system in systems:
        if not addresses(reports, report.host):
            yield Problem("inventory_hostname", f"{report.host} has no address in a network", "configure its network")
        for value in _node_ips(spec, report.host):
            if value not in system.addresses:
                message = f"`node-ip` {value} is not an address of {report.host}"
                yield Problem("k3s_host_configuration", message, f"choose one of {', '.join(system.addresses)}")


def _node_ips(spec: ClusterSpec, host: str) -> list[str]:
    layer = spec.host_configuration.get(host, {})
    return list(canonical("node-ip", layer["node-ip"])) if "node-ip" in layer else []


def check_clocks(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse clocks that are apart: certificates would not be valid yet, and etcd would elect too often."""
    offsets = sorted((system.time_offset_s, report.host) for report, system in _systems(spec, reports))
    if offsets and offsets[-1][0] - offsets[0][0] > CLOCK_SPREAD_S:
        (low, behind), (high, ahead) = offsets[0], offsets[-1]
        message = f"the clocks of {behind} and {ahead} are {high - low:.1f} s apart, more than {CLOCK_SPREAD_S} s"
        yield Problem("inventory_hostname", message, "keep clocks set with chrony or systemd-timesyncd")


def needed_ports(spec: ClusterSpec, host: str) -> set[tuple[int, str]]:
    """Return the ports that K3s listens on, as number and protocol, docs.k3s.io/installation/requirements."""
    backend = effective(spec.configuration, SETTINGS["flannel-backend"])
    flannel = {"vxlan": {(8472, "udp")}, "wireguard-native": {(51820, "udp"), (51821, "udp")}}.get(backend, set())
    ports = {(10250, "tcp"), *flannel}
    if host in spec.servers:
        https = int(spec.configuration.get("https-listen-port", 6443))
        ports |= {(https, "tcp"), (2379, "tcp"), (2380, "tcp")}
    return ports


def check_ports(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse ports of K3s that another program holds, on hosts where K3s does not run."""
    for report, system in _systems(spec, reports):
        wanted = needed_ports(spec, report.host) if report.service in ("absent", "inactive", "failed") else set()
        for port in system.ports_taken:
            if (port.number, port.protocol) in wanted:
                holder = f" ({port.holder})" if port.holder else ""
                message = f"port {port.number}/{port.protocol} of {report.host} is taken{holder}"
                yield Problem("inventory_hostname", message, "stop the program that listens there")


def check_size(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse machines with too little memory or free disk."""
    for report, system in _systems(spec, reports):
        memory = MEMORY_MIB[_role(spec, report.host)]
        if system.memory_mib < memory:
            message = f"{report.host} has {system.memory_mib} MiB of memory, {memory} are needed"
            yield Problem("inventory_hostname", message, "use a larger machine")
        disk = DISK_MIB_INSTALLED if report.version else DISK_MIB_NEW
        if system.disk_free_mib < disk:
            message = f"{report.host} has {system.disk_free_mib} MiB free below {spec.data_dir}, {disk} are needed"
            yield Problem("k3s_data_dir", message, "free space there, or set another directory for a new cluster")


def check_platform(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse architectures, kernels, cgroups and init systems that K3s or the role does not support."""
    for report, system in _systems(spec, reports):
        role = _role(spec, report.host)
        supported = _SERVER_ARCHITECTURES if role == "server" else frozenset(ARCHITECTURES)
        if system.architecture not in supported:
            message = f"{report.host} is {system.architecture}, on which K3s runs no {role}"
            yield Problem("inventory_hostname", message, f"use {' or '.join(sorted(supported))}")
        if not system.systemd:
            yield Problem("inventory_hostname", f"{report.host} does not run systemd", "use a host with systemd")
        yield from _cgroup_problems(spec, report.host, system)


def _cgroup_problems(spec: ClusterSpec, host: str, system: System) -> Iterable[Problem]:
    match = _KERNEL.match(system.kernel)
    kernel = (int(match[1]), int(match[2])) if match else (0, 0)
    if system.cgroup_version == 2 and kernel < CGROUP2_KERNEL:
        message = f"{host} runs kernel {system.kernel}; cgroup v2 needs {CGROUP2_KERNEL[0]}.{CGROUP2_KERNEL[1]}"
        yield Problem("inventory_hostname", message, "upgrade the kernel")
    if system.cgroup_version != 2 and _minor(spec) >= CGROUP2_ONLY_MINOR:
        message = f"{host} has cgroup v{system.cgroup_version}, which kubelets from 1.{CGROUP2_ONLY_MINOR} on refuse"
        yield Problem("inventory_hostname", message, "boot with `systemd.unified_cgroup_hierarchy=1`")
    elif system.cgroup_version not in (1, 2):
        yield Problem("inventory_hostname", f"{host} has no cgroups", "mount cgroup v2")


def _minor(spec: ClusterSpec) -> int:
    try:
        return parse(spec.version).minor
    except ValueError:
        return 0


def check_version(spec: ClusterSpec) -> Iterable[Problem]:
    """Refuse a version that is not pinned."""
    return version_problems(spec.version)


def check_installed_versions(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse installed versions that an installation would change."""
    installed = {report.host: report.version for host in spec.hosts if (report := report_of(reports, host)).version}
    different = [f"{host}: {version}" for host, version in sorted(installed.items()) if version != spec.version]
    if different:
        message = f"{spec.version} is asked for, and other versions are installed ({', '.join(different)})"
        yield Problem("k3s_version", message, "use `k3s_upgrade`, or set the installed version")


def check_production(spec: ClusterSpec) -> Iterable[Problem]:
    """Refuse a production cluster that loses its API with one host, or its snapshots with all hosts."""
    if spec.environment != PRODUCTION:
        return
    if len(spec.servers) < PRODUCTION_SERVERS:
        message = f"{len(spec.servers)} server cannot fail without an outage"
        yield Problem("k3s_servers", message, f"list {PRODUCTION_SERVERS} servers in production")
    if not spec.snapshots.recipients:
        message = "token, CA and encryption configuration are kept nowhere else, and a snapshot is useless without them"
        yield Problem("lakehouse_backup_recipients", message, "set the public key of a recipient")


def check_directory(spec: ClusterSpec) -> Iterable[Problem]:
    """Refuse a data directory that a removal could not delete safely."""
    return path_problems("k3s_data_dir", spec.data_dir)


def check_configuration(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    """Refuse bad settings; a change of immutable ones is judged only for good settings."""
    return configuration_problems(spec) or change_problems(spec, reports)


_INVENTORY_CHECKS: Sequence[Callable[[ClusterSpec], Iterable[Problem]]] = (
    check_servers,
    check_version,
    check_production,
    check_directory,
    settings_problems,
)
_HOST_CHECKS: Sequence[Callable[[ClusterSpec, Reports], Iterable[Problem]]] = (
    check_names,
    check_machine_ids,
    check_addresses,
    check_clocks,
    check_ports,
    check_size,
    check_platform,
    check_configuration,
    network_problems,
)
