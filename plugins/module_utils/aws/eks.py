# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statuses with reasons, updates, and calls that wait for their turn, which all kinds of EKS share."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..engine.diff import diff
from ..engine.resource import DELETING, READY, Actual, Later, Owner, Request, Subject
from ..engine.schema import Property, found
from ..engine.value import is_known
from .errors import CallError, WaitError
from .kind import AwsKind, tag_changes
from .naming import cluster_name_fault
from .session import Session
from .waiters import wait_until

ABSENT = ("ResourceNotFoundException",)
BUSY = ("ResourceInUseException",)
# EKS does not see a new role or policy yet. Source: messages of CreateCluster, CreateNodegroup,
# CreateFargateProfile and CreateAccessEntry for roles that were created seconds before.
NEW_ROLE = (
    "InvalidParameterException:does not exist",
    "InvalidParameterException:cannot be found",
    "InvalidParameterException:could not be assumed",
    "InvalidParameterException:Error in role params",
    "InvalidParameterException:doesn't have the Amazon EKS Managed Policies",
    "InvalidParameterException:IAM role's policy must include",
    "InvalidParameterException:Misconfigured PodExecutionRole Trust Policy",
    "InvalidParameterException:were not found in the trust relationships",
    "InvalidParameterException:invalid principal",
)
KUBERNETES_VERSION = re.compile(r"1\.[1-9][0-9]+")
CLUSTER_NAME = Property(required=True, replace=True, check=cluster_name_fault, purpose="Name of the cluster.")
# Right after a deletion began, EKS may still return an earlier status.
_STALE_LOOKS = 3


def kubernetes_version(value: str) -> str | None:
    """Return the problem of a Kubernetes version, or None."""
    if KUBERNETES_VERSION.fullmatch(value):
        return None
    return f'{value!r} is not a version of Kubernetes such as "1.35"; write it in quotes, since 1.30 is read as 1.3'


def status_of(word: str, health: Mapping[str, Any] | None = None) -> str:
    """Return EKS's status as the engine's status; statuses without an equivalent keep EKS's name, with its reasons."""
    if word in {"ACTIVE", "DELETING"}:
        return READY if word == "ACTIVE" else DELETING
    reasons = "; ".join(map(_issue, (health or {}).get("issues") or ()))
    return f"{word}: {reasons}" if reasons else word


def _issue(issue: Mapping[str, Any]) -> str:
    code = issue.get("code") or issue.get("errorCode") or "Unknown"
    message = issue.get("message") or issue.get("errorMessage") or "without a message"
    resources = ", ".join(issue.get("resourceIds") or ())
    return f"{code}: {message} ({resources})" if resources else f"{code}: {message}"


def word_of(actual: Actual) -> str:
    """Return EKS's name of a status, without the reasons."""
    return actual.status.partition(":")[0]


def start(session: Session, operation: str, what: str, timeout_s: float, **parameters: Any) -> dict[str, Any]:
    """Make a call as soon as EKS accepts it; EKS rejects it while another change of the same resource runs.

    All attempts use the same idempotency token, so that a lost answer does not start the change twice.
    """
    parameters = {**parameters, "clientRequestToken": str(uuid.uuid4())}
    refusal = ""

    def attempt() -> dict[str, Any] | None:
        nonlocal refusal
        try:
            return session.call("eks", operation, **parameters)
        except CallError as error:
            if not error.is_one_of(BUSY):
                raise
            refusal = error.message
            return None

    return wait_until(
        attempt,
        f"EKS to accept {operation} of {what} after its current operation",
        timeout_s=timeout_s,
        interval_s=15.0,
        last=lambda: f"still refusing: {refusal}",
    )


def run_update(
    session: Session,
    operation: str,
    what: str,
    timeout_s: float,
    place: Mapping[str, str],
    **parameters: Any,
) -> None:
    """Start an update and wait until it is complete. Raises WaitError with EKS's reasons when it fails.

    place: parameters for DescribeUpdate: `name`, and `nodegroupName` or `addonName`.
    """
    update = start(session, operation, what, timeout_s, **parameters)["update"]

    def look() -> bool | None:
        nonlocal update
        if update["status"] == "InProgress":
            update = session.call("eks", "describe_update", updateId=update["id"], **place)["update"]
        if update["status"] in {"Failed", "Cancelled"}:
            reasons = "; ".join(map(_issue, update.get("errors") or ())) or "EKS gives no reason"
            raise WaitError(f"{what}: {update.get('type', operation)} {update['status'].lower()}: {reasons}")
        return True if update["status"] == "Successful" else None

    kind = update.get("type", operation)
    wait_until(look, f"{what}: {kind}", timeout_s=timeout_s, interval_s=15.0, last=lambda: str(update["status"]))


