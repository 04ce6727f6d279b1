# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTPS port of a server: the requests of joining nodes, and the Kubernetes API behind it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.k3s.standin import tls
from tests.k3s.standin.api import NOT_FOUND, SECRETS, Api, ApiError, Object
from tests.k3s.standin.common import NODE_PASSWORD, FatalError
from tests.k3s.standin.etcd import EtcdError, Member
from tests.k3s.standin.settings import Settings

SERVER, AGENT, NODES, ADMINS = "k3s:server", "k3s:agent", "system:nodes", "system:masters"
FOR_SERVERS = ("server-bootstrap", "info", "snapshot")


def hash_password(password: str, salt: bytes) -> str:
    """Return the hash of a node password in K3s' format."""
    digest = hashlib.scrypt(password.encode(), salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=64)
    return f"$1:{salt.hex()}:15:8:1:{base64.b64encode(digest).decode().rstrip('=')}"


@dataclass
class Supervisor:
    """The state shared by requests. `api` is None until etcd and the API server are ready."""

    settings: Settings
    member: Member
    bootstrap: Callable[[], str]
    snapshots: Callable[[Object], Object]
    api: Api | None = None

    def start(self) -> None:
        """Listen with the server's certificate; client certificates are optional."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls / "serving-kube-apiserver.crt", self.tls / "serving-kube-apiserver.key")
        context.load_verify_locations(self.tls / "client-ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        address = (self.settings.text("bind-address") or "0.0.0.0", int(self.settings.text("https-listen-port")))  # noqa: S104
        try:
            server = Listener(address, type("Bound", (Handler,), {"supervisor": self}))
        except OSError as error:
            raise FatalError(f"listen tcp {address[0]}:{address[1]}: bind: {error.strerror}") from error
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    @property
    def tls(self) -> Path:
        return self.settings.server_dir / "tls"

    def ready(self) -> Api:
        """Return the API; raise ApiError before it is ready."""
        if self.api is None:
            raise ApiError(503, "ServiceUnavailable", "runtime core not ready")
        return self.api

    def roles(self, headers: Message, certificate: Mapping[str, Any] | None) -> set[str]:
        """Return the roles of a request; raise ApiError for wrong credentials."""
        if certificate and certificate.get("subject"):
            return {value for part in certificate["subject"] for _key, value in part}
        kind, _separator, credentials = (headers.get("Authorization") or "").partition(" ")
        user, _separator, password = (
            base64.b64decode(credentials).decode().partition(":") if kind == "Basic" else ("", "", "")
        )
        for line in (self.settings.server_dir / "cred" / "passwd").read_text(encoding="utf-8").splitlines():
            expected, name, _uid, role = line.split(",")
            if name == user and hmac.compare_digest(password.encode(), expected.encode()):
                return {role}
        raise ApiError(401, "Unauthorized", "not authorized")

    def node_certificate(self, headers: Message, client: bool) -> str:
        """Return certificate and key of a kubelet with the correct node password."""
        name, password = headers.get("k3s-Node-Name", "").lower(), headers.get("k3s-Node-Password", "")
        if not name or not password:
            raise ApiError(400, "BadRequest", "node name or node password not set")
        if name != self.settings.node_name:
            self.ensure_secret(name, password)
        elif NODE_PASSWORD.read_text(encoding="utf-8").strip() != password:
            raise ApiError(403, "Forbidden", "unable to verify local node password")
        names = [name, "localhost", "127.0.0.1", *filter(None, headers.get("k3s-Node-IP", "").split(","))]
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "node"
            if client:
                tls.issue_certificate(target, f"/O={NODES}/CN=system:node:{name}", "clientAuth", self.tls / "client-ca")
            else:
                tls.issue_certificate(target, f"/CN={name}", "serverAuth", self.tls / "server-ca", names)
            return "".join(Path(f"{target}.{suffix}").read_text(encoding="utf-8") for suffix in ("crt", "key"))

    def ensure_secret(self, name: str, password: str) -> None:
        """Create the Secret of a node password, or verify the password with it."""
        api, secret = self.ready(), f"{name}.node-password.k3s"
        try:
            found = api.request("GET", f"{SECRETS}/{secret}")
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            hashed = base64.b64encode(hash_password(password, os.urandom(8)).encode()).decode()
            api.request("POST", SECRETS, {"metadata": {"name": secret}, "immutable": True, "data": {"hash": hashed}})
            return
        hashed = base64.b64decode(found["data"]["hash"]).decode()
        if hash_password(password, bytes.fromhex(hashed.split(":")[1])) != hashed:
            raise ApiError(403, "Forbidden", f"unable to verify hash for node '{name}': hash does not match")

    def supervise(self, path: str, headers: Message, roles: set[str], text: str) -> str:
        """Return the answer to a request below /v1-k3s or /db."""
        name = path.rpartition("/")[2]
        if not roles & {SERVER, ADMINS} and (name in FOR_SERVERS or not roles & {AGENT, NODES}):
            raise ApiError(403, "Forbidden", "forbidden")
        port = int(self.settings.text("https-listen-port"))
        answers: dict[str, Callable[[], str]] = {
            "server-bootstrap": self.bootstrap,
            "config": lambda: json.dumps(
                {"Critical": self.settings.critical(), "SupervisorPort": port, "HTTPSPort": port}
            ),
            "apiservers": lambda: json.dumps([f"{host}:{port}" for host in self._voters()]),
            "readyz": self._core,
            "info": self.members,
            "snapshot": lambda: json.dumps(self.snapshots(json.loads(text))),
            "client-kubelet.crt": lambda: self.node_certificate(headers, client=True),
            "serving-kubelet.crt": lambda: self.node_certificate(headers, client=False),
            "client-ca.crt": (self.tls / "client-ca.crt").read_text,
            "server-ca.crt": (self.tls / "server-ca.crt").read_text,
        }
        if name not in answers:
            raise ApiError(NOT_FOUND, "NotFound", f"{path} not found")
        return answers[name]()

    def _core(self) -> str:
        self.ready()
        return "ok"

    def members(self) -> str:
        """Return the members in the format for joining servers, which requires a quorum."""
        try:
            self.member.client.check_quorum(2)
            return json.dumps({"members": self.member.client.members()})
        except EtcdError as error:
            raise ApiError(500, "InternalError", f"failed to get etcd MemberList: {error}") from error

    def _voters(self) -> list[str | None]:
        self.ready()
        voters = [each for each in self.member.client.members() if each.get("clientURLs") and not each.get("isLearner")]
        return [urlsplit(each["clientURLs"][0]).hostname for each in voters]


class Listener(ThreadingHTTPServer):
    """A server without tracebacks of failed handshakes: clients that do not trust the CA yet cause them."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    supervisor: Supervisor
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *words: object) -> None:
        """Write no access log."""

    def _handle(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        parts, status = urlsplit(self.path), 200
        try:
            answer = self._route(unquote(parts.path), dict(parse_qsl(parts.query)), text)
        except (ApiError, EtcdError, FatalError, OSError, ValueError, KeyError) as error:
            refused = error if isinstance(error, ApiError) else ApiError(500, "InternalError", str(error))
            status, answer = refused.code, json.dumps(refused.status())
        data = answer.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if answer.startswith(("{", "[")) else "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - names of the base class

    def _route(self, path: str, query: dict[str, str], text: str) -> str:
        state = self.supervisor
        if path == "/ping":
            return "pong"
        if path == "/cacerts":
            return (state.tls / "server-ca.crt").read_text(encoding="utf-8")
        if path == "/db/info" and self.client_address[0] == "127.0.0.1":
            return state.members()
        roles = state.roles(self.headers, self.connection.getpeercert())
        if path.startswith(("/v1-k3s/", "/db/")):
            return state.supervise(path, self.headers, roles, text)
        if not roles & {ADMINS, NODES}:
            raise ApiError(403, "Forbidden", "forbidden")
        if path in ("/readyz", "/livez", "/healthz"):
            return self._health(path)
        kind = self.headers.get("Content-Type") or ""
        if text and "json" not in kind:
            raise ApiError(415, "UnsupportedMediaType", f"the API server of the stand-in does not read {kind}")
        return json.dumps(
            state.ready().request(self.command, path, json.loads(text) if text else None, query, "merge-patch" in kind)
        )

    def _health(self, path: str) -> str:
        try:
            self.supervisor.ready().check()
        except EtcdError as error:
            raise ApiError(500, "InternalError", f"[-]etcd failed: reason withheld\n{path[1:]} check failed") from error
        return "ok"
