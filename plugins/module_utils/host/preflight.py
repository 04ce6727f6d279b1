# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find all problems of a machine that would stop a deployment, before the first change."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..shared.problem import Problem
from .listeners import describe_holder, holders, listeners
from .machine import (
    MIB,
    Identity,
    Python,
    System,
    available_memory_mib,
    closed_part,
    current_identity,
    group_exists,
    identity,
    is_incomplete,
    nearest_existing,
    pythons,
    read_system,
    resident_mib,
)
from .processes import read_processes, supervised, supervisors, with_descendants
from .services import Home
from .tree import user_name

ROOT_HOME = "/var/lib/crypto-lakehouse"
USER_HOME = "~/.local/share/crypto-lakehouse"
MARKER = ".crypto-lakehouse.json"
OWN_FOLDERS = frozenset({"cache", "data", "etc", "log", "run", "secrets", "software", MARKER})
SUPPORTED = {("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")}
ARCHITECTURES = {"x86_64", "aarch64"}
# The path of a unix socket ends with a zero byte in a field of 108, unix(7).
SOCKET_PATH_LIMIT_BYTES = 107
# supervisord first binds its socket with a name that ends with its process id, at most 4194304 on Linux.
SOCKET_SUFFIX = ".4194304"
# Share of the free space that an existing installation needs, for logs and the next upgrade.
INSTALLED_SHARE = 0.1
FREE_INODES = 20_000
CLOCK_LIMIT_S = 300.0
# A clock before the release of this collection is wrong.
EARLIEST_TIME_S = 1_767_225_600.0


@dataclass(frozen=True)
class Port:
    """Address and port of a service."""

    service: str
    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Question:
    """Requirements of a deployment. `home` may be empty for the user's default, or begin with `~`."""

    home: str = ""
    user: str = ""
    target: str | None = None
    environment: str | None = None
    ports: Sequence[Port] = ()
    min_free_disk_gib: float = 0.0
    min_memory_mib: int = 0
    unix_sockets: Sequence[str] = ()
    postgresql_data: str = ""
    postgresql_major: int | None = None
    python_packages: Sequence[str] = ()
    apt_packages: Sequence[str] = ()
    optional_packages: Sequence[str] = ()
    package_index: str = ""
    package_timeout_s: float = 5.0
    pythons: Sequence[str] = ()
    software: str = ""
    ca_bundle: str = ""
    backup_folder: str = ""


@dataclass(frozen=True)
class Machine:
    """The requirements, and facts that are read once for several checks."""

    question: Question
    system: System
    current: Identity
    service: Identity
    home: Home
    marker: Mapping[str, Any] | None
    marker_problem: str
    own_pids: frozenset[int]
    pythons: Sequence[Python]

    @property
    def installed(self) -> dict[str, dict[str, str]]:
        """Return the packages of the distribution in each complete and runnable software, by its digest."""
        found: dict[str, dict[str, str]] = {}
        with contextlib.suppress(OSError):
            for folder in sorted((self.home.path / "software").iterdir()):
                # An upgrade of the machine may have removed the interpreter of the software.
                if os.access(folder / "venv/bin/python", os.X_OK):
                    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                        found[folder.name] = dict(json.loads((folder / ".complete").read_bytes())["packages"])
        return found


def examine(question: Question) -> tuple[dict[str, Any], list[Problem]]:
    """Return facts for the roles, and all problems."""
    machine = read_machine(question)
    checks: Sequence[Callable[[Machine], Iterator[Problem]]] = (
        _check_system,
        _check_clock,
        _check_home,
        _check_marker,
        _check_disk,
        _check_memory,
        _check_addresses,
        _check_port_numbers,
        _check_taken_ports,
        _check_sockets,
        _check_postgresql,
        _check_pythons,
        _check_ca_bundle,
        _check_backup_folder,
    )
    problems = [problem for check in checks for problem in check(machine)]
    packages, more = check_packages(machine)
    return {**facts(machine), **packages}, [*problems, *more]


