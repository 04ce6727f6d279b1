# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of backup and restore: a message, and the remedy apart from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crypto_lakehouse.backup.model import Source


class BackupError(RuntimeError):
    """A backup, verification or restore cannot continue.

    message: `cannot VERB OBJECT: CAUSE`, without a secret. remedy: one imperative sentence, or empty. transient: true
    where the same request can succeed later.
    """

    transient = False

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}. {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class RefusedError(BackupError):
    """The request is rejected before the first write."""


class DestinationError(BackupError):
    """The destination is unreachable, full, or rejects a request."""


class SourceError(BackupError):
    """The store of the source is unreachable or rejects a request."""


class IntegrityError(BackupError):
    """Bytes that were stored or read do not have the recorded size or SHA-256."""


class DamagedError(IntegrityError):
    """Artifacts of a set are damaged, and everything else was restored. damaged: a message for each of them."""

    def __init__(self, message: str, remedy: str, damaged: Sequence[str]) -> None:
        super().__init__(message, remedy)
        self.damaged = tuple(damaged)


class SourceChangedError(BackupError):
    """A source object vanished or changed between its pin and its copy; the pin must be taken again.

    source: the object, None where it is unknown.
    """

    def __init__(self, message: str, remedy: str = "", source: Source | None = None) -> None:
        super().__init__(message, remedy)
        self.source = source


class LockedError(BackupError):
    """Another run holds the lock, or this run lost it."""
