# SPDX-License-Identifier: GPL-3.0-or-later
"""Readiness of objects, permanent failures, and messages of a wait; any JSON has a verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.readiness import PREDICATES, status
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.verdict import (
    Failed,
    Ready,
    Status,
    Waiting,
    seconds,
)
from tests.sweep import examples

NOW_S = 1_800_000_000.0
Fields = dict[str, Any]
LATE = ["gp3"]


def condition(type_: str, is_true: bool, reason: str = "", message: str = "", **more: Any) -> Fields:
    return {"type": type_, "status": str(is_true), "reason": reason, "message": message, **more}


def thing(group: str, kind: str, spec: Fields, said: Fields, **metadata: Any) -> Fields:
    metadata = {"name": "it", "namespace": "shop", **metadata}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec, "status": said}


def of_kind(group: str, kind: str, spec: Fields, said: Fields, **metadata: Any) -> Status:
    return status(thing(group, kind, spec, said, **metadata), NOW_S, LATE)


@pytest.mark.parametrize(
    ("spec", "said", "annotations", "expected"),
    [
        pytest.param(
            {"storageClassName": "gp3", "volumeName": "pvc-1"},
            {"phase": "Lost"},
            {},
            Failed("the volume that it was bound to (pvc-1) is gone"),
            id="lost",
        ),
        pytest.param(
            {"storageClassName": "gp3"},
            {"phase": "Pending"},
            {},
            Ready("is bound later, when the first pod that uses it is scheduled (WaitForFirstConsumer)"),
            id="waits for its first pod",
        ),
        pytest.param(
            {"storageClassName": "gp3"},
            {"phase": "Pending"},
            {"volume.kubernetes.io/selected-node": "node-1"},
            Waiting("a volume is being made for node node-1"),
            id="its first pod is there",
        ),
        pytest.param(
            {"storageClassName": "nfs"},
            {"phase": "Pending"},
            {},
            Waiting("no volume is bound to it yet (storage class nfs)"),
            id="bound at once, and not yet",
        ),
        pytest.param(
            {},
            {"phase": "Pending"},
            {},
            Waiting("no volume is bound to it yet (there is no default storage class)"),
            id="no default class",
        ),
        pytest.param(
            {"storageClassName": ""},
            {"phase": "Pending"},
            {},
            Waiting("no volume is bound to it yet (no storage class: create a volume manually)"),
            id="no class on purpose",
        ),
        pytest.param({"storageClassName": "gp3", "volumeName": "pvc-1"}, {"phase": "Bound"}, {}, Ready(), id="bound"),
    ],
)
def test_a_volume_claim(spec: Fields, said: Fields, annotations: Fields, expected: Status) -> None:
    assert of_kind("v1", "PersistentVolumeClaim", spec, said, annotations=annotations) == expected


RESIZING = condition("Resizing", True)
PENDING = condition("FileSystemResizePending", True, "", "Waiting for user to (re-)start a pod")
REFUSED = condition("ControllerResizeError", True, "", "volume is in use")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Waiting("expansion from 5Gi to 10Gi: no storage driver has begun it")),
        ({"conditions": [RESIZING]}, Waiting("expansion from 5Gi to 10Gi: the storage driver is resizing it")),
        (
            {"conditions": [RESIZING, REFUSED]},
            Waiting("expansion from 5Gi to 10Gi: the storage driver is resizing it; volume is in use"),
        ),
        (
            {"conditions": [PENDING]},
            Waiting(
                "expansion from 5Gi to 10Gi: the volume has the size, its file system gets it on the node of its pod "
                "(Waiting for user to (re-)start a pod)"
            ),
        ),
        (
            {"allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"}, "conditions": [REFUSED]},
            Failed("expansion from 5Gi to 10Gi cannot be carried out: ControllerResizeInfeasible; volume is in use"),
        ),
        ({"capacity": {"storage": "10240Mi"}}, Ready()),
        ({"capacity": {}}, Ready()),
    ],
)
def test_a_volume_claim_that_is_expanded(said: Fields, expected: Status) -> None:
    spec = {"volumeName": "pvc-1", "resources": {"requests": {"storage": "10Gi"}}}
    whole = {"phase": "Bound", "capacity": {"storage": "5Gi"}, **said}

    assert of_kind("v1", "PersistentVolumeClaim", spec, whole) == expected


@pytest.mark.parametrize(
    ("spec", "said", "expected"),
    [
        ({"type": "LoadBalancer"}, {"loadBalancer": {}}, Waiting("the load balancer has no address yet")),
        (
            {"type": "LoadBalancer"},
            {"loadBalancer": {"ingress": [{"ports": []}]}},
            Waiting("the load balancer has no address yet"),
        ),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}, Ready()),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}, Ready()),
        ({"type": "LoadBalancer", "externalIPs": ["203.0.113.7"]}, {}, Ready()),
        ({"type": "ClusterIP"}, {"loadBalancer": {}}, Ready()),
        ({"type": "ExternalName"}, {}, Ready()),
    ],
)
def test_a_service(spec: Fields, said: Fields, expected: Status) -> None:
    assert of_kind("v1", "Service", spec, said) == expected


@pytest.mark.parametrize(
    ("spec", "said", "expected"),
    [
        ({"ingressClassName": "alb"}, {}, Waiting("has no address yet: no controller of class alb took it")),
        ({}, {"loadBalancer": {"ingress": []}}, Waiting("has no address yet: no controller took it")),
        ({}, {"loadBalancer": {"ingress": [{"hostname": "k8s-shop.elb.example.com"}]}}, Ready()),
    ],
)
def test_an_ingress(spec: Fields, said: Fields, expected: Status) -> None:
    assert of_kind("networking.k8s.io/v1", "Ingress", spec, said) == expected


TAKEN = condition("NamesAccepted", False, "PluralConflict", '"rollouts" is already in use')


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            [TAKEN, condition("Established", False, "NotAccepted", "not all names are accepted")],
            Failed('its names are taken: PluralConflict: "rollouts" is already in use'),
        ),
        (
            [condition("NamesAccepted", True), condition("Established", False, "Installing", "being established")],
            Waiting("is not established yet: Installing: being established"),
        ),
        ([], Waiting("is not established yet")),
        ([condition("NamesAccepted", True), condition("Established", True)], Ready()),
    ],
)
def test_a_custom_resource_definition(found: list[Fields], expected: Status) -> None:
    assert of_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", {}, {"conditions": found}) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            [condition("Available", False, "MissingEndpoints", 'endpoints for service "metrics" have no addresses')],
            Waiting('is not available: MissingEndpoints: endpoints for service "metrics" have no addresses'),
        ),
        ([], Waiting("is not available yet")),
        ([condition("Available", True, "Passed")], Ready()),
    ],
)
def test_an_api_service(found: list[Fields], expected: Status) -> None:
    assert of_kind("apiregistration.k8s.io/v1", "APIService", {}, {"conditions": found}) == expected


ABLE = condition("AbleToScale", True, "SucceededGetScale")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            [ABLE, condition("ScalingActive", False, "FailedGetResourceMetric", "no metrics returned")],
            Waiting("has no metrics: FailedGetResourceMetric: no metrics returned"),
        ),
        (
            [condition("AbleToScale", False, "FailedGetScale", 'deployments.apps "api" not found')],
            Waiting('cannot scale: FailedGetScale: deployments.apps "api" not found'),
        ),
        ([ABLE, condition("ScalingActive", False, "ScalingDisabled")], Ready("its target is scaled to 0")),
        ([], Waiting("has not read its metrics yet")),
        ([ABLE, condition("ScalingActive", True), condition("ScalingLimited", True, "TooFewReplicas")], Ready()),
    ],
)
def test_a_horizontal_pod_autoscaler(found: list[Fields], expected: Status) -> None:
    assert of_kind("autoscaling/v2", "HorizontalPodAutoscaler", {}, {"conditions": found}) == expected


@pytest.mark.parametrize("kind", ["Prometheus", "Alertmanager", "PrometheusAgent", "ThanosRuler"])
@pytest.mark.parametrize(
    ("spec", "found", "expected"),
    [
        (
            {"replicas": 2},
            [
                condition("Available", False, "SomePodsNotReady", "shard 0: pod 1: 0/3 nodes are available"),
                condition("Reconciled", True),
            ],
            Waiting("SomePodsNotReady: shard 0: pod 1: 0/3 nodes are available, 0 of 2 pods available"),
        ),
        (
            {},
            [condition("Available", True), condition("Reconciled", False, "ReconciliationFailed", "no such Secret")],
            Waiting("the operator cannot put it in force: ReconciliationFailed: no such Secret"),
        ),
        (
            {},
            [condition("Available", True), condition("Reconciled", True, observedGeneration=3)],
            Waiting("its controller has not seen the newest specification yet (generation 3 of 4)"),
        ),
        (
            {"paused": True},
            [],
            Waiting("the operator has not processed it yet; its operator ignores it (spec.paused)"),
        ),
        ({}, [], Waiting("the operator has not processed it yet")),
        (
            {"paused": True},
            [condition("Available", True, observedGeneration=3), condition("Reconciled", True, observedGeneration=3)],
            Ready(),
        ),
        ({}, [condition("Available", True), condition("Reconciled", True, observedGeneration=4)], Ready()),
    ],
)
def test_what_the_operator_of_prometheus_runs(kind: str, spec: Fields, found: list[Fields], expected: Status) -> None:
    assert of_kind("monitoring.coreos.com/v1", kind, spec, {"conditions": found}, generation=4) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"phase": "Cluster is unrecoverable and needs manual intervention", "readyInstances": 0},
            Failed("Cluster is unrecoverable and needs manual intervention"),
        ),
        (
            {"phase": "Failing over", "phaseReason": "Failing over from pg-1 to pg-2", "readyInstances": 2},
            Waiting("Failing over: Failing over from pg-1 to pg-2, 2 of 3 instances ready"),
        ),
        ({"phase": "Cluster in healthy state", "readyInstances": 2}, Waiting("2 of 3 instances ready")),
        (
            {
                "phase": "Cluster in healthy state",
                "readyInstances": 3,
                "conditions": [condition("Ready", False, "ClusterIsNotReady", "Cluster Is Not Ready")],
            },
            Waiting("not ready: ClusterIsNotReady: Cluster Is Not Ready"),
        ),
        ({}, Waiting("the operator has not processed it yet, 0 of 3 instances ready")),
        (
            {"phase": "Cluster in healthy state", "readyInstances": 3, "conditions": [condition("Ready", True)]},
            Ready(),
        ),
    ],
)
def test_a_postgresql_cluster(said: Fields, expected: Status) -> None:
    assert of_kind("postgresql.cnpg.io/v1", "Cluster", {"instances": 3}, said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"conditions": [condition("Stalled", True, "Failed", "no such chart"), condition("Ready", False)]},
            Failed("is stalled: Failed: no such chart"),
        ),
        (
            {"conditions": [condition("Reconciling", True, "Progressing", "fetching")]},
            Waiting("Progressing: fetching"),
        ),
        ({"conditions": [condition("Ready", False, "Issuing", "no issuer")]}, Waiting("not ready: Issuing: no issuer")),
        ({"conditions": [{"type": "Ready", "status": "Unknown"}]}, Waiting("not ready: Ready is Unknown")),
        ({"conditions": [condition("Available", False)]}, Waiting("not available: Available is False")),
        (
            {"conditions": [condition("Ready", True, observedGeneration=1)]},
            Waiting("its controller has not seen the newest specification yet (generation 1 of 2)"),
        ),
        (
            {"observedGeneration": 1, "conditions": [condition("Ready", True)]},
            Waiting("its controller has not seen the newest specification yet (generation 1 of 2)"),
        ),
        ({"conditions": [condition("Ready", True), condition("Available", False)]}, Ready()),
        ({"conditions": [condition("Synced", False)]}, Ready()),
        ({}, Ready()),
    ],
)
def test_a_kind_that_nothing_is_known_of(said: Fields, expected: Status) -> None:
    assert of_kind("example.com/v1", "Thing", {}, said, generation=2) == expected


def test_a_namespace_is_ready_when_it_is_active() -> None:
    assert of_kind("v1", "Namespace", {}, {"phase": "Terminating"}) == Waiting("is Terminating")
    assert of_kind("v1", "Namespace", {}, {}) == Waiting("is not active yet")
    assert of_kind("v1", "Namespace", {}, {"phase": "Active"}) == Ready()


@pytest.mark.parametrize(("group", "kind"), sorted(PREDICATES))
def test_what_is_being_deleted_is_never_ready(group: str, kind: str) -> None:
    leaving = of_kind(
        f"{group}/v1" if group else "v1",
        kind,
        {},
        {"phase": "Bound"},
        deletionTimestamp="2027-01-15T07:59:18Z",
        finalizers=["kubernetes.io/pvc-protection"],
    )
    assert leaving == Waiting("is being deleted for 42 s, held by kubernetes.io/pvc-protection")


def test_every_version_of_a_kind_is_judged_alike() -> None:
    for version in ("v1", "v1beta1", "v9"):
        assert isinstance(of_kind(f"apps/{version}", "Deployment", {}, {}), Waiting)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2027-01-15T08:00:00Z", NOW_S),
        ("2027-01-15T09:00:00.000000+01:00", NOW_S),
        ("yesterday", None),
        (None, None),
        (12, None),
    ],
)
def test_a_time_is_read_or_is_none(timestamp: object, expected: float | None) -> None:
    assert seconds(timestamp) == expected


NAMES = """
    status spec metadata conditions type reason message phase replicas updatedReplicas availableReplicas
    generation observedGeneration True False Ready Available Failed Complete Progressing containerStatuses state
    waiting running terminated exitCode restartCount loadBalancer ingress deletionTimestamp finalizers paused
    suspend lastState name Running Pending updateStrategy rollingUpdate partition readinessGates annotations
    initContainerStatuses
