# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets on the emulators."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds import s3 as s3_module
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import ReadError, RefusedError
from tests.integration.aws.emulator import Emulator
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
TIDY = {
    "id": "tidy",
    "noncurrent_version_expiration": {"noncurrent_days": 30},
    "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
    "expiration": {"expired_object_delete_marker": True},
}
RAW = {
    "id": "raw",
    "filter": {"prefix": "raw/", "tags": {"Layer": "bronze", "Kind": "trades"}},
    "transitions": [
        {"days": 365, "storage_class": "DEEP_ARCHIVE"},
        {"days": 30, "storage_class": "STANDARD_IA"},
        {"days": 90, "storage_class": "GLACIER"},
    ],
    "noncurrent_version_transitions": [{"noncurrent_days": 30, "storage_class": "GLACIER_IR"}],
}
BY_TAG = {
    "id": "by-tag",
    "filter": {"tags": {"Keep": "no"}},
    "expiration": {"date": "2031-01-01"},
    "status": "Disabled",
}

CORS = {"allowed_origins": ["https://page.example"], "allowed_methods": ["GET", "HEAD"]}
CORS_WITH_HEADERS = {
    "allowed_origins": ["https://upload.example", "https://*.upload.example"],
    "allowed_methods": ["PUT"],
    "allowed_headers": ["*"],
    "expose_headers": ["ETag"],
    "max_age_seconds": 600,
}


def name_of(lab: Lab, tier: str = "bronze") -> str:
    return f"lake-{tier}-{lab.emulator.account_id}"


def bucket(lab: Lab, **properties: Any) -> dict[str, dict[str, Any]]:
    return {"s3_bucket.bronze": {"name": name_of(lab), **properties}}


def log_delivery(name: str) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{name}/*",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def reader(account_id: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": {
            "Sid": "Read",
            "Effect": "Allow",
            "Principal": {"AWS": account_id},
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::*/*",
        },
    }


def edit_tags(lab: Lab, name: str, tags: Mapping[str, str], removed: list[str]) -> None:
    client = lab.client("s3")
    found = {tag["Key"]: tag["Value"] for tag in client.get_bucket_tagging(Bucket=name)["TagSet"]}
    edited = {key: value for key, value in {**found, **tags}.items() if key not in removed}
    client.put_bucket_tagging(
        Bucket=name, Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in edited.items()]}
    )


def test_a_bucket_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "s3_bucket.bronze",
        {"name": name_of(lab)},
        {
            "s3_bucket.logs": {
                "name": name_of(lab, "logs"),
                "tls_only": False,
                "policy": log_delivery(name_of(lab, "logs")),
                # moto logs immediately.
                "force_destroy": True,
            }
        },
        changes={
            "versioning": True,
            "suspended": {"versioning": False},
            "versioned again": {"versioning": True},
            "encryption": {"sse_algorithm": "aws:kms", "kms_key_id": KEY, "bucket_key_enabled": True},
            "without bucket key": {
                "encryption": {"sse_algorithm": "aws:kms", "kms_key_id": KEY, "bucket_key_enabled": False}
            },
            "by S3": {"encryption": {"sse_algorithm": "AES256"}},
            "lifecycle_rules": [RAW, TIDY, BY_TAG],
            "one rule": {"lifecycle_rules": [{**TIDY, "status": "Disabled"}]},
            "no rule": {"lifecycle_rules": None},
            "public_access_block": {"block_public_acls": False, "block_public_policy": False},
            "object_ownership": "BucketOwnerPreferred",
            "cors_rules": [CORS_WITH_HEADERS, CORS],
            "another order": {"cors_rules": [CORS, CORS_WITH_HEADERS]},
            "no page": {"cors_rules": None},
            "policy": reader("111122223333"),
            "tls_only": False,
            "neither": {"policy": None},
            "both": {"policy": json.dumps(reader("111122223333")), "tls_only": True},
            "logging": {"target_bucket": "${s3_bucket.logs.name}", "target_prefix": "bronze/"},
            "not logged": {"logging": None},
            "object_lock": {"mode": "GOVERNANCE", "days": 3},
            "longer": {"object_lock": {"mode": "COMPLIANCE", "years": 1}},
            "for each object": {"object_lock": {}},
            "not locked": {"object_lock": None},
        },
        replaces=("not locked",),
        vanish=lambda lab, id_: lab.client("s3").delete_bucket(Bucket=id_),
        edit_tags=edit_tags,
    )


