# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse worker` is Prefect's worker, but for the pages beside its health check."""

from __future__ import annotations

import subprocess
import sys

import prefect.cli
import pytest
from prefect.workers import server
from starlette.testclient import TestClient

from crypto_lakehouse.worker import main


def test_its_arguments_are_those_of_prefect() -> None:
    line = [sys.executable, "-m", "crypto_lakehouse.cli", "worker", "start", "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--with-healthcheck" in done.stdout


def test_its_health_check_serves_one_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FastAPI", server.FastAPI)  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(prefect.cli, "app", lambda: None)
    assert main(["start"]) == 0
    assert sys.argv == ["prefect", "worker", "start"]
    client = TestClient(server._build_healthcheck_server(lambda: True).config.app)  # type: ignore[arg-type]
    assert client.get("/health").status_code == 200
    assert {client.get(path).status_code for path in ("/", "/docs", "/redoc", "/openapi.json")} == {404}
