# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until objects are ready, or deleted, with concurrent lists and watches per resource and namespace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..client.errors import KubeError
from ..manifests.manifests import Identity
from . import reasons
from .follow import Follower
from .readiness import status
from .verdict import Failed, Object, Ready, Status, Waiting, mapping, mappings, text

if TYPE_CHECKING:
    from ..client.client import Client
    from ..client.discovery import Discovery, Resource

# Maximum number of explained objects: explanations must not take much longer than the wait.
_EXPLAINED = 8
_EXPLAIN_S = 15.0
# A watch ends at the deadline. A thread that does not end within this time is abandoned.
_GRACE_S = 2.0
_STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


@dataclass(frozen=True)
class Waited:
    """Result for one object. duration_s: duration of the wait. explanation: reasons if it is not ready, as lines."""

    identity: Identity
    status: Status
    duration_s: float
    explanation: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        return isinstance(self.status, Ready)

    @property
    def has_failed(self) -> bool:
        """Return whether the object cannot become ready without a change. Otherwise, the timeout ended the wait."""
        return isinstance(self.status, Failed)

    def __str__(self) -> str:
        if isinstance(self.status, Ready):
            return f"{self.identity} is ready{f': {self.status.detail}' if self.status.detail else ''}"
        what = "failed" if self.has_failed else f"is not ready after {self.duration_s:.0f} s"
        return "\n".join([f"{self.identity} {what}: {self.status.reason}", *(f"  {one}" for one in self.explanation)])


def wait_ready(
    client: Client,
    discovery: Discovery,
    identities: Sequence[Identity],
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    *,
    seen: Mapping[Identity, Object] | None = None,
    hide: Callable[[str], str] = str,
) -> list[Waited]:
    """Wait until every object is ready or has failed, or until the timeout. Return the results in their order.

    A failure ends the wait for its object only. seen: objects from a recent request; those that are ready require no
    further request. hide: removes the caller's secrets from explanations.
    """
    late_binding = _LateBinding(client)

    def judge(identity: Identity, obj: Object | None) -> Status:
        if obj is None:
            return Waiting("does not exist")
        said = status(obj, time.time())
        if isinstance(said, Waiting) and (identity.api_version, identity.kind) == ("v1", "PersistentVolumeClaim"):
            return status(obj, time.time(), late_binding())
        return said

    wait = _Wait(identities, clock, judge, Failed("was deleted while it was waited for"))
    for identity, obj in (seen or {}).items():
        if isinstance(said := judge(identity, obj), Ready):
            wait.tell(identity, said, obj)
    wait.run(client, discovery, timeout_s, Failed("the server does not know its kind"))
    return wait.results(_explanations(client, wait, hide))


def wait_gone(
    client: Client,
    discovery: Discovery,
    identities: Sequence[Identity],
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    *,
    uids: Mapping[Identity, str] | None = None,
) -> list[Waited]:
    """Wait until all objects are deleted. Return the results in their order; a deleted object is Ready.

    uids: those of the deleted objects. A new object of the same name is ignored.
    """
    known = uids or {}

    def judge(identity: Identity, obj: Object | None) -> Status:
        if obj is None or known.get(identity, text(obj, "metadata", "uid")) != text(obj, "metadata", "uid"):
            return Ready("is gone")
        leaving = mapping(obj, "metadata").get("deletionTimestamp") is not None
        return status(obj, time.time()) if leaving else Waiting("is still there, and not being deleted")

    wait = _Wait(identities, clock, judge, Ready("is gone"))
    wait.run(client, discovery, timeout_s, Ready("is gone, and its kind as well"))
    return wait.results({})


