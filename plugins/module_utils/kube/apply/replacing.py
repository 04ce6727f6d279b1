# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan, before the first change, how to change immutable fields of objects.

The table of immutable fields proposes a method, and a dry run of the server confirms it. A change that loses data is
rejected, with the steps that keep the data.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from ..client.client import Client
from ..client.errors import ApiError
from ..client.paths import core_path
from ..manifests.manifests import Identity
from ..manifests.order import group_kind
from ..ready.verdict import text
from .adopt import Adopter
from .before import Object
from .compare import Change
from .explain import is_immutable
from .immutable import WITH_PODS, Fixed, Method, fixed
from .options import Options
from .patch import Applier, Circumstances
from .renamed import Renamed, renames
from .targets import Key, Target
from .volumes import CLAIMS, EXPANDED, STORAGE_CLASSES, Verdict, Volume, compare, volumes_of

# Number of characters of the name in a rehearsal, because the length of names is limited.
_NAME_CHARACTERS = 40
_SHOWN_CHARACTERS = 80
_SHOWN_FIELDS = 4
_ALLOWED: Mapping[str, frozenset[Method]] = {
    "never": frozenset(),
    "orphan": frozenset({"orphan"}),
    "always": frozenset({"orphan", "replace"}),
}


@dataclass(frozen=True)
class Refusal:
    """An object that cannot become as described, and the remedy."""

    message: str
    remedy: str


@dataclass(frozen=True)
class Intent:
    """The method by which an object becomes as described. fixed: its immutable changes. claims: its claims that change.

    successor: the object that would be created, as the server returned it for a rehearsal.
    """

    fixed: Fixed | None = None
    claims: tuple[Verdict, ...] = ()
    refusal: Refusal | None = None
    successor: Object | None = None

    @property
    def method(self) -> Method | None:
        return None if self.fixed is None else self.fixed.method


class Planner:
    """Plans intents with few requests. warnings: comparisons that were not possible."""

    def __init__(self, client: Client, options: Options, pool: Executor) -> None:
        self._client, self._options, self._pool = client, options, pool
        self._rehearse = Applier(client, replace(options, only_plans=True))
        self._adopter = Adopter(client, replace(options, only_plans=True, force_conflicts=True), self._rehearse)
        self.warnings: list[str] = []

    def intents(
        self, targets: Sequence[Target], before: Mapping[Key, Object], leaving: Sequence[Object] = ()
    ) -> dict[Identity, Intent]:
        """Return the intents of the targets that require more than an apply, by identity. Raises KubeError.

        leaving: objects that are no longer described and will be deleted, or would be if they held no data.
        """
        known = [
            (target, before[target.key])
            for target in targets
            if target.is_served and target.key in before and not before[target.key]["metadata"].get("deletionTimestamp")
        ]
        wanted = {target.key: volumes for target, _live in known if (volumes := _volumes(target.manifest.content))}
        left = [volume for obj in leaving for volume in volumes_of(obj)]
        places = sorted({volume.namespace for volume in [*itertools.chain(*wanted.values()), *left]})
        listed = dict(zip(places, self._pool.map(self._listed, places), strict=True))
        claims = self._claims({key: (volumes, before[key]) for key, volumes in wanted.items()}, listed)
        found = self._pool.map(lambda pair: self._intent(pair[0], pair[1], claims), known)
        intents = {target.identity: intent for (target, _live), intent in zip(known, found, strict=True) if intent}
        self.warnings += _without_workload(left, listed)
        live = [*left, *(volume for _target, obj in known for volume in volumes_of(obj))]
        return {**intents, **_renamed(targets, live, listed)}

    def _intent(self, target: Target, live: Object, claims: Mapping[Key, Sequence[Verdict]]) -> Intent | None:
        verdicts = claims.get(target.key, ())
        refused = [verdict for verdict in verdicts if verdict.action == "refuse"]
        if refused:
            remedies = dict.fromkeys(verdict.remedy for verdict in refused)
            message = "; ".join(verdict.message for verdict in refused)
            return Intent(refusal=Refusal(message, "; ".join(remedies)))
        adopted = self._options.adopted_managers
        changed = fixed(live, target.manifest.content, self._options.field_manager, adopted)
        if changed and not (changed.is_certain or self._is_refused_by_server(target, live)):
            changed = None
        successor = None
        if changed:
            refusal = self._refusal(target, changed)
            if not refusal:
                refusal, successor = self._rehearsed(target, live)
            if refusal:
                return Intent(refusal=refusal)
            self.warnings += _left_behind(target, live)
        # A claim that is its own object is applied. The claims of a database are changed by its operator.
        own = tuple(verdict for verdict in verdicts if verdict.action != "none" and verdict.volume.kind in EXPANDED)
        return Intent(changed, own, successor=successor) if changed or own else None

    def _is_refused_by_server(self, target: Target, live: Object) -> bool:
        content = target.manifest.content
        taken = self._adopter.find(live, content)
        try:
            if taken is None:
                self._rehearse(target.path, content, Circumstances())
            else:
                self._adopter.apply(target.path, live, content, Circumstances(), taken)
        except ApiError as error:
            # Any other rejection is reported when the object is applied.
            return is_immutable(error)
        return False

    def _refusal(self, target: Target, changed: Fixed) -> Refusal | None:
        if changed.method in _ALLOWED[self._options.replace]:
            return None
        is_secret = target.kind == "Secret"
        told = [change.path if is_secret else _told(change) for change in changed.changes]
        message = f"cannot change {_listed(told)} of {target.identity}: the API keeps it for good"
        return Refusal(message, _remedy(target, changed.method))

    def _rehearsed(self, target: Target, live: Object) -> tuple[Refusal | None, Object | None]:
        """Return the refusal of a workload whose successor the server would reject, or the successor."""
        if group_kind(target) not in WITH_PODS:
            return None, None
        content = target.manifest.content
        name = f"{target.identity.name[:_NAME_CHARACTERS]}-{str(live['metadata']['uid'])[:8]}"
        path = target.resource.path(target.identity.namespace or None, name)
        try:
            manifest = {**content, "metadata": {**content["metadata"], "name": name}}
            found = self._rehearse(path, manifest, Circumstances()).body
        except ApiError as error:
            if error.is_invalid or error.status == 400:
                message = f"cannot replace {target.identity}: the server refuses its successor: {error.message}"
                return Refusal(message, "correct the manifest: the object is left as it is until then"), None
            return None, None
        return None, {**found, "metadata": {**found["metadata"], "name": target.identity.name}}

    def _claims(
        self, wanted: Mapping[Key, tuple[Sequence[Volume], Object]], listed: Mapping[str, Sequence[Object]]
    ) -> dict[Key, list[Verdict]]:
        """Return the verdicts on the claims of every workload that describes volumes."""
        judged = _judged(wanted, listed, None)
        if any(verdict.action == "expand" for verdicts in judged.values() for verdict in verdicts):
            judged = _judged(wanted, listed, self._list(STORAGE_CLASSES))
        return judged

    def _listed(self, namespace: str) -> list[Object]:
        found = self._list(core_path(namespace, CLAIMS))
        if found is None:
            self.warnings.append(
                f"cannot list the volume claims of namespace {namespace}: their sizes are not compared with the "
                "manifests. Grant list on persistentvolumeclaims"
            )
        return found or []

    def _list(self, path: str) -> list[Object] | None:
        """Return the elements of a list, or None without permission."""
        try:
            return list(self._client.pages(path))
        except ApiError as error:
            if error.is_forbidden:
                return None
            raise


