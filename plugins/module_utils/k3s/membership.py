# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Membership: servers and agents that join, their order, and records of rebuilt nodes that are cleared first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..shared.problem import Problem
from . import actions
from .discovery import Discovery
from .model import ClusterSpec, ClusterView, HostReport, Member, Reports, cluster_view, report_of
from .plan import Plan, Step, in_batches, one_by_one, refusal, side_by_side
from .quorum import Voters, removal_problems, voters

API_PORT = 6443


def join_plan(spec: ClusterSpec, reports: Reports, discovery: Discovery) -> Plan:
    """Return the steps that make every reachable host a node: servers one at a time, then all agents at once.

    A server is complete when its member votes and its node is ready; the next one begins after that. Members whose
    service is stopped start before new ones join, since they restore the majority.
    """
    if discovery.problems:
        return refusal(discovery.problems)
    view = cluster_view(spec, reports)
    if view is None:
        return _first_plan(spec, reports, discovery)
    return _existing_plan(spec, reports, view)


def _first_plan(spec: ClusterSpec, reports: Reports, discovery: Discovery) -> Plan:
    action, reason = actions.INITIALISE, "no cluster exists, and every listed server is reachable and blank"
    if discovery.decision == "resume":
        action, reason = actions.START, "its initialisation did not end"
    address = api_address(spec, reports, discovery.first)
    first = [Step(action, discovery.first, reason), _wait_voter(discovery.first)]
    joins = [_join(host, address) for host in spec.servers if host != discovery.first]
    agents = [_agent(report_of(reports, host), None, address) for host in spec.agents]
    reachable = [steps for steps in agents if steps]
    rewrite = _membership_steps(spec, reports, [discovery.first])
    groups = [*one_by_one(first), *_flat(joins), rewrite, *side_by_side(reachable)]
    return in_batches(groups, _absences(spec, reports))


def _existing_plan(spec: ClusterSpec, reports: Reports, view: ClusterView) -> Plan:
    servers = _Servers(view, api_address(spec, reports, view.host), voters(spec, reports, view))
    reachable = [report for host in spec.servers if (report := report_of(reports, host)).reachable]
    blank = [report for report in reachable if not _is_set_up(report)]
    for report in reachable:
        if _is_set_up(report):
            servers.complete(report)
    for report in blank:
        servers.clear(report)
    for report in [*servers.unfinished, *blank]:
        servers.join(report)
    problems = [*servers.problems, *_namesake_problems(spec, reports, view)]
    if problems:
        return refusal(problems)
    agents = [_agent(report_of(reports, host), view, servers.address) for host in spec.agents]
    waits = _pending_learners(spec, reports, view)
    initial = [report.host for report in reachable if report.configuration.get("cluster-init")]
    rewrite = _membership_steps(spec, reports, initial)
    groups = [*one_by_one(waits), *servers.groups, rewrite, *side_by_side([steps for steps in agents if steps])]
    return in_batches(groups, _absences(spec, reports))


def _membership_steps(spec: ClusterSpec, reports: Reports, hosts: Iterable[str]) -> list[Step]:
    """Return the steps that let servers join another one from now on, once there is another one.

    A server that keeps `cluster-init` and loses its disk would start as a second cluster by itself.
    """
    steps = []
    for host in hosts:
        others = [server for server in spec.servers if server != host and report_of(reports, server).reachable]
        if others:
            address = api_address(spec, reports, others[0])
            reason = "with `cluster-init` it would become a second cluster if it lost its data"
            steps.append(Step(actions.WRITE_MEMBERSHIP, host, reason, address))
    return steps


