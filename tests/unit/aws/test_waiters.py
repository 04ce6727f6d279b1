# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import WaitError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.waiters import backoff_s, wait_until
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Activity, acting
from tests.integration.aws.clock import Clock


def test_what_never_comes_is_given_up_with_what_was_seen_last(clock: Clock) -> None:
    begun_s = clock.monotonic()
    with pytest.raises(WaitError, match="waited 60 s for the cluster; it is CREATING"):
        wait_until(lambda: None, "the cluster", timeout_s=60, last=lambda: "CREATING")
    assert clock.monotonic() - begun_s >= 60
    assert sum(clock.pauses) <= 60


def test_what_nothing_was_seen_of_is_given_up_in_plain_words() -> None:
    with pytest.raises(WaitError, match=r"waited 1 s for the cluster$"):
        wait_until(lambda: None, "the cluster", timeout_s=1)


def test_what_is_there_is_not_waited_for(clock: Clock) -> None:
    assert wait_until(lambda: "there", "it", timeout_s=60) == "there"
    assert clock.pauses == []


def test_a_false_answer_is_an_answer() -> None:
    assert wait_until(lambda: 0, "it", timeout_s=60) == 0


def test_it_looks_often_at_first_and_then_at_the_interval(clock: Clock) -> None:
    looks = iter([None] * 12 + ["there"])

    wait_until(lambda: next(looks), "it", timeout_s=600, interval_s=5.0)
    assert clock.pauses == [0.25, 0.5, 1, 2, 4, 5, 5, 5, 5, 5, 5, 5]


def test_it_looks_once_more_at_the_very_end(clock: Clock) -> None:
    begun_s = clock.monotonic()

    def look() -> str | None:
        return "late" if clock.monotonic() - begun_s >= 60 else None

    assert wait_until(look, "it", timeout_s=60, interval_s=45) == "late"


def test_a_stopped_run_stops_waiting(clock: Clock) -> None:
    stopped = threading.Event()
    stopped.set()

    with acting(Activity(stopped)), pytest.raises(WaitError, match=r"stopped waiting for it; .* a new run finds it"):
        wait_until(lambda: None, "it", timeout_s=600)
    assert len(clock.pauses) == 1


def test_an_error_of_looking_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 // 0, "it", timeout_s=60)


@given(st.integers(0, 2000), st.floats(0.3, 60))
def test_a_pause_is_never_nothing_and_never_longer_than_the_cap(attempt: int, cap_s: float) -> None:
    assert 0.05 <= backoff_s(attempt, cap_s) <= cap_s


def test_many_runs_do_not_come_back_at_the_same_moment() -> None:
    assert len({backoff_s(6) for _attempt in range(50)}) > 45
