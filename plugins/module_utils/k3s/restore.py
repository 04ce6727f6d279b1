# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore plans: on the same hosts, after the loss of the majority, and onto new hosts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..shared.problem import Problem
from . import actions
from .membership import api_address, blankness
from .model import ClusterSpec, ClusterView, HostReport, Reports, cluster_view, node_name, report_of
from .plan import Plan, Step, in_batches, one_by_one, refusal
from .snapshots import Escrow, Snapshot, escrow_of
from .versions import parse

CONFIRM = "k3s_restore_confirm"
LOST = "k3s_restore_lost"
HOST = "k3s_restore_host"
_LOSS = "the majority of servers is lost"


def confirmation_problems(spec: ClusterSpec, confirm: str) -> list[Problem]:
    """Return the problem of a restore that the cluster's name does not confirm."""
    if confirm == spec.name:
        return []
    message = "a restore replaces the cluster's state and is not confirmed"
    return [Problem(CONFIRM, message, f"set `{CONFIRM}` to {spec.name}")]


def same_hosts_plan(spec: ClusterSpec, reports: Reports, snapshot: Snapshot, escrows: Sequence[Escrow]) -> Plan:
    """Return the steps that restore a snapshot on the cluster's own servers.

    All servers stop first: a server with the former data would be a second cluster. The former datastore of
    each server is renamed and not deleted.
    """
    host = snapshot.host if snapshot.host in spec.servers else spec.servers[0]
    report = report_of(reports, host)
    problems = [
        *_unreachable_problems(spec, reports),
        *_version_problems(spec, snapshot),
        *_token_problems(report, snapshot, escrows),
    ]
    if problems:
        return refusal(problems)
    reason = f"{spec.name} returns to {snapshot.name}"
    stops = [Step(actions.STOP, server, reason) for server in spec.servers]
    escrow = report.data.token_hash != snapshot.token_hash
    groups = [
        *one_by_one(_placed(snapshot, host, reason)),
        stops,
        *([[Step(actions.PLACE_ESCROW, host, reason, snapshot.name)]] if escrow else []),
        *one_by_one([Step(actions.RESTORE, host, reason, snapshot.name), *_start(host, reason)]),
    ]
    address = api_address(spec, reports, host)
    for server in spec.servers:
        if server != host:
            groups += _rejoin(report_of(reports, server), address, reason)
    return in_batches([*groups, _rewrite(spec, reports, host, spec.servers), _agents(spec, reports, reason)])


def _rewrite(spec: ClusterSpec, reports: Reports, first: str, servers: Iterable[str]) -> list[Step]:
    """Return the step by which the server that began finds another one; none for a server alone."""
    reason = "with `cluster-init` it would become a second cluster if it lost its data"
    others = [server for server in servers if server != first]
    return [Step(actions.WRITE_MEMBERSHIP, first, reason, api_address(spec, reports, other)) for other in others[:1]]


def _placed(snapshot: Snapshot, host: str, reason: str) -> list[Step]:
    """Return the steps after which a verified snapshot is on a host; one without a host is on the controller."""
    copied = snapshot.location == "local" and snapshot.host != host
    copy = [Step(actions.PLACE_SNAPSHOT, host, reason, snapshot.name)] if copied else []
    return [*copy, Step(actions.VERIFY_SNAPSHOT, host, reason, snapshot.name)]


def _unreachable_problems(spec: ClusterSpec, reports: Reports) -> Iterable[Problem]:
    absent = [server for server in spec.servers if not report_of(reports, server).reachable]
    if absent:
        message = f"{', '.join(absent)} cannot be reached and would go on with the former data"
        remedy = "make every server reachable, or switch it off for good and take it out of the inventory"
        yield Problem("k3s_servers", message, remedy)


def _version_problems(spec: ClusterSpec, snapshot: Snapshot) -> Iterable[Problem]:
    """Refuse a release that is older than the snapshot's, or newer by more than a minor."""
    if not snapshot.version:
        return
    taken, asked = parse(snapshot.version), parse(spec.version)
    older = (asked.major, asked.minor) < (taken.major, taken.minor)
    if older or asked.major != taken.major or asked.minor - taken.minor > 1:
        message = f"{snapshot.name} was taken by {taken}, which {asked} cannot restore"
        yield Problem("k3s_version", message, f"set {taken}, restore, and upgrade afterwards")


def _token_problems(report: HostReport, snapshot: Snapshot, escrows: Sequence[Escrow]) -> Iterable[Problem]:
    if report.data.token_hash != snapshot.token_hash and not escrow_of(snapshot, escrows):
        message = f"the token of {snapshot.name} is neither on {report.host} nor in an escrow"
        yield Problem("k3s_restore_snapshot", message, "add the escrow of that time, or choose another snapshot")


