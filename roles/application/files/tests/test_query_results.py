# SPDX-License-Identifier: GPL-3.0-or-later
"""Results are used again only for equal inputs, and their memory is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_lakehouse.query.locate import TableVersion
from crypto_lakehouse.query.results import ENTRY_OVERHEAD_BYTES, MAX_STATEMENTS, Result, ResultCache

VERSION = TableVersion("a", "uuid", "s3://gold/1", "digest", 10)
RESULT = Result([{"name": "x", "type": "INTEGER"}], b"[[1]]", 1, truncated=False, elapsed_ms=1.0)


def cache(max_bytes: int = 1_000_000, engine: str = "1", timeout_s: float = 1.0) -> ResultCache:
    return ResultCache(max_bytes, {"engine": engine, "limits": {"timeout_s": timeout_s}})


@pytest.mark.parametrize(
    "version",
    [
        replace(VERSION, uuid="other"),
        replace(VERSION, location="s3://gold/2"),
        replace(VERSION, digest="other"),
        replace(VERSION, name="b"),
    ],
)
def test_another_version_of_a_table_has_another_result(version: TableVersion) -> None:
    results = cache()
    results.put("SELECT 1", 10, [VERSION], RESULT)
    assert results.get("SELECT 1", 10, [version]) is None
    assert results.get("SELECT 1", 10, []) is None
    assert results.get("SELECT 1", 10, [VERSION, version]) is None


def test_another_statement_limit_or_engine_has_another_result() -> None:
    results = cache()
    stored = results.put("SELECT 1", 10, [VERSION], RESULT)
    assert stored is not None
    assert results.get("SELECT 1", 10, [VERSION]) == results.by_id(stored.id) == stored
    assert results.tables("SELECT 1", 10) == ("a",)
    for sql, rows in (("select 1", 10), ("SELECT 1 ", 10), ("SELECT 1", 11), ("10 SELECT 1", 10)):
        assert results.get(sql, rows, [VERSION]) is None
        assert results.tables(sql, rows) is None
    others = (
        cache(engine="2").put("SELECT 1", 10, [VERSION], RESULT),
        cache(timeout_s=2.0).put("SELECT 1", 10, [VERSION], RESULT),
    )
    assert len({stored.id, *(other.id for other in others if other)}) == 3


def test_the_memory_is_bounded_and_the_least_used_result_goes_first() -> None:
    results = cache(max_bytes=10 * (ENTRY_OVERHEAD_BYTES + 200))
    results.put("SELECT 0", 10, [], RESULT)
    for number in range(1, 100):
        results.put(f"SELECT {number}", 10, [], RESULT)
        assert results.get("SELECT 0", 10, []) is not None
    assert results.used_bytes <= 10 * (ENTRY_OVERHEAD_BYTES + 200)
    assert results.get("SELECT 1", 10, []) is None
    assert results.get("SELECT 99", 10, []) is not None


def test_a_large_result_does_not_push_out_all_others() -> None:
    results = cache(max_bytes=40_000)
    results.put("SELECT 0", 10, [], RESULT)
    assert results.put("SELECT 1", 10, [], replace(RESULT, rows=b"[" + b" " * 20_000 + b"]")) is None
    assert results.get("SELECT 0", 10, []) is not None
    assert cache(max_bytes=0).put("SELECT 1", 10, [], RESULT) is None


def test_a_result_that_is_put_again_is_counted_once() -> None:
    results = cache()
    for _time in range(3):
        results.put("SELECT 0", 10, [], RESULT)
    assert results.used_bytes == len(RESULT.document()) + ENTRY_OVERHEAD_BYTES


def test_statements_without_results_are_forgotten_too() -> None:
    results = cache(max_bytes=50_000)
    for number in range(MAX_STATEMENTS + 10):
        results.put(f"SELECT {number}", 10, [], RESULT)
    assert len(results._statements) == MAX_STATEMENTS
