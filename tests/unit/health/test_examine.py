# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole examinations against real servers, and their results after faults."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.host.examine import (
    Examination,
    Installation,
    examine,
    run_all,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import Check, Report
from ansible_collections.crypto_lakehouse.platform.tests.unit.health.servers import (
    SECRET,
    Answer,
    http_server,
    self_signed,
    supervisor,
)

API = {
    "/ready": Answer(),
    "/health": Answer(
        {
            "status": "healthy",
            "components": {
                name: {"status": "healthy", "response_time_ms": 1.0, "error": None}
                for name in ("database", "object_store", "catalog", "orchestrator", "market_api")
            },
        }
    ),
    "/metrics": Answer(
        f'crypto_lakehouse_pipeline_last_success_timestamp_seconds{{flow="ingest"}} {time.time()}\n'
        f'crypto_lakehouse_certificate_expiry_timestamp_seconds{{certificate="store"}} {time.time() + 9e6}\n'
    ),
}
PROMETHEUS = {
    "/-/ready": Answer(password=SECRET),
    "/api/v1/targets": Answer(
        {"status": "success", "data": {"activeTargets": [{"labels": {"job": "api"}, "health": "up"}]}}, password=SECRET
    ),
    "/api/v1/alerts": Answer(
        {"status": "success", "data": {"alerts": [{"labels": {"alertname": "Watchdog"}, "state": "firing"}]}},
        password=SECRET,
    ),
    "/api/v1/alertmanagers": Answer(
        {"status": "success", "data": {"activeAlertmanagers": [{"url": "http://127.0.0.1"}]}}, password=SECRET
    ),
    "/api/v1/query": Answer({"status": "success", "data": {"result": []}}, password=SECRET),
}


