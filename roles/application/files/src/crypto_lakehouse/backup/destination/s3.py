# SPDX-License-Identifier: GPL-3.0-or-later
"""A destination in an S3 bucket, protected by object lock where the bucket has a default retention in COMPLIANCE mode.

Measured on SeaweedFS 4.48: PutObject and UploadPart refuse a wrong SHA-256; PutObject, CompleteMultipartUpload and
CopyObject honour `If-None-Match: *`; CopyObject ignores the default retention and the lock headers, so that a copy is
protected by PutObjectRetention.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from crypto_lakehouse.backup.destination import BLOCK_BYTES, Stored
from crypto_lakehouse.backup.destination.digest import (
    PART_BYTES,
    Digest,
    Hasher,
    decoded,
    digest_of,
    parts,
)
from crypto_lakehouse.backup.destination.requests import AnswerError, Endpoint, Keys, Requests, server_date
from crypto_lakehouse.backup.errors import DestinationError, IntegrityError, RefusedError, SourceChangedError
from crypto_lakehouse.backup.lock import DESTINATION_TTL_S, LOCK_KEY, S3Lock
from crypto_lakehouse.backup.model import Source, is_key, moment, timestamp

log = logging.getLogger("lakehouse.backup")

CREATE_ACTIONS: Final = (
    "s3:PutObject",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:AbortMultipartUpload",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetObjectRetention",
)
"""Actions of the credentials for creation. They cannot delete, shorten a retention or change the lifecycle."""

EXTEND_ACTIONS: Final = ("s3:PutObjectRetention",)
"""Actions for a protection that is longer than the bucket's default; in COMPLIANCE mode they cannot shorten one."""

RESTORE_ACTIONS: Final = (
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectRetention",
    "s3:ListBucket",
    "s3:ListBucketVersions",
)

COPY_LIMIT_BYTES: Final = 5 << 30
"""Size above which S3 refuses CopyObject; larger objects are streamed."""

LIST_PAGE: Final = 1000
"""Versions that one request lists; S3 lists no more."""

Parts = list[dict[str, Any]]
"""The parts of an upload as CompleteMultipartUpload names them."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """Server-side encryption that each new object asks for. algorithm: `AES256`, `aws:kms`, or None for the bucket's.

    kms_key_id: key of `aws:kms`, None for the account's own.
    """

    algorithm: str | None = None
    kms_key_id: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of a request that creates an object."""
        given = {"ServerSideEncryption": self.algorithm, "SSEKMSKeyId": self.kms_key_id}
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class Lock:
    """Object lock of a bucket. default: retention that each new object gets in COMPLIANCE mode, None without one.

    read_at: time of the store's clock when it was read; monotonic: of this machine's, which no adjustment moves.
    """

    enabled: bool
    default: timedelta | None
    read_at: datetime
    monotonic: float

    @property
    def earliest_now(self) -> datetime:
        """The earliest time that the store's clock can show now."""
        return self.read_at + timedelta(seconds=time.monotonic() - self.monotonic)


