# SPDX-License-Identifier: GPL-3.0-or-later
"""The parent: hands each statement to a child of its own and ends that child, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from crypto_lakehouse.query.frames import HEADER, FrameError, pack_message, parse
from crypto_lakehouse.query.locate import TableLocator

NURSERY: Final = (sys.executable, "-I", "-B", "-m", "crypto_lakehouse.query.nursery")
START_TIMEOUT_S: Final = 20.0
START_ATTEMPTS: Final = 2
MAX_MESSAGE_BYTES: Final = 1_048_576
ROWS_SLACK_BYTES: Final = 1_024
WAITING_FOR_EACH_RUNNING: Final = 4

log = logging.getLogger(__name__)


class QueryError(Exception):
    """A query that was not answered. `kind` is one of the words of `QueryError.KINDS`."""

    KINDS: Final = (
        "invalid",
        "not-allowed",
        "unknown-table",
        "timeout",
        "memory",
        "result-size",
        "busy",
        "storage",
        "internal",
    )

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind if kind in self.KINDS else "internal"
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may use."""

    timeout_s: float
    memory_mb: int
    max_rows: int
    max_result_bytes: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Read-only access to the files of the gold tables, and to nothing else."""

    scope: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str
    endpoint: str | None
    url_style: str | None
    tls: bool


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a query; `rows` is a JSON array of arrays, ready to be sent."""

    columns: list[dict[str, str]]
    rows: bytes
    row_count: int
    truncated: bool
    elapsed_ms: float


@dataclass(slots=True)
class Child:
    """A query process: its handle (a process file descriptor) and the channel to it."""

    handle: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            FrameError: when the child is gone.
        """
        try:
            self.writer.write(pack_message(message))
            await self.writer.drain()
        except ConnectionError:
            raise FrameError("the child is gone") from None

    async def receive(self, max_bytes: int) -> bytes:
        """Return the next frame.

        Raises:
            FrameError: when the child is gone or sends more than `max_bytes`.
        """
        try:
            size = HEADER.unpack(await self.reader.readexactly(HEADER.size))[0]
            if size > max_bytes:
                raise FrameError("a frame is too large")
            return await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise FrameError("the child is gone") from None

    def end(self) -> None:
        """Kill the process when it still runs; the nursery's kernel buries it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        os.close(self.handle)
        self.writer.close()


