# SPDX-License-Identifier: GPL-3.0-or-later
"""Provide emulators of AWS, a separate account for each test, and waits on a fake clock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import get_args

import botocore.session
import botocore.useragent
import pytest
from botocore.hooks import EventAliaser, HierarchicalEmitter

from tests.integration.aws.clock import Clock
from tests.integration.aws.emulator import NAMES, Emulator, Name, Server, shared_loader
from tests.integration.aws.lab import Lab

Servers = Callable[[Name], Server]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "emulators(*names): run on these emulators alone; a comment says why")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "emulator" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("emulators")
        names = marker.args if marker else NAMES
        assert set(names) <= set(get_args(Name)), names
        metafunc.parametrize("emulator", names, indirect=True, scope="function")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start an emulator on first use; stop all started emulators at the end."""
    started: dict[Name, Server] = {}

    def server(name: Name) -> Server:
        if name not in started:
            started[name] = Server.start(name, tmp_path_factory.mktemp(name))
        return started[name]

    try:
        yield server
    finally:
        for running in started.values():
            running.stop()


@pytest.fixture
def emulator(request: pytest.FixtureRequest, servers: Servers) -> Emulator:
    """Return an empty account in an emulator."""
    server = servers(request.param)
    server.tidy()
    return server.account()


@pytest.fixture
def lab(emulator: Emulator, request: pytest.FixtureRequest) -> Lab:
    """Return a stack in a separate account."""
    return Lab(emulator, unregistered=getattr(request.module, "UNREGISTERED", ()))


@pytest.fixture(autouse=True)
def _only_the_emulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide this machine's AWS configuration and credentials from the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


_alias = functools.cache(EventAliaser(HierarchicalEmitter())._alias_event_name)  # type: ignore[attr-defined]
_sanitized = functools.cache(botocore.useragent.sanitize_user_agent_string_component)


@pytest.fixture(autouse=True)
def _computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore compute values once that it computes again for each client: a quarter of a test's CPU time."""
    monkeypatch.setattr(botocore.session, "create_loader", shared_loader)
    monkeypatch.setattr(EventAliaser, "_alias_event_name", lambda _aliaser, event: _alias(event))
    monkeypatch.setattr(botocore.useragent, "sanitize_user_agent_string_component", _sanitized)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace waiting time by a fake clock."""
    made = Clock()
    made.install(monkeypatch)
    return made
