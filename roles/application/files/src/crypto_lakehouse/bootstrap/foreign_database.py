# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles, memberships, privileges and databases that bootstrap did not create.

A role is closed, not dropped: it may own data. Without a superuser, parts that only a superuser may read or revoke are
left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, LiteralString

from crypto_lakehouse.bootstrap.database import (
    BACKUP,
    IS_SUPERUSER,
    MAINTENANCE,
    MONITORS,
    OWNERS,
    connect,
    described_roles,
)
from crypto_lakehouse.bootstrap.ledger import Foreign, Ledger, UnreachableError
from crypto_lakehouse.settings import Settings

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

    from crypto_lakehouse.bootstrap.database import Connection

ROLE: Final = "role"
UNPRIVILEGED_ROLE: Final = "role-without-login"
MEMBERSHIP: Final = "role-membership"
PRIVILEGE: Final = "database-privilege"
DATABASE: Final = "database"
RESTART: Final = "database-restart"

PUBLIC: Final = "PUBLIC"
CLOUD_ROLES: Final = r"^(rds|cloudsql|azure_|alloydb)"
"""Roles that a cloud creates in its databases, whose administrator is not a superuser."""
CLOSED: Final[LiteralString] = "ALTER ROLE {} NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
SHOWN: Final = 5
FUTURE: Final = "FUTURE "
"""Prefix of the kind of an object whose privileges `ALTER DEFAULT PRIVILEGES` gave."""

Grant = tuple[str, str, str, str]
"""Grantee, kind of the object, its name and the privilege, as the query of privileges returns them."""
DESCRIBED_OF_MONITORS: Final[frozenset[Grant]] = frozenset({(MONITORS, "DATABASE", MAINTENANCE, "CONNECT")})
DESCRIBED_OF_BACKUP: Final[frozenset[Grant]] = frozenset(
    {
        (BACKUP, "DATABASE", MAINTENANCE, "CONNECT"),
        (BACKUP, "ROUTINE", "pg_catalog.pg_create_restore_point(text)", "EXECUTE"),
    }
)
"""Privileges that bootstrap grants in the database `postgres`."""

