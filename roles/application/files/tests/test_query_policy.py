# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy reads DuckDB's own syntax tree: it allows queries over gold tables, and refuses all other statements."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse.query.policy import PolicyError, gold_tables


def parsed(sql: str) -> dict[str, Any]:
    with duckdb.connect(":memory:") as connection:
        row = connection.execute(
            "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, skip_default := true)", [sql]
        ).fetchone()
    assert row is not None
    document: dict[str, Any] = json.loads(row[0])
    return document["statements"][0]  # type: ignore[no-any-return]


REFUSED = [
    "FROM read_text('/etc/passwd')",
    "FROM READ_TEXT('/etc/passwd')",
    "SELECT (SELECT content FROM read_blob('/proc/self/environ'))",
    "SELECT * FROM gold.a WHERE EXISTS (FROM glob('/*'))",
    "SELECT * FROM gold.a, LATERAL (SELECT * FROM read_csv(a.path))",
    "WITH x AS (FROM read_parquet('s3://b/*')) SELECT * FROM x",
    "WITH RECURSIVE x AS (SELECT 1 UNION ALL FROM read_json('x')) FROM x",
    "SELECT * FROM (VALUES ((SELECT content FROM read_text('x'))))",
    "SELECT list_transform([1], lambda x: (SELECT content FROM read_text('x')))",
    "SELECT 1 ORDER BY (SELECT content FROM read_text('x'))",
    "SELECT 1 LIMIT (SELECT count(*) FROM glob('/*'))",
    "SELECT 1 UNION FROM read_text('x')",
    "SELECT count(*) FILTER (WHERE EXISTS (FROM read_text('x'))) FROM gold.a",
    "SELECT sum(x) OVER (ORDER BY (SELECT 1 FROM glob('x'))) FROM gold.a",
    "SELECT CASE WHEN true THEN (SELECT 1 FROM glob('x')) END",
    "FROM gold.a JOIN glob('x') ON true",
    "FROM (PIVOT (FROM read_text('x')) ON filename IN ('x') USING count(*))",
    "FROM query('SELECT 1')",
    "FROM query_table('duckdb_secrets')",
    "FROM json_execute_serialized_sql('{}')",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://x', 's3')",
    "FROM duckdb_settings()",
    "FROM pragma_version()",
    "FROM enable_logging()",
    "FROM enable_profiling()",
    "FROM iceberg_scan('s3://gold/x')",
    "FROM iceberg_metadata('s3://gold/x')",
    "FROM parquet_metadata('s3://gold/x')",
    "FROM sniff_csv('x')",
    "FROM information_schema.tables",
    "FROM main.sqlite_master",
    "FROM system.information_schema.tables",
    "FROM memory.gold.a",
    "FROM pg_catalog.pg_class",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SELECT getenv('PATH')",
    "SELECT GetEnv('PATH')",
    "SELECT current_setting('s3_secret_access_key')",
    "SELECT write_log('x')",
    "SELECT main.write_log('x')",
    "SELECT getvariable('x')",
    "SELECT nextval('x')",
    # The bytes of a state contain addresses of the process.
    "SELECT (sum(1) EXPORT_STATE)::BLOB",
    "SELECT hex((first('a long text that lies on the heap') EXPORT_STATE)::BLOB)",
    "SELECT x FROM (SELECT COUNT(*) EXPORT_STATE AS x FROM gold.a)",
    "WITH duckdb_tables AS (SELECT 1) FROM duckdb_tables",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_a_query_over_gold_tables_is_refused(sql: str) -> None:
    with pytest.raises(PolicyError):
        gold_tables(parsed(sql), frozenset({"duckdb_tables"}))


def test_a_kind_of_node_that_is_not_known_is_refused() -> None:
    with pytest.raises(PolicyError, match="future scan is not allowed"):
        gold_tables({"node": {"type": "SELECT_NODE", "from_table": {"type": "FUTURE_SCAN"}}})


def test_an_unknown_member_of_a_call_is_refused() -> None:
    call = {"class": "FUNCTION", "type": "FUNCTION", "function_name": "sum", "children": []}
    assert gold_tables({"node": {**call, "export_state": False}}) == set()
    with pytest.raises(PolicyError, match="FUTURE_FLAG is not allowed in the call of a function"):
        gold_tables({"node": {**call, "future_flag": True}})


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", set()),
        ("SELECT * FROM gold.a", {"a"}),
        ("FROM GOLD.A", {"a"}),
        ('FROM gold."Ünï cödé"', {"ünï cödé"}),
        ("FROM a", {"a"}),
        ("FROM '/etc/passwd'", {"/etc/passwd"}),
        ("TABLE gold.a", {"a"}),
        ("VALUES (1), (2)", set()),
        ("WITH x AS (FROM gold.a) FROM x, gold.x", {"a", "x"}),
        ("WITH x AS (FROM gold.a) FROM gold.x", {"a", "x"}),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) FROM t", set()),
        ("FROM gold.a ASOF JOIN gold.b USING (day)", {"a", "b"}),
        ("FROM gold.a TABLESAMPLE 10%", {"a"}),
        ("SELECT unnest([1]), * FROM range(3), generate_series(1, 2), unnest([1])", set()),
        ("DESCRIBE gold.a", {"a"}),
        ("SUMMARIZE gold.a", {"a"}),
        ("FROM (PIVOT gold.a ON symbol IN ('x') USING sum(close))", {"a"}),
        ("SELECT avg(c) OVER (PARTITION BY s ORDER BY d ROWS 6 PRECEDING) FROM gold.a QUALIFY true", {"a"}),
        ("SELECT DISTINCT ON (s) * FROM gold.a ORDER BY d DESC NULLS LAST LIMIT 10%", {"a"}),
        ("SELECT {'a': 1}.a, [x * 2 FOR x IN [1, 2]], x::STRUCT(a INT) FROM gold.a t(x)", {"a"}),
        ("SELECT s, GROUPING(s) FROM gold.a GROUP BY GROUPING SETS ((s), ())", {"a"}),
        ("SELECT COLUMNS('c.*') FROM gold.a", {"a"}),
        ("FROM gold.a EXCEPT FROM gold.b", {"a", "b"}),
        ("SELECT count(DISTINCT s), list(s ORDER BY d DESC) FILTER (s > 'a'), 1 + 2 FROM gold.a", {"a"}),
        ("SELECT 'FROM read_text(''x'')' -- FROM read_text('x')", set()),
    ],
)
def test_queries_pass_and_name_their_tables(sql: str, tables: set[str]) -> None:
    assert gold_tables(parsed(sql)) == tables


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_tree_is_either_read_or_refused(tree: object) -> None:
    with contextlib.suppress(PolicyError):
        assert isinstance(gold_tables({"node": tree}), frozenset)


def test_a_deep_tree_does_not_exhaust_the_stack() -> None:
    tree: Any = {"type": "EMPTY"}
    for _time in range(50_000):
        tree = {"node": tree}
    assert gold_tables(tree) == frozenset()
