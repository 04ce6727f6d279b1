# SPDX-License-Identifier: GPL-3.0-or-later
"""A destination in a folder, best on another disk: objects are complete, never replaced, and readable by their owner.

A folder cannot protect its files against their owner: `is_locked` is false.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import secrets
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from crypto_lakehouse.backup.destination import BLOCK_BYTES, Stored
from crypto_lakehouse.backup.errors import BackupError, DestinationError, IntegrityError, RefusedError
from crypto_lakehouse.backup.lock import FolderLock
from crypto_lakehouse.backup.model import is_key

INCOMING: Final = ".incoming"
"""Folder of files that are being written; the next check removes those of a killed run."""

LOCK: Final = ".lock"
"""Folder of the lock; no list of objects holds it."""

ATTEMPTS: Final = 10
"""How often a writer begins again whose file was removed before it was in use."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FolderDestination:
    """A folder that belongs to the user of the backup; no path below it may lead through a symbolic link."""

    is_locked = False

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.name = str(folder)

    def check(self) -> list[str]:
        """Return the problems that would break a backup, each a sentence with its remedy; nothing is left behind."""
        try:
            with self._reporting("use "), self._opened(()) as root:
                problems = list(_of_root(self.root, os.fstat(root)))
            return problems or list(self._of_writing())
        except BackupError as error:
            return [str(error)]

    def warnings(self) -> list[str]:
        """Return weaknesses of the protection that do not break a backup, each with its remedy."""
        remedy = "Use a bucket with object lock for sets that must survive stolen credentials."
        return [f"Folder {self.root} has no object lock: its user can destroy sets. {remedy}"]

    def create(self, key: str, content: Iterator[bytes], size: int, until: datetime) -> Stored:  # noqa: ARG002 - of the protocol
        """Store a new file and return it with the SHA-256 of its bytes; it appears complete or not at all.

        Raises:
            IntegrityError: where the key exists with other content.
            DestinationError: where the folder is full or refuses.
        """
        *folders, name = _segments(key)
        with self._reporting(f"store {key}"), self._incoming() as (incoming, file, temporary):
            sha256 = _written(file, content, size)
            with self._opened(tuple(folders), make=True) as folder:
                created = _linked(incoming, temporary, folder, name)
        stored = Stored(key, size, sha256)
        return stored if created else self._agreeing(stored)

    def match(self, stored: Stored, content: Iterator[bytes], size: int, until: datetime) -> Stored:  # noqa: ARG002 - of the protocol
        """Return an existing file with its SHA-256 where a content is its content.

        Raises:
            IntegrityError: where they differ.
        """
        hashed, total = hashlib.sha256(), 0
        for block in content:
            total += len(block)
            hashed.update(block)
        if total != size:
            raise _wrong_size(total, size)
        return self._agreeing(Stored(stored.key, size, hashed.hexdigest()))

    def find(self, key: str) -> Stored | None:
        """Return a file, None where there is none."""
        *folders, name = _segments(key)
        try:
            with self._reporting(f"find {key}"), self._opened(tuple(folders)) as folder:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except _AbsentError:
            return None
        if not modes.S_ISREG(found.st_mode):
            raise RefusedError(f"cannot find {self._label(key)}: it is not a regular file", "Remove it.")
        return Stored(key, found.st_size)

    def stat(self, key: str, version_id: str | None) -> Stored | None:  # noqa: ARG002 - of the protocol
        """Return a file, None where there is none; a folder keeps no versions."""
        return self.find(key)

    def read(self, key: str, version_id: str | None = None) -> Iterator[bytes]:  # noqa: ARG002 - of the protocol
        """Return the content in blocks.

        Raises:
            DestinationError: where the file does not exist or cannot be read.
        """
        *folders, name = _segments(key)
        with self._reporting(f"read {key}"):
            with self._opened(tuple(folders)) as folder:
                file = os.open(name, _FILE, dir_fd=folder)
            with os.fdopen(file, "rb") as opened:
                while block := opened.read(BLOCK_BYTES):
                    yield block

    def list(self, prefix: str) -> Iterator[Stored]:
        """Return the files below a prefix, by key."""
        if prefix and not is_key(prefix.rstrip("/")):
            raise RefusedError(f"cannot list {prefix!r}: it leaves the destination's root")
        for found in self._below((), prefix):
            if found.key.startswith(prefix):
                yield found

    def extend(self, stored: Stored, until: datetime) -> Stored:  # noqa: ARG002 - of the protocol
        """Return the file as it is: a folder protects nothing."""
        return stored

    def run_lock(self, owner: str, lakehouse: str) -> FolderLock:
        """Return the lock against runs of other lakehouses that write to the same folder."""
        return FolderLock(self.root / LOCK, owner, lakehouse=lakehouse)

    def delete(self, stored: Stored) -> None:
        """Delete a file.

        Raises:
            DestinationError: where it cannot be deleted.
        """
        *folders, name = _segments(stored.key)
        with self._reporting(f"delete {stored.key}"), self._opened(tuple(folders)) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def _agreeing(self, sent: Stored) -> Stored:
        hashed, size = hashlib.sha256(), 0
        for block in self.read(sent.key):
            size += len(block)
            hashed.update(block)
        if (size, hashed.hexdigest()) == (sent.size, sent.sha256):
            return sent
        raise IntegrityError(
            f"cannot store {self._label(sent.key)}: it exists with other content",
            "Remove it, or set another destination.",
        )

    def _below(self, folders: tuple[str, ...], prefix: str) -> Iterator[Stored]:
        path = "".join(f"{each}/" for each in folders)
        if not (path.startswith(prefix) or prefix.startswith(path)):
            return
        with self._reporting(f"list {path}"), self._opened(folders) as folder, os.scandir(folder) as entries:
            # The order of keys is that of their bytes, in which a folder's name ends with a slash.
            found = sorted((f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name) for each in entries)
            sizes = {name: os.stat(name, dir_fd=folder, follow_symlinks=False) for name in found if name[-1] != "/"}
        for name in found:
            if name.endswith("/"):
                yield from self._below((*folders, name[:-1]), prefix) if (folders or name[0] != ".") else ()
            elif modes.S_ISREG(sizes[name].st_mode):
                yield Stored(path + name, sizes[name].st_size)
            else:
                raise RefusedError(f"cannot list {self._label(path + name)}: it is not a regular file", "Remove it.")

    @contextmanager
    def _opened(self, folders: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """Open a folder below the root, one segment after the other, none of them a symbolic link."""
        current = os.open(self.root, _DIRECTORY)
        try:
            for name in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=current)
                        os.fsync(current)
                following = os.open(name, _DIRECTORY, dir_fd=current)
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)

    @contextmanager
    def _incoming(self) -> Iterator[tuple[int, int, str]]:
        """Open the folder of files that are being written, and a new file in it, whose name is removed at the end."""
        folder, file, name = self._new_file()
        try:
            yield folder, file, name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            os.close(file)
            os.close(folder)

    def _new_file(self) -> tuple[int, int, str]:
        """Return folder, file and name; a check that runs meanwhile may remove both before they are in use."""
        for attempt in itertools.count(1):
            try:
                with self._opened((INCOMING,), make=True) as folder:
                    file, name = _locked_file(folder)
                    return os.dup(folder), file, name
            except FileNotFoundError:
                if attempt >= ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def _reporting(self, act: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise _AbsentError(*self._explain(act, error)) from None
        except OSError as error:
            raise DestinationError(*self._explain(act, error)) from None

    def _explain(self, act: str, error: OSError) -> tuple[str, str]:
        verb, _space, key = act.partition(" ")
        place = f"cannot {verb} {self._label(key)}"
        if error.errno in _FULL:
            return f"{place}: the destination is full", f"Free space below {self.root}, or set another folder."
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return f"{place}: a part of the path is a symbolic link or not a folder", "Remove it."
        return f"{place}: {error.strerror}", f"Check that {self.root} exists, is writable and is mounted."

    def _label(self, key: str) -> str:
        return str(self.root / key)

    def _of_writing(self) -> Iterator[str]:
        with self._reporting(f"write {INCOMING}"), self._incoming() as (incoming, _file, temporary):
            _remove_abandoned(incoming)
            try:
                _linked(incoming, temporary, incoming, f"{temporary}.link")
                os.unlink(f"{temporary}.link", dir_fd=incoming)
            except OSError as error:
                yield (
                    f"The file system of {self.root} has no hard links ({error.strerror}), so that files cannot be "
                    "created exclusively. Use a folder on another file system, for example ext4 or XFS."
                )
        with self._opened(()) as root, suppress(OSError):
            os.rmdir(INCOMING, dir_fd=root)


class _AbsentError(DestinationError):
    """A file does not exist."""


def _of_root(root: Path, found: os.stat_result) -> Iterator[str]:
    if found.st_uid != os.geteuid():
        yield f"Folder {root} belongs to another user. Give it to the user of the backup (uid {os.geteuid()})."
    elif found.st_mode & 0o022:
        yield f"Folder {root} is writable by others (mode {modes.S_IMODE(found.st_mode):04o}). Set its mode to 0700."


def _segments(key: str) -> list[str]:
    if not is_key(key) or key.startswith("."):
        raise RefusedError(f"cannot use the key {key!r}: it leaves the destination's root")
    return key.split("/")


def _locked_file(folder: int) -> tuple[int, str]:
    """Return a new file, which is locked while it is written, and its name.

    Raises:
        FileNotFoundError: where it was taken for an abandoned one before it was locked.
    """
    name = secrets.token_hex(16)
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400, dir_fd=folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except BaseException:
        os.close(file)
        raise
    return file, name


def _written(file: int, content: Iterator[bytes], size: int) -> str:
    hashed, total = hashlib.sha256(), 0
    for block in content:
        total += len(block)
        if total > size:
            break
        hashed.update(block)
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(file, rest) :]
    if total != size:
        raise _wrong_size(total, size)
    os.fsync(file)
    return hashed.hexdigest()


def _linked(source: int, temporary: str, folder: int, name: str) -> bool:
    """Give a complete file its name, and return whether that name was free: link(2) never replaces a file."""
    try:
        os.link(temporary, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    os.fsync(folder)
    return True


def _remove_abandoned(folder: int) -> None:
    # The kernel releases the lock of a killed writer.
    for name in os.listdir(folder):
        with suppress(OSError), contextlib.closing(os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb")) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)


def _wrong_size(total: int, size: int) -> IntegrityError:
    return IntegrityError(f"cannot store the content: it has {total} bytes or more, and {size} were announced")
