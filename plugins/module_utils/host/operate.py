# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying out a plan for the platform's programs: stop, initialise, start in order, record what came up."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.markers import mask
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    read_process,
    stop_processes,
    wait_until,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.services import (
    Home,
    Initialise,
    Orphan,
    Plan,
    Program,
    Wish,
    observe,
    plan_start,
    plan_stop,
    program_digest,
    supervisor_digest,
    supervisor_environment,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import (
    DOWN,
    Supervisor,
    start_supervisord,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import Tree, locked
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.waiting import (
    Awaited,
    Outcome,
    failure,
    log_tail,
    wait_for_all,
)

FILE_MODE = 0o600
FOLDER_MODE = 0o700
# supervisord kills a program that has not ended after its stop timeout; this is for doing so.
STOP_MARGIN_S = 10.0
DEFAULT_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Report:
    """What was done, or in check mode would be, and how the services are now."""

    plan: Plan
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.plan.changes


@dataclass(frozen=True)
class Operator:
    """Runs plans for one home. `known` are the secrets' values, which no message may show."""

    home: Home
    wish: Wish
    wait_timeout_s: float = 180.0
    wait: bool = True
    known: Mapping[str, Iterable[str]] = field(default_factory=dict, repr=False)

    def started(self, check_mode: bool) -> Report:
        """Have the chosen programs running and healthy. Raises `HostError` that says which are not, and why."""
        if check_mode:
            return Report(plan_start(self.home, self.wish, observe(self.home, self.wish.programs)))
        self._make_folders()
        with locked(self.home.run):
            plan = plan_start(self.home, self.wish, observe(self.home, self.wish.programs))
            deadline = time.monotonic() + self.wait_timeout_s
            self._clear(plan)
            self._initialise(plan.initialise)
            supervisor = self._supervisor()
            waited = self._start_in_order(supervisor, plan, deadline)
            return Report(plan, self._states(supervisor, waited))

    def stopped(self, check_mode: bool, absent: bool = False) -> Report:
        """Have the chosen programs stopped; with `absent` all of them, and supervisord with them, leaving no trace."""
        plan = plan_stop(self.wish, observe(self.home, self.wish.programs), absent)
        if check_mode or not self.home.run.is_dir():
            return Report(plan)
        with locked(self.home.run):
            plan = plan_stop(self.wish, observe(self.home, self.wish.programs), absent)
            self._clear(plan)
            if absent:
                self._remove_traces()
            world = observe(self.home, self.wish.programs)
            if absent and (world.supervisor_pids or world.orphans):
                raise HostError(f"{self.home.path}: processes are left that do not end: {_shown(world.orphans)}")
            return Report(plan, self._states(Supervisor(self.home.socket), {}) if world.answers else {})

    def _make_folders(self) -> None:
        tree = Tree(self.home.path)
        for folder in (self.home.run, self.home.given, self.home.given / "programs"):
            if tree.entry(folder).kind == "missing":
                tree.make_folder(folder, FOLDER_MODE)

    def _clear(self, plan: Plan) -> None:
        """Stop what is not to run on: last started, first stopped."""
        supervisor = Supervisor(self.home.socket)
        world = observe(self.home, self.wish.programs)
        if world.answers:
            ending = [name for name in plan.start if name in world.states and world.states[name].state == "STOPPING"]
            self._stop(supervisor, [*ending, *plan.restart, *plan.remove, *plan.stop])
            for name in plan.remove:
                supervisor.forget(name)
        for name in plan.remove:
            self._discard(self.home.given_program(name))
            self._discard(self.home.applied(name))
        if plan.renew_supervisor:
            self._end_supervisor(world.supervisor_pids, world.answers)
        self._stop_orphans()

    def _stop(self, supervisor: Supervisor, names: Sequence[str]) -> None:
        order = {program.name: program.start_order for program in self.wish.programs}
        last_first = sorted(names, key=lambda name: order.get(name, 0), reverse=True)
        for _, step in groupby(last_first, key=lambda name: order.get(name, 0)):
            together = list(step)
            for name in together:
                supervisor.stop(name)
            wait_s = max(self._stop_timeout_s(name) for name in together) + STOP_MARGIN_S
            if not wait_until(lambda together=together: _are_down(supervisor, together), wait_s):  # type: ignore[misc]
                left = [name for name in together if not _are_down(supervisor, [name])]
                raise HostError(f"{', '.join(left)}: still running {wait_s:.0f} s after being told to stop")

    def _stop_timeout_s(self, name: str) -> float:
        known = {program.name: program.stop_timeout_s for program in self.wish.programs}
        return known.get(name, DEFAULT_STOP_TIMEOUT_S)

    def _end_supervisor(self, pids: Sequence[int], answers: bool) -> None:
        """End supervisord, which ends its programs. One that does not answer is told by signal."""
        processes = [process for process in map(read_process, pids) if process]
        wait_s = max(map(self._stop_timeout_s, [program.name for program in self.wish.programs]), default=0.0)
        if answers:
            Supervisor(self.home.socket).shutdown()
            wait_until(lambda: not any(map(read_process, pids)), wait_s + STOP_MARGIN_S)
        stop_processes(processes, signal.SIGTERM, wait_s + STOP_MARGIN_S)

    def _stop_orphans(self) -> None:
        """Stop processes whose supervisord is gone, each by its program's own signal, then what they leave behind."""
        programs = {program.name: program for program in self.wish.programs}
        orphans = observe(self.home, self.wish.programs).orphans
        while orphans:
            for name in {orphan.program for orphan in orphans}:
                program = programs.get(name)
                number = signal.Signals[f"SIG{program.stop_signal.removeprefix('SIG')}"] if program else signal.SIGTERM
                doomed = [orphan.process for orphan in orphans if orphan.program == name]
                stop_processes(doomed, number, self._stop_timeout_s(name))
            before, orphans = orphans, observe(self.home, self.wish.programs).orphans
            if {orphan.process for orphan in orphans} & {orphan.process for orphan in before}:
                raise HostError(f"{self.home.path}: processes are left that do not end: {_shown(orphans)}")

    def _initialise(self, services: Sequence[str]) -> None:
        for step in self.wish.initialise:
            if step.service in services:
                initialise(self.home, step, self._environment(), self.known, self.wait_timeout_s)

    def _environment(self) -> dict[str, str]:
        return supervisor_environment(self.home, self.wish.environment)

    def _supervisor(self) -> Supervisor:
        """The supervisord that runs; a new one starts without programs, which are then given to it in order."""
        world = observe(self.home, self.wish.programs)
        if world.answers:
            return Supervisor(self.home.socket)
        tree = Tree(self.home.path)
        for path in tree.files_below(self.home.given):
            tree.remove(path)
        wanted = self.home.wanted / "supervisord.conf"
        self._copy(wanted, self.home.config)
        command = [str(self.home.bin / "supervisord"), "--configuration", str(self.home.config)]
        # Written first: a run that is cut off while supervisord starts leaves one that the next run can keep.
        record = json.dumps({"digest": supervisor_digest(self.home, self.wish)}).encode()
        tree.write(self.home.applied_supervisor, record, FILE_MODE)
        return start_supervisord(command, self._environment(), self.home.socket)

    def _start_in_order(self, supervisor: Supervisor, plan: Plan, deadline: float) -> dict[str, float]:
        """Start step by step; whatever a step waits for is well before the step begins."""
        waited: dict[str, float] = {}
        waiting: list[Program] = []
        beginning = {*plan.start, *plan.restart}
        log_sizes: dict[str, int] = {}
        involved = [
            program for program in self._in_order() if program.name in beginning or program in self.wish.chosen()
        ]
        for _, step in groupby(involved, key=lambda program: program.start_order):
            together = list(step)
            if beginning & {program.name for program in together}:
                waited |= self._wait(supervisor, waiting, log_sizes, beginning - waited.keys(), deadline)
                waiting = []
            for program in together:
                if program.name in beginning:
                    log_sizes[program.name] = _size(program.log_file)
                    self._begin(supervisor, program)
            waiting += together
        waited |= self._wait(supervisor, waiting, log_sizes, beginning - waited.keys(), deadline)
        return waited | self._wait_for_others(deadline)

    def _in_order(self) -> list[Program]:
        return replace(self.wish, only=frozenset()).chosen()

    def _begin(self, supervisor: Supervisor, program: Program) -> None:
        # Without the record a run that is cut off now leaves a program that the next one starts anew.
        self._discard(self.home.applied(program.name))
        self._copy(self.home.wanted_program(program.name), self.home.given_program(program.name))
        supervisor.load(program.name)
        supervisor.start(program.name)

    def _wait(
        self,
        supervisor: Supervisor,
        programs: Sequence[Program],
        log_sizes: Mapping[str, int],
        to_record: set[str],
        deadline: float,
    ) -> dict[str, float]:
        """Wait for the programs, record those that came up, and return the seconds that each took."""
        if not self.wait:
            return {}
        digests = {program.name: program_digest(self.home, program) for program in programs}
        awaited = [Awaited(program.name, True, self.wish.health.get(program.name)) for program in programs]
        outcomes = wait_for_all(self.home.socket, awaited, deadline)
        states = supervisor.states()
        for outcome in outcomes:
            if not outcome.problem and outcome.name in to_record:
                self._record(outcome.name, digests[outcome.name], states[outcome.name].pid)
        logs = {program.name: program.log_file for program in programs}
        self._require_health(outcomes, {name: (log, log_sizes.get(name, 0)) for name, log in logs.items()}, to_record)
        return {outcome.name: outcome.waited_s for outcome in outcomes}

    def _wait_for_others(self, deadline: float) -> dict[str, float]:
        """Wait for services that live in another service's process: they have a health check, but no program."""
        programs = {program.name for program in self.wish.programs}
        names = [
            name for name in self.wish.health if name not in programs and (not self.wish.only or name in self.wish.only)
        ]
        awaited = [Awaited(name, False, self.wish.health[name]) for name in names] if self.wait else []
        outcomes = wait_for_all(self.home.socket, awaited, deadline)
        self._require_health(outcomes, {}, set())
        return {outcome.name: outcome.waited_s for outcome in outcomes}

    def _require_health(
        self, outcomes: Iterable[Outcome], logs: Mapping[str, tuple[Path, int]], to_start: set[str]
    ) -> None:
        ill = [outcome for outcome in outcomes if outcome.problem]
        if ill:
            held_back = [
                program.name for program in self._in_order() if program.name in to_start and program.name not in logs
            ]
            message = failure(
                ill, lambda name: log_tail(logs[name][0], self.known, logs[name][1]) if name in logs else "", held_back
            )
            raise HostError(mask(message, self.known))

    def _record(self, name: str, digest: str, pid: int) -> None:
        process = read_process(pid)
        record: dict[str, Any] = {"digest": digest}
        if process:
            record |= {"pid": pid, "start_ticks": process.start_ticks, "command": list(process.command)}
        Tree(self.home.path).write(self.home.applied(name), json.dumps(record).encode(), FILE_MODE)

    def _states(self, supervisor: Supervisor, waited: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        states = supervisor.states()
        found: dict[str, dict[str, Any]] = {
            name: {"state": state.state, "pid": state.pid, "uptime_s": state.uptime_s, "waited_s": 0.0}
            for name, state in sorted(states.items())
        }
        for name, seconds in waited.items():
            found.setdefault(name, {"state": "ANSWERS", "pid": 0, "uptime_s": 0})["waited_s"] = round(seconds, 2)
        return found

    def _copy(self, source: Path, destination: Path) -> None:
        if not source.is_file():
            raise HostError(f"{source}: is missing; write the configuration first")
        Tree(self.home.path).write(destination, source.read_bytes(), FILE_MODE)

    def _discard(self, path: Path) -> None:
        Tree(self.home.path).remove(path)

    def _remove_traces(self) -> None:
        tree = Tree(self.home.path)
        for path in tree.files_below(self.home.given):
            tree.remove(path)
        traces = [*self.home.run.glob("*.applied"), self.home.socket, self.home.run / "supervisord.pid"]
        for path in traces:
            self._discard(path)
        for folder in (self.home.given / "programs", self.home.given):
            with contextlib.suppress(OSError):
                folder.rmdir()


def initialise(
    home: Home, step: Initialise, environment: Mapping[str, str], known: Mapping[str, Iterable[str]], timeout_s: float
) -> None:
    """Make a service's data once. What a run that was cut off has left behind, told by its mark, is removed first.

    Raises `HostError` when the command fails, or when data is there that no run of ours has begun.
    """
    tree, mark, folder = Tree(home.path), home.initialising(step.service), step.creates.parent
    content = list(folder.iterdir()) if folder.is_dir() else []
    if content and not mark.exists():
        raise HostError(
            f"{folder}: holds files, but {step.creates.name} is missing, so the data of {step.service} is not whole; "
            "restore it from a backup, or move the folder away to begin with nothing"
        )
    for path in content:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    tree.write(mark, b"", FILE_MODE)
    try:
        done = subprocess.run(
            step.command,
            env=dict(environment),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
            umask=0o077,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{step.service}: its first-time setup did not end within {timeout_s:g} s") from None
    except OSError as error:
        raise HostError(
            f"{step.service}: its first-time setup cannot run: {step.command[0]}: {error.strerror}"
        ) from None
    if done.returncode or not step.creates.exists():
        said = "\n".join(mask(done.stdout.decode(errors="replace"), known).splitlines()[-20:])
        raise HostError(f"{step.service}: its first-time setup ended with status {done.returncode}:\n{said}")
    tree.remove(mark)


def _are_down(supervisor: Supervisor, names: Iterable[str]) -> bool:
    states = supervisor.states()
    return all(name not in states or states[name].state in DOWN for name in names)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _shown(orphans: Iterable[Orphan]) -> str:
    return ", ".join(f"{orphan.process.pid} ({orphan.program or orphan.process.command[0]})" for orphan in orphans)
