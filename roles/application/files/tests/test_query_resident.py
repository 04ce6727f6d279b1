# SPDX-License-Identifier: GPL-3.0-or-later
"""Small tables are in memory and large ones are not; the answers are equal, and never older than the limit."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import services
from delete_files import delete_positions
from pyiceberg.catalog import Catalog
from pyiceberg.types import LongType

from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.objectstore import s3_client

SOURCES = re.compile(r'^crypto_lakehouse_query_sources_total\{source="(\w+)"\} (\d+)', re.MULTILINE)


def rows(count: int, first: int = 0) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {"id": pa.array(numbers, pa.int64()), "name": pa.array([f"n{number}" for number in numbers], pa.string())}
    )


@pytest.fixture(scope="module")
def catalog(object_store: services.ObjectStore) -> Catalog:
    opened = open_catalog(services.settings_from(object_store.environment("pipeline")), "gold")
    opened.create_namespace_if_not_exists("gold")
    return opened


@pytest.fixture
def name() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def fresh(api_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.ApiServer]:
    """Return an API that reads the catalog for each request."""
    environment = {**api_environment, "LAKEHOUSE_QUERY_MAX_STALENESS_S": "0"}
    with services.api_server(environment, tmp_path_factory.mktemp("fresh") / "api.log") as server:
        yield server


@pytest.fixture(scope="module")
def without_memory(
    api_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[services.ApiServer]:
    """Return an API that caches neither tables nor results, and reads the catalog once an hour."""
    environment = {
        **api_environment,
        "LAKEHOUSE_QUERY_MAX_STALENESS_S": "3600",
        "LAKEHOUSE_QUERY_RESIDENT_MB": "0",
        "LAKEHOUSE_QUERY_RESULT_CACHE_MB": "0",
    }
    with services.api_server(environment, tmp_path_factory.mktemp("remote") / "api.log") as server:
        yield server


def over(table: str, sql: str) -> str:
    """Return a statement in which the table's name replaces `@`."""
    return sql.replace("@", f"gold.{table}")


def answered(api: services.ApiServer, sql: str) -> list[Any]:
    response = api.query(sql)
    assert response.status_code == 200, response.text
    found: list[Any] = response.json()["rows"]
    return found


def sources(api: services.ApiServer) -> dict[str, int]:
    """Return the number of answers from each source."""
    return {source: int(count) for source, count in SOURCES.findall(api.client.get("/metrics").text)}


def source_of(api: services.ApiServer, sql: str) -> str:
    """Return the source of the answer to a statement."""
    before = sources(api)
    answered(api, sql)
    (source,) = [name for name, count in sources(api).items() if count != before.get(name, 0)]
    return source


def becomes_resident(api: services.ApiServer, table: str) -> None:
    # Not repeatable, so that the cache never answers it.
    sql = over(table, "SELECT count(*), random() < 2 FROM @")
    services.wait_until(lambda: source_of(api, sql) == "resident", f"gold.{table} to be resident")


def test_a_small_table_becomes_resident_and_its_answers_stay_the_same(
    fresh: services.ApiServer, candles: services.Candles
) -> None:
    sql = "SELECT *, random() < 2 FROM gold.api_candles ORDER BY day"
    first = fresh.query(sql).json()
    becomes_resident(fresh, "api_candles")
    second = fresh.query(sql).json()
    assert first["columns"] == second["columns"]
    assert first["rows"] == second["rows"]
    assert second["row_count"] == candles.rows


def test_a_table_that_is_not_small_is_read_from_the_store(
    without_memory: services.ApiServer, candles: services.Candles
) -> None:
    for _time in range(2):
        assert source_of(without_memory, over("api_candles", "SELECT count(*) FROM @")) == "store"


def test_each_commit_is_seen_by_the_next_request(fresh: services.ApiServer, catalog: Catalog, name: str) -> None:
    table = catalog.create_table(f"gold.{name}", schema=rows(0).schema)
    sql = over(name, "SELECT count(*) FROM @")
    assert answered(fresh, sql) == [[0]]
    for commit in range(1, 5):
        table.append(rows(10, first=10 * commit))
        assert answered(fresh, sql) == [[10 * commit]]
        becomes_resident(fresh, name)
        assert answered(fresh, sql) == [[10 * commit]]
        assert source_of(fresh, sql) == "cache"


