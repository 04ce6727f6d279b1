# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply a plan: run independent steps concurrently, skip dependents of failures, and return a result for each node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any, Literal

from .graph import heights
from .perform import Performer
from .plan import Action
from .planning import Proposal
from .resource import Activity, acting
from .steps import Step, Steps, make_steps
from .value import encode

# `interrupted`: it was running when the run was abandoned, so its outcome is unknown.
# `incomplete`: some of its steps are done; the others were skipped or cancelled.
Outcome = Literal["done", "unchanged", "failed", "incomplete", "skipped", "cancelled", "interrupted"]
_Ending = Literal["done", "failed", "skipped", "cancelled", "interrupted"]
_POLL_S = 0.5


@dataclass(frozen=True)
class StepResult:
    """The result of one step. `because`: the reason why it did not run."""

    step: Step
    ending: _Ending
    duration_s: float = 0.0
    api_calls: int = 0
    error: BaseException | None = None
    because: str = ""


@dataclass(frozen=True)
class Result:
    """The result of one node of the plan. `changed`: a change was completed, or at least begun."""

    address: str
    kind: str
    action: Action
    outcome: Outcome
    changed: bool = False
    duration_s: float = 0.0
    api_calls: int = 0
    id: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    error: BaseException | None = field(default=None, compare=False)

    def to_data(self) -> dict[str, Any]:
        """Return the result as JSON types, without secrets."""
        data = {name: value for name, value in self.__dict__.items() if name not in {"error", "outputs"}}
        return {**data, "duration_s": round(self.duration_s, 3), "outputs": encode(self.outputs)}


@dataclass(frozen=True)
class Report:
    """The results of an applied plan. `interrupted`: the user stopped it; steps that had not begun were cancelled."""

    results: tuple[Result, ...]
    interrupted: bool = False

    @property
    def changed(self) -> bool:
        return any(result.changed for result in self.results)

    @property
    def complete(self) -> bool:
        return all(result.outcome in {"done", "unchanged"} for result in self.results)

    @property
    def failed(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome == "failed")

    def result(self, address: str) -> Result:
        return next(result for result in self.results if result.address == address)


Observer = Callable[[Step, "StepResult | None"], None]


def execute(
    proposal: Proposal,
    *,
    parallelism: int = 10,
    observer: Observer | None = None,
    rank: Callable[[str], Any] | None = None,
) -> Report:
    """Apply a plan and return the result of every node; a failure is a result, not an exception.

    `observer` is called for every step that starts (None) and ends, from one thread. `rank` orders the ready steps,
    lowest first; by default the longest chains start first. After the first KeyboardInterrupt the running steps finish
    and no other step starts; the second abandons the running steps.
    """
    steps = make_steps(proposal)
    performer = Performer(proposal)
    length = heights(steps.waits)
    runner = _Runner(steps, performer.perform, rank or (lambda step: -length[step]), observer, parallelism)
    ended = runner.run()
    by_node: dict[str, list[StepResult]] = {node.address: [] for node in proposal.plan.nodes}
    for result in ended.values():
        by_node[result.step.node.address].append(result)
    results = tuple(_summed_up(group, performer) for group in by_node.values())
    return Report(results, runner.cancel.is_set())


def _summed_up(steps: Sequence[StepResult], performer: Performer) -> Result:
    node = steps[0].step.node
    error = next((step.error for step in steps if step.error), None)
    actual = performer.actual(node.address)
    changed = any(step.step.id in performer.touched for step in steps)
    return Result(
        node.address,
        node.kind,
        node.action,
        _outcome(node.action, {step.ending for step in steps}, changed=changed),
        changed,
        sum(step.duration_s for step in steps),
        sum(step.api_calls for step in steps),
        actual.id if actual else node.id,
        performer.outputs(node.address),
        _described(error) if error else next((step.because for step in steps if step.because), ""),
        error,
    )


def _outcome(action: Action, endings: set[_Ending], *, changed: bool) -> Outcome:
    if "failed" in endings:
        return "failed"
    if "interrupted" in endings:
        return "interrupted"
    if action == "none":
        return "unchanged"
    if endings == {"done"}:
        return "done" if changed else "unchanged"
    if changed:
        return "incomplete"
    return "cancelled" if "cancelled" in endings else "skipped"


