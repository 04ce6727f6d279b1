# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the objects that left a set, and decide which of them to delete and which to keep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from ..client.client import APPLY, Client, look
from ..client.discovery import Discovery, Resource
from ..client.errors import ApiError, KubeError
from ..manifests.manifests import Identity
from ..manifests.order import group_of
from .applyset import PART_OF_LABEL, Extent, Parent, owns_label
from .before import Object, key_in, whole
from .targets import Key

_SECRET = Resource("", "v1", "Secret", "secrets", namespaced=True)
_PAGE = 500
_CONTROLLERS = frozenset({"endpoint-controller", "endpointslice-controller", "kube-controller-manager", "k3s"})
# Kinds whose deletion loses data, or deletes every object of a kind or a namespace.
_HOLDS_DATA: Mapping[tuple[str, str], str] = {
    ("", "Namespace"): "everything in it goes with it",
    ("", "PersistentVolume"): "it holds data",
    ("", "PersistentVolumeClaim"): "it holds data",
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "every object of its kind goes with it",
    ("postgresql.cnpg.io", "Cluster"): "its volumes go with it",
    ("snapshot.storage.k8s.io", "VolumeSnapshot"): "it holds data",
}


class TooManyError(KubeError):
    """The run would delete more objects than `prune_limit` allows; nothing was changed."""


@dataclass(frozen=True)
class Member:
    """An object with the label of the set."""

    identity: Identity
    resource: Resource
    obj: Mapping[str, Any]

    @property
    def api_version(self) -> str:
        return self.identity.api_version

    @property
    def kind(self) -> str:
        return self.identity.kind

    @property
    def key(self) -> Key:
        return key_in(self.obj, self.resource)

    @property
    def path(self) -> str:
        return self.resource.path(self.identity.namespace or None, self.identity.name)


def member(obj: Object, resource: Resource) -> Member:
    metadata = obj["metadata"]
    identity = Identity(resource.api_version, resource.kind, metadata.get("namespace") or "", metadata["name"])
    return Member(identity, resource, obj)


@dataclass(frozen=True)
class Judged:
    """Objects that left the set.

    going: members to delete. kept: members that stay in the set, with reasons. foreign: objects that carry the label
    but are not members.
    """

    going: tuple[Member, ...] = ()
    kept: tuple[tuple[Member, str], ...] = ()
    foreign: tuple[Member, ...] = ()

    @property
    def left(self) -> list[Member]:
        """Return the members that are no longer described, whether they are deleted or kept."""
        return [*self.going, *(one for one, _why in self.kept)]


def judge(members: Iterable[Member], described: Collection[Key], manager: str, *, with_data: bool) -> Judged:
    """Return the decisions on the members that are no longer described. Pure."""
    going: list[Member] = []
    kept: list[tuple[Member, str]] = []
    foreign: list[Member] = []
    for one in members:
        if one.key in described:
            continue
        why = holds_data(one.obj, one.resource)
        if not owns_label(one.obj, manager):
            foreign.append(one)
        elif why and not with_data:
            kept.append((one, f"{why}: set prune_data to remove it"))
        else:
            going.append(one)
    return Judged(tuple(going), tuple(kept), tuple(foreign))


def is_made_by_controller(obj: Object) -> bool:
    """Return whether a controller created an object, with labels copied from the controlled object.

    Endpoints have no owner: only their manager identifies the controller.
    """
    metadata = obj["metadata"]
    managers = {str(entry.get("manager")) for entry in metadata.get("managedFields") or ()}
    return bool(metadata.get("ownerReferences")) or (bool(managers) and managers <= _CONTROLLERS)


