# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots for queries: bounded in time, shared between tokens by weight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import pytest

from crypto_lakehouse.query.errors import QueryError
from crypto_lakehouse.query.fair_queue import MAX_RETRY_AFTER_S, MAX_WAITING, FairQueue

Body = Callable[[FairQueue], Awaitable[None]]


def run(body: Body, *, concurrency: int = 1, timeout_s: float = 5.0, shares: Mapping[str, float] | None = None) -> None:
    async def all_of_it() -> None:
        await body(FairQueue(concurrency, timeout_s, shares or {"a": 1}))

    asyncio.run(all_of_it())


async def hold(queue: FairQueue, token: str, event: asyncio.Event, order: list[str]) -> None:
    async with queue.place(token):
        order.append(token)
        await event.wait()


def test_waiting_is_bounded_by_time_and_says_when_to_try_again() -> None:
    async def body(queue: FairQueue) -> None:
        forever = asyncio.Event()
        holder = asyncio.create_task(hold(queue, "a", forever, []))
        await asyncio.sleep(0)
        started = time.monotonic()
        with pytest.raises(QueryError) as caught:
            async with queue.place("a"):
                pass
        assert 0.1 <= time.monotonic() - started < 5
        assert caught.value.kind == "busy"
        assert 1 <= (caught.value.retry_after_s or 0) <= MAX_RETRY_AFTER_S
        forever.set()
        await holder
        async with queue.place("a"):
            pass

    run(body, timeout_s=0.1)


def test_the_time_to_try_again_grows_with_the_queries_and_those_that_wait() -> None:
    async def body(queue: FairQueue) -> None:
        assert queue._busy(queue._holders["a"]).retry_after_s == 1
        queue._mean_s = 12.0
        assert queue._busy(queue._holders["a"]).retry_after_s == 12
        queue._holders["a"].waiting.extend(asyncio.get_running_loop().create_future() for _time in range(2))
        assert queue._busy(queue._holders["a"]).retry_after_s == 36
        queue._mean_s = 1_000.0
        assert queue._busy(queue._holders["a"]).retry_after_s == MAX_RETRY_AFTER_S

    run(body)


def test_the_number_of_those_who_wait_is_bounded() -> None:
    async def body(queue: FairQueue) -> None:
        event = asyncio.Event()
        tasks = [asyncio.create_task(hold(queue, "a", event, [])) for _time in range(1 + MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(QueryError, match="became free"):
            async with queue.place("a"):
                pass
        event.set()
        await asyncio.gather(*tasks)

    run(body)


def test_places_go_to_tokens_by_their_shares() -> None:
    async def body(queue: FairQueue) -> None:
        order: list[str] = []

        async def one(token: str) -> None:
            async with queue.place(token):
                order.append(token)
                await asyncio.sleep(0.005)

        await asyncio.gather(*(one(token) for token in ["a", "b"] * 40))
        first = order[:40]
        assert 24 <= first.count("b") <= 36
        assert len(order) == 80

    run(body, shares={"a": 1, "b": 3})


def test_one_token_never_holds_every_place() -> None:
    async def body(queue: FairQueue) -> None:
        forever, order = asyncio.Event(), list[str]()
        slow = [asyncio.create_task(hold(queue, "a", forever, order)) for _time in range(10)]
        await asyncio.sleep(0.01)
        assert order == ["a"]
        async with queue.place("b"):
            pass
        forever.set()
        await asyncio.gather(*slow)

    run(body, concurrency=2, shares={"a": 5, "b": 1})


def test_who_goes_away_while_waiting_takes_no_place() -> None:
    async def body(queue: FairQueue) -> None:
        event = asyncio.Event()
        holder = asyncio.create_task(hold(queue, "a", event, []))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(hold(queue, "a", event, [])) for _time in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        event.set()
        # The slot is released in the moment in which its taker is cancelled.
        waiting[0].cancel()
        await asyncio.gather(holder, *waiting, return_exceptions=True)
        assert queue._running == 0
        assert not queue._holders["a"].waiting
        async with queue.place("a"):
            assert queue._running == 1

    run(body)


def test_a_query_that_fails_gives_its_place_back() -> None:
    async def body(queue: FairQueue) -> None:
        for _time in range(3):
            with pytest.raises(ValueError, match="no"):
                async with queue.place("a"):
                    raise ValueError("no")
        assert queue._running == 0

    run(body)
