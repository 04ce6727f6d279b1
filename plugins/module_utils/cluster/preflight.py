# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examine a cluster before a run, and report all problems. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..kube.apply.renamed import renames
from ..kube.apply.volumes import CLAIMS, Volume, compare, described
from ..kube.client.control_plane import ENDPOINTS, control_plane_cidrs
from ..kube.client.errors import ApiError
from ..kube.client.paths import core_path, path_of
from ..shared.nearest import replacement
from ..shared.problem import Problem
from .marker import MANAGED_BY, MARKER, Marker, read_marker

if TYPE_CHECKING:
    from ..kube.client.client import Client
    from ..kube.client.discovery import Discovery

MINIMUM_VERSION = (1, 30)
"""The oldest minor version whose API schemas the tests validate every manifest against."""
CHANGING = ("create", "get", "list", "watch", "patch", "delete")
LOOKING = ("get", "list", "watch")
# Permissions in addition to those of applied objects: for secrets, explanations of failed readiness, and jobs.
_BESIDE = {
    ("", "secrets"): ("create", "get", "update", "list", "patch", "delete"),
    ("", "configmaps"): ("create", "get", "patch", "delete"),
    ("", "pods"): LOOKING,
    ("", "pods/log"): ("get",),
    ("", "events"): ("list",),
    # Volumes are expanded, and claims without data are replaced.
    ("", "persistentvolumeclaims"): ("get", "list", "watch", "patch", "delete"),
    ("batch", "jobs"): CHANGING,
}
# The drift check lists permissions in the namespace.
_COMPARED = {
    ("rbac.authorization.k8s.io", "rolebindings"): ("list",),
    ("rbac.authorization.k8s.io", "roles"): ("list",),
    ("networking.k8s.io", "networkpolicies"): ("list",),
    ("", "serviceaccounts"): ("list",),
    **{("apps", plural): ("list",) for plural in ("daemonsets", "deployments", "statefulsets")},
    ("batch", "cronjobs"): ("list",),
}
# The monitoring and the operators contain CRDs and cluster roles.
_IN_THE_CLUSTER = {
    ("apiextensions.k8s.io", "customresourcedefinitions"): CHANGING,
    ("rbac.authorization.k8s.io", "clusterroles"): CHANGING,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): CHANGING,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): CHANGING,
    ("", "namespaces"): ("create", "get", "patch"),
}
_APPLIES = frozenset({"deploy", "plan", "drift", "upgrade", "scale"})
# Further requests of the role autoscaling: whether a component exists, and whether it is from the role's release.
_AUTOSCALING = "autoscaling"
_SPACE = path_of("api", "v1", "namespaces", _AUTOSCALING)
_VERTICAL_MARK = "crypto-lakehouse/vertical-pod-autoscaler"
_METRICS = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
_VERTICAL = "/apis/autoscaling.k8s.io/v1"
_RECOMMENDER = path_of(
    "apis", "apps", "v1", "namespaces", _AUTOSCALING, "deployments", "vertical-pod-autoscaler-recommender"
)
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_THREADS = 16


