# SPDX-License-Identifier: GPL-3.0-or-later
"""Source addresses of requests of a real API server, which network policies have to allow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.preflight import Question, examine
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.control_plane import ENDPOINTS
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from tests.integration.kube.cluster import Cluster

NODES = "/api/v1/nodes"
NAME = "lakehouse-test-control-plane"


@pytest.fixture
def labelled(cluster: Cluster) -> Iterator[Cluster]:
    """Return a cluster with a control plane machine, whose API server has one address."""
    labels = {"node-role.kubernetes.io/control-plane": ""}
    node = {
        "metadata": {"name": NAME, "labels": labels},
        "spec": {"podCIDR": "10.42.7.0/24", "podCIDRs": ["10.42.7.0/24"], "unschedulable": True},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.17"}]},
    }
    slices = {
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.18"]}],
        "ports": [{"name": "https", "port": 6443}],
    }
    with cluster.client() as client:
        client.request("POST", NODES, body={"apiVersion": "v1", "kind": "Node", **node})
        client.request("POST", ENDPOINTS, body={"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **slices})
        try:
            yield cluster
        finally:
            client.request("DELETE", f"{NODES}/{NAME}")
            client.request("DELETE", f"{ENDPOINTS}/{NAME}")


def test_the_preflight_finds_machines_overlay_and_endpoints_of_a_control_plane(labelled: Cluster) -> None:
    with labelled.client() as client:
        question = Question("health", "k3s", "development", "crypto-lakehouse")
        found = examine(client, Discovery(client), question).facts.control_plane_cidrs
    assert set(found) >= {"192.0.2.17/32", "192.0.2.18/32", "10.42.7.0/32", "10.42.7.1/32"}
