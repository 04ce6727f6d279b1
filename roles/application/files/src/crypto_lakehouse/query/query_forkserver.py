# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that query processes are forked from: single-threaded, its engine open and warm.

It has seen no key and no user's statement. Opening and warming an engine costs a tenth of a second of processor time,
a fork a few milliseconds. Each message on its control socket carries one byte, the kind of the fork, and descriptors:
the first one is the channel to the fork. The parent receives a process file descriptor over that channel.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from crypto_lakehouse.query import sandbox

RESIDENT: Final = b"R"
"""Forks a query process that has the resident tables, and neither key nor network."""
REMOTE: Final = b"K"
"""Forks a query process that is given a key and reads the object store."""
FETCH: Final = b"F"
"""Forks a process that is given a key and writes one table into a file in memory."""
GENERATION: Final = b"G"
"""Forks a forkserver that loads the resident tables from files in memory, and forks query processes."""

LATE_IMPORTS: Final = ("datetime", "decimal", "pytz", "pytz.reference", "uuid", "encodings.idna")
"""Modules that the engine imports when it first creates a value of certain types."""
MAX_DESCRIPTORS: Final = 128

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38

Role = Callable[[socket.socket, Sequence[int]], int]


def main() -> int:
    """Fork a process for each message on standard input, until that is closed."""
    control = socket.socket(fileno=os.dup(0))
    _silence()
    harden(os.getppid(), writes=True)
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    connection = sandbox.open_engine()
    sandbox.warm_up(connection)
    names = sandbox.Names.of(connection)
    # A fork of a process with threads could inherit a lock that is never released.
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        return 1
    roles: dict[bytes, Role] = {
        REMOTE: lambda channel, _files: sandbox.run_remote(connection, names, *_streams(channel)),
        FETCH: lambda channel, files: sandbox.run_fetch(connection, files[0], *_streams(channel)),
        GENERATION: lambda channel, files: _run_generation(connection, channel, files),
    }
    return serve(control, roles)


def serve(control: socket.socket, roles: Mapping[bytes, Role]) -> int:
    """Fork a process for each message until the control socket is closed, then wait for the forks."""
    # Objects that exist now are shared with every fork: a collector that looked at them would copy their pages.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(control, 1, MAX_DESCRIPTORS)
        if not message:
            return _wait_for_forks()
        forkserver = os.getpid()
        if os.fork() == 0:
            _become_child(control, message, descriptors, forkserver, roles)
        for descriptor in descriptors:
            os.close(descriptor)


def _become_child(
    control: socket.socket, message: bytes, descriptors: Sequence[int], forkserver: int, roles: Mapping[bytes, Role]
) -> None:
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        harden(forkserver, writes=message == FETCH)
        channel = socket.socket(fileno=descriptors[0])
        # The parent's handle on this process: it stays right even when the process id is used again.
        handle = os.pidfd_open(os.getpid())
        socket.send_fds(channel, [b"\0"], [handle])
        os.close(handle)
        status = roles[message](channel, descriptors[1:])
    finally:
        # Not sys.exit: nothing of the forkserver must be unwound in its fork.
        os._exit(status)


def _run_generation(connection: Any, channel: socket.socket, files: Sequence[int]) -> int:
    sandbox.load_resident(connection, files, *_streams(channel))
    for descriptor in files:
        os.close(descriptor)
    names = sandbox.Names.of(connection)
    return serve(channel, {RESIDENT: lambda child, _files: sandbox.run_resident(connection, names, *_streams(child))})


def _streams(channel: socket.socket) -> tuple[Any, Any]:
    return channel.makefile("rb"), channel.makefile("wb")


def _reap(*_arguments: object) -> None:
    # Waited for, so that the processor time of the forks is counted as this process's children's.
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _wait_for_forks() -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return 0


def _silence() -> None:
    # Whatever a library prints goes nowhere.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def harden(parent: int, *, writes: bool = False) -> None:
    """Die with `parent`, let no other process look inside, gain no rights, write no file.

    Only with `writes` may a fork of this process raise the size up to which it writes files.
    """
    control = ctypes.CDLL(None).prctl
    control(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    control(PR_SET_DUMPABLE, 0, 0, 0, 0)
    control(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    highest = resource.getrlimit(resource.RLIMIT_FSIZE)[1] if writes else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, highest))
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
