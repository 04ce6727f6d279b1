# SPDX-License-Identifier: GPL-3.0-or-later
"""A small lakehouse to back up: its own lake on the session's store, a database, and the service `backup`."""

from __future__ import annotations

import gzip
import io
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import backup_store
import httpx
import psycopg
import pyarrow as pa
import services
from postgres import Postgres, postgres

import crypto_lakehouse
from crypto_lakehouse.backup.database.archive import WalRequest
from crypto_lakehouse.backup.database.receiver import Receiver, ReceiverOptions
from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.destination.opened import open_destination
from crypto_lakehouse.backup.restore import Restore, Selection
from crypto_lakehouse.backup.sets import open_set
from crypto_lakehouse.backup.settings import PREFIX, BackupSettings
from crypto_lakehouse.backup.state import State
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings

TIERS = ("bronze", "silver", "gold")
STOP_TIMEOUT_S = 30.0
PASSWORD = "the-password-of-the-api-0123456789"


@dataclass(frozen=True)
class Lakehouse:
    """The settings of its backup processes, as environment variables. values: those of `BackupSettings` by name."""

    store: services.ObjectStore
    database: Postgres
    folder: Path
    values: dict[str, str] = field(default_factory=dict)

    def using(self, **changes: str) -> Lakehouse:
        """Return the same lakehouse with other backup settings; an empty value removes one."""
        values = {name: value for name, value in {**self.values, **changes}.items() if value}
        return replace(self, values=values)

    @property
    def environment(self) -> dict[str, str]:
        variables = {f"{PREFIX}{name.upper()}": value for name, value in self.values.items()}
        source = {"PYTHONPATH": str(Path(crypto_lakehouse.__file__).parents[1])}
        return {"PATH": os.environ["PATH"], **source, **self.store.environment("admin"), **variables}

    @property
    def settings(self) -> Settings:
        return services.settings_from(self.environment)

    @property
    def backup(self) -> BackupSettings:
        values: dict[str, Any] = dict(self.values)
        return BackupSettings(**values)

    @property
    def destination(self) -> Destination:
        return open_destination(self.settings, self.backup, "create")

    def restore(self, set_id: str, selection: Selection | None = None) -> Restore:
        destination = open_destination(self.settings, self.backup, "restore")
        manifest = open_set(destination, set_id)
        return Restore(self.settings, self.backup, destination, manifest, selection or Selection())

    @property
    def home(self) -> Path:
        return Path(self.values["home"])

    @property
    def work(self) -> Path:
        return Path(self.values["work_folder"])

    # The lake

    def append(self, tier: str, rows: int = 1) -> None:
        """Append rows to the table of a tier, which is created where it does not exist."""
        catalog = open_catalog(self.settings, tier)  # type: ignore[arg-type]
        content = pa.table({"id": pa.array(range(rows), pa.int64())})
        catalog.create_namespace_if_not_exists(tier)
        catalog.create_table_if_not_exists(f"{tier}.prices", schema=content.schema).append(content)

    def rows(self, name: str) -> int:
        return int(open_catalog(self.settings, name.partition(".")[0]).load_table(name).scan().count())  # type: ignore[arg-type]

    def put_raw(self, name: str, content: bytes) -> None:
        s3_client(self.settings).put_object(Bucket=self.settings.bucket("bronze"), Key=f"raw/{name}", Body=content)

    def raw(self, name: str) -> bytes:
        answer = s3_client(self.settings).get_object(Bucket=self.settings.bucket("bronze"), Key=f"raw/{name}")
        return bytes(answer["Body"].read())

    def mark(self, text: str) -> None:
        """Write a row to the database."""
        with psycopg.connect(self.database.url("lakehouse", "lakehouse"), autocommit=True) as connection:
            connection.execute("INSERT INTO marks VALUES (%s)", [text])

    def marks(self) -> list[str]:
        return [row[0] for row in self.database.execute("SELECT text FROM marks ORDER BY text", name="lakehouse")]


