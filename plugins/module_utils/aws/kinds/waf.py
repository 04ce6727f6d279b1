# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAF: web access control lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject, activity
from ...engine.schema import Output, Property, Schema
from ...engine.value import canonical, is_known
from ..errors import CallError
from ..kind import TAGS, Actions, AwsKind, all_tags, given, owner_of, property_tags, tag_changes, tag_list, tag_map
from ..naming import web_acl_name_fault
from ..session import Session
from ..waiters import backoff_s

_ABSENT = ("WAFNonexistentItemException",)
_MOVED = ("WAFOptimisticLockException",)
# Errors while a referenced or formerly associated resource settles.
_SETTLING = ("WAFUnavailableEntityException", "WAFAssociatedItemException")
_ATTEMPTS = 8
_SCOPES = {"REGIONAL": "regional", "CLOUDFRONT": "global"}
# CloudFront lists exist in this region and partition only.
_CLOUDFRONT_REGION, _CLOUDFRONT_PARTITION = "us-east-1", "aws"
# An update sets all of these: values outside of the description are written back as they were read.
_KEPT = (
    "ApplicationConfig",
    "AssociationConfig",
    "CaptchaConfig",
    "ChallengeConfig",
    "CustomResponseBodies",
    "DataProtectionConfig",
    "MonetizationConfig",
    "OnSourceDDoSProtectionConfig",
    "TokenDomains",
)
# Defaults that WAF adds to rules. Source: the API reference of WAFv2.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "body": {"oversize_handling": "CONTINUE"},
    "json_body": {"oversize_handling": "CONTINUE"},
    "rate_based_statement": {"evaluation_window_sec": 300},
}


def as_stored(value: Any, name: str = "") -> Any:
    """Return rules or an action in one spelling: keys in snake_case, with defaults, and sorted lists.

    The order of lists in rules has no meaning: ordered items have a priority.
    """
    from botocore import xform_name

    if isinstance(value, Mapping):
        named = {xform_name(str(key)): part for key, part in value.items() if part is not None}
        return {key: as_stored(part, key) for key, part in {**_DEFAULTS.get(name, {}), **named}.items()}
    if isinstance(value, list | tuple):
        return sorted((as_stored(part) for part in value), key=canonical)
    return value


def to_api(shape: Any, value: Any) -> Any:
    """Return a value in snake_case with the keys of a botocore shape. Unknown keys stay the same."""
    from botocore import xform_name

    if isinstance(value, Mapping) and shape.type_name == "structure":
        members = {xform_name(member): (member, inner) for member, inner in shape.members.items()}
        found = {key: members.get(xform_name(str(key))) for key in value}
        return {(at[0] if at else key): to_api(at[1], value[key]) if at else value[key] for key, at in found.items()}
    if isinstance(value, list | tuple) and shape.type_name == "list":
        return [to_api(shape.member, part) for part in value]
    return value


