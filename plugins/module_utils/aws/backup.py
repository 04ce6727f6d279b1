# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tag calls that all kinds of AWS Backup share."""

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
    # A resource that was deleted after it was listed does not have tags.
    answer = session.look("backup", "list_tags", ABSENT, ResourceArn=arn)
    return dict((answer or {}).get("Tags") or {})
