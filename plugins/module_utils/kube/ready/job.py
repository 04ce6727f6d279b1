# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Jobs on a cluster: start them, find running ones, and read their results from their logs.

A run is a Job object. Its labels contain slot and digest, an annotation the owner. Its uid is the id of the run.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...shared.jobs import LOG_BYTES, JobError, Request, Run, occupied, progress_in, readable, result_in
from ...shared.redact import Redactor, values_of
from ..client.client import MERGE, look
from ..client.errors import ApiError, KubeError
from ..client.paths import core_path
from . import job_manifest as manifests
from .job_manifest import Place
from .readiness import status
from .reasons import explain, secret_names
from .verdict import Ready, Waiting, conditions, mapping, mappings, number, text
from .wait import Waited, wait_gone

if TYPE_CHECKING:
    from ..client.client import Client
    from ..client.discovery import Discovery

FIELD_MANAGER = "crypto-lakehouse"
# A kubelet stores less than this of a container's log, and a result in it is compressed.
_WHOLE_LOG_BYTES = 256 << 20
_PROGRESS_LINES = 50
_GONE_S = 120.0
_ENDED_S = 60.0
# Interval between the deadline of the controller, which is reported, and the later deadline of the cluster.
_SERVER_GRACE_S = 30
_READ_LATER_S = 60
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
_TEXT = "text/plain, */*"
_BACKGROUND = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}


