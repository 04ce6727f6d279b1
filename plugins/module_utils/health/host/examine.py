# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examine an installation on a host. The examinations run concurrently, each with its own deadline."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...shared.probes import Probe, run_probe
from .. import checks, foreign
from ..answers import Answering, NoAnswerError, Server, UnreachedError, ask_supervisor, read_secret
from ..report import DEGRADED, HEALTHY, UNHEALTHY, Check, Report

# Grace period after an examination's own timeout, which reports a more precise cause.
GRACE_S = 0.5
FAILED_NOTIFICATIONS = "sum(increase(prometheus_notifications_errors_total[5m])) > 0"
MARKER_FILE = ".crypto-lakehouse.json"


@dataclass(frozen=True)
class Installation:
    """An installation on a host: its folders, programs and addresses.

    `programs`, `health` and `incomplete` are the lists that the host renderer returns. Without a URL, its layers are
    omitted. `reference_time_s` is the controller's clock, in seconds since 1970. `bootstrap_job`, `software` and
    `logins` enable the comparison of the stores, the installed files, and the user's keys and jobs with their
    description.
    """

    home: str
    programs: Sequence[Mapping[str, Any]] = ()
    health: Sequence[Mapping[str, Any]] = ()
    incomplete: Sequence[Mapping[str, Any]] = ()
    api_url: str | None = None
    prometheus_url: str | None = None
    prometheus_username: str | None = None
    prometheus_password_file: str | None = None
    reference_time_s: float | None = None
    timeout_s: float = 5.0
    bootstrap_job: Sequence[str] = ()
    expected_foreign: Sequence[str] = ()
    software: str | None = None
    software_sources: Mapping[str, str] = field(default_factory=dict)
    logins: bool = False
    limits: checks.Thresholds = field(default_factory=checks.Thresholds)

    @property
    def supervisor_socket(self) -> str:
        return f"{self.home}/run/supervisor.sock"

    def log_of(self, service: str) -> str:
        """Return the command that shows the log. A service in another service's process has no log of its own."""
        logs = {str(program["name"]): program.get("log_file") for program in self.programs}
        if logs and service not in logs:
            return f"tail -n 20 {self.home}/log/*.log"
        return f"tail -n 50 {logs.get(service) or f'{self.home}/log/{service}.log'}"


@dataclass(frozen=True)
class Examination:
    """An examination that returns checks. Its failure is one check: `layer/subject`."""

    layer: str
    subject: str
    run: Callable[[], Iterable[Check]]
    timeout_s: float
    remedy: str = ""

    def failed(self, detail: str, response_time_s: float, status: str = UNHEALTHY) -> Check:
        return Check(self.layer, self.subject, status, detail, self.remedy, round(response_time_s * 1000, 1))


def examine(installation: Installation) -> Report:
    """Return every check of every layer, without changes. Never raises: a failed examination is an unhealthy check."""
    return Report.of(run_all(examinations(installation)), secrets=_secrets(installation))


def run_all(todo: Sequence[Examination]) -> list[Check]:
    """Run all examinations concurrently. One that exceeds its deadline is reported and abandoned."""
    found: dict[int, list[Check]] = {}
    started = time.monotonic()
    # The interpreter waits for threads of a pool when it exits; a read from a dead disk would block it forever.
    threads = [
        threading.Thread(target=_run_one, args=(number, examination, found), daemon=True)
        for number, examination in enumerate(todo)
    ]
    for thread in threads:
        thread.start()
    results: list[Check] = []
    for number, (thread, examination) in enumerate(zip(threads, todo, strict=True)):
        thread.join(max(0.0, started + examination.timeout_s + GRACE_S - time.monotonic()))
        late = examination.failed(f"no result within {examination.timeout_s:g} s", time.monotonic() - started)
        results += found.get(number, [late])
    return results


def _run_one(number: int, examination: Examination, found: dict[int, list[Check]]) -> None:
    started = time.monotonic()
    try:
        results = list(examination.run())
    except UnreachedError as error:
        # Its state is unknown. Another check examines its pods.
        results = [examination.failed(str(error), time.monotonic() - started, DEGRADED)]
    except NoAnswerError as error:
        results = [examination.failed(str(error), time.monotonic() - started)]
    except Exception as error:  # noqa: BLE001  a check that crashes is a finding about that check, and no traceback
        results = [examination.failed(f"{type(error).__name__}: {error}", time.monotonic() - started)]
    elapsed_ms = round((time.monotonic() - started) * 1000, 1)
    found[number] = [
        check if check.response_time_ms is not None else replace(check, response_time_ms=elapsed_ms)
        for check in results
    ]


def examinations(installation: Installation) -> list[Examination]:
    return [
        *_machine(installation),
        *_supervisor(installation),
        *_description(installation),
        *_services(installation),
        *_jobs(installation),
        *_application(installation),
        *_monitoring(installation),
    ]


def _machine(installation: Installation) -> list[Examination]:
    readers = {
        "disk": lambda: [_read_disk(installation)],
        "memory": lambda: [_read_memory(installation)],
        "load": lambda: [checks.judge_load(os.getloadavg()[1], os.cpu_count() or 1, installation.limits)],
        "clock": lambda: [_read_clock(installation)],
    }
    return [Examination("machine", name, run, installation.timeout_s) for name, run in readers.items()]


def _read_disk(installation: Installation) -> Check:
    disk = os.statvfs(installation.home)
    return checks.judge_disk(
        installation.home, disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize, installation.limits
    )


def _read_memory(installation: Installation) -> Check:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    size_kib = {name: int(value.split()[0]) for name, _separator, value in (line.partition(":") for line in lines)}
    return checks.judge_memory(size_kib["MemTotal"] * 1024, size_kib["MemAvailable"] * 1024, installation.limits)


