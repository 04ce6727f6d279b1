# SPDX-License-Identifier: GPL-3.0-or-later
"""Bootstrap creates all objects once, keeps them afterwards, predicts its changes, and repairs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import prepared
import psycopg
import pytest
import services
from botocore.exceptions import ClientError
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from crypto_lakehouse import bootstrap, runs
from crypto_lakehouse.bootstrap import database, iceberg, mask, storage
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger, UnreachableError
from crypto_lakehouse.bootstrap.scram import matches
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings, SettingsError
from crypto_lakehouse.tables import GOLD_VOLATILITY, TABLES, TIERS, Column, TableSpec

NOWHERE = "http://127.0.0.1:9"
BACKUP_PASSWORD = "password-of-the-role-backup"
_numbers = itertools.count()

Part = Callable[[Settings, Ledger], None]


def changes(part: Part, settings: Settings, *, check: bool = False) -> list[str]:
    ledger = Ledger(check=check, wait_s=10)
    part(settings, ledger)
    return ledger.changed


@pytest.fixture
def fresh(object_store: services.ObjectStore, database_server: services.DatabaseServer) -> Settings:
    """Return the administrator's settings for buckets that do not exist yet."""
    suffix = f"fresh{next(_numbers)}"
    environment = prepared.administrator_environment(object_store, database_server)
    renamed = {
        name: value.replace("-test", f"-{suffix}") if "crypto-lakehouse-" in value else value
        for name, value in environment.items()
    }
    return services.settings_from(renamed)


@pytest.fixture
def put(fresh: Settings) -> Settings:
    """Return the settings of existing buckets and tables."""
    changes(storage.ensure, fresh)
    return fresh


@pytest.fixture
def settings(object_store: services.ObjectStore, database_server: services.DatabaseServer) -> Settings:
    return services.settings_from(prepared.administrator_environment(object_store, database_server))


@pytest.fixture
def admin(database_server: services.DatabaseServer) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(database_server.admin_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def empty_server(
    admin: psycopg.Connection[tuple[Any, ...]], database_server: services.DatabaseServer
) -> Iterator[services.DatabaseServer]:
    """Return a server without the platform's roles and databases, and restore them."""
    for name in database.OWNERS:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"DROP ROLE {name}".encode())
    yield database_server
    admin_settings = services.settings_from(
        {
            "LAKEHOUSE_DATABASE_ADMIN_URL": database_server.admin_url,
            "LAKEHOUSE_DATABASE_LAKEHOUSE_PASSWORD": database_server.passwords["lakehouse"],
            "LAKEHOUSE_DATABASE_ORCHESTRATOR_PASSWORD": database_server.passwords["orchestrator"],
        }
    )
    changes(database.ensure, admin_settings)


def test_check_says_what_an_empty_server_needs_and_changes_nothing(
    empty_server: services.DatabaseServer, settings: Settings, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    predicted = changes(database.ensure, settings, check=True)
    assert predicted == changes(database.ensure, settings, check=True)
    assert admin.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'lakehouse'").fetchone() == (0,)
    assert changes(database.ensure, settings) == predicted
    assert predicted[0] == "role lakehouse"
    assert "database lakehouse: table pipeline_runs" in predicted
    assert changes(database.ensure, settings) == []
    for url in (empty_server.lakehouse_url, empty_server.orchestrator_url):
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def cloud(empty_server: services.DatabaseServer, admin: psycopg.Connection[tuple[Any, ...]]) -> Iterator[Settings]:
    """Return the settings of a cloud database's administrator without superuser rights."""
    admin.execute("CREATE ROLE master LOGIN CREATEROLE CREATEDB PASSWORD 'master'")
    admin.execute("GRANT CONNECT ON DATABASE postgres TO master")
    url = empty_server.admin_url.replace(empty_server.passwords["postgres"], "master").replace("postgres:", "master:")
    variables = {"ADMIN_URL": url} | {
        f"{name.upper()}_PASSWORD": empty_server.passwords[name] for name in database.OWNERS
    }
    yield services.settings_from({f"LAKEHOUSE_DATABASE_{name}": value for name, value in variables.items()})
    for name in database.OWNERS:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"DROP ROLE IF EXISTS {name}".encode())
    admin.execute("DROP OWNED BY master")
    admin.execute("DROP ROLE master")
    for name in database.OWNERS:
        admin.execute(f"CREATE ROLE {name} LOGIN".encode())


