# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Error codes, tags and the listing of owned resources, which all kinds of IAM share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..engine.resource import Actual, Owner, Request
from ..engine.schema import Property
from .errors import CallError
from .kind import owner_of, tag_changes, tag_list, tag_map
from .naming import path_fault
from .session import Session

ABSENT = ("NoSuchEntity",)
# IAM rejects concurrent changes of one resource.
BUSY = ("ConcurrentModification", "EntityTemporarilyUnmodifiable")
# A new resource is not visible everywhere at once.
NEW = (*ABSENT, *BUSY)


def path_property() -> Property:
    """Return the property for a path."""
    return Property(default="/", replace=True, check=path_fault, purpose="Path in the ARN.")


def listed(session: Session, operation: str, key: str, **parameters: Any) -> list[Any]:
    """Return all pages of a listing of a resource; empty where the resource is missing or not visible yet."""
    try:
        return session.pages("iam", operation, key, **parameters)
    except CallError as error:
        if error.is_one_of(ABSENT):
            return []
        raise


def owned(session: Session, owner: Owner, ids: Sequence[str], read: Callable[[str], Actual | None]) -> list[Actual]:
    """Return those of `ids` with the tags of a stack: IAM's lists contain no tags and have no tag filter."""
    found = session.each(read, ids)
    return [actual for actual in found if actual and actual.owner and actual.owner.shares_stack_with(owner)]


def tagged(session: Session, owner: Owner, ids: Sequence[str], operation: str, parameter: str) -> list[str]:
    """Return those of `ids` with the tags of a stack, for kinds that need several calls to read.

    operation: lists the tags of one resource. parameter: its parameter for the id.
    """

    def is_ours(id_: str) -> bool:
        found = owner_of(tag_map(listed(session, operation, "Tags", **{parameter: id_})))
        return found is not None and found.shares_stack_with(owner)

    return [id_ for id_, mine in zip(ids, session.each(is_ours, ids), strict=True) if mine]


def write_tags(session: Session, noun: str, parameter: str, request: Request) -> None:
    """Write and remove tags of an IAM resource. noun: of the calls' names. parameter: takes the id."""
    changed, removed = tag_changes(request)
    which = {parameter: request.existing.id}
    if changed:
        session.call("iam", f"tag_{noun}", retry_on=BUSY, **which, Tags=tag_list(changed))
    if removed:
        session.call("iam", f"untag_{noun}", retry_on=BUSY, **which, TagKeys=removed)


def leave_profile(session: Session, profile: str, role: str) -> None:
    """Remove a role from an instance profile."""
    session.look(
        "iam",
        "remove_role_from_instance_profile",
        ABSENT,
        retry_on=BUSY,
        InstanceProfileName=profile,
        RoleName=role,
    )
