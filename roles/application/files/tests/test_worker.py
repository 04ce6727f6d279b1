# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse worker` serves no page except its health check."""

from __future__ import annotations

import pytest
from prefect.workers import server
from starlette.testclient import TestClient

from crypto_lakehouse.flows.worker import close_documentation, main


def test_its_health_check_serves_one_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FastAPI", server.FastAPI)  # type: ignore[attr-defined]
    close_documentation()
    client = TestClient(server._build_healthcheck_server(lambda: True).config.app)  # type: ignore[arg-type]
    assert client.get("/health").status_code == 200
    assert {client.get(path).status_code for path in ("/", "/docs", "/redoc", "/openapi.json")} == {404}


def test_a_limit_below_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--pool=p", "--name=n", "--limit=0"])
    assert "--limit must be at least 1" in capsys.readouterr().err
