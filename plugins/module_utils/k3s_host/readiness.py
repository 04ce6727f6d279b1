# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait for the node of this host: its Node and Lease in the API, its service, and the log of the service."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..host.errors import HostError
from ..k3s.waits import RUNNING_S, ServicePoll, Wanted, failure, incomplete, last_message
from ..kube.client.paths import path_of
from ..shared.commands import run_command
from .access import AccessError, Api, KubeletApi, agent_urls
from .cluster import Site, node_path, said
from .files import read_configuration
from .service import Service, read_service

JOURNAL_LINES = 400
JOURNAL_LIMIT_S = 30.0


def wait_voter(site: Site, name: str, unit: str, version: str = "", *, changed: bool = False) -> None:
    """Wait until the node of this server is ready and votes in etcd. changed: whether its settings are new."""
    _wait(site, site.api, Watch(unit), name, Wanted(True, version, RUNNING_S if changed else 0.0))


def wait_ready(site: Site, name: str, unit: str, version: str = "", *, changed: bool = False) -> None:
    """Wait until the node of this agent is ready. changed: whether its settings are new."""
    server = str(read_configuration(Path("/")).get("server", ""))
    api = KubeletApi(site.data, agent_urls(site.data, server))
    _wait(site, api, Watch(unit), name, Wanted(False, version, RUNNING_S if changed else 0.0))


def _wait(site: Site, api: Api | KubeletApi, watch: Watch, name: str, wanted: Wanted) -> None:
    """Wait for a node. A repeatedly failing service ends the wait, in the same poll, with the last error of its log."""

    def condition() -> str:
        watch.check()
        return said(lambda: _reason(site, api, watch, name, wanted))

    site.wait(condition, f"{name} is not {'a voter and ' if wanted.voter else ''}ready", watch.last_error)


def _reason(site: Site, api: Api | KubeletApi, watch: Watch, name: str, wanted: Wanted) -> str:
    """Return why a node is not complete. A server is asked itself, so that its own API is ready too."""
    if wanted.voter and not site.api.ready():
        return "its API is not ready"
    return incomplete(wanted, api.get(node_path(name)), watch.poll(_renewed_s(api, name)) if watch.unit else None)


def _renewed_s(api: Api | KubeletApi, name: str) -> float:
    """Return the time at which a kubelet renewed the Lease of its node, in seconds since 1970; 0 before it did."""
    path = path_of("apis", "coordination.k8s.io", "v1", "namespaces", "kube-node-lease", "leases", name)
    try:
        return seconds(api.get(path))
    except AccessError:
        return 0.0


def seconds(lease: Any) -> float:
    """Return the time at which a Lease was renewed, in seconds since 1970; 0 for one that never was."""
    text = str(lease.get("spec", {}).get("renewTime") or "")
    return dt.datetime.fromisoformat(text).timestamp() if text else 0.0


@dataclass
class Watch:
    """A unit of this host during a wait; none without a name."""

    unit: str
    lowest: int = -1

    def __post_init__(self) -> None:
        self.began_s = time.time()
        self.service = Service()

    def poll(self, renewed_s: float = 0.0) -> ServicePoll:
        """Return the state of the service as `check` has read it. A start by the role sets the restarts to 0."""
        service = self.service
        ran_s = time.time() - service.started_s if service.pid else None
        renewed = bool(service.pid) and renewed_s >= service.started_s
        return ServicePoll(service.state, service.result, service.restarts - self.lowest, ran_s, renewed)

    def check(self) -> None:
        """Read the service. Raise `HostError` if it fails repeatedly."""
        if not self.unit:
            return
        self.service = read_service(self.unit)
        restarts = self.service.restarts
        self.lowest = restarts if self.lowest < 0 else min(self.lowest, restarts)
        cause = failure(self.poll(), self._journal)
        if cause:
            raise HostError(f"cannot start {self.unit}: {cause}. Read `journalctl -u {self.unit}`.")

    def last_error(self) -> str:
        """Return the last error in the log of the service since the wait began; empty without one."""
        error = last_message(self._journal(), "error") if self.unit else ""
        return f"the last error of {self.unit} is: {error}" if error else ""

    def _journal(self) -> str:
        since = f"--since=@{int(self.began_s)}"
        command = ["journalctl", "--unit", self.unit, "--output=cat", f"--lines={JOURNAL_LINES}", since]
        try:
            return run_command(command, JOURNAL_LIMIT_S).output
        except (OSError, TimeoutError):
            return ""
