# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve the address of each manifest on a cluster, and whether the server can process it yet. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from ..client.discovery import Resource
from ..client.errors import ManifestError, ManifestProblem
from ..manifests.manifests import Identity, Manifest
from ..manifests.order import is_namespace
from ..manifests.schemas import DefinedKinds

# Group, kind, namespace and name: they identify an object regardless of its API version.
Key: TypeAlias = tuple[str, str, str, str]
_NAMESPACE = Resource("", "v1", "Namespace", "namespaces", namespaced=False)


def key_of(identity: Identity) -> Key:
    return identity.group, identity.kind, identity.namespace, identity.name


@dataclass(frozen=True)
class Target:
    """A manifest and the API that it is sent to.

    is_served: whether the server already serves the kind. planned: the reason why the server cannot process it yet.
    is_member: whether it belongs to the set that `prune` names.
    """

    manifest: Manifest
    resource: Resource
    is_served: bool = True
    planned: str = ""
    is_member: bool = True

    @property
    def identity(self) -> Identity:
        return self.manifest.identity

    @property
    def api_version(self) -> str:
        return self.manifest.api_version

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @property
    def key(self) -> Key:
        return key_of(self.identity)

    @property
    def path(self) -> str:
        identity = self.identity
        return self.resource.path(identity.namespace or None, identity.name)


class Kinds(Protocol):
    """The kinds that a cluster serves."""

    def find(self, api_version: str, kind: str) -> Resource | None: ...
    def hint(self, api_version: str, kind: str) -> str: ...


@dataclass(frozen=True)
class Planned:
    """Kinds (by their CRDs) and namespaces that this task or other tasks of the run create."""

    kinds: DefinedKinds = field(default_factory=lambda: DefinedKinds(()))
    namespaces: frozenset[str] = frozenset()


def planned_by(manifests: Sequence[Manifest]) -> Planned:
    return Planned(
        DefinedKinds(manifests), frozenset(manifest.name for manifest in manifests if is_namespace(manifest))
    )


def resolved(manifests: Iterable[Manifest], kinds: Kinds, own: Planned, others: Planned, default: str) -> list[Target]:
    """Return the targets of the manifests.

    default: the namespace of namespaced objects without one. Raises ManifestError with every kind that neither the
    cluster nor a CRD of the set has, every missing namespace, and every duplicate object.
    """
    problems: list[ManifestProblem] = []
    targets: dict[Key, Target] = {}
    for manifest in manifests:
        target = _target(manifest, kinds, own, others, default, problems)
        if target is None:
            continue
        first = targets.setdefault(target.key, target)
        if first is not target:
            see = f"see {first.manifest.source}"
            problems.append(ManifestProblem(manifest.source, f"{target.identity} was given before", see))
    if problems:
        raise ManifestError(problems)
    return list(targets.values())


def _target(
    manifest: Manifest, kinds: Kinds, own: Planned, others: Planned, default: str, problems: list[ManifestProblem]
) -> Target | None:
    which = manifest.api_version, manifest.kind
    served = kinds.find(*which)
    resource = served or own.kinds.resource(*which) or others.kinds.resource(*which)
    if resource is None:
        message = f"{manifest.identity}: the cluster has no {manifest.kind} of {manifest.api_version}"
        problems.append(ManifestProblem(manifest.source, message, kinds.hint(*which)))
        return None
    namespace = (manifest.namespace or default) if resource.namespaced else ""
    if resource.namespaced and not namespace:
        message = f"{manifest.identity}: it belongs into a namespace, and none is named"
        problems.append(ManifestProblem(manifest.source, message, "set namespace, or metadata.namespace"))
        return None
    placed = replace(manifest, content=_placed(manifest.content, namespace))
    return Target(placed, resource, is_served=served is not None)


def _placed(content: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    """Return an object with its namespace. Cluster-wide objects lose theirs, which some charts set."""
    metadata = content["metadata"]
    if (metadata.get("namespace") or "") == namespace:
        return content
    rest = {key: value for key, value in metadata.items() if key != "namespace"}
    return {**content, "metadata": {**rest, "namespace": namespace} if namespace else rest}


def namespace_target(name: str) -> Target:
    """Return the namespace of `create_namespace`. It is not a member of the set, so it is never pruned."""
    content = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    return Target(Manifest(content, "create_namespace"), _NAMESPACE, is_member=False)


def check_namespaces(targets: Iterable[Target], there: Collection[str], planned: Collection[str]) -> None:
    """Raise ManifestError for each object whose namespace neither exists nor is planned."""
    problems = [
        ManifestProblem(
            target.manifest.source,
            f"{target.identity}: there is no namespace {target.identity.namespace}",
            "add it to the manifests, or set create_namespace",
        )
        for target in targets
        if target.identity.namespace and target.identity.namespace not in {*there, *planned}
    ]
    if problems:
        raise ManifestError(problems)


def with_plans(targets: Iterable[Target], there: Collection[str]) -> list[Target]:
    """Return the targets of a plan, each with the reason why the server cannot process it yet, if any."""
    return [replace(target, planned=_why_planned(target, there)) for target in targets]


def _why_planned(target: Target, there: Collection[str]) -> str:
    if not target.is_served:
        return "its CRD is only planned"
    namespace = target.identity.namespace
    return f"the namespace {namespace} is only planned" if namespace and namespace not in there else ""