_ROLES: Final[LiteralString] = """
SELECT rolname,
       concat_ws(', ', CASE WHEN rolcanlogin THEN 'logs in' END, CASE WHEN rolsuper THEN 'superuser' END,
                 CASE WHEN rolcreaterole THEN 'creates roles' END, CASE WHEN rolcreatedb THEN 'creates databases' END,
                 CASE WHEN rolreplication THEN 'replicates' END,
                 CASE WHEN rolbypassrls THEN 'bypasses row security' END)
FROM pg_roles
WHERE rolname !~ '^pg_' AND oid <> 10 AND rolname <> current_user AND rolname <> ALL(%s) AND rolname !~ %s
"""
_MEMBERSHIPS: Final[LiteralString] = """
SELECT DISTINCT pg_get_userbyid(roleid), pg_get_userbyid(member), pg_get_userbyid(grantor)
FROM pg_auth_members JOIN pg_roles ON pg_roles.oid = member
WHERE rolname !~ '^pg_' AND rolname <> current_user AND pg_roles.oid <> 10 AND rolname !~ %s
"""
_DATABASES: Final[LiteralString] = """
SELECT datname, pg_get_userbyid(datdba) FROM pg_database
WHERE NOT datistemplate AND datname <> ALL(%s) AND datname !~ %s
"""
_PENDING: Final[LiteralString] = """
SELECT name FROM pg_settings
WHERE pending_restart AND source <> 'command line'
   OR context = 'postmaster' AND sourcefile LIKE '%/postgresql.auto.conf'
ORDER BY name
"""
# A superuser compares the catalogue and routines of every owner with what `initdb` or their extension granted, and
# parameters, which are the whole server's. A routine that runs as its owner is open to PUBLIC unless that was revoked.
# The database `postgres` belongs to a superuser, whose routines are looked at there too. PUBLIC may execute routines
# and use types by default, so default privileges that say so add nothing.
_PRIVILEGES: Final[LiteralString] = """
WITH own AS (
    SELECT datdba AS owner, rolsuper AS every FROM pg_database, pg_roles
    WHERE datname = current_database() AND rolname = current_user
),
initial AS (
    SELECT classoid, objoid, objsubid, grantee, privilege_type FROM pg_init_privs, aclexplode(initprivs)
),
granted(object, name, grantee, privilege) AS (
    SELECT 'DATABASE', quote_ident(datname), grantee, privilege_type
    FROM pg_database, aclexplode(datacl)
    WHERE grantee NOT IN (datdba, 0)
      AND (datname = current_database() OR datname = 'template1' AND current_database() = 'postgres')
  UNION ALL
    SELECT 'SCHEMA', quote_ident(nspname), grantee, privilege_type
    FROM pg_namespace, own, aclexplode(nspacl)
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND grantee NOT IN (nspowner, owner)
      AND (grantee <> 0 OR privilege_type = 'CREATE')
  UNION ALL
    SELECT 'TABLE', format('%%I.%%I', nspname, relname), grantee, privilege_type
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace, own, aclexplode(relacl) AS acl
    WHERE (relowner = owner OR every) AND nspname <> 'information_schema'
      AND relkind IN ('r', 'p', 'v', 'm', 'f') AND grantee <> relowner
      AND NOT EXISTS (SELECT FROM initial WHERE classoid = 'pg_class'::regclass AND objoid = pg_class.oid
                      AND objsubid = 0 AND initial.grantee = acl.grantee
                      AND initial.privilege_type = acl.privilege_type)
  UNION ALL
    SELECT 'ROUTINE', format('%%I.%%I(%%s)', nspname, proname, pg_get_function_identity_arguments(pg_proc.oid)),
           grantee, privilege_type || CASE WHEN prosecdef THEN ' as ' || pg_get_userbyid(proowner) ELSE '' END
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace, own,
         aclexplode(coalesce(proacl, acldefault('f', proowner))) AS acl
    WHERE every AND grantee <> proowner
      AND (grantee <> 0 OR prosecdef AND (proowner <> owner OR owner = 10)
           OR EXISTS (SELECT FROM pg_init_privs WHERE classoid = 'pg_proc'::regclass AND objoid = pg_proc.oid))
      AND NOT EXISTS (SELECT FROM initial WHERE classoid = 'pg_proc'::regclass AND objoid = pg_proc.oid
                      AND initial.grantee = acl.grantee)
  UNION ALL
    SELECT 'PARAMETER', quote_ident(parname), grantee, privilege_type
    FROM pg_parameter_acl, aclexplode(paracl), own
    WHERE every AND grantee <> 10 AND current_database() = 'lakehouse'
  UNION ALL
    SELECT 'SEQUENCE', format('%%I.%%I', nspname, relname), grantee, privilege_type
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace, own, aclexplode(relacl)
    WHERE relowner = owner AND relkind = 'S' AND grantee <> owner
  UNION ALL
    SELECT 'TABLE', format('%%I.%%I', nspname, relname), grantee, privilege_type
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace,
         own, aclexplode(attacl) AS acl
    WHERE (relowner = owner OR every) AND nspname <> 'information_schema' AND NOT attisdropped AND grantee <> relowner
      AND NOT EXISTS (SELECT FROM initial WHERE classoid = 'pg_class'::regclass AND objoid = attrelid
                      AND objsubid = attnum AND initial.grantee = acl.grantee
                      AND initial.privilege_type = acl.privilege_type)
  UNION ALL
    SELECT 'FUTURE ' || CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES'
                                           WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END,
           'for role ' || quote_ident(pg_get_userbyid(defaclrole))
           || coalesce(' in schema ' || quote_ident(nspname), ''), grantee, privilege_type
    FROM pg_default_acl LEFT JOIN pg_namespace ON pg_namespace.oid = defaclnamespace, own, aclexplode(defaclacl)
    WHERE (every OR defaclrole = owner) AND grantee <> defaclrole
      AND NOT (grantee = 0 AND defaclobjtype IN ('f', 'T'))
)
SELECT DISTINCT CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END, object, name, privilege
FROM granted LEFT JOIN pg_roles ON pg_roles.oid = grantee
WHERE grantee <> 10 AND coalesce(rolname !~ %s, true)
ORDER BY 1, 2, 3, 4
"""


def report(settings: Settings, ledger: Ledger) -> None:
    """Record undescribed access and objects, and remove those that this run is requested to remove.

    Raises:
        SettingsError: when the administrator's URL was not given.
        BootstrapError: when the server does not answer or refuses.
    """
    url = settings.require("database_admin_url")
    with connect(url, ledger) as connection:
        (is_superuser,) = connection.execute(IS_SUPERUSER).fetchone() or (False,)
        # `$^` matches nothing: a superuser's server has no roles of a cloud, whatever the names are.
        predefined = "$^" if is_superuser else CLOUD_ROLES
        _report_roles(connection, ledger, described_roles(settings), predefined)
        _report_memberships(connection, ledger, predefined)
        _report_databases(connection, ledger, predefined)
        if is_superuser:
            for (name,) in connection.execute(_PENDING).fetchall():
                ledger.report(Foreign(RESTART, str(name), "takes effect at a restart"))
            of_backup = DESCRIBED_OF_BACKUP if BACKUP in described_roles(settings) else frozenset[Grant]()
            _report_privileges(connection, ledger, MAINTENANCE, predefined, DESCRIBED_OF_MONITORS | of_backup)
    for name in OWNERS:
        try:
            owned = connect(url, ledger, dbname=name)
        except UnreachableError:
            if not ledger.check:
                raise
            # With --check the database may not exist yet.
            continue
        with owned:
            _report_privileges(owned, ledger, name, predefined)


