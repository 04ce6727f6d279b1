# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import time

import pytest

from tests.integration import patience
from tests.integration.patience import is_within, wait_for


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a machine that is ten times slower than a quiet one, with its measurements."""
    measurements: list[float] = []

    def slowness() -> float:
        measurements.append(10.0)
        return measurements[-1]

    monkeypatch.setattr(patience, "slowness", slowness)
    return measurements


def test_a_condition_that_never_holds_fails_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "slowness", lambda: 1.0)
    with pytest.raises(AssertionError, match="the service runs: not within 0 s"):
        wait_for(lambda: False, "the service runs", 0.01, poll_s=0.001)


def test_a_condition_that_holds_in_time_costs_no_measurement(measured: list[float]) -> None:
    wait_for(lambda: True, "at once", 0.0)
    assert is_within(time.monotonic(), 60.0)
    assert measured == []


def test_a_limit_is_stretched_on_a_slow_machine_and_the_measurement_printed(
    measured: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    begun_s = time.monotonic()
    wait_for(lambda: time.monotonic() - begun_s > 0.3, "late", 0.1, poll_s=0.01)
    assert measured == [10.0]
    assert "10.0 times slower than a quiet one: 0.1 s become 1.0 s" in capsys.readouterr().out
    assert is_within(time.monotonic() - 5.0, 1.0)
    assert not is_within(time.monotonic() - 11.0, 1.0)


def test_an_answer_that_cannot_be_had_counts_as_not_yet() -> None:
    answers = itertools.count()

    def condition() -> bool:
        if next(answers) < 2:
            raise ConnectionRefusedError
        return True

    wait_for(condition, "an answer", poll_s=0.001)
    assert next(answers) == 3


def test_a_machine_is_never_found_faster_than_a_quiet_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WORK", 1)
    assert patience.slowness() == 1.0


def test_a_hanging_machine_does_not_stretch_a_limit_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REFERENCE_S", 1e-9)
    assert patience.slowness() == patience.HIGHEST_SLOWNESS
