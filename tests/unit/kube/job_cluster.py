# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server that runs Jobs as far as a module sees it: a Job has a pod with a log, and ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.jobs.task import outcome
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


def manifest() -> Fields:
    """Return a Job as the catalogue renders it."""
    container = {"name": "job", "image": "registry.example.org/lakehouse:1", "args": ["backup"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "backup-1", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


@dataclass
class Cluster:
    """A server that creates a pod for a Job, and deletes it with the Job.

    lasting: whether pods keep running. slow_end: number of reads of a Job past its deadline during which its pods still
    run.
    """

    server: ApiServer
    log: str = ""
    lasting: bool = False
    exit_status: int = 0
    slow_end: int = 0

    def answer(self, request: Request) -> Reply:
        if request.path.endswith("/log"):
            return Reply(200, self.log)
        if request.method == "POST":
            return self._create(request)
        if request.method == "PATCH":
            return self._patch(request)
        if request.method == "DELETE" and request.path.startswith(JOBS):
            self._ask("DELETE", f"{PODS}/{request.path.rpartition('/')[2]}-pod")
        if request.method == "GET" and request.path == JOB:
            self._stop()
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
            word = "FailureTarget" if self.slow_end else "Failed"
            changed["status"] = {"conditions": [{"type": word, "status": "True", "reason": "DeadlineExceeded"}]}
        self._ask("PUT", request.path, body=changed)
        self.advance(request.path)
        return Reply(200, self._ask("GET", request.path)[1])

    def _stop(self) -> None:
        """End the pods of a Job past its deadline after some reads; the Job has then failed."""
        job = self.has(JOB)
        if not self.slow_end or not job or not (job.get("status") or {}).get("conditions"):
            return
        self.slow_end -= 1
        if not self.slow_end:
            said = job["status"]["conditions"]
            self._ask("PUT", JOB, body={**job, "status": {"conditions": [*said, {**said[0], "type": "Failed"}]}})
            self._ask("DELETE", f"{PODS}/backup-1-pod")

    def advance(self, path: str = JOB) -> None:
        """Run the pod of a Job, and end it unless it is lasting."""
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
        """Return the result of the module."""
        defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        given = {"name": "backup", "manifest": manifest(), "arguments": list(arguments), "poll": 20.0}
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
