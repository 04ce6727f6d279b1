# SPDX-License-Identifier: GPL-3.0-or-later
"""Immutable fields on a real API server: each remedy of a message is carried out.

API server and controllers are real; the node is simulated, with a storage driver that only writes sizes.
"""

from __future__ import annotations

import contextlib
import copy
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.examine import (
    ClusterInstallation,
    examine_cluster,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.immutable import RULES
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE
from tests.integration.kube.applying import Fields, Kind, Shop, actions, one, paths
from tests.integration.kube.charts import ROOT
from tests.integration.kube.cluster import ControlPlane
from tests.integration.kube.hollow import HollowNode
from tests.integration.kube.kubelet import until
from tests.integration.kube.roleplay import PROGRAMS

APPS, RBAC = "/apis/apps/v1", "/apis/rbac.authorization.k8s.io/v1"
STORAGE = "/apis/storage.k8s.io/v1"
IMAGE = "registry.example.com/nothing:1"


def storage_class(name: str, expands: bool) -> Fields:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "example.org/none",
        "allowVolumeExpansion": expands,
    }


@pytest.fixture(scope="module")
def node(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HollowNode]:
    """Return a separate control plane of this file, with a node and two storage classes."""
    cluster = own_plane.start()
    with cluster.client() as client:
        for name, expands in (("elastic", True), ("rigid", False)):
            client.request("POST", f"{STORAGE}/storageclasses", body=storage_class(name, expands))
    with HollowNode(cluster, tmp_path_factory.mktemp("node")).running() as hollow:
        yield hollow


@pytest.fixture
def shop(node: HollowNode) -> Iterator[Shop]:
    name = f"day-two-{uuid.uuid4().hex[:8]}"
    with node.cluster.client() as client:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        client.request("POST", "/api/v1/namespaces", body=body)
        yield Shop(node.cluster, name, client)
        client.request("DELETE", f"/api/v1/namespaces/{name}")


def stateful_set(size: str = "1Gi", storage: str = "elastic", **spec: Any) -> Fields:
    labels = {"app": "db"}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    mounts = [{"name": "data", "mountPath": "/data"}]
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "db", "image": IMAGE, "volumeMounts": mounts}]},
    }
    whole = {
        "replicas": 2,
        "serviceName": "db",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
        "template": template,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {**claim, "storageClassName": storage}}],
        **spec,
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": whole}


def applied(shop: Shop, *manifests: Fields, **options: Any) -> Fields:
    result = shop.run(*manifests, **options)
    assert not result.get("failed"), result["msg"]
    return result


def deploy(shop: Shop, manifest: Fields) -> dict[str, str]:
    """Apply a StatefulSet and return the uids of its pods once they run and their claims are bound."""
    applied(shop, manifest, wait=True)
    until(lambda: {phase(shop, number) for number in (0, 1)} == {"Bound"})
    return uids(shop)


def phase(shop: Shop, number: int) -> str:
    claim = shop.get("persistentvolumeclaims", f"data-db-{number}") or {}
    return str(claim.get("status", {}).get("phase"))


def uids(shop: Shop) -> dict[str, str]:
    pods = shop.client.pages(f"/api/v1/namespaces/{shop.namespace}/pods")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


def owners(shop: Shop) -> set[str]:
    pods = shop.client.pages(f"/api/v1/namespaces/{shop.namespace}/pods")
    return {owner["uid"] for pod in pods for owner in pod["metadata"].get("ownerReferences") or ()}


def size(shop: Shop, number: int = 0) -> str:
    return requested(shop, f"data-db-{number}")


@contextlib.contextmanager
def expanding(node: HollowNode) -> Iterator[None]:
    """Provide a storage driver that gives each claim the requested size."""
    node.expands = True
    try:
        yield
    finally:
        node.expands = False


