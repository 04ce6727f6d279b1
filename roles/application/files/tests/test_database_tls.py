# SPDX-License-Identifier: GPL-3.0-or-later
"""Database clients verify the certificate if `PGSSLMODE` and `PGSSLROOTCERT` require it, as on clusters."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import services
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prefect.server.database.configurations import AsyncPostgresConfiguration
from sqlalchemy import text

NAME = "localhost"
IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


class Authority:
    """Signs the certificate of a server."""

    def __init__(self, name: str = "An authority") -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(name, self.key, x509.BasicConstraints(ca=True, path_length=0))

    def sign(self, name: str, key: ec.EllipticCurvePrivateKey, constraints: x509.BasicConstraints) -> x509.Certificate:
        """Return the certificate of a key under a name."""
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[services.DatabaseServer]:
    """Return a database with a certificate for `localhost`."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign(NAME, key, x509.BasicConstraints(ca=False, path_length=None))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {"server.crt": pem(certificate), "server.key": key.private_bytes(serialization.Encoding.PEM, *form)}
    with services.database_folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
        paths = {"ssl_cert_file": str(folder / "server.crt"), "ssl_key_file": str(folder / "server.key")}
        with services.database_server(folder, ssl="on", **paths) as found:
            yield found


def by_psycopg(url: str) -> bool:
    """Return whether the client of the API, the flows and the bootstrap uses an encrypted connection."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        found = connection.execute(IS_ENCRYPTED).fetchone()
    return found == (True,)


def by_prefect(url: str) -> bool:
    """Return whether the orchestrator's client uses an encrypted connection."""

    async def ask() -> bool:
        engine = await AsyncPostgresConfiguration(url.replace("postgresql://", "postgresql+asyncpg://")).engine()
        try:
            async with engine.connect() as connection:
                return bool((await connection.execute(text(IS_ENCRYPTED))).scalar_one())
        finally:
            await engine.dispose()

    return asyncio.run(ask())


CLIENTS = pytest.mark.parametrize("client", [by_psycopg, by_prefect])
Client = Callable[[str], bool]


@pytest.fixture
def trust(
    clean_environment: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> Callable[[x509.Certificate], None]:
    """Return the settings with which clients trust this certificate alone."""

    def trust(certificate: x509.Certificate) -> None:
        (tmp_path / "ca.crt").write_bytes(pem(certificate))
        clean_environment.setenv("PGSSLROOTCERT", str(tmp_path / "ca.crt"))
        clean_environment.setenv("PGSSLMODE", "verify-full")

    trust(authority.certificate)
    return trust


def by_name(server: services.DatabaseServer) -> str:
    return server.orchestrator_url.replace(services.HOST, NAME)


@CLIENTS
@pytest.mark.usefixtures("trust")
def test_the_server_that_is_meant_is_talked_to_in_private(client: Client, server: services.DatabaseServer) -> None:
    assert client(by_name(server))


@CLIENTS
def test_another_authority_vouches_for_nobody(
    client: Client, server: services.DatabaseServer, trust: Callable[[x509.Certificate], None]
) -> None:
    trust(Authority("Another authority").certificate)
    with pytest.raises(Exception, match=r"(?i)certificate verify failed"):
        client(by_name(server))


@CLIENTS
@pytest.mark.usefixtures("trust")
def test_a_certificate_of_another_name_is_somebody_else_s(client: Client, server: services.DatabaseServer) -> None:
    with pytest.raises(Exception, match=r"does not match host name|IP address mismatch"):
        client(server.orchestrator_url)


@CLIENTS
@pytest.mark.usefixtures("trust")
def test_a_server_without_a_certificate_is_refused(client: Client, database_server: services.DatabaseServer) -> None:
    with pytest.raises(Exception, match=r"does not support SSL|rejected SSL upgrade"):
        client(by_name(database_server))
