# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all kinds of EC2 share: how they are found and how they are tagged."""

from __future__ import annotations

from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import (
    all_tags,
    stack_tag,
    tag_changes,
    tag_list,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Owner, Request


def owned_filters(owner: Owner) -> list[dict[str, Any]]:
    """Return the filter of EC2's describe calls for everything that a stack made."""
    return [{"Name": "tag:lakehouse:stack", "Values": [stack_tag(owner)]}]


def tag_specifications(resource_type: str, request: Request) -> list[dict[str, Any]]:
    """Return the tags of a creation in EC2's form."""
    return [{"ResourceType": resource_type, "Tags": tag_list(all_tags(request))}]


def owner_filters(owner: Owner) -> list[dict[str, Any]]:
    """Return the filter for the one thing that carries an owner's tags."""
    return [*owned_filters(owner), {"Name": "tag:lakehouse:address", "Values": [owner.address]}]


def write_tags(session: Session, request: Request) -> None:
    """Write and remove the tags of something in EC2."""
    changed, removed = tag_changes(request)
    if changed:
        session.call("ec2", "create_tags", Resources=[request.existing.id], Tags=tag_list(changed))
    if removed:
        session.call("ec2", "delete_tags", Resources=[request.existing.id], Tags=[{"Key": key} for key in removed])
