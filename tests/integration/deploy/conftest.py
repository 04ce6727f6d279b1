# SPDX-License-Identifier: GPL-3.0-or-later
"""A lakehouse that is deployed once and used by all tests that can share it, and places for more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    Lakehouse,
    Run,
    assert_whole,
    lakehouses,
)
from tests.integration.groups import ORDER


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests of this folder; those of others stay where they are."""
    here = Path(__file__).parent
    places = [index for index, item in enumerate(items) if item.path.parent == here]
    ordered = sorted((items[index] for index in places), key=lambda item: ORDER.index(item.path.stem))
    for index, item in zip(places, ordered, strict=True):
        items[index] = item


@pytest.fixture(scope="session")
def place() -> Iterator[Callable[[], Lakehouse]]:
    """Make places that are kept to the end of the session."""
    with lakehouses() as make:
        yield make


@pytest.fixture(scope="session")
def first_deployment(place: Callable[[], Lakehouse]) -> tuple[Lakehouse, dict[str, Run]]:
    """The lakehouse, and how each run on the empty machine went."""
    lakehouse = place()
    runs = {
        "check": lakehouse.deploy("--check", "--diff").must_pass(),
        "plan": lakehouse.run("plan").must_pass(),
    }
    assert lakehouse.leftovers() == [], "a run that only looks has made something"
    runs["deploy"] = lakehouse.deploy().must_pass()
    return lakehouse, runs


@pytest.fixture
def lakehouse(first_deployment: tuple[Lakehouse, dict[str, Run]]) -> Lakehouse:
    """The lakehouse that the tests of all modules share, whole."""
    assert_whole(first_deployment[0])
    return first_deployment[0]


@pytest.fixture
def other_place() -> Iterator[Lakehouse]:
    """An empty place beside the others."""
    with lakehouses() as make:
        yield make()
