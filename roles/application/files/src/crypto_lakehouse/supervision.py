# SPDX-License-Identifier: GPL-3.0-or-later
"""Extension of supervisord: it ends processes that a killed predecessor left running, and rotates the logs.

Programs write to their logs themselves (`lakehouse-launch --log-file`), so that they outlive supervisord. It loads this
module as the factory of an RPC interface, before it starts a program. Only the standard library is imported here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROC: Final = Path("/proc")
END_LIMIT_S: Final = 10.0
POLL_S: Final = 0.1
OWN_LOG: Final = "supervisord.log"
"""supervisord rotates its own log."""


@dataclass(frozen=True)
class Survivor:
    """A process of a program whose supervisord is gone. `start_ticks` detects that its process id was reused."""

    pid: int
    start_ticks: str
    program: str


class Interface:
    """An RPC interface without methods."""


def make(supervisord: Any, log_folder: str, max_bytes: str, backups: str) -> Interface:
    """End the survivors of a predecessor, subscribe the log rotation, and return the interface."""
    options = supervisord.options
    (url,) = {str(server["file"]) for server in options.server_configs if "file" in server}
    signals = {name: group.config.process_configs[0].stopsignal for name, group in supervisord.process_groups.items()}
    ended = end_survivors(f"unix://{url}", signals)
    if ended:
        names = ", ".join(sorted({survivor.program for survivor in ended}))
        message = f"ended processes of an earlier supervisord: {names}"
        options.logger.info(message)

    def rotate(_event: object) -> None:
        rotate_all(Path(log_folder), int(max_bytes), int(backups))

    events: Any = importlib.import_module("supervisor.events")
    events.subscribe(events.Tick5Event, rotate)
    return Interface()


def end_survivors(url: str, signals: Mapping[str, int]) -> list[Survivor]:
    """End every process that a supervisord at `url` started, with its program's signal; return the ended processes.

    Processes that remain after `END_LIMIT_S` are killed. Supervisord's variables in the environment identify a process,
    and its descendants inherit them; this process and its ancestors are left alone.
    """
    found = survivors(url)
    for survivor in found:
        _send(survivor, signals.get(survivor.program, signal.SIGTERM))
    deadline = time.monotonic() + END_LIMIT_S
    while (left := survivors(url)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    while left:
        for survivor in left:
            _send(survivor, signal.SIGKILL)
        time.sleep(POLL_S)
        left = survivors(url)
    return found


def survivors(url: str, proc: Path = PROC) -> list[Survivor]:
    """Return the processes that a supervisord at `url` started, directly or not."""
    own = _ancestors(proc)
    numbers = [int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit()]
    found = (_survivor(proc, number, url) for number in numbers if number not in own)
    return [survivor for survivor in found if survivor]


def _survivor(proc: Path, pid: int, url: str) -> Survivor | None:
    try:
        if (proc / str(pid)).stat().st_uid != os.geteuid():
            return None
        entries = (proc / str(pid) / "environ").read_bytes().split(b"\0")
        words = _stat(proc, pid)
    except OSError:
        return None
    given = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
    if given.get(b"SUPERVISOR_SERVER_URL") != url.encode() or words[0] in ("Z", "X"):
        return None
    return Survivor(pid, words[19], given.get(b"SUPERVISOR_GROUP_NAME", b"").decode(errors="replace"))


def _stat(proc: Path, pid: int) -> list[str]:
    """Return the fields of proc(5) behind the name of the command: state, parent, ..., start time at position 19."""
    return (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _ancestors(proc: Path) -> set[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(_stat(proc, pid)[1])
        except OSError:
            break
    return found


def _send(survivor: Survivor, number: int) -> None:
    with contextlib.suppress(OSError):
        # Another process may have reused the id since.
        if _stat(PROC, survivor.pid)[19] == survivor.start_ticks:
            os.kill(survivor.pid, number)


def rotate_all(folder: Path, max_bytes: int, backups: int) -> None:
    """Rotate each log of the folder that has grown beyond `max_bytes`; a log that cannot be rotated is left."""
    for log in sorted(folder.glob("*.log")):
        if log.name == OWN_LOG:
            continue
        with contextlib.suppress(OSError):
            if log.stat().st_size > max_bytes:
                rotate_one(log, backups)


def rotate_one(log: Path, backups: int) -> None:
    """Copy the log to its first backup and truncate it; its writers append, so they continue at the new end."""
    for number in range(backups, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{log}.{number - 1}").replace(f"{log}.{number}")
    with open(log, "rb") as source, open(f"{log}.1", "wb", opener=_private) as copy:  # noqa: PTH123 - with an opener
        shutil.copyfileobj(source, copy)
    os.truncate(log, 0)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
