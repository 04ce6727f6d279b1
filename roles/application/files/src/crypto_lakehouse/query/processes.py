# SPDX-License-Identifier: GPL-3.0-or-later
"""The parent's handles: of the forkserver, and of each process that is forked from it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crypto_lakehouse.query.errors import QueryError
from crypto_lakehouse.query.frames import HEADER, FrameError, pack_message, parse

QUERY_FORKSERVER: Final = (sys.executable, "-I", "-B", "-m", "crypto_lakehouse.query.query_forkserver")
START_TIMEOUT_S: Final = 20.0
START_ATTEMPTS: Final = 2
MAX_MESSAGE_BYTES: Final = 1_048_576

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Channel:
    """Messages and frames to and from another process."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            FrameError: when the child has ended.
        """
        try:
            self.writer.write(pack_message(message))
            await self.writer.drain()
        except ConnectionError:
            raise FrameError("the child is gone") from None

    async def message(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            FrameError: when the child has ended or violates the protocol.
            QueryError: when the child rejects the request.
        """
        message = parse(await self.receive(MAX_MESSAGE_BYTES))
        if "refused" in message:
            raise QueryError(str(message["refused"]), str(message.get("detail", "")))
        return message

    async def receive(self, max_bytes: int) -> bytes:
        """Return the next frame.

        Raises:
            FrameError: when the child has ended or sends more than `max_bytes`.
        """
        try:
            size = HEADER.unpack(await self.reader.readexactly(HEADER.size))[0]
            if size > max_bytes:
                raise FrameError("a frame is too large")
            return await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise FrameError("the child is gone") from None


@dataclass(slots=True)
class Child(Channel):
    """A forked process: the channel to it and its handle (a process file descriptor)."""

    handle: int

    def end(self) -> None:
        """Kill the process if it still runs; the forkserver waits for it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        os.close(self.handle)
        self.writer.close()


class QueryForkserver:
    """The process that all others are forked from; it is restarted when it has ended."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._changing = asyncio.Lock()

    async def child(self, kind: bytes, files: Sequence[int] = ()) -> Child:
        """Return a new child with a channel of streams.

        Raises:
            QueryError: when it does not start, from a new forkserver either.
        """
        handle, channel = await self.fork(kind, files)
        return await connected(handle, channel)

    async def fork(self, kind: bytes, files: Sequence[int] = ()) -> tuple[int, socket.socket]:
        """Return the handle of a new child, and the parent's end of its channel.

        Raises:
            QueryError: when it does not start, from a new forkserver either.
        """
        for _attempt in range(START_ATTEMPTS):
            control = await self._started()
            try:
                return await fork(control, kind, files)
            except (TimeoutError, FrameError, OSError) as error:
                log.warning("a query process did not start: %s", type(error).__name__)
                await self._discard(control)
        raise QueryError("internal", "the query engine does not start")

    async def close(self) -> None:
        """End the forkserver; its children die with it."""
        if self._control is not None:
            await self._discard(self._control)

    async def _started(self) -> socket.socket:
        async with self._changing:
            if self._control is None or self._process is None or self._process.returncode is not None:
                await self._end()
                await self._start()
            assert self._control is not None  # noqa: S101 - it was just made
            return self._control

    async def _discard(self, control: socket.socket) -> None:
        # A late caller must not end the new forkserver that has replaced the broken one.
        async with self._changing:
            if self._control is control:
                await self._end()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        nothing = asyncio.subprocess.DEVNULL
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *QUERY_FORKSERVER,
                stdin=theirs.fileno(),
                stdout=nothing,
                stderr=nothing,
                env={},
                cwd="/",
                start_new_session=True,
            )
        # An unresponsive forkserver must not block the event loop.
        ours.setblocking(False)
        self._control = ours

    async def _end(self) -> None:
        process, control = self._process, self._control
        self._process = self._control = None
        if control is not None:
            control.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def fork(control: socket.socket, kind: bytes, files: Sequence[int] = ()) -> tuple[int, socket.socket]:
    """Fork a process with the forkserver behind `control`; return its handle and the parent's end of its channel.

    Raises:
        TimeoutError, FrameError, OSError: when the forkserver does not answer, or has ended.
    """
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        with theirs:
            socket.send_fds(control, [kind], [theirs.fileno(), *files])
        async with asyncio.timeout(START_TIMEOUT_S):
            return await _receive_descriptor(ours), ours
    except BaseException:
        ours.close()
        raise


async def connected(handle: int, channel: socket.socket) -> Child:
    """Return the child behind `handle` with streams on its channel."""
    try:
        reader, writer = await asyncio.open_connection(sock=channel)
    except BaseException:
        os.close(handle)
        channel.close()
        raise
    return Child(reader, writer, handle)


async def _receive_descriptor(channel: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(channel, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(channel)
    _message, descriptors, _flags, _address = socket.recv_fds(channel, 1, 1)
    if not descriptors:
        raise FrameError("the child is gone")
    return descriptors[0]
