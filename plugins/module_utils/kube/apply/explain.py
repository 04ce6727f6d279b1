# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explain rejections of the server with the field, the cause and a remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..client.errors import ApiError, Conflict, with_remedy
from ..manifests.manifests import Identity

# Each kind has its own message. Source: k8s.io/kubernetes/pkg/apis/*/validation.
_IMMUTABLE = re.compile(
    r"\bis immutable\b|\b[Ii]mmutable (?:field|when)\b|updates to \w+ spec for fields other than|"
    r"may not change once set|cannot change roleRef|pod updates may not change fields|"
    r"may not be changed in an update|updates to \w+ are forbidden"
)
_UNKNOWN_FIELD = re.compile(r"unknown field|field not declared in schema|duplicate field|strict decoding error")
_NO_DRY_RUN = re.compile(r'admission webhook "([^"]+)" does not support dry run')
_NO_NAMESPACE = re.compile(r'namespaces "([^"]+)" not found')
_NOT_BASE64 = re.compile(r"illegal base64 data")
_DUPLICATE = re.compile(r'Duplicate value: (?:map\[[^\]]*\]|"[^"]*"|\{[^}]*\}|\S+)')
_TERMINATING = re.compile(r"because it is being terminated")
_DENIED_BY_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request')
# Controllers that write a field continuously, so that a takeover would lead to repeated conflicts.
_CONTROLLERS = ("kube-controller-manager", "vpa", "keda", "cluster-autoscaler")
_CLIENT_SIDE = ("kubectl-client-side-apply", "kubectl-edit", "kubectl-patch", "kubectl", "kubectl-replace")


def webhook_without_dry_run(error: ApiError) -> str:
    """Return the name of the webhook that rejects every dry run, or nothing."""
    found = _NO_DRY_RUN.search(error.message)
    return found[1] if found else ""


def is_unknown_field(error: ApiError) -> bool:
    return error.status in {400, 422, 500} and bool(_UNKNOWN_FIELD.search(error.message))


def is_terminating(error: ApiError) -> bool:
    """Return whether the server rejected an object because its namespace is being deleted."""
    return error.is_forbidden and bool(_TERMINATING.search(error.message))


def is_immutable(error: ApiError) -> bool:
    texts = (error.message, *(cause.message for cause in error.causes))
    return error.status in {403, 422} and any(map(_IMMUTABLE.search, texts))


def explained(error: ApiError, identity: Identity) -> ApiError:
    """Return the error with a remedy."""
    remedy = _remedy(error, identity)
    return with_remedy(error, remedy) if remedy else error


def _remedy(error: ApiError, identity: Identity) -> str:
    missing = _NO_NAMESPACE.search(error.message)
    if error.conflicts:
        return _of_conflicts(error.conflicts)
    if is_immutable(error):
        return _of_immutable(identity)
    if missing:
        return f"add the namespace {missing[1]} to the manifests, or set create_namespace"
    if is_unknown_field(error):
        return "correct the name or the place of the field: the server would drop it without a word"
    if identity.kind == "Secret" and _NOT_BASE64.search(error.message):
        return "put plain text into `stringData`, or encode the value in `data` with base64"
    if error.status == 422 and _DUPLICATE.search(error.message):
        return _of_duplicate(identity)
    if is_terminating(error):
        return "wait until the namespace is gone, then run again"
    if _DENIED_BY_WEBHOOK.search(error.message):
        return "change the manifest as the webhook asks, or the webhook"
    if error.status == 413:
        return "split the object, which exceeds the size limit of the server (1.5 MiB)"
    return error.remedy


def _of_conflicts(conflicts: Sequence[Conflict]) -> str:
    fields = ", ".join(f"{conflict.field} (owned by {conflict.manager})" for conflict in conflicts)
    managers = {conflict.manager for conflict in conflicts}
    if managers & set(_CONTROLLERS) or any(conflict.field == ".spec.replicas" for conflict in conflicts):
        advice = "remove fields that a controller sets from the manifest"
    elif managers & set(_CLIENT_SIDE):
        advice = "another user changed it: add the value to the manifest"
    else:
        advice = "remove it from the manifest"
    return f"{fields}: {advice}, or adopt it with `force_conflicts`"


def _of_duplicate(identity: Identity) -> str:
    place = f"-n {identity.namespace} " if identity.namespace else ""
    return (
        "rename the element in the manifest, or remove the one that another manager added: "
        f"kubectl {place}edit {identity.kind.lower()} {identity.name}"
    )


def _of_immutable(identity: Identity) -> str:
    if identity.kind == "StatefulSet":
        # Changes of the manifest are planned before. This is a deletion that orphans pods: it updates the object first,
        # so the webhook rejects it as well.
        return (
            "change the admission policy or webhook that writes the field, or run "
            f"`kubectl -n {identity.namespace} delete statefulset {identity.name}` and run again. Its pods restart; "
            "with `whenDeleted: Delete` its volumes are deleted"
        )
    if identity.kind in {"PersistentVolumeClaim", "PersistentVolume"}:
        return "restore the former value; to change it, copy the data to a volume with another name"
    if identity.kind in {"ConfigMap", "Secret"}:
        return "give the object a new name and refer to that, or delete it and run again"
    return "restore the former value, or delete the object and run again: it cannot be changed in place"
