# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the state of the cluster before the first change, with few requests and few objects outside of the set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeAlias

from ..client.client import Client, check_answer, look
from ..client.discovery import Resource
from ..client.errors import ApiError
from ..client.paths import path_of
from .targets import Key, Target

Object: TypeAlias = Mapping[str, Any]

# Number of objects of a kind in a namespace from which one list is cheaper than single reads.
_LIST_FROM = 3
# Maximum number of objects outside of the set in a list. Further targets are read by name.
_LARGEST_LIST = 100
# Kinds with large objects, of which a list is expensive.
_LARGE = frozenset({"CustomResourceDefinition"})
# Kinds that are read by name only: lists would return secrets of other owners.
_BY_NAME = frozenset({"Secret"})


def key_in(obj: Object, resource: Resource) -> Key:
    metadata = obj["metadata"]
    return resource.group, resource.kind, metadata.get("namespace") or "", metadata["name"]


def whole(obj: Object, resource: Resource) -> dict[str, Any]:
    """Return an element of a list as a complete object: list elements omit apiVersion and kind."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}


class Before:
    """Reads objects and caches them. Lists and single reads run concurrently."""

    def __init__(self, client: Client, pool: Executor) -> None:
        self._client, self._pool = client, pool
        self.objects: dict[Key, Object] = {}

    def read(self, targets: Iterable[Target]) -> None:
        """Read the targets that are not in the cache. Raises ApiError where that is forbidden."""
        groups: dict[tuple[str, str], list[Target]] = {}
        for target in targets:
            if target.key not in self.objects and target.is_served:
                groups.setdefault((target.resource.path(target.identity.namespace or None), target.kind), []).append(
                    target
                )
        jobs: list[tuple[Callable[..., Sequence[Target]], tuple[Any, ...]]] = []
        for (path, kind), members in groups.items():
            if len(members) < _LIST_FROM or kind in _BY_NAME:
                jobs += [(self._read_one, (target,)) for target in members]
            else:
                jobs.append((self._read_list, (path, members)))
        left = [target for job in [self._pool.submit(work, *given) for work, given in jobs] for target in job.result()]
        for done in [self._pool.submit(self._read_one, target) for target in left]:
            done.result()

    def _read_one(self, target: Target) -> Sequence[Target]:
        found = look(self._client, target.path)
        if found is not None:
            check_answer(found, target.path, target.kind)
            self.objects[target.key] = found
        return ()

    def _read_list(self, path: str, members: Sequence[Target]) -> Sequence[Target]:
        """Read the first page of a list. Return the targets that may be on later pages."""
        resource = members[0].resource
        least = 0 if resource.kind in _LARGE else _LARGEST_LIST
        query = {"limit": max(least, 2 * len(members))}
        try:
            answer = self._client.request("GET", path, query=query)
        except ApiError as error:
            if error.is_forbidden:
                return members
            raise
        wanted = {target.key for target in members}
        for item in answer.get("items") or ():
            key = key_in(item, resource)
            if key in wanted:
                found = whole(item, resource)
                check_answer(found, resource.path(key[2] or None, key[3]), resource.kind)
                self.objects[key] = found
        is_whole = not (answer.get("metadata") or {}).get("continue")
        return [] if is_whole else [target for target in members if target.key not in self.objects]

    def namespaces(self, names: Iterable[str]) -> frozenset[str]:
        """Return the existing ones of these namespaces. A namespace that cannot be read counts as existing."""
        asked = {name: self._pool.submit(self._has_namespace, name) for name in sorted(set(names))}
        return frozenset(name for name, answer in asked.items() if answer.result())

    def _has_namespace(self, name: str) -> bool:
        try:
            found = look(self._client, path_of("api", "v1", "namespaces", name))
        except ApiError as error:
            if error.is_forbidden:
                return True
            raise
        return found is not None
