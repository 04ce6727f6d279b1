# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security groups: allowed connections. Every rule is one security group rule of EC2, with its own id."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...engine.errors import DescriptionError, Fault
from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Property, Schema
from ...engine.value import is_known
from ..ec2 import (
    ARN,
    ID,
    SECURITY_GROUPS,
    delete_unused,
    first,
    interface_users,
    resource_arn,
    tag_specifications,
    write_tags,
)
from ..kind import TAGS, Actions, AwsKind, owner_of, property_tags, tag_map
from ..security_rules import (
    EVERYTHING,
    RULE,
    Rule,
    described_rule,
    identity,
    is_managed,
    normal_rule,
    permission,
    permitted,
    rule_request,
    text,
    validation_errors,
)
from ..waiters import wait_until

_NEW_GROUP = ("InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound")
_NAME = re.compile(r"(?!sg-)[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}", re.IGNORECASE)


@dataclass(frozen=True)
class _Direction:
    """One of the two lists of rules, with its calls."""

    property: str
    is_egress: bool
    authorize: str
    revoke: str


_DIRECTIONS = (
    _Direction("ingress", False, "authorize_security_group_ingress", "revoke_security_group_ingress"),
    _Direction("egress", True, "authorize_security_group_egress", "revoke_security_group_egress"),
)


def _group_name(value: str) -> str | None:
    if _NAME.fullmatch(value):
        return None
    return "a name has 1 to 255 letters, digits and ._-:/()#,@[]+=&;{}!$* and does not begin with sg-"


