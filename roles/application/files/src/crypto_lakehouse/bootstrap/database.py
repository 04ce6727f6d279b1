# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles, databases and the schema of the database `lakehouse`.

The administrator need not be a superuser, which a cloud's database has none of: one that may create roles and databases
sees no stored password, and tries it instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, LiteralString

from crypto_lakehouse import runs
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger, UnreachableError
from crypto_lakehouse.bootstrap.scram import matches, verifier
from crypto_lakehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

    Connection = psycopg.Connection[tuple[Any, ...]]

OWNERS: Final = ("lakehouse", "orchestrator")
"""Roles; each owns the database of its name. It may connect to no other, but to those that users added."""

BACKUP: Final = "backup"
"""Role that reads the server through the replication protocol. It enters the database `postgres` alone."""

MAINTENANCE: Final = "postgres"
"""The database that an administrator connects to; it belongs to PostgreSQL itself."""

TEMPLATE: Final = "template1"
"""The database that PostgreSQL copies for `CREATE DATABASE`. A session in it keeps users from creating databases."""

MONITORS: Final = "pg_monitor"
"""Predefined role of accounts that read figures of the server, such as the exporter of an operator."""

LIMITS: Final[LiteralString] = "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
CLOUD_LIMITS: Final[LiteralString] = "ALTER ROLE {} LOGIN NOCREATEROLE NOCREATEDB"
"""Only a superuser can name the other privileges, and only a superuser can have granted them."""
BACKUP_LIMITS: Final[LiteralString] = "ALTER ROLE {} LOGIN REPLICATION NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS"
UNLIMITED: Final[LiteralString] = "ALTER ROLE {} CONNECTION LIMIT -1 VALID UNTIL 'infinity'"
OPEN_DATABASE: Final[LiteralString] = "ALTER DATABASE {} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1"

LOCK: Final = 7_215_390_414
"""Key of the advisory lock that keeps two bootstrap runs apart."""

_TABLE: Final = "database lakehouse: table pipeline_runs"
_TABLE_INDEX: Final = "database lakehouse: index pipeline_runs_finished_at"
_REFUSED: Final = "authentication failed"
_NOT_PERMITTED: Final = "permission denied for database"
_NOT_ADMITTED: Final = "no pg_hba.conf entry"
REFUSED_FOR_S: Final = 120.0
"""How long a server may refuse the administrator's password: one that is given a new one may still have the old one."""

