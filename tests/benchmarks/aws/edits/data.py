# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of buckets, of the catalog, and of logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.aws.edits.hand import Act, Alter, Altered, Edit, Hand, without

# Properties in a crawler's description and in its creation.
_CRAWLER = (
    "Name",
    "Role",
    "DatabaseName",
    "Description",
    "Targets",
    "SchemaChangePolicy",
    "RecrawlPolicy",
    "Configuration",
    "TablePrefix",
)


def of_s3_bucket(hand: Hand, address: str) -> Iterator[Edit]:
    bucket = {"Bucket": hand.id(address)}
    yield hand.switch(
        address,
        "versioning",
        ("s3", "put_bucket_versioning"),
        bucket,
        {"VersioningConfiguration": {"Status": "Suspended"}},
        {"VersioningConfiguration": {"Status": "Enabled"}},
    )
    yield hand.switch(
        address,
        "object_ownership",
        ("s3", "put_bucket_ownership_controls"),
        bucket,
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}},
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
    )
    yield from _bucket_encryption(hand, address, bucket)
    yield from _bucket_access(hand, address, bucket)
    yield from _bucket_lifecycle(hand, address, bucket)
    tiering = {"Id": "somebodys", "Status": "Enabled", "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}]}
    altered = Altered(
        "s3",
        "ListBucketIntelligentTieringConfigurations",
        lambda answer: answer.update(IntelligentTieringConfigurationList=[dict(tiering)]),
        bucket,
    )
    yield Edit(address, "intelligent_tiering", altered=altered)


def _bucket_encryption(hand: Hand, address: str, bucket: Mapping[str, Any]) -> Iterator[Edit]:
    call = ("s3", "put_bucket_encryption")
    own = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": hand.arn("kms_key.s3")}
    others: Mapping[str, tuple[dict[str, str], bool]] = {
        "encryption.sse_algorithm": ({"SSEAlgorithm": "AES256"}, True),
        "encryption.kms_key_id": ({**own, "KMSMasterKeyID": hand.arn("kms_key.data")}, True),
        "encryption.bucket_key_enabled": (own, False),
    }
    for path, (rule, bucket_key) in others.items():
        yield hand.switch(address, path, call, bucket, _encryption(rule, bucket_key), _encryption(own, True))


def _bucket_access(hand: Hand, address: str, bucket: Mapping[str, Any]) -> Iterator[Edit]:
    names = {
        "block_public_acls": "BlockPublicAcls",
        "ignore_public_acls": "IgnorePublicAcls",
        "block_public_policy": "BlockPublicPolicy",
        "restrict_public_buckets": "RestrictPublicBuckets",
    }
    on = dict.fromkeys(names.values(), True)
    for path, name in names.items():
        other, own = ({"PublicAccessBlockConfiguration": {**on, name: value}} for value in (False, True))
        call = ("s3", "put_public_access_block")
        yield hand.switch(address, f"public_access_block.{path}", call, bucket, other, own)
    policy = hand.client("s3").get_bucket_policy(**bucket)["Policy"]
    restore = hand.call("s3", "put_bucket_policy", Policy=policy, **bucket)
    yield Edit(address, "tls_only", hand.call("s3", "delete_bucket_policy", **bucket), restore)
    mine = json.loads(policy)
    mine["Statement"].append(
        {
            "Sid": "Somebodys",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{bucket['Bucket']}/*",
        }
    )
    yield Edit(address, "policy", hand.call("s3", "put_bucket_policy", Policy=json.dumps(mine), **bucket), restore)


def _bucket_lifecycle(hand: Hand, address: str, bucket: Mapping[str, Any]) -> Iterator[Edit]:
    own = hand.client("s3").get_bucket_lifecycle_configuration(**bucket)["Rules"]
    for change in _lifecycle_changes(own):
        call = ("s3", "put_bucket_lifecycle_configuration")
        other, same = ({"LifecycleConfiguration": {"Rules": rules}} for rules in (change, own))
        yield hand.switch(address, "lifecycle_rules", call, bucket, other, same)


def of_glue_database(hand: Hand, address: str) -> Iterator[Edit]:
    described = hand.described[address]
    own = {"Name": described["name"], "Description": described["description"]}
    call, fixed = ("glue", "update_database"), {"Name": described["name"]}
    for path, parameter, value in (
        ("description", "Description", "somebody's"),
        ("location_uri", "LocationUri", "s3://somebodys/"),
    ):
        other = {"DatabaseInput": {**own, parameter: value}}
        yield hand.switch(address, path, call, fixed, other, {"DatabaseInput": own})


def of_glue_crawler(hand: Hand, address: str) -> Iterator[Edit]:
    """The emulator does not update crawlers, but it can replace one by another of the same name."""
    glue, name = hand.client("glue"), hand.id(address)
    found = glue.get_crawler(Name=name)["Crawler"]
    own: dict[str, Any] = {key: value for key, value in found.items() if key in _CRAWLER and value}
    own["Schedule"] = found["Schedule"]["ScheduleExpression"]
    own["Tags"] = glue.get_tags(ResourceArn=hand.arn(address))["Tags"]

    def replaced(changes: Mapping[str, Any]) -> Act:
        def replace() -> None:
            glue.delete_crawler(Name=name)
            glue.create_crawler(**{**own, **changes})

        return replace

    policy = own["SchemaChangePolicy"]
    target = own["Targets"]["S3Targets"][0]
    changed: Mapping[str, Mapping[str, Any]] = {
        "role": {"Role": hand.arn("iam_role.eks-node")},
        "database_name": {"DatabaseName": "somebodys"},
        "description": {"Description": "somebody's"},
        "targets.s3_targets": {"Targets": {"S3Targets": [{**target, "Path": "s3://somebodys/"}]}},
        "schedule": {"Schedule": "cron(0 4 * * ? *)"},
        "schema_change_policy.update_behavior": {"SchemaChangePolicy": {**policy, "UpdateBehavior": "LOG"}},
        "schema_change_policy.delete_behavior": {
            "SchemaChangePolicy": {**policy, "DeleteBehavior": "DEPRECATE_IN_DATABASE"}
        },
        "recrawl_policy.recrawl_behavior": {"RecrawlPolicy": {"RecrawlBehavior": "CRAWL_NEW_FOLDERS_ONLY"}},
        "configuration": {"Configuration": json.dumps({"Version": 1.0})},
        "table_prefix": {"TablePrefix": "somebodys_"},
    }
    for path, changes in changed.items():
        yield Edit(address, path, replaced(changes), replaced({}))


def of_log_group(hand: Hand, address: str) -> Iterator[Edit]:
    fixed = {"logGroupName": hand.id(address)}
    yield hand.switch(
        address,
        "retention_in_days",
        ("logs", "put_retention_policy"),
        fixed,
        {"retentionInDays": 7},
        {"retentionInDays": 30},
    )
    for path, key, value in (
        ("kms_key_id", "kmsKeyId", hand.arn("kms_key.data")),
        ("deletion_protection_enabled", "deletionProtectionEnabled", True),
    ):
        yield Edit(address, path, altered=Altered("logs", "DescribeLogGroups", _in_log_groups({key: value})))


def _in_log_groups(changes: Mapping[str, Any]) -> Alter:
    return lambda answer: [group.update(changes) for group in answer["logGroups"]]


def _encryption(rule: Mapping[str, str], bucket_key: bool) -> dict[str, Any]:
    rules = [{"ApplyServerSideEncryptionByDefault": rule, "BucketKeyEnabled": bucket_key}]
    return {"ServerSideEncryptionConfiguration": {"Rules": rules}}


def _lifecycle_changes(own: Sequence[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rules with one of their values changed, for each value, and with an additional rule."""
    rule = dict(own[0])
    yield [{**rule, "Status": "Disabled"}]
    yield [{**rule, "Filter": {"Prefix": "somebodys/"}}]
    yield [{**rule, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}]
    yield [{**rule, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}]
    yield [{**rule, "Expiration": {"Days": 1000}}]
    yield [rule, {"ID": "somebodys", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 1}}]
    transitions = list(rule.get("Transitions") or ())
    for number, transition in enumerate(transitions):
        moved = {**transition, "Days": transition["Days"] + 1}
        yield [{**rule, "Transitions": [*without(transitions, number), moved]}]
