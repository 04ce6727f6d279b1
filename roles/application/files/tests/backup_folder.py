# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup destination in a folder of the test, which can refuse writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from crypto_lakehouse.backup.destination import Stored
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.errors import DestinationError


class Folder(FolderDestination):
    """The folder destination. refused: whether writes fail. created: keys in the order of the calls."""

    def __init__(self, root: Path, *, refused: bool = False) -> None:
        super().__init__(root)
        self.refused = refused
        self.created: list[str] = []

    def create(self, key: str, content: Iterator[bytes], size: int, until: datetime) -> Stored:
        if self.refused:
            raise DestinationError(f"cannot write {key}: no space left")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.created.append(key)
        return super().create(key, content, size, until)