class _LateBinding:
    """Names of the storage classes that wait for a first pod, read once when an unbound claim requires them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._names: frozenset[str] | None = None

    def __call__(self) -> Collection[str]:
        with self._lock:
            if self._names is None:
                self._names = self._ask()
            return self._names

    def _ask(self) -> frozenset[str]:
        try:
            classes = mappings(self._client.request("GET", _STORAGE_CLASSES), "items")
        except KubeError:
            # Without permission to read them, the run waits for every claim.
            return frozenset()
        return late_binding(classes)


def late_binding(classes: Sequence[Object]) -> frozenset[str]:
    """Return the names of the storage classes that create a volume only when a pod uses it."""
    return frozenset(
        text(one, "metadata", "name") for one in classes if one.get("volumeBindingMode") == "WaitForFirstConsumer"
    )


class _Wait:
    """State of all objects, which one thread for each resource and namespace reports."""

    def __init__(
        self,
        identities: Sequence[Identity],
        clock: Callable[[], float],
        judge: Callable[[Identity, Object | None], Status],
        deleted: Status,
    ) -> None:
        self._identities = tuple(dict.fromkeys(identities))
        self._clock, self._judge, self._deleted = clock, judge, deleted
        self._lock = threading.Lock()
        self._started_s = clock()
        self._said: dict[Identity, tuple[Status, float]] = {}
        self.objects: dict[Identity, Object] = {}

    def tell(self, identity: Identity, said: Status, obj: Object | None) -> None:
        """Record the status of an object. A final status does not change."""
        with self._lock:
            if self._is_settled(identity):
                return
            self._said[identity] = said, self._clock() - self._started_s
            if obj is not None:
                self.objects[identity] = obj

    def _is_settled(self, identity: Identity) -> bool:
        return isinstance(self._said.get(identity, (None, 0.0))[0], (Ready, Failed))

    def pending(self, identities: Sequence[Identity]) -> list[Identity]:
        with self._lock:
            return [identity for identity in identities if not self._is_settled(identity)]

    def run(self, client: Client, discovery: Discovery, timeout_s: float, unknown: Status) -> None:
        """Follow all pending objects until none is pending, or until the timeout."""
        groups: dict[tuple[Resource, str], list[Identity]] = {}
        for identity in self.pending(self._identities):
            resource = discovery.find(identity.api_version, identity.kind)
            if resource is None:
                self.tell(identity, unknown, None)
            else:
                namespace = identity.namespace if resource.namespaced else ""
                groups.setdefault((resource, namespace), []).append(identity)
        deadline_s = self._started_s + timeout_s
        threads = [
            threading.Thread(target=self._follow, args=(client, resource, names, group, deadline_s), daemon=True)
            for (resource, names), group in groups.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline_s - self._clock()) + _GRACE_S)

    def _follow(
        self, client: Client, resource: Resource, namespace: str, group: Sequence[Identity], deadline_s: float
    ) -> None:
        by_name = {identity.name: identity for identity in group}

        def note(name: str, obj: Object | None, was_deleted: bool) -> None:
            identity = by_name[name]
            self.tell(identity, self._deleted if was_deleted else self._judge(identity, obj), obj)

        def give_up(reason: str, is_final: bool) -> None:
            for identity in self.pending(group):
                self.tell(identity, Failed(reason) if is_final else Waiting(reason), None)

        Follower(
            client,
            resource,
            namespace,
            tuple(by_name),
            note=note,
            give_up=give_up,
            is_open=lambda: bool(self.pending(group)),
            left_s=lambda: deadline_s - self._clock(),
        ).run()

    def results(self, explanations: Mapping[Identity, Sequence[str]]) -> list[Waited]:
        """Return the result of each object. Pending objects have the duration of the timeout."""
        passed_s = self._clock() - self._started_s
        found = []
        with self._lock:
            for identity in self._identities:
                said, at_s = self._said.get(identity, (Waiting("nothing is known of it yet"), passed_s))
                duration_s = at_s if self._is_settled(identity) else passed_s
                found.append(Waited(identity, said, duration_s, tuple(explanations.get(identity, ()))))
        return found


def _explanations(client: Client, wait: _Wait, hide: Callable[[str], str]) -> dict[Identity, list[str]]:
    """Return explanations of all objects, found concurrently. Those that take too long are omitted."""
    found: dict[Identity, list[str]] = {}
    todo = [one.identity for one in wait.results({}) if not one.is_ready and one.identity in wait.objects][:_EXPLAINED]

    def look(identity: Identity) -> None:
        found[identity] = reasons.explain(client, identity, wait.objects[identity], hide)

    threads = [threading.Thread(target=look, args=(identity,), daemon=True) for identity in todo]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + _EXPLAIN_S
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
    return dict(found)
