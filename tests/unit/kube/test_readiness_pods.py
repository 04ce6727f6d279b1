# SPDX-License-Identifier: GPL-3.0-or-later
"""Readiness of pods; the verdict on an unready pod names the container and the kubelet's reason."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.containers import containers
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.readiness import status
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.verdict import (
    Failed,
    Ready,
    Status,
    Waiting,
)

Fields = dict[str, Any]


def container(name: str, state: Fields, restarts: int = 0, last: Fields | None = None, ready: bool = False) -> Fields:
    last_state = {"terminated": last} if last else {}
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state, "lastState": last_state}


def waiting(reason: str, message: str = "") -> Fields:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def of_pod(said: Fields, spec: Fields | None = None) -> Status:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api-0"}, "spec": spec or {}, "status": said}
    return status(pod, 0.0)


RUNS = {"running": {"startedAt": "2027-01-15T07:00:00Z"}}
KILLED = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2027-01-15T07:00:00Z"}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient memory.",
}


@pytest.mark.parametrize(
    ("state", "restarts", "last", "told"),
    [
        pytest.param(
            waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container=api pod=api-0_shop(6f0c)"),
            5,
            {"exitCode": 1, "reason": "Error"},
            "container api: CrashLoopBackOff, 5 restarts, last exit status 1",
            id="CrashLoopBackOff",
        ),
        pytest.param(
            waiting("CrashLoopBackOff"),
            1,
            KILLED,
            "container api: CrashLoopBackOff, 1 restart, last exit status 137 (OOMKilled)",
            id="OOMKilled and restarted",
        ),
        pytest.param(
            waiting("ImagePullBackOff", 'Back-off pulling image "shop/api:9"'),
            0,
            None,
            'container api: ImagePullBackOff: Back-off pulling image "shop/api:9"',
            id="ImagePullBackOff",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", 'secret "api" not found'),
            0,
            None,
            'container api: CreateContainerConfigError: secret "api" not found',
            id="CreateContainerConfigError",
        ),
        pytest.param(
            {"terminated": KILLED}, 2, None, "container api: exit status 137 (OOMKilled), 2 restarts", id="OOMKilled"
        ),
        pytest.param(RUNS, 0, None, "container api: runs, but is not ready", id="probe"),
        pytest.param(waiting("ContainerCreating"), 0, None, "container api: ContainerCreating", id="being made"),
    ],
)
def test_a_container_that_keeps_its_pod_from_being_ready_is_named(
    state: Fields, restarts: int, last: Fields | None, told: str
) -> None:
    well = container("proxy", RUNS, ready=True)
    said = {"phase": "Running", "containerStatuses": [well, container("api", state, restarts, last)]}
    assert of_pod(said) == Waiting(told)


def test_an_init_container_is_called_one() -> None:
    said = {
        "phase": "Pending",
        "initContainerStatuses": [container("migrate", {"terminated": {"exitCode": 3, "reason": "Error"}})],
        "containerStatuses": [container("api", waiting("PodInitializing"))],
    }
    assert of_pod(said) == Waiting("init container migrate: exit status 3")


@pytest.mark.parametrize(
    ("said", "spec", "expected"),
    [
        pytest.param(
            {"phase": "Pending", "conditions": [UNSCHEDULABLE]},
            {},
            Waiting("Unschedulable: 0/3 nodes are available: 3 Insufficient memory."),
            id="unschedulable",
        ),
        pytest.param({"phase": "Pending"}, {}, Waiting("is Pending"), id="pending"),
        pytest.param({}, {}, Waiting("is not seen by a scheduler yet"), id="new"),
        pytest.param(
            {"phase": "Pending", "containerStatuses": [container("api", waiting("InvalidImageName", "cannot parse"))]},
            {},
            Failed("container api: InvalidImageName: cannot parse"),
            id="an image's name that is none",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            {},
            Failed("Evicted; The node was low on resource: memory."),
            id="evicted",
        ),
        pytest.param(
            {"phase": "Failed", "containerStatuses": [container("api", {"terminated": KILLED})]},
            {},
            Failed("container api: exit status 137 (OOMKilled)"),
            id="ended with an error",
        ),
        pytest.param({"phase": "Failed"}, {}, Failed("a container ended with an error"), id="failed without a word"),
        pytest.param(
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}],
                "containerStatuses": [container("api", RUNS, ready=True)],
            },
            {"readinessGates": [{"conditionType": "target-health.elbv2.k8s.aws/shop"}]},
            Waiting("its readiness gate target-health.elbv2.k8s.aws/shop is not open"),
            id="not in the load balancer yet",
        ),
        pytest.param({"phase": "Succeeded"}, {}, Ready("has ended with success"), id="succeeded"),
        pytest.param(
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [container("api", RUNS, 9, KILLED, ready=True)],
            },
            {},
            Ready(),
            id="ready after crashes",
        ),
    ],
)
def test_a_pod(said: Fields, spec: Fields, expected: Status) -> None:
    assert of_pod(said, spec) == expected


def test_a_container_that_waits_after_a_crash_has_its_last_words_in_its_previous_log() -> None:
    crashed = container("api", waiting("CrashLoopBackOff"), 1, KILLED)
    (found,) = containers({"status": {"containerStatuses": [crashed]}})
    assert found.has_crashed
    (found,) = containers({"status": {"containerStatuses": [container("api", RUNS, 1, KILLED)]}})
    assert not found.has_crashed
