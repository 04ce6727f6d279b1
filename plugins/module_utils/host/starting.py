# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start programs step by step: each step waits for the health of the previous ones, and is recorded when healthy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from .errors import HostError
from .markers import mask
from .processes import read_process
from .services import Home, Plan, Program, Wish, program_digest
from .supervisor import Supervisor
from .tree import Tree
from .waiting import Awaited, Outcome, failure, log_tail, wait_for_all

FILE_MODE = 0o600


@dataclass(frozen=True)
class Beginning:
    """A program's files and the size of its log at its start."""

    digest: str
    log_size_bytes: int


@dataclass
class Start:
    """One run of all steps. `deadline` is in seconds of `time.monotonic`."""

    home: Home
    wish: Wish
    plan: Plan
    supervisor: Supervisor
    deadline: float
    wait: bool = True
    known: Mapping[str, str] = field(default_factory=dict, repr=False)
    begun: dict[str, Beginning] = field(default_factory=dict)
    waited_s: dict[str, float] = field(default_factory=dict)

    def run(self) -> dict[str, float]:
        """Start the planned programs and return the wait in seconds by service. Raise `HostError` on a failure."""
        to_begin = {*self.plan.start, *self.plan.restart}
        chosen = self.wish.chosen()
        everything = replace(self.wish, only=frozenset()).chosen()
        involved = [program for program in everything if program.name in to_begin or program in chosen]
        waiting: list[Program] = []
        for _order, step in groupby(involved, key=lambda program: program.start_order):
            together = list(step)
            beginning = [program for program in together if program.name in to_begin]
            if beginning:
                self._wait_for(waiting)
                waiting = []
            for program in beginning:
                self._begin(program)
            waiting += together
        self._wait_for(waiting)
        self._wait_for_others()
        return self.waited_s

    def _begin(self, program: Program) -> None:
        tree = Tree(self.home.path)
        wanted = self.home.wanted_program(program.name)
        if not wanted.is_file():
            raise HostError(f"{wanted}: is missing; write the configuration first")
        # Without the record, the next run restarts the program if this run is interrupted now.
        tree.remove(self.home.applied(program.name))
        size = program.log_file.stat().st_size if program.log_file.is_file() else 0
        self.begun[program.name] = Beginning(program_digest(self.home, program), size)
        tree.write(self.home.given_program(program.name), wanted.read_bytes(), FILE_MODE)
        self.supervisor.load(program.name)
        self.supervisor.start(program.name)

    def _wait_for(self, programs: Sequence[Program]) -> None:
        awaited = [Awaited(program.name, True, self.wish.health.get(program.name)) for program in programs]
        outcomes = self._outcomes(awaited)
        states = self.supervisor.states() if outcomes else {}
        for outcome in outcomes:
            state = states.get(outcome.name)
            if state and not outcome.problem and outcome.name in self.begun:
                self._record(outcome.name, state.pid)
        self._require_health(outcomes)

    def _wait_for_others(self) -> None:
        """Wait for services in another service's process, which have a health check but not a program."""
        programs = {program.name for program in self.wish.programs}
        others = [name for name in self.wish.health if name not in programs]
        chosen = [name for name in others if not self.wish.only or name in self.wish.only]
        self._require_health(self._outcomes([Awaited(name, False, self.wish.health[name]) for name in chosen]))

    def _outcomes(self, awaited: Sequence[Awaited]) -> list[Outcome]:
        outcomes = wait_for_all(self.home.socket, awaited, self.deadline) if self.wait else []
        self.waited_s |= {outcome.name: outcome.waited_s for outcome in outcomes}
        return outcomes

    def _require_health(self, outcomes: Iterable[Outcome]) -> None:
        ill = [outcome for outcome in outcomes if outcome.problem]
        if ill:
            planned = (*self.plan.start, *self.plan.restart)
            message = failure(ill, self._last_words, [name for name in planned if name not in self.begun])
            raise HostError(mask(message, self.known))

    def _last_words(self, name: str) -> str:
        logs: dict[str, Path] = {program.name: program.log_file for program in self.wish.programs}
        if name not in logs:
            return ""
        since_byte = self.begun[name].log_size_bytes if name in self.begun else 0
        return log_tail(logs[name], self.known, since_byte)

    def _record(self, name: str, pid: int) -> None:
        process = read_process(pid)
        record: dict[str, Any] = {"digest": self.begun[name].digest}
        if process:
            record |= {"pid": pid, "start_ticks": process.start_ticks, "command": list(process.command)}
        Tree(self.home.path).write(self.home.applied(name), json.dumps(record).encode(), FILE_MODE)
