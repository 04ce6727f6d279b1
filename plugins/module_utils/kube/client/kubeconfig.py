# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read kubeconfig files.

The package `kubernetes` is not used, because its import takes a second, longer than all requests of a run.

Source: k8s.io/client-go, tools/clientcmd (merging, paths, precedence) and tools/clientcmd/api/v1 (fields).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .connection import Connection
from .credentials import Anonymous, Certificate, Credential, Fixed, basic, bearer, token_file
from .errors import ConfigError
from .exec_plugin import ExecPlugin

_KINDS = {"clusters": "cluster", "users": "user", "contexts": "context"}
# Providers that client-go removed, and their replacements.
_PLUGINS = {"gcp": "gke-gcloud-auth-plugin", "azure": "kubelogin"}


@dataclass(frozen=True)
class _Entry:
    """One cluster, user or context, and its file. Paths in it are relative to that file's folder."""

    name: str
    values: Mapping[str, Any]
    file: str
    folder: Path | None

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{self.file}: {field} of {self.name!r} is not a string; quote it")
        return value or ""

    def path(self, field: str) -> Path | None:
        text = self.text(field)
        if not text:
            return None
        path = Path(text).expanduser()
        return path if path.is_absolute() or self.folder is None else self.folder / path

    def pem(self, field: str) -> str:
        """Return the decoded base64 of `FIELD-data`, else the content of the file in `FIELD`."""
        data, path = self.text(f"{field}-data"), self.path(field)
        if data:
            try:
                return base64.b64decode(data, validate=True).decode("ascii")
            except (binascii.Error, ValueError):
                raise ConfigError(f"{self.file}: {field}-data of {self.name!r} is not base64 of a PEM text") from None
        if path is None:
            return ""
        try:
            return path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", "") or "it is not PEM text"
            raise ConfigError(f"{self.file}: {field} of {self.name!r}: {path} cannot be read: {reason}") from None


@dataclass(frozen=True)
class _Merged:
    """Several merged files; for each name, the first entry applies."""

    origin: str
    current: str
    entries: Mapping[str, Mapping[str, _Entry]]

    def entry(self, plural: str, name: str, wanted_by: str) -> _Entry:
        from ...shared.nearest import suggestion

        found = self.entries[plural].get(name)
        if found is None:
            kind = _KINDS[plural]
            raise ConfigError(
                f"{self.origin} has no {kind} {name!r}{wanted_by}; {suggestion(name, self.entries[plural])}"
            )
        return found


def load_files(paths: Sequence[Path], context: str, *, is_explicit: bool) -> Connection:
    """Return the connection of a context in these files. Raises ConfigError.

    context: empty for the current one. is_explicit: whether a missing file is an error, instead of ignored.
    """
    loaded = [(str(path), path.absolute().parent, _parsed(path)) for path in paths if is_explicit or path.is_file()]
    origin = " and ".join(str(path) for path in paths)
    if not loaded:
        raise ConfigError(f"no cluster is named: {origin} does not exist; set kubeconfig")
    return _connection(_merged(loaded, origin), context)


def load_data(data: Mapping[str, Any], context: str, *, origin: str) -> Connection:
    """Return the connection of a context in a kubeconfig that is passed as data. Raises ConfigError."""
    return _connection(_merged([(origin, None, data)], origin), context)


def _parsed(path: Path) -> Mapping[str, Any]:
    from ..yaml.documents import read

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "it is not text"
        raise ConfigError(f"the kubeconfig {path} cannot be read: {reason}") from None
    documents, faults = read(text)
    if faults:
        raise ConfigError(f"the kubeconfig {path}, line {faults[0].line}: {faults[0].message}")
    content = documents[0].content if documents else {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"the kubeconfig {path} is not a mapping with clusters, users and contexts")
    return content


def _merged(loaded: Sequence[tuple[str, Path | None, Mapping[str, Any]]], origin: str) -> _Merged:
    entries: dict[str, dict[str, _Entry]] = {plural: {} for plural in _KINDS}
    current = ""
    for file, folder, content in loaded:
        current = current or str(content.get("current-context") or "")
        for plural, singular in _KINDS.items():
            for item in _items(content, plural, file):
                values = item.get(singular) or {}
                name = str(item.get("name", ""))
                if not isinstance(values, Mapping):
                    raise ConfigError(f"{file}: {singular} {name!r} is not a mapping")
                entries[plural].setdefault(name, _Entry(name, values, file, folder))
    return _Merged(origin, current, entries)


