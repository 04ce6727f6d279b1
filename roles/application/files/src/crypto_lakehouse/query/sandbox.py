# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of the query processes: how it is opened, locked, and given its one statement.

A query process is a fork of an open engine and ends with its statement. A resident process has the small tables in
memory, and neither key nor network. A remote process receives a read-only key of the gold tier over its channel, locks
its engine, reports that, and only then receives the statement.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

# The engine alone: the package around it takes twice as long to import, and starts an unused thread and default
# connection. The version is pinned, and the tests run every path of it.
import _duckdb as duckdb

from crypto_lakehouse.query.frames import FrameError, read_message, write_frame
from crypto_lakehouse.query.policy import GOLD, Judgement, PolicyError, judge
from crypto_lakehouse.query.values import to_json

EXTENSIONS: Final = ("httpfs", "avro", "iceberg")
REMOTE_THREADS: Final = 2
"""Threads of a process that waits for the object store; an engine that is forked has one."""
BATCH_ROWS: Final = 256
ADDRESS_SPACE_BYTES: Final = 1_610_612_736
"""Room for libraries, stacks and DuckDB's address arithmetic beside the memory that the query may use."""
MAX_DETAIL_CHARACTERS: Final = 1_000
WARM_UP: Final = (
    "SELECT s, sum(d), avg(v), count(*) FROM gold.warm WHERE t > DATE '2000-01-01' GROUP BY s ORDER BY 2 DESC LIMIT 3",
    "SELECT t, d, v, lag(v) OVER (ORDER BY t), k FROM gold.warm WHERE s = '1' OR s LIKE 'a%' ORDER BY t DESC LIMIT 9",
)
"""Statements of the platform itself that execute the code of most queries."""
WARM_TABLE: Final = (
    "CREATE TABLE gold.warm AS SELECT DATE '2020-01-01' + i::INTEGER t, i::VARCHAR s, i::DECIMAL(18, 8) d, "
    "i::DOUBLE v, TIMESTAMPTZ '2020-01-01 00:00:00+00' k FROM range(100) x(i)"
)


@dataclass(frozen=True, slots=True)
class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of this program
    """The statement is not run, or not completed. `kind` is a key of the parent's table of answers."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Names:
    """Names in the engine: views whose names statements must not use, and resident tables."""

    reserved: frozenset[str] = frozenset()
    resident: frozenset[str] = frozenset()

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection) -> Names:
        """Return the names of an open engine; they are the same in every fork of it."""
        views = connection.execute("SELECT lower(view_name) FROM duckdb_views()").fetchall()
        tables = connection.execute("SELECT lower(table_name) FROM duckdb_tables()").fetchall()
        return cls(frozenset(row[0] for row in views), frozenset(row[0] for row in tables))


NO_NAMES: Final = Names()


class Clock:
    """Processor time of this process by stage, in milliseconds."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = 0.0

    def lap(self, stage: str) -> None:
        """Add the time since the last lap, or since the fork, to `stage`."""
        now = time.process_time()
        self.stages[stage] = round((now - self._last) * 1000, 3)
        self._last = now


def open_engine() -> duckdb.DuckDBPyConnection:
    """Return an engine with one thread, with the extensions loaded and all unneeded features disabled.

    The extensions are from Python packages that the lock file pins by hash, so their own signature over 80 MB is not
    verified again at each start.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "allow_unsigned_extensions": "true",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "threads": "1",
        },
    )
    for name in EXTENSIONS:
        connection.execute(f"LOAD {quote(str(_extension_file(name)))}")
    for setting in (
        "allow_unsigned_extensions=false",
        "allow_community_extensions=false",
        "allow_persistent_secrets=false",
        "enable_logging=false",
        "temp_directory=''",
        "http_retries=1",
    ):
        connection.execute(f"SET {setting}")
    connection.execute("SET GLOBAL TimeZone='UTC'")
    connection.execute(f"CREATE SCHEMA {GOLD}")
    connection.execute(f"SET schema='{GOLD}'")
    return connection


def _extension_file(name: str) -> Path:
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(f"duckdb_extension_{name}")
    folder = Path(package.submodule_search_locations[0])
    return folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def warm_up(connection: duckdb.DuckDBPyConnection) -> None:
    """Run statements of the platform itself, so that forks have code and catalogue in memory."""
    connection.execute(WARM_TABLE)
    for sql in WARM_UP:
        statement, _judgement = examine(connection, sql)
        connection.execute(statement)
        collect(connection, 100, 100_000)
    connection.execute("DROP TABLE gold.warm")


def quote(text: str) -> str:
    """Return `text` as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def load_resident(
    connection: duckdb.DuckDBPyConnection, files: Sequence[int], requests: BinaryIO, answers: BinaryIO
) -> None:
    """Load the tables of the first message from `files`, then lock the engine and everything forked from it.

    Answers with the tables that fit into the memory for resident tables.
    """
    message = read_message(requests)
    limit_mb, limits = int(message["resident_mb"]), message["limits"]
    connection.execute(f"SET memory_limit='{limit_mb}MB'")
    loaded = []
    for name, descriptor in zip(message["tables"], files, strict=True):
        try:
            source = quote(f"/proc/self/fd/{descriptor}")
            connection.execute(f"CREATE TABLE {GOLD}.{identifier(name)} AS FROM read_parquet({source})")
            loaded.append(name)
        except (duckdb.Error, MemoryError):
            continue
    # Memory of the tables does not count for the query.
    used = int((connection.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchone() or [0])[0])
    total_mb = int(limits["memory_mb"]) + math.ceil(used / 1_000_000)
    for setting in (
        f"memory_limit='{total_mb}MB'",
        "enable_external_access=false",
        "disabled_filesystems='LocalFileSystem,HTTPFileSystem,S3FileSystem,HuggingFaceFileSystem'",
    ):
        connection.execute(f"SET {setting}")
    _limit_address_space(total_mb)
    write_frame(answers, json.dumps({"loaded": loaded, "bytes": used}).encode())


