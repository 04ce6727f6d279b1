# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zone of a position in a description: its current zone, else one that EKS supports and no position uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.zones import ZoneUse, supported
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource

KNOWN = {"us-east-1a": "use1-az6", "us-east-1b": "use1-az1", "us-east-1c": "use1-az2", "us-east-1e": "use1-az3"}
CLUSTER = Resource("eks_cluster", "main")


def subnet(name: str, zone: object) -> Resource:
    return Resource("subnet", name, {"availability_zone": zone})


def use(*zones: object, more: Sequence[Resource] = ()) -> ZoneUse:
    """Return the use of zones by subnets `0`, `1`, ...; a number is a position."""
    texts = [f"${{stack.availability_zones.{zone}}}" if isinstance(zone, int) else zone for zone in zones]
    return ZoneUse.of([*(subnet(str(number), text) for number, text in enumerate(texts)), *more], "us-east-1")


def messages(found: ZoneUse, existing: Mapping[str, str], given: Sequence[str] = ()) -> list[str]:
    return [str(fault) for fault in found.faults(existing, given, KNOWN, "us-east-1")]


def test_zones_that_eks_refuses_are_skipped() -> None:
    assert supported(KNOWN) == ["us-east-1a", "us-east-1b", "us-east-1c"]


@pytest.mark.parametrize(
    ("existing", "pool", "chosen"),
    [
        ({}, "abc", "abc"),
        ({}, "cab", "cab"),
        ({"subnet.0": "b", "subnet.1": "c", "subnet.2": "d"}, "abcd", "bcd"),
        ({"subnet.0": "a", "subnet.1": "c", "subnet.2": "d"}, "ad", "acd"),
        ({"subnet.1": "a"}, "abc", "bac"),
        ({"subnet.2": "a"}, "ab", "b a"),
        ({"subnet.0": "a"}, "ab", "ab"),
        ({}, "ab", "ab"),
    ],
)
def test_a_position_keeps_its_zone_and_a_new_one_gets_a_free_one(
    existing: dict[str, str], pool: str, chosen: str
) -> None:
    assert use(0, 1, 2).choose(existing, list(pool)) == [zone.strip() for zone in chosen]


def test_the_whole_list_begins_with_the_zones_of_the_positions() -> None:
    whole = Resource("dashboard", "main", {"body": {"zones": "${stack.availability_zones}"}})
    assert use(0, 1, more=[whole]).choose({"subnet.1": "a"}, ["a", "b", "c"]) == ["b", "a", "c"]


def test_what_exists_answers_for_its_zone_also_where_aws_lists_it_no_more() -> None:
    named = use("us-east-1f", 0)
    assert not named.is_settled_by({"subnet.1": "us-east-1a"}, ())
    assert messages(named, {"subnet.1": "us-east-1a"}) == [
        "subnet.0: availability_zone: us-east-1 has no zone 'us-east-1f'; did you mean 'us-east-1e'?"
    ]
    existing = {"subnet.0": "us-east-1f", "subnet.1": "us-east-1d"}
    assert named.is_settled_by(existing, ["us-east-1d"])
    assert not named.is_settled_by(existing, ["us-east-1d", "us-east-1a"])
    assert messages(named, existing) == []


def test_a_listed_zone_has_to_exist_once_and_to_be_one_of_eks_where_there_is_a_cluster() -> None:
    given = ["us-east-1x", "us-east-1e", "us-east-1a", "us-east-1a"]
    unknown, twice = "us-east-1 has no zone 'us-east-1x'", "us-east-1a is listed twice; list each zone once"
    refused = "EKS does not support us-east-1e (use1-az3); choose from us-east-1a, us-east-1b, us-east-1c"

    found = messages(use(0, 1, more=[CLUSTER]), {}, given)
    assert [text.removeprefix("availability_zones: ").partition("; did")[0] for text in found] == [
        unknown,
        refused,
        twice,
    ]
    assert refused not in " ".join(messages(use(0, 1), {}, given))


def test_a_zone_with_subnets_cannot_leave_the_list() -> None:
    existing = {"subnet.0": "us-east-1a", "subnet.1": "us-east-1b"}
    (message,) = messages(use(0, 1), existing, ["us-east-1c", "us-east-1a"])
    assert message.startswith("subnet.1: availability_zone: exists in us-east-1b, which `availability_zones` does not")
    assert message.endswith("; add us-east-1b to the list")
    assert messages(use(0, 1), existing, ["us-east-1b", "us-east-1a"]) == []


def test_a_region_without_a_zone_for_a_position_in_use_is_refused() -> None:
    assert messages(use(0, 1), {"subnet.1": "us-east-1a"}, ["us-east-1a"]) == [
        "availability_zones: `availability_zones` lists 1 zone, and the description needs 2; describe fewer zones"
    ]


def test_texts_that_only_resemble_a_position_pin_nothing() -> None:
    found = use("${stack.region}a", "${stack.availability_zones.0}x", "${stack.availability_zones", None)
    assert (found.positions, found.names) == ({}, {"subnet.0": "us-east-1a"})
    assert found.referenced == {0}
