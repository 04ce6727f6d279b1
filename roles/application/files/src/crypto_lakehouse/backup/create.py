# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a backup set: base backup, restore point, tables, raw objects, WAL, and the manifest at the end."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from crypto_lakehouse.backup import sets
from crypto_lakehouse.backup.configuration import check_recipients, seal
from crypto_lakehouse.backup.database.archive import GapError, WalRequest, find_wal, wait_for_wal, wal_artifacts
from crypto_lakehouse.backup.database.base import (
    ARCHIVE,
    DESCRIPTION,
    Base,
    reason_for_new_base,
    stored_bases,
    take_base,
    unfinished_bases,
)
from crypto_lakehouse.backup.database.pin import pin_database
from crypto_lakehouse.backup.database.programs import Deadline, programs
from crypto_lakehouse.backup.database.receiver import slot_name
from crypto_lakehouse.backup.database.server import Server
from crypto_lakehouse.backup.database.wal import Coverage, parse_lsn
from crypto_lakehouse.backup.destination import Destination, Stored
from crypto_lakehouse.backup.destination.opened import is_own_store, notices, open_destination
from crypto_lakehouse.backup.errors import BackupError, DestinationError, IntegrityError, RefusedError
from crypto_lakehouse.backup.lake.pins import Copied, current_items, omitted_tables, pin_and_copy
from crypto_lakehouse.backup.lake.store import Objects
from crypto_lakehouse.backup.lock import LOCK_WAIT_S
from crypto_lakehouse.backup.model import Artifact, DatabasePin, Manifest, Subject, TablePin, moment, timestamp
from crypto_lakehouse.backup.mover import OBJECTS, ConcurrentMover, Item, Limits, Progress, copy_key
from crypto_lakehouse.backup.reader import S3Archive, open_reader
from crypto_lakehouse.backup.report import manifest_lines, size_text
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.backup.state import State
from crypto_lakehouse.backup.verify import verify
from crypto_lakehouse.jobs import progress
from crypto_lakehouse.settings import Settings

log = logging.getLogger("lakehouse.backup")

BASE_DEADLINE_S: Final = 6 * 3600.0
WAL_DEADLINE_S: Final = 600.0
ENCRYPTED: Final[Mapping[str, Sequence[str]]] = {"secrets": ("secrets",), "configuration": ("etc", "inventory")}
"""Encrypted documents of a set, and the folders below the lakehouse's home that each holds."""


@dataclass(frozen=True, slots=True)
class Context:
    """Shared state of the steps of a run.

    known: artifacts of the newest set by key. damaged: keys that a verification found damaged. request_wal: asks the
    receiver to store WAL. safety: as in `Manifest`.
    """

    settings: Settings
    backup: BackupSettings
    destination: Destination
    mover: ConcurrentMover
    id: str
    started: datetime
    expires: datetime
    known: Mapping[str, Artifact]
    damaged: frozenset[str]
    guard: Callable[[], None]
    request_wal: Callable[[WalRequest], None]
    safety: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """The base backup of a set and its stored files."""

    base: Base
    artifacts: tuple[Artifact, ...]


def create(settings: Settings, backup: BackupSettings, *, safety: bool = False) -> dict[str, Any]:
    """Take a set, verify its sizes, and return the report.

    safety: whether a restore is about to replace the content of the set. It then waits for the end of another run: the
    service takes a missed set as soon as it starts.

    Raises:
        BackupError: where no set could be taken; the next run uses the stored content.
    """
    destination = open_destination(settings, backup, "create")
    refuse_unfit(backup, destination)
    state = State(settings, backup)
    with _alone(backup, destination, state, LOCK_WAIT_S if safety else 0.0) as guard:
        remove_unfinished(destination)
        for left in _work_folder(backup).glob("base-*"):
            # Left by a killed run: this one holds the lock.
            shutil.rmtree(left)
        context = _context(settings, backup, destination, state, guard)
        manifest = take_set(replace(context, safety=safety))
        progress("verifying sizes")
        proof = verify(destination, manifest.id, 1, prove=True)
    if not proof.is_good:
        raise IntegrityError(
            f"cannot rely on set {manifest.id}: {proof.faults[0]}", "See the destination, and repeat the backup."
        )
    lines = manifest_lines(manifest, destination.name)
    return {"set": manifest.id, "size": manifest.size, "own_size": manifest.own_size, "lines": lines}


@contextmanager
def _alone(
    backup: BackupSettings, destination: Destination, state: State, wait_s: float
) -> Iterator[Callable[[], None]]:
    """Hold the lock of this lakehouse and that of a destination which others may use; return the guard of both."""
    with state.lock(owner()).held(wait_s) as own:
        if is_own_store(backup):
            yield own
            return
        with destination.run_lock(owner(), state.lakehouse()).held(wait_s) as shared:

            def guard() -> None:
                own()
                shared()

            yield guard


