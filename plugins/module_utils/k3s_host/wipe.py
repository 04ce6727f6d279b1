# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove K3s from a host: only its units, processes, mounts, interfaces and files."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..host.errors import HostError
from ..host.processes import Process, read_processes, stop_processes, with_ancestors, with_descendants
from ..k3s.paths import PathState, path_problems
from ..k3s.wiping import CONFIGURATION, Scope, directories, mounts_of_k3s, records
from ..shared.commands import run_command
from .deletion import delete, mount_points, opened, unmount
from .files import below, read_marker
from .release import Record
from .service import UNIT_FOLDER, UNITS

# The first words of files that this collection writes.
WRITTEN = "# Written by crypto_lakehouse.platform"
ENVIRONMENT = ".env"
COMMAND_LIMIT_S = 180.0
# Timeout for the end of containers, and then of their runtime.
END_WAIT_S = 10.0
# Commands that install.sh of K3s links to the binary.
_LINKS = ("kubectl", "crictl", "ctr")
_INTERFACES = ("cni0", "flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6", "kube-ipvs0")
# Directories of K3s or this collection, removed if empty.
_PARENTS = (
    *("/var/lib/rancher", "/etc/rancher"),
    *("/usr/local/share/crypto-lakehouse", "/usr/local/lib/crypto-lakehouse"),
)


@dataclass(frozen=True)
class Place:
    """Locations of K3s on a host. `root` is the folder of the host's files."""

    scope: Scope
    binary: str = "/usr/local/bin/k3s"
    record: str = "/usr/local/share/crypto-lakehouse/k3s.json"
    root: Path = Path("/")

    def on(self, path: str) -> Path:
        """Return a path of the host."""
        return below(self.root, path)

    def there(self, paths: Iterable[str]) -> list[str]:
        """Return the existing paths of the host. A link counts, regardless of its target."""
        return [path for path in paths if os.path.lexists(self.on(path))]

    def resolved(self, path: str) -> str:
        """Return a path of the host without symbolic links."""
        found, root = os.path.realpath(self.on(path)), os.path.realpath(self.root)
        return f"/{os.path.relpath(found, root)}" if Path(found).is_relative_to(root) else found


