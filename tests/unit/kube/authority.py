# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway certificate authority: certificates for servers and clients, also invalid ones."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, both in PEM."""

    certificate: str
    key: str = field(repr=False)


class Authority:
    """Signs all requests.

    has_identifiers: without it, certificates lack the key identifiers that only a strict verification requires.
    """

    def __init__(self, *, has_identifiers: bool = True) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._has_identifiers = has_identifiers
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throwaway")])
        builder = _builder(name, name, self._key, -DAY, DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        if has_identifiers:
            identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        name: str = "server",
        addresses: tuple[str, ...] = ("127.0.0.1", "localhost"),
        *,
        begins: dt.timedelta = -DAY,
        ends: dt.timedelta = DAY,
        passphrase: str = "",
    ) -> Issued:
        """Return a certificate for a server or a client, valid between two points relative to now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            _builder(subject, self._certificate.subject, key, begins, ends)
            .add_extension(x509.SubjectAlternativeName([_name(address) for address in addresses]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if self._has_identifiers:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            builder = builder.add_extension(issuer, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            encryption = serialization.BestAvailableEncryption(passphrase.encode())
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return Issued(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def _name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: dt.timedelta, ends: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
