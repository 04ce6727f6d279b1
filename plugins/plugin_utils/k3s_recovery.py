# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots and escrows of K3s clusters in a folder of the controller."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..module_utils.k3s.shapes import ShapeError, from_plain
from ..module_utils.k3s.snapshots import Escrow, Snapshot
from ..module_utils.k3s_host.snapshots import escrow_file, escrow_of_name, hashes
from .age import AgeError, decrypt

RECORD_SUFFIX, ESCROW_SUFFIX = ".json", ".age"


class RecoveryError(Exception):
    """An unusable snapshot or escrow. The message ends with a remedy and does not contain credentials."""


@dataclass(frozen=True)
class Folder:
    """A folder of the controller with snapshots, their records `NAME.json`, and escrows; flat or in subfolders."""

    path: Path

    def escrows(self) -> list[Escrow]:
        """Return the escrows in the folder."""
        names = sorted({path.name for path in self._files()})
        return [escrow for name in names if (escrow := escrow_of_name(name))]

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots in the folder, without files that lack the hash that etcd appends.

        A snapshot without a record belongs to the only escrow in the folder, if there is exactly one.
        """
        escrows = self.escrows()
        candidates = [path for path in self._files() if path.suffix not in (RECORD_SUFFIX, ESCROW_SUFFIX)]
        return [_snapshot(path, escrows) for path in candidates if hashes(path)[1]]

    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            raise RecoveryError(f"cannot read {self.path}: it is not a folder. Set `k3s_restore_folder` to one.")
        return sorted(path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))

    def find(self, name: str) -> Path | None:
        """Return the file with a name; None if it is missing."""
        return next((path for path in self._files() if path.name == name), None)

    def sealed(self, escrow: Escrow) -> bytes:
        """Return the encrypted escrow; empty if it is missing."""
        path = self.find(escrow_file(escrow))
        return path.read_bytes() if path else b""


def _snapshot(path: Path, escrows: Sequence[Escrow]) -> Snapshot:
    digest, size = hashes(path)[0], path.stat().st_size
    found = Snapshot(path.name, path.stat().st_mtime, size)
    with contextlib.suppress(OSError, ValueError, ShapeError):
        found = from_plain(Snapshot, json.loads(path.with_name(f"{path.name}{RECORD_SUFFIX}").read_bytes()), path.name)
    if not found.token_hash and len(escrows) == 1:
        found = replace(found, cluster_id=escrows[0].cluster_id, token_hash=escrows[0].token_hash)
    matches = found.sha256 in ("", digest)
    return replace(found, name=path.name, host="", location="local", size=size, sha256=digest, verified=matches)


def opened(sealed: bytes, identity: str, escrow: Escrow) -> dict[str, Any]:
    """Return the credentials of an encrypted escrow; raise `RecoveryError` for a wrong key or content."""
    if not identity.strip():
        raise RecoveryError(
            "cannot decrypt the escrow: no private key is given. Set `lakehouse_restore_identity` to the key of age."
        )
    try:
        found = json.loads(decrypt(sealed, [identity]))
        key = (found["cluster_id"], found["token_hash"])
    except AgeError as error:
        raise RecoveryError(f"cannot decrypt the escrow: {error}. Set `lakehouse_restore_identity`.") from None
    except (ValueError, KeyError, TypeError):
        raise RecoveryError("cannot read the escrow: it holds no credentials of K3s. Add another one.") from None
    if key != (escrow.cluster_id, escrow.token_hash):
        raise RecoveryError("cannot use the escrow: it is that of another cluster or token. Add the right one.")
    return dict(found)