class Nursery:
    """The process from which children are forked; it is started again when it is gone."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._changing = asyncio.Lock()

    async def child(self) -> Child:
        """Return a new child that is ready to be given a statement.

        Raises:
            QueryError: when it does not become ready, from a new nursery either.
        """
        for _attempt in range(START_ATTEMPTS):
            control = await self._started()
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    return await _fork(control)
            except (TimeoutError, FrameError, OSError) as error:
                log.warning("a query process did not start: %s", type(error).__name__)
                await self._discard(control)
        raise QueryError("internal", "the query engine does not start")

    async def close(self) -> None:
        """End the nursery; its children die with it."""
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
        # Whoever noticed later than another must not end the nursery that took the place of the broken one.
        async with self._changing:
            if self._control is control:
                await self._end()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        nothing = asyncio.subprocess.DEVNULL
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *NURSERY, stdin=theirs.fileno(), stdout=nothing, stderr=nothing, env={}, cwd="/", start_new_session=True
            )
        # A nursery that does not listen must not hold up the event loop.
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


async def _fork(control: socket.socket) -> Child:
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        with theirs:
            socket.send_fds(control, [b"\0"], [theirs.fileno()])
        handle = await _receive_descriptor(ours)
        reader, writer = await asyncio.open_connection(sock=ours)
    except BaseException:
        ours.close()
        raise
    child = Child(handle, reader, writer)
    try:
        await child.receive(MAX_MESSAGE_BYTES)
    except BaseException:
        child.end()
        raise
    return child


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


class QueryEngine:
    """Runs statements, at most `concurrency` at a time, each in a child of its own.

    One child is always ready, so that a query does not wait for a process to start.
    """

    def __init__(
        self, locator: TableLocator, grant: Callable[[], Awaitable[Grant]], limits: Limits, concurrency: int
    ) -> None:
        self.limits = limits
        self._locator = locator
        self._grant = grant
        self._slots = asyncio.Semaphore(concurrency)
        self._capacity = concurrency * (1 + WAITING_FOR_EACH_RUNNING)
        self._admitted = 0
        self._nursery = Nursery()
        self._spare: asyncio.Task[Child] | None = None
        self._closed = False

    def warm_up(self) -> None:
        """Start the first child, in the background."""
        if self._spare is None and not self._closed:
            self._spare = asyncio.create_task(self._nursery.child())
            self._spare.add_done_callback(_look_at)

    async def close(self) -> None:
        """End every child; queries that still run are answered with an error."""
        self._closed = True
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.cancel()
            with contextlib.suppress(asyncio.CancelledError, QueryError):
                (await spare).end()
        await self._nursery.close()

    async def run(self, sql: str, max_rows: int | None = None) -> Result:
        """Run one statement.

        Raises:
            QueryError: with the kind of what stands in the way.
        """
        started = time.monotonic()
        with self._admission():
            async with self._slots:
                return await self._run_in_child(
                    sql, min(max_rows or self.limits.max_rows, self.limits.max_rows), started
                )

    @contextlib.contextmanager
    def _admission(self) -> Iterator[None]:
        if self._admitted >= self._capacity or self._closed:
            raise QueryError("busy", "too many queries are waiting; try again in a moment")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def _run_in_child(self, sql: str, max_rows: int, started: float) -> Result:
        async with self._time_limit():
            grant = await self._grant()
        child = await self._take(grant)
        try:
            async with self._time_limit():
                return await self._converse(child, sql, max_rows, started, grant.scope)
        except FrameError:
            # A process that ends without a word was ended by the kernel for what it used.
            raise QueryError("memory", "the query was stopped: it used more memory or time than it may") from None
        finally:
            child.end()

    @contextlib.asynccontextmanager
    async def _time_limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                yield
        except TimeoutError:
            limit = f"{self.limits.timeout_s:g} s"
            raise QueryError("timeout", f"the query was stopped after {limit}") from None

    async def _take(self, grant: Grant) -> Child:
        """Return a child that is locked, with its keys, and waits for a statement.

        Raises:
            QueryError: when the service is stopping, or no child gets that far.
        """
        self.warm_up()
        spare, self._spare = self._spare, None
        if spare is None:
            raise QueryError("busy", "the service is stopping")
        self.warm_up()
        try:
            child = await spare
        except asyncio.CancelledError:
            spare.cancel()
            raise
        # The spare may be gone, alone or with its nursery, and the kernel may not have told yet: only an answer proves
        # that it lives. Nothing has run so far, so that another child can take its place.
        if await self._locked(child, grant):
            return child
        child = await self._nursery.child()
        if await self._locked(child, grant):
            return child
        raise QueryError("internal", "the query engine does not start")

    async def _locked(self, child: Child, grant: Grant) -> bool:
        """Give the child its keys and limits; end it, and return False, when it does not say that it is locked."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await child.send({"grant": asdict(grant), "limits": asdict(self.limits)})
                await child.receive(MAX_MESSAGE_BYTES)
        except (TimeoutError, FrameError):
            child.end()
            return False
        except BaseException:
            child.end()
            raise
        return True

    async def _converse(self, child: Child, sql: str, max_rows: int, started: float, scope: str) -> Result:
        max_bytes = self.limits.max_result_bytes
        await child.send({"sql": sql, "max_rows": max_rows, "max_result_bytes": max_bytes})
        asked = _accepted(parse(await child.receive(MAX_MESSAGE_BYTES)))
        await child.send({"locations": await self._locations(list(asked["tables"]), scope)})
        result = _accepted(parse(await child.receive(MAX_MESSAGE_BYTES)))
        rows = await child.receive(max_bytes + ROWS_SLACK_BYTES)
        return Result(
            columns=result["columns"],
            rows=rows,
            row_count=int(result["row_count"]),
            truncated=bool(result["truncated"]),
            elapsed_ms=round((time.monotonic() - started) * 1000, 1),
        )

    async def _locations(self, tables: list[str], scope: str) -> dict[str, str]:
        found = await asyncio.gather(*(self._locator.locate(name) for name in tables))
        locations = {}
        for name, location in zip(tables, found, strict=True):
            if location is None:
                raise QueryError("unknown-table", f"the gold tier has no table {name}; GET /v1/tables lists them")
            if not location.startswith(f"{scope.rstrip('/')}/"):
                log.error("the catalog places gold.%s outside the gold warehouse", name)
                raise QueryError("storage", f"the table {name} is not stored in the gold tier")
            locations[name] = location
        return locations


def _accepted(message: dict[str, Any]) -> dict[str, Any]:
    if "refused" in message:
        raise QueryError(str(message["refused"]), str(message.get("detail", "")))
    return message


def _look_at(task: asyncio.Task[Child]) -> None:
    # The one who takes the child sees its exception; nobody may take it.
    if not task.cancelled():
        task.exception()
