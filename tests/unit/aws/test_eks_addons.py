# SPDX-License-Identifier: GPL-3.0-or-later
"""Addons, access entries and pod identities, against an EKS with the refusals of the real one."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Plan
from tests.integration.aws.lab import Lab, failures
from tests.integration.aws.wire import Answer
from tests.unit.aws.eks_service import (
    ACCOUNT,
    Eks,
    assert_survives_every_crash,
    edit_tags_of,
    make_lab,
    the_service,
    vanish_as,
)

ROLE = f"arn:aws:iam::{ACCOUNT}:role/pods"
CLUSTER = {
    "eks_cluster.main": {
        "name": "lake",
        "version": "1.34",
        "role_arn": f"arn:aws:iam::{ACCOUNT}:role/cluster",
        "subnet_ids": ["subnet-1", "subnet-2"],
    }
}
ADDON: dict[str, Any] = {"cluster_name": "${eks_cluster.main.name}", "name": "vpc-cni"}
OFFERED = {
    "vpc-cni": {"1.34": ["v3", "v2*", "v1"], "1.35": ["v4", "v3*", "v2"], "1.36": ["v5*"]},
    "coredns": {"1.34": ["c1*"]},
    "market_addon": {"1.34": ["m2", "m1*"]},
}
POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
VIEW = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
PRINCIPAL = f"arn:aws:iam::{ACCOUNT}:role/team/admins"
ENTRY: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "principal_arn": PRINCIPAL,
    "access_policies": [{"policy_arn": POLICY}],
}
ASSOCIATION: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "namespace": "lake",
    "service_account": "pipeline",
    "role_arn": ROLE,
}


@pytest.fixture
def eks() -> Eks:
    return Eks(offered=OFFERED)


@pytest.fixture
def lab(eks: Eks) -> Lab:
    return make_lab(eks)


def described(kubernetes: str = "1.34", **changes: Any) -> dict[str, dict[str, Any]]:
    cluster = {**CLUSTER["eks_cluster.main"], "version": kubernetes}
    return {"eks_cluster.main": cluster, "eks_addon.cni": {**ADDON, **changes}}


def addon(eks: Eks) -> dict[str, Any]:
    return eks.thing("addon", "lake", "vpc-cni").body


def planned_version(plan: Plan) -> list[tuple[Any, Any]]:
    changes = plan.node("eks_addon.cni").changes
    return [(change.before, change.after) for change in changes if change.path == "version"]


def test_an_addon_goes_through_its_life(lab: Lab, eks: Eks) -> None:
    lab.assert_matrix(
        "eks_addon.cni",
        ADDON,
        CLUSTER,
        changes={
            "version": "v3",
            "configuration_values": {"enableNetworkPolicy": "true", "env": {"WARM_IP_TARGET": "2"}},
            "service_account_role_arn": ROLE,
            "pod_identity_associations": [
                {"service_account": "aws-node", "role_arn": ROLE},
                {"service_account": "other", "role_arn": ROLE},
            ],
            "another role": {
                "pod_identity_associations": [{"service_account": "aws-node", "role_arn": f"{ROLE}-2"}],
            },
            "nothing of it": {
                "pod_identity_associations": None,
                "configuration_values": None,
                "service_account_role_arn": None,
            },
        },
        vanish=vanish_as("addon"),
        edit_tags=edit_tags_of("addon"),
        unprotect=("eks_cluster",),
    )
    assert eks.most_updates_at_once == 1
    assert not eks.things


def test_the_version_is_eks_default_for_the_cluster_and_the_plan_shows_it(lab: Lab, eks: Eks) -> None:
    lab.apply(CLUSTER)

    assert planned_version(lab.plan(described())) == [(None, "v2")]
    lab.apply(described())
    assert addon(eks)["addonVersion"] == "v2"
    lab.assert_unchanged(described())


def test_the_version_for_a_cluster_that_is_only_planned_is_chosen_when_it_is_there(lab: Lab, eks: Eks) -> None:
    plan = lab.plan(described())
    lab.apply(described())

    assert planned_version(plan) == []
    assert addon(eks)["addonVersion"] == "v2"


def test_the_version_is_known_before_the_cluster_is_there_where_it_is_told_for_which(lab: Lab) -> None:
    plan = lab.plan(described(kubernetes_version="${eks_cluster.main.version}"))

    assert planned_version(plan) == [(None, "v2")]


def test_an_installed_version_is_left_alone_while_the_cluster_can_run_it(lab: Lab, eks: Eks) -> None:
    lab.apply(described(version="v3"))

    lab.assert_unchanged(described())
    lab.apply(described("1.35"))
    assert addon(eks)["addonVersion"] == "v3"
    lab.assert_unchanged(described("1.35"))


def test_an_installed_version_that_the_upgraded_cluster_cannot_run_is_updated(lab: Lab, eks: Eks) -> None:
    lab.apply(described(version="v1"))
    lab.apply(described("1.35", version="v1"))

    assert planned_version(lab.plan(described("1.35"))) == [("v1", "v3")]
    lab.apply(described("1.35"))
    assert addon(eks)["addonVersion"] == "v3"


def test_an_addon_follows_an_upgrade_in_the_same_run(lab: Lab, eks: Eks) -> None:
    follows = {"kubernetes_version": "${eks_cluster.main.version}"}
    lab.apply(described("1.35", **follows))

    ran = lab.apply(described("1.36", **follows))

    assert planned_version(ran.plan) == [("v3", "v5")]
    assert ran.mutating == ["eks:UpdateClusterVersion", "eks:UpdateAddon"]


def test_addons_are_looked_up_by_one_listing_and_those_of_the_marketplace_by_name(lab: Lab) -> None:
    several = {
        **described(),
        "eks_addon.dns": {**ADDON, "name": "coredns"},
        "eks_addon.market": {**ADDON, "name": "market_addon"},
    }
    lab.apply(CLUSTER)
    before = len(lab.wire.calls)

    plan = lab.plan(several)

    asked = [call.parameters for call in lab.wire.calls[before:] if call.operation == "DescribeAddonVersions"]
    assert asked == [
        {"kubernetesVersion": "1.34", "owners": ["aws"]},
        {"kubernetesVersion": "1.34", "addonName": "market_addon"},
    ]
    assert [change.after for change in plan.node("eks_addon.market").changes if change.path == "version"] == ["m1"]


def test_a_version_that_cannot_be_looked_up_is_left_to_eks(lab: Lab, eks: Eks) -> None:
    eks.offered = {}

    lab.apply(described())

    assert "addonVersion" not in lab.wire.mutating[-1].parameters
    lab.assert_unchanged(described())


def test_where_no_versions_are_listed_none_is_asked_for_by_name(lab: Lab, eks: Eks) -> None:
    refused = Answer.error("InvalidRequestException", "no such operation")
    eks.refusing["DescribeAddonVersions"] = [refused] * 9
    lab.apply(CLUSTER)

    lab.plan({**described(), "eks_addon.dns": {**ADDON, "name": "coredns"}})

    assert lab.wire.names().count("eks:DescribeAddonVersions") == 1


def test_a_role_is_told_again_with_every_update(lab: Lab, eks: Eks) -> None:
    lab.apply(described(service_account_role_arn=ROLE, configuration_values={"a": 1}))

    lab.apply(described(service_account_role_arn=ROLE, configuration_values={"a": 1}, version="v3"))

    assert addon(eks)["serviceAccountRoleArn"] == ROLE
    assert addon(eks)["configurationValues"] == '{"a":1}'


def test_configuration_is_compared_as_a_document(lab: Lab, eks: Eks) -> None:
    lab.apply(described(configuration_values={"b": 1, "a": 2}))
    addon(eks)["configurationValues"] = '{ "a": 2,\n "b": 1 }'

    lab.assert_unchanged(described(configuration_values='{"b": 1, "a": 2}'))


def test_how_conflicts_are_resolved_is_told_and_never_compared(lab: Lab) -> None:
    lab.apply(described())
    assert lab.wire.mutating[-1].parameters["resolveConflicts"] == "OVERWRITE"

    lab.assert_unchanged(described(resolve_conflicts="PRESERVE"))
    lab.apply(described(resolve_conflicts="PRESERVE", version="v3"))
    assert lab.wire.mutating[-1].parameters["resolveConflicts"] == "PRESERVE"


def test_an_unwell_addon_is_reported_with_its_issues_and_an_update_may_heal_it(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    thing = eks.thing("addon", "lake", "vpc-cni")
    thing.status = "DEGRADED"
    issue = {"code": "InsufficientNumberOfReplicas", "message": "no replica is running", "resourceIds": []}
    thing.body["health"] = {"issues": [issue]}

    node = lab.plan(described()).node("eks_addon.cni")
    unhealed = lab.run(described()).report.result("eks_addon.cni")
    healed = lab.run(described(version="v3"))

    told = "DEGRADED: InsufficientNumberOfReplicas: no replica is running"
    assert (node.action, node.reason) == ("update", f"is {told}")
    assert unhealed.message == f"waited 1200 s for eks_addon.cni (lake/vpc-cni) to be ready; it is {told}"
    assert healed.report.complete, failures(healed.report)


def test_a_creation_that_fails_says_why_and_the_next_run_makes_it_anew(lab: Lab, eks: Eks) -> None:
    eks.broken["addon vpc-cni"] = [{"code": "ConfigurationConflict", "message": "apply failed", "resourceIds": ["x"]}]

    failed = lab.run(described()).report.result("eks_addon.cni")
    again = lab.run(described())

    assert failed.message.endswith("cannot become ready: CREATE_FAILED: ConfigurationConflict: apply failed (x)")
    assert again.report.complete, failures(again.report)
    assert again.mutating == ["eks:DeleteAddon", "eks:CreateAddon"]


def test_a_failed_update_says_why_and_the_next_run_tries_again(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    eks.failing["UpdateAddon"] = [{"errorCode": "ConfigurationConflict", "errorMessage": "conflict"}]

    failed = lab.run(described(version="v3")).report.result("eks_addon.cni")
    eks.thing("addon", "lake", "vpc-cni").status = "UPDATE_FAILED"
    again = lab.run(described(version="v3"))

    assert failed.message == "eks_addon.cni (lake/vpc-cni): AddonUpdate failed: ConfigurationConflict: conflict"
    assert again.report.complete, failures(again.report)


def test_an_addon_that_is_killed_after_any_call_is_finished_by_the_next_run() -> None:
    settings: dict[str, Any] = {
        "version": "v2",
        "configuration_values": {"a": 1},
        "pod_identity_associations": [{"service_account": "aws-node", "role_arn": ROLE}],
    }
    assert_survives_every_crash(described(**settings), CLUSTER)
    assert_survives_every_crash(described(**{**settings, "version": "v3"}), described(**settings))


def entries(**changes: Any) -> dict[str, dict[str, Any]]:
    return {**CLUSTER, "eks_access_entry.admins": {**ENTRY, **changes}}


def test_an_access_entry_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "eks_access_entry.admins",
        ENTRY,
        CLUSTER,
        changes={
            "kubernetes_groups": ["viewers", "builders"],
            "access_policies": [
                {"policy_arn": POLICY},
                {"policy_arn": VIEW, "scope": "namespace", "namespaces": ["a"]},
            ],
            "other namespaces": {
                "access_policies": [{"policy_arn": VIEW, "scope": "namespace", "namespaces": ["b", "a"]}]
            },
            "nothing": {"access_policies": None, "kubernetes_groups": None},
            "type": "EC2_LINUX",
        },
        replaces=["type"],
        vanish=vanish_as("entry"),
        edit_tags=edit_tags_of("entry"),
        unprotect=("eks_cluster", "eks_access_entry"),
    )


def test_access_is_given_before_it_is_taken(lab: Lab) -> None:
    lab.apply(entries())

    ran = lab.apply(entries(access_policies=[{"policy_arn": VIEW}]))

    assert ran.mutating == ["eks:AssociateAccessPolicy", "eks:DisassociateAccessPolicy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"access_policies": [{"policy_arn": VIEW, "scope": "namespace"}]},
            f"access_policies: {VIEW} has scope namespace; name namespaces with scope namespace",
        ),
        (
            {"access_policies": [{"policy_arn": VIEW, "namespaces": ["a"]}]},
            f"access_policies: {VIEW} has scope cluster; name namespaces with scope namespace",
        ),
        (
            {
                "access_policies": [
                    {"policy_arn": VIEW},
                    {"policy_arn": VIEW, "scope": "namespace", "namespaces": ["a"]},
                ]
            },
            f"access_policies: {VIEW} is there twice",
        ),
        ({"type": "EC2_LINUX"}, "type: EC2_LINUX is for nodes, whose permissions EKS decides about"),
        ({"type": "HUMAN"}, "type: 'HUMAN' is not one of its choices"),
        ({"principal_arn": None}, "principal_arn: is required and not given"),
    ],
)
def test_a_wrong_access_entry_is_refused_before_any_call_of_eks(
    lab: Lab, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DescriptionError) as caught:
        lab.plan(entries(**changes))
    assert f"eks_access_entry.admins: {message}" in str(caught.value)
    assert not [name for name in lab.wire.names() if name.startswith("eks:")]


def test_the_entries_that_eks_makes_for_nodes_are_not_ours(lab: Lab, eks: Eks) -> None:
    lab.apply(entries())
    nodes = {"clusterName": "lake", "principalArn": f"{PRINCIPAL}-nodes", "type": "EC2_LINUX"}
    eks.create_access_entry({**nodes, "clientRequestToken": "x"})

    lab.apply(CLUSTER, prune=True)

    assert eks.list_access_entries({"clusterName": "lake"})["accessEntries"] == [f"{PRINCIPAL}-nodes"]
    with pytest.raises(RefusedError, match="does not carry this stack's tags"):
        lab.plan(entries(principal_arn=f"{PRINCIPAL}-nodes", type="EC2_LINUX", access_policies=None))


def test_an_identity_that_eks_does_not_see_yet_is_waited_for(lab: Lab, eks: Eks) -> None:
    invalid = Answer.error("InvalidParameterException", "The specified principalArn is invalid: invalid principal.")
    eks.refusing["CreateAccessEntry"] = [invalid] * 2
    eks.refusing["AssociateAccessPolicy"] = [Answer.error("ResourceNotFoundException", "no such entry", 404)]

    ran = lab.run(entries())

    assert ran.report.complete, failures(ran.report)


def test_an_access_entry_that_is_killed_after_any_call_is_finished_by_the_next_run() -> None:
    both = [{"policy_arn": POLICY}, {"policy_arn": VIEW, "scope": "namespace", "namespaces": ["a"]}]
    assert_survives_every_crash(entries(access_policies=both, kubernetes_groups=["x"]), CLUSTER)


def associations(**changes: Any) -> dict[str, dict[str, Any]]:
    return {**CLUSTER, "pod_identity_association.pipeline": {**ASSOCIATION, **changes}}


def forget_association(lab: Lab, id_: str) -> None:
    things = the_service(lab).things
    for key in [key for key in things if key[0] == "association"]:
        del things[key]


def edit_association(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    things = the_service(lab).things
    (name,) = [name for kind, _cluster, name in things if kind == "association"]
    edit_tags_of("association")(lab, f"lake/{name}", tags, removed)


def test_a_pod_identity_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "pod_identity_association.pipeline",
        ASSOCIATION,
        CLUSTER,
        changes={"role_arn": f"{ROLE}-2"},
        vanish=forget_association,
        edit_tags=edit_association,
        unprotect=("eks_cluster",),
    )


def test_pod_identities_of_a_cluster_are_found_by_one_listing(lab: Lab) -> None:
    several = {
        **CLUSTER,
        **{f"pod_identity_association.a{n}": {**ASSOCIATION, "service_account": f"a{n}"} for n in range(2)},
    }
    lab.apply(several)
    before = len(lab.wire.calls)

    lab.plan(several)

    names = [call.operation for call in lab.wire.calls[before:]]
    assert names.count("ListPodIdentityAssociations") == 1
    assert names.count("DescribePodIdentityAssociation") == 2


def test_a_pod_identity_that_is_killed_after_any_call_is_finished_by_the_next_run() -> None:
    assert_survives_every_crash(associations(tags={"Owner": "data"}), CLUSTER)
    assert_survives_every_crash(associations(role_arn=f"{ROLE}-2", tags={"Owner": "x"}), associations())
