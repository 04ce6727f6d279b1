# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets the restore point of a backup set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, LiteralString

from crypto_lakehouse.backup.database.base import Base
from crypto_lakehouse.backup.database.server import Server, identity
from crypto_lakehouse.backup.database.wal import parse_lsn
from crypto_lakehouse.backup.errors import BackupError, RefusedError
from crypto_lakehouse.backup.model import DatabasePin, timestamp

PREFIX: Final = "lakehouse-"
NAME_BYTES: Final = 63

# A restore point alone is flushed when the next transaction commits; one that has a number commits it at once.
_PIN: Final[LiteralString] = "SELECT pg_create_restore_point(%s)::text, pg_current_xact_id()::text"


def pin_database(server: Server, base: Base, set_id: str) -> DatabasePin:
    """Set the restore point of a set and return it: its WAL is flushed, and comes after the base backup.

    Raises:
        BackupError: where the server is not the one of the base backup, or refuses.
    """
    name = f"{PREFIX}{set_id}"
    if len(name.encode()) > NAME_BYTES:
        raise RefusedError(f"cannot set restore point {name!r}: the name is longer than {NAME_BYTES} bytes")
    with server.connect() as connection:
        row = connection.execute(_PIN, [name]).fetchone()
        found = identity(connection)
    lsn = str(row[0]) if row else ""
    if found.line != (base.system_identifier, base.timeline) or parse_lsn(lsn) < parse_lsn(base.end_lsn):
        raise BackupError("cannot set a restore point: the server is not the one of the base backup", "Run it again.")
    return DatabasePin(
        lsn=lsn,
        restore_point=name,
        timeline=found.timeline,
        system_identifier=found.system_identifier,
        base_id=base.id,
        start_wal=base.start_wal,
        server_version=found.version,
        pinned_at=timestamp(datetime.now(UTC)),
    )
