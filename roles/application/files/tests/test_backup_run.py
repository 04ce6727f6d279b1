# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands and the service create, list and restore sets, on a real store and database."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import backup_run
import backup_store
import pyrage
import pytest
import services
import sweep
from backup_folder import Folder
from backup_run import PASSWORD, TIERS, Lakehouse, Service
from postgres import postgres
from prometheus_client import CollectorRegistry, generate_latest

from crypto_lakehouse import cli
from crypto_lakehouse.backup import create, lock, restore, sets
from crypto_lakehouse.backup.configuration import unseal
from crypto_lakehouse.backup.database.archive import WalRequest, find_wal
from crypto_lakehouse.backup.database.base import stored_bases
from crypto_lakehouse.backup.database.orchestrator import RECOVERED
from crypto_lakehouse.backup.database.wal import parse_lsn, segment_key
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, LockedError, RefusedError
from crypto_lakehouse.backup.incomplete import Record
from crypto_lakehouse.backup.lake.raw_restore import RawRestorer
from crypto_lakehouse.backup.lake.tables_restore import TableRestorer
from crypto_lakehouse.backup.model import SET_ID, Artifact, Manifest, moment, timestamp
from crypto_lakehouse.backup.report import restore_lines
from crypto_lakehouse.backup.restore import Selection, select
from crypto_lakehouse.backup.schedule import RETRY_S
from crypto_lakehouse.backup.serve import Scheduler, SetMetrics
from crypto_lakehouse.backup.sets import SetInfo
from crypto_lakehouse.backup.state import State

KEY = pyrage.x25519.Identity.generate()
BOTH = Selection(("tables", "raw"), overwrite=True)


@pytest.fixture(scope="module")
def lakehouse(object_store: services.ObjectStore) -> Iterator[Lakehouse]:
    with tempfile.TemporaryDirectory(prefix="lk-") as name, postgres() as database:
        Path(name).chmod(0o711)
        yield backup_run.new_lakehouse(object_store, database, Path(name))


@pytest.fixture(scope="module")
def service(lakehouse: Lakehouse) -> Iterator[Service]:
    with backup_run.serving(lakehouse) as found:
        yield found


@pytest.fixture(scope="module")
def first(lakehouse: Lakehouse, service: Service) -> Manifest:
    """Return the set that the service creates because none exists."""
    services.wait_until(lambda: service.metric("sets") == 1 or service.metric("failed_runs"), "the first set", 600)
    assert service.metric("failed_runs") == 0, service.log.read_text()
    return sets.open_set(lakehouse.destination, "latest")


@dataclass(frozen=True)
class Second:
    """A set that was created with recipients after a few changes, and the earlier estimate."""

    manifest: Manifest
    report: dict[str, Any]
    estimated: dict[str, Any]
    artifacts: list[Artifact]
    lakehouse: Lakehouse


@pytest.fixture(scope="module")
def second(lakehouse: Lakehouse, first: Manifest) -> Second:
    assert first.id
    changed = lakehouse.using(recipients=str(KEY.to_public()), retention_days="3")
    changed.append("gold")
    changed.put_raw("b", b"second, changed")
    changed.mark("before the second set")
    before = stored_keys(changed)
    estimated = create.estimate(changed.settings, changed.backup)
    assert stored_keys(changed) == before
    report = create.create(changed.settings, changed.backup)
    changed.mark("after the second set")
    manifest = sets.open_set(changed.destination, report["set"])
    return Second(manifest, report, estimated, list(sets.inventory(changed.destination, manifest)), changed)


def test_the_service_takes_a_missed_set_at_once_and_publishes_it(
    lakehouse: Lakehouse, service: Service, first: Manifest
) -> None:
    assert SET_ID.fullmatch(first.id)
    assert service.metric("last_success_timestamp_seconds") == moment(first.started_at).timestamp()
    assert service.metric("last_size_bytes") == first.size > 0
    assert service.metric("slot_lost") == service.metric("wal_gap") == 0
    assert service.get("/health").json() == {"status": "healthy", "slot": "streaming"}
    assert service.get("/secrets").status_code == 404
    log = service.log.read_text()
    assert "taking a backup set" in log
    assert [name for name in secret_values(lakehouse) if name in log] == []


def secret_values(lakehouse: Lakehouse) -> list[str]:
    return [
        PASSWORD,
        *lakehouse.database.passwords.values(),
        *(value for name, value in lakehouse.values.items() if name.endswith("secret_key")),
        lakehouse.store.credentials["admin"].secret_key,
    ]


def test_without_recipients_secrets_are_omitted_and_every_report_says_so(lakehouse: Lakehouse, first: Manifest) -> None:
    assert first.omitted == dict.fromkeys(("secrets", "configuration"), "no recipient of age is set")
    assert any("`lakehouse_backup_recipients` is empty" in line for line in first.warnings)
    listed = next(each for each in sets.list_sets(lakehouse.destination) if each.id == first.id)
    assert "configuration" not in listed.components
    with pytest.raises(RefusedError, match=f"set {first.id} holds none"):
        lakehouse.restore(first.id).configuration(str(KEY))


