# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters, against an EKS with slow operations and the refusals of the real one."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from tests.integration.aws.lab import Lab, failures
from tests.integration.aws.wire import Answer
from tests.unit.aws.eks_service import (
    ACCOUNT,
    Eks,
    assert_survives_every_crash,
    edit_tags_of,
    make_lab,
    vanish_as,
)

ROLE = f"arn:aws:iam::{ACCOUNT}:role/cluster"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1"
CLUSTER: dict[str, Any] = {
    "name": "lake",
    "version": "1.34",
    "role_arn": ROLE,
    "subnet_ids": ["subnet-1", "subnet-2"],
    "security_group_ids": ["sg-1"],
}


@pytest.fixture
def eks() -> Eks:
    return Eks()


@pytest.fixture
def lab(eks: Eks) -> Lab:
    return make_lab(eks)


def described(**changes: Any) -> dict[str, dict[str, Any]]:
    return {"eks_cluster.main": {**CLUSTER, **changes}}


def test_a_cluster_goes_through_its_life(lab: Lab, eks: Eks) -> None:
    lab.assert_matrix(
        "eks_cluster.main",
        CLUSTER,
        changes={
            "logging": ["api", "audit"],
            "public endpoint": {"endpoint_public_access": True, "public_access_cidrs": ["192.0.2.0/24"]},
            "public_access_cidrs": ["192.0.2.0/24", "198.51.100.0/24"],
            "private endpoint again": {"endpoint_public_access": False, "public_access_cidrs": []},
            "subnet_ids": ["subnet-1", "subnet-3"],
            "security_group_ids": [],
            "encryption_key_arn": KEY,
            "support_type": "STANDARD",
            "deletion_protection": True,
            "no deletion protection": {"deletion_protection": False},
            "version": "1.35",
            "everything at once": {
                "version": "1.36",
                "logging": ["scheduler"],
                "subnet_ids": ["subnet-1", "subnet-2"],
                "endpoint_public_access": True,
                "public_access_cidrs": ["192.0.2.0/24"],
                "support_type": "EXTENDED",
            },
            "role_arn": f"{ROLE}-2",
            "service_ipv4_cidr": "10.200.0.0/16",
        },
        replaces=["role_arn", "service_ipv4_cidr"],
        vanish=vanish_as("cluster"),
        edit_tags=edit_tags_of("cluster"),
    )
    assert eks.most_updates_at_once == 1
    assert not eks.things


