# SPDX-License-Identifier: GPL-3.0-or-later
"""A real API server accepts every object of the platform as rendered, and its controllers create the pods."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import ENVIRONMENTS
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from tests.integration.kube.cluster import Cluster
from tests.unit.catalogue.clusters import TARGETS, everything, platform_on, pods, workloads

APPLY = {"fieldManager": "crypto-lakehouse", "fieldValidation": "Strict"}
FOREIGN = ("monitoring.coreos.com/v1", "postgresql.cnpg.io/v1")
"""Kinds of operators; the server has them only where these are installed."""
TIMEOUT_S = 60.0


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    found = cluster.client()
    yield found
    found.close()


def apply(client: Client, discovery: Discovery, manifest: dict[str, Any], **query: str) -> dict[str, Any]:
    resource = discovery.find(manifest["apiVersion"], manifest["kind"])
    assert resource is not None
    metadata = manifest["metadata"]
    path = resource.path(metadata.get("namespace"), metadata["name"])
    content_type = "application/apply-patch+yaml"
    answer: dict[str, Any] = client.request(
        "PATCH", path, query={**APPLY, **query}, body=manifest, content_type=content_type
    )
    return answer


def built_in(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in everything(result) if each["apiVersion"] not in FOREIGN]


def test_a_field_that_the_server_does_not_know_is_refused(client: Client, namespace: str) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "namespace": namespace}}
    with pytest.raises(ApiError):
        apply(client, Discovery(client), {**account, "automount": False})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_object_is_taken_without_a_warning(client: Client, namespace: str, target: str, environment: str) -> None:
    discovery = Discovery(client)
    for manifest in built_in(platform_on(target, environment, namespace=namespace)):
        apply(client, discovery, manifest, dryRun="All")
    assert list(client.warnings) == []


def test_pods_are_made_under_pod_security_restricted_and_a_second_run_changes_nothing(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    discovery = Discovery(client)
    result = platform_on("k3s", namespace=namespace, autoscaled=["api"])
    found = built_in(result)
    made: list[str] = []
    try:
        for manifest in found:
            apply(client, discovery, manifest)
            made.append(manifest["kind"])
        first = [stable(apply(client, discovery, manifest)) for manifest in found]
        again = [stable(apply(client, discovery, manifest)) for manifest in found]
        assert first == again
        assert list(client.warnings) == []
        if cluster.has_controllers:
            wait_for_pods(client, namespace, set(pods(result)))
    finally:
        for manifest in found:
            if manifest["kind"] == "PriorityClass" and made:
                client.request("DELETE", f"/apis/scheduling.k8s.io/v1/priorityclasses/{manifest['metadata']['name']}")
    assert set(workloads(result)) == set(pods(result))


def stable(found: dict[str, Any]) -> tuple[Any, ...]:
    """Return the fields that other content would change; controllers write the status at any time."""
    metadata = found["metadata"]
    return (found["kind"], metadata["name"], metadata.get("generation"), found.get("spec"), found.get("data"))


def wait_for_pods(client: Client, namespace: str, services: set[str]) -> None:
    """Wait until a pod of each service exists: the server rejects pods that exceed their limits."""
    deadline = time.monotonic() + TIMEOUT_S
    seen: set[str] = set()
    while time.monotonic() < deadline:
        items = client.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        seen = {item["metadata"]["labels"]["app.kubernetes.io/name"] for item in items}
        if services <= seen:
            return
        time.sleep(0.2)
    pytest.fail(f"no pod of {sorted(services - seen)}")
