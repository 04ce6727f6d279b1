# SPDX-License-Identifier: GPL-3.0-or-later
"""Security groups: rules as a set, manual rules, groups that refer to each other, and rules of a new group."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab, ec2_tags, failures
from tests.integration.aws.test_network import NETWORK, VPC, Losing, Refusing, interface
from tests.integration.aws.wire import Behaviour

WEB = {"protocol": "tcp", "from_port": 80, "cidr_ipv4": "10.0.0.0/8"}
ANYWHERE = {"protocol": "-1", "from_port": 0, "to_port": 0, "cidr_ipv4": "0.0.0.0/0"}
GROUP = {"name": "app", "description": "Applications", "vpc_id": "${vpc.main.id}", "egress": [ANYWHERE]}


def described(**groups: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Describe groups in one VPC."""
    return {**VPC, **{f"security_group.{name}": {**GROUP, "name": name, **more} for name, more in groups.items()}}


def rules(lab: Lab, id_: str, *, egress: bool = False) -> list[dict[str, Any]]:
    filters = [{"Name": "group-id", "Values": [id_]}]
    found = lab.client("ec2").describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
    return [rule for rule in found if rule["IsEgress"] == egress]


def allow(lab: Lab, id_: str, cidr: str, **more: Any) -> None:
    """Add a rule manually."""
    permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr, **more}]}
    lab.client("ec2").authorize_security_group_ingress(GroupId=id_, IpPermissions=[permission])


def test_a_group_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "security_group.app",
        GROUP,
        {**VPC, "vpc.other": {"cidr_block": "10.1.0.0/16"}},
        changes={
            "ingress": [
                {**WEB, "protocol": "TCP", "to_port": 90},
                {"protocol": "icmp", "cidr_ipv4": "10.0.0.0/8"},
                {"protocol": "all", "self": True},
                {"protocol": "tcp", "from_port": 0, "to_port": 65535, "cidr_ipv6": "::/0"},
            ],
            "described": {"ingress": [{**WEB, "description": "sites"}]},
            "otherwise": {"ingress": [{**WEB, "description": "web"}]},
            "egress": [{"protocol": "tcp", "from_port": 443, "cidr_ipv4": "0.0.0.0/0"}],
            "closed": {"ingress": [], "egress": None},
            "name": "application",
            "description": "More",
            "vpc_id": "${vpc.other.id}",
        },
        replaces=["name", "description", "vpc_id"],
        vanish=lambda lab, id_: lab.client("ec2").delete_security_group(GroupId=id_),
        edit_tags=ec2_tags,
    )


@pytest.mark.parametrize("egress", [None, [], [ANYWHERE], [{**ANYWHERE, "cidr_ipv4": "10.0.0.0/8"}]])
def test_a_new_group_allows_what_is_described_and_nothing_else(lab: Lab, egress: Any) -> None:
    described_here = described(app={"egress": egress})

    id_ = lab.apply(described_here).id("security_group.app")

    assert [rule["CidrIpv4"] for rule in rules(lab, id_, egress=True)] == [rule["cidr_ipv4"] for rule in egress or []]
    lab.assert_unchanged(described_here)


def test_what_a_crash_left_open_is_closed(lab: Lab) -> None:
    lab.wire.behaviour = Refusing("RevokeSecurityGroupEgress", "UnauthorizedOperation")
    closed = described(app={"egress": []})
    assert lab.run(closed).report.result("security_group.app").outcome == "failed"

    lab.wire.behaviour = Behaviour()
    ran = lab.apply(closed)

    assert ran.mutating == ["ec2:RevokeSecurityGroupEgress"]
    assert rules(lab, ran.id("security_group.app"), egress=True) == []


@pytest.mark.parametrize(
    "operation", ["CreateSecurityGroup", "RevokeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"]
)
def test_a_lost_answer_makes_nothing_twice(lab: Lab, operation: str) -> None:
    given = described(app={"ingress": [WEB, {**WEB, "from_port": 443}]})
    lab.wire.behaviour = losing = Losing(operation)

    id_ = lab.apply(given).id("security_group.app")

    assert losing.lost == 1
    lab.wire.behaviour = Behaviour()
    lab.assert_unchanged(given)
    assert len(rules(lab, id_)) == 2


