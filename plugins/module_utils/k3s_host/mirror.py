# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots and escrows of a server in a bucket, each snapshot with its record."""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from ..host.errors import HostError
from ..k3s.model import SnapshotSettings
from ..k3s.shapes import ShapeError, as_plain, from_plain
from ..k3s.snapshots import Escrow, Snapshot
from .s3 import Bucket, Keys
from .snapshots import Store, escrow_of_name

RECORD = ".json"


def bucket_of(settings: SnapshotSettings, keys: Path) -> Bucket:
    """Return the bucket of the settings, with the keys of a private file."""
    return Bucket(settings.s3_bucket, Keys.read(keys), settings.s3_endpoint, settings.s3_region, settings.s3_folder)


@dataclass(frozen=True)
class Mirror:
    """The copies of a server's snapshots in a bucket."""

    store: Store
    bucket: Bucket

    def upload(self, name: str) -> Snapshot:
        """Copy a verified snapshot, and the escrows beside it; raise `HostError` for one that is not verified."""
        path = self.store.named(name)
        found = next(one for one in self.store.snapshots() if one.name == path.name)
        if not found.verified:
            raise HostError(f"cannot copy {path.name} to S3: its hash was not compared. Verify it first.")
        self.bucket.put(path.name, path)
        copied = replace(found, location="s3", host="")
        # The record comes last: a snapshot without one was not copied completely.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(json.dumps(as_plain(copied)))
            file.flush()
            self.bucket.put(f"{path.name}{RECORD}", Path(file.name))
        present = set(self.bucket.names())
        for escrow in sorted(self.store.records.glob("escrow-*.age")):
            if escrow.name not in present:
                self.bucket.put(escrow.name, escrow)
        return copied

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots in the bucket, by their records."""
        found = [self._recorded(name) for name in self.bucket.names() if name.endswith(RECORD)]
        return [one for one in found if one]

    def _recorded(self, name: str) -> Snapshot | None:
        with contextlib.suppress(ValueError, ShapeError):
            return replace(from_plain(Snapshot, json.loads(self.bucket.get(name)), name), location="s3", host="")
        return None

    def escrows(self) -> list[Escrow]:
        """Return the escrows in the bucket."""
        return [replace(found, host="s3") for name in self.bucket.names() if (found := escrow_of_name(name))]

    def delete(self, name: str) -> bool:
        """Delete a snapshot, its record first."""
        self.bucket.delete(f"{name}{RECORD}")
        self.bucket.delete(name)
        return True
