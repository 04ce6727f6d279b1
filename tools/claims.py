# SPDX-License-Identifier: GPL-3.0-or-later
"""Claim ports, users and folders of this machine for a single run of the tests.

A claim is a lock on a file in a folder that all runs on the machine share. The kernel releases it with the process that
holds it, so that a killed run does not block later ones. The file contains the folder of its holder's lakehouse: the
next holder removes leftovers of a killed one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (  # noqa: E402
    environment_of,
    read_processes,
    supervised,
    with_ancestors,
    with_descendants,
)

sys.path.insert(0, str(REPOSITORY))

from tools import systemd_hosts  # noqa: E402

AS_ROOT = os.geteuid() == 0
# One folder for all runs, independent of their TMPDIR.
TEMPORARY = Path("/tmp")  # noqa: S108 - files in it are opened as what a stranger may have put there
CLAIMS = TEMPORARY / "crypto-lakehouse-claims"
LOOPBACK = "127.0.0.1"
# Single ports are above those of every lakehouse.
SINGLE_PORTS = range(28_000, 32_768)
# Other programs often use ports slightly above the well-known ones.
LOWEST_OFFSET, HIGHEST_OFFSET = 2_000, 8_600
OFFSET_STEP = 20
# Services that a Molecule scenario adds or moves.
ADDED_PORTS = frozenset({8090, 8899})
PREFIX = "lakehouse-"
HOSTS = "hosts"
# This environment variable identifies a process of the place, also after the end of its parent.
FOLDER_VARIABLE = "LAKEHOUSE_TEST_FOLDER"
# Time limit for the end of processes after SIGKILL: those of a busy disk end late.
KILL_LIMIT_S = 60.0
# Time limit of a podman command, after which it is killed like every other process.
COMMAND_LIMIT_S = 30.0


class ClaimError(Exception):
    """All ports or places are in use."""


@dataclass
class Claim:
    """A name that is locked until it is released or this process ends."""

    name: str
    descriptor: int
    # Whether the file belongs to this user: the text of another user is neither trusted nor changed.
    own: bool

    def noted(self) -> str:
        """Return the note of this holder or of the previous one; empty without a note."""
        return os.pread(self.descriptor, 4096, 0).decode(errors="replace") if self.own else ""

    def note(self, text: str) -> None:
        """Replace the note."""
        if self.own:
            os.truncate(self.descriptor, 0)
            os.pwrite(self.descriptor, text.encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self.descriptor)


def claim(names: Iterable[object], usable: Callable[[Claim], bool] = lambda _: True, folder: Path = CLAIMS) -> Claim:
    """Lock and return the first of the names that is `usable` and that no other process holds.

    Raises:
        ClaimError: when there is none.
    """
    _prepare(folder)
    for name in names:
        found = _locked(folder, str(name))
        if found is None:
            continue
        with contextlib.ExitStack() as undo:
            undo.callback(found.release)
            if usable(found):
                undo.pop_all()
                return found
    raise ClaimError(
        f"cannot claim a place for tests: all are taken. See who holds the files in {folder}: lsof {folder}/*"
    )


def _prepare(folder: Path) -> None:
    """Create the folder that all users share, like the temporary folder."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise ClaimError(f"cannot claim a place for tests: {folder} is not a folder. Remove it.")


def _locked(folder: Path, name: str) -> Claim | None:
    """Return the locked file; None when another process holds it or it is not a regular file."""
    path = folder / name
    try:
        descriptor = _opened(path)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            return None
        raise
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode) or not _is_at(path, opened):
            return None
        undo.pop_all()
        return Claim(name, descriptor, opened.st_uid == os.geteuid() and opened.st_nlink == 1)


def _opened(path: Path) -> int:
    """Open a file for its lock, never through a link. Another user's file can be locked without being written."""
    careful = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with contextlib.suppress(PermissionError):
        return os.open(path, os.O_RDWR | os.O_CREAT | careful, 0o644)
    return os.open(path, os.O_RDONLY | careful)


def _is_at(path: Path, opened: os.stat_result) -> bool:
    """Return whether the path still refers to the opened file: a cleaner may have removed it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), opened)
    return False


def ephemeral_from() -> int:
    """Return the first port of the kernel's range for outgoing connections."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    return 32_768