def test_a_bucket_is_made_with_everything_at_once(lab: Lab) -> None:
    described = bucket(
        lab,
        versioning=True,
        encryption={"sse_algorithm": "aws:kms", "kms_key_id": KEY},
        lifecycle_rules=[TIDY, RAW],
        object_lock={"mode": "GOVERNANCE", "days": 1},
        cors_rules=[CORS],
        policy=reader("111122223333"),
        table_prefixes=["tables/"],
        tags={"Layer": "bronze"},
    )
    lab.apply(described)
    lab.assert_unchanged(described)
    encryption = lab.client("s3").get_bucket_encryption(Bucket=name_of(lab))
    assert encryption["ServerSideEncryptionConfiguration"]["Rules"][0]["BucketKeyEnabled"]
    lab.destroy(described)


def test_each_edit_by_hand_is_found(lab: Lab) -> None:
    described = bucket(lab, versioning=True, lifecycle_rules=[TIDY], policy=reader("111122223333"))
    lab.apply(described)
    client, name = lab.client("s3"), name_of(lab)
    edits: dict[str, Callable[[], Any]] = {
        "versioning": lambda: client.put_bucket_versioning(
            Bucket=name, VersioningConfiguration={"Status": "Suspended"}
        ),
        "encryption.sse_algorithm": lambda: client.put_bucket_encryption(
            Bucket=name,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
            },
        ),
        "lifecycle_rules": lambda: client.delete_bucket_lifecycle(Bucket=name),
        "public_access_block.block_public_acls": lambda: client.delete_public_access_block(Bucket=name),
        "object_ownership": lambda: client.put_bucket_ownership_controls(
            Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
        ),
        "cors_rules": lambda: client.put_bucket_cors(
            Bucket=name,
            CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "PUT"]}]},
        ),
        "tls_only": lambda: client.put_bucket_policy(Bucket=name, Policy=json.dumps(reader("111122223333"))),
        "policy": lambda: client.delete_bucket_policy(Bucket=name),
        "tags.Project": lambda: edit_tags(lab, name, {"Project": "other"}, []),
    }
    for path, edit in edits.items():
        edit()
        plan = lab.plan(described)
        assert path in {change.path for change in plan.node("s3_bucket.bronze").changes}, path
        lab.apply(described)
        lab.assert_unchanged(described)


def test_a_statement_that_loosens_tls_only_is_put_right(lab: Lab) -> None:
    described = bucket(lab)
    lab.apply(described)
    client, name = lab.client("s3"), name_of(lab)
    policy = json.loads(client.get_bucket_policy(Bucket=name)["Policy"])
    before = json.loads(json.dumps(policy))
    policy["Statement"][0]["Action"] = "s3:PutObject"
    client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    assert [change.path for change in lab.plan(described).node("s3_bucket.bronze").changes] == ["tls_only"]
    lab.apply(described)
    assert json.loads(client.get_bucket_policy(Bucket=name)["Policy"]) == before


def test_ownership_controls_that_were_deleted_by_hand_are_written_again(lab: Lab) -> None:
    described = bucket(lab)
    lab.apply(described)
    client, name = lab.client("s3"), name_of(lab)
    client.delete_bucket_ownership_controls(Bucket=name)
    (change,) = lab.plan(described).node("s3_bucket.bronze").changes
    assert (change.path, change.before, change.after) == ("object_ownership", "ObjectWriter", "BucketOwnerEnforced")
    lab.apply(described)
    (rule,) = client.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert rule["ObjectOwnership"] == "BucketOwnerEnforced"
    lab.assert_unchanged(described)


