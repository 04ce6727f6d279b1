# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Order the objects of a set for apply and deletion: dependencies first, admission control last. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol, TypeVar


class Kinded(Protocol):
    """An item with a kind: a manifest, or the identity of an object."""

    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...


_Item = TypeVar("_Item", bound=Kinded)
_CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
_NAMESPACE = ("", "Namespace")
# An object requires its namespace and its kind.
_FIRST = frozenset({_CRD, _NAMESPACE})
# At admission of these kinds, the server reads other objects: the service account and priority class of a pod, the
# bound role.
_LATER = frozenset(
    {("", "Pod"), ("rbac.authorization.k8s.io", "RoleBinding"), ("rbac.authorization.k8s.io", "ClusterRoleBinding")}
)
# These kinds process every later request, including those that create their own backends.
_LAST = frozenset(
    {
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        # Discovery is incomplete until the service of an aggregated API responds.
        ("apiregistration.k8s.io", "APIService"),
    }
)
# Groups that the server serves without a CRD.
# Source: k8s.io/api; all other groups of the project also end in .k8s.io, and are served by a CRD or an APIService.
_BUILT_IN = frozenset(
    {
        "",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "storagemigration.k8s.io",
    }
)
_RANKS = 4


def group_of(api_version: str) -> str:
    """Return the group of an `apiVersion`: `apps` for `apps/v1`, an empty text for `v1`."""
    return api_version.rpartition("/")[0]


def group_kind(item: Kinded) -> tuple[str, str]:
    return group_of(item.api_version), item.kind


def is_crd(item: Kinded) -> bool:
    return group_kind(item) == _CRD


def is_namespace(item: Kinded) -> bool:
    return group_kind(item) == _NAMESPACE


def is_built_in(item: Kinded) -> bool:
    """Return whether every API server of a version with this kind serves it without a CRD."""
    return group_of(item.api_version) in _BUILT_IN


def _rank(item: Kinded) -> int:
    which = group_kind(item)
    for rank, kinds in enumerate((_FIRST, None, _LATER, _LAST)):
        if kinds is not None and which in kinds:
            return rank
    return 1


def phases(items: Iterable[_Item]) -> tuple[tuple[_Item, ...], ...]:
    """Return the items in non-empty phases. The items of a phase can be applied concurrently, after the previous phase.

    The phases are: namespaces and CRDs, most other kinds, kinds whose admission requires other objects, and last the
    kinds that validate or change other requests.
    """
    sorted_in: tuple[list[_Item], ...] = tuple([] for _rank_number in range(_RANKS))
    for item in items:
        sorted_in[_rank(item)].append(item)
    return tuple(tuple(phase) for phase in sorted_in if phase)


def removals(items: Collection[_Item]) -> tuple[tuple[_Item, ...], ...]:
    """Return the items in phases of a deletion: the reverse order, with custom resources before their operators.

    A deleted operator removes no finalizers, so its objects are deleted while it runs.
    """
    whole: list[tuple[_Item, ...]] = []
    for phase in reversed(phases(items)):
        custom = tuple(item for item in phase if not is_built_in(item))
        rest = tuple(item for item in phase if is_built_in(item))
        whole += [part for part in (custom, rest) if part]
    return tuple(whole)
