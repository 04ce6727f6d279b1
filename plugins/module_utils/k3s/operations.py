# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations on a cluster as one table: the options of each, as a data class, and its decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..shared.problem import Problem
from . import removal, restore, versions
from .discovery import discover
from .install import install_plan
from .model import ClusterSpec, Reports
from .paths import PathState
from .plan import Plan, refusal
from .preflight import check_production
from .shapes import from_plain
from .snapshots import Escrow, Snapshot, choose, settings_problems, snapshot_plan
from .upgrade import Mode, upgrade_plan


@dataclass(frozen=True)
class Situation:
    """The described cluster and the state of all hosts, at a time in seconds since 1970."""

    spec: ClusterSpec
    reports: Reports
    now_s: float = 0.0


@dataclass(frozen=True)
class InstallOptions:
    """An installation has no options: the cluster describes it."""


@dataclass(frozen=True)
class UpgradeOptions:
    """mode: whether pods are evicted before a restart. via: releases for minors between installed and target."""

    mode: Mode = "auto"
    via: tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotOptions:
    """Existing snapshots and escrows. name: suffix of the new snapshot's name, after the prefix of the cluster."""

    name: str = "on-demand"
    snapshots: tuple[Snapshot, ...] = ()
    escrows: tuple[Escrow, ...] = ()


@dataclass(frozen=True)
class RestoreOptions:
    """kind: the restore. confirm: the cluster's name. snapshot: a name; if empty, the newest usable one.

    lost, host: after the loss of a majority, the permanently lost servers, and the first surviving one.
    """

    kind: Literal["same_hosts", "quorum_loss", "new_hosts"]
    confirm: str = ""
    snapshot: str = ""
    lost: tuple[str, ...] = ()
    host: str = ""
    snapshots: tuple[Snapshot, ...] = ()
    escrows: tuple[Escrow, ...] = ()


@dataclass(frozen=True)
class RemoveOptions:
    """nodes: the hosts to remove; if empty, the whole cluster. states: the data directory by host."""

    confirm: str = ""
    nodes: tuple[str, ...] = ()
    delete_data: bool = False
    states: Mapping[str, PathState] = field(default_factory=dict)


def _install(situation: Situation, _options: InstallOptions) -> Plan:
    return install_plan(situation.spec, situation.reports)


def _upgrade(situation: Situation, options: UpgradeOptions) -> Plan:
    problems = [problem for text in options.via for problem in versions.version_problems(text)]
    if problems:
        return refusal([Problem("k3s_upgrade_via", problem.message, "list releases") for problem in problems])
    return upgrade_plan(situation.spec, situation.reports, [*map(versions.parse, options.via)], options.mode)


def _snapshot(situation: Situation, options: SnapshotOptions) -> Plan:
    spec, reports = situation.spec, situation.reports
    problems = [*discover(spec, reports).problems, *check_production(spec), *settings_problems(spec)]
    if problems:
        return refusal(problems)
    return snapshot_plan(spec, reports, options.snapshots, options.escrows, situation.now_s, options.name)


def _restore(situation: Situation, options: RestoreOptions) -> Plan:
    spec, reports = situation.spec, situation.reports
    unconfirmed = restore.confirmation_problems(spec, options.confirm)
    if unconfirmed:
        return refusal(unconfirmed)
    if options.kind == "quorum_loss":
        return restore.quorum_loss_plan(spec, reports, options.lost, options.host)
    on_hosts = options.kind == "same_hosts"
    hashes = [report.data.token_hash for report in reports.values() if on_hosts and report.data.token_hash]
    choice = choose(options.snapshots, options.escrows, hashes, options.snapshot)
    if choice.snapshot is None:
        return refusal(choice.problems)
    decide = restore.same_hosts_plan if on_hosts else restore.new_hosts_plan
    return decide(spec, reports, choice.snapshot, options.escrows)


def _remove(situation: Situation, options: RemoveOptions) -> Plan:
    spec, reports, states = situation.spec, situation.reports, options.states
    if not options.nodes:
        return removal.cluster_removal_plan(spec, reports, states, options.confirm, delete_data=options.delete_data)
    if options.confirm not in ("", spec.name):
        return refusal(removal.confirmation_problems(spec, options.confirm))
    return removal.nodes_removal_plan(spec, reports, options.nodes, states, delete_data=options.delete_data)


@dataclass(frozen=True)
class Operation:
    """The data class of an operation's options, and its decision."""

    options: type[Any]
    decide: Callable[[Situation, Any], Plan]


OPERATIONS: Mapping[str, Operation] = {
    "install": Operation(InstallOptions, _install),
    "upgrade": Operation(UpgradeOptions, _upgrade),
    "snapshot": Operation(SnapshotOptions, _snapshot),
    "restore": Operation(RestoreOptions, _restore),
    "remove": Operation(RemoveOptions, _remove),
}


def plan_operation(name: str, options: Any, situation: Situation) -> Plan:
    """Return the plan of an operation. Raise `ShapeError` for invalid options, `KeyError` for an unknown name."""
    operation = OPERATIONS[name]
    return operation.decide(situation, from_plain(operation.options, options, "options"))
