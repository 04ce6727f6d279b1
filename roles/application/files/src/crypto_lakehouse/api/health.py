# SPDX-License-Identifier: GPL-3.0-or-later
"""Health of the platform's components, checked concurrently and at limited intervals."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import httpx
import psycopg

log = logging.getLogger(__name__)

State = Literal["healthy", "degraded", "unhealthy"]
CACHE_S: Final = 2.0
TIMEOUT_S: Final = 3.0


class Finding(Exception):  # noqa: N818 - it is what a check found, and not an error of the check
    """Result of a failed check, whose message may be shown to every caller."""


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """Result of one check. `error` describes the problem without names, addresses or secrets."""

    status: Literal["healthy", "unhealthy"]
    response_time_ms: float
    error: str | None = None


@dataclass(slots=True)
class Check:
    """A component's check: at most one runs at a time, and its result is cached for `cache_s` seconds."""

    name: str
    probe: Callable[[], Awaitable[object]]
    essential: bool = True
    timeout_s: float = TIMEOUT_S
    cache_s: float = CACHE_S
    on_result: Callable[[str, bool], None] = lambda _name, _healthy: None
    _running: asyncio.Task[ComponentHealth] | None = field(default=None, init=False)
    _known: tuple[float, ComponentHealth] | None = field(default=None, init=False)

    async def result(self) -> ComponentHealth:
        """Return the component's health: the cached one while it is fresh, else the result of a check."""
        if self._known is not None and time.monotonic() < self._known[0]:
            return self._known[1]
        if self._running is None:
            self._running = asyncio.create_task(self._run())
            self._running.add_done_callback(self._finished)
        # A disconnecting client must not cancel the check that others wait for.
        return await asyncio.shield(self._running)

    def _finished(self, task: asyncio.Task[ComponentHealth]) -> None:
        self._running = None
        if not task.cancelled():
            self._known = (time.monotonic() + self.cache_s, task.result())
            self.on_result(self.name, task.result().status == "healthy")

    async def _run(self) -> ComponentHealth:
        started = time.perf_counter()
        error: str | None = None
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.probe()
        except Exception as problem:  # noqa: BLE001 - whatever a client library throws is the component's state
            error = describe(problem, self.timeout_s)
            log.warning("the check of %s failed: %s (%s)", self.name, error, type(problem).__name__)
        elapsed_ms = round((time.perf_counter() - started) * 1000, 1)
        return ComponentHealth("unhealthy" if error else "healthy", elapsed_ms, error)


async def examine(checks: Iterable[Check]) -> dict[str, ComponentHealth]:
    """Return the health of every component; the checks run concurrently."""
    chosen = list(checks)
    found = await asyncio.gather(*(check.result() for check in chosen))
    return {check.name: health for check, health in zip(chosen, found, strict=True)}


def overall(checks: Iterable[Check], found: Mapping[str, ComponentHealth]) -> State:
    """Return the platform's health: components that are not essential can only degrade it."""
    failed = [check for check in checks if found[check.name].status == "unhealthy"]
    if any(check.essential for check in failed):
        return "unhealthy"
    return "degraded" if failed else "healthy"


def describe(problem: Exception, timeout_s: float) -> str:
    """Return a description of an error that may be shown to every caller.

    Messages of client libraries contain hosts, users and files; only their type is returned.
    """
    if isinstance(problem, Finding):
        return str(problem)
    if isinstance(problem, TimeoutError | httpx.TimeoutException | psycopg.errors.ConnectionTimeout):
        return f"no answer within {timeout_s:g} s"
    if isinstance(problem, httpx.HTTPStatusError):
        return f"answered with status {problem.response.status_code}"
    if isinstance(problem, httpx.ConnectError | psycopg.OperationalError | ConnectionError | OSError):
        return "cannot be connected to"
    return "failed its check"
