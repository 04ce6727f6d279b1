# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find running processes, and those of the platform, in /proc."""

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
    """A running process. `start_ticks` (since boot) distinguishes it from a later one with the same id."""

    pid: int
    parent: int
    group: int
    uid: int
    start_ticks: int
    command: tuple[str, ...] = ()


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """Return the process with this id; None if it has ended or is a zombie."""
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
    """Return all running processes by id."""
    numbers = [int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit()]
    found = (read_process(number, proc) for number in numbers)
    return {process.pid: process for process in found if process}


def environment_of(pid: int, proc: Path = PROC) -> dict[str, str]:
    """Return the initial environment of a process, empty if it is not readable."""
    with contextlib.suppress(OSError):
        entries = (proc / str(pid) / "environ").read_text(errors="replace").split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)
    return {}


def with_descendants(roots: Iterable[int], processes: Mapping[int, Process]) -> set[int]:
    """Return the ids of running roots and of all their descendants."""
    found = {pid for pid in roots if pid in processes}
    while True:
        children = {process.pid for process in processes.values() if process.parent in found} - found
        if not children:
            return found
        found |= children


def with_ancestors(pid: int, processes: Mapping[int, Process]) -> set[int]:
    """Return the id and the ids of its ancestors."""
    found: set[int] = set()
    while pid in processes and pid not in found:
        found.add(pid)
        pid = processes[pid].parent
    return found


def supervisors(config: Path, processes: Mapping[int, Process]) -> list[int]:
    """Return the ids of supervisord processes with this configuration file, usually one."""
    return sorted(
        process.pid
        for process in processes.values()
        if str(config) in process.command and any(Path(word).name == "supervisord" for word in process.command[:3])
    )


def supervised(socket: Path, processes: Mapping[int, Process], proc: Path = PROC) -> dict[int, str]:
    """Return the program by id of all descendants of a supervisord with this socket, running or ended.

    supervisord sets its address and the program's name in the environment of its processes, which remains after it has
    ended. This process and its ancestors are excluded: a supervised program may run the deployment itself.
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
    """Send a signal, wait until all processes have ended, and kill remaining process groups after `wait_s`."""
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
    """Return whether the condition becomes true within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def is_same(process: Process, now: Process | None) -> bool:
    """Return whether the current process with this id is the same, and not a later one with a reused id."""
    return now is not None and now.start_ticks == process.start_ticks


def _members(groups: Collection[int]) -> list[Process]:
    return [process for process in read_processes().values() if process.group in groups] if groups else []


def _alive(processes: Iterable[Process]) -> list[Process]:
    return [process for process in processes if is_same(process, read_process(process.pid))]


def _send(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in _alive(processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
