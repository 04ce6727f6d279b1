# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a Kubernetes API on loopback over TLS: lists, reads and deletes, with slow finalizers."""

from __future__ import annotations

import base64
import datetime as dt
import http.server
import ipaddress
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Body = dict[str, Any]
Key = tuple[str, str, str]
_PATH = re.compile(r"(/api/v1|/apis/[^/]+/v1)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?")
_GROUPS = {
    "ingresses": "/apis/networking.k8s.io/v1",
    "replicasets": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "deployments": "/apis/apps/v1",
    "daemonsets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "cronjobs": "/apis/batch/v1",
}


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
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
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / "kubernetes.crt", folder / "kubernetes.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@dataclass
class KubernetesApi:
    """The API. finalizing: by object, the number of lists that it survives after its deletion.

    tokens: tokens of the callers. status: status of every response, if set. on_gone: called when an object is deleted.
    """

    folder: Path
    objects: dict[Key, Body] = field(default_factory=dict)
    finalizing: dict[Key, int] = field(default_factory=dict)
    deleted: list[Key] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    status: int = 200
    on_gone: Callable[[Key], object] = lambda _key: None
    page: int = 2

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        certificate, key = make_certificate(self.folder)
        self.authority = certificate.read_bytes()
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api._serve(self)

            def do_DELETE(self) -> None:
                api._serve(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # A handshake in accept would let one slow client block all others.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    @property
    def authority_data(self) -> str:
        """Return the certificate authority in the format of EKS."""
        return base64.b64encode(self.authority).decode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def kubeconfig(self, folder: Path, **cluster: Any) -> Path:
        """Write a kubeconfig for this API; `cluster` replaces fields of its cluster entry."""
        given = {"server": self.url, "certificate-authority-data": self.authority_data, **cluster}
        path = folder / "kubeconfig"
        data = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tunnel",
            "clusters": [{"name": "lake", "cluster": {name: value for name, value in given.items() if value}}],
            "users": [{"name": "admin", "user": {"token": "of-the-kubeconfig"}}],
            "contexts": [{"name": "tunnel", "context": {"cluster": "lake", "user": "admin"}}],
        }
        path.write_text(json.dumps(data), encoding="utf-8")
        return path

    def add(self, plural: str, name: str, spec: Body, owner: tuple[str, str] | None = None) -> Key:
        """Add an object, with its controller as (kind, name)."""
        namespace = "" if plural == "persistentvolumes" else "lake"
        metadata: Body = {"name": name, "namespace": namespace or None, "uid": f"uid-{name}"}
        if owner:
            reference = {"apiVersion": "v1", "kind": owner[0], "name": owner[1], "uid": "u", "controller": True}
            metadata["ownerReferences"] = [reference]
        key = (plural, namespace, name)
        self.objects[key] = {"metadata": metadata, "spec": spec}
        return key

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            self.tokens.append(handler.headers.get("Authorization", "").removeprefix("Bearer "))
            status, body = self._answer(handler.command, urllib.parse.urlsplit(handler.path))
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _answer(self, method: str, url: urllib.parse.SplitResult) -> tuple[int, Body]:
        match = _PATH.fullmatch(url.path)
        if self.status != 200:
            return self.status, {"kind": "Status", "message": "made by a test"}
        if match is None or match[1] != _GROUPS.get(match[3], "/api/v1"):
            return 404, {"kind": "Status", "message": f"there is nothing at {url.path}"}
        if match[4] is None:
            return 200, self._listed(match[3], dict(urllib.parse.parse_qsl(url.query)))
        key = (match[3], match[2] or "", match[4])
        if key not in self.objects:
            return 404, {"kind": "Status", "message": f"{key} not found"}
        if method == "DELETE":
            self._delete(key)
            return 200, {"kind": "Status"}
        return 200, self.objects[key]

    def _delete(self, key: Key) -> None:
        self.deleted.append(key)
        self.objects[key]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self.finalizing.setdefault(key, 0)

    def _listed(self, plural: str, query: dict[str, str]) -> Body:
        start = int(query.get("continue", 0))
        if start == 0:
            self._finalize(plural)
        found = [body for key, body in sorted(self.objects.items()) if key[0] == plural]
        end = start + self.page
        metadata = {"continue": str(end)} if end < len(found) else {}
        return {"metadata": metadata, "items": found[start:end]}

    def _finalize(self, plural: str) -> None:
        for key in [key for key in self.finalizing if key[0] == plural and key in self.objects]:
            if self.objects[key]["metadata"].get("deletionTimestamp"):
                self.finalizing[key] -= 1
                if self.finalizing[key] < 0:
                    del self.objects[key], self.finalizing[key]
                    self.on_gone(key)
