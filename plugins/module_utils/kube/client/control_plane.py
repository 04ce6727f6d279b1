# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Determine the source addresses of an API server's requests to a pod. Pure.

Health checks reach services through the API server's proxy, which opens the connection from the node of the API server.
The source is the node's own address, or its address in an overlay network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

ENDPOINTS: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_SERVICE: Final = ("kubernetes.io/service-name", "kubernetes")
_ROLES: Final = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
# Addresses of a node in Calico's overlay. Source: projectcalico.org, libcalico-go/lib/backend/k8s/resources/node.go.
_OVERLAY: Final = (
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv6WireguardInterfaceAddr",
)


def control_plane_cidrs(slices: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the addresses of a control plane as networks of one address each.

    slices: EndpointSlices of the namespace `default`. nodes: all nodes of the cluster.
    """
    addresses = {address for found in slices for address in _of_slice(found)}
    addresses |= {address for node in nodes if _is_control_plane(node) for address in _of_node(node)}
    found = [address for text in addresses if (address := _address(text)) is not None]
    return [f"{one}/{one.max_prefixlen}" for one in sorted(found, key=lambda address: (address.version, int(address)))]


def _of_slice(found: Mapping[str, Any]) -> Iterator[str]:
    name, service = _SERVICE
    ours = (found["metadata"].get("labels") or {}).get(name) == service
    for endpoint in (found.get("endpoints") or ()) if ours else ():
        yield from endpoint.get("addresses") or ()


def _is_control_plane(node: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return any(role in labels for role in _ROLES)


def _of_node(node: Mapping[str, Any]) -> Iterator[str]:
    for address in (node.get("status") or {}).get("addresses") or ():
        if address["type"] == "InternalIP":
            yield address["address"]
    annotations = node["metadata"].get("annotations") or {}
    yield from (annotations[name] for name in _OVERLAY if name in annotations)
    spec = node.get("spec") or {}
    for cidr in spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")]):
        # Flannel's device has the first address of the node's range, and its bridge the second.
        first = ipaddress.ip_network(cidr).network_address
        yield from (str(first), str(first + 1))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, or None for other texts, and for loopback and unspecified addresses."""
    try:
        found = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return None
    return None if found.is_loopback or found.is_unspecified else found