def test_an_administrator_who_is_no_superuser_brings_everything_into_place(
    cloud: Settings, empty_server: services.DatabaseServer, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    predicted = changes(database.ensure, cloud, check=True)
    assert changes(database.ensure, cloud) == predicted
    assert changes(database.ensure, cloud) == changes(database.ensure, cloud, check=True) == []
    with psycopg.connect(empty_server.orchestrator_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(empty_server.orchestrator_url, dbname="lakehouse")
    for damage, mended in (("PASSWORD 'another-one'", "password"), ("NOLOGIN", "login and no privilege beyond")):
        admin.execute(f"ALTER ROLE lakehouse {damage}".encode())
        assert f"role lakehouse: {mended}" in changes(database.ensure, cloud)
        assert changes(database.ensure, cloud) == []


@pytest.mark.parametrize("name", ["lakehouse", database.MAINTENANCE, database.TEMPLATE])
def test_a_role_connects_to_no_database_but_its_own(
    settings: Settings, database_server: services.DatabaseServer, name: str
) -> None:
    changes(database.ensure, settings)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(database_server.orchestrator_url, dbname=name)


def test_a_role_that_monitors_the_server_connects_to_its_database_postgres(
    settings: Settings, database_server: services.DatabaseServer, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    changes(database.ensure, settings)
    admin.execute("CREATE ROLE monitor LOGIN PASSWORD 'of-the-test' IN ROLE pg_monitor")
    url = make_conninfo(database_server.admin_url, user="monitor", password="of-the-test")
    try:
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) > 0 FROM pg_stat_replication_slots").fetchone() is not None
    finally:
        admin.execute("DROP ROLE monitor")


@pytest.mark.parametrize(
    ("damage", "mended"),
    [
        ("ALTER ROLE lakehouse PASSWORD 'another-one'", "role lakehouse: password"),
        ("ALTER ROLE lakehouse PASSWORD NULL", "role lakehouse: password"),
        ("ALTER ROLE orchestrator SUPERUSER", "role orchestrator: login and no privilege beyond"),
        ("ALTER ROLE orchestrator NOLOGIN", "role orchestrator: login and no privilege beyond"),
        ("ALTER DATABASE lakehouse OWNER TO postgres", "database lakehouse: owner"),
        ("GRANT CONNECT ON DATABASE orchestrator TO PUBLIC", "database orchestrator: closed to other roles"),
        ("GRANT CONNECT ON DATABASE postgres TO PUBLIC", "database postgres: closed to other roles"),
        ("GRANT TEMPORARY ON DATABASE template1 TO PUBLIC", "database template1: closed to other roles"),
        ("REVOKE CONNECT ON DATABASE postgres FROM pg_monitor", "database postgres: connection of pg_monitor"),
        ("ALTER DATABASE postgres OWNER TO lakehouse", "database postgres: owner"),
    ],
)
def test_what_was_changed_by_hand_is_found_and_mended(
    settings: Settings, admin: psycopg.Connection[tuple[Any, ...]], damage: str, mended: str
) -> None:
    changes(database.ensure, settings)
    admin.execute(damage.encode())
    assert changes(database.ensure, settings, check=True) == [mended]
    assert changes(database.ensure, settings) == [mended]
    assert changes(database.ensure, settings) == []


@pytest.fixture
def with_backups(
    object_store: services.ObjectStore,
    database_server: services.DatabaseServer,
    admin: psycopg.Connection[tuple[Any, ...]],
) -> Iterator[Settings]:
    """Return the administrator's settings with a password of the role `backup`, and remove the role."""
    environment = prepared.administrator_environment(object_store, database_server)
    yield services.settings_from({**environment, "LAKEHOUSE_DATABASE_BACKUP_PASSWORD": BACKUP_PASSWORD})
    admin.execute("DROP OWNED BY backup")
    admin.execute("DROP ROLE backup")


def test_the_role_of_backups_replicates_sets_restore_points_and_enters_no_database_of_the_platform(
    with_backups: Settings, settings: Settings, database_server: services.DatabaseServer
) -> None:
    changes(database.ensure, settings)
    expected = ["role backup", "role backup: restore points", "database postgres: connection of backup"]
    assert changes(database.ensure, with_backups, check=True) == expected
    assert changes(database.ensure, with_backups) == expected
    assert changes(database.ensure, with_backups) == changes(database.ensure, settings) == []
    url = make_conninfo(database_server.admin_url, user="backup", password=BACKUP_PASSWORD)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_create_restore_point('of-the-test') > '0/0'::pg_lsn").fetchone()
        assert row == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT pg_read_file('PG_VERSION')")
    for name in database.OWNERS:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url, dbname=name)


@pytest.mark.parametrize(
    ("damage", "repaired"),
    [
        ("ALTER ROLE backup PASSWORD 'another-one'", "role backup: password"),
        ("ALTER ROLE backup SUPERUSER", "role backup: login and no privilege beyond"),
        ("ALTER ROLE backup NOREPLICATION", "role backup: login and no privilege beyond"),
        ("ALTER ROLE backup BYPASSRLS", "role backup: login and no privilege beyond"),
        ("ALTER ROLE backup CONNECTION LIMIT 0", "role backup: connection limit"),
        ("ALTER ROLE backup SET work_mem = '1MB'", "role backup: settings (work_mem)"),
        (
            "REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM backup",
            "role backup: restore points",
        ),
        ("REVOKE CONNECT ON DATABASE postgres FROM backup", "database postgres: connection of backup"),
    ],
)
def test_a_changed_role_of_backups_is_found_and_repaired(
    with_backups: Settings, admin: psycopg.Connection[tuple[Any, ...]], damage: str, repaired: str
) -> None:
    changes(database.ensure, with_backups)
    admin.execute(damage.encode())
    assert changes(database.ensure, with_backups, check=True) == [repaired]
    assert changes(database.ensure, with_backups) == [repaired]
    assert changes(database.ensure, with_backups) == []


def test_an_administrator_who_is_no_superuser_cannot_manage_the_role_of_backups(cloud: Settings) -> None:
    described = cloud.model_copy(update={"database_backup_password": SecretStr(BACKUP_PASSWORD)})
    with pytest.raises(BootstrapError, match="cannot manage role backup: the administrator is not a superuser"):
        changes(database.ensure, described)


def test_columns_and_index_of_the_schema_are_added_and_rows_kept(
    settings: Settings, database_server: services.DatabaseServer
) -> None:
    changes(database.ensure, settings)
    with psycopg.connect(database_server.lakehouse_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE pipeline_runs DROP COLUMN source")
        connection.execute("DROP INDEX pipeline_runs_finished_at")
        expected = [
            "database lakehouse: table pipeline_runs: column source",
            "database lakehouse: index pipeline_runs_finished_at",
        ]
        assert changes(database.ensure, settings, check=True) == expected
        assert changes(database.ensure, settings) == expected
        assert changes(database.ensure, settings) == []
        connection.execute("DROP TABLE pipeline_runs")
        connection.execute("CREATE TABLE pipeline_runs (flow integer)")
        with pytest.raises(BootstrapError, match=r"pipeline_runs\.flow is integer, not text"):
            changes(database.ensure, settings)
        connection.execute("DROP TABLE pipeline_runs")
    changes(database.ensure, settings)
    with psycopg.connect(database_server.lakehouse_url) as connection:
        found: dict[str, str] = dict(connection.execute(database._COLUMNS).fetchall())
        owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'pipeline_runs'").fetchone()
    assert found == dict(runs.COLUMNS)
    assert owner == ("lakehouse",)


def test_passwords_never_reach_the_log_of_the_server(
    settings: Settings,
    admin: psycopg.Connection[tuple[Any, ...]],
    database_server: services.DatabaseServer,
) -> None:
    admin.execute("ALTER SYSTEM SET log_statement = 'all'")
    admin.execute("SELECT pg_reload_conf()")
    try:
        admin.execute("ALTER ROLE lakehouse PASSWORD NULL")
        changes(database.ensure, settings)
    finally:
        admin.execute("ALTER SYSTEM RESET log_statement")
        admin.execute("SELECT pg_reload_conf()")
    text = database_server.log.read_text()
    assert "SCRAM-SHA-256$4096:" in text
    assert database_server.passwords["lakehouse"] not in text
    assert database_server.passwords["orchestrator"] not in text


@pytest.mark.parametrize("password", ["pencil", "pässwörd Ⅸ", "a\u00a0b\u00adc", "'; DROP ROLE x; --", "日本"])
def test_verifiers_are_those_of_the_server_itself(admin: psycopg.Connection[tuple[Any, ...]], password: str) -> None:
    kept = admin.pgconn.encrypt_password(password.encode(), b"anyone", b"scram-sha-256").decode()
    assert matches(password, kept)


def test_a_wrong_administrator_is_refused_without_its_password(settings: Settings) -> None:
    wrong = settings.require("database_admin_url").replace("postgres:", "postgres:not-the-")
    changed = services.settings_from(
        {
            "LAKEHOUSE_DATABASE_ADMIN_URL": wrong,
            "LAKEHOUSE_DATABASE_LAKEHOUSE_PASSWORD": "x",
            "LAKEHOUSE_DATABASE_ORCHESTRATOR_PASSWORD": "x",
        }
    )
    with pytest.raises(BootstrapError, match=r"LAKEHOUSE_DATABASE_ADMIN_URL.*authentication failed") as refused:
        database.ensure(changed, Ledger(check=False, wait_s=1))
    assert "not-the-" not in str(refused.value)


def test_a_server_that_has_the_old_password_still_is_waited_for(
    database_server: services.DatabaseServer, admin: psycopg.Connection[tuple[Any, ...]]
) -> None:
    admin.execute("CREATE ROLE rotated LOGIN PASSWORD 'old' IN ROLE pg_monitor")
    admin.execute("GRANT CONNECT ON DATABASE postgres TO pg_monitor")
    url = make_conninfo(database_server.admin_url, user="rotated", password="new")
    try:
        with ThreadPoolExecutor(1) as pool:
            connected = pool.submit(database.connect, url, Ledger(check=False, wait_s=30))
            time.sleep(1)
            assert not connected.done()
            admin.execute("ALTER ROLE rotated PASSWORD 'new'")
            connected.result().close()
    finally:
        admin.execute("DROP ROLE rotated")


def test_check_says_what_an_empty_object_store_needs_and_changes_nothing(fresh: Settings) -> None:
    predicted = changes(storage.ensure, fresh, check=True)
    names = [bucket["Name"] for bucket in s3_client(fresh).list_buckets()["Buckets"]]
    assert fresh.bucket("bronze") not in names
    assert changes(storage.ensure, fresh) == predicted
    assert changes(storage.ensure, fresh, check=True) == []
    assert changes(storage.ensure, fresh) == []
    for spec in TABLES:
        assert f"table {spec.full_name}" in predicted
        assert open_catalog(fresh, spec.tier).table_exists((spec.tier, spec.name))


def test_versions_and_lifecycle_hold_where_they_should(put: Settings) -> None:
    s3 = s3_client(put)
    for tier in TIERS:
        name = put.bucket(tier)
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]}
        assert rules["clean-up"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
        assert rules["clean-up"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
        assert ("archive-raw" in rules) == (tier == "bronze")
    archive = s3.get_bucket_lifecycle_configuration(Bucket=put.bucket("bronze"))["Rules"][0]
    assert archive["Filter"] == {"Prefix": "raw/"}
    assert [step["Days"] for step in archive["Transitions"]] == [30, 90, 365]
    for tier in TIERS:
        rules = s3.get_bucket_lifecycle_configuration(Bucket=storage.table_bucket(put, tier))["Rules"]
        assert [rule["ID"] for rule in rules] == ["clean-up"]


def test_backups_are_protected_and_no_rule_expires_or_moves_them(put: Settings) -> None:
    s3, name, state = s3_client(put), put.require("backups_bucket"), put.require("backup_state_bucket")
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    lock = s3.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"] == {"Mode": "COMPLIANCE", "Days": 7}
    version = s3.put_object(Bucket=name, Key="set", Body=b"content")["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=name, Key="set", VersionId=version)
    for bucket in (name, state):
        (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
        assert {"Expiration", "Transitions", "NoncurrentVersionExpiration"}.isdisjoint(rule)
    # Locks are deleted and replaced.
    s3.delete_object(
        Bucket=state, Key="lock", VersionId=s3.put_object(Bucket=state, Key="lock").get("VersionId", "null")
    )


def test_a_bucket_of_backups_that_an_earlier_version_created_becomes_protected(fresh: Settings) -> None:
    s3, name = s3_client(fresh), fresh.require("backups_bucket")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    rules = {"Rules": [dict(storage.CLEAN_UP)]}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rules)
    changed = changes(storage.ensure, fresh)
    assert {f"bucket {name}: lifecycle", f"bucket {name}: object lock"} <= set(changed)
    assert changes(storage.ensure, fresh) == []


def test_an_object_store_with_colder_classes_gets_the_archive_rule_enabled() -> None:
    class Store:
        def __init__(self) -> None:
            self.rules: list[Any] = []

        def put_bucket_lifecycle_configuration(self, Bucket: str, LifecycleConfiguration: Any) -> None:  # noqa: N803
            self.rules = LifecycleConfiguration["Rules"]

        def get_bucket_lifecycle_configuration(self, Bucket: str) -> Any:  # noqa: N803
            return {"Rules": self.rules}

    store, ledger = Store(), Ledger(check=False, wait_s=0)
    storage._ensure_lifecycle(store, ledger, "bronze", exists=True, rules=storage.BUCKET_RULES["bronze"])
    assert [rule["Status"] for rule in store.rules] == ["Enabled", "Enabled"]
    storage._ensure_lifecycle(store, ledger, "bronze", exists=True, rules=storage.BUCKET_RULES["bronze"])
    assert len(ledger.changed) == 1


def damage_versioning(settings: Settings) -> str:
    name = settings.bucket("gold")
    s3_client(settings).put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    return f"bucket {name}: versioning"


def damage_lifecycle(settings: Settings) -> str:
    name = settings.bucket("bronze")
    rules = {"Rules": [dict(storage.CLEAN_UP)]}
    s3_client(settings).put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rules)
    return f"bucket {name}: lifecycle"


def damage_policy(settings: Settings) -> str:
    name = storage.table_bucket(settings, "silver")
    s3tables = s3_client(settings, service="s3tables")
    arn = storage._table_bucket_arn(s3tables, name)
    policy = storage.access_policy(str(arn), "silver")
    policy["Statement"][1]["Principal"]["AWS"].append("query")
    s3tables.put_table_bucket_policy(tableBucketARN=arn, resourcePolicy=json.dumps(policy))
    return f"table bucket {name}: policy"


def damage_property(settings: Settings) -> str:
    table = open_catalog(settings, "gold").load_table("gold.volatility")
    with table.transaction() as transaction:
        transaction.set_properties({"commit.retry.num-retries": "4"})
    return "table gold.volatility: properties commit.retry.num-retries"


def drop_table(settings: Settings) -> str:
    open_catalog(settings, "silver").drop_table("silver.klines_quarantine")
    return "table silver.klines_quarantine"


@pytest.mark.parametrize(
    "damage",
    [damage_versioning, damage_lifecycle, damage_policy, damage_property, drop_table],
    ids=lambda f: f.__name__,
)
def test_damage_in_the_object_store_is_found_and_mended(put: Settings, damage: Callable[[Settings], str]) -> None:
    expected = damage(put)
    assert changes(storage.ensure, put, check=True) == [expected]
    assert changes(storage.ensure, put) == [expected]
    assert changes(storage.ensure, put) == []


def with_columns(monkeypatch: pytest.MonkeyPatch, *columns: Column) -> None:
    def changed(spec: TableSpec) -> TableSpec:
        return replace(spec, columns=columns) if spec is GOLD_VOLATILITY else spec

    monkeypatch.setattr(iceberg, "TABLES", tuple(changed(spec) for spec in TABLES))


def test_a_new_column_is_added_and_old_rows_are_read_with_it(put: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_catalog(put, "gold").load_table("gold.volatility")
    old = {column.name: None for column in GOLD_VOLATILITY.columns}
    assert len(old) == len(table.schema().fields)
    with_columns(monkeypatch, *GOLD_VOLATILITY.columns, Column("window", "string", "added later"))
    assert changes(storage.ensure, put, check=True) == ["table gold.volatility: columns window"]
    assert changes(storage.ensure, put) == ["table gold.volatility: columns window"]
    assert changes(storage.ensure, put) == []
    names = [field.name for field in open_catalog(put, "gold").load_table("gold.volatility").schema().fields]
    assert names == [*old, "window"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column("log_returns", "string", "changed", required=True), "is required int, described as required string"),
        (Column("log_returns", "int", "changed"), "is required int, described as optional int"),
        (Column("window", "string", "new", required=True), "is missing and required"),
    ],
)
def test_what_is_no_addition_to_a_table_is_refused(
    put: Settings, monkeypatch: pytest.MonkeyPatch, column: Column, message: str
) -> None:
    others = [each for each in GOLD_VOLATILITY.columns if each.name != column.name]
    with_columns(monkeypatch, *others, column)
    with pytest.raises(BootstrapError, match=message):
        changes(storage.ensure, put)


def test_a_table_with_another_partitioning_is_refused(fresh: Settings) -> None:
    changes(storage.ensure, fresh)
    catalog = open_catalog(fresh, "gold")
    schema = catalog.load_table("gold.volatility").schema()
    catalog.drop_table("gold.volatility")
    catalog.create_table("gold.volatility", schema=schema)
    with pytest.raises(BootstrapError, match="partitioned by nothing, described as exchange, symbol"):
        changes(storage.ensure, fresh)


def test_a_catalog_that_does_not_answer_is_named(put: Settings, object_store: services.ObjectStore) -> None:
    open_catalog(put, "gold").drop_table("gold.volatility")
    away = put.model_copy(update={"catalog_uri": NOWHERE})
    with pytest.raises(UnreachableError, match="the Iceberg catalog does not answer"):
        storage.ensure(away, Ledger(check=False, wait_s=0))


def test_each_identity_has_its_rights_and_no_more(
    object_store: services.ObjectStore, database_server: services.DatabaseServer
) -> None:
    from pyiceberg.exceptions import ForbiddenError, NoSuchTableError, RESTError

    prepared.put_in_place(object_store, database_server)
    for identity, tier in (("query", "bronze"), ("query", "silver")):
        catalog = open_catalog(services.settings_from(object_store.environment(identity)), tier)  # type: ignore[arg-type]
        # SeaweedFS does not even reveal the existence of a table that may not be read.
        with pytest.raises((ForbiddenError, NoSuchTableError)):
            catalog.load_table(f"{tier}.klines")
    for identity in ("query", "verify"):
        catalog = open_catalog(services.settings_from(object_store.environment(identity)), "gold")
        table = catalog.load_table("gold.volatility")
        transaction = table.transaction()
        transaction.set_properties({"comment": identity})
        with pytest.raises(RESTError):
            transaction.commit_transaction()
        assert catalog.load_table("gold.volatility").properties["comment"] == GOLD_VOLATILITY.doc


def run_command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", "crypto_lakehouse.cli", "bootstrap", *arguments]
    return subprocess.run(command, env={**keep, **environment}, capture_output=True, text=True, cwd="/", check=False)


def test_the_command_prints_one_document_and_nothing_when_all_is_in_place(
    object_store: services.ObjectStore, database_server: services.DatabaseServer
) -> None:
    prepared.put_in_place(object_store, database_server)
    environment = prepared.administrator_environment(object_store, database_server)
    done = run_command(environment, "--phase", "database")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["changed"] == []
    assert document["unchanged"] > 5


def test_services_that_do_not_answer_are_known_after_apply_in_check_and_an_error_else() -> None:
    environment = {
        "LAKEHOUSE_DATABASE_ADMIN_URL": "postgresql://postgres:hunter2-secret@127.0.0.1:9/postgres",
        "LAKEHOUSE_DATABASE_LAKEHOUSE_PASSWORD": "lakehouse-secret",
        "LAKEHOUSE_DATABASE_ORCHESTRATOR_PASSWORD": "orchestrator-secret",
        "LAKEHOUSE_S3_ENDPOINT": NOWHERE,
        "LAKEHOUSE_S3_ACCESS_KEY": "access-key",
        "LAKEHOUSE_S3_SECRET_KEY": "secret-key",
        "PREFECT_API_URL": f"{NOWHERE}/api",
        "PREFECT_API_AUTH_STRING": "lakehouse:prefect-secret",
    }
    checked = run_command(environment, "--check")
    assert checked.returncode == 0
    assert json.loads(checked.stdout) == {
        "changed": [
            "database: (known after apply)",
            "storage: (known after apply)",
            "orchestrator: (known after apply)",
        ],
        "unchanged": 0,
        "foreign": [],
        "removed": [],
    }
    applied = run_command(environment, "--wait-s", "0")
    assert applied.returncode == 1
    assert json.loads(applied.stdout) == {"changed": [], "unchanged": 0, "foreign": [], "removed": []}
    assert [line.split(" does not answer")[0] for line in applied.stderr.splitlines()] == [
        "the database",
        "the object store",
        "the orchestrator",
    ]
    assert "secret" not in (checked.stdout + checked.stderr + applied.stderr).replace("secret-key", "")


def test_a_missing_setting_is_named() -> None:
    done = run_command({}, "--phase", "database")
    assert done.returncode == 2
    assert "LAKEHOUSE_DATABASE_ADMIN_URL is not set" in done.stderr


def test_a_service_that_is_starting_is_waited_for() -> None:
    answers = iter([ConnectionError("starting"), ConnectionError("starting"), None])

    def probe() -> str:
        if error := next(answers):
            raise error
        return "up"

    assert Ledger(check=False, wait_s=5).wait_for("it", probe, (ConnectionError,)) == "up"


def test_a_service_that_never_answers_is_named_with_its_last_error() -> None:
    def probe() -> str:
        raise ConnectionError("refused\nby peer")

    with pytest.raises(UnreachableError, match=r"^it does not answer: refused by peer$"):
        Ledger(check=False, wait_s=0).wait_for("it", probe, (ConnectionError,))


def test_secrets_are_masked_wherever_they_stand() -> None:
    settings = services.settings_from(
        {
            "LAKEHOUSE_DATABASE_ADMIN_URL": "postgresql://postgres:hunter%2F2@127.0.0.1/postgres",
            "LAKEHOUSE_S3_SECRET_KEY": "a/b+c",
        }
    )
    text = "postgresql://postgres:hunter%2F2@127.0.0.1/postgres hunter%2F2 hunter/2 a/b+c a%2Fb%2Bc"
    assert mask(text, settings) == "*** *** *** *** ***"


def test_an_unexpected_error_becomes_one_line(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    def fail(_settings: Settings, ledger: Ledger) -> None:
        raise OSError(f"disk\nfull {settings.require('s3_secret_key')}")

    monkeypatch.setattr(bootstrap, "PARTS", {"database": fail})
    assert bootstrap._run("database", settings, Ledger(check=False, wait_s=0)) == "database: OSError: disk full ***"


def test_a_missing_setting_is_not_taken_for_an_unreachable_service(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = services.settings_from({})
    with pytest.raises(SettingsError, match="LAKEHOUSE_DATABASE_ADMIN_URL"):
        bootstrap._run("database", empty, Ledger(check=True, wait_s=0))