def _judged(
    wanted: Mapping[Key, tuple[Sequence[Volume], Object]],
    listed: Mapping[str, Sequence[Object]],
    classes: Sequence[Object] | None,
) -> dict[Key, list[Verdict]]:
    found: dict[Key, list[Verdict]] = {}
    for key, (volumes, live) in wanted.items():
        former = {(volume.workload, volume.template): volume.size for volume in volumes_of(live)}
        found[key] = [
            verdict
            for volume in volumes
            for verdict in compare(
                volume, listed[volume.namespace], classes, former.get((volume.workload, volume.template), "")
            )
        ]
    return found


def _volumes(manifest: Mapping[str, Any]) -> list[Volume]:
    return list(volumes_of(manifest))


def _renamed(
    targets: Iterable[Target], live: Iterable[Volume], listed: Mapping[str, Sequence[Object]]
) -> dict[Identity, Intent]:
    """Return the refusals of workloads that would start with empty volumes under another name."""
    wanted = {volume: target for target in targets for volume in volumes_of(target.manifest.content)}
    found: dict[Identity, list[Renamed]] = {}
    for one in renames(live, wanted, itertools.chain(*listed.values())):
        found.setdefault(wanted[one.volume].identity, []).append(one)
    return {
        identity: Intent(refusal=Refusal("; ".join(one.message for one in all_), "; ".join(one.remedy for one in all_)))
        for identity, all_ in found.items()
    }


def _without_workload(left: Iterable[Volume], listed: Mapping[str, Sequence[Object]]) -> Iterator[str]:
    """Yield a warning for each StatefulSet that leaves claims behind."""
    claims: dict[tuple[str, str], list[str]] = {}
    for volume in left:
        if volume.kind == "StatefulSet":
            owned = [text(one, "metadata", "name") for one in listed[volume.namespace] if volume.owns(one)]
            claims.setdefault((volume.namespace, volume.workload), []).extend(owned)
    for (namespace, workload), names in claims.items():
        if names:
            yield (
                f"StatefulSet {namespace}/{workload} is not described any more: its volume claims {', '.join(names)} "
                "stay with their data"
            )


def _left_behind(target: Target, live: Object) -> Iterator[str]:
    """Yield a warning for each claim template that the manifest no longer has: its claims keep the data, unused."""
    if target.kind == "StatefulSet":
        kept = {volume.template for volume in volumes_of(target.manifest.content)}
        for volume in volumes_of(live):
            if volume.template not in kept:
                claims = f"{volume.template}-{target.identity.name}-*"
                yield f"{target.identity} no longer uses its volume claims {claims}: they stay with their data"


def _listed(fields: Iterable[str]) -> str:
    """Return the fields as a phrase. Beyond the first few, it contains only their number."""
    different = list(dict.fromkeys(fields))
    more = len(different) - _SHOWN_FIELDS
    return ", ".join(different[:_SHOWN_FIELDS]) + (f" and {more} more fields" if more > 0 else "")


def _told(change: Change) -> str:
    return f"{change.path} from {_short(change.before)} to {_short(change.after)}"


def _short(value: Any) -> str:
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= _SHOWN_CHARACTERS else f"{written[:_SHOWN_CHARACTERS]}..."


def _remedy(target: Target, method: Method) -> str:
    if method == "orphan":
        return "set `replace: orphan` to create the object again around its running pods, or restore the former value"
    if method == "replace":
        pods = " with its pods" if group_kind(target) in WITH_PODS else ""
        return f"set `replace: always` to delete the object{pods} and create it again, or restore the former value"
    if target.kind == "StatefulSet":
        return (
            "set `spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Retain` and run again without the change, so "
            "that the volumes stay; then make the change with `replace: always`"
        )
    return "restore the former value; an object with another name can have the new one"
