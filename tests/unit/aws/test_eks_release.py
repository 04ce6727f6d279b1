# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that a cluster has to release, read from its own API, and the permitted endpoints."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.release_objects import (
    ClusterError,
    Object,
    Objects,
    UnreachableError,
    reached_by_kubeconfig,
    reached_by_token,
)
from tests.unit.aws.kubernetes_api import KubernetesApi, make_certificate

PORTS = {"ports": [{"port": 443}]}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with KubernetesApi(tmp_path) as running:
        yield running


@pytest.fixture
def objects(api: KubernetesApi) -> Iterator[Objects]:
    with reached_by_token(api.url, api.authority_data, lambda: "k8s-aws-v1.token") as reached:
        yield reached


def mounting(claim: str) -> dict[str, object]:
    return {
        "containers": [{"name": "main"}],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "none", "emptyDir": {}},
        ],
    }


def test_services_of_type_load_balancer_and_ingresses_are_found_on_all_pages(
    api: KubernetesApi, objects: Objects
) -> None:
    for number in range(5):
        api.add("services", f"public-{number}", {"type": "LoadBalancer", **PORTS})
        api.add("services", f"private-{number}", {"type": "ClusterIP", **PORTS})
    api.add("ingresses", "site", {})
    api.add("persistentvolumeclaims", "data", {})

    contents = objects.contents(volumes=False)

    assert [str(found) for found in contents.objects] == [
        "Ingress lake/site",
        *(f"Service lake/public-{number}" for number in range(5)),
    ]


def test_claims_come_with_the_outermost_workload_that_uses_them(api: KubernetesApi, objects: Objects) -> None:
    for name in ("of-set", "of-deployment", "of-cronjob", "of-operator", "of-pod", "unused"):
        api.add("persistentvolumeclaims", name, {})
    api.add("pods", "set-0", mounting("of-set"), ("StatefulSet", "set"))
    api.add("pods", "set-1", mounting("of-set"), ("StatefulSet", "set"))
    api.add("pods", "web-1-a", mounting("of-deployment"), ("ReplicaSet", "web-1"))
    api.add("replicasets", "web-1", {"selector": {}}, ("Deployment", "web"))
    api.add("pods", "night-1-a", mounting("of-cronjob"), ("Job", "night-1"))
    api.add("jobs", "night-1", {"template": {"spec": {"containers": [{"name": "main"}]}}}, ("CronJob", "night"))
    api.add("pods", "custom-a", mounting("of-operator"), ("Database", "custom"))
    api.add("pods", "single", mounting("of-pod"))
    api.add("pods", "elsewhere", mounting("not-there"), ("StatefulSet", "other"))

    contents = objects.contents(volumes=True)

    assert set(map(str, contents.users)) == {
        "StatefulSet lake/set",
        "Deployment lake/web",
        "CronJob lake/night",
        "Pod lake/custom-a",
        "Pod lake/single",
    }
    assert len(contents.claims) == 6


def test_a_workload_whose_owner_is_gone_goes_itself(api: KubernetesApi, objects: Objects) -> None:
    api.add("persistentvolumeclaims", "data", {})
    api.add("pods", "web-1-a", mounting("data"), ("ReplicaSet", "web-1"))

    assert objects.contents(volumes=True).users == (Object("ReplicaSet", "lake", "web-1"),)


def test_volumes_that_outlive_their_claims_are_told(api: KubernetesApi, objects: Objects) -> None:
    for name, policy in (("a", "Delete"), ("b", "Retain")):
        source = {"driver": "ebs.csi.aws.com", "volumeHandle": f"vol-{name}"}
        api.add("persistentvolumes", name, {"persistentVolumeReclaimPolicy": policy, "csi": source})
    api.add("persistentvolumes", "c", {"persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"}})

    assert objects.contents(volumes=True).retained == {"vol-b"}


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        ("Ingress", "ingresses"),
        ("Service", "services"),
        ("PersistentVolumeClaim", "persistentvolumeclaims"),
        ("Pod", "pods"),
        ("StatefulSet", "statefulsets"),
        ("Deployment", "deployments"),
        ("ReplicaSet", "replicasets"),
        ("DaemonSet", "daemonsets"),
        ("Job", "jobs"),
        ("CronJob", "cronjobs"),
    ],
)
def test_every_kind_can_be_removed_and_one_that_is_gone_is_no_error(
    api: KubernetesApi, objects: Objects, kind: str, plural: str
) -> None:
    key = api.add(plural, "it", {})

    objects.remove(Object(kind, "lake", "it"))
    objects.remove(Object(kind, "lake", "gone"))

    assert api.deleted == [key]


def test_each_call_carries_the_token_of_its_moment(api: KubernetesApi) -> None:
    numbers = iter(range(100))
    with reached_by_token(api.url, api.authority_data, lambda: f"token-{next(numbers)}") as objects:
        objects.contents(volumes=False)

    assert api.tokens == ["token-0", "token-1"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_cluster_that_refuses_says_what_is_missing(api: KubernetesApi, objects: Objects, status: int) -> None:
    api.status = status

    with pytest.raises(ClusterError, match=f"refuses: {status} .*; create an access entry for the identity"):
        objects.contents(volumes=False)


def test_a_cluster_that_fails_is_reached_all_the_same(api: KubernetesApi, objects: Objects) -> None:
    api.status = 500

    with pytest.raises(ClusterError, match="the cluster answers 500"):
        objects.contents(volumes=False)


def test_nobody_at_the_address_is_told_from_a_refusal(api: KubernetesApi) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        reached_by_token(f"https://127.0.0.1:{port}", api.authority_data, lambda: "x") as objects,
        pytest.raises(UnreachableError, match="Connection refused"),
    ):
        objects.contents(volumes=False)


def test_somebody_else_at_the_address_gets_no_token(api: KubernetesApi, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with (
        KubernetesApi(folder) as other,
        reached_by_token(other.url, api.authority_data, lambda: "x") as objects,
        pytest.raises(UnreachableError, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
    ):
        objects.contents(volumes=False)
    assert not other.tokens


def test_a_kubeconfig_that_trusts_the_clusters_authority_is_used(api: KubernetesApi, tmp_path: Path) -> None:
    path = api.kubeconfig(tmp_path)

    with reached_by_kubeconfig(str(path), "tunnel", api.authority_data) as objects:
        objects.contents(volumes=False)

    assert set(api.tokens) == {"of-the-kubeconfig"}


def test_a_kubeconfig_of_another_cluster_is_refused_before_any_call(api: KubernetesApi, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = base64.b64encode(make_certificate(folder)[0].read_bytes()).decode()
    path = str(api.kubeconfig(tmp_path))

    with (
        pytest.raises(ClusterError, match=r"the kubeconfig .* does not identify this cluster"),
        reached_by_kubeconfig(path, "", other),
    ):
        pass
    assert not api.tokens


def test_a_kubeconfig_that_verifies_nothing_is_refused(api: KubernetesApi, tmp_path: Path) -> None:
    path = api.kubeconfig(tmp_path, **{"certificate-authority-data": "", "insecure-skip-tls-verify": True})

    with (
        pytest.raises(ClusterError, match=r"the kubeconfig .* does not identify this cluster"),
        reached_by_kubeconfig(str(path), "", api.authority_data),
    ):
        pass


@pytest.mark.parametrize("context", ["", "elsewhere"])
def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, context: str) -> None:
    path = tmp_path / "missing"

    with (
        pytest.raises(ClusterError, match=r"the kubeconfig .*missing cannot be used"),
        reached_by_kubeconfig(str(path), context, ""),
    ):
        pass