def _read_clock(installation: Installation) -> Check:
    marker = Path(installation.home, MARKER_FILE)
    marker_s = marker.stat().st_mtime if marker.exists() else None
    return checks.judge_clock(time.time(), installation.reference_time_s, marker_s)


def _supervisor(installation: Installation) -> list[Examination]:
    def ask() -> list[Check]:
        answer = ask_supervisor(installation.supervisor_socket, installation.timeout_s)
        return checks.judge_programs(
            installation.programs, answer.processes, answer.log, time.time(), installation.limits
        )

    remedy = f"deploy again; tail -n 50 {installation.home}/log/supervisord.log"
    return [Examination("supervisor", "supervisord", ask, installation.timeout_s, remedy)]


def _description(installation: Installation) -> list[Examination]:
    found = []
    if installation.bootstrap_job:

        def ask() -> list[Check]:
            return foreign.judge_job(foreign.read_job(installation.bootstrap_job), installation.expected_foreign)

        found.append(Examination(foreign.LAYER, "access", ask, foreign.JOB_TIMEOUT_S, "run playbooks/drift.yml"))
    if installation.logins:

        def look() -> list[Check]:
            return foreign.judge_logins(installation.home, installation.expected_foreign)

        found.append(Examination(foreign.LAYER, "logins", look, foreign.JOB_TIMEOUT_S, "run playbooks/drift.yml"))
    software = installation.software
    if software:

        def compare() -> list[Check]:
            return [foreign.judge_software(software, installation.software_sources)]

        found.append(Examination(foreign.LAYER, "software", compare, foreign.JOB_TIMEOUT_S, "deploy again"))
    return found


def _services(installation: Installation) -> list[Examination]:
    return [_service(check, installation) for check in installation.health]


def _service(check: Mapping[str, Any], installation: Installation) -> Examination:
    service = str(check.get("service", "?"))
    timeout_s = min(float(check.get("timeout_s") or installation.timeout_s), installation.timeout_s)
    remedy = installation.log_of(service)

    def ask() -> list[Check]:
        result = run_probe(Probe.from_mapping({**check, "timeout_s": timeout_s}))
        status, elapsed_ms = HEALTHY if result.healthy else UNHEALTHY, round(result.response_time_s * 1000, 1)
        return [Check("services", service, status, result.detail, "" if result.healthy else remedy, elapsed_ms)]

    return Examination("services", service, ask, timeout_s, remedy)


def _jobs(installation: Installation) -> list[Examination]:
    return [
        _job(str(each.get("service", "?")), Path(str(each["path"])), installation.timeout_s)
        for each in installation.incomplete
    ]


def _job(name: str, path: Path, timeout_s: float) -> Examination:
    def read() -> list[Check]:
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            document = None
        except (OSError, ValueError) as error:
            raise NoAnswerError(f"cannot read {path}: {error}") from None
        return checks.judge_incomplete(name, document)

    return Examination("data", name, read, timeout_s, f"repeat the job {name}, which replaces {path}")


def _application(installation: Installation) -> list[Examination]:
    if not installation.api_url:
        return []
    api = Server(installation.api_url, installation.timeout_s)
    return of_application(
        api, installation.log_of("api"), installation.log_of("worker"), installation.timeout_s, installation.limits
    )


def of_application(
    api: Answering, remedy: str, worker_remedy: str, timeout_s: float, limits: checks.Thresholds
) -> list[Examination]:
    """Return the API's report on the layers below it, the pipeline and the platform's certificates."""

    def components() -> list[Check]:
        # The API answers 503 when a component is down; the body names it.
        return checks.judge_components(api.json("/health", accepted_status=(200, 503)), remedy)

    def figures() -> list[Check]:
        said, now_s = api.text("/metrics"), time.time()
        certificates = checks.judge_certificates(said, now_s, limits, "deploy again, which renews it")
        return [*checks.judge_freshness(said, now_s, limits, worker_remedy), *certificates]

    return [
        Examination("data", "components", components, timeout_s, remedy),
        Examination("pipeline", "runs", figures, timeout_s, remedy),
    ]


def _monitoring(installation: Installation) -> list[Examination]:
    url = installation.prometheus_url
    if not url:
        return []

    def prometheus() -> Server:
        file = installation.prometheus_password_file
        password = read_secret(file) if file else None
        return Server(url, installation.timeout_s, installation.prometheus_username, password)

    return of_monitoring(prometheus, installation.log_of("prometheus"), installation.timeout_s)


def of_monitoring(prometheus: Callable[[], Answering], remedy: str, timeout_s: float) -> list[Examination]:
    """Return the checks of Prometheus: its targets, its alerts and its Alertmanagers."""

    def alertmanagers() -> Check:
        server, query = prometheus(), urllib.parse.urlencode({"query": FAILED_NOTIFICATIONS})
        return checks.judge_alertmanagers(server.json("/api/v1/alertmanagers"), server.json(f"/api/v1/query?{query}"))

    readers: dict[str, Callable[[], list[Check]]] = {
        "targets": lambda: [checks.judge_targets(prometheus().json("/api/v1/targets?state=active"))],
        "alerts": lambda: [checks.judge_alerts(prometheus().json("/api/v1/alerts"))],
        "alertmanager": lambda: [alertmanagers()],
    }
    return [Examination("monitoring", name, run, timeout_s, remedy) for name, run in readers.items()]


def _secrets(installation: Installation) -> list[str]:
    files = {str(check["secret_file"]) for check in installation.health if check.get("secret_file")}
    if installation.prometheus_password_file:
        files.add(installation.prometheus_password_file)
    secrets = []
    for file in files:
        try:
            secrets.append(read_secret(file))
        except NoAnswerError:
            continue  # the check that needs it reports it
    return secrets
