# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of tags: for every resource one tag is changed, one removed, and one added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.aws.edits.hand import Edit, Hand, pairs

Tags = Mapping[str, str]
OWN = {"Environment": "benchmark", "Project": "crypto-lakehouse"}
CHANGED, ADDED = {"Environment": "somebody's"}, {"Owner": "somebody"}


@dataclass(frozen=True)
class Tagging:
    """Calls of a service that write and remove tags."""

    service: str
    write: str = "tag_resource"
    remove: str = "untag_resource"
    tags: str = "Tags"
    keys: str = "TagKeys"
    shape: Callable[[Tags], Any] = pairs
    removed: Callable[[Tags], Any] = list


def _kms_tags(tags: Tags) -> list[dict[str, str]]:
    return [{"TagKey": key, "TagValue": value} for key, value in tags.items()]


def _keys_of_ec2(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key} for key in tags]


_EC2 = Tagging("ec2", "create_tags", "delete_tags", keys="Tags", removed=_keys_of_ec2)
_EKS = Tagging("eks", tags="tags", keys="tagKeys", shape=dict)
_GLUE = Tagging("glue", tags="TagsToAdd", keys="TagsToRemove", shape=dict)
# By kind, with the parameter of the resource and whether it is the id or the ARN.
_TAGGINGS: Mapping[str, tuple[Tagging, str, Callable[[Hand, str], str]]] = {
    "kms_key": (Tagging("kms", shape=_kms_tags), "KeyId", Hand.id),
    "iam_role": (Tagging("iam", "tag_role", "untag_role"), "RoleName", Hand.id),
    "iam_policy": (Tagging("iam", "tag_policy", "untag_policy"), "PolicyArn", Hand.arn),
    "secretsmanager_secret": (Tagging("secretsmanager"), "SecretId", Hand.arn),
    "glue_database": (_GLUE, "ResourceArn", Hand.arn),
    "glue_crawler": (_GLUE, "ResourceArn", Hand.arn),
    "log_group": (Tagging("logs", tags="tags", keys="tagKeys", shape=dict), "resourceArn", Hand.arn),
    "eks_cluster": (_EKS, "resourceArn", Hand.arn),
    "eks_nodegroup": (_EKS, "resourceArn", Hand.arn),
}


def of_tags(hand: Hand, address: str) -> Iterator[Edit]:
    """Yield the edits of a resource's tags."""
    kind = address.partition(".")[0]
    write, remove = _bucket(hand, address) if kind == "s3_bucket" else _calls(hand, address, kind)
    environment, project = ({key: OWN[key]} for key in ("Environment", "Project"))
    yield Edit(address, "tags.Environment", lambda: write(CHANGED), lambda: write(environment))
    yield Edit(address, "tags.Project", lambda: remove(project), lambda: write(project))
    yield Edit(address, "tags.Owner", lambda: write(ADDED), lambda: remove(ADDED))


Write = Callable[[Tags], object]


def _calls(hand: Hand, address: str, kind: str) -> tuple[Write, Write]:
    if kind in _TAGGINGS:
        how, parameter, named = _TAGGINGS[kind]
        fixed: dict[str, Any] = {parameter: named(hand, address)}
    else:
        how, fixed = _EC2, {"Resources": [hand.id(address)]}

    def write(tags: Tags) -> object:
        return hand.call(how.service, how.write, **fixed, **{how.tags: how.shape(tags)})()

    def remove(tags: Tags) -> object:
        return hand.call(how.service, how.remove, **fixed, **{how.keys: how.removed(tags)})()

    return write, remove


def _bucket(hand: Hand, address: str) -> tuple[Write, Write]:
    """The tags of a bucket can only be written together."""
    bucket = {"Bucket": hand.id(address)}

    def put(change: Callable[[dict[str, str]], object]) -> object:
        s3 = hand.client("s3")
        tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(**bucket)["TagSet"]}
        change(tags)
        return s3.put_bucket_tagging(**bucket, Tagging={"TagSet": pairs(tags)})

    def write(tags: Tags) -> object:
        return put(lambda has: has.update(tags))

    def remove(tags: Tags) -> object:
        return put(lambda has: [has.pop(key) for key in tags])

    return write, remove
