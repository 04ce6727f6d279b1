# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles, policies, instance profiles and identity providers of IAM on emulators."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from tests.integration.aws.lab import EditTags, Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
VIEW_ONLY = "arn:aws:iam::aws:policy/SecurityAudit"


def trust(**principal: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def allow(*actions: str) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}


ROLE = {"name": "crypto-lakehouse-eks-node-role", "assume_role_policy": trust(Service="ec2.amazonaws.com")}
POLICY = {"name": "crypto-lakehouse-s3-access", "policy": allow("s3:GetObject")}


def tags_by_hand(noun: str, parameter: str) -> EditTags:
    def edit(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
        client, pairs = lab.client("iam"), [{"Key": key, "Value": value} for key, value in tags.items()]
        getattr(client, f"tag_{noun}")(**{parameter: id_}, Tags=pairs)
        getattr(client, f"untag_{noun}")(**{parameter: id_}, TagKeys=removed)

    return edit


class DeadAfter(Behaviour):
    """The process is dead after a call: calls have no effect any more."""

    def __init__(self, operation: str) -> None:
        self.operation, self.dead = operation, False

    def before(self, call: Call) -> Answer | None:
        return Answer.error("AccessDenied", "the process is dead") if self.dead else None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        self.dead = self.dead or call.operation == self.operation
        return None


class Once(Behaviour):
    """One operation fails once: before or after its effect."""

    def __init__(self, operation: str, answer: Answer, *, after: bool = False) -> None:
        self.operation, self.answer, self.is_after, self.failed = operation, answer, after, False

    def _fail(self, call: Call) -> Answer | None:
        if call.operation != self.operation or self.failed:
            return None
        self.failed = True
        return self.answer

    def before(self, call: Call) -> Answer | None:
        return None if self.is_after else self._fail(call)

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        return self._fail(call) if self.is_after else None


def test_life_of_a_role(lab: Lab) -> None:
    lab.assert_matrix(
        "iam_role.node",
        ROLE,
        {"iam_policy.s3": POLICY},
        changes={
            "assume_role_policy": trust(Service="pods.eks.amazonaws.com"),
            "description": "Workers",
            "max_session_duration": 7200,
            "managed_policy_arns": [READ_ONLY, "${iam_policy.s3.arn}"],
            "other policies": {"managed_policy_arns": [VIEW_ONLY, "${iam_policy.s3.arn}"]},
            "inline_policies": {"read": allow("s3:GetObject"), "list": allow("s3:ListBucket", "s3:ListAllMyBuckets")},
            "other inline policies": {"inline_policies": {"read": allow("s3:GetObject*"), "write": allow("s3:Put*")}},
            "permissions_boundary": READ_ONLY,
            "no boundary": {"permissions_boundary": None},
            "nothing attached": {"managed_policy_arns": [], "inline_policies": {}},
            "path": "/lakehouse/",
        },
        replaces={"path"},
        vanish=lambda lab, id_: lab.client("iam").delete_role(RoleName=id_),
        edit_tags=tags_by_hand("role", "RoleName"),
    )


def test_what_a_hand_attached_to_a_role_is_found_and_detached(lab: Lab) -> None:
    described = {"iam_role.node": {**ROLE, "managed_policy_arns": [READ_ONLY], "inline_policies": {"a": allow("s3:*")}}}
    id_ = lab.apply(described).id("iam_role.node")
    client = lab.client("iam")
    client.attach_role_policy(RoleName=id_, PolicyArn=VIEW_ONLY)
    client.detach_role_policy(RoleName=id_, PolicyArn=READ_ONLY)
    client.put_role_policy(RoleName=id_, PolicyName="b", PolicyDocument=json.dumps(allow("ec2:*")))
    client.put_role_policy(RoleName=id_, PolicyName="a", PolicyDocument=json.dumps(allow("ec2:*")))
    paths = {change.path for change in lab.plan(described).node("iam_role.node").changes}
    assert paths == {"managed_policy_arns", "inline_policies.a", "inline_policies.b"}
    lab.apply(described)
    lab.assert_unchanged(described)
    assert client.list_role_policies(RoleName=id_)["PolicyNames"] == ["a"]


def test_a_role_is_deleted_with_everything_that_hangs_on_it(lab: Lab) -> None:
    described = {"iam_role.node": {**ROLE, "managed_policy_arns": [READ_ONLY], "inline_policies": {"a": allow("s3:*")}}}
    id_ = lab.apply(described).id("iam_role.node")
    client = lab.client("iam")
    client.attach_role_policy(RoleName=id_, PolicyArn=VIEW_ONLY)
    client.put_role_policy(RoleName=id_, PolicyName="by-hand", PolicyDocument=json.dumps(allow("ec2:*")))
    client.create_instance_profile(InstanceProfileName="by-hand")
    client.add_role_to_instance_profile(InstanceProfileName="by-hand", RoleName=id_)
    lab.destroy(described)
    assert id_ not in [role["RoleName"] for role in client.list_roles()["Roles"]]
    assert client.get_instance_profile(InstanceProfileName="by-hand")["InstanceProfile"]["Roles"] == []


def test_a_principal_that_was_deleted_and_made_again_is_trusted_again(lab: Lab) -> None:
    arn = f"arn:aws:iam::{lab.emulator.account_id}:role/reader"
    described = {"iam_role.node": {**ROLE, "assume_role_policy": trust(AWS=arn)}}
    id_ = lab.apply(described).id("iam_role.node")
    # AWS shows a deleted role this way; the new role with the same ARN is not trusted.
    gone = trust(AWS="AROAEXAMPLEEXAMPLE012")
    lab.client("iam").update_assume_role_policy(RoleName=id_, PolicyDocument=json.dumps(gone))
    (change,) = lab.plan(described).node("iam_role.node").changes
    assert (change.path, change.forces_replacement) == ("assume_role_policy", False)
    lab.apply(described)
    lab.assert_unchanged(described)


def test_an_account_that_is_trusted_is_the_root_that_iam_answers(lab: Lab) -> None:
    account = lab.emulator.account_id
    described = {"iam_role.node": {**ROLE, "assume_role_policy": trust(AWS=account)}}
    id_ = lab.apply(described).id("iam_role.node")
    stored = json.dumps(trust(AWS=f"arn:aws:iam::{account}:root"))
    lab.client("iam").update_assume_role_policy(RoleName=id_, PolicyDocument=stored)
    lab.assert_unchanged(described)


def test_a_principal_that_is_not_known_everywhere_yet_is_waited_for(lab: Lab) -> None:
    refusal = Answer.error("MalformedPolicyDocument", 'Invalid principal in policy: "AWS":"arn:aws:iam::1:role/new"')
    lab.wire.behaviour = Once("CreateRole", refusal)
    lab.apply({"iam_role.node": ROLE})
    assert lab.wire.names().count("iam:CreateRole") == 2


def test_a_policy_that_is_malformed_is_not_waited_for(lab: Lab) -> None:
    lab.wire.behaviour = Once("CreateRole", Answer.error("MalformedPolicyDocument", "Syntax errors in policy."))
    assert "Syntax errors" in lab.run({"iam_role.node": ROLE}).report.result("iam_role.node").message
    assert lab.wire.names().count("iam:CreateRole") == 1


@pytest.mark.parametrize("operation", ["CreateRole", "AttachRolePolicy", "PutRolePolicy"])
def test_a_crash_while_a_role_is_made_converges(lab: Lab, operation: str) -> None:
    described = {"iam_role.node": {**ROLE, "managed_policy_arns": [READ_ONLY], "inline_policies": {"a": allow("s3:*")}}}
    lab.wire.behaviour = DeadAfter(operation)
    assert not lab.run(described).report.complete
    lab.wire.behaviour = Behaviour()
    lab.apply(described)
    lab.assert_unchanged(described)


@pytest.mark.parametrize(
    "operation",
    ["CreateRole", "CreatePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile", "CreateOpenIDConnectProvider"],
)
def test_a_lost_answer_of_a_creation_is_found_again(lab: Lab, operation: str) -> None:
    described = {
        "iam_role.node": ROLE,
        "iam_policy.s3": POLICY,
        "instance_profile.node": {"name": "node", "role": "${iam_role.node.name}"},
        "oidc_provider.eks": {"url": "https://issuer.example.com/id/1", "thumbprint_list": ["a" * 40]},
    }
    lab.wire.behaviour = Once(operation, Answer.error("ServiceFailure", status=500), after=True)
    lab.apply(described)
    lab.assert_unchanged(described)
    assert lab.wire.names().count(f"iam:{operation}") == 1


def test_a_role_that_is_made_anew_is_back_in_its_profile_in_the_same_run(lab: Lab) -> None:
    described = {
        "iam_role.node": ROLE,
        "instance_profile.node": {"name": ROLE["name"], "role": "${iam_role.node.name}"},
    }
    lab.apply(described)
    described["iam_role.node"] = {**ROLE, "path": "/lakehouse/"}
    ran = lab.apply(described)
    assert ran.plan.node("iam_role.node").action == "replace"
    profile = ran.plan.node("instance_profile.node")
    assert (profile.action, profile.reason) == ("update", "iam_role.node is recreated")
    found = lab.client("iam").get_instance_profile(InstanceProfileName=ROLE["name"])["InstanceProfile"]["Roles"]
    assert [(role["RoleName"], role["Path"]) for role in found] == [(ROLE["name"], "/lakehouse/")]
    lab.assert_unchanged(described)


def test_a_policy_that_is_made_anew_is_attached_again_in_the_same_run(lab: Lab) -> None:
    described = {
        "iam_policy.s3": POLICY,
        "iam_role.node": {**ROLE, "managed_policy_arns": [READ_ONLY, "${iam_policy.s3.arn}"]},
    }
    lab.apply(described)
    described["iam_policy.s3"] = {**POLICY, "path": "/lakehouse/"}
    ran = lab.apply(described)
    assert ran.plan.node("iam_policy.s3").action == "replace"
    assert ran.plan.node("iam_role.node").action == "update"
    attached = lab.client("iam").list_attached_role_policies(RoleName=ROLE["name"])["AttachedPolicies"]
    assert {policy["PolicyArn"] for policy in attached} == {READ_ONLY, ran.id("iam_policy.s3")}
    lab.assert_unchanged(described)


def test_a_role_that_somebody_else_made_is_refused_until_it_is_adopted(lab: Lab) -> None:
    lab.client("iam").create_role(RoleName=ROLE["name"], AssumeRolePolicyDocument=json.dumps(allow("s3:*")))
    with pytest.raises(RefusedError, match="set `adopt: true`"):
        lab.plan({"iam_role.node": ROLE})
    lab.apply({"iam_role.node": ROLE}, adopt=True)
    lab.assert_unchanged({"iam_role.node": ROLE})


def test_life_of_a_policy(lab: Lab) -> None:
    lab.assert_matrix(
        "iam_policy.s3",
        {**POLICY, "description": "Buckets"},
        changes={"policy": allow("s3:GetObject", "s3:PutObject"), "path": "/lakehouse/"},
        replaces={"path"},
        vanish=lambda lab, id_: lab.client("iam").delete_policy(PolicyArn=id_),
        edit_tags=tags_by_hand("policy", "PolicyArn"),
    )


def versions(lab: Lab, arn: str) -> dict[str, bool]:
    found = lab.client("iam").list_policy_versions(PolicyArn=arn)["Versions"]
    return {version["VersionId"]: version["IsDefaultVersion"] for version in found}


def test_a_policy_keeps_its_five_newest_versions(lab: Lab) -> None:
    arn = ""
    for number in range(1, 8):
        arn = lab.apply({"iam_policy.s3": {**POLICY, "policy": allow(f"s3:Get{number}*")}}).id("iam_policy.s3")
    assert versions(lab, arn) == {"v3": False, "v4": False, "v5": False, "v6": False, "v7": True}


# ministack cannot activate another version.
@pytest.mark.emulators("moto")
def test_an_old_version_that_a_hand_put_in_force_is_superseded_and_not_pruned_from_under_its_users(lab: Lab) -> None:
    described = {"iam_policy.s3": POLICY}
    for number in range(1, 5):
        lab.apply({"iam_policy.s3": {**POLICY, "policy": allow(f"s3:Get{number}*")}})
    arn = lab.apply(described).id("iam_policy.s3")
    lab.client("iam").set_default_policy_version(PolicyArn=arn, VersionId="v1")
    assert [change.path for change in lab.plan(described).node("iam_policy.s3").changes] == ["policy"]
    lab.apply(described)
    lab.assert_unchanged(described)
    assert versions(lab, arn) == {"v1": False, "v3": False, "v4": False, "v5": False, "v6": True}


def test_a_lost_answer_of_a_version_makes_no_second_one(lab: Lab) -> None:
    arn = lab.apply({"iam_policy.s3": POLICY}).id("iam_policy.s3")
    lab.wire.behaviour = Once("CreatePolicyVersion", Answer.error("ServiceFailure", status=500), after=True)
    lab.apply({"iam_policy.s3": {**POLICY, "policy": allow("s3:*")}})
    assert versions(lab, arn) == {"v1": False, "v2": True}


def test_a_policy_is_detached_from_everybody_and_deleted_with_its_versions(lab: Lab) -> None:
    described = {"iam_policy.s3": POLICY}
    lab.apply({"iam_policy.s3": {**POLICY, "policy": allow("s3:*")}})
    arn, client = lab.apply(described).id("iam_policy.s3"), lab.client("iam")
    client.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(ROLE["assume_role_policy"]))
    client.create_user(UserName="u")
    client.create_group(GroupName="g")
    client.attach_role_policy(RoleName="r", PolicyArn=arn)
    client.attach_user_policy(UserName="u", PolicyArn=arn)
    client.attach_group_policy(GroupName="g", PolicyArn=arn)
    lab.destroy(described)
    assert client.list_policies(Scope="Local")["Policies"] == []
    assert client.list_attached_role_policies(RoleName="r")["AttachedPolicies"] == []