@dataclass(frozen=True)
class Findings:
    """Objects that a removal ends, unmounts and deletes, each in order. `state` decides whether it is permitted."""

    state: PathState
    units: tuple[str, ...] = ()
    processes: tuple[Process, ...] = ()
    mounts: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return a line for each."""
        return [
            *(f"unit {name}" for name in self.units),
            *(f"process {process.pid} {Path(process.command[0]).name}" for process in self.processes),
            *(f"mount {path}" for path in self.mounts),
            *(f"interface {name}" for name in self.interfaces),
            *self.paths,
        ]


def examine(place: Place) -> Findings:
    """Return the effects of a removal on this host. Read-only."""
    state = _state(place)
    if path_problems("data_dir", place.scope.data_dir):
        return Findings(state)
    ours = bool(state.marker_cluster) or _is_written(place.on(f"{CONFIGURATION}/config.yaml"))
    written = _written_units(place)
    found = Findings(state, units=tuple(name for name in written if not name.endswith(ENVIRONMENT)))
    paths = _paths(place, state, written, ours=ours)
    foreign = tuple(name for name in UNITS.values() if name not in written and place.there([_unit_path(name)]))
    if ours:
        interfaces = tuple(name for name in _INTERFACES if os.path.lexists(place.on(f"/sys/class/net/{name}")))
        mounts = tuple(mounts_of_k3s(place.scope, state.mounts))
        found = replace(found, processes=_processes(place), mounts=mounts, interfaces=interfaces)
    found = replace(found, paths=tuple(paths))
    state = replace(
        state, links=_links(place, state, paths), foreign=foreign if ours else (), remains=tuple(found.lines())
    )
    return replace(found, state=state)


def _state(place: Place) -> PathState:
    base = place.scope.base
    folder = place.on(base)
    exists = bool(base) and os.path.lexists(folder)
    marker = read_marker(folder) if exists else None
    return PathState(
        path=place.scope.data_dir,
        exists=exists,
        resolved=place.resolved(base) if exists else "",
        mounts=mount_points(place.root),
        marker_cluster=marker.cluster if marker else "",
        entries=tuple(sorted(each.name for each in folder.iterdir())) if exists and folder.is_dir() else (),
    )


def _is_written(path: Path) -> bool:
    """Return whether this collection writes a file."""
    with contextlib.suppress(OSError):
        return not path.is_symlink() and path.read_bytes().startswith(WRITTEN.encode())
    return False


def _unit_path(name: str) -> str:
    return f"/{UNIT_FOLDER}/{name}"


def _written_units(place: Place) -> list[str]:
    """Return the names of units that this collection wrote and of their environment files, timers first."""
    found = [path.name for path in place.on(_unit_path("")).glob("k3s*") if _is_written(path)]
    return sorted(found, key=lambda name: (not name.endswith(".timer"), name))


def _paths(place: Place, state: PathState, written: Iterable[str], *, ours: bool) -> list[str]:
    """Return the paths to delete. The configuration and the records of our host are the last."""
    listed = directories(place.scope) if ours else []
    known = [path for path in listed if path != CONFIGURATION]
    last = [path for path in listed if path == CONFIGURATION] + (records(place.scope, state) if ours else [])
    return place.there([*known, *_installed(place), *map(_unit_path, written), *last])


def _installed(place: Place) -> list[str]:
    """Return the binary in the record, links to it, and the record. A binary without a record is not ours."""
    recorded = dict(Record.read(place.on(place.record)).files)
    own = [place.record, str(Path(place.record).with_name("staged"))]
    if place.binary not in recorded:
        return own
    links = [str(Path(place.binary).with_name(name)) for name in _LINKS]
    found = [link for link in links if place.on(link).is_symlink() and _leads_to(place.on(link), place.binary)]
    return [*found, place.binary, *own]


def _leads_to(link: Path, binary: str) -> bool:
    return str(link.readlink()) in (binary, Path(binary).name)


def _links(place: Place, state: PathState, paths: Iterable[str]) -> Mapping[str, str]:
    """Return the targets of directories that a link leads to, except those in a data directory that is a link."""
    base, found = place.scope.base, {}
    for path in paths:
        inside = path.startswith(f"{base}/") and state.resolved != base
        if not inside and path in directories(place.scope) and place.resolved(path) != path:
            found[path] = place.resolved(path)
    return found


def _processes(place: Place) -> tuple[Process, ...]:
    """Return processes of this installation: unpacked programs and their children. Containers come first.

    A shim, and the containers of its pod, continue when K3s stops.
    """
    known = read_processes()
    programs = f"{os.path.realpath(place.on(place.scope.base))}/data/"
    runtime = {pid for pid in known if _program(pid).startswith(programs)}
    doomed = with_descendants(runtime, known)
    if doomed & with_ancestors(os.getpid(), known):
        raise HostError("cannot remove K3s: this run is in one of its containers. Run it from another machine.")
    return tuple(known[pid] for pid in [*sorted(doomed - runtime), *sorted(runtime)])


def _program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/exe").readlink())
    return ""


def remove(place: Place, found: Findings) -> None:
    """Remove K3s from the host. `found` was examined and permitted; later objects are searched again."""
    for name in found.units:
        _systemctl("disable", "--now", name)
    _end(place)
    _unmount_all(place)
    for name in found.interfaces:
        _run("ip", "link", "delete", name)
    for path in found.paths:
        delete(place.root, path)
    if found.units:
        _systemctl("daemon-reload")
    _remove_empty(place)


def _systemctl(*words: str) -> None:
    done = _run("systemctl", *words)
    if done:
        raise HostError(f"cannot run `systemctl {' '.join(words)}`: {done}. Stop the service and run again.")


def _run(*command: str) -> str:
    """Run a command and return the last line of its output if it fails."""
    done = run_command(command, COMMAND_LIMIT_S)
    lines = done.output.strip().splitlines()
    return (lines[-1] if lines else f"exit code {done.status}") if done.status else ""


def _end(place: Place) -> None:
    """End containers, and then their runtime. A container may start another process meanwhile."""
    programs = f"{os.path.realpath(place.on(place.scope.base))}/data/"
    contained = [process for process in _processes(place) if not _program(process.pid).startswith(programs)]
    stop_processes(contained, signal.SIGTERM, END_WAIT_S)
    stop_processes(_processes(place), signal.SIGTERM, END_WAIT_S)
    left = _processes(place)
    if left:
        raise HostError(f"cannot end {Path(left[0].command[0]).name} ({left[0].pid}). End it and run again.")


def _unmount_all(place: Place) -> None:
    """Unmount the deepest first. A directory with several mounts is unmounted several times."""
    while mounts := mounts_of_k3s(place.scope, mount_points(place.root)):
        for path in mounts:
            unmount(place.on(path))


def _remove_empty(place: Place) -> None:
    for path in (place.scope.base, *_PARENTS):
        parent, name = os.path.split(path)
        with contextlib.suppress(OSError), opened(place.root, parent) as folder:
            os.rmdir(name, dir_fd=folder)
