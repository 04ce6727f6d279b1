# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete the objects of the manifests and of a set, in reverse order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..client.client import Client
from ..client.discovery import Discovery
from ..client.errors import ManifestError, ManifestProblem
from ..manifests.manifests import Identity, Manifest
from .applyset import Parent
from .before import Before
from .delete import Deleter
from .options import Options
from .prune import Judged, Member, SetOnCluster, check_limit, extent_of, judge, member
from .results import ObjectResult, Outcome, in_order
from .targets import Planned, Target, planned_by, resolved


class Remove:
    """One run. hide: removes secrets from messages of the server."""

    def __init__(
        self, client: Client, discovery: Discovery, options: Options, hide: Callable[[str], str] = str
    ) -> None:
        self.client, self.discovery, self.options, self.hide = client, discovery, options, hide
        self.results: dict[Identity, ObjectResult] = {}

    def run(self, manifests: Sequence[Manifest]) -> Outcome:
        """Delete the objects of the manifests, and with `prune` the rest of the set and its parent.

        Raises KubeError.
        """
        with ThreadPoolExecutor(self.options.parallelism, "delete") as pool:
            before = Before(self.client, pool)
            targets = self._located(manifests)
            named = self._named(before, targets)
            kept_set, judged = self._set(pool, targets)
            going = {one.identity: one for one in (*named, *judged.going)}
            deleter = Deleter(self.client, self.discovery, self.options, pool, self.hide)
            for result in deleter.delete(list(going.values())):
                self.results[result.identity] = result
            for one, why in judged.kept:
                self.results[one.identity] = ObjectResult(one.identity, "skipped", reason=why)
            if kept_set is not None:
                self._finish(kept_set, judged, deleter)
        order = [manifest.identity for manifest in reversed(manifests)]
        return Outcome(in_order(self.results.values(), order), self.options.only_plans)

    def _located(self, manifests: Sequence[Manifest]) -> list[Target]:
        """Return the addresses of the objects. Kinds that are not served have no objects, and are omitted."""
        served = []
        for manifest in manifests:
            if self.discovery.find(manifest.api_version, manifest.kind) is not None:
                served.append(manifest)
            elif manifest.api_version in self.discovery.stale:
                hint = self.discovery.hint(manifest.api_version, manifest.kind)
                raise ManifestError(
                    [ManifestProblem(manifest.source, f"{manifest.identity} cannot be looked for", hint)]
                )
            else:
                self.results[manifest.identity] = ObjectResult(
                    manifest.identity, "none", reason="the cluster has no such kind"
                )
        return resolved(served, self.discovery, planned_by(()), Planned(), self.options.namespace)

    def _named(self, before: Before, targets: Sequence[Target]) -> list[Member]:
        before.read(targets)
        found = []
        for target in targets:
            obj = before.objects.get(target.key)
            if obj is None:
                self.results[target.identity] = ObjectResult(target.identity, "none")
            else:
                found.append(Member(target.identity, target.resource, obj))
        return found

    def _set(self, pool: ThreadPoolExecutor, targets: Sequence[Target]) -> tuple[SetOnCluster | None, Judged]:
        if not self.options.prune:
            return None, Judged()
        parent = Parent(self.options.prune, self.options.namespace)
        kept_set = SetOnCluster(self.client, self.discovery, parent, self.options.field_manager)
        members = kept_set.members(kept_set.read(), [target.resource for target in targets], pool)
        described = {target.key for target in targets}
        manager = self.options.field_manager
        judged = judge(members.values(), described, manager, with_data=self.options.prune_data)
        check_limit(judged.going, self.options.prune_limit, self.options.prune)
        return kept_set, judged

    def _finish(self, kept_set: SetOnCluster, judged: Judged, deleter: Deleter) -> None:
        """Delete the parent if no member remains; otherwise keep it to find the remaining members."""
        if kept_set.before is None or any(r.action in {"failed", "skipped"} for r in self.results.values()):
            kept = [one for one, _why in judged.kept]
            failed = any(result.action == "failed" for result in self.results.values())
            if kept and not failed and not self.options.only_plans:
                kept_set.write(extent_of(kept_set.parent, kept))
            return
        for result in deleter.delete([member(kept_set.before, kept_set.resource)], "the set is empty"):
            self.results[result.identity] = result
