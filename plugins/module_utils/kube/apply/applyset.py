# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata of an ApplySet: its members, and where to search for members that left it. Pure.

The parent is a Secret without data. It is widened before the first member is applied and narrowed after the last one is
deleted. The next run therefore finds every object of a killed run.

Source: https://git.k8s.io/enhancements/keps/sig-cli/3659-kubectl-apply-prune and k8s.io/kubectl/pkg/cmd/apply.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..client.errors import KubeError

ID_LABEL = "applyset.kubernetes.io/id"
PART_OF_LABEL = "applyset.kubernetes.io/part-of"
TOOLING = "applyset.kubernetes.io/tooling"
KINDS = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
TOOL = "crypto-lakehouse"
_TOOL_VERSION = "v1"


class RefusedSetError(KubeError):
    """The parent of the set belongs to another tool, or is not an ApplySet parent."""


@dataclass(frozen=True)
class Extent:
    """Search range for members: kinds as (group, kind), and namespaces in addition to the parent's own."""

    kinds: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    namespaces: frozenset[str] = field(default_factory=frozenset)

    def __or__(self, other: Extent) -> Extent:
        return Extent(self.kinds | other.kinds, self.namespaces | other.namespaces)


@dataclass(frozen=True)
class Parent:
    """The Secret that represents a set."""

    name: str
    namespace: str

    @property
    def id(self) -> str:
        """Return the set's id, which is derived from the parent's location."""
        digest = hashlib.sha256(f"{self.name}.{self.namespace}.Secret.".encode()).digest()
        return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"

    def extent(self, members: Iterable[tuple[str, str, str]]) -> Extent:
        """Return the extent of these members: (group, kind, namespace).

        Cluster-wide objects have an empty namespace.
        """
        known = list(members)
        kinds = frozenset((group, kind) for group, kind, _namespace in known)
        others = frozenset(namespace for _group, _kind, namespace in known if namespace) - {self.namespace}
        return Extent(kinds, others)

    def manifest(self, extent: Extent) -> dict[str, Any]:
        """Return the parent's manifest."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {ID_LABEL: self.id},
                "annotations": {
                    TOOLING: f"{TOOL}/{_TOOL_VERSION}",
                    KINDS: ",".join(sorted(f"{kind}.{group}".rstrip(".") for group, kind in extent.kinds)),
                    NAMESPACES: ",".join(sorted(extent.namespaces)),
                },
            },
        }

    def recorded(self, secret: Mapping[str, Any] | None) -> Extent:
        """Return the extent that the parent on the cluster records.

        Raises RefusedSetError where the Secret is not a parent of this tool.
        """
        if secret is None:
            return Extent()
        metadata = secret.get("metadata") or {}
        annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
        where = f"Secret {self.namespace}/{self.name}"
        if TOOLING not in annotations and ID_LABEL not in labels:
            remedy = "it has another owner; choose another name for `prune`"
            raise RefusedSetError(f"{where} exists and is not the parent of a set: {remedy}")
        tool = str(annotations.get(TOOLING, "")).partition("/")[0]
        if tool != TOOL:
            named = f"{annotations.get(TOOLING)!r}" if tool else "a tool that does not tell its name"
            remedy = "choose another name for `prune`, or remove the set with that tool first"
            raise RefusedSetError(f"{where} is the parent of a set that belongs to {named}; {remedy}")
        if labels.get(ID_LABEL) != self.id:
            remedy = f"it was copied or renamed; its label {ID_LABEL} must be {self.id}"
            raise RefusedSetError(f"{where} carries the id of another set: {remedy}")
        kinds = frozenset(_group_kind(text) for text in _listed(annotations.get(KINDS)))
        return Extent(kinds, frozenset(_listed(annotations.get(NAMESPACES))))


def _listed(text: Any) -> list[str]:
    return [part.strip() for part in str(text or "").split(",") if part.strip()]


def _group_kind(text: str) -> tuple[str, str]:
    kind, _dot, group = text.partition(".")
    return group, kind


def with_label(content: Mapping[str, Any], set_id: str) -> dict[str, Any]:
    """Return an object with the label of a member of the set."""
    metadata = content.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), PART_OF_LABEL: set_id}
    return {**content, "metadata": {**metadata, "labels": labels}}


def set_of(obj: Mapping[str, Any] | None) -> str:
    """Return the id of the set in an object's label, or nothing."""
    metadata = (obj or {}).get("metadata") or {}
    return str((metadata.get("labels") or {}).get(PART_OF_LABEL, ""))


def entry_of(obj: Mapping[str, Any] | None, manager: str) -> Mapping[str, Any] | None:
    """Return the managed-fields entry of the fields that `manager` applied to an object."""
    for entry in ((obj or {}).get("metadata") or {}).get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            found: Mapping[str, Any] = entry
            return found
    return None


def owns_label(obj: Mapping[str, Any] | None, manager: str) -> bool:
    """Return whether `manager` itself added the object to a set by an apply.

    A label alone proves nothing: controllers copy labels from their owners to the objects that they create.
    """
    fields: Any = (entry_of(obj, manager) or {}).get("fieldsV1")
    for key in ("f:metadata", "f:labels"):
        fields = (fields or {}).get(key)
    return f"f:{PART_OF_LABEL}" in (fields or {})
