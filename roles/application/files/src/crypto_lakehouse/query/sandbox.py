# SPDX-License-Identifier: GPL-3.0-or-later
"""The child: a process that runs one statement and ends.

It has an empty environment, gets read-only keys of the gold tier over its channel, locks its engine, says so, and only
then is given the statement. It is ready before it is needed, and never serves twice.
"""

from __future__ import annotations

import importlib.util
import json
import math
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

# The engine alone: the package around it takes twice as long to import, and starts a thread and a default
# connection that are of no use here. The version is pinned, and the tests run every path of it.
import _duckdb as duckdb

from crypto_lakehouse.query.frames import FrameError, read_message, write_frame
from crypto_lakehouse.query.policy import GOLD, PolicyError, gold_tables
from crypto_lakehouse.query.values import to_json

EXTENSIONS: Final = ("httpfs", "avro", "iceberg")
THREADS: Final = 2
BATCH_ROWS: Final = 256
ADDRESS_SPACE_BYTES: Final = 1_610_612_736
"""Room for libraries, stacks and DuckDB's address arithmetic beside the memory that the query may use."""
MAX_DETAIL_CHARACTERS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of this program
    """The statement is not run, or not to its end. `kind` is a word of the parent's table of answers."""

    kind: str
    detail: str


def run(requests: BinaryIO, answers: BinaryIO) -> int:
    """Serve one statement; returns the exit status of the process, 0 when an answer was given."""
    connection = open_engine()
    write_frame(answers, b'{"ready": true}')
    try:
        lease = read_message(requests)
        lock(connection, lease["grant"], lease["limits"])
        write_frame(answers, b'{"locked": true}')
        request = read_message(requests)
    except FrameError:
        return 0
    try:
        description, rows = serve(connection, request, requests, answers)
    except Refusal as refusal:
        write_frame(answers, json.dumps({"refused": refusal.kind, "detail": refusal.detail}).encode())
        return 0
    write_frame(answers, json.dumps(description).encode())
    write_frame(answers, rows)
    return 0


def open_engine() -> duckdb.DuckDBPyConnection:
    """Return an engine with the extensions loaded and everything off that no query needs.

    The extensions are taken from the Python packages that the lock file names by their hash, so their own
    signature is not computed over 80 MB once more at each start.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "allow_unsigned_extensions": "true",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "threads": str(THREADS),
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
        "TimeZone='UTC'",
        "http_retries=1",
    ):
        connection.execute(f"SET {setting}")
    connection.execute(f"CREATE SCHEMA {GOLD}")
    connection.execute(f"SET schema='{GOLD}'")
    return connection


def _extension_file(name: str) -> Path:
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(f"duckdb_extension_{name}")
    folder = Path(package.submodule_search_locations[0])
    return folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def quote(text: str) -> str:
    """Return `text` as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def serve(
    connection: duckdb.DuckDBPyConnection, request: Mapping[str, Any], requests: BinaryIO, answers: BinaryIO
) -> tuple[dict[str, Any], bytes]:
    """Run the request's statement on an engine that is locked.

    Returns a description of the result and its rows as a JSON array of arrays.

    Raises:
        Refusal: when the statement is not allowed, wrong, or goes beyond a limit.
    """
    statement, tables = examine(connection, str(request["sql"]))
    write_frame(answers, json.dumps({"tables": sorted(tables)}).encode())
    locations: Mapping[str, str] = read_message(requests)["locations"]
    try:
        for name in sorted(tables):
            view = f'{GOLD}."{name.replace(chr(34), chr(34) * 2)}"'
            connection.execute(f"CREATE VIEW {view} AS FROM iceberg_scan({quote(locations[name])})")
        connection.execute(statement)
        return _collect(connection, int(request["max_rows"]), int(request["max_result_bytes"]))
    except duckdb.Error as error:
        raise _explain(error) from None
    except MemoryError:
        raise Refusal("memory", "the query needs more memory than it may use") from None


def lock(connection: duckdb.DuckDBPyConnection, grant: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
    """Give the engine its keys, then take away everything else, for good."""
    _limit_process(limits)
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
        f"memory_limit='{int(limits['memory_mb'])}MB'",
        f"http_timeout={max(1, math.ceil(float(limits['timeout_s'])))}",
        f"allowed_directories=[{quote(scope)}]",
        "enable_external_access=false",
        "disabled_filesystems='LocalFileSystem'",
        "lock_configuration=true",
    ):
        connection.execute(f"SET {setting}")


def _limit_process(limits: Mapping[str, Any]) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = math.ceil(used.ru_utime + used.ru_stime + THREADS * float(limits["timeout_s"])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    memory = ADDRESS_SPACE_BYTES + int(limits["memory_mb"]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def examine(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[duckdb.Statement, frozenset[str]]:
    """Return the one statement in `sql` and the gold tables that it reads.

    Raises:
        Refusal: when there is not exactly one, it is not a query, or it contains what is not allowed.
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
        return statements[0], gold_tables(serialized["statements"][0], _own_views(connection))
    except PolicyError as error:
        raise Refusal("not-allowed", str(error)) from None


def _own_views(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute("SELECT view_name FROM duckdb_views()").fetchall())


def _collect(connection: duckdb.DuckDBPyConnection, max_rows: int, max_bytes: int) -> tuple[dict[str, Any], bytes]:
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
    # Errors of reading name addresses, files and requests: the caller gets the fact, not the place.
    if isinstance(error, duckdb.IOException | duckdb.HTTPException) or "://" in text:
        return Refusal("storage", "a file of the table cannot be read")
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        return Refusal("internal", "the engine failed on this statement")
    return Refusal("invalid", text)
