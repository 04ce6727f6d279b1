# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between hosts and their description: files, and nodes and members that the inventory does not list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import actions
from .model import ClusterSpec, Reports, cluster_view, report_of
from .plan import Plan, Step, combined, in_batches

OTHER_CONTENT = "has other content"
PRIVATE_MODE = "0600"


@dataclass(frozen=True)
class File:
    """A file of a host or of its description. sha256: hash of its content, empty if any content is valid.

    mode: octal digits.
    """

    sha256: str = ""
    mode: str = PRIVATE_MODE


def file_differences(wanted: Mapping[str, File], found: Mapping[str, File]) -> dict[str, str]:
    """Return the differences between files of a host and their description, by path."""
    missing = {path: "is missing" for path in wanted if path not in found}
    foreign = {path: "is not described" for path in found if path not in wanted}
    changed = {path: reason for path in wanted if path in found and (reason := _difference(wanted[path], found[path]))}
    return dict(sorted({**missing, **foreign, **changed}.items()))


def _difference(wanted: File, found: File) -> str:
    if wanted.sha256 and wanted.sha256 != found.sha256:
        return OTHER_CONTENT
    return f"has mode {found.mode}, not {wanted.mode}" if wanted.mode != found.mode else ""


def with_repairs(plan: Plan, differences: Mapping[str, Mapping[str, str]]) -> Plan:
    """Return an installation that writes differing files when all nodes run. differences: reasons by host and path.

    Files come last: a restart before keeps their former content until the node is healthy with the new one.
    """
    if plan.refused:
        return plan
    steps = [
        Step(actions.WRITE_FILES, host, "; ".join(f"{path} {reason}" for path, reason in found.items()))
        for host, found in differences.items()
        if found
    ]
    return combined([plan, in_batches([steps])]) if steps else plan


def describe_differences(
    spec: ClusterSpec, reports: Reports, differences: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return a line for each difference without a step in the plan, or that the step does not name."""
    files = [f"{host}: {path} {reason}" for host, found in differences.items() for path, reason in found.items()]
    absent = [
        f"{host} cannot be reached and was not compared"
        for host in spec.hosts
        if not report_of(reports, host).reachable
    ]
    return [*files, *absent, *_strangers(spec, reports)]


def _strangers(spec: ClusterSpec, reports: Reports) -> Iterable[str]:
    """Return nodes and etcd members of the cluster without a listed host."""
    view = cluster_view(spec, reports)
    if view is None or not all(report_of(reports, host).reachable for host in spec.hosts):
        return
    listed = [report_of(reports, host) for host in spec.hosts]
    names, members = {view.name_of(report) for report in listed}, [view.member_of(report) for report in listed]
    for name in sorted(view.nodes.keys() - names):
        yield f"node {name} belongs to no listed host: list its host, or remove the node with `k3s_remove`"
    for member in view.etcd.members:
        if member not in members:
            name = member.name or member.id
            yield f"etcd member {name} belongs to no listed host: list its host, or remove the node with `k3s_remove`"
