# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the remaining validity of a cluster's certificates. Private keys are never read."""

from __future__ import annotations

import base64
import binascii
import socket
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from ...kube.client.connection import Connection
from ...kube.client.transport import tls_context
from ...kube.ready.verdict import Object, text
from ..answers import NoAnswerError, in_words
from ..checks import DAY_S, Thresholds, duration
from ..report import DEGRADED, HEALTHY, UNHEALTHY, Check


@dataclass(frozen=True)
class Validity:
    """The validity of a certificate, in seconds since 1970, and its subject."""

    begins_s: float
    ends_s: float
    subject: str


@dataclass(frozen=True)
class TlsSecret:
    """The address of a Secret of type kubernetes.io/tls, and its certificates in PEM."""

    namespace: str
    name: str
    pem: bytes

    @classmethod
    def of(cls, secret: Object) -> TlsSecret:
        """Return the certificate of a Secret, without its other entries."""
        encoded = text(secret, "data", "tls.crt")
        try:
            pem = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            pem = b""
        return cls(text(secret, "metadata", "namespace"), text(secret, "metadata", "name"), pem)


def judge_secret(secret: TlsSecret, now_s: float, limits: Thresholds) -> Check:
    """Judge the certificates of a Secret by the one that expires first, since a chain needs all of them."""
    remedy = f"renew the certificate in Secret {secret.namespace}/{secret.name}"
    subject = f"{secret.namespace}/{secret.name}"
    try:
        chain = read_pem(secret.pem)
    except ValueError as error:
        return Check("certificates", subject, UNHEALTHY, f"tls.crt cannot be read: {error}", remedy)
    return judge_validity(subject, chain, now_s, limits, remedy)


def judge_validity(subject: str, chain: Sequence[Validity], now_s: float, limits: Thresholds, remedy: str) -> Check:
    """Judge a certificate: unhealthy if invalid within `certificate_days`, degraded within twice of it."""
    first = min(chain, key=lambda one: one.ends_s)
    late = max(chain, key=lambda one: one.begins_s)
    left_s, least_s = first.ends_s - now_s, limits.certificate_days * DAY_S
    whom = f" ({first.subject})" if first.subject else ""
    if late.begins_s > now_s:
        detail = f"is not valid before {duration(late.begins_s - now_s)} from now"
        return Check("certificates", subject, UNHEALTHY, detail, "check the clock, then the certificate")
    if left_s <= 0:
        return Check("certificates", subject, UNHEALTHY, f"expired {duration(-left_s)} ago{whom}", remedy)
    detail = f"expires in {duration(left_s)}{whom}"
    if left_s < least_s:
        return Check("certificates", subject, UNHEALTHY, f"{detail}, needs {limits.certificate_days:g} d", remedy)
    if left_s < 2 * least_s:
        return Check("certificates", subject, DEGRADED, f"{detail}, should be renewed", remedy)
    return Check("certificates", subject, HEALTHY, detail)


def read_pem(pem: bytes) -> list[Validity]:
    """Return the certificates in a text. Raises ValueError for a malformed certificate, and when there is none."""
    from cryptography import x509

    if not pem.strip():
        raise ValueError("it contains no certificate")
    return [_validity(certificate) for certificate in x509.load_pem_x509_certificates(pem)]


def read_der(der: bytes) -> Validity:
    """Return the validity and subject of a certificate in DER."""
    from cryptography import x509

    return _validity(x509.load_der_x509_certificate(der))


def _validity(certificate: object) -> Validity:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    if not isinstance(certificate, x509.Certificate):
        raise TypeError("no certificate")
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Validity(begins.timestamp(), ends.timestamp(), str(names[0].value) if names else "")


def serving_certificate(connection: Connection, timeout_s: float) -> bytes | None:
    """Return the certificate of an API server in DER, or None where it cannot be seen from here.

    The certificate is verified as in every request; no request is sent. Raises NoAnswerError.
    """
    server, proxy = urllib.parse.urlsplit(connection.server), urllib.parse.urlsplit(connection.proxy)
    if server.scheme != "https" or proxy.scheme not in ("", "http"):
        return None
    host, port = server.hostname or "", server.port or 443
    try:
        plain = _through(connection, proxy, host, port, timeout_s) if connection.proxy else None
        plain = plain or socket.create_connection((host, port), timeout=timeout_s)
        context = tls_context(connection, connection.credential.certificate())
        with plain, context.wrap_socket(plain, server_hostname=connection.tls_server_name or host) as secured:
            return secured.getpeercert(binary_form=True)
    except (OSError, HTTPException) as error:
        raise NoAnswerError(in_words(error, timeout_s)) from error


def _through(
    connection: Connection, proxy: urllib.parse.SplitResult, host: str, port: int, timeout_s: float
) -> socket.socket:
    tunnel = HTTPConnection(proxy.hostname or "", proxy.port or 80, timeout=timeout_s)
    headers = dict(connection.proxy_headers)
    if proxy.username:
        account = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"
    tunnel.set_tunnel(host, port, headers)
    tunnel.connect()
    return tunnel.sock
