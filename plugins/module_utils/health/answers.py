# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request HTTP answers of the services, and supervisord's state over its Unix socket."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import urllib.parse
import xmlrpc.client
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

BODY_LIMIT_BYTES = 16 * 1024 * 1024
SUPERVISOR_LOG_TAIL_BYTES = 64 * 1024


class NoAnswerError(Exception):
    """A service without a usable answer. The message states the cause in one line, without secrets."""


class UnreachedError(NoAnswerError):
    """A service that this process cannot reach. The service itself may be healthy."""


class Answering(Protocol):
    """A source of text and JSON by path. Both methods raise `NoAnswerError`."""

    def text(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> str: ...

    def json(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> object: ...


@dataclass(frozen=True)
class Server:
    """A base URL and its credentials. Requests bypass proxies: the platform's services are reached directly."""

    url: str
    timeout_s: float
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def text(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> str:
        """Return the body of a GET. Raises `NoAnswerError`."""
        try:
            status, body = self._get(path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswerError(in_words(error, self.timeout_s)) from error
        if status == http.client.UNAUTHORIZED:
            raise NoAnswerError("HTTP 401: the username or password is rejected")
        if status not in accepted_status:
            raise NoAnswerError(f"HTTP {status} for {path.partition('?')[0]}")
        return body.decode(errors="replace")

    def json(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> object:
        """Return the decoded body of a GET. Raises `NoAnswerError`, also for a body that is not JSON."""
        text = self.text(path, accepted_status)
        try:
            return json.loads(text)
        except ValueError as error:
            raise NoAnswerError(f"the answer to {path.partition('?')[0]} is not JSON") from error

    def _get(self, path: str) -> tuple[int, bytes]:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http or https URL")
        connection = (
            http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.timeout_s, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout_s)
        )
        headers = {"Accept": "*/*", "User-Agent": "crypto-lakehouse-health", "Connection": "close"}
        if self.username and self.password is not None:
            account = f"{self.username}:{self.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(account).decode()}"
        try:
            connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(BODY_LIMIT_BYTES)
        finally:
            connection.close()


def in_words(error: Exception, timeout_s: float) -> str:
    """Return the message of a network error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed the connection without an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def read_secret(path: str | os.PathLike[str]) -> str:
    """Return the secret in a file. Raises `NoAnswerError`, which names the file."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no text"
        raise NoAnswerError(f"cannot read the password file {path}: {reason.lower()}") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self.timeout)
            connecting.connect(self._path)
        except OSError:
            connecting.close()
            raise
        self.sock = connecting


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__()
        self._path, self._timeout_s = path, timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # The base class closes `_connection`.
        connection = self._connection[1] or _UnixConnection(self._path, self._timeout_s)
        self._connection = host, connection
        return connection


@dataclass(frozen=True)
class SupervisorAnswer:
    """Result of `getAllProcessInfo`, and the end of supervisord's own log, which is empty if there is none."""

    processes: list[dict[str, Any]]
    log: str


def ask_supervisor(socket_path: str, timeout_s: float) -> SupervisorAnswer:
    """Return the state of supervisord's programs. Raises `NoAnswerError` when supervisord does not run."""
    transport = _UnixTransport(socket_path, timeout_s)
    try:
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
            answer: Any = proxy.supervisor.getAllProcessInfo()
            log = _log_tail(proxy)
    except FileNotFoundError:
        raise NoAnswerError(f"supervisord does not run: there is no {socket_path}") from None
    except ConnectionRefusedError:
        raise NoAnswerError(f"supervisord does not run: no process listens on {socket_path}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(in_words(error, timeout_s)) from error
    except xmlrpc.client.Error as error:
        raise NoAnswerError(f"supervisord answers with an error: {_fault(error)}") from error
    if not isinstance(answer, list):
        raise NoAnswerError("supervisord's answer is not a list of processes")
    return SupervisorAnswer(answer, log)


def _log_tail(proxy: xmlrpc.client.ServerProxy) -> str:
    try:
        return str(proxy.supervisor.readLog(-SUPERVISOR_LOG_TAIL_BYTES, 0))
    except (xmlrpc.client.Fault, OSError, http.client.HTTPException):
        return ""


def _fault(error: xmlrpc.client.Error) -> str:
    if isinstance(error, xmlrpc.client.ProtocolError):
        return f"HTTP {error.errcode}"
    return error.faultString if isinstance(error, xmlrpc.client.Fault) else type(error).__name__
