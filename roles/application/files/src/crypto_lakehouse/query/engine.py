# SPDX-License-Identifier: GPL-3.0-or-later
"""The parent: answers each statement with a cached result, or runs it in a separate process.

A statement is examined in a process that has the small tables, and neither key nor network. Where the process has the
newest version of all tables in the statement, it runs the statement. Otherwise a process with a key runs it, and small
tables become resident for later statements.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as version_of
from typing import Any, Final

from crypto_lakehouse.query.errors import QueryError
from crypto_lakehouse.query.fair_queue import FairQueue
from crypto_lakehouse.query.frames import FrameError
from crypto_lakehouse.query.limits import Grant, Limits
from crypto_lakehouse.query.locate import TableLocator, TableVersion
from crypto_lakehouse.query.pointers import Pointers
from crypto_lakehouse.query.processes import START_TIMEOUT_S, Child, QueryForkserver
from crypto_lakehouse.query.query_forkserver import REMOTE
from crypto_lakehouse.query.resident import ResidentTables
from crypto_lakehouse.query.results import Result, ResultCache, StoredResult

ROWS_SLACK_BYTES: Final = 1_024
START_ATTEMPTS: Final = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of concurrent queries, and of the caches between them."""

    concurrency: int
    queue_timeout_s: float
    max_staleness_s: float
    resident_bytes: int
    result_cache_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a query: its bytes, and its stored form, if it is stored."""

    body: bytes
    stored: StoredResult | None
    result: Result | None
    """The computed result; None for an answer from the cache."""


class QueryEngine:
    """Runs statements, at most `policy.concurrency` at a time, each in a process of its own."""

    def __init__(
        self,
        locator: TableLocator,
        grant: Callable[[], Awaitable[Grant]],
        limits: Limits,
        policy: Policy,
        shares: Mapping[str, float],
    ) -> None:
        self.limits = limits
        self.pointers = Pointers(locator, policy.max_staleness_s)
        self.results = ResultCache(
            policy.result_cache_bytes, {"limits": asdict(limits), "engine": version_of("duckdb")}
        )
        self._grant = grant
        self._queue = FairQueue(policy.concurrency, policy.queue_timeout_s, shares)
        self._forkserver = QueryForkserver()
        self._resident = ResidentTables(self._forkserver, grant, limits, policy.resident_bytes)
        self._warming: asyncio.Task[None] | None = None
        self._closed = False

    def warm_up(self) -> None:
        """Start the forkserver in the background."""
        if self._warming is None and not self._closed:
            self._warming = asyncio.create_task(self._start())

    async def close(self) -> None:
        """End every process; running queries are answered with an error."""
        self._closed = True
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await self._resident.close()
        await self._forkserver.close()

    async def known(self, sql: str, max_rows: int | None = None) -> StoredResult | None:
        """Return the statement's result on the newest version of its tables, None when it must be computed.

        Raises:
            CatalogError, CredentialsError, httpx.HTTPError: when the catalog does not answer.
        """
        rows = self._rows(max_rows)
        tables = self.results.tables(sql, rows)
        if tables is None:
            return None
        versions = (await self.pointers.of(tables)).values()
        found = [version for version in versions if version is not None]
        return self.results.get(sql, rows, found) if len(found) == len(tables) else None

    async def run(self, sql: str, max_rows: int | None, token: str) -> Answer:
        """Run one statement for a token.

        Raises:
            QueryError: with the kind of the cause.
            CatalogError, CredentialsError, httpx.HTTPError: when the catalog does not answer.
        """
        started = time.monotonic()
        stored = await self.known(sql, max_rows)
        if stored is not None:
            return Answer(stored.body, stored, None)
        if self._closed:
            raise QueryError("busy", "the service is stopping")
        async with self._queue.place(token):
            return await self._run(sql, self._rows(max_rows), started)

    def _rows(self, max_rows: int | None) -> int:
        return min(max_rows or self.limits.max_rows, self.limits.max_rows)

    async def _run(self, sql: str, max_rows: int, started: float) -> Answer:
        request = {"sql": sql, "max_rows": max_rows, **self._bounds()}
        try:
            ran = await self._run_once(request)
        except _FilesGone as gone:
            # Maintenance may have removed a file of a version that was the newest shortly before.
            self.pointers.forget(gone.tables)
            try:
                ran = await self._run_once(request)
            except _FilesGone as again:
                raise again.error from None
        result = replace(ran.result, elapsed_ms=round((time.monotonic() - started) * 1000, 1))
        stored = self.results.put(sql, max_rows, ran.versions, result) if ran.repeatable else None
        return Answer(stored.body if stored else result.document(), stored, result)

    def _bounds(self) -> dict[str, Any]:
        return {"max_result_bytes": self.limits.max_result_bytes, "timeout_s": self.limits.timeout_s}

    async def _run_once(self, request: Mapping[str, Any]) -> _Ran:
        child, resident = await self._resident.child()
        with _ended(child):
            async with self._time_limit():
                asked = await self._examined(child, request)
                versions = await self._versions(asked["tables"])
                if all(resident.get(name) == version for name, version in versions.items()):
                    result = await self._result(child, {})
                    return _Ran(result, list(versions.values()), bool(asked["repeatable"]))
        self._resident.want(versions.values())
        try:
            result = await self._run_remote(request, versions)
        except QueryError as error:
            if error.kind == "storage" and versions:
                raise _FilesGone(error, frozenset(versions)) from None
            raise
        return _Ran(replace(result, resident=False), list(versions.values()), bool(asked["repeatable"]))

    async def _run_remote(self, request: Mapping[str, Any], versions: Mapping[str, TableVersion]) -> Result:
        async with self._time_limit():
            grant = await self._grant()
        locations = {name: version.location for name, version in versions.items()}
        for name, location in locations.items():
            if not location.startswith(f"{grant.scope.rstrip('/')}/"):
                log.error("the catalog places gold.%s outside the gold warehouse", name)
                raise QueryError("storage", f"the table {name} is not stored in the gold tier")
        child = await self._locked(grant)
        with _ended(child):
            async with self._time_limit():
                asked = await self._examined(child, request)
                if not set(asked["tables"]) <= set(versions):
                    raise QueryError("internal", "the engine failed on this statement")
                return await self._result(child, {name: locations[name] for name in asked["tables"]})

    async def _locked(self, grant: Grant) -> Child:
        """Return a locked child with its key, ready for a statement."""
        for _attempt in range(START_ATTEMPTS):
            child = await self._forkserver.child(REMOTE)
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await child.send({"grant": asdict(grant), "limits": asdict(self.limits)})
                    await child.message()
            except (TimeoutError, FrameError):
                child.end()
            except BaseException:
                child.end()
                raise
            else:
                return child
        raise QueryError("internal", "the query engine does not start")

    async def _examined(self, child: Child, request: Mapping[str, Any]) -> dict[str, Any]:
        await child.send(request)
        return await child.message()

    async def _result(self, child: Child, locations: Mapping[str, str]) -> Result:
        await child.send({"locations": locations})
        result = await child.message()
        rows = await child.receive(self.limits.max_result_bytes + ROWS_SLACK_BYTES)
        return Result(
            columns=result["columns"],
            rows=rows,
            row_count=int(result["row_count"]),
            truncated=bool(result["truncated"]),
            elapsed_ms=0.0,
            cpu_ms=result["cpu_ms"],
        )

    async def _versions(self, tables: Iterable[str]) -> dict[str, TableVersion]:
        versions = {}
        for name, version in (await self.pointers.of([str(table) for table in tables])).items():
            if version is None:
                raise QueryError("unknown-table", f"the gold tier has no table {name}; GET /v1/tables lists them")
            versions[name] = version
        return versions

    @contextlib.asynccontextmanager
    async def _time_limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                yield
        except TimeoutError:
            limit = f"{self.limits.timeout_s:g} s"
            raise QueryError("timeout", f"the query was stopped after {limit}") from None

    async def _start(self) -> None:
        try:
            child, _versions = await self._resident.child()
        except QueryError:
            log.exception("the query engine did not start")
        else:
            child.end()


@dataclass(frozen=True, slots=True)
class _Ran:
    result: Result
    versions: list[TableVersion]
    repeatable: bool


class _FilesGone(Exception):  # noqa: N818 - what the engine does next, not an error of it
    """A file of these tables cannot be read."""

    def __init__(self, error: QueryError, tables: frozenset[str]) -> None:
        super().__init__(str(error))
        self.error = error
        self.tables = tables


@contextlib.contextmanager
def _ended(child: Child) -> Iterator[None]:
    """End the child after the block; the kernel has ended a missing child because of its resource use."""
    try:
        yield
    except FrameError:
        detail = "the query was stopped: it used more memory or time than it may"
        raise QueryError("memory", detail) from None
    finally:
        child.end()
