# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade and restart plans: node by node from the state of all hosts, resumable, and stopped by an unhealthy node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..shared.problem import Problem
from . import actions
from .configuration import Change, restarting
from .discovery import discover
from .model import ClusterSpec, ClusterView, HostReport, Node, Reports, cluster_view, report_of
from .plan import Plan, Step, in_batches, one_by_one, refusal, side_by_side
from .preflight import preflight
from .quorum import voters
from .snapshots import prefix
from .versions import Version, downgrade_problems, open_waypoints, parse, upgrade_path

# The annotation's value on a node that an upgrade cordoned. Only such a node is uncordoned.
CORDONED_BY = "k3s_upgrade"
Mode = Literal["auto", "drain", "cordon_only"]


@dataclass(frozen=True)
class Health:
    """State of one node: `reason` is empty for a healthy one. `ours` is whether the last upgrade stopped at it."""

    host: str
    version: str
    reason: str = ""
    ours: bool = False

    def __str__(self) -> str:
        return f"{self.host} {self.version or 'not installed'}: {self.reason or 'healthy'}"


def healths(spec: ClusterSpec, reports: Reports, view: ClusterView) -> list[Health]:
    """Return the state of every node, servers first."""
    return [_health(spec, report_of(reports, host), view) for host in spec.hosts]


def states(spec: ClusterSpec, reports: Reports) -> list[str]:
    """Return a line on the state of every node, also where no server answers."""
    view = cluster_view(spec, reports)
    if view:
        return [str(health) for health in healths(spec, reports, view)]
    found = [report_of(reports, host) for host in spec.hosts]
    return [
        str(Health(report.host, report.version, f"service {report.service}" if report.reachable else "unreachable"))
        for report in found
    ]


def _health(spec: ClusterSpec, report: HostReport, view: ClusterView) -> Health:
    node = view.node_of(report)
    ours = _is_ours(node) and report.reachable and bool(report.version)
    reason = _unhealthy(report, view, node, is_server=report.host in spec.servers)
    return Health(report.host, report.version, reason, ours)


def _is_ours(node: Node | None) -> bool:
    return node is not None and node.cordoned_by == CORDONED_BY


def _unhealthy(report: HostReport, view: ClusterView, node: Node | None, *, is_server: bool) -> str:
    member = view.member_of(report) if is_server else None
    checks = (
        (not report.reachable, "unreachable"),
        (report.service != "active", f"service {report.service}"),
        (node is None, "no node"),
        (node is not None and not node.ready, "node not ready"),
        (is_server and not report.ready, "API not ready"),
        (is_server and member is None, "not a member of etcd"),
        (member is not None and member.learner, "etcd member does not vote"),
        (is_server and node is not None and not node.voter, "EtcdIsVoter is not true"),
    )
    return next((reason for found, reason in checks if found), "")


def upgrade_plan(spec: ClusterSpec, reports: Reports, via: Iterable[Version] = (), mode: Mode = "auto") -> Plan:
    """Return the steps to `spec.version`, release by release: servers one at a time, then agents one at a time.

    A verified snapshot comes before the first change. The first node is the one at which the last run stopped; nodes
    that are complete are skipped. Refused before any cordon: a downgrade, a skipped minor, a passed waypoint, and a
    node that is unhealthy for another reason than the last run.
    """
    found = [*discover(spec, reports).problems, *preflight(spec, reports, upgrading=True)]
    view = cluster_view(spec, reports)
    if view is None:
        message = "cannot upgrade: no server answers"
        found.append(Problem("k3s_servers", message, "start the servers, or use `k3s_restore`"))
    if found or view is None:
        return refusal(found)
    target = parse(spec.version)
    installed, unknown = _installed(spec, reports)
    problems = [*unknown, *downgrade_problems(installed, target), *health_problems(healths(spec, reports, view))]
    if problems:
        return refusal(problems)
    # A node whose binary was replaced and whose service was not restarted still runs, and counts as, the former one.
    at = {host: min(_running(report_of(reports, host), view)) for host in spec.hosts}
    servers = {host: at[host] for host in spec.servers}
    path = upgrade_path(servers, target, via, open_waypoints(_etcd_versions(spec, reports)))
    if path.problems:
        return refusal(path.problems)
    behind = any(at[host] < min(servers.values()) or _cordoned(reports, view, host) for host in spec.agents)
    # Agents that the last run left behind, or cordoned, come before the servers go on to another release.
    catch_up = [min(servers.values())] if behind else []
    return _ordered(spec, reports, view, [*catch_up, *path.releases] or [target], mode)


