# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a scripted API on loopback over real TLS, with every fault of a network.

It does not implement server-side apply: a real API server alone proves those semantics. It serves tests that a real
server does not allow: faults of the transport, and the order of requests.

    with ApiServer(tmp_path) as server:
        server.on("PATCH", "/deployments/", status(429, retry_after=1), OK)  # the first is refused, then all succeed
        server.on("GET", "/api/v1/secrets", DROPPED)                         # the connection is lost before any answer
        client = server.client()
        ...
        assert [request.path for request in server.requests] == [...]

Each request is answered as follows:

1. The first matching rule of `on` with replies left gives its next reply and repeats its last one. A rule matches by
   method and pattern, which is searched in the path without the query.
2. Otherwise `answer(request)` answers, a function that a test may replace. The default is `Objects` (objects.py), a
   store that creates, replaces, gets, lists, watches and deletes. Its discovery serves the kinds of `KINDS`.

Faults are replies, too: DROPPED (closed before the head of the answer), RESET (the same with a reset), CUT (closed in
the middle of the body), HANG (no answer until the server ends), `slowly(reply, seconds)`. A throwaway authority issues
the certificates. `certificate` sets one that has expired or has another name. With `wants_client_certificate`, the
server disconnects clients without a certificate.

`greetings` end the next connections, one each, instead of a handshake: `alert(number)` or nothing.

`requests` contains the requests in the order of their arrival, with the times of arrival and answer. `most_at_once` is
the highest number of concurrent requests; `connections` is the number of opened connections.
"""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client, Patience
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from tests.unit.kube.authority import Authority, Issued
from tests.unit.kube.objects import Objects

TOKEN = "token-of-a-test"
# Pauses of milliseconds: a test waits for nothing.
IMPATIENT = Patience(first_s=0.001, longest_s=0.01, webhook_s=0.2)


@dataclass(frozen=True)
class Reply:
    """A reply. body: JSON data, or text. stream: pieces that are sent separately, as in a watch.

    fault: `drop`, `reset`, `cut` or `hang`, see above. delay_s: before the answer.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    fault: str = ""
    delay_s: float = 0.0
    stream: Callable[[], Iterator[bytes]] | None = None


@dataclass
class Request:
    """A request that arrived, and its times in seconds of one clock; `answered_s` is 0 while it is in progress."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Message
    body: Any
    arrived_s: float
    answered_s: float = 0.0

    @property
    def options(self) -> dict[str, str]:
        return dict(self.query)


OK = Reply()
DROPPED = Reply(fault="drop")
RESET = Reply(fault="reset")
CUT = Reply(fault="cut", body={"kind": "ConfigMap", "data": {"long": "x" * 1000}})
HANG = Reply(fault="hang")


def alert(number: int) -> bytes:
    """Return the fatal alert of this number (RFC 8446, 6) as a record of TLS."""
    return bytes([21, 3, 3, 0, 2, 2, number])


def status(
    code: int, message: str = "made by a test", reason: str = "", *, retry_after: float | None = None, **details: Any
) -> Reply:
    """Return an error in the format of an API server."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    body |= {"reason": reason, "details": details}
    headers = () if retry_after is None else (("Retry-After", f"{retry_after:g}"),)
    return Reply(code, body, headers)


def slowly(reply: Reply, delay_s: float) -> Reply:
    return replace(reply, delay_s=delay_s)


def events(*pairs: tuple[str, dict[str, Any]], then: str = "") -> Reply:
    """Return a watch with these events, which then ends, or fails with the fault `then`."""

    def lines() -> Iterator[bytes]:
        for kind, found in pairs:
            yield json.dumps({"type": kind, "object": found}).encode() + b"\n"

    return Reply(stream=lines, fault=then)


