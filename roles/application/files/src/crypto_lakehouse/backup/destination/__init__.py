# SPDX-License-Identifier: GPL-3.0-or-later
"""Where backup sets lie: an S3 bucket, best with object lock, or a folder on another disk.

Both create and never overwrite. Keys are relative to the destination's root, `ENVIRONMENT/` in a bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from crypto_lakehouse.backup.lock import Lock

BLOCK_BYTES = 1 << 20
"""Bytes that a stream holds in memory at a time."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object at the destination. sha256: empty where the destination does not know it without reading the object."""

    key: str
    size: int
    sha256: str = ""
    version_id: str | None = None
    retained_until: str | None = None


class Destination(Protocol):
    """A place for backup sets. Methods may be called from several threads at once."""

    name: str
    """Name in reports: `s3://BUCKET/ENVIRONMENT at ENDPOINT`, or the folder."""

    @property
    def is_locked(self) -> bool:
        """Whether the destination itself protects what it stores against deletion (object lock in COMPLIANCE mode)."""

    def check(self) -> list[str]:
        """Return the problems that would break a backup, each a sentence with its remedy; nothing is left behind."""

    def warnings(self) -> list[str]:
        """Return weaknesses of the protection that do not break a backup, each with its remedy."""

    def create(self, key: str, content: Iterator[bytes], size: int, until: datetime) -> Stored:
        """Store a new object in one pass and return it with the SHA-256 of its bytes, which the destination verified.

        size: bytes of `content`; a different number is an error. until: minimum end of the protection.
        An object of that key that exists is returned as it is where size and SHA-256 agree.

        Raises:
            IntegrityError: where the key exists with other content, or bytes were damaged on the way.
            DestinationError: where the destination is unreachable, full, or refuses.
        """

    def match(self, stored: Stored, content: Iterator[bytes], size: int, until: datetime) -> Stored:
        """Return an existing object, with SHA-256 and protection, where a content is its content.

        Raises:
            IntegrityError: where they differ.
        """

    def find(self, key: str) -> Stored | None:
        """Return the oldest version of an object, None where there is none."""

    def stat(self, key: str, version_id: str | None) -> Stored | None:
        """Return one version of an object, None where it does not exist."""

    def read(self, key: str, version_id: str | None = None) -> Iterator[bytes]:
        """Return the content in blocks; without a version, that of the oldest one.

        Raises:
            DestinationError: where the object does not exist or cannot be read.
        """

    def list(self, prefix: str) -> Iterator[Stored]:
        """Return the objects below a prefix, by key, each in its oldest version."""

    def run_lock(self, owner: str, lakehouse: str) -> Lock:
        """Return the lock against runs of other lakehouses that write to the same place; see `Lock`."""

    def delete(self, stored: Stored) -> None:
        """Delete one version of an object.

        Raises:
            RefusedError: without credentials for it. DestinationError: where the object is protected.
        """

    def extend(self, stored: Stored, until: datetime) -> Stored:
        """Protect an object at least until a moment; never shortens."""