def _namesake_problems(spec: ClusterSpec, reports: Reports, view: ClusterView) -> Iterable[Problem]:
    """Refuse to clear the records of a blank host whose node runs on another machine."""
    for report in (report_of(reports, host) for host in spec.hosts):
        node, own = view.node_of(report), report.system.addresses if report.system else ()
        found = node.addresses if node and node.ready else ()
        if found and not {*found} & {*own} and blankness(report).proven:
            message = f"{report.host} is blank, and its node {view.name_of(report)} runs at {', '.join(found)}"
            remedy = "switch that machine off and wait a minute, or give the host another name"
            yield Problem("k3s_servers", message, remedy)


def _is_set_up(report: HostReport) -> bool:
    return report.holds_data or report.service in ("active", "activating")


class _Servers:
    """Groups of steps for servers, with the voters as they are after the steps so far.

    etcd accepts no member while a voter cannot be reached ("unhealthy cluster"). So stopped members start first, stale
    ones are removed next, and joins come last.
    """

    def __init__(self, view: ClusterView, address: str, state: Voters) -> None:
        self.view, self.address, self.state = view, address, state
        self.groups: list[list[Step]] = []
        self.problems: list[Problem] = []
        self.unfinished: list[HostReport] = []

    def complete(self, report: HostReport) -> None:
        """Start a member that is stopped, and wait for one that does not vote or is not ready."""
        member = self.view.member_of(report)
        if member is None:
            self._recover(report)
        elif report.service not in ("active", "activating"):
            self.groups.append([Step(actions.START, report.host, "it is a member and its service is stopped")])
            self._wait(report, member)
        elif not _is_complete(report, member, self.view):
            self._wait(report, member)

    def _recover(self, report: HostReport) -> None:
        """Prepare the host of a join that did not end for another one; refuse any other host that is not a member."""
        marker = report.data.marker
        if marker is None or marker.state != "joining":
            message = f"{report.host} runs K3s or holds its data, and is not a member of etcd"
            remedy = f"remove the node with `k3s_remove` and the limit {report.host}, then install again"
            self.problems.append(Problem("k3s_servers", message, remedy))
            return
        if report.data.datastore != "none":
            reason = "its join did not end, and etcd knows no such member"
            self.groups += [[Step(actions.STOP, report.host, reason)], [Step(actions.MOVE_ASIDE, report.host, reason)]]
        self.unfinished.append(report)

    def clear(self, report: HostReport) -> None:
        """Clear the records of the former installation of a blank host."""
        member = self.view.member_of(report)
        if member:
            name = member.name or member.id
            self.problems += removal_problems(self.state, name, report.host)
            self.state = self.state.without(name)
        self.groups += one_by_one(stale_records(report, self.view))

    def join(self, report: HostReport) -> None:
        """Join one server."""
        lost = self.state.all - self.state.alive
        if lost:
            message = (
                f"cannot join {report.host}: etcd accepts no member while {', '.join(sorted(lost))} is not running"
            )
            remedy = "start or repair that server, remove its node with `k3s_remove`, or use `k3s_restore`"
            self.problems.append(Problem("k3s_servers", message, remedy))
            return
        self.groups += _join(report.host, self.address)
        self.state = Voters(self.state.all | {report.host}, self.state.alive | {report.host})

    def _wait(self, report: HostReport, member: Member) -> None:
        self.groups.append([_wait_voter(report.host)])
        name = member.name or member.id
        self.state = Voters(self.state.all | {name}, self.state.alive | {name})


def _is_complete(report: HostReport, member: Member, view: ClusterView) -> bool:
    node = view.node_of(report)
    votes = not member.learner and node is not None and node.ready and node.voter
    return report.answers and votes and _is_recorded(report)


def _is_recorded(report: HostReport) -> bool:
    """Return whether the marker says that the join is complete; the wait for it records that."""
    return report.data.marker is None or report.data.marker.state == "member"


def _join(host: str, address: str) -> list[list[Step]]:
    reason = "it is listed as a server and is not a member"
    return [[Step(actions.JOIN_SERVER, host, reason, address)], [_wait_voter(host)]]


def _wait_voter(host: str) -> Step:
    return Step(actions.WAIT_VOTER, host, "the next server begins when this one votes and is ready")


