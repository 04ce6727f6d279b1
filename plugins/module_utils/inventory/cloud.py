# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory variables of the targets in the cloud."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

from ..aws.tag_rules import stack_tags_fault
from .values import (
    InvalidValueError,
    Variable,
    as_mapping,
    as_text,
    as_texts,
    as_words,
    boolean,
    choice,
    distinct,
    each_of,
    http_url,
    ipv4_network,
    matching,
    shown,
    whole_number,
    whole_numbers,
)

_ROLE = matching(r"arn:[a-z-]+:iam::\d{12}:role/\S+", "the ARN of a role", "arn:aws:iam::111122223333:role/NAME")
_PRINCIPAL = matching(
    r"arn:[a-z-]+:iam::\d{12}:(?:role|user)/\S+", "the ARN of a role or user", "arn:aws:iam::111122223333:role/NAME"
)
_BOUNDARY = matching(
    r"arn:[a-z-]+:iam::(?:\d{12}|aws):policy/\S+", "the ARN of a policy", "arn:aws:iam::111122223333:policy/NAME"
)
_SESSION_NAME = matching(r"[A-Za-z0-9_+=,.@-]{2,64}", "the name of a session", "2 to 64 letters, digits and _+=,.@-")
_EXTERNAL_ID = matching(
    r"[A-Za-z0-9_+=,.@:/-]{2,1224}", "an external id", "2 to 1224 letters, digits and any of _+=,.@:/-"
)

_RELEASE = matching(r"latest|\d+\.\d+\.\d+-\d{8}", "a release of the node image", "latest, or 1.35.0-20261120")

# Limit of EKS for a managed node group.
MOST_NODES = 450
_MOST_ZONES = 6
# Source: RFC 1918.
_PRIVATE_NETWORKS = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_ENDPOINT_SERVICE = matching(r"(?!com\.|cn\.)[a-z0-9][a-z0-9.-]*", "a service of AWS", "ecr.api, without the region")
_IGNORED = ("keys", "key_prefixes")


