# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server of one test, which may stop, kill and replace it; its segments are small."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import services

from crypto_lakehouse.backup.database.programs import Programs
from crypto_lakehouse.backup.database.server import Server
from crypto_lakehouse.bootstrap import database
from crypto_lakehouse.bootstrap.ledger import Ledger

USER = "nobody"


@dataclass
class Postgres:
    """A server with the platform's roles and databases, and the role `backup`."""

    folder: Path
    tools: Path
    port: int
    passwords: dict[str, str]
    data: Path
    options: dict[str, str] = field(default_factory=dict)
    # It runs in the new process, as its user, before the server starts.
    prepare: Callable[[], None] = services._die_with_parent
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def programs(self) -> Programs:
        return Programs(self.tools, USER)

    @property
    def server(self) -> Server:
        return Server(self.url("backup", "postgres"))

    def url(self, role: str, name: str) -> str:
        return f"postgresql://{role}:{self.passwords[role]}@{services.HOST}:{self.port}/{name}"

    def execute(self, *statements: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the superuser, each committed; return the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url("postgres", name), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def start(self) -> None:
        """Start the server if it is not running."""
        if self.process:
            return
        words = [str(self.tools / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        words += [word for name, value in self.options.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            identity = services._database_user(self.folder) if os.geteuid() == 0 else {}
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                preexec_fn=self.prepare,  # noqa: PLW1509 - the test's own thread starts it
                **identity,
            )
        process = self.process
        services.wait_until(lambda: process.poll() is not None or self.execute("SELECT 1"), "the database")
        if process.poll() is not None:
            raise RuntimeError(f"the database ended: {self.log.read_text()[-1000:]}")

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the server: SIGINT stops it immediately and cleanly, SIGQUIT like a crash."""
        if self.process:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
            self.process.wait()
            self.process = None


@contextmanager
def postgres(**options: str) -> Iterator[Postgres]:
    """Run a server with segments of 1 MB and these options."""
    with services.database_folder() as folder:
        passwords = {name: secrets.token_hex(12) for name in ("postgres", "backup", *database.OWNERS)}
        password_file = folder / "password"
        password_file.write_text(passwords["postgres"])
        identity = services._database_user(folder)
        tools, data = services._database_tools(folder), folder / "data"
        command = [str(tools / "initdb"), "--no-sync", f"--pgdata={data}", "--username=postgres", "--wal-segsize=1"]
        command += [f"--pwfile={password_file}", "--auth=scram-sha-256", "--no-instructions"]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment, **identity)
        fixed = {"listen_addresses": services.HOST, "unix_socket_directories": "", "fsync": "off"}
        fixed |= {"shared_buffers": "16MB", "min_wal_size": "2MB", "max_wal_size": "8MB"}
        (port,) = services.free_ports(1)
        found = Postgres(folder, tools, port, passwords, data, {**fixed, **options})
        found.start()
        try:
            _prepare(found)
            yield found
        finally:
            found.stop()


def _prepare(found: Postgres) -> None:
    variables = {"LAKEHOUSE_DATABASE_ADMIN_URL": found.url("postgres", "postgres")}
    for name in ("backup", *database.OWNERS):
        variables[f"LAKEHOUSE_DATABASE_{name.upper()}_PASSWORD"] = found.passwords[name]
    database.ensure(services.settings_from(variables), Ledger(check=False, wait_s=30))
