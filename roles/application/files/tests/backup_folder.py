# SPDX-License-Identifier: GPL-3.0-or-later
"""A destination of backups in a folder of the test, which never overwrites and can be told to refuse."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from crypto_lakehouse.backup.destination import Stored
from crypto_lakehouse.backup.errors import DestinationError, IntegrityError


@dataclass
class Folder:
    """Implements `crypto_lakehouse.backup.destination.Destination`. refused: whether writes fail. created: keys in
    the order of the calls."""

    root: Path
    refused: bool = False
    name: str = "the folder of the test"
    is_locked: bool = False
    created: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> list[str]:
        return []

    def create(self, key: str, content: Iterator[bytes], size: int, until: datetime) -> Stored:
        if self.refused:
            raise DestinationError(f"cannot write {key}: no space left")
        body = b"".join(content)
        assert len(body) == size
        with self._lock:
            self.created.append(key)
            path = self.root / key
            if path.exists():
                if path.read_bytes() != body:
                    raise IntegrityError(f"cannot create {key}: it exists with other content")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{path.name}")
                temporary.write_bytes(body)
                temporary.rename(path)
        return Stored(key, size, hashlib.sha256(body).hexdigest())

    def find(self, key: str) -> Stored | None:
        path = self.root / key
        return Stored(key, path.stat().st_size) if path.is_file() else None

    def read(self, key: str, version_id: str | None = None) -> Iterator[bytes]:
        try:
            yield (self.root / key).read_bytes()
        except OSError as error:
            raise DestinationError(f"cannot read {key}: {error.strerror}") from None

    def list(self, prefix: str) -> Iterator[Stored]:
        found = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith("."))
        keys = sorted(str(path.relative_to(self.root)) for path in found)
        return (Stored(key, (self.root / key).stat().st_size) for key in keys if key.startswith(prefix))

    def extend(self, stored: Stored, until: datetime) -> Stored:
        return stored
