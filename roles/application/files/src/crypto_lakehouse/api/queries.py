# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /v1/query`, `GET /v1/results/{id}` and `GET /v1/tables`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import httpx
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.types import Receive

from crypto_lakehouse.api.known import stored_headers
from crypto_lakehouse.api.problems import Problem
from crypto_lakehouse.metrics import Metrics
from crypto_lakehouse.query.engine import QueryEngine
from crypto_lakehouse.query.errors import QueryError
from crypto_lakehouse.query.locate import CatalogError, TableLocator
from crypto_lakehouse.signing import CredentialsError

MAX_SQL_CHARACTERS: Final = 65_536
CLIENT_GONE: Final = 499
STATUS: Final = {
    "invalid": 400,
    "not-allowed": 403,
    "unknown-table": 404,
    "timeout": 422,
    "memory": 422,
    "result-size": 422,
    "busy": 429,
    "storage": 503,
    "internal": 500,
}

log = logging.getLogger(__name__)
T = TypeVar("T")


def _is_text(value: str) -> str:
    if "\0" in value or not value.strip():
        raise ValueError("an SQL statement is expected")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate is not text") from None
    return value


class QueryRequest(BaseModel):
    """One read-only statement over the tables of the gold tier."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"sql": "SELECT * FROM gold.ohlcv_daily ORDER BY day DESC", "max_rows": 10}]},
    )

    sql: Annotated[str, Field(min_length=1, max_length=MAX_SQL_CHARACTERS), AfterValidator(_is_text)]
    max_rows: Annotated[int | None, Field(ge=1, description="The service's own limit holds as well.")] = None


class Column(BaseModel):
    """A column of a result, with DuckDB's name of its type."""

    name: str
    type: str


class QueryResponse(BaseModel):
    """A result. DECIMAL values are strings, so that no digit is lost; times with a zone are in UTC."""

    columns: list[Column]
    rows: list[list[Any]]
    row_count: int
    truncated: bool = Field(description="There were more rows than the limit.")
    elapsed_ms: float


class Tables(BaseModel):
    """The tables that a query can read."""

    tables: list[str]


def router(
    engine: QueryEngine, locator: TableLocator, metrics: Metrics, authorize: Callable[..., Awaitable[str]]
) -> APIRouter:
    """Return the routes; each needs what `authorize` asks for."""
    routes = APIRouter(prefix="/v1", dependencies=[Depends(authorize)])
    _add_query(routes, engine, metrics, authorize)
    _add_results(routes, engine)

    @routes.get("/tables", summary="List the tables of the gold tier")
    async def tables() -> Tables:
        try:
            return Tables(tables=[f"gold.{name}" for name in await locator.tables()])
        except (CatalogError, CredentialsError, httpx.HTTPError) as error:
            raise _unavailable(error) from None

    return routes


def _add_query(
    routes: APIRouter, engine: QueryEngine, metrics: Metrics, authorize: Callable[..., Awaitable[str]]
) -> None:
    @routes.post("/query", response_model=QueryResponse, summary="Run one read-only statement over the gold tier")
    async def query(request: Request, body: QueryRequest, token: str = Depends(authorize)) -> Response:
        """Run a statement. `Content-Location` names a stored result, `ETag` its bytes."""
        try:
            answer = await _unless_gone(request.receive, engine.run(body.sql, body.max_rows, token))
        except QueryError as error:
            metrics.queries.labels(error.kind).inc()
            headers = {"Retry-After": str(error.retry_after_s or 1)} if error.kind == "busy" else None
            raise Problem(STATUS[error.kind], f"query-{error.kind}", error.detail, headers) from None
        except (CatalogError, CredentialsError, httpx.HTTPError) as error:
            metrics.queries.labels("storage").inc()
            raise _unavailable(error) from None
        if answer is None:
            metrics.queries.labels("abandoned").inc()
            return Response(status_code=CLIENT_GONE)
        metrics.observe_query(answer.result)
        headers = stored_headers(answer.stored) if answer.stored else None
        return Response(answer.body, media_type="application/json", headers=headers)


def _add_results(routes: APIRouter, engine: QueryEngine) -> None:
    @routes.get("/results/{id}", response_model=QueryResponse, summary="Return a result that is kept")
    async def result(
        id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],  # noqa: A002 - the name in the path
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Return a stored result unchanged; its entity tag makes conditional requests free."""
        stored = engine.results.by_id(id)
        if stored is None:
            raise Problem(404, "unknown-result", "the result is not kept any more; run the statement again")
        headers = {**stored_headers(stored), "cache-control": "private, no-cache"}
        if if_none_match is not None and _matches(if_none_match, stored.etag):
            return Response(status_code=304, headers=headers)
        return Response(stored.body, media_type="application/json", headers=headers)


def _matches(given: str, etag: str) -> bool:
    # The weak comparison of RFC 9110, 13.1.2.
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return "*" in tags or etag in tags


def _unavailable(error: Exception) -> Problem:
    log.warning("the catalog cannot be asked: %s", type(error).__name__)
    return Problem(503, "catalog-unavailable", "the catalog does not answer", {"Retry-After": "5"})


async def _unless_gone(receive: Receive, work: Awaitable[T]) -> T | None:
    """Return the result of `work`; cancel it and return None when the client disconnects first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
