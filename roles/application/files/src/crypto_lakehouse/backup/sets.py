# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup sets of a destination: their list with content and proof, and access to manifest and inventory."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, Literal

from crypto_lakehouse.backup.artifacts import read_artifact
from crypto_lakehouse.backup.destination import BLOCK_BYTES, Destination, Stored
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, RefusedError
from crypto_lakehouse.backup.model import (
    COMPONENTS,
    SET_ID,
    Artifact,
    Component,
    Manifest,
    Subject,
    canonical,
    decode_inventory,
    encode_inventory,
    moment,
    timestamp,
)
from crypto_lakehouse.backup.mover import Mover

log = logging.getLogger("lakehouse.backup")

SETS: Final = "sets/"
MANIFEST: Final = "manifest.json"
INVENTORY: Final = "inventory.jsonl.gz"
MAX_DOCUMENT_BYTES: Final = 64 << 20
"""Size above which a manifest or proof is not read."""

CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""Maximum time by which the id of a set may be in the future."""

_PROOF: Final = re.compile(r"proofs/(\d{8}T\d{6}Z)-level([123])\.json")

DAMAGE: Final = ("missing", "size", "hash")
"""Problems of an object that must be stored again."""

CERTAIN: Final = (*DAMAGE, "unprotected")
"""Problems of a set itself: an unreadable object may be intact, and the destination may have failed."""

State = Literal["good", "damaged", "aborted", "unreadable"]


@dataclass(frozen=True, slots=True)
class Proof:
    """A verification of a set that found no fault."""

    level: int
    at: str


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The result of a verification. faults: their number, 0 for a proof."""

    level: int
    at: str
    faults: int

    def supersedes(self, other: _Verdict) -> bool:
        """Return whether it verified at least as much as another one, and later."""
        return self.level >= other.level and self.at > other.at


@dataclass(frozen=True, slots=True)
class SetInfo:
    """A set as a list shows it. size: bytes of all artifacts; own_size: of those that its run stored, the others are
    shared with earlier sets. omitted: missing components, with the reason. safety: as in `Manifest`. problems: reasons
    why it cannot be used, or not all of it.
    """

    id: str
    state: State
    started_at: str = ""
    finished_at: str = ""
    expires_at: str = ""
    protected_until: str | None = None
    components: tuple[Component, ...] = ()
    size: int = 0
    own_size: int = 0
    shared_size: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    omitted: Mapping[str, str] = field(default_factory=dict)
    safety: bool = False
    proof: Proof | None = None
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass
class Folder:
    """The objects below `sets/ID/`, by key relative to it."""

    objects: dict[str, Stored] = field(default_factory=dict)


Folders = Mapping[str, Folder]
"""The folders of the sets by their ids."""


def manifest_key(set_id: str) -> str:
    """Return the key of the manifest of a set."""
    return set_key(set_id, MANIFEST)


def set_key(set_id: str, name: str) -> str:
    """Return the key of a document of a set.

    Raises:
        RefusedError: where the id is not one.
    """
    if not SET_ID.fullmatch(set_id):
        raise RefusedError(
            f"cannot use the set {set_id!r}: it is not the id of a set", "Use an id that `backup_list` shows."
        )
    return f"{SETS}{set_id}/{name}"


def list_sets(destination: Destination, folders: Folders | None = None) -> list[SetInfo]:
    """Return all sets, the newest first, those that are aborted or unreadable included.

    folders: as `list_folders` returned them; they are listed where they are missing.

    Raises:
        DestinationError: where the destination cannot be listed.
    """
    folders = list_folders(destination) if folders is None else folders
    return [_info(destination, set_id, folders[set_id]) for set_id in sorted(folders, reverse=True)]


def latest(destination: Destination) -> Manifest | None:
    """Return the newest set whose manifest is readable, None where there is none.

    A set whose id names a future moment is left out: stolen credentials could hide all later sets behind it.
    """
    return next(_readable(destination), None)


def _readable(destination: Destination) -> Iterator[Manifest]:
    for set_id in sorted(list_folders(destination), reverse=True):
        if _is_future(set_id):
            continue
        with suppress(IntegrityError, RefusedError):
            yield open_set(destination, set_id)


