# SPDX-License-Identifier: GPL-3.0-or-later
"""The query endpoint under `wrk`, on the same processors: rates, latencies, errors, and processor time by stage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    read_processes,
    wait_until,
    with_descendants,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import Supervisor
from tests.benchmarks.deployment import BenchmarkError, Deployment
from tests.benchmarks.report import Figure

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "queries.lua"
LOADER = HERE.parents[1] / "roles" / "application" / "files" / "tests" / "load_sample.py"
SOFTWARE = HERE.parents[1] / ".cache" / "bench" / "packages"
SECONDS = 15
COLD_SECONDS = 3
CONNECTIONS = 8
REPEATED_PER_S = 800.0
DISTINCT_PER_S = 60.0
P95_LIMIT_MS = 300.0
ERRORS_LIMIT_PERCENT = 0.5
CPU_LIMIT_MS = 33.0
GIVE_UP_S = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STAGE = re.compile(r'^crypto_lakehouse_query_cpu_seconds_total\{stage="(\w+)"\} ([0-9.e+-]+)', re.MULTILINE)
SOURCE = re.compile(r'^crypto_lakehouse_query_sources_total\{source="(\w+)"\} ([0-9.e+-]+)', re.MULTILINE)


@dataclass(frozen=True)
class Load:
    """Measurements of `wrk`."""

    requests: int
    failed: int
    took_s: float
    p50_ms: float
    p95_ms: float

    @property
    def per_s(self) -> float:
        """Successful answers per second."""
        return (self.requests - self.failed) / self.took_s

    @property
    def failed_percent(self) -> float:
        """Errors among the requests."""
        return 100.0 * self.failed / max(1, self.requests)


@dataclass(frozen=True)
class Spent:
    """Processor seconds: of the API, the processes of its queries, and the object store; and of queries by stage."""

    by_part: Mapping[str, float]
    by_stage: Mapping[str, float]


class Endpoint:
    """The query endpoint of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._supervisor = Supervisor(deployment.socket)
        self.url = str(deployment.installation().api_url)
        # wrk reads the token from a file: no command line contains it.
        self.token_file = deployment.scratch / "token"
        self.token_file.touch(mode=0o600)
        store = json.loads((deployment.home / "secrets" / "store.json").read_text(encoding="utf-8"))
        self.token_file.write_text(store["secrets"]["api_token"]["value"] + "\n", encoding="utf-8")

    def load(self, kind: str, seconds: int) -> Load:
        """Send statements of a kind with `wrk` for some seconds."""
        libraries = next(SOFTWARE.glob("usr/lib/*/libluajit-5.1.so.2"), None)
        if libraries is None:
            raise BenchmarkError("wrk is not there; run `make bench`")
        command = [str(SOFTWARE / "usr" / "bin" / "wrk"), "--threads=1", f"--connections={CONNECTIONS}"]
        command += [f"--duration={seconds}s", "--timeout=10s", f"--script={SCRIPT}", self.url]
        done = subprocess.run(
            [*command, "--", str(self.token_file), kind],
            env={"LD_LIBRARY_PATH": str(libraries.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchmarkError(f"wrk ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return Load(**json.loads(done.stdout.strip().splitlines()[-1]))

    def start_again(self) -> None:
        """Restart the API, and wait until it answers queries."""
        self._supervisor.stop("api")
        # Running requests are answered first, and a stopping program cannot be started.
        _wait_until(lambda: not self._supervisor.states()["api"].pid, "the API has not stopped")
        self._supervisor.start("api")
        _wait_until(self._ready, "the API is not ready")

    def first_answer_ms(self) -> float:
        """Return the duration of one statement."""
        body = json.dumps({"sql": "SELECT max(high) FROM gold.bench_sample"})
        token = self.token_file.read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        started = time.perf_counter()
        status, content = self._ask("POST", "/v1/query", body, headers)
        if status != HTTPStatus.OK:
            raise BenchmarkError(f"a query was answered with {status}: {content[:300]}")
        return (time.perf_counter() - started) * 1000

    def spent(self) -> Spent:
        """Return the processor time so far."""
        processes, states = read_processes(), self._supervisor.states()
        api = states["api"].pid
        store = with_descendants([states["object-store"].pid], processes)
        parts = {
            "the API": _cpu_s([api], children=False),
            "query processes": _cpu_s(with_descendants([api], processes) - {api}, children=True),
            "the object store": _cpu_s(store, children=False),
        }
        return Spent(parts, {name: float(value) for name, value in STAGE.findall(self._metrics())})

    def sources(self) -> dict[str, float]:
        """Return the number of answers from each source."""
        return {name: float(value) for name, value in SOURCE.findall(self._metrics())}

    def _metrics(self) -> str:
        return self._ask("GET", "/metrics")[1]

    def _ready(self) -> bool:
        try:
            return self._ask("GET", "/ready")[0] == HTTPStatus.OK
        except (HTTPException, OSError):
            return False

    def _ask(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=GIVE_UP_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def _wait_until(condition: Callable[[], bool], trouble: str) -> None:
    if not wait_until(condition, GIVE_UP_S):
        raise BenchmarkError(f"{trouble} after {GIVE_UP_S:.0f} s")


def queries(deployment: Deployment) -> Iterator[Figure]:
    """Measure repeated and distinct statements over the packaged sample, first in a restarted API."""
    _load_sample(deployment)
    endpoint = Endpoint(deployment)
    endpoint.start_again()
    yield Figure("query, first answer of an API that has just started", endpoint.first_answer_ms(), "ms")
    yield from _rates("distinct statements, cold", endpoint.load("distinct", COLD_SECONDS), None)
    before = endpoint.spent()
    distinct = endpoint.load("distinct", SECONDS)
    after = endpoint.spent()
    yield from _rates("distinct statements", distinct, DISTINCT_PER_S)
    yield from _costs(before, after, distinct.requests)
    endpoint.start_again()
    yield from _rates("repeated statement, cold", endpoint.load("repeated", COLD_SECONDS), None)
    yield from _rates("repeated statement", endpoint.load("repeated", SECONDS), REPEATED_PER_S)
    for source, count in sorted(endpoint.sources().items()):
        yield Figure(f"answers to the repeated statement from: {source}", count)


def _rates(name: str, load: Load, least_per_s: float | None) -> Iterator[Figure]:
    limits = (P95_LIMIT_MS, ERRORS_LIMIT_PERCENT) if least_per_s else (None, None)
    yield Figure(f"{name}, answers a second", load.per_s, "", least_per_s, at_least=True)
    yield Figure(f"{name}, half of them within", load.p50_ms, "ms")
    yield Figure(f"{name}, 95 of 100 within", load.p95_ms, "ms", limits[0])
    yield Figure(f"{name}, errors", load.failed_percent, "%", limits[1])


def _costs(before: Spent, after: Spent, requests: int) -> Iterator[Figure]:
    parts = {name: after.by_part[name] - before.by_part.get(name, 0.0) for name in after.by_part}
    for name, seconds in parts.items():
        yield Figure(f"processor time of a distinct query, {name}", 1000 * seconds / requests, "ms")
    for name, seconds in after.by_stage.items():
        spent = seconds - before.by_stage.get(name, 0.0)
        yield Figure(f"processor time of a distinct query, stage {name}", 1000 * spent / requests, "ms")
    total_ms = 1000 * sum(parts.values()) / requests
    yield Figure("processor time of a distinct query, all told", total_ms, "ms", CPU_LIMIT_MS)


def _cpu_s(pids: set[int] | list[int], *, children: bool) -> float:
    """Return the processor time of processes and of their ended children."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11 : 15 if children else 13])
    return total / TICKS_PER_S


def _load_sample(deployment: Deployment) -> None:
    """Write the sample with the deployed software, as the user and with the keys of the worker."""
    home = deployment.home
    marker = json.loads((home / ".crypto-lakehouse.json").read_text(encoding="utf-8"))
    programs = home / "software" / str(marker["software"]) / "venv" / "bin"
    source = deployment.scratch / LOADER.name
    source.write_bytes(LOADER.read_bytes())
    source.chmod(0o644)
    environment = home / "etc" / "worker" / "environment"
    command = [str(programs / "lakehouse-launch"), "--environment-file", str(environment), "--"]
    command += [str(programs / "python"), str(source)]
    if os.geteuid() == 0:
        identity = [f"--reuid={deployment.user}", f"--regid={deployment.user}", "--clear-groups"]
        command = ["setpriv", *identity, "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise BenchmarkError(f"cannot load the sample: {done.stderr.strip()[-300:]}")
