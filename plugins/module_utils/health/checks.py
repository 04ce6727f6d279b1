# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive checks from measurements and answers of servers. Pure: this module reads nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .report import DEGRADED, HEALTHY, STATUSES, UNHEALTHY, Check

GIB = 1024**3
DAY_S = 86400.0
CLOCK_TOLERANCE_S = 30.0
# S3 rejects signatures whose time differs by more than this (RequestTimeTooSkewed).
CLOCK_LIMIT_S = 900.0
# InfoInhibitor suppresses notifications while it fires. It is not a problem itself.
EXPECTED_ALERTS = ("Watchdog", "LakehouseVerification", "InfoInhibitor")
# The lakehouse serves its existing data while the market does not answer or its lines are rejected.
OPTIONAL_COMPONENTS = ("market_api", "pipeline")
EXIT_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \w+ exited: (\S+) \(")
CERTIFICATE = re.compile(
    r'^crypto_lakehouse_certificate_expiry_timestamp_seconds\{certificate="([^"]*)"\} (\S+)', re.MULTILINE
)
LAST_SUCCESS = re.compile(
    r"^crypto_lakehouse_pipeline_last_success_timestamp_seconds(?:\{([^}]*)\})? (\S+)", re.MULTILINE
)


class MalformedAnswerError(ValueError):
    """An answer that does not match the server's interface."""


@dataclass(frozen=True)
class Thresholds:
    """Limits of the verdicts.

    A machine below `disk_free_min_percent` or `memory_available_min_percent` is unhealthy, below twice of it degraded.
    Above `load_max_per_cpu` it is degraded, since a busy machine still works. A certificate that is valid for less than
    `certificate_days` is unhealthy, for less than twice of it degraded.
    """

    disk_free_min_percent: float = 5.0
    memory_available_min_percent: float = 5.0
    load_max_per_cpu: float = 4.0
    restart_window_s: float = 600.0
    pipeline_max_age_s: float = 26 * 3600.0
    certificate_days: float = 14.0


def judge_disk(path: str, total_bytes: int, available_bytes: int, limits: Thresholds) -> Check:
    percent = 100 * available_bytes / total_bytes if total_bytes else 0.0
    detail = f"{available_bytes / GIB:.1f} of {total_bytes / GIB:.1f} GiB free ({percent:.0f} %) at {path}"
    return _by_minimum("disk", percent, limits.disk_free_min_percent, detail, f"free space at {path}: du -xsh {path}/*")


def judge_memory(total_bytes: int, available_bytes: int, limits: Thresholds) -> Check:
    percent = 100 * available_bytes / total_bytes if total_bytes else 0.0
    detail = f"{available_bytes / GIB:.1f} of {total_bytes / GIB:.1f} GiB available ({percent:.0f} %)"
    remedy = "find the processes: ps -eo rss,pid,args --sort=-rss | head"
    return _by_minimum("memory", percent, limits.memory_available_min_percent, detail, remedy)


def _by_minimum(subject: str, percent: float, minimum: float, detail: str, remedy: str) -> Check:
    if percent < minimum:
        return Check("machine", subject, UNHEALTHY, f"{detail}, needs {minimum:g} %", remedy)
    if percent < 2 * minimum:
        return Check("machine", subject, DEGRADED, f"{detail}, nearly the minimum of {minimum:g} %", remedy)
    return Check("machine", subject, HEALTHY, detail)


def judge_load(load_5min: float, cpus: int, limits: Thresholds) -> Check:
    detail = f"{load_5min:.2f} over 5 minutes on {cpus} CPUs"
    if load_5min / max(1, cpus) <= limits.load_max_per_cpu:
        return Check("machine", "load", HEALTHY, detail)
    remedy = "find the processes: ps -eo pcpu,pid,args --sort=-pcpu | head"
    return Check("machine", "load", DEGRADED, f"{detail}, more than {limits.load_max_per_cpu:g} a CPU", remedy)


def judge_clock(now_s: float, reference_s: float | None, marker_s: float | None) -> Check:
    """Compare the clock with the controller's (`reference_s`) and with the modification time of an existing file."""
    remedy = "synchronise the clock with chronyd or systemd-timesyncd"
    if marker_s is not None and marker_s - now_s > CLOCK_TOLERANCE_S:
        behind = duration(marker_s - now_s)
        return Check("machine", "clock", UNHEALTHY, f"is {behind} before the time of the installation itself", remedy)
    if reference_s is None:
        return Check("machine", "clock", HEALTHY, "runs forward; there is no other clock for a comparison")
    skew_s = abs(now_s - reference_s)
    detail = f"differs by {duration(skew_s)} from the controller's"
    if skew_s > CLOCK_LIMIT_S:
        return Check("machine", "clock", UNHEALTHY, f"{detail}; signed requests are rejected", remedy)
    if skew_s > CLOCK_TOLERANCE_S:
        return Check("machine", "clock", DEGRADED, detail, remedy)
    return Check("machine", "clock", HEALTHY, f"agrees with the controller's within {CLOCK_TOLERANCE_S:g} s")


def judge_incomplete(job: str, document: object) -> list[Check]:
    """One check for each work of a job that began and did not end, or one for all. `document` is None without any.

    Raises `MalformedAnswerError`.
    """
    entries = _list(_mapping(document, "the record").get("incomplete"), "incomplete") if document is not None else []
    texts = [(str(entry.get("message")), str(entry.get("remedy"))) for entry in entries if isinstance(entry, Mapping)]
    if len(texts) < len(entries):
        raise MalformedAnswerError("an entry is not a JSON object")
    checks = [Check("data", job, UNHEALTHY, message, remedy) for message, remedy in texts]
    return checks or [Check("data", job, HEALTHY, "nothing is incomplete")]


def judge_programs(
    programs: Sequence[Mapping[str, Any]],
    processes: Sequence[Mapping[str, Any]],
    supervisor_log: str,
    now_s: float,
    limits: Thresholds,
) -> list[Check]:
    """Return one check for each program that is described or that supervisord runs.

    processes: the result of `getAllProcessInfo`. supervisor_log: the end of supervisord's own log.
    """
    running = {str(process["name"]): process for process in processes}
    exits = count_exits(supervisor_log, now_s - limits.restart_window_s)
    described = {str(program["name"]): program for program in programs}
    checks = [_judge_program(said, running.get(name), exits.get(name, 0), limits) for name, said in described.items()]
    for name in sorted(set(running) - set(described) if described else running):
        stray = _judge_program({"name": name}, running[name], exits.get(name, 0), limits)
        if described:
            detail = f"is not described; {stray.detail}"
            stray = Check("supervisor", name, DEGRADED, detail, "deploy again, which removes it")
        checks.append(stray)
    return checks


def _judge_program(
    program: Mapping[str, Any], process: Mapping[str, Any] | None, exits: int, limits: Thresholds
) -> Check:
    name, log_file = str(program["name"]), program.get("log_file") or (process or {}).get("stdout_logfile")
    remedy = f"tail -n 50 {log_file}" if log_file else "see its log"
    if process is None:
        return Check("supervisor", name, UNHEALTHY, "is not known to supervisord", "deploy again")
    state, uptime_s = str(process["statename"]), max(0, int(process["now"]) - int(process["start"]))
    if state == "RUNNING" and exits:
        times = "once" if exits == 1 else f"{exits} times"
        detail = f"RUNNING for {duration(uptime_s)}, exited {times} in the last {duration(limits.restart_window_s)}"
        return Check("supervisor", name, DEGRADED, detail, remedy)
    if state == "RUNNING":
        return Check("supervisor", name, HEALTHY, f"RUNNING for {duration(uptime_s)}, pid {process['pid']}")
    if state == "STARTING":
        return Check("supervisor", name, DEGRADED, f"STARTING for {duration(uptime_s)}", remedy)
    if state == "STOPPED" and program.get("autostart") is False:
        return Check("supervisor", name, HEALTHY, "STOPPED, and not started automatically")
    reason = process.get("spawnerr") or (f"exit status {process['exitstatus']}" if process.get("exitstatus") else "")
    return Check("supervisor", name, UNHEALTHY, f"{state}{f': {reason}' if reason else ''}", remedy)


def count_exits(supervisor_log: str, since_s: float) -> dict[str, int]:
    """Return the number of exits of each program since then. Requested stops do not count: their log is `stopped`."""
    counts: dict[str, int] = {}
    for line in supervisor_log.splitlines():
        found = EXIT_LINE.match(line)
        if found and time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) >= since_s:
            counts[found[2]] = counts.get(found[2], 0) + 1
    return counts