def test_rules_by_hand_are_found_and_removed_by_their_ids(lab: Lab) -> None:
    given = described(app={"ingress": [WEB]})
    id_ = lab.apply(given).id("security_group.app")
    kept = rules(lab, id_)
    allow(lab, id_, "0.0.0.0/0", Description="quick fix")

    (change,) = lab.plan(given).node("security_group.app").changes
    assert change.path == "ingress"
    assert {rule.get("description") for rule in change.before} == {None, "quick fix"}
    assert lab.apply(given).mutating == ["ec2:RevokeSecurityGroupIngress"]
    assert [rule["SecurityGroupRuleId"] for rule in rules(lab, id_)] == [rule["SecurityGroupRuleId"] for rule in kept]


def test_a_rule_removed_by_hand_comes_back(lab: Lab) -> None:
    given = described(app={"ingress": [WEB, {**WEB, "from_port": 443}]})
    id_ = lab.apply(given).id("security_group.app")
    first, second = rules(lab, id_)
    lab.client("ec2").revoke_security_group_ingress(GroupId=id_, SecurityGroupRuleIds=[first["SecurityGroupRuleId"]])

    assert lab.apply(given).mutating == ["ec2:AuthorizeSecurityGroupIngress"]
    assert second["SecurityGroupRuleId"] in {rule["SecurityGroupRuleId"] for rule in rules(lab, id_)}
    lab.assert_unchanged(given)


def test_a_description_changes_in_place(lab: Lab) -> None:
    id_ = lab.apply(described(app={"ingress": [{**WEB, "description": "sites"}]})).id("security_group.app")
    before = rules(lab, id_)

    ran = lab.apply(described(app={"ingress": [{**WEB, "description": "web"}]}))

    assert ran.mutating == ["ec2:ModifySecurityGroupRules"]
    assert [(rule["SecurityGroupRuleId"], rule["Description"]) for rule in rules(lab, id_)] == [
        (before[0]["SecurityGroupRuleId"], "web")
    ]


@pytest.mark.emulators("moto")  # The other ignores an empty description, and keeps the old one.
def test_a_description_goes_away_in_place(lab: Lab) -> None:
    lab.apply(described(app={"ingress": [{**WEB, "description": "sites"}]}))
    given = described(app={"ingress": [WEB]})

    assert lab.apply(given).mutating == ["ec2:ModifySecurityGroupRules"]
    lab.assert_unchanged(given)


def test_nobody_is_cut_off_while_rules_change(lab: Lab) -> None:
    lab.apply(described(app={"ingress": [WEB]}))

    ran = lab.apply(described(app={"ingress": [{**WEB, "to_port": 443}]}))

    assert ran.mutating == ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]


def test_rules_that_a_controller_marked_are_left_alone(lab: Lab) -> None:
    given = described(app={"ingress": [WEB]})
    id_ = lab.apply(given).id("security_group.app")
    allow(lab, id_, "10.1.0.0/16", Description="elbv2.k8s.aws/targetGroupBinding=shared")
    allow(lab, id_, "10.2.0.0/16", Description="kubernetes.io/rule/nlb/client=lake")

    lab.assert_unchanged(given)
    lab.apply(described(app={"ingress": [{**WEB, "from_port": 81}]}))
    assert len(rules(lab, id_)) == 3


def test_a_controllers_rule_that_is_described_as_well_becomes_ours(lab: Lab) -> None:
    id_ = lab.apply(described(app={"ingress": [WEB]})).id("security_group.app")
    allow(lab, id_, "10.1.0.0/16", Description="elbv2.k8s.aws/targetGroupBinding=shared")
    given = described(app={"ingress": [WEB, {"protocol": "tcp", "from_port": 22, "cidr_ipv4": "10.1.0.0/16"}]})

    if lab.emulator.name == "ministack":
        # It ignores an empty description.
        given["security_group.app"]["ingress"][1]["description"] = "ours"
    assert lab.apply(given).mutating == ["ec2:ModifySecurityGroupRules"]
    lab.assert_unchanged(given)