def _etcd_versions(spec: ClusterSpec, reports: Reports) -> list[str]:
    servers = [report_of(reports, host) for host in spec.servers]
    return [report.etcd.version if report.etcd else "" for report in servers]


def _installed(spec: ClusterSpec, reports: Reports) -> tuple[dict[str, Version], list[Problem]]:
    """Return the installed versions by host, and the problems of those that are not releases."""
    found: dict[str, Version] = {}
    problems = []
    for host in spec.hosts:
        version = report_of(reports, host).version
        try:
            found.update({host: parse(version)} if version else {})
        except ValueError as error:
            problems.append(Problem("k3s_version", f"{host}: {error}", "install a release on the host first"))
    return found, problems


def health_problems(found: Sequence[Health]) -> list[Problem]:
    """Return the problem of the first unhealthy node, with the state of all nodes.

    A node that the last upgrade cordoned may be unhealthy: the plan begins with it. Any other one stops the upgrade.
    """
    stuck = [health for health in found if health.reason and health.ours]
    others = [health for health in found if health.reason and not health.ours]
    if len(stuck) > 1:
        others += stuck[1:]
    if not others:
        return []
    states = "; ".join(map(str, found))
    message = f"cannot upgrade: {others[0].host} is unhealthy ({others[0].reason}). Nodes: {states}"
    return [Problem("k3s_version", message, f"repair {others[0].host} or remove its node, then run again")]


def _ordered(spec: ClusterSpec, reports: Reports, view: ClusterView, releases: Sequence[Version], mode: Mode) -> Plan:
    at = {host: _running(report_of(reports, host), view) for host in spec.hosts}
    groups: list[list[Step]] = []
    for release in releases:
        for host in _order(spec, reports, view):
            steps = _node_steps(report_of(reports, host), view, at, release, mode)
            groups += one_by_one(steps)
            at[host] = max(at[host], (release, release))
    if any(step.action == actions.INSTALL for group in groups for step in group):
        groups = [*one_by_one(_snapshot_steps(spec, view)), *groups]
    return in_batches(groups)


def _running(report: HostReport, view: ClusterView) -> tuple[Version, Version]:
    """Return the version of a host's binary and of its running kubelet."""
    binary = parse(report.version)
    node = view.node_of(report)
    return binary, parse(node.version) if node and node.version else binary


def _order(spec: ClusterSpec, reports: Reports, view: ClusterView) -> list[str]:
    """Return the hosts in their order: the one that is in progress, servers with etcd's leader last, then agents."""
    leader = {
        host
        for host in spec.servers
        if (member := view.member_of(report_of(reports, host))) and member.id == view.etcd.leader_id
    }
    servers = sorted(spec.servers, key=lambda host: (not _cordoned(reports, view, host), host in leader))
    agents = sorted(spec.agents, key=lambda host: not _cordoned(reports, view, host))
    return [*servers, *agents]


def _cordoned(reports: Reports, view: ClusterView, host: str) -> bool:
    return _is_ours(view.node_of(report_of(reports, host)))


def _snapshot_steps(spec: ClusterSpec, view: ClusterView) -> list[Step]:
    name = f"{prefix(spec)}pre-upgrade"
    reason = "an upgrade of etcd cannot be undone without a snapshot of before"
    return [Step(actions.SNAPSHOT, view.host, reason, name), Step(actions.VERIFY_SNAPSHOT, view.host, reason, name)]


