# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order a set of objects is applied and deleted: what others need first, what judges others last. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol, TypeVar


class Kinded(Protocol):
    """What has a kind: a manifest, or the identity of an object."""

    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...


_Item = TypeVar("_Item", bound=Kinded)
_CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
_NAMESPACE = ("", "Namespace")
# Nothing can be applied into a namespace, or of a kind, that is not there yet.
_FIRST = frozenset({_CRD, _NAMESPACE})
# What the server itself looks up while it admits these: the pod's account and priority class, the role that is bound.
_LATER = frozenset(
    {("", "Pod"), ("rbac.authorization.k8s.io", "RoleBinding"), ("rbac.authorization.k8s.io", "ClusterRoleBinding")}
)
# They judge every request that comes after them, also those that bring up what answers for them.
_LAST = frozenset(
    {
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        # Until its service answers, an aggregated API makes discovery incomplete.
        ("apiregistration.k8s.io", "APIService"),
    }
)
# What a set may hold besides its own kinds without any CRD: the server's own groups.
# Source: k8s.io/api; every other group of the project ends in .k8s.io as well and is served by a CRD or an APIService.
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
    """Return the group of an `apiVersion`: `apps` of `apps/v1`, nothing of `v1`."""
    return api_version.rpartition("/")[0]


def group_kind(item: Kinded) -> tuple[str, str]:
    return group_of(item.api_version), item.kind


def is_crd(item: Kinded) -> bool:
    return group_kind(item) == _CRD


def is_namespace(item: Kinded) -> bool:
    return group_kind(item) == _NAMESPACE


def is_built_in(item: Kinded) -> bool:
    """Whether every API server of a version that has this kind serves it by itself."""
    return group_of(item.api_version) in _BUILT_IN


def _rank(item: Kinded) -> int:
    which = group_kind(item)
    for rank, kinds in enumerate((_FIRST, None, _LATER, _LAST)):
        if kinds is not None and which in kinds:
            return rank
    return 1


def phases(items: Iterable[_Item]) -> tuple[tuple[_Item, ...], ...]:
    """Return the items in phases: each may be applied at once, after the one before it. Empty phases are left out.

    Namespaces and CRDs, then everything else, with what is admitted only beside others after those, and what judges
    or replaces other requests last.
    """
    sorted_in: tuple[list[_Item], ...] = tuple([] for _rank_number in range(_RANKS))
    for item in items:
        sorted_in[_rank(item)].append(item)
    return tuple(tuple(phase) for phase in sorted_in if phase)


def removals(items: Collection[_Item]) -> tuple[tuple[_Item, ...], ...]:
    """Return the items in phases of a deletion: the reverse, with custom resources before what acts for them.

    An operator that is gone takes no finalizer off, so its objects go while it still runs.
    """
    whole: list[tuple[_Item, ...]] = []
    for phase in reversed(phases(items)):
        custom = tuple(item for item in phase if not is_built_in(item))
        rest = tuple(item for item in phase if is_built_in(item))
        whole += [part for part in (custom, rest) if part]
    return tuple(whole)
