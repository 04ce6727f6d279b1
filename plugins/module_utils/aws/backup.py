# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kinds of AWS Backup share: how they are tagged."""

from __future__ import annotations

from ..engine.resource import Request
from .kind import tag_changes
from .session import Session

ABSENT = ("ResourceNotFoundException",)


def write_tags(session: Session, request: Request) -> None:
    """Write and remove the tags of a vault or a plan."""
    changed, removed = tag_changes(request)
    arn = request.existing.outputs["arn"]
    if changed:
        session.call("backup", "tag_resource", ResourceArn=arn, Tags=changed)
    if removed:
        session.call("backup", "untag_resource", ResourceArn=arn, TagKeyList=removed)


def read_tags(session: Session, arn: str) -> dict[str, str]:
    """Return the tags of a vault or a plan."""
    # What was deleted since it was listed has none.
    answer = session.look("backup", "list_tags", ABSENT, ResourceArn=arn)
    return dict((answer or {}).get("Tags") or {})
