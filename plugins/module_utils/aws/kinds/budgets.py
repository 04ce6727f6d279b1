# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Budgets, which belong to the account and not to a region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.resource import READY, Actual, Owner, Request
from ...engine.schema import Output, Property, Schema
from ...engine.value import canonical
from ..kind import TAGS, Actions, AwsKind, all_tags, given, owner_of, property_tags, tag_changes, tag_list, tag_map

_ABSENT = ("NotFoundException",)
_FORBIDDEN = (":", "\\", "/action/")
_MOST_NOTIFICATIONS, _MOST_EMAILS = 10, 10
_COST_TYPES = {
    "include_tax": "IncludeTax",
    "include_subscription": "IncludeSubscription",
    "include_refund": "IncludeRefund",
    "include_credit": "IncludeCredit",
    "include_upfront": "IncludeUpfront",
    "include_recurring": "IncludeRecurring",
    "include_other_subscription": "IncludeOtherSubscription",
    "include_support": "IncludeSupport",
    "include_discount": "IncludeDiscount",
    "use_blended": "UseBlended",
    "use_amortized": "UseAmortized",
}
# Properties that identify a notification of a budget.
_NOTIFICATION = {
    "notification_type": "NotificationType",
    "comparison_operator": "ComparisonOperator",
    "threshold": "Threshold",
    "threshold_type": "ThresholdType",
}


def _name_fault(value: str) -> str | None:
    if 1 <= len(value) <= 100 and not any(word in value for word in _FORBIDDEN):
        return None
    return f"{value!r} is not 1 to 100 characters without ':', '\\' and '/action/'"


def _amount_fault(value: float) -> str | None:
    return None if value > 0 else f"{value} is not more than 0"


def _notifications_fault(value: list[Mapping[str, Any]]) -> str | None:
    if len(value) > _MOST_NOTIFICATIONS:
        return f"has {len(value)} notifications; AWS Budgets takes {_MOST_NOTIFICATIONS}"
    if any(not item.get("subscribers") for item in value):
        return "has a notification without subscribers"
    if max(Counter(_key(item) for item in value).values(), default=1) > 1:
        return "has two notifications at the same threshold: give one of them the subscribers of both"
    return None


def _subscribers_fault(value: list[Mapping[str, Any]]) -> str | None:
    types = Counter(item.get("subscription_type") for item in value)
    if not value or types["SNS"] > 1 or types["EMAIL"] > _MOST_EMAILS:
        return f"is not one topic, 1 to {_MOST_EMAILS} addresses, or both"
    return None


_SUBSCRIBERS = Property(
    "set",
    required=True,
    check=_subscribers_fault,
    elements=Property(
        "map",
        fields={
            "subscription_type": Property(required=True, choices=("SNS", "EMAIL"), purpose="Type of the subscriber."),
            "address": Property(required=True, purpose="ARN of a topic, or an email address."),
        },
    ),
    purpose="Subscribers of the notification.",
)
_NOTIFICATIONS = Property(
    "set",
    check=_notifications_fault,
    elements=Property(
        "map",
        fields={
            "notification_type": Property(
                default="ACTUAL", choices=("ACTUAL", "FORECASTED"), purpose="Actual or forecasted spending."
            ),
            "comparison_operator": Property(
                default="GREATER_THAN",
                choices=("GREATER_THAN", "LESS_THAN", "EQUAL_TO"),
                purpose="Comparison operator.",
            ),
            "threshold": Property("number", required=True, purpose="Threshold of the comparison."),
            "threshold_type": Property(
                default="PERCENTAGE",
                choices=("PERCENTAGE", "ABSOLUTE_VALUE"),
                purpose="Unit of the threshold: percentage of the limit, or an amount.",
            ),
            "subscribers": _SUBSCRIBERS,
        },
    ),
    purpose="Notifications of the budget.",
)


