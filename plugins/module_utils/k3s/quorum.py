# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quorum arithmetic of etcd: voters, those that are alive, and changes that keep a majority."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..shared.problem import Problem
from .model import ClusterSpec, ClusterView, Reports, report_of


def quorum(voters: int) -> int:
    """Return the number of voters that must be alive for a write."""
    return voters // 2 + 1


@dataclass(frozen=True)
class Voters:
    """The voting members of etcd by the name of the member, and those among them that are alive."""

    all: frozenset[str]
    alive: frozenset[str]

    @property
    def has_quorum(self) -> bool:
        """Whether a majority of the voters is alive."""
        return len(self.alive) >= quorum(len(self.all))

    @property
    def tolerates(self) -> int:
        """The number of further voters that may fail."""
        return len(self.alive) - quorum(len(self.all))

    def without(self, name: str) -> Voters:
        """Return the voters after the removal of one."""
        return Voters(self.all - {name}, self.alive - {name})

    def stopped(self, name: str) -> Voters:
        """Return the voters while one of them restarts."""
        return Voters(self.all, self.alive - {name})


def voters(spec: ClusterSpec, reports: Reports, view: ClusterView) -> Voters:
    """Return the voters of the running cluster. A voter without a host that answers counts as not alive."""
    everyone = {member.name or member.id for member in view.etcd.members if not member.learner}
    alive = set()
    for host in dict.fromkeys([*spec.hosts, *reports]):
        report = report_of(reports, host)
        member = view.member_of(report) if report.answers else None
        if member and not member.learner:
            alive.add(member.name or member.id)
    return Voters(frozenset(everyone), frozenset(alive))


def removal_problems(state: Voters, name: str, host: str) -> list[Problem]:
    """Return the problem of removing a member: a missing majority before or after the removal."""
    if name not in state.all:
        return []
    after = state.without(name)
    counts = f"{len(state.alive)} of {len(state.all)} voters are alive"
    if not state.has_quorum:
        message = f"cannot remove {host} from etcd: {counts}, {quorum(len(state.all))} must agree"
        return [Problem("k3s_servers", message, "start the other servers, or use `k3s_restore` if they are lost")]
    if not after.all:
        message = f"cannot remove {host} from etcd: it is the last voter"
        return [Problem("k3s_servers", message, "remove the whole cluster with `k3s_remove`")]
    if not after.has_quorum:
        left = f"{len(after.alive)} of {len(after.all)} would be left alive"
        message = f"cannot remove {host} from etcd: {counts}, {left}, and {quorum(len(after.all))} are needed"
        return [Problem("k3s_servers", message, f"repair or remove first: {_list(state.all - state.alive)}")]
    return []


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
