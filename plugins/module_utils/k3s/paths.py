# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards of paths that a removal deletes: a value, and the state of its directory on a host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..shared.problem import Problem

# Records of this collection in a data directory: its cluster, and the hash of the settings that K3s was started with.
MARKER_FILE = "crypto-lakehouse.json"
APPLIED_FILE = "crypto-lakehouse-applied.json"
# Directories of the system, and usual mount points that hold data of several programs.
_SYSTEM = """
/ /bin /boot /data /dev /etc /etc/rancher /export /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv
/storage /sys /tmp /usr /usr/lib /usr/local /usr/local/bin /var /var/cache /var/lib /var/lib/kubelet /var/lib/rancher
/var/log /var/run /var/tmp
"""
_NOT_FOR_DATA = "/boot /dev /etc /proc /run /sys /tmp /usr /var/run /var/tmp"


@dataclass(frozen=True)
class PathState:
    """A directory as a host sees it.

    resolved: the path without symbolic links. mounts: mount points of the host. marker_cluster: the name in this
    collection's marker there, empty without one. exists: whether anything is there. entries: names in the
    directory. links: other paths of a removal that lead elsewhere by a symbolic link, with their targets. foreign:
    units of K3s that this collection did not write. remains: what a removal would end, unmount or delete on the host.
    """

    path: str
    exists: bool = True
    resolved: str = ""
    mounts: tuple[str, ...] = ()
    marker_cluster: str = ""
    entries: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()


def path_problems(variable: str, path: str) -> list[Problem]:
    """Return the problem of a path that must never be deleted, regardless of its content."""
    reason = _reason(path)
    if not reason:
        return []
    return [Problem(variable, f"{path!r} cannot be a data directory: {reason}", "set a directory of its own")]


def _reason(path: str) -> str:
    if not path.strip():
        return "it is empty"
    if not path.isprintable() or path != path.strip():
        return "it contains white space at its ends or control characters"
    if not path.startswith("/"):
        return "it is not absolute"
    parts = path.split("/")
    if ".." in parts or "." in parts:
        return "it contains `.` or `..`"
    pure = PurePosixPath("/" + path.lstrip("/"))
    if str(pure) in _SYSTEM.split():
        return "it belongs to the system or to other programs"
    if pure.parent == PurePosixPath("/"):
        return "it is directly below the root"
    if pure.parent == PurePosixPath("/home"):
        return "it is a home directory"
    if any(pure.is_relative_to(top) for top in _NOT_FOR_DATA.split()):
        return "it is in a directory of the system that is volatile or not for data"
    return ""


def state_problems(variable: str, state: PathState, cluster: str, unmounted: Iterable[str] = ()) -> list[Problem]:
    """Return the problems of deleting a directory of a cluster on a host.

    unmounted: mount points that the removal unmounts first. Refused: a bad path, a symbolic link in the path, a mount
    point below it that stays, and a directory without the cluster's marker. The directory may be a mount point itself.
    """
    problems = path_problems(variable, state.path)
    if problems or not state.exists:
        return problems
    if PurePosixPath(state.resolved or state.path) != PurePosixPath(state.path):
        message = f"cannot delete {state.path}: it leads to {state.resolved} by a symbolic link"
        problems.append(Problem(variable, message, f"set {state.resolved}, or remove the link"))
    left = sorted({*mounts_below(state.mounts, state.path)} - {*unmounted})
    if left:
        message = f"cannot delete {state.path}: {', '.join(left)} is mounted there"
        problems.append(Problem(variable, message, "unmount it, or keep the directory"))
    if not state.marker_cluster and state.entries:
        message = f"cannot delete {state.path}: no marker shows that this collection created it"
        problems.append(Problem(variable, message, "set the data directory of the cluster, or delete this one"))
    elif state.marker_cluster not in ("", cluster):
        message = f"cannot delete {state.path}: it belongs to the cluster {state.marker_cluster}, not {cluster}"
        problems.append(Problem(variable, message, "confirm the name of the cluster that is there"))
    return problems


def mounts_below(mounts: Iterable[str], root: str) -> list[str]:
    """Return the mount points strictly below a path; the path itself may be a disk of its own."""
    base = PurePosixPath(root)
    return [mount for mount in mounts if base in PurePosixPath(mount).parents]
