# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a kubeconfig for Helm from any connection of this collection: options, a plugin, a token of EKS."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from ..kube.client.connection import Connection
from ..kube.client.errors import ConfigError

NAME: Final = "lakehouse"


def kubeconfig(connection: Connection) -> dict[str, Any]:
    """Return a kubeconfig for a connection, including credentials: it must be written to a private file.

    A token is valid until its expiry, which on EKS is 15 minutes.
    """
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": _cluster(connection)}],
        "users": [{"name": NAME, "user": _user(connection)}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
        "current-context": NAME,
    }


def _cluster(connection: Connection) -> dict[str, Any]:
    cluster: dict[str, Any] = {"server": connection.server}
    if not connection.verify:
        cluster["insecure-skip-tls-verify"] = True
    elif connection.authority:
        cluster["certificate-authority-data"] = _encoded(connection.authority)
    if connection.tls_server_name:
        cluster["tls-server-name"] = connection.tls_server_name
    if connection.proxy:
        if connection.proxy_headers:
            raise ConfigError("Helm cannot send headers to a proxy: leave proxy_headers out, or name another proxy")
        cluster["proxy-url"] = connection.proxy
    return cluster


def _user(connection: Connection) -> dict[str, Any]:
    user = _impersonation(connection.headers)
    scheme, _separator, value = connection.credential.authorization().partition(" ")
    if scheme == "Bearer":
        user["token"] = value
    elif scheme == "Basic":
        username, _separator, password = base64.b64decode(value).decode().partition(":")
        user |= {"username": username, "password": password}
    certificate = connection.credential.certificate()
    if certificate:
        user["client-certificate-data"] = _encoded(certificate.certificate)
        user["client-key-data"] = _encoded(certificate.key)
    return user


def _impersonation(headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return the fields of a kubeconfig for impersonation headers."""
    user: dict[str, Any] = {}
    for name, value in headers:
        if name.lower() == "impersonate-user":
            user["as"] = value
        elif name.lower() == "impersonate-group":
            user.setdefault("as-groups", []).append(value)
    return user


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secrets_of(config: Mapping[str, Any]) -> set[str]:
    """Return the secrets of a kubeconfig of `kubeconfig`, which logs must not contain."""
    user = config["users"][0]["user"]
    return {user[name] for name in ("token", "password", "client-key-data") if user.get(name)}
