# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API of a server: the interface, and the small API server that stores objects in etcd."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tests.k3s.standin.common import timestamp, version
from tests.k3s.standin.etcd import Client

Object = dict[str, Any]
NOT_FOUND, CONFLICT = 404, 409
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
SECRETS = "/api/v1/namespaces/kube-system/secrets"
# Content of discovery by group: kind by resource. Other resources can be used, too.
GROUPS = {
    "": {
        "nodes": "Node",
        "namespaces": "Namespace",
        "secrets": "Secret",
        "pods": "Pod",
        "configmaps": "ConfigMap",
        "events": "Event",
    },
    "apps": {"daemonsets": "DaemonSet", "deployments": "Deployment"},
    "policy": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "coordination.k8s.io": {"leases": "Lease"},
    "k3s.cattle.io": {"etcdsnapshotfiles": "ETCDSnapshotFile"},
}
CLUSTER_SCOPED = ("nodes", "namespaces", "etcdsnapshotfiles")
VERBS = ["create", "delete", "get", "list", "patch", "update"]
QUORUM_LIMIT_S = 2.0


class ApiError(Exception):
    """A refused request, in the format of Kubernetes."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    def status(self) -> Object:
        """Return the Status object."""
        common = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return {**common, "message": str(self), "reason": self.reason, "code": self.code}


class Api(Protocol):
    """The Kubernetes API that a server needs. The real kube-apiserver can implement it by forwarding requests."""

    # Name of the implementation; each result of a test can report it.
    name: str

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        merges: bool = True,
    ) -> Object:
        """Return the answer to an authorized request; raise ApiError or EtcdError."""

    def check(self) -> None:
        """Raise EtcdError unless requests can be answered."""


@dataclass(frozen=True)
class Target:
    """The target of a path below /api or /apis."""

    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @classmethod
    def parse(cls, path: str) -> Target:
        """Return the target of a path."""
        parts = path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1] if parts[1:] else "", parts[3:])
        namespace = ""
        if rest[:1] == ["namespaces"] and rest[2:]:
            namespace, rest = rest[1], rest[2:]
        if not rest:
            raise ApiError(NOT_FOUND, "NotFound", "the server could not find the requested resource")
        resource, name, subresource, *_more = [*rest, "", ""]
        return cls(group, resource, namespace, name, subresource)

    def key(self, name: str) -> str:
        """Return the key of an object, or with an empty name the common prefix of all keys."""
        return "/".join(filter(None, ("/registry", self.group, self.resource, self.namespace, name))) + (
            "" if name else "/"
        )

    @property
    def head(self) -> Object:
        kind = GROUPS.get(self.group, {}).get(self.resource, self.resource.removesuffix("s").capitalize())
        return {"kind": kind, "apiVersion": f"{self.group}/v1" if self.group else "v1"}

    def missing(self) -> ApiError:
        return ApiError(NOT_FOUND, "NotFound", f'{self.resource} "{self.name}" not found')


class StandInApi:
    """Objects of any kind, stored in etcd like those of Kubernetes; no watches, admission or garbage collection."""

    name = "API server of the stand-in"

    def __init__(self, client: Client) -> None:
        self._client = client

    def check(self) -> None:
        """Raise EtcdError unless etcd has a quorum."""
        self._client.check_quorum(QUORUM_LIMIT_S)

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        merges: bool = True,
    ) -> Object:
        """Return the answer to a request."""
        query = query or {}
        if (found := discover(path.rstrip("/"))) is not None:
            return found
        if query.get("watch", "false") not in ("false", "0"):
            raise ApiError(405, "MethodNotAllowed", "the API server of the stand-in has no watches")
        if method == "PATCH" and not merges:
            raise ApiError(415, "UnsupportedMediaType", "the API server of the stand-in has merge patches only")
        target, sent = Target.parse(path), body or {}
        if target.subresource == "eviction" and method == "POST":
            return self._evict(target)
        actions: dict[str, Callable[[], Object]] = {
            "GET": lambda: self._load(target)[0] if target.name else self._list(target, query),
            "POST": lambda: self._create(target, sent),
            "PUT": lambda: self._update(
                target, lambda _old: dict(sent), str(sent.get("metadata", {}).get("resourceVersion", ""))
            ),
            "PATCH": lambda: self._update(target, lambda old: dict(_merge(old, sent))),
            "DELETE": lambda: self._delete(target),
        }
        return actions[method]()

    def _load(self, target: Target) -> tuple[Object, int]:
        for _key, text, revision in self._client.read(target.key(target.name), prefix=False):
            return _with_revision(json.loads(text), revision), revision
        raise target.missing()

    def _list(self, target: Target, query: Mapping[str, str]) -> Object:
        values = self._client.read(target.key(""))
        objects = [_with_revision(json.loads(text), revision) for _key, text, revision in values]
        meta = {"resourceVersion": str(max((revision for *_key, revision in values), default=1))}
        items = [each for each in objects if _matches(each, query)]
        return {**target.head, "kind": f"{target.head['kind']}List", "metadata": meta, "items": items}

    def _create(self, target: Target, body: Object) -> Object:
        meta = dict(body.get("metadata") or {})
        name = meta.get("name") or f"{meta.get('generateName', '')}{uuid.uuid4().hex[:5]}"
        meta |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
        meta |= {"namespace": target.namespace} if target.namespace else {}
        created = {**target.head, **body, "metadata": meta}
        if (revision := self._client.swap(target.key(name), 0, json.dumps(created))) is None:
            raise ApiError(CONFLICT, "AlreadyExists", f'{target.resource} "{name}" already exists')
        return _with_revision(created, revision)

    def _update(self, target: Target, change: Callable[[Object], Object], expected: str = "") -> Object:
        """Replace an object, and retry after a conflict; delete one that waits for its finalizers."""
        while True:
            old, revision = self._load(target)
            if expected not in ("", str(revision)):
                raise ApiError(CONFLICT, "Conflict", f'{target.resource} "{target.name}": the object has been modified')
            new = change(old)
            kept = {
                key: old["metadata"][key]
                for key in ("uid", "creationTimestamp", "name", "deletionTimestamp")
                if key in old["metadata"]
            }
            new["metadata"] = {**(new.get("metadata") or {}), **kept}
            gone = "deletionTimestamp" in kept and not new["metadata"].get("finalizers")
            if written := self._client.swap(target.key(target.name), revision, None if gone else json.dumps(new)):
                return _with_revision(new, written)

    def _delete(self, target: Target) -> Object:
        """Delete an object, or set its deletion timestamp while it has finalizers."""
        old, revision = self._load(target)
        kept = bool(old["metadata"].get("finalizers"))
        old["metadata"].setdefault("deletionTimestamp", timestamp())
        if self._client.swap(target.key(target.name), revision, json.dumps(old) if kept else None) is None:
            return self._delete(target)
        return old

    def _evict(self, target: Target) -> Object:
        """Delete a pod unless a budget allows no disruption; running pods are healthy."""
        labels = self._load(target)[0]["metadata"].get("labels") or {}
        for budget in self._list(Target("policy", "poddisruptionbudgets", target.namespace), {})["items"]:
            spec, chosen = budget["spec"], budget["spec"].get("selector", {}).get("matchLabels") or {}
            if not chosen.items() <= labels.items():
                continue
            selector = ",".join(f"{key}={value}" for key, value in chosen.items())
            pods = self._list(Target("", "pods", target.namespace), {"labelSelector": selector})["items"]
            healthy = sum(pod.get("status", {}).get("phase", "Running") == "Running" for pod in pods)
            if healthy - 1 < int(spec.get("minAvailable", len(pods) - int(spec.get("maxUnavailable", 0)))):
                raise ApiError(
                    429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget."
                )
        return self._delete(target)


def _merge(old: Any, new: Any) -> Any:
    """Return a value after a JSON merge patch."""
    if not isinstance(new, dict):
        return new
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


def _with_revision(found: Object, revision: int) -> Object:
    found["metadata"]["resourceVersion"] = str(revision)
    return found


def _matches(found: Object, query: Mapping[str, str]) -> bool:
    """Return whether an object has the labels and fields of a query."""
    for source, start in (("labelSelector", found["metadata"].get("labels") or {}), ("fieldSelector", found)):
        for part in filter(None, query.get(source, "").split(",")):
            key, equals, value = part.replace("==", "=").partition("=")
            node: Any = start
            for step in [key] if source == "labelSelector" else key.split("."):
                node = node.get(step) if isinstance(node, dict) else None
            if node is None or (equals and node != value):
                return False
    return True


def discover(path: str) -> Object | None:
    """Return a discovery document of an API server, or None for other paths."""
    if path == "/version":
        major, minor = version().lstrip("v").split(".")[:2]
        return {"major": major, "minor": minor, "gitVersion": version(), "platform": "stand-in"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [(name, {"groupVersion": f"{name}/v1", "version": "v1"}) for name in GROUPS if name]
        listed = [{"name": name, "versions": [entry], "preferredVersion": entry} for name, entry in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    for group, kinds in GROUPS.items():
        if path == (f"/apis/{group}/v1" if group else "/api/v1"):
            resources: list[Object] = [
                {
                    "name": name,
                    "singularName": kind.lower(),
                    "kind": kind,
                    "namespaced": name not in CLUSTER_SCOPED,
                    "verbs": VERBS,
                }
                for name, kind in kinds.items()
            ]
            eviction = {
                "name": "pods/eviction",
                "kind": "Eviction",
                "group": "policy",
                "version": "v1",
                "namespaced": True,
            }
            resources += [{**eviction, "singularName": "", "verbs": ["create"]}] if not group else []
            return {
                "kind": "APIResourceList",
                "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
                "resources": resources,
            }
    return None
