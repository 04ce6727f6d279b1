# SPDX-License-Identifier: GPL-3.0-or-later
"""Immutable fields of each kind, and the method that changes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.immutable import Fixed, fixed

Fields = dict[str, Any]
MANAGER = "crypto-lakehouse"


def stateful_set() -> Fields:
    template = {
        "metadata": {"name": "data", "labels": {"app": "db"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
    }
    return obj(
        "apps/v1",
        "StatefulSet",
        spec={
            "replicas": 1,
            "serviceName": "db",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"spec": {"containers": [{"name": "db", "image": "db:1"}]}},
            "volumeClaimTemplates": [template],
        },
    )


def obj(api_version: str, kind: str, **content: Any) -> Fields:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "it", "namespace": "shop"}, **content}


def live(desired: Fields) -> Fields:
    """Return an object as the server returns it after an apply: with defaults."""
    found = copy.deepcopy(desired)
    for template in (found.get("spec") or {}).get("volumeClaimTemplates") or ():
        template |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Pending"}}
        template["metadata"]["creationTimestamp"] = None
        template["spec"]["volumeMode"] = "Filesystem"
    found["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    return found


def changed(desired: Fields, path: str, value: Any) -> Fields:
    found = copy.deepcopy(desired)
    *parents, last = path.split(".")
    place: Any = found
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return found


def judged(before: Fields, desired: Fields) -> Fixed | None:
    return fixed(live(before), desired, MANAGER)


CLAIM = "spec.volumeClaimTemplates.0.spec"
ANOTHER = {"metadata": {"name": "logs"}, "spec": {"accessModes": ["ReadWriteOnce"]}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", 3),
        ("spec.template.spec.containers", []),
        ("spec.updateStrategy", {"type": "OnDelete"}),
        ("spec.minReadySeconds", 5),
        ("spec.persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Delete"}),
        ("spec.ordinals", {"start": 1}),
        ("metadata.labels", {"a": "b"}),
        (f"{CLAIM}.resources.requests.storage", "5120Mi"),
        (f"{CLAIM}.volumeMode", "Filesystem"),
    ],
)
def test_a_mutable_field_is_left_to_the_server(path: str, value: Any) -> None:
    assert judged(stateful_set(), changed(stateful_set(), path, value)) is None


@pytest.mark.parametrize(
    ("path", "value", "method"),
    [
        (f"{CLAIM}.resources.requests.storage", "10Gi", "orphan"),
        (f"{CLAIM}.storageClassName", "fast", "orphan"),
        (f"{CLAIM}.accessModes", ["ReadWriteMany"], "orphan"),
        ("spec.volumeClaimTemplates.0.metadata.labels", {"app": "other"}, "orphan"),
        ("spec.volumeClaimTemplates", [], "orphan"),
        ("spec.podManagementPolicy", "OrderedReady", "orphan"),
        ("spec.revisionHistoryLimit", 2, "orphan"),
        ("spec.serviceName", "db-pods", "replace"),
        ("spec.selector.matchLabels", {"app": "other"}, "replace"),
        ("spec.volumeClaimTemplates", [*stateful_set()["spec"]["volumeClaimTemplates"], ANOTHER], "replace"),
    ],
)
def test_a_stateful_set_keeps_its_pods_where_they_fit_the_new_one(path: str, value: Any, method: str) -> None:
    found = judged(stateful_set(), changed(stateful_set(), path, value))

    assert found is not None
    assert found.method == method


def test_a_class_that_leaves_the_template_is_a_change() -> None:
    before = changed(stateful_set(), f"{CLAIM}.storageClassName", "fast")

    assert judged(before, stateful_set()) is not None


def test_a_set_that_takes_its_volumes_along_is_not_deleted_with_its_pods() -> None:
    before = changed(stateful_set(), "spec.persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Delete"})
    pods = judged(before, changed(before, "spec.serviceName", "other"))
    grown = judged(before, changed(before, f"{CLAIM}.resources.requests.storage", "10Gi"))

    assert pods is not None
    assert pods.method == "refuse"
    assert grown is not None
    assert grown.method == "orphan"


@pytest.mark.parametrize(
    ("before", "path", "value", "method"),
    [
        (obj("apps/v1", "Deployment", spec={"selector": {"matchLabels": {"a": "1"}}}),
         "spec.selector.matchLabels.a", "2", "replace"),
        (obj("batch/v1", "Job", spec={"template": {"spec": {"restartPolicy": "Never"}}}),
         "spec.template.spec.restartPolicy", "OnFailure", "replace"),
        (obj("v1", "Service", spec={"clusterIP": "10.0.0.1"}), "spec.clusterIP", "None", "replace"),
        (obj("v1", "Service", spec={"ipFamilies": ["IPv4"]}), "spec.ipFamilies", ["IPv6"], "replace"),
        (obj("v1", "Secret", type="Opaque"), "type", "kubernetes.io/tls", "replace"),
        (obj("v1", "ConfigMap", immutable=True, data={"a": "1"}), "data.a", "2", "replace"),
        (obj("rbac.authorization.k8s.io/v1", "RoleBinding", roleRef={"name": "a"}), "roleRef.name", "b", "replace"),
        (obj("scheduling.k8s.io/v1", "PriorityClass", value=1), "value", 2, "replace"),
        (obj("storage.k8s.io/v1", "StorageClass", reclaimPolicy="Delete"), "reclaimPolicy", "Retain", "replace"),
        (obj("v1", "PersistentVolumeClaim", spec={"storageClassName": "a"}), "spec.storageClassName", "b", "refuse"),
        (obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", spec={"scope": "Cluster"}), "spec.scope",
         "Namespaced", "refuse"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) and "kind" in value else None,
)  # fmt: skip
def test_other_kinds_are_replaced_unless_data_would_go(before: Fields, path: str, value: Any, method: str) -> None:
    found = judged(before, changed(before, path, value))

    assert found is not None
    assert found.method == method
    assert judged(before, before) is None


@pytest.mark.parametrize(
    ("before", "path", "value"),
    [
        (obj("v1", "ConfigMap", data={"a": "1"}), "data.a", "2"),
        (obj("batch/v1", "Job", spec={"parallelism": 1}), "spec.parallelism", 0),
        (obj("v1", "PersistentVolumeClaim", spec={"resources": {"requests": {"storage": "1Gi"}}}),
         "spec.resources.requests.storage", "2Gi"),
        (obj("apps/v1", "Deployment", spec={"replicas": 1}), "spec.replicas", 2),
        (obj("example.org/v1", "Lamp", spec={"selector": {"a": "1"}}), "spec.selector.a", "2"),
    ],
)  # fmt: skip
def test_a_field_that_may_change_is_not_in_the_table(before: Fields, path: str, value: Any) -> None:
    assert judged(before, changed(before, path, value)) is None


def test_a_service_that_is_to_have_an_address_again_is_replaced_without_asking_the_server() -> None:
    before = obj("v1", "Service", spec={"clusterIP": "None"})
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:clusterIP": {}}}}
    before["metadata"]["managedFields"] = [entry]
    found = fixed(before, obj("v1", "Service", spec={"ports": []}), MANAGER)

    assert found is not None
    assert found.is_certain
    assert fixed(before, obj("v1", "Service", spec={"ports": []}), "another") is None


@pytest.mark.parametrize(("adopted", "expected"), [((), None), (("older",), "data.b")])
def test_a_key_that_an_adopted_manager_applied_is_given_up(adopted: tuple[str, ...], expected: str | None) -> None:
    before = obj("v1", "ConfigMap", immutable=True, data={"a": "1", "b": "2"})
    entry = {"manager": "older", "operation": "Apply", "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}}}
    before["metadata"]["managedFields"] = [entry]
    found = fixed(before, obj("v1", "ConfigMap", immutable=True, data={"a": "1"}), MANAGER, adopted)
    assert (found and found.changes[0].path) == expected


def test_a_selector_is_given_up_as_a_whole() -> None:
    before = obj("apps/v1", "Deployment", spec={"selector": {"matchLabels": {"app": "a", "tier": "x"}}})
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:selector": {}}}}
    before["metadata"]["managedFields"] = [entry]
    found = fixed(before, obj("apps/v1", "Deployment", spec={"selector": {"matchLabels": {"app": "a"}}}), MANAGER)
    assert found is not None
    assert [change.path for change in found.changes] == ["spec.selector.matchLabels.tier"]
