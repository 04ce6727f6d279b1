# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on readings, as tables: errors first."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health import checks
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import (
    DEGRADED,
    HEALTHY,
    UNHEALTHY,
    Check,
)

NOW = 1_800_000_000.0
GIB = 1024**3
HOUR = 3600.0
LIMITS = checks.Thresholds()


def verdict(check: Check) -> tuple[str, str]:
    return check.name, check.status


@pytest.mark.parametrize(
    ("available_gib", "status"),
    [(0.0, UNHEALTHY), (4.9, UNHEALTHY), (5.0, DEGRADED), (9.9, DEGRADED), (10.0, HEALTHY), (100.0, HEALTHY)],
)
def test_space_and_memory_are_unhealthy_below_the_minimum_and_degraded_below_twice_of_it(
    available_gib: float, status: str
) -> None:
    available = int(available_gib * GIB)
    disk = checks.judge_disk("/data", 100 * GIB, available, LIMITS)
    memory = checks.judge_memory(100 * GIB, available, LIMITS)
    assert verdict(disk) == ("machine/disk", status)
    assert verdict(memory) == ("machine/memory", status)
    assert bool(disk.remedy) == bool(memory.remedy) == (status != HEALTHY)


def test_a_disk_without_size_is_full() -> None:
    assert checks.judge_disk("/data", 0, 0, LIMITS).status == UNHEALTHY


@pytest.mark.parametrize(("load", "cpus", "status"), [(8.1, 2, DEGRADED), (100.0, 2, DEGRADED), (8.0, 2, HEALTHY)])
def test_a_busy_machine_is_degraded_and_never_unhealthy(load: float, cpus: int, status: str) -> None:
    assert verdict(checks.judge_load(load, cpus, LIMITS)) == ("machine/load", status)


@pytest.mark.parametrize(
    ("reference_s", "marker_s", "status"),
    [
        (NOW - 1000, None, UNHEALTHY),
        (NOW + 1000, None, UNHEALTHY),
        (None, NOW + 60, UNHEALTHY),
        (NOW, NOW + 60, UNHEALTHY),
        (NOW - 31, None, DEGRADED),
        (NOW + 5, NOW - 5, HEALTHY),
        (None, None, HEALTHY),
    ],
)
def test_a_clock_that_is_off_is_found(reference_s: float | None, marker_s: float | None, status: str) -> None:
    assert verdict(checks.judge_clock(NOW, reference_s, marker_s)) == ("machine/clock", status)


def process(name: str = "api", state: str = "RUNNING", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "statename": state,
        "now": int(NOW),
        "start": int(NOW) - 300,
        "pid": 42,
        "exitstatus": 0,
        "spawnerr": "",
        "stdout_logfile": "",
        **more,
    }


PROGRAM = {"name": "api", "log_file": "/home/log/api.log"}


@pytest.mark.parametrize(
    ("state", "status", "detail"),
    [
        ({"state": "FATAL", "spawnerr": "can't find command"}, UNHEALTHY, "FATAL: can't find command"),
        ({"state": "BACKOFF", "spawnerr": "Exited too quickly"}, UNHEALTHY, "BACKOFF: Exited too quickly"),
        ({"state": "EXITED", "exitstatus": 3}, UNHEALTHY, "EXITED: exit status 3"),
        ({"state": "STOPPED"}, UNHEALTHY, "STOPPED"),
        ({"state": "STARTING", "start": int(NOW) - 4}, DEGRADED, "STARTING for 4 s"),
        ({"state": "RUNNING"}, HEALTHY, "RUNNING for 5 min, pid 42"),
    ],
)
def test_a_program_has_to_run(state: dict[str, Any], status: str, detail: str) -> None:
    (check,) = checks.judge_programs([PROGRAM], [process(**state)], "", NOW, LIMITS)
    assert (*verdict(check), check.detail) == ("supervisor/api", status, detail)
    assert check.remedy == ("" if status == HEALTHY else "tail -n 50 /home/log/api.log")


def test_a_program_that_supervisord_does_not_know_is_unhealthy() -> None:
    (check,) = checks.judge_programs([PROGRAM], [], "", NOW, LIMITS)
    assert (check.status, check.remedy) == (UNHEALTHY, "deploy again")


def test_a_program_that_nothing_describes_is_degraded() -> None:
    found = checks.judge_programs([PROGRAM], [process(), process("old")], "", NOW, LIMITS)
    assert [verdict(check) for check in found] == [("supervisor/api", HEALTHY), ("supervisor/old", DEGRADED)]


def test_without_a_description_every_program_has_to_run() -> None:
    found = checks.judge_programs([], [process(), process("old", "FATAL")], "", NOW, LIMITS)
    assert [verdict(check) for check in found] == [("supervisor/api", HEALTHY), ("supervisor/old", UNHEALTHY)]


