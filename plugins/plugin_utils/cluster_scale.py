# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds of manual scaling on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..module_utils.shared.nearest import replacement
from ..module_utils.shared.problem import Problem
from ..module_utils.shared.targets import ON_AWS


def node_bounds(settings: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the minimum and maximum number of nodes of each node group."""
    groups = {"on-demand": (1, settings["lakehouse_node_max"])}
    return {**groups, "spot": (0, settings["lakehouse_spot_node_max"])} if settings["lakehouse_spot_nodes"] else groups


def bounds(rendered: Mapping[str, Any], autoscalers: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[int, int]]:
    """Return the minimum and maximum number of replicas of each workload. An autoscaler sets the maximum of its own."""
    found = {}
    for workload in rendered["workloads"]:
        name, kind = workload["service"], workload["kind"]
        if kind == "Job":
            continue
        described = rendered["services"][name]["scale"]
        # Without bounds, one process owns the data.
        low, high = (described["min"], described["max"]) if described else (workload["replicas"] or 1,) * 2
        found[name] = (1, autoscalers[name]["max"]) if name in autoscalers else (low, high)
    return found


def scale_problems(
    settings: Mapping[str, Any], rendered: Mapping[str, Any], autoscalers: Mapping[str, Mapping[str, int]]
) -> Iterator[Problem]:
    """Reject numbers for unknown workloads, beyond their bounds, or in conflict with the inventory."""
    wanted, nodes = settings["lakehouse_scale"], settings["lakehouse_scale_nodes"]
    if not wanted and not nodes:
        remedy = 'name services and replicas: -e \'{"lakehouse_scale": {"api": 5}}\''
        yield Problem("lakehouse_scale", "it says nothing to scale", remedy)
    allowed = bounds(rendered, autoscalers)
    for name, count in wanted.items():
        if name not in allowed:
            yield Problem("lakehouse_scale", f"no service {name!r} runs here", replacement(name, allowed))
        elif not allowed[name][0] <= count <= allowed[name][1]:
            yield Problem("lakehouse_scale", *_beyond(name, count, allowed[name]))
        elif "replicas" in (settings["lakehouse_services"].get(name) or {}):
            message = f"the inventory says how many replicas {name} has"
            yield Problem("lakehouse_services", message, f"change lakehouse_services.{name}.replicas, and deploy")
    yield from _node_problems(settings, nodes)


def _beyond(name: str, count: int, allowed: tuple[int, int]) -> tuple[str, str]:
    low, high = allowed
    if low == high:
        return f"{name} has {low} and no other number of replicas, {count} is asked for", f"leave {name} out"
    return f"{count} replicas of {name} are beyond its bounds, {low} to {high}", f"choose a number from {low} to {high}"


def _node_problems(settings: Mapping[str, Any], nodes: Mapping[str, int]) -> Iterator[Problem]:
    if nodes and settings["lakehouse_target"] not in ON_AWS:
        remedy = "add nodes where the cluster is made"
        yield Problem("lakehouse_scale_nodes", "only the node groups of eks are known here", remedy)
        return
    groups = node_bounds(settings)
    for name, count in nodes.items():
        if name not in groups:
            yield Problem("lakehouse_scale_nodes", f"there is no node group {name!r}", replacement(name, groups))
        elif not groups[name][0] <= count <= groups[name][1]:
            low, high = groups[name]
            message = f"{count} nodes of group {name} are beyond its bounds, {low} to {high}"
            yield Problem("lakehouse_scale_nodes", message, f"choose a number from {low} to {high}")
