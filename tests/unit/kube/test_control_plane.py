# SPDX-License-Identifier: GPL-3.0-or-later
"""Source addresses of API server requests, on clusters of several kinds."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.control_plane import (
    control_plane_cidrs,
)

MASTER = "node-role.kubernetes.io/control-plane"


def node(*addresses: str, role: str = MASTER, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "n", "labels": {role: ""} if role else {}, "annotations": annotations},
        "spec": spec,
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }


def endpoints(*addresses: str, service: str = "kubernetes") -> dict[str, Any]:
    metadata = {"labels": {"kubernetes.io/service-name": service}}
    return {"metadata": metadata, "endpoints": [{"addresses": [address]} for address in addresses]}


@pytest.mark.parametrize(
    ("slices", "nodes", "expected"),
    [
        ([], [], []),
        ([{"metadata": {}, "endpoints": None}], [{"metadata": {}}], []),
        ([endpoints("192.0.2.9", service="other")], [], []),
        # A managed control plane has addresses in the network, and no node.
        ([endpoints("10.0.11.9", "10.0.2.7")], [node("10.0.11.20", role="")], ["10.0.2.7/32", "10.0.11.9/32"]),
        (
            [endpoints("192.0.2.1")],
            [
                node("192.0.2.1", podCIDR="10.42.0.0/24", podCIDRs=["10.42.0.0/24", "fd42::/64"]),
                node("192.0.2.2", podCIDR="10.42.1.0/24", role=""),
            ],
            ["10.42.0.0/32", "10.42.0.1/32", "192.0.2.1/32", "fd42::/128", "fd42::1/128"],
        ),
        (
            [],
            [node("192.0.2.1", podCIDR="10.244.0.0/24", role="node-role.kubernetes.io/master")],
            ["10.244.0.0/32", "10.244.0.1/32", "192.0.2.1/32"],
        ),
        (
            [],
            [node("192.0.2.1", annotations={"projectcalico.org/IPv4VXLANTunnelAddr": "10.244.7.64"})],
            ["10.244.7.64/32", "192.0.2.1/32"],
        ),
        # Values that are not addresses, and addresses that no other machine reaches.
        ([endpoints("api.example.org", "127.0.0.1")], [node("::1")], []),
    ],
)
def test_a_control_plane_is_found_by_what_the_cluster_says_of_it(
    slices: list[dict[str, Any]], nodes: list[dict[str, Any]], expected: list[str]
) -> None:
    assert control_plane_cidrs(slices, nodes) == expected
