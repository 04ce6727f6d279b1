# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quotas of the account that a plan would exceed. Unreadable quotas and usages are considered sufficient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.errors import Fault
from ..engine.plan import Node
from .ec2 import ADDRESSES, INTERNET_GATEWAYS, VPCS
from .errors import CallError
from .session import Session

_REMEDY = "increase the quota in Service Quotas, or delete unused resources"
# Instance families that share one quota of vCPUs. Source: "EC2 service quotas" in the user guide of EC2.
_STANDARD = frozenset("acdhimrtz")
ACTIONS = frozenset(
    {
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeInstances",
        "iam:GetAccountSummary",
        "rds:DescribeAccountAttributes",
        "servicequotas:GetServiceQuota",
    }
)


@dataclass(frozen=True)
class Quota:
    """Quota of a kind in the account, and its usage. unit: counted item, for messages."""

    unit: str
    most: float
    used: float


def quota_faults(session: Session, nodes: Sequence[Node]) -> list[Fault]:
    """Return the quotas that the created resources of a plan would exceed."""
    created: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.action == "create" or node.create_first:
            created[node.kind].append(node)
    asked = [(kind, read) for kind, read in _QUOTAS.items() if kind in created]
    found = session.each(lambda item: _readable(lambda: item[1](session)), asked)
    faults = []
    for (kind, _read), quota in zip(asked, found, strict=True):
        if quota is not None:
            faults += _exceeded(quota, len(created[kind]), created[kind][0].address)
    return [*faults, *_processor_faults(session, created["eks_nodegroup"])]


def _exceeded(quota: Quota, needed: float, address: str, path: str = "") -> list[Fault]:
    if quota.used + needed <= quota.most:
        return []
    message = f"needs {needed:g} {quota.unit}, and the account has {quota.used:g} of at most {quota.most:g}"
    return [Fault(address, path, message, _REMEDY)]


def _readable(read: Callable[[], Quota]) -> Quota | None:
    """Return the result of a read, or None where the call fails or the answer lacks the value."""
    try:
        return read()
    except (CallError, KeyError):
        return None


def _service_quota(session: Session, service: str, code: str) -> float:
    answer = session.ask("service-quotas", "get_service_quota", ServiceCode=service, QuotaCode=code)
    return float(answer["Quota"]["Value"])


def _counted(unit: str, service: str, code: str, count: Callable[[Session], int]) -> Callable[[Session], Quota]:
    return lambda session: Quota(unit, _service_quota(session, service, code), count(session))


def _of_iam(unit: str, word: str) -> Callable[[Session], Quota]:
    def read(session: Session) -> Quota:
        summary = session.once("account summary", lambda: session.ask("iam", "get_account_summary"))["SummaryMap"]
        return Quota(unit, summary[f"{word}Quota"], summary[word])

    return read


def _databases(session: Session) -> Quota:
    quotas = session.ask("rds", "describe_account_attributes")["AccountQuotas"]
    (found,) = [item for item in quotas if item["AccountQuotaName"] == "DBInstances"] or [{}]
    return Quota("database instances", found["Max"], found["Used"])


_QUOTAS: Mapping[str, Callable[[Session], Quota]] = {
    "vpc": _counted("VPCs", "vpc", "L-F678F1CE", lambda session: len(VPCS.matching(session, {}))),
    "internet_gateway": _counted(
        "internet gateways", "vpc", "L-A4707A72", lambda session: len(INTERNET_GATEWAYS.matching(session, {}))
    ),
    "elastic_ip": _counted(
        "elastic addresses", "ec2", "L-0263D0A3", lambda session: len(ADDRESSES.matching(session, {}))
    ),
    "eks_cluster": _counted(
        "clusters", "eks", "L-1194D53C", lambda session: len(session.pages("eks", "list_clusters", "clusters"))
    ),
    "iam_role": _of_iam("roles", "Roles"),
    "iam_policy": _of_iam("policies", "Policies"),
    "instance_profile": _of_iam("instance profiles", "InstanceProfiles"),
    "db_instance": _databases,
}


def _processor_faults(session: Session, groups: Sequence[Node]) -> list[Fault]:
    """Return the node groups whose initial instances exceed the vCPU quota."""
    faults = []
    for capacity, code in (("ON_DEMAND", "L-1216C47A"), ("SPOT", "L-34B43A08")):
        mine = [node for node in groups if _property(node, "capacity_type") == capacity]
        wanted = {node.address: (_first_type(node), _nodes(node)) for node in mine if _first_type(node)}
        types = sorted({type_ for type_, _count in wanted.values()})
        if not types:
            continue

        def read(code: str = code, capacity: str = capacity) -> Quota:
            most = _service_quota(session, "ec2", code)
            return Quota("virtual processors", most, _processors_in_use(session, capacity))

        quota = _readable(read)
        sizes = _sizes(session, types)
        needed = sum(sizes.get(type_, 0) * count for type_, count in wanted.values())
        if quota is not None:
            faults += _exceeded(quota, needed, min(wanted), "scaling_config")
    return faults


def _property(node: Node, name: str) -> Any:
    return next((change.after for change in node.changes if change.path == name), None)


def _first_type(node: Node) -> str:
    types = _property(node, "instance_types")
    first = types[0] if isinstance(types, list) and types else ""
    return first if isinstance(first, str) and first[:1] in _STANDARD else ""


def _nodes(node: Node) -> int:
    scaling = _property(node, "scaling_config")
    count = scaling.get("desired_size") or scaling.get("min_size") if isinstance(scaling, Mapping) else 0
    return count if isinstance(count, int) else 0


def _sizes(session: Session, types: Sequence[str]) -> dict[str, int]:
    """Return the vCPUs of instance types, as far as they are readable."""
    try:
        found = session.ask("ec2", "describe_instance_types", InstanceTypes=types)["InstanceTypes"]
        return {item["InstanceType"]: item["VCpuInfo"]["DefaultVCpus"] for item in found}
    except (CallError, KeyError):
        return {}


def _processors_in_use(session: Session, capacity: str) -> int:
    running = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    reservations = session.pages("ec2", "describe_instances", "Reservations", Filters=running)
    instances = [item for reservation in reservations for item in reservation["Instances"]]
    mine = [item for item in instances if (item.get("InstanceLifecycle") == "spot") == (capacity == "SPOT")]
    options = [item.get("CpuOptions") or {} for item in mine if item["InstanceType"][:1] in _STANDARD]
    return sum(option.get("CoreCount", 1) * option.get("ThreadsPerCore", 1) for option in options)