@dataclass(frozen=True)
class ClusterJobs:
    """The jobs of one cluster. hide: removes secrets of the caller from output."""

    client: Client
    discovery: Discovery
    hide: Callable[[str], str] = str

    def start(self, request: Request, manifest: Mapping[str, Any]) -> Run:
        """Start a job, or attach to the run that `request.running` allows. Raises JobError, KubeError."""
        place = manifests.place_of(manifest)
        found = self._found(place, request.slot)
        going = next((one for one in found if _goes_on(one) and not manifests.is_suspended(one)), None)
        if going and request.running == "attach" and manifests.digest(going) == request.digest:
            self._mark_attached(going)
            return replace(_run(going), attached=True)
        if going and request.running != "replace":
            raise occupied(request, _run(going))
        for one in found:
            self._remove(one)
        return self._create(place, request, manifest)

    def _create(self, place: Place, request: Request, manifest: Mapping[str, Any]) -> Run:
        prepared = manifests.prepared(manifest, request, math.ceil(request.timeout_s) + _SERVER_GRACE_S)
        query = {"fieldManager": FIELD_MANAGER}
        try:
            made = self.client.request("POST", place.collection, query=query, body=prepared)
        except ApiError as error:
            if error.status == 409 and (other := look(self.client, place.path)):
                raise occupied(request, _run(other)) from None
            raise
        if request.input is not None:
            self._hand_over(place, made, request.input)
        return _run(made)

    def _hand_over(self, place: Place, job: Mapping[str, Any], secret: str) -> None:
        """Create the Secret with the input, which is deleted with its Job, and resume the Job."""
        body, path = manifests.input_secret(place, job, secret), place.secret_path
        collection = core_path(place.namespace, "secrets")
        query = {"fieldManager": FIELD_MANAGER}
        try:
            self.client.request("POST", collection, query=query, body=body)
        except ApiError as error:
            if error.status != 409:
                raise
            # The Secret is from an earlier run, whose Job is being deleted.
            self._delete(path)
            self.client.request("POST", collection, query=query, body=body)
        self._patch(place, {"spec": {"suspend": False}})

    def wait(self, name: str, place: Place, slot: str, run_id: str, wait_s: float, timeout_s: float) -> Run:
        """Return a run when it ended, or after some seconds. End it after its deadline.

        Raises JobError if there is no such run, KubeError.
        """
        until_s, pause_s = time.monotonic() + wait_s, _FIRST_PAUSE_S
        while True:
            job = self._find(name, place, slot, run_id)
            if not _has_pods(job):
                return self._outcome(name, job)
            if self._is_over(job, timeout_s):
                return self._end(name, job, timeout_s)
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return replace(_run(job), progress=self._progress(job))
            time.sleep(min(pause_s, left_s))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.3)

    def _is_over(self, job: Mapping[str, Any], timeout_s: float) -> bool:
        """Return whether the deadline passed by the clock of the cluster, which records the time of each change."""
        if _age_s(job) <= timeout_s:
            return False
        place = manifests.place_of(job)
        noted = self._patch(place, {"metadata": {"annotations": {manifests.LOOKED: str(time.time())}}})
        managed = [one for one in mappings(noted, "metadata", "managedFields") if one.get("manager") == FIELD_MANAGER]
        times = [at for one in managed if (at := _time(text(one, "time"))) is not None]
        begun = _time(text(job, "status", "startTime") or text(job, "metadata", "creationTimestamp"))
        return begun is None or not times or max(times) - begun >= timeout_s

    def _find(self, name: str, place: Place, slot: str, run_id: str) -> dict[str, Any]:
        for job in self._found(place, slot):
            if text(job, "metadata", "uid") == run_id:
                return job
        cause = f"there is no Job with the uid {run_id} in namespace {place.namespace}"
        raise JobError("find", name, cause, "Run the playbook again; another run may have replaced it")

    def _found(self, place: Place, slot: str) -> list[dict[str, Any]]:
        """Return the Jobs of a slot, and the Job of this name, regardless of its creator."""
        query = {"labelSelector": f"{manifests.SLOT_LABEL}={slot}"}
        listed = [
            {"apiVersion": "batch/v1", "kind": "Job", **one}
            for one in self.client.pages(place.collection, query=query)
            if not text(one, "metadata", "deletionTimestamp") or text(one, "metadata", "name") == place.name
        ]
        names = {text(one, "metadata", "name") for one in listed}
        same = None if place.name in names else look(self.client, place.path)
        return [*listed, same] if same else listed

    def _mark_attached(self, job: Mapping[str, Any]) -> None:
        """Keep a Job for a short time after its end, so that each waiting run can read its log."""
        self._patch(manifests.place_of(job), {"metadata": {"annotations": {manifests.ATTACHED: "true"}}})

    def _patch(self, place: Place, body: Mapping[str, Any]) -> dict[str, Any]:
        query = {"fieldManager": FIELD_MANAGER}
        answer = self.client.request("PATCH", place.path, query=query, body=body, content_type=MERGE, repeat=True)
        return dict(answer)

    def _remove(self, job: Mapping[str, Any]) -> None:
        place = manifests.place_of(job)
        self._delete(place.path)
        (waited,) = wait_gone(self.client, self.discovery, [place.identity], _GONE_S)
        if not waited.is_ready:
            raise KubeError(f"{place}: the one of an earlier run does not go away: {waited}")

    def _delete(self, path: str) -> None:
        try:
            self.client.request("DELETE", path, body=dict(_BACKGROUND))
        except ApiError as error:
            if not error.is_not_found:
                raise

    def _end(self, name: str, job: Mapping[str, Any], timeout_s: float) -> Run:
        """End a Job at its deadline, and return the available results. Its pods are deleted afterwards."""
        place = manifests.place_of(job)
        ended = self._outcome(name, job, timeout_s)
        self._patch(place, {"spec": {"activeDeadlineSeconds": 1}})
        until_s = time.monotonic() + _ENDED_S
        while time.monotonic() < until_s and (now := look(self.client, place.path)) and _has_pods(now):
            time.sleep(_FIRST_PAUSE_S)
        return replace(ended, succeeded=False)

    def _outcome(self, name: str, job: Mapping[str, Any], timeout_s: float = 0.0) -> Run:
        place, said = manifests.place_of(job), status(job, time.time())
        ended = replace(_run(job), finished=True, succeeded=isinstance(said, Ready), duration_s=_age_s(job))
        try:
            ended = self._told(name, job, ended)
        except KubeError as error:
            if ended.succeeded:
                raise
            # The cause of the failure is more important than the reason why the log cannot be read.
            ended = replace(ended, log=(f"its log cannot be read: {error}",))
        if not ended.succeeded:
            waited = Waited(
                place.identity, said, timeout_s, tuple(explain(self.client, place.identity, job, self.hide))
            )
            remedy = "Set `timeout` to more seconds" if timeout_s else "Read the log, and correct what it names"
            ended = replace(ended, reason=str(waited), remedy=remedy)
        self._tidy_up(place, job, ended.succeeded)
        return ended

    def _tidy_up(self, place: Place, job: Mapping[str, Any], succeeded: bool) -> None:
        """Delete the input of a Job, and a successful Job. A failed Job is kept for inspection."""
        if manifests.has_input(job):
            self._delete(place.secret_path)
        if succeeded and mapping(job, "metadata", "annotations").get(manifests.ATTACHED):
            self._patch(place, {"spec": {"ttlSecondsAfterFinished": _READ_LATER_S}})
        elif succeeded:
            self._delete(place.path)

    def _told(self, name: str, job: Mapping[str, Any], ended: Run) -> Run:
        """Return the run with the log of its last pod."""
        pod = self._pod(job)
        if pod is None:
            return ended
        lines = self._log(pod, job, {"limitBytes": _WHOLE_LOG_BYTES}).split("\n")
        hide = self._hiding(job)
        try:
            result = result_in(lines)
        except (ValueError, KeyError, TypeError) as error:
            remedy = "Raise the size of container logs of the kubelet (`containerLogMaxSize`), and run it again"
            raise JobError("read the result of", name, f"{place_of_pod(pod)}: {error}", remedy) from None
        return replace(
            ended,
            rc=_exit_status(pod),
            log=readable("\n".join(lines), hide),
            progress=progress_in(lines, hide),
            result=result,
        )

    def _progress(self, job: Mapping[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(KubeError):
            if pod := self._pod(job):
                query = {"tailLines": _PROGRESS_LINES, "limitBytes": LOG_BYTES}
                return progress_in(self._log(pod, job, query).split("\n"), self._hiding(job))
        return {}

    def _pod(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the newest pod of a Job."""
        place = manifests.place_of(job)
        query = {"labelSelector": f"batch.kubernetes.io/job-name={place.name}"}
        found = list(self.client.pages(core_path(place.namespace, "pods"), query=query))
        ours = [one for one in found if _owner(one) == text(job, "metadata", "uid")]
        return max(ours, key=lambda one: text(one, "metadata", "creationTimestamp"), default=None)

    def _log(self, pod: Mapping[str, Any], job: Mapping[str, Any], query: Mapping[str, Any]) -> str:
        container = job["spec"]["template"]["spec"]["containers"][0]["name"]
        path = core_path(pod["metadata"]["namespace"], "pods", pod["metadata"]["name"], "log")
        return str(self.client.request("GET", path, query={**query, "container": container}, accept=_TEXT))

    def _hiding(self, job: Mapping[str, Any]) -> Callable[[str], str]:
        place, values = manifests.place_of(job), set[str]()
        for name in sorted(secret_names({"spec": job["spec"]["template"]["spec"]})):
            values |= values_of(look(self.client, core_path(place.namespace, "secrets", name)) or {})
        redact = Redactor(values)
        return lambda said: redact(self.hide(said))


def run_job(client: Client, discovery: Discovery, manifest: Mapping[str, Any], timeout_s: float) -> Run:
    """Run a Job to its end, and return the run. A Job of the same name is replaced. Raises JobError, KubeError."""
    place, jobs = manifests.place_of(manifest), ClusterJobs(client, discovery)
    request = Request(place.name, place.name, "", running="replace", timeout_s=timeout_s)
    started = jobs.start(request, manifest)
    return jobs.wait(place.name, place, place.name, started.run_id, timeout_s + _ENDED_S, timeout_s)


def place_of_pod(pod: Mapping[str, Any]) -> str:
    """Return a pod's location for messages."""
    return f"the log of Pod {text(pod, 'metadata', 'namespace')}/{text(pod, 'metadata', 'name')}"


def _run(job: Mapping[str, Any]) -> Run:
    annotations = mapping(job, "metadata", "annotations")
    owner = annotations.get(manifests.OWNER)
    return Run(
        text(job, "metadata", "uid"),
        owner if isinstance(owner, str) else "",
        text(job, "metadata", "creationTimestamp"),
    )


def _goes_on(job: Mapping[str, Any]) -> bool:
    """Return whether a Job has neither succeeded nor failed."""
    return not text(job, "metadata", "deletionTimestamp") and isinstance(status(job, time.time()), Waiting)


def _is_stopping(job: Mapping[str, Any]) -> bool:
    """Return whether a Job will fail while its pods still run. Kubernetes 1.31 and later report this in advance."""
    found = conditions(job)
    target, failed = found.get("FailureTarget"), found.get("Failed")
    return bool(target and target.is_true) and not (failed and failed.is_true)


def _has_pods(job: Mapping[str, Any]) -> bool:
    """Return whether pods of a Job may still run."""
    return _goes_on(job) or _is_stopping(job)


def _age_s(job: Mapping[str, Any]) -> float:
    """Return the seconds since the start of a Job, or its duration after its end."""
    started = _time(text(job, "status", "startTime") or text(job, "metadata", "creationTimestamp"))
    ended = [_time(text(one, "lastTransitionTime")) for one in mappings(job, "status", "conditions")]
    over = [at for at in ended if at is not None] if not _goes_on(job) else []
    return max(0.0, (max(over) if over else time.time()) - (time.time() if started is None else started))


def _time(written: str) -> float | None:
    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        return None


def _owner(pod: Mapping[str, Any]) -> str:
    return next((text(one, "uid") for one in mappings(pod, "metadata", "ownerReferences")), "")


def _exit_status(pod: Mapping[str, Any]) -> int | None:
    for container in mappings(pod, "status", "containerStatuses")[:1]:
        if mapping(container, "state", "terminated"):
            return int(number(container, "state", "terminated", "exitCode"))
    return None
