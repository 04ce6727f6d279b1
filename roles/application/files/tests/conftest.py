# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that every test of the application shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import services

pytest_plugins = ["sweep"]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name an unreadable parameter by its argument: processes that run tests together must use equal names.

    A name derived from the bytes would include, for example, the time of their compression.
    """
    return argname if isinstance(val, bytes) and not val.decode("latin-1").isprintable() else None


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.ObjectStore]:
    """Return a running object store with an Iceberg catalog and empty buckets."""
    with services.object_store(tmp_path_factory.mktemp("weed")) as store:
        yield store


@pytest.fixture(scope="session")
def database_server() -> Iterator[services.DatabaseServer]:
    """Return a running PostgreSQL with the roles and databases `lakehouse` and `orchestrator`."""
    with services.database_folder() as folder, services.database_server(folder) as server:
        yield server


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove every variable that the application reads."""
    for name in list(os.environ):
        if name.startswith(("LAKEHOUSE_", "PREFECT_", "AWS_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture(scope="session")
def candles(object_store: services.ObjectStore) -> services.Candles:
    """Return a gold table for the queries of the tests, and secrets that none of them may read."""
    return services.make_candles(object_store)


@pytest.fixture(scope="session")
def orchestrator_stub() -> Iterator[services.HttpStub]:
    """Return a stand-in for the orchestrator's `/api/health`, which needs no authentication, like Prefect's."""
    with services.http_stub({"/api/health": b"true"}) as stub:
        yield stub


@pytest.fixture(scope="session")
def market_stub() -> Iterator[services.HttpStub]:
    """Return a stand-in for the exchange's `/api/v3/ping`."""
    with services.http_stub({"/api/v3/ping": b"{}"}) as stub:
        yield stub


@pytest.fixture(scope="session")
def api_environment(
    object_store: services.ObjectStore,
    database_server: services.DatabaseServer,
    orchestrator_stub: services.HttpStub,
    market_stub: services.HttpStub,
) -> dict[str, str]:
    """Return the environment of an API whose components are all available."""
    return {
        **object_store.environment("query"),
        "LAKEHOUSE_API_TOKEN": services.API_TOKEN,
        "LAKEHOUSE_DATABASE_URL": database_server.lakehouse_url,
        "LAKEHOUSE_MARKET_API_URL": market_stub.url,
        "LAKEHOUSE_QUERY_TIMEOUT_S": "8",
        "LAKEHOUSE_QUERY_MEMORY_MB": "128",
        "LAKEHOUSE_QUERY_MAX_ROWS": "1000",
        "LAKEHOUSE_QUERY_MAX_RESULT_BYTES": "200000",
        "PREFECT_API_URL": f"{orchestrator_stub.url}/api",
    }


@pytest.fixture(scope="session")
def api(
    api_environment: dict[str, str], candles: services.Candles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[services.ApiServer]:
    """Return the API as deployed, with a gold table to query."""
    with services.api_server(api_environment, tmp_path_factory.mktemp("api") / "api.log") as server:
        yield server
