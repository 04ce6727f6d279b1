# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implement `lakehouse_job`. Depends on `host` and `kube`, as cluster_access does."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..cluster.access import cluster_connection, secrets_in
from ..shared.jobs import SHOWN_LINES, JobError, Request, Run, bytes_of, check_name, digest_of
from ..shared.redact import Redactor

_LONGEST_TIMEOUT_S = 7 * 24 * 3600


def outcome(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Return the module's result; of a failure, with `failed` and `msg`."""
    from ..host.errors import HostError, message_of
    from ..kube.client.errors import KubeError

    try:
        _check(parameters)
        if check_mode and parameters["check_arguments"] is None and not parameters["run_id"]:
            return {"changed": True, "finished": True, "msg": f"The job {parameters['name']} would run"}
        return result_of(_run(parameters, check_mode))
    except JobError as error:
        return {"failed": True, "finished": True, "msg": f"{error}. {error.remedy}.", "remedy": error.remedy}
    except (HostError, OSError) as error:
        return {"failed": True, "finished": True, "msg": message_of(error)}
    except KubeError as error:
        return {"failed": True, "finished": True, "msg": str(error)}


def result_of(run: Run) -> dict[str, Any]:
    """Return the module's result for a run."""
    known = {"run_id": run.run_id, "owner": run.owner, "started_at": run.started_at, "attached": run.attached}
    if not run.finished:
        return {**known, "changed": True, "finished": False, "progress": run.progress}
    found = {
        **known,
        "finished": True,
        "changed": _changed(run.result),
        "succeeded": run.succeeded,
        "rc": run.rc,
        "duration_s": round(run.duration_s, 3),
        "result": run.result,
        "reason": run.reason,
        "log": list(run.log[-SHOWN_LINES:]),
        "progress": run.progress,
    }
    if run.succeeded:
        return found
    return {**found, **_failure(run)}


def _failure(run: Run) -> dict[str, Any]:
    """Return the cause of a failure: message and remedy of the job's result if any, else its exit."""
    result = run.result if isinstance(run.result, dict) else {}
    if isinstance(result.get("message"), str):
        remedy = str(result.get("remedy") or "")
        message = f"{result['message']}. {remedy}".strip()
        return {"failed": True, "msg": message, "reason": result["message"], "remedy": remedy}
    return {"failed": True, "msg": f"{run.reason}. {run.remedy}.", "remedy": run.remedy}


def _changed(result: Any) -> bool:
    """Return whether a job changed something; a job without this information may have."""
    return bool(result.get("changed", True)) if isinstance(result, Mapping) else True


def _check(parameters: Mapping[str, Any]) -> None:
    name, scratch = parameters["name"], parameters["scratch"] or {}
    check_name(name)
    if not 0 < parameters["timeout"] <= _LONGEST_TIMEOUT_S:
        remedy = f"Set `timeout` to 1 to {_LONGEST_TIMEOUT_S} seconds"
        raise JobError("run", name, f"`timeout` is {parameters['timeout']}", remedy)
    if scratch:
        try:
            bytes_of(scratch["size"])
        except ValueError as error:
            raise JobError("run", name, f"`scratch.size`: {error}", "Correct `scratch.size`") from None


def _run(parameters: Mapping[str, Any], check_mode: bool) -> Run:
    arguments = list(parameters["check_arguments"] if check_mode else parameters["arguments"] or [])
    if parameters["manifest"] is not None:
        return _on_cluster(parameters, arguments, check_mode)
    return _on_host(parameters, arguments, check_mode)


def _request(parameters: Mapping[str, Any], digest: str, check_mode: bool) -> Request:
    name, scratch = parameters["name"], parameters["scratch"] or {}
    # A read-only run disturbs neither a run with changes nor another read-only run.
    slot = f"{name}-check-{digest[:8]}" if check_mode else name
    return Request(
        name,
        slot,
        digest,
        "attach" if check_mode else parameters["running"],
        parameters["owner"] or "",
        float(parameters["timeout"]),
        str(scratch.get("size") or ""),
        str(scratch.get("storage_class") or ""),
        parameters["input"],
    )


def _hiding(parameters: Mapping[str, Any], values: set[str]) -> Callable[[str], str]:
    given = {parameters["input"]} if parameters["input"] else set()
    return Redactor(values | given | secrets_in(parameters))


def _on_host(parameters: Mapping[str, Any], arguments: list[str], check_mode: bool) -> Run:
    from ..host.jobs import Jobs
    from ..host.store import read_store
    from ..host.tree import Tree
    from ..secrets.values import hidden_values
    from ..shared.commands import PRIVATE_UMASK

    _check_user(parameters)
    os.umask(PRIVATE_UMASK)
    home = Path(parameters["home"])
    store = Path(parameters["secrets"] or home / "secrets/store.json")
    command = [*parameters["command"], *arguments]
    request = _request(parameters, digest_of(command, parameters["scratch"]), check_mode)
    hide = _hiding(parameters, hidden_values(read_store(Tree(store.parent), store)))
    jobs, run_id, attached = Jobs(home, hide), parameters["run_id"], False
    if not run_id:
        started = jobs.start(request, command, _environment())
        run_id, attached = started.run_id, started.attached
    return _marked(jobs.wait(request.name, request.slot, run_id, parameters["poll"]), attached)


def _on_cluster(parameters: Mapping[str, Any], arguments: list[str], check_mode: bool) -> Run:
    from ..kube.client.client import Client
    from ..kube.client.discovery import Discovery
    from ..kube.ready.job import ClusterJobs
    from ..kube.ready.job_manifest import beside, place_of, with_arguments

    manifest = with_arguments(parameters["manifest"], arguments)
    if check_mode:
        manifest = beside(manifest)
    place = place_of(manifest)
    request = _request(parameters, digest_of(manifest, parameters["scratch"]), check_mode)
    run_id, attached = parameters["run_id"], False
    with Client(cluster_connection(parameters)) as client:
        jobs = ClusterJobs(client, Discovery(client), _hiding(parameters, set()))
        if not run_id:
            started = jobs.start(request, manifest)
            run_id, attached = started.run_id, started.attached
        timeout_s = float(parameters["timeout"])
        return _marked(jobs.wait(request.name, place, request.slot, run_id, parameters["poll"], timeout_s), attached)


def _marked(run: Run, attached: bool) -> Run:
    from dataclasses import replace

    return replace(run, attached=attached)


def _check_user(parameters: Mapping[str, Any]) -> None:
    wanted = parameters["user"]
    if not wanted:
        return
    try:
        own = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        own = str(os.geteuid())
    if own != wanted:
        cause = f"it must run as {wanted}, not {own}"
        raise JobError("run", parameters["name"], cause, f"Set `become: true` and `become_user: {wanted}`")


def _environment() -> dict[str, str]:
    """Return the environment of the task, without the location of Ansible's module."""
    return {name: value for name, value in os.environ.items() if not (name == "PYTHONPATH" and "ansible" in value)}
