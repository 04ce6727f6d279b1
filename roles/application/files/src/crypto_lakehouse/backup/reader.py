# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the objects of the lakehouse from their store, those in archive classes included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from crypto_lakehouse.backup.destination.requests import AnswerError, Endpoint, Keys, Requests
from crypto_lakehouse.backup.destination.s3 import read_object
from crypto_lakehouse.backup.errors import BackupError, DestinationError, RefusedError, SourceChangedError, SourceError
from crypto_lakehouse.backup.model import Source
from crypto_lakehouse.settings import Settings

RESTORE_DAYS: Final = 7
"""Days for which a restored object can be read."""


def store_requests(settings: Settings) -> Requests:
    """Return the requests to the lakehouse's own store; without keys boto3 finds those of the machine."""
    access_key, secret_key = settings.secret("s3_access_key"), settings.secret("s3_secret_key")
    keys = Keys(access_key, secret_key) if access_key and secret_key else None
    return Requests(Endpoint(settings.s3_endpoint, settings.s3_region), keys)


class S3Reader:
    """Reads exactly the version that a source names: by version id, or on the condition of its ETag.

    A connection that breaks is opened again where it broke, on the same condition.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def __call__(self, source: Source) -> Iterator[bytes]:
        """Return the content of a source in blocks.

        Raises:
            SourceChangedError: where it vanished or changed. SourceError: where it cannot be read.
        """
        passed = 0
        try:
            for block in read_object(self._requests, source.uri, _place(source, condition=True)):
                passed += len(block)
                if passed > source.size:
                    raise _changed(source, f"it has more than {source.size} bytes")
                yield block
        except DestinationError as error:
            raise _source_error(source, error) from None
        if passed != source.size:
            raise _changed(source, f"it has {passed} bytes, and the pin {source.size}")


def open_reader(settings: Settings) -> S3Reader:
    """Return the reader of the lakehouse's own store."""
    return S3Reader(store_requests(settings))


class S3Archive:
    """Restores objects of archive classes, so that they can be read.

    tier: of S3's restore requests. deadline_s: how long an object may take; S3 needs up to 48 hours in `Bulk`.
    """

    def __init__(
        self, requests: Requests, tier: str = "Standard", deadline_s: float = 172_800.0, poll_s: float = 60.0
    ) -> None:
        self._requests = requests
        self._tier = tier
        self._deadline_s = deadline_s
        self._poll_s = poll_s

    def is_readable(self, source: Source) -> bool:
        """Return whether a copy of the object was restored and is still there."""
        try:
            answer = self._requests.call(f"find {source.uri}", "head_object", **_place(source))
        except DestinationError as error:
            raise _source_error(source, error) from None
        return 'ongoing-request="false"' in str(answer.get("Restore", ""))

    def request(self, source: Source) -> None:
        """Request the restore of an object; a request that runs already is kept."""
        days = {"Days": RESTORE_DAYS, "GlacierJobParameters": {"Tier": self._tier}}
        try:
            self._requests.call(f"restore {source.uri}", "restore_object", **_place(source), RestoreRequest=days)
        except DestinationError as error:
            if not (isinstance(error, AnswerError) and error.code == "RestoreAlreadyInProgress"):
                raise _source_error(source, error) from None

    def wait(self, source: Source) -> None:
        """Return when the object can be read.

        Raises:
            SourceError: where the restore takes longer than the deadline.
        """
        deadline = time.monotonic() + self._deadline_s
        while not self.is_readable(source):
            if time.monotonic() > deadline:
                limit = f"{self._deadline_s / 3600:.0f} h"
                raise SourceError(
                    f"cannot copy {source.uri}: its restore from {source.storage_class} takes longer than {limit}",
                    "Run the backup again when the restore is complete.",
                )
            time.sleep(self._poll_s)


def _place(source: Source, *, condition: bool = False) -> dict[str, Any]:
    place: dict[str, Any] = {"Bucket": source.bucket, "Key": source.key}
    if source.version_id:
        return {**place, "VersionId": source.version_id}
    # Metadata documents of SeaweedFS' catalog have an empty ETag.
    etag = source.etag.strip('"')
    return {**place, "IfMatch": f'"{etag}"'} if condition and etag else place


def _changed(source: Source, cause: str) -> SourceChangedError:
    return SourceChangedError(f"cannot copy {source.uri}: {cause}", source=source)


def _source_error(source: Source, error: DestinationError) -> BackupError:
    if isinstance(error, AnswerError):
        if error.is_absent or error.is_conflict:
            return _changed(source, f"it changed or was deleted ({error.code})")
        if error.code == "InvalidObjectState":
            return archived_error(source)
    found = SourceError(error.message, error.remedy)
    found.transient = error.transient
    return found


def archived_error(source: Source, count: int = 1) -> RefusedError:
    """Return the error about objects that must be restored before they can be copied; it names the first one."""
    others = f", and {count - 1} more objects are in archive classes" if count > 1 else ""
    name = source.storage_class or "ARCHIVED"
    return RefusedError(
        f"cannot copy {source.uri}: an object of storage class {name} must be restored first{others}",
        "Set `lakehouse_backup_archived_objects` to `skip_recorded` or `restore_first`.",
    )