def test_a_grown_volume_is_expanded_while_its_pods_go_on(shop: Shop, node: HollowNode) -> None:
    before = deploy(shop, stateful_set())
    planned = shop.run(stateful_set("2Gi"), check=True)
    assert actions(planned) == {
        "StatefulSet db": "replace",
        "PersistentVolumeClaim data-db-0": "update",
        "PersistentVolumeClaim data-db-1": "update",
    }
    assert size(shop) == "1Gi"

    with expanding(node):
        result = applied(shop, stateful_set("2Gi"), wait=True)
    assert actions(result) == actions(planned)
    for told in (planned, result):
        assert paths(told, "db") == {
            "spec.volumeClaimTemplates[0].spec.resources.requests.storage": ("1Gi", "2Gi"),
        }
    assert (size(shop, 0), size(shop, 1)) == ("2Gi", "2Gi")
    assert uids(shop) == before
    found = shop.get("statefulsets", "db", APPS)
    assert found is not None
    assert found["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "2Gi"
    until(lambda: owners(shop) == {found["metadata"]["uid"]})
    assert not applied(shop, stateful_set("2Gi"))["changed"]


def test_a_wait_for_an_expansion_that_nobody_carries_out_says_so(shop: Shop) -> None:
    deploy(shop, stateful_set())
    result = shop.run(stateful_set("2Gi"), wait=True, wait_timeout=8)
    assert "expansion from 1Gi to 2Gi: no storage driver has begun it" in result["msg"]


def test_a_class_without_expansion_is_refused_and_its_recipe_works(shop: Shop) -> None:
    name = f"class-{uuid.uuid4().hex[:8]}"
    shop.client.request("POST", f"{STORAGE}/storageclasses", body=storage_class(name, False))
    before = deploy(shop, stateful_set(storage=name))
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside"}, "data": {"a": "1"}}
    result = shop.run(config, stateful_set("2Gi", name))

    refused = one(result, "db")
    assert (refused["action"], one(result, "beside")["action"]) == ("failed", "skipped")
    assert shop.get("configmaps", "beside") is None
    assert f"storage class {name} does not allow volume expansion" in refused["message"]
    (patch,) = re.findall(r"kubectl patch storageclass \S+ -p '([^']+)'", refused["remedy"])
    path = f"{STORAGE}/storageclasses/{name}"
    shop.client.request("PATCH", path, body=patch, content_type=MERGE, repeat=True)
    applied(shop, config, stateful_set("2Gi", name))
    assert size(shop) == "2Gi"
    assert uids(shop) == before
    assert "restore the size 1Gi" in refused["remedy"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (stateful_set("512Mi"), "Kubernetes does not shrink volumes"),
        (stateful_set(storage="rigid"), "cannot change the storage class"),
    ],
)
def test_another_volume_takes_the_steps_that_the_refusal_names(shop: Shop, changed: Fields, told: str) -> None:
    deploy(shop, stateful_set())
    result = shop.run(changed)
    assert told in one(result, "db")["message"]
    remedy = one(result, "db")["remedy"]
    # The first remedy: the former value.
    assert not applied(shop, stateful_set())["changed"]
    carry_out(shop, remedy)
    until(lambda: shop.get("persistentvolumeclaims", "data-db-0") is None)
    until(lambda: shop.get("persistentvolumeclaims", "data-db-1") is None)
    applied(shop, changed)
    wanted = changed["spec"]["volumeClaimTemplates"][0]["spec"]
    claim = until(lambda: shop.get("persistentvolumeclaims", "data-db-0"))
    assert claim["spec"]["resources"] == wanted["resources"]
    assert claim["spec"]["storageClassName"] == wanted["storageClassName"]


def carry_out(shop: Shop, remedy: str) -> None:
    """Run every command of a remedy with kubectl, which waits for deletions, except changes of a storage class."""
    commands = re.findall(r"`(kubectl (?:-n|patch pv)[^`]+)`", remedy)
    assert commands
    assert len(commands) == len(set(commands))
    environment = {"KUBECONFIG": str(shop.cluster.kubeconfig), "HOME": str(shop.cluster.kubeconfig.parent)}
    for command in commands:
        program, *words = shlex.split(command)
        done = subprocess.run(
            [PROGRAMS / program, *words], capture_output=True, text=True, env=environment, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"


def labelled(kind: str, label: str) -> Fields:
    labels = {"app": label}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": IMAGE}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "it"}, "spec": spec}


def job(image: str) -> Fields:
    spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "it"}, "spec": {"template": {"spec": spec}}}


def service(**spec: Any) -> Fields:
    whole = {"selector": {"app": "it"}, "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "it"}, "spec": whole}


def binding(role: str) -> Fields:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "it"}}
    subjects = [{"apiGroup": reference["apiGroup"], "kind": "User", "name": "it"}]
    return {**head, "roleRef": reference, "subjects": subjects}


def quota(scope: str) -> Fields:
    spec = {"hard": {"pods": "10"}, "scopes": [scope]}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "it"}, "spec": spec}


def scoped_quota(priority: str) -> Fields:
    chosen = {"scopeName": "PriorityClass", "operator": "In", "values": [priority]}
    spec = {"hard": {"pods": "10"}, "scopeSelector": {"matchExpressions": [chosen]}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "it"}, "spec": spec}