def test_a_second_set_stores_what_changed_and_protects_the_rest_longer(first: Manifest, second: Second) -> None:
    manifest, artifacts = second.manifest, second.artifacts
    assert first.database
    assert manifest.database
    assert manifest.database.base_id == first.database.base_id
    assert manifest.own_size == second.report["own_size"] < first.own_size / 10
    assert manifest.size == sum(each.size for each in artifacts) > manifest.own_size
    assert manifest.expires_at > first.expires_at
    assert manifest.protected_until == min(each.retained_until or "" for each in artifacts) >= manifest.expires_at
    assert first.protected_until
    assert first.protected_until < manifest.protected_until
    place = second.lakehouse.destination
    for artifact in artifacts:
        found = place.stat(artifact.key, artifact.version_id)
        assert found
        assert (found.size, found.retained_until or "") >= (artifact.size, manifest.expires_at)
    proof = next(each.proof for each in sets.list_sets(place) if each.id == manifest.id)
    assert proof
    assert proof.level == 1
    assert [name for name in ("collection", "postgresql", "object_store") if name not in manifest.versions] == []


def test_an_estimate_names_what_the_set_then_stores(first: Manifest, second: Second) -> None:
    known = sets.known_artifacts(second.lakehouse.destination, first)
    new = {each.key: each.size for each in second.artifacts if each.source and each.source.identity not in known}
    assert (second.estimated["objects"], second.estimated["bytes"]) == (len(new), sum(new.values()))
    taken = (moment(first.finished_at) - moment(first.started_at)).total_seconds()
    assert taken <= second.estimated["duration_s"] < taken * 2 + 2


