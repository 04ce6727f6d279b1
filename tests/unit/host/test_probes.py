# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.probes import (
    Probe,
    ProbeResult,
    run_probe,
)

PASSWORD = "s3cret:with colon"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path, and records its requests."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        answers = {"/moved": "/well", "/away": "http://127.0.0.2:9/well?token=x", "/round": "/round"}
        if self.path == "/slow":
            time.sleep(60)
        if self.path == "/drip":
            self._drip()
            return
        self.send_response(302 if self.path in answers else {"/ill": 503, "/private": 401}.get(self.path, 200))
        if self.path in answers:
            self.send_header("Location", answers[self.path])
        self.end_headers()

    def _drip(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for _line in range(600):
            try:
                self.wfile.write(b"X-Slow: yes\r\n")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        return


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def ask(url: str, timeout_s: float = 60.0, expected: tuple[int, ...] = (200,)) -> ProbeResult:
    return run_probe(Probe("x", "http", url=url, timeout_s=timeout_s, expected_status=expected))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "smtp"}, "type 'smtp' is not one of http, tcp, command"),
        ({"type": "http"}, "type http needs url"),
        ({"type": "tcp"}, "type tcp needs address and port"),
        ({"type": "tcp", "address": "127.0.0.1"}, "type tcp needs port"),
        ({"type": "command"}, "type command needs command"),
        ({"type": "http", "url": "http://x", "username": "u"}, "username needs secret_file"),
        ({"type": "http", "url": "http://x", "timeout_s": 0.0}, "timeout_s is 0.0, must be above 0"),
    ],
)
def test_a_probe_that_cannot_be_made_is_refused_with_its_service(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"health check of api: .*{message}"):
        Probe.from_mapping({"service": "api", **fields})


def test_words_for_a_scheduler_and_empty_words_are_left_out() -> None:
    check = {"service": "api", "type": "tcp", "address": "h", "port": 1, "interval_s": 10, "command": None, "url": None}
    assert Probe.from_mapping(check) == Probe("api", "tcp", address="h", port=1)


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_a_port_that_nobody_listens_on_is_refused(kind: str, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    result = run_probe(Probe("x", kind, url=url, address="127.0.0.1", port=closed_port))
    assert (result.healthy, result.detail) == (False, "connection refused")


def test_another_status_than_expected_is_unhealthy_and_named(server: str) -> None:
    assert ask(f"{server}/ill").detail == "HTTP 503, expected 200"
    assert ask(f"{server}/ill", expected=(200, 204)).detail == "HTTP 503, expected 200 or 204"


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_a_server_that_does_not_come_to_an_end_is_left_at_the_deadline(server: str, path: str) -> None:
    begun = time.monotonic()
    result = ask(f"{server}{path}", timeout_s=0.4)
    assert (result.healthy, result.detail) == (False, "no answer within 0.4 s")
    assert time.monotonic() - begun < 50


def test_a_redirect_to_another_place_is_not_followed_and_its_query_not_shown(server: str) -> None:
    assert ask(f"{server}/away").detail == (
        "HTTP 302 redirects to another origin, http://127.0.0.2:9/well; not followed"
    )


def test_redirects_without_an_end_are_given_up(server: str) -> None:
    assert ask(f"{server}/round").detail == "more than 5 redirects"


def test_what_does_not_speak_http_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection = listener.accept()[0]
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        assert not ask(f"http://127.0.0.1:{listener.getsockname()[1]}").healthy
        thread.join()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///x", "127.0.0.1:80", "http://127.0.0.1:99999/"])
def test_an_address_that_is_none_is_unhealthy_not_an_exception(url: str) -> None:
    assert not ask(url).healthy


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *files]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection = listener.accept()[0]
            with connection, pytest.raises(OSError, match=r".*"):
                context.wrap_socket(connection, server_side=True).recv(1)

        thread = threading.Thread(target=refuse)
        thread.start()
        result = ask(f"https://localhost:{listener.getsockname()[1]}/")
        thread.join()
    assert not result.healthy
    assert "certificate" in result.detail


def test_the_expected_status_is_healthy_and_timed(server: str) -> None:
    result = ask(f"{server}/private", expected=(401,))
    assert (result.healthy, result.detail) == (True, "HTTP 401")
    assert 0 < result.response_time_s < 5


def test_a_redirect_within_the_server_is_followed(server: str) -> None:
    assert ask(f"{server}/moved").healthy
    assert [path for path, _authorisation in Handler.seen] == ["/moved", "/well"]


def test_a_password_is_sent_as_basic_authentication_and_never_shown(server: str, tmp_path: Path) -> None:
    secret_file = tmp_path / "password"
    secret_file.write_text(f"{PASSWORD}\n")
    probe = Probe("x", "http", url=f"{server}/ill", username="lakehouse", secret_file=str(secret_file))
    result = run_probe(probe)
    assert Handler.seen == [("/ill", "Basic bGFrZWhvdXNlOnMzY3JldDp3aXRoIGNvbG9u")]
    assert PASSWORD not in f"{result} {probe}"


def test_a_password_file_that_is_missing_is_named(server: str) -> None:
    probe = Probe("x", "http", url=server, username="lakehouse", secret_file="/nonexistent/password")
    assert run_probe(probe).detail == "/nonexistent/password: no such file or directory"


def test_loopback_is_asked_without_a_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask(server).healthy
    assert ask(server.replace("127.0.0.1", "localhost")).healthy


def test_another_host_is_asked_through_the_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("no_proxy", "")
    assert ask("http://lakehouse.invalid/well").healthy
    assert Handler.seen[0][0] == "http://lakehouse.invalid/well"


def test_a_connection_is_enough_for_tcp(server: str) -> None:
    result = run_probe(Probe("x", "tcp", address="127.0.0.1", port=int(server.rsplit(":", 1)[1])))
    assert (result.healthy, result.detail) == (True, "connected")


@pytest.mark.parametrize(
    ("script", "healthy", "detail"),
    [
        ("print('ready')", True, "exit status 0: ready"),
        ("print('a'); print('last words'); raise SystemExit(3)", False, "exit status 3: last words"),
        ("raise SystemExit(1)", False, "exit status 1"),
    ],
)
def test_a_command_is_judged_by_its_status_and_quoted_by_its_last_line(script: str, healthy: bool, detail: str) -> None:
    result = run_probe(Probe("x", "command", command=(sys.executable, "-c", script)))
    assert (result.healthy, result.detail) == (healthy, detail)


def test_a_command_that_is_missing_is_named() -> None:
    result = run_probe(Probe("x", "command", command=("/nonexistent/check",)))
    assert (result.healthy, result.detail) == (False, "/nonexistent/check: no such file or directory")


def test_a_command_is_ended_at_the_deadline_with_everything_that_it_started() -> None:
    begun = time.monotonic()
    result = run_probe(Probe("x", "command", command=("sh", "-c", "sleep 61 & sleep 61"), timeout_s=0.3))
    assert (result.healthy, result.detail) == (False, "no answer within 0.3 s")
    assert time.monotonic() - begun < 50
