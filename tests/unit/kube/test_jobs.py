# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of requests that start, await, resume and end a job of a cluster.

tests/integration/kube/test_jobs.py proves their effects on a real API server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.kube.job_cluster import INPUT, JOB, JOBS, PODS, PROGRESS, SECRET, Cluster, merged
from tests.unit.kube.server import ApiServer


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ApiServer(tmp_path) as server:
        found = Cluster(server)
        server.answer = found.answer
        yield found


def test_a_job_that_succeeds_returns_its_result_and_is_deleted(cluster: Cluster) -> None:
    cluster.log = f'starting\n{PROGRESS}\n{{"result": {{"changed": [], "rows": 7}}}}\n'
    run = cluster.call("--set=latest")
    assert (run["succeeded"], run["changed"], run["rc"], run["attached"]) == (True, False, 0, False)
    assert run["result"] == {"changed": [], "rows": 7}
    assert run["log"] == ["starting"]
    assert run["progress"] == {"objects": [3, 9], "step": "gold"}
    assert cluster.writes == [f"POST {JOBS}", f"DELETE {JOB}"]
    created = next(each.body for each in cluster.server.requests if each.method == "POST")
    assert created["spec"]["template"]["spec"]["containers"][0]["args"] == ["backup", "--set=latest"]


def test_progress_comes_from_the_log_while_the_job_runs(cluster: Cluster) -> None:
    cluster.log = f"starting\n{PROGRESS}\n"
    started = cluster.start()
    assert started["progress"] == {"objects": [3, 9], "step": "gold"}
    cluster.end()
    assert cluster.call(run_id=started["run_id"])["succeeded"]


def test_a_job_begins_when_its_secret_exists_and_the_secret_goes_at_its_end(cluster: Cluster) -> None:
    started = cluster.start(input=SECRET)
    assert cluster.writes == [f"POST {JOBS}", f"POST {INPUT.rpartition('/')[0]}", f"PATCH {JOB}"]
    job, secret = cluster.has(JOB), cluster.has(INPUT)
    assert SECRET not in json.dumps(job)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"] == started["run_id"]
    cluster.log, cluster.exit_status = f"the input is {SECRET}\n", 4
    cluster.end()
    run = cluster.call(run_id=started["run_id"], input=SECRET)
    assert (run["failed"], run["rc"], run["log"]) == (True, 4, ["the input is ********"])
    assert run["reason"].startswith("Job shop/backup-1 (batch/v1) failed: ")
    assert SECRET not in json.dumps(run)
    assert cluster.has(JOB)
    assert cluster.has(INPUT) is None


def test_a_secret_that_an_earlier_run_left_is_replaced(cluster: Cluster) -> None:
    cluster.server.objects.answer("PUT", INPUT, {}, {"metadata": {"name": "backup-1-input"}, "stringData": {}})
    cluster.start(input=SECRET)
    assert cluster.has(INPUT)["stringData"] == {"input": SECRET}


def test_a_later_run_attaches_fails_or_replaces(cluster: Cluster) -> None:
    first = cluster.start("--a", owner="jo@controller")
    again = cluster.call("--a", poll=0.0)
    assert (again["attached"], again["run_id"], again["owner"]) == (True, first["run_id"], "jo@controller")
    for argument, running in (("--b", "attach"), ("--a", "fail")):
        other = cluster.call(argument, running=running)
        assert other["failed"]
        assert f"since {first['started_at']}, started by jo@controller" in other["msg"]
        assert "`running: replace`" in other["remedy"]
    replaced = cluster.call("--b", running="replace", poll=0.0)
    assert replaced["run_id"] != first["run_id"]
    assert "there is no Job with the uid" in cluster.call("--a", run_id=first["run_id"])["msg"]


def test_each_run_that_waits_for_a_job_reads_its_end(cluster: Cluster) -> None:
    started = cluster.start("--a")
    cluster.call("--a", poll=0.0)
    cluster.log = '{"result": [1]}\n'
    cluster.end()
    assert [cluster.call("--a", run_id=started["run_id"])["result"] for _reader in range(2)] == [[1], [1]]
    assert cluster.has(JOB)["spec"]["ttlSecondsAfterFinished"] == 60