"""
WORDS = st.sampled_from(NAMES.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=6), inner, max_size=6),
    max_leaves=30,
)


@settings(max_examples=examples(400))
@given(
    kind=st.sampled_from([*sorted(PREDICATES), ("example.com", "Thing")]),
    content=st.dictionaries(WORDS, JSON, max_size=5),
)
def test_of_any_object_something_is_said_in_one_line(kind: tuple[str, str], content: Fields) -> None:
    group, name = kind
    said = status({**content, "apiVersion": f"{group}/v1" if group else "v1", "kind": name}, NOW_S, LATE)
    assert isinstance(said, Ready | Waiting | Failed)
    if not isinstance(said, Ready):
        assert said.reason


@settings(max_examples=examples(200))
@given(
    wanted=st.integers(0, 6),
    updated=st.integers(0, 6),
    available=st.integers(0, 6),
    total=st.integers(0, 9),
    generation=st.integers(1, 3),
)
def test_a_deployment_is_ready_only_when_every_pod_is_new_and_available(
    wanted: int, updated: int, available: int, total: int, generation: int
) -> None:
    said = {
        "observedGeneration": 2,
        "replicas": total,
        "updatedReplicas": updated,
        "availableReplicas": available,
    }
    obj = thing("apps/v1", "Deployment", {"replicas": wanted}, said, generation=generation)
    is_complete = generation <= 2 and updated >= wanted and total <= updated and available >= wanted
    assert isinstance(status(obj, NOW_S), Ready) == is_complete
    assert status(json.loads(json.dumps(obj)), NOW_S) == status(obj, NOW_S)
