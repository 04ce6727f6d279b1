# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of a service: what runs its pods, and what they and others find beside them."""

from __future__ import annotations

from collections.abc import Iterator

from .part import NAME_LABEL, PLATFORM, SCRAPED_LABEL, Entry, Part, digest, labels
from .pods import pod, priority
from .postgresql import postgresql
from .trust import CA_KEY, bundles

HISTORY = 3
JOB_ATTEMPTS = 6
JOB_KEPT_S = 3600
ROLLOUT_S = 600
OBJECT_BYTES = 1_000_000
"""What the API server takes as the data of one object, less what its metadata need."""


def objects(part: Part) -> Iterator[Entry]:
    """Yield the objects of a service, all but the job that is run when it is asked for."""
    if part.configuration and not part.operator:
        yield {**_head("v1", "ConfigMap", part), "data": part.configuration}
    if part.secret_data and not part.operator:
        yield {**_head("v1", "Secret", part), "type": "Opaque", "stringData": part.secret_data}
    yield from _services(part)
    yield from _monitors(part)
    if not part.runs:
        return
    if part.operator:
        yield from postgresql(part, part.operator, priority(part))
        return
    if not part.service.on_demand:
        yield workload(part)
    if part.is_replicated:
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": part.selector}}
        yield {**_head("policy/v1", "PodDisruptionBudget", part), "spec": spec}


def shared(parts: list[Part]) -> Iterator[Entry]:
    """Yield what several services have in common: accounts, classes of priority, certificate authorities."""
    if not parts:
        return
    cluster = parts[0].layout.cluster
    place = {"namespace": cluster.namespace, "labels": labels(PLATFORM)}
    own = [part for part in parts if part.runs and not part.operator]
    for account in sorted({part.account for part in own}):
        metadata = {**place, "name": account}
        yield {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata,
            "automountServiceAccountToken": False,
        }
    for name, value in (("data", 1_000_000), ("service", 100_000)):
        purpose = "what keeps data" if name == "data" else "what can be started anywhere"
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": f"{cluster.namespace}-{name}", "labels": labels(PLATFORM)},
            "value": value,
            "description": f"Pods of the lakehouse: {purpose}.",
        }
    for name, certificates in bundles(parts):
        metadata = {**place, "name": name}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {CA_KEY: certificates}}