def test_a_job_of_this_name_that_ended_is_replaced(cluster: Cluster) -> None:
    cluster.exit_status = 1
    first = cluster.call()
    assert first["failed"]
    cluster.exit_status = 0
    assert cluster.call()["succeeded"]


def test_a_job_that_was_left_before_it_had_its_input_is_replaced(cluster: Cluster) -> None:
    cluster.start(input=SECRET)
    job = cluster.has(JOB)
    cluster.server.objects.answer("PUT", JOB, {}, merged(job, {"spec": {"suspend": True}}))
    cluster.lasting = False
    assert cluster.call(input=SECRET)["succeeded"]


def test_at_its_deadline_a_job_is_read_and_then_ended(cluster: Cluster) -> None:
    cluster.log, cluster.lasting = "copying\n", True
    run = cluster.call(timeout=1)
    assert "is not ready after 1 s" in run["reason"]
    assert "`timeout`" in run["remedy"]
    assert run["log"] == ["copying"]
    assert cluster.writes == [f"POST {JOBS}", f"PATCH {JOB}", f"PATCH {JOB}"]
    assert cluster.has(JOB)["status"]["conditions"][0]["reason"] == "DeadlineExceeded"


def test_a_job_at_its_deadline_is_waited_for_until_its_pods_are_gone(cluster: Cluster) -> None:
    cluster.lasting, cluster.slow_end = True, 3
    assert "is not ready after 1 s" in cluster.call(timeout=1)["reason"]
    assert [each["type"] for each in cluster.has(JOB)["status"]["conditions"]] == ["FailureTarget", "Failed"]
    assert not cluster.has(f"{PODS}/backup-1-pod")


def test_a_job_that_is_certain_to_fail_has_failed_once_its_pods_are_gone(cluster: Cluster) -> None:
    started = cluster.start()
    said = [{"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy"}]
    job = merged(cluster.has(JOB), {"status": {"conditions": said}})
    cluster.server.objects.answer("PUT", JOB, {}, job)
    assert cluster.call(run_id=started["run_id"], poll=0.0)["finished"] is False
    said = [*said, {"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]
    cluster.server.objects.answer("PUT", JOB, {}, merged(job, {"status": {"conditions": said}}))
    run = cluster.call(run_id=started["run_id"])
    assert run["failed"]
    assert "PodFailurePolicy" in run["reason"]


def test_the_deadline_is_that_of_the_clock_of_the_cluster(cluster: Cluster) -> None:
    cluster.start(timeout=60)
    # This machine is an hour ahead.
    behind = datetime.fromtimestamp(time.time() - 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    managed = [{"manager": "crypto-lakehouse", "time": behind}]
    job = merged(cluster.has(JOB), {"metadata": {"creationTimestamp": behind, "managedFields": managed}})
    cluster.server.objects.answer("PUT", JOB, {}, job)
    run = cluster.call(timeout=60, poll=0.0)
    assert (run["attached"], run["finished"]) == (True, False)


def test_a_result_that_is_not_whole_is_an_error(cluster: Cluster) -> None:
    cluster.log = '{"result_part": [2, 2], "sha256": "x", "data": "eA=="}\n'
    run = cluster.call()
    assert run["failed"]
    assert "cannot read the result of job backup" in run["msg"]
    assert "containerLogMaxSize" in run["remedy"]


def test_check_mode_creates_nothing_or_a_run_beside(cluster: Cluster) -> None:
    assert cluster.call(check_mode=True) == {"changed": True, "finished": True, "msg": "The job backup would run"}
    assert cluster.server.requests == []
    cluster.start("--a")
    cluster.lasting = False
    assert cluster.call("--a", check_mode=True, check_arguments=["--check"])["succeeded"]
    assert cluster.has(JOB)
    assert cluster.writes == [f"POST {JOBS}", f"POST {JOBS}", f"DELETE {JOB}-check"]


def test_what_is_no_job_is_refused(cluster: Cluster) -> None:
    run = cluster.call(manifest={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}})
    assert run["failed"]
    assert "a Job of batch/v1 is needed" in run["msg"]
