# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to the API server: TLS, proxies, pooled connections, and the classification of connection errors."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .connection import Certificate, Connection
from .errors import ConfigError, UnreachableError

if TYPE_CHECKING:
    from urllib3 import PoolManager

# Each watch holds a connection. urllib3 opens connections on demand, so a large limit costs nothing.
_WATCHES = 64
_EXPIRED, _NOT_YET_VALID = 10, 9
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})
# Prefixes of OpenSSL's names of alerts (RFC 8446, 6.2): about the client, and about a single connection.
_ALERTS = ("SSLV3_ALERT_", "TLSV1_", "TLSV13_")
_REJECTED = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
_BROKEN_OFF = (
    "UNEXPECTED_MESSAGE",
    "BAD_RECORD_MAC",
    "RECORD_OVERFLOW",
    "DECODE_ERROR",
    "DECRYPT_ERROR",
    "INTERNAL_ERROR",
    "USER_CANCEL",
)


def make_pool(connection: Connection, certificate: Certificate | None, pool_size: int) -> PoolManager:
    """Return the connection pool of one server. Raises ConfigError when the certificates cannot be used."""
    import urllib3

    options: dict[str, Any] = {"num_pools": 2, "maxsize": pool_size + _WATCHES, "retries": False}
    if urlsplit(connection.server).scheme == "https":
        options["ssl_context"] = tls_context(connection, certificate)
        if not connection.verify:
            # The user disabled verification; a warning for each connection adds no information.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        if connection.tls_server_name:
            options["server_hostname"] = connection.tls_server_name
    if not connection.proxy:
        return urllib3.PoolManager(**options)
    proxy = urlsplit(connection.proxy)
    if proxy.scheme.startswith("socks"):
        try:
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError:
            raise ConfigError(f"the proxy {connection.proxy_name} needs the Python package PySocks") from None
        return SOCKSProxyManager(connection.proxy, **options)
    headers = dict(connection.proxy_headers)
    if proxy.username:
        account = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers.update(urllib3.make_headers(proxy_basic_auth=account))
    return urllib3.ProxyManager(connection.proxy, proxy_headers=headers, **options)


