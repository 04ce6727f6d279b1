# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may talk to whom: everything is closed, then exactly what the services say of each other is opened.

What a service calls follows from its words: the ports of others that it names, `calls` and `outbound_ports`. Who calls
it is the same seen from the other end, with the scrapes of its metrics, the ingress, and the API server's proxy, which
the health of services is asked for through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .layout import Address, ClusterLayout
from .part import PLATFORM, Entry, Part, labels, pods_of
from .postgresql import METRICS_PORT, STATUS_PORT

NAMESPACE_NAME = "kubernetes.io/metadata.name"
API_PORTS = (443, 6443)

METADATA_SERVICE = "169.254.169.254/32"
"""What tells every process of a cloud's machine the rights of that machine; a pod has rights of its own."""
ANYWHERE: tuple[Entry, ...] = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": [METADATA_SERVICE]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}},
)
POD_IDENTITY: tuple[Entry, ...] = (
    {"ipBlock": {"cidr": "169.254.170.23/32"}},
    {"ipBlock": {"cidr": "fd00:ec2::23/128"}},
)
"""The agent of EKS that gives a pod the rights of its service account."""
PROXY_AGENTS: Entry = {
    "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "konnectivity-agent"}},
}
"""Where the API server has no way into the network of pods, as on GKE, these make its connections for it."""
NODE_DNS = "169.254.20.10/32"
"""Where a node's own DNS cache listens, on clusters that have one."""

Ports = frozenset[tuple[int, str]]


@dataclass(frozen=True)
class Calls:
    """Which service calls which port of which other, by the names of the services."""

    layout: ClusterLayout
    parts: Sequence[Part]

    @cached_property
    def by_name(self) -> dict[str, Part]:
        """The services by name."""
        return {part.name: part for part in self.parts}

    def callers(self, owner: str) -> dict[str, Ports]:
        """Return who calls the pods of a service, with the ports."""
        found: dict[str, Ports] = {}
        for part in self.parts:
            for name, ports in part.reached.items():
                if self.layout.owner(name) == owner:
                    caller = self.layout.owner(part.name)
                    found[caller] = found.get(caller, frozenset()) | _numbers(self.layout, name, ports)
        return dict(sorted(found.items()))


def policies(layout: ClusterLayout, parts: Sequence[Part]) -> Iterator[Entry]:
    """Yield the network policies of the namespace."""
    calls = Calls(layout, parts)
    everybody: Entry = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    yield _policy(layout, "default-deny", everybody)
    yield _policy(layout, "allow-dns", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [_dns()]})
    for part in parts:
        if part.runs:
            egress = [*_egress(calls, part), *(_operated_egress(part) if part.operator else ())]
            ingress = [*_ingress(calls, part), *(_operated_ingress(part) if part.operator else ())]
            spec: Entry = {"podSelector": {"matchLabels": part.selector}, "policyTypes": ["Ingress", "Egress"]}
            spec |= {word: rules for word, rules in (("ingress", ingress), ("egress", egress)) if rules}
            yield _policy(layout, part.name, spec, part.labels)


