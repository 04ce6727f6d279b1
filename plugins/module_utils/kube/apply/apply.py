# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply a set of objects: read the cluster, validate the whole set, then change it phase by phase.

The next run completes a run that was killed at any moment. The set's parent is widened before the first member is
applied, and narrowed after the last one is deleted. An apply may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

from ..client.client import Client
from ..client.discovery import Discovery
from ..client.errors import KubeError
from ..manifests.manifests import Identity, Manifest
from ..manifests.order import is_crd, is_namespace, phases
from ..manifests.schemas import ServerSchemas
from ..ready.wait import wait_ready
from .delete import Deleter
from .offline_plan import Foresight
from .options import Options
from .prune import extent_of
from .refresh import Refreshed, refresh
from .replacing import Intent, Planner
from .results import ObjectResult, Outcome, in_order
from .serving import ServedKinds
from .single import Single, State
from .targets import Target


class Apply:
    """Applies sets to a cluster. hide: removes secrets from messages of the server."""

    def __init__(
        self, client: Client, discovery: Discovery, options: Options, hide: Callable[[str], str] = str
    ) -> None:
        self._client, self._discovery, self._options, self._hide = client, discovery, options, hide

    def run(self, manifests: Sequence[Manifest]) -> Outcome:
        """Apply the manifests and return the result of each object. Raises KubeError if nothing was changed."""
        with ThreadPoolExecutor(self._options.parallelism, "apply") as pool:
            found = refresh(self._client, self._discovery, self._options, manifests, pool)
            planner = Planner(self._client, self._options, pool)
            intents = planner.intents(found.targets, found.before, [one.obj for one in found.judged.left])
            found = replace(found, warnings=(*found.warnings, *planner.warnings))
            run = _Run(self._client, self._discovery, self._options, self._hide, found, pool, intents)
            if run.is_refused:
                run.refuse()
                return run.outcome()
            run.apply()
        if self._options.wait and not self._options.only_plans:
            run.wait()
        return run.outcome()


class _Run:
    """The changes of one run, after the refresh."""

    def __init__(
        self,
        client: Client,
        discovery: Discovery,
        options: Options,
        hide: Callable[[str], str],
        found: Refreshed,
        pool: Executor,
        intents: Mapping[Identity, Intent],
    ) -> None:
        self.client, self.discovery, self.options, self.hide = client, discovery, options, hide
        self.found, self.pool = found, pool
        self.state = State(found.before, found.own.kinds, intents=intents)
        foresight = Foresight(found.own.kinds, found.others.kinds, ServerSchemas(client))
        self.single = Single(client, discovery, options, self.state, foresight, found.set_id, hide)
        self.failure = ""

    @property
    def has_failed(self) -> bool:
        return bool(self.failure) or any(result.action == "failed" for result in self.state.results.values())

    @property
    def is_refused(self) -> bool:
        """Return whether an object cannot become as described, so that the run changes nothing. A plan continues."""
        return not self.options.only_plans and any(one.refusal for one in self.state.intents.values())

    def refuse(self) -> None:
        """Record a result for each object with the reason why the run changes nothing."""
        why = "nothing is changed, since other objects cannot become as described"
        for target in self.found.targets:
            intent = self.state.intents.get(target.identity)
            if intent is not None and intent.refusal is not None:
                told = ObjectResult.failure(target.identity, self.hide(intent.refusal.message), intent.refusal.remedy)
                self.state.results[target.identity] = told
            else:
                self.state.results[target.identity] = ObjectResult(target.identity, "skipped", reason=why)

    def apply(self) -> None:
        self._widen()
        for phase in phases(self.found.targets):
            self._phase(phase)
        self._prune()
        self._narrow()

    def _widen(self) -> None:
        group = self.found.group
        if group is None or self.options.only_plans:
            return
        home = group.parent.namespace
        if home not in self.found.there:
            # The namespace of the parent. A run that is killed here leaves only an empty namespace.
            self._phase(
                target for target in self.found.targets if is_namespace(target) and target.identity.name == home
            )
        try:
            group.write(self.found.recorded | extent_of(group.parent, self.found.members))
        except KubeError as error:
            self.failure = (
                f"nothing was applied, since the parent of the set cannot be written: {self.hide(str(error))}"
            )
            self.state.lost = "the parent of the set cannot be written"

    def _phase(self, phase: Iterable[Target]) -> None:
        todo = [target for target in phase if target.identity not in self.state.results]
        for result in self.pool.map(self.single.result, [self._served(target) for target in todo]):
            self.state.results[result.identity] = result
        definitions = [target.identity for target in todo if is_crd(target)]
        made = {identity: self.state.answers[identity] for identity in definitions if identity in self.state.answers}
        if made and not self.options.only_plans:
            kinds = ServedKinds(self.client, self.discovery, self.found.own.kinds)
            for identity, why in kinds.wait(made, self.options.wait_timeout_s).items():
                self.state.results[identity] = self.state.results[identity].failed_because(why)

    def _served(self, target: Target) -> Target:
        """Return the target with the kind that the server serves since its CRD was applied."""
        found = None if target.is_served else self.discovery.find(target.api_version, target.kind)
        return target if found is None else replace(target, resource=found, is_served=True)

    def _prune(self) -> None:
        judged, results = self.found.judged, self.state.results
        results.update({one.identity: ObjectResult(one.identity, "skipped", reason=why) for one, why in judged.kept})
        if self.has_failed:
            why = "it left the set, and is removed once everything in the set could be applied"
            results.update({one.identity: ObjectResult(one.identity, "skipped", reason=why) for one in judged.going})
        elif judged.going:
            deleter = Deleter(self.client, self.discovery, self.options, self.pool, self.hide)
            results.update({result.identity: result for result in deleter.delete(judged.going, "it left the set")})

    def _narrow(self) -> None:
        """Record the current locations of members, unless the next run also has to search the former locations."""
        group = self.found.group
        if group is None or self.options.only_plans or self.has_failed:
            return
        kept = [one for one, _why in self.found.judged.kept]
        try:
            group.write(extent_of(group.parent, [*self.found.members, *kept]))
        except KubeError as error:
            self.failure = f"the parent of the set cannot be written: {self.hide(str(error))}"

    def wait(self) -> None:
        applied = [
            target.identity
            for target in self.found.targets
            if self.state.results[target.identity].action in {"create", "update", "replace", "none"}
        ]
        applied += [one.identity for one in self.state.claims.values() if one.action == "update"]
        seen = {identity: self.state.answers[identity] for identity in applied if identity in self.state.answers}
        timeout_s = self.options.wait_timeout_s
        for one in wait_ready(self.client, self.discovery, applied, timeout_s, seen=seen, hide=self.hide):
            if not one.is_ready:
                results = self.state.claims if one.identity in self.state.claims else self.state.results
                results[one.identity] = results[one.identity].failed_because(self.hide(str(one)))

    def outcome(self) -> Outcome:
        order = [target.identity for target in self.found.targets]
        results = in_order([*self.state.results.values(), *self.state.claims.values()], order)
        return Outcome(results, self.options.only_plans, self.found.warnings, self.failure)