def unfinished(destination: Destination, after: str = "") -> list[Stored]:
    """Return the documents of the sets without a manifest whose id is above `after`, those of a current run included.

    The next run uses the content that they stored below `objects/`; no set uses their documents.
    """
    folders = {set_id: folder for set_id, folder in list_folders(destination).items() if set_id > after}
    # A store may omit an object from a long list, so the object itself is checked.
    without = [set_id for set_id, folder in folders.items() if MANIFEST not in folder.objects]
    killed = [set_id for set_id in without if destination.find(manifest_key(set_id)) is None]
    return [each for set_id in killed for each in folders[set_id].objects.values()]


def open_set(destination: Destination, set_id: str) -> Manifest:
    """Return the manifest of a set, or of the newest one where the id is `latest`: always its oldest version.

    Raises:
        RefusedError: where there is no such set. IntegrityError: where its manifest is damaged or forged.
        DestinationError: where the destination cannot be read.
    """
    if set_id == "latest":
        found = latest(destination)
        if found is None:
            raise RefusedError(f"cannot open the latest set: {destination.name} has none", "Run `backup_create` first.")
        return found
    manifest = Manifest.from_bytes(_manifest_document(destination, set_id))
    if manifest.id != set_id:
        raise IntegrityError(f"cannot read the manifest of set {set_id}: it is that of set {manifest.id}")
    return manifest


def open_to_restore(destination: Destination, set_id: str) -> Manifest:
    """Return the manifest of the set to restore.

    `latest` is the newest set that no restore took of what it was about to replace: with that one, a restore that was
    interrupted would be undone by its repetition.

    Raises:
        RefusedError: where there is no such set, or `latest` is the set of a database that began after another one's
        sets. A rebuilt machine may have taken it before it was restored. Otherwise as `open_set`.
    """
    if set_id != "latest":
        return open_set(destination, set_id)
    found = [each for each in _readable(destination) if not each.safety]
    if not found:
        raise RefusedError(
            f"cannot open the latest set: {destination.name} has none",
            "Run `backup_create` first, or name a set with `lakehouse_backup_set`.",
        )
    former = _former(found)
    if former:
        raise RefusedError(
            f"cannot choose the latest set: {found[0].id} is of another database than the older set {former.id}",
            "Name the set with `lakehouse_backup_set`. A machine that was rebuilt may have taken the newer set of an "
            "empty lakehouse.",
        )
    return found[0]


def _former(found: Sequence[Manifest]) -> Manifest | None:
    """Return the newest set of a database that has sets before the first one of the newest set's database."""
    systems = [each.database.system_identifier for each in reversed(found) if each.database]
    first_of = {system: systems.index(system) for system in systems}
    own = found[0].database
    if own is None:
        return None
    earlier = {system for system, first in first_of.items() if first < first_of[own.system_identifier]}
    return next((each for each in found if each.database and each.database.system_identifier in earlier), None)


def manifest_sha256(destination: Destination, set_id: str) -> str:
    """Return the SHA-256 of the manifest of a set as it is stored."""
    return hashlib.sha256(_manifest_document(destination, set_id)).hexdigest()


def _manifest_document(destination: Destination, set_id: str) -> bytes:
    stored = destination.find(manifest_key(set_id))
    if stored is None:
        raise RefusedError(
            f"cannot open the set {set_id}: it does not exist or was aborted", "Use an id that `backup_list` shows."
        )
    return document(destination, stored)


def write_manifest(destination: Destination, manifest: Manifest, until: datetime, guard: Callable[[], None]) -> Stored:
    """Write the manifest of a set: the last write of a run, which makes the set exist.

    Raises:
        LockedError: where the run lost its lock. IntegrityError: where the set has another manifest.
    """
    content = manifest.to_bytes()
    guard()
    stored = destination.create(manifest_key(manifest.id), iter([content]), len(content), until)
    oldest = destination.find(manifest_key(manifest.id))
    if oldest is None or oldest.version_id != stored.version_id:
        raise IntegrityError(
            f"cannot finish the set {manifest.id}: an older manifest exists", "Run `backup_create` again."
        )
    return stored


