# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply one object: choose the requests, and interpret the server's answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..client.client import Answer, Client, look
from ..client.discovery import Discovery
from ..client.errors import ApiError, KubeError, UnreachableError, with_remedy
from ..client.paths import path_of
from ..manifests.manifests import Identity
from ..manifests.offline import validation_errors
from ..manifests.order import group_of
from ..manifests.schemas import DefinedKinds
from ..ready.readiness import held_by
from ..ready.wait import wait_gone
from .adopt import Adopter
from .applyset import owns_label, set_of, with_label
from .before import Object
from .compare import content as content_of
from .compare import merged
from .explain import explained, is_terminating
from .immutable import Fixed
from .in_place import is_in_place
from .judge import compared, created, is_untouched, is_work_of_others
from .offline_plan import Foresight
from .options import Options
from .patch import Applier, Circumstances
from .replacer import Replacer
from .replacing import Intent
from .results import ObjectResult
from .take_over import TakeOver
from .targets import Key, Target

_CRD = "CustomResourceDefinition"
_NAMESPACE = "Namespace"
_LOST = "the server cannot be reached any more"


@dataclass
class State:
    """State of a run.

    before: the objects before the run. kinds: kinds that the set itself defines. answers: objects as the server
    returned them. lost: the reason why no further request is possible. intents: objects that require more than an
    apply. claims: results of the volume claims of workloads.
    """

    before: Mapping[Key, Object]
    kinds: DefinedKinds
    results: dict[Identity, ObjectResult] = field(default_factory=dict)
    answers: dict[Identity, Object] = field(default_factory=dict)
    lost: str = ""
    intents: Mapping[Identity, Intent] = field(default_factory=dict)
    claims: dict[Identity, ObjectResult] = field(default_factory=dict)

    def failed(self) -> list[ObjectResult]:
        return [result for result in list(self.results.values()) if result.action in {"failed", "skipped"}]

    def changed(self, kind: str, name: str) -> bool:
        """Return whether this run created or changed a cluster-wide object."""
        return any(
            result.changed and (result.identity.kind, result.identity.name) == (kind, name)
            for result in list(self.results.values())
        )