def _node_steps(
    report: HostReport,
    view: ClusterView,
    at: Mapping[str, tuple[Version, Version]],
    release: Version,
    mode: Mode,
) -> list[Step]:
    binary, running = at[report.host]
    node, name = view.node_of(report), view.name_of(report)
    is_server = report.role == "server"
    ours = _is_ours(node)
    if min(binary, running) >= release:
        # A later release in the path repeats no uncordon: the node was completed at its first one.
        at_release = ours and running == release
        return _completion(report, name, release, ours=True, is_server=is_server) if at_release else []
    reason = f"{report.host} runs {running}, {release} follows"
    foreign = node is not None and node.unschedulable and not ours
    steps = [] if foreign else [Step(actions.CORDON, "", reason, name)]
    if node is not None and drains(node, mode):
        steps.append(Step(actions.DRAIN, "", reason, name))
    if binary < release:
        steps.append(Step(actions.INSTALL, report.host, reason, str(release)))
    steps.append(Step(actions.RESTART, report.host, reason, str(release)))
    return [*steps, *_completion(report, name, release, ours=not foreign, is_server=is_server)]


def drains(node: Node, mode: Mode) -> bool:
    """Return whether a node's pods are evicted before its restart.

    In the mode `auto`, pods stay where one of them has a volume that exists on that node alone: it cannot move, and
    K3s' restart leaves containers running.
    """
    return mode == "drain" or (mode == "auto" and node.local_volumes == 0)


def _completion(report: HostReport, name: str, release: Version, *, ours: bool, is_server: bool) -> list[Step]:
    reason = f"the next node begins when {report.host} is healthy"
    wait = Step(actions.WAIT_VOTER if is_server else actions.WAIT_READY, report.host, reason, str(release))
    return [wait, *([Step(actions.UNCORDON, "", "only a node that this collection cordoned", name)] if ours else [])]


def restart_plan(spec: ClusterSpec, reports: Reports, hosts: Sequence[str], *, completed: bool = False) -> Plan:
    """Return the steps that apply changed settings on the given hosts: where they concern one, one server at a time.

    The first agent goes alone as well: an invalid setting then stops one node. The others follow side by side.
    completed: whether steps before these make every listed server a voter that is alive.
    """
    view = cluster_view(spec, reports)
    if view is None:
        return Plan()
    concerned = restarting(spec, reports, hosts)
    if not concerned:
        return Plan()
    state = voters(spec, reports, view)
    servers = [host for host in _order(spec, reports, view) if host in concerned and host in spec.servers]
    problems = [] if completed else _restart_problems(servers, state.tolerates, len(state.all))
    if problems:
        return refusal(problems)
    steps = {host: _restart_steps(report_of(reports, host), concerned[host]) for host in concerned}
    agents = [host for host in spec.agents if host in concerned]
    groups = [[step] for host in [*servers, *agents[:1]] for step in steps[host]]
    groups += side_by_side([steps[host] for host in agents[1:]])
    return in_batches(groups)


def _restart_problems(servers: Sequence[str], tolerates: int, count: int) -> list[Problem]:
    # One voter is always away while it restarts; with one or two voters the API pauses, which nothing can avoid.
    if servers and count > 2 and tolerates < 1:
        message = f"cannot restart {servers[0]}: the servers would lose their majority"
        return [Problem("k3s_configuration", message, "start or repair the server that is not running")]
    return []


def _restart_steps(report: HostReport, pending: Sequence[Change]) -> list[Step]:
    names = ", ".join(change.name for change in pending)
    reason = f"changed: {names}" if names else "the service runs with other settings than its files hold"
    wait = actions.WAIT_VOTER if report.role == "server" else actions.WAIT_READY
    steps = [Step(actions.RESTART, report.host, reason), Step(wait, report.host, reason)]
    return [Step(actions.WRITE_CONFIGURATION, report.host, reason), *steps] if names else steps
