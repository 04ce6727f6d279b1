# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of etcd: retention by age and count, selection for a restore, and the escrow that a restore requires."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..shared.problem import Problem
from . import actions
from .model import ClusterSpec, DataDirectory, Reports, SnapshotSettings, cluster_view, report_of
from .plan import Plan, Step, in_batches, one_by_one, refusal

VARIABLE = "k3s_snapshots"
RESTORE_VARIABLE = "k3s_restore_snapshot"
# A failed snapshot is kept for a day, so that its cause can be found.
FAILED_AGE_S = 86_400.0
_CRON_FIELD = re.compile(r"(\*|\d+(-\d+)?)(/\d+)?(,(\*|\d+(-\d+)?)(/\d+)?)*", re.ASCII)
_CRON_FIELDS = 5
_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+/?", re.ASCII)
_NO_STEP = re.compile(r"/0+(,|$)", re.ASCII)
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot. `created_s` is seconds since 1970; `host` is the server that holds a local one.

    verified: whether its bytes were compared with `sha256` after it was written. token_hash: hash of the token that
    encrypts its bootstrap data, as K3s records it. nodes: names of the nodes at that time.
    """

    name: str
    created_s: float
    size: int
    location: Literal["local", "s3"] = "local"
    host: str = ""
    sha256: str = ""
    succeeded: bool = True
    verified: bool = False
    version: str = ""
    cluster_id: str = ""
    token_hash: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Escrow:
    """Encrypted token, CA and encryption configuration. The fields are their hashes.

    host: the server that stores it beside its snapshots; empty for another location.
    """

    cluster_id: str
    token_hash: str
    ca_hash: str = ""
    host: str = ""


def prefix(spec: ClusterSpec) -> str:
    """Return the prefix of this cluster's snapshot names. Snapshots with other names are never deleted."""
    return f"{spec.name}-k3s-"


def escrow_of(snapshot: Snapshot, escrows: Iterable[Escrow]) -> Escrow | None:
    """Return the escrow for the restore of a snapshot: of its cluster, with its token."""
    key = (snapshot.cluster_id, snapshot.token_hash)
    return next((escrow for escrow in escrows if (escrow.cluster_id, escrow.token_hash) == key), None)


def is_good(snapshot: Snapshot) -> bool:
    """Return whether a snapshot was written completely."""
    return snapshot.succeeded and snapshot.size > 0


def expired(
    spec: ClusterSpec, snapshots: Iterable[Snapshot], escrows: Sequence[Escrow], now_s: float
) -> list[Snapshot]:
    """Return the snapshots to delete, in the order of their names.

    Each location, S3 or one server, keeps its newest `count` and every one younger than `age_hours`; so an old snapshot
    is only deleted when there are enough newer ones. The newest verified snapshot with an escrow always stays. Failed
    ones do not count and are deleted after a day. Snapshots with other names stay.
    """
    places: dict[tuple[str, str], list[Snapshot]] = {}
    for snapshot in snapshots:
        if snapshot.name.startswith(prefix(spec)):
            place = (snapshot.location, snapshot.host if snapshot.location == "local" else "")
            places.setdefault(place, []).append(snapshot)
    found = [old for place in places.values() for old in _expired_at(place, spec.snapshots, escrows, now_s)]
    return sorted(found, key=lambda snapshot: (snapshot.name, snapshot.location, snapshot.host))


def _expired_at(
    place: Sequence[Snapshot], settings: SnapshotSettings, escrows: Sequence[Escrow], now_s: float
) -> list[Snapshot]:
    newest_first = sorted(
        filter(is_good, place), key=lambda snapshot: (snapshot.created_s, snapshot.name), reverse=True
    )
    usable = next((one for one in newest_first if one.verified and escrow_of(one, escrows)), None)
    limit_s = settings.age_hours * 3600
    old = [one for one in newest_first[settings.count :] if now_s - one.created_s > limit_s and one is not usable]
    failed = [one for one in place if not is_good(one) and now_s - one.created_s > FAILED_AGE_S]
    return [*old, *failed]


