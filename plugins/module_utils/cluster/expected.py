# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find foreign objects of a cluster: those in the platform's namespaces outside of its sets and releases.

An object is described when the server recorded that a set of the platform applied it, and the set searches its kind.
The set itself then deletes objects that are no longer described. Labels alone prove nothing. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..kube.apply.applyset import ID_LABEL, Extent, Parent, RefusedSetError, entry_of, owns_label, set_of
from ..shared.foreign import ADDED, GRANTS, Finding, Kind, Report, judge

Object: TypeAlias = Mapping[str, Any]
GroupKind: TypeAlias = tuple[str, str]

RBAC = "rbac.authorization.k8s.io"
ROLE: GroupKind = (RBAC, "Role")
ROLE_BINDING: GroupKind = (RBAC, "RoleBinding")
CLUSTER_ROLE_BINDING: GroupKind = (RBAC, "ClusterRoleBinding")
NETWORK_POLICY: GroupKind = ("networking.k8s.io", "NetworkPolicy")
SERVICE_ACCOUNT: GroupKind = ("", "ServiceAccount")
SECRET: GroupKind = ("", "Secret")
WORKLOADS: tuple[GroupKind, ...] = (
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "CronJob"),
)

_ACCOUNT = Kind("service-account", GRANTS, "identities")
_ANNOTATION = Kind("service-account-annotation", GRANTS, "identities")
_POLICY = Kind("network-policy", GRANTS, "policies")
_RULES = Kind("network-policy-rules", GRANTS, "policies")
_BINDING = Kind("cluster-role-binding", GRANTS, "bindings")
_IDLE_ACCOUNT = Kind("service-account-without-access", ADDED)
_SECRET = Kind("secret", ADDED)
_WORKLOAD = Kind("workload", ADDED)
_GRANTING = {
    NETWORK_POLICY: _POLICY,
    ROLE: Kind("rbac-role", GRANTS, "roles"),
    ROLE_BINDING: Kind("role-binding", GRANTS, "bindings"),
}
KINDS = {
    kind.name: kind
    for kind in (*_GRANTING.values(), _RULES, _ACCOUNT, _ANNOTATION, _BINDING, _IDLE_ACCOUNT, _SECRET, _WORKLOAD)
}

MANAGER, SECRETS_MANAGER, HELM = "crypto-lakehouse", "crypto-lakehouse-secrets", "helm"
_HELM_LABEL = ("app.kubernetes.io/managed-by", "Helm")
_RELEASE, _RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
# Labels and annotations of operators on Secrets that they create, but do not always own.
_OPERATOR_MARKS = ("cnpg.io/cluster", "controller.cert-manager.io/fao", "cert-manager.io/certificate-name")
# Annotations that assign a cloud identity to a service account.
CLOUD_IDENTITIES = (
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
    "azure.workload.identity/client-id",
)
_ANYBODY = frozenset(
    {
        ("Group", "system:authenticated"),
        ("Group", "system:unauthenticated"),
        ("Group", "system:serviceaccounts"),
        ("User", "system:anonymous"),
    }
)
_PREDEFINED = {
    "system:basic-user": {"system:authenticated"},
    "system:discovery": {"system:authenticated"},
    "system:public-info-viewer": {"system:authenticated", "system:unauthenticated"},
    "system:service-account-issuer-discovery": {"system:serviceaccounts"},
}
"""Groups that Kubernetes itself binds to the ClusterRole of the binding's name.

Source: k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy.
"""
_BOOTSTRAPPED = ("kubernetes.io/bootstrapping", "rbac-defaults")
# Field managers of API servers: the names of their programs.
_API_SERVERS = frozenset({"kube-apiserver", "k3s"})
_SHOWN = 3


