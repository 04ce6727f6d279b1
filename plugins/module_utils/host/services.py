# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan starts, restarts and removals of the platform's programs under supervisord.

`HOME/etc/supervisor` is the desired configuration, `HOME/run/supervisor` the running one. A program's file is copied
there when the program starts, and a program whose copy was edited is restarted. Programs therefore start in the order
of their dependencies even after a start of supervisord, and supervisord starts the last running programs at boot.
`HOME/run/NAME.applied` records the content of its files with which a program became healthy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..shared.probes import Probe
from .errors import HostError
from .processes import Process, read_processes, supervised, supervisors, with_descendants
from .supervisor import DOWN, ProgramState, Supervisor, start_script

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Home:
    """Paths of a home."""

    path: Path
    bin: Path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def wanted(self) -> Path:
        return self.path / "etc/supervisor"

    @property
    def given(self) -> Path:
        return self.run / "supervisor"

    @property
    def config(self) -> Path:
        return self.given / "supervisord.conf"

    @property
    def start_script(self) -> Path:
        """Script that starts supervisord in the foreground with its environment; systemd and cron run it."""
        return self.given / "start"

    @property
    def boot_flag(self) -> Path:
        """File that exists while systemd must run the script."""
        return self.given / "wanted"

    @property
    def installation(self) -> Path:
        """File that each installation or repair of the software writes last."""
        return self.bin.parent / ".complete"

    @property
    def applied_supervisor(self) -> Path:
        return self.given / "applied"

    def applied(self, name: str) -> Path:
        return self.run / f"{name}.applied"

    def initialising(self, name: str) -> Path:
        return self.run / f"{name}.initialising"

    def wanted_program(self, name: str) -> Path:
        return self.wanted / "programs" / f"{name}.conf"

    def given_program(self, name: str) -> Path:
        return self.given / "programs" / f"{name}.conf"


def check_name(name: str) -> None:
    """Raise `HostError` for a program name that is invalid in file names."""
    if not _NAME.fullmatch(name):
        raise HostError(
            f"cannot use the program {name!r}: its name becomes the name of files; use letters, digits, inner dots, "
            "`_` and `-`, at most 100"
        )


@dataclass(frozen=True)
class Program:
    """A program as described by the host renderer. `start_order` is 0 for a program without dependencies."""

    name: str
    directory: Path
    log_file: Path
    paths: tuple[Path, ...] = ()
    start_order: int = 0
    stop_signal: str = "TERM"
    stop_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def signal(self) -> signal.Signals:
        """Return the stop signal. Raise `HostError` for an unknown one."""
        try:
            return signal.Signals[f"SIG{self.stop_signal.removeprefix('SIG')}"]
        except KeyError:
            raise HostError(
                f"{self.name}: stop_signal '{self.stop_signal}' is not a signal; use TERM, INT or QUIT"
            ) from None


@dataclass(frozen=True)
class Health:
    """The health check of a service, and its maximum time after the start."""

    probe: Probe
    patience_s: float

    @classmethod
    def from_mapping(cls, check: Mapping[str, Any]) -> Health:
        """Return a rendered health check: `patience_s` is the start period plus all retries."""
        start_s, interval_s = float(check.get("start_period_s") or 0), float(check.get("interval_s") or 10)
        return cls(Probe.from_mapping(check), start_s + interval_s * int(check.get("retries") or 3))


@dataclass(frozen=True)
class Initialise:
    """A command that creates the path `creates` once, before the service's first start."""

    service: str
    command: tuple[str, ...]
    creates: Path


@dataclass(frozen=True)
class Wish:
    """The request of a run. `only` (names) excludes other programs from changes; empty means all programs.

    boot_unit: name of the systemd unit that runs supervisord, empty if the run starts it itself.
    """

    programs: Sequence[Program] = ()
    health: Mapping[str, Health] = field(default_factory=dict)
    initialise: Sequence[Initialise] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    only: frozenset[str] = frozenset()
    restart: frozenset[str] = frozenset()
    changed_paths: frozenset[Path] = frozenset()
    boot_unit: str = ""

    def __post_init__(self) -> None:
        for name in (*self.health, *(each.service for each in self.initialise)):
            check_name(name)
        names = {program.name for program in self.programs}
        for word, known in (("only", names | set(self.health)), ("restart", names)):
            unknown = sorted(getattr(self, word) - known)
            if unknown:
                raise HostError(f"{word}: no such service: {', '.join(unknown)}; there are {', '.join(sorted(known))}")

    def chosen(self) -> list[Program]:
        """Return the programs that this run manages, in start order."""
        chosen = [program for program in self.programs if not self.only or program.name in self.only]
        return sorted(chosen, key=lambda program: (program.start_order, program.name))


