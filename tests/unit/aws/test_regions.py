# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The region that owns a resource that spans regions, and the name of the resource."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import botocore.session
import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import AwsKind
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.regions import (
    RegionNames,
    abbreviation,
    attributed,
    home,
    mentioned,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    Actual,
    Owner,
    Resource,
    Stack,
    Subject,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.world import World

KEY = "arn:aws:kms:{}:111122223333:key/1"
STACK = Stack("lake", "development", "0", {"region": "eu-central-1", "account_id": "111122223333"})


@pytest.mark.parametrize(
    ("region", "short"),
    [("eu-central-1", "euc1"), ("ap-southeast-2", "apse2"), ("us-gov-west-1", "usgw1"), ("cn-northwest-1", "cnnw1")],
)
def test_a_region_has_the_short_form_of_its_zones(region: str, short: str) -> None:
    assert abbreviation(region) == short


def test_no_two_regions_have_the_same_short_form() -> None:
    session = botocore.session.Session()
    regions = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition)
    ]
    assert len(regions) > 20
    assert len({abbreviation(region) for region in regions}) == len(regions)


@pytest.mark.parametrize(
    ("value", "regions"),
    [
        (
            {"Statement": [{"Resource": [KEY.format("eu-west-1"), "arn:aws-cn:glue:cn-north-1:1:catalog"]}]},
            "eu-west-1 cn-north-1",
        ),
        ("https://oidc.eks.us-gov-east-1.amazonaws.com/id/1", "us-gov-east-1"),
        ('{"widgets": [{"properties": {"region":"eu-west-3"}}]}', "eu-west-3"),
        ({"name": "lake-eu-west-1", "arn": "arn:aws:iam::aws:policy/eu-west-1", "size": 3}, ""),
    ],
)
def test_regions_are_read_from_what_names_them_and_nothing_else(value: Any, regions: str) -> None:
    assert mentioned(value) == frozenset(regions.split())


def actual(region: str = "", speaks_of: Iterable[str] = (), environment: str = "development") -> Actual:
    owner = Owner("lake", environment, "iam_role.a", region)
    return Actual("a", {"keys": [KEY.format(item) for item in speaks_of]}, owner=owner)


@pytest.mark.parametrize(
    ("speak_of", "owner"),
    [
        ([], "eu-central-1"),
        (["us-east-1"], "us-east-1"),
        (["us-east-1", "eu-central-1"], "eu-central-1"),
        (["us-west-2", "us-east-1"], "us-east-1"),
    ],
)
def test_unmarked_resources_belong_where_they_speak_of(speak_of: list[str], owner: str) -> None:
    assert home([actual(speaks_of=[region]) for region in speak_of], "eu-central-1") == owner


def test_unmarked_resources_belong_together_and_others_are_left_alone() -> None:
    silent, speaking, marked = actual(), actual(speaks_of=["us-east-1"]), actual("eu-central-1")
    staging = actual(environment="staging")
    world = World(
        {"iam_role.a": (silent, staging), "log_group.b": (silent,)}, {"iam_role": (marked, speaking), "vpc": (silent,)}
    )

    found = attributed(world, ["iam_role"], STACK.owner("", spans_regions=True))
    assert [item.owner.region for item in found.found["iam_role.a"] if item.owner] == ["us-east-1", ""]
    assert [item.owner.region for item in found.owned["iam_role"] if item.owner] == ["eu-central-1", "us-east-1"]
    assert (found.found["log_group.b"], found.owned["vpc"]) == ((silent,), (silent,))
    assert attributed(replaced := World({"iam_role.a": (silent,)}), ["iam_role"], STACK.owner("")) is replaced


@dataclass
class Roles:
    """A kind with existing resources, by name."""

    exist: Mapping[str, Actual]
    asked: list[str] = field(default_factory=list)

    def probe(self, subject: Subject) -> Actual | None:
        self.asked.append(subject.desired["name"])
        return self.exist.get(subject.desired["name"])


def each(function: Callable[[Resource], Actual | None], items: Iterable[Resource]) -> list[Actual | None]:
    return [function(item) for item in items]


STAGING = actual(environment="staging")


@pytest.mark.parametrize(
    ("exist", "name", "asked"),
    [
        ({}, "x", 2),
        ({"x": actual("eu-central-1")}, "x", 1),
        ({"x": actual("eu-central-1"), "x-euc1": actual("eu-central-1")}, "x", 1),
        ({"x": actual("us-east-1")}, "x-euc1", 2),
        ({"x": actual("us-east-1"), "x-euc1": actual("eu-central-1")}, "x-euc1", 2),
        ({"x-euc1": actual("eu-central-1")}, "x-euc1", 2),
        ({"x": actual()}, "x", 1),
        ({"x": actual(speaks_of=["us-east-1"])}, "x-euc1", 2),
        # Resources of other owners: the planner rejects or adopts them.
        ({"x": STAGING}, "x", 2),
        ({"x": Actual("x", {})}, "x", 2),
    ],
)
def test_a_name_has_the_suffix_where_another_region_has_it_without(
    exist: dict[str, Actual], name: str, asked: int
) -> None:
    roles = Roles(exist)
    choice = RegionNames(STACK, {"iam_role": cast(AwsKind, roles)}, each)
    described = Resource("iam_role", "a", {"name": "x${stack.region_suffix}", "description": "kept"})
    other = Resource("iam_role", "b", {"name": "y"})

    assert choice.choose([described, other]) == [
        Resource("iam_role", "a", {"name": name, "description": "kept"}),
        other,
    ]
    assert len(roles.asked) == asked


def test_a_refused_reading_is_left_to_the_reading_of_the_resource_itself() -> None:
    class Refused(Roles):
        def probe(self, subject: Subject) -> Actual | None:
            raise CallError("iam:GetRole", self.code, "no")

        code = "AccessDenied"

    roles = Refused({})
    choice = RegionNames(STACK, {"iam_role": cast(AwsKind, roles)}, each)
    described = Resource("iam_role", "a", {"name": "x${stack.region_suffix}"})
    assert choice.choose([described]) == [Resource("iam_role", "a", {"name": "x"})]
    roles.code = "ServiceFailure"
    with pytest.raises(CallError):
        choice.choose([described])


def test_a_name_that_is_not_known_yet_is_not_asked_for() -> None:
    roles = Roles({})
    described = Resource("iam_role", "a", {"name": "${vpc.main.id}${stack.region_suffix}"})
    (named,) = RegionNames(STACK, {"iam_role": cast(AwsKind, roles)}, each).choose([described])
    assert (named.properties["name"], roles.asked) == ("${vpc.main.id}", [])
