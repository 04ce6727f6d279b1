# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL at the destination: waits until a set's is stored, describes it as artifacts, and fetches it for a recovery."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from crypto_lakehouse.backup.artifacts import read_artifact
from crypto_lakehouse.backup.database.base import Base
from crypto_lakehouse.backup.database.programs import Deadline, DeadlineError
from crypto_lakehouse.backup.database.wal import (
    HISTORY,
    Coverage,
    Lsn,
    common_prefix,
    coverage,
    format_lsn,
    segment_key,
    stored_segments,
    timeline_folder,
)
from crypto_lakehouse.backup.destination import Destination, Stored
from crypto_lakehouse.backup.errors import BackupError, IntegrityError
from crypto_lakehouse.backup.model import Artifact, Subject, canonical

POLL_S: Final = 0.5
NEW_BASE: Final = "The next backup takes a new base by itself; run `backup_create` again."


class GapError(BackupError):
    """WAL between a base backup and a restore point is missing for good."""


@dataclass(frozen=True, slots=True)
class WalRequest:
    """Request of a backup run: the receiver stores the WAL up to `lsn` without waiting for its interval."""

    system_identifier: str
    timeline: int
    lsn: Lsn

    def to_bytes(self) -> bytes:
        """Return the document."""
        return canonical(asdict(self))

    @classmethod
    def from_bytes(cls, document: bytes) -> WalRequest:
        """Return the request of a document.

        Raises:
            IntegrityError: where it is malformed.
        """
        try:
            found = json.loads(document)
            return cls(str(found["system_identifier"]), int(found["timeline"]), int(found["lsn"]))
        except (ValueError, KeyError, TypeError):
            raise IntegrityError("cannot read the request for WAL: malformed document") from None


def find_wal(destination: Destination, base: Base, until: Lsn | None = None) -> Coverage:
    """Return the stored WAL from a base backup on."""
    folder = timeline_folder(base.system_identifier, base.timeline)
    prefix = folder + base.start_wal[:8]
    if until is not None:
        prefix = folder + common_prefix(base.start_wal, base.segment((until - 1) // base.segment_bytes))
    return coverage(stored_segments(destination.list(prefix)), base.start_wal, base.segment_bytes, until)


def wait_for_wal(destination: Destination, base: Base, lsn: Lsn, deadline: Deadline) -> list[Stored]:
    """Return the stored WAL from the base backup up to `lsn`, in order, after the timeline's history where it has one.

    Raises:
        GapError: where a segment is missing and a later one is stored.
        DeadlineError: where the deadline passes before the WAL is stored.
    """
    while True:
        found = find_wal(destination, base, lsn)
        if found.has_gap:
            raise GapError(f"cannot use base backup {base.id}: WAL segment {found.missing} was never stored", NEW_BASE)
        history = _history(destination, base) if found.end >= lsn else None
        if history is not None:
            return [*history, *(each.stored for each in found.segments)]
        if deadline.has_passed:
            raise DeadlineError(
                f"cannot store the WAL up to {format_lsn(lsn)}: only {format_lsn(found.end)} was stored within "
                f"{deadline.seconds:.0f} s",
                "See the log of the service `backup`, which receives it.",
            )
        time.sleep(min(POLL_S, deadline.left_s))


def _history(destination: Destination, base: Base) -> list[Stored] | None:
    """Return the history of the base's timeline, None where it is missing; the first timeline has none."""
    if base.timeline == 1:
        return []
    stored = destination.find(segment_key(base.system_identifier, f"{base.timeline:08X}.history"))
    return None if stored is None else [stored]


def wal_artifacts(
    destination: Destination, found: Iterable[Stored], known: Mapping[str, Artifact] | None = None
) -> list[Artifact]:
    """Return the artifacts of stored WAL.

    known: artifacts of earlier sets by key. An object that neither they nor the destination know the SHA-256 of is
    read once.
    """
    return [_artifact(destination, each, (known or {}).get(each.key)) for each in found]


def _artifact(destination: Destination, stored: Stored, known: Artifact | None) -> Artifact:
    sha256 = stored.sha256
    if not sha256 and known and (known.size, known.version_id) == (stored.size, stored.version_id):
        sha256 = known.sha256
    if not sha256:
        digest = hashlib.sha256()
        for block in destination.read(stored.key, stored.version_id):
            digest.update(block)
        sha256 = digest.hexdigest()
    return Artifact(
        key=stored.key,
        size=stored.size,
        sha256=sha256,
        subject=Subject("database", "wal"),
        version_id=stored.version_id,
        retained_until=stored.retained_until,
        encoding="gzip",
    )


def fetch_wal(destination: Destination, artifacts: Iterable[Artifact], folder: Path, segment_bytes: int) -> None:
    """Write the WAL of a set into a folder, each file under the name that recovery asks for.

    The parts of an unfinished segment become one file, which zeros fill up to the size of a segment.

    Raises:
        IntegrityError: where an object is lost, does not have its recorded SHA-256, or is not compressed WAL.
    """
    for artifact in artifacts:
        blocks = _decompressed(artifact, read_artifact(destination, artifact))
        part = next(iter(stored_segments([Stored(artifact.key, artifact.size)])), None)
        if part and part.start is not None:
            with (folder / part.name).open("ab") as file:
                file.truncate(segment_bytes)
            _write(folder / part.name, blocks, part.start % segment_bytes)
        else:
            _write(folder / artifact.key.rpartition("/")[2].removesuffix(".gz"), blocks)


def _write(path: Path, blocks: Iterable[bytes], at: int | None = None) -> None:
    """Write a new file, or from a position on into one that exists."""
    with path.open("wb" if at is None else "r+b") as file:
        file.seek(at or 0)
        for block in blocks:
            file.write(block)


def fetch_histories(destination: Destination, system_identifier: str, folder: Path) -> None:
    """Create a file for every stored history in a folder: recovery chooses an unused timeline.

    Their content is not read: that of the base backup's own timeline is WAL of the set, and a damaged one of a later
    timeline must not prevent a restore.
    """
    for stored in destination.list(f"wal/{system_identifier}/"):
        name = stored.key.rpartition("/")[2].removesuffix(".gz")
        if HISTORY.fullmatch(name):
            (folder / name).touch()


def _decompressed(artifact: Artifact, blocks: Iterable[bytes]) -> Iterator[bytes]:
    digest, size, inflate = hashlib.sha256(), 0, zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            digest.update(block)
            size += len(block)
            yield inflate.decompress(block)
    except zlib.error:
        raise _damaged(artifact) from None
    if digest.hexdigest() != artifact.sha256 or size != artifact.size or not inflate.eof:
        raise _damaged(artifact)


def _damaged(artifact: Artifact) -> IntegrityError:
    return IntegrityError(f"cannot restore {artifact.subject}: {artifact.key} does not have its recorded SHA-256")
