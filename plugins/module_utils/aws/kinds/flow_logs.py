# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flow logs: records of the connections in a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Property, Schema, ValidationError
from ...engine.value import is_known
from ..ec2 import ARN, FLOW_LOGS, ID, raise_unsuccessful, resource_arn, tag_specifications, write_tags
from ..kind import TAGS, Actions, AwsKind, given, owner_of, property_tags, tag_map


def _destination(value: str) -> str:
    """Return the ARN of a destination without optional parts."""
    return value.removesuffix(":*").rstrip("/")


def _known_destination(value: str) -> str | None:
    """Return the problem of a destination's ARN, or None."""
    if value.startswith("arn:") and value.split(":")[2:3] in (["s3"], ["logs"]):
        return None
    return f"{value!r} is not the ARN of a bucket or of a log group"


def _validation_errors(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:  # noqa: ARG001
    """Yield an error unless there is exactly one destination, with a role unless it is in S3."""
    group, destination = desired.get("log_group_name"), desired.get("log_destination")
    if (group is None) == (destination is None):
        message = "is given beside log_destination" if group is not None else "is not given, nor is log_destination"
        yield "log_group_name", message, "give exactly one of them"
    role = desired.get("deliver_logs_permission_arn")
    is_s3 = isinstance(destination, str) and _type_of(destination) == "s3"
    if (group is not None or (isinstance(destination, str) and not is_s3)) and role is None:
        yield "deliver_logs_permission_arn", "is required and not given", "name a role that may write to the log group"
    if is_s3 and role is not None:
        yield "deliver_logs_permission_arn", "has no use for a bucket", "remove it; the bucket's policy decides"


def _type_of(destination: str) -> str:
    return "s3" if destination.split(":")[2:3] == ["s3"] else "cloud-watch-logs"


class FlowLog(AwsKind):
    """Log of a network's connections, in CloudWatch Logs or S3."""

    name = "flow_log"
    service = "ec2"
    found_by = "tags"
    name_tag = True
    schema = Schema(
        {
            "resource_id": Property(required=True, replace=True, purpose="ID of the logged resource."),
            "resource_type": Property(
                default="VPC",
                choices=("VPC", "Subnet", "NetworkInterface"),
                replace=True,
                purpose="Type of the logged resource.",
            ),
            "traffic_type": Property(
                default="ALL", choices=("ACCEPT", "REJECT", "ALL"), replace=True, purpose="Type of the logged traffic."
            ),
            "log_group_name": Property(computed=True, replace=True, purpose="Name of the log group for the records."),
            "log_destination": Property(
                computed=True,
                replace=True,
                check=_known_destination,
                canonical=_destination,
                purpose="ARN of a bucket, optionally with a prefix, or of a log group, instead of `log_group_name`.",
            ),
            "deliver_logs_permission_arn": Property(
                replace=True, purpose="ARN of the role that writes to the log group."
            ),
            "max_aggregation_interval": Property(
                "integer",
                default=600,
                choices=(60, 600),
                replace=True,
                purpose="Maximum seconds that a record aggregates.",
            ),
            "tags": TAGS,
        },
        {"id": ID, "arn": ARN},
        # A resource can have one flow log per destination.
        unique_by=("resource_id", "log_group_name", "log_destination"),
        # Two flow logs may write different traffic to one destination.
        exclusive=(),
        check=_validation_errors,
    )
    actions = Actions(
        read=("ec2:DescribeFlowLogs",),
        create=("ec2:CreateFlowLogs", "ec2:CreateTags", "iam:PassRole", "logs:CreateLogDelivery"),
        update=("ec2:CreateTags", "ec2:DeleteTags"),
        delete=("ec2:DeleteFlowLogs", "logs:DeleteLogDelivery"),
    )

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return [self._actual(found) for found in FLOW_LOGS.owned(self.session, owner)]

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the flow log of the same resource to the same destination, which is unique."""
        wanted = subject.desired
        destinations = {name: wanted.get(name) for name in ("log_group_name", "log_destination")}
        if not is_known([wanted["resource_id"], destinations]):
            return LATER
        found = FLOW_LOGS.matching(self.session, {"resource-id": wanted["resource_id"]})
        return [actual for actual in map(self._actual, found) if _goes_to(actual, destinations)]

    def read(self, id_: str) -> Actual | None:
        found = FLOW_LOGS.one(self.session, id_)
        return self._actual(found) if found else None

    def _actual(self, flow_log: Mapping[str, Any]) -> Actual:
        id_, tags = flow_log["FlowLogId"], tag_map(flow_log.get("Tags"))
        destination, group = flow_log.get("LogDestination"), flow_log.get("LogGroupName")
        if destination and ":log-group:" in destination and not group:
            group = _destination(destination).rpartition(":log-group:")[2]
        if group and not destination:
            here, identity = self.session.region, self.session.identity()
            destination = f"arn:{identity.partition}:logs:{here}:{identity.account_id}:log-group:{group}"
        properties = {
            "resource_id": flow_log["ResourceId"],
            "resource_type": _watched(flow_log["ResourceId"]),
            "traffic_type": flow_log.get("TrafficType"),
            "log_group_name": group,
            "log_destination": destination,
            "deliver_logs_permission_arn": flow_log.get("DeliverLogsPermissionArn"),
            "max_aggregation_interval": flow_log.get("MaxAggregationInterval"),
            "tags": property_tags(tags),
        }
        arn = resource_arn(self.session, f"vpc-flow-log/{id_}")
        status = READY if flow_log.get("FlowLogStatus", "ACTIVE") == "ACTIVE" else flow_log["FlowLogStatus"]
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), status, (arn,))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        destination = wanted.get("log_destination")
        answer = self.session.call_once(
            "ec2",
            "create_flow_logs",
            lambda: self._made(request),
            # The role was created seconds before.
            retry_on=("InvalidParameter:Unable to assume given IAM role",),
            **given(
                {
                    "ResourceIds": [wanted["resource_id"]],
                    "ResourceType": wanted["resource_type"],
                    "TrafficType": wanted["traffic_type"],
                    "LogDestinationType": _type_of(destination or ""),
                    "LogDestination": destination,
                    "LogGroupName": wanted.get("log_group_name"),
                    "DeliverLogsPermissionArn": wanted["deliver_logs_permission_arn"],
                    "MaxAggregationInterval": wanted["max_aggregation_interval"],
                    "TagSpecifications": tag_specifications("vpc-flow-log", request),
                }
            ),
        )
        raise_unsuccessful("ec2:CreateFlowLogs", answer)
        id_ = answer["FlowLogIds"][0]
        return Actual(id_, wanted, {"id": id_}, request.owner)

    def _made(self, request: Request) -> dict[str, Any] | None:
        destinations = {name: request.desired.get(name) for name in ("log_group_name", "log_destination")}
        found = FLOW_LOGS.matching(self.session, {"resource-id": request.desired["resource_id"]})
        mine = [actual for actual in map(self._actual, found) if actual.owner == request.owner]
        return next(({"FlowLogIds": [actual.id]} for actual in mine if _goes_to(actual, destinations)), None)

    def update(self, request: Request) -> Actual:
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        answer = self.session.look("ec2", "delete_flow_logs", FLOW_LOGS.absent, FlowLogIds=[request.existing.id])
        raise_unsuccessful("ec2:DeleteFlowLogs", answer, FLOW_LOGS.absent)


def _watched(resource_id: str) -> str:
    prefix = resource_id.partition("-")[0]
    return {"vpc": "VPC", "subnet": "Subnet", "eni": "NetworkInterface"}.get(prefix, prefix)


def _goes_to(actual: Actual, destinations: Mapping[str, str | None]) -> bool:
    return all(
        value is None or _destination(value) == _destination(str(actual.properties[name]))
        for name, value in destinations.items()
    )
