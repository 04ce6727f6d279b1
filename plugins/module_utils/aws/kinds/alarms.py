# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CloudWatch: alarms on metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ..kind import TAGS, Actions, AwsKind, all_tags, given, owner_of, property_tags, tag_changes, tag_list, tag_map
from ..naming import alarm_name_fault

_STATISTICS = ("Average", "Maximum", "Minimum", "SampleCount", "Sum")
_COMPARISONS = (
    "GreaterThanOrEqualToThreshold",
    "GreaterThanThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
    "LessThanLowerOrGreaterThanUpperThreshold",
    "LessThanLowerThreshold",
    "GreaterThanUpperThreshold",
)
# One describe call accepts and returns at most this many.
_NAMES_PER_CALL = 100
_MOST_ACTIONS = 5


def _period_fault(value: int) -> str | None:
    if value in {10, 20, 30} or (value > 0 and value % 60 == 0):
        return None
    return f"{value} is neither 10, 20 or 30 nor a multiple of 60"


def _actions_fault(value: list[Any]) -> str | None:
    return None if len(value) <= _MOST_ACTIONS else f"has {len(value)} actions; CloudWatch accepts {_MOST_ACTIONS}"


def _actions(state: str) -> Property:
    purpose = f"ARNs of actions {state}."
    return Property("set", elements=Property("string"), check=_actions_fault, purpose=purpose)


_DIMENSIONS = Property("map", elements=Property("string"), purpose="Dimensions of the metric.")
_METRIC = Property(
    "map",
    fields={
        "id": Property(required=True, purpose="Name of the metric in expressions."),
        "expression": Property(purpose="Metric math expression."),
        "label": Property(purpose="Label in graphs."),
        "account_id": Property(purpose="ID of the metric's account, if it is another one."),
        "return_data": Property("boolean", when_unset=True, purpose="Whether the alarm evaluates this metric."),
        "period": Property("integer", purpose="Period of an expression in seconds."),
        "metric_stat": Property(
            "map",
            fields={
                "namespace": Property(required=True, purpose="Namespace of the metric."),
                "metric_name": Property(required=True, purpose="Name of the metric."),
                "dimensions": _DIMENSIONS,
                "period": Property("integer", required=True, check=_period_fault, purpose="Period in seconds."),
                "stat": Property(required=True, purpose="Statistic."),
                "unit": Property(purpose="Unit, for metrics with several units."),
            },
            purpose="Metric of CloudWatch.",
        ),
    },
)


