# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who one is to a cluster: one strategy for each way to say it. None of them shows what it holds."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .errors import ConfigError

# A kubelet renews the token of a pod in its file; client-go looks again after as long.
_FILE_LIFETIME_S = 60.0


@dataclass(frozen=True)
class Certificate:
    """A client certificate with its chain, and its key, both in PEM. name: where it is from, for messages."""

    certificate: str = field(repr=False)
    key: str = field(repr=False)
    name: str = "the client certificate"


class Credential(Protocol):
    """One way to say who one is. Used from several threads at once."""

    @property
    def name(self) -> str:
        """What it is and where it is from, for messages: 'the token of user admin in /etc/kubeconfig'."""

    def authorization(self) -> str:
        """Return the header, empty for none. Raises ConfigError."""

    def certificate(self) -> Certificate | None:
        """Return what to show in the TLS handshake. Raises ConfigError."""

    def renew(self, refused: str, /) -> bool:
        """Forget the header that the server did not accept; return whether there may be a newer one."""


@dataclass(frozen=True)
class Anonymous:
    """Nothing at all: a tunnel such as `kubectl proxy` adds it, or whoever asks is nobody."""

    name: str = "no credentials"

    def authorization(self) -> str:
        return ""

    def certificate(self) -> Certificate | None:
        return None

    def renew(self, _refused: str, /) -> bool:
        return False


@dataclass(frozen=True)
class Fixed:
    """A header, a client certificate, or both, that stay what they are."""

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
    """A token that somebody makes anew when asked: a function, or a file that is written from outside.

    lifetime_s: how long to use what it returned; 0 asks for each request. remedy: what to do when the server knows
    nobody of this token.
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
            # Else another thread was faster.
            self._header = "" if self._header == refused else self._header
        return True


def token_file(path: Path, name: str, shown: Certificate | None = None) -> Renewing:
    """Return the token that a file holds at the moment."""

    def read() -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", "") or "it is no text"
            raise ConfigError(f"{name}: {path} cannot be read: {reason}") from None

    return Renewing(read, name, lifetime_s=_FILE_LIFETIME_S, shown=shown)


def bearer(token: str, name: str) -> str:
    """Return the header for a token. Raises ConfigError when it cannot be one: a header must not be split."""
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
    """Return the header for an account."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def rejection(credential: Credential) -> str:
    """Say what to do when a server does not know who asks."""
    if isinstance(credential, Anonymous):
        return "say who you are: api_key, client_cert and client_key, or a kubeconfig with a user"
    certificate = credential.certificate()
    ended = _ended(certificate) if certificate else ""
    if certificate and ended:
        return f"{certificate.name} expired on {ended}: get a new one"
    if isinstance(credential, Renewing) and credential.remedy:
        return f"{credential.name} is not accepted: {credential.remedy}"
    return f"{credential.name} is not accepted: it has expired, was revoked, or is of another cluster; get a new one"


def _ended(certificate: Certificate) -> str:
    """Return when a certificate expired, empty when it did not or nobody can say."""
    try:
        from cryptography import x509
    except ImportError:
        return ""
    try:
        until = x509.load_pem_x509_certificate(certificate.certificate.encode()).not_valid_after_utc
    except ValueError:
        return ""
    return until.date().isoformat() if until.timestamp() < time.time() else ""
