# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on nodes, workloads, jobs and pods, from objects of an API server."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.checks import Thresholds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.workloads import (
    judge_jobs,
    judge_nodes,
    judge_pods,
    judge_presence,
    judge_workloads,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import Check

Fields = dict[str, Any]
# 2027-01-15T08:00:00Z
NOW_S = 1_800_000_000.0
LIMITS = Thresholds()


def condition(type_: str, status: str, reason: str = "", message: str = "") -> Fields:
    return {"type": type_, "status": status, "reason": reason, "message": message}


READY = condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")


def node(*conditions: Fields, **spec: Any) -> Fields:
    info = {"kubeletVersion": "v1.36.2"}
    return {"metadata": {"name": "n1"}, "spec": spec, "status": {"conditions": [*conditions], "nodeInfo": info}}


@pytest.mark.parametrize(
    ("conditions", "detail"),
    [
        (
            [condition("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")],
            "NotReady: NodeStatusUnknown: Kubelet stopped posting node status.",
        ),
        (
            [condition("Ready", "False", "KubeletNotReady", "container runtime is down")],
            "NotReady: KubeletNotReady: container runtime is down",
        ),
        ([], "NotReady: its kubelet has said nothing yet"),
        (
            [READY, condition("DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure")],
            "DiskPressure: KubeletHasDiskPressure: kubelet has disk pressure",
        ),
        (
            [READY, condition("MemoryPressure", "True", "Low"), condition("PIDPressure", "Unknown", "Lost")],
            "MemoryPressure: Low; PIDPressure is not known: Lost",
        ),
        (
            [READY, condition("NetworkUnavailable", "True", "NoRouteCreated")],
            "NetworkUnavailable: NoRouteCreated",
        ),
    ],
)
def test_a_node_that_is_not_ready_or_under_pressure_is_unhealthy(conditions: list[Fields], detail: str) -> None:
    (check,) = judge_nodes([node(*conditions)])
    assert (check.name, check.status, check.detail) == ("nodes/n1", "unhealthy", detail)
    assert check.remedy == "kubectl describe node n1"


def test_a_cluster_without_a_node_is_unhealthy() -> None:
    assert [check.status for check in judge_nodes([])] == ["unhealthy"]


def test_a_cordoned_node_is_degraded_and_a_ready_one_healthy() -> None:
    cordoned, well = judge_nodes([node(READY, unschedulable=True), node(READY, condition("DiskPressure", "False"))])
    assert (cordoned.status, well.status) == ("degraded", "healthy")
    assert well.detail == "Ready, v1.36.2"


def workload(kind: str, spec: Fields, status: Fields, group: str = "apps/v1") -> Fields:
    metadata = {"name": "api", "namespace": "shop", "generation": 1}
    return {
        "apiVersion": group,
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
        "status": {"observedGeneration": 1, **status},
    }


def deployment(wanted: int, available: int, *conditions: Fields) -> Fields:
    counts = {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": available}
    return workload("Deployment", {"replicas": wanted}, {**counts, "conditions": [*conditions]})


LATE = condition("Progressing", "False", "ProgressDeadlineExceeded")


@pytest.mark.parametrize(
    ("obj", "status", "detail"),
    [
        (deployment(1, 0), "unhealthy", "0 of 1 pod available"),
        (deployment(3, 1), "unhealthy", "1 of 3 pods available"),
        (deployment(3, 2), "degraded", "2 of 3 pods available"),
        (
            deployment(3, 2, LATE),
            "unhealthy",
            "2 of 3 pods available, no progress within 600 s (ProgressDeadlineExceeded)",
        ),
        (deployment(3, 3), "healthy", "3 of 3 available"),
        (
            workload("DaemonSet", {}, {"desiredNumberScheduled": 2, "numberAvailable": 1, "updatedNumberScheduled": 2}),
            "degraded",
            "1 of 2 pods available",
        ),
        (
            workload(
                "HorizontalPodAutoscaler",
                {},
                {"conditions": [condition("ScalingActive", "False", "FailedGetResourceMetric", "no metrics")]},
                "autoscaling/v2",
            ),
            "degraded",
            "has no metrics: FailedGetResourceMetric: no metrics",
        ),
        (
            workload(
                "Cluster",
                {"instances": 3},
                {"phase": "Failing over", "readyInstances": 2},
                "postgresql.cnpg.io/v1",
            ),
            "degraded",
            "Failing over, 2 of 3 instances ready",
        ),
    ],
)
def test_a_workload_that_lacks_one_pod_works_and_one_that_lacks_more_does_not(
    obj: Fields, status: str, detail: str
) -> None:
    (check,) = judge_workloads([obj], NOW_S)
    assert (check.status, check.detail) == (status, detail)
    assert check.name == f"workloads/shop/{obj['kind'].lower()}/api"


def test_a_namespace_in_which_nothing_is_meant_to_run_is_unhealthy() -> None:
    (check,) = judge_presence(["shop", "typo"], [deployment(1, 1)])
    assert (check.name, check.status) == ("workloads/typo", "unhealthy")


def job(name: str, minute: int, *conditions: Fields, maker: str = "", **labels: str) -> Fields:
    owners = [{"kind": "CronJob", "name": maker}] if maker else []
    metadata = {"name": name, "namespace": "shop", "labels": labels, "ownerReferences": owners}
    metadata["creationTimestamp"] = f"2027-01-15T07:{minute:02d}:00Z"
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "status": {"conditions": [*conditions]}}


