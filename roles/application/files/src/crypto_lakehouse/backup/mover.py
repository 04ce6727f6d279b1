# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies objects of the lakehouse to a backup destination: concurrently, once, and hashed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crypto_lakehouse.backup.model import Artifact, Source, Subject


@dataclass(frozen=True, slots=True)
class Item:
    """One object to copy, and what it belongs to."""

    source: Source
    subject: Subject


Reader = Callable[[Source], Iterator[bytes]]
"""Returns the content of a source in blocks; raises SourceChangedError where it vanished or changed."""


class Mover(Protocol):
    """Stores the artifacts of one set. Before each write it makes sure that the run still holds its lock."""

    def copy(self, items: Iterable[Item], read: Reader) -> list[Artifact]:
        """Copy what the destination lacks, and return an artifact for each item in the items' order.

        An object whose identity an earlier set recorded is not read again; its protection is extended where needed.

        Raises:
            SourceChangedError: where a source vanished or changed; the message names it.
            DestinationError: where the destination cannot be written.
        """

    def store(self, key: str, content: bytes | Path, subject: Subject, encoding: str = "") -> Artifact:
        """Store a document or file of the set under a key of its own."""
