# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits and changes of a running cluster: learners, members, Node objects and node passwords."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..host.errors import HostError
from ..k3s.model import Member
from ..kube.client.paths import core_path, path_of
from .access import NOT_FOUND, PASSWORD_SUFFIX, AccessError, Api, read_etcd

POLL_S = 1.0
# k3s#12908: the removal of the leader is known to the others after their election, about 7 s.
SETTLED_S = 8.0
REMOVE = "etcd.k3s.cattle.io/remove"
REMOVED = "etcd.k3s.cattle.io/removed-node-name"
MEMBER_NAME, MEMBER_ADDRESS = "etcd.k3s.cattle.io/node-name", "etcd.k3s.cattle.io/node-address"
ETCD_ROLE = "node-role.kubernetes.io/etcd"
NODES = path_of("api", "v1", "nodes")


@dataclass(frozen=True)
class Site:
    """A server that is asked, and the deadline of a wait."""

    data: Path
    api: Api
    timeout_s: float

    def wait(self, condition: Callable[[], str], subject: str, cause: Callable[[], str] = str) -> None:
        """Wait until `condition` returns an empty text; raise `HostError` with its last text after the deadline.

        cause: returns further information on the error.
        """
        deadline = time.monotonic() + self.timeout_s
        while True:
            reason = said(condition)
            if not reason:
                return
            if time.monotonic() > deadline:
                reason = "; ".join(filter(None, (reason, cause())))
                raise HostError(
                    f"cannot continue: {subject} after {self.timeout_s:g} s: {reason}. Repair it and run again."
                )
            time.sleep(POLL_S)


def said(condition: Callable[[], str]) -> str:
    """Return the text of a condition, or why the API did not tell."""
    try:
        return condition()
    except AccessError as error:
        return str(error)


def wait_learners(site: Site) -> None:
    """Wait until etcd has no learner."""

    def condition() -> str:
        learners = [member.name or member.id for member in read_etcd(site.data).members if member.learner]
        return f"{', '.join(learners)} is a learner" if learners else ""

    site.wait(condition, "a member does not vote")


def wait_settled(site: Site, name: str) -> None:
    """Wait until a member is gone and the voters are unchanged for longer than an election."""
    seen: dict[str, Any] = {"members": None, "since_s": 0.0}

    def condition() -> str:
        etcd = read_etcd(site.data)
        members = sorted(member.id for member in etcd.members)
        if members != seen["members"]:
            seen.update(members=members, since_s=time.monotonic())
        if find_member(etcd.members, name):
            return f"{name} is a member"
        return "" if time.monotonic() - seen["since_s"] > SETTLED_S and site.api.ready() else "members have changed"

    site.wait(condition, "etcd has not settled")


def find_member(members: Sequence[Member], name: str) -> Member | None:
    """Return the member with a name or an id."""
    return next((member for member in members if name in (member.name, member.id)), None)


def node_path(name: str) -> str:
    """Return the path of a Node object."""
    return path_of("api", "v1", "nodes", name)


def remove_member(site: Site, name: str) -> bool:
    """Remove a member of etcd by the annotation of its Node, which K3s acts on; return whether it was a member."""
    member = find_member(read_etcd(site.data).members, name)
    if member is None:
        return False
    path = node_path(member.node)
    if not member.name:
        raise HostError(
            f"cannot remove the etcd member {name}: it has never started. K3s removes it after five minutes; run again."
        )
    created = not exists(site.api, path)
    if created:
        site.api.post(NODES, stand_in(member))
    else:
        site.api.patch(path, {"metadata": {"annotations": _request_of(member)}})
    site.wait(
        lambda: f"{name} is a member" if find_member(read_etcd(site.data).members, name) else "", "it is not removed"
    )
    if created:
        delete_node(site, member.node)
    return True


def _request_of(member: Member) -> dict[str, Any]:
    """Return annotations that ask for the removal of a member, also after a former request of its Node."""
    return {MEMBER_NAME: member.name, MEMBER_ADDRESS: member.address, REMOVED: None, REMOVE: "true"}


def stand_in(member: Member) -> dict[str, Any]:
    """Return a Node for a member whose own is gone: K3s removes members of Nodes alone, pkg/etcd/member_controller.go.

    The label of etcd makes K3s process the node, and pods are not scheduled on it.
    """
    annotations = {key: value for key, value in _request_of(member).items() if value}
    meta = {"name": member.node, "labels": {ETCD_ROLE: "true"}, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"unschedulable": True}, "status": {}}


def delete_node(site: Site, name: str) -> bool:
    """Delete a Node object, wait until its finalizers have run, and return whether it was there."""
    found = site.api.delete(node_path(name))
    if found:
        site.wait(lambda: "it exists" if exists(site.api, node_path(name)) else "", f"the Node {name} is not deleted")
    return found


def exists(api: Api, path: str) -> bool:
    """Return whether an object exists; raise `AccessError` where the API does not tell."""
    try:
        api.get(path)
    except AccessError as error:
        if error.status != NOT_FOUND:
            raise
        return False
    return True


def delete_password(site: Site, name: str) -> bool:
    """Delete the node-password Secret of a node and return whether it was there."""
    return site.api.delete(core_path("kube-system", "secrets", f"{name}{PASSWORD_SUFFIX}"))


def register(site: Site, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Apply changed labels and taints of the settings to a Node and return whether it changed.

    before, after: lists `node-label` and `node-taint` as K3s reads them. Others of the Node are kept.
    """
    node = site.api.get(node_path(name))
    old, new = labels(before.get("node-label", ())), labels(after.get("node-label", ()))
    taints = merged_taints(node["spec"].get("taints") or [], before.get("node-taint", ()), after.get("node-taint", ()))
    present = node["metadata"].get("labels") or {}
    change = {**{key: None for key in old if key not in new and key in present}, **new}
    pending = {key: value for key, value in change.items() if present.get(key) != value}
    if not pending and taints == (node["spec"].get("taints") or []):
        return False
    site.api.patch(node_path(name), {"metadata": {"labels": pending}, "spec": {"taints": taints}})
    return True


def labels(entries: Sequence[str]) -> dict[str, str]:
    """Return labels of `KEY=VALUE` entries."""
    return dict(entry.partition("=")[::2] for entry in entries)


def merged_taints(
    present: Sequence[Mapping[str, Any]], before: Sequence[str], after: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a Node's taints without former ones of the settings, and with those of now, `KEY=VALUE:EFFECT`."""
    old, new = [_taint(entry) for entry in before], [_taint(entry) for entry in after]
    dropped = {(each["key"], each["effect"]) for each in [*old, *new]}
    kept = [dict(each) for each in present if (each["key"], each.get("effect", "")) not in dropped]
    return [*kept, *new]


def _taint(entry: str) -> dict[str, Any]:
    head, _colon, effect = entry.rpartition(":")
    key, _equals, value = head.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}