def test_the_description_of_a_policy_is_not_changed_and_says_so(lab: Lab) -> None:
    lab.apply({"iam_policy.s3": {**POLICY, "description": "Buckets"}})
    with pytest.raises(DescriptionError, match="is 'Buckets' and stays so"):
        lab.plan({"iam_policy.s3": {**POLICY, "description": "Other buckets"}})
    lab.assert_unchanged({"iam_policy.s3": POLICY})


def test_life_of_an_instance_profile(lab: Lab) -> None:
    def vanish(lab: Lab, id_: str) -> None:
        lab.client("iam").remove_role_from_instance_profile(InstanceProfileName=id_, RoleName="second")
        lab.client("iam").delete_instance_profile(InstanceProfileName=id_)

    lab.assert_matrix(
        "instance_profile.node",
        {"name": "node", "role": "${iam_role.first.name}"},
        {"iam_role.first": {**ROLE, "name": "first"}, "iam_role.second": {**ROLE, "name": "second"}},
        changes={
            "role": "${iam_role.second.id}",
            "no role": {"role": None},
            "path": "/lakehouse/",
            "a role again": {"role": "${iam_role.second.id}"},
        },
        replaces={"path"},
        vanish=vanish,
        edit_tags=tags_by_hand("instance_profile", "InstanceProfileName"),
    )


