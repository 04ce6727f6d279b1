# SPDX-License-Identifier: GPL-3.0-or-later
"""One lakehouse, deployed once and used by as many tests as can share it, and places for more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    REPOSITORY,
    Lakehouse,
    Run,
    assert_whole,
)
from tools.claims import places

# The tests of one lakehouse from its first deployment to its end, then those that have places of their own.
ORDER = ("test_plan", "test_recovery", "test_secrets", "test_upgrade", "test_destroy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests of this folder; those of others stay where they are."""
    here = Path(__file__).parent
    places = [index for index, item in enumerate(items) if item.path.parent == here]
    ordered = sorted((items[index] for index in places), key=lambda item: _rank(item.path.stem))
    for index, item in zip(places, ordered, strict=True):
        items[index] = item


def _rank(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


@contextlib.contextmanager
def _places() -> Iterator[Callable[[], Lakehouse]]:
    """Make empty places to deploy to: no other run on this machine has their folders, ports and users."""
    if not (REPOSITORY / ".venv/bin/ansible-playbook").exists():
        pytest.fail("there is no .venv: run `make venv`")
    with places() as claim:

        def make() -> Lakehouse:
            claimed = claim()
            return Lakehouse(claimed.folder, claimed.port_offset, claimed.user)

        yield make


@pytest.fixture(scope="session")
def place() -> Iterator[Callable[[], Lakehouse]]:
    """Make places that are kept to the end of the session."""
    with _places() as make:
        yield make


@pytest.fixture(scope="session")
def first_deployment(place: Callable[[], Lakehouse]) -> tuple[Lakehouse, dict[str, Run]]:
    """The lakehouse of the session, and how each run on the empty machine went."""
    lakehouse = place()
    runs = {
        "check": lakehouse.deploy("--check", "--diff").must_pass(),
        "plan": lakehouse.run("plan").must_pass(),
    }
    assert lakehouse.leftovers() == [], "a run that only looks has made something"
    runs["deploy"] = lakehouse.deploy().must_pass()
    return lakehouse, runs


@pytest.fixture(scope="session")
def described(first_deployment: tuple[Lakehouse, dict[str, Run]]) -> object:
    """What an undisturbed deployment makes."""
    return first_deployment[0].census()


@pytest.fixture
def lakehouse(first_deployment: tuple[Lakehouse, dict[str, Run]], described: object) -> Lakehouse:
    """The lakehouse of the session, whole. What it holds was counted before the first test that may change it."""
    found = first_deployment[0]
    assert_whole(found)
    return found


@pytest.fixture
def other_place() -> Iterator[Lakehouse]:
    """An empty place beside the lakehouse of the session."""
    with _places() as make:
        yield make()
