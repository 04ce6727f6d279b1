# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of a cluster on a real API server: the input of a Job, the reading of its end, and its resumption."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.jobs.task import outcome
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.modules.lakehouse_job import ARGUMENT_SPEC
from tests.integration.kube.applying import Fields, look
from tests.integration.kube.cluster import ControlPlane
from tests.integration.kube.hollow import HollowNode
from tests.integration.kube.kubelet import until
from tests.integration.kube.roleplay import play, play_tasks
from tests.integration.patience import HANG_S, wait_for
from tests.unit.kube.job_cluster import PROGRESS, SECRET, Cluster, manifest
from tests.unit.kube.server import ApiServer

NAMESPACE = "jobs"
CHECKS = [{"name": "metrics scraped", "healthy": True, "detail": "12 targets", "duration_s": 0.5}]


@dataclass
class Place:
    """A namespace with a simulated node. Calls return the module's result."""

    node: HollowNode
    client: Client
    name: str

    @property
    def path(self) -> str:
        return f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{self.name}"

    @property
    def secret_path(self) -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/secrets/{self.name}-input"

    def manifest(self) -> Fields:
        container = {"name": "job", "image": "registry.example.org/lakehouse:1", "args": ["backup"]}
        labels = {"app.kubernetes.io/name": self.name}
        template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
        metadata = {"name": self.name, "namespace": NAMESPACE, "labels": labels}
        spec = {"backoffLimit": 0, "template": template}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}

    def parameters(self, *arguments: str, **options: Any) -> dict[str, Any]:
        given = {"name": self.name, "manifest": self.manifest(), "arguments": list(arguments), "poll": 120.0}
        return {**given, "kubeconfig": str(self.node.cluster.kubeconfig), **options}

    def call(self, *arguments: str, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        return outcome({**defaults, **self.parameters(*arguments, **options)}, check_mode=check_mode)

    def start(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Start a Job that continues."""
        self.node.lasting.add(self.name)
        started = self.call(*arguments, **{"poll": 0.0, **options})
        assert started.get("finished") is False, started
        return started

    def pods(self) -> list[Fields]:
        query = {"labelSelector": f"batch.kubernetes.io/job-name={self.name}"}
        return list(self.client.pages(f"/api/v1/namespaces/{NAMESPACE}/pods", query=query))


@pytest.fixture(scope="module")
def node(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HollowNode]:
    cluster = own_plane.start()
    client = cluster.client()
    client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": NAMESPACE}})
    client.close()
    with HollowNode(cluster, tmp_path_factory.mktemp("node")).running() as hollow:
        yield hollow


@pytest.fixture
def place(node: HollowNode, request: pytest.FixtureRequest) -> Iterator[Place]:
    name = f"job-{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
    with node.cluster.client() as client:
        yield Place(node, client, name)
    node.lasting.discard(name)


def framed(document: Any) -> str:
    """Return the lines of a result, as the application writes them."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "roles/application/files/src"))
    from crypto_lakehouse import jobs

    return "\n".join(jobs.framed(json.dumps(document)))


def test_a_job_runs_shows_its_progress_and_is_gone_after_success(place: Place, tmp_path: Path) -> None:
    place.node.logs[place.name] = f"starting\n{PROGRESS}\n"
    place.node.lasting.add(place.name)
    finish = {"result": {"changed": ["table gold"], "rows": 7}}
    task = {
        "crypto_lakehouse.platform.lakehouse_job": place.parameters("--set=latest", input=SECRET, poll=1, timeout=500),
        "register": "run",
    }

    def go_on() -> None:
        """End the Job after its progress was shown, which is before the second read of the log."""
        wait_for(lambda: place.node.looks[place.name] > 1, "the log is read")
        place.node.logs[place.name] += json.dumps(finish)
        place.node.lasting.discard(place.name)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    played = play_tasks(tmp_path, [task], "-vvv", facts=("run",)).succeeded()
    thread.join(HANG_S)
    run = played.facts["run"]
    assert run["result"] == finish["result"]
    assert (run["changed"], run["succeeded"], run["rc"]) == (True, True, 0)
    assert run["log"] == ["starting"]
    lines = [line.strip() for line in played.output.splitlines() if re.match(r"\s+job-\S+ \[localhost\]: ", line)]
    assert lines == [f"{place.name} [localhost]: gold, 3 of 9 objects"]
    assert SECRET not in played.output
    assert place.node.arguments[place.name] == ["backup", "--set=latest"]
    assert until(lambda: look(place.client, place.path) is None)
    assert look(place.client, place.secret_path) is None


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Cluster]:
    """A server without a cluster: the tasks of Ansible are also tested without an API server."""
    with ApiServer(tmp_path) as server:
        found = Cluster(server)
        server.answer = found.answer
        (tmp_path / "kubeconfig").write_text(json.dumps(server.kubeconfig()))
        yield found


def test_the_task_shows_progress_and_no_secret(told: Cluster, tmp_path: Path) -> None:
    told.log, told.lasting = f"starting\n{PROGRESS}\n", True

    def go_on() -> None:
        """End the Job after its progress was shown, which is before the second read of the log."""
        wait_for(lambda: sum(each.path.endswith("/log") for each in told.server.requests) > 1, "the log is read")
        told.log += '{"result": {"changed": ["table gold"]}}\n'
        told.end()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    options = {"name": "backup", "manifest": manifest(), "kubeconfig": str(tmp_path / "kubeconfig")}
    task = {"crypto_lakehouse.platform.lakehouse_job": {**options, "input": SECRET, "poll": 1}, "register": "run"}
    played = play_tasks(tmp_path, [task], "-vvv", facts=("run",)).succeeded()
    thread.join(HANG_S)
    assert played.facts["run"]["result"] == {"changed": ["table gold"]}
    assert played.facts["run"]["changed"] is True
    lines = [line.strip() for line in played.output.splitlines() if "backup [localhost]" in line]
    assert lines == ["backup [localhost]: gold, 3 of 9 objects"]
    assert SECRET not in played.output


@pytest.mark.parametrize(
    ("log", "status", "message"),
    [
        (json.dumps({"result": CHECKS}), 0, "ok       metrics scraped"),
        (json.dumps({"result": [{**CHECKS[0], "healthy": False}]}), 1, "Verification failed: metrics scraped"),
        ("Traceback", 1, "The verification did not run."),
    ],
)
def test_the_role_reports_what_was_verified(told: Cluster, tmp_path: Path, log: str, status: int, message: str) -> None:
    told.log, told.exit_status = log, status
    connection = {"kubeconfig": str(tmp_path / "kubeconfig")}
    played = play(tmp_path, "verify:cluster", verify_job=manifest(), verify_connection=connection)
    assert (played.status != 0) == bool(status)
    assert message in played.output


def test_a_log_carries_a_result_of_20_mb(told: Cluster) -> None:
    document = {"changed": [], "rows": [{"id": n, "name": f"{n * 2654435761 % 2**32:08x}" * 8} for n in range(230_000)]}
    told.log = f"starting\n{framed(document)}\nend\n"
    print(f"{len(json.dumps(document)) / 1e6:.1f} MB as {len(told.log) / 1e6:.1f} MB of log")
    assert len(json.dumps(document)) > 19_000_000
    run = told.call()
    assert run["result"] == document
    assert run["log"] == ["starting", "end"]


def test_a_result_of_20_mb_comes_through_the_log(place: Place) -> None:
    document = {"changed": [], "rows": [{"id": n, "name": f"{n * 2654435761 % 2**32:08x}" * 8} for n in range(230_000)]}
    place.node.logs[place.name] = f"starting\n{framed(document)}\nend\n"
    print(f"{len(json.dumps(document)) / 1e6:.1f} MB as {len(place.node.logs[place.name]) / 1e6:.1f} MB of log")
    assert len(json.dumps(document)) > 19_000_000
    run = place.call()
    assert run["succeeded"], run["msg"]
    assert run["result"] == document
    assert run["log"] == ["starting", "end"]


def test_a_result_that_the_log_has_lost_a_part_of_is_an_error(place: Place) -> None:
    lines = framed([base64.b64encode(os.urandom(60_000)).decode()]).split("\n")
    assert len(lines) > 4
    place.node.logs[place.name] = "\n".join(lines[2:])
    run = place.call()
    assert run["failed"]
    assert re.search(r"cannot read the result of job .*: \d of \d+ parts of it are in the log", run["msg"])
    assert "containerLogMaxSize" in run["remedy"]


def test_the_input_is_a_secret_of_the_job_that_is_removed_with_it(place: Place) -> None:
    started = place.start(input=SECRET)
    job, secret = look(place.client, place.path), look(place.client, place.secret_path)
    assert job
    assert secret
    assert SECRET not in json.dumps(job)
    assert base64.b64decode(secret["data"]["input"]).decode() == SECRET
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner["uid"] == job["metadata"]["uid"] == started["run_id"]
    assert job["spec"]["suspend"] is False
    place.node.logs[place.name] = f"the input is {SECRET}\n"
    place.node.failing.add(place.name)
    place.node.lasting.discard(place.name)
    run = place.call(input=SECRET, run_id=started["run_id"])
    assert run["failed"]
    assert run["rc"] == 1
    assert run["log"] == ["the input is ********"]
    assert SECRET not in json.dumps(run)
    # A failed one stays for inspection; its input does not.
    assert look(place.client, place.path)
    assert look(place.client, place.secret_path) is None
    place.node.failing.discard(place.name)
    # The next run replaces it.
    assert place.call()["succeeded"]


def test_a_job_deleted_by_someone_takes_its_input_along(place: Place) -> None:
    place.start(input=SECRET)
    place.client.request("DELETE", place.path, body={"propagationPolicy": "Background"})
    assert until(lambda: look(place.client, place.secret_path) is None)


def test_a_later_run_attaches_fails_or_replaces(place: Place) -> None:
    first = place.start("--a", owner="jo@controller")
    again = place.call("--a", poll=0.0)
    assert (again["attached"], again["run_id"], again["owner"]) == (True, first["run_id"], "jo@controller")
    for arguments, running in (("--b", "attach"), ("--a", "fail")):
        other = place.call(arguments, running=running)
        assert other["failed"]
        assert f"since {first['started_at']}, started by jo@controller" in other["msg"]
        assert "`running: replace`" in other["remedy"]
    other = place.call("--b", running="replace", poll=0.0)
    assert other["run_id"] != first["run_id"]
    lost = place.call("--a", run_id=first["run_id"])
    assert "there is no Job with the uid" in lost["msg"]
    place.node.lasting.discard(place.name)
    assert place.call("--b", run_id=other["run_id"])["succeeded"]


def test_each_run_that_waits_for_a_job_reads_its_end(place: Place) -> None:
    started = place.start("--a")
    assert place.call("--a", poll=0.0)["attached"]
    place.node.logs[place.name] = '{"result": [1]}\n'
    place.node.lasting.discard(place.name)
    assert [place.call("--a", run_id=started["run_id"])["result"] for _reader in range(2)] == [[1], [1]]


def test_a_job_that_was_left_before_it_had_its_input_is_replaced(place: Place) -> None:
    suspended = place.manifest()
    suspended["spec"]["suspend"] = True
    suspended["metadata"]["labels"]["lakehouse/job"] = place.name
    place.client.request("POST", place.path.rpartition("/")[0], body=suspended)
    assert place.call(input=SECRET)["succeeded"]


def test_at_its_deadline_a_job_ends_and_the_reason_names_it(place: Place) -> None:
    place.node.logs[place.name] = f"copying\n{PROGRESS}\n"
    place.node.lasting.add(place.name)
    run = place.call(timeout=3)
    assert run["failed"]
    assert run["reason"].startswith(f"Job {NAMESPACE}/{place.name} (batch/v1)")
    assert "is not ready after 3 s" in run["reason"]
    assert "`timeout`" in run["remedy"]
    assert run["log"] == ["copying"]
    assert run["progress"] == {"objects": [3, 9], "step": "gold"}
    job = look(place.client, place.path)
    assert job
    conditions = {one["type"]: one.get("reason") for one in job["status"]["conditions"]}
    assert conditions["Failed"] == "DeadlineExceeded"
    assert not place.pods()


def test_without_a_playbook_the_cluster_keeps_the_deadline(place: Place) -> None:
    place.start(timeout=600)
    job = look(place.client, place.path)
    assert job
    assert 600 <= job["spec"]["activeDeadlineSeconds"] <= 700
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


def test_check_mode_creates_nothing_or_a_run_of_its_own(place: Place) -> None:
    run = place.call(check_mode=True)
    assert (run["changed"], run["finished"]) == (True, True)
    assert look(place.client, place.path) is None
    assert place.call("--a", check_mode=True, check_arguments=["--check"])["succeeded"]
    assert place.node.arguments[place.name] == ["backup", "--check"]
    # It is concurrent to a running one.
    place.start("--a")
    assert place.call("--a", check_mode=True, check_arguments=["--check"], poll=0.0)["finished"] is False
    assert len(place.pods()) == 1
