# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovers a database server from a base backup and WAL into a new folder, up to the restore point of a set.

The server that recovers listens on a socket in a private folder only. Its WAL comes from a local folder: no credential
of the destination is known to it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from crypto_lakehouse.backup.database.base import ARCHIVE, MANIFEST, Base, hash_file
from crypto_lakehouse.backup.database.programs import Deadline, DeadlineError, Programs, kill, last_lines, stop
from crypto_lakehouse.backup.database.wal import parse_lsn
from crypto_lakehouse.backup.destination import BLOCK_BYTES
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, RefusedError
from crypto_lakehouse.backup.model import DatabasePin

POLL_S: Final = 0.1
STOP_TIMEOUT_S: Final = 120.0
SUPERUSER: Final = "postgres"
STATUS_LINE: Final = 8
OTHER_TARGETS: Final = ("recovery_target", "recovery_target_lsn", "recovery_target_time", "recovery_target_xid")
_CLEAN: Final = "shut down"


@dataclass(frozen=True, slots=True)
class Recovery:
    """Inputs and outputs of a recovery.

    files: folder with the archive and the manifest of the base backup. wal: folder with the WAL from `start_wal` on,
    each segment under its name, and every known history. folder: new data folder. scratch: folder for socket, log and
    configuration; its path is at most some 80 characters long, as that of a socket.
    """

    base: Base
    pin: DatabasePin
    files: Path
    wal: Path
    folder: Path
    scratch: Path


def recover(
    recovery: Recovery, programs: Programs, check: Callable[[str], None], deadline_s: float, superuser: str = SUPERUSER
) -> Path:
    """Recover into the new folder and return it; the server in it was stopped cleanly.

    check: is called with the connection string of the recovered server, which takes writes, and raises where it is not
    as expected. The server is of a new timeline then.

    Raises:
        RefusedError: where the folder exists, or base backup and restore point do not belong together.
        IntegrityError: where a file of the base backup is damaged.
        BackupError: where recovery does not reach the restore point within the deadline; the new folder is incomplete.
    """
    deadline = Deadline(deadline_s)
    _refuse(recovery)
    unpack(recovery, programs, deadline)
    configuration = _configure(recovery, programs)
    with _serving(recovery, programs, configuration, superuser, deadline) as conninfo:
        check(conninfo)
    _confirm(recovery, programs, deadline)
    return recovery.folder


def _refuse(recovery: Recovery) -> None:
    base, pin = recovery.base, recovery.pin
    if recovery.folder.exists():
        raise RefusedError(f"cannot recover into {recovery.folder}: it exists", "Name a folder that does not exist.")
    if (base.id, base.system_identifier, base.timeline) != (pin.base_id, pin.system_identifier, pin.timeline):
        raise RefusedError(f"cannot recover from base backup {base.id}: the restore point is of {pin.base_id}")
    if parse_lsn(pin.lsn) < parse_lsn(base.end_lsn):
        raise RefusedError(f"cannot recover to {pin.lsn}: base backup {base.id} is consistent from {base.end_lsn} on")


def unpack(recovery: Recovery, programs: Programs, deadline: Deadline) -> None:
    """Unpack the base backup into the new folder and verify every file of it.

    Raises:
        IntegrityError: where a file is damaged or missing, or the archive holds something else than files and folders.
    """
    for expected in recovery.base.files:
        if hash_file(recovery.files / expected.name) != expected:
            raise _damaged(recovery, f"{expected.name} does not have its recorded SHA-256")
    recovery.folder.mkdir(mode=0o700, parents=True)
    try:
        with tarfile.open(recovery.files / ARCHIVE, "r|gz") as archive:
            for member in archive:
                programs.give(_extract(archive, member, recovery.folder))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            # Of the file system: damaged compression has no number.
            raise BackupError(
                f"cannot unpack base backup {recovery.base.id} into {recovery.folder}: {error.strerror}",
                "Free space on that file system, then restore again.",
            ) from None
        raise _damaged(recovery, f"its archive cannot be unpacked ({type(error).__name__})") from None
    programs.give(recovery.folder)
    manifest = f"--manifest-path={recovery.files / MANIFEST}"
    try:
        programs.run("pg_verifybackup", ["--no-parse-wal", "--quiet", manifest, str(recovery.folder)], deadline)
    except (RefusedError, DeadlineError):
        raise
    except BackupError as error:
        raise _damaged(recovery, error.message.removeprefix("cannot run pg_verifybackup: ")) from None


def _damaged(recovery: Recovery, cause: str) -> IntegrityError:
    return IntegrityError(f"cannot restore base backup {recovery.base.id}: {cause}", "Restore an earlier set.")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> Path:
    """Write a file or folder of the archive below `folder`, closed to other users, and return its path.

    The filters of `tarfile` do the same, which the first releases of Python 3.11 lack.
    """
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise tarfile.ReadError(f"{member.name!r} leaves the folder")
    path = folder / name
    if member.isdir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise tarfile.ReadError(f"{member.name!r} is neither a file nor a folder")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(content, file, BLOCK_BYTES)
    return path