def delete(session: Session, request: Request, operation: str, timeout_s: float, **parameters: Any) -> None:
    """Delete an EKS resource as soon as its current change completes; a missing resource is not an error."""
    refusal = ""

    def attempt() -> bool | None:
        nonlocal refusal
        try:
            session.look("eks", operation, ABSENT, **parameters)
        except CallError as error:
            # Other errors with the same code name resources to delete first, such as the nodes of a cluster.
            if not error.is_one_of(BUSY) or not _passes(error):
                raise
            refusal = error.message
            return None
        return True

    wait_until(
        attempt,
        f"EKS to accept the deletion of {request.address} ({request.existing.id})",
        timeout_s=timeout_s,
        interval_s=15.0,
        last=lambda: f"still refusing: {refusal}",
    )


def _passes(error: CallError) -> bool:
    """Return whether an error is about a change in progress. Source: messages of EKS's ResourceInUseException."""
    return any(words in error.message for words in ("in progress", "in status", "currently"))


def wait_gone(kind: AwsKind, request: Request) -> None:
    """Wait until the resource is deleted. Raises WaitError with EKS's reasons when the deletion fails."""
    looks = 0
    seen = ""

    def look() -> bool | None:
        nonlocal looks, seen
        actual = kind.read(request.existing.id)
        if actual is None:
            return True
        seen = actual.status
        looks = looks + 1 if word_of(actual) == "DELETE_FAILED" else 0
        if looks > _STALE_LOOKS:
            raise WaitError(f"{request.address} ({request.existing.id}) cannot be deleted: {seen}")
        return None

    wait_until(
        look,
        f"{request.address} ({request.existing.id}) to be gone",
        timeout_s=kind.timeout_s,
        interval_s=kind.interval_s,
        last=lambda: seen,
    )


def judged(
    read: Mapping[str, Sequence[Actual] | Later],
    subjects: Sequence[Subject],
    failed: frozenset[str],
    untold: Sequence[str] = (),
) -> dict[str, Sequence[Actual] | Later]:
    """Return the observed resource as a plan needs it.

    failed: statuses of a failed creation. Such a resource counts as in deletion: it is deleted and created again.
    untold: see `as_mentioned`.
    """
    desired = {subject.address: subject.desired for subject in subjects}

    def one(actual: Actual, address: str) -> Actual:
        told = as_mentioned(actual, desired[address], untold)
        return replace(told, status=DELETING) if word_of(told) in failed else told

    return {
        address: actuals if isinstance(actuals, Later) else [one(actual, address) for actual in actuals]
        for address, actuals in read.items()
    }


def as_mentioned(actual: Actual, desired: Mapping[str, Any], names: Sequence[str]) -> Actual:
    """Return the observed resource, with wanted values for properties that this region's EKS does not return.

    EKS returns these properties wherever it supports them. Partitions and regions get features at different times, and
    an unsupported property cannot be compared.
    """
    untold = {name: desired[name] for name in names if actual.properties.get(name) is None and name in desired}
    return replace(actual, properties={**actual.properties, **untold}) if untold else actual


def is_to_be_changed(kind: AwsKind, request: Request, words: frozenset[str]) -> bool:
    """Return whether an unhealthy resource has a pending update, which may repair it, so it is not waited for first."""
    if word_of(request.existing) not in words or request.changes:
        return False
    existing = found(kind.schema.properties, request.existing.properties, "")
    return bool(diff(kind.schema.properties, request.desired, existing))


def write_tags(session: Session, request: Request) -> None:
    """Write and remove tags of an EKS resource."""
    changed, removed = tag_changes(request)
    arn = request.existing.outputs["arn"]
    if changed:
        session.call("eks", "tag_resource", resourceArn=arn, tags=changed)
    if removed:
        session.call("eks", "untag_resource", resourceArn=arn, tagKeys=removed)


def cluster_version(session: Session, name: str) -> str | None:
    """Return the Kubernetes version of a cluster, or None where the cluster does not exist."""
    answer = session.look("eks", "describe_cluster", ABSENT, name=name)
    return str(answer["cluster"]["version"]) if answer and answer["cluster"].get("version") else None


def cluster_names(session: Session) -> list[str]:
    """Return the names of all clusters of the region; all kinds share one listing."""
    return session.once("eks clusters", lambda: session.pages("eks", "list_clusters", "clusters"))


def listed(session: Session, operation: str, key: str, **parameters: Any) -> list[Any]:
    """Return all results of a listing inside of a cluster; empty where the cluster does not exist."""
    try:
        return session.pages("eks", operation, key, **parameters)
    except CallError as error:
        if error.is_one_of(ABSENT):
            return []
        raise


def owned_in_clusters(
    session: Session, operation: str, key: str, read: Callable[[str], Actual | None], owner: Owner
) -> list[Actual]:
    """Return all resources of all clusters with the tags of the owner's stack; ids are `CLUSTER/NAME`."""

    def names(cluster: str) -> list[str]:
        return [f"{cluster}/{name}" for name in listed(session, operation, key, clusterName=cluster)]

    ids = [id_ for found_ids in session.each(names, cluster_names(session)) for id_ in found_ids]
    actuals = [actual for actual in session.each(read, ids) if actual is not None]
    return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]


def are_known(desired: Mapping[str, Any], *names: str) -> bool:
    """Return whether all properties of the id are known."""
    return all(desired.get(name) is not None and is_known(desired[name]) for name in names)