def running(name: str) -> dict[str, Any]:
    return {"name": name, "statename": "RUNNING", "now": 100, "start": 40, "pid": 7, "exitstatus": 0, "spawnerr": ""}


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A healthy installation."""
    secret_file = tmp_path / "password"
    secret_file.write_text(f"{SECRET}\n", encoding="utf-8")
    programs = [{"name": name, "log_file": f"{tmp_path}/log/{name}.log"} for name in ("api", "prometheus")]
    with (
        http_server(API) as api_url,
        http_server(PROMETHEUS) as prometheus_url,
        supervisor(tmp_path / "run" / "supervisor.sock", [running("api"), running("prometheus")]),
        socket.create_server(("127.0.0.1", 0)) as database,
    ):
        yield Installation(
            home=str(tmp_path),
            programs=programs,
            health=[
                {"service": "api", "type": "http", "url": f"{api_url}/ready", "timeout_s": 60, "interval_s": 600},
                {"service": "database", "type": "tcp", "address": "127.0.0.1", "port": database.getsockname()[1]},
                {
                    "service": "prometheus",
                    "type": "http",
                    "url": f"{prometheus_url}/-/ready",
                    "username": "lakehouse",
                    "secret_file": str(secret_file),
                },
            ],
            api_url=api_url,
            prometheus_url=prometheus_url,
            prometheus_username="lakehouse",
            prometheus_password_file=str(secret_file),
            reference_time_s=time.time(),
            timeout_s=60.0,
        )


def found(report: Report, name: str) -> Check:
    (check,) = (check for check in report.checks if check.name == name)
    return check


def of_services(report: Report) -> list[str]:
    """Return the unhealthy services, without the state of the machine that runs the tests."""
    return [name for name in report.unhealthy if not name.startswith("machine/")]


def test_an_installation_that_is_well_is_healthy_in_every_layer_and_examined_quickly(
    installation: Installation,
) -> None:
    started = time.monotonic()
    report = examine(installation)
    assert time.monotonic() - started < 50
    assert of_services(report) == []
    assert {check.name for check in report.checks} == {
        *(f"machine/{name}" for name in ("disk", "memory", "load", "clock")),
        *(f"supervisor/{name}" for name in ("api", "prometheus")),
        *(f"services/{name}" for name in ("api", "database", "prometheus")),
        *(f"data/{name}" for name in ("database", "object_store", "catalog", "orchestrator", "market_api")),
        *(f"monitoring/{name}" for name in ("targets", "alerts", "alertmanager")),
        "pipeline/ingest",
        "certificates/store",
    }
    assert all(check.response_time_ms is not None for check in report.checks)


def test_a_service_that_is_down_is_named_with_its_log(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    down = {"service": "api", "type": "tcp", "address": "127.0.0.1", "port": port}
    report = examine(replace(installation, health=[down]))
    assert of_services(report) == ["services/api"]
    assert found(report, "services/api").detail == "connection refused"
    assert found(report, "services/api").remedy == f"tail -n 50 {installation.home}/log/api.log"
    assert "services/api: connection refused. Next: tail" in report.message()


ENTRY = {"message": "restore of set X did not end", "remedy": "run it again", "set_id": "X"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, [("healthy", "nothing is incomplete", "")]),
        ({"incomplete": []}, [("healthy", "nothing is incomplete", "")]),
        ({"incomplete": [ENTRY]}, [("unhealthy", ENTRY["message"], ENTRY["remedy"])]),
        (
            {"incomplete": [ENTRY, {**ENTRY, "message": "another"}]},
            [("unhealthy", ENTRY["message"], ENTRY["remedy"]), ("unhealthy", "another", ENTRY["remedy"])],
        ),
    ],
)
def test_incomplete_work_of_a_job_is_unhealthy_with_its_remedy(
    tmp_path: Path, content: object, expected: list[tuple[str, str, str]]
) -> None:
    path = tmp_path / "restore.json"
    if content is not None:
        path.write_text(json.dumps(content), encoding="utf-8")
    report = examine(Installation(home=str(tmp_path), incomplete=[{"service": "restore", "path": str(path)}]))
    checks = [check for check in report.checks if check.name == "data/restore"]
    assert [(check.status, check.detail, check.remedy) for check in checks] == expected


@pytest.mark.parametrize("content", ["", "[]", '{"incomplete": 1}', '{"incomplete": ["x"]}', "{}"])
def test_a_record_that_cannot_be_read_is_unhealthy_and_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "restore.json"
    path.write_text(content, encoding="utf-8")
    report = examine(Installation(home=str(tmp_path), incomplete=[{"service": "restore", "path": str(path)}]))
    assert "data/restore" in report.unhealthy
    assert str(path) in found(report, "data/restore").remedy


@pytest.mark.parametrize(
    ("programs", "remedy"),
    [
        ([], "tail -n 50 /home/log/iceberg-catalog.log"),
        ([{"name": "iceberg-catalog"}], "tail -n 50 /home/log/iceberg-catalog.log"),
        ([{"name": "iceberg-catalog", "log_file": "/var/log/x"}], "tail -n 50 /var/log/x"),
        ([{"name": "object-store"}], "tail -n 20 /home/log/*.log"),
    ],
)
def test_the_log_to_look_at_exists(programs: list[dict[str, Any]], remedy: str) -> None:
    assert Installation(home="/home", programs=programs).log_of("iceberg-catalog") == remedy


def test_a_wrong_password_is_found_and_not_shown(installation: Installation, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password", encoding="utf-8")
    health = [{**check, "secret_file": str(wrong)} for check in installation.health if check.get("secret_file")]
    report = examine(replace(installation, health=health, prometheus_password_file=str(wrong)))
    assert of_services(report) == [
        "services/prometheus",
        "monitoring/alertmanager",
        "monitoring/alerts",
        "monitoring/targets",
    ]
    assert found(report, "monitoring/targets").detail == "HTTP 401: the username or password is rejected"
    result = json.dumps(report.as_result())
    assert "not-the-password" not in result
    assert SECRET not in result


def test_a_password_file_that_cannot_be_read_is_named(installation: Installation, tmp_path: Path) -> None:
    report = examine(replace(installation, prometheus_password_file=str(tmp_path / "missing")))
    detail = found(report, "monitoring/targets").detail
    assert detail == f"cannot read the password file {tmp_path}/missing: no such file or directory"


def test_an_api_that_answers_503_says_which_component_is_down(installation: Installation) -> None:
    down = {"status": "unhealthy", "response_time_ms": 2.0, "error": "cannot be connected to"}
    body = {"status": "unhealthy", "components": {"database": down, "catalog": {**down, "status": "healthy"}}}
    with http_server({**API, "/ready": Answer(status=503), "/health": Answer(body, status=503)}) as url:
        health = [{"service": "api", "type": "http", "url": f"{url}/ready"}]
        report = examine(replace(installation, api_url=url, health=health))
    assert of_services(report) == ["services/api", "data/database"]
    assert found(report, "services/api").detail == "HTTP 503, expected 200"
    assert found(report, "data/database").detail == "cannot be connected to"


def test_a_market_that_cannot_be_reached_degrades_and_fails_nothing(installation: Installation) -> None:
    away = {"status": "unhealthy", "response_time_ms": 3000.0, "error": "no answer within 3 s"}
    with http_server({**API, "/health": Answer({"status": "degraded", "components": {"market_api": away}})}) as url:
        report = examine(replace(installation, api_url=url))
    assert of_services(report) == []
    assert "data/market_api" in report.degraded


def test_a_target_that_is_down_is_named(installation: Installation) -> None:
    targets = [{"labels": {"job": "object-store"}, "health": "down", "lastError": "connection refused"}]
    answer = Answer({"status": "success", "data": {"activeTargets": targets}}, password=SECRET)
    with http_server({**PROMETHEUS, "/api/v1/targets": answer}) as url:
        report = examine(replace(installation, prometheus_url=url))
    assert of_services(report) == ["monitoring/targets"]
    assert found(report, "monitoring/targets").detail == "1 of 1 down: object-store: connection refused"


@pytest.mark.parametrize("listening", [False, True])
def test_a_supervisord_that_is_gone_is_named(installation: Installation, tmp_path: Path, listening: bool) -> None:
    home = tmp_path / "other"
    (home / "run").mkdir(parents=True)
    if listening:
        # Files that a killed supervisord leaves.
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(home / "run" / "supervisor.sock"))
    report = examine(replace(installation, home=str(home)))
    assert of_services(report) == ["supervisor/supervisord"]
    assert "supervisord does not run" in found(report, "supervisor/supervisord").detail


def test_a_program_that_is_not_running_is_named(installation: Installation, tmp_path: Path) -> None:
    processes = [{**running("api"), "statename": "FATAL", "spawnerr": "Exited too quickly"}, running("prometheus")]
    with supervisor(tmp_path / "other" / "run" / "supervisor.sock", processes, log=""):
        report = examine(replace(installation, home=str(tmp_path / "other")))
    assert of_services(report) == ["supervisor/api"]


@pytest.mark.parametrize("answer", ["no list", [{"name": "api"}], [3]])
def test_a_supervisord_that_answers_nonsense_is_unhealthy(
    installation: Installation, tmp_path: Path, answer: object
) -> None:
    with supervisor(tmp_path / "other" / "run" / "supervisor.sock", answer):
        report = examine(replace(installation, home=str(tmp_path / "other")))
    assert of_services(report) == ["supervisor/supervisord"]


def test_a_slow_endpoint_costs_its_timeout_and_no_more(installation: Installation) -> None:
    slow = {path: replace(answer, delay_s=60.0) for path, answer in {**API, **PROMETHEUS}.items()}
    with http_server(slow) as url:
        health = [{"service": "api", "type": "http", "url": f"{url}/ready", "timeout_s": 30}]
        started = time.monotonic()
        report = examine(replace(installation, api_url=url, prometheus_url=url, health=health, timeout_s=0.3))
        elapsed_s = time.monotonic() - started
    assert elapsed_s < 50
    assert of_services(report) == [
        "services/api",
        "data/components",
        "monitoring/alertmanager",
        "monitoring/alerts",
        "monitoring/targets",
        "pipeline/runs",
    ]
    assert found(report, "data/components").detail == "no answer within 0.3 s"


@pytest.mark.parametrize("body", ["", "<html>", "{", '{"status": "success"}', "[]", "null"])
def test_an_answer_that_is_malformed_is_unhealthy(installation: Installation, body: str) -> None:
    nonsense = {path: Answer(body) for path in (*API, *PROMETHEUS)}
    with http_server(nonsense) as url:
        report = examine(replace(installation, api_url=url, prometheus_url=url, health=[]))
    assert of_services(report) == [
        "data/components",
        "monitoring/alertmanager",
        "monitoring/alerts",
        "monitoring/targets",
    ]


def test_a_certificate_that_nobody_trusts_is_unhealthy(installation: Installation, tmp_path: Path) -> None:
    with http_server({**API, **PROMETHEUS}, tls=self_signed(tmp_path)) as url:
        health = [{"service": "api", "type": "http", "url": f"{url}/ready"}]
        report = examine(replace(installation, api_url=url, prometheus_url=url, health=health))
    for name in ("services/api", "data/components", "monitoring/targets"):
        assert found(report, name).detail.startswith("certificate is not trusted: self-signed certificate")


def test_tls_where_there_is_none_is_unhealthy(installation: Installation) -> None:
    plain = str(installation.api_url).replace("http://", "https://")
    report = examine(replace(installation, api_url=plain))
    assert found(report, "data/components").detail.startswith("TLS failed: ")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8080", "http://", "http://127.0.0.1:port"])
def test_a_url_that_is_none_is_unhealthy(installation: Installation, url: str) -> None:
    report = examine(replace(installation, api_url=url))
    assert of_services(report) == ["data/components", "pipeline/runs"]


@pytest.mark.parametrize("check", [{"service": "api", "type": "telepathy"}, {"service": "api"}, {}])
def test_a_check_that_is_described_wrongly_is_unhealthy(installation: Installation, check: dict[str, Any]) -> None:
    report = examine(replace(installation, health=[check]))
    assert of_services(report) == [f"services/{check.get('service', '?')}"]


def test_a_home_that_does_not_exist_is_unhealthy(installation: Installation) -> None:
    report = examine(replace(installation, home="/does/not/exist"))
    assert {"machine/disk", "supervisor/supervisord"} <= set(report.unhealthy)


def test_what_is_not_given_is_left_out(tmp_path: Path) -> None:
    report = examine(Installation(home=str(tmp_path)))
    assert {check.layer for check in report.checks} == {"machine", "supervisor"}


def crash() -> Iterable[Check]:
    raise RuntimeError("unforeseen")


def sleep() -> Iterable[Check]:
    time.sleep(60)
    return []


def test_a_check_that_crashes_is_an_unhealthy_check() -> None:
    (check,) = run_all([Examination("machine", "disk", crash, 1.0, "look there")])
    assert (check.name, check.status) == ("machine/disk", "unhealthy")
    assert (check.detail, check.remedy) == ("RuntimeError: unforeseen", "look there")


def test_a_check_that_hangs_is_left_behind_at_its_deadline() -> None:
    started = time.monotonic()
    (check,) = run_all([Examination("machine", "disk", sleep, 0.1)])
    assert time.monotonic() - started < 50
    assert (check.status, check.detail) == ("unhealthy", "no result within 0.1 s")


def test_proxies_of_the_environment_are_not_asked(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:9")
    assert of_services(examine(installation)) == []
