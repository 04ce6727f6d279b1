# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight of a run on a cluster: one check of the cluster, and one list of all problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..module_utils.shared.problem import Problem
from ..module_utils.shared.targets import CLUSTERS, TARGETS
from ..module_utils.shared.version import COLLECTION_VERSION
from . import cluster_preflight as cluster
from .cluster_parts import described_parts
from .cluster_scale import scale_problems
from .description import description_digest
from .ingress_ports import ingress_ports

Rendered = dict[str, Any]
SecretProblems = Callable[[Rendered, Mapping[str, Any]], Iterable[Problem]]
"""Returns problems of secret values, from the description of the services, which is empty if rendering failed."""


@dataclass
class ClusterRun:
    """One run of a verb.

    given: facts of the play: `connection`, `settings` of the catalogue, and `kubernetes_version` of a planned cluster.
    With `optional`, an unreachable cluster is not a problem.
    known: the platform's services, as described. ask: runs the module that checks the cluster.
    chart_defaults: source of each chart without values in the inventory.
    render: returns the objects of services from settings and overrides, or adds problems and returns an empty result.
    """

    verb: str
    given: Mapping[str, Any]
    settings: dict[str, Any]
    known: Mapping[str, Mapping[str, Any]]
    problems: list[Problem]
    render: Callable[[Mapping[str, Any], Mapping[str, Any]], Rendered]
    ask: Callable[[Mapping[str, Any]], dict[str, Any]]
    chart_defaults: Mapping[str, Mapping[str, str]]
    facts: dict[str, Any] = field(default_factory=dict)

    def prepare(self, secret_problems: SecretProblems) -> dict[str, Any]:
        """Return the arguments of the roles and add all problems, or return the result of a failed module."""
        settings, verb = self.settings, self.verb
        self.bundles, wrong = cluster.read_bundles(settings)
        self.problems += wrong
        reached = cluster.connection(settings, self.given.get("connection") or {})
        # Rendered as described, without the requested numbers, which may exceed the bounds.
        is_known = settings["lakehouse_target"] in CLUSTERS
        draft = self.render(self._place(), settings["lakehouse_services"]) if is_known else {}
        locks = cluster.extra_secrets(cluster.backends(settings, draft), draft) if draft else []
        judged = {**draft, "secrets": [*draft["secrets"], *locks]} if draft else {}
        self.problems += secret_problems(judged, cluster.service_secrets(settings))
        if draft:
            self.problems += cluster.ingress_problems(settings, draft["services"])
            self.problems += cluster.chart_problems(settings, self._charts(draft) if verb in cluster.HELM_VERBS else ())
        # Without a description of the inventory, all problems of the platform's own services are still reported.
        services = draft.get("services") or self.known
        ended = self._ask(reached, draft.get("manifests", []), services)
        if ended:
            return ended
        major = cluster.postgresql_major(draft.get("manifests", []))
        if self.facts:
            self.problems += cluster.version_problems(verb, self.facts, settings["lakehouse_namespace"])
            self.problems += cluster.data_problems(verb, self.facts, major)
            self.problems += cluster.lock_problems(settings, self.facts, services)
        if self.facts and verb in cluster.HELM_VERBS:
            self.problems += cluster.folder_problems(settings, cluster.autoscaling_charts(settings, self.facts))
        if self.facts and draft and verb == "scale":
            self.problems += scale_problems(settings, draft, self.facts["autoscalers"])
        rendered = {} if self.problems else self.render(self._place(), self._overrides())
        return {} if self.problems else self._outcome(reached, rendered, major)

    def _ask(self, reached: Mapping[str, Any], manifests: list[Any], services: Mapping[str, Any]) -> dict[str, Any]:
        """Check the cluster, and return a result that ends the preflight, else an empty one."""
        version = self.given.get("kubernetes_version")
        if version:
            self.facts = cluster.planned_facts(self.settings, version, manifests)
        elif self.settings["lakehouse_target"] in CLUSTERS and self.settings["lakehouse_environment"]:
            answer = self.ask(cluster.question(self.verb, self.settings, reached, manifests, services))
            if answer.get("failed"):
                return answer
            if answer["unreached"] and self.given.get("optional"):
                return {"reachable": False, "unreached": answer["unreached"], "changed": False}
            self.facts = answer["facts"]
            self.problems += [Problem(**problem) for problem in answer["problems"]]
        return {}

    def _place(self) -> dict[str, Any]:
        cloud = self.given.get("settings") or {}
        settings = cluster.catalogue_settings(self.settings, cloud, self.bundles)
        named = self.settings["lakehouse_control_plane_cidrs"]
        settings["control_plane_cidrs"] = named or list(self.facts.get("control_plane_cidrs") or ())
        return {**settings, "ingress_services": [name for name in settings["ingress_services"] if self._runs(name)]}

    def _runs(self, name: str) -> bool:
        """Return whether a service is known and its port `http` is not that of other software, as Grafana's is.

        The renderer rejects other managed services, which have no port to expose.
        """
        described = self.known.get(name, {})
        is_managed = self.settings["lakehouse_target"] in described.get("managed", {})
        has_address = (described.get("ports", {}).get("http") or {}).get("reached_at")
        return name in self._names() and not (is_managed and has_address)

    def _names(self) -> set[str]:
        return {*self.known, *self.settings["lakehouse_services"]}

    def _overrides(self) -> dict[str, Any]:
        return cluster.overrides(self.settings, self.facts, self._names())

    def _charts(self, draft: Rendered) -> list[str]:
        operated = ["cloudnative-pg"] if "cloudnative-pg" in draft["operators"] else []
        exposed = bool(self.settings["lakehouse_domain"])
        target = TARGETS[self.settings["lakehouse_target"]]
        installs = exposed and (target.on_aws or self.settings["lakehouse_ingress_install"])
        return ["kube-prometheus-stack", *operated, *([target.ingress_controller] if installs else [])]

    def _outcome(self, reached: Mapping[str, Any], rendered: Rendered, major: int) -> dict[str, Any]:
        """Return the arguments of the roles, without values of secrets.

        Manifests are excluded: the role that applies them renders them again, with later facts.
        """
        found = self.facts["marker"] or {}
        doors = cluster.backends(self.settings, rendered)
        return {
            "reachable": True,
            "foundation_secrets": cluster.foundation_secrets(self.settings),
            "ingress_ports": ingress_ports(self.settings, rendered["services"]),
            "settings": cluster.handed_on(self.settings),
            "facts": self.facts,
            "connection": dict(reached),
            "kubernetes_version": self.given.get("kubernetes_version") or "",
            "catalogue_settings": self._place(),
            "overrides": self._overrides(),
            "marker": cluster.marker(self.settings, self.facts, major),
            "make_namespace": not self.facts["namespace_exists"] or self.facts["namespace_is_ours"],
            "deployed": bool(found) and not found["removed"],
            "deployed_version": found.get("version"),
            "version": COLLECTION_VERSION,
            "description": description_digest(rendered),
            "charts": cluster.charts(self.settings, self.chart_defaults),
            "helm": cluster.helm(self.settings),
            "images": cluster.images(self.settings),
            "planned_charts": sorted(
                {cluster.DEFINED_BY[group] for group in self.facts["unserved"] if group in cluster.DEFINED_BY}
            ),
            "backends": doors,
            "extra_secrets": cluster.extra_secrets(doors, rendered),
            "proxy_environment": cluster.proxy_environment(self.settings),
            "described": described_parts(self.settings),
            "volumes": cluster.volumes(rendered["manifests"], self.settings["lakehouse_namespace"]),
            "rendered": {word: value for word, value in rendered.items() if word != "manifests"},
        }
