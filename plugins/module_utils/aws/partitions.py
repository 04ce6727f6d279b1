# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that differ between the partitions of AWS: service principals, and the services of VPC endpoints. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

DNS_SUFFIX = "amazonaws.com"
# Most principals are the same in every partition.
# Source: "AWS service principals" in the IAM user guides of AWS and of AWS China, and for `ec2` what EKS of AWS China
# requires of the role of its nodes.
_EVERYWHERE = (
    "autoscaling",
    "backup",
    "budgets",
    "cloudwatch",
    "eks",
    "eks-fargate",
    "eks-fargate-pods",
    "eks-nodegroup",
    "elasticfilesystem",
    "elasticloadbalancing",
    "glue",
    "monitoring.rds",
    "pods.eks",
    "rds",
    "spot",
    "sts",
    "vpc-flow-logs",
)
_OF_PARTITION = ("ec2",)
_OF_REGION = ("logs",)
_ENDPOINT_SERVICE = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?:-[a-z]+)+-\d+\.(.+)")


def service_principals(region: str, dns_suffix: str) -> dict[str, str]:
    """Return the principals of services, by their names with `-` for `.`: `pods-eks` for `pods.eks`."""
    principals = {
        **{service: f"{service}.{DNS_SUFFIX}" for service in _EVERYWHERE},
        **{service: f"{service}.{dns_suffix}" for service in _OF_PARTITION},
        **{service: f"{service}.{region}.{dns_suffix}" for service in _OF_REGION},
    }
    return {service.replace(".", "-"): principal for service, principal in sorted(principals.items())}


def principals_everywhere(services: Sequence[str]) -> list[str]:
    """Return the principals of services in AWS, AWS China and AWS GovCloud, for policies that hold in all of them."""
    partitions = [service_principals("", suffix) for suffix in (DNS_SUFFIX, f"{DNS_SUFFIX}.cn")]
    return sorted({principals[service] for principals in partitions for service in services})


def short_service(name: str) -> str:
    """Return the service of a VPC endpoint without partition and region: `s3` for `com.amazonaws.eu-central-1.s3`."""
    match = _ENDPOINT_SERVICE.fullmatch(name)
    return match[1] if match else name


def endpoint_services(service: str, region: str, dns_suffix: str) -> list[str]:
    """Return the names that the service of a VPC endpoint can have; a name that is complete stays as it is.

    In AWS China one service begins with `com.amazonaws`, another one with `cn.com.amazonaws`.
    """
    if short_service(service) != service:
        return [service]
    suffixes = dict.fromkeys((DNS_SUFFIX, dns_suffix))
    return [f"{'.'.join(reversed(suffix.split('.')))}.{region}.{service}" for suffix in suffixes]
