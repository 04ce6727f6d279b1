# SPDX-License-Identifier: GPL-3.0-or-later
"""Due times of sets: pure functions of times of day (UTC), the last set and the clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

RETRY_S = 15 * 60.0
"""Seconds between two attempts after a failed run."""


def last_due(times: Sequence[str], now: datetime) -> datetime:
    """Return the latest moment at or before `now` at which a set was due.

    times: times of day as `HH:MM`, at least one.
    """
    today = now.astimezone(UTC).date()
    moments = [
        datetime.combine(day, time.fromisoformat(each), tzinfo=UTC)
        for day in (today - timedelta(days=1), today)
        for each in times
    ]
    return max(moment for moment in moments if moment <= now)


def is_due(times: Sequence[str], last_started: datetime | None, last_attempt: datetime | None, now: datetime) -> bool:
    """Return whether a set is due.

    last_started: start of the newest good set. One that was missed, because the machine was off, is taken at once.
    After a failed attempt the next one follows `RETRY_S` later. A clock that was set back does not cause a second set.
    """
    if last_started is not None and last_started >= last_due(times, now):
        return False
    return last_attempt is None or last_attempt > now or (now - last_attempt).total_seconds() >= RETRY_S