PROVIDER = {"url": "https://oidc.eks.example.com/id/ABC", "client_id_list": ["first"], "thumbprint_list": ["a" * 40]}


# ministack can only create, show and delete one.
@pytest.mark.emulators("moto")
def test_life_of_an_identity_provider(lab: Lab) -> None:
    lab.assert_matrix(
        "oidc_provider.eks",
        PROVIDER,
        changes={"thumbprint_list": ["B" * 40]},
        vanish=lambda lab, id_: lab.client("iam").delete_open_id_connect_provider(OpenIDConnectProviderArn=id_),
        edit_tags=tags_by_hand("open_id_connect_provider", "OpenIDConnectProviderArn"),
    )


class Clients(Behaviour):
    """Stores the client ids of an identity provider, which no emulator can change."""

    def __init__(self, *clients: str) -> None:
        self.clients = set(clients)

    def before(self, call: Call) -> Answer | None:
        match call.operation:
            case "AddClientIDToOpenIDConnectProvider":
                self.clients.add(call.parameters["ClientID"])
            case "RemoveClientIDFromOpenIDConnectProvider":
                self.clients.remove(call.parameters["ClientID"])
            case _:
                return None
        return Answer({})

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != "GetOpenIDConnectProvider" or "Error" in answer:
            return None
        return Answer({**answer, "ClientIDList": sorted(self.clients)})


