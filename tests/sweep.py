# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin: each run tests a sample that a seed selects, and ``LAKEHOUSE_TEST_SWEEP=1`` tests everything.

The seed is new for each run, equal in all of its processes, and printed. ``LAKEHOUSE_TEST_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

Item = TypeVar("Item")

FULL = os.environ.get("LAKEHOUSE_TEST_SWEEP") == "1"
SEED = os.environ.get("LAKEHOUSE_TEST_SEED") or str(secrets.randbelow(2**32))
# The workers of pytest-xdist inherit the environment.
os.environ["LAKEHOUSE_TEST_SEED"] = SEED


def choose(items: Sequence[Item], count: int) -> list[Item]:
    """Return all items in a sweep, otherwise the ``count`` items that the seed selects, in their order."""
    if FULL or count >= len(items):
        return list(items)
    return [items[index] for index in sorted(random.Random(SEED).sample(range(len(items)), count))]


def examples(full: int) -> int:
    """Return the number of examples of a property: ``full`` in a sweep, otherwise a fifth, at least ten."""
    return full if FULL else min(full, max(10, full // 5))


def pytest_report_header() -> str:
    """Print the seed before the first test."""
    return f"sample: LAKEHOUSE_TEST_SEED={SEED}{' LAKEHOUSE_TEST_SWEEP=1' if FULL else ''}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed after the failures, and in a quiet run, which prints no header."""
    terminalreporter.write_line(f"Repeat with these variables: {pytest_report_header().partition(' ')[2]}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests with the mark `sweep` outside of sweeps."""
    if FULL:
        return
    left_out = [item for item in items if item.get_closest_marker("sweep")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Pass the seed to Hypothesis, whose plugin reads the option after this one, and register the mark `sweep`."""
    config.addinivalue_line("markers", "sweep: takes long; runs in a sweep only")
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = SEED


# Properties test behaviour, not the speed of the machine.
settings.register_profile(
    "lakehouse",
    max_examples=examples(100),
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lakehouse")