def _items(content: Mapping[str, Any], plural: str, file: str) -> list[Mapping[str, Any]]:
    items = content.get(plural) or []
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise ConfigError(f"{file}: {plural} is not a list of mappings")
    return items


def _connection(merged: _Merged, wanted: str) -> Connection:
    name = wanted or merged.current
    if not name:
        names = ", ".join(sorted(merged.entries["contexts"])) or "none at all"
        raise ConfigError(f"{merged.origin} has no current-context; set context to one of: {names}")
    context = merged.entry("contexts", name, "" if wanted else ", its current-context")
    cluster = merged.entry("clusters", context.text("cluster"), f", which context {name!r} names")
    user_name = context.text("user")
    user = merged.entry("users", user_name, f", which context {name!r} names") if user_name else None
    if not cluster.text("server"):
        raise ConfigError(f"{cluster.file}: cluster {cluster.name!r} names no server")
    authority, disabled = cluster.pem("certificate-authority"), cluster.values.get("disable-compression")
    origin = f"context {name!r} of {context.file}"
    return Connection(
        server=cluster.text("server"),
        authority=authority,
        authority_name=f"cluster {cluster.name!r} of {cluster.file}" if authority else "the system's certificates",
        verify=cluster.values.get("insecure-skip-tls-verify") is not True,
        credential=_credential(user, cluster, authority) if user else Anonymous(),
        headers=_impersonation(user) if user else (),
        proxy=cluster.text("proxy-url"),
        tls_server_name=cluster.text("tls-server-name"),
        compress=not disabled if isinstance(disabled, bool) else None,
        namespace=context.text("namespace"),
        origin=origin,
    )


def _credential(user: _Entry, cluster: _Entry, authority: str) -> Credential:
    """Return the user's credentials, in the precedence of client-go."""
    whose = f"of user {user.name!r} in {user.file}"
    shown = _certificate(user, whose)
    path = user.path("tokenFile")
    if path is not None:
        return token_file(path, f"the token {whose}", shown)
    if user.text("token"):
        return Fixed(bearer(user.text("token"), f"the token {whose}"), shown, f"the token {whose}")
    if user.text("username"):
        return Fixed(basic(user.text("username"), user.text("password")), shown, f"the account {whose}")
    if user.values.get("exec") is not None:
        return ExecPlugin.of(
            user.values["exec"], user.file, user.folder, f"user {user.name!r}", cluster.values, authority
        )
    if user.values.get("auth-provider"):
        return _provider(user, whose)
    return Fixed("", shown, shown.name) if shown else Anonymous(f"no credentials {whose}")


def _certificate(user: _Entry, whose: str) -> Certificate | None:
    certificate, key = user.pem("client-certificate"), user.pem("client-key")
    if bool(certificate) != bool(key):
        missing = "client-key" if certificate else "client-certificate"
        raise ConfigError(f"{user.file}: user {user.name!r} has no {missing}; a certificate needs its key")
    return Certificate(certificate, key, f"the client certificate {whose}") if certificate else None


def _impersonation(user: _Entry) -> tuple[tuple[str, str], ...]:
    """Return the impersonation headers for `as`, as kubectl sends them."""
    if not user.text("as"):
        return ()
    headers = [("Impersonate-User", user.text("as"))]
    if user.text("as-uid"):
        headers.append(("Impersonate-Uid", user.text("as-uid")))
    headers += [("Impersonate-Group", str(group)) for group in user.values.get("as-groups") or ()]
    for key, values in (user.values.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{key}", str(value)) for value in values]
    return tuple(headers)


def _provider(user: _Entry, whose: str) -> Credential:
    """Return the id token of a former provider, which is used unchanged and never renewed."""
    provider = user.values["auth-provider"]
    name = str(provider.get("name", "")) if isinstance(provider, Mapping) else ""
    token = str((provider.get("config") or {}).get("id-token") or "") if name == "oidc" else ""
    if token:
        return Fixed(bearer(token, f"the id-token {whose}"), None, f"the id-token {whose}")
    remedy = f"use the exec plugin {_PLUGINS[name]}" if name in _PLUGINS else "use an exec plugin, such as kubelogin"
    raise ConfigError(f"the auth-provider {name!r} {whose} is no longer part of Kubernetes; {remedy}")
