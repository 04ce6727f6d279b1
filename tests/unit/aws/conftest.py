# SPDX-License-Identifier: GPL-3.0-or-later
"""Provide a scripted service on loopback, and a session that connects to it alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import botocore.session
import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from tests.integration.aws.clock import Clock
from tests.integration.aws.emulator import shared_loader
from tests.unit.aws.service import Service

SECRET_KEY = "wJalrXUtnFEMI-a-secret-key"


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(botocore.session, "create_loader", shared_loader)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Make waits return immediately."""
    made = Clock()
    made.install(monkeypatch)
    return made


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def connect(service: Service) -> Callable[..., Session]:
    """Create a session; the arguments are those of a connection."""

    def made(**changes: object) -> Session:
        given: dict[str, object] = {
            "region": "eu-central-1",
            "access_key": "AKIATESTTESTTEST",
            "secret_key": SECRET_KEY,
            "endpoint_url": service.url,
            "timeout_s": 5.0,
        }
        return Session(Connection(**{**given, **changes}))  # type: ignore[arg-type]  # the types are a test's own care

    return made