def write_inventory(mover: Mover, set_id: str, artifacts: Iterable[Artifact]) -> Artifact:
    """Store the inventory of a set, compressed, and return it as an artifact."""
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        # Without a time the bytes depend on the artifacts alone.
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
            for line in encode_inventory(artifacts):
                packed.write(line)
        file.flush()
        subject = Subject("configuration", "inventory")
        return mover.store(set_key(set_id, INVENTORY), Path(file.name), subject, encoding="gzip")


def inventory(destination: Destination, manifest: Manifest) -> Iterator[Artifact]:
    """Return the artifacts of a set; its inventory is read and hashed as a whole before the first one.

    Raises:
        IntegrityError: where the inventory is damaged or lost.
    """
    with _verified_file(destination, manifest.inventory) as file, gzip.GzipFile(fileobj=file, mode="rb") as lines:
        try:
            yield from decode_inventory(lines)
        except (EOFError, OSError, zlib.error) as error:
            raise IntegrityError(f"cannot read the inventory of set {manifest.id}: {error}") from None


def known_artifacts(destination: Destination, manifest: Manifest | None) -> dict[str, Artifact]:
    """Return the artifacts of a set by the identity of their source: a mover does not read those again."""
    if manifest is None:
        return {}
    return {each.source.identity: each for each in inventory(destination, manifest) if each.source}


def protected_until(artifacts: Iterable[Artifact]) -> str | None:
    """Return the end of the protection that ends first, None where an artifact has none or there are none."""
    ends = [each.retained_until or "" for each in artifacts]
    # The times of the documents have one length and zone, so that their order is that of the text.
    return (min(ends) if ends else "") or None


def document(destination: Destination, stored: Stored) -> bytes:
    """Return a small document in the version that was found.

    Raises:
        IntegrityError: where it is too large for one.
    """
    if stored.size > MAX_DOCUMENT_BYTES:
        raise IntegrityError(f"cannot read {stored.key}: it has {stored.size} bytes and a document of a set has less")
    return b"".join(destination.read(stored.key, stored.version_id))


@contextmanager
def _verified_file(destination: Destination, artifact: Artifact) -> Iterator[IO[bytes]]:
    with tempfile.SpooledTemporaryFile(max_size=8 * BLOCK_BYTES) as file:
        hashed, size = hashlib.sha256(), 0
        for block in read_artifact(destination, artifact):
            size += len(block)
            hashed.update(block)
            file.write(block)
        if (size, hashed.hexdigest()) != (artifact.size, artifact.sha256):
            raise IntegrityError(f"cannot read {artifact.key}: its size or SHA-256 differs from the manifest")
        file.seek(0)
        yield file


def list_folders(destination: Destination) -> Folders:
    """Return the folders of all sets."""
    folders: dict[str, Folder] = {}
    for stored in destination.list(SETS):
        set_id, _slash, name = stored.key.removeprefix(SETS).partition("/")
        if SET_ID.fullmatch(set_id):
            folders.setdefault(set_id, Folder()).objects[name] = stored
    return folders


def _info(destination: Destination, set_id: str, folder: Folder) -> SetInfo:
    stored = folder.objects.get(MANIFEST)
    try:
        if stored is None:
            # A store may omit an object from a long list, so the object itself is checked.
            stored = destination.find(manifest_key(set_id))
        if stored is None:
            return SetInfo(set_id, "aborted", problems=("It has no manifest: its run was aborted or goes on.",))
        content = document(destination, stored)
        manifest = Manifest.from_bytes(content)
    except BackupError as error:
        return SetInfo(set_id, "unreadable", problems=(str(error),))
    if manifest.id != set_id:
        return SetInfo(set_id, "unreadable", problems=(f"Its manifest is that of set {manifest.id}.",))
    if _is_future(set_id):
        return SetInfo(set_id, "unreadable", problems=("Its id names a moment in the future.",))
    verdicts = _verdicts(destination, folder, hashlib.sha256(content).hexdigest())
    faulty = [each for each in verdicts if each.faults and not any(other.supersedes(each) for other in verdicts)]
    if faulty:
        return replace(_described(manifest, None), state="damaged", problems=tuple(map(_told, faulty)))
    good = max((each for each in verdicts if not each.faults), key=lambda each: each.level, default=None)
    return _described(manifest, Proof(good.level, good.at) if good else None)


