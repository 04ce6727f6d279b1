# SPDX-License-Identifier: GPL-3.0-or-later
"""The components that the API depends on, with their health checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import httpx
import psycopg

from crypto_lakehouse.api.health import TIMEOUT_S, Check, Finding
from crypto_lakehouse.metrics import LINE_OUTCOMES, PipelineState
from crypto_lakehouse.query.limits import Grant
from crypto_lakehouse.query.locate import TableLocator
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.signing import KeySource, Signer, aws_endpoint

MARKET_TIMEOUT_S: Final = 2.5
CONNECT_TIMEOUT_S: Final = 2
BYTES_PER_MEGABYTE: Final = 1_000_000

LATEST_RUN: Final = """
SELECT "bytes", duration_s FROM pipeline_runs WHERE duration_s > 0 ORDER BY finished_at DESC LIMIT 1"""
LAST_SUCCESS: Final = """
SELECT flow, extract(epoch FROM max(finished_at))::float8 FROM pipeline_runs GROUP BY flow"""
LINES: Final = """
SELECT coalesce(sum(lines_read), 0), coalesce(sum(lines_accepted), 0), coalesce(sum(lines_refused), 0),
       coalesce(sum(lines_duplicated), 0)
FROM pipeline_runs WHERE flow = 'clean' AND finished_at > now() - interval '24 hours'"""
REFUSALS: Final = """
SELECT key, sum(value::bigint) FROM pipeline_runs, jsonb_each_text(refusals)
WHERE flow = 'clean' AND finished_at > now() - interval '24 hours' GROUP BY key"""
REFUSED_MAX_RATIO: Final = 0.01
"""Share of the lines read that may be refused; the alert LakehousePipelineLinesRefused has the same limit."""


class Database:
    """The database `lakehouse`, over short-lived connections, because the API rarely needs it."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def ping(self) -> None:
        """Return when the database answers a query."""
        async with await self._connect() as connection:
            await connection.execute("SELECT 1")

    async def pipeline_state(self) -> PipelineState | None:
        """Return the state of the pipeline, None when it has never run."""
        async with await self._connect() as connection:
            try:
                latest = await (await connection.execute(LATEST_RUN)).fetchone()
                moments = await (await connection.execute(LAST_SUCCESS)).fetchall()
            except psycopg.errors.UndefinedTable:
                return None
            if latest is None:
                return None
            lines, refusals = await self._lines(connection)
        rate = float(latest[0]) / float(latest[1]) / BYTES_PER_MEGABYTE
        return PipelineState(rate, {str(flow): float(moment) for flow, moment in moments}, lines, refusals)

    @staticmethod
    async def _lines(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the lines by outcome and by reason; empty while the table is that of an earlier version."""
        try:
            lines = await (await connection.execute(LINES)).fetchone() or ()
            refusals = await (await connection.execute(REFUSALS)).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return {}, {}
        outcomes = {outcome: int(number) for outcome, number in zip(LINE_OUTCOMES, lines, strict=True)}
        return outcomes, {str(reason): int(number) for reason, number in refusals}

    async def judge_lines(self) -> None:
        """Return when the share of the last day's refused lines is within the limit.

        Raises:
            Finding: when more than `REFUSED_MAX_RATIO` were refused, with the numbers and reasons.
        """
        async with await self._connect() as connection:
            lines, refusals = await self._lines(connection)
        if lines.get("refused", 0) > REFUSED_MAX_RATIO * lines.get("read", 0):
            reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(refusals.items()))
            raise Finding(f"{lines['refused']} of {lines['read']} lines refused within 24 hours ({reasons})")

    async def _connect(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        return await psycopg.AsyncConnection.connect(
            self._url, connect_timeout=CONNECT_TIMEOUT_S, autocommit=True, application_name="lakehouse-api"
        )


class GoldStore:
    """The object store, with the credentials that can read gold."""

    def __init__(self, settings: Settings, source: KeySource) -> None:
        self._settings = settings
        self._source = source
        self._endpoint = settings.s3_endpoint
        self.endpoint = self._endpoint or aws_endpoint("s3", settings.s3_region)
        self.client = httpx.AsyncClient(
            auth=Signer(source, "s3", settings.s3_region), timeout=TIMEOUT_S, trust_env=False
        )

    async def ping(self) -> None:
        """Return when the gold bucket can be read."""
        response = await self.client.head(
            f"{self.endpoint.rstrip('/')}/{quote(self._settings.bucket('gold'), safe='')}"
        )
        response.raise_for_status()

    async def grant(self) -> Grant:
        """Return the access of a query process to the files of the gold tables."""
        keys = await self._source.keys()
        endpoint = httpx.URL(self._endpoint) if self._endpoint else None
        return Grant(
            scope=self._settings.warehouse("gold"),
            access_key=str(keys.access_key),
            secret_key=str(keys.secret_key),
            session_token=keys.token,
            region=self._settings.s3_region,
            endpoint=endpoint.netloc.decode() if endpoint else None,
            url_style="path" if endpoint else None,
            tls=endpoint is None or endpoint.scheme == "https",
        )


class HttpService:
    """Another service with a health endpoint."""

    def __init__(self, url: str, *, proxies: bool, timeout_s: float) -> None:
        self._url = url
        self.client = httpx.AsyncClient(timeout=timeout_s, trust_env=proxies)

    async def ping(self) -> None:
        """Return when the service answers with success."""
        (await self.client.get(self._url)).raise_for_status()


def orchestrator(settings: Settings) -> HttpService:
    """Return the Prefect server, whose health needs no password: the API has no credential of the orchestrator."""
    return HttpService(f"{settings.require('prefect_api_url').rstrip('/')}/health", proxies=False, timeout_s=TIMEOUT_S)


def market_api(settings: Settings) -> HttpService:
    """Return the exchange's public API, reached through the proxy of the environment."""
    url = f"{settings.market_api_url.rstrip('/')}/api/v3/ping"
    return HttpService(url, proxies=True, timeout_s=MARKET_TIMEOUT_S)


def make_checks(
    database: Database,
    store: GoldStore,
    locator: TableLocator,
    prefect: HttpService,
    market: HttpService,
    on_result: Callable[[str, bool], None],
) -> dict[str, Check]:
    """Return the checks of all components by name."""
    checks = (
        Check("database", database.ping, on_result=on_result),
        Check("object_store", store.ping, on_result=on_result),
        Check("catalog", locator.ping, on_result=on_result),
        Check("orchestrator", prefect.ping, on_result=on_result),
        Check("pipeline", database.judge_lines, essential=False, cache_s=15.0, on_result=on_result),
        Check("market_api", market.ping, essential=False, cache_s=15.0, on_result=on_result),
    )
    return {check.name: check for check in checks}
