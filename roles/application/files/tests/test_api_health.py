# SPDX-License-Identifier: GPL-3.0-or-later
"""`/health`, `/ready`, `/live` and `/metrics`: answers when a component is up, down, slow or wrong."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import services
from prometheus_client.parser import text_string_to_metric_families

from crypto_lakehouse import runs
from crypto_lakehouse.api.application import create_api
from crypto_lakehouse.api.health import Check, describe
from crypto_lakehouse.clean import REASONS
from crypto_lakehouse.settings import SettingsError
from crypto_lakehouse.tables import Partition

COMPONENTS = {"database", "object_store", "catalog", "orchestrator", "market_api", "pipeline"}
NOWHERE = "http://127.0.0.1:9"


def ask(environment: dict[str, str], *paths: str) -> list[httpx.Response]:
    """Return the answers of an API with this environment to concurrent requests."""

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_api(services.settings_from(environment)).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return list(await asyncio.gather(*(client.get(path) for path in paths)))

    return asyncio.run(send())


@pytest.fixture
def slow_market(market_stub: services.HttpStub) -> Iterator[services.HttpStub]:
    market_stub.delay_s = 6.0
    yield market_stub
    market_stub.delay_s = 0.0


@pytest.mark.parametrize(
    ("component", "change"),
    [
        ("database", {"LAKEHOUSE_DATABASE_URL": "postgresql://lakehouse:hunter2@127.0.0.1:9/lakehouse"}),
        ("object_store", {"LAKEHOUSE_S3_ENDPOINT": NOWHERE}),
        ("object_store", {"LAKEHOUSE_GOLD_BUCKET": "no-such-bucket"}),
        ("catalog", {"LAKEHOUSE_CATALOG_URI": NOWHERE}),
        ("orchestrator", {"PREFECT_API_URL": f"{NOWHERE}/api"}),
    ],
)
def test_any_own_component_that_is_down_makes_the_platform_unhealthy(
    api_environment: dict[str, str], candles: services.Candles, component: str, change: dict[str, str]
) -> None:
    (response,) = ask({**api_environment, **change}, "/health")
    assert response.status_code == 503
    document = response.json()
    assert document["status"] == "unhealthy"
    failing = {name for name, found in document["components"].items() if found["status"] == "unhealthy"}
    # The database contains the results of the pipeline.
    assert failing == {component, *({"pipeline"} if component == "database" else set())}
    assert document["components"][component]["error"]
    assert not re.search(r"127\.0\.0\.1|hunter2|password|://", response.text)


def test_wrong_keys_of_the_object_store_are_unhealthy(
    api_environment: dict[str, str], candles: services.Candles
) -> None:
    (response,) = ask({**api_environment, "LAKEHOUSE_S3_SECRET_KEY": "not-the-secret-key"}, "/health")
    components = response.json()["components"]
    assert {components["object_store"]["status"], components["catalog"]["status"]} == {"unhealthy"}


def test_a_wrong_database_password_is_unhealthy(
    api_environment: dict[str, str], database_server: services.DatabaseServer
) -> None:
    url = database_server.lakehouse_url.replace(database_server.passwords["lakehouse"], "hunter2")
    (response,) = ask({**api_environment, "LAKEHOUSE_DATABASE_URL": url}, "/ready")
    assert response.status_code == 503
    assert response.json()["components"]["database"]["status"] == "unhealthy"


def test_the_market_api_down_only_degrades(api_environment: dict[str, str], candles: services.Candles) -> None:
    health, ready = ask({**api_environment, "LAKEHOUSE_MARKET_API_URL": NOWHERE}, "/health", "/ready")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["components"]["market_api"]["status"] == "unhealthy"
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_a_market_api_that_does_not_answer_holds_up_neither_readiness_nor_health_for_long(
    api_environment: dict[str, str], candles: services.Candles, slow_market: services.HttpStub
) -> None:
    async def measure() -> tuple[float, float, httpx.Response]:
        transport = httpx.ASGITransport(create_api(services.settings_from(api_environment)).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=20) as client:
            started = time.monotonic()
            health = asyncio.create_task(client.get("/health"))
            await asyncio.sleep(0.01)
            assert (await client.get("/ready")).status_code == 200
            ready_s = time.monotonic() - started
            return ready_s, time.monotonic() - started, await health

    ready_s, _health_s, health = asyncio.run(measure())
    assert ready_s < 2.5
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["components"]["market_api"]["error"] == "no answer within 3 s"
    assert 2000 <= health.json()["components"]["market_api"]["response_time_ms"] < 5500


def test_with_everything_down_the_process_is_alive_and_metrics_are_served(api_environment: dict[str, str]) -> None:
    broken = {
        **api_environment,
        "LAKEHOUSE_DATABASE_URL": "postgresql://lakehouse:x@127.0.0.1:9/lakehouse",
        "LAKEHOUSE_S3_ENDPOINT": NOWHERE,
        "LAKEHOUSE_CATALOG_URI": NOWHERE,
        "PREFECT_API_URL": NOWHERE,
        "LAKEHOUSE_MARKET_API_URL": NOWHERE,
    }
    live, ready, health, metrics = ask(broken, "/live", "/ready", "/health", "/metrics")
    assert (live.status_code, live.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()["status"]) == (503, "unready")
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert metrics.status_code == 200


def test_everything_up_is_healthy_with_times(api: services.ApiServer) -> None:
    response = api.client.get("/health")
    assert response.status_code == 200
    document = response.json()
    assert (document["status"], document["environment"]) == ("healthy", "development")
    assert set(document["components"]) == COMPONENTS
    for found in document["components"].values():
        assert found["status"] == "healthy"
        assert found["error"] is None
        assert 0 < found["response_time_ms"] < 3000
    assert response.headers["cache-control"] == "no-store"


def test_liveness_asks_nobody(api: services.ApiServer, market_stub: services.HttpStub) -> None:
    before = len(market_stub.requests)
    assert [api.client.get("/live").status_code for _time in range(20)] == [200] * 20
    assert market_stub.requests[before:] == []


def test_a_storm_of_health_checks_is_one_check(
    api_environment: dict[str, str], orchestrator_stub: services.HttpStub, candles: services.Candles
) -> None:
    before = len(orchestrator_stub.requests)
    answers = ask(api_environment, *["/health"] * 200)
    assert {answer.status_code for answer in answers} == {200}
    assert len(orchestrator_stub.requests) - before == 1


def test_a_caller_who_goes_away_does_not_spoil_the_check_for_others() -> None:
    async def scenario() -> str:
        check = Check("slow", lambda: asyncio.sleep(0.1))
        first, second = (asyncio.create_task(check.result()) for _time in range(2))
        await asyncio.sleep(0.02)
        first.cancel()
        return (await second).status

    assert asyncio.run(scenario()) == "healthy"


def test_a_result_holds_for_a_while_and_not_longer() -> None:
    calls: list[float] = []

    async def probe() -> None:
        calls.append(time.monotonic())

    async def scenario() -> None:
        check = Check("counted", probe, cache_s=2.0)
        for _time in range(3):
            await check.result()
        await asyncio.sleep(2.1)
        await check.result()

    asyncio.run(scenario())
    assert len(calls) == 2


@pytest.mark.parametrize(
    "probe",
    [
        lambda: asyncio.sleep(60),
        lambda: fail(ValueError("postgresql://user:hunter2@host/db")),
        lambda: fail(OSError("/etc/secret")),
        lambda: fail(psycopg.OperationalError("host=10.0.0.1 password=hunter2")),
        lambda: fail(httpx.ConnectError("https://internal.example")),
    ],
)
def test_an_error_is_told_without_what_is_inside_it(probe: Callable[[], Awaitable[object]]) -> None:
    async def scenario() -> Any:
        return await Check("failing", probe, timeout_s=0.1).result()

    found = asyncio.run(scenario())
    assert found.status == "unhealthy"
    assert found.error in {"no answer within 0.1 s", "cannot be connected to", "failed its check"}


def test_a_status_is_told() -> None:
    response = httpx.Response(503, request=httpx.Request("GET", "http://internal"))
    problem = httpx.HTTPStatusError("http://internal said 503", request=response.request, response=response)
    assert describe(problem, 1) == "answered with status 503"


@pytest.fixture
def api_with_runs(
    api_environment: dict[str, str], database_server: services.DatabaseServer, tmp_path: Path
) -> Iterator[services.ApiServer]:
    """Return an API whose database contains three runs of flows, the last of them without a duration."""
    with database_server.another_database("runs_of_flows") as url:
        with psycopg.connect(url) as connection:
            connection.execute(
                "CREATE TABLE pipeline_runs (flow text, day date, rows bigint, bytes bigint, "
                "duration_s double precision, finished_at timestamptz)"
            )
            connection.execute(
                "INSERT INTO pipeline_runs (flow, day, rows, bytes, duration_s, finished_at) VALUES "
                "('ingest', '2024-01-01', 10, 99, 1, now() - interval '2 days'), "
                "('ingest', '2024-01-02', 10, 5000000, 2, now() + interval '1 day'), "
                "('clean', '2024-01-02', 10, 0, 0, now() + interval '2 days')"
            )
        with services.api_server({**api_environment, "LAKEHOUSE_DATABASE_URL": url}, tmp_path / "api.log") as server:
            yield server


def test_the_specified_series_are_there(api_with_runs: services.ApiServer) -> None:
    api = api_with_runs
    for _time in range(3):
        api.client.get("/health")
    api.client.get(f"/scan/{time.time()}")
    services.wait_until(lambda: series(api)["crypto_lakehouse_data_processing_rate_mbps"] == 2.5, "the rate")
    found = series(api)
    assert found['crypto_lakehouse_requests_total{endpoint="/health",method="GET"}'] >= 3
    assert found['crypto_lakehouse_requests_total{endpoint="other",method="GET"}'] >= 1
    assert found['crypto_lakehouse_request_duration_seconds_count{endpoint="/health",method="GET"}'] >= 3
    assert found['crypto_lakehouse_request_errors_total{endpoint="/v1/query",method="POST"}'] >= 0
    assert found["crypto_lakehouse_active_connections"] >= 1
    assert found['crypto_lakehouse_pipeline_last_success_timestamp_seconds{flow="ingest"}'] > time.time()
    assert found['crypto_lakehouse_component_up{component="database"}'] == 1
    assert found["process_resident_memory_bytes"] > 1_000_000
    for name in ("cpu", "memory", "disk"):
        assert 0 <= found[f"crypto_lakehouse_system_{name}_usage_percent"] <= 100


@pytest.fixture
def refusing_database(database_server: services.DatabaseServer) -> Iterator[str]:
    """Return a database whose pipeline rejected 30 of 1,000 lines today, and every line of an earlier day."""
    with database_server.another_database("refused_lines") as url:
        with psycopg.connect(url) as connection:
            connection.execute(runs.CREATE_TABLE)
            for day, age, lines in (
                (date(2024, 1, 1), "2 days", runs.Lines(500, 0, 500, 0, {"fields": 500})),
                (date(2024, 1, 2), "1 hour", runs.Lines(1000, 965, 30, 5, {"number": 20, "price": 10, "duplicate": 5})),
            ):
                partition = Partition("binance", "BTCUSDT", "1h", day)
                runs.record(connection, runs.Run("clean", partition, "archive", 1, 1, 1.0, changed=True, lines=lines))
                move = "UPDATE pipeline_runs SET finished_at = now() - %s::interval WHERE day = %s"
                connection.execute(move, [age, day])
        yield url


def test_refused_lines_are_counted_by_outcome_and_reason_and_degrade_the_health(
    api_environment: dict[str, str], refusing_database: str, tmp_path: Path
) -> None:
    environment = {**api_environment, "LAKEHOUSE_DATABASE_URL": refusing_database}
    with services.api_server(environment, tmp_path / "api.log") as api:
        health = api.client.get("/health")
        assert health.status_code == 200
        assert health.json()["status"] == "degraded"
        assert health.json()["components"]["pipeline"]["error"] == (
            "30 of 1000 lines refused within 24 hours (duplicate 5, number 20, price 10)"
        )
        found = series(api)
    outcomes = {"read": 1000, "accepted": 965, "refused": 30, "duplicated": 5}
    assert {name: found[f'crypto_lakehouse_pipeline_lines{{outcome="{name}"}}'] for name in outcomes} == outcomes
    reasons = {reason: found[f'crypto_lakehouse_pipeline_refused_lines{{reason="{reason}"}}'] for reason in REASONS}
    assert {reason: number for reason, number in reasons.items() if number} == {
        "number": 20,
        "price": 10,
        "duplicate": 5,
    }


def test_a_table_of_an_earlier_version_has_no_line_counts(api_with_runs: services.ApiServer) -> None:
    assert api_with_runs.client.get("/health").json()["components"]["pipeline"]["status"] == "healthy"
    assert not [name for name in series(api_with_runs) if name.startswith("crypto_lakehouse_pipeline_lines{")]


def test_unknown_paths_and_methods_make_no_new_series(api: services.ApiServer) -> None:
    api.client.get("/scan/0")
    api.client.request("BREW", "/health")
    before = set(series(api))
    for index in range(30):
        assert api.client.get(f"/scan/{index}/{time.time()}").status_code == 404
        assert api.client.request(f"BREW{index}", "/health").status_code == 405
    assert set(series(api)) == before


def test_without_a_token_the_api_does_not_start(api_environment: dict[str, str]) -> None:
    environment = {name: value for name, value in api_environment.items() if name != "LAKEHOUSE_API_TOKEN"}
    with pytest.raises(SettingsError, match="LAKEHOUSE_API_TOKEN is not set"):
        create_api(services.settings_from(environment))


def test_the_api_describes_itself(api: services.ApiServer) -> None:
    document = api.client.get("/openapi.json").json()
    paths = {"/health", "/ready", "/live", "/metrics", "/v1/query", "/v1/results/{id}", "/v1/tables"}
    assert paths == set(document["paths"])
    assert document["paths"]["/v1/query"]["post"]["security"]
    assert "security" not in document["paths"]["/health"]["get"]


async def fail(error: Exception) -> None:
    raise error


def series(api: services.ApiServer) -> dict[str, float]:
    """Return the value of each series by its name and labels."""
    found = {}
    for family in text_string_to_metric_families(api.client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            if not sample.name.endswith("_created"):
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
