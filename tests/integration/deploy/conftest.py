# SPDX-License-Identifier: GPL-3.0-or-later
"""A lakehouse that is deployed once for all tests that can share it, and further places."""

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
    """Order the tests of this folder; other tests keep their positions."""
    here = Path(__file__).parent
    places = [index for index, item in enumerate(items) if item.path.parent == here]
    ordered = sorted((items[index] for index in places), key=lambda item: ORDER.index(item.path.stem))
    for index, item in zip(places, ordered, strict=True):
        items[index] = item


@pytest.fixture(scope="session")
def place() -> Iterator[Callable[[], Lakehouse]]:
    """Return a function that creates places, which are kept until the end of the session."""
    with lakehouses() as make:
        yield make


@pytest.fixture(scope="session")
def own(place: Callable[[], Lakehouse]) -> Lakehouse:
    """Return the place of the shared lakehouse, empty at first."""
    return place()


@pytest.fixture(scope="session")
def looks(own: Lakehouse) -> dict[str, Run]:
    """Return the results of the runs that read the empty machine."""
    runs = {"check": own.deploy("--check", "--diff").must_pass(), "plan": own.run("plan").must_pass()}
    assert own.leftovers() == [], "a run that only looks has made something"
    return runs


@pytest.fixture(scope="session")
def deployed(own: Lakehouse) -> tuple[Lakehouse, Run]:
    """Return the lakehouse, and the result of its first deployment."""
    return own, own.deploy().must_pass()


@pytest.fixture(scope="session")
def first_deployment(looks: dict[str, Run], deployed: tuple[Lakehouse, Run]) -> tuple[Lakehouse, dict[str, Run]]:
    """Return the lakehouse, and the results of the runs on the empty machine."""
    return deployed[0], {**looks, "deploy": deployed[1]}


@pytest.fixture
def lakehouse(deployed: tuple[Lakehouse, Run]) -> Lakehouse:
    """Return the lakehouse that all modules of a group share, with all services running."""
    assert_whole(deployed[0])
    return deployed[0]


@pytest.fixture
def other_place() -> Iterator[Lakehouse]:
    """Return a further empty place."""
    with lakehouses() as make:
        yield make()
