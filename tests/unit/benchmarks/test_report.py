# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures are compared with their limits and shown in one table."""

from __future__ import annotations

import pytest

from tests.benchmarks.report import Figure, table


@pytest.mark.parametrize(
    ("value", "limit", "holds"),
    [(120.1, 120, False), (1, 0, False), (120, 120, True), (0, 0, True), (9e9, None, True)],
)
def test_a_figure_may_reach_its_limit_and_not_pass_it(value: float, limit: float | None, holds: bool) -> None:
    assert Figure("x", value, "s", limit).holds is holds


def test_a_figure_that_is_too_large_stands_out() -> None:
    shown = table([Figure("second deployment", 25, "s", 20), Figure("changes", 3, "", 0)]).splitlines()
    assert shown[1].split() == ["second", "deployment", "25.0", "s", "20.0", "s", "1.25", "TOO", "MUCH"]
    assert shown[2].split() == ["changes", "3", "0", "-", "TOO", "MUCH"]


def test_a_figure_that_is_too_small_stands_out() -> None:
    slow, fast = Figure("faster", 19.99, "times", 20, at_least=True), Figure("faster", 20.0, "times", 20, at_least=True)
    assert not slow.holds
    assert fast.holds
    shown = table([slow, fast]).splitlines()
    assert shown[1].split() == ["faster", "19.99", "times", "20.00", "times", "1.00", "TOO", "LITTLE"]


def test_the_table_has_columns_and_ratios() -> None:
    shown = table([Figure("memory", 900.4, "MiB", 1536), Figure("downloads", 12.34, "s")]).splitlines()
    assert shown[0].split() == ["figure", "measured", "limit", "ratio"]
    assert shown[1].split() == ["memory", "900", "MiB", "1536", "MiB", "0.59"]
    assert shown[2].split() == ["downloads", "12.3", "s", "-", "-"]
    assert len({len(line) for line in shown}) == 1


def test_programs_get_the_figure_as_it_is() -> None:
    assert Figure("recovery", 3.21, "s", 30).as_json() == {
        "name": "recovery",
        "value": 3.21,
        "unit": "s",
        "limit": 30,
        "at_least": False,
        "ratio": pytest.approx(0.107),
        "holds": True,
    }