def judge_components(answer: object, remedy: str) -> list[Check]:
    """Return one check for each component of the answer.

    Its form: `{"status": ..., "components": {NAME: {"status": ..., "error": ...}}}`. The API reports `degraded` for
    itself when an optional component is unhealthy.
    """
    said = _mapping(answer, "the answer")
    components = _mapping(said.get("components"), "components")
    if not components:
        raise MalformedAnswerError("the answer contains no component")
    return [
        _judge_component(str(name), _mapping(component, str(name)), said.get("status"), remedy)
        for name, component in components.items()
    ]


def _judge_component(name: str, said: Mapping[str, Any], overall: object, remedy: str) -> Check:
    status = said.get("status")
    if status not in STATUSES:
        return Check("data", name, UNHEALTHY, f"the API returns {status!r}, which is not a status", remedy)
    if status == UNHEALTHY and (overall == DEGRADED or name in OPTIONAL_COMPONENTS):
        status = DEGRADED
    milliseconds = said.get("response_time_ms")
    return Check(
        "data",
        name,
        status,
        str(said.get("error") or said.get("detail") or "answers"),
        remedy if status == UNHEALTHY else "",
        float(milliseconds) if isinstance(milliseconds, (int, float)) else None,
    )


def judge_targets(answer: object) -> Check:
    """Judge Prometheus' `/api/v1/targets`: the last scrape of each active target succeeded, except for ended jobs."""
    found = [_mapping(target, "a target") for target in _list(_data(answer).get("activeTargets"), "activeTargets")]
    targets = [target for target in found if not _ends(target)]
    down = [target for target in targets if target.get("health") == "down"]
    waiting = [target for target in targets if target.get("health") not in ("up", "down")]
    if not targets:
        return Check("monitoring", "targets", UNHEALTHY, "Prometheus has no targets", "deploy again")
    if down:
        told = "; ".join(sorted(f"{_job(target)}: {target.get('lastError') or 'down'}" for target in down))
        detail = f"{len(down)} of {len(targets)} down: {told}"
        return Check("monitoring", "targets", UNHEALTHY, detail, "see the log of each")
    if waiting:
        told = ", ".join(sorted({_job(target) for target in waiting}))
        return Check("monitoring", "targets", DEGRADED, f"{len(waiting)} of {len(targets)} not scraped yet: {told}")
    return Check("monitoring", "targets", HEALTHY, f"{len(targets)} of {len(targets)} up")


