# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache files between runs, below Ansible's home. Only files of this user are read."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

_VERSIONS_KEPT = 4
_CLOSED = 0o022


def is_own(path: Path) -> bool:
    """Return whether a path exists, belongs to this user, and is not writable by other users."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode) and not status.st_mode & _CLOSED


def make_folder(folder: Path) -> bool:
    """Create the folder of a version, and return whether it belongs to this user only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return is_own(folder)


def write(path: Path, content: bytes) -> None:
    """Write a file atomically; another run may write it concurrently."""
    partial = path.with_name(f"{path.name}-part{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.replace(path)


def remove_old_versions(folder: Path) -> None:
    """Remove the folders of the oldest versions."""
    versions = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in versions[_VERSIONS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
