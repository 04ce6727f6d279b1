# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan a set for a cluster that does not exist yet: validate it against the schemas of its version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...shared.nearest import suggestion
from ..client.discovery import Resource
from ..manifests.manifests import Manifest
from ..manifests.order import phases
from ..manifests.schemas import PackagedSchemas
from .applyset import Parent, with_label
from .offline_plan import Foresight
from .options import Options
from .results import ObjectResult, Outcome, in_order
from .targets import Target, namespace_target, planned_by, resolved


class _BuiltIn:
    """The kinds that every cluster of a version has."""

    def __init__(self, schemas: PackagedSchemas, version: str) -> None:
        self._schemas, self._version = schemas, version

    def find(self, api_version: str, kind: str) -> Resource | None:
        return self._schemas.resource(api_version, kind)

    def hint(self, api_version: str, kind: str) -> str:
        """Return the remedy for a kind that is neither built in nor defined by a CRD of the run."""
        versions = sorted(version for version, known in self._schemas.kinds() if known == kind)
        if versions:
            return f"Kubernetes {self._version} has {kind} as {' and '.join(versions)}"
        known = [name for version, name in self._schemas.kinds() if version == api_version]
        return suggestion(kind, known) if known else "add its CRD to the manifests, or to planned_src"


def plan_for(version: str, manifests: Sequence[Manifest], options: Options) -> Outcome:
    """Return the plan for a new cluster of this version. Raises KubeError.

    Its namespaces are not known, so a missing namespace is not an error.
    """
    schemas = PackagedSchemas(version)
    own, others = planned_by(manifests), planned_by(options.planned)
    targets = resolved(manifests, _BuiltIn(schemas, version), own, others, options.namespace)
    if options.create_namespace and options.namespace and options.namespace not in own.namespaces:
        targets.insert(0, namespace_target(options.namespace))
    foresight = Foresight(own.kinds, others.kinds, schemas)
    set_id = Parent(options.prune, options.namespace).id if options.prune else ""
    why = f"the cluster of version {version} is only planned"
    results: list[ObjectResult] = []
    for phase in phases(targets):
        results += [_result(foresight, replace(target, planned=why), set_id) for target in phase]
    return Outcome(in_order(results, [target.identity for target in targets]), only_planned=True)


def _result(foresight: Foresight, target: Target, set_id: str) -> ObjectResult:
    content = target.manifest.content
    return foresight.created(target, with_label(content, set_id) if set_id and target.is_member else content)
