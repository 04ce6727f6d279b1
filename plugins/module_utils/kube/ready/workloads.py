# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Determine whether the pods of a workload's newest specification are created and available."""

from __future__ import annotations

from .verdict import Failed, Object, Ready, Status, Waiting, conditions, line, mapping, number, of, text, unseen

# Default number of retries of a Job.
_BACKOFF_LIMIT = 6


def deployment(obj: Object) -> Status:
    """Return the status of a Deployment.

    It is ready when every desired pod runs the newest template and is available, and no older pod exists. A pause is
    not a failure, because it is intended. Source: the rules of `kubectl rollout status`.
    """
    if behind := unseen(obj):
        return behind
    found, wanted = conditions(obj), number(obj, "spec", "replicas", default=1)
    updated, available = number(obj, "status", "updatedReplicas"), number(obj, "status", "availableReplicas")
    problem = ""
    if updated < wanted:
        problem = of(updated, wanted, "updated")
    elif (old := number(obj, "status", "replicas") - updated) > 0:
        problem = f"{old} old {'pod is' if old == 1 else 'pods are'} still to be stopped"
    elif available < wanted:
        problem = of(available, wanted, "available")
    if not problem:
        return Ready()
    if mapping(obj, "spec").get("paused") is True:
        return Waiting(f"{problem}; the rollout is paused (spec.paused), resume it: kubectl rollout resume")
    progressing = found.get("Progressing")
    if progressing and progressing.is_false and progressing.reason == "ProgressDeadlineExceeded":
        limit_s = number(obj, "spec", "progressDeadlineSeconds", default=600)
        return Failed(f"{problem}, no progress within {limit_s} s{_refused(obj)} ({progressing})")
    return Waiting(f"{problem}{_refused(obj)}")


def _refused(obj: Object) -> str:
    """Return the reason why pods cannot be created: a quota, an admission policy."""
    failure = conditions(obj).get("ReplicaFailure")
    return f"; {failure}" if failure and failure.is_true else ""


def replica_set(obj: Object) -> Status:
    """Return the status of a ReplicaSet: ready when every desired pod is available."""
    if behind := unseen(obj):
        return behind
    wanted, available = number(obj, "spec", "replicas", default=1), number(obj, "status", "availableReplicas")
    if available < wanted:
        return Waiting(f"{of(available, wanted, 'available')}{_refused(obj)}")
    return Ready()


def stateful_set(obj: Object) -> Status:
    """Return the status of a StatefulSet.

    It is ready when every pod is ready, and those that the update strategy replaces have the newest revision.
    """
    if behind := unseen(obj):
        return behind
    wanted, updated = number(obj, "spec", "replicas", default=1), number(obj, "status", "updatedReplicas")
    ready = number(obj, "status", "readyReplicas")
    # Versions without minReadySeconds do not report available replicas.
    available = number(obj, "status", "availableReplicas", default=ready)
    replaces, to_update = text(obj, "spec", "updateStrategy", "type") != "OnDelete", wanted
    if replaces:
        to_update = max(0, wanted - number(obj, "spec", "updateStrategy", "rollingUpdate", "partition"))
    current, newest = text(obj, "status", "currentRevision"), text(obj, "status", "updateRevision")
    rolls = newest != current
    if replaces and rolls and updated < to_update:
        return Waiting(of(updated, to_update, "updated"))
    if ready < wanted:
        return Waiting(of(ready, wanted, "ready"))
    if available < wanted:
        return Waiting(of(available, wanted, "available"))
    if (surplus := number(obj, "status", "replicas") - wanted) > 0:
        return Waiting(f"{surplus} more {'pod' if surplus == 1 else 'pods'} than wanted")
    if rolls and not replaces and updated < wanted:
        return Ready(f"{wanted - updated} of {wanted} pods keep the old revision until they are deleted (OnDelete)")
    if rolls and to_update < wanted:
        return Ready(f"{wanted - to_update} of {wanted} pods keep the old revision (partition)")
    return Ready()


def daemon_set(obj: Object) -> Status:
    """Return the status of a DaemonSet: ready when the newest pod is available on every node that requires it."""
    if behind := unseen(obj):
        return behind
    wanted, available = number(obj, "status", "desiredNumberScheduled"), number(obj, "status", "numberAvailable")
    updated = number(obj, "status", "updatedNumberScheduled")
    replaces = text(obj, "spec", "updateStrategy", "type") != "OnDelete"
    if replaces and updated < wanted:
        return Waiting(of(updated, wanted, "updated"))
    if available < wanted:
        return Waiting(of(available, wanted, "available"))
    if wanted == 0:
        return Ready("no node that it would run on")
    if updated < wanted:
        return Ready(f"{wanted - updated} of {wanted} pods keep the old template until they are deleted (OnDelete)")
    return Ready()


def job(obj: Object) -> Status:
    """Return the status of a Job: ready when it has succeeded. A suspended Job is not ready."""
    found = conditions(obj)
    if (complete := found.get("Complete")) and complete.is_true:
        return Ready("has ended with success")
    for word in ("Failed", "FailureTarget"):
        if (failed := found.get(word)) and failed.is_true:
            return Failed(str(failed))
    if mapping(obj, "spec").get("suspend") is True:
        return Waiting("is suspended (spec.suspend) and does not run")
    failures, limit = number(obj, "status", "failed"), number(obj, "spec", "backoffLimit", default=_BACKOFF_LIMIT)
    again = f"; {failures} of {limit + 1} attempts have failed" if failures else ""
    done, wanted = number(obj, "status", "succeeded"), number(obj, "spec", "completions", default=1)
    if number(obj, "status", "active"):
        return Waiting(f"runs, {of(done, wanted, 'succeeded')}{again}")
    return Waiting(f"no pod of it runs, {of(done, wanted, 'succeeded')}{again}")


def rollout(obj: Object) -> Status:
    """Return the status that an Argo Rollout reports. Source: `status.phase`, argo-rollouts 1.1 and later."""
    # Old versions write a hash, which has no order.
    seen, wanted = text(obj, "status", "observedGeneration"), number(obj, "metadata", "generation")
    if not seen or (seen.isdecimal() and int(seen[:18]) < wanted):
        return Waiting(f"its controller has not seen the newest specification yet (generation {seen or 0} of {wanted})")
    phase, message = text(obj, "status", "phase"), line(obj, "status", "message")
    told = f": {message}" if message else ""
    if phase == "Healthy":
        return Ready()
    if phase == "Degraded":
        return Failed(f"is degraded{told}")
    if phase == "Paused":
        step = number(obj, "status", "currentStepIndex") + 1
        return Waiting(f"is paused at step {step}{told}; promote it when it is healthy: kubectl argo rollouts promote")
    wanted_pods, available = number(obj, "spec", "replicas", default=1), number(obj, "status", "availableReplicas")
    return Waiting(f"{phase or 'no phase yet'}{told}, {of(available, wanted_pods, 'available')}")
