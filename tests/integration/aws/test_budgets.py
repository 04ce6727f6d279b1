# SPDX-License-Identifier: GPL-3.0-or-later
"""Budgets, on the one emulator that stores their tags and subscribers."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call, read_timeout

# moto stores no tags or subscribers, and does not update budgets.
pytestmark = pytest.mark.emulators("ministack")

NAME = "lake-development"
MAIL = {"subscription_type": "EMAIL", "address": "ops@example.com"}
OTHER_MAIL = {"subscription_type": "EMAIL", "address": "finance@example.com"}


def topic(lab: Lab, name: str = "alerts") -> dict[str, str]:
    address = f"arn:aws:sns:{lab.emulator.region}:{lab.emulator.account_id}:{name}"
    return {"subscription_type": "SNS", "address": address}


def notification(*subscribers: dict[str, str], **changes: Any) -> dict[str, Any]:
    return {"threshold": 80, "subscribers": list(subscribers), **changes}


def budget(**changes: Any) -> dict[str, Any]:
    return {"name": NAME, "limit": {"amount": 100, "unit": "USD"}, **changes}


def edit_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    client, arn = lab.client("budgets"), f"arn:aws:budgets::{lab.emulator.account_id}:budget/{id_}"
    client.tag_resource(ResourceARN=arn, ResourceTags=[{"Key": key, "Value": value} for key, value in tags.items()])
    client.untag_resource(ResourceARN=arn, ResourceTagKeys=removed)


def told(lab: Lab) -> dict[tuple[str, float], set[str]]:
    """Return the subscribers by type and threshold."""
    client, known = lab.client("budgets"), {"AccountId": lab.emulator.account_id, "BudgetName": NAME}
    found = {}
    for item in client.describe_notifications_for_budget(**known)["Notifications"]:
        asked = {key: item[key] for key in ("NotificationType", "ComparisonOperator", "Threshold", "ThresholdType")}
        subscribers = client.describe_subscribers_for_notification(**known, Notification=asked)["Subscribers"]
        found[item["NotificationType"], item["Threshold"]] = {subscriber["Address"] for subscriber in subscribers}
    return found


def test_life(lab: Lab) -> None:
    lab.assert_matrix(
        "budget.monthly",
        budget(notifications=[notification(topic(lab))]),
        changes={
            "limit": {"amount": 250.5, "unit": "USD"},
            "time_unit": "QUARTERLY",
            "cost_filters": {"Service": ["Amazon Elastic Compute Cloud - Compute", "Amazon Simple Storage Service"]},
            "everything again": {"cost_filters": None},
            "cost_types": {"include_tax": False, "use_amortized": True},
            "notifications": [notification(topic(lab), MAIL), notification(MAIL, notification_type="FORECASTED")],
            "another threshold": {"notifications": [notification(MAIL, threshold=90.5)]},
            "nobody": {"notifications": []},
            "budget_type": "USAGE",
        },
        vanish=lambda lab, id_: lab.client("budgets").delete_budget(AccountId=lab.emulator.account_id, BudgetName=id_),
        edit_tags=edit_tags,
    )


def test_a_change_keeps_the_time_that_the_budget_runs_for(lab: Lab) -> None:
    lab.apply({"budget.monthly": budget()})
    client, known = lab.client("budgets"), {"AccountId": lab.emulator.account_id}
    before = client.describe_budget(**known, BudgetName=NAME)["Budget"]
    period = {**before["TimePeriod"], "Start": before["TimePeriod"]["Start"].replace(year=2025)}
    moved = {key: before[key] for key in ("BudgetName", "BudgetType", "TimeUnit", "BudgetLimit")}
    client.update_budget(**known, NewBudget={**moved, "TimePeriod": period})
    lab.apply({"budget.monthly": budget(limit={"amount": 50})})
    after = client.describe_budget(**known, BudgetName=NAME)["Budget"]
    assert after["TimePeriod"] == period
    assert float(after["BudgetLimit"]["Amount"]) == 50


def test_a_topic_is_replaced_and_no_notification_is_lost_on_the_way(lab: Lab) -> None:
    lab.apply({"budget.monthly": budget(notifications=[notification(topic(lab), MAIL)])})
    described = {"budget.monthly": budget(notifications=[notification(topic(lab, "other"), OTHER_MAIL)])}
    ran = lab.apply(described)
    assert ran.mutating == ["budgets:UpdateSubscriber", "budgets:UpdateSubscriber"]
    assert told(lab) == {("ACTUAL", 80.0): {topic(lab, "other")["address"], OTHER_MAIL["address"]}}
    only_mail = {"budget.monthly": budget(notifications=[notification(MAIL, OTHER_MAIL)])}
    assert lab.apply(only_mail).mutating == ["budgets:CreateSubscriber", "budgets:DeleteSubscriber"]
    assert told(lab) == {("ACTUAL", 80.0): {MAIL["address"], OTHER_MAIL["address"]}}
    lab.assert_unchanged(only_mail)


def test_a_subscriber_added_by_hand_is_found(lab: Lab) -> None:
    described = {"budget.monthly": budget(notifications=[notification(MAIL)])}
    lab.apply(described)
    lab.client("budgets").create_subscriber(
        AccountId=lab.emulator.account_id,
        BudgetName=NAME,
        Notification={
            "NotificationType": "ACTUAL",
            "ComparisonOperator": "GREATER_THAN",
            "Threshold": 80,
            "ThresholdType": "PERCENTAGE",
        },
        Subscriber={"SubscriptionType": "EMAIL", "Address": "stranger@example.com"},
    )
    assert [change.path for change in lab.plan(described).node("budget.monthly").changes] == ["notifications"]
    lab.apply(described)
    assert told(lab) == {("ACTUAL", 80.0): {MAIL["address"]}}


def test_a_creation_whose_answer_is_lost_makes_no_second_budget(lab: Lab) -> None:
    class Lost(Behaviour):
        def __init__(self) -> None:
            self.lost = False

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            if call.operation == "CreateBudget" and not self.lost:
                self.lost = True
                raise read_timeout()
            return None

    lab.wire.behaviour = Lost()
    described = {"budget.monthly": budget()}
    ran = lab.run(described)
    assert ran.report.complete
    assert ran.mutating == ["budgets:CreateBudget"]
    lab.assert_unchanged(described)


def test_a_budget_of_another_environment_is_refused(lab: Lab) -> None:
    lab.other(environment="production").apply({"budget.monthly": budget()})
    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'production'"):
        lab.plan({"budget.monthly": budget()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "lake:development"}, "is not 1 to 100 characters"),
        ({"limit": {"amount": 0}}, "is not more than 0"),
        ({"limit": {"unit": "USD"}}, "limit.amount: is required"),
        ({"notifications": [notification()]}, "without subscribers"),
        ({"notifications": [notification(MAIL), notification(OTHER_MAIL)]}, "two notifications at the same threshold"),
        ({"notifications": [notification(MAIL, threshold=number) for number in range(11)]}, "has 11 notifications"),
        (
            {"notifications": [notification(*({**MAIL, "address": f"a{n}@example.com"} for n in range(11)))]},
            "is not one topic, 1 to 10 addresses, or both",
        ),
    ],
)
def test_a_budget_that_cannot_be_is_refused_before_any_is_read(lab: Lab, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        lab.plan({"budget.monthly": budget(**change)})
    assert {call.service for call in lab.wire.calls} <= {"sts"}
