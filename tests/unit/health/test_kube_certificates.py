# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: expired, expiring, or broken; their keys are never read."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.answers import NoAnswerError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.checks import Thresholds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.certificates import (
    TlsSecret,
    judge_secret,
    read_der,
    serving_certificate,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.connection import Connection

NOW = dt.datetime(2027, 1, 15, 8, tzinfo=dt.UTC)
LIMITS = Thresholds()


def certificate(days: float, begins: dt.datetime = NOW - dt.timedelta(days=60), name: str = "api.example.com") -> bytes:
    """Return a certificate in PEM that is valid for some days from NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(NOW + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)


def secret(pem: bytes, **data: str) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "tls"}
    return {"metadata": metadata, "data": {"tls.crt": base64.b64encode(pem).decode(), "tls.key": "not a key", **data}}


@pytest.mark.parametrize(
    ("pem", "status", "detail"),
    [
        (certificate(-3), "unhealthy", "expired 3 d ago (api.example.com)"),
        (certificate(3), "unhealthy", "expires in 3 d (api.example.com), needs 14 d"),
        (certificate(20), "degraded", "expires in 20 d (api.example.com), should be renewed"),
        (certificate(60, name=""), "healthy", "expires in 60 d"),
        (certificate(90) + certificate(5, name="CA"), "unhealthy", "expires in 5 d (CA), needs 14 d"),
        (certificate(90, NOW + dt.timedelta(days=2)), "unhealthy", "is not valid before 2 d from now"),
        (b"", "unhealthy", "tls.crt cannot be read: it contains no certificate"),
    ],
)
def test_a_certificate_is_judged_by_the_part_of_its_chain_that_ends_first(pem: bytes, status: str, detail: str) -> None:
    check = judge_secret(TlsSecret.of(secret(pem)), NOW.timestamp(), LIMITS)
    assert (check.name, check.status, check.detail) == ("certificates/shop/tls", status, detail)


@pytest.mark.parametrize("broken", ["?", base64.b64encode(b"-----BEGIN CERTIFICATE-----\nx").decode(), None])
def test_what_is_no_certificate_is_unhealthy(broken: Any) -> None:
    found = secret(b"")
    found["data"]["tls.crt"] = broken
    check = judge_secret(TlsSecret.of(found), NOW.timestamp(), LIMITS)
    assert check.status == "unhealthy"
    assert check.detail.startswith("tls.crt cannot be read: ")


def test_nothing_of_the_key_is_kept() -> None:
    kept = TlsSecret.of(secret(certificate(90), **{"tls.key": base64.b64encode(b"PRIVATE").decode()}))
    assert "PRIVATE" not in repr(kept)
    assert set(vars(kept)) == {"namespace", "name", "pem"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    """A TLS server on loopback, by port and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "server.pem").write_bytes(private + signed.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_shake_hands, args=(listening, context))
        thread.start()
        yield listening.getsockname()[1], signed.public_bytes(pem)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _shake_hands(listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            accepted, _address = listening.accept()
        except OSError:
            return
        with accepted:
            try:
                context.wrap_socket(accepted, server_side=True).close()
            except OSError:
                continue


def test_the_api_servers_own_certificate_is_read_in_a_handshake_that_verifies_it(server: tuple[int, bytes]) -> None:
    port, pem = server
    connection = Connection(f"https://localhost:{port}", authority=pem.decode())
    der = serving_certificate(connection, 5.0)
    assert der is not None
    assert read_der(der).subject == "server"
    with pytest.raises(NoAnswerError, match="certificate is not trusted"):
        serving_certificate(Connection(f"https://localhost:{port}", authority=certificate(9).decode()), 5.0)


def test_without_tls_there_is_no_certificate_to_judge() -> None:
    assert serving_certificate(Connection("http://127.0.0.1:8001"), 1.0) is None
    assert serving_certificate(Connection("https://k:6443", proxy="socks5://127.0.0.1:1"), 1.0) is None