def run_resident(connection: duckdb.DuckDBPyConnection, names: Names, requests: BinaryIO, answers: BinaryIO) -> int:
    """Serve one statement over the resident tables; return the exit status."""
    gc.disable()
    # From here on no descriptor can be opened: no file and no socket, for any statement.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    clock = Clock()
    own = own_connection(connection)
    clock.lap("start")
    try:
        request = read_message(requests)
    except FrameError:
        return 0
    _limit_time(float(request["timeout_s"]), threads=1)
    return _answer(own, request, requests, answers, clock, names)


def own_connection(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Return a locked connection of this process only.

    Forks of one connection give the same `random()` and `uuid()`: the state of its generator is copied. A new
    connection takes its seed from the kernel.
    """
    own = connection.cursor()
    own.execute(f"SET schema='{GOLD}'")
    own.execute("SET lock_configuration=true")
    return own


def run_remote(connection: duckdb.DuckDBPyConnection, names: Names, requests: BinaryIO, answers: BinaryIO) -> int:
    """Receive a key, lock, and run one statement over tables of the object store; return the exit status."""
    gc.disable()
    clock = Clock()
    try:
        lease = read_message(requests)
        own = connection.cursor()
        own.execute(f"SET schema='{GOLD}'")
        lock(own, lease["grant"], lease["limits"])
        write_frame(answers, b'{"locked": true}')
        clock.lap("start")
        request = read_message(requests)
    except FrameError:
        return 0
    return _answer(own, request, requests, answers, clock, names)


def run_fetch(connection: duckdb.DuckDBPyConnection, target: int, requests: BinaryIO, answers: BinaryIO) -> int:
    """Write the table of the message's metadata into the file `target`; return the exit status.

    No user's statement reaches this process. Delete files and schema changes are applied by the engine that reads.
    """
    try:
        message = read_message(requests)
    except FrameError:
        return 0
    path = f"/proc/self/fd/{target}"
    # The program ignores the signal of this limit: a write beyond it fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(message["max_bytes"]), int(message["max_bytes"])))
    try:
        lock(connection, message["grant"], message["limits"], writes=path)
        connection.execute(
            f"COPY (FROM iceberg_scan({quote(message['location'])})) TO {quote(path)} "
            "(FORMAT parquet, COMPRESSION snappy, USE_TMP_FILE false)"
        )
    except (duckdb.Error, MemoryError) as error:
        write_frame(answers, json.dumps({"refused": "storage", "detail": type(error).__name__}).encode())
        return 0
    write_frame(answers, b'{"fetched": true}')
    return 0


def _answer(
    connection: duckdb.DuckDBPyConnection,
    request: Mapping[str, Any],
    requests: BinaryIO,
    answers: BinaryIO,
    clock: Clock,
    names: Names,
) -> int:
    try:
        description, rows = serve(connection, request, requests, answers, clock, names)
    except FrameError:
        return 0
    except Refusal as refusal:
        write_frame(answers, json.dumps({"refused": refusal.kind, "detail": refusal.detail}).encode())
        return 0
    write_frame(answers, json.dumps({**description, "cpu_ms": clock.stages}).encode())
    write_frame(answers, rows)
    return 0


def serve(
    connection: duckdb.DuckDBPyConnection,
    request: Mapping[str, Any],
    requests: BinaryIO,
    answers: BinaryIO,
    clock: Clock,
    names: Names,
) -> tuple[dict[str, Any], bytes]:
    """Run the request's statement on an engine that is locked.

    The tables that it reads are reported first; the answer contains the metadata addresses of those that are not
    resident. Returns a description of the result and its rows as a JSON array of arrays.

    Raises:
        Refusal: when the statement is not allowed, invalid, or exceeds a limit.
        FrameError: when the parent does not want a result from this process.
    """
    statement, judgement = examine(connection, str(request["sql"]), names)
    clock.lap("examine")
    asked = {"tables": sorted(judgement.tables), "repeatable": judgement.repeatable}
    write_frame(answers, json.dumps(asked).encode())
    locations: Mapping[str, str] = read_message(requests)["locations"]
    try:
        for name, location in sorted(locations.items()):
            view = f"{GOLD}.{identifier(name)}"
            connection.execute(f"CREATE VIEW {view} AS FROM iceberg_scan({quote(location)})")
        clock.lap("views")
        connection.execute(statement)
        clock.lap("execute")
        return collect(connection, int(request["max_rows"]), int(request["max_result_bytes"]))
    except duckdb.Error as error:
        raise _explain(error) from None
    except MemoryError:
        raise Refusal("memory", "the query needs more memory than it may use") from None
    finally:
        clock.lap("collect")


def lock(
    connection: duckdb.DuckDBPyConnection,
    grant: Mapping[str, Any],
    limits: Mapping[str, Any],
    writes: str | None = None,
) -> None:
    """Give the engine its key, then disable all other access permanently; `writes` is the only writable file."""
    _limit_time(float(limits["timeout_s"]), REMOTE_THREADS)
    _limit_address_space(int(limits["memory_mb"]))
    scope = f"{grant['scope'].rstrip('/')}/"
    options = {
        "KEY_ID": grant["access_key"],
        "SECRET": grant["secret_key"],
        "SESSION_TOKEN": grant.get("session_token"),
        "REGION": grant["region"],
        "ENDPOINT": grant.get("endpoint"),
        "URL_STYLE": grant.get("url_style"),
        "SCOPE": scope,
    }
    secret = ", ".join(f"{name} {quote(str(value))}" for name, value in options.items() if value)
    connection.execute(f"CREATE SECRET {GOLD} (TYPE s3, USE_SSL {bool(grant['tls'])}, {secret})")
    for setting in (
        f"threads={REMOTE_THREADS}",
        f"memory_limit='{int(limits['memory_mb'])}MB'",
        f"http_timeout={max(1, math.ceil(float(limits['timeout_s'])))}",
        f"allowed_directories=[{quote(scope)}]",
        f"allowed_paths=[{quote(writes) if writes else ''}]",
        "enable_external_access=false",
        f"disabled_filesystems='{'' if writes else 'LocalFileSystem'}'",
        "lock_configuration=true",
    ):
        connection.execute(f"SET {setting}")


def _limit_time(timeout_s: float, threads: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = math.ceil(used.ru_utime + used.ru_stime + threads * timeout_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))


def _limit_address_space(memory_mb: int) -> None:
    memory = ADDRESS_SPACE_BYTES + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def examine(
    connection: duckdb.DuckDBPyConnection, sql: str, names: Names = NO_NAMES
) -> tuple[duckdb.Statement, Judgement]:
    """Return the one statement in `sql`, with the gold tables that it reads.

    Raises:
        Refusal: when there is not exactly one, it is not a query, or it contains forbidden elements.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise _explain(error) from None
    if len(statements) != 1:
        raise Refusal("not-allowed", f"exactly one statement is allowed, not {len(statements)}")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise Refusal("not-allowed", f"{statements[0].type.name} is not allowed, only a query is")
    tree = connection.execute(
        "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, skip_default := true)", [sql]
    ).fetchone()
    serialized = json.loads(tree[0]) if tree else {}
    if len(serialized.get("statements", [])) != 1:
        raise Refusal("not-allowed", "this form of a query is not allowed")
    try:
        return statements[0], judge(serialized["statements"][0], names.reserved, names.resident)
    except PolicyError as error:
        raise Refusal("not-allowed", str(error)) from None


def collect(connection: duckdb.DuckDBPyConnection, max_rows: int, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    columns = [{"name": name, "type": str(kind)} for name, kind, *_sizes in connection.description or []]
    rows: list[bytes] = []
    size = 0
    while batch := connection.fetchmany(min(BATCH_ROWS, max_rows + 1 - len(rows))):
        for row in batch:
            if len(rows) == max_rows:
                return {"columns": columns, "row_count": len(rows), "truncated": True}, _array(rows)
            rows.append(json.dumps(to_json(row), ensure_ascii=False, separators=(",", ":")).encode())
            size += len(rows[-1]) + 1
            if size > max_bytes:
                raise Refusal("result-size", f"the result is larger than {max_bytes} bytes; select less")
    return {"columns": columns, "row_count": len(rows), "truncated": False}, _array(rows)


def _array(rows: list[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"


def _explain(error: duckdb.Error) -> Refusal:
    text = str(error)[:MAX_DETAIL_CHARACTERS]
    if isinstance(error, duckdb.OutOfMemoryException):
        return Refusal("memory", "the query needs more memory than it may use")
    if isinstance(error, duckdb.PermissionException):
        return Refusal("not-allowed", "the statement reaches for something outside the gold tier")
    # Read errors contain addresses, files and requests: the caller gets the fact without them.
    if isinstance(error, duckdb.IOException | duckdb.HTTPException) or "://" in text:
        return Refusal("storage", "a file of the table cannot be read")
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        return Refusal("internal", "the engine failed on this statement")
    return Refusal("invalid", text)
