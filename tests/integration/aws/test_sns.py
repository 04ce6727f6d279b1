# SPDX-License-Identifier: GPL-3.0-or-later
"""Topics of SNS: their lifecycle on emulators, and unconfirmed subscriptions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    ReadError,
    RefusedError,
)
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

NAME = "lake-alerts-development"
MAIL = {"protocol": "email", "endpoint": "ops@example.com"}
OTHER_MAIL = {"protocol": "email", "endpoint": "oncall@example.com"}


def arn(lab: Lab) -> str:
    return f"arn:aws:sns:{lab.emulator.region}:{lab.emulator.account_id}:{NAME}"


def policy(lab: Lab, service: str = "cloudwatch.amazonaws.com") -> dict[str, Any]:
    statement = {
        "Sid": "Alarms",
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sns:Publish",
        "Resource": arn(lab),
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def edit_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    client = lab.client("sns")
    client.tag_resource(ResourceArn=id_, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    client.untag_resource(ResourceArn=id_, TagKeys=removed)


def endpoints(lab: Lab) -> set[str]:
    found = lab.client("sns").list_subscriptions_by_topic(TopicArn=arn(lab))["Subscriptions"]
    return {item["Endpoint"] for item in found}


def attributes(lab: Lab) -> dict[str, str]:
    return dict(lab.client("sns").get_topic_attributes(TopicArn=arn(lab))["Attributes"])


def test_life(lab: Lab) -> None:
    lab.assert_matrix(
        "sns_topic.alerts",
        {"name": NAME, "subscriptions": []},
        changes={
            "display_name": "Lake",
            "kms_master_key_id": "alias/aws/sns",
            "policy": policy(lab),
            "another policy": {"policy": policy(lab, "backup.amazonaws.com")},
            "subscriptions": [MAIL],
            "others": {"subscriptions": [OTHER_MAIL, {"protocol": "https", "endpoint": "https://example.com/hook"}]},
            "nobody": {"subscriptions": []},
            "as AWS made it": {"display_name": None, "kms_master_key_id": None, "policy": None},
        },
        vanish=lambda lab, id_: lab.client("sns").delete_topic(TopicArn=id_),
        edit_tags=edit_tags,
    )


def test_what_is_given_at_creation_takes_one_call_and_one_for_each_subscription(lab: Lab) -> None:
    topic = {"name": NAME, "display_name": "Lake", "policy": policy(lab), "subscriptions": [MAIL, OTHER_MAIL]}
    ran = lab.apply({"sns_topic.alerts": topic})
    assert ran.mutating == ["sns:CreateTopic", "sns:Subscribe", "sns:Subscribe"]
    assert ran.outputs("sns_topic.alerts")["arn"] == arn(lab)
    assert json.loads(attributes(lab)["Policy"]) == policy(lab)
    assert endpoints(lab) == {MAIL["endpoint"], OTHER_MAIL["endpoint"]}
    lab.assert_unchanged({"sns_topic.alerts": topic})


def test_a_policy_edited_by_hand_is_found_and_the_one_that_aws_gives_is_no_difference(lab: Lab) -> None:
    described = {"sns_topic.alerts": {"name": NAME}}
    lab.apply(described)
    lab.assert_unchanged(described)
    default = json.loads(attributes(lab)["Policy"])
    default["Statement"][0]["Condition"] = {}
    client = lab.client("sns")
    client.set_topic_attributes(TopicArn=arn(lab), AttributeName="Policy", AttributeValue=json.dumps(default))
    assert [change.path for change in lab.plan(described).node("sns_topic.alerts").changes] == ["policy"]
    lab.apply(described)
    condition = json.loads(attributes(lab)["Policy"])["Statement"][0]["Condition"]
    assert condition == {"StringEquals": {"AWS:SourceOwner": lab.emulator.account_id}}
    lab.assert_unchanged(described)


def test_subscriptions_that_are_not_described_are_left_alone_and_added_ones_are_found(lab: Lab) -> None:
    lab.apply({"sns_topic.alerts": {"name": NAME}})
    client = lab.client("sns")
    client.subscribe(TopicArn=arn(lab), Protocol="email", Endpoint="stranger@example.com")
    lab.assert_unchanged({"sns_topic.alerts": {"name": NAME}})
    described = {"sns_topic.alerts": {"name": NAME, "subscriptions": [MAIL]}}
    lab.apply(described)
    assert endpoints(lab) == {MAIL["endpoint"]}


class Unconfirmed(Behaviour):
    """Shows subscriptions as AWS does until the owner of the endpoint has confirmed them."""

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != "ListSubscriptionsByTopic" or "Subscriptions" not in answer:
            return None
        told = [{**item, "SubscriptionArn": "PendingConfirmation"} for item in answer["Subscriptions"]]
        return Answer({"Subscriptions": told})


def test_a_subscription_that_nobody_has_confirmed_counts_and_is_let_go_when_it_is_not_wanted(
    lab: Lab,
) -> None:
    lab.wire.behaviour = Unconfirmed()
    described = {"sns_topic.alerts": {"name": NAME, "subscriptions": [MAIL]}}
    ran = lab.apply(described)
    assert ran.outputs("sns_topic.alerts")["pending_subscriptions"] == [MAIL]
    lab.assert_unchanged(described)
    lab.assert_unchanged({"sns_topic.alerts": {"name": NAME, "subscriptions": []}})
    other = {"sns_topic.alerts": {"name": NAME, "subscriptions": [OTHER_MAIL]}}
    assert lab.apply(other).mutating == ["sns:Subscribe"]
    lab.assert_unchanged(other)


def test_a_topic_of_another_environment_is_refused_and_one_without_tags_adopted(lab: Lab) -> None:
    described = {"sns_topic.alerts": {"name": NAME}}
    lab.other(environment="production").apply(described)
    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'production'"):
        lab.plan(described)
    lab.client("sns").delete_topic(TopicArn=arn(lab))
    lab.client("sns").create_topic(Name=NAME)
    with pytest.raises(RefusedError, match="adopt: true"):
        lab.plan(described)
    assert lab.apply(described, adopt=True).plan.node("sns_topic.alerts").action == "adopt"
    lab.assert_unchanged(described)


def test_access_denied_names_the_action(lab: Lab) -> None:
    class Denied(Behaviour):
        def before(self, call: Call) -> Answer | None:
            refused = call.operation == "GetTopicAttributes"
            return Answer.error("AuthorizationError", "no", 403) if refused else None

    lab.wire.behaviour = Denied()
    with pytest.raises(ReadError, match="allow sns:GetTopicAttributes"):
        lab.plan({"sns_topic.alerts": {"name": NAME}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "alerts.fifo"}, "is not 1 to 256 letters"),
        ({"policy": {"Version": "2012-10-17"}}, "is not a policy"),
        ({"subscriptions": [{"protocol": "pigeon", "endpoint": "roof"}]}, "is not one of its choices"),
        ({"subscriptions": [{"protocol": "email"}]}, "is required"),
    ],
)
def test_a_topic_that_cannot_be_is_refused_before_sns_is_asked(lab: Lab, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        lab.plan({"sns_topic.alerts": {"name": NAME, **change}})
    assert {call.service for call in lab.wire.calls} <= {"sts"}
