# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of every test on real servers, and their distribution over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from xdist.remote import Producer

from tests.integration.groups import Groups
from tools.claims import ports, sweep


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups | None:
    """Distribute groups where the command line asks for groups."""
    return Groups(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove leftovers of killed processes of this run: an interrupt kills all of them."""
    if not hasattr(config, "workerinput"):
        sweep()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measurements of tests, which they record as properties."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def free_port() -> Iterator[Callable[[], int]]:
    """Return a function that yields free ports of the loopback address, each only once."""
    with ports() as find:
        yield find
