# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Determine whether an object is ready, with a table of one pure predicate for each kind.

A new kind requires a function and a table entry. Other kinds are evaluated by the standard conditions of controllers.
Objects without conditions are ready when they exist.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from ..manifests.quantities import amount
from .containers import pod
from .verdict import (
    Condition,
    Failed,
    Object,
    Ready,
    Status,
    Waiting,
    conditions,
    line,
    mapping,
    mappings,
    number,
    of,
    outdated,
    seconds,
    text,
    unseen,
)
from .workloads import daemon_set, deployment, job, replica_set, rollout, stateful_set

# Source: k8s.io/api/core/v1, NamespaceConditionType.
_NAMESPACE_REMAINS = ("NamespaceFinalizersRemaining", "NamespaceContentRemaining", "NamespaceDeletionDiscoveryFailure")
_RESIZE_ERRORS = ("ControllerResizeError", "NodeResizeError")
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
# Source: api/v1/cluster_types.go of cloudnative-pg.
_POSTGRESQL_WELL = "Cluster in healthy state"
_POSTGRESQL_LOST = ("Cluster is unrecoverable and needs manual intervention",)


def status(obj: Mapping[str, Any], now_s: float, late_binding: Collection[str] = ()) -> Status:
    """Return the status of an object. Never raises, regardless of the object's content.

    now_s: seconds since 1970. late_binding: names of the storage classes that create a volume when the first pod that
    uses it is scheduled (WaitForFirstConsumer). A claim does not contain this.
    """
    if begun_s := seconds(mapping(obj, "metadata").get("deletionTimestamp")):
        return Waiting(_leaving(obj, now_s - begun_s))
    group, kind = text(obj, "apiVersion").rpartition("/")[0], text(obj, "kind")
    if (group, kind) == ("", "PersistentVolumeClaim") and is_bound_later(obj, late_binding):
        return Ready("is bound later, when the first pod that uses it is scheduled (WaitForFirstConsumer)")
    return PREDICATES.get((group, kind), by_conditions)(obj)


def is_bound_later(claim: Object, late_binding: Collection[str]) -> bool:
    """Return whether a claim cannot become bound before a pod uses it."""
    is_untouched = not text(claim, "spec", "volumeName") and not text(claim, "metadata", "annotations", _SELECTED_NODE)
    is_pending = text(claim, "status", "phase") in ("", "Pending")
    return is_untouched and is_pending and text(claim, "spec", "storageClassName") in late_binding


def held_by(obj: Object) -> str:
    """Return the finalizers of an object that is being deleted. For a namespace, this includes those of its objects."""
    finalizers = mapping(obj, "metadata").get("finalizers")
    held = list(map(str, finalizers)) if isinstance(finalizers, list) else []
    if text(obj, "kind") == "Namespace":
        found = conditions(obj)
        held += [found[word].message for word in _NAMESPACE_REMAINS if word in found and found[word].is_true]
    return ", ".join(held)


def _leaving(obj: Object, for_s: float) -> str:
    held = held_by(obj)
    return f"is being deleted for {max(0.0, for_s):.0f} s{f', held by {held}' if held else ''}"


def by_conditions(obj: Object) -> Status:
    """Return the status of an unknown kind. Source: the conventions for conditions of the API and of kstatus."""
    if "observedGeneration" in mapping(obj, "status") and (behind := unseen(obj)):
        return behind
    found = conditions(obj)
    if (stalled := found.get("Stalled")) and stalled.is_true:
        return Failed(f"is stalled: {stalled}")
    if (reconciling := found.get("Reconciling")) and reconciling.is_true:
        return Waiting(str(reconciling))
    judged = next((found[word] for word in ("Ready", "Available") if word in found), None)
    if behind := outdated(obj, judged):
        return behind
    return Ready() if judged is None or judged.is_true else Waiting(f"not {judged.type.lower()}: {judged}")


def volume_claim(obj: Object) -> Status:
    """Return the status of a claim: ready when it is bound, with the requested size."""
    phase = text(obj, "status", "phase")
    if phase == "Bound":
        return resizing(obj) or Ready()
    if phase == "Lost":
        return Failed(f"the volume that it was bound to ({text(obj, 'spec', 'volumeName') or 'unknown'}) is gone")
    storage_class = text(obj, "spec", "storageClassName")
    if node := text(obj, "metadata", "annotations", _SELECTED_NODE):
        return Waiting(f"a volume is being made for node {node}")
    return Waiting(f"no volume is bound to it yet ({_class_in_words(obj, storage_class)})")


def resizing(obj: Object) -> Waiting | Failed | None:
    """Return the progress of a bound claim's expansion, or None if its volume has the requested size.

    Source: k8s.io/api/core/v1, PersistentVolumeClaimConditionType and ClaimResourceStatus.
    """
    wants = mapping(obj, "spec", "resources", "requests").get("storage")
    has = mapping(obj, "status", "capacity").get("storage")
    wanted, present = amount(wants), amount(has)
    if wanted is None or present is None or present >= wanted:
        return None
    told, found = f"expansion from {has} to {wants}", conditions(obj)
    allocated = text(obj, "status", "allocatedResourceStatuses", "storage")
    if allocated.endswith("Infeasible"):
        return Failed(f"{told} cannot be carried out: {allocated}{_told(found, *_RESIZE_ERRORS)}")
    if (pending := found.get("FileSystemResizePending")) and pending.is_true:
        return Waiting(f"{told}: the volume has the size, its file system gets it on the node of its pod ({pending})")
    if (begun := found.get("Resizing")) and begun.is_true:
        return Waiting(f"{told}: the storage driver is resizing it{_told(found, *_RESIZE_ERRORS)}")
    return Waiting(f"{told}: no storage driver has begun it{_told(found, *_RESIZE_ERRORS)}")


