# SPDX-License-Identifier: GPL-3.0-or-later
"""Base backups: a copy of the whole server, taken through the replication protocol while it works."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, with_config

from crypto_lakehouse.backup.database.programs import Deadline, Programs
from crypto_lakehouse.backup.database.server import Identity, Server, Slot
from crypto_lakehouse.backup.database.wal import Coverage, Lsn, format_lsn, parse_lsn, segment_name, segment_number
from crypto_lakehouse.backup.destination import BLOCK_BYTES, Destination, Stored
from crypto_lakehouse.backup.errors import BackupError, IntegrityError
from crypto_lakehouse.backup.model import STRICT, Sha256, Size, Time, canonical, moment, timestamp, validated

log = logging.getLogger("lakehouse.backup")

ARCHIVE: Final = "base.tar.gz"
MANIFEST: Final = "backup_manifest"
DESCRIPTION: Final = "base.json"
BASES: Final = "database/"


Position = Annotated[str, Field(pattern=r"^[0-9A-F]{1,8}/[0-9A-F]{1,8}$")]


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class BaseFile:
    """One file of a base backup. size, sha256: of the file as it is stored."""

    name: str
    size: Size
    sha256: Sha256


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class Base:
    """A base backup: recovery begins with its files and replays WAL from segment `start_wal` at least to `end_lsn`."""

    id: str
    system_identifier: str
    timeline: Annotated[int, Field(ge=1)]
    start_lsn: Position
    end_lsn: Position
    start_wal: Annotated[str, Field(pattern=r"^[0-9A-F]{24}$")]
    segment_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 30)]
    server_version: str
    taken_at: Time
    files: tuple[BaseFile, ...]

    @property
    def folder(self) -> str:
        """Prefix of its keys at the destination."""
        return f"{bases_folder(self.system_identifier)}{self.id}/"

    def key(self, name: str) -> str:
        """Return the key of one of its files, or of its description."""
        return self.folder + name

    def segment(self, number: int) -> str:
        """Return the name of a segment of its timeline by number."""
        return segment_name(self.timeline, number, self.segment_bytes)

    def to_bytes(self) -> bytes:
        """Return its description, which is stored after its files."""
        return canonical(asdict(self))

    @classmethod
    def from_bytes(cls, document: bytes) -> Base:
        """Return the base backup of a description.

        Raises:
            IntegrityError: where it is malformed.
        """
        return validated(cls, document, "the description of a base backup")


def bases_folder(system_identifier: str) -> str:
    """Return the prefix of a server's base backups at the destination."""
    return f"{BASES}{system_identifier}/bases/"


