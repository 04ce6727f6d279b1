# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests import sweep


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Leave the sweep, in case this run is one."""
    monkeypatch.setattr(sweep, "FULL", False)
    return monkeypatch


def test_a_seed_selects_the_same_items_each_time_and_keeps_their_order(sample: pytest.MonkeyPatch) -> None:
    items = list(range(100))
    first = sweep.choose(items, 7)
    assert sweep.choose(items, 7) == first == sorted(set(first))
    assert len(first) == 7


def test_other_seeds_select_other_items_until_each_was_selected(sample: pytest.MonkeyPatch) -> None:
    selected = set()
    for seed in range(100):
        sample.setattr(sweep, "SEED", str(seed))
        selected.update(sweep.choose("abcdefghij", 2))
    assert selected == set("abcdefghij")


def test_more_than_there_is_selects_everything(sample: pytest.MonkeyPatch) -> None:
    assert sweep.choose("abc", 4) == ["a", "b", "c"]


def test_a_sweep_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "FULL", True)
    assert sweep.choose(range(100), 1) == list(range(100))
    assert sweep.examples(400) == 400
    assert sweep.pytest_report_header() == f"sample: LAKEHOUSE_TEST_SEED={sweep.SEED} LAKEHOUSE_TEST_SWEEP=1"


@pytest.mark.parametrize(("full", "expected"), [(400, 80), (25, 10), (10, 10), (4, 4)])
def test_a_sample_has_fewer_examples(full: int, expected: int, sample: pytest.MonkeyPatch) -> None:
    assert sweep.examples(full) == expected


def test_hypothesis_draws_from_the_printed_seed_which_every_worker_has(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.option.hypothesis_seed == sweep.SEED == os.environ["LAKEHOUSE_TEST_SEED"]
    assert settings().derandomize is False
    assert settings().max_examples == sweep.examples(100)


@pytest.mark.parametrize(("full", "kept"), [(False, ["short"]), (True, ["short", "long"])])
def test_tests_with_the_mark_run_in_a_sweep_only(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, full: bool, kept: list[str]
) -> None:
    pytester.makepyfile("import pytest\ndef test_short(): pass\n@pytest.mark.sweep\ndef test_long(): pass\n")
    monkeypatch.setenv("LAKEHOUSE_TEST_SWEEP", "1" if full else "")
    monkeypatch.setenv("PYTHONPATH", str(Path(sweep.__file__).parents[1]))
    done = pytester.runpytest_subprocess("-v", "--strict-markers", "-p", "tests.sweep", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=len(kept), deselected=2 - len(kept))