def can_listen(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as listener:
        # As servers do: recently closed connections do not block the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
            listener.listen()
        except OSError:
            return False
    return True


def claim_port() -> tuple[int, Claim]:
    """Claim a port for a server of a test."""
    ports = (port for port in SINGLE_PORTS if port < ephemeral_from())
    found = claim((f"port-{port}" for port in ports), lambda each: can_listen(_number(each)))
    return _number(found), found


def _number(found: Claim) -> int:
    return int(found.name.rpartition("-")[2])


def platform_ports() -> frozenset[int]:
    """Return every port of a lakehouse on a host, before the offset."""
    described = yaml.safe_load((REPOSITORY / "roles/catalogue/vars/main.yml").read_text(encoding="utf-8"))
    services = described["catalogue_services"].values()
    return ADDED_PORTS | {port["port"] for service in services for port in (service.get("ports") or {}).values()}


def offsets(ports: frozenset[int], below: int) -> list[int]:
    """Return port offsets so that two lakehouses, including one without an offset, never share a port."""
    distances = {one - other for one in ports for other in ports}
    found = [0]
    for offset in range(LOWEST_OFFSET, min(HIGHEST_OFFSET, below - max(ports)), OFFSET_STEP):
        if not any(offset - other in distances for other in found):
            found.append(offset)
    return found[1:]


@dataclass
class Place:
    """The claims of one lakehouse: an offset of all its ports, a service user and a folder."""

    port_offset: int
    folder: Path
    held: Claim

    @property
    def user(self) -> str:
        return user_of(self.port_offset)

    @property
    def number(self) -> int:
        """The unique number of the place."""
        return self.port_offset // OFFSET_STEP

    @property
    def hosts(self) -> Path:
        """The folder of hosts with systemd."""
        return self.folder / HOSTS

    def remove(self) -> None:
        """Remove all files, processes and users of the place and release the claim."""
        clean(self.folder, self.port_offset, self.user)
        self.held.note("")
        self.held.release()


def user_of(port_offset: int) -> str:
    """Return the name of the service user of a place."""
    return f"lakehouse-test-{port_offset}"


def claim_place() -> Place:
    """Claim a place for a lakehouse, and remove leftovers of a killed holder."""
    ports = platform_ports()

    def usable(found: Claim) -> bool:
        _clear(found)
        return all(can_listen(port + _number(found)) for port in ports)

    held = claim((f"lakehouse-{offset}" for offset in offsets(ports, ephemeral_from())), usable)
    # Sockets need short paths, and the service user needs access.
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=TEMPORARY))
    held.note(str(folder))
    folder.chmod(0o755)
    return Place(_number(held), folder, held)


def sweep(folder: Path = CLAIMS) -> None:
    """Remove leftovers of killed runs in places without a new claim."""
    for path in sorted(folder.glob("lakehouse-*")):
        if found := _locked(folder, path.name):
            try:
                _clear(found)
            finally:
                found.release()


def _clear(found: Claim) -> None:
    """Remove leftovers of the last holder of a place."""
    offset = _number(found)
    if left := found.noted() or _home_of(user_of(offset)):
        clean(Path(left), offset, user_of(offset))
        found.note("")


def _home_of(user: str) -> str:
    """Return the lakehouse folder of a user; empty if the user does not exist."""
    return str(Path(pwd.getpwnam(user).pw_dir).parent) if _is_user(user) else ""


def _is_user(name: str) -> bool:
    return AS_ROOT and name in {entry.pw_name for entry in pwd.getpwall()}


def clean(folder: Path, port_offset: int, user: str) -> None:
    """Kill every process of a lakehouse and remove its folder, its sockets and its user."""
    begun_s = time.monotonic()
    while doomed := _processes(folder, user):
        # A killed podman command leaves the network namespace and the mounts of its container.
        spared = _commands(folder / HOSTS) if time.monotonic() < begun_s + COMMAND_LIMIT_S else set()
        for pid in doomed - spared:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > begun_s + COMMAND_LIMIT_S + KILL_LIMIT_S:
            raise ClaimError(f"cannot remove {folder}: processes {sorted(doomed)} do not end. End them.")
        time.sleep(0.1)
    if folder.parent == TEMPORARY and folder.name.startswith(PREFIX):
        systemd_hosts.remove(folder / HOSTS)
        shutil.rmtree(folder, ignore_errors=True)
    for path in sockets(port_offset):
        path.unlink(missing_ok=True)
    if _is_user(user):
        subprocess.run(["userdel", user], check=True, capture_output=True)


def _processes(folder: Path, user: str) -> set[int]:
    """Return every process of the lakehouse below the folder: playbooks, services and other processes of its user."""
    processes = read_processes()
    uid = pwd.getpwnam(user).pw_uid if _is_user(user) else -1
    roots = [
        pid
        for pid, process in processes.items()
        if process.uid == uid or environment_of(pid).get(FOLDER_VARIABLE) == str(folder)
    ]
    roots += supervised(folder / "home/run/supervisor.sock", processes)
    return with_descendants(roots, processes) - with_ancestors(os.getpid(), processes)


def _commands(hosts: Path) -> set[int]:
    """Return the running commands of podman on hosts of the folder, with their descendants."""
    processes = read_processes()
    own = systemd_hosts.Podman(hosts).environment.items()
    roots = [
        pid
        for pid, process in processes.items()
        if Path(process.command[0]).name == "podman" and own <= environment_of(pid).items()
    ]
    return with_descendants(roots, processes)


def sockets(port_offset: int) -> list[Path]:
    """Return the sockets that a killed object store may leave in the temporary folder."""
    ports = [port + port_offset + grpc for port in (8333, 8888, 9333, 9340) for grpc in (0, 10_000)]
    parts = ("s3", "filer", "master", "volume")
    return [Path(TEMPORARY, f"seaweedfs-{part}-grpc-{port}.sock") for part in parts for port in ports]


@contextlib.contextmanager
def places() -> Iterator[Callable[[], Place]]:
    """Claim places, and remove all of them at the end, even if the removal of one fails."""
    with contextlib.ExitStack() as stack:

        def make() -> Place:
            place = claim_place()
            stack.callback(place.remove)
            return place

        yield make


@contextlib.contextmanager
def ports() -> Iterator[Callable[[], int]]:
    """Claim ports and release them at the end."""
    with contextlib.ExitStack() as stack:

        def find() -> int:
            port, held = claim_port()
            stack.callback(held.release)
            return port

        yield find
