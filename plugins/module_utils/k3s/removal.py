# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal plans: nodes that leave a cluster, and the whole cluster. Every path that is deleted is guarded first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..shared.problem import Problem
from . import actions
from .membership import Departure, api_address, departures
from .model import ClusterSpec, HostReport, Reports, cluster_view, report_of
from .paths import PathState
from .plan import Plan, Step, in_batches, one_by_one, refusal
from .quorum import quorum
from .wiping import Scope, wipe_problems

CONFIRM = "k3s_remove_confirm"
NODES = "k3s_remove_nodes"


def confirmation_problems(spec: ClusterSpec, confirm: str) -> list[Problem]:
    """Return the problem of a removal that the cluster's name does not confirm."""
    if confirm and confirm == spec.name:
        return []
    message = f"the removal of {spec.name or 'a cluster'} is not confirmed"
    return [Problem(CONFIRM, message, f"set `{CONFIRM}` to the cluster's name, or list nodes in `{NODES}`")]


def cluster_removal_plan(
    spec: ClusterSpec, reports: Reports, states: Mapping[str, PathState], confirm: str, *, delete_data: bool = False
) -> Plan:
    """Return the steps that remove the cluster: agents side by side, then servers from the last to the first.

    states: the data directory of each host. The plan is empty if one host is refused or unreachable, which would
    otherwise continue with a part of the cluster. Volumes stay unless `delete_data`.
    """
    scope = Scope.of(spec, delete_data=delete_data)
    problems = confirmation_problems(spec, confirm)
    for host in spec.hosts:
        problems += _host_problems(scope, report_of(reports, host), states.get(host))
    if problems:
        return refusal(problems)
    wipes = {host: _wipe(scope, reports[host], states[host]) for host in spec.hosts}
    agents = [step for host in spec.agents for step in wipes[host]]
    return in_batches([agents, *(wipes[host] for host in reversed(spec.servers))])


def nodes_removal_plan(
    spec: ClusterSpec,
    reports: Reports,
    nodes: Sequence[str],
    states: Mapping[str, PathState],
    *,
    delete_data: bool = False,
) -> Plan:
    """Return the steps that remove nodes from the cluster one by one and wipe them, except lost hosts.

    Hosts that found the cluster by a removed server get the address of another one.
    """
    scope = Scope.of(spec, delete_data=delete_data)
    problems, leaving = departures(spec, reports, nodes)
    for each in leaving:
        if each.report.reachable:
            problems += _host_problems(scope, each.report, states.get(each.report.host))
    if problems:
        return refusal(problems)
    steps: list[Step] = []
    for each in leaving:
        wipe = _wipe(scope, each.report, states[each.report.host]) if each.report.reachable else []
        steps += [*each.steps, *wipe]
    return in_batches(one_by_one([*steps, *_rewrites(spec, reports, leaving)]), _notices(leaving))


def _host_problems(scope: Scope, report: HostReport, state: PathState | None) -> list[Problem]:
    if not report.reachable or state is None:
        message = f"{report.host} cannot be reached and would go on with its part of {scope.cluster}"
        return [Problem("inventory_hostname", message, "make it reachable, or take it out of the inventory")]
    return wipe_problems(scope, report.host, state)


def _wipe(scope: Scope, report: HostReport, state: PathState) -> list[Step]:
    """Return the step that wipes a host; none for a host without traces of the cluster."""
    if not state.remains and report.service == "absent":
        return []
    volumes = "volumes are deleted" if scope.delete_data else "volumes stay"
    return [Step(actions.WIPE_HOST, report.host, f"it is removed from {scope.cluster}, and {volumes}", scope.cluster)]


def _rewrites(spec: ClusterSpec, reports: Reports, leaving: Sequence[Departure]) -> Iterable[Step]:
    """Return a step for each host that joins a removed server; the last server alone becomes the first again."""
    gone = {each.report.host for each in leaving}
    addresses = {address for each in leaving for address in each.addresses}
    for host in (host for host in spec.hosts if host not in gone):
        found = str(report_of(reports, host).configuration.get("server", ""))
        if _host_of(found) in addresses:
            other = cluster_view(spec, reports, without={*gone, host})
            address = api_address(spec, reports, other.host) if other else ""
            yield Step(actions.WRITE_MEMBERSHIP, host, f"{_host_of(found)} leaves the cluster", address)


def _host_of(url: str) -> str:
    """Return the host of `https://HOST:PORT`; brackets of IPv6 are left out."""
    return url.rpartition("//")[2].rpartition(":")[0].strip("[]")


def _notices(leaving: Sequence[Departure]) -> Iterable[str]:
    notices = [f"take {each.report.host} out of the inventory, or the next installation joins it" for each in leaving]
    left = leaving[-1].voters_left if leaving else 0
    if left and left % 2 == 0:
        notices.append(f"{left} servers need {quorum(left)} and tolerate no more failures than {left - 1}: add one")
    return notices
