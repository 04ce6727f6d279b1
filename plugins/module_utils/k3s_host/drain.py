# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordon, drain and uncordon nodes: only a node that this collection cordoned is uncordoned."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..host.errors import HostError
from ..kube.client.paths import core_path, path_of
from .access import CORDONED_BY, NOT_FOUND, AccessError
from .cluster import POLL_S, Site, node_path

Object = Mapping[str, Any]
BLOCKED = 429
MIRROR = "kubernetes.io/config.mirror"
_FINISHED = ("Succeeded", "Failed")


def cordon(site: Site, name: str, owner: str) -> bool:
    """Make a node unschedulable, recorded as done by `owner`, and return whether it changed.

    A node that another client has cordoned is skipped, so that it is not uncordoned later.
    """
    node = site.api.get(node_path(name))
    if node.get("spec", {}).get("unschedulable"):
        return False
    site.api.patch(
        node_path(name), {"metadata": {"annotations": {CORDONED_BY: owner}}, "spec": {"unschedulable": True}}
    )
    return True


def uncordon(site: Site, name: str, owner: str) -> bool:
    """Make a node schedulable that `owner` has cordoned, and return whether it changed."""
    node = site.api.get(node_path(name))
    if (node["metadata"].get("annotations") or {}).get(CORDONED_BY) != owner:
        return False
    site.api.patch(node_path(name), {"metadata": {"annotations": {CORDONED_BY: None}}, "spec": {"unschedulable": None}})
    return True


def drain(site: Site, name: str) -> bool:
    """Evict the pods of a node, wait until they are gone, and return whether there were any.

    Budgets are respected. Raises `HostError` for pods that nothing would start again, before any eviction, and after
    the limit for those that are left, each with the budget that blocks it.
    """
    pods = _evictable(site, name)
    lonely = [_title(pod) for pod in pods if not _managed(pod)]
    if lonely:
        raise HostError(
            f"cannot drain {name}: no controller would start {', '.join(lonely)} again. Delete them; an upgrade leaves "
            "pods in place with `k3s_upgrade_mode: cordon_only`."
        )
    deadline, found = time.monotonic() + site.timeout_s, bool(pods)
    while pods:
        blocked = [pod for pod in pods if not _evict(site, pod)]
        if time.monotonic() > deadline:
            raise HostError(_blockers(site, name, pods, blocked))
        time.sleep(POLL_S)
        pods = _evictable(site, name)
    return found


def _evictable(site: Site, name: str) -> list[Object]:
    """Return the pods of a node that an eviction moves: not those of DaemonSets, nor mirrors of files."""
    found = site.api.get(f"{path_of('api', 'v1', 'pods')}?fieldSelector=spec.nodeName%3D{name}")["items"]
    return [pod for pod in found if not _stays(pod)]


def _stays(pod: Object) -> bool:
    meta = pod["metadata"]
    daemon = any(
        owner["kind"] == "DaemonSet" and owner.get("controller") for owner in meta.get("ownerReferences") or ()
    )
    return daemon or MIRROR in (meta.get("annotations") or {})


def _managed(pod: Object) -> bool:
    """Return whether a controller starts the pod elsewhere, or the pod is complete."""
    finished = pod.get("status", {}).get("phase") in _FINISHED
    return finished or any(owner.get("controller") for owner in pod["metadata"].get("ownerReferences") or ())


def _title(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _evict(site: Site, pod: Object) -> bool:
    """Ask for the eviction of a pod; return whether no budget blocks it."""
    meta = pod["metadata"]
    if meta.get("deletionTimestamp"):
        return True
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": _key(pod)}
    try:
        site.api.post(core_path(meta["namespace"], "pods", meta["name"], "eviction"), body)
    except AccessError as error:
        if error.status not in (BLOCKED, NOT_FOUND):
            raise
        return error.status == NOT_FOUND
    return True


def _key(pod: Object) -> dict[str, str]:
    return {field: pod["metadata"][field] for field in ("namespace", "name")}


def _blockers(site: Site, name: str, pods: Sequence[Object], blocked: Sequence[Object]) -> str:
    """Return the message of a drain after its time limit: each remaining pod with its reason."""
    reasons = []
    for pod in pods:
        held = any(_key(pod) == _key(other) for other in blocked)
        budgets = ", ".join(_budgets(site, pod)) if held else ""
        reasons.append(f"{_title(pod)} ({f'budget {budgets} allows no disruption' if held else 'it does not end'})")
    remedy = (
        "Start more replicas or change the budget, and run again; an upgrade leaves pods in place with "
        "`k3s_upgrade_mode: cordon_only`."
    )
    return f"cannot drain {name} within {site.timeout_s:g} s: {', '.join(reasons)}. {remedy}"


def _budgets(site: Site, pod: Object) -> list[str]:
    namespace = pod["metadata"]["namespace"]
    path = path_of("apis", "policy", "v1", "namespaces", namespace, "poddisruptionbudgets")
    labels = pod["metadata"].get("labels") or {}
    found = [
        budget["metadata"]["name"]
        for budget in site.api.get(path)["items"]
        if selects(budget["spec"].get("selector") or {}, labels)
    ]
    return sorted(found)


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector of Kubernetes matches labels."""
    plain = selector.get("matchLabels") or {}
    return plain.items() <= labels.items() and all(_holds(each, labels) for each in _expressions(selector))


def _expressions(selector: Object) -> Iterable[Object]:
    return selector.get("matchExpressions") or ()


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    present, within = key in labels, labels.get(key) in values
    return {"In": within, "NotIn": not within, "Exists": present, "DoesNotExist": not present}[expression["operator"]]
