# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the steps of an operation on the controller, from the state of all hosts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

from ..module_utils.inventory.backup import public_keys
from ..module_utils.inventory.values import InvalidValueError
from ..module_utils.k3s import actions
from ..module_utils.k3s.discovery import discover
from ..module_utils.k3s.drift import describe_differences, with_repairs
from ..module_utils.k3s.kubeconfig import kubeconfig_ca_hash, kubeconfig_problems
from ..module_utils.k3s.model import ClusterSpec, HostReport, Reports, node_name
from ..module_utils.k3s.operations import OPERATIONS, Situation, plan_operation
from ..module_utils.k3s.plan import Plan, refusal
from ..module_utils.k3s.shapes import ShapeError
from ..module_utils.k3s.snapshots import calendar
from ..module_utils.k3s.upgrade import states
from ..module_utils.shared.problem import Problem, problem_list
from ..plugin_utils.k3s_steps import Cluster, Renderer, describe, find_cluster, stale_reports

# Operations after which the role replaces the kubeconfig of the controller.
REPLACING = frozenset({"install", "restore"})


@dataclass(frozen=True)
class Request:
    """The operation, the desired cluster, reports and results of all hosts, and the hosts of the play.

    problems: those of the controller, which reject the operation.
    """

    spec: ClusterSpec
    reports: Reports
    hosts: frozenset[str]
    operation: str = "install"
    options: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Request:
        """Return the request of a task; raise `ShapeError` for a value of another shape."""
        operation = str(arguments.get("operation") or "install")
        if operation not in OPERATIONS:
            raise ShapeError("operation", f"{operation!r} is not one of {', '.join(OPERATIONS)}")
        spec = ClusterSpec.from_dict(arguments["cluster"])
        path = str(arguments.get("kubeconfig") or "")
        kubeconfig = read_kubeconfig(path)
        replaced = kubeconfig_problems(path, kubeconfig, spec.name) if operation in REPLACING else []
        read = [each for each in arguments["reports"] if each and "report" in each]
        reports = {each["report"]["host"]: HostReport.from_dict(each["report"]) for each in read}
        stale = {each["report"]["host"]: each.get("stale_files", []) for each in read}
        spec = replace(spec, ca_hash=spec.ca_hash or kubeconfig_ca_hash(kubeconfig))
        options = arguments.get("options") or {}
        results = {each["report"]["host"]: each for each in read}
        hosts = frozenset(arguments["hosts"])
        return cls(spec, stale_reports(reports, stale), hosts, operation, options, results, tuple(replaced))

    def differences(self, cluster: Cluster) -> dict[str, dict[str, str]]:
        """Return the reasons why files of the play's hosts differ from their description, by host and path."""
        renderer = Renderer(self.spec, self.reports, cluster)
        hosts = [host for host in self.spec.hosts if host in self.hosts and host in self.results]
        return {host: renderer.differences(host, self.results[host]) for host in hosts}

    def plan(self, now_s: float) -> Plan:
        """Return the plan of the operation; raise `ShapeError` for unknown options."""
        plan = plan_operation(self.operation, self.options, Situation(self.spec, self.reports, now_s))
        recipients = recipient_problems(self.spec.snapshots.recipients)
        problems = [*recipients, *self.problems, *self._limit_problems(plan)]
        return refusal([*plan.problems, *problems]) if problems else plan

    def _limit_problems(self, plan: Plan) -> list[Problem]:
        """Return the problem of running a plan for the whole cluster on a part of it.

        Agents would be upgraded before servers, and a server would continue with its data from before a restore.
        """
        left = sorted(set(self.spec.hosts) - self.hosts)
        if self.operation not in ("upgrade", "restore") or not plan.steps or not left:
            return []
        message = f"cannot {self.operation} a part of the cluster: {', '.join(left)} is outside of --limit"
        return [Problem("inventory_hostname", message, "run without `--limit`")]


def recipient_problems(recipients: Sequence[str]) -> list[Problem]:
    """Return the problem of recipients for which an escrow cannot be encrypted."""
    try:
        public_keys(list(recipients))
    except InvalidValueError as error:
        return [Problem("lakehouse_backup_recipients", str(error), error.remedy)]
    return []


def remedy(error: ShapeError, operation: str) -> str:
    """Return the remedy of a value of another shape."""
    if error.path != "options" or operation not in OPERATIONS:
        return "Correct the variable of the role"
    known = [option.name for option in fields(OPERATIONS[operation].options)]
    return f"Use options of `{operation}`: {', '.join(known) or 'it has none'}"


def read_kubeconfig(path: str) -> Any:
    """Return the controller's parsed kubeconfig, None if it is missing, and its text if it is not YAML."""
    file = Path(path).expanduser() if path else None
    if file is None or not file.is_file():
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def new_id(request: Request, plan: Plan) -> str:
    """Return the id of a cluster without a marker: that of the snapshot to restore, else a new one."""
    name = next((step.value for step in plan.steps if step.action == actions.RESTORE), "")
    known = [each for each in request.options.get("snapshots") or () if each["name"] == name]
    return next((str(each["cluster_id"]) for each in known if each.get("cluster_id")), "") or str(uuid.uuid4())


def outcome(request: Request, plan: Plan, cluster: Cluster) -> dict[str, Any]:
    """Return the batches of steps for the role's tasks, and facts of the cluster."""
    renderer = Renderer(request.spec, request.reports, cluster)
    batches = renderer.render(plan.steps, request.hosts)
    skipped = sorted({step.host for step in plan.steps if step.host} - request.hosts)
    limited = [f"{host} is outside of --limit and is left as it is" for host in skipped]
    complete = replace(renderer, reports={})
    return {
        "operation": request.operation,
        "batches": batches,
        "text": describe(batches),
        "notices": [*plan.notices, *limited],
        "cluster_id": cluster.cluster_id,
        "ca_hash": cluster.ca_hash,
        "api_host": cluster.api_host,
        "nodes": {host: node_name(request.spec, report) for host, report in request.reports.items()},
        "calendar": calendar(request.spec.snapshots.schedule) if request.operation == "snapshot" else "",
        "marker": complete.marker("", "member"),
    }


class ActionModule(ActionBase):
    """Returns the plan, or fails with all problems."""

    _supports_check_mode = True
    _requires_connection = False
    _VALID_ARGS = frozenset({"operation", "options", "cluster", "reports", "hosts", "kubeconfig"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the steps of an operation."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            request = Request.of(self._task.args)
            plan = request.plan(time.time())
        except ShapeError as error:
            advice = remedy(error, str(self._task.args.get("operation", "install")))
            return {**result, "failed": True, "msg": f"{error}. {advice}."}
        result["states"] = states(request.spec, request.reports)
        if plan.refused:
            problems = [vars(problem) for problem in plan.problems]
            return {**result, "failed": True, "msg": problem_list(plan.problems), "problems": problems}
        first = discover(request.spec, request.reports).first
        cluster = find_cluster(request.spec, request.reports, plan.steps, first, new_id(request, plan))
        differences = request.differences(cluster) if request.operation == "install" else {}
        found = outcome(request, with_repairs(plan, differences), cluster)
        found["differences"] = describe_differences(request.spec, request.reports, differences)
        text = "".join(f"{line}\n" for line in found["text"])
        return {**result, "changed": False, **found, "diff": {"prepared": text}}
