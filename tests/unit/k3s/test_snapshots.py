# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots: retention by age and count, choice of one, and the escrow that a restore requires."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import SnapshotSettings
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.snapshots import (
    Escrow,
    Snapshot,
    calendar,
    choose,
    escrow_of,
    expired,
    settings_problems,
    snapshot_plan,
)
from tests.unit.k3s.hosts import MARKER, SERVERS, blank, cluster, spec

NOW_S = 1_000_000_000.0
HOUR_S = 3600.0
TOKEN, OTHER = "0123456789ab", "ba9876543210"
ESCROW = Escrow(MARKER.cluster_id, TOKEN)
KEEPING = spec(snapshots=SnapshotSettings(count=3, age_hours=24))


def snapshot(age_h: float, **given: Any) -> Snapshot:
    """Return a verified snapshot of an age in hours."""
    name = f"lake-k3s-{age_h:g}"
    found = Snapshot(
        name, NOW_S - age_h * HOUR_S, 100, host="s1", verified=True, cluster_id=MARKER.cluster_id, token_hash=TOKEN
    )
    return replace(found, **given)


def left(*snapshots: Snapshot, escrows: tuple[Escrow, ...] = (ESCROW,)) -> list[str]:
    gone = expired(KEEPING, snapshots, escrows, NOW_S)
    return [one.name.removeprefix("lake-k3s-") for one in snapshots if one not in gone]


RETENTION: dict[str, tuple[list[Snapshot], list[str]]] = {
    "none": ([], []),
    "fewer than the count, however old": ([snapshot(100), snapshot(200)], ["100", "200"]),
    "more than the count, all young": ([snapshot(age) for age in (1, 2, 3, 4, 5)], ["1", "2", "3", "4", "5"]),
    "more than the count, some old": ([snapshot(age) for age in (1, 30, 40, 50, 60)], ["1", "30", "40"]),
    "order does not matter": ([snapshot(age) for age in (60, 1, 50, 30, 40)], ["1", "30", "40"]),
    "a young failed one counts for nothing": (
        [snapshot(1, succeeded=False), snapshot(30), snapshot(40), snapshot(50), snapshot(60)],
        ["1", "30", "40", "50"],
    ),
    "an old failed one goes": ([snapshot(30, size=0), snapshot(1)], ["1"]),
    "the newest usable one stays": (
        [*(snapshot(age, verified=False) for age in (1, 30, 40)), snapshot(99), snapshot(100)],
        ["1", "30", "40", "99"],
    ),
    "each server counts for itself": (
        [snapshot(age, host=host) for host in ("s1", "s2") for age in (30, 40, 50)],
        ["30", "40", "50"] * 2,
    ),
    "S3 counts once": (
        [snapshot(age, location="s3", host=host) for age, host in ((30, "s1"), (40, "s2"), (50, "s3"), (60, "s1"))],
        ["30", "40", "50"],
    ),
    "other names stay": (
        [snapshot(1), snapshot(30), snapshot(40), snapshot(500, name="on-demand-500")],
        ["1", "30", "40", "on-demand-500"],
    ),
}


@pytest.mark.parametrize("case", RETENTION)
def test_retention(case: str) -> None:
    snapshots, expected = RETENTION[case]
    assert sorted(left(*snapshots)) == sorted(expected)


ages = st.lists(st.integers(0, 200), unique=True, max_size=12)


@given(ages, st.integers(1, 5), st.integers(1, 100), st.sets(st.integers(0, 200)))
def test_retention_never_leaves_a_cluster_without_a_usable_snapshot(
    found: list[int], count: int, age_hours: int, unverified: set[int]
) -> None:
    asked = spec(snapshots=SnapshotSettings(count=count, age_hours=age_hours))
    snapshots = [snapshot(age, verified=age not in unverified) for age in found]
    gone = expired(asked, snapshots, [ESCROW], NOW_S)
    kept = [one for one in snapshots if one not in gone]
    assert len(kept) >= min(count, len(snapshots))
    assert all(one.created_s < NOW_S - age_hours * HOUR_S for one in gone)
    assert any(one.verified for one in kept) == any(one.verified for one in snapshots)
    # Other snapshots do not grow without limit (k3s#10292).
    assert len(kept) <= count + 1 + sum(age <= age_hours for age in found)
    assert expired(asked, kept, [ESCROW], NOW_S) == []


