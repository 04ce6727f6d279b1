# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve cluster and credentials from module options, the environment, kubeconfig files or the pod.

The options and their variables (K8S_AUTH_*) are those of kubernetes.core. Missing ones are searched in the order of
kubectl: KUBECONFIG, ~/.kube/config, the service account of the pod.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import kubeconfig
from .connection import Connection, is_loopback
from .credentials import Certificate, Credential, Fixed, Renewing, basic, bearer, token_file
from .errors import ConfigError

# Variables by option, where their name differs from the option's.
_VARIABLES = {
    "validate_certs": "VERIFY_SSL",
    "ca_cert": "SSL_CA_CERT",
    "client_cert": "CERT_FILE",
    "client_key": "KEY_FILE",
}
_OPTIONS = (
    "kubeconfig",
    "context",
    "host",
    "api_key",
    "username",
    "password",
    "client_cert",
    "client_key",
    "ca_cert",
    "tls_server_name",
    "validate_certs",
    "proxy",
    "no_proxy",
    "impersonate_user",
    "impersonate_groups",
)
_PROXY_HEADERS = ("basic_auth", "proxy_basic_auth", "user_agent")
_FALSE = frozenset({"0", "false", "no", "n", "off", "f"})
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connection(parameters: Mapping[str, Any], token_source: Callable[[], str] | None = None) -> Connection:
    """Return the connection to the cluster of the options. Raises ConfigError.

    parameters: options of a module, named as in kubernetes.core; None for an omitted option. token_source: returns a
    bearer token whenever one is required, and replaces all other credentials.
    """
    given = _given(parameters)
    found = _found(given, has_credential=token_source is not None)
    found = replace(
        found,
        server=_server(given.get("host") or found.server, "host" if given.get("host") else found.origin),
        tls_server_name=given.get("tls_server_name") or found.tls_server_name,
        credential=_credential(given, token_source) or found.credential,
        headers=_impersonation(given) or found.headers,
    )
    return _proxied(_trusting(found, given), given)


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the module or the environment sets."""
    given: dict[str, Any] = {}
    for name in _OPTIONS:
        value = parameters.get(name)
        if value is None:
            value = os.environ.get(f"K8S_AUTH_{_VARIABLES.get(name, name.upper())}") or None
        if value is not None and value not in ("", [], {}):
            given[name] = value
    headers = dict(parameters.get("proxy_headers") or {})
    for name in _PROXY_HEADERS:
        headers[name] = headers.get(name) or os.environ.get(f"K8S_AUTH_PROXY_HEADERS_{name.upper()}")
    given["proxy_headers"] = {name: value for name, value in headers.items() if value}
    return given


def _found(given: Mapping[str, Any], *, has_credential: bool) -> Connection:
    """Return the connection of a kubeconfig or the pod; complete options require neither."""
    source, context = given.get("kubeconfig"), given.get("context")
    says_who = has_credential or any(given.get(name) for name in ("api_key", "username", "client_cert"))
    if isinstance(source, Mapping):
        return kubeconfig.load_data(source, str(context or ""), origin="the option kubeconfig")
    if source:
        return kubeconfig.load_files(_paths(str(source)), str(context or ""), is_explicit=True)
    if given.get("host") and not context and says_who:
        return Connection("", origin="host")
    listed = os.environ.get("KUBECONFIG")
    paths = _paths(listed) if listed else [Path("~/.kube/config").expanduser()]
    if context or any(path.is_file() for path in paths):
        return kubeconfig.load_files(paths, str(context or ""), is_explicit=False)
    if "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file():
        return _in_cluster()
    if given.get("host"):
        return Connection("", origin="host")
    where = f"KUBECONFIG ({listed}) names no file that exists" if listed else f"{paths[0]} does not exist"
    raise ConfigError(
        f"no cluster is configured: {where}, and this is not a pod; set kubeconfig, or host with api_key or client_cert"
    )


def _paths(listed: str) -> list[Path]:
    return [Path(path).expanduser() for path in listed.split(os.pathsep) if path]


def _in_cluster() -> Connection:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    authority, namespace = SERVICE_ACCOUNT / "ca.crt", SERVICE_ACCOUNT / "namespace"
    return Connection(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        authority=_read(authority, "the certificate authority"),
        authority_name=str(authority),
        credential=token_file(SERVICE_ACCOUNT / "token", "the service account of this pod"),
        namespace=_read(namespace, "the namespace").strip() if namespace.is_file() else "",
        origin="the service account of this pod",
    )


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "it is not text"
        raise ConfigError(f"{what} cannot be read from {path}: {reason}") from None


def _server(text: str, origin: str) -> str:
    """Return the address without a trailing slash. Raises ConfigError for an invalid address."""
    address = text if "://" in text or not text else f"https://{text}"
    parts = urlsplit(address)
    try:
        usable = parts.scheme in {"https", "http"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.username:
        shown = "no address" if not text else f"{text.rpartition('@')[2]!r}, which is not an address"
        raise ConfigError(f"{origin} names {shown}; use https://HOST:PORT")
    return address.rstrip("/")


def _credential(given: Mapping[str, Any], token_source: Callable[[], str] | None) -> Credential | None:
    """Return the credentials of the options, or None without any.

    They replace the credentials of the kubeconfig, which a server would otherwise prefer.
    """
    shown = _certificate(given)
    if token_source is not None:
        return Renewing(token_source, "the token that was made for this run", shown=shown)
    if given.get("api_key"):
        return Fixed(bearer(str(given["api_key"]), "the token in api_key"), shown, "the token in api_key")
    if given.get("username"):
        name = f"the account {given['username']} in username"
        return Fixed(basic(str(given["username"]), str(given.get("password") or "")), shown, name)
    return Fixed("", shown, shown.name) if shown else None


def _certificate(given: Mapping[str, Any]) -> Certificate | None:
    if not given.get("client_cert"):
        if given.get("client_key"):
            raise ConfigError("client_key is given without client_cert; give both")
        return None
    path = Path(str(given["client_cert"])).expanduser()
    # One file may contain the certificate and the key.
    key = Path(str(given.get("client_key") or path)).expanduser()
    text = _read(path, "the client certificate of client_cert")
    key_text = "" if key == path else _read(key, "the key of client_key")
    return Certificate(text, key_text, f"the client certificate {path} in client_cert")


def _impersonation(given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    groups = given.get("impersonate_groups") or ()
    groups = groups.split(",") if isinstance(groups, str) else groups
    user = given.get("impersonate_user")
    if groups and not user:
        raise ConfigError("impersonate_groups is given without impersonate_user; a group alone cannot be impersonated")
    if not user:
        return ()
    return (("Impersonate-User", str(user)), *(("Impersonate-Group", str(group).strip()) for group in groups))


def _trusting(found: Connection, given: Mapping[str, Any]) -> Connection:
    if "ca_cert" in given:
        path = Path(str(given["ca_cert"])).expanduser()
        authority = _read(path, "the certificate authority of ca_cert")
        found = replace(found, authority=authority, authority_name=f"{path} (ca_cert)", verify=True)
    if "validate_certs" in given:
        given_value = given["validate_certs"]
        found = replace(found, verify=bool(given_value) and str(given_value).lower() not in _FALSE)
    return found


def _proxied(found: Connection, given: Mapping[str, Any]) -> Connection:
    """Add the proxy: of the options, of the kubeconfig, or of the standard environment variables."""
    host = urlsplit(found.server).hostname or ""
    proxy = str(given.get("proxy") or found.proxy)
    if not proxy and not is_loopback(host):
        import urllib.request

        proxies = urllib.request.getproxies_environment()
        proxy = proxies.get(urlsplit(found.server).scheme, "")
        if proxy and bypasses(host, proxies.get("no", "")):
            proxy = ""
    if not proxy or bypasses(host, str(given.get("no_proxy") or "")):
        return replace(found, proxy="")
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in {"http", "https", "socks5", "socks5h"} or not urlsplit(proxy).hostname:
        raise ConfigError(f"the proxy {replace(found, proxy=proxy).proxy_name} is not an address; use http://HOST:PORT")
    return replace(found, proxy=proxy, proxy_headers=_proxy_headers(given["proxy_headers"]))


def _proxy_headers(given: Mapping[str, str]) -> dict[str, str]:
    from urllib3 import make_headers

    if not given:
        return {}
    return dict(
        make_headers(
            basic_auth=given.get("basic_auth"),
            proxy_basic_auth=given.get("proxy_basic_auth"),
            user_agent=given.get("user_agent"),
        )
    )


def bypasses(host: str, no_proxy: str) -> bool:
    """Return whether a list such as '.example, 10.0.0.0/8, *' excludes a host from the proxy."""
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        name = entry.rpartition(":")[0] if entry.count(":") == 1 else entry
        suffix = name.removeprefix("*").removeprefix(".")
        if entry == "*" or (suffix and (host.lower() == suffix or host.lower().endswith(f".{suffix}"))):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
