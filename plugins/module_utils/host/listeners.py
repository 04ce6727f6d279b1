# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read listening sockets from the kernel's tables, with the processes that hold them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from .processes import PROC, read_process
from .tree import user_name

_LISTEN = "0A"


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket. `address` is an IP address, the unspecified one for all addresses."""

    address: str
    port: int
    uid: int
    inode: int

    def collides(self, address: str, port: int) -> bool:
        """Return whether the socket prevents other programs from listening on this address and port."""
        if port != self.port:
            return False
        own, other = _plain(self.address), _plain(address)
        if own.is_unspecified or other.is_unspecified:
            # By default, an IPv6 socket on all addresses also listens on all IPv4 addresses.
            return own.version == other.version or (own.version == 6 and own.is_unspecified)
        return own == other


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address)
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed


def listeners(proc: Path = PROC) -> list[Listener]:
    """Return all listening TCP sockets of this machine (or container)."""
    found = []
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            lines = (proc / table).read_text().splitlines()[1:]
            found += [_parse(line) for line in lines if line.split()[3] == _LISTEN]
    return found


def _parse(line: str) -> Listener:
    words = line.split()
    address, port = words[1].split(":")
    # The kernel prints an address as 32-bit words in the byte order of the machine.
    numbers = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    packed = struct.pack(f"={len(numbers)}I", *numbers)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return Listener(socket.inet_ntop(family, packed), int(port, 16), int(words[7]), int(words[9]))


def holders(inodes: Collection[int], pids: Collection[int] | None = None, proc: Path = PROC) -> dict[int, int]:
    """Return the process id that holds each socket, by inode; only root finds those of other users."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for pid in pids if pids is not None else _numbers(proc):
        with contextlib.suppress(OSError):
            for entry in os.scandir(proc / str(pid) / "fd"):
                with contextlib.suppress(OSError):
                    inode = wanted.get(str(Path(entry.path).readlink()))
                    if inode is not None:
                        found.setdefault(inode, pid)
    return found


def _numbers(proc: Path) -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit())


def describe_holder(listener: Listener, pid: int | None, proc: Path = PROC) -> str:
    """Return a text with command, id and user of the process that holds a socket, as far as they are visible."""
    owner = user_name(listener.uid)
    process = read_process(pid, proc) if pid is not None else None
    if process is None:
        return f"a process of user {owner}"
    # Arguments may contain a secret: only the program's name is shown.
    return f"{Path(process.command[0] or '?').name} (process {process.pid} of user {owner})"
