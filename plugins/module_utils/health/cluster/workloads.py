# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge nodes, workloads and pods of a cluster. Pure functions of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...kube.ready.containers import containers, pod
from ...kube.ready.readiness import status
from ...kube.ready.verdict import Condition, Failed, Object, Ready, conditions, mapping, mappings, number, seconds, text
from ..checks import Thresholds, duration
from ..report import DEGRADED, HEALTHY, UNHEALTHY, Check

# Younger pods are not unhealthy: a node may be starting, or an image be loading.
STARTING_S = 300.0
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
# Runs of the pipeline are judged by their age, not as single Jobs.
_FLOW_RUN = "prefect.io/flow-run-id"
# Another pod has replaced such a pod.
_LEFT_BEHIND = ("Evicted", "Preempting", "Terminated", "NodeShutdown", "NodeAffinity", "UnexpectedAdmissionError")
# Fields of a kind for the numbers of available and desired pods.
_COUNTS: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "Deployment": (("status", "availableReplicas"), ("spec", "replicas")),
    "StatefulSet": (("status", "readyReplicas"), ("spec", "replicas")),
    "DaemonSet": (("status", "numberAvailable"), ("status", "desiredNumberScheduled")),
    "Rollout": (("status", "availableReplicas"), ("spec", "replicas")),
    "Prometheus": (("status", "availableReplicas"), ("spec", "replicas")),
    "Alertmanager": (("status", "availableReplicas"), ("spec", "replicas")),
    "Cluster": (("status", "readyInstances"), ("spec", "instances")),
}


def judge_nodes(nodes: Sequence[Object]) -> list[Check]:
    """Return one check for each node. A cluster without nodes is unhealthy."""
    if not nodes:
        return [Check("nodes", "none", UNHEALTHY, "the cluster has no node", "add a node")]
    return [_judge_node(node) for node in nodes]


def _judge_node(node: Object) -> Check:
    name, found = text(node, "metadata", "name"), conditions(node)
    remedy = f"kubectl describe node {name}"
    ready = found.get("Ready")
    if ready is None or not ready.is_true:
        return Check("nodes", name, UNHEALTHY, f"NotReady: {ready or 'its kubelet has said nothing yet'}", remedy)
    pressures = [found[word] for word in _PRESSURES if word in found and not found[word].is_false]
    if pressures:
        return Check("nodes", name, UNHEALTHY, "; ".join(map(_pressure, pressures)), remedy)
    if mapping(node, "spec").get("unschedulable") is True:
        remedy = f"kubectl uncordon {name}, after its maintenance"
        return Check("nodes", name, DEGRADED, "Ready, but cordoned", remedy)
    return Check("nodes", name, HEALTHY, f"Ready, {text(node, 'status', 'nodeInfo', 'kubeletVersion') or 'no version'}")


def _pressure(condition: Condition) -> str:
    state = "" if condition.is_true else " is not known"
    return f"{condition.type}{state}: {condition}"


def judge_workloads(workloads: Iterable[Object], now_s: float) -> list[Check]:
    """Return one check for each workload, by its readiness predicate.

    A workload that lacks one pod and has another is degraded; so is an autoscaler that cannot scale.
    """
    return [_judge_workload(workload, now_s) for workload in workloads]


def _judge_workload(workload: Object, now_s: float) -> Check:
    kind, said = text(workload, "kind"), status(workload, now_s)
    namespace, name = text(workload, "metadata", "namespace"), text(workload, "metadata", "name")
    subject, remedy = f"{namespace}/{kind.lower()}/{name}", f"kubectl -n {namespace} describe {kind.lower()} {name}"
    available, wanted = _counts(workload, kind)
    if isinstance(said, Ready):
        told = f"{available} of {wanted} available" if kind in _COUNTS else "ready"
        return Check("workloads", subject, HEALTHY, f"{told}{f', {said.detail}' if said.detail else ''}")
    if isinstance(said, Failed):
        return Check("workloads", subject, UNHEALTHY, said.reason, remedy)
    works = kind == "HorizontalPodAutoscaler" or available >= max(1, wanted - 1)
    return Check("workloads", subject, DEGRADED if works else UNHEALTHY, said.reason, remedy)


def _counts(workload: Object, kind: str) -> tuple[int, int]:
    if kind not in _COUNTS:
        return 0, 0
    available, wanted = _COUNTS[kind]
    default = 0 if wanted[0] == "status" else 1
    return number(workload, *available), number(workload, *wanted, default=default)


