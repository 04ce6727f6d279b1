# SPDX-License-Identifier: GPL-3.0-or-later
"""A lakehouse creates backup sets, and is restored from one after its own worker damaged it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    Lakehouse,
    Run,
    assert_whole,
    wait_for_health,
)
from ansible_collections.crypto_lakehouse.platform.tests.integration.monitoring.exposition import get
from tests.integration.patience import wait_for

TABLE = "gold.ohlcv_daily"
COPY = "gold.ohlcv_daily_restored"
TAKEN = re.compile(r"Backup set (\d{8}T\d{6}Z-[0-9a-f]{6}) is stored in")
# The write-ahead log is archived continuously.
STORED = (
    "show(sorted({each['Key'] for page in s3.get_paginator('list_object_versions').paginate("
    "Bucket='crypto-lakehouse-backups-development') "
    "for each in page.get('Versions', []) if '/wal/' not in each['Key']}))"
)
# More than a run of Ansible itself sends and receives.
LARGE_BYTES = 64 << 20
STORE_LARGE = f"""
import os

s3.put_object(Bucket=settings.bronze_bucket, Key="raw/large", Body=os.urandom({LARGE_BYTES}))
show(None)
"""
# The worker may write every tier and its own table of the database.
DAMAGE = """
for name in ("gold.ohlcv_daily", "bronze.klines"):
    table(name).delete()
catalog_of("silver").drop_table("silver.klines")
first, *others = raw()
s3.put_object(Bucket=settings.bronze_bucket, Key=first, Body=b"damaged")
for key in others:
    s3.delete_object(Bucket=settings.bronze_bucket, Key=key)
with psycopg.connect(settings.secret("database_url")) as connection:
    removed = connection.execute("DELETE FROM pipeline_runs").rowcount
show(removed)
"""


@dataclass(frozen=True)
class Backup:
    """A set, the results of the runs around it, and the content of the lakehouse at its creation.

    stored: keys at the destination before and after the run in check mode. traffic: bytes between the controller and
    the host while the set was created and verified.
    """

    lakehouse: Lakehouse
    set_id: str
    runs: dict[str, Run]
    stored: tuple[list[str], list[str]]
    content: dict[str, Any]
    traffic: int


@dataclass(frozen=True)
class Restored:
    """Data left after the damage, the results of the runs, and the restored content."""

    damaged: dict[str, Any]
    refused: Run
    kept: dict[str, Any]
    run: Run
    content: dict[str, Any]


def metric(lakehouse: Lakehouse, name: str) -> float:
    """Return a metric of the service `backup`, 0 while it is unknown; raise OSError without an answer."""
    lines = get(lakehouse.url(4202, "/metrics")).decode().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def content_of(lakehouse: Lakehouse) -> dict[str, Any]:
    found: dict[str, Any] = lakehouse.application("show(content())")
    return found


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a line for each transfer between the controller and the host."""
    return tmp_path_factory.mktemp("traffic") / "bytes"


def measured(lakehouse: Lakehouse, traffic: Path, playbook: str) -> Run:
    """Run a playbook over a connection that counts its bytes."""
    environment = {
        "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "connections"),
        "LAKEHOUSE_TEST_TRAFFIC": str(traffic),
    }
    return lakehouse.run(playbook, environment=environment, ansible_connection="measured").must_pass()


@pytest.fixture(scope="module")
def backup(deployed: tuple[Lakehouse, Run], traffic: Path) -> Backup:
    lakehouse = deployed[0]
    assert_whole(lakehouse)
    # The service creates the first set by itself, and only one run at a time may store a set.
    wait_for(lambda: metric(lakehouse, "lakehouse_backup_sets") >= 1, "the first set of the service", 120.0, poll_s=1.0)
    lakehouse.application(STORE_LARGE, service="worker")
    before = lakehouse.application(STORED)
    check = lakehouse.run("backup_create", "--check").must_pass()
    stored = before, lakehouse.application(STORED)
    content = content_of(lakehouse)
    create = measured(lakehouse, traffic, "backup_create")
    runs = {"check": check, "create": create, "verify": measured(lakehouse, traffic, "backup_verify")}
    runs["list"] = lakehouse.run("backup_list").must_pass()
    (set_id,) = TAKEN.findall(create.words)
    return Backup(lakehouse, set_id, runs, stored, content, sum(map(int, traffic.read_text().split())))