def snapshot_plan(
    spec: ClusterSpec,
    reports: Reports,
    snapshots: Sequence[Snapshot],
    escrows: Sequence[Escrow],
    now_s: float,
    name: str = "on-demand",
) -> Plan:
    """Return the steps that store missing escrows, save and verify a snapshot, and delete expired ones.

    Every reachable server stores an escrow beside its snapshots. The escrow comes first: a snapshot is useless without
    it. Deletion comes last: after a failed snapshot, none is deleted. name: suffix after the prefix of the cluster.
    """
    view = cluster_view(spec, reports)
    if view is None:
        message = "cannot save a snapshot: no server answers"
        return refusal([Problem("k3s_servers", message, "start the servers, or use `k3s_restore`")])
    if not _NAME.fullmatch(name):
        message = f"{name!r} cannot be a part of a file's name"
        return refusal([Problem("k3s_snapshot_name", message, "use 1 to 40 lower-case letters, digits and hyphens")])
    full, reason = f"{prefix(spec)}{name}", "a snapshot is asked for"
    steps = [
        Step(actions.SNAPSHOT, view.host, reason, full),
        Step(actions.VERIFY_SNAPSHOT, view.host, reason, full),
    ]
    if spec.snapshots.s3_bucket:
        steps.append(Step(actions.UPLOAD_SNAPSHOT, view.host, "a copy off the cluster outlives all hosts", full))
    deletions = [_deletion(spec, snapshot) for snapshot in expired(spec, snapshots, escrows, now_s)]
    return in_batches([_escrow_steps(spec, reports, escrows), *one_by_one(steps), deletions])


def _escrow_steps(spec: ClusterSpec, reports: Reports, escrows: Sequence[Escrow]) -> list[Step]:
    if not spec.snapshots.recipients:
        return []
    reason = "no escrow of the present token is beside the snapshots"
    answering = [report for host in spec.servers if (report := report_of(reports, host)).answers]
    return [
        Step(actions.STORE_ESCROW, report.host, reason)
        for report in answering
        if not any(_is_of(escrow, report.data) for escrow in escrows if escrow.host in ("", report.host))
    ]


def _is_of(escrow: Escrow, data: DataDirectory) -> bool:
    cluster_id = data.marker.cluster_id if data.marker else ""
    return (escrow.cluster_id, escrow.token_hash) == (cluster_id, data.token_hash)


def calendar(schedule: str) -> str:
    """Return a cron schedule of five fields as a calendar event of systemd."""
    minute, hour, day, month, weekday = schedule.split()
    days = f"{_weekdays(weekday)} " if weekday != "*" else ""
    date = f"*-{_calendar_field(month, 1)}-{_calendar_field(day, 1)}"
    return f"{days}{date} {_calendar_field(hour, 0)}:{_calendar_field(minute, 0)}:00"


def _calendar_field(field: str, first: int) -> str:
    entries = [entry.replace("-", "..") for entry in field.split(",")]
    return ",".join(f"{first}{entry[1:]}" if entry.startswith("*/") else entry for entry in entries)


def _weekdays(field: str) -> str:
    """Return the days of a field, in which 0 and 7 are Sunday."""
    days: set[int] = set()
    for entry in field.split(","):
        span, _slash, step = entry.partition("/")
        begin, _hyphen, end = ("0-6" if span == "*" else span).partition("-")
        last = int(end or ("6" if step else begin))
        days |= {number % 7 for number in range(int(begin), last + 1, int(step or 1))}
    return ",".join(_DAYS[number] for number in sorted(days))


def _deletion(spec: ClusterSpec, snapshot: Snapshot) -> Step:
    settings = spec.snapshots
    reason = f"it is older than {settings.age_hours} h, and {settings.count} newer ones stay"
    if not is_good(snapshot):
        reason = "it was not written completely"
    return Step(actions.DELETE_SNAPSHOT, snapshot.host if snapshot.location == "local" else "", reason, snapshot.name)


@dataclass(frozen=True)
class Choice:
    """The snapshot of a restore, or the problems that refuse it."""

    snapshot: Snapshot | None = None
    problems: tuple[Problem, ...] = ()


