# SPDX-License-Identifier: GPL-3.0-or-later
"""The S3 destination of backups on SeaweedFS: creation, protection, stolen credentials, network faults, checks."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import backup_store
import pytest
import services
from backup_store import after, blocks
from proxy import Faults, proxy

from crypto_lakehouse.backup.destination import Stored, s3
from crypto_lakehouse.backup.destination.digest import MAX_PARTS, PART_BYTES, digest_of, part_bytes
from crypto_lakehouse.backup.destination.requests import AnswerError, Endpoint
from crypto_lakehouse.backup.destination.s3 import Encryption, S3Destination
from crypto_lakehouse.backup.destination.s3_check import harms
from crypto_lakehouse.backup.errors import (
    BackupError,
    DestinationError,
    IntegrityError,
    RefusedError,
    SourceChangedError,
)
from crypto_lakehouse.backup.model import Source, moment

CONTENT = b"0123456789" * 1000


@pytest.fixture(scope="module")
def locked(object_store: services.ObjectStore) -> str:
    """Return a bucket whose objects are protected for one day."""
    return backup_store.new_bucket(object_store, locked_days=1)


@pytest.fixture
def destination(object_store: services.ObjectStore, locked: str) -> S3Destination:
    """Return an empty destination with object lock."""
    return backup_store.destination(object_store, locked)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1])
def test_content_is_created_found_read_and_protected(destination: S3Destination, size: int) -> None:
    content = os.urandom(size)
    stored = destination.create("objects/aa/one", blocks(content), size, after(hours=1))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    again = destination.create("objects/aa/one", blocks(content, 777_777), size, after(hours=1))
    found = destination.find("objects/aa/one")
    assert found is not None
    assert again.version_id == stored.version_id == found.version_id
    assert b"".join(destination.read("objects/aa/one")) == content
    assert [(each.key, each.size, each.version_id) for each in destination.list("objects/")] == [
        ("objects/aa/one", size, stored.version_id)
    ]
    assert moment(str(found.retained_until)) >= moment(str(stored.retained_until)) > after(hours=23)


def test_a_digest_of_an_upload_is_that_of_the_store(destination: S3Destination) -> None:
    content = os.urandom(PART_BYTES + 10)
    stored = destination.create("objects/aa/large", blocks(content), len(content), after(hours=1))
    place = {"Bucket": destination.bucket, "Key": f"{destination.prefix}objects/aa/large"}
    head = destination.requests.client.head_object(**place, ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == digest_of(blocks(content, 12_345), len(content)).composite
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    with pytest.raises(IntegrityError, match="exists with other content"):
        destination.create("objects/aa/large", blocks(content[::-1]), len(content), after(hours=1))
    uploads = backup_store.client_uploads(destination)
    assert uploads == []


@pytest.mark.parametrize("size", [len(CONTENT), PART_BYTES + 1])
def test_objects_are_encrypted_by_the_store_where_that_is_asked(
    object_store: services.ObjectStore, locked: str, size: int
) -> None:
    content = os.urandom(size)
    destination = backup_store.destination(object_store, locked, encryption=Encryption("AES256"))
    destination.create("objects/aa/x", blocks(content), size, after(hours=1))
    source = Source(locked, f"{destination.prefix}objects/aa/x", size)
    assert destination.copy_from(source, "objects/aa/y", after(hours=1)) is not None
    for key in ("objects/aa/x", "objects/aa/y"):
        place = {"Bucket": destination.bucket, "Key": destination.prefix + key}
        assert destination.requests.client.head_object(**place)["ServerSideEncryption"] == "AES256", key
        assert b"".join(destination.read(key)) == content


def test_a_key_is_named_only_where_there_is_one() -> None:
    assert Encryption().parameters == {}
    assert Encryption("aws:kms").parameters == {"ServerSideEncryption": "aws:kms"}
    named = Encryption("aws:kms", "alias/backups").parameters
    assert named == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/backups"}


@pytest.mark.parametrize("size", [PART_BYTES + 1, 5 << 30, (5 << 30) + 1, MAX_PARTS * PART_BYTES + 1, 5 << 40])
def test_parts_of_any_size_fit_the_limits_of_s3(size: int) -> None:
    assert -(-size // part_bytes(size)) <= MAX_PARTS
    assert PART_BYTES <= part_bytes(size) <= 5 << 30


def test_other_content_and_wrong_sizes_are_refused(destination: S3Destination) -> None:
    destination.create("sets/a", blocks(CONTENT), len(CONTENT), after(hours=1))
    with pytest.raises(IntegrityError, match="it exists with other content"):
        destination.create("sets/a", blocks(CONTENT[::-1]), len(CONTENT), after(hours=1))
    for size in (len(CONTENT) - 1, len(CONTENT) + 1, PART_BYTES + 1):
        with pytest.raises(IntegrityError, match="were announced"):
            destination.create("sets/b", blocks(CONTENT), size, after(hours=1))
    assert destination.find("sets/b") is None
    assert backup_store.client_uploads(destination) == []


@pytest.mark.parametrize("key", ["", "../x", "a/../b", "/a", "a//b", "a/", "a\0b", "a\\b"])
def test_keys_outside_the_root_are_refused(destination: S3Destination, key: str) -> None:
    with pytest.raises(RefusedError, match="leaves the destination's root"):
        destination.create(key, blocks(CONTENT), len(CONTENT), after(hours=1))


@pytest.mark.parametrize("size", [len(CONTENT), PART_BYTES + 1])
def test_bytes_that_are_damaged_on_the_way_are_refused(
    object_store: services.ObjectStore, locked: str, size: int
) -> None:
    content = b"A" * size
    with proxy(object_store.endpoint) as faults:
        destination = backup_store.destination(object_store, locked, endpoint_url=faults.url, attempts=1)
        assert destination.is_locked
        faults.request = lambda block: block.replace(b"A" * 500, b"A" * 499 + b"B")
        with pytest.raises(BackupError, match=r"cannot store .*: "):
            destination.create("objects/aa/x", blocks(content), size, after(hours=1))
        faults.request = None
        assert destination.find("objects/aa/x") is None


def test_a_wrong_checksum_is_refused_by_the_store(destination: S3Destination) -> None:
    wrong = digest_of(blocks(b"other"), 5)
    with pytest.raises(DestinationError, match="damaged on the way"):
        destination.requests.call(
            "store it",
            "put_object",
            Bucket=destination.bucket,
            Key=f"{destination.prefix}wrong",
            Body=b"these",
            ChecksumSHA256=wrong.composite.partition("-")[0],
        )
    assert destination.find("wrong") is None


def _attacks(destination: S3Destination, key: str, version: str) -> dict[str, Callable[[Any], Any]]:
    place = {"Bucket": destination.bucket, "Key": destination.prefix + key}
    bucket = {"Bucket": destination.bucket}
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    soon = {"Mode": "COMPLIANCE", "RetainUntilDate": after(seconds=5)}
    return {
        "delete": lambda s3: s3.delete_object(**place),
        "delete version": lambda s3: s3.delete_object(**place, VersionId=version),
        "bypass": lambda s3: s3.delete_object(**place, VersionId=version, BypassGovernanceRetention=True),
        "shorten": lambda s3: s3.put_object_retention(**place, VersionId=version, Retention=soon),
        "governance": lambda s3: s3.put_object_retention(
            **place, VersionId=version, Retention={**soon, "Mode": "GOVERNANCE"}
        ),
        "lifecycle": lambda s3: s3.put_bucket_lifecycle_configuration(
            **bucket, LifecycleConfiguration={"Rules": [rule]}
        ),
        "default": lambda s3: s3.put_object_lock_configuration(
            **bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        ),
        "versioning": lambda s3: s3.put_bucket_versioning(**bucket, VersioningConfiguration={"Status": "Suspended"}),
        "policy": lambda s3: s3.put_bucket_policy(**bucket, Policy='{"Version":"2012-10-17","Statement":[]}'),
        "bucket": lambda s3: s3.delete_bucket(**bucket),
    }


@pytest.mark.parametrize("identity", ["backup-create", "backup-extend", "backup-restore"])
def test_stolen_credentials_cannot_destroy_an_object(
    object_store: services.ObjectStore, destination: S3Destination, identity: str
) -> None:
    from botocore.exceptions import ClientError

    stored = destination.create("sets/x/manifest.json", blocks(CONTENT), len(CONTENT), after(hours=1))
    thief = backup_store.client(object_store, identity)
    for name, attack in _attacks(destination, stored.key, str(stored.version_id)).items():
        with pytest.raises(ClientError) as caught:
            attack(thief)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403, name
    place = {"Bucket": destination.bucket, "Key": destination.prefix + stored.key}
    answer = thief.delete_objects(Bucket=destination.bucket, Delete={"Objects": [{"Key": place["Key"]}]})
    assert [each["Code"] for each in answer["Errors"]] == ["AccessDenied"]
    if identity != "backup-restore":
        thief.put_object(**place, Body=b"forged")
    assert destination.find(stored.key) == destination.stat(stored.key, stored.version_id)
    assert b"".join(destination.read(stored.key)) == CONTENT


def test_an_object_behind_a_delete_marker_is_found_by_its_oldest_version(
    object_store: services.ObjectStore, destination: S3Destination
) -> None:
    stored = destination.create("sets/y/manifest.json", blocks(CONTENT), len(CONTENT), after(hours=1))
    admin = backup_store.client(object_store)
    admin.put_object(Bucket=destination.bucket, Key=destination.prefix + stored.key, Body=b"forged")
    admin.delete_object(Bucket=destination.bucket, Key=destination.prefix + stored.key)
    found = destination.find(stored.key)
    assert found is not None
    assert found.version_id == stored.version_id
    assert [each.version_id for each in destination.list("sets/")] == [stored.version_id]
    assert b"".join(destination.read(stored.key)) == CONTENT
    again = destination.create(stored.key, blocks(CONTENT), len(CONTENT), after(hours=1))
    assert b"".join(destination.read(again.key, again.version_id)) == CONTENT


@pytest.mark.parametrize("page", [1, 7, 1000])
def test_a_list_of_many_pages_has_each_object_once(
    object_store: services.ObjectStore, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(s3, "LIST_PAGE", page)
    destination = backup_store.destination(object_store, backup_store.new_bucket(object_store))
    names = [f"objects/{number % 4:02d}/{number:064d}" for number in range(12)]
    names += [f"sets/2026010{number}T000000Z-abcdef/{name}" for number in range(3) for name in ("a.json", "b.gz")]
    oldest = {name: destination.create(name, blocks(b"x"), 1, after(hours=1)).version_id for name in names}
    for name in names[::3]:
        destination.requests.client.put_object(Bucket=destination.bucket, Key=destination.prefix + name, Body=b"yy")
    assert [(each.key, each.version_id) for each in destination.list("")] == sorted(oldest.items())
    assert [each.key for each in destination.list("objects/02/")] == sorted(names[2:12:4])


def test_a_protection_beyond_the_default_needs_its_right(
    object_store: services.ObjectStore, locked: str, destination: S3Destination
) -> None:
    with pytest.raises(DestinationError, match="outlives the bucket's default retention of 1 days") as caught:
        destination.create("objects/aa/long", blocks(CONTENT), len(CONTENT), after(days=3))
    assert "s3:PutObjectRetention" in caught.value.remedy
    for size in (len(CONTENT), PART_BYTES + 1):
        other = backup_store.destination(object_store, locked, "backup-extend")
        stored = other.create("objects/aa/long", blocks(b"x" * size), size, after(days=3))
        found = other.find("objects/aa/long")
        assert found is not None
        assert stored.retained_until == found.retained_until
        assert moment(str(found.retained_until)) > after(days=2, hours=23)


def test_a_protection_is_extended_only_when_it_ends_too_early(object_store: services.ObjectStore, locked: str) -> None:
    destination = backup_store.destination(object_store, locked, "backup-extend")
    stored = destination.create("objects/aa/old", blocks(CONTENT), len(CONTENT), after(hours=1))
    assert destination.extend(stored, after(hours=2)) == stored
    until = after(days=2)
    extended = destination.extend(stored, until)
    assert moment(str(extended.retained_until)) == until.replace(microsecond=0)
    assert destination.stat(stored.key, stored.version_id) == extended
    assert destination.extend(extended, after(days=1)) == extended
    with pytest.raises(DestinationError, match=r"outlives .* access is denied"):
        backup_store.destination(object_store, locked, prefix=destination.prefix).extend(extended, after(days=9))


def test_objects_leave_with_the_credentials_for_pruning_when_their_protection_ended(
    object_store: services.ObjectStore, locked: str
) -> None:
    prune = backup_store.keys(object_store, "backup-prune")
    destination = backup_store.destination(object_store, locked, "backup-extend", prune=prune)
    stored = destination.create("objects/aa/young", blocks(CONTENT), len(CONTENT), after(hours=1))
    with pytest.raises(DestinationError, match="access is denied"):
        destination.delete(stored)
    with pytest.raises(RefusedError, match="no credentials for pruning"):
        backup_store.destination(object_store, locked).delete(stored)
    answer = backup_store.client(object_store).put_object(
        Bucket=locked,
        Key=f"{destination.prefix}objects/aa/expired",
        Body=b"x",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=after(seconds=1),
    )
    expired = destination.stat("objects/aa/expired", answer["VersionId"])
    assert expired is not None
    services.wait_until(lambda: _deleted(destination, expired), "the end of the protection", 60)
    assert destination.find("objects/aa/expired") is None


def _deleted(destination: S3Destination, stored: Stored) -> bool:
    destination.delete(stored)
    return True


def test_copies_in_one_store_are_hashed_and_protected(
    object_store: services.ObjectStore, locked: str, destination: S3Destination
) -> None:
    admin = backup_store.client(object_store)
    bucket = backup_store.new_bucket(object_store)
    put = admin.put_object(Bucket=bucket, Key="raw/a b+ü", Body=CONTENT)
    source = Source(bucket, "raw/a b+ü", len(CONTENT), put["ETag"], put["VersionId"])
    extending = backup_store.destination(object_store, locked, "backup-extend")
    copy = extending.copy_from(source, "objects/aa/copy", after(hours=1))
    assert copy is not None
    assert copy.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert extending.find("objects/aa/copy") is not None
    assert moment(str(copy.retained_until)) > after(minutes=50)
    assert extending.copy_from(source, "objects/aa/copy", after(hours=1)) is None
    for changed in (
        Source(bucket, source.key, source.size, '"00"'),
        Source(bucket, "raw/none", source.size, put["ETag"]),
    ):
        with pytest.raises(SourceChangedError, match=r"cannot copy s3://.*changed or was deleted"):
            extending.copy_from(changed, "objects/aa/other", after(hours=1))
    with pytest.raises(DestinationError, match=r"access is denied"):
        destination.copy_from(source, "objects/aa/denied", after(hours=1))


def test_broken_connections_are_survived(object_store: services.ObjectStore, locked: str) -> None:
    content = os.urandom(3 << 20)
    with proxy(object_store.endpoint) as faults:
        destination = backup_store.destination(object_store, locked, "backup-extend", endpoint_url=faults.url)
        assert destination.is_locked
        faults.drop_after, faults.drops = 1, 2
        stored = destination.create("objects/aa/x", blocks(content), len(content), after(hours=1))
        faults.drop_after, faults.drops = 1 << 20, 2
        assert b"".join(destination.read("objects/aa/x", stored.version_id)) == content
        assert faults.drops < 0
        assert [each.version_id for each in destination.list("objects/")] == [stored.version_id]


def _too_slow(faults: Faults) -> None:
    faults.delay_s = 30.0


def _refusing(faults: Faults) -> None:
    faults.refuse = True


@pytest.mark.parametrize("fault", [_too_slow, _refusing])
@pytest.mark.parametrize("act", ["create", "upload", "read", "find"])
def test_a_store_that_does_not_answer_ends_the_request(
    object_store: services.ObjectStore, locked: str, fault: Callable[[Faults], None], act: str
) -> None:
    with proxy(object_store.endpoint) as faults:
        destination = backup_store.destination(object_store, locked, endpoint_url=faults.url, attempts=2)
        assert destination.is_locked
        destination = backup_store.destination(object_store, locked, endpoint_url=faults.url, attempts=1, timeout_s=0.3)
        destination._lock = backup_store.destination(object_store, locked).lock
        fault(faults)
        acts: dict[str, Callable[[], Any]] = {
            "create": lambda: destination.create("a", blocks(CONTENT), len(CONTENT), after(hours=1)),
            "upload": lambda: destination.create("a", blocks(b"x" * (PART_BYTES + 1)), PART_BYTES + 1, after(hours=1)),
            "read": lambda: list(destination.read("a", "0" * 32)),
            "find": lambda: destination.find("a"),
        }
        begin = time.monotonic()
        with pytest.raises(DestinationError, match="unreachable or too slow") as caught:
            acts[act]()
        assert time.monotonic() - begin < 20
        assert "network" in caught.value.remedy


def test_an_answer_that_arrives_byte_by_byte_is_given_up(object_store: services.ObjectStore, locked: str) -> None:
    with proxy(object_store.endpoint) as faults:
        options: dict[str, Any] = {"endpoint_url": faults.url, "attempts": 1, "timeout_s": 1.0}
        destination = backup_store.destination(object_store, locked, **options)
        slow = backup_store.destination(object_store, locked, prefix=destination.prefix)
        stored = slow.create("objects/aa/x", blocks(CONTENT), len(CONTENT), after(hours=1))
        faults.drip_s = 0.02
        begin = time.monotonic()
        # Each byte arrives long before the socket's timeout.
        with pytest.raises(DestinationError, match="no answer within 4 s"):
            list(destination.read("objects/aa/x", stored.version_id))
        assert time.monotonic() - begin < 30


def test_a_good_destination_has_no_problems(destination: S3Destination) -> None:
    assert (destination.check(), destination.warnings()) == ([], [])
    assert list(destination.list("")) == []


def test_problems_are_found_before_a_backup(object_store: services.ObjectStore) -> None:
    plain = backup_store.new_bucket(object_store, versions=False)
    admin = backup_store.client(object_store)
    rules = [
        {
            "ID": "fine",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
        {
            "ID": "worn",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        },
    ]
    admin.put_bucket_lifecycle_configuration(Bucket=plain, LifecycleConfiguration={"Rules": rules})
    found = backup_store.destination(object_store, plain, "admin")
    versioning, lifecycle = found.check()
    assert "keeps no versions" in versioning
    assert f"Lifecycle rule worn of bucket {plain} expires noncurrent versions" in lifecycle
    lock, deletes = found.warnings()
    assert "no object lock" in lock
    assert "may delete" in deletes
    assert len(backup_store.destination(object_store, plain).warnings()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bucket": "backup-none"}, "the bucket does not exist"),
        ({"bucket": "other"}, "access is denied"),
        ({"identity": "backup-prune"}, "access is denied"),
        ({"endpoint_url": "http://127.0.0.1:1", "attempts": 1}, "unreachable"),
    ],
)
def test_a_destination_that_cannot_be_used_is_one_problem(
    object_store: services.ObjectStore, locked: str, options: dict[str, Any], words: str
) -> None:
    (problem,) = backup_store.destination(object_store, **{"bucket": locked, **options}).check()
    assert words in problem


def test_a_clock_that_differs_is_a_problem(object_store: services.ObjectStore, locked: str) -> None:
    this_year = f"{after():%Y} ".encode()
    with proxy(object_store.endpoint) as faults:
        destination = backup_store.destination(object_store, locked, endpoint_url=faults.url)
        faults.response = lambda block: block.replace(this_year, b"2001 ")
        problems = destination.check()
    assert any("differ by" in each and "hours" in each for each in problems)


_DAYS = {"Days": 1}


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ({"Filter": {"Prefix": ""}, "Expiration": _DAYS}, 1),
        ({"Prefix": "dev/", "Expiration": {"Date": "2030-01-01"}}, 1),
        ({"Filter": {"Prefix": "d"}, "Transitions": [{**_DAYS, "StorageClass": "GLACIER"}]}, 1),
        ({"Filter": {"Prefix": "dev/sets/"}, "NoncurrentVersionExpiration": _DAYS, "Expiration": _DAYS}, 2),
        ({"Filter": {"And": {"Prefix": "dev/", "Tags": []}}, "NoncurrentVersionTransitions": [_DAYS]}, 1),
        ({"Expiration": _DAYS}, 1),
        ({"Filter": {"Prefix": "other/"}, "Expiration": _DAYS}, 0),
        ({"Filter": {"Prefix": ""}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, 0),
        ({"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}, 0),
        ({"Filter": {"Prefix": ""}, "Expiration": _DAYS, "Status": "Disabled"}, 0),
    ],
)
def test_lifecycle_rules_are_judged_by_what_they_do_below_the_prefix(rule: dict[str, Any], count: int) -> None:
    assert len(harms({"Status": "Enabled", **rule}, "dev/")) == count


@pytest.mark.parametrize(
    ("code", "status", "words", "transient"),
    [
        ("NoSuchBucket", 404, "the bucket does not exist", False),
        ("InvalidAccessKeyId", 403, "the credentials are refused", False),
        ("ExpiredToken", 400, "the credentials are refused", False),
        ("RequestTimeTooSkewed", 403, "the clocks differ", False),
        ("QuotaExceeded", 403, "the store is full", False),
        ("InsufficientStorage", 507, "the store is full", True),
        # SeaweedFS gives this answer when its disk is full.
        ("InternalError", 500, "fails, is full or is overloaded", True),
        ("SlowDown", 503, "fails, is full or is overloaded", True),
        ("TooManyRequests", 429, "fails, is full or is overloaded", True),
        ("AccessDenied", 403, "access is denied", False),
        ("MethodNotAllowed", 405, "refuses the request", False),
        ("", 403, "access is denied", False),
    ],
)
def test_answers_have_a_cause_and_may_be_transient(code: str, status: int, words: str, transient: bool) -> None:
    answer = {"Error": {"Code": code, "Message": "Text."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = AnswerError.of("store s3://b/k", Endpoint("http://store:1", "r"), answer)
    assert error.message.startswith("cannot store s3://b/k: ")
    assert words in error.message
    assert error.message.endswith(f"(http://store:1: {code or status}: Text)")
    assert (error.transient, error.code) == (transient, code)


def test_a_default_retention_of_years_counts_from_the_clock_of_the_store(
    object_store: services.ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = backup_store.new_bucket(object_store, locked_days=1)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 1}}
    backup_store.client(object_store).put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    destination = backup_store.destination(object_store, bucket)
    assert destination.lock.default == timedelta(days=365)
    monkeypatch.setattr(s3, "datetime", None)
    stored = destination.create("a", blocks(CONTENT), len(CONTENT), after(days=300))
    found = destination.find("a")
    assert found is not None
    assert timedelta() <= moment(str(found.retained_until)) - moment(str(stored.retained_until)) < timedelta(minutes=5)


def test_keys_are_never_printed(object_store: services.ObjectStore, locked: str) -> None:
    keys = backup_store.keys(object_store, "backup-create")
    assert keys.secret_key not in repr(keys)
    assert keys.access_key not in repr(keys)
    assert timedelta() < backup_store.destination(object_store, locked).lock.default  # type: ignore[operator]
