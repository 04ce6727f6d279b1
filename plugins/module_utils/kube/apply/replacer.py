# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expand volume claims, and delete objects that are replaced, as planned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..client.client import MERGE, Client
from ..client.errors import ApiError, KubeError
from ..client.paths import core_path
from ..manifests.order import group_kind
from ..ready.verdict import mapping
from .before import Object
from .compare import Change
from .explain import explained
from .immutable import WITH_PODS, Fixed
from .judge import compared
from .options import Options
from .results import ObjectResult, kept
from .targets import Target
from .volumes import CLAIMS, Verdict

# Source: k8s.io/api/batch/v1, and k8s.io/kubernetes/pkg/registry/batch/job, generateSelector.
_GENERATED_LABELS = (
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
)
_REASONS = {
    "orphan": "deleted without its pods, which the new one adopts",
    "replace": "deleted and created again",
}


class Replacer:
    """Changes claims and replaces objects. In a plan, sends dry runs instead."""

    def __init__(self, client: Client, options: Options, hide: Callable[[str], str] = str) -> None:
        self._client, self._options, self._hide = client, options, hide
        self._dry = {"dryRun": "All"} if options.only_plans else {}

    def expanded(self, verdicts: tuple[Verdict, ...]) -> Iterator[tuple[ObjectResult, Object]]:
        """Expand the claims that are smaller than described. Yield each result and the claim. Raises ApiError."""
        for verdict in verdicts:
            if verdict.action == "expand":
                size = {"spec": {"resources": {"requests": {"storage": verdict.after}}}}
                query = {"fieldManager": self._options.field_manager, **self._dry}
                answer = self._client.request(
                    "PATCH", _path(verdict), query=query, body=size, content_type=MERGE, repeat=True
                )
                reason = f"volume expansion by storage class {verdict.storage_class}"
                yield _claim(verdict, "update", reason), answer

    def emptied(self, verdicts: tuple[Verdict, ...]) -> Iterator[ObjectResult]:
        """Delete the claims that have no volume yet, so that the controller creates them as described."""
        for verdict in verdicts:
            if verdict.action == "recreate":
                # A claim that was bound meanwhile has another version, so its deletion fails and it is kept.
                only = {"uid": verdict.uid, "resourceVersion": verdict.resource_version}
                try:
                    self._delete(_path(verdict), only, "Background")
                except ApiError as error:
                    if not (error.is_not_found or error.is_conflict):
                        raise
                yield _claim(verdict, "replace", "it has no volume yet")

    def deleted(self, target: Target, before: Object, method: str) -> None:
        """Delete an object that is replaced, and keep its pods with the method `orphan`. Raises KubeError."""
        policy = "Orphan" if method == "orphan" else "Foreground" if group_kind(target) in WITH_PODS else "Background"
        try:
            self._delete(target.path, {"uid": before["metadata"]["uid"]}, policy)
        except ApiError as error:
            if not error.is_not_found:
                raise

    def _delete(self, path: str, preconditions: Mapping[str, str], policy: str) -> None:
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": dict(preconditions)}
        body |= {"propagationPolicy": policy, **({"dryRun": ["All"]} if self._options.only_plans else {})}
        self._client.request("DELETE", path, body=body)

    def result(
        self, target: Target, before: Object, after: Object, content: Mapping[str, Any], changed: Fixed
    ) -> ObjectResult:
        """Return the result of a replaced object, or of one that a plan would replace."""
        found = compared(target.identity, _without_generated(before), _without_generated(after), content)
        changes = found.changes or (() if target.kind == "Secret" else kept(changed.changes))
        return replace(found, action="replace", changes=changes, reason=_REASONS[changed.method])

    def half(self, target: Target, error: KubeError) -> ObjectResult:
        """Return the result of an object that was deleted, but could not be created again."""
        told = explained(error, target.identity) if isinstance(error, ApiError) else error
        message = f"deleted to be created again, and its successor cannot be created: {self._hide(str(told))}"
        failed = ObjectResult.failure(target.identity, message, "run again, which creates it")
        return replace(failed, done="delete")


def _without_generated(obj: Object) -> Object:
    """Return an object without the labels that the server generates from the name and uid of a Job."""
    if obj.get("kind") != "Job":
        return obj
    found = copy.deepcopy(dict(obj))
    labels = (("metadata", "labels"), ("spec", "selector", "matchLabels"), ("spec", "template", "metadata", "labels"))
    for path in labels:
        for label in _GENERATED_LABELS:
            place = mapping(found, *path)
            if isinstance(place, dict):
                place.pop(label, None)
    return found


def _path(verdict: Verdict) -> str:
    return core_path(verdict.claim.namespace, CLAIMS, verdict.claim.name)


def _claim(verdict: Verdict, action: Any, reason: str) -> ObjectResult:
    change = Change("spec.resources.requests.storage", verdict.before, verdict.after)
    return ObjectResult(verdict.claim, action, (change,), reason=reason)
