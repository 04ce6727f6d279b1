# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /v1/query` on the deployed API, an object store and a gold table: answers, refusals and recovery."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import services

FORKSERVER = "crypto_lakehouse.query.query_forkserver"
SIMPLE = "SELECT day, close FROM gold.api_candles WHERE symbol = 'BTCUSDT' ORDER BY day DESC LIMIT 10"
ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"

ATTACKS = {
    "a file": "SELECT * FROM read_text('/etc/passwd')",
    "a file by a scalar subquery": "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "a file as a table": "SELECT * FROM '/etc/passwd'",
    "a file as a table of gold": 'SELECT * FROM gold."/etc/passwd"',
    "a file with a suffix": "SELECT * FROM '/etc/x.csv'",
    "the environment of the process": "SELECT * FROM read_text('/proc/self/environ')",
    "the environment of the parent": "SELECT * FROM read_blob('/proc/*/environ')",
    "an environment variable": "SELECT getenv('LAKEHOUSE_API_TOKEN')",
    "a list of files": "SELECT * FROM glob('/**')",
    "a metadata address": "SELECT * FROM read_text('http://169.254.169.254/latest/meta-data/iam/security-credentials/')",
    "a metadata address as a table": "SELECT * FROM 'http://169.254.169.254/latest.json'",
    "a service on loopback": "SELECT * FROM read_json('{market}/api/v3/ping')",
    "the object store's master": "SELECT * FROM read_text('{master}/cluster/status')",
    "another tier": "SELECT * FROM read_text('s3://{bronze}/raw/secret.txt')",
    "the list of table files": "SELECT * FROM glob('{gold}/**')",
    "a table file": "SELECT * FROM parquet_scan('{gold}/gold/api_candles/data/*.parquet')",
    "COPY to a file": "COPY (SELECT 1) TO '/tmp/stolen.csv'",
    "COPY to the store": "COPY (SELECT 1) TO '{gold}/stolen.csv'",
    "COPY FROM": "COPY x FROM '/etc/passwd'",
    "ATTACH": "ATTACH '/tmp/x.db' AS x",
    "DETACH": "DETACH memory",
    "INSTALL": "INSTALL spatial",
    "LOAD": "LOAD spatial",
    "SET": "SET enable_external_access = true",
    "SET VARIABLE": "SET VARIABLE x = 1",
    "RESET": "RESET memory_limit",
    "PRAGMA": "PRAGMA database_list",
    "PRAGMA with a value": "PRAGMA memory_limit = '100GB'",
    "CALL": "CALL pragma_version()",
    "CREATE TABLE": "CREATE TABLE x AS SELECT 1",
    "CREATE MACRO": "CREATE MACRO f() AS TABLE SELECT * FROM read_text('/etc/passwd')",
    "CREATE SECRET": "CREATE SECRET (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "INSERT": "INSERT INTO gold.api_candles VALUES (1)",
    "DELETE": "DELETE FROM gold.api_candles",
    "UPDATE": "UPDATE gold.api_candles SET close = 0",
    "DROP": "DROP VIEW gold.api_candles",
    "EXPLAIN": "EXPLAIN ANALYZE SELECT 1",
    "PREPARE": "PREPARE x AS SELECT 1",
    "EXECUTE": "EXECUTE x",
    "a transaction": "BEGIN",
    "CHECKPOINT": "CHECKPOINT",
    "EXPORT": "EXPORT DATABASE '/tmp/stolen'",
    "VACUUM": "VACUUM",
    "two statements": "SELECT 1; SELECT 2",
    "a second statement behind a comment": "SELECT 1 /* ; */ ; SET threads = 64 --",
    "a second statement behind a line comment": "SELECT 1 -- harmless\n; COPY (SELECT 1) TO '/tmp/stolen.csv'",
    "a statement hidden by a comment": "/* SELECT 1 */ COPY (SELECT 1) TO '/tmp/stolen.csv'",
    "a nested comment": "SELECT 1 /* /* */ */; INSTALL spatial",
    "dollar quotes": "SELECT $$;$$; INSTALL spatial",
    "no statement": ";;",
    "a comment alone": "-- nothing",
    "SQL by a function": "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "a table by a function": "SELECT * FROM query_table('/etc/passwd')",
    "SQL as a document": "SELECT * FROM json_execute_serialized_sql('{{}}')",
    "the engine's secrets": "SELECT * FROM duckdb_secrets()",
    "the engine's settings": "SELECT * FROM duckdb_settings()",
    "one setting": "SELECT current_setting('memory_limit')",
    "the engine's catalog": "SELECT * FROM duckdb_views()",
    "the information schema": "SELECT * FROM information_schema.tables",
    "the system catalog": "SELECT * FROM pg_catalog.pg_class",
    "the engine's log": "SELECT write_log('x')",
    "SHOW TABLES": "SHOW TABLES",
    "a file in DESCRIBE": "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
    "a file in SUMMARIZE": "SUMMARIZE '/etc/passwd'",
    "a file in a lambda": "SELECT list_transform([1], lambda x: (SELECT content FROM read_text('/etc/passwd')))",
    "PIVOT as a statement": "PIVOT gold.api_candles ON symbol USING sum(close)",
    "a variable of the program": "SELECT * FROM connection",
    "another scheme": "SELECT * FROM read_text('file:///etc/passwd')",
    "a parameter": "SELECT ?",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_learns_nothing(
    attack: str,
    api: services.ApiServer,
    candles: services.Candles,
    object_store: services.ObjectStore,
    market_stub: services.HttpStub,
) -> None:
    before = len(market_stub.requests)
    sql = ATTACKS[attack].format(
        market=market_stub.url,
        master=object_store.master_url,
        bronze=object_store.buckets["bronze_bucket"],
        gold=object_store.buckets["gold_warehouse"],
    )
    response = api.query(sql)
    assert response.status_code in (400, 403, 404), response.text
    assert response.headers["content-type"] == "application/problem+json"
    keys = object_store.credentials["query"]
    for secret in ("root:", services.API_TOKEN, candles.secret, keys.access_key, keys.secret_key, "PATH="):
        assert secret not in response.text
    assert market_stub.requests[before:] == []


def test_after_every_attack_the_table_is_whole(api: services.ApiServer, candles: services.Candles) -> None:
    answer = api.query("SELECT count(*), sum(close) FROM gold.api_candles").json()
    assert answer["rows"] == [[candles.rows, "9975.00000000"]]


def test_a_query_is_answered_with_names_types_and_exact_values(api: services.ApiServer) -> None:
    response = api.query("SELECT * FROM gold.api_candles ORDER BY day LIMIT 2")
    assert response.status_code == 200
    document = response.json()
    assert document.pop("elapsed_ms") > 0
    assert document == {
        "columns": [
            {"name": "day", "type": "DATE"},
            {"name": "symbol", "type": "VARCHAR"},
            {"name": "close", "type": "DECIMAL(18,8)"},
            {"name": "volume", "type": "DOUBLE"},
            {"name": "opened_at", "type": "TIMESTAMP WITH TIME ZONE"},
        ],
        "rows": [
            ["2024-01-01", "ETHÜSDT", "0.00000000", 0.0, "2024-01-01T00:00:00Z"],
            ["2024-01-02", "BTCUSDT", "0.12500000", 1.0, "2024-01-01T00:00:00Z"],
        ],
        "row_count": 2,
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1;", [[1]]),
        ("SELECT '🚀 ünïcödé' AS \"näme\" -- ünï", [["🚀 ünïcödé"]]),
        ("SELECT 'NaN'::DOUBLE, [1.5::DECIMAL(2, 1)], {'a': NULL}", [[None, ["1.5"], {"a": None}]]),
        ("SELECT count(*) FROM api_candles WHERE symbol = 'ETHÜSDT'", [[200]]),
        ("WITH a AS (FROM gold.api_candles) SELECT count(*) FROM a JOIN gold.API_CANDLES USING (day)", [[400]]),
        ("SELECT sum(i) FROM range(10) t(i)", [[45]]),
    ],
)
def test_queries_of_many_forms_are_answered(api: services.ApiServer, sql: str, rows: list[Any]) -> None:
    response = api.query(sql)
    assert response.status_code == 200, response.text
    assert response.json()["rows"] == rows