def _flat(groups: Iterable[list[list[Step]]]) -> list[list[Step]]:
    return [group for one in groups for group in one]


def _pending_learners(spec: ClusterSpec, reports: Reports, view: ClusterView) -> list[Step]:
    """Return a wait for learners of other hosts: etcd accepts one learner at a time (k3s#7000)."""
    own = {member for host in spec.servers if (member := view.member_of(report_of(reports, host)))}
    strangers = [member for member in view.etcd.members if member.learner and member not in own]
    return [Step(actions.WAIT_LEARNERS, "", f"{member.name or member.id} is a learner") for member in strangers]


def _agent(report: HostReport, view: ClusterView | None, address: str) -> list[Step]:
    """Return the steps of one agent; none for one that is complete or unreachable."""
    node = view.node_of(report) if view else None
    wait = Step(actions.WAIT_READY, report.host, "an agent is complete when its node is ready")
    if not report.reachable:
        return []
    if report.service == "active" and node is not None and node.ready:
        return [] if _is_recorded(report) else [wait]
    stale = stale_records(report, view) if view else []
    join = Step(actions.JOIN_AGENT, report.host, "it is listed as an agent and its node is not ready", address)
    return [*stale, join, wait]


def _absences(spec: ClusterSpec, reports: Reports) -> list[str]:
    absent = [host for host in spec.hosts if not report_of(reports, host).reachable]
    return [f"{host} is unreachable and is left as it is" for host in absent]


def api_address(spec: ClusterSpec, reports: Reports, server: str) -> str:
    """Return the URL that nodes join: that of the first endpoint, else of a server's first address."""
    system = report_of(reports, server).system
    name = spec.endpoints[0] if spec.endpoints else (system.addresses[0] if system and system.addresses else server)
    return f"https://{f'[{name}]' if ':' in name else name}:{API_PORT}"


@dataclass(frozen=True)
class Blankness:
    """Evidence whether a host is blank: each remaining trace."""

    traces: tuple[str, ...]

    @property
    def proven(self) -> bool:
        """Whether the host answered without a trace."""
        return not self.traces


def blankness(report: HostReport) -> Blankness:
    """Return the traces of K3s on a host. An unreachable host proves nothing."""
    if not report.reachable:
        return Blankness(("it is unreachable",))
    checks = {
        "a datastore": report.data.datastore != "none",
        "a CA": bool(report.data.ca_hash),
        "the node's password": report.data.node_password,
        "a running service": report.service in ("active", "activating"),
    }
    return Blankness(tuple(trace for trace, found in checks.items() if found))


def stale_records(report: HostReport, view: ClusterView) -> list[Step]:
    """Return the steps that clear the records of a rebuilt node: member, Node object and node-password Secret.

    None for a host that is not proven blank: its records may belong to its remaining data. The password Secret
    alone would make K3s refuse the new node.
    """
    if not blankness(report).proven:
        return []
    reason = f"{report.host} is blank, so this is a record of its former installation"
    member, name = view.member_of(report), view.name_of(report)
    steps = []
    if member:
        value = member.name or member.id
        steps += [Step(actions.REMOVE_MEMBER, "", reason, value), Step(actions.WAIT_SETTLED, "", reason, value)]
    if name in view.nodes:
        steps.append(Step(actions.DELETE_NODE, "", reason, name))
    if name in view.password_secrets:
        steps.append(Step(actions.DELETE_PASSWORD, "", reason, name))
    return steps


@dataclass(frozen=True)
class Departure:
    """A node that leaves: steps on the cluster and its host, addresses of its server, and voters that are left."""

    report: HostReport
    steps: tuple[Step, ...]
    addresses: frozenset[str]
    voters_left: int


