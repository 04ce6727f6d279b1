# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of requests with which a job of a cluster is started, awaited, found again and ended.

What a cluster makes of them is proven on a real API server, in tests/integration/kube/test_jobs.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.job_task import outcome
from ansible_collections.crypto_lakehouse.platform.plugins.modules.lakehouse_job import ARGUMENT_SPEC
from tests.unit.kube.server import ApiServer, Reply, Request, status

Fields = dict[str, Any]
JOBS, PODS = "/apis/batch/v1/namespaces/shop/jobs", "/api/v1/namespaces/shop/pods"
JOB, INPUT = f"{JOBS}/backup-1", "/api/v1/namespaces/shop/secrets/backup-1-input"
SECRET = "AGE-SECRET-KEY-1QQ7WKZ0Y3XH5"
PROGRESS = '{"progress": {"objects": [3, 9], "step": "gold"}}'


def merged(before: Any, patch: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(patch, dict):
        return patch
    return {**before, **{key: merged(before.get(key), value) for key, value in patch.items()}}


@dataclass
class Cluster:
    """A server that creates a pod for a Job, and deletes it with the Job. lasting: whether pods run on."""

    server: ApiServer
    log: str = ""
    lasting: bool = False
    exit_status: int = 0

    def answer(self, request: Request) -> Reply:
        if request.path.endswith("/log"):
            return Reply(200, self.log)
        if request.method == "POST":
            return self._create(request)
        if request.method == "PATCH":
            return self._patch(request)
        if request.method == "DELETE" and request.path.startswith(JOBS):
            self._ask("DELETE", f"{PODS}/{request.path.rpartition('/')[2]}-pod")
        code, body = self._ask(request.method, request.path, request.options)
        selector = request.options.get("labelSelector")
        if selector and request.method == "GET":
            key, _equals, value = selector.partition("=")
            body["items"] = [one for one in body["items"] if one["metadata"].get("labels", {}).get(key) == value]
        return Reply(code, body)

    def _ask(self, method: str, path: str, options: dict[str, str] | None = None, body: Any = None) -> tuple[int, Any]:
        return self.server.objects.answer(method, path, options or {}, body)

    def _create(self, request: Request) -> Reply:
        path = f"{request.path}/{request.body['metadata']['name']}"
        if self._ask("GET", path)[0] == 200:
            return status(409, reason="AlreadyExists")
        request.body["metadata"]["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        code, made = self._ask("PUT", path, body=request.body)
        if made.get("kind") == "Job":
            self.advance(path)
        return Reply(code, made)

    def _patch(self, request: Request) -> Reply:
        changed = merged(self._ask("GET", request.path)[1], request.body)
        if changed["spec"].get("activeDeadlineSeconds") == 1:
            changed["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}
        self._ask("PUT", request.path, body=changed)
        self.advance(request.path)
        return Reply(200, self._ask("GET", request.path)[1])

    def advance(self, path: str = JOB) -> None:
        """Run the pod of a Job, and end it unless it is to last."""
        _code, job = self._ask("GET", path)
        if job["spec"].get("suspend") or job.get("status", {}).get("conditions"):
            return
        name = path.rpartition("/")[2]
        labels = {"batch.kubernetes.io/job-name": name}
        owners = [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]
        pod: Fields = {"metadata": {"name": f"{name}-pod", "namespace": "shop", "labels": labels}}
        pod["metadata"]["ownerReferences"] = owners
        if not self.lasting:
            pod["status"] = {"containerStatuses": [{"state": {"terminated": {"exitCode": self.exit_status}}}]}
            word = "Failed" if self.exit_status else "Complete"
            conditions = [{"type": word, "status": "True", "lastTransitionTime": "2026-11-30T08:00:00Z"}]
            self._ask("PUT", path, body={**job, "status": {"conditions": conditions}})
        self._ask("PUT", f"{PODS}/{name}-pod", body=pod)

    def has(self, path: str) -> Any:
        code, body = self._ask("GET", path)
        return body if code == 200 else None

    def call(self, *arguments: str, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Return what the module returns."""
        container = {"name": "job", "image": "registry.example.org/lakehouse:1", "args": ["backup"]}
        manifest = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "backup-1", "namespace": "shop"},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
        defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        given = {"name": "backup", "manifest": manifest, "arguments": list(arguments), "poll": 20.0}
        given |= {"kubeconfig": self.server.kubeconfig(), **options}
        return outcome({**defaults, **given}, check_mode=check_mode)

    def start(self, *arguments: str, **options: Any) -> dict[str, Any]:
        self.lasting = True
        started = self.call(*arguments, **{"poll": 0.0, **options})
        assert started.get("finished") is False, started
        return started

    def end(self) -> None:
        self.lasting = False
        self.advance()

    @property
    def writes(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.server.requests if each.method != "GET"]


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