def test_the_private_key_opens_the_secrets_and_no_secret_is_readable_elsewhere(second: Second) -> None:
    place = second.lakehouse.destination
    restored = second.lakehouse.restore(second.manifest.id)
    with pytest.raises(IntegrityError, match="is not one of the recipients"):
        restored.configuration(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(RefusedError, match="is not a private key"):
        restored.configuration("")
    found = restored.configuration(f"{KEY}\n")
    folder = Path(found["folder"])
    assert found["files"] == 3
    assert json.loads(Path(found["inventory"]).read_text()) == {"lakehouse_environment": "production"}
    assert found["inventory"] in restore_lines("configuration", found)[1]
    assert (folder / "secrets" / "api_token").read_text() == PASSWORD
    assert folder.stat().st_mode & 0o077 == 0
    killed = folder.with_name(f"{folder.name}-killed")
    killed.mkdir()
    assert restored.configuration(str(KEY)) == found
    assert not killed.exists()
    (folder / "secrets" / "api_token").write_text("edited")
    with pytest.raises(RefusedError, match="it exists with other files"):
        restored.configuration(str(KEY))
    assert (folder / "secrets" / "api_token").read_text() == "edited"
    shutil.rmtree(folder)
    assert not list(second.lakehouse.work.glob("configuration-*"))
    wanted = [b"lakehouse_environment", *(each.encode() for each in secret_values(second.lakehouse))]
    assert [key for key, content in backup_run.contents(place) if any(each in content for each in wanted)] == []


def test_a_run_beside_another_one_is_refused_by_the_name_of_its_owner(second: Second) -> None:
    before = stored_keys(second.lakehouse)
    held = State(second.lakehouse.settings, second.lakehouse.backup).lock("backup on another, process 7").held()
    with held, pytest.raises(LockedError, match="backup on another, process 7 holds the lock"):
        create.create(second.lakehouse.settings, second.lakehouse.backup)
    assert stored_keys(second.lakehouse) == before


def test_a_run_beside_one_of_another_lakehouse_is_refused_by_the_name_of_its_owner(
    second: Second, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, backup, place = second.lakehouse.settings, second.lakehouse.backup, second.lakehouse.destination
    before = stored_keys(second.lakehouse)
    with (
        place.run_lock("backup on another, process 7", "another").held(),
        pytest.raises(LockedError, match="backup on another, process 7 holds the lock") as caught,
    ):
        create.create(settings, backup)
    assert "It is of another lakehouse" in caught.value.remedy
    assert stored_keys(second.lakehouse) == before

    def taken(context: create.Context) -> Manifest:
        context.guard()
        raise BackupError("cannot go on: it began")

    monkeypatch.setattr(create, "take_set", taken)
    place.run_lock("a killed run", State(settings, backup).lakehouse()).acquire()
    with pytest.raises(BackupError, match="it began"):
        create.create(settings, backup)


def test_a_command_that_deletes_files_of_tables_excludes_a_run_and_waits_for_one(
    second: Second, tmp_path: Path
) -> None:
    lakehouse, begun, go = second.lakehouse, tmp_path / "begun", tmp_path / "go"
    script = f"env > {begun}.new; mv {begun}.new {begun}; until [ -e {go} ]; do sleep 0.1; done; exit 7"
    log = tmp_path / "log"
    with State(lakehouse.settings, lakehouse.backup).lock("the service").held():
        process = backup_run.start(lakehouse, log, "backup", "hold", "--", "sh", "-c", script)
        services.wait_until(lambda: "the service holds the lock" in log.read_text(), "the wait", 180)
        assert not begun.exists()
    try:
        services.wait_until(begun.exists, "the command", 180)
        assert [line for line in begun.read_text().splitlines() if line.startswith("LAKEHOUSE_")] == []
        with pytest.raises(LockedError, match=r"maintenance on .* holds the lock"):
            create.create(lakehouse.settings, lakehouse.backup)
    finally:
        go.touch()
        assert process.wait(180) == 7
    assert State(lakehouse.settings, lakehouse.backup).lock("another").holder() is None


def test_a_command_that_does_not_exist_is_refused(lakehouse: Lakehouse, run: Run) -> None:
    assert run(lakehouse, ["backup", "hold", "--", "no-such-program"]) == Ran(1, {})


def test_a_safety_set_waits_for_the_end_of_another_run(
    second: Second, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings, backup = second.lakehouse.settings, second.lakehouse.backup

    def taken(context: create.Context) -> Manifest:
        raise BackupError(f"cannot go on: it began, and safety is {context.safety}")

    monkeypatch.setattr(create, "take_set", taken)
    with ThreadPoolExecutor(1) as pool:
        with State(settings, backup).lock("the service").held():
            run = pool.submit(create.create, settings, backup, safety=True)
            services.wait_until(lambda: "waiting: cannot start the run: the service holds" in caplog.text, "the wait")
            assert not run.done()
        with pytest.raises(BackupError, match="it began, and safety is True"):
            run.result(600)


def stored_keys(lakehouse: Lakehouse) -> list[str]:
    """Return the stored objects of runs, without their lock; the service stores WAL at any time."""
    found = backup_store.versions(lakehouse.store, lakehouse.destination)  # type: ignore[arg-type]
    return [key for key in found if not key.startswith(("wal/", lock.LOCK_KEY))]


# Refused before any write


def without_versions(lakehouse: Lakehouse) -> Lakehouse:
    return lakehouse.using(bucket=backup_store.new_bucket(lakehouse.store, versions=False))


def with_expiry(lakehouse: Lakehouse) -> Lakehouse:
    found = without_versions(lakehouse)
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    backup_store.client(lakehouse.store).put_bucket_lifecycle_configuration(
        Bucket=found.values["bucket"], LifecycleConfiguration={"Rules": [rule]}
    )
    return found


UNFIT: dict[str, tuple[Callable[[Lakehouse], Lakehouse], list[str]]] = {
    "no versions": (without_versions, ["keeps no versions"]),
    "all at once": (
        lambda lakehouse: with_expiry(lakehouse).using(recipients="age1nothing"),
        ["keeps no versions", "Lifecycle rule tidy", "expires current versions", "recipient 1 is not a public key"],
    ),
    "a private key": (
        lambda lakehouse: lakehouse.using(recipients=f"{KEY.to_public()} {KEY}"),
        ["recipient 2 is a private key", "`lakehouse_backup_recipients`"],
    ),
    "no such bucket": (lambda lakehouse: lakehouse.using(bucket="backup-nothing"), ["cannot list bucket"]),
    "other credentials": (lambda lakehouse: lakehouse.using(create_secret_key="wrong"), ["cannot list bucket"]),
    "no such folder": (
        lambda lakehouse: lakehouse.using(folder=str(lakehouse.folder / "nothing" / "there")),
        ["nothing/there"],
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_unfit_destination_is_refused_before_any_write(lakehouse: Lakehouse, case: str) -> None:
    change, words = UNFIT[case]
    unfit = change(lakehouse)
    for act in (create.create, create.estimate):
        with pytest.raises(RefusedError) as caught:
            act(unfit.settings, unfit.backup)
        assert [word for word in words if word not in str(caught.value)] == []
        assert str(KEY) not in str(caught.value)
    assert not (lakehouse.folder / "nothing").exists()
    if not unfit.backup.folder and unfit.backup.bucket not in ("backup-nothing", lakehouse.backup.bucket):
        assert list(unfit.destination.list("")) == []


@pytest.mark.parametrize(
    ("components", "tables", "new_name", "words"),
    [
        (["raw"], ["gold.prices"], "", "component `tables` is not selected"),
        ([], ["gold.prices"], "prices_copy", "not in the tier"),
        ([], ["gold.prices"], "gold.", "not in the tier"),
        ([], ["gold.prices"], "silver.prices_copy", "not in the tier"),
        ([], ["gold.prices", "silver.prices"], "gold.copy", "for one table alone"),
        ([], [], "gold.copy", "for one table alone"),
        (["tables", "raw"], ["gold.prices"], "gold.copy", "for one table alone"),
    ],
)
def test_a_selection_that_would_restore_something_else_is_refused(
    components: list[str], tables: list[str], new_name: str, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        select(components, tables, new_name, overwrite=True)
    assert caught.value.remedy


def test_naming_tables_selects_their_component_alone() -> None:
    assert select([], [], "", overwrite=False).components == ("tables", "raw", "database")
    assert select([], ["gold.a"], "gold.b", overwrite=False) == Selection(("tables",), ("gold.a",), "gold.b")


# Restore of the lake


def test_a_plan_of_an_unchanged_lake_leaves_all_of_it_alone(second: Second) -> None:
    found = second.lakehouse.restore("latest").plan()
    assert (found["changes"], found["left"], found["bytes"]) == ([], pytest.approx(found["left"]), 0)
    assert found["left"] > len(TIERS)
    assert found["database"]["replaces"]
    assert found["needs_overwrite"]
    lake = second.lakehouse.restore(second.manifest.id, BOTH)
    assert not lake.plan()["needs_overwrite"]
    assert not lake.lake()["changed"]


def test_a_set_of_another_release_of_postgresql_is_refused_by_the_plan(second: Second) -> None:
    planned = second.lakehouse.restore(second.manifest.id)
    assert second.manifest.database
    other = replace(second.manifest.database, server_version="15.4")
    planned.manifest = replace(second.manifest, database=other)
    with pytest.raises(RefusedError, match=r"is of PostgreSQL 15\.4, and release \d+ is installed") as caught:
        planned.plan()
    assert "upgrade after that" in caught.value.remedy
    planned.selection = BOTH
    assert planned.plan()["database"] is None


def disturb(lakehouse: Lakehouse) -> None:
    lakehouse.append("gold")
    lakehouse.append("bronze")
    lakehouse.put_raw("b", b"a third time")


def assert_restored(second: Second) -> None:
    expected = {pin.full_name: pin.rows for pin in second.manifest.tables}
    assert expected == {"gold.prices": 4, "silver.prices": 3, "bronze.prices": 3}
    assert {name: second.lakehouse.rows(name) for name in expected} == expected
    assert second.lakehouse.raw("b") == b"second, changed"


STEPS = ("before raw objects", "raw objects", "bronze.prices", "silver.prices", "gold.prices")


@contextmanager
def interrupted_after(step: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Interrupt a restore of the lake after one of its steps, before the next one begins."""
    restore_raw, restore_table = RawRestorer.restore, TableRestorer.restore

    def raw(self: RawRestorer, *arguments: Any, **options: Any) -> Any:
        if step == STEPS[0]:
            raise KeyboardInterrupt
        found = restore_raw(self, *arguments, **options)
        if step == STEPS[1]:
            raise KeyboardInterrupt
        return found

    def table(self: TableRestorer, *arguments: Any, **options: Any) -> Any:
        found = restore_table(self, *arguments, **options)
        if step == found.name:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(RawRestorer, "restore", raw)
        patch.setattr(TableRestorer, "restore", table)
        yield


@pytest.mark.parametrize("step", sweep.choose(STEPS, 2))
def test_a_restore_of_the_lake_that_was_interrupted_is_completed_by_the_next_one(
    second: Second, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    disturb(second.lakehouse)
    with interrupted_after(step, monkeypatch), pytest.raises(KeyboardInterrupt):
        second.lakehouse.restore(second.manifest.id, BOTH).lake()
    # Downstream is never ahead of its source.
    assert second.lakehouse.rows("gold.prices") == (4 if step == "gold.prices" else 5)
    second.lakehouse.restore(second.manifest.id, BOTH).lake()
    assert_restored(second)


def test_a_restore_replaces_only_where_it_may_and_the_same_one_again_changes_nothing(second: Second) -> None:
    disturb(second.lakehouse)
    refused = second.lakehouse.restore(second.manifest.id, replace(BOTH, overwrite=False))
    assert {each["name"].rpartition("/")[2]: each["action"] for each in refused.plan()["changes"]} == {
        "gold.prices": "replace",
        "bronze.prices": "replace",
        "b": "replace",
    }
    with pytest.raises(RefusedError, match=r"cannot restore .*prices") as caught:
        refused.lake()
    assert "lakehouse_restore_overwrite" in caught.value.remedy
    assert second.lakehouse.raw("b") == b"a third time"
    assert second.lakehouse.rows("gold.prices") == 5
    found = second.lakehouse.restore(second.manifest.id, BOTH).lake()
    assert found["changed"]
    assert [each["name"] for each in found["tables"]] == ["bronze.prices", "silver.prices", "gold.prices"]
    assert all(each["proof"] for each in found["tables"])
    assert_restored(second)
    assert not second.lakehouse.restore(second.manifest.id, BOTH).lake()["changed"]


def test_a_table_that_the_set_lacks_is_refused_with_those_that_it_holds(second: Second) -> None:
    selection = select([], ["silver.prices", "gold.other"], "", overwrite=True)
    for act in (restore.Restore.plan, restore.Restore.lake):
        with pytest.raises(RefusedError, match=r"cannot restore gold.other: set .* does not hold it") as caught:
            act(second.lakehouse.restore(second.manifest.id, selection))
        assert "gold.prices" in caught.value.remedy


def test_a_table_returns_under_a_new_name_beside_the_present_one(second: Second) -> None:
    second.lakehouse.append("gold")
    selection = select([], ["gold.prices"], "gold.prices_as_of", overwrite=False)
    found = second.lakehouse.restore(second.manifest.id, selection).lake()
    assert [each["name"] for each in found["tables"]] == ["gold.prices_as_of"]
    assert second.lakehouse.rows("gold.prices_as_of") == 4
    assert second.lakehouse.rows("gold.prices") == 5
    with pytest.raises(RefusedError, match="that table exists"):
        second.lakehouse.restore(second.manifest.id, selection).lake()


# Commands


@dataclass(frozen=True)
class Ran:
    """A completed command: its status, and its resulting document."""

    status: int
    result: dict[str, Any]


@contextmanager
def variables(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in lakehouse.environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def run(
    clean_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Lakehouse, list[str]], Ran]:
    def call(lakehouse: Lakehouse, words: list[str]) -> Ran:
        with variables(lakehouse, clean_environment):
            status = cli.main(words)
        output = capsys.readouterr().out.strip().splitlines()
        return Ran(status, json.loads(output[-1]) if output else {})

    return call


Run = Callable[[Lakehouse, list[str]], Ran]


def test_commands_hand_over_one_document_with_lines_for_people(second: Second, run: Run) -> None:
    listed = run(second.lakehouse, ["backup", "list"])
    assert listed.status == 0
    assert listed.result["sets"][0]["id"] == second.manifest.id
    assert any(second.manifest.id in line for line in listed.result["lines"])
    verified = run(second.lakehouse, ["backup", "verify", "--level", "2", "--check"])
    assert (verified.status, verified.result["ok"], verified.result["set"]) == (0, True, second.manifest.id)
    estimated = run(second.lakehouse, ["backup", "create", "--check"])
    assert (estimated.status, set(estimated.result)) == (0, {"objects", "bytes", "duration_s", "lines"})
    planned = run(second.lakehouse, ["restore", "plan", "--component", "raw"])
    assert (planned.status, planned.result["database"], planned.result["set"]) == (0, None, second.manifest.id)
    assert "Restore of set" in planned.result["lines"][0]


REFUSED: dict[str, tuple[list[str], str, str]] = {
    "verify": (["backup", "verify", "--set", "20200101T000000Z-abcdef"], "it does not exist", "`backup_list`"),
    "plan": (["restore", "plan", "--table", "gold.other"], "does not hold it", "gold.prices"),
    "lake": (["restore", "lake", "--table", "gold.prices", "--as", "copy"], "not in the tier", "`gold.NAME`"),
    "configuration": (["restore", "configuration"], "not a private key", "AGE-SECRET-KEY-1"),
    "runs": (["restore", "runs"], "cannot end the flow runs", "Start the orchestrator"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_command_that_fails_hands_over_message_and_remedy_apart(
    second: Second, run: Run, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    words, message, remedy = REFUSED[case]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    found = run(second.lakehouse, words)
    assert found.status == 1
    assert set(found.result) == {"message", "remedy"}
    assert message in found.result["message"]
    assert remedy in found.result["remedy"]
    assert found.result["remedy"] not in found.result["message"]


def test_a_full_disk_is_told_with_a_remedy(lakehouse: Lakehouse, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", "/var/lib/lakehouse/base.tar.gz")

    monkeypatch.setattr(create, "create", full)
    found = run(lakehouse, ["backup", "create"])
    assert (found.status, found.result["message"]) == (
        1,
        "cannot use /var/lib/lakehouse/base.tar.gz: No space left on device",
    )
    assert "free space" in found.result["remedy"]


def test_damage_of_a_set_is_handed_over_apart(second: Second, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_arguments: Any, **_options: Any) -> Any:
        raise IntegrityError("cannot restore objects/aa/b (gold.prices data): its content is damaged")

    monkeypatch.setattr(TableRestorer, "restore", damaged)
    found = run(second.lakehouse, ["restore", "lake", "--set", second.manifest.id, "--overwrite"])
    assert found.status == 1
    assert found.result["damaged"] == ["cannot restore objects/aa/b (gold.prices data): its content is damaged"]
    assert "the rest is restored" in found.result["message"]


@pytest.mark.parametrize("phase", ["lake", "database"])
def test_a_restore_beside_a_run_is_refused_by_the_name_of_its_owner(
    second: Second, run: Run, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setattr(lock, "LOCK_WAIT_S", 0.1)
    with State(second.lakehouse.settings, second.lakehouse.backup).lock("backup on another, process 7").held():
        found = run(second.lakehouse, ["restore", phase, "--overwrite"])
    assert (found.status, "Wait until it ends" in found.result["remedy"]) == (1, True)
    assert "backup on another, process 7 holds the lock" in found.result["message"]


def test_a_missing_setting_is_named_and_ends_with_status_2(lakehouse: Lakehouse, run: Run) -> None:
    assert run(lakehouse.using(state_bucket=""), ["backup", "create"]) == Ran(2, {})
    assert run(lakehouse.using(restore_access_key=""), ["restore", "plan"]) == Ran(2, {})


def test_no_secret_is_in_a_message(lakehouse: Lakehouse, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    url = lakehouse.database.url("backup", "postgres").replace(lakehouse.database.passwords["backup"], "not-this-one")
    found = run(lakehouse.using(database_url=url, folder=str(lakehouse.folder)), ["backup", "create"])
    assert found.status == 1
    assert "not-this-one" not in json.dumps(found.result) + caplog.text


def test_sigterm_ends_a_run_with_its_programs_temporary_files_and_lock(lakehouse: Lakehouse) -> None:
    place = lakehouse.folder / "elsewhere"
    place.mkdir(mode=0o700)
    work = lakehouse.folder / "work-of-a-stopped-run"
    stopped = lakehouse.using(folder=str(place), work_folder=str(work))
    left = work / "base-20200101T000000Z-abcdef"
    left.mkdir(parents=True)
    log = lakehouse.folder / "stopped.log"
    process = backup_run.start(stopped, log, "backup", "create")
    services.wait_until(
        lambda: process.poll() is not None or any(each != left for each in work.glob("base-*")), "the base backup", 60
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM, log.read_text()
    assert list(work.iterdir()) == []
    assert State(stopped.settings, stopped.backup).lock("another").holder() is None
    assert sets.latest(stopped.destination) is None


# The schedule


NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Schedule:
    """A scheduler whose runs append a line to a file and exit with a status, and the sets that it reads."""

    folder: Path
    status: int = 0

    def __post_init__(self) -> None:
        self.clock, self.sets, self.registry = Clock(), list[SetInfo](), CollectorRegistry()
        self.problem: Exception | None = None
        self.scheduler = Scheduler(
            ["02:00"], self.command(f"exit {self.status}"), self.read, SetMetrics(self.registry), self.clock
        )

    def command(self, end: str) -> list[str]:
        return ["/bin/sh", "-c", f"echo begun >>{self.folder}/runs; {end}"]

    def read(self) -> list[SetInfo]:
        if self.problem:
            raise self.problem
        return self.sets

    @property
    def runs(self) -> int:
        path = self.folder / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def step(self) -> None:
        """Step, and wait for the end of the run that it started."""
        self.scheduler.step()
        if self.scheduler._process:
            self.scheduler._process.wait(60)
            self.scheduler.step()

    def metric(self, name: str) -> float:
        value = self.registry.get_sample_value(f"lakehouse_backup_{name}")
        assert value is not None
        return value


def good(started: datetime) -> SetInfo:
    return SetInfo(
        f"{started:%Y%m%dT%H%M%SZ}-abcdef",
        "good",
        started_at=timestamp(started),
        finished_at=timestamp(started + timedelta(seconds=5)),
    )


def test_a_failed_run_is_repeated_after_a_while_until_a_set_is_there(tmp_path: Path) -> None:
    schedule = Schedule(tmp_path, status=3)
    schedule.step()
    assert (schedule.runs, schedule.metric("failed_runs"), schedule.metric("sets")) == (1, 1, 0)
    schedule.clock.now += timedelta(seconds=RETRY_S - 1)
    schedule.step()
    assert schedule.runs == 1
    schedule.clock.now += timedelta(seconds=1)
    schedule.step()
    assert (schedule.runs, schedule.metric("failed_runs")) == (2, 2)
    schedule.clock.now += timedelta(seconds=RETRY_S)
    schedule.scheduler.command = schedule.command("exit 0")
    schedule.sets = [good(schedule.clock.now)]
    schedule.step()
    assert (schedule.runs, schedule.metric("failed_runs"), schedule.metric("sets")) == (3, 0, 1)
    schedule.clock.now = NOON.replace(hour=1) + timedelta(days=1)
    schedule.step()
    assert schedule.runs == 3
    schedule.clock.now += timedelta(hours=1)
    schedule.step()
    assert schedule.runs == 4


def test_a_clock_that_jumps_takes_one_set_where_one_is_due_and_no_more(tmp_path: Path) -> None:
    schedule = Schedule(tmp_path)
    taken = [NOON - timedelta(hours=10)]

    def read() -> list[SetInfo]:
        # Like the sets of the future in a list.
        found = [good(moment) for moment in sorted(taken, reverse=True)]
        now = timestamp(schedule.clock.now)
        return [each if each.started_at <= now else replace(each, state="unreadable") for each in found]

    schedule.scheduler.read_sets = read
    for jump, expected in ((0, 0), (400, 1), (-400, 1), (1, 2), (-2, 3)):
        schedule.clock.now += timedelta(days=jump)
        for _tick in range(3):
            runs = schedule.runs
            schedule.scheduler._read_at = float("-inf")
            schedule.step()
            taken += [schedule.clock.now] * (schedule.runs - runs)
        assert schedule.runs == expected, jump
    newest = max(moment for moment in taken if moment <= schedule.clock.now)
    assert schedule.metric("last_success_timestamp_seconds") == newest.timestamp()


def test_a_damaged_set_is_followed_by_another_one_and_is_none_of_the_good_ones(tmp_path: Path) -> None:
    schedule = Schedule(tmp_path)
    older, newest = good(NOON - timedelta(days=1)), good(NOON - timedelta(hours=1))
    schedule.sets = [newest, older]
    schedule.step()
    assert (schedule.runs, schedule.metric("sets")) == (0, 2)
    schedule.sets = [replace(newest, state="damaged"), older]
    schedule.scheduler._read_at = float("-inf")
    schedule.step()
    assert (schedule.runs, schedule.metric("sets")) == (1, 1)
    assert schedule.metric("last_success_timestamp_seconds") == moment(older.started_at).timestamp()


def test_a_destination_that_does_not_answer_leaves_what_was_known(tmp_path: Path) -> None:
    schedule = Schedule(tmp_path)
    schedule.sets = [good(NOON - timedelta(hours=1))]
    schedule.step()
    schedule.problem = OSError("unreachable")
    schedule.scheduler._read_at = float("-inf")
    schedule.step()
    assert (schedule.runs, schedule.metric("sets"), schedule.metric("last_duration_seconds")) == (0, 1, 5)
    assert b"lakehouse_backup_sets 1.0" in generate_latest(schedule.registry)


@pytest.mark.parametrize("end", ["sleep 600", "trap '' TERM; sleep 600 & wait; wait"])
def test_a_stop_ends_the_run_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    schedule = Schedule(tmp_path)
    monkeypatch.setattr("crypto_lakehouse.backup.serve.STOP_TIMEOUT_S", 0.5)
    schedule.scheduler.command = schedule.command(end)
    schedule.scheduler.step()
    process = schedule.scheduler._process
    assert process
    services.wait_until(lambda: schedule.runs == 1, "the run")
    schedule.scheduler.stop()
    assert process.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    services.wait_until(lambda: not is_group_alive(process.pid), "the end of its programs", 10)


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return any(
        stat.split(") ")[1].split()[2] == str(group) and stat.split(") ")[1][0] != "Z" for stat in process_states()
    )


def process_states() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "stat").read_text())
            except OSError:
                continue
    return found


# The end of the service, a gap, and the restore of the database: they change the server or its receiver


def test_sigterm_ends_the_service_with_its_wal_stored_to_the_end(second: Second, service: Service) -> None:
    lakehouse = second.lakehouse
    lakehouse.mark("the last one")
    slot = "SELECT restart_lsn::text FROM pg_replication_slots WHERE active"
    ((text,),) = lakehouse.database.execute("SELECT pg_current_wal_flush_lsn()::text")
    assert second.manifest.database
    services.wait_until(
        lambda: [row for row in lakehouse.database.execute(slot) if parse_lsn(row[0]) >= parse_lsn(text)],
        "the receiver",
    )
    assert service.stop() == 0
    (base, *_others) = stored_bases(lakehouse.destination, second.manifest.database.system_identifier)
    assert find_wal(lakehouse.destination, base).end >= parse_lsn(text)
    assert [name for name in secret_values(lakehouse) if name in service.log.read_text()] == []


def test_a_service_whose_wal_folder_is_in_use_ends_with_status_1(lakehouse: Lakehouse, tmp_path: Path) -> None:
    spool = tmp_path / "wal"
    spool.mkdir()
    with (spool / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = backup_run.start(lakehouse.using(work_folder=str(tmp_path)), tmp_path / "log", "backup", "serve")
        assert process.wait(120) == 1


@dataclass
class Requested:
    """The newest request of a run, and an action at its first one."""

    at_first: Callable[[WalRequest], None]
    request: WalRequest | None = None

    def __call__(self, request: WalRequest) -> None:
        if self.request is None:
            self.at_first(request)
        self.request = request


def test_a_gap_leads_to_a_new_base_in_the_same_run_and_the_manifest_is_last(
    second: Second, service: Service, tmp_path: Path
) -> None:
    lakehouse = second.lakehouse
    service.stop()
    destination = Folder(tmp_path / "sets")
    destination.root.mkdir(mode=0o700)

    def lose_a_segment(request: WalRequest) -> None:
        (base,) = stored_bases(destination, request.system_identifier)
        for number in range(3):
            lakehouse.mark(f"gap {number}")
            lakehouse.database.execute("SELECT pg_switch_wal()")
        lost = destination.root / segment_key(base.system_identifier, base.start_wal)
        services.wait_until(lambda: len(find_wal(destination, base).segments) > 2, "later segments")
        lost.unlink()

    requested = Requested(lose_a_segment)
    state = State(lakehouse.settings, lakehouse.backup)
    with backup_run.receiving(lakehouse, destination, tmp_path / "spool", lambda: requested.request, assess_s=0):
        context = create._context(lakehouse.settings, lakehouse.backup, destination, state, lambda: None)
        manifest = create.take_set(replace(context, request_wal=requested, safety=True))
    assert manifest.safety
    assert manifest.database
    older, newer = sorted(
        stored_bases(destination, manifest.database.system_identifier), key=lambda base: parse_lsn(base.start_lsn)
    )
    assert manifest.database.base_id == newer.id != older.id
    written = [key for key in destination.created if not key.startswith("wal/")]
    assert written[-2:] == [f"sets/{manifest.id}/inventory.jsonl.gz", f"sets/{manifest.id}/manifest.json"]
    (secret,) = [each for each in sets.inventory(destination, manifest) if each.subject.kind == "secrets"]
    assert unseal(b"".join(destination.read(secret.key)), str(KEY))
    assert not list(lakehouse.work.glob("base-*"))


@pytest.fixture
def as_server_user(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the recovering server as the user of the tests' servers: PostgreSQL refuses root."""
    monkeypatch.setattr(restore, "programs", lambda _backup: lakehouse.database.programs)


INTERRUPTIONS: dict[str, tuple[object, str]] = {
    "fetching the base backup": (restore.Restore, "_fetch_base"),
    "fetching WAL": (restore, "fetch_wal"),
    "recovering": (restore, "recover"),
    "testing the recovered server": (restore, "check_databases"),
    "putting it in place": (restore, "swap"),
}


@pytest.mark.usefixtures("as_server_user")
@pytest.mark.parametrize("step", sweep.choose(list(INTERRUPTIONS), 1))
@pytest.mark.parametrize("moment_of_step", sweep.choose(["before", "after"], 1))
def test_a_restore_of_the_database_that_was_interrupted_is_completed_by_the_next_one(
    second: Second, monkeypatch: pytest.MonkeyPatch, step: str, moment_of_step: str
) -> None:
    live = second.lakehouse.database.folder / f"other-{len(step)}-{moment_of_step}"
    live.mkdir()
    (live / "PG_VERSION").write_text("17\n")
    there = second.lakehouse.using(database_folder=str(live))
    owner, name = INTERRUPTIONS[step]
    act = getattr(owner, name)

    def interrupted(*arguments: Any) -> Any:
        if moment_of_step == "after":
            act(*arguments)
        raise KeyboardInterrupt

    selection = Selection(("database",), overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            there.restore(second.manifest.id, selection).database()
    record = Record.beside(live)
    assert [(each.set_id, each.left) for each in record.entries()] == [(second.manifest.id, ("database", "runs"))]
    for _time in range(2):
        found = there.restore(second.manifest.id, selection).database()
        assert (live / "global" / "pg_control").exists()
        assert [each.name for each in Path(found["former"]).iterdir()] == ["PG_VERSION"]
        assert [each.left for each in record.entries()] == [("runs",)]
    assert not list(there.work.glob("recovery-*"))


@pytest.mark.usefixtures("as_server_user")
def test_the_database_returns_to_the_moment_of_the_set_also_twice(second: Second, service: Service) -> None:
    lakehouse, database = second.lakehouse, second.lakehouse.database
    service.stop()
    selection = Selection(("database",))
    with pytest.raises(RefusedError, match=r"cannot restore the database: .* exists") as caught:
        lakehouse.restore(second.manifest.id, selection).database()
    assert "lakehouse_restore_overwrite" in caught.value.remedy
    allowed = replace(selection, overwrite=True)
    with pytest.raises(RefusedError, match="a server uses"):
        lakehouse.restore(second.manifest.id, allowed).database()
    database.stop()
    former = []
    for _time in range(2):
        found = lakehouse.restore(second.manifest.id, allowed).database()
        former.append(Path(found["former"]))
        database.start()
        assert lakehouse.marks() == ["before the second set"]
        lakehouse.mark("after the restore")
        database.stop()
        # The last phase ends the restore; without the orchestrator only its record is removed here.
        (database.data / RECOVERED).unlink()
    assert len(list(database.folder.glob(f"data.before-{second.manifest.id}*"))) == 2
    database.start()


def test_a_recovered_server_without_the_platforms_databases_is_refused(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse.database.start()
    monkeypatch.setattr(restore, "OWN_DATABASES", ("lakehouse", "nothing"))
    with pytest.raises(BackupError, match="cannot use the recovered database nothing"):
        restore.check_databases(lakehouse.database.url("postgres", "postgres"))