@dataclass(frozen=True)
class Orphan:
    """A process of a program whose supervisord has ended."""

    program: str
    process: Process


@dataclass(frozen=True)
class World:
    """The running processes: supervisord with our configuration, whether one answers, its programs, and orphans."""

    supervisor_pids: tuple[int, ...] = ()
    answers: bool = False
    states: Mapping[str, ProgramState] = field(default_factory=dict)
    orphans: tuple[Orphan, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Planned changes by program name, each list in start order.

    edited: files of supervisord or its start script that differ from those of the last run. They are written again.
    """

    initialise: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    renew_supervisor: bool = False
    orphans: tuple[Orphan, ...] = ()
    edited: tuple[Path, ...] = ()

    @property
    def changes(self) -> bool:
        """Return whether the plan has changes."""
        names = (*self.initialise, *self.start, *self.restart, *self.remove, *self.stop)
        return bool(names or self.renew_supervisor or self.orphans)


def observe(home: Home, programs: Iterable[Program]) -> World:
    """Return the running processes of the home without changing them."""
    processes = read_processes()
    mine = {pid: process for pid, process in processes.items() if process.uid == os.geteuid()}
    pids = supervisors(home.config, mine)
    supervisor = Supervisor(home.socket)
    answers = bool(pids) and supervisor.pid() in pids
    states = supervisor.states() if answers else {}
    owned = with_descendants(pids if answers else [], mine)
    found = {**_recorded(home, programs, mine), **supervised(home.socket, mine)}
    strays = {pid: name for pid, name in found.items() if pid not in owned and pid not in pids}
    # An orphan stops its own children, in the order of its program.
    tops = [pid for pid in sorted(strays) if mine[pid].parent not in strays]
    return World(tuple(pids), answers, states, tuple(Orphan(strays[pid], mine[pid]) for pid in tops))


def _recorded(home: Home, programs: Iterable[Program], processes: Mapping[int, Process]) -> dict[int, str]:
    """Return running processes that an earlier run recorded, by id, start time and command line."""
    found = {}
    for program in programs:
        record = read_record(home.applied(program.name))
        process = processes.get(record.get("pid", -1))
        recorded = (record.get("start_ticks"), tuple(record.get("command", ())))
        if process and (process.start_ticks, process.command) == recorded:
            found[process.pid] = program.name
    return found


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of an earlier run; it is empty if missing or unreadable, and the program is then restarted."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def program_digest(home: Home, program: Program) -> str:
    """Return the digest of the program's description and of the files that it reads at its start."""
    return _digest([home.wanted_program(program.name), *sorted(program.paths)])


def _digest(paths: Iterable[Path], *texts: str) -> str:
    """Return the digest of files, with their modification times, and texts.

    The time is required: supervisord may have restarted a program with a manual edit that was reverted afterwards.
    """
    digest = hashlib.sha256(json.dumps(texts).encode())
    for path in paths:
        digest.update(f"\0{path}\0".encode())
        if path.is_file():
            digest.update(f"{path.stat().st_mtime_ns}\0".encode() + _content_digest(path))
    return digest.hexdigest()


def _content_digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except PermissionError:
        # The comparison of files reports it. A program that cannot read the file did not become healthy with it.
        return b""


def supervisor_environment(home: Home, given: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of supervisord and its programs, without variables of the deploying shell."""
    return {
        "PATH": f"{home.bin}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home.path),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        **given,
    }


def supervisor_command(home: Home) -> list[str]:
    """Return the command that starts supervisord in the foreground."""
    return [str(home.bin / "supervisord"), "--configuration", str(home.config), "--nodaemon"]


def supervisor_script(home: Home, wish: Wish) -> str:
    """Return the script that starts supervisord with its environment."""
    return start_script(supervisor_command(home), supervisor_environment(home, wish.environment))


def supervisor_digest(home: Home, wish: Wish) -> str:
    """Return the digest of supervisord's own configuration and start, and of the installation of all programs."""
    environment = sorted(supervisor_environment(home, wish.environment).items())
    program = str((home.bin / "supervisord").resolve())
    unit = [wish.boot_unit] if wish.boot_unit else []
    return _digest([home.wanted / "supervisord.conf", home.installation], json.dumps(environment), program, *unit)


def plan_start(home: Home, wish: Wish, world: World) -> Plan:
    """Return the plan to run all chosen programs with the current content of their files."""
    config = home.wanted / "supervisord.conf"
    recorded = read_record(home.applied_supervisor).get("digest")
    as_given = recorded == supervisor_digest(home, wish) and not {config, home.installation} & wish.changed_paths
    as_given = as_given and _holds(home.config, config) and _has_script(home, wish)
    renew = bool(world.supervisor_pids) and not (world.answers and as_given)
    start, restart = [], []
    for program in wish.chosen():
        state = world.states.get(program.name)
        runs = state is not None and state.state not in {*DOWN, "STOPPING"}
        if state and runs and (renew or _has_changed(home, program, wish) or state.processes > 1):
            restart.append(program.name)
        elif not runs:
            start.append(program.name)
    described = {program.name for program in wish.programs}
    gone = () if wish.only else tuple(sorted({*world.states, *given_names(home)} - described))
    beginning = {*start, *restart}
    due = (step.service for step in wish.initialise if step.service in beginning and is_uninitialised(home, step))
    edited = edited_files(home, wish, world)
    return Plan(tuple(due), tuple(start), tuple(restart), gone, (), renew, world.orphans, edited)


def edited_files(home: Home, wish: Wish, world: World) -> tuple[Path, ...]:
    """Return the files in `HOME/run/supervisor` that differ from the last run, of all programs.

    That run recorded the sources of the files: if a source changed since, a difference is not an edit.
    """
    found: list[Path] = []
    if read_record(home.applied_supervisor).get("digest") == supervisor_digest(home, wish):
        found += [] if _holds(home.config, home.wanted / "supervisord.conf") else [home.config]
        found += [] if _has_script(home, wish) else [home.start_script]
    for program in sorted(wish.programs, key=lambda program: program.name):
        given, name = home.given_program(program.name), program.name
        # A program that supervisord does not know yet must still be added.
        is_given = os.path.lexists(given) or name in world.states
        if is_given and _is_recorded(home, program) and not _holds(given, home.wanted_program(name)):
            found.append(given)
    return tuple(found)


def _is_recorded(home: Home, program: Program) -> bool:
    return bool(read_record(home.applied(program.name)).get("digest") == program_digest(home, program))


def given_names(home: Home) -> set[str]:
    """Return the names, without suffix, of supervisord's program files."""
    return {path.stem for path in (home.given / "programs").glob("*.conf")}


def _holds(copy: Path, original: Path) -> bool:
    """Return whether the copy for a running process has the original's content; a link is not a copy."""
    try:
        return not copy.is_symlink() and copy.read_bytes() == original.read_bytes()
    except OSError:
        return False


def _has_script(home: Home, wish: Wish) -> bool:
    try:
        return home.start_script.read_text(encoding="utf-8") == supervisor_script(home, wish)
    except (OSError, UnicodeDecodeError):
        return False


def is_uninitialised(home: Home, step: Initialise) -> bool:
    """Return whether the step never ran, or was interrupted, in which case its record still exists."""
    return home.initialising(step.service).exists() or not step.creates.exists()


def _has_changed(home: Home, program: Program, wish: Wish) -> bool:
    wanted = home.wanted_program(program.name)
    as_given = _is_recorded(home, program) and _holds(home.given_program(program.name), wanted)
    return not as_given or program.name in wish.restart or bool({wanted, *program.paths} & wish.changed_paths)


def plan_stop(wish: Wish, world: World, absent: bool) -> Plan:
    """Return the plan to stop the chosen programs, or with `absent` all programs and supervisord."""
    chosen = {program.name for program in wish.chosen()}
    running = [name for name, state in world.states.items() if state.state not in DOWN]
    order = {program.name: index for index, program in enumerate(wish.chosen())}
    stop = sorted((name for name in running if absent or name in chosen), key=lambda name: (order.get(name, -1), name))
    return Plan(stop=tuple(stop), renew_supervisor=absent and bool(world.supervisor_pids), orphans=world.orphans)