def _start(host: str, reason: str) -> list[Step]:
    return [Step(actions.START, host, reason), Step(actions.WAIT_VOTER, host, reason)]


def _rejoin(report: HostReport, address: str, reason: str) -> list[list[Step]]:
    aside = [Step(actions.MOVE_ASIDE, report.host, reason)] if report.data.datastore != "none" else []
    join = Step(actions.JOIN_SERVER, report.host, reason, address)
    return one_by_one([*aside, join, Step(actions.WAIT_VOTER, report.host, reason)])


def _agents(spec: ClusterSpec, reports: Reports, reason: str) -> list[Step]:
    running = [host for host in spec.agents if report_of(reports, host).service in ("active", "activating")]
    return [Step(actions.WAIT_READY, host, reason) for host in running]


def quorum_loss_plan(spec: ClusterSpec, reports: Reports, lost: Sequence[str] = (), host: str = "") -> Plan:
    """Return the steps that make the most recent survivor a cluster of one and let the others join it.

    lost: permanently lost, unreachable servers; one that still runs elsewhere would be a second cluster. host: the
    first survivor, where several cannot be compared. A run that ended after the reset is continued.
    """
    servers = [report_of(reports, server) for server in spec.servers]
    survivors = [report for report in servers if report.reachable and report.data.datastore == "etcd"]
    view = cluster_view(spec, reports)
    outside = [report for report in survivors if view and not view.member_of(report)]
    problems = [*_loss_problems(spec, servers, survivors, lost), *_survivor_problems(spec, survivors, host)]
    problems += _answer_problems(view, outside) if view else []
    if problems:
        return refusal(problems)
    notices = [f"{server} is lost: take it out of the inventory or rebuild it" for server in lost]
    if view:
        others = [report for report in servers if report.reachable and not view.member_of(report)]
        stops = [Step(actions.STOP, report.host, _LOSS) for report in outside]
        return in_batches([stops, *_rejoins(spec, reports, view.host, others)], notices)
    first = _survivor(survivors, host)
    others = [report for report in servers if report is not first and report.reachable]
    reset = [Step(actions.COPY_ASIDE, first.host, _LOSS), Step(actions.RESET, first.host, _LOSS)]
    stops = [Step(actions.STOP, report.host, _LOSS) for report in survivors]
    groups = [stops, *one_by_one([*reset, *_start(first.host, _LOSS)])]
    return in_batches([*groups, *_rejoins(spec, reports, first.host, others)], notices)


def _answer_problems(view: ClusterView, outside: Sequence[HostReport]) -> list[Problem]:
    """Return the problem of a cluster that answers: only servers outside of it, which do not answer, may be reset."""
    if not outside:
        message = f"{view.host} answers, so the majority is not lost"
        return [Problem("k3s_servers", message, "use `k3s_install`, which heals single servers")]
    return [
        Problem(
            "k3s_servers",
            f"{report.host} answers and is not a member of the cluster of {view.host}",
            "remove the servers of one of the clusters with `k3s_remove`",
        )
        for report in outside
        if report.answers
    ]


def _rejoins(spec: ClusterSpec, reports: Reports, first: str, others: Iterable[HostReport]) -> list[list[Step]]:
    address = api_address(spec, reports, first)
    groups: list[list[Step]] = []
    for report in others:
        groups += one_by_one(_forget(node_name(spec, report), _LOSS)) if blankness(report).proven else []
        groups += _rejoin(report, address, _LOSS)
    rewrite = _rewrite(spec, reports, first, [report.host for report in others])
    return [*groups, rewrite, _agents(spec, reports, _LOSS)]


def _loss_problems(
    spec: ClusterSpec, servers: Sequence[HostReport], survivors: Sequence[HostReport], lost: Sequence[str]
) -> Iterable[Problem]:
    unknown = [report.host for report in servers if not report.reachable and report.host not in lost]
    if unknown:
        message = f"{', '.join(unknown)} cannot be reached and may still run the cluster"
        yield Problem(LOST, message, f"make it reachable, or list it in `{LOST}` once it is switched off for good")
    wrong = [host for host in lost if host not in spec.servers or any(r.host == host and r.reachable for r in servers)]
    if wrong:
        message = f"{', '.join(sorted(wrong))} is not an unreachable server"
        yield Problem(LOST, message, "list only servers that cannot be reached")
    if not survivors:
        message = "no reachable server holds a datastore"
        yield Problem("k3s_servers", message, "restore a snapshot onto the hosts")


