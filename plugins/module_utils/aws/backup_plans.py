# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schema of a backup plan, and its conversion to and from the form of AWS Backup. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..engine.schema import Property
from ..engine.value import canonical
from .kind import given

# Source: BackupRuleInput and Lifecycle in the API reference of AWS Backup.
_DEFAULT_SCHEDULE = "cron(0 5 ? * * *)"
_START_MIN, _COMPLETION_MIN = 480, 10_080
_SHORTEST_START_MIN = 60
_COLD_DAYS = 90
_CONTINUOUS_DAYS = 35
_UTC = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT"})


def _start_fault(value: int) -> str | None:
    return None if value >= _SHORTEST_START_MIN else f"{value} is less than {_SHORTEST_START_MIN}"


def _lifecycle_fault(lifecycle: Mapping[str, Any] | None) -> str | None:
    """Return the problem of a lifecycle, or None. AWS bills, and so keeps, cold storage for 90 days or more."""
    cold = (lifecycle or {}).get("move_to_cold_storage_after_days")
    delete = (lifecycle or {}).get("delete_after_days")
    if cold is None or delete is None or delete >= cold + _COLD_DAYS:
        return None
    return f"delete_after_days ({delete}) is less than {_COLD_DAYS} days after move_to_cold_storage_after_days ({cold})"


def _rules_fault(rules: list[Mapping[str, Any]]) -> str | None:
    names = Counter(str(rule.get("rule_name")) for rule in rules)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        return f"{', '.join(twice)}: two rules have this name"
    for rule in rules:
        fault = _rule_fault(rule)
        if fault:
            return f"rule {rule.get('rule_name')}: {fault}"
    return None


def _rule_fault(rule: Mapping[str, Any]) -> str | None:
    lifecycle = rule.get("lifecycle") or {}
    start, complete = rule.get("start_window_minutes"), rule.get("completion_window_minutes")
    if isinstance(start, int) and isinstance(complete, int) and complete < start:
        return f"completion_window_minutes ({complete}) is less than start_window_minutes ({start})"
    if rule.get("enable_continuous_backup"):
        days = lifecycle.get("delete_after_days")
        if lifecycle.get("move_to_cold_storage_after_days") is not None:
            return "continuous backups do not go to cold storage"
        if days is None or days > _CONTINUOUS_DAYS:
            return f"continuous backups are kept {_CONTINUOUS_DAYS} days at most: set lifecycle.delete_after_days"
    copies = (copy.get("lifecycle") for copy in rule.get("copy_actions") or ())
    return next(filter(None, map(_lifecycle_fault, (lifecycle, *copies))), None)


def _selections_fault(selections: list[Mapping[str, Any]]) -> str | None:
    names = Counter(str(item.get("name")) for item in selections)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        return f"{', '.join(twice)}: two selections have this name"
    empty = [str(item.get("name")) for item in selections if not any(item.get(word) for word in _SELECTING)]
    return f"{', '.join(empty)}: selects nothing; give {', '.join(_SELECTING)}" if empty else None


def _zone(value: str) -> str:
    return "Etc/UTC" if value in _UTC else value


_LIFECYCLE = Property(
    "map",
    fields={
        "move_to_cold_storage_after_days": Property("integer", purpose="Days until the transition to cold storage."),
        "delete_after_days": Property("integer", purpose="Days until the deletion. Kept forever if omitted."),
        "opt_in_to_archive_for_supported_resources": Property(
            "boolean", when_unset=False, purpose="Whether to move snapshots of volumes to their archive tier."
        ),
    },
    purpose="Lifecycle of recovery points.",
)
RULES = Property(
    "set",
    required=True,
    check=_rules_fault,
    elements=Property(
        "map",
        fields={
            "rule_name": Property(required=True, purpose="Name of the rule."),
            "target_backup_vault_name": Property(required=True, purpose="Name of the vault for recovery points."),
            "schedule_expression": Property(
                when_unset=_DEFAULT_SCHEDULE, purpose="Schedule as an AWS cron expression."
            ),
            "schedule_expression_timezone": Property(
                when_unset="Etc/UTC", canonical=_zone, purpose="Time zone of the schedule."
            ),
            "start_window_minutes": Property(
                "integer",
                when_unset=_START_MIN,
                check=_start_fault,
                purpose="Minutes after the scheduled time within which the backup must start.",
            ),
            "completion_window_minutes": Property(
                "integer",
                when_unset=_COMPLETION_MIN,
                purpose="Minutes after the scheduled time within which the backup must complete.",
            ),
            "lifecycle": _LIFECYCLE,
            "recovery_point_tags": Property("map", elements=Property("string"), purpose="Tags of recovery points."),
            "copy_actions": Property(
                "set",
                elements=Property(
                    "map",
                    fields={
                        "destination_backup_vault_arn": Property(
                            required=True, purpose="ARN of the destination vault."
                        ),
                        "lifecycle": _LIFECYCLE,
                    },
                ),
                purpose="Copies of recovery points in other regions or accounts.",
            ),
            "enable_continuous_backup": Property(
                "boolean", when_unset=False, purpose="Whether to enable point-in-time restores."
            ),
        },
    ),
    purpose="Backup rules: schedule, vault and lifecycle.",
)
_CONDITION = Property(
    "set",
    elements=Property(
        "map",
        fields={
            "condition_key": Property(required=True, purpose="`aws:ResourceTag/` and the key of a tag."),
            "condition_value": Property(required=True, purpose="Value of the tag."),
        },
    ),
    purpose="Conditions on tags. A resource must match all of them.",
)
_OPERATORS = {
    "string_equals": "StringEquals",
    "string_not_equals": "StringNotEquals",
    "string_like": "StringLike",
    "string_not_like": "StringNotLike",
}
_SELECTING = ("resources", "list_of_tags", "conditions")
SELECTIONS = Property(
    "set",
    check=_selections_fault,
    elements=Property(
        "map",
        fields={
            "name": Property(required=True, purpose="Name of the selection."),
            "iam_role_arn": Property(required=True, purpose="ARN of the role that AWS Backup assumes."),
            "resources": Property(
                "set", elements=Property("string"), purpose="ARNs of resources. `*` matches any characters."
            ),
            "not_resources": Property("set", elements=Property("string"), purpose="ARNs of excluded resources."),
            "list_of_tags": Property(
                "set",
                elements=Property(
                    "map",
                    fields={
                        "condition_type": Property(
                            default="STRINGEQUALS", choices=("STRINGEQUALS",), purpose="Comparison operator."
                        ),
                        "condition_key": Property(required=True, purpose="Key of the tag."),
                        "condition_value": Property(required=True, purpose="Value of the tag."),
                    },
                ),
                purpose="Tags. A resource must match at least one of them.",
            ),
            "conditions": Property(
                "map",
                fields=dict.fromkeys(_OPERATORS, _CONDITION),
                purpose="Conditions on tags. A resource must match all of them.",
            ),
        },
    ),
    purpose="Resources to back up.",
)