def namespace(name: str) -> Entry:
    """Return the namespace, in which nothing runs that asks for more than a pod of the platform does."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    metadata = {"name": name, "labels": {**labels(PLATFORM), **levels}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def too_large(part: Part) -> Iterator[tuple[str, int]]:
    """Yield the kind and size of an object whose data the API server would refuse."""
    for kind, data in (("ConfigMap", part.configuration), ("Secret", part.secret_data)):
        size = sum(len(text.encode()) for pair in data.items() for text in pair)
        if size > OBJECT_BYTES:
            yield kind, size


def workload(part: Part) -> Entry:
    """Return what runs the pods of a service: a job, a set of pods with claims of their own, or one without."""
    if part.service.kind == "job":
        return _job(part)
    return _stateful_set(part) if part.is_stateful else _deployment(part)


def workload_kind(part: Part) -> str:
    """Return the kind of what runs the pods of a service."""
    if part.operator:
        return "Cluster"
    if part.service.kind == "job":
        return "Job"
    return "StatefulSet" if part.is_stateful else "Deployment"


def _head(api_version: str, kind: str, part: Part, name: str | None = None) -> Entry:
    return {"apiVersion": api_version, "kind": kind, "metadata": part.metadata(name)}


def _workload_head(kind: str, part: Part, name: str | None = None) -> Entry:
    purpose = {"annotations": {"kubernetes.io/description": part.service.purpose}}
    api_version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": api_version, "kind": kind, "metadata": part.metadata(name, **purpose)}


def _replicas(part: Part) -> Entry:
    """Return the number of pods, which an autoscaler would lose with every run that states it."""
    return {} if part.is_autoscaled else {"replicas": part.service.replicas}


def _deployment(part: Part) -> Entry:
    health = part.service.health
    spec = {
        **_replicas(part),
        "revisionHistoryLimit": HISTORY,
        "progressDeadlineSeconds": ROLLOUT_S + (health.start_period_s if health else 0),
        "selector": {"matchLabels": part.selector},
        # A new pod answers before an old one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": pod(part),
    }
    return {**_workload_head("Deployment", part), "spec": spec}


def _stateful_set(part: Part) -> Entry:
    spec = {
        **_replicas(part),
        "serviceName": _headless(part),
        "revisionHistoryLimit": HISTORY,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": part.selector},
        "template": pod(part),
        "volumeClaimTemplates": list(_claims(part)),
    }
    return {**_workload_head("StatefulSet", part), "spec": spec}


def _claims(part: Part) -> Iterator[Entry]:
    storage_class = part.layout.cluster.storage_class
    for name, volume in part.service.volumes.items():
        if not volume.ephemeral:
            spec: Entry = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": volume.size}}}
            spec |= {"storageClassName": storage_class} if storage_class else {}
            # Templates cannot be changed: they hold nothing that another version would change.
            yield {"metadata": {"name": name, "labels": part.selector}, "spec": spec}


def _job(part: Part) -> Entry:
    """Return a job; another content is another job, since one that exists cannot be changed."""
    template = pod(part, restart="Never")
    spec: Entry = {"backoffLimit": JOB_ATTEMPTS, "template": template}
    if part.service.on_demand:
        # One that is made when it is asked for goes by itself; the others stay, or each run would make them again.
        spec |= {"backoffLimit": 0, "ttlSecondsAfterFinished": JOB_KEPT_S}
    return {**_workload_head("Job", part, f"{part.name}-{digest(template)[:8]}"), "spec": spec}


def _services(part: Part) -> Iterator[Entry]:
    if part.service.kind == "job" or part.operator:
        return
    ports = [
        {
            "name": name,
            "port": port.port,
            "targetPort": port.port,
            "protocol": port.protocol.upper(),
            "appProtocol": port.application_protocol,
        }
        for name, port in sorted(part.service.ports.items())
        if not port.internal
    ]
    if ports:
        head = _head("v1", "Service", part)
        head["metadata"] = {**head["metadata"], "labels": {**part.labels, SCRAPED_LABEL: "true"}}
        yield {**head, "spec": {"type": "ClusterIP", "selector": part.selector, "ports": ports}}
    if part.runs and part.is_stateful:
        spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": part.selector}
        yield {**_head("v1", "Service", part, _headless(part)), "spec": {**spec, **({"ports": ports} if ports else {})}}


def _headless(part: Part) -> str:
    """Return the name of the service that gives each pod of a set a name of its own."""
    return f"{part.name}-pods"


def _monitors(part: Part) -> Iterator[Entry]:
    metrics = part.service.metrics
    if metrics is None or metrics.port not in part.service.ports or part.operator:
        return
    endpoint: Entry = {"path": metrics.path, "interval": part.layout.catalogue.settings.get("metrics_interval", "15s")}
    if metrics.authentication:
        keys = {"username": "metrics.username", "password": "metrics.password"}
        endpoint["basicAuth"] = {word: {"name": part.name, "key": key} for word, key in keys.items()}
    api, named = "monitoring.coreos.com/v1", {"jobLabel": NAME_LABEL}
    if part.service.kind == "job":
        endpoint["portNumber"] = part.service.ports[metrics.port].port
        spec: Entry = {**named, "selector": {"matchLabels": part.selector}, "podMetricsEndpoints": [endpoint]}
        yield {**_head(api, "PodMonitor", part), "spec": spec}
        return
    endpoint["port"] = metrics.port
    # Another service leads to the same pods: by this label, one of the two is read.
    chosen = {"matchLabels": {NAME_LABEL: part.name, SCRAPED_LABEL: "true"}}
    yield {**_head(api, "ServiceMonitor", part), "spec": {**named, "selector": chosen, "endpoints": [endpoint]}}