def _configure(recovery: Recovery, programs: Programs) -> dict[str, str]:
    """Write what the recovering server reads, outside of the data folder, and return its parameters."""
    scratch = recovery.scratch
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch.chmod(0o700)
    hba = scratch / "pg_hba.conf"
    # Other users cannot reach the socket in this folder.
    hba.write_text("local all all trust\n", encoding="utf-8")
    configuration = scratch / "postgresql.conf"
    configuration.write_text("", encoding="utf-8")
    signal_file = recovery.folder / "recovery.signal"
    signal_file.touch(mode=0o600)
    for path in (scratch, hba, configuration, signal_file, recovery.wal, *recovery.wal.iterdir()):
        programs.give(path)
    source = shlex.quote(str(recovery.wal)).replace("%", "%%")
    return {
        "config_file": str(configuration),
        "hba_file": str(hba),
        "listen_addresses": "",
        "unix_socket_directories": str(scratch),
        "unix_socket_permissions": "0700",
        "restore_command": f"cp {source}/%f %p",
        # Another target that an administrator once set is an error beside this one, and must be taken back before it.
        **dict.fromkeys(OTHER_TARGETS, ""),
        # The restore point itself: recovery to its LSN would replay the next record too.
        "recovery_target_name": recovery.pin.restore_point,
        "recovery_target_timeline": str(recovery.pin.timeline),
        "recovery_target_action": "promote",
        "hot_standby": "off",
        "shared_buffers": "64MB",
        "log_statement": "none",
        "log_min_error_statement": "panic",
        "logging_collector": "off",
        "log_destination": "stderr",
        # Settings of an administrator must not make the copy connect to other systems.
        "archive_mode": "off",
        "archive_cleanup_command": "",
        "recovery_end_command": "",
        "primary_conninfo": "",
        "shared_preload_libraries": "",
        "ssl": "off",
    }


@contextmanager
def _serving(
    recovery: Recovery, programs: Programs, parameters: dict[str, str], superuser: str, deadline: Deadline
) -> Iterator[str]:
    """Run the server until it was promoted; return its connection string, and stop it cleanly after the block."""
    arguments = ["-D", str(recovery.folder)]
    arguments += [word for name, value in parameters.items() for word in ("-c", f"{name}={value}")]
    with (recovery.scratch / "recovery.log").open("w+b") as log:
        process = programs.start("postgres", arguments, log, as_user=True)
        try:
            conninfo = _promoted(process, log, recovery, superuser, deadline)
            yield conninfo
            status = stop(process, signal.SIGINT, min(STOP_TIMEOUT_S, deadline.left_s + 1))
        finally:
            kill(process)
        if status != 0:
            raise BackupError(f"cannot stop the recovered server: status {status}: {last_lines(log)}")


def _promoted(
    process: subprocess.Popen[bytes], log: IO[bytes], recovery: Recovery, superuser: str, deadline: Deadline
) -> str:
    """Return the connection string of the server once it takes writes."""
    from psycopg.conninfo import make_conninfo

    while not _is_ready(recovery.folder / "postmaster.pid"):
        if process.poll() is not None:
            raise BackupError(
                f"cannot recover to restore point {recovery.pin.restore_point}: the server ended: {last_lines(log)}",
                "Verify the set with level 2, and restore an earlier one where it is damaged.",
            )
        if deadline.has_passed:
            raise BackupError(
                f"cannot recover within {deadline.seconds:.0f} s: {last_lines(log)}", "Raise the deadline."
            )
        time.sleep(POLL_S)
    return make_conninfo(
        host=str(recovery.scratch), user=superuser, dbname="postgres", connect_timeout=10, application_name="recovery"
    )


def _is_ready(pid_file: Path) -> bool:
    """Return whether the server takes writes, as it says in the eighth line of its file (miscadmin.h)."""
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= STATUS_LINE and lines[STATUS_LINE - 1].strip() == "ready"


def _confirm(recovery: Recovery, programs: Programs, deadline: Deadline) -> None:
    """Refuse a server that did not end recovery exactly at the restore point, or was not stopped cleanly."""
    control = programs.run("pg_controldata", [str(recovery.folder)], deadline)
    values = dict(line.split(":", 1) for line in control.splitlines() if ":" in line)
    state = values.get("Database cluster state", "").strip()
    timeline = int(values.get("Latest checkpoint's TimeLineID", "0"))
    history = recovery.folder / "pg_wal" / f"{timeline:08X}.history"
    end = [line.split("\t")[:2] for line in history.read_text(encoding="utf-8").splitlines() if "\t" in line][-1:]
    if state != _CLEAN or end != [[str(recovery.pin.timeline), recovery.pin.lsn]]:
        raise BackupError(
            f"cannot use the recovered server: it is {state!r} and branched off at {end}, not at {recovery.pin.lsn}"
        )
    for left in ("backup_label.old", "tablespace_map.old"):
        (recovery.folder / left).unlink(missing_ok=True)
