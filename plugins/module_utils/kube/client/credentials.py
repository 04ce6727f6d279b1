# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authenticate to a cluster, with one class for each method. Their representations contain no secrets."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .errors import ConfigError

# A kubelet renews the token file of a pod. client-go reads it again after the same interval.
_FILE_LIFETIME_S = 60.0


@dataclass(frozen=True)
class Certificate:
    """A client certificate with its chain, and its key, both in PEM. name: their source, for messages."""

    certificate: str = field(repr=False)
    key: str = field(repr=False)
    name: str = "the client certificate"


class Credential(Protocol):
    """An authentication method. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Return the method and its source, for messages: 'the token of user admin in /etc/kubeconfig'."""

    def authorization(self) -> str:
        """Return the authorization header, or an empty text. Raises ConfigError."""

    def certificate(self) -> Certificate | None:
        """Return the client certificate for the TLS handshake, or None. Raises ConfigError."""

    def renew(self, refused: str, /) -> bool:
        """Discard the header that the server rejected. Return whether a newer one may be available."""


@dataclass(frozen=True)
class Anonymous:
    """No credentials: a tunnel such as `kubectl proxy` adds them, or requests are anonymous."""

    name: str = "no credentials"

    def authorization(self) -> str:
        return ""

    def certificate(self) -> Certificate | None:
        return None

    def renew(self, _refused: str, /) -> bool:
        return False


@dataclass(frozen=True)
class Fixed:
    """A constant header, client certificate, or both."""

    header: str = field(default="", repr=False)
    shown: Certificate | None = field(default=None, repr=False)
    name: str = "the credentials"

    def authorization(self) -> str:
        return self.header

    def certificate(self) -> Certificate | None:
        return self.shown

    def renew(self, _refused: str, /) -> bool:
        return False


class Renewing:
    """A token from a function, or from a file that another process renews.

    lifetime_s: how long to use a token; 0 requests it for each request. remedy: for a token that the server rejects.
    """

    def __init__(
        self,
        make: Callable[[], str],
        name: str,
        *,
        lifetime_s: float = 0.0,
        shown: Certificate | None = None,
        remedy: str = "",
    ) -> None:
        self.name, self.remedy = name, remedy
        self._make, self._lifetime_s, self._shown = make, lifetime_s, shown
        self._lock = threading.Lock()
        self._header, self._made_s = "", 0.0

    def authorization(self) -> str:
        with self._lock:
            if not self._header or time.monotonic() - self._made_s >= self._lifetime_s:
                self._header, self._made_s = bearer(self._make(), self.name), time.monotonic()
            return self._header

    def certificate(self) -> Certificate | None:
        return self._shown

    def renew(self, refused: str, /) -> bool:
        with self._lock:
            # Otherwise another thread has already discarded the header.
            self._header = "" if self._header == refused else self._header
        return True


def token_file(path: Path, name: str, shown: Certificate | None = None) -> Renewing:
    """Return credentials that read their token from a file."""

    def read() -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", "") or "it is not text"
            raise ConfigError(f"{name}: {path} cannot be read: {reason}") from None

    return Renewing(read, name, lifetime_s=_FILE_LIFETIME_S, shown=shown)


def bearer(token: str, name: str) -> str:
    """Return the header for a token. Raises ConfigError for characters that would split the header."""
    stripped = token.strip()
    if (
        not stripped
        or not stripped.isascii()
        or any(character == " " or not character.isprintable() for character in stripped)
    ):
        what = "is empty" if not stripped else "holds spaces, line breaks or characters that no token has"
        raise ConfigError(f"{name} {what}")
    return f"Bearer {stripped}"


def basic(username: str, password: str) -> str:
    """Return the header for a username and password."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def rejection(credential: Credential) -> str:
    """Return the remedy for a server that rejects the credentials."""
    if isinstance(credential, Anonymous):
        return "set credentials: api_key, client_cert and client_key, or a kubeconfig with a user"
    certificate = credential.certificate()
    ended = _ended(certificate) if certificate else ""
    if certificate and ended:
        return f"{certificate.name} expired on {ended}: get a new one"
    if isinstance(credential, Renewing) and credential.remedy:
        return f"{credential.name} is not accepted: {credential.remedy}"
    return f"{credential.name} is not accepted: it has expired, was revoked, or is of another cluster; get a new one"


def _ended(certificate: Certificate) -> str:
    """Return when a certificate expired. Empty if it is valid or cannot be parsed."""
    try:
        from cryptography import x509
    except ImportError:
        return ""
    try:
        until = x509.load_pem_x509_certificate(certificate.certificate.encode()).not_valid_after_utc
    except ValueError:
        return ""
    return until.date().isoformat() if until.timestamp() < time.time() else ""
