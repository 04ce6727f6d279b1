# SPDX-License-Identifier: GPL-3.0-or-later
"""Each path to an answer is attacked: resident engine, fetching process, result cache, named tokens, queue."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import services

from crypto_lakehouse.api.security import derived_token

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
REPEATED = "SELECT day, close FROM gold.api_candles ORDER BY day DESC LIMIT 7"

# A resident process without the policy: each statement goes to the engine unchanged.
RESIDENT_PROBE = """
import io, json, os, resource, socket, sys
from crypto_lakehouse.query import frames, query_forkserver, sandbox
request = json.load(sys.stdin)
query_forkserver.harden(os.getppid())
connection = sandbox.open_engine()
sandbox.warm_up(connection)
message = {"tables": [], "resident_mb": 16, "limits": request["limits"]}
sandbox.load_resident(connection, [], io.BytesIO(frames.pack_message(message)), io.BytesIO())
own = sandbox.own_connection(connection)
out = os.dup(1)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
outcomes = []
for statement in request["statements"]:
    try:
        outcomes.append([True, repr(own.execute(statement).fetchall())])
    except Exception as error:
        outcomes.append([False, f"{type(error).__name__}: {error}"])
for attempt in (lambda: socket.socket(), lambda: open("/etc/passwd"), lambda: os.pipe()):
    try:
        attempt()
        outcomes.append([True, "a descriptor"])
    except OSError as error:
        outcomes.append([False, str(error)])
