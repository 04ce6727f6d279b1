# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags of a stack: resources are tagged at their creation where AWS can, and tags are validated before any call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import AwsKind
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.stack import AwsStack, StackDescription
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.tag_rules import (
    IgnoredTags,
    stack_tags_fault,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import DescriptionError
from tests.unit.aws.blueprint import ENVIRONMENTS, Blueprint, blueprint

TAGS = {"CostCenter": "4711", "Team": "data platform"}
BOUNDARY = "arn:aws:iam::111122223333:policy/boundary"
# IAM uses other names for these services than botocore.
SERVICES = {"elasticfilesystem": ("efs",), "elasticloadbalancing": ("elbv2", "elb")}
# They add tags, and create nothing.
TAGGING = re.compile(r"Tag[A-Z]\w*|TagResource|CreateTags|AddTags\w*")
# Parameters for tags in calls of a kind that the kind does not use.
UNTAGGED = {
    "backup:CreateBackupSelection.BackupSelection.ListOfTags": "says by which tags resources are selected",
    "ec2:AuthorizeSecurityGroupEgress.TagSpecifications": "a rule costs nothing; the kind compares rules without tags",
    "ec2:AuthorizeSecurityGroupIngress.TagSpecifications": "a rule costs nothing; the kind compares rules without tags",
    "ec2:CreateNetworkInterface.TagSpecifications": "EFS makes the interface of a mount target, and takes no tags",
    "eks:CreatePodIdentityAssociation.disableSessionTags": "says which tags a session gets",
    "rds:CreateDBInstance.TagSpecifications": "automated backups get the tags of the instance, which are copied",
    "ec2:RunInstances.MetadataOptions.InstanceMetadataTags": "says whether an instance may read its tags",
}


def _taggable(kind: type[AwsKind]) -> Iterator[str]:
    """Yield `SERVICE:OPERATION.PARAMETER` for each parameter of a kind's creating calls that is named after tags."""
    session = botocore.session.get_session()
    known = set(session.get_available_services())
    for action in kind.actions.create:
        prefix, _colon, operation = action.partition(":")
        for service in SERVICES.get(prefix, (prefix,)):
            model = session.get_service_model(service) if service in known else None
            if model is None or operation not in model.operation_names or TAGGING.fullmatch(operation):
                continue
            for path in _tag_paths(model.operation_model(operation).input_shape):
                yield f"{prefix}:{operation}.{path}"


def _tag_paths(shape: Any, depth: int = 1) -> Iterator[str]:
    if shape is None or shape.type_name != "structure":
        return
    for name, member in shape.members.items():
        if re.search(r"tags$|tagspecifications$", name, re.IGNORECASE):
            yield name
        elif depth:
            yield from (f"{name}.{path}" for path in _tag_paths(member, depth - 1))


def test_a_kind_that_aws_can_tag_at_its_creation_has_tags() -> None:
    found = {path: name for name in KINDS for path in _taggable(kind_class(name))}
    assert len(found) > 30
    untagged = {path for path, name in found.items() if path in UNTAGGED}
    assert untagged == set(UNTAGGED), "an entry of UNTAGGED is out of date"
    for path, name in found.items():
        if path not in UNTAGGED:
            assert "tags" in kind_class(name).schema.properties, path


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def described(request: pytest.FixtureRequest) -> Blueprint:
    return blueprint(
        request.param,
        lakehouse_tags=TAGS,
        lakehouse_aws_permissions_boundary=BOUNDARY,
        lakehouse_aws_database=True,
        lakehouse_auto_scaling=True,
    )


def test_every_resource_has_the_tags_of_the_stack_and_keeps_its_own(described: Blueprint) -> None:
    for address, item in described.resources.items():
        assert item.properties["tags"].items() >= TAGS.items(), address
    assert described["s3_bucket.gold"]["tags"]["Layer"] == "gold"


def test_what_aws_makes_of_a_resource_has_the_tags_of_the_stack(described: Blueprint) -> None:
    parts = {item["resource_type"]: item["tags"] for item in described["launch_template.nodes"]["tag_specifications"]}
    assert set(parts) == {"instance", "volume", "network-interface"}
    for rule in described["backup_plan.daily"]["rules"]:
        assert rule["recovery_point_tags"] == TAGS
    assert described["db_instance.main"]["copy_tags_to_snapshot"] is True
    volumes = described["eks_addon.aws-ebs-csi-driver"]["configuration_values"]["controller"]["extraVolumeTags"]
    for tags in (*parts.values(), volumes):
        assert tags.items() >= {**TAGS, "Environment": described.environment, "Project": "crypto-lakehouse"}.items()


def test_every_role_has_the_permissions_boundary(described: Blueprint) -> None:
    roles = described.of_kind("iam_role")
    assert len(roles) > 8
    assert {role["permissions_boundary"] for role in roles.values()} == {BOUNDARY}


@pytest.mark.parametrize(
    ("kind", "properties"),
    [("launch_template", {"tag_specifications": "none"}), ("backup_plan", {"rules": ["daily"]})],
)
def test_a_malformed_description_is_left_to_its_schema(kind: str, properties: Mapping[str, Any]) -> None:
    assert kind_class(kind).with_tags(properties, TAGS) == {**properties, "tags": TAGS}


def test_a_launch_template_without_tags_of_instances_gets_those_of_the_stack() -> None:
    made = kind_class("launch_template").with_tags({}, TAGS)["tag_specifications"]
    assert made == [{"resource_type": part, "tags": TAGS} for part in ("instance", "volume", "network-interface")]
    assert kind_class("launch_template").with_tags({}, {}) == {"tags": {}}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"aws:cost": "x"}, "AWS itself writes"),
        ({"lakehouse:stack": "x"}, "the stack itself writes"),
        ({"project": "x"}, "the stack itself writes"),
        ({"Name": "x"}, "the stack itself writes"),
        ({"kubernetes.io/cluster/x": "owned"}, "a controller of the cluster writes"),
        ({"KubernetesCluster": "x"}, "a controller of the cluster writes"),
        ({"a=b": "x"}, "contains `=`"),
        ({"Owner": "a, b"}, "contains ','"),
        ({"Owner": "${stack.name}"}, "contains '$', '{', '}'"),
        ({"Owner": "a\nb"}, r"contains '\n'"),
        ({" Owner": "x"}, "a space at an end"),
        ({"k" * 128: "x"}, "load balancers set the limit"),
        ({"Owner": "v" * 256}, "load balancers set the limit"),
        ({"": "x"}, "a key is empty; name the tag"),
        ({"a" * 129: "x"}, "is too long: a key has up to 128 characters, a value 256; shorten it"),
        ({f"k{number}": "" for number in range(31)}, "31 tags are more than 30; remove 1"),
    ],
)
def test_a_tag_that_some_service_would_refuse_is_refused_for_the_stack(tags: dict[str, str], message: str) -> None:
    problem = stack_tags_fault(tags)
    assert problem is not None
    with pytest.raises(DescriptionError) as raised:
        AwsStack(Session(Connection(region="eu-central-1")), StackDescription("lake", "development", [], tags=tags))
    assert str(raised.value) == f"tags: {problem.message}; {problem.remedy}"
    assert message in str(raised.value)


def test_tags_that_every_service_takes_are_taken() -> None:
    assert stack_tags_fault({"Kostenstelle": "Zürich 4711", "team/owner": "a@b.example", "empty": ""}) is None


def test_keys_and_beginnings_of_keys_are_ignored() -> None:
    ignored = IgnoredTags(frozenset({"Owner"}), ("scan:",))
    assert [key for key in ("Owner", "Owners", "scan:date", "rescan:date") if ignored.covers(key)] == [
        "Owner",
        "scan:date",
    ]
    assert not IgnoredTags().covers("Owner")
