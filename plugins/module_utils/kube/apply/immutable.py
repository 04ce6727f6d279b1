# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the fields that the API does not change in place, by kind, and the way to change them. Pure.

The table also contains fields that are immutable in some versions of Kubernetes only, because a dry run of the server
decides.

Source: k8s.io/kubernetes/pkg/apis/*/validation, the functions Validate*Update.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..manifests.quantities import amount
from ..ready.verdict import mapping, mappings, text
from .compare import Change, changes, projected, same
from .take_over import given_up

# orphan: delete the object without its pods, which the new object adopts. replace: delete it with its pods. refuse: the
# deletion would also delete data or other objects.
Method = Literal["orphan", "replace", "refuse"]
_STRENGTH: Sequence[Method] = ("orphan", "replace", "refuse")


@dataclass(frozen=True)
class Rule:
    """Immutable fields of a kind. fields: dotted paths. but: fields below a single path that change in place."""

    fields: tuple[str, ...]
    method: Method = "replace"
    but: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fixed:
    """Immutable fields that a manifest changes, and the strongest method that one of them requires.

    is_certain: whether the server would accept the manifest and leave the field unchanged.
    """

    changes: tuple[Change, ...]
    method: Method
    is_certain: bool = False


_RBAC = "rbac.authorization.k8s.io"
RULES: Mapping[tuple[str, str], Rule] = {
    ("", "PersistentVolumeClaim"): Rule(
        ("spec",), "refuse", frozenset({"resources", "volumeAttributesClassName", "volumeName"})
    ),
    ("", "PersistentVolume"): Rule(
        ("spec.csi", "spec.nfs", "spec.hostPath", "spec.local", "spec.volumeMode"), "refuse"
    ),
    ("", "Pod"): Rule(
        ("spec",), "replace", frozenset({"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"})
    ),
    ("", "ResourceQuota"): Rule(("spec.scopes", "spec.scopeSelector")),
    ("", "Secret"): Rule(("type",)),
    ("", "Service"): Rule(("spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies", "spec.loadBalancerClass")),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Rule(("spec.group", "spec.scope", "spec.names"), "refuse"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): Rule(("spec.policyName",)),
    ("apps", "DaemonSet"): Rule(("spec.selector",)),
    ("apps", "Deployment"): Rule(("spec.selector",)),
    ("apps", "ReplicaSet"): Rule(("spec.selector",)),
    ("apps", "StatefulSet"): Rule(
        ("spec",),
        "orphan",
        frozenset(
            {
                "minReadySeconds",
                "ordinals",
                "persistentVolumeClaimRetentionPolicy",
                "replicas",
                "template",
                "updateStrategy",
            }
        ),
    ),
    ("batch", "Job"): Rule(
        ("spec",),
        "replace",
        frozenset({"activeDeadlineSeconds", "backoffLimit", "parallelism", "suspend", "ttlSecondsAfterFinished"}),
    ),
    ("discovery.k8s.io", "EndpointSlice"): Rule(("addressType",)),
    ("networking.k8s.io", "IngressClass"): Rule(("spec.controller",)),
    ("node.k8s.io", "RuntimeClass"): Rule(("handler",)),
    (_RBAC, "ClusterRoleBinding"): Rule(("roleRef",)),
    (_RBAC, "RoleBinding"): Rule(("roleRef",)),
    ("scheduling.k8s.io", "PriorityClass"): Rule(("value", "preemptionPolicy")),
    ("storage.k8s.io", "CSIDriver"): Rule(("spec",), but=frozenset({"requiresRepublish", "tokenRequests"})),
    ("storage.k8s.io", "StorageClass"): Rule(("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")),
    ("storage.k8s.io", "VolumeAttributesClass"): Rule(("driverName", "parameters")),
}
# Kinds whose deletion also deletes pods. The run waits for these pods before it creates the new object.
WITH_PODS = frozenset(
    {("apps", "DaemonSet"), ("apps", "Deployment"), ("apps", "ReplicaSet"), ("apps", "StatefulSet"), ("batch", "Job")}
)
# Fields that pods also carry: adopted pods would keep the former value.
_OF_PODS = ("spec.selector", "spec.serviceName")


def fixed(
    before: Mapping[str, Any], desired: Mapping[str, Any], manager: str, adopted: Collection[str] = ()
) -> Fixed | None:
    """Return the immutable fields with other values in `desired`, or None without such fields.

    before: the object as the server returned it. manager: field manager of the apply. A field is also changed if the
    manager, or a manager whose fields it adopts, applied it and `desired` omits it.
    """
    which = text(before, "apiVersion").rpartition("/")[0], text(before, "kind")
    if which in {("", "ConfigMap"), ("", "Secret")} and before.get("immutable") is True:
        rule: Rule | None = Rule(("data", "binaryData", "immutable", "type", "stringData"))
    else:
        rule = RULES.get(which)
    if rule is None:
        return None
    entries = mapping(before, "metadata").get("managedFields") or ()
    kept = given_up(_part(before, rule.fields), entries, desired, manager, adopted)
    found = tuple(_changes(before, desired, rule, kept))
    if not found:
        return None
    methods = {_method(rule, change, before, desired) for change in found}
    is_certain = which == ("", "Service") and any(_gives_up_address(change) for change in found)
    return Fixed(found, max(methods, key=_STRENGTH.index), is_certain)


def _changes(before: Mapping[str, Any], desired: Mapping[str, Any], rule: Rule, kept: Any) -> Iterator[Change]:
    for path in rule.fields:
        parts = path.split(".")
        if rule.but:
            live, wanted = mapping(before, *parts), mapping(desired, *parts)
            names = [name for name in {**wanted, **live} if name not in rule.but]
            paths = [[*parts, name] for name in names]
        else:
            paths = [parts]
        for one in paths:
            yield from _change(before, desired, one, kept)


def _change(before: Any, desired: Any, parts: Sequence[str], kept: Any) -> Iterator[Change]:
    has, wants, left = (mapping(one, *parts[:-1]).get(parts[-1]) for one in (before, desired, kept))
    path = ".".join(parts)
    if wants is None:
        if not same(has, left):
            yield Change(path, has, None)
        return
    if parts[-1] == "volumeClaimTemplates":
        yield from changes(_templates(has, wants), _templates(wants, wants), path)
        return
    found = changes(projected(has, wants), wants, path)
    known = {change.path for change in found}
    yield from found
    yield from (change for change in changes(has, left, path) if change.path not in known)


def _part(obj: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Return the part of an object at these paths."""
    found: dict[str, Any] = {}
    for path in paths:
        *parents, last = path.split(".")
        value = mapping(obj, *parents).get(last)
        if value is not None:
            place = found
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
    return found


def _templates(value: Any, wanted: Any) -> list[Any]:
    """Return claim templates in comparable form: with defaults, and with one notation of sizes."""
    spelt = {text(one, "metadata", "name"): _size(one) for one in mappings({"of": wanted}, "of")}
    found = []
    for one in mappings({"of": value}, "of"):
        metadata, size = mapping(one, "metadata"), _size(one)
        other = spelt.get(text(one, "metadata", "name"))
        if amount(other) == amount(size):
            size = other
        resources = {**mapping(one, "spec", "resources"), "requests": {"storage": size}}
        spec = {"volumeMode": "Filesystem", **mapping(one, "spec"), "resources": resources}
        kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
        found.append({"name": text(one, "metadata", "name"), **kept, "spec": spec})
    return found


def _size(template: Mapping[str, Any]) -> Any:
    return mapping(template, "spec", "resources", "requests").get("storage")


def _method(rule: Rule, change: Change, before: Mapping[str, Any], desired: Mapping[str, Any]) -> Method:
    if rule.method != "orphan":
        return rule.method
    if change.path.startswith(_OF_PODS):
        return _replaced_with_pods(before)
    if change.path.startswith("spec.volumeClaimTemplates") and _adds_template(before, desired):
        # An adopted pod has no volume for the new template, and the controller cannot add one.
        return _replaced_with_pods(before)
    return "orphan"


def _adds_template(before: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    has, wants = (
        {text(one, "metadata", "name") for one in mappings(side, "spec", "volumeClaimTemplates")}
        for side in (before, desired)
    )
    return bool(wants - has)


def _replaced_with_pods(before: Mapping[str, Any]) -> Method:
    policy = text(before, "spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted")
    return "refuse" if policy == "Delete" else "replace"


def _gives_up_address(change: Change) -> bool:
    """Return whether a headless Service requests an address. The server accepts that, and keeps it headless."""
    return change.path == "spec.clusterIP" and change.before == "None" and change.after is None