def _rules(desired: Mapping[str, Any], _actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    single, several = desired["metric_name"] is not None, desired["metrics"] is not None
    if single == several:
        yield "metric_name", "one of metric_name and metrics is wanted", "give exactly one of them"
    if single:
        if (desired["statistic"] is None) == (desired["extended_statistic"] is None):
            yield "statistic", "one of statistic and extended_statistic is wanted", "give exactly one of them"
        for name in ("namespace", "period"):
            if desired[name] is None:
                yield name, "is required with metric_name and not given", ""
    if (desired["threshold"] is None) == (desired["threshold_metric_id"] is None):
        yield "threshold", "one of threshold and threshold_metric_id is wanted", "give exactly one of them"


class MetricAlarm(AwsKind):
    """An alarm on a metric, or on an expression of several metrics."""

    name = "metric_alarm"
    service = "cloudwatch"
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=alarm_name_fault, purpose="Name, unique in the account and region."
            ),
            "description": Property(purpose="Description for recipients of notifications."),
            "namespace": Property(purpose="Namespace of the metric."),
            "metric_name": Property(purpose="Name of the metric."),
            "dimensions": _DIMENSIONS,
            "statistic": Property(choices=_STATISTICS, purpose="Statistic of each period."),
            "extended_statistic": Property(purpose="Percentile such as `p99`, instead of `statistic`."),
            "unit": Property(purpose="Unit, for metrics with several units."),
            "period": Property("integer", check=_period_fault, purpose="Period in seconds."),
            "metrics": Property("list", elements=_METRIC, purpose="Metrics and expressions, instead of one metric."),
            "evaluation_periods": Property("integer", default=1, purpose="Number of evaluated periods."),
            "datapoints_to_alarm": Property(
                "integer",
                purpose="Number of breaching periods that trigger the alarm. All evaluated periods if omitted.",
            ),
            "threshold": Property("number", purpose="Threshold for the statistic."),
            "threshold_metric_id": Property(purpose="ID of the anomaly detection band, instead of a threshold."),
            "comparison_operator": Property(required=True, choices=_COMPARISONS, purpose="Comparison operator."),
            "treat_missing_data": Property(
                when_unset="missing",
                choices=("missing", "breaching", "notBreaching", "ignore"),
                purpose="Treatment of periods without data.",
            ),
            "evaluate_low_sample_count_percentile": Property(
                choices=("evaluate", "ignore"), purpose="Treatment of percentiles with few samples."
            ),
            "actions_enabled": Property("boolean", default=True, purpose="Whether to execute the actions."),
            "alarm_actions": _actions("for the state ALARM"),
            "ok_actions": _actions("for the state OK"),
            "insufficient_data_actions": _actions("for the state INSUFFICIENT_DATA"),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN.")},
        unique_by=("name",),
        check=_rules,
    )
    actions = Actions(
        read=("cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource"),
        create=("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "iam:CreateServiceLinkedRole"),
        update=("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource"),
        delete=("cloudwatch:DeleteAlarms",),
    )

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        known = [subject for subject in subjects if self.is_identified(subject.desired)]
        found = self._named({str(subject.desired["name"]) for subject in known})
        answers: dict[str, Sequence[Actual] | Later] = {subject.address: LATER for subject in subjects}
        for subject in known:
            actual = found.get(subject.desired["name"])
            answers[subject.address] = [self.managed_tags(actual, subject.desired)] if actual else []
        return answers

    def _named(self, names: set[str]) -> dict[str, Actual]:
        """Return the existing alarms of these names, by name."""
        ordered = sorted(names)
        parts = [ordered[start : start + _NAMES_PER_CALL] for start in range(0, len(ordered), _NAMES_PER_CALL)]
        alarms = [alarm for page in self.session.each(self._described, parts) for alarm in page]
        return {actual.id: actual for actual in self.session.each(self._actual, alarms)}

    def _described(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return self.session.pages(
            "cloudwatch",
            "describe_alarms",
            "MetricAlarms",
            AlarmNames=list(names),
            AlarmTypes=["MetricAlarm"],
            MaxRecords=_NAMES_PER_CALL,
        )

    def read(self, id_: str) -> Actual | None:
        return self._named({id_}).get(id_)

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        alarms = self.session.pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmTypes=["MetricAlarm"])
        actuals = self.session.each(self._actual, alarms)
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def _actual(self, alarm: Mapping[str, Any]) -> Actual:
        name, arn = alarm["AlarmName"], alarm["AlarmArn"]
        # An alarm that was deleted after the describe call does not have tags.
        absent = ("ResourceNotFound", "ResourceNotFoundException")
        answer = self.session.look("cloudwatch", "list_tags_for_resource", absent, ResourceARN=arn)
        tags = tag_map((answer or {}).get("Tags"))
        properties = {**_properties(alarm), "tags": property_tags(tags)}
        return Actual(name, properties, {"id": name, "arn": arn}, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        name = request.desired["name"]
        self._put(request, Tags=tag_list(all_tags(request)))
        return Actual(name, request.desired, {"id": name}, request.owner)

    def _put(self, request: Request, **parameters: Any) -> None:
        self.session.call("cloudwatch", "put_metric_alarm", **_parameters(request.desired), **parameters)

    def update(self, request: Request) -> Actual:
        if any(not change.path.startswith("tags") for change in request.changes):
            # CloudWatch ignores tags in this call for an existing alarm.
            self._put(request)
        changed, removed = tag_changes(request)
        arn = request.existing.outputs["arn"]
        if changed:
            self.session.call("cloudwatch", "tag_resource", ResourceARN=arn, Tags=tag_list(changed))
        if removed:
            self.session.call("cloudwatch", "untag_resource", ResourceARN=arn, TagKeys=removed)
        return request.existing

    def delete(self, request: Request) -> None:
        absent = ("ResourceNotFound", "ResourceNotFoundException")
        self.session.look("cloudwatch", "delete_alarms", absent, AlarmNames=[request.existing.id])


# Parameters of CloudWatch's requests and answers, by property.
_SIMPLE = {
    "name": "AlarmName",
    "description": "AlarmDescription",
    "namespace": "Namespace",
    "metric_name": "MetricName",
    "statistic": "Statistic",
    "extended_statistic": "ExtendedStatistic",
    "unit": "Unit",
    "period": "Period",
    "evaluation_periods": "EvaluationPeriods",
    "datapoints_to_alarm": "DatapointsToAlarm",
    "threshold": "Threshold",
    "threshold_metric_id": "ThresholdMetricId",
    "comparison_operator": "ComparisonOperator",
    "treat_missing_data": "TreatMissingData",
    "evaluate_low_sample_count_percentile": "EvaluateLowSampleCountPercentile",
    "actions_enabled": "ActionsEnabled",
    "alarm_actions": "AlarmActions",
    "ok_actions": "OKActions",
    "insufficient_data_actions": "InsufficientDataActions",
}


def _parameters(wanted: Mapping[str, Any]) -> dict[str, Any]:
    simple = {parameter: wanted[name] for name, parameter in _SIMPLE.items()}
    metrics = [_query(metric) for metric in wanted["metrics"] or ()]
    return given({**simple, "Dimensions": _pairs(wanted["dimensions"]), "Metrics": metrics or None})


def _query(metric: Mapping[str, Any]) -> dict[str, Any]:
    stat = metric.get("metric_stat")
    return given(
        {
            "Id": metric["id"],
            "Expression": metric.get("expression"),
            "Label": metric.get("label"),
            "AccountId": metric.get("account_id"),
            "ReturnData": metric.get("return_data"),
            "Period": metric.get("period"),
            "MetricStat": None if stat is None else _stat(stat),
        }
    )


def _stat(stat: Mapping[str, Any]) -> dict[str, Any]:
    metric = {
        "Namespace": stat["namespace"],
        "MetricName": stat["metric_name"],
        "Dimensions": _pairs(stat.get("dimensions")),
    }
    rest = {"Period": stat["period"], "Stat": stat["stat"], "Unit": stat.get("unit")}
    return {"Metric": given(metric), **given(rest)}


def _pairs(dimensions: Mapping[str, str] | None) -> list[dict[str, str]] | None:
    return tag_list(dimensions, "Name") if dimensions else None


def _properties(alarm: Mapping[str, Any]) -> dict[str, Any]:
    simple = {name: alarm.get(parameter) for name, parameter in _SIMPLE.items()}
    return {
        **simple,
        "description": alarm.get("AlarmDescription") or None,
        "dimensions": tag_map(alarm.get("Dimensions"), "Name"),
        "metrics": [_metric(query) for query in alarm.get("Metrics") or ()],
    }


def _metric(query: Mapping[str, Any]) -> dict[str, Any]:
    stat = query.get("MetricStat")
    metric = (stat or {}).get("Metric") or {}
    read = {
        "namespace": metric.get("Namespace"),
        "metric_name": metric.get("MetricName"),
        "dimensions": tag_map(metric.get("Dimensions"), "Name"),
        "period": (stat or {}).get("Period"),
        "stat": (stat or {}).get("Stat"),
        "unit": (stat or {}).get("Unit"),
    }
    return {
        "id": query["Id"],
        "expression": query.get("Expression"),
        "label": query.get("Label"),
        "account_id": query.get("AccountId"),
        "return_data": query.get("ReturnData"),
        "period": query.get("Period"),
        "metric_stat": read if stat else None,
    }