def read_machine(question: Question) -> Machine:
    """Return facts of the machine for the checks."""
    current = current_identity()
    service = identity(question.user) if current.uid == 0 and question.user else current
    text = question.home or (ROOT_HOME if current.uid == 0 else USER_HOME)
    path = Path(f"{current.home}{text[1:]}" if text == "~" or text.startswith("~/") else text)
    home = Home(path, path)
    processes = read_processes()
    own = with_descendants([*supervisors(home.config, processes), *supervised(home.socket, processes)], processes)
    marker, marker_problem = read_marker(path / MARKER)
    interpreters = pythons(service, question.pythons)
    return Machine(
        question, read_system(), current, service, home, marker, marker_problem, frozenset(own), interpreters
    )


def read_marker(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the marker of an earlier deployment, and the reason if it cannot be read."""
    try:
        marker = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, str(error.strerror).lower()
    except ValueError:
        return None, "it is damaged"
    return (marker, "") if isinstance(marker, dict) else (None, "it is damaged")


def facts(machine: Machine) -> dict[str, Any]:
    """Return the facts for the roles as plain JSON types."""
    usable = [python for python in machine.pythons if not python.problem]
    home = machine.home.path
    entry = nearest_existing(home)
    installed = machine.installed
    return {
        **asdict(machine.system),
        "uid": machine.current.uid,
        "user": machine.service.name,
        "user_missing": machine.service.uid is None,
        "user_incomplete": machine.current.uid == 0 and is_incomplete(machine.service.name),
        "user_home": machine.service.home,
        "group_missing": machine.service.uid is None and not group_exists(machine.service.name),
        "home": str(home),
        "home_missing": entry != home,
        "home_ready": entry == home and home.stat().st_uid == machine.service.uid,
        "marker": machine.marker,
        "running": bool(machine.own_pids),
        "python": usable[0].path if usable else "",
        "python_version": usable[0].version if usable else "",
        "pythons": [asdict(python) for python in machine.pythons],
        "memory_available_mib": available_memory_mib() + resident_mib(machine.own_pids),
        "disk_free_mib": _free_disk_mib(home),
        "backup_folder_ready": _is_backup_folder_ready(machine),
        "software": installed,
        "software_installed": bool(machine.question.software) and machine.question.software in installed,
    }


def _check_system(machine: Machine) -> Iterator[Problem]:
    system = machine.system
    if (system.distribution, system.version) not in SUPPORTED or system.architecture not in ARCHITECTURES:
        names = ", ".join(f"{name} {version}" for name, version in sorted(SUPPORTED))
        remedy = f"use one of: {names}, on {' or '.join(sorted(ARCHITECTURES))}"
        yield Problem("inventory_hostname", f"the machine runs {system}, which is not supported", remedy)


def _check_clock(machine: Machine) -> Iterator[Problem]:
    now_s = time.time()
    remedy = "set the clock, and keep it set with chrony or systemd-timesyncd"
    if now_s < EARLIEST_TIME_S:
        yield Problem("inventory_hostname", f"the machine's clock shows {_date(now_s)}", remedy)
    with contextlib.suppress(OSError):
        written_s = (machine.home.path / MARKER).stat().st_mtime
        if written_s > now_s + CLOCK_LIMIT_S:
            message = f"the machine's clock shows {_date(now_s)}, but the last deployment was at {_date(written_s)}"
            yield Problem("inventory_hostname", message, remedy)


def _date(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_s))


def _check_home(machine: Machine) -> Iterator[Problem]:
    home, service = machine.home.path, machine.service
    place = nearest_existing(home)
    elsewhere = "set lakehouse_home to a folder below one that the user may enter and write to"
    if not home.is_absolute():
        yield Problem("lakehouse_home", f"{home} is not an absolute path", "begin it with / or ~/")
        return
    if not place.is_dir():
        yield Problem("lakehouse_home", f"{place} is not a folder", "move it away, or set another lakehouse_home")
        return
    closed = closed_part(place, service)
    if closed is not None:
        yield Problem("lakehouse_home", f"{closed} is closed to user {service.name}", elsewhere)
    elif place != home and not machine.current.may(place.stat(), 3):
        yield Problem("lakehouse_home", f"{home} cannot be created: {place} may not be written to", elsewhere)
    elif place == home:
        yield from _check_existing_home(machine)
    yield from _check_mount(place)


def _check_existing_home(machine: Machine) -> Iterator[Problem]:
    home, service = machine.home.path, machine.service
    names = {path.name for path in home.iterdir()} if machine.current.may(home.stat(), 5) else set()
    owner_uid = home.stat().st_uid
    if owner_uid != service.uid and (names or machine.current.uid != 0):
        owner = user_name(owner_uid)
        remedy = f"set another lakehouse_home, or give it to the user: chown -R {service.name} {home}"
        yield Problem("lakehouse_home", f"{home} belongs to {owner}, not to {service.name}", remedy)
    elif names - OWN_FOLDERS and MARKER not in names:
        found = ", ".join(sorted(names - OWN_FOLDERS)[:3])
        message = f"{home} contains files that no deployment created ({found})"
        yield Problem("lakehouse_home", message, "set lakehouse_home to an empty or a new folder")


def _check_mount(place: Path) -> Iterator[Problem]:
    flags = os.statvfs(place).f_flag
    elsewhere = "set lakehouse_home to a folder on another file system"
    if flags & os.ST_RDONLY:
        yield Problem("lakehouse_home", f"{place} is on a file system that is mounted read-only", elsewhere)
    if flags & os.ST_NOEXEC:
        yield Problem("lakehouse_home", f"{place} is on a file system where programs may not run (noexec)", elsewhere)


def _check_marker(machine: Machine) -> Iterator[Problem]:
    if machine.marker_problem:
        message = f"{machine.home.path / MARKER} cannot be read: {machine.marker_problem}"
        yield Problem("lakehouse_home", message, "restore it, or set another lakehouse_home")
    for word in ("environment", "target"):
        there, asked = (machine.marker or {}).get(word), getattr(machine.question, word)
        if there is not None and asked is not None and there != asked:
            remedy = f"set lakehouse_{word} to {there}, or lakehouse_home to another folder"
            yield Problem(f"lakehouse_{word}", f"{machine.home.path} is of {word} {there}, not {asked}", remedy)


def _free_disk_mib(home: Path) -> int:
    free = os.statvfs(nearest_existing(home))
    return free.f_bavail * free.f_frsize // MIB


def _check_disk(machine: Machine) -> Iterator[Problem]:
    place = nearest_existing(machine.home.path)
    needed_mib = machine.question.min_free_disk_gib * 1024 * (INSTALLED_SHARE if machine.installed else 1)
    free_mib = _free_disk_mib(machine.home.path)
    remedy = "free space there, set another lakehouse_home, or lower lakehouse_min_free_disk_gib"
    if free_mib < needed_mib:
        message = f"{free_mib / 1024:.1f} GiB are free at {place}, {needed_mib / 1024:.1f} are needed"
        yield Problem("lakehouse_min_free_disk_gib", message, remedy)
    status = os.statvfs(place)
    # File systems without a fixed number of inodes report 0 of 0.
    if status.f_files and status.f_favail < FREE_INODES:
        message = f"{place} has room for {status.f_favail} more files, {FREE_INODES} are needed"
        yield Problem("lakehouse_home", message, "remove files there, or set another lakehouse_home")


def _check_memory(machine: Machine) -> Iterator[Problem]:
    there_mib = available_memory_mib() + resident_mib(machine.own_pids)
    if there_mib < machine.question.min_memory_mib:
        message = f"{there_mib} MiB of memory are available, {machine.question.min_memory_mib} are needed"
        remedy = "stop other programs, add memory, or reduce `lakehouse_min_memory_mib`"
        yield Problem("lakehouse_min_memory_mib", message, remedy)


def _check_addresses(machine: Machine) -> Iterator[Problem]:
    for address in sorted({port.address for port in machine.question.ports}):
        if not _is_own_address(address):
            message = f"{address} is not an address of the machine"
            yield Problem("lakehouse_bind_address", message, "set it to one of `ip -brief address`, or 127.0.0.1")


def _check_port_numbers(machine: Machine) -> Iterator[Problem]:
    lowest = 0 if machine.service.uid == 0 else _lowest_free_port()
    outgoing = _outgoing_ports()
    for port in machine.question.ports:
        if port.port < lowest:
            message = f"port {port.port} ({port.service}, {port.name}) is below {lowest}, which only root may open"
            yield Problem("lakehouse_services", message, f"use a port from {lowest} on")
        elif port.port in outgoing:
            # A connection of any program may use the port temporarily, and the service then fails to start.
            message = f"port {port.port} ({port.service}, {port.name}) is in the range of outgoing connections"
            remedy = f"choose ports below {outgoing.start}, or lower lakehouse_port_offset"
            yield Problem("lakehouse_port_offset", message, remedy)


def _check_taken_ports(machine: Machine) -> Iterator[Problem]:
    taken = [
        (port, held)
        for held in listeners()
        for port in machine.question.ports
        if held.collides(port.address, port.port)
    ]
    inodes = {held.inode for _port, held in taken}
    own = holders(inodes, machine.own_pids)
    foreign = holders(inodes - own.keys()) if inodes - own.keys() else {}
    remedy = "end that process, or set lakehouse_port_offset to move all ports"
    for port, held in taken:
        if held.inode not in own:
            holder = describe_holder(held, foreign.get(held.inode))
            message = f"port {port.port} on {port.address} ({port.service}, {port.name}) is taken by {holder}"
            yield Problem("lakehouse_port_offset", message, remedy)


def _is_own_address(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _outgoing_ports() -> range:
    with contextlib.suppress(OSError, ValueError):
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return range(int(first), int(last) + 1)
    return range(0)


def _lowest_free_port() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    return 1024


def _check_sockets(machine: Machine) -> Iterator[Problem]:
    paths = [
        f"{machine.home.socket}{SOCKET_SUFFIX}",
        *(str(machine.home.path / path) for path in machine.question.unix_sockets),
    ]
    longest = max(paths, key=lambda path: len(os.fsencode(path)))
    over = len(os.fsencode(longest)) - SOCKET_PATH_LIMIT_BYTES
    if over > 0:
        message = f"the unix socket {longest} would be {over} bytes longer than the {SOCKET_PATH_LIMIT_BYTES} allowed"
        yield Problem("lakehouse_home", message, f"set lakehouse_home to a path that is {over} bytes shorter")


def _check_postgresql(machine: Machine) -> Iterator[Problem]:
    if not machine.question.postgresql_data or machine.question.postgresql_major is None:
        return
    path = machine.home.path / machine.question.postgresql_data / "PG_VERSION"
    with contextlib.suppress(OSError):
        there = path.read_text().strip()
        if there != str(machine.question.postgresql_major):
            message = (
                f"{path.parent} holds data of PostgreSQL {there}, which {machine.question.postgresql_major} cannot read"
            )
            remedy = f"dump it with the collection version that brought PostgreSQL {there}, move it away, and restore"
            yield Problem("lakehouse_home", message, remedy)


def _check_pythons(machine: Machine) -> Iterator[Problem]:
    if any(not python.problem for python in machine.pythons):
        return
    tried = "; ".join(f"{python.path}: {python.problem}" for python in machine.pythons) or "none was found"
    message = f"no Python that user {machine.service.name} can use ({tried})"
    yield Problem("inventory_hostname", message, "install the package python3 (3.11 to 3.14) of the distribution")


def _check_ca_bundle(machine: Machine) -> Iterator[Problem]:
    bundle = Path(machine.question.ca_bundle)
    if not machine.question.ca_bundle:
        return
    if not bundle.is_file():
        yield Problem(
            "lakehouse_ca_bundle", f"the machine has no file {bundle}", "put the bundle there, or name another"
        )
    elif closed_part(bundle, machine.service, 4) is not None:
        message = f"user {machine.service.name} may not read {bundle}"
        yield Problem("lakehouse_ca_bundle", message, "make it world-readable; it contains no secret")


def _check_backup_folder(machine: Machine) -> Iterator[Problem]:
    """Yield problems of the backup folder.

    The folder is never created: if its disk is not mounted, backups would be on the disk that they protect.
    """
    folder, user = Path(machine.question.backup_folder), machine.service.name
    if not machine.question.backup_folder:
        return
    home, closed = machine.home.path.resolve(), closed_part(folder.parent, machine.service)
    if home in (folder.resolve(), *folder.resolve().parents):
        message = f"{folder} lies in {home}, which is lost or destroyed as a whole"
        yield Problem("lakehouse_backup_folder", message, "name a folder on another disk")
    elif not folder.exists():
        remedy = f"mount its disk and create the folder: mkdir {folder}"
        yield Problem("lakehouse_backup_folder", f"{folder} does not exist", remedy)
    elif not folder.is_dir():
        remedy = "move it and create the folder, or set another path"
        yield Problem("lakehouse_backup_folder", f"{folder} is not a folder", remedy)
    elif closed is not None:
        remedy = f"permit traversal: chmod o+x {closed}"
        yield Problem("lakehouse_backup_folder", f"{closed} is closed to user {user}", remedy)
    elif os.statvfs(folder).f_flag & os.ST_RDONLY:
        remedy = "mount it to be written to, or name another folder"
        yield Problem("lakehouse_backup_folder", f"{folder} is on a file system that is mounted read-only", remedy)
    elif not _is_backup_folder_ready(machine) and machine.current.uid != 0:
        remedy = f"give it to the user: chown -R {user} {folder}"
        yield Problem("lakehouse_backup_folder", f"{folder} belongs to {user_name(folder.stat().st_uid)}", remedy)
    elif not _is_backup_folder_ready(machine) and not all((each / "sets").is_dir() for each in folder.iterdir()):
        yield Problem("lakehouse_backup_folder", f"{folder} holds other files than backups", "name an empty folder")


def _is_backup_folder_ready(machine: Machine) -> bool:
    """Return whether the backup folder is not set, or exists and belongs to the service user."""
    with contextlib.suppress(OSError):
        folder = machine.question.backup_folder
        return not folder or Path(folder).stat().st_uid == machine.service.uid
    return False


def check_packages(machine: Machine) -> tuple[dict[str, Any], list[Problem]]:
    """Return available packages and their sources, and problems of missing required ones.

    Sources are not checked if the software is installed.
    """
    wanted = [*machine.question.python_packages, *machine.question.apt_packages]
    if not wanted or (machine.question.software and machine.question.software in machine.installed):
        return {"obtainable": {}, "package_environment": {}}, []
    # The import of network code is slow, and most runs do not need packages.
    from . import packages

    sources = packages.python_sources(
        machine.question.package_index, os.environ, packages.pip_files(machine.current.home)
    )
    python = packages.python_packages(machine.question.python_packages, sources, machine.question.package_timeout_s)
    apt = (
        packages.apt_packages(machine.question.apt_packages, machine.question.package_timeout_s)
        if machine.question.apt_packages
        else {}
    )
    problems = list(_package_problems(machine.question, python, apt, sources.shown()))
    problems += _skew_problems([answer.server_time_s for answer in python.values()])
    obtainable = {name: answer.found for name, answer in {**python, **apt}.items()}
    return {"obtainable": obtainable, "package_environment": sources.uv_environment()}, problems


def _package_problems(
    question: Question, python: Mapping[str, Any], apt: Mapping[str, Any], sources: str
) -> Iterator[Problem]:
    def missing(answers: Mapping[str, Any]) -> str:
        names = (name for name, answer in answers.items() if not answer.found)
        return ", ".join(sorted(name for name in names if name not in question.optional_packages))

    if missing(python):
        message = f"Python packages cannot be had: {missing(python)}; asked: {sources}"
        remedy = (
            "set lakehouse_package_index to an index that has them, or lakehouse_proxy_env to a proxy that leads there"
        )
        yield Problem("lakehouse_package_index", message, remedy)
    if missing(apt):
        message = f"packages of the distribution cannot be had: {missing(apt)}"
        yield Problem("inventory_hostname", message, "check the machine's sources with `apt-get update`")


def _skew_problems(server_times_s: Sequence[float | None]) -> Iterator[Problem]:
    told = [time_s for time_s in server_times_s if time_s is not None]
    skew_s = time.time() - told[0] if told else 0.0
    if abs(skew_s) > CLOCK_LIMIT_S:
        way = "ahead of" if skew_s > 0 else "behind"
        message = f"the machine's clock is {abs(skew_s):.0f} s {way} that of the package index"
        yield Problem("inventory_hostname", message, "set the clock, and keep it set with chrony or systemd-timesyncd")
