# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scope of a removal on a host: mount points, directories and files in their order, and obstacles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..shared.problem import Problem
from .model import ClusterSpec
from .paths import APPLIED_FILE, MARKER_FILE, PathState, mounts_below, path_problems, state_problems

DATA_DIR = "k3s_data_dir"
DELETE_DATA = "k3s_delete_data"
LOCAL_STORAGE = "default-local-storage-path"
STORAGE = "storage"
CONFIGURATION = "/etc/rancher/k3s"
# Parts of the data directory that K3s creates; volumes of local-path are in `storage` beside them.
PARTS = ("agent", "server", "data")
# A file system that is mounted as the data directory contains it.
_LOST = "lost+found"
# Directories of K3s and this collection outside the data directory; the configuration's is the last.
_OUTSIDE = (
    *("/run/k3s", "/run/flannel", "/var/lib/kubelet", "/var/lib/cni", "/usr/local/lib/crypto-lakehouse/k3s"),
    *("/etc/rancher/node", CONFIGURATION),
)
# Below these, mount points belong to pods and containers. A disk elsewhere in the data directory was mounted by an
# administrator.
_MOUNT_ROOTS = ("/run/k3s", "/var/lib/kubelet")
_CONTAINERS = "agent/containerd"
# Network namespaces of pods, one mount each.
_NAMESPACES = PurePosixPath("/run/netns")
_NAMESPACE_PREFIX = "cni-"


@dataclass(frozen=True)
class Scope:
    """The permitted scope of a removal: the directory of a cluster, and volumes if `delete_data`.

    storage: the directory of volumes outside the data directory.
    """

    cluster: str
    data_dir: str
    storage: str = ""
    delete_data: bool = False

    @classmethod
    def of(cls, spec: ClusterSpec, *, delete_data: bool = False) -> Scope:
        """Return the scope of a cluster."""
        return cls(spec.name, spec.data_dir, str(spec.configuration.get(LOCAL_STORAGE) or ""), delete_data)

    @property
    def base(self) -> str:
        """The data directory without a trailing slash."""
        return self.data_dir.rstrip("/")

    @property
    def volumes(self) -> str:
        """The directory of volumes."""
        return self.storage.rstrip("/") or f"{self.base}/{STORAGE}"


def mounts_of_k3s(scope: Scope, mounts: tuple[str, ...]) -> list[str]:
    """Return the mount points of K3s, the deepest first. Only these are unmounted."""
    found = {mount for root in (f"{scope.base}/{_CONTAINERS}", *_MOUNT_ROOTS) for mount in mounts_below(mounts, root)}
    found |= {mount for mount in mounts if _is_namespace(PurePosixPath(mount))}
    return sorted(found, key=lambda mount: (-mount.count("/"), mount))


def _is_namespace(mount: PurePosixPath) -> bool:
    return mount.parent == _NAMESPACES and mount.name.startswith(_NAMESPACE_PREFIX)


def directories(scope: Scope) -> list[str]:
    """Return the directories that are deleted with their contents, in their order.

    The configuration and the marker identify the host as ours. They are deleted last, so that an interrupted removal
    can be continued.
    """
    inside = [f"{scope.base}/{part}" for part in PARTS]
    return [*inside, *([scope.volumes] if scope.delete_data else []), *_OUTSIDE]


def records(scope: Scope, state: PathState) -> list[str]:
    """Return the records in the data directory to delete. The marker stays if anything else stays there."""
    ours = {*PARTS, _LOST, MARKER_FILE, APPLIED_FILE, *([STORAGE] if scope.delete_data else [])}
    names = [APPLIED_FILE] if {*state.entries} - ours else [APPLIED_FILE, MARKER_FILE]
    return [f"{scope.base}/{name}" for name in names]


def wipe_problems(scope: Scope, host: str, state: PathState) -> list[Problem]:
    """Return every obstacle to a removal on a host, before any change."""
    if PurePosixPath(state.path or ".") != PurePosixPath(scope.data_dir or "."):
        message = f"the data directory of {host} is {state.path or 'empty'}, not {scope.data_dir or 'empty'}"
        return [Problem(DATA_DIR, message, "set the directory that the cluster uses")]
    kept = [] if scope.delete_data else mounts_below(state.mounts, f"{scope.base}/{STORAGE}")
    problems = state_problems(DATA_DIR, state, scope.cluster, [*mounts_of_k3s(scope, state.mounts), *kept])
    problems += [_foreign_problem(host, unit) for unit in state.foreign]
    return [*problems, *_link_problems(host, state.links), *_volume_problems(scope, host, state)]


def _foreign_problem(host: str, unit: str) -> Problem:
    message = f"cannot remove K3s from {host}: the unit {unit} was not written by this collection"
    return Problem("k3s_servers", message, f"stop it and delete /etc/systemd/system/{unit}")


def _link_problems(host: str, links: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(DATA_DIR, f"cannot delete {path} on {host}: it leads to {target} by a symbolic link", "remove the link")
        for path, target in sorted(links.items())
    ]


def _volume_problems(scope: Scope, host: str, state: PathState) -> list[Problem]:
    """Return the obstacles to a deletion of volumes in a separate directory."""
    if not scope.delete_data or not scope.storage:
        return []
    mounts = mounts_below(state.mounts, scope.volumes)
    if not mounts:
        return path_problems("k3s_configuration", scope.storage)
    message = f"cannot delete {scope.volumes} on {host}: {', '.join(sorted(mounts))} is mounted there"
    return [Problem(DELETE_DATA, message, "unmount it, or keep the volumes")]
