# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages name the correct variables of the inventory."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.wording import Wording
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    Fault,
    FaultsError,
    OptionRemedy,
    PlanFormatError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.aws_wording import VARIABLES, wording
from tests.unit.aws.blueprint import ACCOUNT, Blueprint, blueprint

# Per variable a value that differs from that of production.
OTHER: Mapping[str, Any] = {
    "lakehouse_aws_alarm_emails": ["operations@example.org"],
    "lakehouse_aws_bucket_suffix": "x7k2",
    "lakehouse_aws_budget_usd": 7,
    "lakehouse_aws_database_instance_class": "db.r7g.large",
    "lakehouse_aws_deletion_protection": False,
    "lakehouse_aws_ingress_cidrs": ["203.0.113.0/24"],
    "lakehouse_aws_interface_endpoints": ["sqs"],
    "lakehouse_aws_private_access_cidrs": ["192.168.0.0/16"],
    "lakehouse_aws_vpc_cidr": "10.9.0.0/16",
    "lakehouse_aws_permissions_boundary": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
    "lakehouse_aws_zones": 2,
    "lakehouse_backup_retention_days": 11,
    "lakehouse_eks_admin_arns": [f"arn:aws:iam::{ACCOUNT}:role/administrators"],
    "lakehouse_eks_public_access_cidrs": ["203.0.113.7/32"],
    "lakehouse_eks_version": "1.34",
    "lakehouse_instance_types": ["m7g.large"],
    "lakehouse_node_count": 4,
    "lakehouse_node_release": "1.34.0-20261120",
    "lakehouse_secrets": {"api_keys": "a"},
}


def at(found: Blueprint, pattern: str) -> Iterator[tuple[str, Any]]:
    """Yield the properties that match a pattern."""
    for address, resource in found.resources.items():
        for name, value in resource.properties.items():
            if fnmatch.fnmatchcase(f"{address}.{name}", pattern):
                yield f"{address}.{name}", value


def codes() -> dict[str, set[int]]:
    """Return for each variable the batches in which it is changed: all variables have different ones."""
    bits = range(len(OTHER).bit_length())
    return {name: {bit for bit in bits if number >> bit & 1} for number, name in enumerate(sorted(OTHER), 1)}


def test_a_property_follows_the_variable_that_a_message_names() -> None:
    batches: dict[int, dict[str, Any]] = {}
    for name, bits in codes().items():
        for bit in bits:
            batches.setdefault(bit, {})[name] = OTHER[name]
    before = blueprint("production")
    after = {bit: blueprint("production", **given) for bit, given in batches.items()}

    changed = {
        pattern: {bit for bit, found in after.items() if dict(at(found, pattern)) != dict(at(before, pattern))}
        for pattern in VARIABLES
    }

    assert {pattern for pattern, name in VARIABLES.items() if not codes()[name] <= changed[pattern]} == set()
    assert set(OTHER) == set(VARIABLES.values())


def test_a_message_names_the_variable_of_what_lies_inside_of_a_property() -> None:
    words = Wording(VARIABLES, {})
    faults = [
        Fault("eks_nodegroup.on-demand", "instance_types[1]", "'x' is not an instance type of EC2"),
        Fault("eks_nodegroup.on-demand", "scaling_config.min_size", "is out of range"),
        Fault("eks_nodegroup.on-demand", "ami_type", "is not one of its choices"),
    ]

    assert [words.of(fault).variable for fault in faults] == ["lakehouse_instance_types", "lakehouse_node_count", ""]


def test_a_remedy_of_an_option_is_told_as_that_of_its_variable() -> None:
    protected = Fault(
        "s3_bucket.a#1", "", "is protected", OptionRemedy("name it in unprotect", "unprotect", "s3_bucket.a")
    )
    other = Fault("s3_bucket.b", "name", "is too long", "choose a shorter one")

    error = DescriptionError([protected, other]).reworded(Wording({}, wording("destroy")["remedies"]).of)

    first, second = str(error).splitlines()
    assert first.startswith("s3_bucket.a#1: is protected; set `lakehouse_destroy_data` to true to destroy everything")
    assert first.endswith(", or name s3_bucket.a in `lakehouse_destroy_unprotect`")
    assert second == "s3_bucket.b: name: is too long; choose a shorter one"


def test_no_message_of_a_playbook_names_an_option_of_the_stack() -> None:
    words = Wording(**wording("destroy"))
    unknown = Fault("", "unprotect", "there is no kind 's3_buckt'")
    full = Fault("s3_bucket.a", "", "holds 1 objects", OptionRemedy("set force_destroy", "delete_contents"))
    lost = CallError("sts:GetCallerIdentity", "EndpointConnectionError", "no answer")
    denied = CallError("sts:GetCallerIdentity", "InvalidClientTokenId", "The token is invalid.")

    assert words.of(unknown).variable == "lakehouse_destroy_unprotect"
    assert str(words.of(full)).startswith("s3_bucket.a: holds 1 objects; set `lakehouse_destroy_data` to true")
    assert "`lakehouse_aws_endpoint_url`" in words.of(Fault("", "", lost.cause, lost.remedy)).remedy
    assert "`lakehouse_aws_profile`" in words.of(Fault("", "", denied.cause, denied.remedy)).remedy
    assert "is invalid; check the credentials" in str(denied)


@pytest.mark.parametrize(
    "error",
    [
        *(
            kind([Fault("vpc.main", "tags", "is other", "plan again")])
            for kind in FaultsError.__subclasses__()
            if kind.__init__ is FaultsError.__init__
        ),
        PlanFormatError("this is no plan"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_can_be_told_in_other_words(error: FaultsError) -> None:
    told = error.reworded(lambda fault: replace(fault, message="is in other words"))

    assert type(told) is type(error)
    assert "is in other words" in str(told)
    assert [fault.message for fault in told.faults] == ["is in other words"]
    assert "is in other words" not in str(error)
