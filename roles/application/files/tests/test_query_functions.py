# SPDX-License-Identifier: GPL-3.0-or-later
"""Every function of the engine belongs to a class with a reason; a new one is refused and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import _duckdb
import pytest

from crypto_lakehouse.query import functions, sandbox
from crypto_lakehouse.query.functions import CALLS, EXPANDED, UNCLASSIFIED, Function
from crypto_lakehouse.query.policy import PolicyError, judge

REFUSED_CALLS = [
    "json_serialize_plan('SELECT current_setting(''allowed_directories'')', optimize := true)",
    "JSON_Serialize_Plan('FROM glob(''s3://x/../*'')')",
    "json_serialize_sql('SELECT 1')",
    "json_deserialize_sql('{}')",
    "sleep_ms(1)",
    "pg_sleep(1)",
    "pg_catalog.pg_sleep(1)",
    "version()",
    "stats(1)",
    "vector_type(1)",
    "txid_current()",
    "current_transaction_id()",
    "current_setting('memory_limit')",
    "current_schemas(true)",
    "current_database()",
    "current_catalog",
    "current_schema",
    "current_user",
    "user",
    "session_user",
    "current_query()",
    "in_search_path('memory', 'main')",
    "nextval('x')",
    "getvariable('x')",
    "getenv('PATH')",
    "write_log('x')",
    "x.current_setting()",
    "system.main.abs(1)",
    "pg_catalog.abs(1)",
    "main.current_setting('x')",
    "pg_get_viewdef(1)",
    "pg_typeof(1)",
    "get_block_size('memory')",
    "variant_bytes_to_variant(NULL)",
    "__internal_decompress_string(1)",
    "[x.current_setting() FOR x IN ['threads']]",
    "list_transform(['threads'], lambda x: current_setting(x))",
    "sum(1) FILTER (version() = '')",
    "first(1 ORDER BY version())",
    "row_number() OVER (PARTITION BY version())",
    "a_function_of_a_later_engine(1)",
]
REFUSED_TABLES = [
    "query('SELECT 1')",
    "query_table('t')",
    "histogram(gold.a, x)",
    "duckdb_settings()",
    "duckdb_memory()",
    "duckdb_logs_parsed('x')",
    "json_execute_serialized_sql('{}')",
    "pragma_table_info('x')",
    "test_all_types()",
    "main.range(1)",
    "system.main.range(1)",
    "which_secret('s3://x', 's3')",
    "iceberg_snapshots('s3://x')",
    "read_avro('x')",
]


@pytest.fixture(scope="module")
def engine() -> Iterator[_duckdb.DuckDBPyConnection]:
    connection = sandbox.open_engine()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def catalogue(engine: _duckdb.DuckDBPyConnection) -> list[Function]:
    return functions.catalogue(engine)


def classes() -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """Return the class of each function, with its reason."""
    document = functions.read()
    found: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for name, group in document["classes"].items():
        for entry in functions.members(group):
            assert entry not in found, f"{entry} is in two classes"
            found[entry] = (name, group)
    return found


def parsed(engine: _duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    row = engine.execute(functions.PARSED, [sql]).fetchone()
    assert row is not None
    tree = json.loads(row[0])
    assert not tree["error"], tree
    statement: dict[str, Any] = tree["statements"][0]
    return statement


def test_every_function_of_the_engine_has_a_class(catalogue: list[Function]) -> None:
    known = classes()
    missing = [(each.kind, each.name) for each in catalogue if (each.kind, each.name) not in known]
    assert missing == [], "run `python -m crypto_lakehouse.query.functions` and give each new function a class"
    gone = set(known) - {(each.kind, each.name) for each in catalogue}
    assert {kind for kind, _name in gone} <= {functions.BINDER}
    assert functions.read()["classes"][UNCLASSIFIED]["functions"] == {}
    assert functions.read()["engine"] == f"v{_duckdb.__version__}"


def test_a_function_of_a_later_engine_is_unclassified_and_refused(catalogue: list[Function]) -> None:
    new = Function("scalar", "a_function_of_a_later_engine", consistent=True)
    document = functions.updated(functions.read(), [*catalogue, new])
    assert document["classes"][UNCLASSIFIED]["functions"] == {"scalar": [new.name]}
    assert new.name not in functions.load().calls
    assert functions.updated(functions.read(), catalogue)["classes"] == functions.read()["classes"]


def test_each_class_says_why() -> None:
    for name, group in functions.read()["classes"].items():
        assert group["reason"].endswith("."), name
        assert isinstance(group["allowed"], bool)
        assert not group["repeatable"] or group["allowed"]


def test_what_the_catalogue_does_not_call_consistent_is_never_kept(catalogue: list[Function]) -> None:
    known = classes()
    for each in catalogue:
        if each.kind not in EXPANDED and not each.consistent and each.kind != "table":
            assert not known[each.kind, each.name][1]["repeatable"], each


def test_a_macro_is_allowed_and_kept_only_when_what_it_expands_to_is(
    engine: _duckdb.DuckDBPyConnection, catalogue: list[Function]
) -> None:
    known, allowed = classes(), functions.load()
    judged = 0
    for each in catalogue:
        if each.kind not in EXPANDED or not known[each.kind, each.name][1]["allowed"]:
            continue
        called = functions.called(engine, each)
        assert called is not None, f"{each.name} reads a table"
        assert called <= set(allowed.calls), each
        if known[each.kind, each.name][1]["repeatable"]:
            assert all(allowed.calls[name] for name in called), each
        judged += 1
    assert judged > 50


def test_a_name_with_a_refused_meaning_is_refused() -> None:
    refused = {name for (kind, name), (_class, group) in classes().items() if kind in CALLS and not group["allowed"]}
    assert refused.isdisjoint(functions.load().calls)


@pytest.mark.parametrize("call", REFUSED_CALLS)
def test_a_call_that_does_not_compute_is_refused(engine: _duckdb.DuckDBPyConnection, call: str) -> None:
    for sql in ("SELECT @", "SELECT 1 WHERE @ IS NULL", "SELECT (SELECT max(1) HAVING @ IS NULL)", "FROM range(@)"):
        with pytest.raises(PolicyError):
            judge(parsed(engine, sql.replace("@", call)))


@pytest.mark.parametrize("call", REFUSED_TABLES)
def test_a_table_function_that_does_not_compute_is_refused(engine: _duckdb.DuckDBPyConnection, call: str) -> None:
    for sql in ("FROM @", "SELECT (SELECT 1 FROM @)", "FROM gold.a, LATERAL (FROM @)", "WITH x AS (FROM @) FROM x"):
        with pytest.raises(PolicyError):
            judge(parsed(engine, sql.replace("@", call)))


@pytest.mark.parametrize(
    ("sql", "repeatable"),
    [
        ("SELECT abs(-1) + 2 * 3 // 1, 'a' || 'b', 'a' LIKE 'b', 1 IN (1, 2), x -> '$.a' FROM gold.a", True),
        ("SELECT x.upper().lower(), t.x.upper() FROM gold.a t", True),
        ("SELECT t.user, t.current_schema FROM gold.a t", True),
        ("SELECT [y + 1 FOR y IN [1, 2] IF y > 1], {'a': 1}, MAP {'a': 1}, (1, 2), x[1], x[1:2] FROM gold.a", True),
        ("SELECT d AT TIME ZONE 'UTC', extract(year FROM d), INTERVAL 1 DAY, d::DATE FROM gold.a", True),
        ("SELECT sum(x) OVER (ORDER BY d), lag(x) OVER w FROM gold.a WINDOW w AS (ORDER BY d)", True),
        (
            "SELECT unnest([1]), count(*), count(DISTINCT x), string_agg(x, ',' ORDER BY d) FROM gold.a GROUP BY ALL",
            True,
        ),
        ("SELECT split_part('a', 'b', 1), fdiv(1, 2), nullif(1, 2), json_group_array(x) FROM gold.a", True),
        ("SELECT a FROM gold.a WHERE d > current_date - 7", False),
        ("SELECT list_sum([1]), list_aggregate([1], 'sum')", False),
        ("FROM gold.a USING SAMPLE 10%", False),
        ("SELECT random()", False),
        ("SELECT age(d) FROM gold.a", False),
    ],
)
def test_a_query_is_judged_repeatable_or_not(engine: _duckdb.DuckDBPyConnection, sql: str, repeatable: bool) -> None:
    assert judge(parsed(engine, sql)).repeatable is repeatable


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("FROM gold.a AT (VERSION => 1)", "newest snapshot"),
        ("SELECT ?", "value parameter"),
        ("SELECT $x", "value parameter"),
        ("VALUES (DEFAULT)", "value default"),
        ("FROM " + ", ".join(f"t{number}" for number in range(65)), "64 tables"),
    ],
)
def test_a_form_that_is_not_listed_is_refused(engine: _duckdb.DuckDBPyConnection, sql: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        judge(parsed(engine, sql))
