# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification of a backup set: level 1 compares the list of the destination with the manifest, level 2 hashes it all.

A fault is data: it names component, table, snapshot, partition and key. Everything else is still verified.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from crypto_lakehouse.backup import sets
from crypto_lakehouse.backup.destination import Destination, Stored
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, RefusedError
from crypto_lakehouse.backup.model import Artifact, Manifest, Subject, moment, timestamp
from crypto_lakehouse.backup.mover import Bandwidth, in_order

Problem = Literal["missing", "size", "hash", "unreadable", "unprotected"]

MAX_PROOF_FAULTS: Final = 1000
"""Faults that a proof lists; their number is always complete."""

Progress = Callable[[int, int, int, int], None]
"""Receives objects done, all objects, bytes done and all bytes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One artifact that differs from the manifest.

    problem: `missing`, `size`, `hash`, `unreadable` or `unprotected` (its retention ends before the recorded moment).
    """

    key: str
    problem: Problem
    detail: str
    component: str
    kind: str
    table: str = ""
    snapshot_id: int | None = None
    partition: str = ""

    def __str__(self) -> str:
        """Return one line: the subject of the artifact, its key and the difference."""
        subject = Subject(self.component, self.kind, self.table, self.snapshot_id, self.partition)  # type: ignore[arg-type]
        return f"{subject}: {self.key}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification. size: bytes of the artifacts that were compared or, in level 2, hashed."""

    set_id: str
    level: int
    started_at: str
    finished_at: str
    objects: int = 0
    size: int = 0
    faults: tuple[Fault, ...] = ()
    manifest_sha256: str = ""

    @property
    def is_good(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, as a proof holds it."""
        listed = [asdict(each) for each in self.faults[:MAX_PROOF_FAULTS]]
        return {**asdict(self), "ok": self.is_good, "fault_count": len(self.faults), "faults": listed}


@dataclass
class _Check:
    """One verification while it runs."""

    destination: Destination
    level: int
    threads: int
    bandwidth: Bandwidth
    progress: Progress | None
    faults: list[Fault] = field(default_factory=list)
    objects: int = 0
    size: int = 0
    total: tuple[int, int] = (0, 0)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, artifact: Artifact) -> None:
        """Count one artifact and report the progress."""
        with self.lock:
            self.objects += 1
            self.size += artifact.size
            if self.progress:
                self.progress(self.objects, self.total[0], self.size, self.total[1])


def verify(
    destination: Destination,
    set_id: str,
    level: int = 1,
    *,
    threads: int = 8,
    bytes_per_s: float | None = None,
    progress: Progress | None = None,
    prove: bool = False,
) -> Verification:
    """Verify a set and return the result; where `prove` is set, store it beside the set, too.

    Raises:
        RefusedError: where there is no such set or level. DestinationError: where the destination cannot be listed.
    """
    if level not in (1, 2):
        raise RefusedError(f"cannot verify the set {set_id}: unsupported level {level}", "Use level 1 or 2.")
    if set_id == "latest":
        set_id = sets.open_set(destination, set_id).id
    check = _Check(destination, level, threads, Bandwidth(bytes_per_s), progress)
    begin = datetime.now(UTC)
    try:
        manifest = sets.open_set(destination, set_id)
        sha256 = sets.manifest_sha256(destination, set_id)
    except IntegrityError as error:
        found = Fault(sets.manifest_key(set_id), "hash", error.message, "configuration", "manifest")
        return Verification(set_id, level, timestamp(begin), timestamp(datetime.now(UTC)), faults=(found,))
    _verify_artifacts(check, manifest)
    end = datetime.now(UTC)
    faults = tuple(sorted(check.faults, key=lambda each: (each.key, each.problem)))
    result = Verification(set_id, level, timestamp(begin), timestamp(end), check.objects, check.size, faults, sha256)
    if prove:
        until = max(moment(manifest.expires_at), end)
        sets.write_proof(destination, set_id, level, end, result.as_dict(), until)
    return result


def _verify_artifacts(check: _Check, manifest: Manifest) -> None:
    artifacts = _artifacts(check, manifest)
    check.total = (len(artifacts), sum(each.size for each in artifacts))
    listed = _listed(check.destination, artifacts)
    with ThreadPoolExecutor(check.threads, thread_name_prefix="verify") as pool:
        for _done in in_order(pool, partial(_verify_one, check, listed), artifacts, check.threads):
            pass


def _artifacts(check: _Check, manifest: Manifest) -> list[Artifact]:
    """Return the artifacts of a set, once each; where its inventory is damaged, those that the manifest names."""
    found = {(each.key, each.version_id): each for each in (manifest.inventory, *_documents(manifest))}
    try:
        for each in sets.inventory(check.destination, manifest):
            found[each.key, each.version_id] = each
    except BackupError as error:
        if _is_lost(check, manifest.inventory):
            return sorted(found.values(), key=lambda each: each.key)
        # Level 2 reads the inventory like each artifact, and names the same fault once.
        check.faults.append(_fault(manifest.inventory, _problem_of(error), error.message))
        found.pop((manifest.inventory.key, manifest.inventory.version_id))
    return sorted(found.values(), key=lambda each: each.key)


def _is_lost(check: _Check, artifact: Artifact) -> bool:
    try:
        return check.destination.stat(artifact.key, artifact.version_id) is None
    except BackupError:
        return False


def _documents(manifest: Manifest) -> Iterator[Artifact]:
    return (each.document for each in manifest.tables)


def _listed(destination: Destination, artifacts: list[Artifact]) -> dict[str, Stored]:
    """Return the entries of the artifacts in the destination's list, by key."""
    wanted = {each.key for each in artifacts}
    folders = sorted({f"{each.key.partition('/')[0]}/" for each in artifacts if not each.key.startswith(sets.SETS)})
    folders += sorted({"/".join(each.key.split("/")[:2]) + "/" for each in artifacts if each.key.startswith(sets.SETS)})
    return {each.key: each for folder in folders for each in destination.list(folder) if each.key in wanted}


def _verify_one(check: _Check, listed: dict[str, Stored], artifact: Artifact) -> None:
    try:
        stored = _stored(check, listed.get(artifact.key), artifact)
        found = _compared(artifact, stored)
        if stored is not None and check.level == 2:
            found = found or list(_hashed(check, artifact))
            found += _unprotected(artifact, stored)
        check.faults += found
    except BackupError as error:
        check.faults.append(_fault(artifact, "unreadable", error.message))
    check.done(artifact)


def _stored(check: _Check, listed: Stored | None, artifact: Artifact) -> Stored | None:
    # The list shows the oldest version and not the protection, and a store may leave an object out of a long list.
    same = listed is not None and listed.version_id == artifact.version_id
    if same and check.level == 1:
        return listed
    return check.destination.stat(artifact.key, artifact.version_id)


def _compared(artifact: Artifact, stored: Stored | None) -> list[Fault]:
    if stored is None:
        version = f" in version {artifact.version_id}" if artifact.version_id else ""
        return [_fault(artifact, "missing", f"it does not exist{version}")]
    if stored.size != artifact.size:
        return [_fault(artifact, "size", f"it has {stored.size} bytes in place of {artifact.size}")]
    return []


def _unprotected(artifact: Artifact, stored: Stored) -> Iterator[Fault]:
    if artifact.retained_until and (stored.retained_until or "") < artifact.retained_until:
        ends = f"ends at {stored.retained_until}" if stored.retained_until else "does not exist"
        yield _fault(artifact, "unprotected", f"its protection {ends} in place of {artifact.retained_until}")


def _hashed(check: _Check, artifact: Artifact) -> Iterator[Fault]:
    hashed, size = hashlib.sha256(), 0
    for block in check.destination.read(artifact.key, artifact.version_id):
        check.bandwidth.take(len(block))
        size += len(block)
        hashed.update(block)
    if size != artifact.size or hashed.hexdigest() != artifact.sha256:
        yield _fault(artifact, "hash", f"its SHA-256 is {hashed.hexdigest()} in place of {artifact.sha256}")


def _fault(artifact: Artifact, problem: Problem, detail: str) -> Fault:
    subject = artifact.subject
    return Fault(
        artifact.key,
        problem,
        detail,
        subject.component,
        subject.kind,
        subject.table,
        subject.snapshot_id,
        subject.partition,
    )


def _problem_of(error: BackupError) -> Problem:
    return "hash" if isinstance(error, IntegrityError) else "unreadable"
