# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog gets at most one request per interval for all queries, and answers are never older than the interval."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from crypto_lakehouse.query.locate import CatalogError, TableVersion, metadata_of
from crypto_lakehouse.query.pointers import MAX_NAMES, Pointers


class Catalog:
    """A catalog whose tables have a new version for each request."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.asked: list[str] = []
        self.delay_s = delay_s
        self.fails = False

    async def locate(self, table: str) -> TableVersion | None:
        self.asked.append(table)
        number = len(self.asked)
        await asyncio.sleep(self.delay_s)
        if self.fails:
            raise CatalogError("down")
        return None if table == "missing" else TableVersion(table, "uuid", f"s3://gold/{number}", str(number), 0)

    async def tables(self) -> list[str]:
        return []

    async def ping(self) -> None:
        return None


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await body()

    asyncio.run(all_of_it())


def test_many_requests_ask_once() -> None:
    async def body() -> None:
        catalog = Catalog(delay_s=0.02)
        pointers = Pointers(catalog, 60.0)
        found = await asyncio.gather(*(pointers.of(["a", "missing"]) for _time in range(50)))
        assert await pointers.of(["a"]) == {"a": found[0]["a"]}
        assert found[0]["missing"] is None
        assert sorted(catalog.asked) == ["a", "missing"]

    run(body)


def test_an_old_answer_is_not_given() -> None:
    async def body() -> None:
        catalog = Catalog()
        pointers = Pointers(catalog, 0.03)
        first = await pointers.of(["a"])
        await asyncio.sleep(0.04)
        assert await pointers.of(["a"]) != first
        assert len(catalog.asked) == 2

    run(body)


def test_without_staleness_each_request_asks_for_itself() -> None:
    async def body() -> None:
        catalog = Catalog(delay_s=0.01)
        pointers = Pointers(catalog, 0.0)
        found = await asyncio.gather(*(pointers.of(["a"]) for _time in range(3)))
        assert len({version.digest for each in found if (version := each["a"])}) == 3
        assert len(catalog.asked) == 3

    run(body)


def test_a_slow_answer_is_not_shared_with_who_asks_too_late_for_it() -> None:
    async def body() -> None:
        catalog = Catalog(delay_s=0.1)
        pointers = Pointers(catalog, 0.02)
        early = asyncio.create_task(pointers.of(["a"]))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(pointers.of(["a"]))
        assert (await early)["a"] != (await late)["a"]
        assert len(catalog.asked) == 2

    run(body)


def test_a_failure_is_told_to_all_and_not_kept() -> None:
    async def body() -> None:
        catalog = Catalog(delay_s=0.01)
        catalog.fails = True
        pointers = Pointers(catalog, 60.0)
        outcomes: list[Any] = await asyncio.gather(*(pointers.of(["a"]) for _time in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [CatalogError] * 3
        catalog.fails = False
        assert (await pointers.of(["a"]))["a"] is not None
        assert len(catalog.asked) == 2

    run(body)


def test_a_client_that_goes_away_does_not_stop_the_question_of_others() -> None:
    async def body() -> None:
        catalog = Catalog(delay_s=0.05)
        pointers = Pointers(catalog, 60.0)
        gone, stays = (asyncio.create_task(pointers.of(["a"])) for _time in range(2))
        await asyncio.sleep(0.01)
        gone.cancel()
        assert (await stays)["a"] is not None
        assert len(catalog.asked) == 1

    run(body)


def test_a_forgotten_table_is_asked_for_again() -> None:
    async def body() -> None:
        catalog = Catalog()
        pointers = Pointers(catalog, 60.0)
        first = await pointers.of(["a"])
        pointers.forget(["a", "never"])
        assert await pointers.of(["a"]) != first

    run(body)


def test_names_that_are_made_up_do_not_fill_the_memory() -> None:
    async def body() -> None:
        pointers = Pointers(Catalog(), 60.0)
        for number in range(MAX_NAMES + 50):
            await pointers.of([f"t{number}"])
        assert len(pointers._known) == MAX_NAMES

    run(body)


METADATA = {
    "table-uuid": "u",
    "current-snapshot-id": 2,
    "snapshots": [
        {"snapshot-id": 1, "summary": {"total-files-size": "1"}},
        {"snapshot-id": 2, "summary": {"total-files-size": "22"}},
    ],
}


def test_a_version_is_its_uuid_its_location_and_its_metadata() -> None:
    version = TableVersion.of("a", "s3://x", METADATA)
    assert (version.uuid, version.location, version.data_bytes) == ("u", "s3://x", 22)
    assert version == TableVersion.of("a", "s3://x", dict(reversed(METADATA.items())))
    assert version != TableVersion.of("a", "s3://y", METADATA)
    assert version != TableVersion.of("a", "s3://x", {**METADATA, "table-uuid": "v"})
    assert version != TableVersion.of("a", "s3://x", {**METADATA, "current-snapshot-id": 1})


@pytest.mark.parametrize("summary", [None, {}, {"total-files-size": "many"}, {"total-files-size": "-1"}])
def test_a_table_of_unknown_size_is_not_small(summary: Any) -> None:
    metadata = {"current-snapshot-id": 1, "snapshots": [{"snapshot-id": 1, "summary": summary}]}
    assert TableVersion.of("a", "s3://x", metadata).data_bytes is None


def test_metadata_is_read_compressed_or_not_and_refused_when_it_is_none() -> None:
    plain = json.dumps(METADATA).encode()
    assert metadata_of(plain) == metadata_of(gzip.compress(plain)) == METADATA
    for content in (b"", b"[]", b"{", gzip.compress(plain)[:10], gzip.compress(b" " * 20_000_000)):
        with pytest.raises(CatalogError):
            metadata_of(content)
