# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy on loopback that creates tunnels, and records its requests."""

from __future__ import annotations

import http.server
import select
import socket
import threading
from collections.abc import Mapping
from typing import Self


class Proxy:
    """Creates a tunnel for clients with its credentials, if it requires any.

    asked: requests with their headers. hosts: addresses of names that no other resolver knows.
    """

    def __init__(self, account: str = "", hosts: Mapping[str, str] | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        proxy, known = self, dict(hosts or {})

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                proxy.asked.append((self.path, headers))
                if account and headers.get("proxy-authorization") != account:
                    self.send_error(407)
                    return
                host, _colon, port = self.path.rpartition(":")
                with socket.create_connection((known.get(host, host), int(port))) as other:
                    self.send_response(200)
                    self.end_headers()
                    _relay(self.connection, other)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _relay(one: socket.socket, other: socket.socket) -> None:
    partners = {one: other, other: one}
    while True:
        readable, _writable, _broken = select.select(list(partners), [], [], 5)
        for side in readable:
            data = side.recv(65536)
            if not data:
                return
            partners[side].sendall(data)
        if not readable:
            return
