# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of etcd on one server: save, verify, list and delete them, each with a record for its restore."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..host.errors import HostError
from ..k3s.shapes import ShapeError, as_plain, from_plain
from ..k3s.snapshots import Escrow, Snapshot
from ..shared.commands import run_command
from .access import Api
from .files import read_data
from .service import read_binary
from .writing import write

# K3s' own folder, and that of records and escrows beside it: K3s takes every file of its folder for a snapshot.
FOLDER, RECORDS = "server/db/snapshots", "server/db/crypto-lakehouse"
SAVE_LIMIT_S, DELETE_LIMIT_S = 600.0, 120.0
# etcd appends the SHA-256 of a snapshot's pages to it, etcdutl snapshot (v3_snapshot.go).
DIGEST_BYTES, PAGE_BYTES = 32, 512
_CHUNK_BYTES = 1 << 20
_ESCROW = re.compile(r"escrow-([0-9a-f-]{36})-([0-9a-f]{12})\.age", re.ASCII)


def escrow_file(escrow: Escrow) -> str:
    """Return the name of the file of an escrow."""
    return f"escrow-{escrow.cluster_id}-{escrow.token_hash}.age"


def escrow_of_name(name: str) -> Escrow | None:
    """Return the escrow of a file's name; None for another file."""
    match = _ESCROW.fullmatch(name)
    return Escrow(match[1], match[2]) if match else None


@dataclass(frozen=True)
class Store:
    """The snapshots of one server: its name in the inventory, its data directory and its binary."""

    host: str
    data: Path
    binary: str = "/usr/local/bin/k3s"
    port: int = 6443

    @property
    def folder(self) -> Path:
        """The folder of snapshots."""
        return self.data / FOLDER

    @property
    def records(self) -> Path:
        """The folder of records and escrows."""
        return self.data / RECORDS

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots on the disk, those without a record as not verified."""
        files = sorted(self.folder.glob("*")) if self.folder.is_dir() else []
        return [self._snapshot(path) for path in files if path.is_file()]

    def _snapshot(self, path: Path) -> Snapshot:
        found = path.stat()
        recorded = self._record(path.name)
        if recorded and recorded.size == found.st_size:
            return replace(recorded, host=self.host)
        return Snapshot(path.name, found.st_mtime, found.st_size, host=self.host)

    def _record(self, name: str) -> Snapshot | None:
        with contextlib.suppress(OSError, ValueError, ShapeError):
            return from_plain(Snapshot, json.loads((self.records / f"{name}.json").read_bytes()), name)
        return None

    def escrows(self) -> list[Escrow]:
        """Return the escrows that are stored beside the snapshots."""
        names = sorted(path.name for path in self.records.glob("escrow-*")) if self.records.is_dir() else []
        return [replace(found, host=self.host) for name in names if (found := escrow_of_name(name))]

    def named(self, name: str) -> Path:
        """Return the file of a snapshot: that of the name, else the newest one whose name K3s began with it."""
        if (self.folder / name).is_file():
            return self.folder / name
        begun = re.compile(rf"{re.escape(name)}-.+-\d+", re.ASCII)
        found = [path for path in self.folder.glob("*") if begun.fullmatch(path.name)]
        if not found:
            raise HostError(
                f"cannot find snapshot {name} on {self.host}. Choose one that `k3s etcd-snapshot ls` lists."
            )
        return max(found, key=lambda path: (path.stat().st_mtime, path.name))

    def save(self, name: str) -> Snapshot:
        """Save a snapshot and the record for its restore. Raise `HostError` if K3s saves none."""
        before = {path.name for path in self.folder.glob("*")}
        self._k3s("cannot save a snapshot", ["save", "--name", name], SAVE_LIMIT_S)
        new = [path for path in self.folder.glob(f"{name}-*") if path.name not in before]
        if not new:
            raise HostError(f"cannot save a snapshot: K3s wrote none to {self.folder}. Read `journalctl -u k3s`.")
        path = max(new, key=lambda each: each.stat().st_mtime)
        data = read_data(Path("/"), str(self.data))
        found = Snapshot(
            path.name,
            path.stat().st_mtime,
            path.stat().st_size,
            host=self.host,
            version=read_binary(Path("/"), self.binary)[0],
            cluster_id=data.marker.cluster_id if data.marker else "",
            token_hash=data.token_hash,
            nodes=tuple(sorted(node.name for node in Api(self.data, self.port).nodes())),
        )
        self._write(found)
        return found

    def _write(self, found: Snapshot) -> None:
        write(self.records / f"{found.name}.json", json.dumps(as_plain(found), indent=2))

    def verify(self, name: str) -> Snapshot:
        """Compare a snapshot with the hash that etcd appended to it, and with its record; record the result."""
        path = self.named(name)
        digest, complete = hashes(path)
        recorded = self._record(path.name) or self._snapshot(path)
        if not complete or recorded.sha256 not in ("", digest):
            raise HostError(
                f"cannot use snapshot {path.name} of {self.host}: its hash is wrong. Delete it and save another one."
            )
        found = replace(recorded, sha256=digest, size=path.stat().st_size, verified=True)
        self._write(found)
        return found

    def delete(self, name: str) -> bool:
        """Delete a snapshot with its record, and return whether it was there."""
        path = self.folder / Path(name).name
        existed = path.is_file()
        if existed:
            self._k3s("cannot delete a snapshot", ["delete", path.name], DELETE_LIMIT_S)
            path.unlink(missing_ok=True)
        (self.records / f"{path.name}.json").unlink(missing_ok=True)
        return existed

    def _k3s(self, fault: str, words: Iterable[str], limit_s: float) -> None:
        command = [self.binary, "etcd-snapshot", *words, "--data-dir", str(self.data)]
        done = run_command(command, limit_s)
        if done.status != 0:
            raise HostError(f"{fault}: {_last(done)}. Read `journalctl -u k3s`, and run again.")


def _last(done: Any) -> str:
    lines = [line for line in done.output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {done.status}"


def hashes(path: Path) -> tuple[str, bool]:
    """Return the SHA-256 of a file, and whether its end is the SHA-256 of the preceding bytes."""
    size = path.stat().st_size
    whole, pages = hashlib.sha256(), hashlib.sha256()
    left = size - DIGEST_BYTES
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
            whole.update(chunk)
            pages.update(chunk)
            left -= len(chunk)
        tail = file.read()
    whole.update(tail)
    return whole.hexdigest(), size % PAGE_BYTES == DIGEST_BYTES and tail == pages.digest()