@dataclass(frozen=True)
class Described:
    """The parts of a cluster that the platform describes.

    namespaces: those of the platform, its main namespace first. sets: parents of its ApplySets. releases: of Helm, as
    `NAMESPACE/NAME`.
    """

    namespaces: tuple[str, ...] = ()
    sets: tuple[Parent, ...] = ()
    releases: frozenset[str] = frozenset()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Described:
        """Return the description from lists of texts, with sets as `NAMESPACE/NAME`."""
        parents = (text.partition("/") for text in given.get("sets") or ())
        return cls(
            tuple(dict.fromkeys(given.get("namespaces") or ())),
            tuple(Parent(name, namespace) for namespace, _slash, name in parents),
            frozenset(given.get("releases") or ()),
        )


@dataclass(frozen=True)
class Foreign:
    """A finding and its object. patch: the merge patch that removes the foreign part; None to delete the object."""

    finding: Finding
    group_kind: GroupKind
    obj: Object
    patch: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Lists:
    """Objects by group and kind. Secrets, service accounts and workloads are without their content."""

    objects: Mapping[GroupKind, Sequence[Object]] = field(default_factory=dict)

    def of(self, which: GroupKind) -> Sequence[Object]:
        return self.objects.get(which, ())


def foreign_objects(lists: Lists, described: Described) -> list[Foreign]:
    """Return the foreign objects among these objects."""
    owner = _Owner.of(lists.of(SECRET), described)
    found = [
        *(one for which in _GRANTING for one in _granting(lists.of(which), which, owner)),
        *_cluster_bindings(lists.of(CLUSTER_ROLE_BINDING), owner),
        *_accounts(lists, owner),
        *_secrets(lists.of(SECRET), owner),
        *_workloads(lists, owner),
    ]
    return sorted(found, key=lambda one: one.finding)


def report_of(found: Iterable[Foreign], expected: Sequence[str] = (), remove: Sequence[str] = ()) -> Report:
    """Return the report of the findings."""
    return judge([one.finding for one in found], expected, remove)


@dataclass(frozen=True)
class _Owner:
    """Decides which objects are described. extents: by id, of the sets with an existing parent."""

    described: Described
    extents: Mapping[str, Extent | None]

    @classmethod
    def of(cls, secrets: Iterable[Object], described: Described) -> _Owner:
        by_place = {(_namespace(secret), _name(secret)): secret for secret in secrets}
        extents = {}
        for parent in described.sets:
            try:
                secret = by_place.get((parent.namespace, parent.name))
                extents[parent.id] = None if secret is None else parent.recorded(secret)
            except RefusedSetError:
                # The deployment itself rejects the set, so its members are not reported here.
                extents[parent.id] = None
        return cls(described, extents)

    def is_described(self, obj: Object, which: GroupKind) -> bool:
        """Return whether a set or a release contains an object, or its operator manages it."""
        return self.is_applied(obj, which) or any(_is_custom(owner) for owner in _owners(obj))

    def is_applied(self, obj: Object, which: GroupKind) -> bool:
        """Return whether a set applied an object and searches its kind, or Helm applied it for a release."""
        name = set_of(obj)
        if name in self.extents and owns_label(obj, MANAGER):
            extent = self.extents[name]
            # The set never deletes objects of a kind that it does not search.
            return extent is None or which in extent.kinds
        return self._is_of_release(obj) and HELM in _managers(obj)

    def _is_of_release(self, obj: Object) -> bool:
        notes, (label, value) = _notes(obj), _HELM_LABEL
        release = f"{notes.get(_RELEASE_NAMESPACE)}/{notes.get(_RELEASE)}"
        return _labels(obj).get(label) == value and release in self.described.releases

    def is_known(self, obj: Object, which: GroupKind) -> bool:
        """Return whether an object without permissions belongs to the platform, or another object manages it."""
        return (
            self.is_described(obj, which)
            or bool(_owners(obj))
            or self._is_of_release(obj)
            or entry_of(obj, MANAGER) is not None
            or SECRETS_MANAGER in _managers(obj)
        )

    def manager_of(self, obj: Object) -> str:
        return MANAGER if set_of(obj) in self.extents else HELM


