# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads artifacts of backup sets, and distinguishes a lost artifact from an unreachable destination."""

from __future__ import annotations

from collections.abc import Iterator

from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.errors import DestinationError, IntegrityError
from crypto_lakehouse.backup.model import Artifact


def read_artifact(destination: Destination, artifact: Artifact) -> Iterator[bytes]:
    """Return the stored bytes of an artifact in blocks, in the version that the set recorded.

    Raises:
        IntegrityError: where it does not exist any more. DestinationError: where the destination cannot be read.
    """
    try:
        yield from destination.read(artifact.key, artifact.version_id)
    except DestinationError:
        if destination.stat(artifact.key, artifact.version_id) is not None:
            raise
        raise IntegrityError(
            f"cannot read {artifact.key} ({artifact.subject}): it does not exist", "Use another set."
        ) from None
