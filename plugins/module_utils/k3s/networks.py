# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of a K3s cluster: pods, services, name server and addresses of hosts, and where they overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from ..shared.problem import Problem
from .configuration import VARIABLE, effective
from .model import ClusterSpec, Reports, report_of
from .settings import SETTINGS

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

PODS, SERVICES, NAME_SERVER = "cluster-cidr", "service-cidr", "cluster-dns"
# kube-apiserver accepts at most 20 bits of service addresses, kube-controller-manager gives each node a /24 or a /64.
_SERVICE_BITS = 20
_NODE_PREFIX = {4: 24, 6: 64}


@dataclass(frozen=True)
class Networks:
    """Parsed networks of the configuration."""

    pods: tuple[Network, ...]
    services: tuple[Network, ...]
    name_servers: tuple[Address, ...]


def network_problems(spec: ClusterSpec, reports: Reports) -> list[Problem]:
    """Return every problem of the cluster's networks; only the malformed ones where one is malformed."""
    malformed = [*_malformed(spec, PODS), *_malformed(spec, SERVICES), *_malformed(spec, NAME_SERVER)]
    if malformed:
        return malformed
    networks = _networks(spec)
    return [
        *_overlap_problems(networks),
        *_host_problems(spec, reports, networks),
        *_family_problems(spec, reports, networks),
        *_size_problems(spec, networks),
        *_name_server_problems(networks),
    ]


def _values(spec: ClusterSpec, name: str) -> Sequence[str]:
    values: Sequence[str] = effective(spec.configuration, SETTINGS[name])
    return values


def _malformed(spec: ClusterSpec, name: str) -> Iterable[Problem]:
    for value in _values(spec, name):
        try:
            ip_address(value) if name == NAME_SERVER else ip_network(value)
        except ValueError as error:
            remedy = (
                "write a network such as 10.42.0.0/16" if name != NAME_SERVER else "write an address of the services"
            )
            yield Problem(VARIABLE, f"`{name}` is malformed: {error}", remedy)


def _networks(spec: ClusterSpec) -> Networks:
    return Networks(
        tuple(map(ip_network, _values(spec, PODS))),
        tuple(map(ip_network, _values(spec, SERVICES))),
        tuple(map(ip_address, _values(spec, NAME_SERVER))),
    )


def _overlap_problems(networks: Networks) -> Iterable[Problem]:
    for pods in networks.pods:
        for services in networks.services:
            if overlap(pods, services):
                message = f"`{PODS}` {pods} and `{SERVICES}` {services} overlap"
                yield Problem(VARIABLE, message, "choose networks that do not overlap")


def overlap(one: Network, other: Network) -> bool:
    """Return whether two networks of one family share an address."""
    return one.version == other.version and one.overlaps(other)


def _host_problems(spec: ClusterSpec, reports: Reports, networks: Networks) -> Iterable[Problem]:
    for host in spec.hosts:
        for address in addresses(reports, host):
            for name, listed in ((PODS, networks.pods), (SERVICES, networks.services)):
                for network in listed:
                    if address in network:
                        message = f"the address {address} of {host} lies in `{name}` {network}"
                        yield Problem(VARIABLE, message, f"choose a `{name}` outside the networks of the hosts")


def addresses(reports: Reports, host: str) -> list[Address]:
    """Return the addresses of a host that can be parsed, without loopback and link-local ones."""
    system = report_of(reports, host).system
    found = []
    for text in system.addresses if system else ():
        try:
            address = ip_address(text)
        except ValueError:
            continue
        if not address.is_loopback and not address.is_link_local:
            found.append(address)
    return found


def _family_problems(spec: ClusterSpec, reports: Reports, networks: Networks) -> Iterable[Problem]:
    pods, services = [network.version for network in networks.pods], [network.version for network in networks.services]
    if pods != services:
        message = f"`{PODS}` is IPv{'+v'.join(map(str, pods))} and `{SERVICES}` is IPv{'+v'.join(map(str, services))}"
        yield Problem(VARIABLE, message, "list the same families in the same order in both")
    if len(set(pods)) != len(pods) or len(set(services)) != len(services):
        yield Problem(
            VARIABLE, f"`{PODS}` or `{SERVICES}` lists one family twice", "list at most one network of a family"
        )
    for host in spec.hosts:
        own = {address.version for address in addresses(reports, host)}
        missing = sorted({*pods, *services} - own)
        if own and missing:
            message = f"{host} has no IPv{missing[0]} address, and the cluster's networks need one"
            yield Problem(VARIABLE, message, "give the host an address of that family, or remove the family's networks")


def _size_problems(spec: ClusterSpec, networks: Networks) -> Iterable[Problem]:
    for network in networks.services:
        if network.max_prefixlen - network.prefixlen > _SERVICE_BITS:
            widest = network.max_prefixlen - _SERVICE_BITS
            yield Problem(
                VARIABLE, f"`{SERVICES}` {network} is too wide for kube-apiserver", f"use /{widest} or narrower"
            )
    for network in networks.pods:
        prefix = _NODE_PREFIX[network.version]
        nodes = 2 ** (prefix - network.prefixlen) if network.prefixlen <= prefix else 0
        if nodes < len(spec.hosts):
            message = f"`{PODS}` {network} is too narrow: each of {len(spec.hosts)} nodes gets a /{prefix}"
            yield Problem(VARIABLE, message, "use a wider network; it cannot change later")


def _name_server_problems(networks: Networks) -> Iterable[Problem]:
    for address in networks.name_servers:
        if not any(address in network for network in networks.services):
            message = f"`{NAME_SERVER}` {address} is not in `{SERVICES}`"
            yield Problem(VARIABLE, message, "choose an address of the services, such as the tenth")
