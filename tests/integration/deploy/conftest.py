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
def own(place: Callable[[], Lakehouse]) -> Lakehouse:
    """The place of the lakehouse that is shared, empty at first."""
    return place()


@pytest.fixture(scope="session")
def looks(own: Lakehouse) -> dict[str, Run]:
    """How each run went that looked at the empty machine."""
    runs = {"check": own.deploy("--check", "--diff").must_pass(), "plan": own.run("plan").must_pass()}
    assert own.leftovers() == [], "a run that only looks has made something"
    return runs


@pytest.fixture(scope="session")
def deployed(own: Lakehouse) -> tuple[Lakehouse, Run]:
    """The lakehouse, and how its first deployment went."""
    return own, own.deploy().must_pass()


@pytest.fixture(scope="session")
def first_deployment(looks: dict[str, Run], deployed: tuple[Lakehouse, Run]) -> tuple[Lakehouse, dict[str, Run]]:
    """The lakehouse, and how each run on the empty machine went."""
    return deployed[0], {**looks, "deploy": deployed[1]}


@pytest.fixture
def lakehouse(deployed: tuple[Lakehouse, Run]) -> Lakehouse:
    """The lakehouse that the tests of all modules of a group share, whole."""
    assert_whole(deployed[0])
    return deployed[0]


@pytest.fixture
def other_place() -> Iterator[Lakehouse]:
    """An empty place beside the others."""
    with lakehouses() as make:
        yield make()