def circle() -> dict[str, dict[str, Any]]:
    def rule(name: str) -> dict[str, Any]:
        return {"protocol": "tcp", "from_port": 443, "security_group_id": f"${{security_group.{name}.id}}"}

    return described(
        cluster={"ingress": [rule("worker")], "egress": [rule("worker")]},
        worker={"ingress": [rule("cluster"), {"protocol": "-1", "self": True}]},
    )


def test_groups_that_refer_to_each_other_come_and_go(lab: Lab) -> None:
    lab.apply(circle())
    lab.assert_unchanged(circle())

    ran = lab.destroy(circle())

    names = [name.removeprefix("ec2:") for name in ran.mutating if name != "ec2:DeleteVpc"]
    # AWS does not delete a group that a rule of another group references.
    assert names.index("DeleteSecurityGroup") > max(
        place for place, name in enumerate(names) if name.startswith("RevokeSecurityGroup")
    )
    assert names.count("DeleteSecurityGroup") == 2


def test_a_group_of_a_circle_is_replaced(lab: Lab) -> None:
    lab.apply(circle())
    renamed = circle()
    renamed["security_group.worker"]["description"] = "Workers"

    ran = lab.apply(renamed)

    assert ran.plan.node("security_group.worker").action == "replace"
    lab.assert_unchanged(renamed)


def test_a_group_that_names_itself_by_its_id_is_told_to_say_self(lab: Lab) -> None:
    own = {"protocol": "-1", "security_group_id": "${security_group.app.id}"}

    report = lab.run(described(app={"ingress": [own]})).report

    assert "ingress[0].security_group_id: is the id of the group itself; write self: true instead" in failures(report)


def test_a_group_in_use_names_interfaces_and_the_rules_of_other_groups(lab: Lab) -> None:
    given = {**NETWORK, **described(app={})}
    ran = lab.apply(given)
    id_, ec2 = ran.id("security_group.app"), lab.client("ec2")
    other = ec2.create_security_group(GroupName="k8s-elb", Description="x", VpcId=ran.id("vpc.main"))["GroupId"]
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": id_}]}
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[pair])
    eni = interface(lab, ran.id("subnet.a"), "aws-K8S-i-0abc", id_)
    lab.wire.behaviour = Refusing("DeleteSecurityGroup", "DependencyViolation")

    message = lab.run(given, state="absent").report.result("security_group.app").message

    assert f'a rule of security group {other} "k8s-elb"' in message
    assert f'network interface {eni} "aws-K8S-i-0abc"' in message


def test_a_group_of_the_same_name_is_taken_over_only_when_told_to(lab: Lab) -> None:
    vpc_id = lab.apply(VPC).id("vpc.main")
    made = lab.client("ec2").create_security_group(GroupName="app", Description="Applications", VpcId=vpc_id)
    given = described(app={"ingress": [WEB]})

    with pytest.raises(RefusedError, match=f"exists as {made['GroupId']}"):
        lab.plan(given)
    ran = lab.apply(given, adopt=True)

    assert ran.id("security_group.app") == made["GroupId"]
    lab.assert_unchanged(given)


def test_a_group_in_another_environments_vpc_is_refused(lab: Lab) -> None:
    vpc_id = lab.apply(described(app={})).id("vpc.main")

    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'development'"):
        lab.other(environment="staging").plan({"security_group.app": {**GROUP, "vpc_id": vpc_id}})


def test_all_groups_and_their_rules_are_read_with_one_call(lab: Lab) -> None:
    given = described(**{f"g{number}": {"ingress": [WEB]} for number in range(6)})
    lab.apply(given)

    lab.wire.calls.clear()
    lab.plan(given)

    names = [name for name in lab.wire.names() if "SecurityGroup" in name]
    assert names == ["ec2:DescribeSecurityGroups"]