def tls_context(connection: Connection, certificate: Certificate | None) -> ssl.SSLContext:
    """Return the TLS context with authorities and client certificate.

    Raises ConfigError when the certificates cannot be used.
    """
    # ssl.create_default_context is not used: since Python 3.13 it rejects authorities without a key identifier. Many
    # clusters have such authorities, and kubectl accepts them.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The only protocol of urllib3. Servers with other protocols could choose one of them.
    context.set_alpn_protocols(["http/1.1"])
    if not connection.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif connection.authority:
        try:
            context.load_verify_locations(cadata=connection.authority)
        except (ssl.SSLError, ValueError):
            raise ConfigError(f"{connection.authority_name} holds no certificate in PEM") from None
    else:
        context.load_default_certs()
    if certificate:
        _load_certificate(context, certificate)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: Certificate) -> None:
    def no_password() -> str:
        # Without this, OpenSSL would prompt on a terminal.
        raise ConfigError(f"{certificate.name} has a key that is encrypted; give one without a passphrase")

    with _as_file(f"{certificate.certificate.rstrip()}\n{certificate.key}") as path:
        try:
            context.load_cert_chain(path, password=no_password)
        except ssl.SSLError as error:
            reason = (
                "its key is of another certificate" if error.reason == "KEY_VALUES_MISMATCH" else "it is not in PEM"
            )
            raise ConfigError(f"{certificate.name} cannot be used: {reason}") from None


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Yield the path of a file with a text, because `ssl` reads keys from files only. In memory where possible."""
    data = text.encode()
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - no file of a user
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    # The file is readable by its owner only from its creation, and is deleted immediately.
    with tempfile.NamedTemporaryFile(prefix="kube-") as file:
        file.write(data)
        file.flush()
        yield file.name


def unreachable(error: Exception, connection: Connection) -> UnreachableError:
    """Return an error of urllib3 as a message, with whether the request may have arrived."""
    from urllib3 import exceptions

    server = connection.server
    if isinstance(error, exceptions.ProxyError):
        inner = error.original_error
        remedy = "check proxy, HTTPS_PROXY and no_proxy"
        return UnreachableError(f"{server}: the proxy {connection.proxy_name} failed: {_reason(inner)}; {remedy}")
    if isinstance(error, exceptions.SSLError):
        broken = _is_broken_off(error)
        return UnreachableError(f"{server}: {_tls_reason(error, connection)}", sent=broken, is_passing=broken)
    if isinstance(error, exceptions.NameResolutionError):
        return UnreachableError(f"{server}: its name cannot be resolved; check the address and the name service")
    if isinstance(error, exceptions.ConnectTimeoutError | exceptions.NewConnectionError):
        refused = "refused" in str(error)
        what = "nothing listens there" if refused else f"no connection: {_reason(error)}"
        return UnreachableError(
            f"{server}: {what}; check that the cluster runs, the address, the network and the proxy"
        )
    if isinstance(error, exceptions.ReadTimeoutError):
        return UnreachableError(f"{server}: no answer in time; the server or a webhook is slow or hangs", sent=True)
    return UnreachableError(f"{server}: the connection was lost: {_reason(error)}", sent=True)


def _tls_error(error: Exception) -> ssl.SSLError | None:
    return next((found for found in _chain(error) if isinstance(found, ssl.SSLError)), None)


def _alert(error: ssl.SSLError | None) -> str:
    """Return OpenSSL's name of the alert that a server sent, or an empty text."""
    reason = (getattr(error, "reason", "") or "").upper()
    return reason if reason.startswith(_ALERTS) else ""


def _is_broken_off(error: Exception) -> bool:
    """Return whether the server ended the connection for a reason that may not affect another connection."""
    inner = _tls_error(error)
    return isinstance(inner, ssl.SSLEOFError) or any(word in _alert(inner) for word in _BROKEN_OFF)


def _tls_reason(error: Exception, connection: Connection) -> str:
    inner = _tls_error(error)
    code = getattr(inner, "verify_code", None)
    said = getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or str(error)
    if code == _EXPIRED:
        return "its certificate has expired; renew it on the cluster, and check the clock of this machine"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet; check the clock of this machine"
    if code in _UNKNOWN_ISSUER:
        return (
            f"its certificate is not of the authority in {connection.authority_name} ({said}); "
            "name the cluster's own in ca_cert or certificate-authority-data, or the address is of another cluster"
        )
    if code in _OTHER_NAME:
        return f"its certificate is for another name ({said}); use that name, or set tls-server-name in the kubeconfig"
    reason = (getattr(inner, "reason", "") or "").upper()
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}:
        return "the server does not support TLS; check the port, and whether the address begins with http://"
    if any(word in _alert(inner) for word in _REJECTED):
        return f"it does not take the client certificate ({said}); check {connection.credential.name}"
    if _is_broken_off(error):
        return f"the server broke off TLS ({said}); check the log of the API server and any load balancer before it"
    if _alert(inner):
        return f"the server refused TLS ({said}); check its TLS versions and ciphers, and tls-server-name"
    return f"TLS failed: {said}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [part for part in (*current.args, current.__cause__, current.__context__) if _is_error(part)]


def _is_error(value: Any) -> bool:
    return isinstance(value, BaseException)


def _reason(error: BaseException) -> str:
    """Return the innermost cause: messages of urllib3 contain memory addresses of objects."""
    for found in reversed(list(_chain(error))):
        if isinstance(found, socket.gaierror | OSError) and getattr(found, "strerror", None):
            return str(found.strerror)
        if isinstance(found, TimeoutError):
            return "timed out"
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.rpartition(": ")[2] if "object at 0x" in text else text