def estimate(settings: Settings, backup: BackupSettings) -> dict[str, Any]:
    """Return the bytes that a set would store now and how long that would take; nothing is written.

    The duration follows from the time of the newest set and the rate of the one that stored most, None without one.

    Raises:
        RefusedError: where no good set could be taken.
    """
    destination = open_destination(settings, backup, "create")
    refuse_unfit(backup, destination)
    progress("reading tables and raw objects")
    folders = sets.list_folders(destination)
    stored, damaged = {each.key for each in destination.list(OBJECTS)}, sets.damaged_keys(destination, folders)
    wanted = {item.source.identity: item.source for item in current_items(settings, backup.only_current_snapshots)}
    missing = [each for each in wanted.values() if copy_key(each, damaged) not in stored]
    size = sum(each.size for each in missing)
    seconds = _seconds(sets.list_sets(destination, folders), size)
    lines = [
        f"A set would hold {len(wanted)} files, the base backup of the database and its write-ahead log",
        f"  {len(missing)} files, {size_text(size)}, would be stored in {destination.name}",
        f"  estimated duration: {f'{seconds:.0f} s' if seconds is not None else 'unknown before the first set'}",
        *notices(backup, destination),
    ]
    return {"objects": len(missing), "bytes": size, "duration_s": seconds, "lines": lines}


def _seconds(found: Sequence[sets.SetInfo], size: int) -> float | None:
    good = [each for each in found if each.state == "good"]
    if not good:
        return None
    # A set that stored little has no meaningful rate: most of its time is that of its steps.
    largest = max(good, key=lambda each: each.own_size)
    rate = largest.own_size / max(_duration(largest), 1.0)
    return max(_duration(good[0]), size / rate if rate else 0.0)


def _duration(info: sets.SetInfo) -> float:
    return (moment(info.finished_at) - moment(info.started_at)).total_seconds()


def refuse_unfit(backup: BackupSettings, destination: Destination) -> None:
    """Refuse a destination or recipients with which no good set can be taken; nothing was written then.

    Raises:
        RefusedError: naming every problem.
    """
    problems = destination.check()
    try:
        check_recipients(backup.recipients)
    except RefusedError as error:
        problems = [*problems, f"{error}."]
    if problems:
        raise RefusedError(f"cannot back up to {destination.name}: {' '.join(problems)}")


def owner(kind: str = "backup") -> str:
    """Return the identity of this run in the lock, for other runs."""
    return f"{kind} on {socket.gethostname()}, process {os.getpid()}"


def remove_unfinished(destination: Destination) -> None:
    """Delete remains of runs that were killed after the newest set and that no run uses: the caller holds the lock.

    Without credentials for pruning it stays until its protection ends.
    """
    newest = sets.latest(destination)
    after = newest.id if newest else ""
    # The base backup of a set is taken after the set began: it is finished, though its description may be lost.
    ended = f"{moment(newest.finished_at):%Y%m%dT%H%M%SZ}" if newest else ""
    used = newest.database.base_id if newest and newest.database else ""
    with suppress(RefusedError, DestinationError):
        for stored in (*sets.unfinished(destination, after), *unfinished_bases(destination, max(after, ended), used)):
            destination.delete(stored)


def show_progress(step: str) -> Progress:
    """Return a function that reports the progress of a copy or verification as that of a step."""

    def show(objects: int, all_objects: int, size: int, all_size: int) -> None:
        progress(step, objects=(objects, all_objects), size=(size, all_size))

    return show


def _context(
    settings: Settings, backup: BackupSettings, destination: Destination, state: State, guard: Callable[[], None]
) -> Context:
    started = datetime.now(UTC)
    expires = started + timedelta(days=backup.retention_days)
    known, damaged = _newest_artifacts(destination), frozenset(sets.damaged_keys(destination))
    mover = ConcurrentMover(
        destination,
        expires,
        guard=guard,
        known={each.source.identity: each for each in known if each.source},
        damaged=damaged,
        limits=Limits(bytes_per_s=backup.bandwidth_mb * 1e6 or None),
        progress=show_progress("copying"),
        archived=backup.archived_objects,
        archive=S3Archive(state.requests),
        same_store=is_own_store(backup),
    )
    return Context(
        settings,
        backup,
        destination,
        mover,
        new_id(started),
        started,
        expires,
        {each.key: each for each in known},
        damaged,
        guard,
        state.request_wal,
    )


def _newest_artifacts(destination: Destination) -> list[Artifact]:
    """Return the artifacts of the newest set; none where its inventory is damaged or lost, so that all are compared."""
    newest = sets.latest(destination)
    try:
        return list(sets.inventory(destination, newest)) if newest else []
    except (IntegrityError, DestinationError, RefusedError) as error:
        log.warning("every object is read and compared again: %s", error.message)
        return []


