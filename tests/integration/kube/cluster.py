# SPDX-License-Identifier: GPL-3.0-or-later
"""A real API server for tests: the cluster of KUBECONFIG, or one that is started from binaries.

The binaries are kube-apiserver and etcd, and optionally kube-controller-manager, in the folder of KUBEBUILDER_ASSETS
(the convention of envtest, https://book.kubebuilder.io/reference/envtest.html). They listen on loopback, write to one
folder and end with the process that started them. There is no node: a pod stays pending unless a test writes its
status, as a kubelet would.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection

ASSETS = "KUBEBUILDER_ASSETS"
ADMINISTRATORS = "system:masters"
_REQUIRED = ("kube-apiserver", "etcd")
_START_S = 90.0
_STOP_S = 20.0
# A program of util-linux: its child ends with the parent, for any cause.
_WRAPPER = ("setpriv", "--pdeathsig=TERM", "--")
_HOST = "127.0.0.1"
# Long enough for a healthy cluster: one whose certificate expires soon is unhealthy.
_LIFETIME = dt.timedelta(days=90)


@dataclass(frozen=True)
class Cluster:
    """An API server that tests may write to."""

    kubeconfig: Path
    name: str
    # Whether Deployments create pods and deleted namespaces become empty.
    has_controllers: bool

    def client(self, **parameters: object) -> Client:
        """Return a client with an administrator's rights. parameters: options of the modules that override these."""
        return Client(connection({"kubeconfig": str(self.kubeconfig), **parameters}))


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one test session."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> Authority:
        """Create an authority that is valid for some weeks."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        usage = x509.KeyUsage(
            **{
                word: word in ("digital_signature", "key_cert_sign", "crl_sign")
                for word in (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "key_cert_sign",
                    "crl_sign",
                    "encipher_only",
                    "decipher_only",
                )
            }
        )
        certificate = (
            _builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    def issue(self, user: str, *groups: str, lifetime: dt.timedelta = _LIFETIME) -> bytes:
        """Return certificate and key, as PEM, of a user in groups; it is also valid for the server itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        addresses = [x509.IPAddress(ipaddress.ip_address(_HOST)), x509.DNSName("localhost")]
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        certificate = (
            _builder(x509.Name(names), self.certificate.subject, key, lifetime)
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + _pem(key)

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    lifetime: dt.timedelta = _LIFETIME,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + lifetime)
    )


def _pem(
    key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@dataclass
class ControlPlane:
    """etcd, an API server and its controllers below one folder."""

    folder: Path
    assets: Path
    authority: Authority = field(default_factory=Authority.make)
    port: int = 0
    # Arguments of the API server, in addition to the required ones.
    options: dict[str, object] = field(default_factory=dict)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> Cluster:
        """Start all programs and return once the API server is ready; stop them if it does not become ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        with ExitStack() as stack:
            stack.callback(self.stop)
            self.port = free_port()
            self._start_etcd(free_port(), free_port())
            self._start_api_server()
            controllers = (self.assets / "kube-controller-manager").exists()
            if controllers:
                self._start_controllers()
            stack.pop_all()
        return Cluster(self.folder / "kubeconfig", f"kube-apiserver of {self.assets.name}", controllers)

    def stop(self) -> None:
        """Stop the programs in reverse order."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def write_kubeconfig(self, name: str, user: str, *groups: str) -> Path:
        """Write a kubeconfig for a user in groups."""
        identity = base64.b64encode(self.authority.issue(user, *groups)).decode()
        server = f"https://{_HOST}:{self.port}"
        authority = base64.b64encode(self.authority.pem).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [
                {"name": user, "user": {"client-certificate-data": identity, "client-key-data": identity}},
            ],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
            "current-context": "tests",
        }
        return self._write(name, json.dumps(content).encode())

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return path

    def _start_etcd(self, port: int, peer_port: int) -> None:
        self._etcd = f"http://{_HOST}:{port}"
        peer = f"http://{_HOST}:{peer_port}"
        self._run(
            "etcd",
            {
                "name": "default",
                "data-dir": self.folder / "etcd",
                "listen-client-urls": self._etcd,
                "advertise-client-urls": self._etcd,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": f"default={peer}",
                "unsafe-no-fsync": "true",
            },
        )
        self._until(lambda: _answers(f"{self._etcd}/health", None), "etcd")

    def _start_api_server(self) -> None:
        authority = self._write("ca.crt", self.authority.pem)
        serving = self._write("serving.pem", self.authority.issue("kube-apiserver"))
        signing_key = ec.generate_private_key(ec.SECP256R1())
        # It reads only the older form of elliptic curve keys.
        form = serialization.PrivateFormat.TraditionalOpenSSL
        self._signing = self._write("service-accounts.key", _pem(signing_key, form))
        self._run(
            "kube-apiserver",
            {
                "etcd-servers": self._etcd,
                "bind-address": _HOST,
                "secure-port": self.port,
                "external-hostname": "localhost",
                "tls-cert-file": serving,
                "tls-private-key-file": serving,
                "client-ca-file": authority,
                "authorization-mode": "RBAC",
                "service-account-issuer": "https://kubernetes.default.svc",
                "service-account-key-file": self._signing,
                "service-account-signing-key-file": self._signing,
                "service-cluster-ip-range": "10.96.0.0/16",
                "allow-privileged": "true",
                "endpoint-reconciler-type": "none",
                # Log each TLS handshake that fails, with its cause.
                "vmodule": "secure_serving=5",
                **self.options,
            },
        )
        self.write_kubeconfig("kubeconfig", "admin", ADMINISTRATORS)
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        context.load_cert_chain(self._write("admin.pem", self.authority.issue("admin", ADMINISTRATORS)))
        self._until(lambda: _answers(f"https://{_HOST}:{self.port}/readyz", context), "kube-apiserver")

    def _start_controllers(self) -> None:
        self._run(
            "kube-controller-manager",
            {
                "kubeconfig": self.folder / "kubeconfig",
                "bind-address": _HOST,
                "secure-port": 0,
                "leader-elect": "false",
                "service-account-private-key-file": self._signing,
                "root-ca-file": self.folder / "ca.crt",
            },
        )

    def _run(self, program: str, options: Mapping[str, object]) -> None:
        """Start a program that ends when this process ends, for any cause."""
        command = [*_WRAPPER, str(self.assets / program), *(f"--{name}={value}" for name, value in options.items())]
        with (self.folder / f"{program}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _until(self, is_ready: Callable[[], bool], program: str) -> None:
        deadline_s = time.monotonic() + _START_S
        while not is_ready():
            log = self.folder / f"{program}.log"
            if self._processes[-1].poll() is not None:
                raise AssertionError(f"{program} ended:\n{log.read_text(errors='replace')[-3000:]}")
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{program} did not get ready:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)


def _answers(url: str, context: ssl.SSLContext | None) -> bool:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
    )
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as listening:
        listening.bind((_HOST, 0))
        return int(listening.getsockname()[1])


def given_kubeconfig(environment: Mapping[str, str]) -> Path | None:
    """Return the file of KUBECONFIG."""
    value = environment.get("KUBECONFIG")
    return Path(value) if value else None


def given_assets(environment: Mapping[str, str], required: Sequence[str] = _REQUIRED) -> Path | None:
    """Return the folder of KUBEBUILDER_ASSETS; raise if programs are missing in it."""
    value = environment.get(ASSETS)
    if not value:
        return None
    missing = [program for program in required if not (Path(value) / program).exists()]
    if missing:
        raise FileNotFoundError(f"{ASSETS}={value} lacks {', '.join(missing)}")
    return Path(value)