def test_reading_makes_ten_calls_for_each_bucket_and_one_listing(lab: Lab) -> None:
    described = {f"s3_bucket.{tier}": {"name": name_of(lab, tier)} for tier in ("bronze", "silver", "gold")}
    lab.apply(described)
    before = len(lab.wire.calls)
    lab.plan(described)
    calls = [call.operation for call in lab.wire.calls[before:] if call.service == "s3"]
    assert calls.count("ListBuckets") == 1
    assert len(calls) == 1 + 3 * 10
    assert "GetBucketLogging" not in calls


def test_pruning_reads_nothing_twice(lab: Lab) -> None:
    described = {f"s3_bucket.{tier}": {"name": name_of(lab, tier)} for tier in ("bronze", "silver")}
    lab.apply(described)
    before = len(lab.wire.calls)
    lab.plan(described, prune=True)
    asked = [
        (call.operation, call.parameters.get("Bucket")) for call in lab.wire.calls[before:] if call.service == "s3"
    ]
    assert len(asked) == len(set(asked))


def test_a_bucket_that_holds_something_is_not_deleted(lab: Lab) -> None:
    described = bucket(lab, versioning=True, tls_only=False)
    lab.apply(described)
    client, name = lab.client("s3"), name_of(lab)
    for key in ("raw/a", "raw/a", "raw/b"):
        client.put_object(Bucket=name, Key=key, Body=b"1")
    client.delete_object(Bucket=name, Key="raw/b")
    with pytest.raises(RefusedError) as caught:
        lab.run(described, state="absent", unprotect=("s3_bucket",))
    assert "1 objects, 2 old versions, 1 delete markers (raw/a, raw/b)" in str(caught.value)
    assert "force_destroy: true" in str(caught.value)
    assert len(client.list_object_versions(Bucket=name)["Versions"]) == 3


def test_force_destroy_deletes_all_versions_and_markers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "_PAGE", 10)
    described = bucket(lab, versioning=True, tls_only=False, force_destroy=True)
    lab.apply(described)
    lab.assert_unchanged(described)
    client, name = lab.client("s3"), name_of(lab)
    for number in range(33):
        client.put_object(Bucket=name, Key=f"raw/{number:02}", Body=b"")
    client.put_object(Bucket=name, Key="raw/00", Body=b"again")
    client.delete_object(Bucket=name, Key="raw/01")
    ran = lab.destroy(described)
    assert ran.mutating.count("s3:DeleteObjects") == 4


def test_force_destroy_of_a_described_bucket_does_not_empty_another_one(lab: Lab) -> None:
    described = bucket(lab, tls_only=False)
    lab.apply(described)
    lab.client("s3").put_object(Bucket=name_of(lab), Key="kept", Body=b"1")
    other = {"s3_bucket.silver": {"name": name_of(lab, "silver"), "force_destroy": True}}
    with pytest.raises(RefusedError, match=r"s3_bucket\.bronze: .* 1 objects \(kept\); name s3_bucket\.bronze in"):
        lab.run(other, prune=True, unprotect=("s3_bucket",))
    assert lab.client("s3").get_object(Bucket=name_of(lab), Key="kept")["Body"].read() == b"1"


# moto returns every bucket to every account.
@pytest.mark.emulators("ministack")
def test_a_bucket_of_another_account_is_refused_by_the_plan(lab: Lab, emulator: Emulator) -> None:
    emulator.server.account().client("s3").create_bucket(
        Bucket=name_of(lab), CreateBucketConfiguration={"LocationConstraint": lab.emulator.region}
    )
    with pytest.raises(RefusedError, match="belongs to another AWS account; use another name"):
        lab.plan(bucket(lab))
    assert not lab.plan(bucket(lab), state="absent").changed


