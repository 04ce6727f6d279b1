# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read facts of a machine quickly: distribution, users, memory, disk, interpreters."""

from __future__ import annotations

import contextlib
import grp
import os
import platform
import pwd
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..shared.commands import run_command

MIB = 1024 * 1024
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
PYTHON_WAIT_S = 5.0
_ASK_VERSION = "import sys; print(*sys.version_info[:3]); print(sys.base_prefix)"


@dataclass(frozen=True)
class Identity:
    """The user of programs. Without `uid`, the user does not exist yet and has the permissions of other users."""

    name: str
    uid: int | None = None
    groups: frozenset[int] = frozenset()
    home: str = ""

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """Return whether the user has the permission bits (4 read, 2 write, 1 search). Root has all."""
        if self.uid == 0:
            return True
        if self.uid is not None and status.st_uid == self.uid:
            return status.st_mode >> 6 & wanted == wanted
        if status.st_gid in self.groups:
            return status.st_mode >> 3 & wanted == wanted
        return status.st_mode & wanted == wanted


def identity(name: str) -> Identity:
    """Return the user with this name, with all groups."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return Identity(name)
    groups = frozenset(os.getgrouplist(name, entry.pw_gid))
    return Identity(name, entry.pw_uid, groups, entry.pw_dir)


def current_identity() -> Identity:
    """Return the user of this process, possibly without a name."""
    uid = os.geteuid()
    groups = frozenset({os.getegid(), *os.getgroups()})
    with contextlib.suppress(KeyError):
        entry = pwd.getpwuid(uid)
        return Identity(entry.pw_name, uid, groups, entry.pw_dir)
    return Identity(str(uid), uid, groups, os.environ.get("HOME", ""))


def is_incomplete(name: str, passwd: Path = Path("/etc/passwd"), shadow: Path = Path("/etc/shadow")) -> bool:
    """Return whether a local user has no shadow entry, since its creation was interrupted. PAM refuses such a user.

    `useradd` writes `/etc/shadow` after `/etc/passwd`. The result is false where one of them cannot be read.
    """
    try:
        users, passwords = (
            {line.partition(":")[0] for line in path.read_text("utf-8", "replace").splitlines()}
            for path in (passwd, shadow)
        )
    except OSError:
        return False
    return name in users and name not in passwords


def group_exists(name: str) -> bool:
    """Return whether a group with this name exists."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


@dataclass(frozen=True)
class System:
    """Distribution (`debian`), its version (`12`), and the processor's architecture (`x86_64`)."""

    distribution: str
    version: str
    architecture: str
    systemd: bool

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} on {self.architecture}"


def read_system(root: Path = Path("/")) -> System:
    """Return the system from /etc/os-release and the kernel."""
    words: dict[str, str] = {}
    for path in (root / "etc/os-release", root / "usr/lib/os-release"):
        with contextlib.suppress(OSError):
            found = re.findall(r"^([A-Z_]+)=[\"']?(.*?)[\"']?$", path.read_text(), re.MULTILINE)
            words = dict(found)
            break
    systemd = (root / "run/systemd/system").is_dir()
    return System(words.get("ID", "unknown"), words.get("VERSION_ID", ""), platform.machine(), systemd)


def available_memory_mib(root: Path = Path("/")) -> int:
    """Return the memory that the kernel reports as available, or less if a control group limits it."""
    memory = (root / "proc/meminfo").read_text()
    available = re.search(r"^MemAvailable:\s+(\d+) kB", memory, re.MULTILINE)
    limits = [int(available[1]) * 1024] if available else []
    return min([*limits, *_cgroup_limits(root)], default=0) // MIB


def _cgroup_limits(root: Path) -> list[int]:
    """Return the memory limits of this process' control group and its parents, of version 1 and 2."""
    found = []
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        # In a container, the group's own path may be hidden, but the mount is its root.
        for place in (folder, *folder.parents):
            if not place.is_relative_to(base):
                break
            with contextlib.suppress(OSError, ValueError):
                found.append(int((place / name).read_text()))
    return found


def resident_mib(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Return the resident memory of processes in MiB."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int((proc / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // MIB


def closed_part(path: Path, user: Identity, wanted: int = 1) -> Path | None:
    """Return the first part of an existing path without the required permission (`wanted` for the last part)."""
    resolved = path.resolve()
    for part in [*reversed(resolved.parents), resolved]:
        try:
            status = part.stat()
        except OSError:
            return part
        needed = wanted if part == resolved else 1
        if not user.may(status, needed) or (part != resolved and not stat.S_ISDIR(status.st_mode)):
            return part
    return None


def nearest_existing(path: Path) -> Path:
    """Return the path itself, or its nearest existing parent."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            place.lstat()
            return place
    return Path("/")


@dataclass(frozen=True)
class Python:
    """An interpreter and, if it cannot be used, the reason."""

    path: str
    version: str
    problem: str = ""


def pythons(user: Identity, given: Sequence[str] = ()) -> list[Python]:
    """Return the interpreters found, the given ones first, then the newest, each tested for the user."""
    newest_first = [f"{OLDEST_PYTHON[0]}.{minor}" for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1)]
    named = [f"{folder}/python{version}" for folder in ("/usr/local/bin", "/usr/bin") for version in newest_first]
    # The user chose the running interpreter. For a virtual environment, its base interpreter is used.
    running = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    there = [path for path in dict.fromkeys([*given, *named, running]) if path in given or os.path.lexists(path)]
    return [_examine(path, user) for path in there]


def _examine(path: str, user: Identity) -> Python:
    closed = closed_part(Path(path), user, wanted=5)
    if closed is not None:
        reason = "is missing" if not closed.exists() else f"is closed to user {user.name}"
        return Python(path, "", f"{closed} {reason}")
    try:
        version, prefix = run_command([path, "-I", "-S", "-c", _ASK_VERSION], PYTHON_WAIT_S).output.splitlines()
        numbers = tuple(map(int, version.split()))
    except (OSError, ValueError):
        return Python(path, "", "does not run")
    library = Path(prefix) / f"lib/python{numbers[0]}.{numbers[1]}/os.py"
    if not OLDEST_PYTHON <= numbers[:2] <= NEWEST_PYTHON:
        return Python(path, ".".join(map(str, numbers)), f"is version {'.'.join(map(str, numbers))}")
    closed = closed_part(library, user, wanted=4)
    problem = "" if closed is None else f"its library {closed} is closed to user {user.name}"
    return Python(path, ".".join(map(str, numbers)), problem)
