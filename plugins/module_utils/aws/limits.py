# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of AWS that its own models do not contain, in one table. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.errors import Fault
from ..engine.schema import ValidationError, shown
from ..engine.value import Unknown, join, mapped
from .dashboards import body_validation_errors
from .kind import AwsKind, document
from .naming import arn_fault
from .policy_grammar import INLINE, SORTS, policy_validation_errors
from .rds_rules import class_rules, disk_rules
from .s3_rules import order_faults
from .schedules import EXAMPLE, cron_fault

Desired = Mapping[str, Any]
_TAG = re.compile(r"[\w\s.:/=+\-@]*")
_INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
_OTHER_SERVICES = ("db.", "cache.", "ml.", "dax.", "kafka.", "search.")
_DAY_S, _WEEK_S, _HOUR_S = 86_400, 604_800, 3600
_MOST_PUBLIC_CIDRS = 40
_PRIVATE_NETWORKS = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
# Resource types in ARNs, by the end of a property's name.
_ARNS: Mapping[str, tuple[str, str]] = {
    "role_arn": (r":iam::\d{12}:role/", "arn:aws:iam::111122223333:role/NAME"),
    "policy_arns": (r":iam::(?:\d{12}|aws):policy/", "arn:aws:iam::aws:policy/NAME"),
    "permissions_boundary": (r":iam::(?:\d{12}|aws):policy/", "arn:aws:iam::111122223333:policy/NAME"),
    "key_arn": (r":kms:[a-z0-9-]+:\d{12}:(?:key|alias)/", "arn:aws:kms:REGION:111122223333:key/ID"),
    "vault_arn": (r":backup:[a-z0-9-]+:\d{12}:backup-vault:", "arn:aws:backup:REGION:111122223333:backup-vault:NAME"),
}
# Documents and tags, whose keys are free text.
_OTHERS = frozenset({"body", "inline_policies", "tags"})
_ARN_NAME = re.compile(r"(?:^|_)arns?$|^permissions_boundary$|_actions$")


@dataclass(frozen=True)
class Limit:
    """One limit. kinds: kinds whose properties `find` gets; empty: every kind. source: AWS documentation."""

    kinds: tuple[str, ...]
    find: Callable[[Desired], Iterator[ValidationError]]
    source: str


def _tags(desired: Desired) -> Iterator[ValidationError]:
    tags = desired.get("tags")
    if not isinstance(tags, Mapping):
        return
    for key, value in tags.items():
        for text in (key, value):
            if isinstance(text, str) and not _TAG.fullmatch(text):
                remedy = "use letters, digits, spaces and any of _.:/=+-@"
                yield join("tags", str(key)), f"{shown(text)} has other characters than tags have", remedy


def _tags_of_iam(desired: Desired) -> Iterator[ValidationError]:
    alike: dict[str, list[str]] = defaultdict(list)
    for key in desired.get("tags") or () if isinstance(desired.get("tags"), Mapping) else ():
        alike[str(key).lower()].append(str(key))
    for keys in alike.values():
        if len(keys) > 1:
            remedy = f"keep one of them: IAM treats {keys[0]} and {keys[1]} as the same key"
            yield "tags", f"has the keys {', '.join(sorted(keys))}", remedy


def _arns(desired: Desired) -> Iterator[ValidationError]:
    for path, name, value in _named_texts(desired, "", ""):
        if not _ARN_NAME.search(name) or not isinstance(value, str):
            continue
        pattern, example = next((item for end, item in _ARNS.items() if name.endswith(end)), ("", ""))
        message = arn_fault(value)
        if message is None and pattern and not re.search(pattern, value):
            message = f"{shown(value)} is the ARN of something else"
        if message:
            yield path, message, f"write {example or 'arn:PARTITION:SERVICE:REGION:ACCOUNT:NAME'}"


