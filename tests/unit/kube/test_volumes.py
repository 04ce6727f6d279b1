# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume claims are kept, expanded or refused when a description changes; sizes are compared as quantities."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.volumes import (
    Verdict,
    Volume,
    compare,
    described,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.quantities import amount

Fields = dict[str, Any]
FAST: Fields = {"metadata": {"name": "fast"}, "allowVolumeExpansion": True}
RIGID: Fields = {"metadata": {"name": "rigid"}}


def volume(size: str = "10Gi", **more: Any) -> Volume:
    return Volume("StatefulSet", "shop", "database", "data", size, **more)


def claim(size: str = "5Gi", storage_class: str = "fast", phase: str = "Bound", **metadata: Any) -> Fields:
    spec: Fields = {"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"]}
    spec |= {"storageClassName": storage_class} if storage_class else {}
    spec |= {"volumeName": "pv-1"} if phase == "Bound" else {}
    head = {"name": "data-database-0", "namespace": "shop", "uid": "u", "resourceVersion": "7", **metadata}
    return {"metadata": head, "spec": spec, "status": {"phase": phase}}


def lost() -> Fields:
    found = claim()
    return {**found, "status": {"phase": "Lost"}}


def verdict(described_as: Volume, found: Fields, former: str = "", classes: Any = (FAST, RIGID)) -> Verdict:
    return compare(described_as, [found], classes, former)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1Gi", 2**30),
        ("0.5Gi", 2**29),
        ("1024Mi", 2**30),
        ("1e3", 1000),
        ("1E", 10**18),
        ("500m", 0.5),
        (7, 7),
        (".5", 0.5),
        ("5.", 5),
        ("", None),
        ("1 Gi", None),
        ("Gi", None),
        (True, None),
        (None, None),
        ("1KiB", None),
    ],
)
def test_an_amount_is_read_as_the_api_reads_it(text: Any, expected: Any) -> None:
    assert amount(text) == expected


@pytest.mark.parametrize(
    ("of_volume", "found", "former", "expected"),
    [
        pytest.param(volume(), claim(), "5Gi", "expand", id="grown"),
        pytest.param(volume(), claim(), "10Gi", "expand", id="a template that grew without its claims"),
        pytest.param(volume("10240Mi"), claim("10Gi"), "10Gi", "none", id="another spelling"),
        pytest.param(volume(), claim("20Gi"), "10Gi", "none", id="expanded by hand"),
        pytest.param(volume("12Gi"), claim("20Gi"), "10Gi", "none", id="grown below what was expanded by hand"),
        pytest.param(volume("5Gi"), claim("10Gi"), "10Gi", "refuse", id="shrunk"),
        pytest.param(volume(), claim(storage_class="rigid"), "5Gi", "refuse", id="class without expansion"),
        pytest.param(volume(), claim(storage_class="gone"), "5Gi", "refuse", id="class that is gone"),
        pytest.param(volume(), claim(storage_class=""), "5Gi", "refuse", id="without a class"),
        pytest.param(volume(storage_class="other"), claim("10Gi"), "10Gi", "refuse", id="another class"),
        pytest.param(volume(access_modes=("ReadWriteMany",)), claim("10Gi"), "10Gi", "refuse", id="access modes"),
        pytest.param(volume(volume_mode="Block"), claim("10Gi"), "10Gi", "refuse", id="volume mode"),
        pytest.param(volume(), claim(phase="Pending"), "5Gi", "recreate", id="has no volume yet"),
        pytest.param(volume(storage_class="b"), claim("10Gi", phase="Pending"), "", "recreate", id="class, no volume"),
        pytest.param(volume("5Gi"), claim(phase="Pending"), "5Gi", "none", id="waits for its volume"),
        pytest.param(volume(), lost(), "5Gi", "refuse", id="lost its volume"),
    ],
)
def test_a_claim_is_compared_with_its_description(of_volume: Volume, found: Fields, former: str, expected: str) -> None:
    said = verdict(of_volume, found, former)

    assert said.action == expected
    assert bool(said.message) == bool(said.remedy) == (expected == "refuse")


def test_a_claim_that_is_going_away_is_left_alone() -> None:
    assert compare(volume(), [claim(deletionTimestamp="2026-01-01T00:00:00Z")], [FAST]) == []


def test_where_classes_may_not_be_read_the_server_decides() -> None:
    assert verdict(volume(), claim(storage_class="rigid"), classes=None).action == "expand"