def take_base(server: Server, programs: Programs, scratch: Path, deadline_s: float) -> Base:
    """Take a base backup into the empty folder `scratch` and return its description.

    Every database and role is in it, no WAL. `pg_basebackup` verifies each block's checksum where the server has them.

    Raises:
        BackupError: where the server refuses, ends the connection, changes its timeline, or the deadline passes; the
            program is killed then.
    """
    deadline = Deadline(deadline_s)
    before = server.identify()
    taken_at = datetime.now(UTC)
    programs.run("pg_basebackup", _arguments(server, scratch), deadline, server.environment, server.secrets)
    _refuse_tablespaces(scratch)
    found = read_manifest(scratch / MANIFEST)
    if (found.system_identifier, found.timeline) != before.line or server.identify().line != before.line:
        raise BackupError("cannot take a base backup: the server changed its timeline meanwhile", "Run it again.")
    return Base(
        id=f"{taken_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        system_identifier=before.system_identifier,
        timeline=before.timeline,
        start_lsn=format_lsn(found.start),
        end_lsn=format_lsn(found.end),
        start_wal=segment_name(before.timeline, found.start // before.segment_bytes, before.segment_bytes),
        segment_bytes=before.segment_bytes,
        server_version=before.version,
        taken_at=timestamp(taken_at),
        files=tuple(hash_file(scratch / name) for name in (ARCHIVE, MANIFEST)),
    )


def _arguments(server: Server, scratch: Path) -> list[str]:
    return [
        f"--dbname={server.conninfo}",
        f"--pgdata={scratch}",
        "--format=tar",
        "--gzip",
        "--wal-method=none",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
        "--no-password",
        "--label=lakehouse",
    ]


def _refuse_tablespaces(scratch: Path) -> None:
    others = sorted(each.name for each in scratch.iterdir() if each.name not in (ARCHIVE, MANIFEST))
    if others:
        raise BackupError(
            f"cannot back up tablespaces ({', '.join(others)}): the platform has none",
            "Move their tables to `pg_default` and drop them.",
        )


@dataclass(frozen=True, slots=True)
class ManifestRange:
    """The server and the WAL of a base backup, as its own manifest names them."""

    system_identifier: str
    timeline: int
    start: Lsn
    end: Lsn


def read_manifest(path: Path) -> ManifestRange:
    """Return what a base backup's manifest says of its WAL.

    Raises:
        IntegrityError: where it is malformed, or the WAL is of several timelines.
    """
    try:
        values: Mapping[str, Any] = json.loads(path.read_bytes())
        (wal,) = values["WAL-Ranges"]
        return ManifestRange(
            str(values["System-Identifier"]),
            int(wal["Timeline"]),
            parse_lsn(wal["Start-LSN"]),
            parse_lsn(wal["End-LSN"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise IntegrityError(f"cannot read the manifest of a base backup: {path.name} is malformed") from None


def hash_file(path: Path) -> BaseFile:
    """Return name, size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return BaseFile(path.name, size, digest.hexdigest())


def stored_bases(destination: Destination, system_identifier: str) -> list[Base]:
    """Return the base backups of a server at the destination, the newest first.

    Base backups without a description are ignored; one whose description is damaged is left out and logged.
    """
    found = []
    for each in destination.list(bases_folder(system_identifier)):
        if each.key.endswith(f"/{DESCRIPTION}"):
            try:
                found.append(Base.from_bytes(b"".join(destination.read(each.key, each.version_id))))
            except IntegrityError as error:
                log.warning("%s is left out: %s", each.key, error.message)
    return sorted(found, key=lambda base: (base.taken_at, base.id), reverse=True)


def unfinished_bases(destination: Destination, after: str = "", used: str = "") -> list[Stored]:
    """Return the files of base backups without a description, those of a current run included.

    after: time or id. A base backup before it may be part of a set although its description is lost, and is left out,
    as is the one with the id `used`.
    """
    found: dict[str, list[Stored]] = {}
    for each in destination.list(BASES):
        found.setdefault(each.key.rpartition("/")[0], []).append(each)
    ids = {folder: folder.rpartition("/")[2] for folder in found}
    killed = [files for folder, files in found.items() if ids[folder] > after and ids[folder] != used]
    without = [files for files in killed if not any(each.key.endswith(f"/{DESCRIPTION}") for each in files)]
    return [each for files in without for each in files]


def reason_for_new_base(
    base: Base | None,
    identity: Identity,
    wal: Coverage | None,
    max_age: timedelta,
    now: datetime,
    slot: Slot | None = None,
) -> str:
    """Return why a new base backup must be taken, empty where `base` can be used again.

    wal: WAL that is stored from the base on. slot: of the receiver, which delivers later WAL; None where it is unknown.
    A base of the future, after the clock was set back, is not used again.
    """
    if base is None:
        return "there is no base backup"
    if base.system_identifier != identity.system_identifier:
        return "the server is another one"
    if base.timeline != identity.timeline:
        return "the server was restored to another timeline"
    if not timedelta(0) <= now - moment(base.taken_at) < max_age:
        return f"the base backup of {base.taken_at} is too old"
    if slot and slot.is_lost:
        return "the slot of the receiver is lost"
    delivered = (slot.end or 0) // base.segment_bytes if slot else 0
    if wal is None or wal.has_gap or segment_number(wal.missing, base.segment_bytes) < delivered:
        return "WAL after the base backup is missing"
    return ""
