# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared data of servers: tokens, CAs and settings, from the server to join or from the datastore."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
from pathlib import Path

from tests.k3s.standin import access, files, tls
from tests.k3s.standin.common import FatalError, log, write_private
from tests.k3s.standin.etcd import Client, Member
from tests.k3s.standin.settings import Settings

NEWER_S = 3


class Bootstrap:
    """The bootstrap of one server. `access` is the server to join, if there is one."""

    def __init__(self, settings: Settings, member: Member) -> None:
        self._settings, self._member, self._folder = settings, member, settings.server_dir
        self._token, self._agent_token = settings.secret("token"), settings.secret("agent-token")
        self.access: access.Access | None = None
        self.node_token = ""

    def prepare(self) -> None:
        """Get the cluster's CAs from the server to join, or verify those on disk with the datastore."""
        url = self._settings.text("server")
        if self._settings.flag("cluster-reset"):
            if not self._member.initialized and not self._settings.text("cluster-reset-restore-path"):
                raise FatalError(f"etcd datastore is not initialized in {self._member.data}")
        elif self._member.initialized:
            log("info", "Managed etcd cluster bootstrap already complete and initialized")
            with contextlib.suppress(FatalError):
                self.access = access.validate(url, self._token, "server") if url and self._token else None
            if not self._reconcile_with_server():
                self._reconcile_with_copy()
        elif url:
            self._join(url)
        elif self._settings.flag("cluster-init"):
            log("info", "Managed etcd cluster initializing")
        else:
            raise FatalError("the stand-in has no SQLite: set cluster-init or server")

    def _reconcile_with_server(self) -> bool:
        try:
            text = self.access.get("/v1-k3s/server-bootstrap") if self.access else ""
        except access.RequestError as error:
            log("warning", f"Unable to reconcile with remote datastore: {error}")
            return False
        if text:
            self.reconcile(text)
        return bool(text)

    def _join(self, url: str) -> None:
        if not self._token:
            raise FatalError(
                "failed to check if bootstrap data has been initialized: token is required to join a cluster"
            )
        try:
            self.access = access.validate(url, self._token, "server")
        except FatalError as error:
            raise FatalError(
                f"failed to check if bootstrap data has been initialized: failed to validate token: {error}"
            ) from error
        log("info", "Managed etcd cluster not yet initialized")
        self._compare_settings(url)
        self.reconcile(self.access.get("/v1-k3s/server-bootstrap"))

    def _compare_settings(self, url: str) -> None:
        """Raise FatalError when a setting that all servers share differs."""
        node = access.validate(url, self._agent_token or self._token, "node")
        try:
            theirs = json.loads(node.get("/v1-k3s/config"))["Critical"]
        except access.RequestError as error:
            return log("warning", f"Skipping cluster configuration validation: {error}")
        different = [flag for flag, value in self._settings.critical().items() if theirs.get(flag) != value]
        for flag in different:
            log("warning", f"critical configuration mismatched: {flag}")
        if different:
            raise FatalError(
                "failed to validate server configuration: critical configuration value mismatch between servers"
            )
        return None

    def text(self) -> str:
        """Return the bootstrap data of the files on disk: by name, content and modification time."""
        found = {name: self._folder / path for name, path in files.BOOTSTRAP.items() if (self._folder / path).exists()}
        return json.dumps(
            {
                name: {"Timestamp": int(path.stat().st_mtime), "Content": base64.b64encode(path.read_bytes()).decode()}
                for name, path in found.items()
            }
        )

    def reconcile(self, text: str, replace: bool = False) -> None:
        """Replace files that differ from the bootstrap data; raise FatalError for those that are newer on disk."""
        newer = []
        for name, entry in json.loads(text).items():
            path, content = self._folder / files.BOOTSTRAP[name], base64.b64decode(entry["Content"])
            if path.exists() and path.read_bytes() == content:
                continue
            if path.exists() and not replace and path.stat().st_mtime - entry["Timestamp"] >= NEWER_S:
                newer.append(str(path))
                continue
            write_private(path, content.decode(), 0o644 if path.suffix == ".crt" else 0o600)
            os.utime(path, (entry["Timestamp"], entry["Timestamp"]))
        if newer:
            raise FatalError(
                f"{', '.join(newer)} newer than datastore and could cause a cluster outage. Remove the file(s) from "
                "disk and restart to be recreated from datastore."
            )

    def _reconcile_with_copy(self) -> None:
        """Verify token and files with the bootstrap data in a copy of the local datastore."""
        log("info", "Starting temporary etcd to reconcile with datastore")
        copy = self._member.data.with_name("etcd-tmp")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._member.data, copy)
        try:
            client = self._member.start_temporary(copy)
            self._member.wait_for(client)
            if (text := self.load(client)) is not None:
                self.reconcile(text)
        except FatalError as error:
            log("fatal", f"Failed to reconcile with temporary etcd: {error}")
            sys.exit(1)
        finally:
            self._member.stop()
            shutil.rmtree(copy, ignore_errors=True)

    def password(self) -> str:
        """Return the password of the configured token, or of the token file, or an empty text."""
        path = self._folder / "token"
        text = self._token or (path.read_text(encoding="utf-8").strip() if path.exists() else "")
        return access.parse_token(text).password if text else ""

    def load(self, client: Client) -> str | None:
        """Return the bootstrap data of a datastore, or None when it has none; raise FatalError for another token."""
        values = {key: text for key, text, _revision in client.read("/bootstrap/")}
        key = _key(self.password())
        if values and key not in values:
            raise FatalError("bootstrap data already found and encrypted with different token")
        return tls.encrypt(self.password(), base64.b64decode(values[key]), decrypt=True).decode() if values else None

    def save(self, client: Client) -> None:
        """Store the bootstrap data, encrypted with the token, unless it exists."""
        if self.load(client) is None:
            encrypted = base64.b64encode(tls.encrypt(self.password(), self.text().encode())).decode()
            client.swap(_key(self.password()), 0, encrypted)

    def write_passwords(self) -> None:
        """Write the passwords of servers and nodes; without a token a new cluster generates one."""
        path = self._folder / "cred" / "passwd"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        known = {line.split(",")[1]: line.split(",")[0] for line in lines}
        server = self.password() or known.get("server") or secrets.token_hex(16)
        node = access.parse_token(self._agent_token).password if self._agent_token else server
        text = f"{node},node,node,k3s:agent\n{server},server,server,k3s:server\n"
        if lines != text.splitlines():
            write_private(path, text)
        self._token, self.node_token = server, node

    def write_tokens(self) -> None:
        """Write the token files."""
        digest = tls.ca_hash((self._folder / "tls" / "server-ca.crt").read_text(encoding="utf-8"))
        token, agent_token = self._folder / "token", self._folder / "agent-token"
        write_private(token, f"K10{digest}::server:{self._token}\n")
        _link(self._folder / "node-token", token)
        self.node_token = f"K10{digest}::node:{self.node_token}"
        if self._agent_token:
            agent_token.unlink(missing_ok=True)
            write_private(agent_token, f"{self.node_token}\n")
        else:
            _link(agent_token, token)
        log("info", f"Server node token is available at {token}")
        log("info", f"Agent node token is available at {agent_token}")


def _key(password: str) -> str:
    return f"/bootstrap/{hashlib.sha256(password.encode()).hexdigest()[:12]}"


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.unlink(missing_ok=True)
        path.symlink_to(target)
