# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of a local user without credentials to a listener: those known to change state or to disclose data."""

from __future__ import annotations

import base64
import codecs
import contextlib
import http.client
import json
import os
import pwd
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# It encodes host names; the user `nobody` cannot read Python's own files later.
codecs.lookup("idna")
TIMEOUT_S = 10.0
# A listener without an answer by then does not answer at all.
ANSWER_LIMIT_S = 2.0
METHODS = ("GET", "POST", "PUT", "DELETE")
# Of any program: metrics, profilers, documentation, and pages with its start parameters.
COMMON = (
    "/",
    "/config",
    "/debug/pprof/",
    "/debug/pprof/cmdline",
    "/debug/events",
    "/debug/requests",
    "/debug/vars",
    "/docs",
    "/health",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/redoc",
    "/status",
)
# By service of the catalogue; the collection `scratch` is the bucket of that name.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "object-store": (
        "/col/delete?collection=scratch",
        "/dir/assign",
        "/dir/lookup?volumeId=1",
        "/dir/status",
        "/vol/grow?count=1&collection=scratch",
        "/vol/status",
        "/vol/vacuum?garbageThreshold=0.0001",
        "/submit",
        "/cluster/status",
        "/stats/health",
        "/stats/disk",
        "/ui/index.html",
        "/admin/assign_volume?volume=900&replication=000",
        "/admin/vacuum/check?volume=1",
        "/delete?fid=1,01637037d6",
        "/1,01637037d6",
        "/buckets/",
        "/buckets/scratch/kept?recursive=true",
        "/scratch",
        "/scratch/kept",
        "/scratch?policy",
        "/?Action=CreateAccessKey&UserName=admin",
    ),
    "iceberg-catalog": (
        "/v1/config",
        "/v1/namespaces",
        "/v1/namespaces/gold",
        "/v1/namespaces/gold/tables/ohlcv_daily",
    ),
    "prometheus": (
        "/-/quit",
        "/-/reload",
        "/api/v1/admin/tsdb/delete_series?match[]=up",
        "/api/v1/query?query=up",
        "/api/v1/status/config",
        "/api/v1/status/flags",
        "/api/v1/write",
        "/federate?match[]=up",
        "/graph",
    ),
    "alertmanager": ("/-/reload", "/api/v2/alerts", "/api/v2/silences", "/api/v2/status"),
    "node-exporter": (),
    "orchestrator": (
        "/api/admin/database/clear?confirm=true",
        "/api/admin/settings",
        "/api/block_documents/filter",
        "/api/deployments/filter",
        "/api/docs",
        "/api/flows/filter",
        "/api/health",
        "/api/metrics",
        "/api/ready",
        "/api/variables/",
        "/api/work_pools/lakehouse",
        "/ui-settings",
        "/v2/dashboard",
    ),
    "worker": (),
    "backup": ("/sets", "/create", "/reload"),
    "api": ("/live", "/ready", "/v1/query", "/v1/tables", "/v1/results/1"),
}

Answer = tuple[str, str, str, str]
"""Scheme, method, path, and the result: a status, or the reason of a missing answer."""


def as_nobody(work: Callable[[], Any]) -> Any:
    """Return the JSON result of `work`, run in a process of the user `nobody` without any of this process' groups."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            said = told.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, f"the attack itself failed: {status}"
        return json.loads(said)
    status = 1
    try:
        account = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.chdir("/")
        with os.fdopen(writing, "wb") as telling:
            telling.write(json.dumps(work()).encode())
        status = 0
    except Exception as error:  # noqa: BLE001 - what went wrong in the child is told where the test's output is
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def requests(address: str, port: int, paths: tuple[str, ...]) -> Iterator[Answer]:
    """Yield the result of each method and path, in plain text and by TLS without a certificate."""
    for scheme in ("http", "https"):
        first = _asked(scheme, address, port, "GET", "/")
        if first in ("TLS", "SSLError"):
            # The connection itself was refused, independent of the request.
            yield scheme, "GET", "/", first
            continue
        for path in dict.fromkeys([*COMMON, *paths]):
            for method in METHODS:
                yield scheme, method, path, _asked(scheme, address, port, method, path)


def _asked(scheme: str, address: str, port: int, method: str, path: str) -> str:
    connection: http.client.HTTPConnection
    if scheme == "https":
        connection = http.client.HTTPSConnection(address, port, timeout=TIMEOUT_S, context=_trusting())
    else:
        connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, None if method == "GET" else b"{}", {"Content-Type": "application/json"})
            answer = connection.getresponse()
            told = answer.read(200)
        except ssl.SSLError:
            return "SSLError"
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        return _verdict(answer.status, told)


def _verdict(status: int, told: bytes) -> str:
    if status == 400 and b"HTTPS server" in told:
        return "TLS"
    # The S3 gateway handles a POST as a request for temporary credentials, and this one has no existing credentials.
    return "no action" if status == 400 and b"<Code>InvalidAction</Code>" in told else str(status)


def speaks_grpc(address: str, port: int) -> bool:
    """Return whether a listener starts HTTP/2 with a client without a certificate, in plain text or by TLS."""
    return any(_greets(address, port, tls) for tls in (False, True))


def _greets(address: str, port: int, tls: bool) -> bool:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    try:
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(socket.create_connection((address, port), TIMEOUT_S))
            stream = stack.enter_context(_trusting().wrap_socket(plain)) if tls else plain
            stream.sendall(preface)
            answer = stream.recv(9)
    except OSError:
        return False
    # A frame's type is its fourth byte; a server begins with SETTINGS.
    return len(answer) >= 4 and answer[3] == 4


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def database_lets_in(address: str, port: int, user: str) -> bool:
    """Return whether PostgreSQL accepts a user without a password (message R with code 0, protocol 3.0)."""
    words = f"user\0{user}\0database\0postgres\0\0".encode()
    with socket.create_connection((address, port), TIMEOUT_S) as stream:
        stream.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
        answer = stream.recv(9)
    return answer[:1] == b"R" and answer[5:9] == b"\0\0\0\0"


def private_protocol_says(address: str, port: int) -> str:
    """Return the answers of a listener with a private protocol to a request, a guessed token and noise."""
    answers = b""
    for attempt in (b"GET / HTTP/1.0\r\n\r\n", b"0" * 32 + b"\n", b"0" * 32, bytes(64)):
        with socket.create_connection((address, port), TIMEOUT_S) as stream, contextlib.suppress(OSError):
            stream.settimeout(ANSWER_LIMIT_S)
            stream.sendall(attempt)
            answers += stream.recv(64)
    return answers.decode("latin-1")


def websocket_says(address: str, port: int, path: str, message: str) -> str:
    """Return the answer of a websocket to its first message, which is sent without credentials."""
    key = base64.b64encode(b"0123456789abcdef").decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {address}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: prefect",
        f"Sec-WebSocket-Key: {key}",
    ]
    frame = bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message.encode()
    received = b""
    with socket.create_connection((address, port), TIMEOUT_S) as stream, contextlib.suppress(TimeoutError):
        stream.settimeout(ANSWER_LIMIT_S)
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        received += stream.recv(4096)
        stream.sendall(frame)
        while chunk := stream.recv(4096):
            received += chunk
    return received.decode("latin-1")


def opens(path: str) -> str:
    """Return the result of a connection to a unix socket: `open`, or the error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(TIMEOUT_S)
        try:
            stream.connect(path)
        except OSError as error:
            return type(error).__name__
        return "open"
