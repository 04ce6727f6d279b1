# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SNS: topics with subscriptions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...engine.resource import READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema
from ..kind import TAGS, Actions, AwsKind, all_tags, document, owner_of, property_tags, tag_changes, tag_list, tag_map
from ..policy import policy_property

_ABSENT = ("NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
# SNS returns this instead of an ARN until the endpoint confirms; such a subscription cannot be deleted.
_PENDING = "PendingConfirmation"
_GONE = "Deleted"
_PROTOCOLS = ("email", "email-json", "http", "https", "sms", "sqs", "lambda", "firehose", "application")
# A new role, or a new key policy, has not taken effect yet.
_PASSING = (
    "InvalidParameter:KMS",
    "InvalidParameter:nvalid principal",
    "ConcurrentAccess",
    "ConcurrentAccessException",
)
_DEFAULT_ACTIONS = (
    *("SNS:GetTopicAttributes", "SNS:SetTopicAttributes", "SNS:AddPermission", "SNS:RemovePermission"),
    *("SNS:DeleteTopic", "SNS:Subscribe", "SNS:ListSubscriptionsByTopic", "SNS:Publish"),
)


def _name_fault(value: str) -> str | None:
    if _NAME.fullmatch(value):
        return None
    return f"{value!r} is not 1 to 256 letters, digits, '-' and '_'"


class SnsTopic(AwsKind):
    """A topic. A subscription counts as soon as it is requested: the owner of the endpoint confirms it."""

    name = "sns_topic"
    service = "sns"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, check=_name_fault, purpose="Name, unique in the region."),
            "display_name": Property(purpose="Sender name of emails and messages."),
            "kms_master_key_id": Property(purpose="ID, ARN or alias of the encryption key."),
            "policy": policy_property("Access policy of the topic. Only its account if omitted."),
            "subscriptions": Property(
                "set",
                computed=True,
                elements=Property(
                    "map",
                    fields={
                        "protocol": Property(
                            required=True, choices=_PROTOCOLS, purpose="Protocol of the subscription."
                        ),
                        "endpoint": Property(required=True, purpose="Email address, URL or ARN of the subscriber."),
                    },
                ),
                purpose="Subscriptions. Unmanaged if omitted.",
            ),
            "tags": TAGS,
        },
        {
            "id": Output("ARN."),
            "arn": Output("ARN."),
            "pending_subscriptions": Output("Number of unconfirmed subscriptions."),
        },
        unique_by=("name",),
    )
    actions = Actions(
        read=("sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:ListTagsForResource"),
        list=("sns:ListTopics",),
        create=("sns:CreateTopic", "sns:SetTopicAttributes", "sns:Subscribe", "sns:TagResource"),
        update=(
            "sns:SetTopicAttributes",
            "sns:Subscribe",
            "sns:TagResource",
            "sns:Unsubscribe",
            "sns:UntagResource",
        ),
        delete=("sns:DeleteTopic",),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        identity = self.session.identity()
        return f"arn:{identity.partition}:sns:{self.session.region}:{identity.account_id}:{desired['name']}"

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        wanted = {subject.address: subject.desired for subject in subjects}
        return {
            address: actuals
            if isinstance(actuals, Later)
            else [_as_described(actual, wanted[address]) for actual in actuals]
            for address, actuals in super().read_all(subjects).items()
        }

    def read(self, id_: str) -> Actual | None:
        attributes, tags, subscriptions = self.session.each(
            lambda ask: ask(id_), (self._attributes, self._tags, self._subscriptions)
        )
        return None if attributes is None else _actual(id_, attributes, tags or {}, subscriptions or [])

    def _attributes(self, arn: str) -> Any:
        answer = self.session.look("sns", "get_topic_attributes", _ABSENT, TopicArn=arn)
        return None if answer is None else answer["Attributes"]

    def _tags(self, arn: str) -> Any:
        answer = self.session.look("sns", "list_tags_for_resource", _ABSENT, ResourceArn=arn)
        return None if answer is None else tag_map(answer.get("Tags"))

    def _subscriptions(self, arn: str) -> Any:
        """Return the subscriptions of a topic, or None where the topic does not exist."""
        found: list[dict[str, str]] = []
        token: dict[str, str] = {}
        while True:
            page = self.session.look("sns", "list_subscriptions_by_topic", _ABSENT, TopicArn=arn, **token)
            if page is None:
                return None
            found += page.get("Subscriptions") or []
            if not page.get("NextToken"):
                return [item for item in found if item["SubscriptionArn"] != _GONE]
            token = {"NextToken": page["NextToken"]}

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        arns = [topic["TopicArn"] for topic in self.session.pages("sns", "list_topics", "Topics")]
        tags = dict(zip(arns, self.session.each(self._tags, arns), strict=True))
        owners = {arn: owner_of(found or {}) for arn, found in tags.items()}
        ours = [arn for arn, whose in owners.items() if whose and whose.shares_stack_with(owner)]
        return [actual for actual in self.session.each(self.read, ours) if actual is not None]

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        attributes = {name: text for name, text in _attributes(wanted).items() if text}
        # A repeated request with the same tags returns the existing topic.
        answer = self.session.call(
            "sns",
            "create_topic",
            retry_on=_PASSING,
            Name=wanted["name"],
            Attributes=attributes,
            Tags=tag_list(all_tags(request)),
        )
        arn = answer["TopicArn"]
        for subscription in wanted.get("subscriptions") or ():
            self._subscribe(arn, subscription)
        return Actual(arn, wanted, {"id": arn, "arn": arn}, request.owner)

    def _subscribe(self, arn: str, subscription: Mapping[str, str]) -> None:
        self.session.call(
            "sns", "subscribe", TopicArn=arn, Protocol=subscription["protocol"], Endpoint=subscription["endpoint"]
        )

    def update(self, request: Request) -> Actual:
        arn, wanted = request.existing.id, request.desired
        texts = _attributes(wanted)
        if request.changed("policy") and wanted["policy"] is None:
            texts["Policy"] = document(default_policy(arn))
        for name, attribute in _ATTRIBUTES.items():
            if request.changed(name):
                self.session.call(
                    "sns",
                    "set_topic_attributes",
                    retry_on=_PASSING,
                    TopicArn=arn,
                    AttributeName=attribute,
                    AttributeValue=texts[attribute],
                )
        if request.changed("subscriptions"):
            self._write_subscriptions(arn, wanted["subscriptions"] or [])
        changed, removed = tag_changes(request)
        if changed:
            self.session.call("sns", "tag_resource", ResourceArn=arn, Tags=tag_list(changed))
        if removed:
            self.session.call("sns", "untag_resource", ResourceArn=arn, TagKeys=removed)
        return request.existing

    def _write_subscriptions(self, arn: str, wanted: Sequence[Mapping[str, str]]) -> None:
        existing = {_key(_subscription(item)): item["SubscriptionArn"] for item in self._subscriptions(arn) or ()}
        keys = set(map(_key, wanted))
        for subscription in wanted:
            if _key(subscription) not in existing:
                self._subscribe(arn, subscription)
        for key, subscription_arn in existing.items():
            if key not in keys and subscription_arn != _PENDING:
                self.session.look("sns", "unsubscribe", _ABSENT, SubscriptionArn=subscription_arn)

    def delete(self, request: Request) -> None:
        self.session.look("sns", "delete_topic", _ABSENT, TopicArn=request.existing.id)


# Attributes of a topic, by property.
_ATTRIBUTES = {"display_name": "DisplayName", "kms_master_key_id": "KmsMasterKeyId", "policy": "Policy"}


def _attributes(wanted: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of a topic as texts; an empty one unsets."""
    policy = wanted["policy"]
    return {
        "DisplayName": wanted["display_name"] or "",
        "KmsMasterKeyId": wanted["kms_master_key_id"] or "",
        "Policy": "" if policy is None else document(policy),
    }


def _actual(
    arn: str, attributes: Mapping[str, str], tags: Mapping[str, str], subscriptions: Sequence[Mapping[str, str]]
) -> Actual:
    policy = attributes.get("Policy") or None
    properties = {
        "name": arn.rpartition(":")[2],
        "display_name": attributes.get("DisplayName") or None,
        "kms_master_key_id": attributes.get("KmsMasterKeyId") or None,
        "policy": None if policy is None or is_default_policy(policy, arn) else policy,
        "subscriptions": [_subscription(item) for item in subscriptions],
        "tags": property_tags(tags),
    }
    pending = [_subscription(item) for item in subscriptions if item["SubscriptionArn"] == _PENDING]
    outputs = {"id": arn, "arn": arn, "pending_subscriptions": pending}
    return Actual(arn, properties, outputs, owner_of(tags), READY)


def _subscription(item: Mapping[str, str]) -> dict[str, str]:
    return {"protocol": item["Protocol"], "endpoint": item["Endpoint"]}


def _key(subscription: Mapping[str, str]) -> tuple[str, str]:
    return subscription["protocol"], subscription["endpoint"]


def _as_described(actual: Actual, desired: Mapping[str, Any]) -> Actual:
    """Remove unwanted subscriptions that are unconfirmed: they cannot be deleted, and SNS removes them later."""
    wanted = desired.get("subscriptions")
    keys = {_key(item) for item in wanted if isinstance(item, Mapping)} if isinstance(wanted, list) else set()
    dropped = {_key(item) for item in actual.outputs["pending_subscriptions"]} - keys
    kept = [item for item in actual.properties["subscriptions"] if _key(item) not in dropped]
    return replace(actual, properties={**actual.properties, "subscriptions": kept})


def default_policy(arn: str) -> dict[str, Any]:
    """Return the default policy of a topic, which allows its account all actions."""
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": list(_DEFAULT_ACTIONS),
        "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": arn.split(":")[4]}},
    }
    return {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}


def is_default_policy(policy: str, arn: str) -> bool:
    """Return whether a policy is SNS's default policy of a topic; its list of actions has changed over time."""
    try:
        statements = json.loads(policy).get("Statement")
    except (ValueError, AttributeError):
        return False
    if not isinstance(statements, list) or len(statements) != 1:
        return False
    default, found = default_policy(arn)["Statement"][0], statements[0]
    actions = found.get("Action")
    if not isinstance(actions, list) or not {*actions} <= {*_DEFAULT_ACTIONS, "SNS:Receive"}:
        return False
    return {**found, "Action": None} == {**default, "Action": None}
