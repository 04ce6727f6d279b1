# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /v1/query` and `GET /v1/tables`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import httpx
from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.types import Receive

from crypto_lakehouse.api.problems import Problem
from crypto_lakehouse.metrics import Metrics
from crypto_lakehouse.query.engine import QueryEngine, QueryError, Result
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
    engine: QueryEngine, locator: TableLocator, metrics: Metrics, authorize: Callable[..., Awaitable[None]]
) -> APIRouter:
    """Return the routes; each needs what `authorize` asks for."""
    routes = APIRouter(prefix="/v1", dependencies=[Depends(authorize)])

    @routes.post("/query", response_model=QueryResponse, summary="Run one read-only statement over the gold tier")
    async def query(request: Request, body: QueryRequest) -> Response:
        try:
            result = await _unless_gone(request.receive, engine.run(body.sql, body.max_rows))
        except QueryError as error:
            metrics.queries.labels(error.kind).inc()
            headers = {"Retry-After": "1"} if error.kind == "busy" else None
            raise Problem(STATUS[error.kind], f"query-{error.kind}", error.detail, headers) from None
        except (CatalogError, CredentialsError, httpx.HTTPError) as error:
            metrics.queries.labels("storage").inc()
            raise _unavailable(error) from None
        if result is None:
            metrics.queries.labels("abandoned").inc()
            return Response(status_code=CLIENT_GONE)
        metrics.queries.labels("answered").inc()
        metrics.query_duration.observe(result.elapsed_ms / 1000)
        return Response(_document(result), media_type="application/json")

    @routes.get("/tables", summary="List the tables of the gold tier")
    async def tables() -> Tables:
        try:
            return Tables(tables=[f"gold.{name}" for name in await locator.tables()])
        except (CatalogError, CredentialsError, httpx.HTTPError) as error:
            raise _unavailable(error) from None

    return routes


def _unavailable(error: Exception) -> Problem:
    log.warning("the catalog cannot be asked: %s", type(error).__name__)
    return Problem(503, "catalog-unavailable", "the catalog does not answer", {"Retry-After": "5"})


def _document(result: Result) -> bytes:
    # The rows are JSON already: parsing them here would cost time and prove nothing to the caller.
    tail = {"row_count": result.row_count, "truncated": result.truncated, "elapsed_ms": result.elapsed_ms}
    head = _compact({"columns": result.columns})
    return b"".join((head[:-1], b',"rows":', result.rows, b",", _compact(tail)[1:]))


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def _unless_gone(receive: Receive, work: Awaitable[T]) -> T | None:
    """Return the outcome of `work`; cancel it and return None when the client goes away first."""
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
