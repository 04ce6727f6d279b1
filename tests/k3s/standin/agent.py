# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of a node: its credentials, its Node and its heartbeat."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import random
import secrets
import time
from pathlib import Path
from typing import NoReturn

import yaml

from tests.k3s.standin import access, tls
from tests.k3s.standin.api import CONFLICT, LEASES, NOT_FOUND, Object
from tests.k3s.standin.common import (
    NODE_PASSWORD,
    FatalError,
    log,
    notify_ready,
    scaled,
    timestamp,
    version,
    write_private,
)
from tests.k3s.standin.settings import Settings

HEARTBEAT_S, CONFIG_PAUSE_S, VALIDATE_PAUSE_S = 10.0, 5.0, 2.0
FORBIDDEN = 403
REJECTED = (
    f"Node password rejected, duplicate hostname or contents of '{NODE_PASSWORD}' may not match server node-passwd "
    "entry, try enabling a unique node name with the --with-node-id flag"
)


class Agent:
    """An agent; that of a server connects to its own supervisor."""

    def __init__(self, settings: Settings, url: str, token: str, local: bool = False) -> None:
        self.settings, self.url, self.token, self.local = settings, url, token, local
        self.folder = settings.data_dir / "agent"
        self.balancer = self.folder / "etc" / "k3s-agent-load-balancer.json"
        if not NODE_PASSWORD.exists():
            write_private(NODE_PASSWORD, f"{secrets.token_hex(16)}\n")
        self.password = NODE_PASSWORD.read_text(encoding="utf-8").strip()
        known = json.loads(self.balancer.read_text(encoding="utf-8")) if self.balancer.exists() else {}
        self.servers: list[str] = known.get("ServerAddresses", [])

    def join(self) -> None:
        """Get credentials and create the Node, without a timeout."""
        _check_registries(Path(self.settings.text("private-registry")))
        for image in sorted((self.folder / "images").glob("*.tar*")):
            log("info", f"Importing images from {image} (the stand-in imports nothing)")
        self._validate()
        while True:
            try:
                self._configure()
                return self._register()
            except (FatalError, ValueError) as error:
                log("info", f"Waiting to retrieve agent configuration; server is not ready: {error}")
                time.sleep(scaled(CONFIG_PAUSE_S * (1 + random.random())))

    def beat(self) -> NoReturn:
        """Renew the node's lease repeatedly; use another server when one is down."""
        while True:
            try:
                self._renew()
                self._learn_servers()
            except (FatalError, ValueError) as error:
                log("error", f"Failed to update lease: {error}")
                if self.servers:
                    self.servers = [*self.servers[1:], self.servers[0]]
                    self.access.url = f"https://{self.servers[0]}"
            time.sleep(scaled(HEARTBEAT_S))

    def _validate(self) -> None:
        for url in itertools.cycle([self.url, *(f"https://{server}" for server in self.servers)]):
            try:
                self.access = access.validate(url, self.token, "node")
            except FatalError as error:
                log("error", f"Failed to validate connection to cluster at {self.url}: {error}")
                time.sleep(VALIDATE_PAUSE_S)
            else:
                return

    def _configure(self) -> None:
        """Get configuration, CAs and the certificates of the kubelet."""
        try:
            self.access.get("/v1-k3s/config")
        except FatalError as error:
            raise FatalError(f"failed to retrieve configuration from server: {error}") from error
        for name in ("client-ca.crt", "server-ca.crt"):
            write_private(self.folder / name, self.access.get(f"/v1-k3s/{name}"))
        headers = {"k3s-Node-Name": self.settings.node_name, "k3s-Node-Password": self.password}
        headers["k3s-Node-IP"] = ",".join(self.settings.addresses)
        for target in ("serving-kubelet", "client-kubelet"):
            try:
                text = self.access.get(f"/v1-k3s/{target}.crt", headers)
            except access.RequestError as error:
                raise FatalError(REJECTED if error.status == FORBIDDEN else str(error)) from error
            certificate, end, key = text.rpartition(f"{tls.END}\n")
            write_private(self.folder / f"{target}.crt", certificate + end)
            write_private(self.folder / f"{target}.key", key)
        self._learn_servers()

    def _learn_servers(self) -> None:
        """Store the addresses of all servers."""
        if not self.local:
            self.servers = json.loads(self.access.get("/v1-k3s/apiservers"))
            write_private(self.balancer, json.dumps({"ServerURL": self.url, "ServerAddresses": self.servers}))

    def _api(self, method: str, path: str, body: Object | None = None) -> Object:
        """Return the answer of the API to the node's own credentials."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        kubelet = access.Access(self.access.url, self.access.ca, certificate=self.folder / "client-kubelet")
        answer: Object = json.loads(kubelet.request(method, path, body, {"Content-Type": kind}))
        return answer

    def _register(self) -> None:
        """Create the Node, or update the fields of a kubelet."""
        node = self._node()
        try:
            self._api("POST", "/api/v1/nodes", node)
        except access.RequestError as error:
            if error.status != CONFLICT:
                raise
            self._api(
                "PATCH",
                f"/api/v1/nodes/{self.settings.node_name}",
                {"metadata": node["metadata"], "status": node["status"]},
            )
        self._renew()

    def _node(self) -> Object:
        settings = self.settings
        labels = {"kubernetes.io/hostname": settings.node_name, "node.kubernetes.io/instance-type": "k3s"}
        labels |= {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        labels |= dict(label.partition("=")[::2] for label in settings.items("node-label"))
        taints = []
        for taint in settings.items("node-taint"):
            key, _separator, effect = taint.rpartition(":")
            taints.append({"key": key.partition("=")[0], "value": key.partition("=")[2], "effect": effect})
        annotations = {
            "k3s.io/hostname": settings.node_name,
            "k3s.io/internal-ip": settings.addresses[0],
            "k3s.io/node-args": json.dumps([settings.command, *settings.recorded]),
        }
        info = {"kubeletVersion": version(), "osImage": "stand-in for tests", "kernelVersion": platform.release(),
                "containerRuntimeVersion": "none", "operatingSystem": "linux", "architecture": "amd64"}  # fmt: skip
        addresses = [{"type": "InternalIP", "address": address} for address in settings.addresses]
        return {
            "metadata": {"name": settings.node_name, "labels": labels, "annotations": annotations},
            "spec": {"taints": taints},
            "status": {"addresses": [*addresses, {"type": "Hostname", "address": settings.node_name}], "nodeInfo": info,
                       "capacity": {"cpu": str(os.cpu_count()), "pods": "110"}},
        }  # fmt: skip

    def _renew(self) -> None:
        """Renew the lease, and set Ready where a controller has changed it."""
        name, spec = self.settings.node_name, {"spec": {"renewTime": timestamp()}}
        try:
            self._api("PATCH", f"{LEASES}/{name}", spec)
        except access.RequestError as error:
            if error.status != NOT_FOUND:
                raise
            with contextlib.suppress(access.RequestError):
                self._api("POST", LEASES, {"metadata": {"name": name}, **spec})
        node = self._api("GET", f"/api/v1/nodes/{name}")
        conditions = node["status"].get("conditions", [])
        if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": timestamp()}
            ready["message"] = "kubelet is posting ready status"
            others = [each for each in conditions if each["type"] != "Ready"]
            self._api("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [*others, ready]}})


def _check_registries(path: Path) -> None:
    try:
        yaml.safe_load(path.read_text(encoding="utf-8") if path.exists() else "")
    except yaml.YAMLError as error:
        raise FatalError(f"failed to get registry configuration: {error}") from error


def run(settings: Settings) -> NoReturn:
    """Run an agent until a signal ends it."""
    settings.check()
    token, url = settings.secret("token"), settings.text("server")
    if not token and not (settings.data_dir / "agent" / "client-kubelet.crt").exists():
        raise FatalError("--token is required")
    if not url:
        raise FatalError("--server is required")
    log("info", f"Starting k3s agent {version()} (stand-in for tests: not K3s)")
    node = Agent(settings, url, token)
    node.join()
    log("info", "k3s agent is up and running")
    notify_ready()
    node.beat()
