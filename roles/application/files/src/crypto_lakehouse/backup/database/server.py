# SPDX-License-Identifier: GPL-3.0-or-later
"""The database server as the role `backup` sees it: its identity and the state of its replication slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString

from crypto_lakehouse.backup.database.programs import redact
from crypto_lakehouse.backup.database.wal import Lsn, parse_lsn
from crypto_lakehouse.backup.errors import BackupError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_S: Final = 10
STATEMENT_TIMEOUT_S: Final = 30
APPLICATION: Final = "lakehouse backup"

# The checkpoint of a promoted server may still be of its former timeline; the name of its WAL file is not.
_IDENTITY: Final[LiteralString] = """
SELECT system_identifier::text, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
       pg_current_wal_flush_lsn()::text, (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
       current_setting('server_version')
FROM pg_control_system()
"""
_SLOT: Final[LiteralString] = """
SELECT wal_status, restart_lsn::text, active, pg_current_wal_flush_lsn()::text
FROM pg_replication_slots WHERE slot_name = %s
"""
_CREATE_SLOT: Final[LiteralString] = "SELECT pg_create_physical_replication_slot(%s, true)"
_DROP_SLOT: Final[LiteralString] = "SELECT pg_drop_replication_slot(%s)"
_FREE_SLOT: Final[LiteralString] = """
SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots
WHERE slot_name = %s AND active_pid IS NOT NULL
"""


class ServerError(BackupError):
    """The server does not answer, or refuses a request."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a server: a restored one has the same system identifier, and a timeline of its own.

    lsn: end of the WAL that is flushed. segment_bytes: size of a WAL file.
    """

    system_identifier: str
    timeline: int
    lsn: Lsn
    segment_bytes: int
    version: str

    @property
    def line(self) -> tuple[str, int]:
        """System identifier and timeline: WAL of one line is continuous."""
        return self.system_identifier, self.timeline


@dataclass(frozen=True, slots=True)
class Slot:
    """State of a replication slot. end: WAL up to here is flushed by its receiver; None where the slot is lost."""

    wal_status: str
    end: Lsn | None
    is_active: bool
    server_end: Lsn

    @property
    def is_lost(self) -> bool:
        """Whether the server has removed WAL that the slot needs."""
        return self.wal_status == "lost" or self.end is None


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a server and the account of the role `backup`, as a connection URL."""

    url: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no message may contain."""
        return tuple(filter(None, (self._parameters().get("password"),)))

    @property
    def conninfo(self) -> str:
        """The connection string for arguments of programs: without the password."""
        from psycopg.conninfo import make_conninfo

        given = {name: value for name, value in self._parameters().items() if name != "password"}
        return make_conninfo("", **{"connect_timeout": CONNECT_TIMEOUT_S, **given, "application_name": APPLICATION})

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of programs that connect; only their own user can read them."""
        given = self._parameters().get("password")
        # Files of the user's home must not change the connection.
        password = {"PGPASSWORD": str(given)} if given else {}
        return {"PGPASSFILE": "/dev/null", "PGSERVICEFILE": "/dev/null", **password}

    def _parameters(self) -> dict[str, Any]:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        try:
            return dict(conninfo_to_dict(self.url))
        except ProgrammingError:
            raise BackupError("cannot read the database's address: it is not a connection URL") from None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Return a connection that commits each statement.

        Raises:
            ServerError: where the server does not answer or refuses, here or within the block.
        """
        import psycopg

        defaults = {"connect_timeout": CONNECT_TIMEOUT_S, "dbname": "postgres"}
        options = {"application_name": APPLICATION, "options": f"-c statement_timeout={STATEMENT_TIMEOUT_S}s"}
        try:
            with psycopg.connect("", autocommit=True, **{**defaults, **self._parameters(), **options}) as found:
                yield found
        except psycopg.Error as error:
            message = redact(" ".join(str(error).split()), self.secrets)
            raise ServerError(f"cannot use the database server: {message}") from None

    def identify(self) -> Identity:
        """Return the identity of the server and the end of its WAL."""
        with self.connect() as connection:
            return identity(connection)

    def read_slot(self, name: str) -> Slot | None:
        """Return the state of a slot, None where there is none."""
        with self.connect() as connection:
            return slot(connection, name)


def identity(connection: Connection) -> Identity:
    """Return the identity of a connection's server."""
    row = connection.execute(_IDENTITY).fetchone()
    if row is None:
        raise ServerError("cannot identify the database server: it has no control data")
    system_identifier, timeline, lsn, segment_bytes, version = row
    return Identity(system_identifier, timeline, parse_lsn(lsn), segment_bytes, version.split()[0])


def slot(connection: Connection, name: str) -> Slot | None:
    """Return the state of a slot, None where there is none."""
    row = connection.execute(_SLOT, [name]).fetchone()
    if row is None:
        return None
    status, end, is_active, server_end = row
    return Slot(status or "", parse_lsn(end) if end else None, is_active, parse_lsn(server_end))


def create_slot(connection: Connection, name: str) -> None:
    """Create a slot that keeps WAL from now on."""
    connection.execute(_CREATE_SLOT, [name])


def drop_slot(connection: Connection, name: str) -> None:
    """End the slot's receiver and drop it."""
    free_slot(connection, name)
    connection.execute(_DROP_SLOT, [name])


def free_slot(connection: Connection, name: str) -> None:
    """End the receiver that a killed predecessor left at the slot."""
    connection.execute(_FREE_SLOT, [name])
