# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the connection to a cluster: its address, certificate authorities and credentials."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .credentials import Anonymous, Certificate, Credential

__all__ = ["Certificate", "Connection"]


@dataclass(frozen=True)
class Connection:
    """The connection to a cluster.

    authority: certificates in PEM, empty for those of the system. authority_name: their source, for messages. headers:
    of each request; a name may occur twice. compress: whether the server compresses answers, None for the default.
    namespace: of the context, or empty. origin: source of the connection, for messages.
    """

    server: str
    authority: str = field(default="", repr=False)
    authority_name: str = "the system's certificates"
    verify: bool = True
    credential: Credential = field(default_factory=Anonymous, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: str = field(default="", repr=False)
    proxy_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls_server_name: str = ""
    compress: bool | None = None
    namespace: str = ""
    origin: str = ""

    @property
    def compresses(self) -> bool:
        """Return whether the server compresses answers.

        On one machine, compression takes longer than the transfer that it saves.
        """
        return not is_loopback(urlsplit(self.server).hostname or "") if self.compress is None else self.compress

    @property
    def proxy_name(self) -> str:
        """Return the proxy's address without credentials."""
        parts = urlsplit(self.proxy)
        host = parts.hostname or ""
        return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{parts.port}' if parts.port else ''}"


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