def test_clients_of_an_identity_provider_are_added_and_removed(lab: Lab) -> None:
    lab.wire.behaviour = clients = Clients("first")
    lab.apply({"oidc_provider.eks": PROVIDER})
    changed = {"oidc_provider.eks": {**PROVIDER, "client_id_list": ["sts.amazonaws.com"]}}
    ran = lab.apply(changed)
    assert ran.mutating == ["iam:AddClientIDToOpenIDConnectProvider", "iam:RemoveClientIDFromOpenIDConnectProvider"]
    assert clients.clients == {"sts.amazonaws.com"}
    lab.assert_unchanged(changed)


def test_the_address_of_an_identity_provider_may_be_written_with_and_without_scheme(lab: Lab) -> None:
    lab.apply({"oidc_provider.eks": PROVIDER})
    lab.assert_unchanged({"oidc_provider.eks": {**PROVIDER, "url": "oidc.eks.example.com/id/ABC/"}})


def test_an_issuer_that_does_not_answer_yet_is_waited_for(lab: Lab) -> None:
    refusal = Answer.error("OpenIdIdpCommunicationError", "it did not answer")
    lab.wire.behaviour = Once("CreateOpenIDConnectProvider", refusal)
    lab.apply({"oidc_provider.eks": {"url": "https://issuer.example.com", "thumbprint_list": ["a" * 40]}})
    assert lab.wire.names().count("iam:CreateOpenIDConnectProvider") == 2