def _granting(objects: Iterable[Object], which: GroupKind, owner: _Owner) -> Iterator[Foreign]:
    for obj in objects:
        if not owner.is_described(obj, which):
            yield Foreign(_GRANTING[which].finding(_place(obj), _detail(obj, which)), which, obj)
        elif which == NETWORK_POLICY and owner.is_applied(obj, which):
            yield from _added_rules(obj, owner.manager_of(obj))


def _added_rules(policy: Object, manager: str) -> Iterator[Foreign]:
    """Yield traffic directions with added rules in a described policy, which server-side apply keeps."""
    applied = _applied_fields(policy, manager, "spec")
    if applied is None:
        return
    for direction in ("ingress", "egress"):
        if (policy.get("spec") or {}).get(direction) and f"f:{direction}" not in applied:
            finding = _RULES.finding(f"{_place(policy)}/{direction}", "rules that the description does not have")
            yield Foreign(finding, NETWORK_POLICY, policy, {"spec": {direction: None}})


def _cluster_bindings(bindings: Iterable[Object], owner: _Owner) -> Iterator[Foreign]:
    for binding in bindings:
        if owner.is_described(binding, CLUSTER_ROLE_BINDING):
            continue
        subjects = list(binding.get("subjects") or ())
        reached = [each for each in subjects if _reaches(each, owner.described.namespaces, binding)]
        if not reached:
            continue
        detail = f"{_role_of(binding)} for {_listed(map(_subject, reached))}"
        rest = [each for each in subjects if each not in reached]
        # Other subjects of the binding belong to the cluster.
        patch = {"subjects": rest} if rest else None
        yield Foreign(_BINDING.finding(_name(binding), detail), CLUSTER_ROLE_BINDING, binding, patch)


def _reaches(subject: Object, namespaces: Sequence[str], binding: Object) -> bool:
    """Return whether a subject is a service account of the platform's namespaces, or a group of all users."""
    kind, name = str(subject.get("kind")), str(subject.get("name"))
    if kind == "ServiceAccount":
        return subject.get("namespace") in namespaces
    is_anybody = (kind, name) in _ANYBODY and not _is_predefined(binding, name)
    return is_anybody or _account_of(kind, name, namespaces)


def _is_predefined(binding: Object, group: str) -> bool:
    """Return whether the API server itself binds a group. Distributions have additional bindings of this kind."""
    name = _name(binding)
    if not name.startswith("system:") or (binding.get("roleRef") or {}).get("name") != name:
        return False
    label, value = _BOOTSTRAPPED
    managers = _managers(binding)
    is_untouched = _labels(binding).get(label) == value and bool(managers) and managers <= _API_SERVERS
    return is_untouched or group in _PREDEFINED.get(name, ())


def _account_of(kind: str, name: str, namespaces: Sequence[str]) -> bool:
    """Return whether a group or user represents service accounts of these namespaces."""
    if kind == "Group":
        return name in {f"system:serviceaccounts:{namespace}" for namespace in namespaces}
    return kind == "User" and any(name.startswith(f"system:serviceaccount:{namespace}:") for namespace in namespaces)


def _accounts(lists: Lists, owner: _Owner) -> Iterator[Foreign]:
    bound = {
        (str(subject.get("namespace") or _namespace(binding)), str(subject.get("name")))
        for which in (ROLE_BINDING, CLUSTER_ROLE_BINDING)
        for binding in lists.of(which)
        for subject in binding.get("subjects") or ()
        if subject.get("kind") == "ServiceAccount"
    }
    for account in lists.of(SERVICE_ACCOUNT):
        identities = [name for name in CLOUD_IDENTITIES if name in _notes(account)]
        # Kubernetes creates it in every namespace, and again after its deletion.
        is_default = _name(account) == "default"
        if is_default or owner.is_described(account, SERVICE_ACCOUNT):
            yield from _added_identities(account, identities, "" if is_default else owner.manager_of(account))
        elif identities or (_namespace(account), _name(account)) in bound:
            detail = _listed(f"{name}: {_notes(account)[name]}" for name in identities) or "is bound to a role"
            yield Foreign(_ACCOUNT.finding(_place(account), detail), SERVICE_ACCOUNT, account)
        else:
            yield Foreign(_IDLE_ACCOUNT.finding(_place(account)), SERVICE_ACCOUNT, account)