@pytest.mark.parametrize(
    ("sql", "status", "words"),
    [
        ("SELEKT 1", 400, "syntax error"),
        ("SELECT missing FROM gold.api_candles", 400, "missing"),
        ("SELECT 'a'::INTEGER", 400, "Conversion"),
        ("FROM gold.no_such_table", 404, "no_such_table"),
        ('FROM gold."no such table"', 404, "no such table"),
        ('FROM gold."50%"', 404, "50%"),
    ],
)
def test_a_wrong_query_is_told_what_is_wrong(api: services.ApiServer, sql: str, status: int, words: str) -> None:
    response = api.query(sql)
    assert response.status_code == status
    assert words in response.json()["detail"]
    assert "s3://" not in response.text


def test_rows_beyond_the_limit_are_left_out_and_said_to_be(api: services.ApiServer) -> None:
    exact = api.query("FROM range(5)", max_rows=5).json()
    assert (exact["row_count"], exact["truncated"]) == (5, False)
    more = api.query("FROM range(6)", max_rows=5).json()
    assert (more["row_count"], more["truncated"]) == (5, True)
    huge = api.query("FROM range(1000000000000)", max_rows=1_000_000_000).json()
    assert (huge["row_count"], len(huge["rows"]), huge["truncated"]) == (1000, 1000, True)


