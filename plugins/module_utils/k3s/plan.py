# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as data: the steps of a decision, or the problems that refuse it.

A plan, a check mode run and a run read the same steps. Steps of one batch may run side by side; a batch starts when
the batch before it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..shared.problem import Problem


@dataclass(frozen=True)
class Step:
    """One action on one host; an empty `host` is the cluster's API. `value` is its object, such as a version."""

    action: str
    host: str
    reason: str
    value: str = ""
    batch: int = 0


@dataclass(frozen=True)
class Plan:
    """Steps in their order. A plan with problems is refused and has no steps; notices do not refuse it."""

    steps: tuple[Step, ...] = ()
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether a problem refuses the plan."""
        return bool(self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "refused": self.refused,
            "steps": [vars(step) for step in self.steps],
            "problems": [vars(problem) for problem in self.problems],
            "notices": list(self.notices),
        }


def in_batches(groups: Iterable[Sequence[Step]], notices: Iterable[str] = ()) -> Plan:
    """Return a plan whose batches are the groups that hold steps, numbered from 1."""
    filled = [group for group in groups if group]
    steps = tuple(replace(step, batch=number) for number, group in enumerate(filled, 1) for step in group)
    return Plan(steps, notices=tuple(notices))


def one_by_one(steps: Iterable[Step]) -> list[list[Step]]:
    """Return groups of one step each."""
    return [[step] for step in steps]


def side_by_side(lists: Sequence[Sequence[Step]]) -> list[list[Step]]:
    """Return groups that hold the steps of all lists with the same distance from their end."""
    longest = max(map(len, lists), default=0)
    return [[steps[place] for steps in lists if -place <= len(steps)] for place in range(-longest, 0)]


def combined(plans: Iterable[Plan]) -> Plan:
    """Return one plan that runs others in their order; their problems are not part of it."""
    groups: list[list[Step]] = []
    listed = list(plans)
    for plan in listed:
        numbers = dict.fromkeys(step.batch for step in plan.steps)
        groups += [[step for step in plan.steps if step.batch == number] for number in numbers]
    return in_batches(groups, [notice for plan in listed for notice in plan.notices])


def refusal(problems: Iterable[Problem]) -> Plan:
    """Return a plan that is refused, its problems sorted and without repetitions."""
    return Plan(problems=tuple(sorted(set(problems))))