def _account(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # YAML read it as a number, which has lost its leading zeros.
        value = f"{value:012d}"
    return matching(r"\d{12}", "the id of an AWS account", "12 digits in quotes, '111122223333'")(value)


def _vpc_cidr(value: Any) -> str:
    network = ipaddress.IPv4Network(ipv4_network(value))
    if network.prefixlen != 16 or not any(map(network.subnet_of, _PRIVATE_NETWORKS)):
        raise InvalidValueError(f"{shown(value)} is not a private /16 network", "choose one such as 10.0.0.0/16")
    return str(network)


def _endpoint_services(value: Any) -> list[str]:
    """Return the services that get an interface endpoint. S3 has a gateway endpoint in every VPC."""
    services = distinct(each_of(_ENDPOINT_SERVICE))(value)
    if "s3" in services:
        raise InvalidValueError("s3 has a gateway endpoint already", "remove s3 from the list")
    return services


def _plan(value: Any) -> Any:
    """Return a saved plan: its data, or the path or `s3://` address that it is read from."""
    if isinstance(value, Mapping):
        return dict(value)
    text = as_text(value).strip()
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InvalidValueError("it is not JSON", "give the plan as plan.yml wrote it, or its path") from error
    return _place(text)


def _place(value: Any) -> str:
    text = as_text(value)
    if text.startswith("s3:") and not re.fullmatch(r"s3://[^/\s]+/\S+", text):
        raise InvalidValueError(f"{shown(value)} is not the address of an object", "write it as s3://BUCKET/KEY")
    return text


def _zones(value: Any) -> int | list[str]:
    """Return how many availability zones to use, or their names."""
    if isinstance(value, int | float) or (isinstance(value, str) and value.strip().lstrip("-").isdigit()):
        return whole_number(2, _MOST_ZONES)(value)
    names = each_of(matching(r"[a-z]{2,}(?:-[a-z]+)+-\d[a-z]", "an availability zone", "eu-central-1a"))(value)
    if not 2 <= len(names) <= _MOST_ZONES:
        raise InvalidValueError(f"{len(names)} availability zones are listed", f"list 2 to {_MOST_ZONES} of them")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidValueError(f"{', '.join(twice)} is listed twice", "list each availability zone once")
    return names


def _tags(value: Any) -> dict[str, str]:
    tags = as_texts(value)
    problem = stack_tags_fault(tags)
    if problem is not None:
        raise InvalidValueError(problem.message, problem.remedy)
    return tags


def _ignored_tags(value: Any) -> dict[str, list[str]]:
    """Return the keys and key prefixes of tags that are kept regardless of their author."""
    given = as_mapping(value)
    unknown = sorted(set(given) - set(_IGNORED))
    if unknown:
        raise InvalidValueError(f"unsupported key {unknown[0]!r}", f"set one or both of: {', '.join(_IGNORED)}")
    return {name: as_words(given.get(name, [])) for name in _IGNORED}


CLOUD_VARIABLES: tuple[Variable, ...] = (
    Variable(
        "lakehouse_cluster_size",
        "Tag `ClusterSize` of the cluster: `small`, `medium` or `large`.",
        choice("small", "medium", "large"),
        "small",
    ),
    Variable(
        "lakehouse_node_count",
        "Initial number of nodes; the autoscaler owns it afterwards.",
        whole_number(1, MOST_NODES),
        2,
    ),
    Variable("lakehouse_node_max", "Maximum number of nodes of the on-demand group.", whole_number(1, MOST_NODES), 10),
    Variable("lakehouse_spot_node_max", "Maximum number of nodes of the spot group.", whole_number(1, MOST_NODES), 20),
    Variable(
        "lakehouse_node_release",
        "Release of the node image: `latest`, or a release version. Existing nodes keep their release when empty.",
        _RELEASE,
        "",
    ),
    Variable("lakehouse_instance_types", "Instance types of the nodes.", distinct(as_words), ["t3.medium"]),
    Variable("lakehouse_spot_nodes", "Whether to add a node group of tainted spot instances.", boolean, False),
    Variable(
        "lakehouse_monitoring",
        "Monitoring level: `basic` has logs and a dashboard, `enhanced` adds alarms, `comprehensive` all metrics.",
        choice("basic", "enhanced", "comprehensive"),
        "basic",
    ),
    Variable(
        "lakehouse_high_availability",
        "Whether to spread across availability zones, without a single point of failure.",
        boolean,
        False,
    ),
    Variable("lakehouse_auto_scaling", "Whether to scale node groups and workloads automatically.", boolean, False),
    Variable(
        "lakehouse_aws_region",
        "AWS region. That of the environment or the profile when empty.",
        matching(r"[a-z]{2,}(?:-[a-z]+)+-\d", "a region of AWS", "eu-central-1"),
        "",
    ),
    Variable("lakehouse_aws_profile", "Profile of the shared AWS configuration.", as_text, ""),
    Variable(
        "lakehouse_aws_endpoint_url",
        "Endpoint of every AWS service, for an emulator.",
        lambda value: http_url(value) if value else "",
        "",
    ),
    Variable("lakehouse_aws_account_id", "Id of the account to which the credentials must belong.", _account, ""),
    Variable("lakehouse_aws_assume_role_arn", "ARN of the role to assume before any other call.", _ROLE, ""),
    Variable("lakehouse_aws_external_id", "External id that the trust policy of that role requires.", _EXTERNAL_ID, ""),
    Variable("lakehouse_aws_session_name", "Session name for that role, which CloudTrail records.", _SESSION_NAME, ""),
    Variable("lakehouse_tags", "Tags of every AWS resource, including those that the cluster creates.", _tags, {}),
    Variable(
        "lakehouse_aws_ignore_tags",
        "Tags of other tools that are kept: their `keys`, and their `key_prefixes`.",
        _ignored_tags,
        {"keys": [], "key_prefixes": []},
    ),
    Variable(
        "lakehouse_aws_permissions_boundary",
        "ARN of the permissions boundary policy of every IAM role.",
        _BOUNDARY,
        "",
    ),
    Variable("lakehouse_aws_vpc_cidr", "CIDR block of the VPC, a private /16.", _vpc_cidr, "10.0.0.0/16"),
    Variable("lakehouse_aws_zones", "Availability zones: a number from 2 to 6, or a list of names.", _zones, 3),
    Variable(
        "lakehouse_aws_interface_endpoints",
        "AWS services with an interface endpoint in the VPC, e.g. `ecr.api`.",
        _endpoint_services,
        [],
    ),
    Variable(
        "lakehouse_aws_ingress_cidrs",
        "Networks with access to the ingress.",
        distinct(each_of(ipv4_network)),
        ["0.0.0.0/0"],
    ),
    Variable(
        "lakehouse_aws_private_access_cidrs",
        "Networks outside of the VPC with access to the private Kubernetes API.",
        distinct(each_of(ipv4_network)),
        [],
    ),
    Variable(
        "lakehouse_aws_webhook_ports",
        "Additional ports of admission webhooks in pods, beside 443, 4443, 8443 and 9443; 15017 for Istio.",
        whole_numbers(1, 65_535),
        [],
    ),
    Variable("lakehouse_aws_database", "Whether to run PostgreSQL on RDS instead of in the cluster.", boolean, False),
    Variable("lakehouse_aws_database_instance_class", "Instance class of that database.", as_text, "db.t4g.medium"),
    Variable(
        "lakehouse_aws_deletion_protection",
        "Whether to enable deletion protection of the cluster and the database.",
        boolean,
        False,
    ),
    Variable(
        "lakehouse_aws_fargate", "Whether to run pods with the label `compute=fargate` on Fargate.", boolean, True
    ),
    Variable(
        "lakehouse_aws_alarm_emails",
        "Email addresses for notifications of alarms and the budget.",
        distinct(as_words),
        [],
    ),
    Variable("lakehouse_aws_budget_usd", "Monthly budget of the account in USD.", whole_number(1, 10_000_000), 1000),
    Variable(
        "lakehouse_aws_backup_vault_lock",
        "Whether to lock the backup vault, so that backups cannot be deleted before their retention ends.",
        boolean,
        False,
    ),
    Variable(
        "lakehouse_aws_adopt",
        "Whether to adopt existing resources that have a described name but no owner.",
        boolean,
        False,
    ),
    Variable(
        "lakehouse_aws_prune",
        "Whether to delete resources with the stack's tags that are no longer described.",
        boolean,
        False,
    ),
    Variable(
        "lakehouse_aws_specification_names",
        "Whether to use the names of the specification, to adopt resources that were created from it.",
        boolean,
        False,
    ),
    Variable(
        "lakehouse_aws_bucket_suffix",
        "Suffix of bucket names. The account id when empty.",
        matching(r"[a-z0-9][a-z0-9-]{0,24}", "the end of a bucket's name", "lower case letters, digits and -"),
        "",
    ),
    Variable(
        "lakehouse_eks_version",
        "Version of Kubernetes. An upgrade is limited to one minor version.",
        matching(r"1\.\d{2}", "a version of Kubernetes", "'1.35', in quotes"),
        "1.35",
    ),
    Variable(
        "lakehouse_eks_public_access_cidrs",
        "Networks with access to the Kubernetes API over the internet. The API is private when empty.",
        distinct(each_of(ipv4_network)),
        [],
    ),
    Variable(
        "lakehouse_eks_admin_arns", "Roles and users that administer the cluster.", distinct(each_of(_PRINCIPAL)), []
    ),
    Variable("lakehouse_plan", "Saved plan to apply: its path, `s3://` address or data.", _plan, "", of_run=True),
    Variable(
        "lakehouse_plan_path",
        "Path or `s3://` address to which plan.yml writes the plan. Below the inventory when empty.",
        _place,
        "",
        of_run=True,
    ),
    Variable(
        "lakehouse_plan_page_path",
        "Path or `s3://` address to which plan.yml writes the page. Beside the plan when empty.",
        _place,
        "",
        of_run=True,
    ),
    Variable(
        "lakehouse_destroy_unprotect",
        "Protected addresses and kinds that destroy.yml may delete although they hold data.",
        as_words,
        [],
        of_run=True,
    ),
)
