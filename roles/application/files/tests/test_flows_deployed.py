# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on a real Prefect server run on a real worker, and the verification sees their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import prepared
import pytest
import services
from proxy import proxy

import crypto_lakehouse
from crypto_lakehouse.backup.database.orchestrator import RECOVERED, EndedRuns, complete, end_runs
from crypto_lakehouse.backup.errors import BackupError
from crypto_lakehouse.backup.incomplete import Incomplete, Record
from crypto_lakehouse.bootstrap.ledger import Foreign, Ledger, UnreachableError
from crypto_lakehouse.flows import deployments
from crypto_lakehouse.flows.deployments import DEPLOYMENTS, PrefectApi, PrefectError
from crypto_lakehouse.flows.steps import Lakehouse, partition_of
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.tables import GOLD_OHLCV_DAILY, SILVER_KLINES
from crypto_lakehouse.verify import Patience, VerificationError, data, record

PATIENCE = Patience(60.0)
AUTHORIZATION = "lakehouse:password-of-the-orchestrator"
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_COLORS": "false",
}


@pytest.fixture(scope="module")
def orchestrator(
    database_server: services.DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Run a Prefect server on the database; return the environment variables of its clients."""
    folder = tmp_path_factory.mktemp("prefect")
    (port,) = services.free_ports(1)
    client = {
        "PREFECT_API_URL": f"http://{services.HOST}:{port}/api",
        "PREFECT_API_AUTH_STRING": AUTHORIZATION,
        "PREFECT_HOME": str(folder),
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        **QUIET,
    }
    server = {
        **client,
        "PREFECT_SERVER_API_AUTH_STRING": AUTHORIZATION,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_server.orchestrator_url.replace(
            "postgresql://", "postgresql+asyncpg://"
        ),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", services.HOST, "--port", str(port)]
    with services.running(command, folder / "server.log", env=server, cwd=folder):
        settings = services.settings_from(client)
        with closing(PrefectApi(settings)) as api:
            services.wait_until(lambda: api.find("work_pools/none") is None, "the orchestrator")
        yield client


@pytest.fixture(scope="module")
def settings(orchestrator: dict[str, str]) -> Settings:
    return services.settings_from(orchestrator)


@pytest.fixture(scope="module")
def deployed(settings: Settings) -> Settings:
    deployments.ensure(settings, Ledger(check=False, wait_s=30))
    return settings


@pytest.fixture(scope="module")
def worker(
    deployed: Settings,
    orchestrator: dict[str, str],
    object_store: services.ObjectStore,
    database_server: services.DatabaseServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Run a worker with the pipeline's rights."""
    prepared.put_in_place(object_store, database_server)
    environment = {
        **orchestrator,
        **prepared.pipeline_environment(object_store, database_server),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    folder = tmp_path_factory.mktemp("worker")
    command = [sys.executable, "-m", "crypto_lakehouse.cli", "worker", "--pool=lakehouse", "--name=worker", "--limit=2"]
    with services.running(command, folder / "worker.log", env=environment, cwd=folder):
        yield


@pytest.fixture
def verifier(
    worker: None, orchestrator: dict[str, str], object_store: services.ObjectStore, api: services.ApiServer
) -> Settings:
    """Return the settings of the verification job."""
    return services.settings_from(
        {
            **object_store.environment("verify"),
            **orchestrator,
            "LAKEHOUSE_API_URL": api.url,
            "LAKEHOUSE_API_TOKEN": services.API_TOKEN,
        }
    )


def changes(settings: Settings, *, check: bool = False) -> list[str]:
    ledger = Ledger(check=check, wait_s=10)
    deployments.ensure(settings, ledger)
    return ledger.changed


def test_check_says_what_a_new_orchestrator_needs_and_changes_nothing(settings: Settings) -> None:
    predicted = changes(settings, check=True)
    assert predicted == changes(settings, check=True)
    assert predicted == ["work pool lakehouse", *(f"deployment {each.path}" for each in DEPLOYMENTS)]
    assert changes(settings) == predicted
    assert changes(settings) == []


def test_requests_whose_answers_are_lost_are_made_again_and_make_nothing_twice(
    deployed: Settings, orchestrator: dict[str, str]
) -> None:
    with proxy(orchestrator["PREFECT_API_URL"]) as faults:
        faults.drop_after = 1
        behind = services.settings_from({**orchestrator, "PREFECT_API_URL": f"{faults.url}/api"})
        with closing(PrefectApi(behind, patience_s=60)) as api, closing(PrefectApi(deployed)) as direct:
            before = len(direct.every("flow_runs/filter"))
            faults.drops = 1
            pipeline = api.find("deployments/name/pipeline/lakehouse")
            assert pipeline
            faults.drops = 2
            data._trigger(api)
            assert faults.drops < 0
            assert len(direct.every("flow_runs/filter")) == before + 1
            # It exists, as after a request whose answer was lost.
            deployments._create_pool(api, {"name": deployments.WORK_POOL, "type": "process"})
            with pytest.raises(PrefectError, match="HTTP 422"):
                deployments._create_pool(api, {"type": "process"})
        faults.drops = 4
        assert changes(behind) == []
        assert faults.drops < 0
        faults.drops = 1
        with pytest.raises(UnreachableError, match="the orchestrator does not answer"):
            changes(behind, check=True)


def test_what_was_changed_by_hand_is_found_and_mended(deployed: Settings) -> None:
    with closing(PrefectApi(deployed)) as api:
        found = api.find("deployments/name/pipeline/lakehouse")
        assert found is not None
        (schedule,) = found["schedules"]
        api.patch(f"deployments/{found['id']}/schedules/{schedule['id']}", {"active": False})
        api.patch(f"deployments/{found['id']}", {"parameters": {"symbol": "ETHUSDT", "interval": "1h"}})
        clean = api.find("deployments/name/clean/lakehouse")
        assert clean is not None
        api.patch(f"deployments/{clean['id']}", {"work_pool_name": "lakehouse", "work_queue_name": "aside"})
        api.patch("work_pools/lakehouse", {"concurrency_limit": 7})
        api.patch("work_pools/lakehouse/queues/default", {"is_paused": True, "concurrency_limit": 0})
    expected = [
        "work pool lakehouse: concurrency_limit",
        "work queue lakehouse/default: concurrency_limit, is_paused",
        "deployment pipeline/lakehouse: parameters, schedules",
        "deployment clean/lakehouse: work_queue_name",
    ]
    assert changes(deployed, check=True) == expected
    assert changes(deployed) == expected
    assert changes(deployed) == []


def test_limits_of_the_platforms_deployments_are_lifted_and_those_of_users_kept(deployed: Settings) -> None:
    def reported() -> list[Foreign]:
        ledger = Ledger(check=True, wait_s=10)
        deployments.report(deployed, ledger)
        return [each for each in ledger.foreign if each.kind == "concurrency-limit"]

    with closing(PrefectApi(deployed)) as api:
        limit = api.post("v2/concurrency_limits/", {"name": "of-users", "limit": 0})
        api.post("v2/concurrency_limits/", {"name": "tag:lakehouse", "limit": 1})
        for flow, change in {
            "ingest": {"concurrency_limit": 1},
            "clean": {"global_concurrency_limit_id": limit["id"]},
        }.items():
            found = api.find(f"deployments/name/{flow}/lakehouse")
            assert found is not None
            api.patch(f"deployments/{found['id']}", change)
        expected = ["deployment ingest/lakehouse: concurrency_limit", "deployment clean/lakehouse: concurrency_limit"]
        of_users = [
            Foreign("concurrency-limit", "of-users", "limit 0"),
            Foreign("concurrency-limit", "tag:lakehouse", "limit 1"),
        ]
        assert changes(deployed, check=True) == expected
        assert reported() == of_users
        assert changes(deployed) == expected
        assert changes(deployed) == []
        assert reported() == of_users, "a limit that users added is never deleted"
        assert [each["name"] for each in api.every("v2/concurrency_limits/filter")] == ["of-users", "tag:lakehouse"]
        for each in of_users:
            api._client.delete(f"v2/concurrency_limits/{each.name}")


def test_queues_that_users_added_are_listed_and_come_after_that_of_the_platform(deployed: Settings) -> None:
    queues = "work_pools/lakehouse/queues"

    def reported() -> list[Foreign]:
        ledger = Ledger(check=True, wait_s=10)
        deployments.report(deployed, ledger)
        return sorted(each for each in ledger.foreign if each.kind == "work-queue")

    with closing(PrefectApi(deployed)) as api:
        for each in reported():
            api._client.delete(f"work_pools/{each.name.replace('/', '/queues/')}")
        api.post(queues, {"name": "nightly"})
        assert changes(deployed, check=True) == [], "a queue that comes after the platform's holds no run of it"
        api.post(queues, {"name": "urgent", "priority": 1, "concurrency_limit": 2, "is_paused": True})
        expected = ["work queue lakehouse/default: priority"]
        assert changes(deployed, check=True) == expected
        assert changes(deployed) == expected
        assert changes(deployed) == []
        order = sorted(api.every(f"{queues}/filter"), key=lambda each: int(each["priority"]))
        assert order[0]["name"] == deployments.WORK_QUEUE
        places = {each["name"]: each["priority"] for each in order}
        assert reported() == [
            Foreign("work-queue", "lakehouse/nightly", f"priority {places['nightly']}"),
            Foreign("work-queue", "lakehouse/urgent", f"priority {places['urgent']}, limit 2, paused"),
        ], "a queue that users added is never changed but for its place, and never deleted"
        for name in ("nightly", "urgent"):
            api._client.delete(f"{queues}/{name}")
    assert changes(deployed) == []


def test_no_task_of_the_platform_has_a_tag_whose_limit_could_hold_it() -> None:
    from prefect import Task

    from crypto_lakehouse.flows import pipeline

    assert [each.tags for each in vars(pipeline).values() if isinstance(each, Task)] == [set()]


def test_the_command_for_deployments_alone_prints_one_document(
    deployed: Settings,
    orchestrator: dict[str, str],
    clean_environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        clean_environment.setenv(name, orchestrator[name])
    assert deployments.main(["--check"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "changed": [],
        "unchanged": 3 + len(DEPLOYMENTS),
        "foreign": [],
        "removed": [],
    }


def test_the_orchestrator_refuses_a_wrong_password_in_words(orchestrator: dict[str, str]) -> None:
    wrong = services.settings_from({**orchestrator, "PREFECT_API_AUTH_STRING": "lakehouse:wrong"})
    with pytest.raises(PrefectError, match="HTTP 401"):
        deployments.ensure(wrong, Ledger(check=False, wait_s=0))


def test_a_verification_is_recorded_until_another_one_begins(deployed: Settings) -> None:
    def run(day: date) -> None:
        """A verification run without a worker: it is complete at its creation."""
        request = {
            "parameters": {"symbol": "BTCUSD", "interval": "1h", "day": day.isoformat()},
            "state": {"type": "COMPLETED"},
            "tags": [record.RUN_TAG],
        }
        with closing(PrefectApi(deployed)) as api:
            found = api.find("deployments/name/ingest/lakehouse")
            assert found is not None
            api.post(f"deployments/{found['id']}/create_flow_run", request)

    run(date(2019, 9, 29))
    assert not record.is_recorded(deployed, "0123456789abcdef")
    record.record(deployed, "0123456789abcdef")
    assert record.is_recorded(deployed, "0123456789abcdef")
    assert not record.is_recorded(deployed, "fedcba9876543210")
    record.record(deployed, "fedcba9876543210")
    assert record.is_recorded(deployed, "0123456789abcdef")
    run(date(2019, 9, 30))
    assert not record.is_recorded(deployed, "0123456789abcdef")


def test_without_an_orchestrator_nothing_is_recorded_and_a_verification_goes_on(
    orchestrator: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PATIENCE_S", 0.0)
    nowhere = services.settings_from({**orchestrator, "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert not record.is_recorded(nowhere, "0123456789abcdef")
    record.record(nowhere, "0123456789abcdef")
    assert "cannot record the verification" in caplog.text


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each.flow)
def test_described_parameters_are_those_that_prefect_derives_from_the_flow(
    deployment: deployments.Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    from prefect.utilities.callables import parameter_schema

    from crypto_lakehouse.flows import pipeline

    flow = getattr(pipeline, deployment.flow)
    assert deployment.schema == {**parameter_schema(flow).model_dump(mode="json"), "additionalProperties": False}
    assert flow.name == deployment.flow
    assert deployments.description(deployment)["entrypoint"] == f"{pipeline.__name__}.{deployment.flow}"


def test_the_verified_day_goes_through_every_tier_and_again_without_a_change(verifier: Settings) -> None:
    with pytest.raises(Exception, match=r"NoSuchKey|does not exist|expected 24"):
        data.bronze_is_complete(verifier, PATIENCE)
    assert "running it again changed nothing" in data.flow_runs(verifier, 120, PATIENCE)
    assert "bronze.klines: 24 rows" in data.bronze_is_complete(verifier, PATIENCE)
    assert "silver.klines: 24 rows" in data.silver_is_right(verifier, PATIENCE)
    assert "through the catalog, DuckDB, the API" in data.gold_is_right(verifier, PATIENCE)
    assert "running it again changed nothing" in data.flow_runs(verifier, 120, PATIENCE)


def test_a_figure_that_was_tampered_with_is_found(
    verifier: Settings, object_store: services.ObjectStore, database_server: services.DatabaseServer
) -> None:
    lakehouse = Lakehouse(services.settings_from(prepared.pipeline_environment(object_store, database_server)))
    rows = lakehouse.read(GOLD_OHLCV_DAILY, data.PARTITION)
    lakehouse.replace(GOLD_OHLCV_DAILY, data.PARTITION, [{**rows[0], "klines": 23}])
    with pytest.raises(VerificationError, match=r"gold\.ohlcv_daily read through the catalog has 1 rows"):
        data.gold_is_right(verifier, PATIENCE)
    lakehouse.replace(GOLD_OHLCV_DAILY, data.PARTITION, [])
    with pytest.raises(VerificationError, match=r"has 0 rows .* expected 1"):
        data.gold_is_right(verifier, PATIENCE)
    lakehouse.replace(GOLD_OHLCV_DAILY, data.PARTITION, [dict(row) for row in rows])


def run(settings: Settings, **parameters: Any) -> None:
    with closing(PrefectApi(settings)) as api:
        deployment = api.find("deployments/name/pipeline/lakehouse")
        assert deployment is not None
        request = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        created = api.post(f"deployments/{deployment['id']}/create_flow_run", request)
        data._wait(api, str(created["id"]), 120)


def test_a_scheduled_run_without_network_loads_the_sample(
    verifier: Settings, object_store: services.ObjectStore, database_server: services.DatabaseServer
) -> None:
    run(verifier, symbol="BTCUSDT", interval="1h", days=2)
    lakehouse = Lakehouse(services.settings_from(prepared.pipeline_environment(object_store, database_server)))
    for day in (date(2019, 9, 29), date(2019, 9, 30)):
        assert len(lakehouse.read(SILVER_KLINES, partition_of("BTCUSD", "1h", day))) == 24


def test_a_run_with_an_unknown_parameter_is_refused_and_the_parameter_named(verifier: Settings) -> None:
    with pytest.raises(PrefectError, match=r"HTTP 4\d\d.*days_back"):
        run(verifier, symbol="BTCUSD", interval="1h", days_back=3)


def test_a_manual_run_of_one_day_loads_that_day_alone(
    verifier: Settings, object_store: services.ObjectStore, database_server: services.DatabaseServer
) -> None:
    run(verifier, symbol="BTCUSD", interval="1h", day="2019-07-20")
    lakehouse = Lakehouse(services.settings_from(prepared.pipeline_environment(object_store, database_server)))
    days = {
        day: len(lakehouse.read(SILVER_KLINES, partition_of("BTCUSD", "1h", date(2019, 7, day)))) for day in (19, 20)
    }
    assert days == {19: 0, 20: 24}


def test_a_run_that_fails_is_reported_with_its_reason(verifier: Settings) -> None:
    with pytest.raises(VerificationError, match=r"is FAILED: .*2019-07-01 to 2019-09-30"):
        run(verifier, symbol="BTCUSD", interval="1h", day="2020-01-01")


# Runs that get another state are due later, so that no worker takes them before.
@pytest.mark.parametrize(
    ("state", "due_in", "ended"),
    [
        ("RUNNING", timedelta(hours=5), "CRASHED"),
        ("PENDING", timedelta(hours=5), "CRASHED"),
        ("CANCELLING", timedelta(hours=5), "CRASHED"),
        ("SCHEDULED", timedelta(minutes=-5), "CANCELLED"),
        ("SCHEDULED", timedelta(hours=5), "SCHEDULED"),
        ("PAUSED", timedelta(hours=5), "PAUSED"),
        ("COMPLETED", timedelta(hours=5), "COMPLETED"),
        ("FAILED", timedelta(hours=5), "FAILED"),
    ],
)
def test_a_restored_orchestrator_starts_without_runs_that_nobody_executes(
    deployed: Settings, state: str, due_in: timedelta, ended: str
) -> None:
    due = (datetime.now(UTC) + due_in).isoformat()
    with closing(PrefectApi(deployed)) as api:
        deployment = api.find("deployments/name/ingest/lakehouse")
        assert deployment is not None
        request = {
            "parameters": {"symbol": "BTCUSD", "interval": "1h", "day": "2019-09-29"},
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": due}},
        }
        run = api.post(f"deployments/{deployment['id']}/create_flow_run", request)["id"]
        # A run that never started would be cancelled immediately.
        for each in {"SCHEDULED": (), "CANCELLING": ("RUNNING", state)}.get(state, (state,)):
            api.post(f"flow_runs/{run}/set_state", {"state": {"type": each}, "force": True})
    found = end_runs(deployed)
    assert (found.crashed >= 1, found.cancelled >= 1) == (ended == "CRASHED", ended == "CANCELLED")
    assert state_of(deployed, run) == ended
    assert end_runs(deployed) == EndedRuns(0, 0)


def test_an_orchestrator_that_does_not_answer_fails_the_end_of_its_runs(orchestrator: dict[str, str]) -> None:
    for change in ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, {"PREFECT_API_AUTH_STRING": "lakehouse:wrong"}):
        with pytest.raises(BackupError, match="cannot end the flow runs of the restored orchestrator") as refused:
            end_runs(services.settings_from({**orchestrator, **change}))
        assert "wrong" not in str(refused.value)


def running(settings: Settings) -> str:
    """Create a run of the deployed flow `ingest` that no process executes; return its id."""
    due = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
    with closing(PrefectApi(settings)) as api:
        deployment = api.find("deployments/name/ingest/lakehouse")
        assert deployment is not None
        request = {
            "parameters": {"symbol": "BTCUSD", "interval": "1h", "day": "2019-09-29"},
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": due}},
        }
        run = str(api.post(f"deployments/{deployment['id']}/create_flow_run", request)["id"])
        api.post(f"flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    return run


def interrupted(folder: Path) -> Record:
    """Put a recovered database in place whose flow runs did not end, and return the record of its restore."""
    set_id = "20261130T020000Z-1a2b3c"
    (folder / RECOVERED).write_text(set_id)
    record = Record.beside(folder)
    record.begin(Incomplete(set_id, "2026-12-01T03:00:00Z", ("database",), (), ()), "database")
    return record


def test_a_restore_that_was_killed_before_its_runs_ended_is_completed_once(deployed: Settings, tmp_path: Path) -> None:
    run = running(deployed)
    down = services.settings_from({"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert complete(deployed, tmp_path) is None
    record = interrupted(tmp_path)
    with pytest.raises(BackupError, match="cannot end the flow runs"):
        complete(down, tmp_path)
    assert (tmp_path / RECOVERED).exists()
    assert len(record.entries()) == 1
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _number: complete(deployed, tmp_path), range(4)))
    assert [each.crashed >= 1 for each in found if each] == [True]
    assert state_of(deployed, run) == "CRASHED"
    assert not (tmp_path / RECOVERED).exists()
    assert record.entries() == []


def test_a_worker_completes_a_restore_that_was_killed_before_it_takes_a_run(
    deployed: Settings, orchestrator: dict[str, str], tmp_path: Path
) -> None:
    run, (port,) = running(deployed), services.free_ports(1)
    record = interrupted(tmp_path)
    environment = {
        **orchestrator,
        "PYTHONPATH": str(Path(crypto_lakehouse.__file__).parents[1]),
        "LAKEHOUSE_DATABASE_FOLDER": str(tmp_path),
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
    }
    arguments = ["worker", "--pool=of-a-restore", "--name=restored", "--limit=1"]
    log, command = tmp_path / "worker.log", [sys.executable, "-m", "crypto_lakehouse.cli", *arguments]
    with services.running(command, log, env=environment, cwd=tmp_path):
        services.wait_until(lambda: not (tmp_path / RECOVERED).exists(), "the end of the restore", 180)
        services.wait_until(lambda: "An interrupted restore is complete" in log.read_text(), "its report", 180)
    assert state_of(deployed, run) == "CRASHED"
    assert record.entries() == []


SLOW = """
import pathlib, time
from prefect import flow

@flow(name="slow")
def slow(folder: str) -> None:
    here = pathlib.Path(folder)
    (here / "begun").touch()
    while not (here / "go").exists():
        time.sleep(0.1)
"""


def begin_runs(settings: Settings, folder: Path, count: int) -> list[str]:
    """Create due runs of a flow that ends on request, in a separate pool; return their ids."""
    (folder / "slow_flow.py").write_text(SLOW, encoding="utf-8")
    with closing(PrefectApi(settings)) as api:
        api.post("work_pools/", {"name": "drained", "type": "process"})
        deployment = api.post(
            "deployments/",
            {
                "name": "drained",
                "flow_id": api.post("flows/", {"name": "slow"})["id"],
                "entrypoint": "slow_flow.slow",
                "work_pool_name": "drained",
                "parameters": {"folder": str(folder)},
                "enforce_parameter_schema": False,
                "job_variables": {"command": f"{sys.executable} -m prefect.engine"},
            },
        )
        path = f"deployments/{deployment['id']}/create_flow_run"
        return [api.post(path, {"state": {"type": "SCHEDULED"}})["id"] for _number in range(count)]


def state_of(settings: Settings, run: str) -> str:
    with closing(PrefectApi(settings)) as api:
        found = api.find(f"flow_runs/{run}")
        assert found is not None
        return str(found["state"]["type"])


def test_a_worker_that_is_told_to_end_lets_its_run_end_and_takes_no_other(
    settings: Settings, orchestrator: dict[str, str], tmp_path: Path
) -> None:
    runs = begin_runs(settings, tmp_path, 2)
    (port,) = services.free_ports(1)
    environment = {
        **orchestrator,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
    }
    arguments = ["worker", "--pool=drained", "--name=drained", "--limit=1"]
    command = [sys.executable, "-m", "crypto_lakehouse.cli", *arguments]
    with services.running(command, tmp_path / "worker.log", env=environment, cwd=tmp_path) as worker:
        services.wait_until((tmp_path / "begun").exists, "the run's begin", 180)
        worker.terminate()
        # Longer than the interval between requests for further runs.
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(timeout=3)
        assert sorted(state_of(settings, run) for run in runs) == ["RUNNING", "SCHEDULED"]
        (tmp_path / "go").touch()
        assert worker.wait(timeout=120) == 0
    assert sorted(state_of(settings, run) for run in runs) == ["COMPLETED", "SCHEDULED"]


@pytest.mark.parametrize(("given_s", "expected_s"), [(None, None), (660, 600), (61, 1), (10, 1)])
def test_a_flow_may_take_as_long_as_its_worker_has_to_end(given_s: float | None, expected_s: float | None) -> None:
    from crypto_lakehouse.flows.pipeline import flow_timeout_s

    assert flow_timeout_s(Settings(worker_stop_timeout_s=given_s)) == expected_s


@pytest.mark.parametrize("arguments", [[], ["--pool=p", "--name=n", "--limit=0"], ["--pool=p", "--name=n"]])
def test_a_worker_needs_a_pool_a_name_and_a_limit(arguments: list[str]) -> None:
    from crypto_lakehouse.flows import worker

    with pytest.raises(SystemExit):
        worker.main(arguments)
