# SPDX-License-Identifier: GPL-3.0-or-later
"""Web access control lists of WAF on emulators, and in a scripted service where theirs is too simple."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call, Scripted

ADDRESS = "web_acl.ingress"
NAME = "crypto-lakehouse-development"


def visible(name: str) -> dict[str, Any]:
    return {"sampled_requests_enabled": True, "cloud_watch_metrics_enabled": True, "metric_name": name}


def managed(name: str, priority: int) -> dict[str, Any]:
    return {
        "name": name,
        "priority": priority,
        "override_action": {"none": {}},
        "statement": {"managed_rule_group_statement": {"vendor_name": "AWS", "name": f"AWSManagedRules{name}"}},
        "visibility_config": visible(name),
    }


def rate(limit: int, priority: int = 10) -> dict[str, Any]:
    return {
        "name": "RateLimit",
        "priority": priority,
        "action": {"block": {}},
        "statement": {"rate_based_statement": {"limit": limit, "aggregate_key_type": "IP"}},
        "visibility_config": visible("RateLimit"),
    }


def search(words: str) -> dict[str, Any]:
    matched = {
        "search_string": words,
        "field_to_match": {"uri_path": {}},
        "text_transformations": [{"priority": 0, "type": "NONE"}],
        "positional_constraint": "CONTAINS",
    }
    return {
        "name": "Search",
        "priority": 20,
        "action": {"count": {}},
        "statement": {"byte_match_statement": matched},
        "visibility_config": visible("Search"),
    }


ACL: dict[str, Any] = {"name": NAME, "rules": [managed("CommonRuleSet", 1), rate(2000)]}


def edit_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    lab.client("wafv2").tag_resource(ResourceARN=id_, Tags=pairs)
    lab.client("wafv2").untag_resource(ResourceARN=id_, TagKeys=removed)


def read(lab: Lab) -> dict[str, Any]:
    client = lab.client("wafv2")
    (summary,) = client.list_web_acls(Scope="REGIONAL")["WebACLs"]
    answer: dict[str, Any] = client.get_web_acl(Name=summary["Name"], Scope="REGIONAL", Id=summary["Id"])
    return answer


def vanish(lab: Lab, _id: str) -> None:
    answer = read(lab)
    names = {"Name": answer["WebACL"]["Name"], "Scope": "REGIONAL", "Id": answer["WebACL"]["Id"]}
    lab.client("wafv2").delete_web_acl(**names, LockToken=answer["LockToken"])


def test_life(lab: Lab) -> None:
    lab.assert_matrix(
        ADDRESS,
        ACL,
        changes={
            "default_action": {"block": {}},
            "rules": [managed("CommonRuleSet", 1), rate(1000), search("admin")],
            "visibility_config": {"sampled_requests_enabled": False, "metric_name": "ingress"},
        },
        vanish=vanish,
        edit_tags=edit_tags,
    )


def test_rules_may_be_in_another_order_and_in_the_spelling_of_the_console(lab: Lab) -> None:
    lab.apply({ADDRESS: ACL})
    spelled = {
        "Name": "RateLimit",
        "Priority": 10,
        "Action": {"Block": {}},
        "Statement": {"RateBasedStatement": {"Limit": 2000, "AggregateKeyType": "IP", "EvaluationWindowSec": 300}},
        "VisibilityConfig": {
            "SampledRequestsEnabled": True,
            "CloudWatchMetricsEnabled": True,
            "MetricName": "RateLimit",
        },
    }
    lab.assert_unchanged({ADDRESS: {**ACL, "rules": [spelled, managed("CommonRuleSet", 1)]}})


def test_a_rule_that_was_changed_by_hand_is_found_and_put_right(lab: Lab) -> None:
    lab.apply({ADDRESS: ACL})
    answer = read(lab)
    acl = answer["WebACL"]
    rules = copy.deepcopy(acl["Rules"])
    rules[-1]["Statement"]["RateBasedStatement"]["Limit"] = 100_000
    names = {"Name": acl["Name"], "Scope": "REGIONAL", "Id": acl["Id"], "LockToken": answer["LockToken"]}
    content = {"DefaultAction": acl["DefaultAction"], "VisibilityConfig": acl["VisibilityConfig"]}
    lab.client("wafv2").update_web_acl(**names, **content, Rules=rules)
    assert [change.path for change in lab.plan({ADDRESS: ACL}).node(ADDRESS).changes] == ["rules"]
    lab.apply({ADDRESS: ACL})
    lab.assert_unchanged({ADDRESS: ACL})


class Moved(Behaviour):
    """Another client changes the list first, several times."""

    def __init__(self, operation: str, times: int) -> None:
        self.operation, self.left = operation, times

    def before(self, call: Call) -> Answer | None:
        if call.operation != self.operation or not self.left:
            return None
        self.left -= 1
        return Answer.error("WAFOptimisticLockException")


def test_a_lock_token_that_is_stale_is_fetched_again(lab: Lab) -> None:
    lab.apply({ADDRESS: ACL})
    lab.wire.behaviour = Moved("UpdateWebACL", 3)
    lab.apply({ADDRESS: {**ACL, "rules": [rate(1000)]}})
    lab.wire.behaviour = Moved("DeleteWebACL", 3)
    lab.destroy({ADDRESS: ACL})


def test_a_lock_token_that_is_always_stale_is_an_error(lab: Lab) -> None:
    lab.apply({ADDRESS: ACL})
    lab.wire.behaviour = Moved("UpdateWebACL", 1000)
    ran = lab.run({ADDRESS: {**ACL, "rules": []}})
    assert "WAFOptimisticLockException" in ran.report.result(ADDRESS).message


def test_a_lost_answer_makes_no_second_one(lab: Lab) -> None:
    class Losing(Behaviour):
        lost = False

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            if call.operation != "CreateWebACL" or self.lost:
                return None
            self.lost = True
            return Answer.error("WAFInternalErrorException", status=500)

    lab.wire.behaviour = Losing()
    lab.apply({ADDRESS: ACL})
    lab.assert_unchanged({ADDRESS: ACL})
    assert lab.wire.names().count("wafv2:CreateWebACL") == 1


def test_a_list_for_cloudfront_is_in_its_own_region(lab: Lab) -> None:
    described = {ADDRESS: {**ACL, "scope": "CLOUDFRONT"}}
    session, regions = lab.session(), set[str]()

    def note(region_name: str, **_event: Any) -> None:
        regions.add(region_name)

    session._botocore.get_component("event_emitter").register("before-sign.wafv2", note)
    stack = lab.stack(described, session=session)
    stack.apply(stack.propose())
    assert regions == {"us-east-1"}
    assert len(lab.emulator.client("wafv2", "us-east-1").list_web_acls(Scope="CLOUDFRONT")["WebACLs"]) == 1
    lab.assert_unchanged(described)
    assert lab.plan({}, prune=True).changed
    lab.destroy(described)
    assert not lab.emulator.client("wafv2", "us-east-1").list_web_acls(Scope="CLOUDFRONT")["WebACLs"]


class Service:
    """WAF with features that the emulators simplify: pages, scopes, a lock token for each state, and all attributes."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.acls: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, dict[str, str]] = {}

    @property
    def script(self) -> dict[str, Any]:
        return {
            "wafv2:ListWebACLs": self.listed,
            "wafv2:GetWebACL": self.shown,
            "wafv2:CreateWebACL": self.created,
            "wafv2:UpdateWebACL": self.updated,
            "wafv2:DeleteWebACL": self.deleted,
            "wafv2:ListTagsForResource": self.tagged,
        }

    def listed(self, **given: Any) -> dict[str, Any]:
        after = given.get("NextMarker", "")
        names = sorted(name for name, acl in self.acls.items() if acl["scope"] == given["Scope"] and name > after)
        page = [{"Name": name, "ARN": self.acls[name]["ARN"], "LockToken": "old"} for name in names[:1]]
        # As on the real service: the marker is returned even without a next page.
        return {"WebACLs": page, **({"NextMarker": page[-1]["Name"]} if page else {})}

    def shown(self, **given: Any) -> Any:
        acl = self.acls.get(given["Name"])
        if acl is None:
            return Answer.error("WAFNonexistentItemException")
        content = copy.deepcopy({key: value for key, value in acl.items() if key not in {"scope", "lock"}})
        for rule in content["Rules"]:
            if "RateBasedStatement" in rule["Statement"]:
                rule["Statement"]["RateBasedStatement"].setdefault("EvaluationWindowSec", 300)
        return {"WebACL": content, "LockToken": self._lock(acl)}

    def created(self, **given: Any) -> dict[str, Any]:
        name, scope, tags = given["Name"], given.pop("Scope"), given.pop("Tags")
        place, folder = ("us-east-1", "global") if scope == "CLOUDFRONT" else ("eu-central-1", "regional")
        id_ = f"id-of-{name}"
        arn = f"arn:aws:wafv2:{place}:{self.account_id}:{folder}/webacl/{name}/{id_}"
        self.acls[name] = {"Id": id_, "ARN": arn, "scope": scope, "lock": 0, **given}
        self.tags[arn] = {tag["Key"]: tag["Value"] for tag in tags}
        return {"Summary": {"Name": name, "Id": id_, "ARN": arn}}

    def updated(self, **given: Any) -> Any:
        acl = self.acls[given["Name"]]
        if given.pop("LockToken") != self._lock(acl):
            return Answer.error("WAFOptimisticLockException")
        kept = {key: acl[key] for key in ("Id", "ARN", "scope")}
        del given["Scope"]
        # Fields that an update omits are removed.
        self.acls[given["Name"]] = {**given, **kept, "lock": acl["lock"] + 1}
        return {"NextLockToken": self._lock(self.acls[given["Name"]])}

    def deleted(self, **given: Any) -> Any:
        del self.acls[given["Name"]]
        return {}

    def tagged(self, **given: Any) -> dict[str, Any]:
        arn = given["ResourceARN"]
        pairs = [{"Key": key, "Value": value} for key, value in self.tags[arn].items()]
        return {"TagInfoForResource": {"ResourceARN": arn, "TagList": pairs}}

    @staticmethod
    def _lock(acl: dict[str, Any]) -> str:
        return f"lock-{acl['lock']:032}"