@dataclass(frozen=True, order=True)
class Right:
    """A permission that the run requires. An empty namespace means the whole cluster."""

    group: str
    resource: str
    namespace: str
    verb: str

    @property
    def what(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


@dataclass(frozen=True)
class Question:
    """Requirements of a run.

    needs_volumes: whether any service requires a volume. storage_class: its class; empty for the default one. volumes:
    described volumes, which are compared with the claims of the namespace. ingress_class: required class; empty for
    none.
    """

    verb: str
    target: str
    environment: str
    namespace: str
    needs_volumes: bool = False
    storage_class: str = ""
    ingress_class: str = ""
    monitoring_namespace: str = "monitoring"
    volumes: tuple[Volume, ...] = ()

    @property
    def emptied(self) -> tuple[str, ...]:
        """Return the namespaces whose volumes the run may delete."""
        return (self.namespace, self.monitoring_namespace) if self.verb == "destroy" else ()


@dataclass(frozen=True)
class Facts:
    """Facts of the cluster.

    unserved: groups of kinds to apply that the cluster does not serve. autoscalers: `min` and `max` by the name of the
    scaled workload. control_plane_cidrs: sources of the API server's own requests to pods. own_parts: autoscaling
    charts whose component the cluster already has.
    """

    server_version: str
    minor_version: str
    namespace_exists: bool
    namespace_is_ours: bool
    marker: Marker | None
    storage_class: str = ""
    storage_classes: tuple[str, ...] = ()
    ingress_classes: tuple[str, ...] = ()
    claims: tuple[Mapping[str, str], ...] = ()
    unserved: tuple[str, ...] = ()
    autoscalers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    control_plane_cidrs: tuple[str, ...] = ()
    own_parts: tuple[str, ...] = ()


@dataclass
class Findings:
    """The facts, and the problems."""

    facts: Facts
    problems: list[Problem] = field(default_factory=list)


def examine(
    client: Client, discovery: Discovery, question: Question, objects: Iterable[Mapping[str, str]] = ()
) -> Findings:
    """Examine the cluster with concurrent requests. Raises `KubeError` if it is not reachable.

    objects: `api_version`, `kind` and `namespace` of the objects to apply.
    """
    applied = list(objects)
    rights = wanted_rights(discovery, question, applied)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="preflight") as pool:
        version = pool.submit(client.request, "GET", "/version")
        namespace = pool.submit(_look, client, path_of("api", "v1", "namespaces", question.namespace))
        marker = pool.submit(_look, client, core_path(question.namespace, "configmaps", MARKER))
        storage = pool.submit(_look, client, "/apis/storage.k8s.io/v1/storageclasses")
        ingress = pool.submit(_look, client, "/apis/networking.k8s.io/v1/ingressclasses")
        refused = refused_rights(client, rights, lambda work, items: list(pool.map(work, items)))
        claims = list(pool.map(lambda name: _claims(client, name), question.emptied))
        scalers = pool.submit(
            _look,
            client,
            path_of("apis", "autoscaling", "v2", "namespaces", question.namespace, "horizontalpodautoscalers"),
        )
        endpoints = pool.submit(_look, client, ENDPOINTS)
        nodes = pool.submit(_look, client, "/api/v1/nodes")
        parts = {path: pool.submit(_look, client, path) for path in (_METRICS, _VERTICAL, _RECOMMENDER, _SPACE)}
        kept = [pool.submit(_look, client, path) for path in volume_paths(question)]
        found_namespace, found_marker = namespace.result(), marker.result()
        told, classes, doors = version.result(), storage.result(), ingress.result()
    named = None if found_marker is None else read_marker(found_marker, question.namespace)
    default, storage_problems = chosen_storage_class(question, classes)
    facts = Facts(
        server_version=str(told["gitVersion"]),
        minor_version=f"{told['major']}.{_digits(told['minor'])}",
        namespace_exists=found_namespace is not None,
        namespace_is_ours=_is_ours(found_namespace),
        marker=named,
        storage_class=default,
        storage_classes=tuple(_names(classes)),
        ingress_classes=tuple(_names(doors)),
        claims=tuple(claim for found in claims for claim in found),
        unserved=unserved_groups(discovery, applied),
        autoscalers=autoscalers(scalers.result()),
        control_plane_cidrs=tuple(control_plane_cidrs(_items(endpoints.result()), _items(nodes.result()))),
        own_parts=tuple(own_parts({path: part.result() for path, part in parts.items()})),
    )
    problems = [
        *version_problems(facts),
        *namespace_problems(question, found_namespace, named),
        *right_problems(refused),
        *storage_problems,
        *ingress_problems(question, doors),
        *volume_problems(
            question, [_items(one.result()) for one in kept], None if classes is None else _items(classes)
        ),
    ]
    return Findings(facts, problems)


def wanted_rights(discovery: Discovery, question: Question, objects: Iterable[Mapping[str, str]]) -> list[Right]:
    """Return the permissions that the run requires. Kinds that the cluster does not serve yet are omitted."""
    place = question.namespace
    found = {Right("", resource, place, "list") for resource in ("pods", "services", "persistentvolumeclaims")}
    if question.verb not in _APPLIES:
        return sorted(found)
    beside = [(group, resource, place, verbs) for (group, resource), verbs in _BESIDE.items()]
    across = [(group, resource, "", verbs) for (group, resource), verbs in _IN_THE_CLUSTER.items()]
    for one in objects:
        resource = discovery.find(one["api_version"], one["kind"])
        if resource:
            where = one["namespace"] if resource.namespaced else ""
            beside.append((resource.group, resource.plural, where, CHANGING))
    compared = [(group, resource, place, verbs) for (group, resource), verbs in _COMPARED.items()]
    wanted = [*beside, *([*across, *compared] if question.verb != "scale" else ())]
    return sorted(found | {Right(group, name, where, verb) for group, name, where, verbs in wanted for verb in verbs})