class S3Destination:
    """A folder of a bucket. Each credential has its own client, and is used for its own actions only."""

    def __init__(
        self,
        endpoint_url: str | None,
        region: str,
        bucket: str,
        prefix: str,
        create: Keys | None,
        *,
        restore: Keys | None = None,
        prune: Keys | None = None,
        ca_bundle: str | None = None,
        encryption: Encryption = Encryption(),
        timeout_s: float = 30.0,
        attempts: int = 4,
    ) -> None:
        self.endpoint = Endpoint(endpoint_url, region, ca_bundle, timeout_s, attempts)
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.name = f"s3://{bucket}/{self.prefix.rstrip('/')}".rstrip("/") + f" at {self.endpoint}"
        self.requests = Requests(self.endpoint, create)
        self._reader = Requests(self.endpoint, restore) if restore else self.requests
        self._pruner = Requests(self.endpoint, prune) if prune else None
        self._encryption = encryption.parameters
        self._lock: Lock | None = None
        self._lock_guard = threading.Lock()

    @property
    def is_locked(self) -> bool:
        """Whether the bucket protects each new object by a default retention in COMPLIANCE mode."""
        return self.lock.default is not None

    @property
    def lock(self) -> Lock:
        """The bucket's object lock, read once."""
        with self._lock_guard:
            if self._lock is None:
                self._lock = self._read_lock()
            return self._lock

    def check(self) -> list[str]:
        """Return the problems that would break a backup, each a sentence with its remedy; nothing is left behind."""
        from crypto_lakehouse.backup.destination import s3_check

        return s3_check.problems(self)

    def warnings(self) -> list[str]:
        """Return weaknesses of the protection that do not break a backup, each with its remedy."""
        from crypto_lakehouse.backup.destination import s3_check

        return s3_check.warnings(self)

    def create(self, key: str, content: Iterator[bytes], size: int, until: datetime) -> Stored:
        """Store a new object in one pass and return it with the SHA-256 of its bytes, which the destination verified.

        Raises:
            IntegrityError: where the key exists with other content, or bytes were damaged on the way.
            DestinationError: where the destination is unreachable, full, or refuses.
        """
        self._full(key)
        if size > PART_BYTES:
            return self._upload(key, content, size, until)
        (body,) = parts(content, size)
        for _attempt in range(self.endpoint.attempts):
            stored = self._put(key, body, until)
            existing = stored or self.find(key)
            if stored is None and existing is not None:
                return self.agreeing(existing, digest_of([body], size), until)
            if existing is not None:
                return existing
        raise DestinationError(f"cannot store {self._label(key)}: another request creates it all the time")

    def match(self, stored: Stored, content: Iterator[bytes], size: int, until: datetime) -> Stored:
        """Return an existing object, with SHA-256 and protection, where a content is its content.

        Raises:
            IntegrityError: where they differ.
        """
        return self.agreeing(stored, digest_of(content, size), until)

    def agreeing(self, stored: Stored, digest: Digest, until: datetime) -> Stored:
        """Return an existing object, with SHA-256 and protection, where it has a digest.

        Raises:
            IntegrityError: where it has another.
        """
        if stored.size == digest.size and self._has(stored, digest):
            return self.extend(replace(stored, sha256=digest.sha256), until)
        raise IntegrityError(
            f"cannot store {self._label(stored.key)}: it exists with other content",
            "Remove it with the credentials for pruning, or set another destination.",
        )

    def copy_from(self, source: Source, key: str, until: datetime) -> Stored | None:
        """Copy an object of the same store without moving its bytes, then read the copy and hash it.

        Returns None where the key exists.

        Raises:
            SourceChangedError: where the source vanished or changed.
        """
        answer = self._copy(source, key)
        if answer is None:
            return None
        version = _version(answer.get("VersionId"))
        stored = Stored(key, source.size, self._hash(key, version), version)
        return self.extend(stored, until)

    def find(self, key: str) -> Stored | None:
        """Return the oldest version of an object with SHA-256 and protection as far as the store knows them."""
        full = self._full(key)
        oldest = next((each for each in self._versions(self.requests, full) if each.key == key), None)
        return oldest and self.stat(key, oldest.version_id)

    def stat(self, key: str, version_id: str | None) -> Stored | None:
        """Return one version of an object, None where it does not exist."""
        parameters = self._object(key, version_id)
        try:
            head = self._reader.call(f"find {self._label(key)}", "head_object", ChecksumMode="ENABLED", **parameters)
        except AnswerError as error:
            if error.is_absent:
                return None
            raise
        sha256 = decoded(head.get("ChecksumSHA256", ""))
        until = head.get("ObjectLockRetainUntilDate")
        compliant = until if head.get("ObjectLockMode") == "COMPLIANCE" else None
        return Stored(key, int(head["ContentLength"]), sha256, version_id, compliant and timestamp(compliant))

    def read(self, key: str, version_id: str | None = None) -> Iterator[bytes]:
        """Return the content in blocks; without a version, that of the oldest one.

        Raises:
            DestinationError: where the object does not exist or cannot be read.
        """
        if version_id is None and (oldest := self.find(key)) is not None:
            version_id = oldest.version_id
        yield from read_object(self._reader, self._label(key), self._object(key, version_id))

    def list(self, prefix: str) -> Iterator[Stored]:
        """Return the objects below a prefix, by key, each in its oldest version."""
        return self._versions(self._reader, self._full(prefix, is_prefix=True))

    def extend(self, stored: Stored, until: datetime) -> Stored:
        """Protect an object at least until a moment; never shortens."""
        if not self.is_locked or _reaches(stored, until):
            return stored
        found = self.stat(stored.key, stored.version_id)
        if found is None:
            raise DestinationError(f"cannot protect {self._label(stored.key)}: it does not exist")
        if not _reaches(found, until):
            self._retain(stored, until)
            found = replace(found, retained_until=timestamp(until))
        return replace(stored, retained_until=found.retained_until)

    def run_lock(self, owner: str, lakehouse: str) -> S3Lock:
        """Return the lock against runs of other lakehouses that write to the same folder of the bucket."""
        return S3Lock(
            self.requests,
            self.bucket,
            f"{self.prefix}{LOCK_KEY}",
            owner,
            DESTINATION_TTL_S,
            lakehouse=lakehouse,
            parameters=self._encryption,
        )

    def delete(self, stored: Stored) -> None:
        """Delete one version of an object with the credentials for pruning.

        Raises:
            RefusedError: without such credentials. DestinationError: where the object is protected.
        """
        if self._pruner is None:
            raise RefusedError(
                f"cannot delete {self._label(stored.key)}: no credentials for pruning",
                "Run it with the credentials for pruning.",
            )
        parameters = self._object(stored.key, stored.version_id)
        self._pruner.call(f"delete {self._label(stored.key)}", "delete_object", **parameters)

    # How objects are created

    def _put(self, key: str, body: bytes, until: datetime) -> Stored | None:
        hasher = Hasher()
        checksum = hasher.part(body)
        sha256 = hasher.digest().sha256
        protection, retained_until = self._protection(until)
        parameters = {"Body": body, "IfNoneMatch": "*", "ChecksumSHA256": checksum, "Metadata": {"sha256": sha256}}
        parameters |= self._encryption
        act = f"store {self._label(key)}"
        answer = self._writing(act, "put_object", len(body), **self._object(key, None), **parameters, **protection)
        if answer is None:
            return None
        stored = Stored(key, len(body), sha256, _version(answer.get("VersionId")), retained_until)
        return self._verified(stored, answer.get("ChecksumSHA256") == checksum)

    def _upload(self, key: str, content: Iterator[bytes], size: int, until: datetime) -> Stored:
        existing = self.find(key)
        if existing is not None:
            return self.agreeing(existing, digest_of(content, size), until)
        protection, retained_until = self._protection(until)
        act, place = f"store {self._label(key)}", self._object(key, None)
        asked = {**place, **protection, **self._encryption, "ChecksumAlgorithm": "SHA256"}
        upload = self._writing(act, "create_multipart_upload", 0, **asked)
        place["UploadId"] = str((upload or {})["UploadId"])
        try:
            digest, done = self._send(act, place, content, size)
            answer = self._writing(
                act, "complete_multipart_upload", 0, **place, IfNoneMatch="*", MultipartUpload={"Parts": done}
            )
        except BaseException:
            self._abort(act, place)
            raise
        if answer is None:
            self._abort(act, place)
            return self._after_conflict(key, digest, until)
        stored = Stored(key, size, digest.sha256, _version(answer.get("VersionId")), retained_until)
        return self._verified(stored, answer.get("ChecksumSHA256") == digest.composite)

    def _send(self, act: str, place: dict[str, Any], content: Iterator[bytes], size: int) -> tuple[Digest, Parts]:
        hasher = Hasher()
        done: Parts = []
        for number, part in enumerate(parts(content, size), 1):
            checksum = hasher.part(part)
            named = {"PartNumber": number, "ChecksumSHA256": checksum}
            answer = self._writing(act, "upload_part", len(part), **place, **named, Body=part)
            done.append({**named, "ETag": (answer or {})["ETag"]})
        return hasher.digest(), done

    def _abort(self, act: str, place: dict[str, Any]) -> None:
        try:
            self.requests.call(act, "abort_multipart_upload", **place)
        except DestinationError as error:
            log.warning("an unfinished upload is left for the bucket's lifecycle: %s", error)

    def _after_conflict(self, key: str, digest: Digest, until: datetime) -> Stored:
        existing = self.find(key)
        if existing is None:
            raise DestinationError(f"cannot store {self._label(key)}: another request interfered", "Run it again.")
        return self.agreeing(existing, digest, until)

    def _writing(self, act: str, operation: str, size: int, **parameters: Any) -> dict[str, Any] | None:
        """Return the answer of a request that writes, None where its precondition did not hold."""
        try:
            return self.requests.call(act, operation, size=size, **parameters)
        except AnswerError as error:
            if error.is_conflict:
                return None
            error.raise_damage()
            if error.is_denied and "ObjectLockMode" in parameters:
                raise self._too_short(act) from error
            raise

    def _verified(self, stored: Stored, verified: bool) -> Stored:
        # A store that ignores checksums does not return them: then the object itself is read.
        if verified or self._hash(stored.key, stored.version_id) == stored.sha256:
            return stored
        raise IntegrityError(
            f"cannot store {self._label(stored.key)}: the destination holds other bytes than it was sent",
            "Check the destination; run the backup again.",
        )

    def _copy(self, source: Source, key: str) -> dict[str, Any] | None:
        named = {"Bucket": source.bucket, "Key": source.key}
        named |= {"VersionId": source.version_id} if source.version_id else {}
        parameters: dict[str, Any] = {"CopySource": named, "IfNoneMatch": "*", **self._encryption}
        parameters |= {"CopySourceIfMatch": source.etag} if source.etag else {}
        act = f"copy {source.uri} to {self._label(key)}"
        try:
            return self.requests.call(act, "copy_object", size=source.size, **self._object(key, None), **parameters)
        except AnswerError as error:
            if error.is_conflict and self.find(key) is not None:
                return None
            if error.is_conflict or error.is_absent:
                raise SourceChangedError(f"cannot copy {source.uri}: it changed or was deleted") from None
            raise

    # Protection

    def _read_lock(self) -> Lock:
        act = f"read the object lock of bucket {self.bucket}"
        try:
            answer = self.requests.call(act, "get_object_lock_configuration", Bucket=self.bucket)
        except AnswerError as error:
            if error.code in ("ObjectLockConfigurationNotFoundError", "NotImplemented"):
                return Lock(False, None, error.date or datetime.now(UTC), time.monotonic())
            raise
        found = answer.get("ObjectLockConfiguration", {})
        rule = found.get("Rule", {}).get("DefaultRetention", {})
        days = int(rule.get("Days") or 0) + 365 * int(rule.get("Years") or 0)
        compliant = rule.get("Mode") == "COMPLIANCE" and days > 0
        return Lock(
            found.get("ObjectLockEnabled") == "Enabled",
            timedelta(days=days) if compliant else None,
            server_date(answer) or datetime.now(UTC),
            time.monotonic(),
        )

    def _protection(self, until: datetime) -> tuple[dict[str, Any], str | None]:
        """Return the parameters that protect a new object, and the end of its protection."""
        default = self.lock.default
        if default is None:
            return {}, None
        by_default = self.lock.earliest_now + default
        if by_default >= until:
            return {}, timestamp(by_default)
        return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}, timestamp(until)

    def _retain(self, stored: Stored, until: datetime) -> None:
        act = f"protect {self._label(stored.key)}"
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
        place = self._object(stored.key, stored.version_id)
        try:
            self.requests.call(act, "put_object_retention", **place, Retention=retention)
        except AnswerError as error:
            raise self._too_short(act) if error.is_denied else error from error

    def _too_short(self, act: str) -> DestinationError:
        days = self.lock.default.days if self.lock.default else 0
        return DestinationError(
            f"cannot {act}: the set outlives the bucket's default retention of {days} days, and access is denied",
            f"Raise the default retention of bucket {self.bucket}, or grant {EXTEND_ACTIONS[0]}.",
        )

    # Reading

    def _has(self, stored: Stored, digest: Digest) -> bool:
        if stored.sha256:
            return stored.sha256 == digest.sha256
        head = self._reader.call(
            f"find {self._label(stored.key)}",
            "head_object",
            ChecksumMode="ENABLED",
            **self._object(stored.key, stored.version_id),
        )
        checksum = head.get("ChecksumSHA256", "")
        whole = decoded(checksum) or self._whole(stored, checksum, digest)
        return whole == digest.sha256

    def _whole(self, stored: Stored, checksum: str, digest: Digest) -> str:
        # Of an upload in parts the store knows the checksum of the checksums only.
        return digest.sha256 if checksum == digest.composite else self._hash(stored.key, stored.version_id)

    def _hash(self, key: str, version_id: str | None) -> str:
        hashed = hashlib.sha256()
        for block in read_object(self.requests, self._label(key), self._object(key, version_id)):
            hashed.update(block)
        return hashed.hexdigest()

    def _versions(self, requests: Requests, prefix: str) -> Iterator[Stored]:
        """Return the oldest version of each object: S3 lists the versions of a key from the newest to the oldest."""
        current: Stored | None = None
        for found in self._pages(requests, prefix):
            if current is not None and current.key != found.key:
                yield current
            current = found
        if current is not None:
            yield current

    def _pages(self, requests: Requests, prefix: str) -> Iterator[Stored]:
        act = f"list {self._label(prefix.removeprefix(self.prefix))}"
        marker: dict[str, Any] = {"MaxKeys": LIST_PAGE}
        while True:
            page = requests.call(act, "list_object_versions", Bucket=self.bucket, Prefix=prefix, **marker)
            for each in page.get("Versions", ()):
                key = str(each["Key"]).removeprefix(self.prefix)
                yield Stored(key, int(each["Size"]), version_id=_version(each.get("VersionId")))
            if not page.get("IsTruncated"):
                return
            marker |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}

    # Names

    def _full(self, key: str, *, is_prefix: bool = False) -> str:
        if not is_key(key.rstrip("/") if is_prefix else key) and not (is_prefix and not key):
            raise RefusedError(f"cannot use the key {key!r}: it leaves the destination's root")
        return f"{self.prefix}{key}"

    def _object(self, key: str, version_id: str | None) -> dict[str, Any]:
        place = {"Bucket": self.bucket, "Key": self._full(key)}
        return {**place, "VersionId": version_id} if version_id else place

    def _label(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"


def read_object(requests: Requests, label: str, place: dict[str, Any], offset: int = 0) -> Iterator[bytes]:
    """Return the content of an object in blocks; a connection that breaks is opened again where it broke.

    Raises:
        AnswerError: where the object does not exist. DestinationError: where it cannot be read.
    """
    endpoint, failures = requests.endpoint, 0
    while True:
        span: dict[str, Any] = {"Range": f"bytes={offset}-"} if offset else {}
        answer = requests.call(f"read {label}", "get_object", **place, **span)
        end = offset + int(answer["ContentLength"])
        body = answer["Body"]
        try:
            while offset < end:
                block = requests.within(f"read {label}", partial(body.read, BLOCK_BYTES), endpoint.deadline_s())
                if not block:
                    raise DestinationError(f"cannot read {label}: {end - offset} bytes are missing")
                offset += len(block)
                failures = 0
                yield block
            return
        except DestinationError:
            failures += 1
            if failures >= endpoint.attempts:
                raise
            time.sleep(0.1 * 2**failures)
        finally:
            with suppress(Exception):
                body.close()


def _reaches(stored: Stored, until: datetime) -> bool:
    # Documents have whole seconds.
    return stored.retained_until is not None and moment(stored.retained_until) >= until.replace(microsecond=0)


def _version(version_id: str | None) -> str | None:
    return None if version_id in (None, "", "null") else version_id
