# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: all parts of the API."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Literal

from fastapi import FastAPI, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.types import ASGIApp

from crypto_lakehouse.api import problems, queries
from crypto_lakehouse.api.components import (
    BYTES_PER_MEGABYTE,
    Database,
    GoldStore,
    make_checks,
    market_api,
    orchestrator,
)
from crypto_lakehouse.api.health import Check, ComponentHealth, State, examine, overall
from crypto_lakehouse.api.known import KnownAnswers
from crypto_lakehouse.api.middleware import BodyLimit, Observed
from crypto_lakehouse.api.security import MAIN, Tokens, require_token
from crypto_lakehouse.certificates import CertificateCollector
from crypto_lakehouse.metrics import Metrics
from crypto_lakehouse.query.engine import Policy, QueryEngine
from crypto_lakehouse.query.limits import Limits
from crypto_lakehouse.query.locate import TableLocator, object_reader, open_locator
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.signing import KeySource

READINESS: Final = ("database", "object_store", "catalog")
PIPELINE_CACHE_S: Final = 10.0

log = logging.getLogger(__name__)


class Component(BaseModel):
    """Health of one component."""

    status: Literal["healthy", "unhealthy"]
    response_time_ms: float
    error: str | None


class Health(BaseModel):
    """Health of the platform and of every component."""

    status: State
    timestamp: dt.datetime
    version: str
    environment: str
    components: dict[str, Component]


class Readiness(BaseModel):
    """Whether this process can answer queries."""

    status: Literal["ready", "unready"]
    components: dict[str, Component]


class Liveness(BaseModel):
    """That this process answers."""

    status: Literal["alive"] = "alive"


@dataclass(frozen=True, slots=True)
class Api:
    """The ASGI application and the series that its server adds to."""

    app: ASGIApp
    metrics: Metrics


def create_api(settings: Settings) -> Api:
    """Create the API; no connection is opened yet.

    Raises:
        SettingsError: when a setting that the API needs is missing.
    """
    metrics = Metrics()
    if settings.certificate_files:
        metrics.registry.register(CertificateCollector.of(settings.certificate_files))
    source = KeySource(settings)
    store = GoldStore(settings, source)
    locator, catalog_client = open_locator(settings, source, object_reader(store.client, store.endpoint))
    database = Database(settings.require("database_url"))
    prefect, market = orchestrator(settings), market_api(settings)
    settings.warehouse("gold"), settings.bucket("gold")
    tokens = Tokens(settings.require("api_token"), dict(settings.api_tokens))
    engine = _engine(settings, locator, store)

    def publish(component: str, healthy: bool) -> None:
        metrics.component_up.labels(component).set(healthy)

    @asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for client in (catalog_client, store.client, prefect.client, market.client):
                stack.push_async_callback(client.aclose)
            stack.push_async_callback(engine.close)
            engine.warm_up()
            yield

    app = FastAPI(
        title="Crypto lakehouse",
        version=version("crypto-lakehouse"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    checks = make_checks(database, store, locator, prefect, market, publish)
    _add_probes(app, settings, checks)
    _add_metrics(app, metrics, database)
    app.include_router(queries.router(engine, locator, metrics, require_token(tokens)))
    metrics.expect(
        (method.upper(), path) for path, operations in app.openapi()["paths"].items() for method in operations
    )
    known = KnownAnswers(app, engine, tokens, metrics)
    return Api(Observed(BodyLimit(known, settings.api_max_body_bytes), metrics), metrics)


def _engine(settings: Settings, locator: TableLocator, store: GoldStore) -> QueryEngine:
    limits = Limits(
        timeout_s=settings.query_timeout_s,
        memory_mb=settings.query_memory_mb,
        max_rows=settings.query_max_rows,
        max_result_bytes=settings.query_max_result_bytes,
    )
    policy = Policy(
        concurrency=settings.query_concurrency,
        queue_timeout_s=settings.query_queue_timeout_s,
        max_staleness_s=settings.query_max_staleness_s,
        resident_bytes=settings.query_resident_mb * BYTES_PER_MEGABYTE,
        result_cache_bytes=settings.query_result_cache_mb * BYTES_PER_MEGABYTE,
    )
    return QueryEngine(locator, store.grant, limits, policy, {MAIN: 1.0, **dict(settings.api_tokens)})


def _add_probes(app: FastAPI, settings: Settings, checks: Mapping[str, Check]) -> None:
    @app.get("/health", summary="Health of the platform", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        found = await examine(checks.values())
        status = overall(checks.values(), found)
        response.status_code = 503 if status == "unhealthy" else 200
        return Health(
            status=status,
            timestamp=dt.datetime.now(dt.UTC),
            version=app.version,
            environment=settings.environment,
            components=_shown(found),
        )

    @app.get("/ready", summary="Whether queries can be answered", responses={503: {"model": Readiness}})
    async def ready(response: Response) -> Readiness:
        needed = [checks[name] for name in READINESS]
        found = await examine(needed)
        is_ready = overall(needed, found) == "healthy"
        response.status_code = 200 if is_ready else 503
        return Readiness(status="ready" if is_ready else "unready", components=_shown(found))

    @app.get("/live", summary="Whether the process answers")
    async def live() -> Liveness:
        return Liveness()


def _shown(found: Mapping[str, ComponentHealth]) -> dict[str, Component]:
    return {
        name: Component(status=health.status, response_time_ms=health.response_time_ms, error=health.error)
        for name, health in found.items()
    }


def _add_metrics(app: FastAPI, metrics: Metrics, database: Database) -> None:
    async def refresh() -> None:
        state = await database.pipeline_state()
        if state is not None:
            metrics.show_pipeline(state)

    # A check has the behavior of a refresh: one at a time, a timeout, and a result that is cached for a while.
    pipeline = Check("pipeline_state", refresh, timeout_s=2.0, cache_s=PIPELINE_CACHE_S)

    @app.get("/metrics", summary="Series for Prometheus", response_class=Response)
    async def series() -> Response:
        await pipeline.result()
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