def _described(error: BaseException) -> str:
    return str(error) or type(error).__name__


class _Runner:
    """Starts ready steps in a bounded pool, from a separate thread that receives no KeyboardInterrupt."""

    def __init__(
        self,
        steps: Steps,
        work: Callable[[Step], None],
        rank: Callable[[str], Any],
        observer: Observer | None,
        parallelism: int,
    ) -> None:
        self.steps, self.work, self.rank, self.observer = steps, work, rank, observer
        self.parallelism = max(1, parallelism)
        self.cancel = threading.Event()
        self.abandon: Future[Any] = Future()
        self.ended: dict[str, StepResult] = {}
        self.ready: list[str] = []
        self.running: dict[Future[StepResult], str] = {}

    def run(self) -> dict[str, StepResult]:
        with ThreadPoolExecutor(1, "execute") as coordinator:
            future = coordinator.submit(self._coordinate)
            presses = 0
            while not future.done():
                try:
                    if presses > 0:
                        self.cancel.set()
                    if presses > 1 and not self.abandon.done():
                        self.abandon.set_result(None)
                    # A signal that arrives just before a wait does not end it, so each wait is short.
                    wait([future], _POLL_S)
                except KeyboardInterrupt:
                    presses += 1
            return future.result()

    def _coordinate(self) -> dict[str, StepResult]:
        sorter = TopologicalSorter(self.steps.waits)
        sorter.prepare()
        pool = ThreadPoolExecutor(self.parallelism, "step")
        try:
            while sorter.is_active():
                self.ready += sorter.get_ready()
                for step in self._start(pool):
                    sorter.done(step)
                for step in self._finished():
                    sorter.done(step)
        finally:
            pool.shutdown(wait=not self.abandon.done())
        return self.ended

    def _start(self, pool: ThreadPoolExecutor) -> list[str]:
        """Start ready steps; return the steps that ended without a start."""
        passed = []
        self.ready.sort(key=self.rank)
        for step in list(self.ready):
            reason = self._reason_to_pass(step)
            if reason is not None:
                self._end(step, reason)
                passed.append(step)
            elif len(self.running) < self.parallelism:
                self._tell(step, None)
                self.running[pool.submit(self._timed, self.steps.items[step])] = step
            else:
                continue
            self.ready.remove(step)
        return passed

    def _reason_to_pass(self, step: str) -> StepResult | None:
        item = self.steps.items[step]
        broken = sorted(other for other in self.steps.waits[step] if self.ended[other].ending in {"failed", "skipped"})
        if broken:
            cause = self.ended[broken[0]]
            address = cause.step.node.address
            return StepResult(item, "skipped", because=cause.because or f"{address} failed")
        return StepResult(item, "cancelled", because="the run was stopped") if self.cancel.is_set() else None

    def _finished(self) -> list[str]:
        """Wait for running steps; return those that ended."""
        if not self.running:
            return []
        done, _waiting = wait([*self.running, self.abandon], return_when=FIRST_COMPLETED)
        finished = [(self.running.pop(future), future.result()) for future in done - {self.abandon}]
        for step, result in finished:
            self._end(step, result)
        given_up = self._give_up() if self.abandon.done() else []
        return [step for step, _future in finished] + given_up

    def _give_up(self) -> list[str]:
        steps = list(self.running.values())
        for step in steps:
            self._end(step, StepResult(self.steps.items[step], "interrupted", because="was still running"))
        self.running.clear()
        return steps

    def _timed(self, step: Step) -> StepResult:
        doing = Activity(self.cancel)
        started = time.monotonic()
        failure: BaseException | None = None
        try:
            with acting(doing):
                self.work(step)
        except BaseException as error:  # noqa: BLE001 - whatever strikes a node is that node's result
            failure = error
        duration_s = time.monotonic() - started
        return StepResult(step, "failed" if failure else "done", duration_s, doing.api_calls, failure)

    def _end(self, step: str, result: StepResult) -> None:
        self.ended[step] = result
        self._tell(step, result)

    def _tell(self, step: str, result: StepResult | None) -> None:
        if self.observer is not None:
            self.observer(self.steps.items[step], result)