def new_id(started: datetime) -> str:
    """Return the id of a set that begins now."""
    return f"{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def take_set(context: Context) -> Manifest:
    """Take a set and return its manifest, which is stored last.

    The database is pinned first, then gold, silver, bronze and raw objects: the sources of recorded runs and of tables
    are in the set. The manifest waits for the WAL up to the restore point.

    Raises:
        BackupError: where a part cannot be stored; no manifest is written then.
    """
    # Encrypted once: each encryption has other bytes, and a key is never written with other content.
    documents = _documents(context)
    try:
        return _take(context, documents, must_be_new=False)
    except GapError as error:
        log.warning("%s", error.message)
        return _take(context, documents, must_be_new=True)


def _take(context: Context, documents: Sequence[Artifact], *, must_be_new: bool) -> Manifest:
    server = Server(context.backup.require("database_url"))
    taken = _base(context, server, must_be_new=must_be_new)
    pin = pin_database(server, taken.base, context.id)
    context.request_wal(WalRequest(pin.system_identifier, pin.timeline, parse_lsn(pin.lsn)))
    copied = _copy_lake(context)
    wal = _wal(context, taken.base, pin)
    artifacts = [*taken.artifacts, *wal, *copied.raw_files, *(each for table in copied.tables for each in table.files)]
    return _finish(context, pin, copied, [*artifacts, *documents])


def _work_folder(backup: BackupSettings) -> Path:
    return Path(backup.require("work_folder"))


def _base(context: Context, server: Server, *, must_be_new: bool) -> Taken:
    """Return the newest base backup where recovery can begin with it, else a new one."""
    progress("base backup")
    found, reason = _usable_base(context, server)
    if found and not must_be_new:
        return found
    reason = reason or "WAL after the newest one is missing"
    log.info("taking a base backup: %s", reason)
    scratch = _work_folder(context.backup) / f"base-{context.id}"
    try:
        scratch.mkdir(mode=0o700, parents=True)
        base = take_base(server, programs(context.backup), scratch, BASE_DEADLINE_S)
        return Taken(base, tuple(_store_base(context, base, scratch)))
    finally:
        # A signal may end the run before the folder exists.
        shutil.rmtree(scratch, ignore_errors=True)


def _usable_base(context: Context, server: Server) -> tuple[Taken | None, str]:
    """Return the newest base backup that recovery can begin with, or None and the reason against the newest one."""
    identity = server.identify()
    slot = server.read_slot(slot_name(identity.timeline))
    max_age = timedelta(days=context.backup.base_interval_days)
    reasons = []
    for base in stored_bases(context.destination, identity.system_identifier):
        is_recent = context.started - moment(base.taken_at) < max_age
        wal = find_wal(context.destination, base) if is_recent else None
        reason = reason_for_new_base(base, identity, wal, max_age, context.started, slot)
        try:
            artifacts = () if reason else tuple(_kept(context, each) for each in _base_artifacts(context, base, wal))
        except IntegrityError as error:
            artifacts, reason = (), error.message
        if not reason:
            return Taken(base, artifacts), ""
        reasons.append(reason)
        if not is_recent:
            break
    return None, (reasons or [reason_for_new_base(None, identity, None, max_age, context.started, slot)])[0]


def _store_base(context: Context, base: Base, scratch: Path) -> list[Artifact]:
    artifacts = [
        context.mover.store(base.key(file.name), scratch / file.name, _base_subject(file.name)) for file in base.files
    ]
    for file, artifact in zip(base.files, artifacts, strict=True):
        if (artifact.size, artifact.sha256) != (file.size, file.sha256):
            raise IntegrityError(f"cannot store {artifact.key}: it changed after it was taken", "Repeat the backup.")
    description = context.mover.store(base.key(DESCRIPTION), base.to_bytes(), _base_subject(DESCRIPTION))
    return [*artifacts, description]


def _base_artifacts(context: Context, base: Base, wal: Coverage | None) -> list[Artifact]:
    """Return the artifacts of a base backup that an earlier run stored; its description holds sizes and hashes.

    wal: WAL that is stored from it on.

    Raises:
        IntegrityError: where one is missing, or a verification found it or the WAL damaged.
    """
    expected = {file.name: (file.size, file.sha256) for file in base.files}
    keys = [
        *(base.key(name) for name in (*expected, DESCRIPTION)),
        *(each.stored.key for each in (wal.segments if wal else ())),
    ]
    for key in sorted(context.damaged.intersection(keys)):
        raise IntegrityError(f"cannot use base backup {base.id}: {key} is damaged")
    found = []
    for name in (*expected, DESCRIPTION):
        stored = context.destination.find(base.key(name))
        if stored is None:
            raise IntegrityError(f"cannot use base backup {base.id}: {base.key(name)} is missing")
        size, sha256 = expected.get(name, (stored.size, hashlib.sha256(base.to_bytes()).hexdigest()))
        found.append(_as_artifact(stored, size, sha256, _base_subject(name)))
    return found