os.write(out, json.dumps(outcomes).encode())
"""


def resident(*statements: str) -> list[tuple[bool, str]]:
    """Return for each statement whether it ran, and its rows or its error; then for opening descriptors."""
    limits = {"memory_mb": 128, "timeout_s": 20, "max_result_bytes": 100_000}
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", RESIDENT_PROBE],
        input=json.dumps({"limits": limits, "statements": statements}),
        capture_output=True,
        text=True,
        env={},
        timeout=120,
        check=True,
    )
    return [tuple(answer) for answer in json.loads(done.stdout)]


def test_the_resident_engine_reaches_no_file_and_no_address(
    object_store: services.ObjectStore, market_stub: services.HttpStub, tmp_path: Path
) -> None:
    before = len(market_stub.requests)
    gold = object_store.buckets["gold_warehouse"]
    outcomes = resident(
        "FROM read_text('/etc/passwd')",
        "FROM read_blob('file:///etc/passwd')",
        "FROM '/etc/passwd'",
        "FROM glob('/*')",
        "FROM read_text('/proc/self/environ')",
        "FROM read_parquet('/proc/self/fd/3')",
        f"FROM read_text('{market_stub.url}/api/v3/ping')",
        "FROM read_text('https://example.org/x')",
        f"FROM read_text('{gold}/x')",
        f"FROM iceberg_scan('{gold}/x')",
        f"ATTACH '{market_stub.url}' AS x (TYPE iceberg)",
        f"ATTACH '{tmp_path}/x.db' AS x",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"EXPORT DATABASE '{tmp_path}/export'",
        "INSTALL spatial",
        "LOAD '/tmp/x.duckdb_extension'",
    )
    assert [text for ran, text in outcomes if ran] == []
    assert market_stub.requests[before:] == []
    assert list(tmp_path.iterdir()) == []


def test_the_resident_engine_cannot_be_changed_and_has_no_secret() -> None:
    settings = ("enable_external_access = true", "memory_limit = '100GB'", "threads = 64", "temp_directory = '/tmp'")
    locks = ("lock_configuration = false", "disabled_filesystems = ''", "allowed_directories = ['/']")
    *changes, secrets, _socket, _file, _pipe = resident(
        *(f"SET {setting}" for setting in (*settings, *locks)),
        *(f"SET GLOBAL {setting}" for setting in (*settings, *locks)),
        "RESET memory_limit",
        "PRAGMA memory_limit='100GB'",
        "FROM duckdb_secrets()",
    )
    assert [text for ran, text in changes if ran] == []
    assert secrets == (True, "[]")


def test_the_kernel_gives_a_resident_process_no_descriptor() -> None:
    assert [ran for ran, _text in resident()] == [False, False, False]


def test_memory_is_limited_in_the_resident_engine() -> None:
    ((ran, text), *_descriptors) = resident("SELECT list(repeat('x', 1000000) || i::VARCHAR) FROM range(1000) t(i)")
    assert not ran
    assert "OutOfMemory" in text


def test_forks_give_different_random_values(api: services.ApiServer) -> None:
    answers = [api.query("SELECT random(), uuid(), gen_random_uuid(), uuidv7(), hash(random())") for _time in range(12)]
    rows = [answer.json()["rows"][0] for answer in answers]
    for values in zip(*rows, strict=True):
        assert len(set(values)) == len(rows)
    samples = [
        json.dumps(api.query("SELECT list(i) FROM (FROM range(100000) t(i) USING SAMPLE 5 ROWS)").json()["rows"])
        for _time in range(4)
    ]
    assert len(set(samples)) == len(samples)


def memory_of(process: psutil.Process) -> Iterator[bytes]:
    """Yield the private memory of a process, as root may read it."""
    with Path(f"/proc/{process.pid}/maps").open() as maps, Path(f"/proc/{process.pid}/mem").open("rb", 0) as memory:
        for line in maps:
            addresses, rights, *_rest = line.split()
            if rights.startswith("rw") and "[vvar]" not in line:
                first, last = (int(part, 16) for part in addresses.split("-"))
                memory.seek(first)
                with contextlib.suppress(OSError):
                    yield memory.read(last - first)


def test_no_process_that_is_forked_without_a_key_has_one_in_its_memory(
    api: services.ApiServer, object_store: services.ObjectStore
) -> None:
    keys = object_store.credentials["query"]
    for _time in range(3):
        api.query("SELECT count(*), random() FROM gold.api_candles")
    forkserver = psutil.Process(api.pid).children()[0]
    found: dict[int, bytes] = {}
    while len(found) < 2:
        # The fork that serves small tables stays until a newer one has replaced it; any other may end during the read.
        for process in (forkserver, *forkserver.children()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
                content = b"".join(memory_of(process))
                if process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = content
    for content in found.values():
        # Proof that this reads memory at all: each of them is a Python program with an engine.
        assert b"allow_persistent_secrets" in content
        for secret in (keys.secret_key, services.API_TOKEN, "postgresql://lakehouse"):
            assert secret.encode() not in content


FETCH_PROBE = """
import io, json, os, sys
from crypto_lakehouse.query import frames, query_forkserver, sandbox
request = json.load(sys.stdin)
query_forkserver.harden(os.getppid(), writes=True)
connection = sandbox.open_engine()
target = os.memfd_create("target")
sandbox.lock(connection, request["grant"], request["limits"], writes=f"/proc/self/fd/{target}")
outcomes = []
for statement in request["statements"]:
    try:
        outcomes.append([True, repr(connection.execute(statement).fetchall())])
    except Exception as error:
        outcomes.append([False, f"{type(error).__name__}: {error}"])