@dataclass
class _Rule:
    method: str
    pattern: re.Pattern[str]
    replies: list[Reply]

    def fits(self, request: Request) -> bool:
        return self.method in {request.method, "*"} and self.pattern.search(request.path) is not None

    def next(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class ApiServer:
    """The server; see the module's text. All its files are in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        authority: Authority | None = None,
        certificate: Issued | None = None,
        wants_client_certificate: bool = False,
        compresses: bool = False,
    ) -> None:
        self.folder, self.compresses = folder, compresses
        self.authority = authority or Authority()
        self.objects = Objects()
        self.answer: Callable[[Request], Reply] = self._from_objects
        self.requests: list[Request] = []
        self.greetings: list[bytes] = []
        self.most_at_once = self.connections = 0
        self._at_once = 0
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server = self._listen(self._tls(certificate or self.authority.issue(), wants_client_certificate))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self.objects.end()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def on(self, method: str, pattern: str, *replies: Reply) -> None:
        """Answer requests with replies in order. method `*` matches any; newer rules precede older ones."""
        with self._lock:
            self._rules.insert(0, _Rule(method, re.compile(pattern), list(replies)))

    def kubeconfig(self, **changes: Any) -> dict[str, Any]:
        """Return a kubeconfig for this server; `cluster` and `user` replace fields of its entries."""
        data = base64.b64encode(self.authority.pem.encode()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {
                    "name": "lake",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": data,
                        **changes.get("cluster", {}),
                    },
                }
            ],
            "users": [{"name": "admin", "user": changes.get("user", {"token": TOKEN})}],
            "contexts": [{"name": "test", "context": {"cluster": "lake", "user": "admin", "namespace": "shop"}}],
        }

    def client(self, *, patience: Patience = IMPATIENT, timeout_s: float = 10.0, **parameters: Any) -> Client:
        """Return a client of this server. parameters: options of a module, besides the kubeconfig."""
        given = {"kubeconfig": self.kubeconfig(), **parameters}
        return Client(connection(given), timeout_s=timeout_s, patience=patience)

    def _from_objects(self, request: Request) -> Reply:
        code, body = self.objects.answer(request.method, request.path, request.options, request.body)
        if callable(body):
            return Reply(code, stream=body)
        return Reply(code, body)

    def _tls(self, issued: Issued, wants_client_certificate: bool) -> ssl.SSLContext:
        place = self.folder / f"server-{id(self)}.pem"
        place.touch(mode=0o600)
        place.write_text(issued.certificate + issued.key, encoding="ascii")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place)
        context.load_verify_locations(cadata=self.authority.pem)
        context.verify_mode = ssl.CERT_REQUIRED if wants_client_certificate else ssl.CERT_NONE
        return context

    def _listen(self, context: ssl.SSLContext) -> http.server.ThreadingHTTPServer:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are sent together: two small writes on one connection wait for each other.
            wbufsize = -1
            disable_nagle_algorithm = True

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def handle(self) -> None:
                if outer.greetings:
                    outer._break_off(self.request.fileno())
                    return
                # Tests include clients that hang up or show no certificate.
                try:
                    super().handle()
                except (ssl.SSLError, ConnectionError):
                    self.close_connection = True

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: outer._serve(self)
                raise AttributeError(name)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                return

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                return

        server = Server(("127.0.0.1", 0), Handler)
        # A handshake in accept would let one slow client block all others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server

    def _break_off(self, descriptor: int) -> None:
        # Its hello is read first: with unread data, close would send a reset.
        os.read(descriptor, 65536)
        os.write(descriptor, self.greetings.pop(0))

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        request = _request(handler)
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            rule = next((rule for rule in self._rules if rule.fits(request)), None)
            reply = rule.next() if rule else None
        try:
            reply = reply or self.answer(request)
            if reply.delay_s:
                self._ended.wait(reply.delay_s)
            self._send(handler, reply)
        finally:
            with self._lock:
                self._at_once -= 1
                request.answered_s = time.monotonic()

    def _send(self, handler: http.server.BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.close_connection = bool(reply.fault)
        if reply.fault == "hang":
            self._ended.wait(30)
        elif reply.fault == "reset":
            # With this option, close sends a reset.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif reply.stream is not None:
            self._send_stream(handler, reply)
        elif reply.fault != "drop":
            self._send_whole(handler, reply)

    def _send_whole(self, handler: http.server.BaseHTTPRequestHandler, reply: Reply) -> None:
        is_text = isinstance(reply.body, str)
        data = reply.body.encode() if is_text else json.dumps(reply.body).encode()
        headers = [("Content-Type", reply.content_type or ("text/plain" if is_text else "application/json"))]
        if self.compresses and "gzip" in handler.headers.get("Accept-Encoding", ""):
            data = gzip.compress(data)
            headers.append(("Content-Encoding", "gzip"))
        _send_head(handler, reply, [*headers, ("Content-Length", str(len(data)))])
        handler.wfile.write(data[: len(data) // 2] if reply.fault == "cut" else data)
        handler.wfile.flush()

    def _send_stream(self, handler: http.server.BaseHTTPRequestHandler, reply: Reply) -> None:
        _send_head(handler, reply, [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
        handler.wfile.flush()
        for piece in reply.stream() if reply.stream else ():
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            handler.wfile.flush()
        if not reply.fault:
            handler.wfile.write(b"0\r\n\r\n")
            handler.wfile.flush()


def _request(handler: http.server.BaseHTTPRequestHandler) -> Request:
    parts = urlsplit(handler.path)
    data = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = json.loads(data) if data else None
    query = parse_qsl(parts.query, keep_blank_values=True)
    return Request(handler.command, parts.path, query, handler.headers, body, time.monotonic())


def _send_head(handler: http.server.BaseHTTPRequestHandler, reply: Reply, headers: list[tuple[str, str]]) -> None:
    handler.send_response(reply.status)
    for name, value in [*headers, *reply.headers]:
        handler.send_header(name, value)
    handler.end_headers()