def choose(
    snapshots: Iterable[Snapshot], escrows: Sequence[Escrow], host_token_hashes: Iterable[str] = (), name: str = ""
) -> Choice:
    """Return the snapshot of that name, else the newest one that can be restored.

    It must be complete and verified, and its token must be available in an escrow or on a host. A snapshot without its
    token is useless (k3s#4640, k3s#13085).
    """
    known = frozenset(host_token_hashes)
    newest_first = sorted(snapshots, key=lambda snapshot: (snapshot.created_s, snapshot.location), reverse=True)
    if name:
        return _named(newest_first, escrows, known, name)
    for snapshot in newest_first:
        if not _unusable(snapshot, escrows, known):
            return Choice(snapshot)
    reasons = "; ".join(f"{one.name}: {_unusable(one, escrows, known)}" for one in newest_first[:5]) or "there is none"
    return _refused(f"no snapshot can be restored ({reasons})", "add the escrow or the token, or list other snapshots")


def _named(newest_first: Sequence[Snapshot], escrows: Sequence[Escrow], known: frozenset[str], name: str) -> Choice:
    named = [snapshot for snapshot in newest_first if snapshot.name == name]
    for snapshot in named:
        if not _unusable(snapshot, escrows, known):
            return Choice(snapshot)
    if named:
        message = f"{name} cannot be restored: {_unusable(named[0], escrows, known)}"
        return _refused(message, "choose another snapshot, or add its escrow")
    near = difflib.get_close_matches(name, [snapshot.name for snapshot in newest_first], 3)
    return _refused(f"there is no snapshot {name}", f"choose {' or '.join(near)}" if near else "list the snapshots")


def _refused(message: str, remedy: str) -> Choice:
    return Choice(problems=(Problem(RESTORE_VARIABLE, message, remedy),))


def _unusable(snapshot: Snapshot, escrows: Sequence[Escrow], known: frozenset[str]) -> str:
    if not is_good(snapshot):
        return "it was not written completely"
    if not snapshot.verified:
        return "its hash was not verified"
    if not snapshot.token_hash:
        return "its token is not recorded"
    if snapshot.token_hash not in known and not escrow_of(snapshot, escrows):
        return "its token is in no escrow and on no host"
    return ""


def settings_problems(spec: ClusterSpec) -> list[Problem]:
    """Return the problems of the snapshot settings."""
    settings = spec.snapshots
    problems = []
    if settings.count < 1 or settings.age_hours < 1:
        message = f"count {settings.count} and age_hours {settings.age_hours} would keep no snapshot"
        problems.append(Problem(VARIABLE, message, "set both to 1 or more"))
    fields = settings.schedule.split()
    if len(fields) != _CRON_FIELDS or not all(map(_is_field, fields, _CRON_RANGES)):
        message = f"schedule {settings.schedule!r} is not a cron schedule of {_CRON_FIELDS} fields"
        problems.append(Problem(VARIABLE, message, "write one such as `0 */6 * * *`"))
    elif fields[2] != "*" and fields[4] != "*":
        message = f"schedule {settings.schedule!r} restricts days of the month and of the week"
        problems.append(Problem(VARIABLE, message, "restrict one of them"))
    if settings.s3_endpoint and not _ENDPOINT.fullmatch(settings.s3_endpoint):
        message = f"s3_endpoint {settings.s3_endpoint!r} is not the URL of a service"
        problems.append(Problem(VARIABLE, message, "write one such as `https://s3.example.org:9000`"))
    return problems


def _is_field(field: str, allowed: tuple[int, int]) -> bool:
    """Return whether a field of a cron schedule is valid, with numbers in its range and ascending spans."""
    if not _CRON_FIELD.fullmatch(field):
        return False
    spans = [entry.partition("/")[0] for entry in field.split(",")]
    bounds = [[int(number) for number in span.split("-")] for span in spans if span != "*"]
    within = all(allowed[0] <= number <= allowed[1] for bound in bounds for number in bound)
    return within and all(bound[0] <= bound[-1] for bound in bounds) and not _NO_STEP.search(field)
