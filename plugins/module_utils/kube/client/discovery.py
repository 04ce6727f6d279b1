# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discover the resources of a cluster: once, in two requests where the server aggregates, cached in memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ...shared.nearest import closest
from .client import Client
from .errors import ApiError
from .paths import path_of

_AGGREGATED = ",".join(
    [
        *(
            f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            for version in ("v2", "v2beta1")
        ),
        "application/json",
    ]
)
_LEADING_NUMBER = re.compile(r"\d+")
_PARALLELISM = 8


@dataclass(frozen=True)
class Resource:
    """A kind of object in one API version. plural: as in paths ('deployments'). subresources: 'status', 'scale'..."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()
    subresources: frozenset[str] = frozenset()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def keeps_status(self) -> bool:
        """Return whether `status` is written like any other field, because the kind has no such subresource."""
        return bool(self.verbs) and "status" not in self.subresources

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the path of an object, of all objects in a namespace, or of all objects.

        The namespace of cluster-wide kinds is ignored. Raises PathError for an invalid path segment.
        """
        parts = ["apis" if self.group else "api", *([self.group] if self.group else []), self.version]
        if self.namespaced and (namespace is not None or name is not None):
            parts += ["namespaces", namespace or ""]
        parts.append(self.plural)
        parts += [] if name is None else [name]
        return path_of(*parts, *([subresource] if subresource else []))


@dataclass(frozen=True)
class _Known:
    """Result of one discovery. stale: group versions whose aggregated API server does not respond."""

    resources: tuple[Resource, ...] = ()
    by_kind: Mapping[tuple[str, str], Resource] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()


class Discovery:
    """Caches the discovery of a server until `refresh`. Safe to use from several threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: _Known | None = None
        self._version: Mapping[str, Any] | None = None

    def find(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of a kind in that version, or None if the server does not serve it."""
        return self._load().by_kind.get((api_version, kind))

    def all(self) -> tuple[Resource, ...]:
        """Return all served resources, with the preferred version of a group first."""
        return self._load().resources

    def refresh(self) -> None:
        """Discover again and replace the cache, for example after a CRD was created."""
        with self._lock:
            self._known = self._ask()

    @property
    def stale(self) -> frozenset[str]:
        """Return the group versions whose aggregated API server does not respond. Their resources are unknown."""
        return self._load().stale

    @property
    def server_version(self) -> str:
        """Return the version of the server, as in 'v1.36.1'."""
        return str(self._read_version().get("gitVersion", ""))

    @property
    def server_minor(self) -> tuple[int, int]:
        """Return the version of the server for comparisons, as in (1, 36)."""
        told = self._read_version()
        major, minor = (_LEADING_NUMBER.match(str(told.get(part, ""))) for part in ("major", "minor"))
        return (int(major[0]) if major else 0, int(minor[0]) if minor else 0)

    def hint(self, api_version: str, kind: str) -> str:
        """Return the remedy for a missing kind: another version, a similar name, or the missing CRD."""

        resources = self.all()
        if api_version in self.stale:
            return f"the server behind {api_version} does not answer: look at its APIService"
        versions = [resource.api_version for resource in resources if resource.kind == kind]
        group = api_version.rpartition("/")[0]
        same_group = [version for version in versions if version.rpartition("/")[0] == group]
        if same_group or versions:
            return f"{kind} is served as {' and '.join(same_group or versions)}"
        kinds = [resource.kind for resource in resources if resource.api_version == api_version]
        near = closest(kind, kinds)
        if near:
            return f"did you mean {near}?"
        return (
            f"{api_version} has no such kind" if kinds else f"install the CRD or the server that brings {api_version}"
        )

    def _load(self) -> _Known:
        known = self._known
        if known is None:
            with self._lock:
                known = self._known = self._known or self._ask()
        return known

    def _read_version(self) -> Mapping[str, Any]:
        if self._version is None:
            self._version = self._client.request("GET", "/version")
        return self._version

    def _ask(self) -> _Known:
        found: list[Resource] = []
        stale: set[str] = set()
        paths = ("/api", "/apis")
        with ThreadPoolExecutor(len(paths), "discovery") as pool:
            answers = list(pool.map(lambda path: self._client.request("GET", path, accept=_AGGREGATED), paths))
        for path, answer in zip(paths, answers, strict=True):
            if answer.get("kind") == "APIGroupDiscoveryList":
                for group in answer.get("items") or ():
                    found += _aggregated(group, stale)
            else:
                found += self._legacy(path, answer, stale)
        by_kind: dict[tuple[str, str], Resource] = {}
        for resource in found:
            by_kind.setdefault((resource.api_version, resource.kind), resource)
        return _Known(tuple(found), by_kind, frozenset(stale))

    def _legacy(self, path: str, answer: Mapping[str, Any], stale: set[str]) -> list[Resource]:
        """Return the resources of each group version, for a server without aggregated discovery."""
        if path == "/api":
            versions = [str(version) for version in answer.get("versions") or ()]
        else:
            versions = [version for group in answer.get("groups") or () for version in _preferred_first(group)]
        with ThreadPoolExecutor(_PARALLELISM, "discovery") as pool:
            lists = pool.map(lambda version: self._group_version(f"{path}/{version}"), versions)
            found: list[Resource] = []
            for version, resources in zip(versions, lists, strict=True):
                if resources is None:
                    stale.add(version)
                else:
                    found += _legacy_resources(version, resources)
        return found

    def _group_version(self, path: str) -> list[Mapping[str, Any]] | None:
        try:
            return list(self._client.request("GET", path).get("resources") or ())
        except ApiError as error:
            # The server behind an APIService does not respond, or was deleted after the list of groups was read.
            if error.status in {404, 500, 502, 503, 504}:
                return None
            raise


def _aggregated(group: Mapping[str, Any], stale: set[str]) -> Iterator[Resource]:
    name = str((group.get("metadata") or {}).get("name") or "")
    for version in group.get("versions") or ():
        if version.get("freshness") == "Stale":
            stale.add(f"{name}/{version['version']}" if name else version["version"])
        for item in version.get("resources") or ():
            kind = (item.get("responseKind") or {}).get("kind")
            if kind:
                yield Resource(
                    name,
                    version["version"],
                    kind,
                    item["resource"],
                    item.get("scope") == "Namespaced",
                    frozenset(item.get("verbs") or ()),
                    frozenset(child["subresource"] for child in item.get("subresources") or ()),
                )


def _preferred_first(group: Mapping[str, Any]) -> list[str]:
    versions = [str(version["groupVersion"]) for version in group.get("versions") or ()]
    preferred = str((group.get("preferredVersion") or {}).get("groupVersion") or "")
    return sorted(versions, key=lambda version: version != preferred)


def _legacy_resources(api_version: str, items: Iterable[Mapping[str, Any]]) -> Iterator[Resource]:
    group, _slash, version = api_version.rpartition("/")
    children: dict[str, set[str]] = {}
    for item in items:
        plural, _slash, child = str(item["name"]).partition("/")
        children.setdefault(plural, set()).update({child} if child else set())
    for item in items:
        if "/" not in item["name"]:
            yield Resource(
                group,
                version,
                item["kind"],
                item["name"],
                bool(item.get("namespaced")),
                frozenset(item.get("verbs") or ()),
                frozenset(children[item["name"]]),
            )
