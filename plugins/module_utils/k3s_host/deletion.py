# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete directories without following symbolic links or leaving their mount, and read the mounts of a host."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ..host.errors import HostError

UNMOUNT_LIMIT_S = 20.0
POLL_S = 0.2
# Deeper directories are moved up, so that a malicious tree exhausts neither descriptors nor the stack.
DEPTH = 64
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UMOUNT_NOFOLLOW = 8
_MOVED = ".crypto-lakehouse-deleted-{}"
_OCTAL = re.compile(r"\\([0-7]{3})", re.ASCII)
_MOUNT_ID = re.compile(r"^mnt_id:\s+(\d+)$", re.MULTILINE | re.ASCII)


def mount_points(root: Path) -> tuple[str, ...]:
    """Return the mount points of the host whose files are below `root`, as paths on the host."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    found = [Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), line.split()[4])) for line in lines]
    return tuple(f"/{path.relative_to(root)}" for path in found if path.is_relative_to(root) and path != root)


def unmount(path: Path) -> None:
    """Unmount a mount point. Raise `HostError` if it stays in use."""
    deadline = time.monotonic() + UNMOUNT_LIMIT_S
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW):
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOENT):
            return
        if code != errno.EBUSY or time.monotonic() > deadline:
            raise HostError(f"cannot unmount {path}: {os.strerror(code)}. End its users (`fuser -vm {path}`).")
        time.sleep(POLL_S)


@contextlib.contextmanager
def opened(root: Path, path: str) -> Iterator[int]:
    """Open a directory of the host without following a link below `root`. Raise `HostError` for a link."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in Path(path.lstrip("/")).parts:
            child = os.open(name, _OPEN, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = child
        yield descriptor
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise HostError(f"cannot delete below {path}: a part of it is not a directory. Remove the link.") from None
        raise
    finally:
        os.close(descriptor)


def delete(root: Path, path: str) -> bool:
    """Delete a file, a link or a directory of the host and return whether it was there.

    A directory is deleted with its contents on the same mount. A mount point itself stays, empty. Raises `HostError`
    for a mount inside the directory, before any change on that mount.
    """
    place = Path(path)
    with contextlib.suppress(FileNotFoundError), opened(root, str(place.parent)) as parent:
        if not stat.S_ISDIR(os.stat(place.name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(place.name, dir_fd=parent)
            return True
        _delete_directory(parent, place)
        return True
    return False


def _delete_directory(parent: int, place: Path) -> None:
    descriptor = os.open(place.name, _OPEN, dir_fd=parent)
    try:
        _Emptying(descriptor, place).run()
    finally:
        os.close(descriptor)
    try:
        os.rmdir(place.name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise


def mount_id(descriptor: int) -> int:
    """Return the kernel's number of an open file's mount. A bind mount has its own number."""
    found = _MOUNT_ID.search(Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii"))
    return int(found[1]) if found else 0


def _names(descriptor: int) -> list[str]:
    with os.scandir(descriptor) as entries:
        return [entry.name for entry in entries]


class _Emptying:
    """The deletion of everything in one directory."""

    def __init__(self, top: int, place: Path) -> None:
        self.top, self.place = top, place
        self.mount = mount_id(top)

    def run(self) -> None:
        """Empty the directory, including directories that were moved up to it."""
        while _names(self.top):
            self._empty(self.top, self.place, 1)

    def _empty(self, descriptor: int, place: Path, depth: int) -> None:
        for name in _names(descriptor):
            if not stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                self._unlink(descriptor, place / name)
            else:
                self._descend(descriptor, place / name, depth)

    def _unlink(self, descriptor: int, path: Path) -> None:
        try:
            os.unlink(path.name, dir_fd=descriptor)
        except OSError as error:
            raise HostError(f"cannot delete {path}: {error.strerror}. Remove the cause and run again.") from None

    def _descend(self, parent: int, path: Path, depth: int) -> None:
        descriptor = os.open(path.name, _OPEN, dir_fd=parent)
        try:
            if mount_id(descriptor) != self.mount:
                raise HostError(f"cannot delete {path}: something is mounted there. Unmount it and run again.")
            if depth > DEPTH:
                # The number differs from that of any other directory here, also after an interrupted run.
                name = _MOVED.format(os.fstat(descriptor).st_ino)
                os.rename(path.name, name, src_dir_fd=parent, dst_dir_fd=self.top)
                return
            self._empty(descriptor, path, depth + 1)
        finally:
            os.close(descriptor)
        os.rmdir(path.name, dir_fd=parent)