def test_a_table_that_is_made_again_is_another_table(fresh: services.ApiServer, catalog: Catalog, name: str) -> None:
    sql = over(name, "SELECT min(id), count(*) FROM @")
    for first in (0, 100):
        catalog.create_table(f"gold.{name}", schema=rows(0).schema).append(rows(10, first=first))
        assert answered(fresh, sql) == [[first, 10]]
        becomes_resident(fresh, name)
        assert answered(fresh, sql) == [[first, 10]]
        catalog.drop_table(f"gold.{name}")
        assert fresh.query(sql).status_code == 404


def test_a_pointer_is_used_for_a_while_and_not_longer(api: services.ApiServer, catalog: Catalog, name: str) -> None:
    table = catalog.create_table(f"gold.{name}", schema=rows(0).schema)
    table.append(rows(10))
    sql = over(name, "SELECT count(*) FROM @")
    assert answered(api, sql) == [[10]]
    table.append(rows(10, first=10))
    # By default, an answer is at most a second old.
    services.wait_until(lambda: answered(api, sql) == [[20]], "the second commit", timeout_s=10)
    table.append(rows(10, first=20))
    services.wait_until(lambda: answered(api, sql) == [[30]], "the third commit", timeout_s=10)


def test_delete_files_are_honoured(fresh: services.ApiServer, catalog: Catalog, name: str) -> None:
    table = catalog.create_table(f"gold.{name}", schema=rows(0).schema)
    table.append(rows(100))
    delete_positions(table, range(0, 100, 3))
    assert any(task.delete_files for task in table.scan().plan_files())
    expected = [[number] for number in range(100) if number % 3]
    sql = over(name, "SELECT id FROM @ WHERE random() < 2 ORDER BY id")
    assert answered(fresh, sql) == expected
    becomes_resident(fresh, name)
    assert answered(fresh, sql) == expected


def test_schema_changes_are_honoured(fresh: services.ApiServer, catalog: Catalog, name: str) -> None:
    table = catalog.create_table(f"gold.{name}", schema=rows(0).schema)
    table.append(rows(2))
    sql = over(name, "SELECT * FROM @ WHERE random() < 2 ORDER BY 1")
    assert answered(fresh, sql) == [[0, "n0"], [1, "n1"]]
    with table.update_schema() as change:
        change.add_column("extra", LongType())
        change.rename_column("name", "label")
    table.append(pa.table({"id": pa.array([2]), "label": pa.array(["x"]), "extra": pa.array([7])}))
    with table.update_schema() as change:
        change.delete_column("label")
        change.add_column("name", LongType())
    expected = [[0, None, None], [1, None, None], [2, 7, None]]
    assert answered(fresh, sql) == expected
    becomes_resident(fresh, name)
    assert answered(fresh, sql) == expected
    assert [column["name"] for column in fresh.query(sql).json()["columns"]] == ["id", "extra", "name"]


def test_a_file_that_maintenance_removed_leads_to_one_retry(
    without_memory: services.ApiServer, catalog: Catalog, object_store: services.ObjectStore, name: str
) -> None:
    table = catalog.create_table(f"gold.{name}", schema=rows(0).schema)
    table.append(rows(10))
    sql = over(name, "SELECT count(*), min(id) FROM @")
    assert answered(without_memory, sql) == [[10, 0]]
    old = [task.file.file_path for task in table.scan().plan_files()]
    table.overwrite(rows(5, first=50))
    # Nothing was removed yet: the pointer, which is at most an hour old, is valid.
    assert answered(without_memory, sql) == [[10, 0]]
    remove(object_store, old)
    assert answered(without_memory, sql) == [[5, 50]]
    # A better pointer does not exist now.
    remove(object_store, [task.file.file_path for task in table.scan().plan_files()])
    response = without_memory.query(sql)
    assert response.status_code == 503
    assert response.json()["type"].endswith("query-storage")
    assert "s3://" not in response.text


def test_a_common_table_expression_does_not_hide_a_resident_table(
    fresh: services.ApiServer, catalog: Catalog, name: str
) -> None:
    table = catalog.create_table(f"gold.{name}", schema=rows(0).schema)
    table.append(rows(10))
    becomes_resident(fresh, name)
    sql = "SELECT (SELECT count(*) FROM (WITH @ AS (SELECT 1) FROM @)), (SELECT count(*) FROM @)".replace("@", name)
    assert answered(fresh, sql) == [[1, 10]]
    table.append(rows(10, first=10))
    assert fresh.query(sql).json().get("rows", [[1, 20]]) == [[1, 20]]


def remove(store: services.ObjectStore, addresses: list[str]) -> None:
    s3 = s3_client(services.settings_from(store.environment("admin")))
    for address in addresses:
        bucket, _slash, key = address.removeprefix("s3://").partition("/")
        s3.delete_object(Bucket=bucket, Key=key)