def autoscalers(listed: Mapping[str, Any] | None) -> dict[str, dict[str, int]]:
    """Return the bounds of every autoscaled workload, by its name."""
    return {
        item["spec"]["scaleTargetRef"]["name"]: {
            "min": int(item["spec"].get("minReplicas", 1)),
            "max": int(item["spec"]["maxReplicas"]),
        }
        for item in _items(listed)
    }


def own_parts(found: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    """Yield the autoscaling charts whose component the cluster has from another source than the role's release."""
    metrics = found[_METRICS]
    if metrics is not None and _annotations(metrics).get("meta.helm.sh/release-namespace") != _AUTOSCALING:
        yield "metrics-server"
    marked = _VERTICAL_MARK in _annotations(found[_SPACE])
    if found[_VERTICAL] is not None and found[_RECOMMENDER] is None and not marked:
        yield "vertical-pod-autoscaler"


def _annotations(found: Mapping[str, Any] | None) -> Mapping[str, str]:
    return (found or {}).get("metadata", {}).get("annotations") or {}


def unserved_groups(discovery: Discovery, objects: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the groups of those kinds that the cluster does not serve yet."""
    missing = {one["api_version"] for one in objects if not discovery.find(one["api_version"], one["kind"])}
    return tuple(sorted({version.rpartition("/")[0] for version in missing}))


def _claims(client: Client, namespace: str) -> list[dict[str, str]]:
    found = _look(client, core_path(namespace, "persistentvolumeclaims"))
    return [{"namespace": namespace, "name": name} for name in _names(found)]


def _look(client: Client, path: str) -> dict[str, Any] | None:
    """Return an object, or None if it is missing or not readable; steps that require it then fail with an error."""
    try:
        found: dict[str, Any] = client.request("GET", path)
    except ApiError as error:
        if error.is_not_found or error.is_forbidden:
            return None
        raise
    return found


def _items(listed: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return list((listed or {}).get("items") or ())


def _names(listed: Mapping[str, Any] | None) -> list[str]:
    return sorted(item["metadata"]["name"] for item in _items(listed))


def _digits(minor: str) -> str:
    """Return the number of a minor version: some clouds append a sign, as in `34+`."""
    return "".join(character for character in str(minor) if character.isdigit())


def _is_ours(found: Mapping[str, Any] | None) -> bool:
    labels = (found or {}).get("metadata", {}).get("labels") or {}
    return bool(labels.get("app.kubernetes.io/managed-by") == MANAGED_BY)


def version_problems(facts: Facts) -> Iterator[Problem]:
    """Yield a problem if the cluster is older than the tested versions."""
    major, minor = (int(part or 0) for part in facts.minor_version.split("."))
    if (major, minor) < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        message = f"the cluster is Kubernetes {facts.server_version}, and {wanted} is the oldest that is supported"
        yield Problem("lakehouse_kubeconfig", message, "upgrade the cluster, or name another one")


def namespace_problems(
    question: Question, namespace: Mapping[str, Any] | None, marker: Marker | None
) -> Iterator[Problem]:
    """Yield a problem if the namespace is being deleted, or has other content than this lakehouse."""
    name = question.namespace
    if ((namespace or {}).get("status") or {}).get("phase") == "Terminating":
        yield Problem("lakehouse_namespace", f"namespace {name} is being deleted", "wait until it is gone")
    if marker is None:
        return
    if marker.environment != question.environment:
        message = f"namespace {name} holds the lakehouse of environment {marker.environment}"
        yield Problem("lakehouse_namespace", message, "name another namespace, or correct lakehouse_environment")
    if marker.target != question.target:
        message = f"namespace {name} holds a lakehouse of target {marker.target}"
        yield Problem("lakehouse_target", message, f"set lakehouse_target: {marker.target}")


Spread = Callable[[Callable[[Right], bool], Sequence[Right]], list[bool]]


def refused_rights(client: Client, rights: Iterable[Right], spread: Spread) -> list[Right]:
    """Return the missing permissions of the connection's identity. One request suffices for an administrator."""
    wanted = sorted(set(rights))
    if not wanted or is_allowed(client, Right("*", "*", "", "*")):
        return []
    allowed = spread(lambda right: is_allowed(client, right), wanted)
    return [right for right, may in zip(wanted, allowed, strict=True) if not may]


def is_allowed(client: Client, right: Right) -> bool:
    """Return whether the connection's identity has a permission, according to the API server."""
    resource, _slash, subresource = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "verb": right.verb, "namespace": right.namespace}
    if subresource:
        attributes["subresource"] = subresource
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    # The request stores nothing, so it can be repeated after a lost answer.
    answer = client.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body, repeat=True)
    return bool((answer.get("status") or {}).get("allowed"))


