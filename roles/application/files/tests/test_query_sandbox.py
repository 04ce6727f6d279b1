# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's own restrictions hold even for statements that the policy would always refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import services

# The work of the child without the policy: each statement goes to the locked engine unchanged.
PROBE = """
import json, os, sys
from crypto_lakehouse.query import query_forkserver, sandbox
request = json.load(sys.stdin)
query_forkserver.harden(os.getppid())
connection = sandbox.open_engine()
sandbox.lock(connection, request["grant"], request["limits"])
outcomes = []
for statement in request["statements"]:
    try:
        outcomes.append([True, repr(connection.execute(statement).fetchall())])
    except Exception as error:
        outcomes.append([False, f"{type(error).__name__}: {error}"])
json.dump(outcomes, sys.stdout)
"""
ENVIRONMENT_SECRET = "environment-secret-of-the-process"


@pytest.fixture(scope="module")
def grant(object_store: services.ObjectStore) -> dict[str, Any]:
    keys = object_store.credentials["query"]
    return {
        "scope": object_store.buckets["gold_warehouse"],
        "access_key": keys.access_key,
        "secret_key": keys.secret_key,
        "region": "us-east-1",
        "endpoint": urlsplit(object_store.endpoint).netloc,
        "url_style": "path",
        "tls": False,
    }


def locked(grant: dict[str, Any], *statements: str) -> list[tuple[bool, str]]:
    """Return for each statement whether it ran, and its rows or its error."""
    limits = {"memory_mb": 128, "timeout_s": 20, "max_result_bytes": 100_000}
    request = {"grant": grant, "limits": limits, "statements": statements}
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", PROBE],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={"SECRET_OF_THE_ENVIRONMENT": ENVIRONMENT_SECRET},
        timeout=60,
        check=True,
    )
    answers: list[tuple[bool, str]] = [tuple(answer) for answer in json.loads(done.stdout)]
    return answers


def test_no_file_of_the_machine_can_be_read(grant: dict[str, Any], tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("password\nhunter2\n")
    outcomes = locked(
        grant,
        f"FROM read_text('{secret}')",
        f"FROM read_blob('file://{secret}')",
        f"FROM read_csv('{secret}')",
        f"FROM '{secret}'",
        f"FROM glob('{tmp_path}/*')",
        f"FROM sniff_csv('{secret}')",
        "FROM read_text('/proc/self/environ')",
        "FROM read_blob('/proc/self/cmdline')",
        "FROM read_text('/dev/stdin')",
        f"FROM iceberg_scan('{tmp_path}')",
        f"ATTACH '{tmp_path}/x.db' AS x",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"EXPORT DATABASE '{tmp_path}/export'",
        f"IMPORT DATABASE '{tmp_path}'",
    )
    assert [text for ran, text in outcomes if ran] == []
    assert not [text for _ran, text in outcomes if "hunter2" in text or ENVIRONMENT_SECRET in text]
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_no_address_but_the_gold_tables_is_asked(
    grant: dict[str, Any],
    object_store: services.ObjectStore,
    candles: services.Candles,
    market_stub: services.HttpStub,
) -> None:
    before = len(market_stub.requests)
    gold, bronze = grant["scope"], object_store.buckets["bronze_bucket"]
    outcomes = locked(
        grant,
        f"FROM read_text('{market_stub.url}/api/v3/ping')",
        f"FROM '{market_stub.url}/x.csv'",
        "FROM read_text('http://169.254.169.254/latest/meta-data/')",
        "FROM read_text('https://example.org/x')",
        f"FROM read_text('{object_store.master_url}/cluster/status')",
        f"FROM read_text('s3://{bronze}/raw/secret.txt')",
        f"FROM read_text('{gold}/../{bronze}/raw/secret.txt')",
        f"FROM read_text('{gold}-other/x')",
        f"FROM read_text('s3a://{bronze}/raw/secret.txt')",
        f"FROM read_text('r2://{bronze}/raw/secret.txt')",
        f"FROM glob('s3://{bronze}/**')",
        f"ATTACH '{market_stub.url}' AS x (TYPE iceberg)",
        "FROM iceberg_scan('http://127.0.0.1:1/x')",
    )
    assert [text for ran, text in outcomes if ran] == []
    assert not [text for _ran, text in outcomes if candles.secret in text]
    assert market_stub.requests[before:] == []


def test_nothing_of_the_engine_can_be_changed(grant: dict[str, Any]) -> None:
    outcomes = locked(
        grant,
        "INSTALL spatial",
        "LOAD spatial",
        "LOAD '/tmp/x.duckdb_extension'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SET threads = 64",
        "SET allowed_directories = ['/']",
        "SET lock_configuration = false",
        "SET allow_unsigned_extensions = true",
        "SET temp_directory = '/tmp'",
        "SET enable_logging = true",
        "SET disabled_filesystems = ''",
        "RESET memory_limit",
        "PRAGMA memory_limit='100GB'",
    )
    assert [text for ran, text in outcomes if ran] == []


def test_the_keys_cannot_write_to_gold(grant: dict[str, Any]) -> None:
    ((ran, text),) = locked(grant, f"COPY (SELECT 1) TO '{grant['scope']}/gold/x.csv'")
    assert not ran
    assert "403" in text


def test_the_secret_key_is_not_shown_by_anything(grant: dict[str, Any]) -> None:
    outcomes = locked(
        grant,
        "FROM duckdb_secrets()",
        "FROM duckdb_settings()",
        "SELECT current_setting('s3_secret_access_key')",
        "FROM duckdb_logs",
        "FROM duckdb_secrets(redact := false)",
    )
    assert not [text for _ran, text in outcomes if grant["secret_key"] in text]


def test_memory_is_limited_by_the_engine(grant: dict[str, Any]) -> None:
    ((ran, text),) = locked(grant, "SELECT list(repeat('x', 1000000) || i::VARCHAR) FROM range(1000) t(i)")
    assert not ran
    assert "OutOfMemory" in text
