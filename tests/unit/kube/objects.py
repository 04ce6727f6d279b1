# SPDX-License-Identifier: GPL-3.0-or-later
"""A store of objects behind the paths of a Kubernetes API, for tests of order and transport, without validation."""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

Fields = dict[str, Any]
# By group version: kind, plural, whether it is namespaced.
KINDS: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("Namespace", "namespaces", False),
        ("ConfigMap", "configmaps", True),
        ("Secret", "secrets", True),
        ("Service", "services", True),
        ("ServiceAccount", "serviceaccounts", True),
        ("PersistentVolumeClaim", "persistentvolumeclaims", True),
        ("Pod", "pods", True),
    ],
    "apps/v1": [("Deployment", "deployments", True), ("StatefulSet", "statefulsets", True)],
    "batch/v1": [("Job", "jobs", True)],
    "apiextensions.k8s.io/v1": [("CustomResourceDefinition", "customresourcedefinitions", False)],
    "admissionregistration.k8s.io/v1": [
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False),
    ],
}
_PATH = re.compile(r"/(?:api/(v1)|apis/([^/]+/[^/]+))(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/([a-z]+))?")
Place = tuple[str, str, str, str]


class Objects:
    """The stored objects. `kinds` may be extended while it runs, as a CRD does.

    Storing equal content keeps the resourceVersion, as on a real server.
    """

    def __init__(self) -> None:
        self.kinds = {group: list(kinds) for group, kinds in KINDS.items()}
        self._stored: dict[Place, Fields] = {}
        self._events: list[tuple[int, str, Place, Fields]] = []
        self._changed = threading.Condition()
        self._version = 0
        self._is_over = False

    def end(self) -> None:
        """End all watches."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def answer(
        self, method: str, path: str, options: dict[str, str], body: Any
    ) -> tuple[int, Fields | Callable[[], Iterator[bytes]]]:
        """Return the status and the body of an answer; the body of a watch is a function that yields its lines."""
        if path in {"/api", "/apis"}:
            return 200, self._discovery(path)
        if path == "/version":
            return 200, {"major": "1", "minor": "36", "gitVersion": "v1.36.1"}
        place = self._place(path)
        if place is None:
            return 404, _status(404, "NotFound", "the server could not find the requested resource")
        if not place[3]:
            if options.get("watch") == "true":
                return 200, lambda: self._watch(place, options)
            return 200, self._list(place)
        if method == "GET":
            return self._get(place)
        if method == "DELETE":
            return self._delete(place)
        return self._put(place, body)

    def _place(self, path: str) -> Place | None:
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        group_version = match[1] or match[2]
        if match[4] not in {plural for _kind, plural, _namespaced in self.kinds.get(group_version, ())}:
            return None
        return (group_version, match[3] or "", match[4], match[5] or "")

    def _discovery(self, path: str) -> Fields:
        items: dict[str, list[Fields]] = {}
        for group_version, kinds in self.kinds.items():
            group, _slash, version = group_version.rpartition("/")
            if bool(group) == (path == "/apis"):
                items.setdefault(group, []).append(
                    {"version": version, "freshness": "Current", "resources": [_resource(*kind) for kind in kinds]}
                )
        groups = [{"metadata": {"name": group} if group else {}, "versions": found} for group, found in items.items()]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": groups}

    def _list(self, place: Place) -> Fields:
        with self._changed:
            found = [copy.deepcopy(body) for known, body in self._stored.items() if _inside(known, place)]
            return {
                "kind": "List",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": str(self._version)},
                "items": found,
            }

    def _get(self, place: Place) -> tuple[int, Fields]:
        with self._changed:
            found = self._stored.get(place)
            return (200, copy.deepcopy(found)) if found else _missing(place)

    def _delete(self, place: Place) -> tuple[int, Fields]:
        with self._changed:
            found = self._stored.pop(place, None)
            if found is None:
                return _missing(place)
            self._tell("DELETED", place, found)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _put(self, place: Place, body: Fields) -> tuple[int, Fields]:
        with self._changed:
            before = self._stored.get(place)
            after = copy.deepcopy(body)
            metadata = after.setdefault("metadata", {})
            if before is not None:
                metadata |= {key: before["metadata"][key] for key in ("uid", "resourceVersion")}
                if before == after:
                    return 200, after
            metadata["uid"] = metadata.get("uid") or f"uid-{len(self._events)}"
            self._stored[place] = after
            self._tell("ADDED" if before is None else "MODIFIED", place, after)
            return (201 if before is None else 200), copy.deepcopy(after)

    def _tell(self, kind: str, place: Place, found: Fields) -> None:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, place, copy.deepcopy(found)))
        self._changed.notify_all()

    def _watch(self, place: Place, options: dict[str, str]) -> Iterator[bytes]:
        deadline_s = time.monotonic() + float(options.get("timeoutSeconds", 5))
        seen = int(options.get("resourceVersion") or 0)
        while True:
            with self._changed:
                fresh = [event for event in self._events if event[0] > seen and _inside(event[2], place)]
                if not fresh:
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0 or self._is_over:
                        return
                    self._changed.wait(left_s)
            for version, kind, _place, found in fresh:
                seen = version
                yield json.dumps({"type": kind, "object": found}).encode() + b"\n"


def _resource(kind: str, plural: str, is_namespaced: bool) -> Fields:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    scope = "Namespaced" if is_namespaced else "Cluster"
    return {"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "verbs": verbs}


def _inside(known: Place, place: Place) -> bool:
    return (known[0], known[2]) == (place[0], place[2]) and place[1] in {"", known[1]}


def _missing(place: Place) -> tuple[int, Fields]:
    return 404, _status(404, "NotFound", f'{place[2]} "{place[3]}" not found')


def _status(code: int, reason: str, message: str) -> Fields:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
