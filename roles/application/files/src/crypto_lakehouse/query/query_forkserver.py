# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that query processes are forked from: single-threaded, its engine open and warm.

It never receives a key or a user's statement. Opening and warming an engine takes a tenth of a second of processor
time, a fork a few milliseconds. Each message on its control socket contains one byte, the kind of the fork, and
descriptors: the first one is the channel to the fork. The parent receives a process file descriptor over that channel.
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
"""Forks a query process with the resident tables, without key and network."""
REMOTE: Final = b"K"
"""Forks a query process that gets a key and reads the object store."""
FETCH: Final = b"F"
"""Forks a process that gets a key and writes one table into a file in memory."""
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
    """Fork a process for each message on standard input, until the end of the input."""
    control = socket.socket(fileno=os.dup(0))
    _silence()
    harden(os.getppid(), writes=True)
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    connection = sandbox.open_engine()
    sandbox.warm_up(connection)
    names = sandbox.Names.of(connection)
    # A fork of a process with threads could inherit a locked lock forever.
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
    # All forks share the existing objects: a garbage collection would copy their pages.
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
        # The parent's handle of this process, which stays valid even when the process id is reused.
        handle = os.pidfd_open(os.getpid())
        socket.send_fds(channel, [b"\0"], [handle])
        os.close(handle)
        status = roles[message](channel, descriptors[1:])
    finally:
        # Not sys.exit: the fork must not run the forkserver's cleanup.
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
    # The forkserver waits for the forks, so that their processor time counts for this process's children.
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
    # Output of libraries is discarded.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def harden(parent: int, *, writes: bool = False) -> None:
    """End with `parent`, hide from other processes, gain no rights, write no file.

    Only with `writes` can a fork of this process raise the maximum size of the files that it writes.
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