def test_a_program_that_is_not_to_be_started_may_stand_still() -> None:
    (check,) = checks.judge_programs([{**PROGRAM, "autostart": False}], [process(state="STOPPED")], "", NOW, LIMITS)
    assert check.status == HEALTHY


def stamp(seconds_ago: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW - seconds_ago))


def test_a_program_that_exited_by_itself_lately_is_degraded() -> None:
    log = "\n".join(
        [
            f"{stamp(4000)},123 WARN exited: api (exit status 1; not expected)",
            f"{stamp(90)},123 WARN exited: api (terminated by SIGKILL; not expected)",
            f"{stamp(80)},123 INFO exited: api (exit status 0; expected)",
            f"{stamp(70)},123 INFO stopped: worker (terminated by SIGTERM)",
            "not a line of supervisord",
        ]
    )
    found = checks.judge_programs([PROGRAM, {"name": "worker"}], [process(), process("worker")], log, NOW, LIMITS)
    assert [verdict(check) for check in found] == [("supervisor/api", DEGRADED), ("supervisor/worker", HEALTHY)]
    assert "exited 2 times in the last 10 min" in found[0].detail


def component(status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "response_time_ms": 1.5, "error": None, **more}


@pytest.mark.parametrize(
    ("overall", "name", "said", "status", "detail"),
    [
        ("unhealthy", "database", component("unhealthy", error="no answer"), UNHEALTHY, "no answer"),
        ("unhealthy", "market_api", component("unhealthy", error="no answer"), DEGRADED, "no answer"),
        ("degraded", "anything", component("unhealthy", error="no answer"), DEGRADED, "no answer"),
        ("healthy", "database", component("fine"), UNHEALTHY, "the API returns 'fine', which is not a status"),
        ("healthy", "database", {}, UNHEALTHY, "the API returns None, which is not a status"),
        ("degraded", "market_api", component("degraded"), DEGRADED, "answers"),
        (
            "degraded",
            "pipeline",
            component("unhealthy", error="3 of 9 lines refused"),
            DEGRADED,
            "3 of 9 lines refused",
        ),
        ("healthy", "catalog", component("healthy"), HEALTHY, "answers"),
    ],
)
def test_components_are_what_the_api_says(
    overall: str, name: str, said: dict[str, Any], status: str, detail: str
) -> None:
    (check,) = checks.judge_components({"status": overall, "components": {name: said}}, "tail log")
    assert (*verdict(check), check.detail) == (f"data/{name}", status, detail)
    assert check.remedy == ("tail log" if status == UNHEALTHY else "")


@pytest.mark.parametrize(
    "answer", [None, [], "ok", {}, {"components": []}, {"components": {}}, {"components": {"database": "healthy"}}]
)
def test_an_answer_that_is_no_health_report_is_refused(answer: object) -> None:
    with pytest.raises(checks.MalformedAnswerError):
        checks.judge_components(answer, "")


def success(**data: Any) -> dict[str, Any]:
    return {"status": "success", "data": data}


def target(job: str, health: str, error: str = "") -> dict[str, Any]:
    return {"labels": {"job": job}, "health": health, "lastError": error}


@pytest.mark.parametrize(
    ("targets", "status", "detail"),
    [
        ([], UNHEALTHY, "Prometheus has no targets"),
        ([target("api", "up"), target("database", "down", "refused")], UNHEALTHY, "1 of 2 down: database: refused"),
        ([target("api", "unknown"), target("database", "down")], UNHEALTHY, "1 of 2 down: database: down"),
        ([target("api", "unknown"), target("worker", "up")], DEGRADED, "1 of 2 not scraped yet: api"),
        ([target("api", "up"), target("worker", "up")], HEALTHY, "2 of 2 up"),
    ],
)
def test_every_target_has_to_be_up(targets: list[dict[str, Any]], status: str, detail: str) -> None:
    check = checks.judge_targets(success(activeTargets=targets))
    assert (*verdict(check), check.detail) == ("monitoring/targets", status, detail)


def test_a_job_that_has_ended_is_no_target_that_is_down() -> None:
    owner = "__meta_kubernetes_pod_controller_kind"
    ended = {**target("verify", "down", "refused"), "discoveredLabels": {owner: "Job"}}
    service = {**target("api", "up"), "discoveredLabels": {owner: "ReplicaSet"}}
    check = checks.judge_targets(success(activeTargets=[ended, service]))
    assert (*verdict(check), check.detail) == ("monitoring/targets", HEALTHY, "1 of 1 up")


def alert(name: str, state: str = "firing", **labels: str) -> dict[str, Any]:
    return {"labels": {"alertname": name, **labels}, "state": state}


WATCHDOG = alert("Watchdog", severity="none")


