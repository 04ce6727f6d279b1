# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots for a bounded number of concurrent queries, shared between tokens by weight."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crypto_lakehouse.query.errors import QueryError

MAX_WAITING: Final = 256
"""Maximum number of waiting requests: a limit of memory, not of time."""
MAX_RETRY_AFTER_S: Final = 60
SMOOTHING: Final = 0.2
FIRST_GUESS_S: Final = 0.1


@dataclass(slots=True)
class _Holder:
    share: float
    running: int = 0
    used_s: float = 0.0
    """Time that its queries held a slot, divided by its share."""
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class FairQueue:
    """Slots for `concurrency` queries at a time; a request waits at most `timeout_s` for one.

    A free slot goes to the token with the least use relative to its share. With several tokens and slots, no token
    holds all of them: its slow queries never block the others.
    """

    def __init__(self, concurrency: int, timeout_s: float, shares: Mapping[str, float]) -> None:
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._holders = {name: _Holder(share) for name, share in shares.items()}
        self._most = concurrency - 1 if len(self._holders) > 1 and concurrency > 1 else concurrency
        self._running = 0
        self._mean_s = FIRST_GUESS_S

    @contextlib.asynccontextmanager
    async def place(self, token: str) -> AsyncIterator[None]:
        """Hold a slot while the block runs.

        Raises:
            QueryError: busy, when no slot becomes free in time; it contains the time before a retry.
        """
        holder = self._holders[token]
        await self._enter(holder)
        started = time.monotonic()
        try:
            yield
        finally:
            held_s = time.monotonic() - started
            holder.used_s += held_s / holder.share
            self._mean_s += SMOOTHING * (held_s - self._mean_s)
            self._leave(holder)

    async def _enter(self, holder: _Holder) -> None:
        if not holder.running and not holder.waiting:
            # An idle token does not accumulate credit: it starts at the level of the least served other token.
            active = [each.used_s for each in self._holders.values() if each.running or each.waiting]
            holder.used_s = max(holder.used_s, min(active, default=0.0))
        if self._running < self._concurrency and holder.running < self._most:
            self._start(holder)
            return
        if sum(len(each.waiting) for each in self._holders.values()) >= MAX_WAITING:
            raise self._busy(holder)
        await self._wait(holder)

    async def _wait(self, holder: _Holder) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        holder.waiting.append(place)
        try:
            async with asyncio.timeout(self._timeout_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                # The slot was assigned at the moment when this request stopped waiting.
                self._leave(holder)
            with contextlib.suppress(ValueError):
                holder.waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise self._busy(holder) from None
            raise

    def _start(self, holder: _Holder) -> None:
        holder.running += 1
        self._running += 1

    def _leave(self, holder: _Holder) -> None:
        holder.running -= 1
        self._running -= 1
        while self._running < self._concurrency:
            able = [each for each in self._holders.values() if each.waiting and each.running < self._most]
            if not able:
                return
            chosen = min(able, key=lambda each: each.used_s)
            place = chosen.waiting.popleft()
            if not place.done():
                self._start(chosen)
                place.set_result(None)

    def _busy(self, holder: _Holder) -> QueryError:
        shares = [each.share for each in self._holders.values() if each is holder or each.running or each.waiting]
        places = max(1.0, self._concurrency * holder.share / sum(shares))
        wait_s = (len(holder.waiting) + 1) * self._mean_s / min(places, self._most)
        retry_after_s = min(MAX_RETRY_AFTER_S, max(1, math.ceil(wait_s)))
        detail = f"no query process became free within {self._timeout_s:g} s. Try again in {retry_after_s} s"
        return QueryError("busy", detail, retry_after_s)
