# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer each request with the next scripted reply over a real socket, to reproduce failures of AWS."""

from __future__ import annotations

import http.server
import json
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

JSON = "application/x-amz-json-1.1"
XML = "text/xml"


@dataclass(frozen=True)
class Reply:
    """A reply. fault: `reset` closes the connection instead, `hang` sends nothing until the service ends."""

    status: int = 200
    body: str = "{}"
    content_type: str = JSON
    fault: str = ""


@dataclass(frozen=True)
class Asked:
    """A request that arrived."""

    target: str
    headers: dict[str, str]
    body: str


def answer(**body: Any) -> Reply:
    return Reply(body=json.dumps(body))


def error(code: str, message: str = "made by a test", status: int = 400) -> Reply:
    return Reply(status, json.dumps({"__type": code, "message": message}))


def xml(text: str, status: int = 200) -> Reply:
    return Reply(status, text, XML)


def query_error(code: str, message: str, status: int = 403) -> Reply:
    """An error as STS and IAM write it."""
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return xml(f"<ErrorResponse>{inner}<RequestId>1</RequestId></ErrorResponse>", status)


RESET = Reply(fault="reset")
HANG = Reply(fault="hang")
IDENTITY = xml(
    "<GetCallerIdentityResponse><GetCallerIdentityResult>"
    "<Arn>arn:aws:iam::111122223333:user/tester</Arn><UserId>AIDA</UserId><Account>111122223333</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


class Service:
    """Answers with `replies` in order and repeats the last one. `asked` lists the requests that arrived."""

    def __init__(self) -> None:
        self.replies: Sequence[Reply] = (Reply(),)
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                service._serve(self)

            def do_GET(self) -> None:
                service._serve(self)

            def do_PUT(self) -> None:
                service._serve(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode()
        with self._lock:
            reply = self.replies[min(len(self.asked), len(self.replies) - 1)]
            target = handler.headers.get("X-Amz-Target", "").partition(".")[2]
            self.asked.append(Asked(target or handler.path, dict(handler.headers), body))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self._reply(handler, reply)
        finally:
            with self._lock:
                self._at_once -= 1

    def _reply(self, handler: http.server.BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.close_connection = bool(reply.fault)
        if reply.fault == "hang":
            self._ended.wait(20)
        elif reply.fault == "reset":
            # With this option, close sends a reset.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            data = reply.body.encode()
            handler.send_response(reply.status)
            handler.send_header("Content-Type", reply.content_type)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
