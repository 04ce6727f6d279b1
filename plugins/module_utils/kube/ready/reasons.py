# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explain why an object is not ready: events, states of containers and ends of their logs, without secrets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...shared.redact import Redactor, values_of
from ..client.client import Client, look
from ..client.errors import KubeError
from ..client.paths import core_path
from ..manifests.manifests import Identity
from .containers import Container, containers, pod
from .verdict import Object, Ready, line, mapping, mappings, number, seconds, text

EVENTS = 5
PODS = 3
LOG_LINES = 5
_LINE_CHARACTERS = 400
_LOG_BYTES = 16 * 1024
# Kinds that select pods. Selectors of claims select volumes, those of monitors select Services.
_WORKLOADS = (
    *(("apps", kind) for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")),
    ("argoproj.io", "Rollout"),
    ("batch", "Job"),
)
# Labels that operators set on the pods of their objects.
_LABELS_OF_OPERATED: Mapping[tuple[str, str], str] = {
    ("postgresql.cnpg.io", "Cluster"): "cnpg.io/cluster={name}",
    ("monitoring.coreos.com", "Prometheus"): "operator.prometheus.io/name={name},app.kubernetes.io/name=prometheus",
    ("monitoring.coreos.com", "Alertmanager"): "alertmanager={name}",
    ("monitoring.coreos.com", "ThanosRuler"): "thanos-ruler={name}",
}


def explain(
    client: Client,
    identity: Identity,
    obj: Object | None = None,
    hide: Callable[[str], str] = str,
    now_s: float | None = None,
) -> list[str]:
    """Return lines that explain why an object is not ready: pods with their logs first, then events, newest first.

    obj: its last known state, whose selector selects the pods. hide: removes the caller's secrets from a line. Never
    raises for a rejection by the cluster: it becomes one of the lines.
    """
    lines: list[str] = []
    secrets: set[str] = set()
    concerned = [_Concerned(identity.kind, identity.name, text(obj, "metadata", "uid"))]
    try:
        for one in _pods(client, identity, obj or {}):
            concerned.append(_Concerned("Pod", text(one, "metadata", "name"), text(one, "metadata", "uid")))
            lines += _of_pod(client, one, secrets)
    except KubeError as error:
        lines.append(f"its pods cannot be read: {error}")
    try:
        events = _events(client, identity.namespace, concerned, time.time() if now_s is None else now_s)
    except KubeError as error:
        events = [f"its events cannot be read: {error}"]
    # Events contain the output of probes.
    return [*map(hide, lines), *map(hide, map(Redactor(secrets), events))]


@dataclass(frozen=True)
class _Concerned:
    """An object that events refer to."""

    kind: str
    name: str
    uid: str


def _pods(client: Client, identity: Identity, obj: Object) -> list[Object]:
    """Return the pods of a workload that are not ready: first those with problems, then the newest."""
    if (identity.api_version, identity.kind) == ("v1", "Pod"):
        return [obj] if obj else []
    selector = selector_of(identity, obj)
    if not selector or not identity.namespace:
        return []
    answer = client.request(
        "GET", core_path(identity.namespace, "pods"), query={"labelSelector": selector, "limit": 100}
    )
    unready = [one for one in mappings(answer, "items") if not isinstance(pod(one), Ready)]
    unready.sort(key=lambda one: text(one, "metadata", "creationTimestamp"), reverse=True)
    unready.sort(key=lambda one: not any(container.is_in_trouble for container in containers(one)))
    return unready[:PODS]


def selector_of(identity: Identity, obj: Object) -> str:
    """Return the label selector of an object's pods as in a query. Empty for an object without pods."""
    labels = _LABELS_OF_OPERATED.get((identity.group, identity.kind))
    if labels:
        return labels.format(name=identity.name)
    if (identity.group, identity.kind) not in _WORKLOADS:
        return ""
    selector = mapping(obj, "spec", "selector")
    terms = [f"{key}={value}" for key, value in mapping(selector, "matchLabels").items()]
    for said in mappings(selector, "matchExpressions"):
        key, values = text(said, "key"), said.get("values")
        listed = f"({','.join(map(str, values))})" if isinstance(values, list) else ""
        written = {
            "In": f"{key} in {listed}",
            "NotIn": f"{key} notin {listed}",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        terms.append(written.get(text(said, "operator"), key))
    return ",".join(terms)


def _of_pod(client: Client, one: Object, secrets: set[str]) -> Iterator[str]:
    """Yield the problems of a pod, and add values that no output may contain to `secrets`."""
    name, said = text(one, "metadata", "name"), pod(one)
    if not isinstance(said, Ready):
        yield f"pod {name}: {said.reason}"
    told = [container for container in containers(one) if _has_a_log(container)]
    if not told:
        return
    try:
        secrets |= _secrets_of(client, one)
    except KubeError as error:
        yield f"pod {name}: its log is not shown, since the Secrets that it must not repeat cannot be read: {error}"
        return
    redact = Redactor(secrets)
    for container in told:
        yield from _log(client, one, container, redact)


def _has_a_log(container: Container) -> bool:
    if container.state == "waiting":
        return container.has_crashed
    return container.is_in_trouble or (
        container.state == "running" and not container.is_ready and not container.is_init
    )


def _log(client: Client, one: Object, container: Container, redact: Redactor) -> Iterator[str]:
    name, namespace = text(one, "metadata", "name"), text(one, "metadata", "namespace")
    query = {
        "container": container.name,
        "tailLines": LOG_LINES,
        "limitBytes": _LOG_BYTES,
        **({"previous": "true"} if container.has_crashed else {}),
    }
    try:
        log = str(
            client.request("GET", core_path(namespace, "pods", name, "log"), query=query, accept="text/plain, */*")
        )
    except KubeError as error:
        yield f"pod {name}: the log of {container.name} cannot be read: {error}"
        return
    for written in [kept for kept in map(str.strip, log.splitlines()) if kept][-LOG_LINES:]:
        # The line is masked before it is truncated, because part of a secret is also a secret.
        yield f"pod {name}: log of {container.name}: {redact(written)[:_LINE_CHARACTERS]}"


def _secrets_of(client: Client, one: Object) -> set[str]:
    """Return the values of the Secrets of a pod. Raises if one cannot be read; a missing one has no values."""
    found: set[str] = set()
    namespace = text(one, "metadata", "namespace")
    for name in sorted(secret_names(one)):
        secret = look(client, core_path(namespace, "secrets", name))
        found |= values_of(secret) if secret else set()
    return found


def secret_names(pod_: Object) -> set[str]:
    """Return the names of all Secrets that a pod's containers use."""
    names: list[str] = []
    for key in ("containers", "initContainers", "ephemeralContainers"):
        for container in mappings(pod_, "spec", key):
            names += [text(source, "secretRef", "name") for source in mappings(container, "envFrom")]
            names += [text(entry, "valueFrom", "secretKeyRef", "name") for entry in mappings(container, "env")]
    for volume in mappings(pod_, "spec", "volumes"):
        names.append(text(volume, "secret", "secretName"))
        names += [text(source, "secret", "name") for source in mappings(volume, "projected", "sources")]
    return set(filter(None, names))


@dataclass(frozen=True)
class _Event:
    about: str
    reason: str
    message: str
    count: int
    last_s: float
    is_warning: bool


def _events(client: Client, namespace: str, concerned: Sequence[_Concerned], now_s: float) -> list[str]:
    """Return the newest distinct events of these objects: warnings, or other events if there are no warnings."""
    found: list[_Event] = []
    for one in concerned:
        selector = f"involvedObject.kind={one.kind},involvedObject.name={one.name}"
        # A deleted object of the same name may also have events.
        selector += f",involvedObject.uid={one.uid}" if one.uid else ""
        # Events of cluster-wide objects are in this namespace.
        path, query = core_path(namespace or "default", "events"), {"fieldSelector": selector, "limit": 200}
        found += [_event(said, one) for said in mappings(client.request("GET", path, query=query), "items")]
    warnings = [event for event in found if event.is_warning]
    return [_in_words(event, now_s) for event in _deduplicated(warnings or found)[:EVENTS]]


def _event(said: Object, one: _Concerned) -> _Event:
    times = [said.get("lastTimestamp"), said.get("eventTime"), mapping(said, "series").get("lastObservedTime")]
    times += [said.get("firstTimestamp"), mapping(said, "metadata").get("creationTimestamp")]
    count = max(number(said, "count", default=1), number(said, "series", "count", default=1))
    return _Event(
        about=f"{one.kind} {one.name}",
        reason=text(said, "reason"),
        message=line(said, "message")[:_LINE_CHARACTERS],
        count=max(1, count),
        last_s=max((moment for time_ in times if (moment := seconds(time_)) is not None), default=0.0),
        is_warning=text(said, "type") == "Warning",
    )


def _deduplicated(events: Iterable[_Event]) -> list[_Event]:
    """Return one event for each reason and message: the newest, with the total count."""
    newest: dict[tuple[str, str], _Event] = {}
    for event in sorted(events, key=lambda event: event.last_s):
        key = (event.reason, event.message.replace(event.about.partition(" ")[2], ""))
        same = newest.pop(key, None)
        count = event.count + (same.count if same else 0)
        newest[key] = _Event(event.about, event.reason, event.message, count, event.last_s, event.is_warning)
    return list(reversed(newest.values()))


def _in_words(event: _Event, now_s: float) -> str:
    times = f", {event.count} times" if event.count > 1 else ""
    ago = f", {age(now_s - event.last_s)} ago" if event.last_s else ""
    return f"event of {event.about}{times}{ago}: {event.reason}: {event.message}"


def age(elapsed_s: float) -> str:
    """Return a duration as `42 s`, `7 min`, `3 h` or `12 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if elapsed_s >= 2 * size:
            return f"{elapsed_s / size:.0f} {unit}"
    return f"{max(0.0, elapsed_s):.0f} s"