def judge_jobs(jobs: Iterable[Object], now_s: float) -> list[Check]:
    """Judge failed Jobs. The newest Job of a CronJob decides. Runs of the pipeline are omitted."""
    newest: dict[str, Object] = {}
    for job in sorted(jobs, key=lambda job: text(job, "metadata", "creationTimestamp")):
        if _FLOW_RUN in mapping(job, "metadata", "labels"):
            continue
        namespace, name = text(job, "metadata", "namespace"), text(job, "metadata", "name")
        maker = next((text(one, "name") for one in owners(job) if text(one, "kind") == "CronJob"), "")
        newest[f"{namespace}/cronjob/{maker}" if maker else f"{namespace}/job/{name}"] = job
    return [
        _judge_job(subject, job, said)
        for subject, job in newest.items()
        if isinstance(said := status(job, now_s), Failed)
    ]


def _judge_job(subject: str, job: Object, said: Failed) -> Check:
    namespace, name = text(job, "metadata", "namespace"), text(job, "metadata", "name")
    return Check(
        "workloads", subject, UNHEALTHY, f"job {name}: {said.reason}", f"kubectl -n {namespace} logs job/{name}"
    )


def owners(obj: Object) -> list[Object]:
    return mappings(obj, "metadata", "ownerReferences")


def judge_pods(pods: Iterable[Object], now_s: float, limits: Thresholds) -> list[Check]:
    """Return one check for the healthy pods of each namespace, and one for each other pod."""
    checks: list[Check] = []
    well: dict[str, list[int]] = {}
    for one in pods:
        counted = well.setdefault(text(one, "metadata", "namespace"), [0, 0])
        found = _judge_pod(one, now_s, limits)
        if found is None:
            continue
        counted[0] += found.status == HEALTHY
        counted[1] += 1
        if found.status != HEALTHY:
            checks.append(found)
    told = {name: f"{ready} of {total} are healthy" for name, (ready, total) in well.items()}
    return [*(Check("pods", name, HEALTHY, detail) for name, detail in told.items()), *checks]


def _judge_pod(one: Object, now_s: float, limits: Thresholds) -> Check | None:
    """Return the check of a pod, or None for a pod that has ended as intended."""
    namespace, name = text(one, "metadata", "namespace"), text(one, "metadata", "name")
    subject, remedy = f"{namespace}/{name}", f"kubectl -n {namespace} describe pod {name}"
    phase, is_job = text(one, "status", "phase"), any(text(owner, "kind") == "Job" for owner in owners(one))
    if phase == "Succeeded" or (phase == "Failed" and is_job):
        return None
    if begun_s := seconds(mapping(one, "metadata").get("deletionTimestamp")):
        is_late = now_s - begun_s > STARTING_S
        detail = f"should have ended {duration(now_s - begun_s)} ago, but still exists"
        return Check("pods", subject, DEGRADED, detail, remedy) if is_late else None
    said = pod(one)
    if isinstance(said, Ready):
        return _judge_restarts(one, subject, now_s, limits)
    if phase == "Failed" and text(one, "status", "reason") in _LEFT_BEHIND and owners(one):
        remedy = f"kubectl -n {namespace} delete pod {name}"
        return Check("pods", subject, DEGRADED, f"is left behind: {said.reason}", remedy)
    # A missing time counts as long ago.
    age_s = now_s - (seconds(mapping(one, "metadata").get("creationTimestamp")) or 0.0)
    ails = any(container.is_in_trouble for container in containers(one))
    starts = not isinstance(said, Failed) and not ails and age_s < STARTING_S
    detail = f"starts since {duration(age_s)}: {said.reason}" if starts else said.reason
    return Check("pods", subject, DEGRADED if starts else UNHEALTHY, detail, remedy if not ails else _logs(one))


def _judge_restarts(one: Object, subject: str, now_s: float, limits: Thresholds) -> Check:
    for container in containers(one):
        ended_s = container.last_finished_s
        if ended_s is not None and now_s - ended_s < limits.restart_window_s and not container.is_init:
            detail = f"Ready, {container}, {duration(max(0.0, now_s - ended_s))} ago"
            return Check("pods", subject, DEGRADED, detail, f"{_logs(one)} --previous")
    return Check("pods", subject, HEALTHY, "Ready")


def _logs(one: Object) -> str:
    namespace, name = text(one, "metadata", "namespace"), text(one, "metadata", "name")
    return f"kubectl -n {namespace} logs {name} --all-containers --tail=50"


def judge_presence(namespaces: Sequence[str], workloads: Iterable[Mapping[str, Any]]) -> Iterator[Check]:
    """Return an unhealthy check for each examined namespace without workloads: it is empty or the wrong one."""
    busy = {text(workload, "metadata", "namespace") for workload in workloads}
    for name in namespaces:
        if name not in busy:
            yield Check("workloads", name, UNHEALTHY, "has no workload", "deploy, or set another namespace")