class Single:
    """Applies one target at a time. Safe to use from several threads. set_id: id of the set, or empty."""

    def __init__(
        self,
        client: Client,
        discovery: Discovery,
        options: Options,
        state: State,
        foresight: Foresight,
        set_id: str = "",
        hide: Callable[[str], str] = str,
    ) -> None:
        self._client, self._discovery, self._options = client, discovery, options
        self._state, self._foresight, self._set_id, self._hide = state, foresight, set_id, hide
        self._applier = Applier(client, options)
        self._adopter = Adopter(client, options, self._applier)
        self._replacer = Replacer(client, options, hide)

    def result(self, target: Target) -> ObjectResult:
        """Apply a target and return its result, which contains any error."""
        started_s = time.monotonic()
        return replace(self._tried(target), duration_s=time.monotonic() - started_s)

    def _tried(self, target: Target) -> ObjectResult:
        why = self._stopped_by(target)
        if why:
            return ObjectResult(target.identity, "skipped", reason=why)
        try:
            return self._applied(target)
        except UnreachableError as error:
            self._state.lost = _LOST
            return ObjectResult(target.identity, "failed", error=self._hide(str(error)))
        except ApiError as error:
            return ObjectResult(target.identity, "failed", error=self._hide(str(self._explained(error, target))))
        except KubeError as error:
            return ObjectResult(target.identity, "failed", error=self._hide(str(error)))

    def _explained(self, error: ApiError, target: Target) -> ApiError:
        told = explained(error, target.identity)
        namespace = target.identity.namespace
        if not namespace or not is_terminating(error):
            return told
        try:
            found = look(self._client, path_of("api", "v1", "namespaces", namespace))
        except KubeError:
            return told
        held = held_by(found or {})
        return with_remedy(told, f"the namespace {namespace} waits for {held}; {told.remedy}") if held else told

    def _stopped_by(self, target: Target) -> str:
        """Return the failure that prevents the apply of this object, or nothing."""
        if self._state.lost:
            return self._state.lost
        definition = self._state.kinds.definition(target.api_version, target.kind)
        needed = {(_CRD, definition), (_NAMESPACE, target.identity.namespace)}
        callees = _called_namespaces(target)
        for result in self._state.failed():
            identity = result.identity
            if (identity.kind, identity.name) in needed or identity.namespace in callees:
                return f"{identity} failed"
        return ""

    def _applied(self, target: Target) -> ObjectResult:
        before = self._state.before.get(target.key)
        content = self._content(target, before)
        if target.planned:
            return self._foresight.created(target, content)
        intent = self._state.intents.get(target.identity)
        if intent is not None and intent.refusal is not None:
            return ObjectResult.failure(target.identity, self._hide(intent.refusal.message), intent.refusal.remedy)
        if before is not None and intent is not None:
            return self._intended(target, before, content, intent)
        return self._updated(target, before, content)

    def _intended(self, target: Target, before: Object, content: Mapping[str, Any], intent: Intent) -> ObjectResult:
        """Change claims and object as planned: claims first, so that a rejected claim leaves the object unchanged."""
        for claim, answer in self._replacer.expanded(intent.claims):
            self._state.claims[claim.identity] = claim
            self._state.answers[claim.identity] = answer
        if intent.fixed is None:
            result = self._updated(target, before, content)
        else:
            result = self._replaced(target, before, content, intent.fixed, intent.successor)
        if result.action != "failed":
            self._state.claims.update({one.identity: one for one in self._replacer.emptied(intent.claims)})
        return result

    def _replaced(
        self, target: Target, before: Object, content: Mapping[str, Any], changed: Fixed, successor: Object | None
    ) -> ObjectResult:
        if self._options.only_plans:
            after = successor or merged(content_of(before), content)
            return self._replacer.result(target, before, after, content, changed)
        self._replacer.deleted(target, before, changed.method)
        try:
            self._after(target, before)
            after = self._applier(target.path, content, Circumstances()).body
        except KubeError as error:
            if isinstance(error, UnreachableError):
                self._state.lost = _LOST
            return self._replacer.half(target, error)
        self._state.answers[target.identity] = after
        return self._replacer.result(target, before, after, content, changed)

    def _updated(self, target: Target, before: Object | None, content: Mapping[str, Any]) -> ObjectResult:
        if before is not None and before["metadata"].get("deletionTimestamp"):
            if self._options.only_plans:
                return replace(created(target.identity, content, content), reason="the one that is there is going away")
            self._after(target, before)
            before = None
        taken = self._adopter.find(before, content)
        if before is not None and taken is None and self._is_in_place(target, before, content):
            self._state.answers[target.identity] = before
            return ObjectResult(target.identity, "none")
        try:
            answer = self._answer(target, before, content, taken)
        except ApiError as error:
            if not self._options.only_plans:
                raise
            return self._foresight.instead(target, content, before, error)
        after = answer.body
        if after["metadata"].get("deletionTimestamp") and not self._options.only_plans:
            self._after(target, after)
            before, after = None, self._applier(target.path, content, Circumstances()).body
        self._state.answers[target.identity] = after
        return self._compared(target, before, after, content, answer.warnings)

    def _answer(
        self, target: Target, before: Object | None, content: Mapping[str, Any], taken: TakeOver | None
    ) -> Answer:
        around = self._circumstances(target, content)
        if before is None or taken is None:
            return self._applier(target.path, content, around)
        return self._adopter.apply(target.path, before, content, around, taken)

    def _compared(
        self, target: Target, before: Object | None, after: Object, content: Mapping[str, Any], warned: tuple[str, ...]
    ) -> ObjectResult:
        with_status = target.resource.keeps_status
        if before is None or before["metadata"].get("uid") != after["metadata"].get("uid"):
            # The object may have been deleted with its namespace meanwhile.
            return replace(created(target.identity, after, content, with_status=with_status), warnings=warned)
        if not self._options.only_plans:
            manager = self._options.field_manager
            if is_untouched(before, after) or is_work_of_others(before, after, manager, time.time()):
                return ObjectResult(target.identity, "none", warnings=warned)
        return replace(compared(target.identity, before, after, content, with_status=with_status), warnings=warned)

    def _content(self, target: Target, before: Object | None) -> Mapping[str, Any]:
        """Return the content to apply, with the label of the set. Raises KubeError where another set has the object."""
        content, belongs = target.manifest.content, set_of(before)
        if not self._set_id or not target.is_member:
            # A run without `prune` keeps the object in the set of an earlier run.
            return with_label(content, belongs) if owns_label(before, self._options.field_manager) else content
        if belongs not in {"", self._set_id} and not self._options.force_conflicts:
            raise KubeError(
                f"it belongs to another set ({belongs}); take it out of the manifests of that set, or of these, or "
                "adopt it with `force_conflicts`"
            )
        return with_label(content, self._set_id)

    def _is_in_place(self, target: Target, before: Object, content: Mapping[str, Any]) -> bool:
        # For a kind that this run changed, the object was read with the former CRD.
        return not self._is_of_new_kind(target) and is_in_place(before, content, self._options.field_manager)

    def _is_of_new_kind(self, target: Target) -> bool:
        definition = self._state.kinds.definition(target.api_version, target.kind)
        return bool(definition) and self._state.changed(_CRD, definition)

    def _circumstances(self, target: Target, content: Mapping[str, Any]) -> Circumstances:
        def fits_new_kind() -> bool:
            schema = self._state.kinds.find(target.api_version, target.kind)
            # A field that the new CRD does not contain either remains unknown.
            return self._is_of_new_kind(target) and schema is not None and not validation_errors(schema, content)

        namespace = target.identity.namespace
        return Circumstances(fits_new_kind, bool(namespace) and self._state.changed(_NAMESPACE, namespace))

    def _after(self, target: Target, leaving: Object) -> None:
        """Wait until an object that is being deleted is gone. Raises KubeError."""
        metadata = leaving["metadata"]
        timeout_s = self._options.wait_timeout_s
        gone = wait_gone(
            self._client, self._discovery, [target.identity], timeout_s, uids={target.identity: metadata["uid"]}
        )
        if not gone[0].is_ready:
            held = held_by(leaving) or "its controller"
            raise KubeError(f"it is being deleted, and not gone after {timeout_s:.0f} s; it waits for {held}")


def _called_namespaces(target: Target) -> set[str]:
    """Return the namespaces of the services that a webhook configuration or an APIService sends requests to."""
    content = target.manifest.content
    callers = content.get("webhooks") if group_of(target.api_version) == "admissionregistration.k8s.io" else ()
    places = [((caller or {}).get("clientConfig") or {}).get("service") for caller in callers or ()]
    if target.kind == "APIService":
        places.append((content.get("spec") or {}).get("service"))
    return {str(place["namespace"]) for place in places if isinstance(place, Mapping) and "namespace" in place}
