# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that every test of the application shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import services


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.ObjectStore]:
    """Return a running object store with an Iceberg catalog, its buckets made and empty."""
    with services.object_store(tmp_path_factory.mktemp("weed")) as store:
        yield store


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.DatabaseServer]:
    """Return a running PostgreSQL with the roles and databases `lakehouse` and `orchestrator`."""
    with services.database_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take away every variable that the application reads."""
    for name in list(os.environ):
        if name.startswith(("LAKEHOUSE_", "PREFECT_", "AWS_")):
            monkeypatch.delenv(name)
    return monkeypatch