def pod(command: str) -> Fields:
    spec = {"containers": [{"name": "c", "image": IMAGE, "command": [command]}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "it"}, "spec": spec}


def cluster_wide(api_version: str, kind: str, **content: Any) -> Fields:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": f"it-{uuid.uuid4().hex[:8]}"}, **content}


def both(obj: Fields, **changed: Any) -> tuple[Fields, Fields]:
    return obj, {**copy.deepcopy(obj), **changed}


CASES: dict[str, tuple[Fields, Fields]] = {
    "Deployment selector": (labelled("Deployment", "a"), labelled("Deployment", "b")),
    "DaemonSet selector": (labelled("DaemonSet", "a"), labelled("DaemonSet", "b")),
    "StatefulSet service name": (stateful_set(), stateful_set(serviceName="other")),
    "Job template": (job(IMAGE), job("registry.example.com/nothing:2")),
    "Service that becomes headless": (service(), service(clusterIP="None")),
    "Service that gets an address": (service(clusterIP="None"), service()),
    "Service with another address": (service(clusterIP="10.96.9.1"), service(clusterIP="10.96.9.2")),
    "quota scopes": (quota("BestEffort"), quota("NotBestEffort")),
    "Secret type": both(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "it"}, "type": "Opaque"}, type="example.org/key"
    ),
    "immutable ConfigMap": both(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"}, "immutable": True, "data": {"a": "1"}},
        data={"a": "2"},
    ),
    "immutable ConfigMap that loses a key": both(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "it"},
            "immutable": True,
            "data": {"a": "1", "b": "2"},
        },
        data={"a": "1"},
    ),
    "immutable Secret": both(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "it"},
            "immutable": True,
            "stringData": {"a": "1"},
        },
        stringData={"a": "2"},
    ),
    "RoleBinding role": (binding("view"), binding("edit")),
    "ClusterRoleBinding role": both(
        cluster_wide("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", roleRef=binding("view")["roleRef"]),
        roleRef=binding("edit")["roleRef"],
    ),
    "ReplicaSet selector": (labelled("ReplicaSet", "a"), labelled("ReplicaSet", "b")),
    "Pod command": (pod("a"), pod("b")),
    "Service of another kind of load balancer": (
        service(type="LoadBalancer", loadBalancerClass="example.org/a"),
        service(type="LoadBalancer", loadBalancerClass="example.org/b"),
    ),
    "EndpointSlice address type": both(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "it"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
        addressType="IPv6",
        endpoints=[{"addresses": ["2001:db8::1"], "conditions": {"ready": True}}],
    ),
    "CSIDriver attachment": both(
        cluster_wide("storage.k8s.io/v1", "CSIDriver", spec={"attachRequired": True}), spec={"attachRequired": False}
    ),
    "VolumeAttributesClass parameters": both(
        cluster_wide(
            "storage.k8s.io/v1", "VolumeAttributesClass", driverName="example.org/none", parameters={"a": "1"}
        ),
        parameters={"a": "2"},
    ),
    "PriorityClass value": both(cluster_wide("scheduling.k8s.io/v1", "PriorityClass", value=10), value=20),
    "StorageClass parameters": both(
        cluster_wide("storage.k8s.io/v1", "StorageClass", provisioner="example.org/none", parameters={"a": "1"}),
        parameters={"a": "2"},
    ),
    "IngressClass controller": both(
        cluster_wide("networking.k8s.io/v1", "IngressClass", spec={"controller": "example.org/a"}),
        spec={"controller": "example.org/b"},
    ),
    "RuntimeClass handler": both(cluster_wide("node.k8s.io/v1", "RuntimeClass", handler="a"), handler="b"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_immutable_field_is_refused_and_replaced_where_that_is_allowed(shop: Shop, case: str) -> None:
    before, after = CASES[case]
    name = before["metadata"]["name"]
    applied(shop, before)
    refused = one(shop.run(after), name)
    assert (refused["action"], refused["remedy"][:21]) == ("failed", "set `replace: always`")
    planned = one(shop.run(after, replace="always", check=True), name)
    assert planned["action"] == "replace"
    assert not applied(shop, before)["changed"]

    result = one(applied(shop, after, replace="always"), name)
    assert result["action"] == "replace"
    assert result["changes"] or before["kind"] == "Secret"
    if before["kind"] not in {"Pod", "Service"}:
        # The server assigns a Service another address, and a Pod another node.
        assert planned["changes"] == result["changes"]
    assert not applied(shop, after)["changed"]


def test_every_kind_with_immutable_fields_has_a_case() -> None:
    tried = [before for before, *_others in [*CASES.values(), *KEPT.values(), *CHANGED.values()]]
    kinds = {(one["apiVersion"].rpartition("/")[0], one["kind"]) for one in [*tried, claim("1Gi")]}
    assert set(RULES) <= kinds


# The table contains these fields; this version of the API updates them in place.
CHANGED: dict[str, tuple[Fields, Fields]] = {
    "quota scope selector": (scoped_quota("high"), scoped_quota("low")),
    "policy of a binding": both(
        cluster_wide(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            spec={"policyName": "a.example.org", "validationActions": ["Warn"]},
        ),
        spec={"policyName": "b.example.org", "validationActions": ["Warn"]},
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_field_that_the_server_changes_is_updated(shop: Shop, case: str) -> None:
    before, after = CHANGED[case]
    name = before["metadata"]["name"]
    applied(shop, before)
    for check in (True, False):
        assert one(applied(shop, after, check=check), name)["action"] == "update"
    assert not applied(shop, after)["changed"]


@pytest.mark.parametrize(
    "spec",
    [{"podManagementPolicy": "OrderedReady"}, {"volumeClaimTemplates": []}],
    ids=lambda spec: next(iter(spec)),
)
def test_a_set_of_pods_is_replaced_around_them(shop: Shop, spec: Fields) -> None:
    before = deploy(shop, stateful_set())
    changed = stateful_set(**spec)
    if not changed["spec"]["volumeClaimTemplates"]:
        # The pods keep their volumes until their template changes as well.
        changed["spec"]["template"] = copy.deepcopy(stateful_set()["spec"]["template"])
        changed["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    refused = one(shop.run(changed, replace="never"), "db")
    assert refused["remedy"].startswith("set `replace: orphan` ")
    result = applied(shop, changed, replace="orphan")
    assert actions(result) == {"StatefulSet db": "replace"}
    found = shop.get("statefulsets", "db", APPS)
    assert found is not None
    until(lambda: found["metadata"]["uid"] in owners(shop))
    if spec.get("podManagementPolicy"):
        assert uids(shop) == before


def test_another_volume_of_a_set_replaces_its_pods_and_keeps_its_data(shop: Shop) -> None:
    before = deploy(shop, stateful_set())
    claim = shop.get("persistentvolumeclaims", "data-db-0")
    changed = stateful_set()
    logs = copy.deepcopy(changed["spec"]["volumeClaimTemplates"][0])
    logs["metadata"]["name"] = "logs"
    changed["spec"]["volumeClaimTemplates"].append(logs)
    changed["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].append({"name": "logs", "mountPath": "/logs"})
    applied(shop, changed, replace="always", wait=True)

    assert not set(uids(shop).values()) & set(before.values())
    kept = shop.get("persistentvolumeclaims", "data-db-0")
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    assert shop.get("persistentvolumeclaims", "logs-db-0") is not None


def test_a_set_that_takes_its_volumes_along_is_replaced_after_the_steps_of_its_refusal(shop: Shop) -> None:
    greedy: Fields = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"}}
    modest: Fields = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}
    deploy(shop, stateful_set(**greedy))
    claim = shop.get("persistentvolumeclaims", "data-db-0")
    refused = one(shop.run(stateful_set(serviceName="other", **greedy), replace="always"), "db")
    assert "whenDeleted: Retain" in refused["remedy"]

    applied(shop, stateful_set(**modest))
    assert claim is not None
    until(lambda: not (shop.get("persistentvolumeclaims", "data-db-0") or claim)["metadata"].get("ownerReferences"))
    applied(shop, stateful_set(serviceName="other", **modest), replace="always", wait=True)
    kept = shop.get("persistentvolumeclaims", "data-db-0")
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]


def test_a_successor_that_the_server_refuses_leaves_everything_as_it_is(shop: Shop) -> None:
    before = deploy(shop, stateful_set())
    wrong = stateful_set("2Gi")
    wrong["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    result = shop.run(wrong)
    assert one(result, "db")["action"] == "failed"
    assert "`selector` does not match template `labels`" in one(result, "db")["message"]
    assert uids(shop) == before
    assert size(shop) == "1Gi"


def claim(amount: str, storage: str = "elastic", mode: str = "ReadWriteOnce", name: str = "files") -> Fields:
    requests = {"requests": {"storage": amount}}
    spec = {"accessModes": [mode], "resources": requests, "storageClassName": storage}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def test_a_claim_of_its_own_is_expanded_by_an_apply_and_refused_where_it_cannot_be(shop: Shop) -> None:
    applied(shop, claim("1Gi"), wait=True)
    assert one(applied(shop, claim("2Gi")), "files")["action"] == "update"
    others = [claim("1Gi"), claim("2Gi", "rigid"), claim("2Gi", mode="ReadWriteMany")]
    remedies = []
    for wrong, told in zip(others, ("does not shrink volumes", "storage class", "access modes"), strict=True):
        refused = one(shop.run(wrong, replace="always"), "files")
        assert told in refused["message"]
        remedies.append(refused["remedy"])
    # The first remedy: the former value.
    assert not applied(shop, claim("2Gi"))["changed"]
    for wrong, remedy in zip(others, remedies, strict=True):
        carry_out(shop, remedy)
        applied(shop, wrong, wait=True)


def test_a_claim_without_its_volume_is_created_again_by_the_steps_of_its_refusal(shop: Shop) -> None:
    applied(shop, claim("1Gi"), wait=True)
    lost = shop.get("persistentvolumeclaims", "files")
    assert lost is not None
    volume = f"/api/v1/persistentvolumes/{lost['spec']['volumeName']}"
    shop.client.request("DELETE", volume)
    shop.client.request("PATCH", volume, body={"metadata": {"finalizers": None}}, content_type=MERGE)
    until(lambda: (shop.get("persistentvolumeclaims", "files") or {})["status"]["phase"] == "Lost")

    refused = one(shop.run(claim("2Gi")), "files")
    assert f"its volume {lost['spec']['volumeName']} is gone" in refused["message"]
    carry_out(shop, refused["remedy"])
    applied(shop, claim("2Gi"), wait=True)


def test_a_claim_that_waits_for_its_volume_is_created_again_by_the_steps_of_its_refusal(shop: Shop) -> None:
    def block(amount: str) -> Fields:
        # The node has no volumes of this mode.
        wanted = claim(amount)
        return {**wanted, "spec": {**wanted["spec"], "volumeMode": "Block"}}

    applied(shop, block("1Gi"))
    refused = one(shop.run(block("2Gi")), "files")
    assert "it is not bound to a volume" in refused["message"]
    assert not applied(shop, block("1Gi"))["changed"]
    carry_out(shop, refused["remedy"])
    assert one(applied(shop, block("2Gi")), "files")["action"] == "create"


OPERATED_KIND: Fields = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusters.postgresql.cnpg.io"},
    "spec": {
        "group": "postgresql.cnpg.io",
        "scope": "Namespaced",
        "names": {"kind": "Cluster", "plural": "clusters"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def database(amount: str, storage: str = "elastic") -> Fields:
    spec = {"instances": 1, "storage": {"size": amount, "storageClass": storage}}
    return {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "db"}, "spec": spec}


def operate(shop: Shop, storage: str) -> None:
    """Apply a database of 2Gi with its instance's claim."""
    applied(shop, OPERATED_KIND, database("2Gi", storage))
    claim_of_instance(shop, storage)


def claim_of_instance(shop: Shop, storage: str) -> None:
    """Create the claim of a database's instance as its operator does."""
    made = claim("2Gi", storage, name="db-1")
    made["metadata"]["labels"] = {"cnpg.io/cluster": "db", "cnpg.io/pvcRole": "PG_DATA"}
    shop.client.request("POST", shop.path("persistentvolumeclaims", "")[:-1], body=made)
    until(lambda: (shop.get("persistentvolumeclaims", "db-1") or {}).get("status", {}).get("phase") == "Bound")


def test_the_size_of_an_operated_database_is_left_to_its_operator(shop: Shop) -> None:
    operate(shop, "elastic")
    planned = shop.run(database("4Gi"), check=True)
    assert actions(planned) == {"Cluster db": "update"}
    assert actions(applied(shop, database("4Gi"))) == actions(planned)


@pytest.mark.parametrize(
    ("storage", "changed", "told"),
    [
        ("elastic", database("1Gi"), "Kubernetes does not shrink volumes"),
        ("elastic", database("2Gi", "rigid"), "cannot change the storage class"),
        ("rigid", database("4Gi", "rigid"), "storage class rigid does not allow volume expansion"),
    ],
)
def test_another_volume_of_an_operated_database_takes_the_steps_of_its_refusal(
    shop: Shop, storage: str, changed: Fields, told: str
) -> None:
    operate(shop, storage)
    refused = one(shop.run(changed, replace="always"), "db")
    assert told in refused["message"]
    assert not applied(shop, database("2Gi", storage))["changed"]
    carry_out(shop, refused["remedy"])
    assert one(applied(shop, changed), "db")["action"] == "create"


PROMETHEUS = "prometheus-it-db-prometheus-it-0"


def prometheus(amount: str, storage: str = "elastic") -> Fields:
    template = {"spec": claim(amount, storage)["spec"]}
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": {"name": "it"}}
    return {**head, "spec": {"replicas": 1, "storage": {"volumeClaimTemplate": template}}}


def operate_prometheus(shop: Shop, storage: str) -> None:
    """Apply a Prometheus of 2Gi, and create its claim as its operator's StatefulSet does."""
    definitions = ROOT / "tests" / "integration" / "kube" / "charts" / "kube-prometheus-stack" / "crds"
    definition = yaml.safe_load((definitions / "crd-prometheuses.yaml").read_text("utf-8"))
    applied(shop, definition, prometheus("2Gi", storage))
    path = shop.path("persistentvolumeclaims", "")[:-1]
    shop.client.request("POST", path, body=claim("2Gi", storage, name=PROMETHEUS))
    until(lambda: (shop.get("persistentvolumeclaims", PROMETHEUS) or {}).get("status", {}).get("phase") == "Bound")


def test_a_grown_volume_of_prometheus_is_expanded_which_its_operator_does_not(shop: Shop, node: HollowNode) -> None:
    operate_prometheus(shop, "elastic")
    planned = shop.run(prometheus("4Gi"), check=True)
    assert actions(planned) == {"Prometheus it": "update", f"PersistentVolumeClaim {PROMETHEUS}": "update"}
    with expanding(node):
        assert actions(applied(shop, prometheus("4Gi"), wait=True)) == actions(planned)
    assert requested(shop, PROMETHEUS) == "4Gi"
    assert not applied(shop, prometheus("4Gi"))["changed"]
    # With a smaller description, the pods keep their volumes.
    assert actions(applied(shop, prometheus("1Gi"))) == {"Prometheus it": "update"}
    assert requested(shop, PROMETHEUS) == "4Gi"


def test_a_claim_of_prometheus_that_stayed_small_is_unhealthy_and_expanded(shop: Shop) -> None:
    def is_small() -> bool:
        found = examine_cluster(lambda: shop.client.connection, ClusterInstallation(namespaces=(shop.namespace,)))
        return f"storage/{shop.namespace}/{PROMETHEUS}/size" in found.unhealthy

    operate_prometheus(shop, "elastic")
    assert not is_small()
    path = shop.path("prometheuses", "it", "/apis/monitoring.coreos.com/v1")
    shop.client.request("PATCH", path, body=prometheus("4Gi"), content_type=MERGE)
    assert is_small()
    result = applied(shop, prometheus("4Gi"), force_conflicts=True)
    assert actions(result)[f"PersistentVolumeClaim {PROMETHEUS}"] == "update"
    assert requested(shop, PROMETHEUS) == "4Gi"
    assert not is_small()


@pytest.mark.parametrize(
    ("storage", "changed", "told"),
    [
        ("elastic", prometheus("2Gi", "rigid"), "cannot change the storage class"),
        ("rigid", prometheus("4Gi", "rigid"), "storage class rigid does not allow volume expansion"),
    ],
)
def test_another_volume_of_prometheus_takes_the_steps_of_its_refusal(
    shop: Shop, storage: str, changed: Fields, told: str
) -> None:
    operate_prometheus(shop, storage)
    refused = one(shop.run(changed, replace="always"), "it")
    assert told in refused["message"]
    assert not applied(shop, prometheus("2Gi", storage))["changed"]
    carry_out(shop, refused["remedy"])
    until(lambda: shop.get("persistentvolumeclaims", PROMETHEUS) is None)
    assert one(applied(shop, changed), "it")["action"] == "create"


def requested(shop: Shop, name: str) -> str:
    found = shop.get("persistentvolumeclaims", name)
    assert found is not None
    amount: str = found["spec"]["resources"]["requests"]["storage"]
    return amount


SET = "shop-set"


def named(obj: Fields, name: str) -> Fields:
    return {**copy.deepcopy(obj), "metadata": {**obj["metadata"], "name": name}}


def volume_names(shop: Shop, *claims: str) -> list[str]:
    found = [shop.get("persistentvolumeclaims", one) for one in claims]
    return [one["spec"].get("volumeName", "") if one else "" for one in found]


def renamed_volume(template: str) -> Fields:
    found = stateful_set()
    found["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] = template
    found["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["name"] = template
    return found


@pytest.mark.parametrize(
    ("renamed", "claims"),
    [
        (named(stateful_set(), "database"), ("data-database-0", "data-database-1")),
        (renamed_volume("files"), ("files-db-0", "files-db-1")),
    ],
    ids=["workload", "volume"],
)
def test_a_renamed_workload_or_volume_takes_its_data_along_after_the_steps_of_its_refusal(
    shop: Shop, renamed: Fields, claims: tuple[str, str]
) -> None:
    applied(shop, stateful_set(), prune=SET, wait=True)
    until(lambda: all(volume_names(shop, "data-db-0", "data-db-1")))
    before, volumes = uids(shop), volume_names(shop, "data-db-0", "data-db-1")
    planned = one(shop.run(renamed, prune=SET, check=True), renamed["metadata"]["name"])
    result = shop.run(renamed, prune=SET, replace="always")
    refused = one(result, renamed["metadata"]["name"])
    assert (planned["action"], planned["message"]) == (refused["action"], refused["message"])
    assert refused["action"] == "failed"
    assert "its data is on data-db-0, data-db-1" in refused["message"]
    assert uids(shop) == before
    # The first remedy: the former name.
    assert not applied(shop, stateful_set(), prune=SET)["changed"]

    carry_out(shop, refused["remedy"])
    applied(shop, renamed, prune=SET, wait=True)
    until(lambda: volume_names(shop, *claims) == volumes)
    assert volume_names(shop, "data-db-0", "data-db-1") == ["", ""]
    assert not applied(shop, renamed, prune=SET)["changed"]


def test_a_renamed_workload_starts_with_empty_volumes_after_a_run_without_it(shop: Shop) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside"}, "data": {"a": "1"}}
    renamed = named(stateful_set(), "database")
    applied(shop, config, stateful_set(), prune=SET, wait=True)
    until(lambda: all(volume_names(shop, "data-db-0", "data-db-1")))
    refused = one(shop.run(config, renamed, prune=SET), "database")
    assert "to start with empty volumes, remove db in a run of its own" in refused["remedy"]

    removed = applied(shop, config, prune=SET)
    assert actions(removed)["StatefulSet db"] == "delete"
    assert any("data-db-0, data-db-1 stay with their data" in notice for notice in removed["notices"])
    applied(shop, config, renamed, prune=SET, wait=True)
    assert not set(volume_names(shop, "data-database-0")) & {"", *volume_names(shop, "data-db-0", "data-db-1")}


def test_a_renamed_workload_without_volumes_is_created_and_the_former_one_deleted_with_its_service(shop: Shop) -> None:
    applied(shop, labelled("Deployment", "a"), service(), prune=SET, wait=True)
    renamed = [named(labelled("Deployment", "a"), "other"), named(service(), "other")]
    planned = shop.run(*renamed, prune=SET, check=True)
    assert actions(planned) == {
        "Deployment other": "create",
        "Service other": "create",
        "Deployment it": "delete",
        "Service it": "delete",
    }
    assert actions(applied(shop, *renamed, prune=SET, wait=True)) == actions(planned)
    assert not applied(shop, *renamed, prune=SET)["changed"]


def test_a_renamed_database_of_an_operator_is_created_by_the_steps_of_its_refusal(shop: Shop) -> None:
    applied(shop, OPERATED_KIND)
    applied(shop, database("2Gi"), prune=SET)
    claim_of_instance(shop, "elastic")
    renamed = named(database("2Gi"), "store")
    refused = one(shop.run(renamed, prune=SET), "store")
    assert "cannot rename Cluster db to store: its data is on db-1" in refused["message"]
    assert not applied(shop, database("2Gi"), prune=SET)["changed"]
    carry_out(shop, refused["remedy"])
    assert actions(applied(shop, renamed, prune=SET)) == {"Cluster store": "create"}


def volume(path: str, name: str) -> Fields:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": path}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {**spec, "storageClassName": "none"},
    }


LAMPS = Kind()
KEPT: dict[str, tuple[Fields, Fields, Fields]] = {
    "PersistentVolume": (volume("/a", "kept"), volume("/b", "kept"), volume("/b", "other")),
    "CustomResourceDefinition": (
        LAMPS.definition(),
        Kind(LAMPS.group, "Cluster").definition(),
        Kind(scope="Cluster").definition(),
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_others_depend_on_is_not_replaced_and_has_the_new_value_under_another_name(shop: Shop, case: str) -> None:
    before, after, other = KEPT[case]
    applied(shop, before)
    refused = one(shop.run(after, replace="always"), before["metadata"]["name"])
    assert refused["remedy"] == "restore the former value; an object with another name can have the new one"
    assert not applied(shop, before)["changed"]
    assert one(applied(shop, other), other["metadata"]["name"])["action"] == "create"


@pytest.mark.parametrize("message", ["Value is immutable", "Immutable field changed"])
def test_a_custom_resource_that_keeps_a_field_is_created_again_by_the_steps_of_its_refusal(
    shop: Shop, message: str
) -> None:
    kind = Kind()
    rule = {"rule": "self == oldSelf", "message": message}
    definition = kind.definition(colour={"type": "string", "x-kubernetes-validations": [rule]})
    applied(shop, definition, kind.lamp(colour="red"))
    refused = one(shop.run(kind.lamp(colour="blue")), "desk")
    assert message in refused["error"]
    assert "delete the object and run again" in refused["error"]
    shop.client.request("DELETE", shop.path("lamps", "desk", kind.api))
    assert one(applied(shop, kind.lamp(colour="blue")), "desk")["action"] == "create"


REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


@contextlib.contextmanager
def policy(shop: Shop, group: str, plural: str, path: str, value: str) -> Iterator[None]:
    """Configure the server to write a value into every created or updated object of a kind in the namespace."""
    name = f"it-{uuid.uuid4().hex[:8]}"
    rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [plural]}
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace}}
    expression = f'[JSONPatch{{op: "add", path: "{path}", value: "{value}"}}]'
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": chosen},
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
    }
    paths = {
        f"{REGISTRATION}/mutatingadmissionpolicies": spec,
        f"{REGISTRATION}/mutatingadmissionpolicybindings": {"policyName": name},
    }
    for place, content in paths.items():
        shop.client.request("POST", place, body={"metadata": {"name": name}, "spec": content})
    try:
        yield
    finally:
        for place in paths:
            shop.client.request("DELETE", f"{place}/{name}")


def test_a_set_of_pods_whose_fixed_field_a_policy_writes_is_created_again_by_the_steps_of_its_refusal(
    shop: Shop,
) -> None:
    def described(**spec: Any) -> Fields:
        found = stateful_set(**spec)
        del found["spec"]["podManagementPolicy"]
        return found

    deploy(shop, described())
    volumes = volume_names(shop, "data-db-0", "data-db-1")
    with policy(shop, "apps", "statefulsets", "/spec/podManagementPolicy", "Parallel"):
        # A policy takes effect some time after it was accepted.
        refused = until(lambda: one(shop.run(described(minReadySeconds=1), check=True), "db").get("error"))
        assert one(shop.run(described(minReadySeconds=1)), "db")["error"] == refused
        carry_out(shop, refused)
        applied(shop, described(minReadySeconds=1), wait=True)
    found = shop.get("statefulsets", "db", APPS)
    assert found is not None
    assert found["spec"]["podManagementPolicy"] == "Parallel"
    assert volume_names(shop, "data-db-0", "data-db-1") == volumes


def test_a_set_of_pods_is_changed_once_no_policy_writes_its_fixed_field(shop: Shop) -> None:
    changed = stateful_set(minReadySeconds=1)
    del changed["spec"]["podManagementPolicy"]
    before = {**changed, "spec": {key: value for key, value in changed["spec"].items() if key != "minReadySeconds"}}
    applied(shop, before)
    with policy(shop, "apps", "statefulsets", "/spec/podManagementPolicy", "Parallel"):
        refused = until(lambda: one(shop.run(changed, check=True), "db").get("error"))
    assert "change the admission policy or webhook that writes the field" in refused
    until(lambda: not one(shop.run(changed, check=True), "db").get("error"))
    assert one(applied(shop, changed), "db")["action"] == "update"


def test_an_immutable_config_map_that_a_policy_changes_is_created_again_by_the_steps_of_its_refusal(
    shop: Shop,
) -> None:
    def described(**labels: str) -> Fields:
        metadata = {"name": "it", "labels": labels}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": {"a": "1"}}

    applied(shop, described())
    with policy(shop, "", "configmaps", "/data/b", "2"):
        refused = until(lambda: one(shop.run(described(x="1"), check=True), "it").get("error"))
        assert "give the object a new name and refer to that, or delete it and run again" in refused
        assert one(applied(shop, named(described(x="1"), "new")), "new")["action"] == "create"
        shop.client.request("DELETE", shop.path("configmaps", "it"))
        assert one(applied(shop, described(x="1")), "it")["action"] == "create"