def from_api(value: Any) -> Any:
    """Return an answer of WAF as JSON types with keys in snake_case."""
    from botocore import xform_name

    if isinstance(value, Mapping):
        return {xform_name(str(key)): from_api(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [from_api(part) for part in value]
    # Search texts are transferred as bytes. Bytes outside of UTF-8 cannot be described, so they are a difference.
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _action_fault(value: Any) -> str | None:
    stored = as_stored(value)
    fits = isinstance(stored, Mapping) and len(stored) == 1 and set(stored) <= {"allow", "block"}
    return None if fits else "is neither {allow: {}} nor {block: {}}"


def _rules_fault(value: Any) -> str | None:
    rules = as_stored(value)
    if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
        return "is not a list of rules"
    for key in ("name", "priority"):
        found = [rule.get(key) for rule in rules]
        twice = sorted({str(word) for word in found if found.count(word) > 1})
        if None in found or twice:
            return f"every rule needs a {key} of its own" + (f"; shared: {', '.join(twice)}" if twice else "")
    return None


class WebAcl(AwsKind):
    """A list of rules for requests to a load balancer, an API or a CloudFront distribution."""

    name = "web_acl"
    service = "wafv2"
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=web_acl_name_fault, purpose="Name, unique in the scope."
            ),
            "scope": Property(
                default="REGIONAL",
                choices=tuple(_SCOPES),
                replace=True,
                purpose="Scope: resources in the region, or CloudFront.",
            ),
            "default_action": Property(
                "json",
                default={"allow": {}},
                check=_action_fault,
                canonical=as_stored,
                purpose="Action for requests that match no rule: `{allow: {}}` or `{block: {}}`.",
            ),
            "description": Property(purpose="Description."),
            "rules": Property(
                "json",
                default=[],
                when_unset=[],
                check=_rules_fault,
                canonical=as_stored,
                purpose="Rules in the format of the WAF API, with keys in snake_case.",
            ),
            "visibility_config": Property(
                "map",
                default={},
                fields={
                    "sampled_requests_enabled": Property(
                        "boolean", default=True, purpose="Whether to store sampled requests."
                    ),
                    "cloud_watch_metrics_enabled": Property(
                        "boolean", default=True, purpose="Whether to publish metrics to CloudWatch."
                    ),
                    "metric_name": Property(computed=True, purpose="Name of the metric. The list's name if omitted."),
                },
                purpose="Metrics and samples.",
            ),
            "tags": TAGS,
        },
        {"id": Output("ARN."), "arn": Output("ARN.")},
        # Lists of CloudFront.
        spans_regions=True,
        unique_by=("name", "scope"),
    )
    actions = Actions(
        read=("wafv2:GetWebACL", "wafv2:ListTagsForResource", "wafv2:ListWebACLs"),
        create=("wafv2:CreateWebACL", "wafv2:TagResource"),
        update=("wafv2:TagResource", "wafv2:UntagResource", "wafv2:UpdateWebACL"),
        delete=("wafv2:DeleteWebACL",),
    )

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        known = {s.address: s for s in subjects if is_known([s.desired["name"], s.desired["scope"]])}
        scopes = sorted({subject.desired["scope"] for subject in known.values()})
        arns = dict(zip(scopes, self.session.each(self._arns, scopes), strict=True))

        def found(subject: Subject) -> Sequence[Actual] | Later:
            if subject.address not in known:
                return LATER
            arn = arns[subject.desired["scope"]].get(subject.desired["name"])
            actual = self.read(arn) if arn else None
            return [self.managed_tags(actual, subject.desired)] if actual else []

        answers = self.session.each(found, subjects)
        return {subject.address: answer for subject, answer in zip(subjects, answers, strict=True)}

    def probe(self, subject: Subject) -> Actual | None:
        arn = self._arns(subject.desired["scope"]).get(subject.desired["name"])
        return self.read(arn) if arn else None

    def _in_scope(self, scope: str) -> Session:
        return self.session.in_region(_CLOUDFRONT_REGION) if scope == "CLOUDFRONT" else self.session

    def _arns(self, scope: str) -> dict[str, str]:
        """Return the ARNs of a scope's lists by their names. This call has no paginator."""
        session, found = self._in_scope(scope), {}
        marker: dict[str, str] = {}
        while True:
            answer = session.call("wafv2", "list_web_acls", Scope=scope, Limit=100, **marker)
            found.update({item["Name"]: item["ARN"] for item in answer["WebACLs"]})
            if not answer.get("NextMarker") or not answer["WebACLs"]:
                return found
            marker = {"NextMarker": answer["NextMarker"]}

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        scopes = [
            scope
            for scope in _SCOPES
            if scope != "CLOUDFRONT" or self.session.identity().partition == _CLOUDFRONT_PARTITION
        ]
        arns = [arn for found in self.session.each(self._arns, scopes) for arn in found.values()]
        actuals = [actual for actual in self.session.each(self.read, arns) if actual is not None]
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def read(self, id_: str) -> Actual | None:
        scope = _which(id_)["Scope"]
        session = self._in_scope(scope)
        answer = session.look("wafv2", "get_web_acl", _ABSENT, **_which(id_))
        tagged = session.look("wafv2", "list_tags_for_resource", _ABSENT, ResourceARN=id_)
        if answer is None or tagged is None:
            return None
        acl, tags = answer["WebACL"], tag_map(tagged["TagInfoForResource"].get("TagList"))
        properties = {
            "name": acl["Name"],
            "scope": scope,
            "default_action": from_api(acl["DefaultAction"]),
            "description": acl.get("Description") or None,
            "rules": from_api(acl.get("Rules") or []),
            "visibility_config": from_api(acl["VisibilityConfig"]),
            "tags": property_tags(tags),
        }
        return Actual(id_, properties, {"id": id_, "arn": id_}, owner_of(tags), READY)

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        session = self._in_scope(wanted["scope"])
        answer = session.call_once(
            "wafv2",
            "create_web_acl",
            lambda: self._made(request),
            retry_on=_SETTLING,
            Name=wanted["name"],
            Scope=wanted["scope"],
            Tags=tag_list(all_tags(request)),
            **self._content(session, wanted),
        )
        arn = answer["Summary"]["ARN"]
        return Actual(arn, wanted, {"id": arn, "arn": arn}, request.owner, "being created")

    def _made(self, request: Request) -> dict[str, Any] | None:
        arn = self._arns(request.desired["scope"]).get(request.desired["name"])
        actual = self.read(arn) if arn else None
        return {"Summary": {"ARN": arn}} if actual and actual.owner == request.owner else None

    def _content(self, session: Session, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of both creation and update."""
        members = session.client("wafv2").meta.service_model.operation_model("CreateWebACL").input_shape.members
        content = {
            "DefaultAction": wanted["default_action"],
            "Description": wanted["description"],
            "Rules": wanted["rules"],
            "VisibilityConfig": {"metric_name": wanted["name"], **(wanted["visibility_config"] or {})},
        }
        return {name: to_api(members[name], value) for name, value in content.items() if value is not None}

    def update(self, request: Request) -> Actual:
        arn, wanted = request.existing.id, request.desired
        session = self._in_scope(_which(arn)["Scope"])
        if any(request.changed(name) for name in ("default_action", "description", "rules", "visibility_config")):
            content = self._content(session, wanted)

            def write(acl: Mapping[str, Any], lock: str) -> None:
                kept = given({name: acl.get(name) for name in _KEPT})
                parameters = {**kept, **content, **_which(arn), "LockToken": lock}
                session.call("wafv2", "update_web_acl", retry_on=_SETTLING, **parameters)

            self._locked(session, arn, write)
        changed, removed = tag_changes(request)
        if changed:
            session.call("wafv2", "tag_resource", ResourceARN=arn, Tags=tag_list(changed))
        if removed:
            session.call("wafv2", "untag_resource", ResourceARN=arn, TagKeys=removed)
        return request.existing

    def delete(self, request: Request) -> None:
        arn = request.existing.id
        session = self._in_scope(_which(arn)["Scope"])

        def remove(_acl: Mapping[str, Any], lock: str) -> None:
            session.look("wafv2", "delete_web_acl", _ABSENT, retry_on=_SETTLING, **_which(arn), LockToken=lock)

        self._locked(session, arn, remove)

    def _locked(self, session: Session, arn: str, change: Callable[[Mapping[str, Any], str], None]) -> None:
        """Make a change with the lock token of the last read; retry where another change was faster."""
        for attempt in range(_ATTEMPTS):
            answer = session.look("wafv2", "get_web_acl", _ABSENT, **_which(arn))
            if answer is None:
                return
            try:
                change(answer["WebACL"], answer["LockToken"])
            except CallError as error:
                if not error.is_one_of(_MOVED) or attempt + 1 == _ATTEMPTS or activity().sleep(backoff_s(attempt)):
                    raise
            else:
                return


def _which(arn: str) -> dict[str, str]:
    """Return the parameters that identify a list, from its ARN `...:regional/webacl/NAME/ID`."""
    folder, _noun, name, id_ = arn.split(":", 5)[5].split("/")
    scopes = {word: scope for scope, word in _SCOPES.items()}
    return {"Name": name, "Scope": scopes[folder], "Id": id_}
