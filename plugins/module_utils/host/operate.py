# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply a plan for the platform's programs: stop, initialise, start in order, and record healthy starts."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ..shared.commands import run_command
from .errors import HostError
from .markers import redacted
from .processes import read_process, stop_processes, wait_until
from .services import (
    Home,
    Initialise,
    Orphan,
    Plan,
    Wish,
    World,
    observe,
    plan_start,
    plan_stop,
    supervisor_command,
    supervisor_digest,
    supervisor_environment,
    supervisor_script,
)
from .starting import FILE_MODE, Start
from .supervisor import DOWN, Supervisor, await_supervisord, is_watched, start_supervisord
from .tree import Tree, locked
from .waiting import LOG_TAIL_LINES, Awaited, wait_for_all

FOLDER_MODE = 0o700
SCRIPT_MODE = 0o700
# Time for supervisord to kill a program after its stop timeout.
STOP_MARGIN_S = 10.0
DEFAULT_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Report:
    """The changes, which check mode only plans, and the current state of the services.

    settled: all described programs, chosen or not, ran as described before the run, and all services are healthy.
    """

    plan: Plan
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settled: bool = False

    @property
    def changed(self) -> bool:
        return self.plan.changes


@dataclass(frozen=True)
class Operator:
    """Applies plans to one home. `known` are the secrets' values, which messages must not contain.

    wait_timeout_s: timeout in seconds for the health of services, and before that for another run that changes them.
    The module of that run may continue after its playbook was killed, and waits as long itself.
    """

    home: Home
    wish: Wish
    wait_timeout_s: float = 180.0
    wait: bool = True
    known: Mapping[str, str] = field(default_factory=dict, repr=False)

    def started(self, check_mode: bool) -> Report:
        """Start the chosen programs and wait for their health. Raise `HostError` with unhealthy ones and causes."""
        if check_mode:
            world = self._observe()
            described = self._run_as_described(world)
            return Report(plan_start(self.home, self.wish, world), settled=described and self._are_well())
        self._make_folders()
        with locked(self.home.run, self.wait_timeout_s):
            world = self._observe()
            plan = plan_start(self.home, self.wish, world)
            # Before the start, which records the digests of the started programs.
            described = self._run_as_described(world)
            if plan.changes:
                self._clear(plan, world)
                self._initialise(plan.initialise)
            elif not world.answers:
                return Report(plan)
            supervisor = self._supervisor()
            deadline = time.monotonic() + self.wait_timeout_s
            start = Start(self.home, self.wish, plan, supervisor, deadline, self.wait, self.known)
            waited_s = start.run()
            return Report(plan, self._states(supervisor, waited_s), described and self._are_well())

    def stopped(self, check_mode: bool, absent: bool = False) -> Report:
        """Stop the chosen programs; with `absent`, stop all programs and supervisord, and remove their run files."""
        if check_mode or not self.home.run.is_dir():
            return Report(plan_stop(self.wish, self._observe(), absent))
        with locked(self.home.run, self.wait_timeout_s):
            world = self._observe()
            plan = plan_stop(self.wish, world, absent)
            self._clear(plan, world)
            if absent:
                self._remove_traces()
            world = self._observe()
            if absent and (world.supervisor_pids or world.orphans):
                raise HostError(
                    f"{self.home.path}: processes still running after the stop timeout: {_shown(world.orphans)}"
                )
            return Report(plan, self._states(Supervisor(self.home.socket), {}) if world.answers else {})

    def _run_as_described(self, world: World) -> bool:
        """Return whether all programs, chosen or not, run as described."""
        return world.answers and not plan_start(self.home, replace(self.wish, only=frozenset()), world).changes

    def _are_well(self) -> bool:
        """Return whether all services are healthy, after one check of each."""
        programs = {program.name for program in self.wish.programs}
        names = sorted(programs | self.wish.health.keys())
        awaited = [Awaited(name, name in programs, self.wish.health.get(name)) for name in names]
        return not any(outcome.problem for outcome in wait_for_all(self.home.socket, awaited, time.monotonic()))

    def _observe(self) -> World:
        return observe(self.home, self.wish.programs)

    def _make_folders(self) -> None:
        tree = Tree(self.home.path)
        for folder in (self.home.run, self.home.given, self.home.given / "programs"):
            if tree.entry(folder).kind == "missing":
                tree.make_folder(folder, FOLDER_MODE)

    def _clear(self, plan: Plan, world: World) -> None:
        """Stop programs, supervisord and orphans as planned, in reverse start order."""
        supervisor = Supervisor(self.home.socket)
        if world.answers:
            ending = [name for name in plan.start if name in world.states and world.states[name].state == "STOPPING"]
            # A file that supervisord has not read yet does not have a program.
            known = [name for name in plan.remove if name in world.states]
            self._stop(supervisor, [*ending, *plan.restart, *known, *plan.stop])
            for name in known:
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
        for _order, step in groupby(last_first, key=lambda name: order.get(name, 0)):
            together = list(step)
            for name in together:
                supervisor.stop(name)
            wait_s = max(self._stop_timeout_s(name) for name in together) + STOP_MARGIN_S
            if not wait_until(partial(_are_down, supervisor, together), wait_s):
                left = [name for name in together if not _are_down(supervisor, [name])]
                raise HostError(f"{', '.join(left)}: still running {wait_s:.0f} s after the stop request")

    def _stop_timeout_s(self, name: str) -> float:
        known = {program.name: program.stop_timeout_s for program in self.wish.programs}
        return known.get(name, DEFAULT_STOP_TIMEOUT_S)

    def _end_supervisor(self, pids: Sequence[int], answers: bool) -> None:
        """Stop supervisord, which stops its programs. If it does not answer, send it a signal."""
        processes = [process for process in map(read_process, pids) if process]
        # systemd would start it again immediately.
        self._discard(self.home.boot_flag)
        wait_s = max([DEFAULT_STOP_TIMEOUT_S, *(program.stop_timeout_s for program in self.wish.programs)])
        if answers:
            Supervisor(self.home.socket).shutdown()
            wait_until(lambda: not any(map(read_process, pids)), wait_s + STOP_MARGIN_S)
        stop_processes(processes, signal.SIGTERM, wait_s + STOP_MARGIN_S)

    def _stop_orphans(self) -> None:
        """Stop processes whose supervisord has ended, with the signals of their programs, then their orphans."""
        order = {program.name: program.start_order for program in self.wish.programs}
        signals = {program.name: program.signal for program in self.wish.programs}
        orphans = self._observe().orphans
        while orphans:
            names = {orphan.program for orphan in orphans}
            for name in sorted(names, key=lambda name: order.get(name, 0), reverse=True):
                doomed = [orphan.process for orphan in orphans if orphan.program == name]
                stop_processes(doomed, signals.get(name, signal.SIGTERM), self._stop_timeout_s(name))
            before, orphans = orphans, self._observe().orphans
            if {orphan.process for orphan in orphans} & {orphan.process for orphan in before}:
                raise HostError(f"{self.home.path}: processes still running after the stop timeout: {_shown(orphans)}")

    def _initialise(self, services: Sequence[str]) -> None:
        for step in self.wish.initialise:
            if step.service in services:
                initialise(self.home, step, self._environment(), self.known, self.wait_timeout_s)

    def _environment(self) -> dict[str, str]:
        return supervisor_environment(self.home, self.wish.environment)

    def _supervisor(self) -> Supervisor:
        """Return the running supervisord; a new one starts without programs, which are added in order."""
        supervisor = Supervisor(self.home.socket)
        if supervisor.pid() is not None:
            return supervisor
        tree = Tree(self.home.path)
        for path in tree.files_below(self.home.given):
            tree.remove(path)
        wanted = self.home.wanted / "supervisord.conf"
        if not wanted.is_file():
            raise HostError(f"{wanted}: is missing; write the configuration first")
        tree.write(self.home.config, wanted.read_bytes(), FILE_MODE)
        command = [word for word in supervisor_command(self.home) if word != "--nodaemon"]
        # Written first, so that the next run can keep the supervisord of a run that was interrupted during its start.
        record = json.dumps({"digest": supervisor_digest(self.home, self.wish)}).encode()
        tree.write(self.home.applied_supervisor, record, FILE_MODE)
        script = supervisor_script(self.home, self.wish)
        tree.write(self.home.start_script, script.encode(), SCRIPT_MODE)
        if self.wish.boot_unit and is_watched(self.wish.boot_unit):
            tree.write(self.home.boot_flag, b"", FILE_MODE)
            return await_supervisord(self.home.socket, self.wish.boot_unit)
        return start_supervisord(command, self._environment(), self.home.socket)

    def _states(self, supervisor: Supervisor, waited: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        states = supervisor.states()
        found: dict[str, dict[str, Any]] = {
            name: {"state": state.state, "pid": state.pid, "uptime_s": state.uptime_s, "waited_s": 0.0}
            for name, state in sorted(states.items())
        }
        for name, seconds in waited.items():
            found.setdefault(name, {"state": "ANSWERS", "pid": 0, "uptime_s": 0})["waited_s"] = round(seconds, 2)
        return found

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
    home: Home, step: Initialise, environment: Mapping[str, str], known: Mapping[str, str], timeout_s: float
) -> None:
    """Create a service's data once. First remove partial data of an interrupted run, as shown by its record.

    Raise `HostError` when the command fails, or when data exists that was not created by a run of this collection.
    """
    tree, mark, folder = Tree(home.path), home.initialising(step.service), step.creates.parent
    content = list(folder.iterdir()) if folder.is_dir() else []
    if content and not mark.exists():
        raise HostError(
            f"{folder}: contains files, but {step.creates.name} is missing, so the data of {step.service} is "
            "incomplete; restore it from a backup, or move the folder to start without data"
        )
    for path in content:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    tree.write(mark, b"", FILE_MODE)
    try:
        done = run_command(step.command, timeout_s, {**environment, **_as_if_supervised(home, step.service)}, home.path)
    except TimeoutError:
        raise HostError(f"{step.service}: its first-time setup did not end within {timeout_s:g} s") from None
    except OSError as error:
        raise HostError(
            f"{step.service}: its first-time setup cannot run: {step.command[0]}: {error.strerror}"
        ) from None
    if done.status or not step.creates.exists():
        said = "\n".join(redacted(done.output, known).splitlines()[-LOG_TAIL_LINES:])
        raise HostError(f"{step.service}: its first-time setup ended with status {done.status}:\n{said}")
    tree.remove(mark)


def _as_if_supervised(home: Home, service: str) -> dict[str, str]:
    """Return supervisord's variables for its programs, by which the command of a killed run is found and ended."""
    return {"SUPERVISOR_SERVER_URL": f"unix://{home.socket}", "SUPERVISOR_GROUP_NAME": service}


def _are_down(supervisor: Supervisor, names: Iterable[str]) -> bool:
    states = supervisor.states()
    return all(name not in states or states[name].state in DOWN for name in names)


def _shown(orphans: Iterable[Orphan]) -> str:
    return ", ".join(f"{orphan.process.pid} ({orphan.program or orphan.process.command[0]})" for orphan in orphans)