def _ends(target: Mapping[str, Any]) -> bool:
    """Return whether a target is a job's pod. An ended pod is down until Prometheus discovers its end."""
    discovered = target.get("discoveredLabels")
    return isinstance(discovered, Mapping) and discovered.get("__meta_kubernetes_pod_controller_kind") == "Job"


def judge_alerts(answer: object) -> Check:
    """Judge Prometheus' `/api/v1/alerts`: only alerts that are meant to fire do."""
    alerts = [_mapping(alert, "an alert") for alert in _list(_data(answer).get("alerts"), "alerts")]
    firing = [_mapping(alert.get("labels"), "labels") for alert in alerts if alert.get("state") == "firing"]
    names = {str(labels.get("alertname")) for labels in firing}
    unexpected = [labels for labels in firing if labels.get("alertname") not in EXPECTED_ALERTS]
    if unexpected:
        told = "; ".join(sorted({_alert_in_words(labels) for labels in unexpected}))
        return Check("monitoring", "alerts", DEGRADED, f"{len(unexpected)} firing: {told}", "see docs/monitoring.md")
    if "Watchdog" not in names:
        detail = "Watchdog does not fire: the rules are not loaded, or Prometheus just started"
        return Check("monitoring", "alerts", DEGRADED, detail, "deploy again if this persists")
    return Check("monitoring", "alerts", HEALTHY, "none firing except Watchdog")