def departures(spec: ClusterSpec, reports: Reports, hosts: Sequence[str]) -> tuple[list[Problem], list[Departure]]:
    """Return the steps that remove nodes from the cluster one by one, or the problems that refuse it.

    Order of one: drain, remove the member while its service still runs, wait until the voters have settled
    (k3s#12908), stop, delete the Node object and the Secret. A lost host is only removed from the records. Voters that
    are not alive go first, since the majority grows with each of them.
    """
    view = cluster_view(spec, reports, without=hosts)
    if view is None:
        message = f"cannot remove {', '.join(hosts)}: no other server answers"
        remedy = (
            "start another server, use `k3s_restore` if the others are lost, or remove the whole cluster with "
            "`k3s_remove_confirm`"
        )
        return [Problem("k3s_remove_nodes", message, remedy)], []
    state = voters(spec, reports, view)
    found = [_Leaving.of(view, report_of(reports, host)) for host in dict.fromkeys(hosts)]
    problems, leaving = [], []
    for each in sorted(found, key=lambda each: each.key in state.alive):
        problems += each.problems(view, state)
        state = state.without(each.key)
        leaving.append(Departure(each.report, tuple(each.steps(view)), each.addresses, len(state.all)))
    return problems, leaving


@dataclass(frozen=True)
class _Leaving:
    """A host that leaves, its member, and the name of its Node."""

    report: HostReport
    member: Member | None
    name: str

    @classmethod
    def of(cls, view: ClusterView, report: HostReport) -> _Leaving:
        member = view.member_of(report) or _member_by_name(view, report.host)
        return cls(report, member, view.name_of(report) or (member.node if member else report.host.lower()))

    @property
    def key(self) -> str:
        """The name of its voter; empty for a host without one."""
        voter = self.member if self.member and not self.member.learner else None
        return (voter.name or voter.id) if voter else ""

    @property
    def addresses(self) -> frozenset[str]:
        """Addresses by which others may have joined it."""
        system = self.report.system
        known = {self.report.host, self.name, self.member.address if self.member else ""}
        return frozenset({*known, *(system.addresses if system else ())} - {""})

    def problems(self, view: ClusterView, state: Voters) -> list[Problem]:
        """Return the problems of its removal."""
        host, node = self.report.host, view.nodes.get(self.name)
        if not self.report.reachable and not self.member and not node and self.name not in view.password_secrets:
            message = f"cannot remove {host}: the cluster has no member and no node {self.name}"
            return [Problem("k3s_remove_nodes", message, "set `node-name` in `k3s_host_configuration` of the host")]
        if not self.report.reachable and node and node.ready:
            message = f"cannot remove {host}: it cannot be reached, and its node is ready, so that it runs"
            return [Problem("k3s_remove_nodes", message, "make it reachable, or switch it off and wait a minute")]
        return removal_problems(state, self.key, host)

    def steps(self, view: ClusterView) -> list[Step]:
        """Return the steps that remove it from the cluster and stop it."""
        return _removal_steps(self.report, view, self.member, self.name)


def _member_by_name(view: ClusterView, host: str) -> Member | None:
    return next((member for member in view.etcd.members if member.node == host.lower()), None)


def _removal_steps(report: HostReport, view: ClusterView, member: Member | None, name: str) -> list[Step]:
    reason = f"{report.host} leaves the cluster"
    steps = []
    if name in view.nodes:
        steps.append(Step(actions.CORDON, "", reason, name))
        if view.nodes[name].ready:
            steps.append(Step(actions.DRAIN, "", reason, name))
    if member:
        value = member.name or member.id
        steps += [Step(actions.REMOVE_MEMBER, "", reason, value), Step(actions.WAIT_SETTLED, "", reason, value)]
    if report.reachable and report.service not in ("absent", "inactive"):
        steps.append(Step(actions.STOP, report.host, reason))
    if name in view.nodes:
        steps.append(Step(actions.DELETE_NODE, "", reason, name))
    if name in view.password_secrets:
        steps.append(Step(actions.DELETE_PASSWORD, "", reason, name))
    return steps
