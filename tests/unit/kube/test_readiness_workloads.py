# SPDX-License-Identifier: GPL-3.0-or-later
"""Readiness of workloads, permanent failures, and messages of a wait."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.readiness import status
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.verdict import (
    Failed,
    Ready,
    Status,
    Waiting,
)

NOW_S = 1_800_000_000.0
Fields = dict[str, Any]


def condition(type_: str, is_true: bool, reason: str = "", message: str = "") -> Fields:
    return {"type": type_, "status": str(is_true), "reason": reason, "message": message}


def workload(kind: str, spec: Fields, said: Fields, generation: int = 2, group: str = "apps/v1") -> Status:
    """Return the verdict on a workload whose controller has observed generation 2."""
    said = {"observedGeneration": 2, **said}
    metadata = {"name": "api", "namespace": "shop", "generation": generation}
    return status({"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec, "status": said}, NOW_S)


def counts(total: int, updated: int, available: int) -> Fields:
    return {"replicas": total, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available}


DEADLINE = condition(
    "Progressing", False, "ProgressDeadlineExceeded", 'ReplicaSet "api-7d4b9" has timed out progressing.'
)
QUOTA = condition("ReplicaFailure", True, "FailedCreate", 'pods "api-7d4b9-" is forbidden: exceeded quota: compute')


@pytest.mark.parametrize(
    ("spec", "said", "expected"),
    [
        pytest.param(
            {"replicas": 3},
            {**counts(4, 3, 2), "conditions": [DEADLINE]},
            Failed(
                "1 old pod is still to be stopped, no progress within 600 s "
                '(ProgressDeadlineExceeded: ReplicaSet "api-7d4b9" has timed out progressing.)'
            ),
            id="no progress",
        ),
        pytest.param(
            {"replicas": 3, "progressDeadlineSeconds": 60},
            {"conditions": [DEADLINE, QUOTA]},
            Failed(
                "0 of 3 pods updated, no progress within 60 s; "
                'FailedCreate: pods "api-7d4b9-" is forbidden: exceeded quota: compute '
                '(ProgressDeadlineExceeded: ReplicaSet "api-7d4b9" has timed out progressing.)'
            ),
            id="no progress, since pods are refused",
        ),
        pytest.param(
            {"replicas": 3},
            {"conditions": [condition("Progressing", True, "ReplicaSetUpdated"), QUOTA]},
            Waiting('0 of 3 pods updated; FailedCreate: pods "api-7d4b9-" is forbidden: exceeded quota: compute'),
            id="pods are refused, and the quota may grow",
        ),
        pytest.param({"replicas": 3}, counts(3, 1, 3), Waiting("1 of 3 pods updated"), id="rolling"),
        pytest.param({"replicas": 3}, counts(5, 3, 5), Waiting("2 old pods are still to be stopped"), id="surge"),
        pytest.param({"replicas": 3}, counts(3, 3, 2), Waiting("2 of 3 pods available"), id="not available"),
        pytest.param({}, counts(0, 0, 0), Waiting("0 of 1 pod updated"), id="replicas by default"),
        pytest.param(
            {"replicas": 2, "paused": True},
            {**counts(2, 0, 2), "conditions": [DEADLINE]},
            Waiting("0 of 2 pods updated; the rollout is paused (spec.paused), resume it: kubectl rollout resume"),
            id="paused half way",
        ),
        pytest.param({"replicas": 2, "paused": True}, counts(2, 2, 2), Ready(), id="paused when all was done"),
        pytest.param({"replicas": 3}, {**counts(3, 3, 3), "conditions": [DEADLINE]}, Ready(), id="late, and done"),
        pytest.param({"replicas": 0}, {}, Ready(), id="scaled to nothing"),
        pytest.param({}, counts(1, 1, 1), Ready(), id="one"),
    ],
)
def test_a_deployment(spec: Fields, said: Fields, expected: Status) -> None:
    assert workload("Deployment", spec, said) == expected


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"])
def test_nothing_is_believed_before_the_controller_has_seen_the_newest_specification(kind: str) -> None:
    said = {**counts(1, 1, 1), "conditions": [DEADLINE], "desiredNumberScheduled": 0}
    assert workload(kind, {"replicas": 1}, said, generation=3) == Waiting(
        "its controller has not seen the newest specification yet (generation 2 of 3)"
    )


def revisions(current: str, newest: str) -> Fields:
    return {"currentRevision": current, "updateRevision": newest}


ROLLS = revisions("db-6f", "db-7c")
STAYS = revisions("db-7c", "db-7c")


@pytest.mark.parametrize(
    ("spec", "said", "expected"),
    [
        pytest.param({"replicas": 3}, {**counts(3, 1, 2), **ROLLS}, Waiting("1 of 3 pods updated"), id="rolling"),
        pytest.param({"replicas": 3}, {**counts(3, 3, 2), **STAYS}, Waiting("2 of 3 pods ready"), id="not ready"),
        pytest.param(
            {"replicas": 3, "minReadySeconds": 10},
            {**counts(3, 3, 3), "availableReplicas": 1, **STAYS},
            Waiting("1 of 3 pods available"),
            id="ready, and not for long enough",
        ),
        pytest.param(
            {"replicas": 1}, {**counts(3, 3, 3), **STAYS}, Waiting("2 more pods than wanted"), id="scaled down"
        ),
        pytest.param(
            {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}},
            {**counts(3, 1, 3), **ROLLS},
            Waiting("1 of 2 pods updated"),
            id="partition, rolling",
        ),
        pytest.param(
            {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
            {**counts(3, 1, 3), **ROLLS},
            Ready("2 of 3 pods keep the old revision (partition)"),
            id="partition, done",
        ),
        pytest.param(
            {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 9}}},
            {**counts(3, 0, 3), **ROLLS},
            Ready("3 of 3 pods keep the old revision (partition)"),
            id="partition above the replicas",
        ),
        pytest.param(
            {"replicas": 3, "updateStrategy": {"type": "OnDelete"}},
            {**counts(3, 1, 3), **ROLLS},
            Ready("2 of 3 pods keep the old revision until they are deleted (OnDelete)"),
            id="OnDelete, which nobody rolls",
        ),
        pytest.param(
            {"replicas": 3, "updateStrategy": {"type": "OnDelete"}},
            {**counts(3, 1, 1), **ROLLS},
            Waiting("1 of 3 pods ready"),
            id="OnDelete, not ready",
        ),
        pytest.param({"replicas": 3}, {**counts(3, 3, 3), **STAYS}, Ready(), id="done"),
        pytest.param({"replicas": 2}, {"readyReplicas": 2, **STAYS}, Ready(), id="a server that counts no available"),
        pytest.param({"replicas": 0}, STAYS, Ready(), id="scaled to nothing"),
    ],
)
def test_a_stateful_set(spec: Fields, said: Fields, expected: Status) -> None:
    assert workload("StatefulSet", spec, said) == expected


def on_nodes(wanted: int, updated: int, available: int) -> Fields:
    return {"desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": available}


@pytest.mark.parametrize(
    ("spec", "said", "expected"),
    [
        pytest.param({}, on_nodes(4, 2, 4), Waiting("2 of 4 pods updated"), id="rolling"),
        pytest.param({}, on_nodes(4, 4, 3), Waiting("3 of 4 pods available"), id="not available"),
        pytest.param({}, {}, Ready("no node that it would run on"), id="no node"),
        pytest.param({}, on_nodes(4, 4, 4), Ready(), id="done"),
        pytest.param(
            {"updateStrategy": {"type": "OnDelete"}},
            on_nodes(4, 1, 4),
            Ready("3 of 4 pods keep the old template until they are deleted (OnDelete)"),
            id="OnDelete",
        ),
    ],
)
def test_a_daemon_set(spec: Fields, said: Fields, expected: Status) -> None:
    assert workload("DaemonSet", spec, said) == expected


def test_a_replica_set_is_ready_when_its_pods_are_available() -> None:
    assert workload("ReplicaSet", {"replicas": 2}, {"availableReplicas": 1, "conditions": [QUOTA]}) == Waiting(
        '1 of 2 pods available; FailedCreate: pods "api-7d4b9-" is forbidden: exceeded quota: compute'
    )
    assert workload("ReplicaSet", {"replicas": 2}, {"availableReplicas": 2}) == Ready()
    assert workload("ReplicationController", {}, {"availableReplicas": 1}, group="v1") == Ready()


BACKOFF = condition("Failed", True, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
POLICY = condition("FailureTarget", True, "PodFailurePolicy", "Container migrate failed with exit code 42")


@pytest.mark.parametrize(
    ("spec", "said", "expected"),
    [
        pytest.param(
            {},
            {"failed": 7, "conditions": [BACKOFF]},
            Failed("BackoffLimitExceeded: Job has reached the specified backoff limit"),
            id="given up",
        ),
        pytest.param(
            {},
            {"active": 1, "failed": 1, "conditions": [POLICY]},
            Failed("PodFailurePolicy: Container migrate failed with exit code 42"),
            id="going to be given up, with a pod still running",
        ),
        pytest.param(
            {"suspend": True},
            {"conditions": [condition("Suspended", True, "JobSuspended", "Job suspended")]},
            Waiting("is suspended (spec.suspend) and does not run"),
            id="suspended",
        ),
        pytest.param({}, {"active": 1}, Waiting("runs, 0 of 1 pod succeeded"), id="runs"),
        pytest.param(
            {"backoffLimit": 2},
            {"active": 1, "failed": 2},
            Waiting("runs, 0 of 1 pod succeeded; 2 of 3 attempts have failed"),
            id="runs again",
        ),
        pytest.param(
            {},
            {"failed": 1},
            Waiting("no pod of it runs, 0 of 1 pod succeeded; 1 of 7 attempts have failed"),
            id="between two attempts",
        ),
        pytest.param(
            {"completions": 4, "parallelism": 2},
            {"active": 2, "succeeded": 2},
            Waiting("runs, 2 of 4 pods succeeded"),
            id="half of it",
        ),
        pytest.param({}, {}, Waiting("no pod of it runs, 0 of 1 pod succeeded"), id="new"),
        pytest.param(
            {},
            {"succeeded": 1, "conditions": [condition("Complete", True, "CompletionsReached")]},
            Ready("has ended with success"),
            id="done",
        ),
        pytest.param(
            {"suspend": True},
            {"succeeded": 1, "conditions": [condition("Complete", True)]},
            Ready("has ended with success"),
            id="done, and suspended afterwards",
        ),
    ],
)
def test_a_job(spec: Fields, said: Fields, expected: Status) -> None:
    assert workload("Job", spec, said, group="batch/v1") == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(
            {"observedGeneration": "2", "phase": "Degraded", "message": "RolloutAborted: metric failed"},
            Failed("is degraded: RolloutAborted: metric failed"),
            id="degraded",
        ),
        pytest.param(
            {"observedGeneration": "2", "phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 1},
            Waiting(
                "is paused at step 2: CanaryPauseStep; promote it when it is healthy: kubectl argo rollouts promote"
            ),
            id="paused",
        ),
        pytest.param(
            {"observedGeneration": "2", "phase": "Progressing", "message": "more replicas need to be updated"},
            Waiting("Progressing: more replicas need to be updated, 0 of 2 pods available"),
            id="progressing",
        ),
        pytest.param(
            {"observedGeneration": "1", "phase": "Healthy"},
            Waiting("its controller has not seen the newest specification yet (generation 1 of 2)"),
            id="healthy before the change",
        ),
        pytest.param(
            {"observedGeneration": ""},
            Waiting("its controller has not seen the newest specification yet (generation 0 of 2)"),
            id="new",
        ),
        pytest.param({"observedGeneration": "7dbf84c5b8", "phase": "Healthy"}, Ready(), id="an old controller's hash"),
        pytest.param({"observedGeneration": "2", "phase": "Healthy"}, Ready(), id="healthy"),
    ],
)
def test_a_rollout(said: Fields, expected: Status) -> None:
    assert workload("Rollout", {"replicas": 2}, said, group="argoproj.io/v1alpha1") == expected