def test_a_refusal_names_the_claim_the_sizes_and_every_step() -> None:
    said = verdict(volume(), claim(storage_class="rigid"), "5Gi")

    assert said.message == (
        "cannot expand PersistentVolumeClaim shop/data-database-0 (v1) from 5Gi to 10Gi: storage class rigid does not "
        "allow volume expansion"
    )
    assert "kubectl patch storageclass rigid" in said.remedy
    assert "restore the size 5Gi" in said.remedy
    assert "`kubectl -n shop delete statefulset database`" in said.remedy
    assert "`kubectl -n shop delete pvc data-database-0`" in said.remedy


def test_a_claim_that_lost_its_volume_is_not_said_to_hold_data() -> None:
    said = verdict(volume(), lost(), "5Gi")

    assert said.message.endswith("from 5Gi to 10Gi: its volume pv-1 is gone")
    assert said.remedy.startswith("run `kubectl -n shop delete statefulset database` and `kubectl -n shop delete pvc ")
    assert said.remedy.endswith("run again, and restore the data")


def test_claims_of_one_volume_are_refused_with_one_recipe() -> None:
    claims = [claim(storage_class="rigid", name=f"data-database-{number}") for number in (0, 1)]
    remedies = {said.remedy for said in compare(volume(), claims, [FAST], "5Gi")}

    assert len(remedies) == 1
    assert "`kubectl -n shop delete pvc data-database-0 data-database-1`" in remedies.pop()


def test_claims_are_found_by_the_names_and_labels_that_controllers_give_them() -> None:
    labels = {"cnpg.io/cluster": "database", "cnpg.io/pvcRole": "PG_DATA"}
    operated = Volume("Cluster", "shop", "database", "", "10Gi")

    assert operated.owns(claim(name="database-1", labels=labels))
    assert not operated.owns(claim(name="database-1-wal", labels={**labels, "cnpg.io/pvcRole": "PG_WAL"}))
    assert not volume().owns(claim(name="data-database-x"))
    assert not volume().owns(claim(name="data-database-0", namespace="other"))
    assert Volume("PersistentVolumeClaim", "shop", "files", "", "1Gi").owns(claim(name="files"))


@pytest.mark.parametrize(
    ("kind", "template", "name"),
    [
        ("Prometheus", {}, "prometheus-k8s-db-prometheus-k8s-1"),
        ("Prometheus", {}, "prometheus-k8s-db-prometheus-k8s-shard-1-0"),
        ("Prometheus", {"metadata": {"name": "figures"}}, "figures-prometheus-k8s-0"),
        ("PrometheusAgent", {}, "prom-agent-k8s-db-prom-agent-k8s-0"),
        ("Alertmanager", {}, "alertmanager-k8s-db-alertmanager-k8s-2"),
        ("ThanosRuler", {}, "thanos-ruler-k8s-db-thanos-ruler-k8s-0"),
    ],
)
def test_claims_of_prometheus_operator_are_found_by_the_names_of_its_sets(
    kind: str, template: Fields, name: str
) -> None:
    spec = {"storage": {"volumeClaimTemplate": {**template, "spec": claim("10Gi")["spec"]}}}
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "k8s", "namespace": "shop"}}
    (found,) = described([{**head, "spec": spec}])

    assert found.size == "10Gi"
    assert found.owns(claim(name=name))
    assert not found.owns(claim(name=name.replace("k8s-", "k9s-")))
    assert described([{**head, "spec": {}}]) == []
    (grown,) = compare(found, [claim("5Gi", name=name)], [FAST], "10Gi")
    assert grown.action == "expand"
    (refused,) = compare(found, [claim("5Gi", "rigid", name=name)], [FAST], "10Gi")
    plural = {"Prometheus": "prometheuses"}.get(kind, f"{kind.lower()}s")
    assert f"`kubectl -n shop delete {plural}.monitoring.coreos.com k8s`" in refused.remedy
    # Pods keep their current volumes.
    (smaller,) = compare(found, [claim("20Gi", name=name)], [FAST], "20Gi")
    assert smaller.action == "none"


def test_volumes_are_described_by_sets_claims_and_operated_databases() -> None:
    template = {"metadata": {"name": "data"}, "spec": claim("1Gi")["spec"]}
    head = {"metadata": {"name": "it", "namespace": "shop"}}
    found = described(
        [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", **head, "spec": {"volumeClaimTemplates": [template]}},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "files"}, "spec": {}},
            {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", **head, "spec": {"storage": {"size": "2Gi"}}},
            {"apiVersion": "apps/v1", "kind": "Deployment", **head},
        ],
        "other",
    )

    assert [(one.kind, one.namespace, one.workload, one.template, one.size) for one in found] == [
        ("StatefulSet", "shop", "it", "data", "1Gi"),
        ("PersistentVolumeClaim", "other", "files", "", ""),
        ("Cluster", "shop", "it", "", "2Gi"),
    ]
