# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the lakehouse's own store: read and found by name, and written with a verified checksum."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from tempfile import TemporaryFile
from typing import IO, Any, Final
from urllib.parse import urlsplit

from crypto_lakehouse.backup.destination import BLOCK_BYTES
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, SourceChangedError
from crypto_lakehouse.backup.model import Artifact, Source
from crypto_lakehouse.settings import Settings

Fetch = Callable[[Artifact], Iterator[bytes]]
"""Returns the stored bytes of an artifact of a backup set in blocks."""

CHANGED_STATUSES: Final = (404, 412)
REQUESTS: Final = 8
MULTIPART_BYTES: Final = 64 << 20


class StoreError(BackupError):
    """The object store of the lakehouse is unreachable or refuses a request."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object that exists in the store. etag: without quotes, empty for documents that SeaweedFS' catalog wrote."""

    size: int
    etag: str


def cause(error: Exception) -> str:
    """Return the message of an error, without its full stop."""
    return str(error).rstrip(".")


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key of `s3://BUCKET/KEY`.

    Raises:
        BackupError: where the address is another one.
    """
    where = urlsplit(uri)
    # Everything after the bucket is the key: `?` and `#` are characters of it.
    key = uri.partition("://")[2].partition("/")[2]
    if where.scheme not in ("s3", "s3a", "s3n") or not where.netloc or not key:
        raise BackupError(f"cannot read {uri}: it is not an object of an S3 bucket")
    return where.netloc, key


def leaves_folder(key: str) -> bool:
    """Return whether a key has a segment `.` or `..`, which a store that keeps keys as paths resolves."""
    return not {".", ".."}.isdisjoint(key.split("/"))


class Objects:
    """The object store that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def client(self) -> Any:
        """The boto3 client."""
        from crypto_lakehouse.objectstore import s3_client

        return s3_client(self._settings, transfers=True)

    def _blocks(self, source: Source, body: Any) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        try:
            yield from body.iter_chunks(BLOCK_BYTES)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StoreError(f"cannot read {source.uri}: {cause(error)}") from error
        finally:
            body.close()

    def content(self, uri: str) -> bytes:
        """Return the whole content of an object.

        Raises:
            SourceChangedError: where it does not exist.
            StoreError: where the store does not answer or refuses.
        """
        bucket, key = split(uri)
        source = Source(bucket, key, size=-1)
        answer = self._call(source, self.client.get_object, Bucket=bucket, Key=key)
        return b"".join(self._blocks(source, answer["Body"]))

    def find(self, uri: str) -> Found | None:
        """Return size and ETag of an object, None where it does not exist."""
        bucket, key = split(uri)
        try:
            head = self._call(Source(bucket, key, size=-1), self.client.head_object, Bucket=bucket, Key=key)
        except SourceChangedError:
            return None
        return Found(int(head["ContentLength"]), str(head.get("ETag", "")).strip('"'))

    def find_all(self, uris: Collection[str], location: str) -> dict[str, Found | None]:
        """Return size and ETag of each object, None for one that does not exist.

        A listing below `location` answers for most in one request of a thousand; it names no object by itself.
        """
        listed = self._index(location) if len(uris) > REQUESTS else {}
        missing = [uri for uri in uris if uri not in listed]
        with ThreadPoolExecutor(REQUESTS) as pool:
            found = dict(zip(missing, pool.map(self.find, missing), strict=True))
        return {uri: listed[uri] if uri in listed else found[uri] for uri in uris}

    def names(self, folder: str) -> list[str]:
        """Return the keys below an address, by name."""
        bucket, prefix = split(f"{folder.rstrip('/')}/")
        return [str(each["Key"]) for each in self._list(bucket, prefix)]

    def keeps_versions(self, bucket: str) -> bool:
        """Return whether a bucket keeps versions of its objects."""
        answer = self._call(Source(bucket, "", size=-1), self.client.get_bucket_versioning, Bucket=bucket)
        return bool(answer.get("Status") == "Enabled")

    def server(self) -> str:
        """Return what the store calls itself, such as `SeaweedFS 8000GB 4.48`."""
        answer = self._call(Source("", "", size=-1), self.client.list_buckets)
        return str(answer["ResponseMetadata"]["HTTPHeaders"].get("server", ""))

    def _list(self, bucket: str, prefix: str) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)

        def read_all() -> list[dict[str, Any]]:
            return [each for page in pages for each in page.get("Contents", [])]

        found: list[dict[str, Any]] = self._call(Source(bucket, prefix, size=-1), read_all)
        return found

    def _index(self, location: str) -> dict[str, Found]:
        bucket, prefix = split(f"{location.rstrip('/')}/")
        scheme = location.partition("://")[0]
        return {
            f"{scheme}://{bucket}/{each['Key']}": Found(int(each["Size"]), str(each.get("ETag", "")).strip('"'))
            for each in self._list(bucket, prefix)
        }

    def sha256(self, uri: str) -> str:
        """Return the SHA-256 of an object's content."""
        bucket, key = split(uri)
        source = Source(bucket, key, size=-1)
        answer = self._call(source, self.client.get_object, Bucket=bucket, Key=key)
        digest = hashlib.sha256()
        for block in self._blocks(source, answer["Body"]):
            digest.update(block)
        return digest.hexdigest()

    def restore(self, artifact: Artifact, fetch: Fetch, uri: str, **options: Any) -> None:
        """Write the bytes of an artifact to an address; nothing is written where they are damaged.

        options: further arguments of the upload, such as `Metadata`.

        Raises:
            IntegrityError: where size or SHA-256 differ from those that the set recorded.
            StoreError: where the store does not answer or refuses.
        """
        with spooled(artifact, fetch) as spool:
            self._upload(uri, spool, artifact.size, artifact.sha256, options)

    def write(self, uri: str, content: bytes) -> None:
        """Write a small object.

        Raises:
            StoreError: where the store does not answer or refuses.
        """
        with TemporaryFile() as spool:
            spool.write(content)
            self._upload(uri, spool, len(content), hashlib.sha256(content).hexdigest(), {})

    def _upload(self, uri: str, spool: IO[bytes], size: int, sha256: str, options: dict[str, Any]) -> None:
        from boto3.s3.transfer import TransferConfig

        bucket, key = split(uri)
        spool.seek(0)
        source = Source(bucket, key, size=size)
        if size < MULTIPART_BYTES:
            checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
            put = partial(self.client.put_object, Body=spool, ChecksumSHA256=checksum, **options)
            self._call(source, put, Bucket=bucket, Key=key)
            return
        config = TransferConfig(
            multipart_threshold=MULTIPART_BYTES, multipart_chunksize=MULTIPART_BYTES, max_concurrency=2
        )
        extra = {"ChecksumAlgorithm": "SHA256", **options}
        self._call(source, self.client.upload_fileobj, spool, bucket, key, ExtraArgs=extra, Config=config)

    def delete(self, uri: str) -> None:
        """Delete one object."""
        bucket, key = split(uri)
        self._call(Source(bucket, key, size=-1), self.client.delete_object, Bucket=bucket, Key=key)

    @staticmethod
    def _call(source: Source, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call(*arguments, **options)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in CHANGED_STATUSES:
                raise _changed(source, str(error.response["Error"]["Code"])) from None
            raise StoreError(f"cannot reach {source.uri}: {cause(error)}") from None
        except (BotoCoreError, S3UploadFailedError) as error:
            raise StoreError(f"cannot reach {source.uri}: {cause(error)}", "Check the object store.") from None


def _changed(source: Source, cause: str) -> SourceChangedError:
    return SourceChangedError(f"cannot read {source.uri}: it vanished or changed ({cause})", source=source)


def spooled(artifact: Artifact, fetch: Fetch) -> IO[bytes]:
    """Return the verified content of an artifact as a temporary file, at its beginning.

    Raises:
        IntegrityError: where it is damaged.
    """
    digest, size, spool = hashlib.sha256(), 0, TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        for block in fetch(artifact):
            digest.update(block)
            size += len(block)
            spool.write(block)
        verify(artifact, size, digest.hexdigest())
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool


def verify(artifact: Artifact, size: int, sha256: str) -> None:
    """Compare the read content of an artifact with the record of the set.

    Raises:
        IntegrityError: naming table, snapshot and partition, where they differ.
    """
    if (size, sha256) != (artifact.size, artifact.sha256):
        raise IntegrityError(
            f"cannot restore {artifact.key} ({artifact.subject}): its content is damaged", "Restore another set."
        )


def fetched(artifact: Artifact, fetch: Fetch) -> bytes:
    """Return the verified content of a small artifact.

    Raises:
        IntegrityError: where it is damaged.
    """
    content = b"".join(fetch(artifact))
    verify(artifact, len(content), hashlib.sha256(content).hexdigest())
    return content
