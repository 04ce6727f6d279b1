# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of K3s as systemd reports it, and the binary that it runs."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..host.digests import sha256
from ..shared.commands import run_command
from .files import below

# Units of a server and of an agent, as install.sh of K3s names them.
UNITS: Mapping[str, str] = {"server": "k3s.service", "agent": "k3s-agent.service"}
UNIT_FOLDER = "etc/systemd/system"
COMMAND_LIMIT_S = 30.0
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "MainPID", "NRestarts", "Result", "ExecMainStartTimestamp")
_MONOTONIC = "ExecMainStartTimestampMonotonic"
_VERSION = re.compile(r"^k3s version (v\S+)", re.MULTILINE | re.ASCII)

Role = Literal["none", "server", "agent"]
State = Literal["absent", "inactive", "activating", "active", "failed"]


@dataclass(frozen=True)
class Service:
    """State of a unit. started_s, started_at: start of its main process in seconds since the epoch and as UTC.

    restarts: number of times that systemd started it again by itself. result: cause of its last end, such as
    `exit-code`. Without a process all others are zero or empty.
    """

    state: State = "absent"
    pid: int = 0
    started_s: float = 0.0
    started_at: str = ""
    restarts: int = 0
    result: str = ""


def installed_role(root: Path) -> Role:
    """Return the role whose unit is installed."""
    for role in ("server", "agent"):
        if (root / UNIT_FOLDER / UNITS[role]).is_file():
            return role
    return "none"


def read_service(unit: str) -> Service:
    """Return the state of a unit; that of an absent one where systemd does not answer."""
    with contextlib.suppress(OSError, TimeoutError):
        command = ["systemctl", "show", f"--property={','.join((*_PROPERTIES, _MONOTONIC))}", unit]
        done = run_command(command, COMMAND_LIMIT_S, {**os.environ, "TZ": "UTC", "LC_ALL": "C"})
        if done.status == 0:
            return parse_service(done.output, time.time() - time.clock_gettime(time.CLOCK_MONOTONIC))
    return Service()


def parse_service(text: str, boot_s: float) -> Service:
    """Return the state that `systemctl show` prints; `boot_s` is the time at which the monotonic clock was zero."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if found.get("LoadState") == "not-found":
        return Service()
    state = found.get("ActiveState", "")
    known: dict[str, State] = {"reloading": "active"}
    known |= {name: name for name in ("active", "activating", "failed")}
    pid = int(found.get("MainPID") or 0)
    started_s = boot_s + int(found.get(_MONOTONIC) or 0) / 1e6 if pid else 0.0
    started_at = _iso(found.get("ExecMainStartTimestamp", "")) if pid else ""
    restarts, result = int(found.get("NRestarts") or 0), found.get("Result", "")
    return Service(known.get(state, "inactive"), pid, started_s, started_at, restarts, result)


def _iso(text: str) -> str:
    """Return a time that systemd prints in UTC, such as `Mon 2026-11-30 12:00:00 UTC`, as `2026-11-30T12:00:00Z`."""
    words = text.split()
    return f"{words[1]}T{words[2]}Z" if len(words) == 4 else ""


def read_binary(root: Path, path: str) -> tuple[str, str]:
    """Return version and SHA-256 of the binary at a path of the host; both empty without one."""
    program = below(root, path)
    if not program.is_file():
        return "", ""
    return _version(program), sha256(program)


def _version(program: Path) -> str:
    if not os.access(program, os.X_OK):
        return ""
    with contextlib.suppress(OSError, TimeoutError):
        found = _VERSION.search(run_command([str(program), "--version"], COMMAND_LIMIT_S).output)
        return found[1] if found else ""
    return ""
