# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CloudWatch: log groups and dashboards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...engine.resource import READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ..kind import (
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    document,
    given,
    owner_of,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ..naming import dashboard_name_fault, log_group_name_fault
from ..regions import home

# Source: PutRetentionPolicy in the API reference of CloudWatch Logs.
RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827),
    *(2192, 2557, 2922, 3288, 3653),
)
_NO_GROUP = ("ResourceNotFoundException",)
# CloudWatch Logs rejects concurrent changes of one group. The policy of a new key needs time to take effect.
_PASSING = ("OperationAbortedException", "InvalidParameterException:KMS key")
_NO_DASHBOARD = ("ResourceNotFound", "DashboardNotFoundError")


def _group_rules(desired: Mapping[str, Any], _actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    if desired["log_group_class"] == "DELIVERY" and desired["retention_in_days"] is not None:
        remedy = "leave retention_in_days out, or choose another log_group_class"
        yield "retention_in_days", "cannot be set for a group of class DELIVERY, which keeps events for one day", remedy


class LogGroup(AwsKind):
    """A group of log streams. Its retention is not managed where a policy of the account sets it."""

    name = "log_group"
    service = "logs"
    schema = Schema(
        {
            "name": Property(
                required=True,
                replace=True,
                check=log_group_name_fault,
                purpose="Name, unique in the account and region.",
            ),
            "retention_in_days": Property(
                "integer", choices=RETENTION_DAYS, purpose="Retention of events in days. Forever if omitted."
            ),
            "kms_key_id": Property(purpose="ARN of the encryption key."),
            "log_group_class": Property(
                when_unset="STANDARD",
                choices=("STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"),
                replace=True,
                purpose="Log class, which determines the available features.",
            ),
            "deletion_protection_enabled": Property(
                "boolean", when_unset=False, purpose="Whether AWS refuses every deletion."
            ),
            "tags": TAGS,
        },
        {
            "id": Output("Name."),
            "arn": Output("ARN, without `:*`."),
            "retention_policy_name": Output("Name of the account's policy that sets the retention, if any."),
        },
        protected=True,
        locked_by="deletion_protection_enabled",
        unique_by=("name",),
        check=_group_rules,
    )
    actions = Actions(
        read=("logs:DescribeLogGroups", "logs:ListTagsForResource"),
        create=(
            "logs:CreateLogGroup",
            "logs:PutLogGroupDeletionProtection",
            "logs:PutRetentionPolicy",
            "logs:TagResource",
        ),
        update=(
            "logs:PutRetentionPolicy",
            "logs:DeleteRetentionPolicy",
            "logs:AssociateKmsKey",
            "logs:DisassociateKmsKey",
            "logs:PutLogGroupDeletionProtection",
            "logs:TagResource",
            "logs:UntagResource",
        ),
        delete=("logs:DeleteLogGroup",),
    )

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        wanted = {subject.address: subject.desired for subject in subjects}
        return {
            address: actuals
            if isinstance(actuals, Later)
            else [_without_policy(actual, wanted[address]) for actual in actuals]
            for address, actuals in super().read_all(subjects).items()
        }

    def read(self, id_: str) -> Actual | None:
        found = self.session.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=id_)
        return next((self._actual(group) for group in found if group["logGroupName"] == id_), None)

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        groups = self.session.pages("logs", "describe_log_groups", "logGroups")
        actuals = self.session.each(self._actual, groups)
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def _actual(self, group: Mapping[str, Any]) -> Actual:
        arn = group["arn"].removesuffix(":*")
        # A group that was deleted after the describe call does not have tags.
        answer = self.session.look("logs", "list_tags_for_resource", _NO_GROUP, resourceArn=arn)
        tags = (answer or {}).get("tags") or {}
        properties = {
            "name": group["logGroupName"],
            "retention_in_days": group.get("retentionInDays"),
            "kms_key_id": group.get("kmsKeyId"),
            "log_group_class": group.get("logGroupClass"),
            "deletion_protection_enabled": group.get("deletionProtectionEnabled"),
            "tags": property_tags(tags),
        }
        policy = group.get("retentionPolicyName")
        outputs = {"id": group["logGroupName"], "arn": arn, "retention_policy_name": policy}
        return Actual(group["logGroupName"], properties, outputs, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        self.session.call_once(
            "logs",
            "create_log_group",
            lambda: self._made(request),
            retry_on=_PASSING,
            **given(
                {
                    "logGroupName": wanted["name"],
                    "kmsKeyId": wanted["kms_key_id"],
                    "logGroupClass": wanted["log_group_class"],
                    "deletionProtectionEnabled": wanted["deletion_protection_enabled"] or None,
                    "tags": all_tags(request),
                }
            ),
        )
        if wanted["retention_in_days"] is not None:
            self._write_retention(wanted)
        return Actual(wanted["name"], wanted, {"id": wanted["name"]}, request.owner)

    def _made(self, request: Request) -> dict[str, Any] | None:
        actual = self.read(request.desired["name"])
        return {} if actual and actual.owner == request.owner else None

    def _write_retention(self, wanted: Mapping[str, Any]) -> None:
        days = wanted["retention_in_days"]
        if days is None:
            self._change("delete_retention_policy", logGroupName=wanted["name"])
        else:
            self._change("put_retention_policy", logGroupName=wanted["name"], retentionInDays=days)

    def _change(self, operation: str, **parameters: Any) -> None:
        self.session.call("logs", operation, retry_on=_PASSING, **parameters)

    def update(self, request: Request) -> Actual:
        wanted, existing = request.desired, request.existing
        if request.changed("retention_in_days"):
            self._write_retention(wanted)
        if request.changed("kms_key_id") and wanted["kms_key_id"]:
            self._change("associate_kms_key", logGroupName=existing.id, kmsKeyId=wanted["kms_key_id"])
        elif request.changed("kms_key_id"):
            self._change("disassociate_kms_key", logGroupName=existing.id)
        if request.changed("deletion_protection_enabled"):
            protected = bool(wanted["deletion_protection_enabled"])
            self._change(
                "put_log_group_deletion_protection",
                logGroupIdentifier=existing.id,
                deletionProtectionEnabled=protected,
            )
        changed, removed = tag_changes(request)
        if changed:
            self.session.call("logs", "tag_resource", resourceArn=existing.outputs["arn"], tags=changed)
        if removed:
            self.session.call("logs", "untag_resource", resourceArn=existing.outputs["arn"], tagKeys=removed)
        return existing

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        self.session.look("logs", "delete_log_group", _NO_GROUP, retry_on=_PASSING[:1], logGroupName=id_)


def _without_policy(actual: Actual, desired: Mapping[str, Any]) -> Actual:
    """Return a group with the wanted retention where a policy of the account overrides it: AWS does not return it."""
    if not actual.outputs.get("retention_policy_name"):
        return actual
    days = desired.get("retention_in_days")
    return replace(actual, properties={**actual.properties, "retention_in_days": days})


class Dashboard(AwsKind):
    """A CloudWatch dashboard, which is the same in every region.

    Its tags name the owner. Some partitions do not store tags of dashboards. There, the stack owns dashboards with the
    name `STACK-ENVIRONMENT`, or with names that begin with `STACK-ENVIRONMENT-`.
    """

    name = "dashboard"
    service = "cloudwatch"
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=dashboard_name_fault, purpose="Name, unique in the account."
            ),
            "body": Property("json", required=True, purpose="Widgets in the format of CloudWatch."),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN.")},
        spans_regions=True,
        unique_by=("name",),
    )
    actions = Actions(
        read=("cloudwatch:GetDashboard", "cloudwatch:ListTagsForResource"),
        list=("cloudwatch:ListDashboards",),
        create=("cloudwatch:PutDashboard", "cloudwatch:TagResource"),
        update=("cloudwatch:PutDashboard", "cloudwatch:TagResource", "cloudwatch:UntagResource"),
        delete=("cloudwatch:DeleteDashboards",),
    )

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        owners = {subject.address: subject.owner for subject in subjects}
        return {
            address: actuals if isinstance(actuals, Later) else [_owned(actual, owners[address]) for actual in actuals]
            for address, actuals in super().read_all(subjects).items()
        }

    def probe(self, subject: Subject) -> Actual | None:
        actual = super().probe(subject)
        return None if actual is None else _owned(actual, subject.owner)

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("cloudwatch", "get_dashboard", _NO_DASHBOARD, DashboardName=id_)
        if answer is None:
            return None
        arn = answer["DashboardArn"]
        absent = ("ResourceNotFound", "ResourceNotFoundException")
        listed = self.session.look("cloudwatch", "list_tags_for_resource", absent, ResourceARN=arn)
        tags = tag_map((listed or {}).get("Tags"))
        owner = owner_of(tags)
        properties = {"name": id_, "body": answer["DashboardBody"], "tags": property_tags(tags) if owner else None}
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner, READY, (arn,))

    def managed_tags(self, actual: Actual, desired: Mapping[str, Any]) -> Actual:
        """Return a dashboard without an owner's tags with the wanted ones: AWS may not store tags here."""
        if actual.properties["tags"] is None:
            return replace(actual, properties={**actual.properties, "tags": desired.get("tags")})
        return super().managed_tags(actual, desired)

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        entries = self.session.pages("cloudwatch", "list_dashboards", "DashboardEntries")
        found = self.session.each(self.read, [entry["DashboardName"] for entry in entries])
        actuals = [_owned(actual, replace(owner, address=f"{self.name}.{actual.id}")) for actual in found if actual]
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def create(self, request: Request) -> Actual:
        self._put(request.desired, Tags=tag_list(all_tags(request)))
        id_ = request.desired["name"]
        return Actual(id_, request.desired, {"id": id_}, request.owner)

    def _put(self, wanted: Mapping[str, Any], **parameters: Any) -> None:
        body = document(wanted["body"])
        self.session.call("cloudwatch", "put_dashboard", DashboardName=wanted["name"], DashboardBody=body, **parameters)

    def update(self, request: Request) -> Actual:
        if request.changed("body"):
            self._put(request.desired)
        changed, removed = tag_changes(request)
        arn = request.existing.outputs["arn"]
        if changed:
            written = all_tags(request) if request.claim else changed
            self.session.call("cloudwatch", "tag_resource", ResourceARN=arn, Tags=tag_list(written))
        if removed:
            self.session.call("cloudwatch", "untag_resource", ResourceARN=arn, TagKeys=removed)
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("cloudwatch", "delete_dashboards", _NO_DASHBOARD, DashboardNames=[request.existing.id])


def _owned(actual: Actual, owner: Owner) -> Actual:
    """Return a dashboard without owner tags with the owner in its name, and the region in its widgets."""
    ours = f"{actual.id}-".startswith(f"{owner.stack}-{owner.environment}-")
    if actual.owner is not None or not ours:
        return actual
    return replace(actual, owner=replace(owner, region=home([actual], owner.region)))
