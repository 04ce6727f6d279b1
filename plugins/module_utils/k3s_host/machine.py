# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a machine that a preflight of K3s judges: processor, kernel, memory, disk, addresses, ports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..host.listeners import holders
from ..host.processes import read_process
from ..k3s.model import System, TakenPort
from ..shared.commands import run_command
from .files import below

MIB = 1 << 20
COMMAND_LIMIT_S = 20.0
# Interfaces that K3s creates, and loopback.
_OWN_INTERFACES = re.compile(r"lo|cni0|flannel.*|kube-.*|veth.*", re.ASCII)
# The state of a socket of TCP that listens, and of one of UDP that is bound, include/net/tcp_states.h.
_LISTEN, _BOUND = "0A", "07"
# Addresses for documentation, RFC 5737 and RFC 3849: a route to one of them is the default route.
_ANYWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def read_system(root: Path, data_dir: str) -> System:
    """Return the facts of the machine whose files are below `root`."""
    kernel = os.uname()
    return System(
        hostname=socket.gethostname(),
        machine_id=_text(root / "etc/machine-id"),
        architecture=kernel.machine,
        kernel=kernel.release,
        cgroup_version=cgroup_version(root),
        memory_mib=memory_mib(root),
        disk_free_mib=disk_free_mib(below(root, data_dir)),
        addresses=read_addresses(),
        ports_taken=taken_ports(root / "proc"),
        systemd=(root / "run/systemd/system").is_dir(),
    )


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""


def cgroup_version(root: Path) -> int:
    """Return 2 for the unified hierarchy, 1 for hierarchies of controllers, 0 without control groups."""
    groups = root / "sys/fs/cgroup"
    if (groups / "cgroup.controllers").is_file():
        return 2
    return 1 if any((groups / name).is_dir() for name in ("memory", "cpu", "systemd")) else 0


def memory_mib(root: Path) -> int:
    """Return the memory of the machine in MiB."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def disk_free_mib(path: Path) -> int:
    """Return the free space in MiB of the file system that holds, or will hold, a directory."""
    existing = next(part for part in (path, *path.parents) if part.exists())
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize // MIB


def read_addresses() -> tuple[str, ...]:
    """Return the addresses of the machine's interfaces, the source of its default route first."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        done = run_command(["ip", "-json", "address", "show"], COMMAND_LIMIT_S)
        return parse_addresses(done.output, _sources()) if done.status == 0 else ()
    return ()


def parse_addresses(text: str, first: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses that `ip -json address show` lists, those of `first` before the others."""
    found = [
        str(address["local"])
        for link in json.loads(text)
        if not _OWN_INTERFACES.fullmatch(link.get("ifname", ""))
        for address in link.get("addr_info", ())
        if address.get("scope") == "global" and "local" in address
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda each: (each not in first, found.index(each))))


def _sources() -> list[str]:
    """Return the source addresses of the default routes; connecting a socket of UDP sends nothing."""
    found = []
    for family, target in _ANYWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            found.append(str(probe.getsockname()[0]))
    return found


def taken_ports(proc: Path) -> tuple[TakenPort, ...]:
    """Return the ports with a listener, with the name of the process where it may be seen."""
    sockets = [*_sockets(proc, "tcp", _LISTEN), *_sockets(proc, "udp", _BOUND)]
    owners = holders([inode for _port, _protocol, inode in sockets], proc=proc) if sockets else {}
    names = {inode: _name(proc, pid) for inode, pid in owners.items()}
    found = {(port, protocol): names.get(inode, "") for port, protocol, inode in sockets}
    return tuple(TakenPort(port, protocol, holder) for (port, protocol), holder in sorted(found.items()))  # type: ignore[arg-type]


def _sockets(proc: Path, protocol: str, state: str) -> Iterable[tuple[int, str, int]]:
    for table in (protocol, f"{protocol}6"):
        for line in _text(proc / "net" / table).splitlines()[1:]:
            words = line.split()
            if words[3] == state and int(words[2].rpartition(":")[2], 16) == 0:
                yield int(words[1].rpartition(":")[2], 16), protocol, int(words[9])


def _name(proc: Path, pid: int) -> str:
    process = read_process(pid, proc)
    return Path(process.command[0]).name if process and process.command and process.command[0] else ""