def new_lakehouse(
    store: services.ObjectStore,
    database: Postgres,
    folder: Path,
    *,
    token: str = "",
    elsewhere: services.ObjectStore | None = None,
) -> Lakehouse:
    """Create a lake with one table in each tier and two raw objects, its configuration, and a locked destination.

    token: suffix of the names of its buckets, random if empty. elsewhere: store of the destination.
    """
    token, admin = token or secrets.token_hex(4), backup_store.client(store)
    destination = elsewhere or store
    names = {f"{tier}_warehouse": f"s3://run-{tier}-tables-{token}" for tier in TIERS}
    names |= {f"{tier}_bucket": f"run-{tier}-{token}" for tier in TIERS}
    own = replace(store, buckets=names)
    for name in (names["bronze_bucket"], f"run-state-{token}"):
        admin.create_bucket(Bucket=name)
    admin.put_bucket_versioning(Bucket=names["bronze_bucket"], VersioningConfiguration={"Status": "Enabled"})
    tables = s3_client(services.settings_from(store.environment("admin")), service="s3tables")
    for tier in TIERS:
        tables.create_table_bucket(name=names[f"{tier}_warehouse"].removeprefix("s3://"))
    home = folder / "home"
    written = {
        "secrets/api_token": PASSWORD,
        "etc/api.conf": "port = 8080\n",
        "inventory/variables.json": '{"lakehouse_environment": "production"}\n',
    }
    for path, content in written.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    (port,) = services.free_ports(1)
    values = {
        "endpoint_url": destination.endpoint,
        "bucket": backup_store.new_bucket(destination, locked_days=1),
        "state_bucket": f"run-state-{token}",
        "database_url": database.url("backup", "postgres"),
        "database_folder": str(database.data),
        "program_folder": str(database.tools),
        "work_folder": str(folder / "work"),
        "home": str(home),
        "retention_days": "2",
        "port": str(port),
        **_keys(destination, "create", "backup-extend"),
        **_keys(destination, "restore", "backup-restore"),
    }
    found = Lakehouse(own, database, folder, values)
    for tier in TIERS:
        found.append(tier, 3)
    found.put_raw("a", b"first")
    found.put_raw("b", b"second")
    database.execute("CREATE TABLE marks (text text)", "GRANT ALL ON marks TO lakehouse", name="lakehouse")
    return found


def _keys(store: services.ObjectStore, purpose: str, identity: str) -> dict[str, str]:
    keys = store.credentials[identity]
    return {f"{purpose}_access_key": keys.access_key, f"{purpose}_secret_key": keys.secret_key}


@dataclass(frozen=True)
class InFolder:
    """A lakehouse that is backed up into a folder."""

    lakehouse: Lakehouse
    destination: FolderDestination
    folder: Path
    """Folder of other files; it is removed with the lakehouse."""


@contextmanager
def in_folder(object_store: services.ObjectStore, **backup: str) -> Iterator[InFolder]:
    """Return a lakehouse that is backed up into a folder.

    backup: settings of the backup in addition to its destination.
    """
    with tempfile.TemporaryDirectory(prefix="lf-") as name, postgres() as database:
        folder = Path(name)
        folder.chmod(0o711)
        destination = FolderDestination(folder / "sets" / object_store.environment_name)
        destination.root.mkdir(parents=True, mode=0o700)
        lakehouse = new_lakehouse(object_store, database, folder)
        lakehouse = lakehouse.using(folder=str(folder / "sets"), endpoint_url="", **backup)
        yield InFolder(lakehouse, destination, folder)


@contextmanager
def receiving(
    lakehouse: Lakehouse,
    destination: Destination,
    spool: Path,
    requested: Callable[[], WalRequest | None] | None = None,
    assess_s: float = 60.0,
) -> Iterator[None]:
    """Receive write-ahead log in a thread while the block runs.

    requested: returns the newest request of a run; by default that in the store of the lakehouse.
    """
    wanted = requested or State(lakehouse.settings, lakehouse.backup).wal_request
    database, stopping = lakehouse.database, threading.Event()
    options = ReceiverOptions(interval_s=3600, poll_s=0.1, assess_s=assess_s)
    receiver = Receiver(database.server, database.programs, destination, spool, options, wanted)
    thread = threading.Thread(target=receiver.run, args=[stopping])
    thread.start()
    try:
        services.wait_until(lambda: receiver.state.is_receiving, "the receiver")
        yield
    finally:
        stopping.set()
        thread.join()


@dataclass
class Service:
    """The process `lakehouse backup serve`."""

    lakehouse: Lakehouse
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def is_healthy(self) -> bool:
        return self.get("/health").status_code == 200

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://{services.HOST}:{self.lakehouse.values['port']}{path}", trust_env=False, timeout=60)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"lakehouse_backup_{name} ")))

    def stop(self) -> int:
        """Send SIGTERM and return the status; the process is killed after a timeout."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            finally:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


def start(lakehouse: Lakehouse, log: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command of the application in a separate process."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "crypto_lakehouse.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=lakehouse.environment,
            cwd="/",
            preexec_fn=services._die_with_parent,  # noqa: PLW1509 - the test's own thread starts it
        )


@contextmanager
def serving(lakehouse: Lakehouse) -> Iterator[Service]:
    """Run the service while the block runs."""
    log = lakehouse.folder / "service.log"
    service = Service(lakehouse, start(lakehouse, log, "backup", "serve"), log)
    try:
        services.wait_until(lambda: service.has_ended or service.is_healthy, "the service `backup`")
        assert not service.has_ended, log.read_text()
        yield service
    finally:
        service.stop()


def contents(destination: Destination) -> Iterator[tuple[str, bytes]]:
    """Yield key and bytes of every object at a destination, decompressed if necessary."""
    for stored in destination.list(""):
        content = b"".join(destination.read(stored.key, stored.version_id))
        yield stored.key, _decompressed(content) if stored.key.endswith(".gz") else content


def _decompressed(content: bytes) -> bytes:
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(content)).read()
    except zlib.error:
        return content