@pytest.fixture
def service(lab: Lab) -> Service:
    made = Service(lab.emulator.account_id)
    lab.wire.behaviour = Scripted(made.script, passing=True)
    return made


@pytest.mark.emulators("moto")  # The test provides WAF.
def test_what_waf_fills_in_is_no_difference_and_every_page_is_read(lab: Lab, service: Service) -> None:
    described = {f"web_acl.{name}": {"name": name, "rules": [rate(2000)]} for name in ("a", "b", "c")}
    lab.apply(described)
    lab.assert_unchanged(described)
    lab.destroy(described)
    assert not service.acls


@pytest.mark.emulators("moto")  # The test provides WAF: moto keeps old rules, ministack old descriptions.
def test_description_and_rules_come_and_go(lab: Lab, service: Service) -> None:
    steps: list[dict[str, Any]] = [{"description": "Firewall"}, {"description": "Of the ingress"}, {"rules": []}, {}]
    for properties in steps:
        described = {ADDRESS: {**ACL, **properties}}
        lab.apply(described)
        lab.assert_unchanged(described)
    assert "Description" not in service.acls[NAME]


@pytest.mark.emulators("moto")  # The test provides WAF.
def test_an_update_keeps_what_the_description_does_not_speak_of(lab: Lab, service: Service) -> None:
    lab.apply({ADDRESS: ACL})
    body = {"busy": {"ContentType": "TEXT_PLAIN", "Content": "come back later"}}
    service.acls[NAME] |= {"CustomResponseBodies": body, "TokenDomains": ["example.com"], "lock": 7}
    changed = {ADDRESS: {**ACL, "rules": [rate(1000)]}}
    lab.apply(changed)
    assert service.acls[NAME]["CustomResponseBodies"] == body
    assert service.acls[NAME]["TokenDomains"] == ["example.com"]
    lab.assert_unchanged(changed)


@pytest.mark.emulators("moto")  # The test provides WAF.
def test_a_list_that_protects_something_is_waited_for(lab: Lab, service: Service) -> None:
    lab.apply({ADDRESS: ACL})
    script = service.script
    refusals = [Answer.error("WAFAssociatedItemException")] * 3

    def deleted(**parameters: Any) -> Any:
        return refusals.pop() if refusals else service.deleted(**parameters)

    lab.wire.behaviour = Scripted({**script, "wafv2:DeleteWebACL": deleted}, passing=True)
    lab.destroy({ADDRESS: ACL})
    assert not refusals
    assert not service.acls


def test_a_refused_call_names_the_action(lab: Lab) -> None:
    class Denying(Behaviour):
        def before(self, call: Call) -> Answer | None:
            return Answer.error("AccessDeniedException") if call.operation == "CreateWebACL" else None

    lab.wire.behaviour = Denying()
    assert "allow wafv2:CreateWebACL" in lab.run({ADDRESS: ACL}).report.result(ADDRESS).message
