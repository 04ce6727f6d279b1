# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a store with archive classes: it answers HEAD and RestoreObject as S3 documents them.

SeaweedFS keeps the storage class of an object and refuses RestoreObject, so no store of the tests restores objects.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_IN_PROGRESS = b"<Error><Code>RestoreAlreadyInProgress</Code><Message>Restore is in progress.</Message></Error>"


@dataclass
class ArchiveServer:
    """polls: HEAD requests during which a restore is in progress. restored: paths whose restore was requested."""

    url: str
    polls: int
    restored: list[str] = field(default_factory=list)


@contextmanager
def archive_server(polls: int) -> Iterator[ArchiveServer]:
    """Serve on the loopback address while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            state.polls -= bool(state.restored)
            ongoing = "true" if state.polls > 0 else "false"
            self._answer(200, {"x-amz-restore": f'ongoing-request="{ongoing}"'} if state.restored else {})

        def do_GET(self) -> None:
            self._answer(403, {}, b"<Error><Code>InvalidObjectState</Code><Message>It is archived.</Message></Error>")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            path = unquote(urlsplit(self.path).path)
            again = path in state.restored
            state.restored += [] if again else [path]
            self._answer(409 if again else 202, {}, _IN_PROGRESS if again else b"")

        def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(body)),
                "x-amz-storage-class": "DEEP_ARCHIVE",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = ArchiveServer(f"http://127.0.0.1:{server.server_address[1]}", polls)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
