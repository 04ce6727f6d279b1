# SPDX-License-Identifier: GPL-3.0-or-later
"""All paths of the orchestrator require the same password, except two read-only checks."""

from __future__ import annotations

import base64

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from crypto_lakehouse.orchestrator import OPEN_PATHS, OnePassword

ACCOUNT = "lakehouse:pass:word/ö"


async def answer(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("shell")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def page_settings(_request: Request) -> JSONResponse:
    return JSONResponse({"api_url": "/api", "auth": "BASIC", "padding": "x" * 1000})


@pytest.fixture
def client() -> TestClient:
    everything = Route("/{path:path}", answer, methods=["GET", "HEAD", "POST", "DELETE"])
    routes = [WebSocketRoute("/api/events/in", echo), Route("/v2/ui-settings", page_settings)]
    app = Starlette(routes=[*routes, Mount("/", routes=[everything])], middleware=[Middleware(GZipMiddleware)])
    return TestClient(OnePassword(app, ACCOUNT))


def basic(account: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"}


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/assets/index.js", "/v2/dashboard", "/api/flows/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_pages_and_api_ask_for_the_same_password(client: TestClient, method: str, path: str) -> None:
    refused = client.request(method, path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert client.request(method, path, headers=basic(ACCOUNT)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        basic("lakehouse:other"),
        basic(""),
        basic(f"{ACCOUNT} "),
        {"Authorization": "Basic ?"},
        {"Authorization": "Basic"},
        {"Authorization": "Bearer lakehouse:password"},
        {"Authorization": "lakehouse:password"},
    ],
)
def test_another_account_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/", headers=headers).status_code == 401


def test_two_accounts_at_once_are_refused(client: TestClient) -> None:
    twice = [("Authorization", basic("lakehouse:other")["Authorization"]), *basic(ACCOUNT).items()]
    assert client.get("/", headers=twice).status_code == 401


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_health_is_read_without_a_password_and_not_changed(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.post(path).status_code == 401
    assert client.get(f"{path}/").status_code == 401


@pytest.mark.parametrize("headers", [{}, basic(ACCOUNT)])
def test_every_answer_keeps_the_browser_on_this_host(client: TestClient, headers: dict[str, str]) -> None:
    policy = client.get("/", headers=headers).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


def test_pages_do_not_ask_again_for_what_the_browser_sends_anyway(client: TestClient) -> None:
    told = client.get("/v2/ui-settings", headers=basic(ACCOUNT))
    assert told.json() == {"api_url": "/api", "auth": None, "padding": "x" * 1000}
    assert client.get("/v2/ui-settings").status_code == 401


@pytest.mark.parametrize(
    ("headers", "token"), [({}, "guess"), (basic("lakehouse:other"), "guess"), (basic(ACCOUNT), ACCOUNT)]
)
def test_a_websocket_is_signed_in_by_its_handshake_or_by_its_first_message(
    client: TestClient, headers: dict[str, str], token: str
) -> None:
    with client.websocket_connect("/api/events/in", headers=headers) as websocket:
        websocket.send_json({"type": "auth", "token": "guess"})
        assert websocket.receive_json() == {"type": "auth", "token": token}
        for text in ('{"type": "filter"}', "no JSON", "[]"):
            websocket.send_text(text)
            assert websocket.receive_text() == text
