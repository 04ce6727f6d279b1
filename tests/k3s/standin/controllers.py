# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers of a server: learners and voters, removal of members, labels of servers, and nodes without heartbeat."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.k3s.standin.api import LEASES, SECRETS, Api, ApiError, Object
from tests.k3s.standin.common import FatalError, log, scaled, timestamp, write_private
from tests.k3s.standin.etcd import Client, EtcdError, Member
from tests.k3s.standin.settings import Settings

LEASE_KEY, LEASE_S = "/registry/leases/kube-system/k3s", 45.0
# K3s reacts to events; the stand-in polls every second.
MANAGE_S, SYNC_S = 15.0, 1.0
# The controller manager updates nodes after this time without a heartbeat.
GRACE_S = 40.0
STATUS_LIMIT_S = 2.0
FINALIZER = "wrangler.cattle.io/managed-etcd-controller"
REMOVE, REMOVED = "etcd.k3s.cattle.io/remove", "etcd.k3s.cattle.io/removed-node-name"
MEMBER_NAME, MEMBER_ADDRESS = "etcd.k3s.cattle.io/node-name", "etcd.k3s.cattle.io/node-address"
ETCD_ROLE = "node-role.kubernetes.io/etcd"
ROLES = (ETCD_ROLE, "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
STATES = {
    "voter": ("True", "MemberNotLearner", "Node is a voting member of the etcd cluster"),
    "learner": ("False", "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster"),
    "unhealthy": ("False", "Unhealthy", "Node is unhealthy"),
    "unjoined": ("False", "NotAMember", "Node is not a member of the etcd cluster"),
}
TOLERATED = (EtcdError, ApiError, FatalError, OSError, KeyError)


def peers(folder: Path) -> list[str]:
    """Return the client URLs of the other members, as this server last saw them."""
    path = folder / "db" / "peers.json"
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _annotations(node: Object) -> dict[str, str]:
    return node["metadata"].get("annotations") or {}


class Controllers:
    """Threads of one server; those for the whole cluster run only on the server that holds the lease."""

    def __init__(self, api: Api, member: Member, settings: Settings) -> None:
        self._api, self._member, self._settings = api, member, settings
        self._client = member.client
        self._lease = ""
        self._known: set[str] = set()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start all threads."""
        for action, pause_s in ((self._sync_self, SYNC_S), (self._lead, SYNC_S), (self._manage, scaled(MANAGE_S))):
            threading.Thread(target=self._repeat, args=(action, pause_s), daemon=True).start()

    def stop(self) -> None:
        """Stop all actions, and release the lease."""
        self._stopped.set()
        if self._lease:
            with contextlib.suppress(EtcdError):
                self._client.call("kv/lease/revoke", {"ID": self._lease}, 1)

    def _repeat(self, action: Callable[[], None], pause_s: float) -> None:
        while not self._stopped.wait(pause_s):
            try:
                action()
            except TOLERATED as error:
                log("error", f"{action.__name__.strip('_')}: {error}")

    def _nodes(self) -> list[Object]:
        found: list[Object] = self._api.request("GET", "/api/v1/nodes")["items"]
        return found

    def _patch(self, node: Object, body: Object) -> None:
        self._api.request("PATCH", f"/api/v1/nodes/{node['metadata']['name']}", body)

    def _set_condition(self, node: Object, kind: str, status: str, reason: str, message: str) -> None:
        conditions = node["status"].get("conditions", [])
        if any(each["type"] == kind and each["reason"] == reason for each in conditions):
            return
        new = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": timestamp()}
        self._patch(node, {"status": {"conditions": [*(each for each in conditions if each["type"] != kind), new]}})

    def _sync_self(self) -> None:
        """Update labels, annotations and finalizer of this server's node, and record the other members."""
        for node in self._nodes():
            if node["metadata"]["name"] == self._settings.node_name:
                self._label(node)
        others = [each for each in self._client.members() if each.get("name") != self._member.name]
        urls = [url for each in others for url in each.get("clientURLs", [])]
        write_private(self._settings.server_dir / "db" / "peers.json", json.dumps(urls))

    def _label(self, node: Object) -> None:
        meta = node["metadata"]
        if meta.get("deletionTimestamp") or _annotations(node).get(REMOVED) == self._member.name:
            return
        annotations = {MEMBER_NAME: self._member.name, MEMBER_ADDRESS: self._member.address}
        wanted: Object = {"labels": dict.fromkeys(ROLES, "true"), "annotations": annotations}
        finalizers = meta.get("finalizers") or []
        if FINALIZER not in finalizers or any(wanted[kind].items() - (meta.get(kind) or {}).items() for kind in wanted):
            self._patch(node, {"metadata": {**wanted, "finalizers": sorted({*finalizers, FINALIZER})}})

    def _lead(self) -> None:
        """Acquire or renew the lease, and act for the cluster while it is held."""
        if not self._hold_lease():
            return
        nodes = self._nodes()
        for node in nodes:
            self._sync_removal(node)
            if node["metadata"].get("deletionTimestamp"):
                self._finish_deletion(node)
        self._check_heartbeats(nodes)
        self._collect({node["metadata"]["name"] for node in nodes})

    def _hold_lease(self) -> bool:
        call = self._client.call
        if self._lease and int(call("lease/keepalive", {"ID": self._lease}, 5).get("result", {}).get("TTL", 0)) > 0:
            return True
        self._lease = ""
        lease = str(call("lease/grant", {"TTL": str(max(2, int(scaled(LEASE_S))))}, 5)["ID"])
        if self._client.swap(LEASE_KEY, 0, self._settings.node_name, lease) is None:
            call("kv/lease/revoke", {"ID": lease}, 5)
            return False
        self._lease = lease
        log("info", f"{self._settings.node_name} holds the lease of the controllers")
        return True

    def _sync_removal(self, node: Object) -> None:
        """Remove the member of a node whose annotation requests it."""
        found = _annotations(node)
        name, removed = found.get(MEMBER_NAME), found.get(REMOVED)
        if REMOVE in found and removed and name and name != removed:
            log("info", "Resetting removed node flag as removed node name did not match current node name")
            self._patch(node, {"metadata": {"annotations": {REMOVED: None, REMOVE: "false"}}})
        elif found.get(REMOVE, "").lower() == "true" and not removed and name:
            self._remove_member(name, found.get(MEMBER_ADDRESS, ""))
            self._patch(node, {"metadata": {"annotations": {REMOVED: name, MEMBER_NAME: None, MEMBER_ADDRESS: None}}})

    def _remove_member(self, name: str, address: str) -> None:
        for each in self._client.members():
            if each.get("name") == name and any(urlsplit(url).hostname == address for url in each["peerURLs"]):
                log("info", f"Removing name={name} id={each['ID']} address={address} from etcd")
                self._client.call("cluster/member/remove", {"ID": each["ID"]}, 60)

    def _finish_deletion(self, node: Object) -> None:
        """Remove the member of a node that is being deleted, then the finalizer."""
        if name := _annotations(node).get(MEMBER_NAME):
            self._remove_member(name, _annotations(node).get(MEMBER_ADDRESS, ""))
        others = [each for each in node["metadata"].get("finalizers") or [] if each != FINALIZER]
        self._patch(node, {"metadata": {"finalizers": others}})

    def _check_heartbeats(self, nodes: list[Object]) -> None:
        """Set Ready of nodes without heartbeat to Unknown."""
        leases = {
            each["metadata"]["name"]: each["spec"]["renewTime"] for each in self._api.request("GET", LEASES)["items"]
        }
        for node in nodes:
            renewed = leases.get(node["metadata"]["name"])
            if renewed and time.time() - datetime.fromisoformat(renewed).timestamp() > scaled(GRACE_S):
                self._set_condition(
                    node, "Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."
                )

    def _collect(self, present: set[str]) -> None:
        """Delete password and lease of deleted nodes, as garbage collection does."""
        for name in sorted(self._known - present):
            for path in (f"{SECRETS}/{name}.node-password.k3s", f"{LEASES}/{name}"):
                with contextlib.suppress(ApiError):
                    self._api.request("DELETE", path)
        self._known = present

    def _manage(self) -> None:
        """Promote learners and set EtcdIsVoter, on the leader of etcd only."""
        status = self._client.call("maintenance/status")
        if status["header"]["member_id"] != status.get("leader"):
            return
        members = {each.get("name"): each for each in self._client.members()}
        for name, each in members.items():
            if each.get("isLearner"):
                self._promote(name, each["ID"])
        for node in self._nodes():
            if ETCD_ROLE in (node["metadata"].get("labels") or {}):
                self._set_condition(
                    node, "EtcdIsVoter", *STATES[self._state(members.get(_annotations(node).get(MEMBER_NAME)))]
                )

    def _promote(self, name: str | None, number: str) -> None:
        try:
            self._client.call("cluster/member/promote", {"ID": number})
            log("info", f"Promoted learner {name}")
        except EtcdError as error:
            log("debug", f"Unable to promote learner {name}: {error}")

    def _state(self, member: dict[str, Any] | None) -> str:
        if member is None:
            return "unjoined"
        if member.get("isLearner"):
            return "learner"
        try:
            Client(self._member.tls, member["clientURLs"][0]).call("maintenance/status", limit_s=STATUS_LIMIT_S)
        except EtcdError:
            return "unhealthy"
        return "voter"