json.dump(outcomes, sys.stdout)
"""


def test_the_process_that_fetches_writes_nothing_but_its_file(
    object_store: services.ObjectStore, market_stub: services.HttpStub, tmp_path: Path
) -> None:
    keys, gold = object_store.credentials["query"], object_store.buckets["gold_warehouse"]
    grant = {
        "scope": gold,
        "access_key": keys.access_key,
        "secret_key": keys.secret_key,
        "region": "us-east-1",
        "endpoint": urlsplit(object_store.endpoint).netloc,
        "url_style": "path",
        "tls": False,
    }
    statements = [
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "FROM read_text('/etc/passwd')",
        "FROM read_blob('/proc/self/environ')",
        f"FROM read_text('{market_stub.url}/api/v3/ping')",
        f"FROM read_text('s3://{object_store.buckets['bronze_bucket']}/raw/secret.txt')",
        f"COPY (SELECT 1) TO '{gold}/x.csv'",
        "SET enable_external_access = true",
        "LOAD '/tmp/x.duckdb_extension'",
    ]
    limits = {"memory_mb": 128, "timeout_s": 20}
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", FETCH_PROBE],
        input=json.dumps({"grant": grant, "limits": limits, "statements": statements}),
        capture_output=True,
        text=True,
        env={},
        timeout=120,
        check=True,
    )
    assert [text for ran, text in json.loads(done.stdout) if ran] == []
    assert list(tmp_path.iterdir()) == []


def post(api: services.ApiServer, content: bytes, **headers: str) -> httpx.Response:
    given = {**services.AUTHORIZED, "Content-Type": "application/json", **headers}
    return api.client.post("/v1/query", content=content, headers=given)


def known(api: services.ApiServer) -> httpx.Response:
    """Return the answer to a statement whose result is in the cache."""
    assert api.query(REPEATED).status_code == 200
    response = api.query(REPEATED)
    assert response.status_code == 200
    return response


def test_a_known_result_is_told_to_no_one_without_a_token(api: services.ApiServer) -> None:
    location = known(api).headers["content-location"]
    body = json.dumps({"sql": REPEATED}).encode()
    for value in ("", "Bearer", "Bearer wrong", f"Basic {services.API_TOKEN}", f"Bearer {services.API_TOKEN}x"):
        for response in (
            post(api, body, Authorization=value),
            api.client.get(location, headers={"Authorization": value}),
        ):
            assert response.status_code == 401
            assert "rows" not in response.text
    assert api.client.post("/v1/query", content=body).status_code == 401
    assert api.client.get(location).status_code == 401


def test_a_malformed_request_for_a_known_result_is_refused_as_before(api: services.ApiServer) -> None:
    known(api)
    sql = json.dumps(REPEATED)
    for content in (
        f'{{"sql": {sql}, "more": 1}}',
        f'{{"sql": {sql}, "max_rows": 0}}',
        f'{{"sql": [{sql}]}}',
        f'{{"sql": {sql}',
        f"[{sql}]",
    ):
        response = post(api, content.encode())
        assert response.status_code == 422, content
        assert response.headers["content-type"] == "application/problem+json"
    assert post(api, json.dumps({"sql": REPEATED}).encode(), **{"Content-Type": "text/plain"}).status_code == 422
    assert post(api, json.dumps({"sql": REPEATED}).encode() + b" " * 200_000).status_code == 413


def test_a_known_result_is_the_computed_one_to_the_byte(api: services.ApiServer) -> None:
    first, second = known(api), known(api)
    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["cache-control"] == "no-store"
    fewer = api.query(REPEATED, max_rows=2)
    assert fewer.json()["row_count"] == 2
    assert fewer.headers["etag"] != first.headers["etag"]


def test_a_result_is_given_by_its_identifier_with_its_entity_tag(api: services.ApiServer) -> None:
    answer = known(api)
    location, etag = answer.headers["content-location"], answer.headers["etag"]
    response = api.client.get(location, headers=services.AUTHORIZED)
    assert (response.status_code, response.content) == (200, answer.content)
    assert response.headers["etag"] == etag
    assert response.headers["cache-control"] == "private, no-cache"
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = api.client.get(location, headers={**services.AUTHORIZED, "If-None-Match": given})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    other = api.client.get(location, headers={**services.AUTHORIZED, "If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize("identifier", ["0" * 32, "../query", "0" * 31, "%2e%2e", "0" * 32 + "%00", "A" * 32])
def test_a_result_that_is_not_kept_is_not_found(api: services.ApiServer, identifier: str) -> None:
    response = api.client.get(f"/v1/results/{identifier}", headers=services.AUTHORIZED)
    assert response.status_code in (404, 405, 422)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT random()",
        "SELECT uuid()",
        "SELECT now()",
        "SELECT current_timestamp",
        "SELECT CURRENT_TIMESTAMP + INTERVAL 1 SECOND",
        "SELECT get_current_timestamp()",
        "SELECT current_localtimestamp()",
        "SELECT localtimestamp",
        "SELECT age(TIMESTAMP '2020-01-01')",
        "SELECT ago(INTERVAL 1 SECOND)",
        "SELECT count(*) FROM (FROM range(1000) USING SAMPLE 50%)",
        "SELECT count(*) FROM gold.api_candles TABLESAMPLE 50%",
        "SELECT reservoir_quantile(i, 0.5, 3) FROM range(1000) t(i)",
        "SELECT list_aggregate([1, 2], 'reservoir_quantile', 0.5)",
        "SUMMARIZE gold.api_candles",
    ],
)
def test_what_another_run_would_answer_otherwise_is_not_kept(api: services.ApiServer, sql: str) -> None:
    response = api.query(sql)
    assert response.status_code == 200, response.text
    assert "etag" not in response.headers
    assert "content-location" not in response.headers


def test_errors_are_not_kept(api: services.ApiServer) -> None:
    for sql in ("SELECT 'a'::INTEGER", "SELEKT 1", "FROM read_text('/etc/passwd')", "FROM gold.no_such_table"):
        for _time in range(2):
            response = api.query(sql)
            assert response.status_code in (400, 403, 404)
            assert "etag" not in response.headers


@pytest.fixture(scope="module")
def shared(
    api_environment: dict[str, str], candles: services.Candles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[services.ApiServer]:
    """Return an API with named tokens, a short queue, and a short time for each query."""
    environment = {
        **api_environment,
        "LAKEHOUSE_API_TOKENS": json.dumps({"dashboards": 3, "research": 1}),
        "LAKEHOUSE_QUERY_QUEUE_TIMEOUT_S": "1",
        "LAKEHOUSE_QUERY_TIMEOUT_S": "4",
    }
    with services.api_server(environment, tmp_path_factory.mktemp("shared") / "api.log") as server:
        yield server


def asked_by(api: services.ApiServer, token: str, sql: str) -> httpx.Response:
    return api.client.post("/v1/query", json={"sql": sql}, headers={"Authorization": f"Bearer {token}"})


def test_a_named_token_opens_the_api_and_no_other_does(shared: services.ApiServer, api: services.ApiServer) -> None:
    right = derived_token(services.API_TOKEN, "dashboards")
    assert services.API_TOKEN not in right
    assert asked_by(shared, right, "SELECT 1").status_code == 200
    assert asked_by(shared, services.API_TOKEN, "SELECT 1").status_code == 200
    other = derived_token(services.API_TOKEN, "other")
    swapped = right.replace("dashboards", "research")
    for wrong in (other, swapped, right.upper(), right[:-1], right.partition(".")[2], "dashboards", "dashboards."):
        assert asked_by(shared, wrong, "SELECT 1").status_code == 401
    # An API without configured tokens knows none.
    assert asked_by(api, right, "SELECT 1").status_code == 401


def test_waiting_is_bounded_and_slow_queries_of_one_token_leave_room_for_others(shared: services.ApiServer) -> None:
    research, dashboards = (derived_token(services.API_TOKEN, name) for name in ("research", "dashboards"))
    with ThreadPoolExecutor(12) as pool:
        slow = [pool.submit(asked_by, shared, research, ENDLESS) for _time in range(10)]
        time.sleep(0.5)
        quick = [asked_by(shared, dashboards, "SELECT random() < 2") for _time in range(3)]
        answers = [future.result() for future in slow]
    assert [answer.status_code for answer in quick] == [200, 200, 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    # Running ones were stopped at their limit; the others got the answer to retry after a second of waiting.
    assert {answer.status_code for answer in answers} == {422, 429}
    assert len(refused) >= 7
    for answer in refused:
        assert answer.json()["type"].endswith("query-busy")
        assert int(answer.headers["retry-after"]) >= 1


def test_the_environment_of_the_tests_is_not_the_one_of_the_forkserver(api: services.ApiServer) -> None:
    forkserver = psutil.Process(api.pid).children()[0]
    if os.geteuid() == 0:
        assert forkserver.environ() == {}
