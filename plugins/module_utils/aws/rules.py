# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules over several resources that AWS would report one call after the other. They make no call."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from ..engine.errors import Fault
from ..engine.resource import Resource
from ..engine.value import LISTS, MAPS, PLAIN, join
from .naming import segment_fault

# Properties that contain unique names in AWS.
_NAMES = ("name", "alias", "identifier", "url")
_IDENTIFIERS = frozenset({*_NAMES, "bucket", "namespace", "path", "role", "service_account"})
# Without a reference or a wildcard as partition.
_ARN = re.compile(r"arn:([a-z][a-z-]*):")
_IDENTIFIER_ENDINGS = ("_arn", "_bucket", "_identifier", "_name")


def network_faults(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Yield every subnet that overlaps another one, or is outside of its VPC."""
    networks = {r.address: network for r in resources if (network := _network(r.properties.get("cidr_block")))}
    subnets = [r for r in resources if r.kind == "subnet" and r.address in networks]
    for one, other in combinations(subnets, 2):
        same_vpc = one.properties.get("vpc_id") == other.properties.get("vpc_id")
        if same_vpc and networks[one.address].overlaps(networks[other.address]):
            message = f"{networks[one.address]} overlaps {networks[other.address]} of {other.address}"
            yield Fault(one.address, "cidr_block", message, "set a different network for each subnet of a VPC")
    for subnet in subnets:
        address = _referred(subnet.properties.get("vpc_id"))
        if address in networks and not networks[subnet.address].subnet_of(networks[address]):
            message = f"{networks[subnet.address]} is not inside {networks[address]} of {address}"
            yield Fault(subnet.address, "cidr_block", message, "choose a part of the VPC's network")


def identifier_faults(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Yield every name, path and ARN that would change the path of a request or the structure of an ARN."""
    for resource in resources:
        for path, value in _identifiers(resource.properties, ""):
            message = segment_fault(value)
            if message:
                yield Fault(resource.address, path, message, "choose a name without them")


RULES = (network_faults, identifier_faults)


def partition_faults(resources: Sequence[Resource], partition: str) -> Iterator[Fault]:
    """Yield every ARN of a partition other than that of the region, once with the first property that contains it."""
    told: set[str] = set()
    for resource in resources:
        for path, text, named in _arns(resource.properties, ""):
            if named != partition and text not in told:
                told.add(text)
                message = f"{text} is in the partition {named}, and the region in {partition}"
                yield Fault(resource.address, path, message, f"name a resource of {partition}")


def _arns(value: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield every ARN with its path and its partition."""
    if isinstance(value, str):
        if named := _ARN.match(value):
            yield path, value, named[1]
    elif isinstance(value, MAPS):
        for key, item in value.items():
            if not isinstance(item, str) or _ARN.match(item):
                yield from _arns(item, join(path, str(key)))
    elif isinstance(value, LISTS):
        for index, item in enumerate(value):
            yield from _arns(item, join(path, index))


def _identifiers(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, value) of the texts whose key is that of a resource name."""
    if isinstance(value, PLAIN):
        return
    if isinstance(value, MAPS):
        for key, item in value.items():
            if not isinstance(item, str):
                yield from _identifiers(item, join(path, key))
            elif key in _IDENTIFIERS or str(key).endswith(_IDENTIFIER_ENDINGS):
                yield join(path, key), item
    elif isinstance(value, LISTS):
        for index, item in enumerate(value):
            yield from _identifiers(item, join(path, index))


def _network(value: Any) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _referred(value: Any) -> str:
    """Return the address in a plain reference like `${vpc.main.id}`."""
    text = value if isinstance(value, str) else ""
    return ".".join(text[2:-1].split(".")[:2]) if text.startswith("${") and text.endswith("}") else ""