@pytest.mark.parametrize(
    ("alerts", "status", "detail"),
    [
        (
            [WATCHDOG, alert("LakehouseApiDown", severity="critical", job="api")],
            DEGRADED,
            "1 firing: LakehouseApiDown (critical, api)",
        ),
        ([], DEGRADED, "Watchdog does not fire: the rules are not loaded, or Prometheus just started"),
        ([WATCHDOG, alert("LakehouseApiDown", "pending")], HEALTHY, "none firing except Watchdog"),
        ([WATCHDOG, alert("LakehouseVerification", severity="info")], HEALTHY, "none firing except Watchdog"),
    ],
)
def test_an_alert_that_fires_is_degraded(alerts: list[dict[str, Any]], status: str, detail: str) -> None:
    check = checks.judge_alerts(success(alerts=alerts))
    assert (*verdict(check), check.detail) == ("monitoring/alerts", status, detail)


@pytest.mark.parametrize(
    ("active", "failed", "status"),
    [
        ([], [], UNHEALTHY),
        ([{"url": "http://a"}], [{"metric": {}, "value": [NOW, "3"]}], DEGRADED),
        ([{"url": "http://a"}], [], HEALTHY),
    ],
)
def test_prometheus_has_to_reach_alertmanager(active: list[Any], failed: list[Any], status: str) -> None:
    check = checks.judge_alertmanagers(success(activeAlertmanagers=active), success(result=failed))
    assert verdict(check) == ("monitoring/alertmanager", status)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"status": "error", "error": "out of memory"},
        {"status": "success"},
        success(),
        success(activeTargets={}, alerts={}, activeAlertmanagers={}, result={}),
        success(activeTargets=["x"], alerts=["x"], activeAlertmanagers=["x"], result=["x"]),
        success(activeAlertmanagers=["x"], result=[{"metric": {}}]),
    ],
)
def test_an_answer_that_prometheus_does_not_give_is_refused(answer: object) -> None:
    for judge in (
        checks.judge_targets,
        checks.judge_alerts,
        lambda said: checks.judge_alertmanagers(said, said),
    ):
        with pytest.raises(checks.MalformedAnswerError):
            judge(answer)


def last_success(**age_h: float) -> str:
    name = "crypto_lakehouse_pipeline_last_success_timestamp_seconds"
    samples = [f'{name}{{flow="{flow}"}} {NOW - hours * HOUR!r}' for flow, hours in age_h.items()]
    return "\n".join([f"# TYPE {name} gauge", *samples, f"{name}_not 1", "other 2"])


def test_a_flow_that_has_not_succeeded_for_long_is_unhealthy() -> None:
    found = checks.judge_freshness(last_success(ingest=27, clean=1), NOW, LIMITS, "tail log")
    assert [verdict(check) for check in found] == [("pipeline/ingest", UNHEALTHY), ("pipeline/clean", HEALTHY)]
    assert found[0].detail == "last success 27 h ago, more than 26 h"
    assert found[0].remedy == "tail log"


def test_a_pipeline_that_never_ran_is_degraded() -> None:
    (check,) = checks.judge_freshness("other 2\n", NOW, LIMITS, "tail log")
    assert verdict(check) == ("pipeline/runs", DEGRADED)


def test_a_certificate_of_the_platform_is_judged_by_the_days_that_are_left() -> None:
    name = "crypto_lakehouse_certificate_expiry_timestamp_seconds"
    days = {"good": 29, "due": 27, "late": 13, "over": -1}
    samples = [f'{name}{{certificate="{which}"}} {NOW + count * 24 * HOUR!r}' for which, count in days.items()]
    samples.append(f'{name}{{certificate="unreadable"}} 0.0')
    found = checks.judge_certificates("\n".join([f"# TYPE {name} gauge", *samples]), NOW, LIMITS, "deploy again")
    assert [verdict(check) for check in found] == [
        ("certificates/good", HEALTHY),
        ("certificates/due", DEGRADED),
        ("certificates/late", UNHEALTHY),
        ("certificates/over", UNHEALTHY),
        ("certificates/unreadable", UNHEALTHY),
    ]
    assert [check.detail for check in found[1:4]] == [
        "expires in 27 d, should be renewed",
        "expires in 13 d, needs 14 d",
        "expired, or cannot be read",
    ]
    assert checks.judge_certificates("other 2\n", NOW, LIMITS, "") == []


def test_a_clock_ahead_of_ours_makes_no_negative_age() -> None:
    (check,) = checks.judge_freshness(last_success(ingest=-1), NOW, LIMITS, "")
    assert check.detail == "last success 0 s ago"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_a_duration_has_the_unit_that_a_reader_wants(seconds: float, words: str) -> None:
    assert checks.duration(seconds) == words
