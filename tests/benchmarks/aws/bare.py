# SPDX-License-Identifier: GPL-3.0-or-later
"""The lower limit: only the calls that return every attribute of the foundation, concurrently, with botocore alone.

    python -m tests.benchmarks.aws.bare CALLS

It reads from a JSON file the region, the endpoint, the keys and the calls, each `[service, operation, parameters]`. All
ids are known beforehand, and nothing is compared. Calls to a service start as soon as its client exists.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

THREADS = 16
Call = tuple[str, str, dict[str, Any]]
# The error code of a setting that is not set.
_UNSET = frozenset({"ObjectLockConfigurationNotFoundError"})
_OWNED = [{"Name": "tag:lakehouse:stack", "Values": ["crypto-lakehouse/benchmark"]}]
_NETWORK = (
    "vpcs",
    "subnets",
    "internet_gateways",
    "addresses",
    "route_tables",
    "security_groups",
    "vpc_endpoints",
)
_BUCKET = (
    "get_bucket_versioning",
    "get_bucket_encryption",
    "get_bucket_lifecycle_configuration",
    "get_public_access_block",
    "get_bucket_cors",
    "get_bucket_ownership_controls",
    "get_bucket_policy",
    "get_bucket_tagging",
    "get_object_lock_configuration",
    "list_bucket_intelligent_tiering_configurations",
)


def describes(outputs: Mapping[str, Mapping[str, Any]]) -> list[Call]:
    """Return the calls for the foundation with these outputs, the services of the slowest clients first."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for address, values in outputs.items():
        by_kind.setdefault(address.partition(".")[0], []).append(values)
    return [*_networks(by_kind), *_storage(by_kind), *_identities(by_kind), *_cluster(by_kind)]


Found = Mapping[str, Sequence[Mapping[str, Any]]]


def _networks(found: Found) -> Iterator[Call]:
    (vpc,) = found["vpc"]
    for noun in (
        "vpcs",
        "subnets",
        "internet_gateways",
        "addresses",
        "route_tables",
        "security_groups",
        "vpc_endpoints",
    ):
        yield "ec2", f"describe_{noun}", {"Filters": _OWNED}
    yield "ec2", "describe_nat_gateways", {"Filter": _OWNED}
    for attribute in ("enableDnsSupport", "enableDnsHostnames"):
        yield "ec2", "describe_vpc_attribute", {"VpcId": vpc["id"], "Attribute": attribute}


def _storage(found: Found) -> Iterator[Call]:
    for bucket in found["s3_bucket"]:
        for operation in _BUCKET:
            yield "s3", operation, {"Bucket": bucket["id"]}
    (database,) = found["glue_database"]
    yield "glue", "get_database", {"Name": database["id"]}
    yield "glue", "batch_get_crawlers", {"CrawlerNames": [crawler["id"] for crawler in found["glue_crawler"]]}
    for item in (database, *found["glue_crawler"]):
        yield "glue", "get_tags", {"ResourceArn": item["arn"]}
    (group,) = found["log_group"]
    yield "logs", "describe_log_groups", {"logGroupNamePrefix": group["id"]}
    yield "logs", "list_tags_for_resource", {"resourceArn": group["arn"]}


def _identities(found: Found) -> Iterator[Call]:
    for role in found["iam_role"]:
        for operation in ("get_role", "list_attached_role_policies", "list_role_policies"):
            yield "iam", operation, {"RoleName": role["id"]}
    for policy in found["iam_policy"]:
        yield "iam", "get_policy", {"PolicyArn": policy["arn"]}
        yield "iam", "get_policy_version", {"PolicyArn": policy["arn"], "VersionId": policy["default_version_id"]}
    for key in found["kms_key"]:
        yield "kms", "describe_key", {"KeyId": key["alias_name"]}
        yield "kms", "get_key_policy", {"KeyId": key["id"], "PolicyName": "default"}
        yield "kms", "get_key_rotation_status", {"KeyId": key["id"]}
        yield "kms", "list_resource_tags", {"KeyId": key["id"]}
    for secret in found["secretsmanager_secret"]:
        for operation in ("describe_secret", "get_resource_policy"):
            yield "secretsmanager", operation, {"SecretId": secret["arn"]}


def _cluster(found: Found) -> Iterator[Call]:
    (cluster,) = found["eks_cluster"]
    yield "eks", "describe_cluster", {"name": cluster["id"]}
    for group in found["eks_nodegroup"]:
        name = group["id"].partition("/")[2]
        yield "eks", "describe_nodegroup", {"clusterName": cluster["id"], "nodegroupName": name}


def main() -> int:
    from botocore.config import Config
    from botocore.exceptions import ClientError
    from botocore.session import Session

    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    session = Session()
    session.set_credentials(given["access_key"], given["secret_key"])
    config = Config(max_pool_connections=THREADS)

    def answer(client: Any, operation: str, parameters: dict[str, Any]) -> None:
        try:
            getattr(client, operation)(**parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _UNSET:
                raise

    clients: dict[str, Any] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        answers = []
        for service, operation, parameters in given["calls"]:
            if service not in clients:
                # One after the other: creating them in several threads is not safe.
                clients[service] = session.create_client(
                    service, region_name=given["region"], endpoint_url=given["endpoint_url"], config=config
                )
            answers.append(pool.submit(answer, clients[service], operation, parameters))
        for future in answers:
            future.result()
    return 0


if __name__ == "__main__":
    sys.exit(main())