class Budget(AwsKind):
    """A budget of the account. It only sends notifications."""

    name = "budget"
    service = "budgets"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, check=_name_fault, purpose="Name, unique in the account."),
            "budget_type": Property(default="COST", choices=("COST", "USAGE"), purpose="Costs or usage."),
            "time_unit": Property(
                default="MONTHLY",
                choices=("DAILY", "MONTHLY", "QUARTERLY", "ANNUALLY"),
                purpose="Period after which the budget restarts.",
            ),
            "limit": Property(
                "map",
                required=True,
                fields={
                    "amount": Property("number", required=True, check=_amount_fault, purpose="Amount."),
                    "unit": Property(default="USD", purpose="Unit of the amount."),
                },
                purpose="Limit for each period.",
            ),
            "cost_filters": Property(
                "map",
                elements=Property("set", elements=Property("string")),
                purpose="Filters by dimension, such as `Service` or `TagKeyValue`. All costs if omitted.",
            ),
            "cost_types": Property(
                "map",
                computed=True,
                fields={
                    name: Property("boolean", computed=True, purpose=f"`{parameter}` of AWS Budgets.")
                    for name, parameter in _COST_TYPES.items()
                },
                purpose="Types of costs to include.",
            ),
            "notifications": _NOTIFICATIONS,
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN.")},
        spans_regions=True,
        unique_by=("name",),
    )
    actions = Actions(
        read=("budgets:ListTagsForResource", "budgets:ViewBudget"),
        create=("budgets:ModifyBudget", "budgets:TagResource"),
        update=("budgets:ModifyBudget", "budgets:TagResource", "budgets:UntagResource"),
        delete=("budgets:ModifyBudget",),
    )

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return self.session.call("budgets", operation, AccountId=self._account, **parameters)

    @property
    def _account(self) -> str:
        return self.session.identity().account_id

    def _arn(self, name: str) -> str:
        identity = self.session.identity()
        return f"arn:{identity.partition}:budgets::{identity.account_id}:budget/{name}"

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("budgets", "describe_budget", _ABSENT, AccountId=self._account, BudgetName=id_)
        return None if answer is None else self._actual(answer["Budget"])

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        budgets = self.session.pages("budgets", "describe_budgets", "Budgets", AccountId=self._account)
        owners = self.session.each(lambda budget: owner_of(self._tags(budget["BudgetName"])), budgets)
        pairs = zip(budgets, owners, strict=True)
        ours = [budget for budget, whose in pairs if whose is not None and whose.shares_stack_with(owner)]
        return self.session.each(self._actual, ours)

    def _tags(self, name: str) -> dict[str, str]:
        # A budget that was deleted after it was listed does not have tags.
        answer = self.session.look("budgets", "list_tags_for_resource", _ABSENT, ResourceARN=self._arn(name))
        return tag_map((answer or {}).get("ResourceTags"))

    def _actual(self, budget: Mapping[str, Any]) -> Actual:
        name, limit, types = budget["BudgetName"], budget.get("BudgetLimit"), budget.get("CostTypes") or {}
        tags, arn = self._tags(name), self._arn(name)
        properties = {
            "name": name,
            "budget_type": budget["BudgetType"],
            "time_unit": budget["TimeUnit"],
            "limit": {"amount": limit["Amount"], "unit": limit["Unit"]} if limit else None,
            "cost_filters": budget.get("CostFilters"),
            "cost_types": {key: types.get(parameter) for key, parameter in _COST_TYPES.items()},
            "notifications": list(self._notifications(name).values()),
            "tags": property_tags(tags),
        }
        return Actual(name, properties, {"id": name, "arn": arn}, owner_of(tags), READY, (arn,))

    def _notifications(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the notifications of a budget, by the properties that identify them."""
        known = {"AccountId": self._account, "BudgetName": name}
        found = self._pages("describe_notifications_for_budget", "Notifications", known)

        def read(notification: Mapping[str, Any]) -> dict[str, Any]:
            given_back = {
                parameter: notification[parameter] for parameter in _NOTIFICATION.values() if parameter in notification
            }
            asked = {**known, "Notification": given_back}
            subscribers = self._pages("describe_subscribers_for_notification", "Subscribers", asked)
            plain = {key: notification.get(parameter) for key, parameter in _NOTIFICATION.items()}
            return {
                **plain,
                # The default for notifications that were created without a type.
                "threshold_type": plain["threshold_type"] or "PERCENTAGE",
                "subscribers": [
                    {"subscription_type": item["SubscriptionType"], "address": item["Address"]} for item in subscribers
                ],
            }

        return {_key(item): item for item in self.session.each(read, found)}

    def _pages(self, operation: str, key: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return all pages; empty where AWS Budgets reports that the item does not exist."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = self.session.look("budgets", operation, _ABSENT, **parameters, **token) or {}
            found += page.get(key) or []
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    def create(self, request: Request) -> Actual:
        wanted, name = request.desired, request.desired["name"]
        notifications = [
            {"Notification": _parameters(item), "Subscribers": _subscribers(item)}
            for item in wanted["notifications"] or ()
        ]
        self.session.call_once(
            "budgets",
            "create_budget",
            lambda: self._made(name, request.owner),
            AccountId=self._account,
            Budget=_budget(wanted),
            NotificationsWithSubscribers=notifications,
            ResourceTags=tag_list(all_tags(request)),
        )
        return Actual(name, wanted, {"id": name, "arn": self._arn(name)}, request.owner)

    def _made(self, name: str, owner: Owner) -> dict[str, Any] | None:
        actual = self.read(name)
        return {} if actual is not None and actual.owner == owner else None

    def update(self, request: Request) -> Actual:
        name, wanted = request.existing.id, request.desired
        if any(map(request.changed, ("budget_type", "time_unit", "limit", "cost_filters", "cost_types"))):
            # An update resets omitted parameters, including the time period.
            has = self._call("describe_budget", BudgetName=name)["Budget"]
            budget = _budget(wanted)
            types = {**has.get("CostTypes", {}), **budget.get("CostTypes", {})}
            kept = {"TimePeriod": has.get("TimePeriod"), "CostTypes": types or None}
            self._call("update_budget", NewBudget={**budget, **given(kept)})
        if request.changed("notifications"):
            self._write_notifications(name, wanted["notifications"] or [])
        changed, removed = tag_changes(request)
        if changed:
            self.session.call("budgets", "tag_resource", ResourceARN=self._arn(name), ResourceTags=tag_list(changed))
        if removed:
            self.session.call("budgets", "untag_resource", ResourceARN=self._arn(name), ResourceTagKeys=removed)
        return request.existing

    def _write_notifications(self, name: str, wanted: Sequence[Mapping[str, Any]]) -> None:
        existing, keys = self._notifications(name), {_key(item): item for item in wanted}
        # Deletions come first, because AWS Budgets limits the number of notifications.
        for key, item in existing.items():
            if key not in keys:
                self._call("delete_notification", BudgetName=name, Notification=_parameters(item))
        for key, described in keys.items():
            parameters, subscribers = _parameters(described), _subscribers(described)
            if key in existing:
                self._write_subscribers(name, parameters, _subscribers(existing[key]), subscribers)
            else:
                self._call("create_notification", BudgetName=name, Notification=parameters, Subscribers=subscribers)

    def _write_subscribers(
        self, name: str, notification: dict[str, Any], before: list[dict[str, str]], after: list[dict[str, str]]
    ) -> None:
        """Replace, add and remove subscribers, in this order.

        AWS deletes a notification with its last subscriber, and allows only one topic.
        """
        known = {"BudgetName": name, "Notification": notification}
        changes = [_changed(before, after, type_) for type_ in ("SNS", "EMAIL")]
        for gone, new in changes:
            for old, other in zip(gone, new, strict=False):
                self._call("update_subscriber", OldSubscriber=old, NewSubscriber=other, **known)
            for other in new[len(gone) :]:
                self._call("create_subscriber", Subscriber=other, **known)
        for old in (item for gone, new in changes for item in gone[len(new) :]):
            self._call("delete_subscriber", Subscriber=old, **known)

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        self.session.look("budgets", "delete_budget", _ABSENT, AccountId=self._account, BudgetName=id_)


def _key(notification: Mapping[str, Any]) -> str:
    values = {key: notification.get(key) for key in _NOTIFICATION}
    threshold = values["threshold"]
    return canonical({**values, "threshold": float(threshold) if isinstance(threshold, int) else threshold})


def _parameters(notification: Mapping[str, Any]) -> dict[str, Any]:
    return {parameter: notification[key] for key, parameter in _NOTIFICATION.items()}


def _subscribers(notification: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"SubscriptionType": item["subscription_type"], "Address": item["address"]}
        for item in notification["subscribers"]
    ]


def _changed(
    before: list[dict[str, str]], after: list[dict[str, str]], type_: str
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the subscribers of one type to remove, and those to add."""
    gone = [item for item in before if item not in after and item["SubscriptionType"] == type_]
    new = [item for item in after if item not in before and item["SubscriptionType"] == type_]
    return gone, new


def _budget(wanted: Mapping[str, Any]) -> dict[str, Any]:
    types = {_COST_TYPES[key]: value for key, value in (wanted.get("cost_types") or {}).items() if value is not None}
    return given(
        {
            "BudgetName": wanted["name"],
            "BudgetType": wanted["budget_type"],
            "TimeUnit": wanted["time_unit"],
            "BudgetLimit": {"Amount": str(wanted["limit"]["amount"]), "Unit": wanted["limit"]["unit"]},
            "CostFilters": wanted["cost_filters"],
            "CostTypes": types or None,
        }
    )
