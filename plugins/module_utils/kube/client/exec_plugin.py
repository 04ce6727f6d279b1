# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read credentials from a program of a kubeconfig (`exec`), such as gke-gcloud-auth-plugin or kubelogin.

Source: client.authentication.k8s.io/v1 and v1beta1, which differ in `interactiveMode` only.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .credentials import Certificate, bearer
from .errors import ConfigError

_GROUP = "client.authentication.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
_TIMEOUT_S = 60.0
# A token must not expire during a request.
_MARGIN_S = 10.0
_PRIVATE_UMASK = 0o077
# Error messages of a plugin may contain the rejected token.
_TOKEN = re.compile(r"[\w.+=-]{40,}", re.ASCII)


@dataclass(frozen=True)
class _Status:
    """Credentials that the program returned."""

    header: str = field(repr=False)
    shown: Certificate | None
    expires: dt.datetime | None

    @property
    def is_fresh(self) -> bool:
        return self.expires is None or (self.expires - dt.datetime.now(dt.UTC)).total_seconds() > _MARGIN_S


class ExecPlugin:
    """Runs the program for the first request, and again when the credentials expire or are rejected."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], api_version: str, name: str, hint: str = ""
    ) -> None:
        self.name = name
        self._command, self._environment, self._api_version, self._hint = command, environment, api_version, hint
        self._lock = threading.Lock()
        self._status: _Status | None = None

    @classmethod
    def of(
        cls, given: Any, file: str, folder: Path | None, user: str, cluster: Mapping[str, Any], authority: str
    ) -> Self:
        """Return the plugin of a user's `exec`. Raises ConfigError."""
        if not isinstance(given, Mapping) or not isinstance(given.get("command"), str) or not given["command"]:
            raise ConfigError(f"{file}: exec of {user} names no command")
        version = given.get("apiVersion")
        if version not in _VERSIONS:
            raise ConfigError(f"{file}: exec of {user} has apiVersion {version!r}; known are {' and '.join(_VERSIONS)}")
        if given.get("interactiveMode") == "Always":
            raise ConfigError(f"{file}: exec of {user} wants a terminal (interactiveMode: Always); there is none here")
        command = given["command"]
        if "/" in command and folder is not None:
            command = str(folder / Path(command).expanduser())
        spec: dict[str, Any] = {"interactive": False}
        if given.get("provideClusterInfo"):
            spec["cluster"] = _cluster_info(cluster, authority)
        told = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
        variables = {str(item["name"]): str(item["value"]) for item in given.get("env") or ()}
        arguments = [str(argument) for argument in given.get("args") or ()]
        name = f"the plugin {given['command']} of {user} in {file}"
        environment = {**variables, "KUBERNETES_EXEC_INFO": told}
        return cls([command, *arguments], environment, version, name, str(given.get("installHint") or "").strip())

    def authorization(self) -> str:
        return self._current().header

    def certificate(self) -> Certificate | None:
        return self._current().shown

    def renew(self, refused: str, /) -> bool:
        with self._lock:
            # Otherwise another thread has already discarded the header.
            if self._status is not None and self._status.header == refused:
                self._status = None
        return True

    def _current(self) -> _Status:
        with self._lock:
            if self._status is None or not self._status.is_fresh:
                self._status = self._read(self._run())
            return self._status

    def _run(self) -> bytes:
        program = shutil.which(self._command[0])
        if program is None:
            remedy = " ".join(self._hint.split()) or f"install {Path(self._command[0]).name}, or put it on PATH"
            raise ConfigError(f"{self.name} is not installed; {remedy}")
        # AnsibleModule.run_command requires a module, and has no timeout. The output is a credential.
        with (
            subprocess.Popen(  # pylint: disable=ansible-bad-function
                [program, *self._command[1:]],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                umask=_PRIVATE_UMASK,
            ) as process
        ):
            try:
                output, errors = process.communicate(timeout=_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise ConfigError(f"{self.name} did not end within {_TIMEOUT_S:g} s; does it want a login?") from None
        if process.returncode:
            said = _TOKEN.sub("********", " ".join(errors.decode(errors="replace").split()))[-300:]
            raise ConfigError(f"{self.name} failed with status {process.returncode}: {said or 'it said nothing'}")
        return output

    def _read(self, output: bytes) -> _Status:
        # The output is omitted, because it may be a token.
        try:
            told = json.loads(output)
            status = told["status"]
            version, expiry = told["apiVersion"], status.get("expirationTimestamp")
            expires = dt.datetime.fromisoformat(expiry) if expiry else None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(f"{self.name} printed no ExecCredential with a status") from None
        if version != self._api_version:
            raise ConfigError(f"{self.name} answered in {version!r}, but the kubeconfig says {self._api_version!r}")
        token = status.get("token")
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        if not token and not (certificate and key):
            raise ConfigError(f"{self.name} returned neither a token nor a certificate with its key")
        shown = Certificate(certificate, key, f"the client certificate of {self.name}") if certificate and key else None
        header = bearer(str(token), f"the token of {self.name}") if token else ""
        return _Status(header, shown, expires.replace(tzinfo=expires.tzinfo or dt.UTC) if expires else None)


def _cluster_info(cluster: Mapping[str, Any], authority: str) -> dict[str, Any]:
    import base64

    info = {
        "server": cluster.get("server"),
        "tls-server-name": cluster.get("tls-server-name"),
        "insecure-skip-tls-verify": cluster.get("insecure-skip-tls-verify"),
        "certificate-authority-data": base64.b64encode(authority.encode()).decode() if authority else None,
        "proxy-url": cluster.get("proxy-url"),
    }
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == f"{_GROUP}/exec":
            info["config"] = extension.get("extension")
    return {key: value for key, value in info.items() if value is not None}