def test_a_result_that_is_too_large_is_refused(api: services.ApiServer) -> None:
    response = api.query("SELECT repeat('x', 100000) FROM range(10)")
    assert response.status_code == 422
    assert response.json()["type"].endswith("query-result-size")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(repeat('x', 1000000) || i::VARCHAR) FROM range(100000) t(i)",
        "SELECT count(DISTINCT i || 'padding to make it long') FROM range(100000000) t(i)",
        "SELECT repeat('x', 4000000000)",
    ],
)
def test_a_memory_bomb_is_stopped(api: services.ApiServer, sql: str) -> None:
    response = api.query(sql)
    assert response.status_code in (400, 422), response.text
    assert response.json()["type"].split("-")[-1] in ("memory", "invalid", "timeout")
    assert api.query("SELECT 1").json()["rows"] == [[1]]


@pytest.mark.parametrize(
    "sql", [ENDLESS, "SELECT count(*) FROM range(10000000) a, range(100000) b WHERE a.range < b.range"]
)
def test_an_endless_query_is_stopped_at_the_time_limit(api: services.ApiServer, sql: str) -> None:
    started = time.monotonic()
    response = api.query(sql)
    assert response.status_code == 422, response.text
    assert response.json()["type"].endswith(("query-timeout", "query-memory"))
    assert time.monotonic() - started < 200
    services.wait_until(lambda: not sandboxes(api), "the end of the stopped query's process")


def test_a_query_whose_process_is_killed_fails_alone(api: services.ApiServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        doomed = pool.submit(api.query, ENDLESS)
        services.wait_until(lambda: busy(api), "a running query")
        for process in busy(api):
            process.kill()
        assert doomed.result().status_code == 422
    assert api.query("SELECT 1").json()["rows"] == [[1]]


def test_a_generation_that_died_is_replaced(api: services.ApiServer) -> None:
    api.query("SELECT 1")
    for process in generations(api):
        process.kill()
        process.wait(60) if process.is_running() else None
    assert api.query("SELECT random() < 2").json()["rows"] == [[True]]


def test_a_forkserver_that_died_is_replaced(api: services.ApiServer) -> None:
    first = forkserver(api)
    with ThreadPoolExecutor(1) as pool:
        doomed = pool.submit(api.query, ENDLESS)
        services.wait_until(lambda: busy(api), "a running query")
        first.kill()
        assert doomed.result().status_code == 422
    first.wait(60)
    assert api.query("SELECT random() < 2").json()["rows"] == [[True]]
    assert forkserver(api).pid != first.pid


def test_no_process_stays_behind_its_query(api: services.ApiServer) -> None:
    for number in range(5):
        api.query(f"SELECT {number}, uuid()")
    services.wait_until(lambda: len(forkserver(api).children()) == 1, "one generation and no other, dead or alive")
    services.wait_until(lambda: not generations(api)[0].children(), "no query process, dead or alive")
    assert psutil.Process(api.pid).children() == [forkserver(api)]


def test_a_client_that_goes_away_takes_its_query_along(api: services.ApiServer) -> None:
    body = json.dumps({"sql": ENDLESS}).encode()
    head = (
        f"POST /v1/query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {services.API_TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    asked: list[socket.socket] = []

    def running() -> bool:
        # On a loaded machine the time of a query may be over before its computation is visible.
        if not asked or select.select(asked[-1:], [], [], 0)[0]:
            asked.append(socket.create_connection((services.HOST, urlsplit(api.url).port or 0)))
            asked[-1].sendall(head.encode() + body)
        return bool(busy(api))

    try:
        services.wait_until(running, "a running query")
    finally:
        for connection in asked:
            connection.close()
    started = time.monotonic()
    services.wait_until(lambda: not busy(api), "the end of the query")
    assert time.monotonic() - started < 6


def test_queries_share_nothing(api: services.ApiServer) -> None:
    # The next process does not use the seed of an earlier one.
    answers = [api.query("SELECT setseed(0.5)"), *(api.query("SELECT random()") for _time in range(3))]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["rows"][0][0] for answer in answers[1:]}) == 3


def opened(process: psutil.Process) -> list[str]:
    return [file.path for file in process.open_files() if not file.path.startswith(("/dev/", "/sys/"))]


def test_the_processes_of_queries_know_no_token_and_no_database(api: services.ApiServer) -> None:
    api.query("SELECT 1")
    for process in (forkserver(api), *generations(api)):
        assert services.API_TOKEN not in " ".join(process.cmdline())
        # Only root may inspect such a process, not even its owner.
        with contextlib.suppress(psutil.AccessDenied):
            assert process.environ() == {}
            services.wait_until(lambda process=process: not opened(process), "no file is open")  # type: ignore[misc]
            assert process.net_connections() == []