def holds_data(obj: Object, resource: Resource) -> str:
    """Return the loss that a deletion of the object causes, or nothing."""
    if (resource.group, resource.kind) == ("apps", "StatefulSet"):
        policy = (obj.get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
        return "its volumes go with it" if policy.get("whenDeleted") == "Delete" else ""
    return _HOLDS_DATA.get((resource.group, resource.kind), "")


def check_limit(going: Collection[Member], limit: int, set_name: str) -> None:
    """Raise TooManyError with the objects if more would be deleted than the limit allows."""
    if len(going) > limit:
        named = ", ".join(str(one.identity) for one in list(going)[:10])
        more = f" and {len(going) - 10} more" if len(going) > 10 else ""
        raise TooManyError(
            f"{len(going)} objects left the set {set_name} and would be removed, prune_limit allows {limit}; "
            f"nothing was changed. If that is meant, raise prune_limit. They are: {named}{more}"
        )


class SetOnCluster:
    """The parent of a set on the cluster, with access to the set's members."""

    def __init__(self, client: Client, discovery: Discovery, parent: Parent, manager: str) -> None:
        self._client, self._discovery = client, discovery
        self.parent, self._manager = parent, manager
        self.before: Object | None = None
        self._is_there: Extent | None = None

    @property
    def path(self) -> str:
        return _SECRET.path(self.parent.namespace, self.parent.name)

    @property
    def resource(self) -> Resource:
        return _SECRET

    def read(self) -> Extent:
        """Return the recorded extent of the set. Raises RefusedSetError where the parent belongs to another tool."""
        self.before = look(self._client, self.path)
        extent = self.parent.recorded(self.before)
        self._is_there = extent if self.before is not None else None
        return extent

    def needs(self, extent: Extent) -> bool:
        """Return whether the parent on the cluster records another extent."""
        return self._is_there != extent

    def write(self, extent: Extent) -> None:
        """Write the extent to the parent, unless it already records it."""
        if not self.needs(extent):
            return
        query = {"fieldManager": self._manager, "fieldValidation": "Strict", "force": "true"}
        body = self.parent.manifest(extent)
        self._client.request("PATCH", self.path, query=query, body=body, content_type=APPLY)
        self._is_there = extent

    def members(self, extent: Extent, used: Iterable[Resource], pool: Executor) -> dict[Key, Member]:
        """Return the existing members. used: kinds in the API versions of the manifests, for later comparisons."""
        jobs = [pool.submit(self._list, resource, extent) for resource in self._resources(extent, used)]
        return {one.key: one for job in jobs for one in job.result()}

    def _resources(self, extent: Extent, used: Iterable[Resource]) -> list[Resource]:
        known: dict[tuple[str, str], Resource] = {}
        for resource in (*used, *self._discovery.all()):
            if "list" in resource.verbs:
                known.setdefault((resource.group, resource.kind), resource)
        # Kinds that are no longer served have no objects.
        return [known[which] for which in sorted(extent.kinds) if which in known]

    def _list(self, resource: Resource, extent: Extent) -> list[Member]:
        """Return the members of one kind, by one list where permissions allow it, else by one list per namespace."""
        places = {self.parent.namespace, *extent.namespaces}
        if not resource.namespaced:
            return list(self._pages(resource, None))
        if len(places) > 1:
            try:
                found = list(self._pages(resource, None))
            except ApiError as error:
                if not error.is_forbidden:
                    raise
            else:
                return [one for one in found if one.identity.namespace in places]
        return [one for place in sorted(places) for one in self._pages(resource, place)]

    def _pages(self, resource: Resource, namespace: str | None) -> Iterator[Member]:
        query = {"labelSelector": f"{PART_OF_LABEL}={self.parent.id}", "limit": _PAGE}
        try:
            for item in self._client.pages(resource.path(namespace), query=query):
                yield member(whole(item, resource), resource)
        except ApiError as error:
            # The kind's CRD was deleted after discovery, with all of its objects.
            if not error.is_not_found:
                raise


def extent_of(parent: Parent, members: Iterable[Any]) -> Extent:
    """Return the extent of these targets and members."""
    return parent.extent(
        (group_of(one.identity.api_version), one.identity.kind, one.identity.namespace) for one in members
    )
