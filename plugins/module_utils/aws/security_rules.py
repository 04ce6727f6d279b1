# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of security groups: their validation, and the canonical form of equal rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..engine.schema import Property, ValidationError
from ..engine.value import Unknown, is_known
from .ec2 import ipv4_network, ipv6_network, normal_network
from .kind import given
from .tag_rules import FOREIGN_TAGS

Rule = Mapping[str, Any]
_ALL = "-1"
# EC2 returns these names for all spellings. Source: IpPermission in the API reference of EC2.
_PROTOCOLS = {"all": _ALL, "6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6"}
_WITH_PORTS = ("tcp", "udp")
_WITH_TYPES = ("icmp", "icmpv6")
_SOURCES = ("cidr_ipv4", "cidr_ipv6", "security_group_id", "prefix_list_id", "self")
# The rule that AWS adds to every new group.
EVERYTHING = {"IpProtocol": _ALL, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
_TEXT = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{0,255}")


def text(value: str) -> str | None:
    """Return the problem of a description in EC2, or None."""
    if _TEXT.fullmatch(value):
        return None
    return "a description has up to 255 letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*"


def _rule_text(value: str) -> str | None:
    if value.startswith(FOREIGN_TAGS):
        return f"{value!r} is how a controller of a cluster marks its own rules"
    return text(value)


def _protocol(value: str) -> str | None:
    known = normal_protocol(value)
    if known in {_ALL, *_WITH_PORTS, *_WITH_TYPES} or (known.isdigit() and int(known) <= 255):
        return None
    return f"{value!r} is not tcp, udp, icmp, icmpv6, -1 (all) or a protocol's number"


def _port(value: int) -> str | None:
    return None if -1 <= value <= 65535 else f"{value} is not a port"


def normal_protocol(value: str) -> str:
    """Return a protocol in the form that EC2 returns."""
    return _PROTOCOLS.get(value.lower(), value.lower())


def normal_rule(rule: Rule) -> dict[str, Any]:
    """Return the canonical form of a rule: EC2 returns some rules in another form than it received."""
    protocol = normal_protocol(str(rule.get("protocol", "")))
    start, end = rule.get("from_port"), rule.get("to_port")
    ports: dict[str, Any] = {}
    if protocol in _WITH_PORTS:
        ports = {"from_port": start, "to_port": start if end is None else end}
    elif protocol in _WITH_TYPES:
        ports = {"from_port": -1 if start is None else start, "to_port": -1 if end is None else end}
    source = {name: rule[name] for name in _SOURCES if rule.get(name)}
    for name in source.keys() & {"cidr_ipv4", "cidr_ipv6"}:
        source[name] = normal_network(source[name])
    return given({"protocol": protocol, **ports, **source, "description": rule.get("description") or None})


def identity(rule: Rule) -> tuple[tuple[str, Any], ...]:
    """Return the parts that identify a rule of one direction: all except the description."""
    return tuple(sorted((name, value) for name, value in normal_rule(rule).items() if name != "description"))


def _comparable(rule: Any) -> Any:
    # Another check reports values that are not a rule.
    return normal_rule(rule) if isinstance(rule, Mapping) else rule


RULE = Property(
    "map",
    canonical=_comparable,
    fields={
        "protocol": Property(
            required=True, check=_protocol, purpose="`tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all."
        ),
        "from_port": Property("integer", check=_port, purpose="First port, or the ICMP type (-1: all types)."),
        "to_port": Property(
            "integer", check=_port, purpose="Last port, or the ICMP code. The value of `from_port` if omitted."
        ),
        "cidr_ipv4": Property(check=ipv4_network, purpose="IPv4 network."),
        "cidr_ipv6": Property(check=ipv6_network, purpose="IPv6 network."),
        "security_group_id": Property(purpose="ID of another security group."),
        "prefix_list_id": Property(purpose="ID of a managed prefix list."),
        "self": Property("boolean", purpose="Whether the rule applies to members of this group."),
        "description": Property(check=_rule_text, purpose="Description."),
    },
)


def validation_errors(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:  # noqa: ARG001
    """Yield every rule without exactly one source and valid ports, and duplicates."""
    for name in ("ingress", "egress"):
        rules = desired.get(name)
        if rules is not None and not isinstance(rules, Unknown):
            yield from _list_validation_errors(rules, name)


def _list_validation_errors(rules: Sequence[Any], path: str) -> Iterator[ValidationError]:
    seen: dict[Any, int] = {}
    for index, rule in enumerate(rules):
        if isinstance(rule, Unknown):
            continue
        validation_errors = list(_rule_validation_errors(rule, f"{path}[{index}]"))
        yield from validation_errors
        if validation_errors or not is_known(rule):
            continue
        said = identity(rule)
        if said in seen:
            yield f"{path}[{index}]", f"is the same rule as {path}[{seen[said]}]", "keep one of them"
        seen[said] = index


def _rule_validation_errors(rule: Rule, path: str) -> Iterator[ValidationError]:
    sources = [name for name in _SOURCES if rule.get(name)]
    if len(sources) != 1:
        message = f"has {' and '.join(sources)}" if sources else "has no source"
        yield path, message, f"set exactly one of {', '.join(_SOURCES)}"
    protocol, start, end = (rule.get(name) for name in ("protocol", "from_port", "to_port"))
    if not is_known([protocol, start, end]) or protocol is None:
        return
    if normal_protocol(str(protocol)) in _WITH_PORTS:
        if start is None:
            yield f"{path}.from_port", "is required and not given", f"a rule for {protocol} is for ports"
        elif start < 0 or (end is not None and end < start):
            yield (
                path,
                f"{start} to {start if end is None else end} are not valid ports",
                "set the first and the last port",
            )


def permitted(permissions: Sequence[Mapping[str, Any]] | None, id_: str) -> Iterator[dict[str, Any]]:
    """Yield the single managed rules of a group; the group's own list merges them by protocol and ports."""
    for permission in permissions or ():
        head = {
            "protocol": permission["IpProtocol"],
            "from_port": permission.get("FromPort"),
            "to_port": permission.get("ToPort"),
        }
        for key, part, name in (
            ("IpRanges", "CidrIp", "cidr_ipv4"),
            ("Ipv6Ranges", "CidrIpv6", "cidr_ipv6"),
            ("PrefixListIds", "PrefixListId", "prefix_list_id"),
            ("UserIdGroupPairs", "GroupId", "security_group_id"),
        ):
            for item in permission.get(key) or ():
                source = {"self": True} if item[part] == id_ else {name: item[part]}
                rule = normal_rule({**head, **source, "description": item.get("Description")})
                if is_managed(rule):
                    yield rule


def is_managed(rule: Rule) -> bool:
    """Return whether a rule lacks the tags of a cluster's controllers."""
    return not str(rule.get("description") or "").startswith(FOREIGN_TAGS)


def described_rule(rule: Rule, id_: str) -> dict[str, Any]:
    """Return a security group rule in the schema's form, with its id."""
    group = (rule.get("ReferencedGroupInfo") or {}).get("GroupId")
    form = {
        "protocol": rule["IpProtocol"],
        "from_port": rule.get("FromPort"),
        "to_port": rule.get("ToPort"),
        "cidr_ipv4": rule.get("CidrIpv4"),
        "cidr_ipv6": rule.get("CidrIpv6"),
        "prefix_list_id": rule.get("PrefixListId"),
        "security_group_id": group if group != id_ else None,
        "self": True if group == id_ else None,
        "description": rule.get("Description"),
    }
    return {**normal_rule(form), "id": rule["SecurityGroupRuleId"]}


def permission(rule: Rule, id_: str) -> dict[str, Any]:
    """Return a rule in the form of the authorize calls."""
    described = given({"Description": rule.get("description")})
    group = id_ if rule.get("self") else rule.get("security_group_id")
    sources = {
        "IpRanges": {"CidrIp": rule.get("cidr_ipv4")},
        "Ipv6Ranges": {"CidrIpv6": rule.get("cidr_ipv6")},
        "PrefixListIds": {"PrefixListId": rule.get("prefix_list_id")},
        "UserIdGroupPairs": {"GroupId": group},
    }
    chosen = {key: [{**item, **described}] for key, item in sources.items() if all(item.values())}
    return {**_head(rule), **chosen}


def rule_request(rule: Rule, id_: str) -> dict[str, Any]:
    """Return a rule in the form of the modify call, which replaces it: an empty description removes it."""
    sources = {
        "CidrIpv4": rule.get("cidr_ipv4"),
        "CidrIpv6": rule.get("cidr_ipv6"),
        "PrefixListId": rule.get("prefix_list_id"),
        "ReferencedGroupId": id_ if rule.get("self") else rule.get("security_group_id"),
    }
    return {**_head(rule), **given(sources), "Description": rule.get("description") or ""}


def _head(rule: Rule) -> dict[str, Any]:
    return given({"IpProtocol": rule["protocol"], "FromPort": rule.get("from_port"), "ToPort": rule.get("to_port")})
