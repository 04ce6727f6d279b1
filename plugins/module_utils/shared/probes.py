# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One health check: an HTTP request, a TCP connection or a command, with a hard deadline."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .commands import run_command

PROBE_TYPES = ("http", "tcp", "command")
REDIRECT_STATUS = (301, 302, 303, 307, 308)
REDIRECT_LIMIT = 5
DETAIL_LIMIT_CHARACTERS = 300


@dataclass(frozen=True)
class Probe:
    """The request to a service, and the answer of a healthy one.

    `url` belongs to type `http`, `address` and `port` to `tcp`, `command` (an argument list, no shell) to `command`.
    `username` with `secret_file` (path of a file whose content is the password) sends HTTP basic authentication.
    Raises `ValueError` when a field that the type requires is missing.
    """

    service: str
    type: str
    url: str | None = None
    address: str | None = None
    port: int | None = None
    command: tuple[str, ...] = ()
    timeout_s: float = 5.0
    expected_status: tuple[int, ...] = (200,)
    username: str | None = None
    secret_file: str | None = None

    def __post_init__(self) -> None:
        missing = {
            "http": [] if self.url else ["url"],
            "tcp": [name for name in ("address", "port") if not getattr(self, name)],
            "command": [] if self.command else ["command"],
        }
        if self.type not in missing:
            raise ValueError(
                f"health check of {self.service}: type '{self.type}' is not one of {', '.join(PROBE_TYPES)}"
            )
        if missing[self.type]:
            raise ValueError(
                f"health check of {self.service}: type {self.type} needs {' and '.join(missing[self.type])}"
            )
        if self.username and not self.secret_file:
            raise ValueError(f"health check of {self.service}: username needs secret_file")
        if self.timeout_s <= 0:
            raise ValueError(f"health check of {self.service}: timeout_s is {self.timeout_s}, must be above 0")

    @classmethod
    def from_mapping(cls, check: Mapping[str, Any]) -> Probe:
        """Return the probe of one rendered health check, without its keys for schedulers (interval, retries)."""
        known = {name: check[name] for name in cls.__dataclass_fields__ if check.get(name) is not None}
        for name in ("command", "expected_status"):
            if name in known:
                known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True)
class ProbeResult:
    """A verdict. `detail` states the observation in one line, without the probe's password."""

    healthy: bool
    detail: str
    response_time_s: float


def run_probe(probe: Probe) -> ProbeResult:
    """Send one request, within about `probe.timeout_s`. Failures are verdicts, not exceptions."""
    started = time.monotonic()
    check = {"http": _check_http, "tcp": _check_tcp, "command": _check_command}[probe.type]
    try:
        healthy, detail = check(probe, started + probe.timeout_s)
    except TimeoutError:
        healthy, detail = False, f"no answer within {probe.timeout_s:g} s"
    except ssl.SSLCertVerificationError as error:
        healthy, detail = False, f"certificate is not trusted: {error.verify_message}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        healthy, detail = False, _in_words(error)
    return ProbeResult(healthy, detail[:DETAIL_LIMIT_CHARACTERS], time.monotonic() - started)


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() if error.filename is None else f"{error.filename}: {error.strerror.lower()}"
    return str(error) or type(error).__name__


def _remaining_s(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _check_tcp(probe: Probe, deadline: float) -> tuple[bool, str]:
    with socket.create_connection((probe.address or "", probe.port or 0), timeout=_remaining_s(deadline)):
        return True, "connected"


def _check_command(probe: Probe, deadline: float) -> tuple[bool, str]:
    done = run_command(probe.command, _remaining_s(deadline))
    lines = done.output.strip().splitlines()
    last_line = f": {lines[-1]}" if lines else ""
    return done.status == 0, f"exit status {done.status}{last_line}"


def _check_http(probe: Probe, deadline: float) -> tuple[bool, str]:
    url = probe.url or ""
    headers = {"Accept": "*/*", "User-Agent": "crypto-lakehouse-health", "Connection": "close"}
    if probe.username and probe.secret_file:
        headers["Authorization"] = _basic_authorisation(probe.username, probe.secret_file)
    for _redirect in range(REDIRECT_LIMIT):
        status, location = _get(url, headers, deadline)
        if status in probe.expected_status:
            return True, f"HTTP {status}"
        if status not in REDIRECT_STATUS or not location:
            expected = " or ".join(str(wanted) for wanted in probe.expected_status)
            return False, f"HTTP {status}, expected {expected}"
        target = urllib.parse.urljoin(url, location)
        if _origin(target) != _origin(url):
            return False, f"HTTP {status} redirects to another origin, {_without_query(target)}; not followed"
        url = target
    return False, f"more than {REDIRECT_LIMIT} redirects"


def _basic_authorisation(username: str, secret_file: str) -> str:
    password = Path(secret_file).read_text(encoding="utf-8").rstrip("\n")
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _without_query(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _get(url: str, headers: Mapping[str, str], deadline: float) -> tuple[int, str | None]:
    """Return status and redirect target of one GET. Certificates are verified; loopback bypasses proxies."""
    connection, request_target = _connection(url, _remaining_s(deadline))
    try:
        connection.connect()
        # A socket's timeout restarts with every byte; closing it at the deadline also stops a slow response.
        watchdog = threading.Timer(_remaining_s(deadline), _hang_up, [connection.sock])
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.request("GET", request_target, headers=dict(headers))
            response = connection.getresponse()
            # To the parser, a closed connection is the end of the headers.
            _remaining_s(deadline)
            return response.status, response.getheader("Location")
        except (OSError, http.client.HTTPException):
            _remaining_s(deadline)
            raise
        finally:
            watchdog.cancel()
    finally:
        connection.close()


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _connection(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http or https URL: {_without_query(url)}")
    origin_form = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    proxy = _proxy_for(parts.scheme, parts.hostname)
    secure = parts.scheme == "https"
    host, port = (proxy.hostname, proxy.port) if proxy else (parts.hostname, parts.port)
    if not secure:
        plain = http.client.HTTPConnection(host or "", port, timeout=timeout_s)
        return plain, urllib.parse.urldefrag(url).url if proxy else origin_form
    connection = http.client.HTTPSConnection(host or "", port, timeout=timeout_s, context=ssl.create_default_context())
    if proxy:
        connection.set_tunnel(parts.hostname, parts.port)
    return connection, origin_form


def _proxy_for(scheme: str, host: str) -> urllib.parse.SplitResult | None:
    if _is_loopback(host):
        return None
    import urllib.request  # takes 20 ms, and only remote addresses require it

    proxy = urllib.request.getproxies_environment().get(scheme)
    if not proxy or urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]
        return None
    return urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