def _added_identities(account: Object, identities: Iterable[str], manager: str) -> Iterator[Foreign]:
    """Yield cloud identities that were added to a described service account, or to the default one."""
    applied = _applied_fields(account, manager, "metadata", "annotations") if manager else {}
    if applied is None:
        return
    for name in identities:
        if f"f:{name}" not in applied:
            finding = _ANNOTATION.finding(f"{_place(account)}/{name}", _notes(account)[name])
            yield Foreign(finding, SERVICE_ACCOUNT, account, {"metadata": {"annotations": {name: None}}})


def _secrets(secrets: Iterable[Object], owner: _Owner) -> Iterator[Foreign]:
    parents = {(parent.namespace, parent.name) for parent in owner.described.sets}
    for secret in secrets:
        is_parent = (_namespace(secret), _name(secret)) in parents and ID_LABEL in _labels(secret)
        is_marked = any(mark in _labels(secret) or mark in _notes(secret) for mark in _OPERATOR_MARKS)
        if not (is_parent or is_marked or owner.is_known(secret, SECRET)):
            yield Foreign(_SECRET.finding(_place(secret)), SECRET, secret)


def _workloads(lists: Lists, owner: _Owner) -> Iterator[Foreign]:
    for which in WORKLOADS:
        for obj in lists.of(which):
            if not owner.is_known(obj, which):
                name = f"{_namespace(obj)}/{which[1].lower()}/{_name(obj)}"
                yield Foreign(_WORKLOAD.finding(name), which, obj)


def _detail(obj: Object, which: GroupKind) -> str:
    if which == ROLE:
        return _listed(map(_rule, obj.get("rules") or ())) or "without rules"
    if which == ROLE_BINDING:
        return f"{_role_of(obj)} for {_listed(map(_subject, obj.get('subjects') or ())) or 'no subject'}"
    spec = obj.get("spec") or {}
    directions = [word for word in ("ingress", "egress") if spec.get(word)]
    pods = "selected pods" if spec.get("podSelector") else "every pod"
    return f"{' and '.join(directions)} of {pods}" if directions else f"denies traffic of {pods}"


def _rule(rule: Object) -> str:
    return f"{', '.join(rule.get('verbs') or ())} {', '.join(rule.get('resources') or ())}"


def _role_of(binding: Object) -> str:
    reference = binding.get("roleRef") or {}
    return f"{reference.get('kind')} {reference.get('name')}"


def _subject(subject: Object) -> str:
    place = f"{subject['namespace']}/" if subject.get("namespace") else ""
    return f"{subject.get('kind')} {place}{subject.get('name')}"


def _listed(texts: Iterable[str]) -> str:
    every = list(texts)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return "; ".join(every[:_SHOWN]) + more


def _applied_fields(obj: Object, manager: str, *path: str) -> Mapping[str, Any] | None:
    """Return the fields below a path that a manager applied, or None if it did not apply the object."""
    entry = entry_of(obj, manager)
    if entry is None:
        return None
    fields: Any = entry.get("fieldsV1")
    for part in path:
        fields = (fields or {}).get(f"f:{part}")
    return fields or {}


def _is_custom(owner: Object) -> bool:
    """Return whether an owner's kind belongs to an operator: built-in controllers create none of these kinds."""
    group, slash, _version = str(owner.get("apiVersion")).rpartition("/")
    return bool(slash) and "." in group and not group.endswith(".k8s.io")


def _owners(obj: Object) -> Sequence[Object]:
    return obj["metadata"].get("ownerReferences") or ()


def _managers(obj: Object) -> set[str]:
    return {str(entry.get("manager")) for entry in obj["metadata"].get("managedFields") or ()}


def _labels(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _notes(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _namespace(obj: Object) -> str:
    return str(obj["metadata"].get("namespace") or "")


def _place(obj: Object) -> str:
    return f"{_namespace(obj)}/{_name(obj)}"
