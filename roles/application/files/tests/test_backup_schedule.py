# SPDX-License-Identifier: GPL-3.0-or-later
"""The times at which sets are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse.backup.schedule import RETRY_S, is_due, last_due

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["02:00"], datetime(2026, 11, 30, 2, tzinfo=UTC)),
        (["13:00"], datetime(2026, 11, 29, 13, tzinfo=UTC)),
        (["12:00", "02:00"], NOON),
        (["13:30", "23:59", "00:00"], datetime(2026, 11, 30, 0, tzinfo=UTC)),
    ],
)
def test_the_latest_moment_counts(times: list[str], expected: datetime) -> None:
    assert last_due(times, NOON) == expected


def test_a_missed_set_is_taken_at_once_and_a_taken_one_is_not_repeated() -> None:
    assert is_due(["02:00"], None, None, NOON)
    assert is_due(["02:00"], NOON - timedelta(days=1), None, NOON)
    assert not is_due(["02:00"], NOON - timedelta(hours=1), None, NOON)


def test_a_failed_run_is_repeated_later() -> None:
    assert not is_due(["02:00"], None, NOON - timedelta(seconds=RETRY_S - 1), NOON)
    assert is_due(["02:00"], None, NOON - timedelta(seconds=RETRY_S), NOON)
    # The clock was set back after the attempt.
    assert is_due(["02:00"], None, NOON + timedelta(hours=2), NOON)


@given(
    st.lists(st.times().map(lambda each: f"{each:%H:%M}"), min_size=1, max_size=4),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001 - hypothesis takes bounds without a zone
)
def test_a_set_is_due_at_least_once_a_day(times: list[str], moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC)
    due = last_due(times, now)
    assert timedelta() <= now - due < timedelta(days=1)
    assert is_due(times, due - timedelta(seconds=1), None, now)
    assert not is_due(times, due, None, now)
