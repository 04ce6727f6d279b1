# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the cluster before the first change, and detect all detectable problems of a set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from ..client.client import Client
from ..client.discovery import Discovery
from ..client.errors import ManifestError, ManifestProblem
from ..manifests.manifests import Manifest
from ..manifests.order import is_namespace
from .applyset import PART_OF_LABEL, Extent, Parent
from .before import Before, Object
from .options import Options
from .prune import Judged, Member, SetOnCluster, check_limit, is_made_by_controller, judge
from .targets import Key, Planned, Target, check_namespaces, namespace_target, planned_by, resolved, with_plans


@dataclass(frozen=True)
class Refreshed:
    """Objects to apply, and the state of the cluster.

    own, others: objects that the set itself creates, and those of other tasks of the run. there: the existing
    namespaces. recorded: former extent of the set. judged: objects that left the set.
    """

    targets: tuple[Target, ...]
    own: Planned
    others: Planned
    there: frozenset[str]
    before: Mapping[Key, Object]
    group: SetOnCluster | None = None
    recorded: Extent = field(default_factory=Extent)
    judged: Judged = field(default_factory=Judged)
    warnings: tuple[str, ...] = ()

    @property
    def members(self) -> list[Target]:
        return [target for target in self.targets if target.is_member]

    @property
    def set_id(self) -> str:
        return self.group.parent.id if self.group is not None else ""


def refresh(
    client: Client, discovery: Discovery, options: Options, manifests: Sequence[Manifest], pool: Executor
) -> Refreshed:
    """Read all objects of the manifests and of the set. Raises KubeError with all problems."""
    own = planned_by(manifests)
    others = planned_by(options.planned if options.only_plans else ())
    before = Before(client, pool)
    targets = resolved(manifests, discovery, own, others, options.namespace)
    wanted = {target.identity.namespace for target in targets} | ({options.namespace} if options.prune else set())
    there = before.namespaces(wanted - {""})
    if options.create_namespace and options.namespace and options.namespace not in own.namespaces:
        targets.insert(0, namespace_target(options.namespace))
    planned = {target.identity.name for target in targets if is_namespace(target)} | others.namespaces
    check_namespaces(targets, there, planned)
    asked = [target for target in targets if target.is_served and target.identity.namespace in {"", *there}]
    plans = tuple(with_plans(targets, there) if options.only_plans else targets)
    found = Refreshed(plans, own, others, there, before.objects)
    if options.prune:
        parent = Parent(options.prune, options.namespace)
        _check_parent(parent, targets, {*there, *planned})
        group = SetOnCluster(client, discovery, parent, options.field_manager)
        recorded = group.read() if options.namespace in there else Extent()
        members = group.members(recorded, [target.resource for target in asked], pool)
        # This reads the members of the set.
        before.objects.update({key: member.obj for key, member in members.items()})
        judged = _judged(members.values(), targets, options)
        found = replace(found, group=group, recorded=recorded, judged=judged, warnings=_warnings(judged, options))
    before.read(asked)
    return found


def _judged(members: Iterable[Member], targets: Iterable[Target], options: Options) -> Judged:
    described = {target.key for target in targets if target.is_member}
    judged = judge(members, described, options.field_manager, with_data=options.prune_data)
    check_limit(judged.going, options.prune_limit, options.prune)
    return judged


def _warnings(judged: Judged, options: Options) -> tuple[str, ...]:
    return tuple(
        f"{one.identity} carries the label {PART_OF_LABEL} of the set {options.prune}, but {options.field_manager} "
        "never applied it as a part of that: it stays"
        for one in judged.foreign
        if not is_made_by_controller(one.obj)
    )


def _check_parent(parent: Parent, targets: Sequence[Target], namespaces: Collection[str]) -> None:
    if not targets:
        remedy = "to remove everything that it has, use state: absent"
        raise ManifestError([ManifestProblem("manifests", f"the set {parent.name} would be empty", remedy)])
    if parent.namespace not in namespaces:
        message = f"there is no namespace {parent.namespace} for the set {parent.name}"
        remedy = "add it to the manifests, or set create_namespace"
        raise ManifestError([ManifestProblem("namespace", message, remedy)])
    for target in targets:
        if target.key == ("", "Secret", parent.namespace, parent.name):
            message = f"{target.identity} has the place of the parent of the set {parent.name}"
            raise ManifestError([ManifestProblem(target.manifest.source, message, "choose another name for prune")])
