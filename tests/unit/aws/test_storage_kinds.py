# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage and catalog kinds: descriptions that they reject before a call, and requests that no emulator supports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import AwsKind
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.athena import AthenaWorkgroup
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.ecr import EcrRepository
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.efs import EfsFileSystem
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.glue import GlueCrawler, GlueDatabase
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.s3 import S3Bucket
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.s3_rules import (
    LIFECYCLE_RULES,
    rule_from_api,
    rule_to_api,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.s3_settings import (
    merged_policy,
    split_policy,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.diff import diff
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import execute
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Options, propose
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.render import text
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource, Stack
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import found, wanted
from tests.integration.aws.wire import Answer, Scripted, Wire

KINDS: tuple[type[AwsKind], ...] = (
    S3Bucket,
    EfsFileSystem,
    EcrRepository,
    GlueDatabase,
    GlueCrawler,
    AthenaWorkgroup,
)
STACK = Stack("lake", "development", "1.0.0", {"account_id": "111122223333"})
ACCOUNT = "111122223333"
ARN = "arn:aws:s3:::lake"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
RAW = {"id": "raw", "transitions": [{"days": 90, "storage_class": "GLACIER"}]}
DEEP = [{"days": 180, "access_tier": "DEEP_ARCHIVE_ACCESS"}]
TARGET = {"subnet_id": "subnet-1", "security_group_ids": ["sg-1"]}
CRAWLER = {"name": "c", "role": "r", "database_name": "d", "targets": {"s3_targets": [{"path": "s3://b/raw/"}]}}


def session(wire: Wire | None = None) -> Session:
    made = Session(
        Connection("eu-central-1", access_key="AKIAEXAMPLE", secret_key="secret", endpoint_url="http://127.0.0.1:9")
    )
    return (wire or Wire(Scripted({}))).attach(made)


def faults(kind: str, properties: Mapping[str, Any]) -> str:
    """Return the faults of a description, found without any call."""
    wire = Wire(Scripted({}))
    made = session(wire)
    with pytest.raises(DescriptionError) as error:
        propose(STACK, [item(made) for item in KINDS], [Resource(kind, "it", properties)])
    assert not wire.calls
    return str(error.value)


S3_FAULTS = [
    ({"name": "Lake_Bronze"}, "it: name: 'Lake_Bronze' is not a bucket's name"),
    ({"name": "a" * 64}, "3 to 63 small letters"),
    ({"name": "10.0.0.1"}, "is not a bucket's name"),
    ({"name": "lake..bronze"}, "is not a bucket's name"),
    ({"name": "xn--lake"}, "S3 keeps for itself"),
    ({"name": "lake-s3alias"}, "S3 keeps for itself"),
    ({"encryption": {"sse_algorithm": "AES256", "kms_key_id": KEY}}, "encryption.kms_key_id: AES256 uses no key"),
    (
        {"cors_rules": [{"allowed_origins": ["*"], "allowed_methods": ["PATCH"]}]},
        "cors_rules[0].allowed_methods[0]: 'PATCH' is not one of",
    ),
    ({"cors_rules": [{"allowed_methods": ["GET"]}]}, "cors_rules[0].allowed_origins: is required"),
    ({"encryption": {"sse_algorithm": "aws:kns"}}, "did you mean 'aws:kms'?"),
    ({"object_lock": {}}, "object_lock: locks versions, and there are none; set versioning: true"),
    ({"versioning": True, "object_lock": {"mode": "GOVERNANCE"}}, "needs a mode, and either days or years"),
    ({"versioning": True, "object_lock": {"mode": "GOVERNANCE", "days": 1, "years": 1}}, "either days or years"),
    ({"versioning": True, "object_lock": {"days": 1}}, "needs a mode"),
    (
        {"policy": {"Statement": [{"Sid": "LakehouseTlsOnly", "Effect": "Deny"}]}},
        "policy: has a statement LakehouseTlsOnly, which tls_only writes",
    ),
    ({"lifecycle_rules": [{"id": "a"}]}, "the entry 'a' does nothing"),
    ({"lifecycle_rules": [RAW, {**RAW, "filter": {"prefix": "x/"}}]}, "two entries with the id 'raw'"),
    ({"lifecycle_rules": [{"transitions": RAW["transitions"]}]}, "lifecycle_rules[0].id: is required"),
    (
        {"lifecycle_rules": [{"id": "a", "transitions": [{"days": 7, "storage_class": "STANDARD_IA"}]}]},
        "the entry 'a' moves to STANDARD_IA after 7 days; S3 requires 30 at least",
    ),
    ({"lifecycle_rules": [{"id": "a", "transitions": [{"storage_class": "GLACIER"}]}]}, "needs either days or date"),
    ({"lifecycle_rules": [{"id": "a", "expiration": {"date": "2031-13-01"}}]}, "is not a day like 2027-01-31"),
    ({"lifecycle_rules": [{"id": "a", "expiration": {"days": 1, "date": "2031-01-01"}}]}, "needs one of days, date"),
    (
        {
            "lifecycle_rules": [
                {
                    "id": "a",
                    "filter": {"tags": {"a": "b"}},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
                }
            ]
        },
        "filters by tags, which unfinished uploads and delete markers do not have",
    ),
]


@pytest.mark.parametrize(("properties", "message"), S3_FAULTS)
def test_a_bucket_that_s3_would_refuse_is_refused_before_any_call(properties: dict[str, Any], message: str) -> None:
    assert message in faults("s3_bucket", {"name": "lake-bronze", **properties})


OTHER_FAULTS = [
    ("efs_file_system", {"name": "x", "throughput_mode": "provisioned"}, "does not go with the throughput_mode"),
    ("efs_file_system", {"name": "x", "provisioned_throughput_in_mibps": 1}, "it is for provisioned"),
    ("efs_file_system", {"name": "x", "tags": {"Name": "y"}}, "tags.Name: is what the property name says"),
    (
        "efs_file_system",
        {"name": "x", "mount_targets": [TARGET, {**TARGET, "security_group_ids": ["sg-2"]}]},
        "subnet-1",
    ),
    ("efs_file_system", {"name": "x", "mount_targets": [{"subnet_id": "s"}]}, "security_group_ids: is required"),
    (
        "efs_file_system",
        {
            "name": "x",
            "lifecycle_policies": [{"transition_to_ia": "AFTER_1_DAY", "transition_to_archive": "AFTER_7_DAYS"}],
        },
        "make an entry of each",
    ),
    ("ecr_repository", {"name": "repository", "encryption": {"kms_key": KEY}}, "set encryption_type: KMS"),
    ("ecr_repository", {"name": "repository", "image_tag_mutability": "IMMUTABLE_WITH_EXCLUSION"}, "are missing"),
    (
        "ecr_repository",
        {"name": "repository", "image_tag_mutability_exclusion_filters": [{"filter": "a*"}]},
        "do not go with",
    ),
    ("glue_database", {"name": "Lake"}, "has capitals, which Glue does not keep"),
    ("glue_crawler", {**CRAWLER, "schedule": "daily"}, "is not a schedule like cron(0 2 * * ? *)"),
    ("glue_crawler", {**CRAWLER, "schedule": "cron(0 2 * * *)"}, "is not a schedule"),
    ("glue_crawler", {**CRAWLER, "targets": {}}, "targets: names nothing to crawl"),
    (
        "glue_crawler",
        {**CRAWLER, "recrawl_policy": {"recrawl_behavior": "CRAWL_NEW_FOLDERS_ONLY"}},
        "schema_change_policy: must be LOG",
    ),
    ("athena_workgroup", {"name": "a b"}, "is not 1 to 128 letters"),
    ("athena_workgroup", {"name": "a", "bytes_scanned_cutoff_per_query": 1000}, "less than the 10 MB"),
    ("athena_workgroup", {"name": "a", "output_location": "bucket/results"}, "is not an address like s3://"),
    ("athena_workgroup", {"name": "a", "encryption": {"encryption_option": "SSE_KMS"}}, "is missing for SSE_KMS"),
    (
        "athena_workgroup",
        {"name": "a", "encryption": {"encryption_option": "SSE_S3", "kms_key": KEY}},
        "encryption.kms_key: is not used by SSE_S3",
    ),
]


@pytest.mark.parametrize(("kind", "properties", "message"), OTHER_FAULTS)
def test_what_aws_would_refuse_is_refused_before_any_call(kind: str, properties: dict[str, Any], message: str) -> None:
    assert message in faults(kind, properties)


@pytest.mark.parametrize("prefix", ["", "t", "tables/", "tables/trades/"])
@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_rule_that_archives_table_files_is_refused(prefix: str, storage_class: str) -> None:
    rule = {"id": "old", "filter": {"prefix": prefix}, "transitions": [{"days": 90, "storage_class": storage_class}]}
    message = faults("s3_bucket", {"name": "lake", "table_prefixes": ["tables/"], "lifecycle_rules": [rule]})
    assert f"the entry 'old' archives ({storage_class}) objects below 'tables/', where table files are" in message


def test_tags_and_sizes_do_not_tell_table_files_apart() -> None:
    rule = {**RAW, "filter": {"tags": {"Old": "yes"}, "object_size_greater_than": 1}}
    assert "archives (GLACIER)" in faults(
        "s3_bucket", {"name": "lake", "table_prefixes": ["tables/"], "lifecycle_rules": [rule]}
    )


def test_a_rule_that_deletes_table_files_by_age_is_refused() -> None:
    rule = {"id": "old", "expiration": {"days": 365}}
    message = faults("s3_bucket", {"name": "lake", "table_prefixes": ["tables/"], "lifecycle_rules": [rule]})
    assert "deletes objects below 'tables/', where table files are, by age alone" in message


def test_the_archive_tiers_of_intelligent_tiering_are_refused_for_table_files() -> None:
    tiering = {"id": "all", "tierings": DEEP}
    message = faults("s3_bucket", {"name": "lake", "table_prefixes": ["tables/"], "intelligent_tiering": [tiering]})
    assert "intelligent_tiering[0]: the entry 'all' archives objects below 'tables/'" in message


@pytest.mark.parametrize(
    "rule",
    [
        {**RAW, "filter": {"prefix": "raw/"}},
        {**RAW, "status": "Disabled"},
        {"id": "warm", "transitions": [{"days": 0, "storage_class": "INTELLIGENT_TIERING"}]},
        {"id": "cold", "transitions": [{"days": 90, "storage_class": "GLACIER_IR"}]},
        {"id": "old", "noncurrent_version_transitions": [{"noncurrent_days": 30, "storage_class": "GLACIER"}]},
        {"id": "gone", "expiration": {"expired_object_delete_marker": True}},
    ],
)
def test_a_rule_that_leaves_table_files_readable_is_accepted(rule: dict[str, Any]) -> None:
    properties = {"name": "lake", "table_prefixes": ["tables/"], "lifecycle_rules": [rule]}
    desired, validation_errors = wanted(S3Bucket.schema.properties, properties, "")
    assert not validation_errors
    assert S3Bucket.schema.check is not None
    assert not list(S3Bucket.schema.check(desired, None))


_DAYS = st.integers(30, 400)
_TEXTS = st.text("abcXYZ/-_", max_size=6)
_TRANSITION = st.fixed_dictionaries(
    {"days": _DAYS, "storage_class": st.sampled_from(["STANDARD_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"])}
)
_NONCURRENT = st.fixed_dictionaries(
    {"noncurrent_days": _DAYS, "storage_class": st.sampled_from(["GLACIER", "STANDARD_IA"])},
    optional={"newer_noncurrent_versions": st.integers(1, 100)},
)
_RULE = st.fixed_dictionaries(
    {"id": st.uuids().map(str)},
    optional={
        "status": st.sampled_from(["Enabled", "Disabled"]),
        "filter": st.fixed_dictionaries(
            {},
            optional={
                "prefix": _TEXTS,
                "tags": st.dictionaries(st.text("abc", min_size=1, max_size=3), _TEXTS, max_size=3),
                "object_size_greater_than": st.integers(0, 1 << 40),
                "object_size_less_than": st.integers(1, 1 << 40),
            },
        ),
        "transitions": st.lists(_TRANSITION, max_size=4),
        "expiration": st.one_of(
            st.fixed_dictionaries({"days": _DAYS}),
            st.fixed_dictionaries({"date": st.dates().map(lambda day: day.isoformat())}),
            st.fixed_dictionaries({"expired_object_delete_marker": st.just(True)}),
        ),
        "noncurrent_version_transitions": st.lists(_NONCURRENT, max_size=3),
        "noncurrent_version_expiration": st.fixed_dictionaries({"noncurrent_days": _DAYS}),
        "abort_incomplete_multipart_upload": st.fixed_dictionaries({"days_after_initiation": _DAYS}),
    },
)


def as_s3_answers(rule: Mapping[str, Any], zone: timezone) -> dict[str, Any]:
    """Return a rule in the format of S3, which adds to joined conditions and returns days as times."""
    answer: dict[str, Any] = json.loads(json.dumps(rule))
    if "And" in answer["Filter"]:
        answer["Filter"]["And"] = {"Prefix": "", "ObjectSizeGreaterThan": 0, **answer["Filter"]["And"]}
    for part in (answer.get("Expiration") or {}, *(answer.get("Transitions") or ())):
        if "Date" in part:
            part["Date"] = datetime.fromisoformat(part["Date"]).astimezone(zone)
    return answer


@given(st.lists(_RULE, max_size=5), st.integers(-11, 11), st.randoms())
def test_lifecycle_rules_come_back_as_they_were_described(
    rules: list[dict[str, Any]], offset_hours: int, random: Any
) -> None:
    properties, zone = {"rules": LIFECYCLE_RULES}, timezone(timedelta(hours=offset_hours))
    desired, validation_errors = wanted(properties, {"rules": rules}, "")
    assert not validation_errors
    # Years at either end of the calendar do not exist in every time zone.
    try:
        answers = [as_s3_answers(rule_to_api(rule), zone) for rule in desired["rules"] or ()]
    except OverflowError:
        return
    random.shuffle(answers)
    actual = found(properties, {"rules": [rule_from_api(answer) for answer in answers]}, "")
    assert not diff(properties, desired, actual)


def test_a_rule_from_before_there_were_filters_is_read() -> None:
    rule = {
        "ID": "old",
        "Prefix": "raw/",
        "Status": "Enabled",
        "Expiration": {"Date": datetime(2031, 1, 1, tzinfo=UTC)},
    }
    assert rule_from_api(rule) == {
        "id": "old",
        "status": "Enabled",
        "filter": {"prefix": "raw/", "tags": {}},
        "expiration": {"date": "2031-01-01"},
    }


@pytest.mark.parametrize("tls_only", [True, False])
@pytest.mark.parametrize(
    "policy",
    [
        None,
        {"Version": "2012-10-17", "Statement": {"Sid": "One", "Effect": "Allow"}},
        {"Version": "2008-10-17", "Id": "old", "Statement": [{"Effect": "Allow"}, {"Effect": "Deny"}]},
    ],
)
def test_two_policies_in_one_are_told_apart_again(policy: dict[str, Any] | None, tls_only: bool) -> None:
    merged = merged_policy(policy, ARN, tls_only=tls_only)
    read = split_policy(json.dumps(merged) if merged else None, ARN)
    properties = {name: S3Bucket.schema.properties[name] for name in ("policy", "tls_only")}
    assert not diff(properties, {"policy": policy, "tls_only": tls_only}, found(properties, read, ""))


def test_the_statement_of_another_bucket_is_not_ours() -> None:
    merged = merged_policy(None, "arn:aws:s3:::other", tls_only=True)
    assert split_policy(json.dumps(merged), ARN) == {"policy": None, "tls_only": False}


class Store:
    """A bucket's intelligent tiering as S3 stores it, in pages of one."""

    def __init__(self) -> None:
        self.tierings: dict[str, Any] = {}

    def put(self, **call: Any) -> None:
        assert call["ExpectedBucketOwner"] == ACCOUNT
        self.tierings[call["Id"]] = call["IntelligentTieringConfiguration"]

    def delete(self, **call: Any) -> None:
        del self.tierings[call["Id"]]

    def list(self, **call: Any) -> dict[str, Any]:
        names = sorted(self.tierings)
        start = names.index(call["ContinuationToken"]) if "ContinuationToken" in call else 0
        page: dict[str, Any] = {
            "IsTruncated": start + 1 < len(names),
            "IntelligentTieringConfigurationList": [self.tierings[name] for name in names[start : start + 1]],
        }
        return {**page, "NextContinuationToken": names[start + 1]} if page["IsTruncated"] else page


def absent(code: str) -> Answer:
    return Answer.error(code, status=404)


def script(store: Store) -> dict[str, Any]:
    """Return the answers of an account with one bucket, of which only the tiering is set."""
    tags = [
        {"Key": "lakehouse:stack", "Value": "lake/development"},
        {"Key": "lakehouse:address", "Value": "s3_bucket.bronze"},
    ]
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    return {
        "sts:GetCallerIdentity": lambda: {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root", "UserId": "x"},
        "s3:ListBuckets": lambda **_call: {"Buckets": [{"Name": "lake", "BucketRegion": "eu-central-1"}]},
        "s3:GetBucketVersioning": lambda **_call: {},
        "s3:GetBucketEncryption": lambda **_call: absent("ServerSideEncryptionConfigurationNotFoundError"),
        "s3:GetBucketLifecycleConfiguration": lambda **_call: absent("NoSuchLifecycleConfiguration"),
        "s3:GetPublicAccessBlock": lambda **_call: {"PublicAccessBlockConfiguration": block},
        "s3:GetBucketOwnershipControls": lambda **_call: {
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        },
        "s3:GetBucketCors": lambda **_call: absent("NoSuchCORSConfiguration"),
        "s3:GetBucketPolicy": lambda **_call: absent("NoSuchBucketPolicy"),
        "s3:GetObjectLockConfiguration": lambda **_call: absent("ObjectLockConfigurationNotFoundError"),
        "s3:GetBucketTagging": lambda **_call: {"TagSet": tags},
        "s3:ListBucketIntelligentTieringConfigurations": store.list,
        "s3:PutBucketIntelligentTieringConfiguration": store.put,
        "s3:DeleteBucketIntelligentTieringConfiguration": store.delete,
    }


def apply_tiering(store: Store, tierings: list[dict[str, Any]] | None) -> list[str]:
    """Apply the description to the bucket, prove that no change remains, and return the changing calls."""
    described = Resource("s3_bucket", "bronze", {"name": "lake", "tls_only": False, "intelligent_tiering": tierings})
    wire = Wire(Scripted(script(store)))
    report = execute(propose(STACK, [S3Bucket(session(wire))], [described]))
    assert report.complete, report
    again = propose(STACK, [S3Bucket(session(Wire(Scripted(script(store)))))], [described])
    assert not again.plan.changed, text(again.plan)
    return [call.operation for call in wire.mutating]


def test_intelligent_tiering_is_written_read_over_pages_and_removed() -> None:
    store, put = Store(), "PutBucketIntelligentTieringConfiguration"
    archive = {"days": 90, "access_tier": "ARCHIVE_ACCESS"}
    raw = {"id": "raw", "filter": {"prefix": "raw/", "tags": {"a": "b"}}, "tierings": [*DEEP, archive]}
    rest = {"id": "rest", "status": "Disabled", "filter": {"tags": {"a": "c"}}, "tierings": DEEP}
    assert apply_tiering(store, [raw, rest, {"id": "whole", "tierings": [archive]}]) == [put, put, put]
    assert store.tierings["raw"]["Filter"] == {"And": {"Prefix": "raw/", "Tags": [{"Key": "a", "Value": "b"}]}}
    assert store.tierings["rest"]["Filter"] == {"Tag": {"Key": "a", "Value": "c"}}
    assert "Filter" not in store.tierings["whole"]
    assert apply_tiering(store, [raw]) == [put, *["DeleteBucketIntelligentTieringConfiguration"] * 2]
    assert apply_tiering(store, None) == ["DeleteBucketIntelligentTieringConfiguration"]


def test_what_a_new_bucket_blocks_beside_its_encryption_stays() -> None:
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"},
        "BucketKeyEnabled": False,
        "BlockedEncryptionTypes": {"EncryptionType": ["SSE-C"]},
    }
    state: dict[str, Any] = {"Rules": [rule]}

    def put(**call: Any) -> None:
        state.update(call["ServerSideEncryptionConfiguration"])

    answers = {
        **script(Store()),
        "s3:GetBucketEncryption": lambda **_call: {"ServerSideEncryptionConfiguration": state},
        "s3:PutBucketEncryption": put,
    }
    described = Resource(
        "s3_bucket",
        "bronze",
        {"name": "lake", "tls_only": False, "encryption": {"sse_algorithm": "aws:kms", "kms_key_id": KEY}},
    )
    assert execute(propose(STACK, [S3Bucket(session(Wire(Scripted(answers))))], [described])).complete
    assert state["Rules"][0]["BlockedEncryptionTypes"] == {"EncryptionType": ["SSE-C"]}
    assert state["Rules"][0]["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == KEY


def test_objects_that_cannot_be_deleted_are_named_and_the_bucket_stays() -> None:
    answers = {
        **script(Store()),
        "s3:DeleteBucket": lambda **_call: Answer.error("BucketNotEmpty", status=409),
        "s3:ListObjectVersions": lambda **_call: {"Versions": [{"Key": "a", "VersionId": "1", "IsLatest": True}]},
        "s3:ListMultipartUploads": lambda **_call: {},
        "s3:DeleteObjects": lambda **_call: {
            "Errors": [{"Key": "a", "VersionId": "1", "Code": "AccessDenied", "Message": "is locked"}]
        },
    }
    described = Resource("s3_bucket", "bronze", {"name": "lake", "force_destroy": True}, protect=False)
    proposal = propose(
        STACK, [S3Bucket(session(Wire(Scripted(answers))))], [described], options=Options(state="absent")
    )
    result = execute(proposal).result("s3_bucket.bronze")
    assert result.outcome == "failed"
    assert "1 of 1 objects of the bucket lake cannot be deleted: a: AccessDenied: is locked" in result.message


def test_a_bucket_of_another_account_is_refused_by_the_plan_and_is_nothing_to_destroy() -> None:
    answers: dict[str, Any] = {
        "sts:GetCallerIdentity": lambda: {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root", "UserId": "x"},
        "s3:ListBuckets": lambda **_call: {"Buckets": []},
        "s3:HeadBucket": lambda **_call: Answer.error("403", "Forbidden", 403),
    }
    described = Resource("s3_bucket", "bronze", {"name": "lake"}, adopt=True)
    with pytest.raises(RefusedError, match="lake belongs to another AWS account; use another name"):
        propose(STACK, [S3Bucket(session(Wire(Scripted(answers))))], [described])
    bucket = S3Bucket(session(Wire(Scripted(answers))))
    assert not propose(STACK, [bucket], [described], options=Options(state="absent")).plan.changed