def test_prune_finds_what_is_not_described_any_more(lab: Lab) -> None:
    described: dict[str, Any] = {
        "iam_role.node": ROLE,
        "iam_policy.s3": POLICY,
        "instance_profile.node": {"name": "node"},
        "oidc_provider.eks": {"url": "https://issuer.example.com", "thumbprint_list": ["a" * 40]},
    }
    lab.apply(described)
    lab.other(environment="staging").apply({"iam_role.node": {**ROLE, "name": "theirs"}})
    plan = lab.apply({"iam_role.other": {**ROLE, "name": "other"}}, prune=True).plan
    assert {node.address for node in plan.nodes if node.action == "delete"} == set(described)
    assert lab.client("iam").get_role(RoleName="theirs")


@pytest.mark.parametrize(
    ("operation", "described", "action"),
    [
        ("CreateRole", {"iam_role.node": ROLE}, "iam:CreateRole"),
        ("CreatePolicy", {"iam_policy.s3": POLICY}, "iam:CreatePolicy"),
        ("CreateInstanceProfile", {"instance_profile.n": {"name": "n"}}, "iam:CreateInstanceProfile"),
        ("CreateOpenIDConnectProvider", {"oidc_provider.e": {"url": "a.b"}}, "iam:CreateOpenIDConnectProvider"),
    ],
)
def test_a_refused_call_names_the_action(lab: Lab, operation: str, described: Any, action: str) -> None:
    lab.wire.behaviour = Once(operation, Answer.error("AccessDenied", "no"))
    (result,) = lab.run(described).report.results
    assert f"allow {action}" in result.message