def _named_texts(value: Any, name: str, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield every leaf with its path and the name of its property, without policies, which have their own checks."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            is_arn = str(key).endswith(("_arn", "_arns"))
            if is_arn or ("policy" not in str(key) and key not in _OTHERS):
                yield from _named_texts(part, str(key), join(path, str(key)))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _named_texts(part, name, join(path, index))
    else:
        yield path, name, value


def _instance_types(desired: Desired) -> Iterator[ValidationError]:
    several = desired.get("instance_types")
    types = [("instance_type", desired.get("instance_type"))]
    types += [(join("instance_types", index), item) for index, item in enumerate(several or ())]
    for path, value in types:
        if isinstance(value, str) and (value.startswith(_OTHER_SERVICES) or not _INSTANCE_TYPE.fullmatch(value)):
            yield path, f"{value!r} is not an instance type of EC2", "write it like t3.medium"


def _alarm(desired: Desired) -> Iterator[ValidationError]:
    periods, enough = desired.get("evaluation_periods"), desired.get("datapoints_to_alarm")
    if isinstance(periods, int) and periods < 1:
        yield "evaluation_periods", f"{periods} is less than 1", "give 1 or more"
    elif isinstance(periods, int) and isinstance(enough, int) and enough > periods:
        message = f"{enough} is more than evaluation_periods ({periods})"
        yield "datapoints_to_alarm", message, f"give at most {periods}"
    metrics = [item for item in desired.get("metrics") or () if isinstance(item, Mapping)]
    used = [
        desired.get("period"),
        *((item.get("metric_stat") or {}).get("period") or item.get("period") for item in metrics),
    ]
    longest_s = max((period for period in used if isinstance(period, int)), default=0)
    most_s = _WEEK_S if longest_s >= _HOUR_S else _DAY_S
    if isinstance(periods, int) and longest_s * periods > most_s:
        message = f"{periods} periods of {longest_s} s are longer than {most_s} s"
        yield "evaluation_periods", message, f"give at most {most_s // longest_s}"


def _dashboard(desired: Desired) -> Iterator[ValidationError]:
    if not isinstance(desired.get("body"), Unknown):
        yield from body_validation_errors(desired.get("body"))


def _lifecycle(desired: Desired) -> Iterator[ValidationError]:
    rules = desired.get("lifecycle_rules")
    yield from order_faults(rules if isinstance(rules, list) else ())


def _crawler_schedule(desired: Desired) -> Iterator[ValidationError]:
    yield from _schedule(desired.get("schedule"), "schedule")


def _backup_schedule(desired: Desired) -> Iterator[ValidationError]:
    for index, rule in enumerate(desired.get("rules") or () if isinstance(desired.get("rules"), list) else ()):
        if isinstance(rule, Mapping):
            yield from _schedule(rule.get("schedule_expression"), f"rules[{index}].schedule_expression")


def _schedule(value: Any, path: str) -> Iterator[ValidationError]:
    fault = cron_fault(value) if isinstance(value, str) else None
    if fault:
        yield path, fault, f"write it like {EXAMPLE}, in UTC"


def _cluster_networks(desired: Desired) -> Iterator[ValidationError]:
    cidrs = desired.get("public_access_cidrs")
    for index, cidr in enumerate(cidrs if isinstance(cidrs, list) else ()):
        network = _network(cidr)
        if network is not None and any(map(network.subnet_of, _PRIVATE_NETWORKS)):
            remedy = "name the public addresses that the requests come from"
            yield join("public_access_cidrs", index), f"{cidr} is not a network of the internet", remedy
    if isinstance(cidrs, list) and len(cidrs) > _MOST_PUBLIC_CIDRS:
        yield "public_access_cidrs", f"has {len(cidrs)} networks", f"EKS accepts at most {_MOST_PUBLIC_CIDRS}"
    services = _network(desired.get("service_ipv4_cidr"))
    if services is not None and not (
        12 <= services.prefixlen <= 24 and any(map(services.subnet_of, _PRIVATE_NETWORKS))
    ):
        remedy = "EKS accepts /12 to /24 inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
        yield "service_ipv4_cidr", f"{services} is not a network for services", remedy


def _network(value: Any) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _subscriptions(desired: Desired) -> Iterator[ValidationError]:
    listed = desired.get("subscriptions")
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        protocol, endpoint = (item.get("protocol"), item.get("endpoint")) if isinstance(item, Mapping) else (None, None)
        if not isinstance(endpoint, str):
            continue
        path = f"subscriptions[{index}].endpoint"
        if protocol in {"email", "email-json"} and not _EMAIL.fullmatch(endpoint):
            yield path, f"{endpoint!r} is not an email address", "write it like operations@example.org"
        if protocol in {"http", "https"} and not endpoint.startswith(f"{protocol}://"):
            yield path, f"{endpoint!r} is not an address of {protocol}", f"begin it with {protocol}://"


def _inline_policies(desired: Desired) -> Iterator[ValidationError]:
    """Yield inline policies that exceed the limit for their sum; single policies are checked with all others."""
    policies = desired.get("inline_policies")
    if not isinstance(policies, Mapping) or len(policies) < 2:
        return
    texts = [
        document(mapped(item, lambda leaf: str(leaf) if isinstance(leaf, Unknown) else leaf))
        for item in policies.values()
    ]
    size = sum(len(re.sub(r"\s", "", text)) for text in texts)
    if INLINE.most is not None and size > INLINE.most:
        remedy = f"a role has at most {INLINE.most} in all: make managed policies of them"
        yield "inline_policies", f"have {size} characters without white space", remedy


_TAG_LIMITS = '"Tag naming limits and requirements" in the user guide of tagging AWS resources'
_IAM_KINDS = ("iam_policy", "iam_role", "instance_profile", "oidc_provider")
LIMITS: Sequence[Limit] = (
    Limit((), _tags, _TAG_LIMITS),
    Limit(_IAM_KINDS, _tags_of_iam, '"Tags for IAM resources" in the user guide of IAM: keys are not case-sensitive'),
    Limit((), _arns, '"Amazon Resource Names" in the general reference of AWS'),
    Limit(("iam_role",), _inline_policies, '"IAM and AWS STS quotas" in the user guide of IAM'),
    Limit(("eks_nodegroup", "launch_template"), _instance_types, '"Instance type naming" in the guide of EC2'),
    Limit(("db_instance",), class_rules, '"DB instance classes" in the user guide of RDS'),
    Limit(("db_instance",), disk_rules, "CreateDBInstance in the API reference of RDS"),
    Limit(("s3_bucket",), _lifecycle, '"Managing the lifecycle of objects" in the user guide of S3'),
    Limit(("metric_alarm",), _alarm, "PutMetricAlarm in the API reference of CloudWatch"),
    Limit(("dashboard",), _dashboard, '"Dashboard body structure and syntax" in the API reference of CloudWatch'),
    Limit(("glue_crawler",), _crawler_schedule, '"Time-based schedules" in the developer guide of Glue'),
    Limit(("backup_plan",), _backup_schedule, "BackupRuleInput in the API reference of AWS Backup"),
    Limit(("eks_cluster",), _cluster_networks, "KubernetesNetworkConfigRequest and VpcConfigRequest of EKS"),
    Limit(("sns_topic",), _subscriptions, "Subscribe in the API reference of SNS"),
)


def limit_faults(address: str, kind: AwsKind, desired: Desired) -> Iterator[Fault]:
    """Yield every exceeded limit in the properties of one resource; unknown values are considered valid."""
    for limit in LIMITS:
        if not limit.kinds or kind.name in limit.kinds:
            yield from (Fault(address, *validation_error) for validation_error in limit.find(desired))
    for (name, property_), sort in SORTS.items():
        if name == kind.name:
            value = desired.get(property_)
            policies = value if property_ == "inline_policies" and isinstance(value, Mapping) else {"": value}
            for key, policy in policies.items():
                path = join(property_, str(key)) if key else property_
                yield from (
                    Fault(address, *validation_error)
                    for validation_error in policy_validation_errors(policy, sort, path)
                )