def test_a_simple_query_is_quick(api: services.ApiServer) -> None:
    durations = sorted(timed(lambda: api.query(SIMPLE)) for _time in range(40))
    # The product's limit is 0.3 s on an idle machine; tests share theirs.
    assert durations[int(len(durations) * 0.95)] < 3.0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {services.API_TOKEN}x"},
        {"Authorization": f"Bearer {services.API_TOKEN[:-1]}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {services.API_TOKEN}"},
        {"Authorization": services.API_TOKEN},
        {"Authorization": "Bearer ü🚀".encode()},
    ],
)
def test_without_the_token_nothing_is_answered(api: services.ApiServer, headers: dict[str, Any]) -> None:
    for response in (
        api.client.post("/v1/query", json={"sql": "SELECT 1"}, headers=headers),
        api.client.get("/v1/tables", headers=headers),
    ):
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b'{"sql": 1}',
        b'{"sql": ""}',
        b'{"sql": "   "}',
        b'{"sql": "SELECT 1", "max_rows": 0}',
        b'{"sql": "SELECT 1", "max_rows": "many"}',
        b'{"sql": "SELECT 1", "settings": {}}',
        b'{"sql": "SELECT \\u0000"}',
        b'{"sql": "SELECT \'\\ud800\'"}',
        b'{"sql": "\xff"}',
        json.dumps({"sql": "SELECT " + "1 + " * 20_000 + "1"}).encode(),
    ],
)
def test_a_malformed_request_is_refused(api: services.ApiServer, body: bytes) -> None:
    headers = {**services.AUTHORIZED, "Content-Type": "application/json"}
    response = api.client.post("/v1/query", content=body, headers=headers)
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_deep_statement_does_not_hurt(api: services.ApiServer) -> None:
    nested = "SELECT " + "(" * 5_000 + "1" + ")" * 5_000
    assert api.query(nested).status_code in (200, 400, 403, 422)
    subqueries = "SELECT * FROM (" * 2_000 + "SELECT 1" + ")" * 2_000
    assert api.query(subqueries).status_code in (200, 400, 403, 422)
    assert api.query("SELECT 1").json()["rows"] == [[1]]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(api: services.ApiServer, chunked: bool) -> None:
    size = 10_000_000
    content = iter([b" " * 65_536] * (size // 65_536)) if chunked else b" " * size
    headers = {**services.AUTHORIZED, "Content-Type": "application/json"}
    with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError):
        response = httpx.post(f"{api.url}/v1/query", content=content, headers=headers, trust_env=False)
        assert response.status_code == 413
    assert api.client.get("/live").status_code == 200


def test_the_tables_are_listed(api: services.ApiServer, candles: services.Candles) -> None:
    response = api.client.get("/v1/tables", headers=services.AUTHORIZED)
    assert candles.name in response.json()["tables"]


def test_the_log_has_one_line_a_request_and_no_secret(
    api: services.ApiServer, object_store: services.ObjectStore
) -> None:
    api.client.get(f"/v1/nothing?token={services.API_TOKEN}", headers=services.AUTHORIZED)
    api.client.get("/forged%0Aline")
    # A line is written after its answer has been sent.
    services.wait_until(lambda: '"GET /forged%0Aline" 404' in api.log.read_text(), "the line of the last request")
    text = api.log.read_text()
    assert '"GET /v1/nothing" 404' in text
    keys = object_store.credentials["query"]
    for secret in (services.API_TOKEN, keys.access_key, keys.secret_key, "postgresql://", "Traceback"):
        assert secret not in text


def forkserver(api: services.ApiServer) -> psutil.Process:
    """Return the process from which the query processes of the API are forked."""
    (found,) = [child for child in psutil.Process(api.pid).children() if FORKSERVER in child.cmdline()]
    return found


def generations(api: services.ApiServer) -> list[psutil.Process]:
    """Return the running children of the forkserver: the generation, and processes with a key."""
    found = []
    for process in forkserver(api).children():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def sandboxes(api: services.ApiServer) -> list[psutil.Process]:
    """Return the query processes of the API: forks of a generation, and those with a key."""
    found = []
    for process in forkserver(api).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            # A generation uses little time; its forks are one level deeper.
            is_query = process.parent() != forkserver(api) or process.cpu_times().user > 0.3
            if is_query and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def busy(api: services.ApiServer) -> list[psutil.Process]:
    """Return the query processes that have worked for longer than their start takes."""
    found = []
    for process in sandboxes(api):
        with contextlib.suppress(psutil.Error):
            if process.cpu_times().user > 0.3:
                found.append(process)
    return found


def timed(call: Callable[[], httpx.Response]) -> float:
    """Return the seconds of a call that must succeed."""
    started = time.perf_counter()
    response = call()
    assert response.status_code == 200, response.text
    return time.perf_counter() - started