CHOICES: dict[str, tuple[list[Snapshot], str, str]] = {
    "the newest": ([snapshot(2), snapshot(1), snapshot(3)], "", "1"),
    "the newest verified": ([snapshot(2), snapshot(1, verified=False)], "", "2"),
    "the newest complete": ([snapshot(2), snapshot(1, succeeded=False)], "", "2"),
    "the newest whose token is known": ([snapshot(2), snapshot(1, token_hash=OTHER)], "", "2"),
    "the named": ([snapshot(1), snapshot(2)], "lake-k3s-2", "2"),
    "the copy in S3 where the local one is bad": (
        [snapshot(1, verified=False), snapshot(1, location="s3")],
        "lake-k3s-1",
        "1",
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices(case: str) -> None:
    snapshots, name, expected = CHOICES[case]
    choice = choose(snapshots, [ESCROW], name=name)
    assert choice.snapshot is not None
    assert choice.snapshot.name == f"lake-k3s-{expected}"
    assert choice.snapshot.verified


REFUSED: dict[str, tuple[list[Snapshot], str, str]] = {
    "none": ([], "", "no snapshot can be restored (there is none)"),
    "none usable": ([snapshot(1, verified=False)], "", "lake-k3s-1: its hash was not verified"),
    "a name that does not exist": ([snapshot(1)], "lake-k3s-11", "there is no snapshot lake-k3s-11"),
    "a failed one": ([snapshot(1, size=0)], "lake-k3s-1", "it was not written completely"),
    "without a token": ([snapshot(1, token_hash="")], "lake-k3s-1", "its token is not recorded"),
    "with a lost token (k3s#4640)": ([snapshot(1, token_hash=OTHER)], "lake-k3s-1", "in no escrow and on no host"),
    "an escrow of another cluster": ([snapshot(1, cluster_id="x")], "lake-k3s-1", "in no escrow and on no host"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_choices(case: str) -> None:
    snapshots, name, message = REFUSED[case]
    choice = choose(snapshots, [ESCROW], name=name)
    assert choice.snapshot is None
    assert message in choice.problems[0].message
    assert choice.problems[0].remedy


def test_a_similar_name_is_suggested() -> None:
    assert "lake-k3s-1" in choose([snapshot(1)], [ESCROW], name="lake-k3s-11").problems[0].remedy


def test_a_token_on_a_host_is_as_good_as_an_escrow() -> None:
    assert choose([snapshot(1)], [], [TOKEN]).snapshot == snapshot(1)
    assert choose([snapshot(1)], [], [OTHER]).snapshot is None


def test_an_escrow_belongs_to_a_cluster_and_a_token() -> None:
    assert escrow_of(snapshot(1), [Escrow("x", TOKEN), ESCROW]) is ESCROW
    assert escrow_of(snapshot(1), [Escrow(MARKER.cluster_id, OTHER)]) is None


@pytest.mark.parametrize("schedule", ["0 */6 * * *", "0,30 1-5 * * 1-5", "*/15 * * * *"])
def test_schedules(schedule: str) -> None:
    assert settings_problems(spec(snapshots=SnapshotSettings(schedule=schedule))) == []


@pytest.mark.parametrize("schedule", ["", "@daily", "0 * * *", "a * * * *", "0 */6 * * * *", "0 1- * * *"])
def test_bad_schedules(schedule: str) -> None:
    assert len(settings_problems(spec(snapshots=SnapshotSettings(schedule=schedule)))) == 1


def shown(plan: Plan) -> list[str]:
    return [f"{step.batch} {step.action} {step.host} {step.value}" for step in plan.steps]


def test_a_snapshot_is_verified_before_expired_ones_are_deleted() -> None:
    found = [*(snapshot(age) for age in (1, 30, 40, 50)), snapshot(60, location="s3", host="s2", size=0)]
    plan = snapshot_plan(KEEPING, cluster(), found, [ESCROW], NOW_S)
    assert shown(plan) == [
        "1 snapshot s1 lake-k3s-on-demand",
        "2 verify_snapshot s1 lake-k3s-on-demand",
        "3 delete_snapshot s1 lake-k3s-50",
        "3 delete_snapshot  lake-k3s-60",
    ]
    assert [step.reason for step in plan.steps[2:]] == [
        "it is older than 24 h, and 3 newer ones stay",
        "it was not written completely",
    ]


def test_the_escrow_of_the_present_token_is_stored_first_where_recipients_are_set() -> None:
    asked = spec(snapshots=SnapshotSettings(recipients=("age1key",)))
    rotated = [Escrow(MARKER.cluster_id, OTHER)]
    stored = [f"1 store_escrow {host} " for host in SERVERS]
    assert shown(snapshot_plan(asked, cluster(), [], rotated, NOW_S))[:4] == [
        *stored,
        "2 snapshot s1 lake-k3s-on-demand",
    ]
    kept = [replace(ESCROW, host="s2")]
    assert [step.host for step in snapshot_plan(asked, cluster(), [], kept, NOW_S).steps if not step.value] == [
        "s1",
        "s3",
    ]
    assert "store_escrow" not in str(snapshot_plan(asked, cluster(), [], [ESCROW], NOW_S).steps)
    assert "store_escrow" not in str(snapshot_plan(spec(), cluster(), [], rotated, NOW_S).steps)


def test_a_snapshot_needs_a_server_that_answers() -> None:
    plan = snapshot_plan(spec(), {"s1": blank("s1")}, [snapshot(999)], [ESCROW], NOW_S)
    assert "no server answers" in plan.problems[0].message
    assert plan.steps == ()


@pytest.mark.parametrize("name", ["", "Nightly", "a/b", "-a", "a" * 41])
def test_the_name_of_a_snapshot_is_part_of_a_file(name: str) -> None:
    (problem,) = snapshot_plan(spec(), cluster(), [], [], NOW_S, name).problems
    assert problem.variable == "k3s_snapshot_name"


# Each was compared with `systemd-analyze calendar`.
CALENDARS = {
    "0 */6 * * *": "*-*-* 0/6:0:00",
    "*/15 * * * *": "*-*-* *:0/15:00",
    "30 2 * * 0": "Sun *-*-* 2:30:00",
    "30 2 * * 7": "Sun *-*-* 2:30:00",
    "0 3 * * 1-5": "Mon,Tue,Wed,Thu,Fri *-*-* 3:0:00",
    "0 3 * * */3": "Sun,Wed,Sat *-*-* 3:0:00",
    "0 1,13 1-7/2 */3 *": "*-1/3-1..7/2 1,13:0:00",
}


@pytest.mark.parametrize("schedule", CALENDARS)
def test_a_schedule_is_a_calendar_event_of_systemd(schedule: str) -> None:
    assert not settings_problems(spec(snapshots=SnapshotSettings(schedule=schedule)))
    assert calendar(schedule) == CALENDARS[schedule]


def test_a_schedule_by_month_and_by_week_is_refused() -> None:
    (problem,) = settings_problems(spec(snapshots=SnapshotSettings(schedule="0 3 1 * 1")))
    assert problem.remedy == "restrict one of them"


@pytest.mark.parametrize(
    "schedule", ["60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8", "0 0 * * 5-2", "*/0 * * * *"]
)
def test_a_schedule_that_never_comes_is_refused(schedule: str) -> None:
    assert settings_problems(spec(snapshots=SnapshotSettings(schedule=schedule)))


def test_a_snapshot_is_copied_to_s3_after_it_is_verified() -> None:
    asked = spec(snapshots=SnapshotSettings(s3_bucket="lake", s3_endpoint="https://s3.example.org:9000"))
    assert not settings_problems(asked)
    assert shown(snapshot_plan(asked, cluster(), [], [], NOW_S))[-1] == "3 upload_snapshot s1 lake-k3s-on-demand"
    (problem,) = settings_problems(spec(snapshots=SnapshotSettings(s3_endpoint="s3.example.org")))
    assert "is not the URL of a service" in problem.message
