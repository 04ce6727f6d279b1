# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw objects are restored in the state of the pin, as new versions, and a plan lists the changes beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest
import services

from crypto_lakehouse.backup.errors import IntegrityError, RefusedError
from crypto_lakehouse.backup.lake.pins import pin_raw
from crypto_lakehouse.backup.lake.plan import Change, Plan, Present, must_read, plan_object, plan_table
from crypto_lakehouse.backup.lake.raw_restore import RawRestorer
from crypto_lakehouse.backup.model import Artifact, Source, Subject
from crypto_lakehouse.backup.reader import open_reader
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings


@dataclass
class RawPlace:
    """A bucket of raw objects, and a set of it."""

    settings: Settings
    bucket: str
    contents: dict[str, bytes] = field(default_factory=dict)

    @property
    def client(self) -> Any:
        return s3_client(self.settings)

    def put(self, key: str, body: bytes, **more: Any) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **more)

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def take(self) -> list[Artifact]:
        read = open_reader(self.settings)
        artifacts = []
        for item in pin_raw(self.settings).items:
            key = f"objects/{item.source.identity}"
            self.contents[key] = b"".join(read(item.source))
            digest = hashlib.sha256(self.contents[key]).hexdigest()
            artifacts.append(Artifact(key, item.source.size, digest, item.subject, source=item.source))
        return artifacts

    def fetch(self, artifact: Artifact) -> Iterator[bytes]:
        yield self.contents[artifact.key]

    @property
    def restorer(self) -> RawRestorer:
        return RawRestorer(self.settings, self.fetch)

    def versions(self, key: str) -> list[str]:
        found = self.client.list_object_versions(Bucket=self.bucket, Prefix=key)
        return [each["VersionId"] for each in found.get("Versions", [])]


@pytest.fixture
def place(object_store: services.ObjectStore) -> RawPlace:
    bucket = f"raw-{uuid4().hex[:12]}"
    admin = services.settings_from(object_store.environment("admin"))
    place = RawPlace(admin.model_copy(update={"bronze_bucket": bucket}), bucket)
    place.client.create_bucket(Bucket=bucket)
    place.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return place


def test_what_changed_or_was_deleted_returns_as_a_new_version(place: RawPlace) -> None:
    place.put("raw/same", b"same")
    place.put("raw/changed", b"good", Metadata={"source": "archive"})
    place.put("raw/deleted", b"deleted")
    artifacts = place.take()
    place.put("raw/changed", b"evil")
    place.put("raw/new", b"new")
    place.client.delete_object(Bucket=place.bucket, Key="raw/deleted")
    before = place.versions("raw/same"), place.versions("raw/changed")
    plan = place.restorer.plan(artifacts)
    assert {change.name.rsplit("/", 1)[1]: change.action for change in plan.changes} == {
        "same": "leave",
        "changed": "replace",
        "deleted": "write",
        "new": "leave",
    }
    assert plan.size == 11
    with pytest.raises(RefusedError, match=r"/raw/changed: an object of that name has other content\. Set `lakehouse_"):
        place.restorer.restore(artifacts)
    assert place.get("raw/changed") == b"evil"
    assert place.restorer.restore(artifacts, overwrite=True).plan == plan
    found = {key: place.get(f"raw/{key}") for key in ("same", "changed", "deleted", "new")}
    assert found == {"same": b"same", "changed": b"good", "deleted": b"deleted", "new": b"new"}
    assert place.versions("raw/same") == before[0]
    assert set(before[1]) < set(place.versions("raw/changed"))
    head = place.client.head_object(Bucket=place.bucket, Key="raw/changed")
    assert head["Metadata"] == {"source": "archive"}
    assert place.restorer.plan(artifacts).of("write", "replace") == ()


@pytest.mark.parametrize("key", ["state/lock.json", "raw", "raw/../state/lock.json", "raw/./a"])
def test_an_object_outside_of_the_raw_ones_is_refused_before_any_write(place: RawPlace, key: str) -> None:
    place.put("raw/a", b"good")
    place.put("state/lock.json", b"of another component")
    (artifact,) = place.take()
    place.put("raw/a", b"evil")
    assert artifact.source
    forged = replace(artifact, source=replace(artifact.source, key=key))
    for act in (place.restorer.plan, place.restorer.restore):
        with pytest.raises(IntegrityError, match="does not lie below raw/"):
            act([artifact, forged])
    assert (place.get("raw/a"), place.get("state/lock.json")) == (b"evil", b"of another component")


def test_objects_return_into_an_empty_bucket_with_their_checksum(place: RawPlace) -> None:
    place.put("raw/a ?#ü", b"content")
    (artifact,) = artifacts = place.take()
    other = f"raw-{uuid4().hex[:12]}"
    place.client.create_bucket(Bucket=other)
    empty = RawPlace(place.settings.model_copy(update={"bronze_bucket": other}), other, place.contents)
    assert empty.restorer.plan(artifacts).is_target_empty
    empty.restorer.restore(artifacts)
    assert empty.get("raw/a ?#ü") == b"content"
    head = place.client.head_object(Bucket=other, Key="raw/a ?#ü")
    assert head["Metadata"] == {"sha256": artifact.sha256}


