# SPDX-License-Identifier: GPL-3.0-or-later
"""Small real servers with scripted answers."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import socketserver
import ssl
import threading
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET = "s3cr3t-pa55word"


@dataclass(frozen=True)
class Answer:
    """An answer of a path: after `delay_s`, to clients with `password`."""

    body: object = ""
    status: int = 200
    delay_s: float = 0.0
    password: str | None = None

    def content(self) -> bytes:
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@contextmanager
def http_server(answers: Mapping[str, Answer], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Return the URL of a server on the loopback address."""
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0], Answer(status=404))
            stopping.wait(answer.delay_s)
            account = base64.b64encode(f"lakehouse:{answer.password}".encode()).decode()
            allowed = answer.password is None or self.headers.get("Authorization") == f"Basic {account}"
            self.send_response(answer.status if allowed else 401)
            self.end_headers()
            try:
                self.wfile.write(answer.content() if allowed else b"")
            except OSError:
                return

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return TLS with an untrusted certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.pem").write_bytes(private + certificate.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def supervisor(socket_path: Path, processes: Any, log: str | None = None) -> Iterator[None]:
    """A supervisord that runs `processes`; it has no log without `log`."""

    def answer_to(method: str) -> str:
        if method == "supervisor.getAllProcessInfo":
            return xmlrpc.client.dumps((processes,), methodresponse=True)
        if method == "supervisor.readLog" and log is not None:
            return xmlrpc.client.dumps((log,), methodresponse=True)
        return xmlrpc.client.dumps(xmlrpc.client.Fault(20, "NO_FILE"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            _arguments, method = xmlrpc.client.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answer_to(str(method)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base
            return

    socket_path.parent.mkdir(parents=True, exist_ok=True)
    server = _UnixServer(str(socket_path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
