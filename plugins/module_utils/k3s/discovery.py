# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: the one cluster of an inventory, from the reports of all its hosts.

A cluster exists where a server answers. A new cluster is initialised only if no server answers, every listed server is
reachable and no host holds data. Every other case is refused with a remedy: a first server that was lost or is
unreachable must never become a second cluster (PyratLabs#253, homelab#119).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..shared.problem import Problem
from .model import ClusterSpec, HostReport, Reports, report_of

SERVERS_VARIABLE = "k3s_servers"
NAME_VARIABLE = "k3s_cluster_name"


@dataclass(frozen=True, order=True)
class Identity:
    """A running cluster: the hash of its CA and the id of its etcd cluster."""

    ca_hash: str
    etcd_id: str

    def __str__(self) -> str:
        return f"etcd {self.etcd_id}, CA {self.ca_hash[:12]}"


@dataclass(frozen=True)
class Discovery:
    """The decision about a cluster.

    `initialise` and `resume` concern the host `first`; `resume` continues an initialisation that did not end.
    `existing` names the servers that answer, and those that are absent.
    """

    decision: Literal["initialise", "resume", "existing", "refuse"]
    first: str = ""
    identity: Identity | None = None
    answering: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def discover(spec: ClusterSpec, reports: Reports) -> Discovery:
    """Return the decision for the hosts of the whole inventory; a host without a report is unreachable."""
    hosts = [report_of(reports, host) for host in dict.fromkeys([*spec.hosts, *reports])]
    answering = [report for report in hosts if report.answers]
    if answering:
        return _existing(spec, hosts, answering)
    return _without_answer(spec, hosts)


def _existing(spec: ClusterSpec, hosts: Sequence[HostReport], answering: Sequence[HostReport]) -> Discovery:
    identities = _identities(answering)
    problems = [
        *_several_problems(identities),
        *_marker_problems(spec, answering),
        *_ca_problems(spec, identities),
        *_role_problems(spec, hosts),
        *_foreign_data_problems(spec, hosts, answering),
    ]
    if problems:
        return _refused(problems)
    absent = tuple(report.host for report in hosts if not report.reachable)
    names = tuple(report.host for report in answering)
    return Discovery("existing", identity=next(iter(identities)), answering=names, absent=absent)


def _identities(answering: Sequence[HostReport]) -> dict[Identity, list[str]]:
    found: dict[Identity, list[str]] = {}
    for report in answering:
        etcd_id = report.etcd.cluster_id if report.etcd else ""
        found.setdefault(Identity(report.data.ca_hash, etcd_id), []).append(report.host)
    return found


def _several_problems(identities: Mapping[Identity, Sequence[str]]) -> Iterable[Problem]:
    if len(identities) > 1:
        each = "; ".join(f"{', '.join(hosts)}: {identity}" for identity, hosts in sorted(identities.items()))
        message = f"the hosts belong to {len(identities)} clusters ({each})"
        remedy = (
            "keep the hosts of one cluster in the inventory; remove the others with `k3s_remove` and add them again"
        )
        yield Problem(SERVERS_VARIABLE, message, remedy)


def _marker_problems(spec: ClusterSpec, answering: Sequence[HostReport]) -> Iterable[Problem]:
    for report in answering:
        marker = report.data.marker
        if marker is None:
            message = f"{report.host} runs a cluster that this collection did not create"
            yield Problem(SERVERS_VARIABLE, message, "list other hosts, or remove that cluster from the host")
        elif marker.cluster != spec.name:
            message = f"{report.host} belongs to the cluster {marker.cluster}, not {spec.name}"
            yield Problem(NAME_VARIABLE, message, f"set `{NAME_VARIABLE}` to {marker.cluster}, or list other hosts")
    ids = {report.data.marker.cluster_id: report.host for report in answering if report.data.marker}
    if len(ids) > 1:
        each = "; ".join(f"{host}: {cluster_id}" for cluster_id, host in sorted(ids.items()))
        message = f"the markers of the servers name {len(ids)} clusters ({each})"
        yield Problem(SERVERS_VARIABLE, message, "remove the servers of the other cluster with `k3s_remove`")


def _ca_problems(spec: ClusterSpec, identities: Mapping[Identity, Sequence[str]]) -> Iterable[Problem]:
    for identity, hosts in sorted(identities.items()):
        if spec.ca_hash and identity.ca_hash != spec.ca_hash:
            message = f"the CA of {', '.join(hosts)} is not the one that is recorded for {spec.name}"
            remedy = (
                "list the hosts of the recorded cluster, or delete its kubeconfig and escrow after a rotation of the CA"
            )
            yield Problem(NAME_VARIABLE, message, remedy)


def _role_problems(spec: ClusterSpec, hosts: Sequence[HostReport]) -> Iterable[Problem]:
    for report in hosts:
        listed = "server" if report.host in spec.servers else "agent" if report.host in spec.agents else "none"
        runs = "server" if report.data.datastore != "none" else report.role
        if report.reachable and listed != "none" and runs not in ("none", listed):
            message = f"{report.host} is listed as {listed} and set up as {runs}"
            remedy = f"list it as {runs}, or remove the node with `k3s_remove` before it changes its role"
            yield Problem(f"k3s_{listed}s", message, remedy)
        elif listed == "none" and report.answers:
            message = f"{report.host} runs a server and is in neither `k3s_servers` nor `k3s_agents`"
            yield Problem(SERVERS_VARIABLE, message, "list it, or remove the node with `k3s_remove`")


def _foreign_data_problems(
    spec: ClusterSpec, hosts: Sequence[HostReport], answering: Sequence[HostReport]
) -> Iterable[Problem]:
    """Refuse data of another cluster, and servers that run without etcd, beside the cluster that answers."""
    ours = {report.data.ca_hash for report in answering}
    cluster_ids = {report.data.marker.cluster_id for report in answering if report.data.marker}
    for report in hosts:
        marker, held = report.data.marker, report.holds_data
        foreign = report.data.ca_hash and report.data.ca_hash not in ours
        strange = marker and held and (marker.cluster != spec.name or marker.cluster_id not in cluster_ids)
        if report.answers or not held:
            continue
        if foreign or strange or report.data.datastore == "sqlite":
            message = f"{report.host} holds data of another cluster"
            yield Problem(SERVERS_VARIABLE, message, "list another host, or remove that data with `k3s_remove`")


def _without_answer(spec: ClusterSpec, hosts: Sequence[HostReport]) -> Discovery:
    unfinished = _unfinished(spec, hosts)
    problems = [*_unreachable_problems(spec, hosts), *_role_problems(spec, hosts)]
    problems += _data_problems(spec, [report for report in hosts if report.host != unfinished])
    if not spec.servers:
        problems.append(Problem(SERVERS_VARIABLE, "no server is listed", "list one, three or five servers"))
    if problems:
        return _refused(problems)
    if unfinished:
        return Discovery("resume", first=unfinished)
    return Discovery("initialise", first=spec.servers[0])


def _unfinished(spec: ClusterSpec, hosts: Sequence[HostReport]) -> str:
    """Return the one server whose marker says that it is initialising our cluster; empty where there is none.

    The marker is written before the first start and replaced after the first answer, before any other server joins.
    """
    found = [
        report.host
        for report in hosts
        if report.host in spec.servers
        and report.data.marker
        and report.data.marker.state == "initialising"
        and report.data.marker.cluster == spec.name
        and report.data.datastore != "sqlite"
        and (report.holds_data or _is_running(report))
    ]
    return found[0] if len(found) == 1 else ""


def _unreachable_problems(spec: ClusterSpec, hosts: Sequence[HostReport]) -> Iterable[Problem]:
    absent = [report.host for report in hosts if report.host in spec.servers and not report.reachable]
    if absent:
        message = f"no server answers, and {', '.join(absent)} cannot be reached: the cluster may exist there"
        remedy = "make every listed server reachable, or take lost ones out of the inventory and use `k3s_restore`"
        yield Problem(SERVERS_VARIABLE, message, remedy)


def _data_problems(spec: ClusterSpec, hosts: Sequence[HostReport]) -> Iterable[Problem]:
    for report in hosts:
        if not report.reachable:
            continue
        if report.holds_data and _is_foreign(spec, report):
            message = f"{report.host} holds data of another cluster"
            yield Problem(SERVERS_VARIABLE, message, "list another host, or remove that data with `k3s_remove`")
        elif _is_running(report) and report.host not in spec.agents:
            message = f"{report.host} runs K3s, but no server is ready: it starts, or the majority of servers is lost"
            remedy = "wait and run again; if the other servers are lost, use `k3s_restore`"
            yield Problem(SERVERS_VARIABLE, message, remedy)
        elif report.holds_data:
            message = f"no server answers, and {report.host} holds data of {spec.name}"
            remedy = f"start the service on {report.host}, use `k3s_restore`, or remove the data with `k3s_remove`"
            yield Problem(SERVERS_VARIABLE, message, remedy)


def _is_running(report: HostReport) -> bool:
    return report.service in ("active", "activating")


def _is_foreign(spec: ClusterSpec, report: HostReport) -> bool:
    marker = report.data.marker
    other_ca = bool(spec.ca_hash) and report.data.ca_hash not in ("", spec.ca_hash)
    return marker is None or marker.cluster != spec.name or other_ca


def _refused(problems: Iterable[Problem]) -> Discovery:
    return Discovery("refuse", problems=tuple(sorted(set(problems))))