def _as_artifact(stored: Stored, size: int, sha256: str, subject: Subject) -> Artifact:
    if stored.size != size or stored.sha256 not in ("", sha256):
        raise IntegrityError(f"cannot use {stored.key}: it is not what its description says", "Verify the sets.")
    return Artifact(
        stored.key, size, sha256, subject, version_id=stored.version_id, retained_until=stored.retained_until
    )


def _base_subject(name: str) -> Subject:
    return Subject("database", "base" if name == ARCHIVE else "base-manifest")


def _copy_lake(context: Context) -> Copied:
    read = open_reader(context.settings)

    def copy(items: Sequence[Item]) -> list[Artifact]:
        return context.mover.copy(items, read)

    return pin_and_copy(context.settings, copy, only_current=context.backup.only_current_snapshots)


def _documents(context: Context) -> list[Artifact]:
    """Store secrets and configuration, encrypted; nothing without recipients."""
    recipients, home = context.backup.recipients, context.backup.home
    if not recipients or not home:
        return []
    return [
        context.mover.store(
            f"sets/{context.id}/{name}.age",
            seal([Path(home) / folder for folder in folders], Path(home), recipients),
            Subject("configuration", name),
        )
        for name, folders in ENCRYPTED.items()
    ]


def _wal(context: Context, base: Base, pin: DatabasePin) -> list[Artifact]:
    progress("write-ahead log")
    stored = wait_for_wal(context.destination, base, parse_lsn(pin.lsn), Deadline(WAL_DEADLINE_S))
    return [_kept(context, each) for each in wal_artifacts(context.destination, stored, context.known)]


def _kept(context: Context, artifact: Artifact) -> Artifact:
    """Return an artifact of an earlier run, protected past the expiry of this set."""
    stored = Stored(artifact.key, artifact.size, artifact.sha256, artifact.version_id, artifact.retained_until)
    return replace(artifact, retained_until=context.destination.extend(stored, context.expires).retained_until)


def _finish(context: Context, pin: DatabasePin, copied: Copied, artifacts: list[Artifact]) -> Manifest:
    """Store the documents of the tables, the inventory, and the manifest."""
    tables: list[TablePin] = []
    for table in copied.tables:
        key = f"sets/{context.id}/tables/{table.pin.entry.tier}/{table.pin.entry.name}/metadata.json"
        document = context.mover.store(key, table.pin.content, table.pin.subject)
        artifacts.append(document)
        tables.append(table.pin.table_pin(document))
    inventory = sets.write_inventory(context.mover, context.id, artifacts)
    counts = Counter(artifact.subject.kind for artifact in artifacts)
    manifest = Manifest(
        id=context.id,
        environment=context.settings.environment,
        started_at=timestamp(context.started),
        finished_at=timestamp(datetime.now(UTC)),
        expires_at=timestamp(context.expires),
        inventory=inventory,
        versions=_versions(context, pin),
        tables=tuple(tables),
        raw=copied.raw.raw_pin if copied.raw else None,
        database=pin,
        counts=dict(sorted(counts.items())),
        size=sum(artifact.size for artifact in artifacts),
        own_size=context.mover.own_size,
        omitted=_omitted(context),
        warnings=tuple(_warnings(context, copied)),
        protected_until=sets.protected_until([inventory, *artifacts]),
        safety=context.safety,
    )
    sets.write_manifest(context.destination, manifest, context.expires, context.guard)
    return manifest


def _versions(context: Context, pin: DatabasePin) -> dict[str, str]:
    found = {"collection": context.backup.collection_version, "postgresql": pin.server_version}
    with suppress(BackupError):
        # A store whose reader cannot list buckets does not report its release.
        found["object_store"] = Objects(context.settings).server()
    return found


def _omitted(context: Context) -> dict[str, str]:
    found = omitted_tables(context.settings)
    skipped = [item.source for item in context.mover.skipped]
    found |= {source.uri: f"it is in storage class {source.storage_class}" for source in skipped}
    if not context.backup.recipients:
        found |= dict.fromkeys(ENCRYPTED, "no recipient of age is set")
    return found


def _warnings(context: Context, copied: Copied) -> list[str]:
    repinned = [f"{name} changed while it was copied and was pinned again" for name in sorted(set(copied.repinned))]
    trimmed = [
        f"{table.pin.full_name} holds its current snapshot alone" for table in copied.tables if table.pin.trimmed
    ]
    unusual = [warning for table in copied.tables for warning in table.pin.warnings]
    return [*notices(context.backup, context.destination), *repinned, *trimmed, *unusual]
