# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA-256 of a stream, as a whole and as the composite that S3 keeps for an object that was uploaded in parts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from crypto_lakehouse.backup.errors import IntegrityError

PART_BYTES: Final = 16 << 20
"""Bytes of an upload's part, and of the largest object that one request stores."""

MAX_PARTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Digest:
    """Size and checksums of a content. composite: S3's checksum of the parts, `BASE64-COUNT`."""

    size: int
    sha256: str
    composite: str


class Hasher:
    """Hashes a stream while it passes."""

    def __init__(self) -> None:
        self.size = 0
        self._whole = hashlib.sha256()
        self._parts: list[bytes] = []

    def part(self, content: bytes) -> str:
        """Add one part and return its checksum as S3 writes it."""
        self.size += len(content)
        self._whole.update(content)
        self._parts.append(hashlib.sha256(content).digest())
        return encoded(self._parts[-1])

    def digest(self) -> Digest:
        """Return the digest of all parts so far."""
        composite = f"{encoded(hashlib.sha256(b''.join(self._parts)).digest())}-{len(self._parts)}"
        return Digest(self.size, self._whole.hexdigest(), composite)


def part_bytes(size: int) -> int:
    """Return the bytes of a part of an object of `size` bytes: the same for each attempt, at most 10,000 parts."""
    return max(PART_BYTES, -(-size // MAX_PARTS))


def parts(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Return the content in parts; at least one, which is empty for an empty content.

    Raises:
        IntegrityError: where the content does not have `size` bytes.
    """
    limit, total, yielded = part_bytes(size), 0, False
    buffer = bytearray()
    for block in blocks:
        total += len(block)
        _check_size(total <= size, total, size)
        buffer += block
        while len(buffer) >= limit:
            yield bytes(buffer[:limit])
            del buffer[:limit]
            yielded = True
    _check_size(total == size, total, size)
    if buffer or not yielded:
        yield bytes(buffer)


def digest_of(blocks: Iterable[bytes], size: int) -> Digest:
    """Return the digest of a content.

    Raises:
        IntegrityError: where the content does not have `size` bytes.
    """
    hasher = Hasher()
    for part in parts(blocks, size):
        hasher.part(part)
    return hasher.digest()


def encoded(digest: bytes) -> str:
    """Return the digest in base64."""
    return base64.b64encode(digest).decode()


def decoded(checksum: str) -> str:
    """Return the hexadecimal digest of S3's checksum of a whole object, empty where it is not one."""
    try:
        digest = base64.b64decode(checksum, validate=True)
    except ValueError:
        return ""
    return digest.hex() if len(digest) == hashlib.sha256().digest_size else ""


def _check_size(agrees: bool, total: int, size: int) -> None:
    if not agrees:
        raise IntegrityError(f"cannot store the content: it has {total} bytes or more, and {size} were announced")
