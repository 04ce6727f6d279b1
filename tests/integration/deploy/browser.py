# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser behind a proxy of the test, which records the hosts of all requests and allows loopback only."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LOAD_LIMIT_S = 240.0
# The browser waits for a page's activity within this many milliseconds of the page's clock.
PAGE_TIME_MS = 20_000
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
)
POLICY_HEADER = "content-security-policy"
HOP_HEADERS = frozenset({"connection", "content-length", "proxy-connection", "transfer-encoding"})


@dataclass
class Recording:
    """Hosts and paths of a browser's requests.

    `account` contains typed credentials; `strip_policy` removes our policy.
    """

    account: str
    strip_policy: bool = False
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def foreign(self) -> set[str]:
        """The hosts other than loopback."""
        return {host for host, _path, _status in self.asked if host != "127.0.0.1"}

    def answered(self, path: str) -> list[int]:
        """Return the statuses of the answers to a path of the platform."""
        return [status for host, found, status in self.asked if host == "127.0.0.1" and found == path]


def _handler(recording: Recording) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            return

        def do_CONNECT(self) -> None:
            recording.asked.append((self.path.partition(":")[0], "", 0))
            self.send_error(502)

        def do_GET(self) -> None:
            asked = urllib.parse.urlsplit(self.path)
            host = asked.hostname or ""
            if host != "127.0.0.1":
                recording.asked.append((host, asked.path, 0))
                self.send_error(502)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
            given |= {"Authorization": recording.account, "Accept-Encoding": "identity"}
            connection = http.client.HTTPConnection(host, asked.port, timeout=60)
            with contextlib.closing(connection):
                path = urllib.parse.urlunsplit(("", "", asked.path, asked.query, ""))
                connection.request(self.command, path, body, given)
                answer = connection.getresponse()
                content = answer.read()
            recording.asked.append((host, asked.path, answer.status))
            self._pass_on(answer, content)

        def _pass_on(self, answer: http.client.HTTPResponse, content: bytes) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                hidden = recording.strip_policy and name.lower() == POLICY_HEADER
                if name.lower() not in HOP_HEADERS and not hidden:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler.do_GET)
    return Handler


@contextlib.contextmanager
def _proxy(recording: Recording) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(recording))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def visit(browser: Path, url: str, recording: Recording, profile: Path) -> str:
    """Open a page with an empty profile, wait until it is quiet, and return the resulting page."""
    with _proxy(recording) as port:
        options = [
            *QUIET,
            f"--user-data-dir={profile}",
            f"--proxy-server=http://127.0.0.1:{port}",
            "--proxy-bypass-list=<-loopback>",
            f"--virtual-time-budget={PAGE_TIME_MS}",
        ]
        done = subprocess.run(
            [str(browser), *options, "--dump-dom", url],
            capture_output=True,
            text=True,
            timeout=LOAD_LIMIT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
