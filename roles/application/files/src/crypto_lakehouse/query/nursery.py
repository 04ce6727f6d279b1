# SPDX-License-Identifier: GPL-3.0-or-later
"""The process from which query processes are forked: all is imported, nothing is open, no key was ever seen.

Importing the engine costs a tenth of a second of processor time, a fork a few milliseconds. Each query still has
a process of its own, and none can leave anything behind: the nursery gets descriptors and gives forks.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from crypto_lakehouse.query import sandbox

LATE_IMPORTS: Final = ("datetime", "decimal", "pytz", "uuid")
"""What the engine imports when it first makes a value of certain types."""

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38


def main() -> int:
    """Fork a query process for each descriptor that arrives on standard input, until that is closed."""
    control = socket.socket(fileno=os.dup(0))
    _silence()
    harden(os.getppid())
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    # A fork of a process with threads could inherit a lock that nobody will ever release.
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        return 1
    # The kernel buries the children: there is nothing to learn from how they ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    nursery = os.getpid()
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(control, 1, 1)
        if not message:
            return 0
        if os.fork() == 0:
            _become_child(control, descriptors[0], nursery)
        os.close(descriptors[0])


def _become_child(control: socket.socket, descriptor: int, nursery: int) -> None:
    status = 1
    try:
        control.close()
        harden(nursery)
        channel = socket.socket(fileno=descriptor)
        # The parent's handle on this process: it stays right even when the process id is used again.
        handle = os.pidfd_open(os.getpid())
        socket.send_fds(channel, [b"\0"], [handle])
        os.close(handle)
        status = sandbox.run(channel.makefile("rb"), channel.makefile("wb"))
    finally:
        # Not sys.exit: nothing of the nursery's must be unwound in its fork.
        os._exit(status)


def _silence() -> None:
    # Whatever a library prints goes nowhere.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def harden(parent: int) -> None:
    """Die with `parent`, let nobody look inside, gain no rights, write no file."""
    control = ctypes.CDLL(None).prctl
    control(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    control(PR_SET_DUMPABLE, 0, 0, 0, 0)
    control(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 256)):
        resource.setrlimit(limit, (value, value))
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
