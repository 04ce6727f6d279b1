# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Principals and endpoint services in every partition."""

from __future__ import annotations

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.partitions import (
    endpoint_services,
    principals_everywhere,
    service_principals,
    short_service,
)


@pytest.mark.parametrize(
    ("region", "suffix", "ec2", "logs"),
    [
        ("eu-central-1", "amazonaws.com", "ec2.amazonaws.com", "logs.eu-central-1.amazonaws.com"),
        ("us-gov-east-1", "amazonaws.com", "ec2.amazonaws.com", "logs.us-gov-east-1.amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn", "ec2.amazonaws.com.cn", "logs.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_some_principals_are_those_of_the_partition_and_the_others_the_same(
    region: str, suffix: str, ec2: str, logs: str
) -> None:
    found = service_principals(region, suffix)
    assert (found["ec2"], found["logs"]) == (ec2, logs)
    assert (found["eks"], found["pods-eks"]) == ("eks.amazonaws.com", "pods.eks.amazonaws.com")


def test_a_policy_for_every_partition_names_both_principals_of_a_service() -> None:
    assert principals_everywhere(["glue", "ec2"]) == ["ec2.amazonaws.com", "ec2.amazonaws.com.cn", "glue.amazonaws.com"]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("s3", "s3"),
        ("ecr.api", "ecr.api"),
        ("com.amazonaws.eu-central-1.s3", "s3"),
        ("com.amazonaws.us-gov-west-1.ecr.api", "ecr.api"),
        ("cn.com.amazonaws.cn-north-1.sts", "sts"),
        ("com.amazonaws.vpce.eu-central-1.vpce-svc-0123", "vpce-svc-0123"),
    ],
)
def test_a_service_has_one_name_in_every_region(name: str, short: str) -> None:
    assert short_service(name) == short
    assert endpoint_services(name, "eu-central-1", "amazonaws.com")[0].endswith(short)


def test_in_china_a_service_can_have_two_names_and_a_complete_one_stays() -> None:
    assert endpoint_services("sts", "eu-central-1", "amazonaws.com") == ["com.amazonaws.eu-central-1.sts"]
    assert endpoint_services("sts", "cn-north-1", "amazonaws.com.cn") == [
        "com.amazonaws.cn-north-1.sts",
        "cn.com.amazonaws.cn-north-1.sts",
    ]
    complete = "com.amazonaws.cn-north-1.s3"
    assert endpoint_services(complete, "cn-north-1", "amazonaws.com.cn") == [complete]