def test_a_plan_of_what_is_missing_and_what_is_there(lab: Lab) -> None:
    planned = lab.plan(described())
    ran = lab.apply(described())

    assert planned.node("eks_cluster.main").action == "create"
    assert ran.outputs("eks_cluster.main") == {
        "id": "lake",
        "arn": f"arn:aws:eks:eu-central-1:{ACCOUNT}:cluster/lake",
        "endpoint": "https://lake.eks.amazonaws.com",
        "certificate_authority_data": "Y2VydGlmaWNhdGU=",
        "oidc_issuer": "https://oidc.eks.eu-central-1.amazonaws.com/id/lake",
        "cluster_security_group_id": "sg-of-lake",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1.3}, """version: '1.3' is not a version of Kubernetes such as "1.35"; write it in quotes"""),
        ({"name": "lake house"}, "name: 'lake house' is not a name of a cluster"),
        ({"name": "x" * 101}, "is not a name of a cluster"),
        ({"subnet_ids": ["subnet-1"]}, "subnet_ids: a cluster needs at least two subnets"),
        ({"endpoint_private_access": False}, "nothing reaches the cluster"),
        ({"endpoint_public_access": True}, "public_access_cidrs: without them EKS opens the endpoint to 0.0.0.0/0"),
        ({"public_access_cidrs": ["192.0.2.0/24"]}, "public_access_cidrs: has no effect while the endpoint is private"),
        (
            {"endpoint_public_access": True, "public_access_cidrs": ["office"]},
            "public_access_cidrs[0]: 'office' is not a network",
        ),
        ({"logging": ["apis"]}, "logging[0]: 'apis' is not one of its choices; did you mean 'api'?"),
        ({"authentication_mode": "IAM"}, "authentication_mode: 'IAM' is not one of its choices"),
        ({"support_type": "LONG"}, "support_type: 'LONG' is not one of its choices"),
    ],
)
def test_a_wrong_description_is_refused_before_any_call_of_eks(lab: Lab, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        lab.plan(described(**changes))
    assert f"eks_cluster.main: {message}" in str(caught.value) or message in str(caught.value)
    assert not lab.wire.mutating


@pytest.mark.parametrize(
    ("before", "after", "message", "remedy"),
    [
        (
            {"version": "1.32"},
            {"version": "1.34"},
            "version: the cluster has 1.32, and EKS upgrades one minor version at a time",
            'set version: "1.33" and deploy, so that nodes and addons follow; then the next one',
        ),
        (
            {"version": "1.34"},
            {"version": "1.33"},
            "version: the cluster has 1.34, and EKS does not go back to 1.33",
            'set version: "1.34"',
        ),
        (
            {"authentication_mode": "API"},
            {"authentication_mode": "API_AND_CONFIG_MAP"},
            "authentication_mode: the cluster has API, and EKS does not go back to API_AND_CONFIG_MAP",
            "set authentication_mode: API",
        ),
        (
            {"encryption_key_arn": KEY},
            {"encryption_key_arn": f"{KEY}2"},
            f"encryption_key_arn: the cluster's secrets are encrypted with {KEY}, which EKS can neither change",
            "name that key",
        ),
        (
            {"encryption_key_arn": KEY},
            {},
            f"encryption_key_arn: the cluster's secrets are encrypted with {KEY}, which EKS can neither change",
            "name that key",
        ),
    ],
)
def test_what_eks_never_does_is_refused_in_the_plan_with_what_to_do(
    lab: Lab, before: dict[str, Any], after: dict[str, Any], message: str, remedy: str
) -> None:
    lab.apply(described(**before))

    with pytest.raises(DescriptionError) as caught:
        lab.plan(described(**after))
    assert message in str(caught.value)
    assert remedy in str(caught.value)


def test_an_upgrade_waits_until_it_is_through(lab: Lab, eks: Eks) -> None:
    lab.apply(described(version="1.34"))

    ran = lab.apply(described(version="1.35"))

    assert ran.mutating == ["eks:UpdateClusterVersion"]
    assert eks.thing("cluster", "lake").body["version"] == "1.35"
    assert lab.wire.names().count("eks:DescribeUpdate") > eks.slowness


def test_the_way_to_access_entries_is_gone_in_the_steps_that_eks_takes(lab: Lab, eks: Eks) -> None:
    lab.apply(described(authentication_mode="CONFIG_MAP"))

    ran = lab.apply(described(authentication_mode="API"))

    modes = [
        call.parameters["accessConfig"]["authenticationMode"]
        for call in lab.wire.mutating
        if call.operation == "UpdateClusterConfig"
    ]
    assert modes == ["API_AND_CONFIG_MAP", "API"]
    assert ran.mutating == ["eks:UpdateClusterConfig"] * 2
    assert eks.most_updates_at_once == 1


def test_several_changes_are_one_update_after_the_other_each_of_one_sort(lab: Lab) -> None:
    lab.apply(described(version="1.34"))

    ran = lab.apply(
        described(
            version="1.35",
            encryption_key_arn=KEY,
            logging=["audit"],
            subnet_ids=["subnet-1", "subnet-3"],
            endpoint_public_access=True,
            public_access_cidrs=["192.0.2.0/24"],
            deletion_protection=True,
        )
    )

    assert ran.mutating == [
        "eks:UpdateClusterVersion",
        "eks:AssociateEncryptionConfig",
        *["eks:UpdateClusterConfig"] * 4,
    ]


def test_an_update_of_somebody_else_is_waited_for(lab: Lab, eks: Eks) -> None:
    """It is in progress when the cluster is read, so EKS receives no request before it completes."""
    lab.apply(described())
    cluster = eks.thing("cluster", "lake")
    eks._start("by hand", cluster, "ConfigUpdate", {"clientRequestToken": "x"}, lambda: None)
    eks.updates["update-1"].body["status"] = "Successful"

    plan = lab.propose(described(logging=["api"])).plan
    ran = lab.run(described(logging=["api"]))

    assert plan.node("eks_cluster.main").action == "update"
    assert ran.report.complete, failures(ran.report)
    assert ran.mutating == ["eks:UpdateClusterConfig"]


def test_an_update_that_begins_in_between_is_waited_for(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    busy = Answer.error("ResourceInUseException", "an update is currently in progress", 409)
    eks.refusing["UpdateClusterConfig"] = [busy] * 3

    ran = lab.run(described(logging=["api"]))

    assert ran.report.complete, failures(ran.report)
    calls = [call for call in lab.wire.mutating if call.operation == "UpdateClusterConfig"]
    assert len(calls) == 4
    assert len({call.parameters["clientRequestToken"] for call in calls}) == 1


def test_a_failed_update_says_why_and_the_next_run_tries_again(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    eks.failing["UpdateClusterConfig"] = [
        {"errorCode": "SubnetNotFound", "errorMessage": "The subnet does not exist", "resourceIds": ["subnet-3"]}
    ]

    ran = lab.run(described(subnet_ids=["subnet-1", "subnet-3"]))

    result = ran.report.result("eks_cluster.main")
    assert result.outcome == "failed"
    assert result.message == (
        "eks_cluster.main (lake): ConfigUpdate failed: SubnetNotFound: The subnet does not exist (subnet-3)"
    )
    assert lab.apply(described(subnet_ids=["subnet-1", "subnet-3"])).mutating == ["eks:UpdateClusterConfig"]


def test_an_update_whose_answer_is_lost_is_not_made_twice(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    eks.lost = {"UpdateClusterConfig"}

    ran = lab.run(described(logging=["api"]))

    assert ran.report.complete, failures(ran.report)
    assert len(eks.updates) == 1


def test_a_creation_whose_answer_is_lost_is_found_again(lab: Lab, eks: Eks) -> None:
    eks.lost = {"CreateCluster"}

    ran = lab.run(described())

    assert ran.report.complete, failures(ran.report)
    assert ran.mutating == ["eks:CreateCluster"]


def test_a_creation_that_fails_says_why_and_the_next_run_makes_it_anew(lab: Lab, eks: Eks) -> None:
    eks.broken["cluster lake"] = [
        {"code": "InsufficientFreeAddresses", "message": "no addresses are left", "resourceIds": ["subnet-1"]}
    ]

    failed = lab.run(described()).report.result("eks_cluster.main")
    plan = lab.plan(described())
    again = lab.run(described())

    assert failed.message == (
        "eks_cluster.main (lake) cannot become ready: "
        "FAILED: InsufficientFreeAddresses: no addresses are left (subnet-1)"
    )
    assert plan.node("eks_cluster.main").action == "create"
    assert again.report.complete, failures(again.report)
    assert again.mutating == ["eks:DeleteCluster", "eks:CreateCluster"]


def test_a_cluster_is_neither_replaced_nor_deleted_unless_it_is_named(lab: Lab) -> None:
    lab.apply(described())

    with pytest.raises(RefusedError, match="is protected and would be replaced \\(role_arn\\)"):
        lab.plan(described(role_arn=f"{ROLE}-2"))
    with pytest.raises(RefusedError, match="is protected and would be deleted"):
        lab.plan(described(), state="absent")


def test_deletion_protection_is_not_taken_away_by_a_deletion(lab: Lab, eks: Eks) -> None:
    lab.apply(described(deletion_protection=True))

    with pytest.raises(RefusedError) as caught:
        lab.plan(described(deletion_protection=True), state="absent", unprotect=("eks_cluster",))

    assert str(caught.value) == (
        "eks_cluster.main: deletion_protection: is true, so it cannot be deleted; "
        "set `deletion_protection: false` and deploy this change first"
    )
    assert "lake" in eks.list_clusters({})["clusters"]


def test_nodes_of_somebody_else_keep_a_cluster_from_being_deleted(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    eks.create_nodegroup(
        {"clusterName": "lake", "nodegroupName": "x", "subnets": [], "nodeRole": ROLE, "clientRequestToken": "y"}
    )

    ran = lab.run(described(), state="absent", unprotect=("eks_cluster",))

    assert "Cluster has nodegroups attached" in ran.report.result("eks_cluster.main").message
    assert ran.mutating == ["eks:DeleteCluster"]


def test_a_cluster_without_our_tags_is_adopted_only_when_allowed(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    tags = eks.thing("cluster", "lake").body["tags"]
    for key in [key for key in tags if key.startswith("lakehouse:")]:
        del tags[key]

    with pytest.raises(RefusedError, match="exists as lake and does not carry this stack's tags"):
        lab.plan(described())
    ran = lab.apply(described(), adopt=True)

    assert ran.mutating == ["eks:TagResource"]
    assert tags["lakehouse:stack"] == "lake/development"


def test_what_a_region_does_not_know_is_not_compared(lab: Lab, eks: Eks) -> None:
    lab.apply(described(support_type="STANDARD", deletion_protection=True))
    for word in ("upgradePolicy", "deletionProtection", "accessConfig"):
        del eks.thing("cluster", "lake").body[word]

    lab.assert_unchanged(described(support_type="STANDARD", deletion_protection=True))


def test_a_role_that_eks_does_not_see_yet_is_waited_for(lab: Lab, eks: Eks) -> None:
    eks.refusing["CreateCluster"] = [Answer.error("InvalidParameterException", f"roleArn, {ROLE}, does not exist")] * 3

    ran = lab.run(described())

    assert ran.report.complete, failures(ran.report)
    assert ran.mutating == ["eks:CreateCluster"] * 4


def test_a_missing_permission_is_named(lab: Lab, eks: Eks) -> None:
    denied = f"User: tester is not authorized to perform: iam:PassRole on resource: {ROLE}"
    eks.refusing["CreateCluster"] = [Answer.error("AccessDeniedException", denied, 403)]

    message = lab.run(described()).report.result("eks_cluster.main").message

    assert message.endswith("allow iam:PassRole to the identity that runs this")


def test_a_run_that_is_killed_after_any_call_is_finished_by_the_next() -> None:
    assert_survives_every_crash(described(version="1.34", logging=["api"]))


def test_an_update_that_is_killed_after_any_call_is_finished_by_the_next() -> None:
    before = described(version="1.34", authentication_mode="CONFIG_MAP")
    after = described(
        version="1.35",
        authentication_mode="API",
        encryption_key_arn=KEY,
        logging=["api"],
        deletion_protection=True,
        tags={"Owner": "data"},
    )
    assert_survives_every_crash(after, before)