def _report_roles(connection: Connection, ledger: Ledger, described: Iterable[str], predefined: str) -> None:
    for name, may in connection.execute(_ROLES, [list(described), predefined]).fetchall():
        if may:
            ledger.report(Foreign(ROLE, name, may), partial(_close, connection, name))
        else:
            ledger.report(Foreign(UNPRIVILEGED_ROLE, name))


def _close(connection: Connection, name: str) -> None:
    """Remove login and privileges of a role and end its sessions. Its objects stay."""
    from psycopg.sql import SQL, Identifier

    connection.execute(SQL(CLOSED).format(Identifier(name)))
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [name])


def _report_memberships(connection: Connection, ledger: Ledger, predefined: str) -> None:
    grantors: dict[tuple[str, str], list[str]] = defaultdict(list)
    for role, member, grantor in connection.execute(_MEMBERSHIPS, [predefined]).fetchall():
        grantors[role, member].append(grantor)
    for (role, member), found in sorted(grantors.items()):
        membership = Foreign(MEMBERSHIP, f"{role}/{member}", f"{member} has the privileges of {role}")
        ledger.report(membership, partial(_revoke_membership, connection, role, member, found))


def _revoke_membership(connection: Connection, role: str, member: str, grantors: Iterable[str]) -> None:
    from psycopg.sql import SQL, Identifier

    for grantor in grantors:
        statement = SQL("REVOKE {} FROM {} GRANTED BY {} CASCADE")
        connection.execute(statement.format(Identifier(role), Identifier(member), Identifier(grantor)))


def _report_databases(connection: Connection, ledger: Ledger, predefined: str) -> None:
    for name, owner in connection.execute(_DATABASES, [[*OWNERS, MAINTENANCE], predefined]).fetchall():
        ledger.report(Foreign(DATABASE, name, f"owner {owner}"))


def _report_privileges(
    connection: Connection,
    ledger: Ledger,
    database: str,
    predefined: str,
    described: frozenset[Grant] = frozenset(),
) -> None:
    granted: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for grant in connection.execute(_PRIVILEGES, [predefined]).fetchall():
        grantee, kind, name, privilege = grant
        if grant not in described:
            granted[grantee][kind, name].append(privilege)
    for grantee, objects in sorted(granted.items()):
        ledger.report(
            Foreign(PRIVILEGE, f"{database}/{grantee or PUBLIC}", _told(objects)),
            _revocation(connection, grantee, objects),
        )


def _told(objects: Mapping[tuple[str, str], list[str]]) -> str:
    told = [f"{', '.join(found)} on {kind.lower()} {name}" for (kind, name), found in objects.items()]
    more = f", and on {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return "; ".join(told[:SHOWN]) + more


def _revocation(
    connection: Connection, grantee: str, objects: Mapping[tuple[str, str], list[str]]
) -> Callable[[], object]:
    from psycopg.sql import SQL, Identifier

    whom: Composable = Identifier(grantee) if grantee else SQL("PUBLIC")
    statements = [_revoke(privileges, kind, name, whom) for (kind, name), privileges in objects.items()]

    def revoke() -> None:
        for statement in statements:
            connection.execute(statement)

    return revoke


def _revoke(privileges: Iterable[Any], kind: Any, name: Any, whom: Composable) -> Composed:
    """Return the statement; privileges and `kind` are words of the query, `name` was quoted by the server.

    Privileges that are described, or that `initdb` granted, stay.
    """
    from psycopg.sql import SQL

    revoked = SQL(", ").join(SQL(privilege.partition(" as ")[0]) for privilege in privileges)
    if kind.startswith(FUTURE):
        statement = SQL("ALTER DEFAULT PRIVILEGES {} REVOKE {} ON {} FROM {} CASCADE")
        return statement.format(SQL(name), revoked, SQL(kind.removeprefix(FUTURE)), whom)
    return SQL("REVOKE {} ON {} {} FROM {} CASCADE").format(revoked, SQL(kind), SQL(name), whom)
