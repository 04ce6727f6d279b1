# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a bucket: the schema, conversion from S3's form, and the bucket policy. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.schema import Output, Property, Schema, ValidationError, comparable
from .kind import TAGS, tag_map
from .policy import policy_property
from .s3_cors import CORS_RULES, cors_from_api
from .s3_rules import INTELLIGENT_TIERING, LIFECYCLE_RULES, lifecycle_faults, rule_from_api, tiering_faults
from .spelling import key_id

TLS_SID = "LakehouseTlsOnly"
# Reserved by S3 for generated names.
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


def bucket_name(value: str) -> str | None:
    """Return the problem of a bucket's name, or None. Source: S3's rules for naming buckets."""
    if not _NAME.fullmatch(value) or _IP_ADDRESS.fullmatch(value):
        return f"{value!r} is not a bucket's name: 3 to 63 small letters, digits, hyphens and single dots"
    if value.startswith(_RESERVED_STARTS) or value.endswith(_RESERVED_ENDS):
        return f"{value!r} begins or ends like names that S3 keeps for itself"
    return None


def _flag(purpose: str) -> Property:
    return Property("boolean", default=True, when_unset=False, purpose=purpose)


def _faults(desired: Mapping[str, Any], _existing: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    tables = _listed(desired.get("table_prefixes"))
    yield from lifecycle_faults(_listed(desired["lifecycle_rules"]), tables)
    yield from tiering_faults(_listed(desired["intelligent_tiering"]), tables)
    encryption = desired["encryption"]
    if isinstance(encryption, Mapping) and encryption["sse_algorithm"] == "AES256" and encryption["kms_key_id"]:
        yield "encryption.kms_key_id", "AES256 uses no key of KMS", "set sse_algorithm: aws:kms, or omit the key"
    lock = desired["object_lock"]
    if isinstance(lock, Mapping):
        if desired["versioning"] is False:
            yield "object_lock", "locks versions, and there are none", "set versioning: true"
        if any(lock.values()) and not (lock["mode"] and (lock["days"] is None) != (lock["years"] is None)):
            yield "object_lock", "needs a mode, and either days or years", "or none of them"
    if any(isinstance(item, Mapping) and item.get("Sid") == TLS_SID for item in _statements(desired["policy"])):
        yield "policy", f"has a statement {TLS_SID}, which tls_only writes", "set another Sid for the statement"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


BUCKET = Schema(
    {
        "name": Property(
            required=True,
            replace=True,
            check=bucket_name,
            purpose="Name, unique in all accounts of a partition.",
        ),
        "versioning": Property(
            "boolean",
            when_unset=False,
            purpose="Whether to keep old versions. S3 can only suspend it afterwards, which keeps existing versions.",
        ),
        "encryption": Property(
            "map",
            default={},
            when_unset={"sse_algorithm": "AES256", "kms_key_id": None},
            purpose="Default encryption of objects.",
            fields={
                "sse_algorithm": Property(
                    default="AES256",
                    when_unset="AES256",
                    choices=("AES256", "aws:kms", "aws:kms:dsse"),
                    purpose="Encryption with a key of S3 or of KMS.",
                ),
                "kms_key_id": Property(canonical=key_id, purpose="ARN of the key. The AWS managed key if omitted."),
                "bucket_key_enabled": Property(
                    "boolean",
                    computed=True,
                    when_unset=False,
                    purpose="Whether to use a bucket key, which reduces KMS requests. True for new buckets with "
                    "aws:kms.",
                ),
            },
        ),
        "lifecycle_rules": LIFECYCLE_RULES,
        "table_prefixes": Property(
            "set",
            elements=Property(),
            owned_by="the description",
            purpose="Prefixes of table files. Rules that would archive or expire their objects are rejected.",
        ),
        "public_access_block": Property(
            "map",
            default={},
            when_unset=dict.fromkeys(
                ("block_public_acls", "ignore_public_acls", "block_public_policy", "restrict_public_buckets"), False
            ),
            purpose="Block of public access.",
            fields={
                "block_public_acls": _flag("Whether to reject public ACLs."),
                "ignore_public_acls": _flag("Whether to ignore public ACLs."),
                "block_public_policy": _flag("Whether to reject public bucket policies."),
                "restrict_public_buckets": _flag(
                    "Whether to restrict access by public policies to the account and AWS services."
                ),
            },
        ),
        "object_ownership": Property(
            default="BucketOwnerEnforced",
            when_unset="ObjectWriter",
            choices=("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"),
            purpose="Owner of uploaded objects. BucketOwnerEnforced disables ACLs.",
        ),
        "cors_rules": CORS_RULES,
        "tls_only": Property(
            "boolean", default=True, when_unset=False, purpose="Whether to deny requests without TLS."
        ),
        "policy": policy_property("Bucket policy, without the statement of `tls_only`."),
        "object_lock": Property(
            "map",
            # S3 cannot disable object lock, and clients rely on it.
            replace=lambda before, after: isinstance(before, Mapping) and after is None,
            purpose="Object lock with default retention. An empty map enables it without a default.",
            fields={
                "mode": Property(
                    choices=("GOVERNANCE", "COMPLIANCE"),
                    purpose="Mode of the default retention. GOVERNANCE permits deletions with a special permission.",
                ),
                "days": Property("integer", purpose="Days of the default retention."),
                "years": Property("integer", purpose="Years of the default retention."),
            },
        ),
        "intelligent_tiering": INTELLIGENT_TIERING,
        "logging": Property(
            "map",
            computed=True,
            purpose="Server access logging. Unmanaged if omitted.",
            fields={
                "target_bucket": Property(required=True, purpose="Name of the bucket for logs."),
                "target_prefix": Property(when_unset="", purpose="Prefix of the logs' keys."),
            },
        ),
        "force_destroy": Property(
            "boolean",
            owned_by="the description",
            purpose="Whether a deletion also deletes all versions of all objects. If false, S3 rejects it "
            "for a bucket with objects.",
        ),
        "tags": TAGS,
    },
    {
        "id": Output("Name."),
        "arn": Output("ARN."),
    },
    protected=True,
    spans_regions=True,
    unique_by=("name",),
    check=_faults,
)


@dataclass(frozen=True)
class Setting:
    """Call that reads one part of the settings. `absent`: error codes for missing settings."""

    operation: str
    parse: Callable[[Mapping[str, Any]], dict[str, Any]]
    absent: str = ""


def _encryption(answer: Mapping[str, Any]) -> dict[str, Any]:
    rule = encryption_rule(answer)
    default = rule.get("ApplyServerSideEncryptionByDefault") or {}
    found = {
        "sse_algorithm": default.get("SSEAlgorithm"),
        "kms_key_id": default.get("KMSMasterKeyID"),
        "bucket_key_enabled": rule.get("BucketKeyEnabled"),
    }
    return {"encryption": found}


def encryption_rule(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the single rule of an answer of GetBucketEncryption."""
    rules = (answer.get("ServerSideEncryptionConfiguration") or {}).get("Rules")
    return rules[0] if rules else {}


PUBLIC_ACCESS = {
    "block_public_acls": "BlockPublicAcls",
    "ignore_public_acls": "IgnorePublicAcls",
    "block_public_policy": "BlockPublicPolicy",
    "restrict_public_buckets": "RestrictPublicBuckets",
}


def _public_access(answer: Mapping[str, Any]) -> dict[str, Any]:
    found = answer.get("PublicAccessBlockConfiguration") or {}
    return {"public_access_block": {field: found.get(name, False) for field, name in PUBLIC_ACCESS.items()}}


def _ownership(answer: Mapping[str, Any]) -> dict[str, Any]:
    rules = (answer.get("OwnershipControls") or {}).get("Rules")
    return {"object_ownership": rules[0]["ObjectOwnership"] if rules else None}


def _object_lock(answer: Mapping[str, Any]) -> dict[str, Any]:
    found = answer.get("ObjectLockConfiguration") or {}
    if found.get("ObjectLockEnabled") != "Enabled":
        return {"object_lock": None}
    retention = (found.get("Rule") or {}).get("DefaultRetention") or {}
    return {"object_lock": {field: retention.get(field.capitalize()) or None for field in ("mode", "days", "years")}}


def _logging(answer: Mapping[str, Any]) -> dict[str, Any]:
    found = answer.get("LoggingEnabled")
    if not found:
        return {"logging": None}
    return {"logging": {"target_bucket": found["TargetBucket"], "target_prefix": found.get("TargetPrefix")}}


def _lifecycle(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"lifecycle_rules": [rule_from_api(rule) for rule in answer.get("Rules") or ()]}


def _cors(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"cors_rules": [cors_from_api(rule) for rule in answer.get("CORSRules") or ()]}


TAGGING = Setting("get_bucket_tagging", lambda answer: {"tags": tag_map(answer.get("TagSet"))}, "NoSuchTagSet")
LOGGING = Setting("get_bucket_logging", _logging)
SETTINGS = (
    Setting("get_bucket_versioning", lambda answer: {"versioning": answer.get("Status") == "Enabled"}),
    Setting("get_bucket_encryption", _encryption, "ServerSideEncryptionConfigurationNotFoundError"),
    Setting("get_bucket_lifecycle_configuration", _lifecycle, "NoSuchLifecycleConfiguration"),
    Setting("get_public_access_block", _public_access, "NoSuchPublicAccessBlockConfiguration"),
    Setting("get_bucket_ownership_controls", _ownership, "OwnershipControlsNotFoundError"),
    Setting("get_bucket_cors", _cors, "NoSuchCORSConfiguration"),
    Setting("get_bucket_policy", lambda answer: {"policy": answer.get("Policy")}, "NoSuchBucketPolicy"),
    Setting("get_object_lock_configuration", _object_lock, "ObjectLockConfigurationNotFoundError"),
)


def split_policy(text: str | None, arn: str) -> dict[str, Any]:
    """Return a bucket's policy without the statement of `tls_only`, and whether that exists unchanged."""
    if not text:
        return {"policy": None, "tls_only": False}
    whole = json.loads(text)
    own = [item for item in _statements(whole) if isinstance(item, Mapping) and item.get("Sid") == TLS_SID]
    others = [item for item in _statements(whole) if item not in own]
    plain = Property("policy")
    intact = [comparable(plain, item) for item in own] == [comparable(plain, _tls_statement(arn))]
    return {"policy": {**whole, "Statement": others} if others else None, "tls_only": intact}


def merged_policy(policy: Any, arn: str, *, tls_only: bool) -> dict[str, Any] | None:
    """Return the complete policy of a bucket, or None where it needs none."""
    if not tls_only:
        return dict(policy) if policy else None
    base = policy or {"Version": "2012-10-17"}
    return {**base, "Statement": [*_statements(policy), _tls_statement(arn)]}


def _tls_statement(arn: str) -> dict[str, Any]:
    return {
        "Sid": TLS_SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def _statements(policy: Any) -> list[Any]:
    found = policy.get("Statement") if isinstance(policy, Mapping) else None
    return found if isinstance(found, list) else [found] if found else []