def test_a_bucket_without_tags_is_taken_over_only_when_told(lab: Lab) -> None:
    lab.client("s3").create_bucket(
        Bucket=name_of(lab), CreateBucketConfiguration={"LocationConstraint": lab.emulator.region}
    )
    with pytest.raises(RefusedError, match="adopt: true"):
        lab.plan(bucket(lab))
    lab.apply(bucket(lab), adopt=True)
    lab.assert_unchanged(bucket(lab))


def test_tags_of_others_survive_an_update(lab: Lab) -> None:
    described = bucket(lab)
    lab.apply(described)
    edit_tags(lab, name_of(lab), {"kubernetes.io/cluster/x": "owned"}, [])
    lab.assert_unchanged(described)
    lab.apply(bucket(lab, tags={"Layer": "bronze"}))
    found = lab.client("s3").get_bucket_tagging(Bucket=name_of(lab))["TagSet"]
    assert {"Key": "kubernetes.io/cluster/x", "Value": "owned"} in found


# moto does not return the region of a bucket.
@pytest.mark.emulators("ministack")
def test_a_bucket_in_another_region_is_refused(lab: Lab, emulator: Emulator) -> None:
    lab.apply(bucket(lab))
    there = Lab(Emulator(emulator.server, emulator.account_id, "eu-west-1"))
    with pytest.raises(ReadError, match="is in eu-central-1 and not in eu-west-1"):
        there.plan(bucket(lab))


def test_a_bucket_of_us_east_1_has_no_location_constraint(emulator: Emulator) -> None:
    lab = Lab(Emulator(emulator.server, emulator.account_id, "us-east-1"))
    lab.apply(bucket(lab))
    (created,) = [call for call in lab.wire.calls if call.operation == "CreateBucket"]
    assert "LocationConstraint" not in created.parameters["CreateBucketConfiguration"]
    lab.assert_unchanged(bucket(lab))
    lab.destroy(bucket(lab))


class _Conflicts(Behaviour):
    """S3 is still processing the last change when the next one arrives."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def before(self, call: Call) -> Answer | None:
        if call.service == "s3" and call.is_mutating and call.operation not in self.refused:
            self.refused.add(call.operation)
            return Answer.error("OperationAborted", "A conflicting conditional operation is in progress", 409)
        return None


def test_conflicting_operations_are_repeated(lab: Lab) -> None:
    lab.wire.behaviour = conflicts = _Conflicts()
    described = bucket(lab, versioning=True, lifecycle_rules=[TIDY])
    lab.apply(described)
    assert {"CreateBucket", "PutBucketVersioning", "PutBucketPolicy"} <= conflicts.refused
    lab.assert_unchanged(described)
    lab.destroy(described)


class _Denied(Behaviour):
    """The identity may not read the tags of a bucket."""

    def __init__(self, name: str) -> None:
        self.name = name

    def before(self, call: Call) -> Answer | None:
        if call.operation == "GetBucketTagging" and call.parameters["Bucket"] == self.name:
            return Answer.error("AccessDenied", "is not authorized to perform: s3:GetBucketTagging on it", 403)
        return None


def test_a_bucket_of_others_with_hidden_tags_is_not_pruned_and_does_not_hinder(lab: Lab) -> None:
    lab.client("s3").create_bucket(
        Bucket=name_of(lab, "secret"), CreateBucketConfiguration={"LocationConstraint": lab.emulator.region}
    )
    lab.wire.behaviour = _Denied(name_of(lab, "secret"))
    lab.apply(bucket(lab), prune=True)
    lab.assert_unchanged(bucket(lab), prune=True)


def test_hidden_tags_of_a_described_bucket_are_an_error_that_names_the_action(lab: Lab) -> None:
    lab.apply(bucket(lab))
    lab.wire.behaviour = _Denied(name_of(lab))
    with pytest.raises(ReadError, match="allow s3:GetBucketTagging to the identity"):
        lab.plan(bucket(lab))