def right_problems(refused: Sequence[Right]) -> Iterator[Problem]:
    """Yield the missing permissions, as one problem for each namespace."""
    for namespace in sorted({right.namespace for right in refused}):
        verbs: dict[str, list[str]] = {}
        for right in refused:
            if right.namespace == namespace:
                verbs.setdefault(right.what, []).append(right.verb)
        listed = "; ".join(f"{', '.join(words)} {what}" for what, words in sorted(verbs.items()))
        where = f"in namespace {namespace}" if namespace else "in the whole cluster"
        remedy = "bind its identity to a role that may, or name another identity in lakehouse_kube_context"
        yield Problem("lakehouse_kubeconfig", f"its identity may not, {where}: {listed}", remedy)


def chosen_storage_class(question: Question, listed: Mapping[str, Any] | None) -> tuple[str, list[Problem]]:
    """Return the storage class of new volumes, and its problems.

    Without permission to read the list, there are no problems: a claim then stays pending.
    """
    if listed is None or not question.needs_volumes:
        return question.storage_class, []
    names = _names(listed)
    if question.storage_class:
        if question.storage_class in names:
            return question.storage_class, []
        message = f"the cluster has no storage class {question.storage_class!r}"
        remedy = replacement(question.storage_class, names) if names else "install a driver that provides volumes"
        return "", [Problem("lakehouse_storage_class", message, remedy)]
    # Of several default classes, the API server uses the newest, then the first by name.
    defaults = sorted(
        (item["metadata"] for item in listed["items"] if _is_default(item)),
        key=lambda metadata: (_newest_first(metadata.get("creationTimestamp") or ""), metadata["name"]),
    )
    if defaults:
        return str(defaults[0]["name"]), []
    remedy = f"name one of: {', '.join(names)}" if names else "install a driver that provides volumes"
    return "", [Problem("lakehouse_storage_class", "the cluster has no default storage class", remedy)]


def volume_paths(question: Question) -> tuple[str, ...]:
    """Return the paths of the claims, and of the workloads that use them."""
    if not question.volumes or question.verb not in _APPLIES:
        return ()
    kinds = (("apps", "statefulsets"), ("postgresql.cnpg.io", "clusters"))
    return (
        core_path(question.namespace, CLAIMS),
        *(path_of("apis", group, "v1", "namespaces", question.namespace, plural) for group, plural in kinds),
    )


def volume_problems(
    question: Question, found: Sequence[Sequence[Mapping[str, Any]]], classes: Sequence[Mapping[str, Any]] | None
) -> Iterator[Problem]:
    """Yield changes of this lakehouse's volumes that are not possible. found: objects at `volume_paths`."""
    if not found:
        return
    claims, sets, clusters = found
    heads = {"StatefulSet": "apps/v1", "Cluster": "postgresql.cnpg.io/v1"}
    running = [
        {"kind": kind, "apiVersion": heads[kind], **one}
        for kind, listed in zip(heads, (sets, clusters), strict=True)
        for one in listed
    ]
    former = {(one.kind, one.workload, one.template): one.size for one in described(running)}
    for volume in question.volumes:
        known = former.get((volume.kind, volume.workload, volume.template), "")
        for verdict in compare(volume, claims, classes, known):
            if verdict.action == "refuse":
                is_class = bool(volume.storage_class) and verdict.storage_class != volume.storage_class
                variable = "lakehouse_storage_class" if is_class else "lakehouse_services"
                yield Problem(variable, verdict.message, verdict.remedy)
    ours = described([one for one in running if _is_ours(one)])
    for renamed in renames(ours, question.volumes, claims):
        yield Problem("lakehouse_services", renamed.message, renamed.remedy)


def _is_default(item: Mapping[str, Any]) -> bool:
    return bool((item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true")


def _newest_first(timestamp: str) -> list[int]:
    return [-ord(character) for character in timestamp]


def ingress_problems(question: Question, listed: Mapping[str, Any] | None) -> Iterator[Problem]:
    """Yield a problem for an ingress class that does not exist."""
    names = _names(listed)
    if listed is None or not question.ingress_class or question.ingress_class in names:
        return
    message = f"the cluster has no ingress class {question.ingress_class!r}"
    install = "set lakehouse_ingress_install: true, which brings Traefik"
    remedy = f"{replacement(question.ingress_class, names)}, or {install}" if names else install
    yield Problem("lakehouse_ingress_class", message, remedy)
