# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create private keys and certificates of the platform's own authorities, as PEM text.

The module requires the Python package `cryptography`: a dependency of ansible-core on a controller and of the
application on a host. It is imported when a value is generated, so plans do not require it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 397
RENEWED_IN_LAST_FRACTION: Final = 3
"""A certificate is renewed when less than a third of its lifetime remains."""
CLOCK_SKEW: Final = dt.timedelta(minutes=10)


@dataclass(frozen=True)
class Issued:
    """A certificate in PEM, and the time from which the next run renews it, in seconds since 1970."""

    pem: str
    renew_at_s: float


def private_key() -> str:
    """Return a new P-256 key in PKCS 8."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


def authority(common_name: str, key_pem: str, now: dt.datetime) -> Issued:
    """Return the self-signed certificate of an authority, which only signs certificates of servers and clients."""
    from cryptography import x509

    key = _loaded_key(key_pem)
    name = _name(common_name)
    builder = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return _issued(builder, key, now, AUTHORITY_DAYS)


def certificate(common_name: str, key_pem: str, issuer_pem: str, issuer_key_pem: str, now: dt.datetime) -> Issued:
    """Return a certificate for servers and clients: `common_name`, localhost and the loopback addresses."""
    import ipaddress

    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = x509.load_pem_x509_certificate(issuer_pem.encode())
    issuer_key = _loaded_key(issuer_key_pem)
    addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    names = [x509.DNSName(text) for text in dict.fromkeys([common_name, "localhost"])]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(_name(common_name), issuer.subject, _loaded_key(key_pem), now, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    return _issued(builder, issuer_key, now, CERTIFICATE_DAYS)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issued(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, now: dt.datetime, days: int) -> Issued:
    from cryptography.hazmat.primitives import hashes, serialization

    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    renewed_after = dt.timedelta(days=days - days // RENEWED_IN_LAST_FRACTION)
    return Issued(pem, (now + renewed_after).timestamp())


def _loaded_key(pem: str) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is not of an elliptic curve")
    return key


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