_ROLES: Final[LiteralString] = """
SELECT rolname, rolpassword,
       rolcanlogin AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls),
       rolconnlimit = -1 AND coalesce(rolvaliduntil = 'infinity', true)
FROM pg_authid WHERE rolname = ANY(%s)
"""
_ROLES_WITHOUT_PASSWORDS: Final[LiteralString] = """
SELECT rolname, NULL, rolcanlogin AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication),
       rolconnlimit = -1 AND coalesce(rolvaliduntil = 'infinity', true)
FROM pg_roles WHERE rolname = ANY(%s)
"""
_BACKUP_ROLE: Final[LiteralString] = """
SELECT rolpassword, rolcanlogin AND rolreplication AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls),
       rolconnlimit = -1 AND coalesce(rolvaliduntil = 'infinity', true),
       EXISTS (SELECT FROM pg_proc, aclexplode(proacl) WHERE grantee = pg_authid.oid AND privilege_type = 'EXECUTE'
               AND pg_proc.oid = 'pg_create_restore_point(text)'::regprocedure)
FROM pg_authid WHERE rolname = %s
"""
IS_SUPERUSER: Final[LiteralString] = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_MEMBERSHIPS: Final[LiteralString] = """
SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND pg_has_role(current_user, oid, 'SET')
"""
_DATABASES: Final[LiteralString] = """
SELECT datname, pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT, CREATE, TEMPORARY'),
       datallowconn AND datconnlimit = -1
FROM pg_database WHERE datname = ANY(%s)
"""
_PREDEFINED_DATABASES: Final[LiteralString] = """
SELECT datname, has_database_privilege('public', oid, 'CONNECT, CREATE, TEMPORARY'),
       array(SELECT pg_get_userbyid(grantee)::text FROM aclexplode(datacl) WHERE privilege_type = 'CONNECT'),
       pg_get_userbyid(10), datdba = 10
FROM pg_database WHERE datname = ANY(%s) AND pg_has_role(datdba, 'USAGE') ORDER BY 1
"""
_SETTINGS: Final[LiteralString] = """
SELECT coalesce(rolname, ''), coalesce(datname, ''),
       array(SELECT split_part(each, '=', 1) FROM unnest(setconfig) AS each)
FROM pg_db_role_setting
LEFT JOIN pg_roles ON pg_roles.oid = setrole LEFT JOIN pg_database ON pg_database.oid = setdatabase
ORDER BY 1, 2
"""
_SYSTEM_SETTINGS: Final[LiteralString] = """
SELECT DISTINCT name FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf' ORDER BY name
"""
_COLUMNS: Final[LiteralString] = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass('public.pipeline_runs') AND attnum > 0 AND NOT attisdropped
"""
_INDEX: Final[LiteralString] = "SELECT to_regclass('public.pipeline_runs_finished_at') IS NOT NULL"


def ensure(settings: Settings, ledger: Ledger) -> None:
    """Create and update roles, databases and schema.

    Raises:
        SettingsError: when the administrator's URL or a role's password was not given.
        BootstrapError: when the server does not answer, rejects a statement, or contains a foreign table of that name.
    """
    url = settings.require("database_admin_url")
    passwords = {name: settings.require(f"database_{name}_password") for name in OWNERS}
    with connect(url, ledger) as connection:
        if not ledger.check:
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        _ensure_roles(connection, ledger, passwords, partial(_opens, url))
        _ensure_backup_role(connection, ledger, settings.secret("database_backup_password"))
        _ensure_databases(connection, ledger)
        _close_predefined_databases(connection, ledger, connecting_roles(settings))
        _ensure_settings(connection, ledger, described_roles(settings))
    _ensure_schema(url, ledger)


def connect(url: str, ledger: Ledger, **options: Any) -> Connection:
    """Return a connection that commits each statement, as soon as the server admits the administrator.

    Raises:
        BootstrapError: when the server rejects it.
        UnreachableError: when it does not answer in time.
    """
    import psycopg

    refused_until_s = time.monotonic() + min(ledger.patience_s, REFUSED_FOR_S)

    def attempt() -> Connection:
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=5, **options)
        except psycopg.OperationalError as error:
            is_refused = _REFUSED in str(error) and time.monotonic() >= refused_until_s
            if is_refused or _NOT_ADMITTED in str(error):
                raise BootstrapError(f"LAKEHOUSE_DATABASE_ADMIN_URL: {error}") from error
            raise ConnectionError(str(error)) from error

    return ledger.wait_for("the database", attempt, (ConnectionError,))


def _opens(url: str, name: str, password: str) -> bool:
    """Return whether a role is authenticated with a password, even where it may not connect to the database."""
    import psycopg

    try:
        psycopg.connect(url, user=name, password=password, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        if _NOT_PERMITTED in str(error):
            return True
        if any(refusal in str(error) for refusal in (_REFUSED, "not permitted to log in")):
            return False
        raise
    return True


def _ensure_roles(
    connection: Connection, ledger: Ledger, passwords: dict[str, str], opens: Callable[[str, str], bool]
) -> None:
    from psycopg.sql import SQL, Identifier, Literal

    (is_superuser,) = connection.execute(IS_SUPERUSER).fetchone() or (False,)
    query = _ROLES if is_superuser else _ROLES_WITHOUT_PASSWORDS
    found = {name: rest for name, *rest in connection.execute(query, [list(OWNERS)])}
    belonging = {name for (name,) in connection.execute(_MEMBERSHIPS, [list(OWNERS)])}
    for name, password in passwords.items():
        role = Identifier(name)
        create = SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, Literal(verifier(password)))
        ledger.ensure(f"role {name}", name in found, partial(connection.execute, create))
        if name in found:
            kept, limited, unlimited = found[name]
            change = SQL("ALTER ROLE {} PASSWORD {}").format(role, Literal(verifier(password)))
            is_right = matches(password, kept) if is_superuser else opens(name, password)
            ledger.ensure(f"role {name}: password", is_right, partial(connection.execute, change))
            limit = SQL(LIMITS if is_superuser else CLOUD_LIMITS).format(role)
            ledger.ensure(f"role {name}: login and no privilege beyond", limited, partial(connection.execute, limit))
            raise_limit = SQL(UNLIMITED).format(role)
            ledger.ensure(f"role {name}: connection limit", unlimited, partial(connection.execute, raise_limit))
        if not is_superuser:
            # Only who may act as an owner can give it a database.
            grant = SQL("GRANT {} TO CURRENT_USER").format(role)
            ledger.ensure(f"role {name}: administered", name in belonging, partial(connection.execute, grant))


def described_roles(settings: Settings) -> tuple[str, ...]:
    """Return the roles that bootstrap manages: the owners, and that of backups where its password is set."""
    return OWNERS if settings.database_backup_password is None else (*OWNERS, BACKUP)


def connecting_roles(settings: Settings) -> tuple[str, ...]:
    """Return the roles that need the database `postgres`, beside its owner."""
    return MONITORS, *(role for role in described_roles(settings) if role not in OWNERS)


def _ensure_backup_role(connection: Connection, ledger: Ledger, password: str | None) -> None:
    """Bring the role of backups into place, which needs a superuser; without a password nothing happens.

    A replicating role reads the state of slots, the LSN and the timeline without further grants.
    """
    from psycopg.sql import SQL, Identifier, Literal

    if password is None:
        return
    (is_superuser,) = connection.execute(IS_SUPERUSER).fetchone() or (False,)
    if not is_superuser:
        raise BootstrapError(
            f"cannot manage role {BACKUP}: the administrator is not a superuser; "
            "leave LAKEHOUSE_DATABASE_BACKUP_PASSWORD out and use the backups of the provider"
        )
    role, verified = Identifier(BACKUP), Literal(verifier(password))
    found = connection.execute(_BACKUP_ROLE, [BACKUP]).fetchone()
    create = SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}").format(role, verified)
    ledger.ensure(f"role {BACKUP}", found is not None, partial(connection.execute, create))
    kept, limited, unlimited, granted = found or (None, True, True, False)
    repairs = {
        "password": (found is None or matches(password, kept), SQL("ALTER ROLE {} PASSWORD {}").format(role, verified)),
        "login and no privilege beyond": (limited, SQL(BACKUP_LIMITS).format(role)),
        "connection limit": (unlimited, SQL(UNLIMITED).format(role)),
        "restore points": (granted, SQL("GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO {}").format(role)),
    }
    for name, (is_right, statement) in repairs.items():
        ledger.ensure(f"role {BACKUP}: {name}", is_right, partial(connection.execute, statement))


def _ensure_databases(connection: Connection, ledger: Ledger) -> None:
    from psycopg.sql import SQL, Identifier

    found = {name: rest for name, *rest in connection.execute(_DATABASES, [list(OWNERS)])}
    for name in OWNERS:
        it = Identifier(name)
        create = SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(it, it)
        ledger.ensure(f"database {name}", name in found, partial(connection.execute, create))
        owner, public, connects = found.get(name, (name, True, True))
        change = SQL("ALTER DATABASE {} OWNER TO {}").format(it, it)
        ledger.ensure(f"database {name}: owner", owner == name, partial(connection.execute, change))
        revoke = SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(it)
        ledger.ensure(f"database {name}: closed to other roles", not public, partial(connection.execute, revoke))
        opened = SQL(OPEN_DATABASE).format(it)
        ledger.ensure(f"database {name}: connection limit", connects, partial(connection.execute, opened))


def _close_predefined_databases(connection: Connection, ledger: Ledger, roles: Iterable[str]) -> None:
    """Close PostgreSQL's own databases, which every role may connect to by default.

    roles: those that need the database `postgres`. An administrator that does not own these databases leaves them.
    """
    from psycopg.sql import SQL, Identifier

    (is_superuser,) = connection.execute(IS_SUPERUSER).fetchone() or (False,)
    found = connection.execute(_PREDEFINED_DATABASES, [[MAINTENANCE, TEMPLATE]]).fetchall()
    for name, public, connecting, superuser, owned in found:
        it = Identifier(name)
        if is_superuser:
            change = SQL("ALTER DATABASE {} OWNER TO {}").format(it, Identifier(superuser))
            ledger.ensure(f"database {name}: owner", owned, partial(connection.execute, change))
        for role in roles if name == MAINTENANCE else ():
            grant = SQL("GRANT CONNECT ON DATABASE {} TO {}").format(it, Identifier(role))
            ledger.ensure(
                f"database {name}: connection of {role}", role in connecting, partial(connection.execute, grant)
            )
        revoke = SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(it)
        ledger.ensure(f"database {name}: closed to other roles", not public, partial(connection.execute, revoke))


def _ensure_settings(connection: Connection, ledger: Ledger, roles: Iterable[str]) -> None:
    """Take back settings that roles and databases of the platform have, and those of `ALTER SYSTEM`."""
    (is_superuser,) = connection.execute(IS_SUPERUSER).fetchone() or (False,)
    names = {*roles, *(("", connection.info.user, MAINTENANCE) if is_superuser else ())}
    for role, database, settings in connection.execute(_SETTINGS).fetchall():
        if (role in names or not role) and (database in names or not database) and (is_superuser or role or database):
            where = " in ".join(filter(None, [role and f"role {role}", database and f"database {database}"]))
            what = f"{where or 'every role'}: settings ({', '.join(settings)})"
            ledger.ensure(what, False, partial(connection.execute, _reset(role, database)))
    if is_superuser:
        changed = [name for (name,) in connection.execute(_SYSTEM_SETTINGS).fetchall()]
        if changed:
            ledger.ensure(
                f"database server: settings ({', '.join(changed)})", False, partial(_reset_system, connection)
            )


def _reset(role: str, database: str) -> Composed:
    from psycopg.sql import SQL, Identifier

    if not role and database:
        return SQL("ALTER DATABASE {} RESET ALL").format(Identifier(database))
    subject = Identifier(role) if role else SQL("ALL")
    place = SQL(" IN DATABASE {}").format(Identifier(database)) if database else SQL("")
    return SQL("ALTER ROLE {}{} RESET ALL").format(subject, place)


def _reset_system(connection: Connection) -> None:
    connection.execute("ALTER SYSTEM RESET ALL")
    connection.execute("SELECT pg_reload_conf()")


def _ensure_schema(url: str, ledger: Ledger) -> None:
    try:
        connection = connect(url, ledger, dbname="lakehouse")
    except UnreachableError:
        if not ledger.check:
            raise
        # With --check the database may not exist yet.
        ledger.changed += [_TABLE, _TABLE_INDEX]
        return
    with connection:
        connection.execute("SET ROLE lakehouse")
        found: dict[str, str] = dict(connection.execute(_COLUMNS).fetchall())
        ledger.ensure(_TABLE, bool(found), partial(connection.execute, runs.CREATE_TABLE))
        for name, type_name in runs.COLUMNS.items() if found else ():
            if found.get(name, type_name) != type_name:
                raise BootstrapError(f"pipeline_runs.{name} is {found[name]}, not {type_name}: rename the old table")
            add = f'ALTER TABLE pipeline_runs ADD COLUMN "{name}" {type_name}'.encode()
            ledger.ensure(f"{_TABLE}: column {name}", name in found, partial(connection.execute, add))
        (present,) = connection.execute(_INDEX).fetchone() or (False,)
        ledger.ensure(_TABLE_INDEX, present, partial(connection.execute, runs.CREATE_INDEX))
