# SPDX-License-Identifier: GPL-3.0-or-later
"""Node groups and Fargate profiles, against an EKS with slow operations and the refusals of the real one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    ReadError,
    RefusedError,
)
from tests.integration.aws.lab import Lab, failures
from tests.integration.aws.wire import Answer, Call
from tests.unit.aws.eks_service import (
    ACCOUNT,
    Eks,
    assert_survives_every_crash,
    edit_tags_of,
    make_lab,
    vanish_as,
)

ROLE = f"arn:aws:iam::{ACCOUNT}:role/nodes"
CLUSTER = {
    "eks_cluster.main": {
        "name": "lake",
        "version": "1.34",
        "role_arn": f"arn:aws:iam::{ACCOUNT}:role/cluster",
        "subnet_ids": ["subnet-1", "subnet-2"],
    }
}
GROUP: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "name": "workers",
    "node_role_arn": ROLE,
    "subnet_ids": ["subnet-1", "subnet-2"],
    "scaling_config": {"min_size": 1, "max_size": 10, "desired_size": 3},
    "update_config": {"max_unavailable": 1},
    "labels": {"capacity": "on-demand", "tier": "gold"},
    "taints": [{"key": "spot-instance", "value": "true", "effect": "NO_SCHEDULE"}],
    "launch_template": {"id": "lt-1", "version": "1"},
}
PROFILE: dict[str, Any] = {
    "cluster_name": "${eks_cluster.main.name}",
    "name": "batch",
    "pod_execution_role_arn": f"arn:aws:iam::{ACCOUNT}:role/fargate",
    "subnet_ids": ["subnet-1"],
    "selectors": [{"namespace": "lake", "labels": {"compute": "fargate"}}],
}


@pytest.fixture
def eks() -> Eks:
    return Eks()


@pytest.fixture
def lab(eks: Eks) -> Lab:
    return make_lab(eks)


def described(**changes: Any) -> dict[str, dict[str, Any]]:
    return {**CLUSTER, "eks_nodegroup.workers": {**GROUP, **changes}}


def group(eks: Eks) -> dict[str, Any]:
    return eks.thing("nodegroup", "lake", "workers").body


def test_a_group_of_nodes_goes_through_its_life(lab: Lab, eks: Eks) -> None:
    lab.assert_matrix(
        "eks_nodegroup.workers",
        GROUP,
        CLUSTER,
        changes={
            "labels": {"capacity": "spot", "zone": "a"},
            "taints": [{"key": "gpu", "effect": "NO_EXECUTE"}, {"key": "spot-instance", "effect": "NO_SCHEDULE"}],
            "scaling_config": {"min_size": 2, "max_size": 8},
            "update_config": {"max_unavailable_percentage": 25},
            "no labels and taints": {"labels": None, "taints": None},
            "launch_template": {"id": "lt-1", "version": "2"},
            "release_version": "1.34.2-20260701",
            "another template": {"launch_template": {"id": "lt-2", "version": "1"}},
            "instance_types": ["m5.large", "t3.large"],
            "processor": {"ami_type": "AL2023_ARM_64_STANDARD", "instance_types": ["m6g.large"]},
            "capacity_type": "SPOT",
            "subnet_ids": ["subnet-2"],
            "node_role_arn": f"{ROLE}-2",
        },
        replaces=[
            "another template",
            "instance_types",
            "processor",
            "capacity_type",
            "subnet_ids",
            "node_role_arn",
        ],
        vanish=vanish_as("nodegroup"),
        edit_tags=edit_tags_of("nodegroup"),
        unprotect=("eks_cluster",),
    )
    assert eks.most_updates_at_once == 1


def test_a_group_without_a_template_has_a_disk(lab: Lab, eks: Eks) -> None:
    without = {"launch_template": None, "instance_types": ["t3.medium"]}
    lab.apply(described(**without, disk_size=50))

    assert group(eks)["diskSize"] == 50
    assert lab.plan(described(**without, disk_size=60)).node("eks_nodegroup.workers").forced_by == ("disk_size",)
    # Properties without a description keep the values that EKS chose.
    lab.assert_unchanged(described(**without))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaling_config": {"min_size": 3, "max_size": 2}}, "scaling_config.min_size: 3 is more than max_size, 2"),
        (
            {"scaling_config": {"min_size": 1, "max_size": 2, "desired_size": 3}},
            "scaling_config.desired_size: 3 is not between min_size, 1, and max_size, 2",
        ),
        ({"scaling_config": {"max_size": 2}}, "scaling_config.min_size: is required and not given"),
        ({"update_config": {}}, "update_config: takes either max_unavailable or max_unavailable_percentage"),
        (
            {"update_config": {"max_unavailable": 1, "max_unavailable_percentage": 5}},
            "update_config: takes either max_unavailable or max_unavailable_percentage",
        ),
        ({"disk_size": 50}, "disk_size: cannot be given beside a launch template"),
        ({"launch_template": None, "ami_type": "CUSTOM"}, "ami_type: CUSTOM takes its image from a launch template"),
        ({"ami_type": "CUSTOM", "version": "1.34"}, "version: the image of a launch template decides about it"),
        ({"taints": [{"key": "x", "effect": "NEVER"}]}, "taints[0].effect: 'NEVER' is not one of its choices"),
        ({"capacity_type": "RESERVED"}, "capacity_type: 'RESERVED' is not one of its choices"),
        ({"launch_template": {"version": "1"}}, "launch_template.id: is required and not given"),
        (
            {"version": "1.34", "release_version": "1.35.0-20261120"},
            "release_version: 1.35.0-20261120 is not for version 1.34; choose a release of 1.34",
        ),
        (
            {"ami_type": "CUSTOM", "release_version": "1.34.0-20261120"},
            "release_version: the image of a launch template decides about it",
        ),
        (
            {"ami_type": "CUSTOM", "latest_release": True},
            "latest_release: AWS publishes no newest image of type CUSTOM; set release_version, or use one of: AL2023",
        ),
    ],
)
def test_a_wrong_description_is_refused_before_any_call_of_eks(lab: Lab, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        lab.plan(described(**changes))
    assert f"eks_nodegroup.workers: {message}" in str(caught.value)
    assert not [name for name in lab.wire.names() if name.startswith("eks:")]


@pytest.mark.parametrize(("before", "after"), [({}, {"launch_template": None}), ({"launch_template": None}, {})])
def test_a_template_is_not_given_to_or_taken_from_a_group_that_exists(
    lab: Lab, before: dict[str, Any], after: dict[str, Any]
) -> None:
    lab.apply(described(**before))

    with pytest.raises(DescriptionError, match="give the group another name, and prune the old one once the new one"):
        lab.plan(described(**after))


def test_a_group_under_another_name_is_made_beside_the_old_one_which_is_then_pruned(lab: Lab) -> None:
    lab.apply(described())

    made = lab.apply(described(name="workers-2"))
    pruned = lab.apply(described(name="workers-2"), prune=True)

    assert made.mutating == ["eks:CreateNodegroup"]
    assert pruned.mutating == ["eks:DeleteNodegroup"]
    assert [node.id for node in pruned.plan.nodes if node.action == "delete"] == ["lake/workers"]


def test_the_number_of_nodes_belongs_to_the_autoscaler(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    assert group(eks)["scalingConfig"]["desiredSize"] == 3
    group(eks)["scalingConfig"]["desiredSize"] = 7

    lab.assert_unchanged(described())
    other = {"min_size": 1, "max_size": 10, "desired_size": 5}
    lab.assert_unchanged(described(scaling_config=other))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"min_size": 2, "max_size": 9}, 7),
        ({"min_size": 1, "max_size": 4}, 4),
        ({"min_size": 8, "max_size": 12}, 8),
    ],
)
def test_new_bounds_move_the_number_of_nodes_only_where_it_would_be_outside(
    lab: Lab, eks: Eks, bounds: dict[str, int], expected: int
) -> None:
    lab.apply(described())
    group(eks)["scalingConfig"]["desiredSize"] = 7

    lab.apply(described(scaling_config=bounds))

    told = lab.wire.mutating[-1].parameters["scalingConfig"]
    assert group(eks)["scalingConfig"]["desiredSize"] == expected
    assert ("desiredSize" in told) == (expected != 7)


def test_without_a_number_of_nodes_it_begins_with_the_fewest(lab: Lab, eks: Eks) -> None:
    lab.apply(described(scaling_config={"min_size": 0, "max_size": 5}))

    assert group(eks)["scalingConfig"] == {"minSize": 0, "maxSize": 5, "desiredSize": 0}


def test_nodes_follow_the_version_of_their_cluster_in_the_same_run(lab: Lab, eks: Eks) -> None:
    followed = described(version="${eks_cluster.main.version}")
    lab.apply(followed)
    followed["eks_cluster.main"] = {**CLUSTER["eks_cluster.main"], "version": "1.35"}

    ran = lab.apply(followed)

    assert ran.mutating == ["eks:UpdateClusterVersion", "eks:UpdateNodegroupVersion"]
    assert group(eks)["version"] == "1.35"


class Published(Eks):
    """EKS, with the newest image releases by the names of their public parameters."""

    releases: dict[str, str]

    def before(self, call: Call) -> Answer | None:
        if call.name != "ssm:GetParameter":
            return super().before(call)
        value = self.releases.get(call.parameters["Name"])
        return Answer({"Parameter": {"Value": value}}) if value else Answer.error("ParameterNotFound")


IMAGE = "/aws/service/eks/optimized-ami/{}/amazon-linux-2023/x86_64/standard/recommended/release_version"
FOLLOWING: dict[str, Any] = {"version": "${eks_cluster.main.version}", "latest_release": True}


@pytest.fixture
def published() -> Published:
    made = Published()
    made.releases = {IMAGE.format("1.34"): "1.34.2-20261101", IMAGE.format("1.35"): "1.35.0-20261105"}
    return made


def test_images_are_refreshed_in_place_when_a_newer_release_is_published(published: Published) -> None:
    lab = make_lab(published)
    lab.apply(described(**FOLLOWING))
    assert group(published)["releaseVersion"] == "1.34.2-20261101"
    lab.assert_unchanged(described(**FOLLOWING))

    published.releases[IMAGE.format("1.34")] = "1.34.2-20261120"
    node = lab.plan(described(**FOLLOWING)).node("eks_nodegroup.workers")
    assert node.action == "update"
    assert [(change.path, change.before, change.after) for change in node.changes] == [
        ("release_version", "1.34.2-20261101", "1.34.2-20261120")
    ]
    assert lab.apply(described(**FOLLOWING)).mutating == ["eks:UpdateNodegroupVersion"]
    told = lab.wire.mutating[-1].parameters
    assert (told["version"], told["releaseVersion"]) == ("1.34", "1.34.2-20261120")
    # A node group that no longer follows releases keeps its release.
    lab.assert_unchanged(described(version=FOLLOWING["version"]))


def test_an_upgrade_of_the_cluster_takes_the_newest_image_of_its_version(published: Published) -> None:
    lab = make_lab(published)
    lab.apply(described(**FOLLOWING))
    upgraded = described(**FOLLOWING)
    upgraded["eks_cluster.main"] = {**CLUSTER["eks_cluster.main"], "version": "1.35"}
    assert lab.apply(upgraded).mutating == ["eks:UpdateClusterVersion", "eks:UpdateNodegroupVersion"]
    assert group(published)["releaseVersion"] == "1.35.0-20261105"


def test_a_release_that_was_withdrawn_is_no_reason_to_go_back(published: Published) -> None:
    lab = make_lab(published)
    lab.apply(described(**FOLLOWING))
    published.releases[IMAGE.format("1.34")] = "1.34.1-20261001"
    lab.assert_unchanged(described(**FOLLOWING))


def test_an_older_release_is_refused_and_the_remedies_work(published: Published) -> None:
    lab = make_lab(published)
    lab.apply(described(release_version="1.34.2-20261101"))
    message = (
        "1.34.1-20261001 is older than 1.34.2-20261101, and EKS does not go back; choose a newer release, or remove"
    )
    with pytest.raises(DescriptionError, match=re.escape(message)):
        lab.plan(described(release_version="1.34.1-20261001"))
    lab.assert_unchanged(described())
    assert lab.apply(described(release_version="1.34.3-20261125")).mutating == ["eks:UpdateNodegroupVersion"]


def test_a_version_without_a_published_image_is_reported_with_what_to_do(published: Published) -> None:
    lab = make_lab(published)
    del published.releases[IMAGE.format("1.34")]
    with pytest.raises(ReadError, match=r"cannot find the newest image AL2023_x86_64_STANDARD for Kubernetes 1\.34"):
        lab.plan(described(**FOLLOWING))
    assert lab.apply(described(version=FOLLOWING["version"])).report.complete


def test_a_new_template_does_not_upgrade_the_nodes_on_the_way(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    eks.thing("cluster", "lake").body["version"] = "1.35"
    newer = described(launch_template={"id": "lt-1", "version": "2"})
    newer["eks_cluster.main"] = {**CLUSTER["eks_cluster.main"], "version": "1.35"}

    lab.apply(newer)

    assert group(eks)["version"] == "1.34"
    assert group(eks)["launchTemplate"]["version"] == "2"


def test_an_image_of_ones_own_is_told_by_the_template_alone(lab: Lab) -> None:
    lab.apply(described(ami_type="CUSTOM"))
    created = lab.wire.mutating[-1].parameters
    lab.apply(described(ami_type="CUSTOM", launch_template={"id": "lt-1", "version": "2"}))
    updated = lab.wire.mutating[-1].parameters

    assert not {"amiType", "version", "releaseVersion"} & set(created)
    assert not {"version", "releaseVersion"} & set(updated)


def test_a_creation_that_fails_says_why_and_the_next_run_makes_it_anew(lab: Lab, eks: Eks) -> None:
    eks.broken["nodegroup workers"] = [
        {"code": "NodeCreationFailure", "message": "Instances failed to join", "resourceIds": ["i-1", "i-2"]}
    ]

    failed = lab.run(described()).report.result("eks_nodegroup.workers")
    again = lab.run(described())

    assert failed.message == (
        "eks_nodegroup.workers (lake/workers) cannot become ready: "
        "CREATE_FAILED: NodeCreationFailure: Instances failed to join (i-1, i-2)"
    )
    assert again.report.complete, failures(again.report)
    assert again.mutating == ["eks:DeleteNodegroup", "eks:CreateNodegroup"]


def test_a_failed_update_says_why(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    eks.failing["UpdateNodegroupVersion"] = [
        {"errorCode": "PodEvictionFailure", "errorMessage": "Reached max retries", "resourceIds": ["ip-10-0-1-1"]}
    ]

    ran = lab.run(described(launch_template={"id": "lt-1", "version": "2"}))

    assert ran.report.result("eks_nodegroup.workers").message == (
        "eks_nodegroup.workers (lake/workers): VersionUpdate failed: "
        "PodEvictionFailure: Reached max retries (ip-10-0-1-1)"
    )


def test_an_unwell_group_is_reported_and_an_update_may_heal_it(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    thing = eks.thing("nodegroup", "lake", "workers")
    thing.status = "DEGRADED"
    issue = {"code": "Ec2LaunchTemplateNotFound", "message": "lt-1 is gone", "resourceIds": ["lt-1"]}
    thing.body["health"] = {"issues": [issue]}

    node = lab.plan(described()).node("eks_nodegroup.workers")
    unhealed = lab.run(described()).report.result("eks_nodegroup.workers")
    healed = lab.run(described(launch_template={"id": "lt-1", "version": "2"}))

    assert (node.action, node.reason) == ("update", "is DEGRADED: Ec2LaunchTemplateNotFound: lt-1 is gone (lt-1)")
    assert "cannot become ready: DEGRADED: Ec2LaunchTemplateNotFound: lt-1 is gone" in unhealed.message
    assert healed.report.complete, failures(healed.report)


def test_a_deletion_that_fails_says_why(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    thing = eks.thing("nodegroup", "lake", "workers")
    delete = eks._delete

    def failing(kind: str, cluster: str, name: str = "") -> dict[str, Any]:
        body = delete(kind, cluster, name)
        thing.begin("DELETING", "DELETE_FAILED", 2)
        thing.body["health"] = {"issues": [{"code": "Ec2SecurityGroupDeletionFailure", "message": "in use"}]}
        return body

    eks._delete = failing  # type: ignore[method-assign]
    ran = lab.run(described(), state="absent", unprotect=("eks_cluster",))

    message = ran.report.result("eks_nodegroup.workers").message
    assert message.endswith("cannot be deleted: DELETE_FAILED: Ec2SecurityGroupDeletionFailure: in use")
    assert ran.report.result("eks_cluster.main").outcome == "skipped"


def test_nodes_of_another_stack_are_refused(lab: Lab, eks: Eks) -> None:
    lab.apply(described())
    group(eks)["tags"]["lakehouse:stack"] = "other/production"

    with pytest.raises(RefusedError, match="lake/workers belongs to stack 'other' in 'production'"):
        lab.plan(described())


def test_a_group_that_is_killed_after_any_call_is_finished_by_the_next_run() -> None:
    assert_survives_every_crash(described(), CLUSTER)


def test_an_update_that_is_killed_after_any_call_is_finished_by_the_next_run() -> None:
    after = described(
        labels={"capacity": "x"},
        scaling_config={"min_size": 4, "max_size": 5},
        launch_template={"id": "lt-1", "version": "2"},
        tags={"Owner": "data"},
    )
    assert_survives_every_crash(after, described())


def profiles(**changes: Any) -> dict[str, dict[str, Any]]:
    return {**CLUSTER, "fargate_profile.batch": {**PROFILE, **changes}}


def test_a_fargate_profile_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "fargate_profile.batch",
        PROFILE,
        CLUSTER,
        changes={
            "selectors": [{"namespace": "lake"}, {"namespace": "batch-*", "labels": {"a": "b"}}],
            "subnet_ids": ["subnet-2"],
            "pod_execution_role_arn": f"{PROFILE['pod_execution_role_arn']}-2",
        },
        replaces=["selectors", "subnet_ids", "pod_execution_role_arn"],
        vanish=vanish_as("profile"),
        edit_tags=edit_tags_of("profile"),
        unprotect=("eks_cluster", "fargate_profile"),
    )


def test_profiles_of_a_cluster_are_made_and_deleted_one_after_the_other(lab: Lab, eks: Eks) -> None:
    several = {**CLUSTER, **{f"fargate_profile.p{n}": {**PROFILE, "name": f"p{n}"} for n in range(4)}}

    made = lab.apply(several)
    gone = lab.destroy(several)

    assert "eks:CreateFargateProfile" in made.mutating
    assert len(made.report.results) == 5
    assert gone.report.complete
    assert not eks.things


def test_a_profile_whose_name_is_taken_is_not_waited_for(lab: Lab, eks: Eks) -> None:
    lab.apply(CLUSTER)
    taken = Answer.error("ResourceInUseException", "A Fargate Profile already exists with this name.", 409)
    eks.refusing["CreateFargateProfile"] = [taken]

    ran = lab.run(profiles())

    assert "already exists with this name" in ran.report.result("fargate_profile.batch").message
    assert ran.mutating == ["eks:CreateFargateProfile"]


def test_six_selectors_are_too_many(lab: Lab) -> None:
    with pytest.raises(DescriptionError, match="selectors: a profile has at most 5, not 6"):
        lab.plan(profiles(selectors=[{"namespace": f"n{n}"} for n in range(6)]))


def test_a_profile_that_is_killed_after_any_call_is_finished_by_the_next_run() -> None:
    assert_survives_every_crash(profiles(), CLUSTER)