def _told(found: Mapping[str, Condition], *types: str) -> str:
    return "".join(f"; {found[one]}" for one in types if one in found and found[one].is_true)


def _class_in_words(obj: Object, storage_class: str) -> str:
    if storage_class:
        return f"storage class {storage_class}"
    given = "storageClassName" in mapping(obj, "spec")
    return "no storage class: create a volume manually" if given else "there is no default storage class"


def service(obj: Object) -> Status:
    """Return the status of a Service: ready immediately, except for a load balancer without an address."""
    if text(obj, "spec", "type") != "LoadBalancer" or mapping(obj, "spec").get("externalIPs"):
        return Ready()
    if _addresses(obj):
        return Ready()
    return Waiting("the load balancer has no address yet")


def ingress(obj: Object) -> Status:
    """Return the status of an Ingress: ready when its controller has assigned an address."""
    if _addresses(obj):
        return Ready()
    name = text(obj, "spec", "ingressClassName") or text(obj, "metadata", "annotations", "kubernetes.io/ingress.class")
    return Waiting(f"has no address yet: {f'no controller of class {name}' if name else 'no controller'} took it")


def _addresses(obj: Object) -> list[str]:
    found = mappings(obj, "status", "loadBalancer", "ingress")
    return [address for one in found if (address := text(one, "hostname") or text(one, "ip"))]


def resource_definition(obj: Object) -> Status:
    """Return the status of a CRD: ready when its objects can be created."""
    found = conditions(obj)
    if (names := found.get("NamesAccepted")) and names.is_false:
        return Failed(f"its names are taken: {names}")
    established = found.get("Established")
    if established and established.is_true:
        return Ready()
    return Waiting(f"is not established yet{f': {established}' if established else ''}")


def api_service(obj: Object) -> Status:
    """Return the status of an APIService: ready when its server responds."""
    available = conditions(obj).get("Available")
    if available and available.is_true:
        return Ready()
    return Waiting(f"is not available: {available}" if available else "is not available yet")


def autoscaler(obj: Object) -> Status:
    """Return the status of an autoscaler: ready when it can read metrics and scale, or its target has zero replicas."""
    found = conditions(obj)
    able, active = found.get("AbleToScale"), found.get("ScalingActive")
    if able and able.is_false:
        return Waiting(f"cannot scale: {able}")
    if active and active.is_false:
        if active.reason == "ScalingDisabled":
            return Ready("its target is scaled to 0")
        return Waiting(f"has no metrics: {active}")
    if not (active and active.is_true):
        return Waiting("has not read its metrics yet")
    return Ready()


def namespace(obj: Object) -> Status:
    """Return the status of a namespace: ready when objects can be created in it."""
    phase = text(obj, "status", "phase")
    return Ready() if phase == "Active" else Waiting(f"is {phase or 'not active yet'}")


def operated(obj: Object) -> Status:
    """Return the status of a Prometheus, Alertmanager or ThanosRuler.

    It is ready when the operator has applied the newest specification.
    """
    found, behind = conditions(obj), None
    paused = "; its operator ignores it (spec.paused)" if mapping(obj, "spec").get("paused") else ""
    available, reconciled = found.get("Available"), found.get("Reconciled")
    if not paused:
        behind = outdated(obj, available, reconciled)
    if available is None or reconciled is None:
        return Waiting(f"the operator has not processed it yet{paused}")
    if behind:
        return behind
    if not reconciled.is_true:
        return Waiting(f"the operator cannot put it in force: {reconciled}{paused}")
    if not available.is_true:
        pods = of(number(obj, "status", "availableReplicas"), number(obj, "spec", "replicas", default=1), "available")
        return Waiting(f"{available}, {pods}{paused}")
    return Ready()


def postgresql(obj: Object) -> Status:
    """Return the status of a Cluster of CloudNativePG: ready when every instance is ready."""
    phase, told = text(obj, "status", "phase"), line(obj, "status", "phaseReason")
    wanted, ready = number(obj, "spec", "instances", default=1), number(obj, "status", "readyInstances")
    in_words = f"{phase or 'the operator has not processed it yet'}{f': {told}' if told else ''}"
    if phase in _POSTGRESQL_LOST:
        return Failed(in_words)
    if phase != _POSTGRESQL_WELL:
        return Waiting(f"{in_words}, {ready} of {wanted} instances ready")
    if ready < wanted:
        return Waiting(f"{ready} of {wanted} instances ready")
    answers = conditions(obj).get("Ready")
    return Waiting(f"not ready: {answers}") if answers and not answers.is_true else Ready()


Predicate = Callable[[Object], Status]
# By group and kind: readiness does not depend on the version.
PREDICATES: Final[Mapping[tuple[str, str], Predicate]] = {
    ("", "Namespace"): namespace,
    ("", "PersistentVolumeClaim"): volume_claim,
    ("", "Pod"): pod,
    ("", "ReplicationController"): replica_set,
    ("", "Service"): service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): resource_definition,
    ("apiregistration.k8s.io", "APIService"): api_service,
    ("apps", "DaemonSet"): daemon_set,
    ("apps", "Deployment"): deployment,
    ("apps", "ReplicaSet"): replica_set,
    ("apps", "StatefulSet"): stateful_set,
    ("argoproj.io", "Rollout"): rollout,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaler,
    ("batch", "Job"): job,
    ("monitoring.coreos.com", "Alertmanager"): operated,
    ("monitoring.coreos.com", "Prometheus"): operated,
    ("monitoring.coreos.com", "PrometheusAgent"): operated,
    ("monitoring.coreos.com", "ThanosRuler"): operated,
    ("networking.k8s.io", "Ingress"): ingress,
    ("postgresql.cnpg.io", "Cluster"): postgresql,
}
