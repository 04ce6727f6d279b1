# SPDX-License-Identifier: GPL-3.0-or-later
"""The API part of the contract: response times of health and of queries, and a query's result."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from crypto_lakehouse.settings import Settings
from crypto_lakehouse.verify import Degraded, LateError, VerificationError

if TYPE_CHECKING:
    import httpx

REQUESTS: Final = 200
CONCURRENCY: Final = 4
QUERIES: Final = 60
QUERY_CONCURRENCY: Final = 2
P95_LIMIT_MS: Final = 300.0
ROUNDS: Final = 3
BUSY_PERCENT: Final = 75.0
"""Use of the processors before a round above which its times are the machine's rather than the API's."""
SETTLE_S: Final = 0.5
QUERY: Final = "SELECT day, open, high, low, close FROM gold.ohlcv_daily ORDER BY day DESC LIMIT 30"
LATE_STATUS: Final = frozenset({429, 503, 504})
"""Status codes of the API where a component did not answer in time or its queue is full."""
EVERY_OTHER: Final = 2
"""One query in so many is a statement of its own; the others are repeated, as those of dashboards are."""


def client(settings: Settings) -> httpx.Client:
    """Return a client of the API that carries the token."""
    import httpx

    headers = {"Authorization": f"Bearer {settings.require('api_token')}"}
    return httpx.Client(
        base_url=settings.require("api_url").rstrip("/") + "/", headers=headers, timeout=30.0, trust_env=False
    )


def query(http: httpx.Client, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query by column name.

    Raises:
        VerificationError: with the words of the API when it refuses; `LateError` where it does not answer or is late.
    """
    content = _answer(http, "POST", "v1/query", json={"sql": sql}).json()
    names = [column["name"] for column in content["columns"]]
    return [dict(zip(names, row, strict=True)) for row in content["rows"]]


def health_in_time(settings: Settings, timeout_s: float) -> str:
    """95 of 100 requests for `/ready`, which load balancers send all day, are answered within `P95_LIMIT_MS`.

    Raises:
        VerificationError: when a request fails, or every round is too slow on a machine that is not busy.
        Degraded: when every round is too slow, and the machine is busy with something else.
    """
    with client(settings) as http:
        return _in_time("requests", REQUESTS, CONCURRENCY, lambda _number: _ready(http), timeout_s)


def queries_in_time(settings: Settings, timeout_s: float) -> str:
    """95 of 100 queries, new statements and repeated ones, are answered within `P95_LIMIT_MS`.

    Raises:
        VerificationError: when a query fails, or every round is too slow on a machine that is not busy.
        Degraded: when every round is too slow, and the machine is busy with something else.
    """
    made = secrets.token_hex(8)

    def ask(number: int) -> None:
        query(http, f"{QUERY} -- {made}.{number}" if number % EVERY_OTHER else QUERY)

    with client(settings) as http:
        return _in_time("queries", QUERIES, QUERY_CONCURRENCY, ask, timeout_s)


def _in_time(what: str, count: int, concurrency: int, ask: Callable[[int], object], timeout_s: float) -> str:
    """Measure rounds of `count` calls until one is within the limit and without a late answer, `ROUNDS` at most."""
    deadline = time.monotonic() + timeout_s
    seen: list[str] = []
    late: list[str] = []
    busy_percent = 0.0
    while len(seen) < ROUNDS:
        busy_percent = max(busy_percent, processor_use_percent())
        late_before = len(late)
        p95_ms = percentile(_round(what, count, concurrency, ask, deadline, late), 95)
        seen.append(f"{p95_ms:.0f} ms" if math.isfinite(p95_ms) else "no answer")
        if p95_ms < P95_LIMIT_MS and len(late) == late_before:
            return f"95th percentile of {count} {what}: {', then '.join(seen)}"
    found = f"95th percentile of {count} {what}: {', then '.join(seen)}; the limit is {P95_LIMIT_MS:.0f} ms"
    if late:
        found += f"; {len(late)} of {count * len(seen)} were late, the last one: {late[-1]}"
    # An API that never answers is broken, not slow.
    if busy_percent >= BUSY_PERCENT and len(late) < count * len(seen):
        raise Degraded(f"slow: {found}. The machine is busy with something else: {busy_percent:.0f} % processor use")
    raise VerificationError(found)


def processor_use_percent() -> float:
    """Return how much of the machine's processor time is in use while nothing is measured."""
    import psutil

    return float(psutil.cpu_percent(interval=SETTLE_S))


def _round(
    what: str, count: int, concurrency: int, ask: Callable[[int], object], deadline: float, late: list[str]
) -> list[float]:
    """Return the time of each call in milliseconds, infinite for a late answer, whose words are added to `late`."""

    def timed(number: int) -> float:
        if time.monotonic() > deadline:
            raise VerificationError(f"{count} {what} were not answered within the time limit")
        started = time.perf_counter()
        try:
            ask(number)
        except LateError as error:
            late.append(str(error))
            return math.inf
        return (time.perf_counter() - started) * 1000

    with ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(timed, range(count)))


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile: the smallest value that `percent` of the values do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def _ready(http: httpx.Client) -> None:
    _answer(http, "GET", "ready")


def _answer(http: httpx.Client, method: str, path: str, **content: Any) -> httpx.Response:
    import httpx

    try:
        answer = http.request(method, path, **content)
    except httpx.TransportError as error:
        raise LateError(f"{method} /{path}: {' '.join(str(error).split()) or type(error).__name__}") from error
    if not answer.is_success:
        kind = LateError if answer.status_code in LATE_STATUS else VerificationError
        raise kind(f"{method} /{path}: HTTP {answer.status_code}: {answer.text[:300]}")
    return answer
