# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CloudWatch: log groups, dashboards, alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import (
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    given,
    owner_of,
    property_tags,
    tag_changes,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    READY,
    Actual,
    Owner,
    Request,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Output, Property, Schema

# Source: PutRetentionPolicy in the API reference of CloudWatch Logs.
RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827),
    *(2192, 2557, 2922, 3288, 3653),
)
_ABSENT = ("ResourceNotFoundException",)


class LogGroup(AwsKind):
    """A group of log streams."""

    name = "log_group"
    service = "logs"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, purpose="Its name, unique in account and region."),
            "retention_in_days": Property(
                "integer", choices=RETENTION_DAYS, purpose="How long events are kept; for ever when not given."
            ),
            "kms_key_id": Property(purpose="ARN of the key that encrypts it."),
            "log_group_class": Property(
                when_unset="STANDARD",
                choices=("STANDARD", "INFREQUENT_ACCESS", "DELIVERY"),
                replace=True,
                purpose="What can be done with the events.",
            ),
            "tags": TAGS,
        },
        {"id": Output("Its name."), "arn": Output("Its ARN, without `:*`.")},
        protected=True,
        unique_by=("name",),
    )
    actions = Actions(
        read=("logs:DescribeLogGroups", "logs:ListTagsForResource"),
        create=("logs:CreateLogGroup", "logs:TagResource", "logs:PutRetentionPolicy"),
        update=(
            "logs:PutRetentionPolicy",
            "logs:DeleteRetentionPolicy",
            "logs:AssociateKmsKey",
            "logs:DisassociateKmsKey",
            "logs:TagResource",
            "logs:UntagResource",
        ),
        delete=("logs:DeleteLogGroup",),
    )

    def read(self, id_: str) -> Actual | None:
        found = self.session.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=id_)
        return next((self._actual(group) for group in found if group["logGroupName"] == id_), None)

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        groups = self.session.pages("logs", "describe_log_groups", "logGroups")
        actuals = self.session.each(self._actual, groups)
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def _actual(self, group: Mapping[str, Any]) -> Actual:
        arn = group["arn"].removesuffix(":*")
        tags = self.session.call("logs", "list_tags_for_resource", resourceArn=arn)["tags"]
        properties = {
            "name": group["logGroupName"],
            "retention_in_days": group.get("retentionInDays"),
            "kms_key_id": group.get("kmsKeyId"),
            "log_group_class": group.get("logGroupClass"),
            "tags": property_tags(tags),
        }
        outputs = {"id": group["logGroupName"], "arn": arn}
        return Actual(group["logGroupName"], properties, outputs, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        self.session.call_once(
            "logs",
            "create_log_group",
            lambda: {} if self.read(wanted["name"]) else None,
            **given(
                {
                    "logGroupName": wanted["name"],
                    "kmsKeyId": wanted["kms_key_id"],
                    "logGroupClass": wanted["log_group_class"],
                    "tags": all_tags(request),
                }
            ),
        )
        self._write_retention(wanted)
        return Actual(wanted["name"], wanted, {"id": wanted["name"]}, request.owner)

    def _write_retention(self, wanted: Mapping[str, Any]) -> None:
        days = wanted["retention_in_days"]
        if days is None:
            self.session.call("logs", "delete_retention_policy", logGroupName=wanted["name"])
        else:
            self.session.call("logs", "put_retention_policy", logGroupName=wanted["name"], retentionInDays=days)

    def update(self, request: Request) -> Actual:
        wanted, existing = request.desired, request.existing
        if request.changed("retention_in_days"):
            self._write_retention(wanted)
        if request.changed("kms_key_id") and wanted["kms_key_id"]:
            self.session.call("logs", "associate_kms_key", logGroupName=existing.id, kmsKeyId=wanted["kms_key_id"])
        elif request.changed("kms_key_id"):
            self.session.call("logs", "disassociate_kms_key", logGroupName=existing.id)
        changed, removed = tag_changes(request)
        if changed:
            self.session.call("logs", "tag_resource", resourceArn=existing.outputs["arn"], tags=changed)
        if removed:
            self.session.call("logs", "untag_resource", resourceArn=existing.outputs["arn"], tagKeys=removed)
        return existing

    def delete(self, request: Request) -> None:
        self.session.look("logs", "delete_log_group", _ABSENT, logGroupName=request.existing.id)
