# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start supervisord, and call it over its unix socket (http://supervisord.org/api.html)."""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..shared.commands import run_command
from .errors import HostError

ANSWER_WAIT_S = 10.0
START_WAIT_S = 20.0
POLL_S = 0.05
DOWN = frozenset({"STOPPED", "EXITED", "FATAL", "UNKNOWN"})
# supervisor.xmlrpc.Faults.BAD_NAME
BAD_NAME = 10


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_WAIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_WAIT_S)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class ProgramState:
    """The state of one program in supervisord: its name of the state, process id, and seconds since the start.

    processes: their number for the program's name; the platform's programs have one.
    """

    name: str
    state: str
    pid: int
    uptime_s: int
    reason: str
    processes: int = 1


class Supervisor:
    """The supervisord that listens on a unix socket. Every call opens its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pid(self) -> int | None:
        """Return its process id; None if it does not answer."""
        try:
            return int(self._ask("getPID"))
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return None

    def states(self) -> dict[str, ProgramState]:
        """Return the states of all programs by name. Raise `HostError` if it does not answer."""
        found: dict[str, ProgramState] = {}
        for info in self._call("getAllProcessInfo"):
            uptime_s = max(0, info["now"] - info["start"]) if info["pid"] else 0
            name = info["group"]
            count = found[name].processes + 1 if name in found else 1
            found[name] = ProgramState(name, info["statename"], info["pid"], uptime_s, info["spawnerr"], count)
        return found

    def load(self, name: str) -> None:
        """Add a program with a new or changed configuration. The program must not run."""
        self._call("reloadConfig")
        try:
            self._ask("removeProcessGroup", name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != BAD_NAME:
                raise HostError(f"supervisord cannot replace the program {name}: {fault.faultString}") from None
        self._call("addProcessGroup", name)

    def start(self, name: str) -> None:
        """Start a program without waiting, unless it already runs."""
        self._call("startProcessGroup", name, False)

    def stop(self, name: str) -> None:
        """Stop a program without waiting."""
        self._call("stopProcessGroup", name, False)

    def forget(self, name: str) -> None:
        """Remove a program that does not run."""
        self._call("removeProcessGroup", name)

    def shutdown(self) -> None:
        """Stop all programs and then supervisord, without waiting."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: str | bool) -> Any:
        try:
            return self._ask(method, *arguments)
        except xmlrpc.client.Fault as fault:
            what = " ".join([method, *(argument for argument in arguments if isinstance(argument, str))])
            raise HostError(f"supervisord refuses {what}: {fault.faultString}") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise HostError(f"supervisord does not answer on {self.path}: {error}") from None

    def _ask(self, method: str, *arguments: str | bool) -> Any:
        connection = _UnixConnection(self.path)
        try:
            body = xmlrpc.client.dumps(arguments, f"supervisor.{method}")
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise http.client.HTTPException(f"HTTP {response.status} {response.reason}")
            return xmlrpc.client.loads(response.read())[0][0]
        finally:
            connection.close()


def start_script(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return a script that executes `command` with these variables, which process lists do not show."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    return "\n".join(["#!/bin/sh", *lines, f"exec {shlex.join(command)}", ""])


def is_watched(unit: str) -> bool:
    """Return whether systemd waits for the file that starts `unit`."""
    try:
        return (
            run_command(["systemctl", "is-active", "--quiet", f"{unit}.path"], ANSWER_WAIT_S, dict(os.environ)).status
            == 0
        )
    except (OSError, TimeoutError):
        return False


def await_supervisord(path: Path, unit: str) -> Supervisor:
    """Wait until the supervisord that systemd starts answers. Raise `HostError` on a timeout."""
    supervisor, deadline = Supervisor(path), time.monotonic() + START_WAIT_S
    while supervisor.pid() is None:
        if time.monotonic() > deadline:
            raise HostError(f"supervisord does not start; see `journalctl -u {unit}.service`")
        time.sleep(POLL_S)
    return supervisor


def start_supervisord(command: Sequence[str], environment: Mapping[str, str], path: Path) -> Supervisor:
    """Start supervisord as a daemon with only this environment, and wait until it answers.

    Raise `HostError` with its output when it ends or does not answer.
    """
    if not os.access(command[0], os.X_OK):
        raise HostError(f"{command[0]}: is not an executable program; install the software first")
    with tempfile.TemporaryFile() as output:
        # It continues after this process, which AnsibleModule.run_command does not support.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            command,
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        supervisor = Supervisor(path)
        deadline = time.monotonic() + START_WAIT_S
        # The started process ends when its child, the daemon, has been forked.
        while supervisor.pid() is None:
            if process.poll() or time.monotonic() > deadline:
                output.seek(0)
                said = output.read().decode(errors="replace").strip() or "it printed nothing"
                raise HostError(f"supervisord does not start: {said}")
            time.sleep(POLL_S)
        process.wait(ANSWER_WAIT_S)
        return supervisor
