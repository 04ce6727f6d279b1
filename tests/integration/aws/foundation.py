# SPDX-License-Identifier: GPL-3.0-or-later
"""A representative stack: it contains each way in which a kind is found, created, referenced and deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.integration.aws.emulator import Emulator

ZONES = "ab"


def trust(service: str) -> dict[str, Any]:
    """Return a trust policy for one service."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def allow(action: str, resource: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}


def network() -> dict[str, dict[str, Any]]:
    """Return a VPC with a public and a private half, and two security groups that allow each other."""
    peers = {
        f"security_group.{name}": {
            "name": f"crypto-lakehouse-{name}-${{stack.environment}}",
            "description": "one of two that know each other",
            "vpc_id": "${vpc.main.id}",
            "ingress": [
                {
                    "protocol": "tcp",
                    "from_port": 443,
                    "to_port": 443,
                    "security_group_id": f"${{security_group.{peer}.id}}",
                }
            ],
            "egress": [{"protocol": "-1", "cidr_ipv4": "0.0.0.0/0"}],
        }
        for name, peer in (("cluster", "worker"), ("worker", "cluster"))
    }
    subnets = {
        f"subnet.{half}-{zone}": {
            "vpc_id": "${vpc.main.id}",
            "cidr_block": f"10.0.{10 * index + number}.0/24",
            "availability_zone": f"${{stack.region}}{zone}",
        }
        for index, half in enumerate(("public", "private"))
        for number, zone in enumerate(ZONES)
    }
    return {
        "vpc.main": {"cidr_block": "10.0.0.0/16"},
        **subnets,
        "internet_gateway.main": {"vpc_id": "${vpc.main.id}"},
        "elastic_ip.nat": {},
        "nat_gateway.main": {"subnet_id": "${subnet.public-a.id}", "allocation_id": "${elastic_ip.nat.id}"},
        "route_table.public": {
            "vpc_id": "${vpc.main.id}",
            "routes": [{"destination_cidr_block": "0.0.0.0/0", "gateway_id": "${internet_gateway.main.id}"}],
            "subnet_ids": [f"${{subnet.public-{zone}.id}}" for zone in ZONES],
        },
        "route_table.private": {
            "vpc_id": "${vpc.main.id}",
            "routes": [{"destination_cidr_block": "0.0.0.0/0", "nat_gateway_id": "${nat_gateway.main.id}"}],
            "subnet_ids": [f"${{subnet.private-{zone}.id}}" for zone in ZONES],
        },
        **peers,
    }


def security() -> dict[str, dict[str, Any]]:
    """Return a key, a role with all its parts, and a generated secret."""
    return {
        "kms_key.data": {
            "alias": "alias/crypto-lakehouse-data-${stack.environment}",
            "description": "of the lakehouse",
        },
        "iam_policy.read": {
            "name": "crypto-lakehouse-read-${stack.environment}",
            "policy": allow("s3:GetObject", "${s3_bucket.bronze.arn}/*"),
        },
        "iam_role.crawler": {
            "name": "crypto-lakehouse-crawler-${stack.environment}",
            "assume_role_policy": trust("glue.amazonaws.com"),
            "managed_policy_arns": ["${iam_policy.read.arn}"],
            "inline_policies": {"logs": allow("logs:PutLogEvents", "*")},
        },
        "secretsmanager_secret.database": {
            "name": "crypto-lakehouse-database-${stack.environment}",
            "generate": {"length": 32},
            "kms_key_id": "${kms_key.data.arn}",
        },
    }


def storage() -> dict[str, dict[str, Any]]:
    """Return a bucket, its catalog, and the log destination of its crawler."""
    return {
        "s3_bucket.bronze": {
            "name": "crypto-lakehouse-bronze-${stack.environment}-${stack.account_id}",
            "versioning": True,
            "encryption": {"sse_algorithm": "aws:kms", "kms_key_id": "${kms_key.data.arn}", "bucket_key_enabled": True},
        },
        "glue_database.catalog": {"name": "crypto_lakehouse_${stack.environment}"},
        "glue_crawler.bronze": {
            "name": "crypto-lakehouse-bronze-${stack.environment}",
            "role": "${iam_role.crawler.arn}",
            "database_name": "${glue_database.catalog.name}",
            "targets": {"s3_targets": [{"path": "s3://${s3_bucket.bronze.name}/raw/"}]},
            "schedule": "cron(0 2 * * ? *)",
        },
        "log_group.crawler": {"name": "/crypto-lakehouse/${stack.environment}/crawler", "retention_in_days": 30},
    }


FOUNDATION: Mapping[str, dict[str, Any]] = {**network(), **security(), **storage()}


def foundation(emulator: Emulator) -> dict[str, dict[str, Any]]:
    """Return the stack, as far as an emulator supports it."""
    if emulator.name == "moto":
        return dict(FOUNDATION)
    # ministack does not return the address of a NAT gateway.
    return {**FOUNDATION, "nat_gateway.main": {"subnet_id": "${subnet.public-a.id}", "connectivity_type": "private"}}