class SecurityGroup(AwsKind):
    """A group of network interfaces with rules for inbound and outbound connections."""

    name = "security_group"
    service = "ec2"
    found_by = "tags"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, check=_group_name, purpose="Name, unique in the VPC."),
            "description": Property(required=True, replace=True, check=text, purpose="Description."),
            "vpc_id": Property(required=True, replace=True, purpose="ID of the VPC."),
            "ingress": Property(
                "set",
                elements=RULE,
                deferred=True,
                purpose="Permitted inbound connections. None if omitted. Rules of cluster controllers are unmanaged.",
            ),
            "egress": Property(
                "set",
                elements=RULE,
                deferred=True,
                purpose="Permitted outbound connections. None if omitted: the default rule of AWS for all "
                "traffic is removed.",
            ),
            "tags": TAGS,
        },
        {"id": ID, "arn": ARN},
        unique_by=("name", "vpc_id"),
        check=validation_errors,
    )
    actions = Actions(
        read=("ec2:DescribeSecurityGroups",),
        create=(
            "ec2:CreateSecurityGroup",
            "ec2:CreateTags",
            "ec2:DescribeSecurityGroupRules",
            "ec2:RevokeSecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:AuthorizeSecurityGroupEgress",
        ),
        update=(
            "ec2:DescribeSecurityGroupRules",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:RevokeSecurityGroupIngress",
            "ec2:RevokeSecurityGroupEgress",
            "ec2:ModifySecurityGroupRules",
            "ec2:CreateTags",
            "ec2:DeleteTags",
        ),
        delete=("ec2:DeleteSecurityGroup", "ec2:DescribeNetworkInterfaces"),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return [self._actual(found) for found in SECURITY_GROUPS.owned(self.session, owner)]

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the group with this name in this VPC, which is unique."""
        place = {"vpc-id": subject.desired["vpc_id"], "group-name": subject.desired["name"]}
        if not is_known(place):
            return LATER
        return [self._actual(found) for found in SECURITY_GROUPS.matching(self.session, place)]

    def read(self, id_: str) -> Actual | None:
        found = SECURITY_GROUPS.one(self.session, id_)
        return self._actual(found) if found else None

    def _actual(self, group: Mapping[str, Any]) -> Actual:
        id_, tags = group["GroupId"], tag_map(group.get("Tags"))
        properties = {
            "name": group["GroupName"],
            "description": group["Description"],
            "vpc_id": group.get("VpcId"),
            "ingress": list(permitted(group.get("IpPermissions"), id_)),
            "egress": list(permitted(group.get("IpPermissionsEgress"), id_)),
            "tags": property_tags(tags),
        }
        arn = group.get("SecurityGroupArn") or resource_arn(self.session, f"security-group/{id_}")
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        place = {"vpc-id": wanted["vpc_id"], "group-name": wanted["name"]}
        answer = self.session.call_once(
            "ec2",
            "create_security_group",
            lambda: first(SECURITY_GROUPS.made(self.session, request.owner, place)),
            retry_on=("InvalidVpcID.NotFound",),
            GroupName=wanted["name"],
            Description=wanted["description"],
            VpcId=wanted["vpc_id"],
            TagSpecifications=tag_specifications("security-group", request),
        )
        id_ = answer["GroupId"]
        self._close(id_)
        return Actual(id_, wanted, {"id": id_}, request.owner)

    def _close(self, id_: str) -> None:
        """Remove the rules of a new group that allow all outbound traffic: one, and another one where the VPC has IPv6.

        The call waits until they are invisible: a plan compares visible rules with described ones, which may be equal.
        """
        rules = [rule["SecurityGroupRuleId"] for rule in self._rules(id_) if rule["IsEgress"]]
        # The rules may not be visible yet; the rule for IPv4 always exists.
        which = {"SecurityGroupRuleIds": rules} if rules else {"IpPermissions": [EVERYTHING]}
        self.session.look(
            "ec2",
            "revoke_security_group_egress",
            ("InvalidPermission.NotFound", "InvalidSecurityGroupRuleId.NotFound"),
            retry_on=_NEW_GROUP,
            GroupId=id_,
            **which,
        )
        wait_until(lambda: self._is_closed(id_) or None, f"{id_} to be closed", timeout_s=60.0, interval_s=2.0)

    def _is_closed(self, id_: str) -> bool:
        group = self.read(id_)
        return group is not None and not group.properties["egress"] and not self._rules(id_)

    def _rules(self, id_: str) -> list[dict[str, Any]]:
        return self.session.pages(
            "ec2",
            "describe_security_group_rules",
            "SecurityGroupRules",
            Filters=[{"Name": "group-id", "Values": [id_]}],
        )

    def update(self, request: Request) -> Actual:
        id_ = request.existing.id
        changed = [direction for direction in _DIRECTIONS if request.changed(direction.property)]
        for direction in changed:
            _refuse_own_id(request, direction.property)
        there = self._rules(id_) if changed else []
        for direction in changed:
            wanted = request.desired[direction.property] or []
            self._write(direction, id_, wanted, [rule for rule in there if rule["IsEgress"] == direction.is_egress])
        write_tags(self.session, request)
        return request.existing

    def _write(self, direction: _Direction, id_: str, wanted: Sequence[Rule], found: Sequence[Rule]) -> None:
        """Add rules before others are removed, so that permitted connections are not interrupted."""
        rules = {identity(rule): normal_rule(rule) for rule in wanted}
        there = {identity(rule): rule for rule in (described_rule(rule, id_) for rule in found)}
        # Rules of controllers are kept, and are compared only where the description contains them as well.
        there = {key: rule for key, rule in there.items() if key in rules or is_managed(rule)}
        self._authorize(direction, id_, [rule for key, rule in rules.items() if key not in there])
        renamed = {
            there[key]["id"]: rule
            for key, rule in rules.items()
            if key in there and there[key].get("description") != rule.get("description")
        }
        if renamed:
            self.session.call(
                "ec2",
                "modify_security_group_rules",
                GroupId=id_,
                SecurityGroupRules=[
                    {"SecurityGroupRuleId": rule_id, "SecurityGroupRule": rule_request(rule, id_)}
                    for rule_id, rule in renamed.items()
                ],
            )
        stale = [rule["id"] for key, rule in there.items() if key not in rules]
        if stale:
            absent = ("InvalidSecurityGroupRuleId.NotFound", "InvalidPermission.NotFound")
            self.session.look("ec2", direction.revoke, absent, GroupId=id_, SecurityGroupRuleIds=stale)

    def _authorize(self, direction: _Direction, id_: str, rules: Sequence[Rule]) -> None:
        if not rules:
            return
        wanted = {identity(rule) for rule in rules}

        def allowed() -> dict[str, Any] | None:
            found = [described_rule(rule, id_) for rule in self._rules(id_) if rule["IsEgress"] == direction.is_egress]
            return {} if wanted <= set(map(identity, found)) else None

        self.session.call_once(
            "ec2",
            direction.authorize,
            allowed,
            # The group was created seconds before.
            retry_on=_NEW_GROUP,
            GroupId=id_,
            IpPermissions=[permission(rule, id_) for rule in rules],
        )

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        delete_unused(
            self.session,
            request,
            "delete_security_group",
            lambda: self._users(id_),
            absent=SECURITY_GROUPS.absent,
            in_use=("DependencyViolation", "InvalidGroup.InUse"),
            GroupId=id_,
        )

    def _users(self, id_: str) -> list[str]:
        """Return the interfaces in a group, and the other groups whose rules name it."""
        filters = ("ip-permission.group-id", "egress.ip-permission.group-id")
        found = [group for name in filters for group in SECURITY_GROUPS.matching(self.session, {name: id_})]
        others = {group["GroupId"]: group["GroupName"] for group in found if _refers_to(group, id_)}
        groups = [f'a rule of security group {other} "{name}"' for other, name in others.items()]
        return [*interface_users(self.session, {"group-id": id_}), *groups]


def _refuse_own_id(request: Request, name: str) -> None:
    """Raise DescriptionError where a group names itself by id: reads return `self`, a permanent difference."""
    for index, rule in enumerate(request.desired[name] or ()):
        if rule.get("security_group_id") == request.existing.id:
            path, message = f"{name}[{index}].security_group_id", "is the id of the group itself"
            raise DescriptionError([Fault(request.address, path, message, "write self: true instead")])


def _refers_to(group: Mapping[str, Any], id_: str) -> bool:
    permissions = [*(group.get("IpPermissions") or ()), *(group.get("IpPermissionsEgress") or ())]
    pairs = [pair for permission in permissions for pair in permission.get("UserIdGroupPairs") or ()]
    return group["GroupId"] != id_ and any(pair.get("GroupId") == id_ for pair in pairs)