def test_a_damaged_raw_object_is_named_and_not_restored(place: RawPlace) -> None:
    place.put("raw/a", b"content")
    artifacts = place.take()
    place.client.delete_object(Bucket=place.bucket, Key="raw/a")
    place.contents[artifacts[0].key] = b"c0ntent"
    with pytest.raises(IntegrityError, match=rf"cannot restore {artifacts[0].key} \(raw raw\): its content is damaged"):
        place.restorer.restore(artifacts)
    assert [source.key for source in pin_raw(place.settings).sources] == []


def test_a_large_object_is_sent_in_parts(place: RawPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crypto_lakehouse.backup.lake.store.MULTIPART_BYTES", 5 << 20)
    body = bytes(range(256)) * 24_000
    place.put("raw/large", body)
    artifacts = place.take()
    place.client.delete_object(Bucket=place.bucket, Key="raw/large")
    place.restorer.restore(artifacts)
    assert hashlib.sha256(place.get("raw/large")).hexdigest() == artifacts[0].sha256
    # A multipart upload has another ETag, and still counts as the same.
    assert place.client.head_object(Bucket=place.bucket, Key="raw/large")["ETag"].endswith('-2"')
    assert place.restorer.plan(artifacts).of("write", "replace") == ()


def test_objects_in_an_archive_class_are_marked_for_the_mover(place: RawPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [
        {"Key": "raw/cold", "Size": 1, "ETag": '"x"', "StorageClass": "GLACIER"},
        {"Key": "raw/warm", "Size": 1, "ETag": '"y"', "StorageClass": "STANDARD"},
    ]
    monkeypatch.setattr("crypto_lakehouse.backup.lake.pins._newest", lambda *_: iter(listed))
    found = [(source.key, source.storage_class, source.is_archived) for source in pin_raw(place.settings).sources]
    assert found == [("raw/cold", "GLACIER", True), ("raw/warm", "", False)]


SUBJECT = Subject("tables", "data", "gold.t")
SOURCE = Source("b", "k", 3, "etag")
ARTIFACT = Artifact("objects/x", 3, "a" * 64, SUBJECT, source=SOURCE)


@pytest.mark.parametrize(
    ("present", "action", "read"),
    [
        (None, "write", False),
        (Present(3, "etag"), "leave", False),
        (Present(3, "other"), "replace", True),
        (Present(3, ""), "replace", True),
        (Present(3, "other", "a" * 64), "leave", False),
        (Present(3, "other", "b" * 64), "replace", True),
        (Present(4, "etag"), "replace", False),
        (Present(4, "other", "a" * 64), "replace", False),
    ],
)
def test_an_object_is_equal_by_size_and_etag_or_checksum(present: Present | None, action: str, read: bool) -> None:
    assert plan_object("s3://b/k", ARTIFACT, present).action == action
    assert must_read(ARTIFACT, present) is read


SNAPSHOTS = [{"snapshot-id": 1}]
PINNED = {
    "table-uuid": "u",
    "current-snapshot-id": 1,
    "snapshots": SNAPSHOTS,
    "properties": {},
    "metadata-log": [1],
}


@pytest.mark.parametrize(
    ("present", "action", "reason"),
    [
        (None, "write", "the catalog has no such table"),
        ({**PINNED, "metadata-log": []}, "leave", "it is in the state of the set"),
        ({**PINNED, "table-uuid": "v"}, "replace", "another table of that name exists, with UUID v"),
        ({**PINNED, "current-snapshot-id": 2}, "replace", "the table is at snapshot 2, the set at 1"),
        ({**PINNED, "current-snapshot-id": -1}, "replace", "the table is at snapshot none, the set at 1"),
        ({**PINNED, "table-uuid": "v", "snapshots": []}, "write", "the table is empty"),
        ({**PINNED, "properties": {"a": "b"}}, "replace", "the same snapshot and another schema, property or history"),
    ],
)
def test_a_table_is_created_left_alone_or_replaced(present: dict[str, Any] | None, action: str, reason: str) -> None:
    (change,) = plan_table("gold.t", PINNED, present, 7).changes
    assert change.action == action
    assert change.reason.endswith(reason)
    assert change.size == (0 if action == "leave" else 7)


def test_a_plan_names_the_first_of_what_it_would_replace() -> None:
    changes = tuple(Change("replace", "object", name, 1, "it differs") for name in "ab")
    plan = Plan(changes) + Plan((Change("write", "object", "c", 5, "it is missing"),))
    assert (plan.size, plan.needs_overwrite, plan.is_target_empty) == (7, True, False)
    plan.require(overwrite=True)
    with pytest.raises(RefusedError, match="cannot restore a: it differs, like 1 others"):
        plan.require(overwrite=False)
    Plan(plan.of("write")).require(overwrite=False)