def judge_alertmanagers(answer: object, failed_answer: object) -> Check:
    """Judge Prometheus' `/api/v1/alertmanagers` and the result of a query for recently failed notifications."""
    active = _list(_data(answer).get("activeAlertmanagers"), "activeAlertmanagers")
    if not active:
        return Check("monitoring", "alertmanager", UNHEALTHY, "Prometheus knows no Alertmanager", "deploy again")
    failed = sum(value for _labels, value in instant_vector(failed_answer))
    if failed > 0:
        detail = f"{failed:.0f} notifications of Prometheus failed in the last 5 minutes"
        return Check("monitoring", "alertmanager", DEGRADED, detail, "see the log of prometheus")
    return Check("monitoring", "alertmanager", HEALTHY, f"{len(active)} reachable from Prometheus")


def judge_freshness(exposition: str, now_s: float, limits: Thresholds, remedy: str) -> list[Check]:
    """Return one check for each flow, from the API's metrics in Prometheus' text format."""
    checks = []
    for labels, value in LAST_SUCCESS.findall(exposition):
        flow = re.search(r'flow="([^"]*)"', labels)
        age_s = max(0.0, now_s - float(value))
        stale = age_s > limits.pipeline_max_age_s
        due = f", more than {duration(limits.pipeline_max_age_s)}" if stale else ""
        detail = f"last success {duration(age_s)} ago{due}"
        subject = flow[1] if flow else "pipeline"
        checks.append(Check("pipeline", subject, UNHEALTHY if stale else HEALTHY, detail, remedy if stale else ""))
    return checks or [Check("pipeline", "runs", DEGRADED, "no run has finished yet", remedy)]


def judge_certificates(exposition: str, now_s: float, limits: Thresholds, remedy: str) -> list[Check]:
    """Return one check for each certificate of the platform, from the API's metrics in Prometheus' text format."""
    return [
        _judge_certificate(name, float(ends_s) - now_s, limits, remedy)
        for name, ends_s in CERTIFICATE.findall(exposition)
    ]


def _judge_certificate(name: str, left_s: float, limits: Thresholds, remedy: str) -> Check:
    least_s = limits.certificate_days * DAY_S
    if left_s <= 0:
        return Check("certificates", name, UNHEALTHY, "expired, or cannot be read", remedy)
    detail = f"expires in {duration(left_s)}"
    if left_s < least_s:
        return Check("certificates", name, UNHEALTHY, f"{detail}, needs {limits.certificate_days:g} d", remedy)
    if left_s < 2 * least_s:
        return Check("certificates", name, DEGRADED, f"{detail}, should be renewed", remedy)
    return Check("certificates", name, HEALTHY, detail)


def instant_vector(answer: object) -> list[tuple[Mapping[str, Any], float]]:
    """Return labels and value of every sample of an instant query."""
    samples = [_mapping(sample, "a sample") for sample in _list(_data(answer).get("result"), "result")]
    try:
        return [(_mapping(sample.get("metric"), "metric"), float(sample["value"][1])) for sample in samples]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise MalformedAnswerError(f"a sample of the answer has no value: {error}") from error


def duration(seconds: float) -> str:
    """Return a duration in its largest unit: `42 s`, `7 min`, `3 h`, `12 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _data(answer: object) -> Mapping[str, Any]:
    said = _mapping(answer, "the answer")
    if said.get("status") != "success":
        raise MalformedAnswerError(f"Prometheus says {said.get('error') or said.get('status')!r}")
    return _mapping(said.get("data"), "data")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MalformedAnswerError(f"{what} is not a JSON object")
    return value


def _list(value: object, what: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise MalformedAnswerError(f"{what} is not a JSON list")
    return value


def _job(target: Mapping[str, Any]) -> str:
    labels = target.get("labels")
    return str(labels.get("job", "?")) if isinstance(labels, Mapping) else "?"


def _alert_in_words(labels: Mapping[str, Any]) -> str:
    about: Iterable[str] = (str(labels[name]) for name in ("job", "flow", "mountpoint") if labels.get(name))
    return f"{labels.get('alertname')} ({', '.join((str(labels.get('severity', 'no severity')), *about))})"
