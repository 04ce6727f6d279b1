# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster in memory that lists and watches, with scripted failures."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, cast

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery, Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError, ExpiredError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.streams import Collection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity

Fields = dict[str, Any]
RESOURCES = {
    ("v1", "Pod"): Resource("", "v1", "Pod", "pods", True),
    ("v1", "PersistentVolumeClaim"): Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", True),
    ("v1", "Secret"): Resource("", "v1", "Secret", "secrets", True, frozenset({"list", "get"})),
    ("v1", "Namespace"): Resource("", "v1", "Namespace", "namespaces", False),
    ("apps/v1", "Deployment"): Resource("apps", "v1", "Deployment", "deployments", True),
}


class Scripted:
    """Replaces a client and its discovery.

    requests: method and path of each request in order, `WATCH` for a watch. faults: for a method and path, the errors
    of the next requests; `None` lets one succeed, and a number ends a watch after that many events.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.queries: list[Mapping[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.faults: dict[tuple[str, str], list[Exception | int | None]] = {}
        self._objects: dict[str, dict[str, Fields]] = {}
        self._events: list[tuple[int, str, str, Fields]] = []
        self._changed = threading.Condition()
        self._version = 10

    @property
    def client(self) -> Client:
        return cast("Client", self)

    @property
    def discovery(self) -> Discovery:
        return cast("Discovery", self)

    def find(self, api_version: str, kind: str) -> Resource | None:
        return RESOURCES.get((api_version, kind))

    def put(self, identity: Identity, **content: Any) -> Fields:
        """Create or replace an object."""
        path = self._path(identity)
        with self._changed:
            self._version += 1
            known = self._objects.setdefault(path, {})
            metadata = {"name": identity.name, "namespace": identity.namespace, "uid": f"uid-of-{identity.name}"}
            metadata |= {"resourceVersion": str(self._version), **content.pop("metadata", {})}
            obj = {"apiVersion": identity.api_version, "kind": identity.kind, "metadata": metadata, **content}
            event = "MODIFIED" if identity.name in known else "ADDED"
            known[identity.name] = obj
            self._events.append((self._version, path, event, obj))
            self._changed.notify_all()
        return copy.deepcopy(obj)

    def remove(self, identity: Identity) -> None:
        path = self._path(identity)
        with self._changed:
            self._version += 1
            obj = self._objects[path].pop(identity.name)
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}}
            self._events.append((self._version, path, "DELETED", obj))
            self._changed.notify_all()

    def _path(self, identity: Identity) -> str:
        return RESOURCES[identity.api_version, identity.kind].path(identity.namespace)

    def request(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, **_options: Any) -> Any:
        self._count(method, path, query)
        fault = self._fault(method, path)
        if isinstance(fault, Exception):
            raise fault
        if path in self.answers:
            answer = self.answers[path]
            if isinstance(answer, Exception):
                raise answer
            return copy.deepcopy(answer(query or {}) if callable(answer) else answer)
        return self._listed(path, query or {})

    def collect(self, path: str, *, query: Mapping[str, Any]) -> Collection:
        answer = self.request("GET", path, query=query)
        whole = [{"apiVersion": answer["apiVersion"], "kind": answer["kind"][:-4], **item} for item in answer["items"]]
        return Collection(tuple(whole), answer["metadata"]["resourceVersion"])

    def _listed(self, path: str, query: Mapping[str, Any]) -> Fields:
        with self._changed:
            if path not in self._objects and path.rpartition("/")[2] not in {
                resource.plural for resource in RESOURCES.values()
            }:
                raise ApiError(404, "NotFound", f"nothing at {path}")
            wanted = str(query.get("fieldSelector", "")).partition("=")[2]
            found = [obj for name, obj in self._objects.get(path, {}).items() if wanted in ("", name)]
            kinds = {resource.path("shop"): resource for resource in RESOURCES.values()}
            resource = kinds.get(path)
            items = [{key: value for key, value in obj.items() if key not in ("apiVersion", "kind")} for obj in found]
            return {
                "apiVersion": resource.api_version if resource else "v1",
                "kind": f"{resource.kind}List" if resource else "List",
                "metadata": {"resourceVersion": str(self._version)},
                "items": copy.deepcopy(items),
            }

    def watch(
        self, path: str, *, query: Mapping[str, Any], resource_version: str, timeout_s: float
    ) -> Generator[tuple[str, Fields], None, None]:
        self._count("WATCH", path, query)
        fault = self._fault("WATCH", path)
        if isinstance(fault, Exception):
            raise fault
        wanted = str(query.get("fieldSelector", "")).partition("=")[2]
        deadline_s, seen, given = time.monotonic() + timeout_s, int(resource_version), 0
        while True:
            with self._changed:
                news = [event for event in self._events if event[0] > seen and event[1] == path]
                if not news:
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0 or fault == given:
                        return
                    self._changed.wait(min(left_s, 0.05))
                    continue
            for version, _path, event, obj in news:
                if fault == given:
                    return
                seen, given = version, given + 1
                if wanted in ("", obj["metadata"]["name"]):
                    yield event, copy.deepcopy(obj)

    def _count(self, method: str, path: str, query: Mapping[str, Any] | None) -> None:
        with self._changed:
            self.requests.append((method, path))
            self.queries.append(dict(query or {}))

    def _fault(self, method: str, path: str) -> Exception | int | None:
        with self._changed:
            waiting = self.faults.get((method, path))
            return waiting.pop(0) if waiting else None


def expired() -> ExpiredError:
    return ExpiredError(410, "Expired", "too old resource version")


def later(delay_s: float, *actions: Callable[[], object]) -> threading.Thread:
    """Run actions in order, each after its delay, while the test continues."""

    def work() -> None:
        for action in actions:
            time.sleep(delay_s)
            action()

    thread = threading.Thread(target=work)
    thread.start()
    return thread
