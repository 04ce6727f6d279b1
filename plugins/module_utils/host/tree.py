# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write a folder tree atomically, without following symbolic links below its root."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BlockedError, HostError

LOCK_WAIT_S = 30.0
LOCK_POLL_S = 0.05
# Name of the hidden temporary file beside a written file.
_TEMPORARY = ".{}.new"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Entry:
    """The entry at a path: `kind` is missing, file, folder, symlink or special; `mode` are the permission bits.

    `data` is a file's content if it was requested and is readable.
    """

    path: Path
    kind: str
    mode: int = 0
    uid: int = -1
    data: bytes | None = field(default=None, repr=False)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number of a user without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@dataclass(frozen=True)
class Tree:
    """The tree below `root`, an absolute path whose parents may be links. Other paths are also absolute."""

    root: Path

    def parts(self, path: Path) -> tuple[str, ...]:
        """Return the names of the parts from the root to `path`. Raise `HostError` for a path outside."""
        if not path.is_absolute() or ".." in path.parts:
            raise HostError(f"{path}: must be an absolute path without '..'")
        if not path.is_relative_to(self.root):
            raise HostError(f"{path}: lies outside of {self.root}")
        return path.relative_to(self.root).parts

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[int]:
        """Yield a descriptor of `folder`. Raise `FileNotFoundError` if it is missing, `HostError` for a link in it."""
        parts = self.parts(folder)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, name in enumerate(parts):
                child = self._open_child(descriptor, name, self.root.joinpath(*parts[: depth + 1]))
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_child(self, descriptor: int, name: str, path: Path) -> int:
        try:
            return os.open(name, _OPEN_FOLDER, dir_fd=descriptor)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                kind = _kind(os.stat(name, dir_fd=descriptor, follow_symlinks=False))
                raise BlockedError(f"{path}: a folder is needed here, but it is a {kind}; move it away") from None
            if error.errno == errno.EACCES:
                me = user_name(os.geteuid())
                raise BlockedError(
                    f"{path}: {me} may not look into it; repair it: chown {me} {path}; chmod u+rwx {path}"
                ) from None
            raise

    def entry(self, path: Path, read: bool = False) -> Entry:
        """Return the entry at `path`, with a file's content if `read` is set."""
        parts = self.parts(path)
        try:
            if not parts:
                return _entry(path, path.stat())
            with self.opened(path.parent) as folder:
                found = _entry(path, os.stat(parts[-1], dir_fd=folder, follow_symlinks=False))
                if found.kind == "file" and read:
                    return Entry(path, found.kind, found.mode, found.uid, _read(folder, parts[-1]))
                return found
        except FileNotFoundError:
            return Entry(path, "missing")

    def write(self, path: Path, data: bytes, mode: int) -> None:
        """Write a file atomically: a new file beside it is flushed to the disk, then renamed over it.

        The new file's name is always the same, so that the unfinished file of a killed run is replaced.
        """
        temporary = _TEMPORARY.format(path.name)
        with self.opened(path.parent) as folder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            try:
                _create(folder, temporary, data, mode)
                os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise HostError(f"{path}: cannot be written: {error.strerror}") from None
            os.fsync(folder)

    def make_folder(self, path: Path, mode: int) -> None:
        """Create one folder whose parent exists, unless another run created it. Also create the root's parents."""
        try:
            if path == self.root:
                path.mkdir(0o700, parents=True)
            else:
                with self.opened(path.parent) as folder:
                    os.mkdir(path.name, 0o700, dir_fd=folder)
        except OSError as error:
            if not isinstance(error, FileExistsError) or self.entry(path).kind != "folder":
                raise HostError(f"{path}: cannot be made: {error.strerror}") from None
        self.set_mode(path, mode)

    def set_mode(self, path: Path, mode: int) -> None:
        """Set the permission bits of a file or folder, never those of a link's target."""
        if path == self.root:
            path.chmod(mode)
            return
        with self.opened(path.parent) as folder:
            # A path descriptor also opens unreadable entries of the owner, and cannot be replaced by a link meanwhile.
            descriptor = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                    raise HostError(f"{path}: is a symlink; move it away")
                Path(f"/proc/self/fd/{descriptor}").chmod(mode)
            finally:
                os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file or a link, unless it is already missing."""
        with contextlib.suppress(FileNotFoundError), self.opened(path.parent) as folder:
            os.unlink(path.name, dir_fd=folder)
            os.fsync(folder)

    def files_below(self, folder: Path) -> list[Path]:
        """Return all files and links at any depth below `folder`, sorted; empty if the folder is missing."""
        entry = self.entry(folder)
        if entry.kind == "missing":
            return []
        found: list[Path] = []
        with self.opened(folder) as descriptor, os.scandir(descriptor) as items:
            listed = [(item.name, item.is_dir(follow_symlinks=False)) for item in items]
        for name, is_folder in listed:
            path = folder / name
            if is_folder:
                found += self.files_below(path)
            elif self.entry(path).kind in ("file", "symlink"):
                found.append(path)
        return sorted(found)


def is_temporary(path: Path) -> bool:
    """Return whether this is the unfinished file of a killed run."""
    before, _name, after = _TEMPORARY.partition("{}")
    return path.name.startswith(before) and path.name.endswith(after)


def require_owner(entry: Entry) -> None:
    """Raise `BlockedError` for an entry of another user: writing would fail, or result in a tree with two owners."""
    if entry.kind != "missing" and entry.uid != os.geteuid():
        me, owner = user_name(os.geteuid()), user_name(entry.uid)
        raise BlockedError(f"{entry.path}: belongs to {owner}, not to {me}; {_chown_remedy(entry.path)}")


@contextlib.contextmanager
def locked(folder: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the folder's lock against concurrent runs. The kernel releases it when the process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HostError(
                        f"{folder}: another run has been changing it for {wait_s:g} s; wait for it to end"
                    ) from None
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _chown_remedy(path: Path) -> str:
    return f"run as its owner, or give it back: chown -R {user_name(os.geteuid())} {path}"


def _kind(status: os.stat_result) -> str:
    if stat.S_ISREG(status.st_mode):
        return "file"
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    return "symlink" if stat.S_ISLNK(status.st_mode) else "special"


def _entry(path: Path, status: os.stat_result) -> Entry:
    return Entry(path, _kind(status), stat.S_IMODE(status.st_mode), status.st_uid)


def _read(folder: int, name: str) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except PermissionError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _create(folder: int, name: str, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
