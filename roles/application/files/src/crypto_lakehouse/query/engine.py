# SPDX-License-Identifier: GPL-3.0-or-later
"""The parent: hands each statement to a child of its own and ends that child, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from crypto_lakehouse.query.frames import HEADER, FrameError, pack_message, parse
from crypto_lakehouse.query.locate import TableLocator

SANDBOX: Final = (sys.executable, "-I", "-B", "-m", "crypto_lakehouse.query.sandbox")
START_TIMEOUT_S: Final = 30.0
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
    """A running sandbox process."""

    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls) -> Child:
        """Start a process and wait until it is ready to be given a statement.

        Raises:
            QueryError: when it does not become ready.
        """
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *SANDBOX, stdin=pipe, stdout=pipe, stderr=nothing, env={}, cwd="/", start_new_session=True
        )
        child = cls(process)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await child.receive(MAX_MESSAGE_BYTES)
        except (TimeoutError, FrameError):
            log.error("a query process did not start; exit status %s", process.returncode)
            await child.end()
            raise QueryError("internal", "the query engine does not start") from None
        except BaseException:
            await child.end()
            raise
        return child

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            FrameError: when the child is gone.
        """
        writer = self.process.stdin
        assert writer is not None  # noqa: S101 - a pipe was asked for
        try:
            writer.write(pack_message(message))
            await writer.drain()
        except ConnectionError:
            raise FrameError("the child is gone") from None

    async def receive(self, max_bytes: int) -> bytes:
        """Return the next frame.

        Raises:
            FrameError: when the child is gone or sends more than `max_bytes`.
        """
        reader = self.process.stdout
        assert reader is not None  # noqa: S101 - a pipe was asked for
        try:
            size = HEADER.unpack(await reader.readexactly(HEADER.size))[0]
            if size > max_bytes:
                raise FrameError("a frame is too large")
            return await reader.readexactly(size)
        except asyncio.IncompleteReadError:
            raise FrameError("the child is gone") from None

    @property
    def alive(self) -> bool:
        """Tell whether the process still runs, as far as is known."""
        return self.process.returncode is None

    async def end(self) -> None:
        """Kill the process when it still runs, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()


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
        self._spare: asyncio.Task[Child] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def warm_up(self) -> None:
        """Start the first child, in the background."""
        if self._spare is None and not self._closed:
            self._spare = asyncio.create_task(Child.start())
            self._spare.add_done_callback(_look_at)

    async def close(self) -> None:
        """End every child; queries that still run are answered with an error."""
        self._closed = True
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.cancel()
            with contextlib.suppress(asyncio.CancelledError, QueryError, OSError):
                await (await spare).end()
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

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
        child = await self._take()
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                return await self._converse(child, sql, max_rows, started)
        except TimeoutError:
            limit = f"{self.limits.timeout_s:g} s"
            raise QueryError("timeout", f"the query was stopped after {limit}") from None
        except FrameError:
            # A process that ends without a word was ended by the kernel for what it used.
            raise QueryError("memory", "the query was stopped: it used more memory or time than it may") from None
        finally:
            # A task of its own, so that a caller who goes away does not keep the child from being ended.
            ending = asyncio.create_task(child.end())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _take(self) -> Child:
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
        return child if child.alive else await Child.start()

    async def _converse(self, child: Child, sql: str, max_rows: int, started: float) -> Result:
        grant = await self._grant()
        limits = asdict(self.limits)
        await child.send({"grant": asdict(grant), "limits": limits, "sql": sql, "max_rows": max_rows})
        asked = _accepted(parse(await child.receive(MAX_MESSAGE_BYTES)))
        await child.send({"locations": await self._locations(list(asked["tables"]), grant.scope)})
        result = _accepted(parse(await child.receive(MAX_MESSAGE_BYTES)))
        rows = await child.receive(self.limits.max_result_bytes + ROWS_SLACK_BYTES)
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
