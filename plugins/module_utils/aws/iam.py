# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all kinds of IAM share: its error codes, tags, and how what a stack owns is found."""

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
# IAM refuses changes of one thing that meet each other.
BUSY = ("ConcurrentModification", "EntityTemporarilyUnmodifiable")
# What was made a moment ago is not known everywhere at once.
NEW = (*ABSENT, *BUSY)


def path_property() -> Property:
    """Return the property that holds a path."""
    return Property(default="/", replace=True, check=path_fault, purpose="The folder in its ARN.")


def listed(session: Session, operation: str, key: str, **parameters: Any) -> list[Any]:
    """Return all pages of what hangs on something; nothing where that is gone, or not known everywhere yet."""
    try:
        return session.pages("iam", operation, key, **parameters)
    except CallError as error:
        if error.is_one_of(ABSENT):
            return []
        raise


def owned(session: Session, owner: Owner, ids: Sequence[str], read: Callable[[str], Actual | None]) -> list[Actual]:
    """Return those of `ids` that carry the tags of a stack: no list of IAM has tags or is filtered by them."""
    found = session.each(read, ids)
    return [actual for actual in found if actual and actual.owner and actual.owner.shares_stack_with(owner)]


def tagged(session: Session, owner: Owner, ids: Sequence[str], operation: str, parameter: str) -> list[str]:
    """Return those of `ids` that carry the tags of a stack, for what takes several calls to read.

    operation: lists the tags of one. parameter: of it, that takes the id.
    """

    def is_ours(id_: str) -> bool:
        found = owner_of(tag_map(listed(session, operation, "Tags", **{parameter: id_})))
        return found is not None and found.shares_stack_with(owner)

    return [id_ for id_, mine in zip(ids, session.each(is_ours, ids), strict=True) if mine]


def write_tags(session: Session, noun: str, parameter: str, request: Request) -> None:
    """Write and remove the tags of something in IAM. noun: as in the names of the calls. parameter: takes the id."""
    changed, removed = tag_changes(request)
    which = {parameter: request.existing.id}
    if changed:
        session.call("iam", f"tag_{noun}", retry_on=BUSY, **which, Tags=tag_list(changed))
    if removed:
        session.call("iam", f"untag_{noun}", retry_on=BUSY, **which, TagKeys=removed)


def leave_profile(session: Session, profile: str, role: str) -> None:
    """Take a role out of an instance profile."""
    session.look(
        "iam",
        "remove_role_from_instance_profile",
        ABSENT,
        retry_on=BUSY,
        InstanceProfileName=profile,
        RoleName=role,
    )
