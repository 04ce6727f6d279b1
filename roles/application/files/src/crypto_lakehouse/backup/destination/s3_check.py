# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of an S3 destination before a backup: access, versioning, object lock, lifecycle rules and clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from crypto_lakehouse.backup.destination.requests import AnswerError, server_date
from crypto_lakehouse.backup.errors import DestinationError

if TYPE_CHECKING:
    from crypto_lakehouse.backup.destination.s3 import S3Destination

CLOCK_TOLERANCE: Final = timedelta(minutes=5)

_HARMFUL: Final[Mapping[str, str]] = {
    "Expiration": "expires current versions",
    "NoncurrentVersionExpiration": "expires noncurrent versions",
    "Transitions": "moves current versions to another storage class",
    "Transition": "moves current versions to another storage class",
    "NoncurrentVersionTransitions": "moves noncurrent versions to another storage class",
    "NoncurrentVersionTransition": "moves noncurrent versions to another storage class",
}

_NO_RULES: Final = ("NoSuchLifecycleConfiguration", "NotImplemented")
_PROBE: Final = "delete-probe"


def problems(destination: S3Destination) -> list[str]:
    """Return the problems that would break a backup; where the bucket cannot be listed, that one alone."""
    try:
        clock = list(_clock(destination))
    except DestinationError as error:
        return [str(error)]
    return clock + [each for check in (_versioning, _lifecycle) for each in _reported(check(destination))]


def warnings(destination: S3Destination) -> list[str]:
    """Return weaknesses of the protection that do not break a backup, each with its remedy."""
    if destination.is_locked:
        return []
    found = [_unlocked(destination)]
    if _may_delete(destination):
        found.append(
            f"The credentials that create sets in bucket {destination.bucket} may delete them. "
            "Use credentials without s3:DeleteObject and s3:DeleteObjectVersion."
        )
    return found


def _reported(found: Iterator[str]) -> list[str]:
    try:
        return list(found)
    except DestinationError as error:
        return [str(error)]


def _clock(destination: S3Destination) -> Iterator[str]:
    """Check that the bucket can be listed, and the clock that the answer carries."""
    act = f"list bucket {destination.bucket}"
    prefix = destination.prefix + "sets/"
    answer = destination.requests.call(act, "list_object_versions", Bucket=destination.bucket, Prefix=prefix, MaxKeys=1)
    now = server_date(answer)
    if now is not None and abs(now - datetime.now(UTC)) > CLOCK_TOLERANCE:
        yield (
            f"The clock of this machine and that of {destination.endpoint} differ by "
            f"{_words(abs(now - datetime.now(UTC)))}. Synchronise both with a time server."
        )


def _versioning(destination: S3Destination) -> Iterator[str]:
    if destination.lock.enabled:
        return
    act = f"read the versioning of bucket {destination.bucket}"
    state = destination.requests.call(act, "get_bucket_versioning", Bucket=destination.bucket).get("Status")
    if state != "Enabled":
        yield (
            f"Bucket {destination.bucket} keeps no versions (versioning is {state or 'off'}), so that a set can be "
            "overwritten. Enable versioning, or create the bucket with object lock."
        )


def _lifecycle(destination: S3Destination) -> Iterator[str]:
    act = f"read the lifecycle of bucket {destination.bucket}"
    try:
        answer = destination.requests.call(act, "get_bucket_lifecycle_configuration", Bucket=destination.bucket)
    except AnswerError as error:
        if error.code in _NO_RULES:
            return
        raise
    for rule in answer.get("Rules", ()):
        for harm in harms(rule, destination.prefix):
            yield (
                f"Lifecycle rule {rule.get('ID') or '(without a name)'} of bucket {destination.bucket} {harm}, which "
                f"damages sets. Remove it, or limit it to a prefix other than {destination.prefix or '(all)'}."
            )


def harms(rule: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the harmful actions of a lifecycle rule below a prefix; aborting unfinished uploads is harmless."""
    filters = rule.get("Filter") or {}
    limit = rule.get("Prefix") or filters.get("Prefix") or (filters.get("And") or {}).get("Prefix") or ""
    if rule.get("Status") != "Enabled" or not (limit.startswith(prefix) or prefix.startswith(limit)):
        return []
    return list(dict.fromkeys(harm for name, harm in _HARMFUL.items() if _acts(rule.get(name))))


def _acts(action: Any) -> bool:
    # A delete marker without a version behind it protects nothing.
    return bool(action) and not (isinstance(action, Mapping) and set(action) == {"ExpiredObjectDeleteMarker"})


def _unlocked(destination: S3Destination) -> str:
    state = (
        "object lock without a default retention in COMPLIANCE mode" if destination.lock.enabled else "no object lock"
    )
    return (
        f"Bucket {destination.bucket} has {state}: stolen credentials can destroy sets. "
        "Use a bucket with object lock and a default retention in COMPLIANCE mode."
    )


def _may_delete(destination: S3Destination) -> bool:
    # A version that does not exist: the answer shows the right, and nothing is deleted or marked.
    try:
        destination.requests.call(
            "probe the right to delete",
            "delete_object",
            Bucket=destination.bucket,
            Key=destination.prefix + _PROBE,
            VersionId="null",
        )
    except AnswerError as error:
        return not error.is_denied
    return True


def _words(difference: timedelta) -> str:
    minutes = int(difference.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
