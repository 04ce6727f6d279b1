# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for AWS Glue: databases and tables of one account, with the protocol of its clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import services

Document = dict[str, Any]


class GlueError(Exception):
    """An error of Glue with status 400."""


@dataclass
class GlueServer:
    """The account's catalog; `calls` are the names of the requested operations."""

    url: str = ""
    databases: dict[str, Document] = field(default_factory=dict)
    tables: dict[tuple[str, str], Document] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def answer(self, operation: str, asked: Document) -> Document:
        self.calls.append(operation)
        operations: dict[str, Callable[[Document], Document]] = {
            "CreateDatabase": self._create_database,
            "CreateTable": self._create_table,
            "GetDatabase": lambda asked: {"Database": self._database(asked["Name"])},
            "GetTable": lambda asked: {"Table": self._table(asked["DatabaseName"], asked["Name"])},
            "GetTables": self._get_tables,
            "UpdateTable": self._update_table,
        }
        return operations[operation](asked)

    def _database(self, name: str) -> Document:
        if name not in self.databases:
            raise GlueError("EntityNotFoundException")
        return self.databases[name]

    def _table(self, database: str, name: str) -> Document:
        self._database(database)
        if (database, name) not in self.tables:
            raise GlueError("EntityNotFoundException")
        return self.tables[database, name]

    def _create_database(self, asked: Document) -> Document:
        name = asked["DatabaseInput"]["Name"]
        if name in self.databases:
            raise GlueError("AlreadyExistsException")
        self.databases[name] = asked["DatabaseInput"]
        return {}

    def _create_table(self, asked: Document) -> Document:
        database, table = asked["DatabaseName"], asked["TableInput"]
        self._database(database)
        if (database, table["Name"]) in self.tables:
            raise GlueError("AlreadyExistsException")
        self.tables[database, table["Name"]] = {**table, "DatabaseName": database, "VersionId": "0"}
        return {}

    def _update_table(self, asked: Document) -> Document:
        database, table = asked["DatabaseName"], asked["TableInput"]
        version = self._table(database, table["Name"])["VersionId"]
        if asked["VersionId"] != version:
            raise GlueError("ConcurrentModificationException")
        following = {**table, "DatabaseName": database, "VersionId": str(int(version) + 1)}
        self.tables[database, table["Name"]] = following
        return {}

    def _get_tables(self, asked: Document) -> Document:
        self._database(asked["DatabaseName"])
        return {"TableList": [table for key, table in self.tables.items() if key[0] == asked["DatabaseName"]]}


@contextmanager
def glue_server() -> Iterator[GlueServer]:
    """Serve an empty catalog on the loopback address."""
    server = GlueServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                status, found = 200, server.answer(self.headers["X-Amz-Target"].rpartition(".")[2], asked)
            except GlueError as error:
                status, found = 400, {"__type": str(error), "Message": "no"}
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer((services.HOST, 0), Handler) as listener:
        server.url = f"http://{services.HOST}:{listener.server_port}"
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown()