def picture(emulator: Emulator) -> list[str]:
    """Return all objects of an account, read with a test's own clients, without the differences between two runs.

    Equal pictures mean equal states.
    """
    ec2 = emulator.client("ec2")
    vpcs = [vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]]
    own = [{"Name": "vpc-id", "Values": [vpc["VpcId"] for vpc in vpcs] or ["none"]}]
    gateways = ec2.describe_nat_gateways()["NatGateways"]
    found = {
        "vpc": vpcs,
        "subnet": ec2.describe_subnets(Filters=own)["Subnets"],
        "gateway": ec2.describe_internet_gateways()["InternetGateways"],
        "address": ec2.describe_addresses()["Addresses"],
        "nat": [gateway for gateway in gateways if gateway["State"] != "deleted"],
        "table": ec2.describe_route_tables(Filters=own)["RouteTables"],
        "group": ec2.describe_security_groups(Filters=own)["SecurityGroups"],
        **_security_picture(emulator),
        **_storage_picture(emulator),
    }
    names = {id_: name for items in found.values() for item in items if (name := _address(item)) for id_ in _ids(item)}
    texts = {
        f"{kind} {number}": _named(json.dumps(_kept(item), default=str), names, emulator.account_id)
        for kind, items in found.items()
        for number, item in enumerate(items)
    }
    return sorted(f"{kind.partition(' ')[0]} {_sorted(json.loads(text))}" for kind, text in texts.items())


def _security_picture(emulator: Emulator) -> dict[str, list[Any]]:
    iam, kms, secrets = (emulator.client(name) for name in ("iam", "kms", "secretsmanager"))
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    roles = [role["RoleName"] for role in iam.list_roles()["Roles"]]
    return {
        "key": [
            {
                "KeyId": key["KeyId"],
                "KeyState": key["KeyState"],
                "Tags": kms.list_resource_tags(KeyId=key["KeyId"])["Tags"],
                "Rotation": kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"],
            }
            for key in keys
            if key["KeyManager"] == "CUSTOMER"
        ],
        "alias": [alias for alias in kms.list_aliases()["Aliases"] if not alias["AliasName"].startswith("alias/aws/")],
        "role": [
            {
                **iam.get_role(RoleName=name)["Role"],
                "Attached": iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"],
                "Inline": iam.list_role_policies(RoleName=name)["PolicyNames"],
            }
            for name in roles
        ],
        "policy": [
            iam.get_policy(PolicyArn=policy["Arn"])["Policy"] for policy in iam.list_policies(Scope="Local")["Policies"]
        ],
        "secret": secrets.list_secrets()["SecretList"],
    }


def _storage_picture(emulator: Emulator) -> dict[str, list[Any]]:
    s3, glue, logs = (emulator.client(name) for name in ("s3", "glue", "logs"))
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    return {
        "bucket": [
            {
                "Name": name,
                "Tags": s3.get_bucket_tagging(Bucket=name)["TagSet"],
                "Versioning": s3.get_bucket_versioning(Bucket=name).get("Status"),
                "Encryption": s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"],
                "Access": s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
                "Policy": json.loads(s3.get_bucket_policy(Bucket=name)["Policy"]),
            }
            for name in names
        ],
        "database": glue.get_databases()["DatabaseList"],
        "crawler": glue.get_crawlers()["Crawlers"],
        "log-group": logs.describe_log_groups()["logGroups"],
    }


_TIMES = re.compile(r"date|time|created|changed|lastupdated", re.IGNORECASE)
_CHANCE = {
    "ResponseMetadata",
    "VersionId",
    "RoleId",
    "PolicyId",
    "SecretVersionsToStages",
    "PublicIp",
    "PrivateIp",
    "AttachmentCount",
}
_ID = re.compile(r"\b[a-z]{2,10}-[0-9a-f]{8,17}\b|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_SECRET = re.compile(r"(:secret:[^\s\"]*)-\w{6}\b")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b(?!/)")


def _kept(value: Any) -> Any:
    """Return a value without its random and time-dependent parts."""
    if isinstance(value, Mapping):
        return {key: _kept(item) for key, item in value.items() if not _TIMES.search(key) and key not in _CHANCE}
    return [_kept(item) for item in value] if isinstance(value, list) else value


def _sorted(value: Any) -> str:
    """Return a value as text with sorted lists and without duplicates.

    An emulator stores an association twice where AWS reports that it exists.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_sorted(value[key])}" for key in sorted(value)) + "}"
    return "[" + ", ".join(sorted(set(map(_sorted, value)))) + "]" if isinstance(value, list) else str(value)


def _address(item: Mapping[str, Any]) -> str | None:
    tags = {tag.get("Key", tag.get("TagKey")): tag.get("Value", tag.get("TagValue")) for tag in item.get("Tags") or []}
    return tags.get("lakehouse:address")


def _ids(item: Mapping[str, Any]) -> list[str]:
    return [value for value in item.values() if isinstance(value, str) and _ID.fullmatch(value)][:1]


def _named(text: str, names: Mapping[str, str], account_id: str) -> str:
    named = _ID.sub(lambda match: names.get(match[0], "ID"), text)
    return _ADDRESS.sub("ADDRESS", _SECRET.sub(r"\1", named)).replace(account_id, "ACCOUNT")
