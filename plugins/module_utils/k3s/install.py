# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installation plans: preflight, discovery, joins and changed settings, in the order that keeps the majority."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from . import actions
from .configuration import changes, critical_differences, desired
from .discovery import Discovery, discover
from .membership import join_plan
from .model import ClusterSpec, Reports, node_name, report_of
from .plan import Plan, Step, combined, in_batches, refusal
from .preflight import preflight
from .upgrade import restart_plan

# Steps that start K3s with the configuration of the inventory.
_STARTS = frozenset({actions.INITIALISE, actions.START, actions.JOIN_SERVER, actions.JOIN_AGENT})


def install_plan(spec: ClusterSpec, reports: Reports) -> Plan:
    """Return the steps from the state of all hosts to the cluster of the inventory, or every problem that refuses them.

    The plan of the next run continues an interrupted run. Servers that fail with their settings restart
    first. Joins come before other restarts, since they restore the majority; only a changed critical setting restarts
    the running servers before, because K3s compares it when a server joins.
    """
    discovery = discover(spec, reports)
    problems = [*preflight(spec, reports), *discovery.problems]
    if problems:
        return refusal(problems)
    joins = join_plan(spec, reports, discovery)
    started = {step.host for step in joins.steps if step.action in _STARTS}
    failing = [host for host in spec.servers if host not in started and not report_of(reports, host).answers]
    running = [host for host in spec.hosts if host not in started and host not in failing]
    repairs = restart_plan(spec, reports, failing, completed=True)
    first = bool(started) and bool(_critical_changes(spec, reports, discovery))
    restarts = restart_plan(spec, reports, running, completed=not first and _completes(spec, reports, started, repairs))
    refused = [*joins.problems, *restarts.problems]
    if refused:
        return refusal(refused)
    ordered = [restarts, joins] if first else [joins, restarts]
    return combined([repairs, *ordered, _registration_plan(spec, reports, discovery)])


def _completes(spec: ClusterSpec, reports: Reports, started: Collection[str], repairs: Plan) -> bool:
    """Return whether every listed server votes once starts and repairs are complete."""
    repaired = {step.host for step in repairs.steps}
    reachable = all(report_of(reports, host).reachable for host in spec.servers)
    return reachable and any(host in started or host in repaired for host in spec.servers)


def _critical_changes(spec: ClusterSpec, reports: Reports, discovery: Discovery) -> list[str]:
    servers = [host for host in discovery.answering if host in spec.servers]
    return sorted(
        {
            name
            for host in servers
            for name in critical_differences(report_of(reports, host).configuration, desired(spec, host))
        }
    )


def _registration_plan(spec: ClusterSpec, reports: Reports, discovery: Discovery) -> Plan:
    """Return the steps for labels and taints, which K3s only applies to new nodes."""
    if discovery.decision != "existing":
        return Plan()
    steps = [step for host in spec.hosts for step in _registration_steps(spec, reports, host)]
    return in_batches([steps])


def _registration_steps(spec: ClusterSpec, reports: Reports, host: str) -> Iterable[Step]:
    report = report_of(reports, host)
    if not report.reachable or report.service != "active" or not report.configuration:
        return
    pending = changes(report.configuration, desired(spec, host))
    names = [change.name for change in pending if change.effect == "registration"]
    if names:
        reason = f"changed: {', '.join(names)}, which K3s applies to a new node alone"
        yield Step(actions.APPLY_REGISTRATION, host, reason, node_name(spec, report))