_FREE = {"recovery_point_tags"}


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            "".join(map(str.capitalize, name.split("_"))): part if name in _FREE else _camel(part)
            for name, part in value.items()
            # False is the default of these values, and some regions and services reject them.
            if part is not None and part is not False
        }
    return [_camel(part) for part in value] if isinstance(value, list) else value


def plan_parameters(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan in the form of the AWS Backup API."""
    return {"BackupPlanName": wanted["name"], "Rules": [_camel(rule) for rule in wanted["rules"]]}


def selection_parameters(selection: Mapping[str, Any]) -> dict[str, Any]:
    """Return a selection in the form of the AWS Backup API."""
    rest = {name: value for name, value in selection.items() if name not in {"name", "conditions"} and value}
    conditions = {name: value for name, value in (selection.get("conditions") or {}).items() if value}
    given_conditions = {"Conditions": _camel(conditions)} if conditions else {}
    return {"SelectionName": selection["name"], **_camel(rest), **given_conditions}


def selection_text(selection: Mapping[str, Any]) -> str:
    """Return the canonical text of a selection: equal selections have the same text."""
    return canonical(_ordered(selection_parameters(selection)))


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _ordered(part) for key, part in value.items()}
    return sorted(map(_ordered, value), key=canonical) if isinstance(value, list) else value


def read_rules(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of a plan as properties."""
    return [
        {
            "rule_name": rule["RuleName"],
            "target_backup_vault_name": rule["TargetBackupVaultName"],
            "schedule_expression": rule.get("ScheduleExpression"),
            "schedule_expression_timezone": rule.get("ScheduleExpressionTimezone"),
            "start_window_minutes": rule.get("StartWindowMinutes"),
            "completion_window_minutes": rule.get("CompletionWindowMinutes"),
            "lifecycle": _read_lifecycle(rule.get("Lifecycle")),
            "recovery_point_tags": rule.get("RecoveryPointTags"),
            "copy_actions": [
                given(
                    {
                        "destination_backup_vault_arn": copy["DestinationBackupVaultArn"],
                        "lifecycle": _read_lifecycle(copy.get("Lifecycle")),
                    }
                )
                for copy in rule.get("CopyActions") or ()
            ],
            "enable_continuous_backup": rule.get("EnableContinuousBackup"),
        }
        for rule in plan["Rules"]
    ]


def _read_lifecycle(lifecycle: Mapping[str, Any] | None) -> dict[str, Any] | None:
    read = {
        "move_to_cold_storage_after_days": (lifecycle or {}).get("MoveToColdStorageAfterDays"),
        "delete_after_days": (lifecycle or {}).get("DeleteAfterDays"),
        "opt_in_to_archive_for_supported_resources": (lifecycle or {}).get("OptInToArchiveForSupportedResources"),
    }
    return read if any(read.values()) else None


def read_selection(selection: Mapping[str, Any]) -> dict[str, Any]:
    """Return a selection as properties."""
    found = selection.get("Conditions") or {}
    read = {name: _read_pairs(found.get(key)) for name, key in _OPERATORS.items() if found.get(key)}
    return {
        "name": selection["SelectionName"],
        "iam_role_arn": selection["IamRoleArn"],
        "resources": sorted(selection.get("Resources") or ()),
        "not_resources": sorted(selection.get("NotResources") or ()),
        "list_of_tags": [
            {"condition_type": item["ConditionType"], **_read_pair(item)} for item in selection.get("ListOfTags") or ()
        ],
        "conditions": read or None,
    }


def _read_pairs(pairs: list[Mapping[str, Any]] | None) -> list[dict[str, str]]:
    return [_read_pair(pair) for pair in pairs or ()]


def _read_pair(pair: Mapping[str, Any]) -> dict[str, str]:
    return {"condition_key": pair["ConditionKey"], "condition_value": pair["ConditionValue"]}