FAILED = condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
DONE = condition("Complete", "True")


def test_a_failed_job_is_unhealthy_and_the_newest_decides_for_those_of_one_maker() -> None:
    checks = judge_jobs(
        [
            job("migrate", 1, FAILED),
            job("load", 1, DONE),
            job("nightly-2", 2, DONE, maker="nightly"),
            job("nightly-1", 1, FAILED, maker="nightly"),
            job("hourly-1", 1, DONE, maker="hourly"),
            job("hourly-2", 2, FAILED, maker="hourly"),
            job("run", 1, FAILED, **{"prefect.io/flow-run-id": "1"}),
        ],
        NOW_S,
    )
    assert {check.name: check.status for check in checks} == {
        "workloads/shop/job/migrate": "unhealthy",
        "workloads/shop/cronjob/hourly": "unhealthy",
    }
    assert checks[0].remedy == "kubectl -n shop logs job/migrate"


def pod(name: str, phase: str = "Running", *containers: Fields, **more: Any) -> Fields:
    metadata = {"name": name, "namespace": "shop", "creationTimestamp": "2027-01-15T07:00:00Z", **more}
    status: Fields = {"phase": phase, "containerStatuses": [*containers]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


def ready(name: str, *containers: Fields) -> Fields:
    found = pod(name, "Running", *containers)
    found["status"]["conditions"] = [condition("Ready", "True")]
    return found


def container(state: Fields, restarts: int = 0, finished_at: str = "") -> Fields:
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": finished_at}} if finished_at else {}
    return {"name": "api", "ready": "running" in state, "restartCount": restarts, "state": state, "lastState": last}


CRASHING = container({"waiting": {"reason": "CrashLoopBackOff"}}, 5, "2027-01-15T07:59:00Z")
NEW = "2027-01-15T07:59:00Z"
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "low memory"}
OF_SET = {"ownerReferences": [{"kind": "ReplicaSet", "name": "api"}]}
OF_JOB = {"ownerReferences": [{"kind": "Job", "name": "load"}]}


def judged(*pods: Fields) -> list[Check]:
    return judge_pods(pods, NOW_S, LIMITS)


@pytest.mark.parametrize(
    ("found", "status", "detail"),
    [
        pytest.param(
            pod("p", "Running", CRASHING),
            "unhealthy",
            "container api: CrashLoopBackOff, 5 restarts, last exit status 137 (OOMKilled)",
            id="crashing",
        ),
        pytest.param(
            pod("p", "Pending", container({"waiting": {"reason": "ImagePullBackOff"}}), creationTimestamp=NEW),
            "unhealthy",
            "container api: ImagePullBackOff",
            id="no image, and new",
        ),
        pytest.param(
            pod("p", "Pending", container({"waiting": {"reason": "ContainerCreating"}}), creationTimestamp=NEW),
            "degraded",
            "starts since 60 s: container api: ContainerCreating",
            id="new",
        ),
        pytest.param(
            pod("p", "Pending", container({"waiting": {"reason": "ContainerCreating"}})),
            "unhealthy",
            "container api: ContainerCreating",
            id="starting for an hour",
        ),
        pytest.param(
            {
                **pod("p", "Failed", **OF_SET),
                "status": {"phase": "Failed", "reason": "Evicted", "message": "low memory"},
            },
            "degraded",
            "is left behind: Evicted; low memory",
            id="evicted, and replaced",
        ),
        pytest.param(
            {**pod("p", "Failed"), "status": EVICTED},
            "unhealthy",
            "Evicted; low memory",
            id="evicted, and nobody's",
        ),
        pytest.param(
            pod("p", deletionTimestamp="2027-01-15T07:00:00Z"),
            "degraded",
            "should have ended 60 min ago, but still exists",
            id="does not end",
        ),
        pytest.param(
            ready("p", container({"running": {}}, 2, "2027-01-15T07:55:00Z")),
            "degraded",
            "Ready, container api: running, 2 restarts, last exit status 137 (OOMKilled), 5 min ago",
            id="killed lately",
        ),
    ],
)
def test_a_pod_that_is_not_well_is_named(found: Fields, status: str, detail: str) -> None:
    checks = {check.name: check for check in judged(found, ready("other"))}
    assert (checks["pods/shop/p"].status, checks["pods/shop/p"].detail) == (status, detail)
    assert checks["pods/shop/p"].remedy.startswith("kubectl -n shop ")
    assert checks["pods/shop"].detail in ("1 of 2 are healthy", "1 of 1 are healthy")


@pytest.mark.parametrize(
    "found",
    [
        pod("p", "Succeeded"),
        pod("p", "Failed", **OF_JOB),
        pod("p", deletionTimestamp=NEW),
        ready("p", container({"running": {}}, 2, "2027-01-15T01:00:00Z")),
    ],
)
def test_a_pod_that_has_ended_or_crashed_long_ago_is_no_concern(found: Fields) -> None:
    (check,) = judged(found)
    assert (check.name, check.status) == ("pods/shop", "healthy")