def _policy(layout: ClusterLayout, name: str, spec: Entry, found: Mapping[str, str] | None = None) -> Entry:
    metadata = {"name": name, "namespace": layout.cluster.namespace, "labels": dict(found or labels(PLATFORM))}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _dns() -> Entry:
    servers = {**_of_namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    ports = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {"to": [servers, {"ipBlock": {"cidr": NODE_DNS}}], "ports": ports}


def _ingress(calls: Calls, part: Part) -> Iterator[Entry]:
    layout, cluster = calls.layout, calls.layout.cluster
    by_ports: dict[Ports, list[Entry]] = {}
    for caller, ports in calls.callers(part.name).items():
        by_ports.setdefault(ports, []).append({"podSelector": {"matchLabels": pods_of(layout, caller)}})
    scraped = _scraped(layout, part)
    if scraped:
        by_ports.setdefault(scraped, []).append(_of_namespace(cluster.monitoring_namespace))
    outside = [_of_namespace(name) for name in cluster.ingress_namespaces]
    outside += [{"ipBlock": {"cidr": cidr}} for cidr in cluster.ingress_cidrs]
    entered = _entered(layout, part)
    if entered and outside:
        by_ports.setdefault(entered, []).extend(outside)
    asked = _asked(layout, part)
    if asked:
        by_ports.setdefault(asked, []).extend(_control_plane(layout))
    for ports, peers in sorted(by_ports.items(), key=lambda found: sorted(found[0])):
        yield {"from": peers, "ports": _listed(ports)}


def _scraped(layout: ClusterLayout, part: Part) -> Ports:
    if part.operator:
        return frozenset({(METRICS_PORT, "tcp")})
    found = {(each.name, each.metrics.port) for each in layout.served(part.name) if each.metrics}
    return frozenset().union(*(_numbers(layout, name, {port}) for name, port in sorted(found)))


def _asked(layout: ClusterLayout, part: Part) -> Ports:
    """Return the ports on which services are asked for their health through the API server's proxy."""
    checks = [(each.name, each.health) for each in layout.served(part.name)]
    asked = {(name, health.port) for name, health in checks if health and health.type == "http" and health.port}
    return frozenset().union(*(_numbers(layout, name, {port}) for name, port in sorted(asked)))


def _control_plane(layout: ClusterLayout) -> list[Entry]:
    return [*({"ipBlock": {"cidr": cidr}} for cidr in layout.cluster.control_plane_cidrs), PROXY_AGENTS]


def _entered(layout: ClusterLayout, part: Part) -> Ports:
    """Return the ports that are reached from outside of the cluster."""
    found: set[tuple[int, str]] = set()
    for service in layout.served(part.name):
        is_entered = service.name in layout.cluster.ingress_services
        for port in service.ports.values():
            if not port.internal and (port.expose or (is_entered and port.application_protocol == "http")):
                found.add((port.port, port.protocol))
    return frozenset(found)


def _egress(calls: Calls, part: Part) -> Iterator[Entry]:
    layout, catalogue = calls.layout, calls.layout.catalogue
    called: dict[str, set[str]] = {}
    for service in layout.served(part.name):
        for name, ports in calls.by_name[service.name].reached.items():
            called.setdefault(name, set()).update(ports)
    for name, ports in sorted(called.items()):
        if name in layout.present:
            yield {
                "to": [{"podSelector": {"matchLabels": pods_of(layout, name)}}],
                "ports": _listed(_numbers(layout, name, ports)),
            }
        else:
            yield from _elsewhere({layout.addresses[name][port] for port in ports})
    outbound = sorted({*part.service.outbound_ports, *(_proxies(part) if part.service.outbound_ports else ())})
    if outbound:
        yield {"to": list(ANYWHERE), "ports": [{"port": port, "protocol": "TCP"} for port in outbound]}
    if catalogue.target == "eks" and part.service.service_account:
        yield {"to": list(POD_IDENTITY), "ports": [{"port": 80, "protocol": "TCP"}]}


def _proxies(part: Part) -> list[int]:
    return part.layout.cluster.proxy_ports()


def _elsewhere(addresses: Iterable[Address]) -> Iterator[Entry]:
    """Yield what leads to a service that something else stands in for: a namespace of the cluster, or any address."""
    for address in sorted(addresses, key=str):
        parts = address.host.split(".")
        is_inside = len(parts) >= 3 and parts[2] == "svc"
        peers = [_of_namespace(parts[1])] if is_inside else list(ANYWHERE)
        # Policies are about the ports of pods; a service of another namespace may lead to another one than its own.
        ports = {} if is_inside else {"ports": [{"port": address.port, "protocol": "TCP"}]}
        yield {"to": peers, **ports}


def _operated_ingress(part: Part) -> list[Entry]:
    """Return who else talks to PostgreSQL: its operator, and its instances among themselves."""
    numbers = sorted(port.port for port in part.service.ports.values())
    ports = [{"port": port, "protocol": "TCP"} for port in [*numbers, STATUS_PORT]]
    return [
        {"from": [_of_namespace(part.layout.cluster.operator_namespace)], "ports": ports},
        {"from": [{"podSelector": {"matchLabels": part.selector}}], "ports": ports},
    ]


def _operated_egress(part: Part) -> list[Entry]:
    """Return whom the instances talk to: each other, and the API server, which says who is the primary."""
    numbers = sorted(port.port for port in part.service.ports.values())
    ports = [{"port": port, "protocol": "TCP"} for port in [*numbers, STATUS_PORT]]
    api = [{"port": port, "protocol": "TCP"} for port in API_PORTS]
    return [{"to": [{"podSelector": {"matchLabels": part.selector}}], "ports": ports}, {"ports": api}]


def _of_namespace(name: str) -> Entry:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}


def _numbers(layout: ClusterLayout, name: str, ports: Iterable[str]) -> Ports:
    found = layout.catalogue.services[name].ports
    return frozenset((found[port].port, found[port].protocol) for port in ports)


def _listed(ports: Ports) -> list[Entry]:
    return [{"port": port, "protocol": protocol.upper()} for port, protocol in sorted(ports)]