def _survivor_problems(spec: ClusterSpec, survivors: Sequence[HostReport], host: str) -> Iterable[Problem]:
    for report in survivors:
        if report.version not in ("", spec.version):
            message = f"{report.host} has {report.version}, not {spec.version}"
            yield Problem("k3s_version", message, f"set {report.version}, restore, and upgrade afterwards")
        marker = report.data.marker
        if marker is None or marker.cluster != spec.name:
            yield Problem("k3s_servers", f"{report.host} holds data of another cluster", "list other hosts")
    if len({report.data.ca_hash for report in survivors}) > 1:
        yield Problem("k3s_servers", "the survivors hold data of several clusters", "list the hosts of one")
    names = [report.host for report in survivors]
    if host and host not in names:
        yield Problem(HOST, f"{host} holds no datastore", f"set one of {', '.join(names)}" if names else "leave it out")
    comparable = all(report.etcd for report in survivors) or any(report.answers for report in survivors)
    if not host and len(survivors) > 1 and not comparable:
        message = f"the data of {', '.join(names)} cannot be compared, since a service is stopped"
        yield Problem(HOST, message, f"start the services, or set `{HOST}`")


def _survivor(survivors: Sequence[HostReport], host: str) -> HostReport:
    """Return the named survivor, else the one with the highest raft index; the first listed one among equals."""
    named = [report for report in survivors if report.host == host]
    return named[0] if named else max(survivors, key=lambda report: report.etcd.raft_index if report.etcd else 0)


def _forget(name: str, reason: str) -> list[Step]:
    return [Step(actions.DELETE_NODE, "", reason, name), Step(actions.DELETE_PASSWORD, "", reason, name)]


def new_hosts_plan(spec: ClusterSpec, reports: Reports, snapshot: Snapshot, escrows: Sequence[Escrow]) -> Plan:
    """Return the steps that build the cluster of a snapshot on blank hosts, from snapshot and escrow only.

    The password Secrets of all former nodes are deleted before new nodes register, since new hosts have other
    passwords; K3s deletes that of the first one. Node objects of hosts that are not listed are deleted. A run that
    ended before the first start is repeated.
    """
    first, reason = spec.servers[0], f"{spec.name} is rebuilt from {snapshot.name}"
    problems = [*_blank_problems(spec, reports, snapshot), *_version_problems(spec, snapshot)]
    if not escrow_of(snapshot, escrows):
        message = f"{snapshot.name} has no escrow of its token, CA and encryption configuration"
        problems.append(Problem("k3s_restore_snapshot", message, "add the escrow, or choose another snapshot"))
    if problems:
        return refusal(problems)
    names = [node_name(spec, report_of(reports, host)) for host in spec.hosts]
    known = [name for name in dict.fromkeys([*snapshot.nodes, *names]) if name and name != names[0]]
    passwords = [Step(actions.DELETE_PASSWORD, "", reason, name) for name in known]
    nodes = [Step(actions.DELETE_NODE, "", reason, name) for name in snapshot.nodes if name not in names]
    steps = [
        Step(actions.PLACE_ESCROW, first, reason, snapshot.name),
        *_placed(snapshot, first, reason),
        Step(actions.RESTORE, first, reason, snapshot.name),
        *_start(first, reason),
        *passwords,
        *nodes,
    ]
    address = api_address(spec, reports, first)
    joins = [group for host in spec.servers[1:] for group in _rejoin(report_of(reports, host), address, reason)]
    rewrite = _rewrite(spec, reports, first, spec.servers)
    agents = [Step(actions.JOIN_AGENT, host, reason, address) for host in spec.agents]
    waits = [Step(actions.WAIT_READY, host, reason) for host in spec.agents]
    return in_batches([*one_by_one(steps), *joins, rewrite, agents, waits])


def _blank_problems(spec: ClusterSpec, reports: Reports, snapshot: Snapshot) -> list[Problem]:
    problems = []
    for report in (report_of(reports, host) for host in spec.hosts):
        traces = blankness(report).traces
        begun = report.host == spec.servers[0] and _is_begun(spec, report, snapshot)
        if begun and report.service in ("active", "activating"):
            message = f"{report.host} runs the cluster of {snapshot.name}: its restore has begun"
            problems.append(Problem("k3s_servers", message, "complete it with `k3s_install`"))
        elif traces and not begun:
            message = f"{report.host} is not blank: {', '.join(traces)}"
            problems.append(Problem("k3s_servers", message, "use blank hosts, or restore on the same hosts"))
    return problems


def _is_begun(spec: ClusterSpec, report: HostReport, snapshot: Snapshot) -> bool:
    """Return whether a former run has begun to restore the cluster of a snapshot on a host."""
    marker = report.data.marker
    ours = marker and (marker.cluster, marker.cluster_id) == (spec.name, snapshot.cluster_id)
    return bool(ours and marker and marker.state == "initialising")
