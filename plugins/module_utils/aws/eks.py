# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all kinds of EKS share: statuses with their reasons, updates that are waited for, calls that have to queue."""

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
# A role, or a policy on it, that EKS does not see yet. Source: messages of CreateCluster, CreateNodegroup,
# CreateFargateProfile and CreateAccessEntry for roles that were made seconds before.
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
CLUSTER_NAME = Property(
    required=True, replace=True, check=cluster_name_fault, purpose="The cluster that it belongs to."
)
# Seen right after a deletion began, the state of an earlier one may still show.
_STALE_LOOKS = 3


def kubernetes_version(value: str) -> str | None:
    """Say what is wrong with a version of Kubernetes, or return None."""
    if KUBERNETES_VERSION.fullmatch(value):
        return None
    return f'{value!r} is not a version of Kubernetes such as "1.35"; write it in quotes, since 1.30 is read as 1.3'


def status_of(word: str, health: Mapping[str, Any] | None = None) -> str:
    """Return EKS's status as the engine knows it, otherwise its word with the reasons that EKS gives."""
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
    """Return EKS's word for a status, without the reasons."""
    return actual.status.partition(":")[0]


def start(session: Session, operation: str, what: str, timeout_s: float, **parameters: Any) -> dict[str, Any]:
    """Make a call that EKS refuses while it is busy with the same thing, as soon as it accepts it.

    The call carries one idempotency token through all its attempts, so that a lost answer starts nothing twice.
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
        f"EKS to accept {operation} of {what} after what it is doing",
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
    """Start an update and wait until it is through. Raises WaitError with EKS's reasons when it failed.

    place: where DescribeUpdate finds it: `name`, and `nodegroupName` or `addonName`.
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
    """Delete something of EKS, as soon as what it is busy with is through; no error when it is gone."""
    refusal = ""

    def attempt() -> bool | None:
        nonlocal refusal
        try:
            session.look("eks", operation, ABSENT, **parameters)
        except CallError as error:
            # Other refusals of the same code name what has to go first: nodes of a cluster.
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
    """Return whether a refusal is about something under way. Source: messages of EKS's ResourceInUseException."""
    return any(words in error.message for words in ("in progress", "in status", "currently"))


def wait_gone(kind: AwsKind, request: Request) -> None:
    """Wait until nothing is left. Raises WaitError with EKS's reasons when the deletion failed."""
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
    """Return what was read as a plan needs it.

    failed: words for what failed to be created. It counts as on its way out: it is removed, and made anew.
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
    """Return what was read, with properties that EKS always tells where it has them, and does not tell, as wanted.

    Partitions and regions get the features of EKS at different times: what one does not know cannot be compared.
    """
    untold = {name: desired[name] for name in names if actual.properties.get(name) is None and name in desired}
    return replace(actual, properties={**actual.properties, **untold}) if untold else actual


def is_to_be_changed(kind: AwsKind, request: Request, words: frozenset[str]) -> bool:
    """Return whether something unwell is about to be updated, which may be what heals it: nobody waits before."""
    if word_of(request.existing) not in words or request.changes:
        return False
    existing = found(kind.schema.properties, request.existing.properties, "")
    return bool(diff(kind.schema.properties, request.desired, existing))


def write_tags(session: Session, request: Request) -> None:
    """Write and remove the tags of something in EKS."""
    changed, removed = tag_changes(request)
    arn = request.existing.outputs["arn"]
    if changed:
        session.call("eks", "tag_resource", resourceArn=arn, tags=changed)
    if removed:
        session.call("eks", "untag_resource", resourceArn=arn, tagKeys=removed)


def cluster_version(session: Session, name: str) -> str | None:
    """Return the Kubernetes version of a cluster, or None where there is no such cluster."""
    answer = session.look("eks", "describe_cluster", ABSENT, name=name)
    return str(answer["cluster"]["version"]) if answer and answer["cluster"].get("version") else None


def cluster_names(session: Session) -> list[str]:
    """Return the names of all clusters of the region; listed once for all kinds."""
    return session.once("eks clusters", lambda: session.pages("eks", "list_clusters", "clusters"))


def listed(session: Session, operation: str, key: str, **parameters: Any) -> list[Any]:
    """Return everything that a listing inside of a cluster finds; nothing where the cluster is gone."""
    try:
        return session.pages("eks", operation, key, **parameters)
    except CallError as error:
        if error.is_one_of(ABSENT):
            return []
        raise


def owned_in_clusters(
    session: Session, operation: str, key: str, read: Callable[[str], Actual | None], owner: Owner
) -> list[Actual]:
    """Return everything in any cluster that carries the tags of the owner's stack; ids are `CLUSTER/NAME`."""

    def names(cluster: str) -> list[str]:
        return [f"{cluster}/{name}" for name in listed(session, operation, key, clusterName=cluster)]

    ids = [id_ for found_ids in session.each(names, cluster_names(session)) for id_ in found_ids]
    actuals = [actual for actual in session.each(read, ids) if actual is not None]
    return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]


def are_known(desired: Mapping[str, Any], *names: str) -> bool:
    """Return whether the properties that make up an id are all known."""
    return all(desired.get(name) is not None and is_known(desired[name]) for name in names)
