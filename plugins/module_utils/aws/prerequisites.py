# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requirements of a plan in AWS, checked before the first change. Unreadable data never rejects a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..engine.errors import Fault
from ..engine.plan import Node
from ..engine.planning import Proposal
from ..engine.reference import STACK, Reference, parse
from ..engine.value import join, root
from .errors import CallError
from .session import Session

ACTIONS = frozenset({"ec2:DescribeInstanceTypes", "iam:GetPolicy"})
_BOUNDARY = "permissions_boundary"
# Processor architectures in the spelling of EC2, by parts of `ami_type`.
_ARCHITECTURES = {"x86_64": "x86_64", "ARM_64": "arm64"}
# Error codes of EC2 and IAM for missing objects.
_NO_TYPE = ("InvalidInstanceType",)
_NO_POLICY = ("NoSuchEntity",)


def prerequisite_faults(session: Session, proposal: Proposal) -> list[Fault]:
    """Return the errors that AWS would raise during a run: missing boundaries, unknown instance types, other zones."""
    nodes = [node for node in proposal.plan.nodes if node.action not in {"none", "delete"}]
    checks: Sequence[Callable[[], list[Fault]]] = (
        lambda: _boundary_faults(session, nodes),
        lambda: _type_faults(session, proposal, nodes),
        lambda: list(_zone_faults(proposal, nodes)),
    )
    return [fault for faults in session.each(lambda check: check(), checks) for fault in faults]


def _changed(node: Node, name: str) -> Any:
    """Return the new value of a property, or None where it does not change."""
    return next((change.after for change in node.changes if change.path == name), None)


def _boundary_faults(session: Session, nodes: Sequence[Node]) -> list[Fault]:
    """Return the first identity for each permissions boundary that does not exist."""
    wanted: dict[str, str] = {}
    for node in nodes:
        arn = _changed(node, _BOUNDARY)
        if isinstance(arn, str):
            wanted.setdefault(arn, node.address)
    answers = session.each(_policy_exists(session), wanted)
    missing = [arn for arn, exists in zip(wanted, answers, strict=True) if not exists]
    remedy = "create the policy, or name one that exists"
    return [Fault(wanted[arn], _BOUNDARY, f"there is no policy {arn}", remedy) for arn in missing]


def _policy_exists(session: Session) -> Callable[[str], bool]:
    def exists(arn: str) -> bool:
        try:
            session.ask("iam", "get_policy", PolicyArn=arn)
        except CallError as error:
            return not error.is_one_of(_NO_POLICY)
        return True

    return exists


def _type_faults(session: Session, proposal: Proposal, nodes: Sequence[Node]) -> list[Fault]:
    """Return the instance types that the region lacks, or that do not support the nodes' image."""
    groups = [
        node for node in nodes if node.kind == "eks_nodegroup" and _changes_any(node, "instance_types", "ami_type")
    ]
    types = {node.address: _listed(_wanted(proposal, node, "instance_types")) for node in groups}
    names = sorted({name for listed in types.values() for name in listed})
    known = dict(zip(names, session.each(_architectures(session), names), strict=True))
    return [
        Fault(node.address, join("instance_types", index), *validation_error)
        for node in groups
        for index, name in enumerate(types[node.address])
        for validation_error in _type_validation_errors(
            name, known[name], str(_wanted(proposal, node, "ami_type")), session.region
        )
    ]


def _changes_any(node: Node, *names: str) -> bool:
    return any(root(change.path) in names for change in node.changes)


def _wanted(proposal: Proposal, node: Node, name: str) -> Any:
    """Return the value of a property after the plan."""
    if _changes_any(node, name):
        return _changed(node, name)
    actual = proposal.actuals.get(node.address)
    return actual.properties.get(name) if actual else None


def _listed(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def _architectures(session: Session) -> Callable[[str], list[str] | None]:
    """Return a function that returns the architectures of an instance type: None for an unknown type."""

    def read(name: str) -> list[str] | None:
        try:
            found = session.ask("ec2", "describe_instance_types", InstanceTypes=[name])["InstanceTypes"]
        except CallError as error:
            return [] if error.is_one_of(_NO_TYPE) else None
        return [word for item in found for word in item.get("ProcessorInfo", {}).get("SupportedArchitectures", ())]

    return read


def _type_validation_errors(
    name: str, has: Sequence[str] | None, ami_type: str, region: str
) -> Iterator[tuple[str, str]]:
    if has is None:
        return
    needed = next((word for part, word in _ARCHITECTURES.items() if part in ami_type), "")
    if not has:
        yield f"EC2 has no instance type {name} in {region}", "choose one that the region has"
    elif needed and needed not in has:
        message = f"{name} has the architecture {', '.join(has)}, and the image {ami_type} is for {needed}"
        yield message, f"choose instance types with {needed}"


def _zone_faults(proposal: Proposal, nodes: Sequence[Node]) -> Iterator[Fault]:
    """Yield every cluster whose new subnets are in other availability zones than the subnets of its creation.

    Source: "View Amazon EKS networking requirements for VPC and subnets" in the Amazon EKS user guide.
    """
    zones = _subnet_zones(proposal)
    for node in nodes:
        if node.kind != "eks_cluster" or node.action != "update" or _changed(node, "subnet_ids") is None:
            continue
        existing = {actual.id: address for address, actual in proposal.actuals.items()}
        has = {zones.get(existing.get(id_, "")) for id_ in proposal.actuals[node.address].properties["subnet_ids"]}
        wants = {zones.get(address) for address in _referred(proposal.description.resources[node.address].properties)}
        if None in has or None in wants or has == wants:
            continue
        message = (
            f"would be in {_words(wants)}, and EKS keeps a cluster in the availability zones that it was created in,"
            f" {_words(has)}"
        )
        yield Fault(node.address, "subnet_ids", message, f"describe subnets in {_words(has)} alone")


def _subnet_zones(proposal: Proposal) -> dict[str, str]:
    """Return the availability zones of existing and planned subnets by address."""
    created = {node.address: _changed(node, "availability_zone") for node in proposal.plan.nodes}
    existing = {
        address: actual.properties.get("availability_zone")
        for address, actual in proposal.actuals.items()
        if address.startswith("subnet.")
    }
    pairs = [*existing.items(), *created.items()]
    return {address: zone for address, zone in pairs if isinstance(zone, str)}


def _referred(properties: Mapping[str, Any]) -> Iterator[str]:
    """Yield the addresses of a cluster's subnets; ids that are not references are returned unchanged."""
    for item in properties.get("subnet_ids") or ():
        try:
            parts = list(parse(item))
        except ValueError:
            parts = []
        reference = parts[0] if len(parts) == 1 else None
        yield reference.address if isinstance(reference, Reference) and reference.address != STACK else str(item)


def _words(zones: set[str | None]) -> str:
    return ", ".join(sorted(zone for zone in zones if zone))
