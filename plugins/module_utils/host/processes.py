# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes there are, and which of them are the platform's own, as /proc tells it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.1
KILL_WAIT_S = 5.0
# Positions in /proc/PID/stat behind the command name, proc(5).
_STATE, _PARENT, _GROUP, _START = 0, 1, 2, 19


@dataclass(frozen=True)
class Process:
    """A process that runs. `start_ticks` (since boot) tells it from a later one with the same number."""

    pid: int
    parent: int
    group: int
    uid: int
    start_ticks: int
    command: tuple[str, ...] = ()


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """The process of this number; None when it is gone or only waits to be collected."""
    folder = proc / str(pid)
    try:
        stat = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        uid = folder.stat().st_uid
        command = tuple((folder / "cmdline").read_text(errors="replace").rstrip("\0").split("\0"))
    except OSError:
        return None
    if not stat or stat[_STATE] in "ZX":
        return None
    return Process(pid, int(stat[_PARENT]), int(stat[_GROUP]), uid, int(stat[_START]), command)


def starved_s(pid: int, proc: Path = PROC) -> float:
    """Return the seconds that the main thread of a process was ready to run and waited for a processor.

    0 where the kernel does not tell (see `sched-stats` in its documentation), or the process is gone.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((proc / str(pid) / "schedstat").read_text("ascii").split()[1]) / 1e9
    return 0.0


def read_processes(proc: Path = PROC) -> dict[int, Process]:
    """Every process that runs, by number."""
    numbers = [int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit()]
    found = (read_process(number, proc) for number in numbers)
    return {process.pid: process for process in found if process}


def environment_of(pid: int, proc: Path = PROC) -> dict[str, str]:
    """The environment that a process was started with; empty when it may not be read."""
    with contextlib.suppress(OSError):
        entries = (proc / str(pid) / "environ").read_text(errors="replace").split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)
    return {}


def with_descendants(roots: Iterable[int], processes: Mapping[int, Process]) -> set[int]:
    """The numbers given, as far as they run, and of everything that they started."""
    found = {pid for pid in roots if pid in processes}
    while True:
        children = {process.pid for process in processes.values() if process.parent in found} - found
        if not children:
            return found
        found |= children


def with_ancestors(pid: int, processes: Mapping[int, Process]) -> set[int]:
    """The number given and those of everything above it."""
    found: set[int] = set()
    while pid in processes and pid not in found:
        found.add(pid)
        pid = processes[pid].parent
    return found


def supervisors(config: Path, processes: Mapping[int, Process]) -> list[int]:
    """The supervisord processes that run with this configuration file: one, unless somebody started another."""
    return sorted(
        process.pid
        for process in processes.values()
        if str(config) in process.command and any(Path(word).name == "supervisord" for word in process.command[:3])
    )


def supervised(socket: Path, processes: Mapping[int, Process], proc: Path = PROC) -> dict[int, str]:
    """Processes that a supervisord with this socket started, directly or not, dead or alive: number -> program.

    supervisord puts its address and the program's name into the environment of what it starts, which survives its own
    death. This process and those above it are left out: a deployment may itself be run by a supervised program.
    """
    url = f"unix://{socket}"
    own = with_ancestors(os.getpid(), processes)
    found = {}
    for pid in processes.keys() - own:
        environment = environment_of(pid, proc)
        if environment.get("SUPERVISOR_SERVER_URL") == url:
            found[pid] = environment.get("SUPERVISOR_GROUP_NAME", "")
    return found


def stop_processes(doomed: Collection[Process], number: signal.Signals, wait_s: float) -> None:
    """Send a signal, wait until all are gone, and kill what is left after `wait_s` with its process group."""
    _send(doomed, number)
    if wait_until(lambda: not _alive(doomed), wait_s):
        return
    left = _alive(doomed)
    groups = {process.group for process in left if process.group == process.pid}
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    _send(left, signal.SIGKILL)
    wait_until(lambda: not _alive(left) and not _members(groups), KILL_WAIT_S)


def wait_until(condition: Callable[[], bool], wait_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def is_same(process: Process, now: Process | None) -> bool:
    """Whether what runs under the number now is still that process, and not one that got its number."""
    return now is not None and now.start_ticks == process.start_ticks


def _members(groups: Collection[int]) -> list[Process]:
    return [process for process in read_processes().values() if process.group in groups] if groups else []


def _alive(processes: Iterable[Process]) -> list[Process]:
    return [process for process in processes if is_same(process, read_process(process.pid))]


def _send(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in _alive(processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
