# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subnets keep their zones, for any later list of AWS and of the description."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import DescriptionError
from tests.integration.aws.emulator import REGION
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Scripted


def described(count: int) -> dict[str, Any]:
    subnets = {
        f"subnet.{half}-{number}": {
            "vpc_id": "${vpc.main.id}",
            "cidr_block": f"10.0.{10 * index + number}.0/24",
            "availability_zone": f"${{stack.availability_zones.{number}}}",
        }
        for index, half in enumerate(("public", "private"))
        for number in range(count)
    }
    return {"vpc.main": {"cidr_block": "10.0.0.0/16"}, **subnets}


def listing(letters: str) -> Scripted:
    """Let AWS list other availability zones than the emulator."""
    zones = [
        {"ZoneName": f"{REGION}{letter}", "ZoneId": f"euc1-az-{letter}", "State": "available"} for letter in letters
    ]
    return Scripted({"ec2:DescribeAvailabilityZones": lambda **_given: {"AvailabilityZones": zones}}, passing=True)


def zones(lab: Lab) -> dict[str, str]:
    """Return the letters of the zones by the addresses of their subnets."""
    found = lab.client("ec2").describe_subnets(Filters=[{"Name": "tag-key", "Values": ["lakehouse:address"]}])
    tags = [{tag["Key"]: tag["Value"] for tag in item["Tags"]} for item in found["Subnets"]]
    pairs = zip(tags, found["Subnets"], strict=True)
    return {tag["lakehouse:address"]: item["AvailabilityZone"][-1] for tag, item in pairs}


def named(letters: str) -> tuple[str, ...]:
    return tuple(f"{REGION}{letter}" for letter in letters)


# The second emulator has other zones, which are not relevant here.
@pytest.mark.emulators("moto")
def test_zones_are_chosen_once(lab: Lab) -> None:
    lab.wire.behaviour = listing("bc")
    lab.apply(described(2))
    assert zones(lab) == {
        "subnet.public-0": "b",
        "subnet.public-1": "c",
        "subnet.private-0": "b",
        "subnet.private-1": "c",
    }

    # A zone is added that sorts before them, one is removed, and none is left.
    for letters in ("abc", "c", ""):
        lab.wire.behaviour = listing(letters)
        lab.assert_unchanged(described(2))
    # By names, in any order, including one that AWS no longer lists.
    for letters in ("bc", "cb"):
        lab.assert_unchanged(described(2), availability_zones=named(letters))

    lab.wire.behaviour = listing("abc")
    with pytest.raises(DescriptionError, match=r"exists in eu-central-1b, which `availability_zones` does not list"):
        lab.plan(described(2), availability_zones=named("ac"))
    # The remedy of that message; the new zone gets a position of its own.
    ran = lab.apply(described(3), availability_zones=named("acb"))
    assert {node.address for node in ran.plan.nodes if node.action != "none"} == {"subnet.public-2", "subnet.private-2"}
    assert zones(lab)["subnet.private-2"] == zones(lab)["subnet.public-2"] == "a"

    # A deleted subnet is created again in the zone of the others at its position.
    subnet = lab.propose(described(3)).actuals["subnet.private-1"].id
    lab.client("ec2").delete_subnet(SubnetId=subnet)
    lab.apply(described(3))
    assert zones(lab)["subnet.private-1"] == "c"

    lab.wire.behaviour = listing("")
    lab.destroy(described(3))


@pytest.mark.emulators("moto")
def test_a_literal_zone_that_leaves_the_list_is_no_fault_of_what_is_in_it(lab: Lab) -> None:
    item = described(1)["subnet.public-0"]
    literal = {**described(0), "subnet.public-0": {**item, "availability_zone": f"{REGION}a"}}
    lab.apply(literal)
    lab.wire.behaviour = listing("bc")
    lab.assert_unchanged(literal)
    more = {**literal, "subnet.public-1": {**item, "cidr_block": "10.0.9.0/24", "availability_zone": f"{REGION}a"}}
    with pytest.raises(DescriptionError, match="has no zone 'eu-central-1a'"):
        lab.plan(more)


@pytest.mark.emulators("moto")
def test_a_zone_that_eks_does_not_support_is_skipped(lab: Lab) -> None:
    lab.emulator.region = "us-east-1"
    plan = lab.plan(described(5))
    found = [change.after for node in plan.nodes for change in node.changes if change.path == "availability_zone"]
    assert set(found) == {f"us-east-1{letter}" for letter in "abcdf"}