@pytest.fixture(scope="module")
def restored(backup: Backup) -> Restored:
    lakehouse = backup.lakehouse
    removed = lakehouse.application(DAMAGE, service="worker")
    assert removed == len(backup.content["runs"])
    damaged = _damage_of(lakehouse)
    refused = lakehouse.run("backup_restore", lakehouse_backup_set=backup.set_id).must_fail()
    kept = _damage_of(lakehouse)
    assert_whole(lakehouse)
    run = lakehouse.run(
        "backup_restore", lakehouse_backup_set=backup.set_id, lakehouse_restore_overwrite=True
    ).must_pass()
    return Restored(damaged, refused, kept, run, content_of(lakehouse))


def _damage_of(lakehouse: Lakehouse) -> dict[str, Any]:
    found: dict[str, Any] = lakehouse.application(
        f"show({{'tables': names_of_tables(), 'raw': raw(), 'gold': rows_of({TABLE!r})}})"
    )
    return found


def test_a_check_names_the_size_of_a_set_and_stores_nothing(backup: Backup) -> None:
    check = backup.runs["check"]
    assert re.search(r"\d+ files, .*, would be stored in", check.words), check.output
    before, after = backup.stored
    assert after == before


def test_a_set_reports_what_it_holds_and_what_it_does_not_survive(backup: Backup) -> None:
    words = backup.runs["create"].words
    assert f"table {TABLE}: " in words
    assert "database: up to " in words
    assert "a set does not survive the loss of this machine" in words


def test_no_byte_of_data_crosses_the_controller(backup: Backup) -> None:
    assert 0 < backup.traffic < LARGE_BYTES / 4


def test_every_hash_of_a_set_is_verified_and_the_list_shows_that(backup: Backup) -> None:
    assert f"Set {backup.set_id} is good: every hash verified" in backup.runs["verify"].words
    assert (backup.runs["verify"].changed, backup.runs["list"].changed) == (0, 0)
    (line,) = [each for each in backup.runs["list"].output.splitlines() if f"{backup.set_id}  " in each]
    assert re.search(r"Z-[0-9a-f]{6}  \d{4}-\d\d-\d\d \d\d:\d\d  good +level 2 at ", line), line


def test_a_restore_that_would_replace_data_is_refused_before_any_change(backup: Backup, restored: Restored) -> None:
    words = restored.refused.words
    assert f"cannot restore set {backup.set_id}: it would replace existing data" in words
    assert "Set lakehouse_restore_overwrite to true" in words
    assert f"replace table {TABLE}: the table is at snapshot" in words
    assert restored.refused.changed == 0
    assert restored.kept == restored.damaged
    assert restored.damaged["gold"] == []


def test_a_restore_brings_tables_raw_objects_and_runs_back(backup: Backup, restored: Restored) -> None:
    for part in ("tables", "uuids", "raw"):
        assert restored.content[part] == backup.content[part], part
    for name, snapshots in backup.content["snapshots"].items():
        assert set(snapshots) <= set(restored.content["snapshots"][name]), name
    # The contract test at the end of a restore may record runs of its own.
    assert set(backup.content["runs"]) <= set(restored.content["runs"])


def test_a_restore_takes_a_set_before_and_ends_whole(backup: Backup, restored: Restored) -> None:
    (taken,) = TAKEN.findall(restored.run.words)
    assert taken > backup.set_id
    stopped, stored = (restored.run.words.index(words) for words in ("Stop the services that write (worker)", taken))
    assert stopped < stored
    assert_whole(backup.lakehouse)
    wait_for_health(backup.lakehouse, wait_s=60.0)
    assert metric(backup.lakehouse, "lakehouse_backup_slot_lost") == 0


def test_a_table_is_restored_under_a_new_name_beside_its_own(backup: Backup, restored: Restored) -> None:
    run = backup.lakehouse.run(
        "backup_restore",
        lakehouse_backup_set=backup.set_id,
        lakehouse_restore_tables=[TABLE],
        lakehouse_restore_as=COPY,
    ).must_pass()
    assert f"{COPY}: " in run.words
    after = content_of(backup.lakehouse)
    assert after["tables"] == {**restored.content["tables"], COPY: backup.content["tables"][TABLE]}
    assert after["uuids"][COPY] != after["uuids"][TABLE]
    assert after["raw"] == restored.content["raw"]
    assert_whole(backup.lakehouse)