def _told(verdict: _Verdict) -> str:
    what = "sizes" if verdict.level == 1 else "every hash"
    return f"The verification of {what} at {verdict.at} found {verdict.faults} faults; `backup_verify` lists them."


def _is_future(set_id: str) -> bool:
    return set_id > f"{datetime.now(UTC) + CLOCK_TOLERANCE:%Y%m%dT%H%M%SZ}-"


def _described(manifest: Manifest, proof: Proof | None) -> SetInfo:
    return SetInfo(
        id=manifest.id,
        state="good",
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        expires_at=manifest.expires_at,
        protected_until=manifest.protected_until,
        components=components(manifest),
        size=manifest.size,
        own_size=manifest.own_size,
        shared_size=max(0, manifest.size - manifest.own_size),
        counts=manifest.counts,
        omitted=manifest.omitted,
        safety=manifest.safety,
        proof=proof,
    )


def components(manifest: Manifest) -> tuple[Component, ...]:
    """Return the components that a set holds."""
    present: Mapping[Component, bool] = {
        "tables": bool(manifest.tables),
        "raw": manifest.raw is not None,
        "database": manifest.database is not None,
        "configuration": "configuration" not in manifest.omitted,
    }
    return tuple(each for each in COMPONENTS if present[each] and each not in manifest.omitted)


def _verdicts(destination: Destination, folder: Folder, sha256: str) -> list[_Verdict]:
    """Return the newest verification of each level that names the manifest and has a result."""
    named = [(match[1], match[2], key) for key in folder.objects if (match := _PROOF.fullmatch(key))]
    found: dict[str, _Verdict] = {}
    for _time, level, key in sorted(named, reverse=True):
        verdict = None if level in found else _verdict(destination, folder.objects[key], int(level), sha256)
        if verdict:
            found[level] = verdict
    return list(found.values())


def _verdict(destination: Destination, stored: Stored, level: int, sha256: str) -> _Verdict | None:
    try:
        values = json.loads(document(destination, stored))
        at = timestamp(moment(values["finished_at"]))
        if values["manifest_sha256"] != sha256 or moment(at) > datetime.now(UTC) + CLOCK_TOLERANCE:
            return None
        if values["ok"] is True:
            return _Verdict(level, at, 0)
        is_certain = any(each["problem"] in CERTAIN for each in values["faults"])
        return _Verdict(level, at, max(1, int(values["fault_count"]))) if is_certain else None
    except (BackupError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def damaged_keys(destination: Destination, folders: Folders | None = None) -> set[str]:
    """Return the keys whose content the last verification of every hash of a set found missing or damaged.

    folders: see `list_sets`.
    """
    found: set[str] = set()
    for set_id, folder in (list_folders(destination) if folders is None else folders).items():
        proofs = sorted(
            (match[1], key) for key in folder.objects if (match := _PROOF.fullmatch(key)) and match[2] > "1"
        )
        for _time, key in proofs[-1:]:
            try:
                faults = json.loads(document(destination, folder.objects[key]))["faults"]
                found |= {str(each["key"]) for each in faults if each["problem"] in DAMAGE}
            except (BackupError, ValueError, KeyError, TypeError, RecursionError) as error:
                log.warning("cannot read a verification of set %s: %s", set_id, error)
    return found


def write_proof(
    destination: Destination, set_id: str, level: int, finished: datetime, content: Mapping[str, Any], until: datetime
) -> Stored:
    """Write the result of a verification beside its set."""
    proof = canonical(content)
    key = set_key(set_id, f"proofs/{finished:%Y%m%dT%H%M%SZ}-level{level}.json")
    return destination.create(key, iter([proof]), len(proof), until)
