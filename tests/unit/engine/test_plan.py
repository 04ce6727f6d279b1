# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions and plans: rejections, decisions, and the validity of a saved plan."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    OtherPlanError,
    PlanFormatError,
    ReadError,
    RefusedError,
    StalePlanError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import execute
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Node, Plan, check_fresh
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import (
    Options,
    Proposal,
    propose,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    DELETING,
    LATER,
    READY,
    RETIRED,
    Actual,
    Later,
    Owner,
    Resource,
    Stack,
    Subject,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property, Schema
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import Unknown, is_known
from tests.unit.engine.cloud import EXAMPLES, OUTPUTS, SCHEMA, STACK, Cloud, Memory, kinds, resource

UNKNOWN = Unknown()


def proposed(cloud: Cloud, *resources: Resource, stack: Stack = STACK, **options: Any) -> Proposal:
    return propose(stack, kinds(cloud), resources, {"word": stack.secret("hush")}, Options(**options))


def plan(cloud: Cloud, *resources: Resource, **options: Any) -> Plan:
    return proposed(cloud, *resources, **options).plan


def applied(*resources: Resource, cloud: Cloud | None = None, **options: Any) -> Cloud:
    cloud = cloud or Cloud()
    assert execute(proposed(cloud, *resources, **options)).complete
    return cloud


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ([Resource("fre", "a")], "fre.a: there is no kind 'fre'; did you mean 'free'?"),
        ([Resource("free", "a b")], "the name is not valid; use letters, digits, - and _"),
        ([Resource("free", "a"), Resource("free", "a")], "free.a: is described twice"),
        ([resource("free.a", lable="x")], "free.a: lable: there is no such property; did you mean 'label'?"),
        ([resource("free.a", size="many")], "free.a: size: 'many' is not a whole number"),
        ([resource("free.a", links=["${free.b.id}"])], "free.a: links[0]: ${free.b.id}: there is no resource 'free.b'"),
        ([resource("free.a"), resource("free.b", label="${free.a.idd}")], "free.a has no 'idd'; did you mean 'id'?"),
        ([resource("free.a", label="${stack.region}")], "stack has no 'region'"),
        ([resource("free.a", password="${secret.wrd}")], "secret has no 'wrd'; did you mean 'word'?"),
        ([resource("free.a", label="${secret.word}")], "free.a: label: would show a secret"),
        ([resource("free.a", label="${fixed.b.key}"), resource("fixed.b")], "free.a: label: would show a secret"),
        ([resource("free.a", label="${stack.zones.7}")], "free.a: label: ${stack.zones.7}: there is no item '7'"),
        ([resource("free.a", label="${stack.zones}")], "free.a: label: ['a', 'b'] is not a string"),
        ([resource("free.a", settings={"x": "${"})], "free.a: settings.x: '${' is never closed"),
        ([resource("free.a", label="${free.a.id}")], "free.a: label: needs itself: free.a (label) -> free.a"),
        ([Resource("free", "a", depends_on=("free.b",))], "free.a: depends_on: there is no resource 'free.b'"),
        ([resource("free.a", label="${fixed.b.peers}"), resource("fixed.b")], "fixed.b has no 'peers'"),
    ],
)
def test_a_wrong_description_is_refused_before_any_call(resources: Sequence[Resource], message: str) -> None:
    cloud = Cloud()
    with pytest.raises(DescriptionError) as caught:
        plan(cloud, *resources)
    assert message in str(caught.value)
    assert "hush" not in str(caught.value)
    assert cloud.calls == []


def test_every_fault_of_a_description_is_named_at_once() -> None:
    with pytest.raises(DescriptionError) as caught:
        plan(Cloud(), resource("free.a", lable="x", size="many"), resource("fixed.b", zome="y"))
    assert [(fault.address, fault.path) for fault in caught.value.faults] == [
        ("fixed.b", "zome"),
        ("free.a", "lable"),
        ("free.a", "size"),
    ]


def test_a_cycle_is_shown_as_a_path() -> None:
    ring = [
        resource("free.a", label="${fixed.b.id}"),
        resource("fixed.b", links=["x", "${free.c.id}"]),
        resource("free.c", settings={"k": "${free.a.id}"}),
    ]
    with pytest.raises(DescriptionError) as caught:
        plan(Cloud(), *ring)
    shown = str(caught.value).partition("needs itself: ")[2]
    assert "fixed.b (links[1]) -> free.c (settings.k) -> free.a" in f"{shown} -> {shown}"


def test_a_rule_over_several_properties_is_checked_before_any_call_and_against_what_exists() -> None:
    def check(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
        if desired["label"] == "bad":
            return [("label", "is bad", "use another")]
        return [("label", "skips one", "")] if actual and (actual["label"], desired["label"]) == ("1", "3") else []

    cloud = Cloud()
    kind = Memory(cloud, schema=Schema(SCHEMA, OUTPUTS, check=check))
    with pytest.raises(DescriptionError, match=r"free\.a: label: is bad; use another"):
        propose(STACK, [kind], [resource("free.a", label="bad")])
    assert cloud.calls == []
    execute(propose(STACK, [kind], [resource("free.a", label="1")]))
    with pytest.raises(DescriptionError, match="skips one"):
        propose(STACK, [kind], [resource("free.a", label="3")])


def test_what_cannot_be_read_is_named_for_every_kind() -> None:
    cloud = Cloud(broken={"describe free", "describe fixed"})
    with pytest.raises(ReadError) as caught:
        plan(cloud, resource("free.a"), resource("fixed.b"))
    assert [fault.address for fault in caught.value.faults] == ["fixed", "free"]
    assert set(caught.value.errors) == {"fixed", "free"}


def test_a_kind_that_the_place_does_not_have_is_told_and_keeps_nothing_else_from_being_looked_for() -> None:
    cloud = applied(resource("free.a"), resource("free.b"))
    cloud.broken.add("list fixed")

    def missing(kind: str, error: BaseException) -> bool:
        return kind == "fixed" and str(error) == "list fixed is broken"

    proposal = propose(STACK, kinds(cloud), [resource("free.a")], options=Options(prune=True), tolerated_errors=missing)
    assert {node.address: node.action for node in proposal.plan.nodes} == {"free.a": "none", "free.b": "delete"}
    assert proposal.missing == {"fixed": "list fixed is broken"}
    with pytest.raises(ReadError, match="fixed: cannot be read: list fixed is broken"):
        propose(STACK, kinds(cloud), [resource("free.a")], options=Options(prune=True))
    with pytest.raises(ReadError, match="fixed: cannot be read: list fixed is broken"):
        propose(STACK, kinds(cloud), [resource("fixed.a")], options=Options(prune=True), tolerated_errors=missing)


def test_each_kind_is_read_once_however_many_are_described() -> None:
    cloud = Cloud()
    proposal = proposed(cloud, *(resource(f"free.n{number}") for number in range(50)), resource("fixed.a"))
    assert sorted(cloud.calls) == ["describe fixed", "describe free"]
    assert proposal.reads == {"fixed": 1, "free": 1}


class Hidden(Memory):
    """A kind that can only be found below its base."""

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        ready = [subject for subject in subjects if is_known(subject.desired["base"])]
        answers = dict(super().read_all(ready)) if ready else {}
        return {**answers, **{subject.address: LATER for subject in subjects if subject not in ready}}


def test_what_can_only_be_found_below_another_is_asked_for_again_when_that_is_known() -> None:
    cloud = Cloud()
    chain = [resource("free.a"), *(resource(f"fixed.n{n}", base=["${free.a.id}"]) for n in range(3))]
    chain.append(resource("fixed.last", base=["${fixed.n1.id}"]))
    known = [Memory(cloud), Hidden(cloud, "fixed")]
    assert {node.action for node in propose(STACK, known, chain).plan.nodes} == {"create"}
    assert execute(propose(STACK, known, chain)).complete
    cloud.calls.clear()
    assert not propose(STACK, known, chain).plan.changed
    assert cloud.calls == ["describe free", "describe fixed", "describe fixed"]


def test_a_plan_on_nothing_is_complete_and_says_what_is_not_known_yet() -> None:
    made = plan(
        Cloud(),
        resource("free.a", peers=["${fixed.b.id}"], password="${secret.word}"),
        resource(
            "fixed.b", label="in ${free.a.id} of ${stack.account_id}", links="${free.a.links}", base=["${free.a.id}"]
        ),
    )
    assert [(node.address, node.action) for node in made.nodes] == [("free.a", "create"), ("fixed.b", "create")]
    changes = {change.path: change.after for change in made.node("fixed.b").changes}
    assert changes["label"] == Unknown("in (known after apply) of 111122223333")
    assert changes["base"] == [UNKNOWN]
    assert made.node("fixed.b").needs == ("free.a",)
    assert "hush" not in made.to_json()


def test_an_attribute_that_is_described_is_known_before_its_resource_exists() -> None:
    made = plan(Cloud(), resource("free.a"), resource("free.b", label="${free.a.name}-${free.a.label}"))
    assert ("label", "a-plain") in [(change.path, change.after) for change in made.node("free.b").changes]


def test_an_output_that_an_update_changes_is_unknown_until_then() -> None:
    pair = [resource("free.a", label="1"), resource("free.b", label="${free.a.version}")]
    cloud = applied(*pair)
    assert not plan(cloud, *pair).changed
    later = plan(cloud, resource("free.a", label="2"), pair[1])
    assert [(c.path, c.after) for c in later.node("free.b").changes] == [("label", UNKNOWN)]
    other = plan(cloud, resource("free.a", label="1", settings={"k": "v"}), pair[1])
    assert other.node("free.b").action == "none"


@pytest.mark.parametrize(
    ("before", "after", "action", "forced", "create_first"),
    [
        ("free.a", {"label": "new"}, "update", (), False),
        ("free.a", {"shape": "new"}, "replace", ("shape",), True),
        ("fixed.a", {"shape": "new"}, "replace", ("shape",), False),
        ("free.a", {"size": 9}, "none", (), False),
        ("free.a", {}, "none", (), False),
    ],
)
def test_each_change_has_its_action(
    before: str, after: dict[str, Any], action: str, forced: tuple[str, ...], create_first: bool
) -> None:
    node = plan(applied(resource(before, size=1)), resource(before, **after)).node(before)
    assert (node.action, node.forced_by, node.create_first) == (action, forced, create_first)


def test_what_is_unique_by_a_property_comes_before_the_old_goes_when_that_property_changes() -> None:
    cloud = Cloud()
    properties = {**SCHEMA, "name": dataclasses.replace(SCHEMA["name"], replace=True)}
    kind = Memory(cloud, "fixed", schema=Schema(properties, OUTPUTS, unique_by=("name",)))
    execute(propose(STACK, [kind], [Resource("fixed", "a", {"name": "one"})]))
    renamed = propose(STACK, [kind], [Resource("fixed", "a", {"name": "two"})])
    assert renamed.plan.node("fixed.a").create_first
    assert execute(renamed).complete
    assert (
        not propose(STACK, [kind], [Resource("fixed", "a", {"name": "two", "shape": "y"})]).plan.nodes[0].create_first
    )


def test_what_hangs_on_something_deleted_first_is_deleted_first_too() -> None:
    cloud = applied(resource("fixed.a"), resource("free.b", base=["${fixed.a.id}"]))
    made = plan(cloud, resource("fixed.a", shape="new"), resource("free.b", base=["${fixed.a.id}"]))
    assert [(node.action, node.create_first) for node in made.nodes] == [("replace", False), ("replace", False)]


def test_a_resource_deleted_behind_our_back_is_created_again() -> None:
    cloud = applied(resource("free.a"), resource("free.b", links=["${free.a.id}"]))
    cloud.things.pop("free-1")
    made = plan(cloud, resource("free.a"), resource("free.b", links=["${free.a.id}"]))
    assert [node.action for node in made.nodes] == ["create", "update"]


@pytest.mark.parametrize("path", ["label", "settings", "links", "password", "policy", "shape"])
def test_a_hand_edit_of_any_managed_property_is_found(path: str) -> None:
    cloud = applied(resource("free.a", password="${secret.word}"))
    cloud.things["free-1"].properties[path] = {"settings": {"k": "v"}, "links": ["x"], "policy": {"a": 1}}.get(
        path, "hand"
    )
    changes = plan(cloud, resource("free.a", password="${secret.word}")).node("free.a").changes
    assert [change.path for change in changes] == [path]


def test_tags_of_another_address_are_taken_over_and_of_another_described_one_refused() -> None:
    cloud = applied(resource("fixed.a"))
    moved = Resource("fixed", "b", {"name": "a"})
    assert (plan(cloud, moved, prune=True).counts["update"], plan(cloud, moved, prune=True).counts["delete"]) == (1, 0)
    with pytest.raises(RefusedError, match=r"fixed\.b: fixed-1 is already fixed\.a"):
        plan(cloud, resource("fixed.a"), moved)
    applied(moved, cloud=cloud, prune=True)
    assert [thing.owner for thing in cloud.things.values()] == [STACK.owner("fixed.b")]


def test_what_exists_without_tags_is_adopted_only_when_allowed() -> None:
    cloud = Cloud()
    cloud.create("fixed", None, {"name": "a", "label": "old"})
    with pytest.raises(RefusedError, match="does not carry this stack's tags; set `adopt: true`"):
        plan(cloud, resource("fixed.a"))
    with pytest.raises(RefusedError, match="adopt: true"):
        plan(cloud, dataclasses.replace(resource("fixed.a"), adopt=False), adopt=True)
    cloud.things["fixed-1"].status = READY
    node = plan(cloud, dataclasses.replace(resource("fixed.a"), adopt=True)).node("fixed.a")
    assert (node.action, [change.path for change in node.changes]) == ("adopt", ["label"])
    applied(resource("fixed.a"), cloud=cloud, adopt=True)
    assert cloud.things["fixed-1"].owner == STACK.owner("fixed.a")
    assert not plan(cloud, resource("fixed.a")).changed


def test_what_cannot_be_made_to_fit_is_not_adopted() -> None:
    cloud = Cloud()
    cloud.create("fixed", None, {"name": "a", "shape": "old"})
    with pytest.raises(RefusedError, match=r"fixed\.a: shape: cannot be adopted"):
        plan(cloud, resource("fixed.a", shape="new"), adopt=True)


def test_two_that_fit_are_not_adopted() -> None:
    cloud = Cloud()
    for _time in range(2):
        cloud.create("free", None, {"name": "a"})
    with pytest.raises(RefusedError, match="free-1, free-2 match"):
        plan(cloud, resource("free.a"), adopt=True)


@pytest.mark.parametrize("owner", [Owner("lake", "production", "fixed.a"), Owner("other", "development", "fixed.a")])
def test_what_belongs_to_somebody_else_is_refused_even_for_adoption(owner: Owner) -> None:
    cloud = Cloud()
    cloud.create("fixed", owner, {"name": "a"})
    with pytest.raises(RefusedError, match=f"belongs to stack '{owner.stack}' in '{owner.environment}'"):
        plan(cloud, resource("fixed.a"), adopt=True)


def test_two_environments_in_one_account_do_not_see_each_other() -> None:
    production = dataclasses.replace(STACK, environment="production")
    cloud = applied(resource("free.a"))
    cloud.things["free-1"].properties["name"] = "named otherwise"
    assert execute(proposed(cloud, resource("free.a"), stack=production, prune=True)).complete
    assert len(cloud.things) == 2
    applied(cloud=cloud, state="absent")
    assert [thing.owner for thing in cloud.things.values()] == [production.owner("free.a")]


def test_what_is_no_longer_described_is_deleted_only_when_pruning() -> None:
    cloud = applied(resource("free.a"), resource("fixed.b", base=["${free.a.id}"]))
    assert not plan(cloud, resource("free.a")).changed
    assert [node.address for node in plan(cloud, resource("free.a"), prune=True).nodes if node.action == "delete"] == [
        "fixed.b"
    ]


@pytest.mark.parametrize(
    ("after", "options", "verb"),
    [
        (
            [resource("free.a", shape="new")],
            {},
            r"replaced \(shape\); set `protect: false` on it, or add free.a to `unprotect`",
        ),
        ([], {"prune": True}, "deleted; add free.a to `unprotect`"),
        (
            [resource("free.a")],
            {"state": "absent"},
            "deleted; set `protect: false` on it, or add free.a",
        ),
    ],
)
def test_what_is_protected_is_neither_deleted_nor_replaced_unless_named(
    after: list[Resource], options: dict[str, Any], verb: str
) -> None:
    cloud = Cloud()
    kind = Memory(cloud, protected=True)
    execute(propose(STACK, [kind], [resource("free.a")]))
    with pytest.raises(RefusedError, match=f"free.a: is protected and would be {verb}"):
        propose(STACK, [kind], after, options=Options(**options))
    for name in ("free", "free.a"):
        assert propose(STACK, [kind], after, options=Options(**options, unprotect=frozenset({name}))).plan.changed
    opened = [dataclasses.replace(item, protect=False) for item in after]
    assert not opened or propose(STACK, [kind], opened, options=Options(**options)).plan.changed


@pytest.mark.parametrize(
    ("after", "options", "verb"),
    [
        ([resource("free.a", shape="new", locked="no")], {}, r"replaced \(shape\)"),
        ([], {"prune": True}, "deleted"),
        ([resource("free.a")], {"state": "absent"}, "deleted"),
    ],
)
def test_what_its_service_would_not_delete_is_refused_before_anything_is_changed(
    after: list[Resource], options: dict[str, Any], verb: str
) -> None:
    cloud = Cloud()
    locked = {**SCHEMA, "locked": Property("boolean", default=False)}
    kind = Memory(cloud, schema=Schema(locked, OUTPUTS, locked_by="locked", replacement="create_first"))
    execute(propose(STACK, [kind], [resource("free.a", locked=True)]))
    remedy = "set `locked: false` and deploy this change first"
    with pytest.raises(RefusedError, match=f"free.a.*: locked: is true, so it cannot be {verb}; {remedy}"):
        propose(STACK, [kind], after, options=Options(**options, unprotect=frozenset({"free"})))

    execute(propose(STACK, [kind], [resource("free.a", locked=False)]))
    assert propose(STACK, [kind], after, options=Options(**options)).plan.changed


def test_protect_guards_a_kind_that_is_not_protected_by_itself() -> None:
    cloud = applied(resource("free.a"))
    with pytest.raises(RefusedError, match="is protected"):
        plan(cloud, dataclasses.replace(resource("free.a"), protect=True), state="absent")


@pytest.mark.parametrize(
    ("status", "present", "absent"),
    [("creating", "update", "delete"), (DELETING, "create", "delete"), (RETIRED, "update", "none")],
)
def test_a_resource_on_its_way_is_waited_for_or_taken_back(status: str, present: str, absent: str) -> None:
    cloud = applied(resource("fixed.a"))
    cloud.things["fixed-1"].status = status
    assert plan(cloud, resource("fixed.a"), state="absent").node("fixed.a").action == absent
    assert plan(cloud, resource("fixed.a")).node("fixed.a").action == present
    applied(resource("fixed.a"), cloud=cloud)
    assert [thing.status for thing in cloud.things.values()] == [READY]


def test_destroy_leaves_what_is_not_ours_and_needs_no_secret() -> None:
    cloud = Cloud()
    cloud.create("fixed", None, {"name": "a"})
    node = plan(cloud, resource("fixed.a", password="${secret.unknown}"), state="absent").node("fixed.a")
    assert (node.action, node.reason) == ("none", "exists outside this stack")


def test_a_saved_plan_that_still_holds_is_accepted() -> None:
    cloud = applied(resource("free.a"))
    saved = Plan.from_json(plan(cloud, resource("free.a", label="new", shape="s", password="${secret.word}")).to_json())
    fresh = plan(cloud, resource("free.a", label="new", shape="s", password="${secret.word}"))
    assert saved == fresh
    check_fresh(saved, fresh)


def test_what_somebody_else_owns_does_not_make_a_plan_stale() -> None:
    cloud = applied(resource("free.a", size=1))
    saved = plan(cloud, resource("free.a", size=1, label="new"))
    cloud.things["free-1"].properties |= {"size": 7, "zone": "b"}
    check_fresh(saved, plan(cloud, resource("free.a", size=1, label="new")))


def test_a_stale_plan_says_what_moved() -> None:
    cloud = applied(resource("free.a", settings={"k": "v"}), resource("free.c"))
    saved = plan(cloud, resource("free.a", label="new", settings={"k": "v"}), resource("free.c"))
    cloud.things["free-1"].properties["settings"] = {"k": "hand"}
    cloud.things.pop("free-2")
    stack = dataclasses.replace(STACK, version="2.0.0", attributes={**STACK.attributes, "partition": "aws-cn"})
    after = [resource("free.a", label="newer", settings={"k": "v"}), resource("free.c"), resource("free.d")]
    fresh = proposed(cloud, *after, stack=stack, adopt=True).plan
    with pytest.raises(StalePlanError) as caught:
        check_fresh(saved, fresh)
    assert {(fault.address, fault.path) for fault in caught.value.faults} == {
        ("free.a", "label"),
        ("free.a", "settings.k"),
        ("free.c", ""),
        ("free.d", ""),
        ("stack", "version"),
        ("stack", "attributes.partition"),
        ("stack", "adopt"),
    }
    first = str(caught.value).partition("\n")[0]
    assert first == "cannot apply the saved plan: it is stale, 7 differences; create a new plan with `state: planned`"
    assert "free.a: settings.k: the resource changed" in str(caught.value)
    assert "free.c: no longer exists" in str(caught.value)
    assert "free.a: label: the description changed" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "pond"}, "it is for stack 'lake', and the run for 'pond'"),
        ({"environment": "staging"}, "it is for environment 'development', and the run for 'staging'"),
        ({"attributes": {**STACK.attributes, "account_id": "999"}}, "it was created in another account"),
        ({"attributes": {**STACK.attributes, "region": "mars-1"}}, "it was created in another region"),
    ],
)
def test_a_plan_of_something_else_is_one_line(changes: dict[str, Any], words: str) -> None:
    saved = plan(Cloud(), resource("free.a"), resource("free.c"))
    fresh = proposed(Cloud(), resource("free.a"), stack=dataclasses.replace(STACK, **changes)).plan

    with pytest.raises(OtherPlanError) as caught:
        check_fresh(saved, fresh)

    assert str(caught.value) == f"cannot apply the saved plan: {words}; create a new plan with `state: planned`"


def test_a_new_value_of_a_secret_makes_a_plan_stale_without_being_in_it() -> None:
    def made(value: str) -> Plan:
        secrets = {"word": STACK.secret(value)}
        return propose(STACK, kinds(Cloud()), [resource("free.a", password="${secret.word}")], secrets).plan

    with pytest.raises(StalePlanError, match=r"free\.a: password: the description changed"):
        check_fresh(made("hush"), made("other"))
    assert "hush" not in made("hush").to_json()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "nonsense",
        lambda _: "[]",
        lambda data: json.dumps({**data, "format": 0}),
        lambda data: json.dumps({**data, "nodes": [{"address": "free.a"}]}),
        lambda data: json.dumps({**data, "nodes": [{**data["nodes"][0], "action": "explode"}]}),
        lambda data: json.dumps({**data, "fingerprint": "0"}),
        lambda data: json.dumps({**data, "evidence": {}}),
        lambda data: json.dumps({key: value for key, value in data.items() if key != "stack"}),
    ],
)
def test_a_damaged_plan_is_refused(damage: Any) -> None:
    data = json.loads(plan(Cloud(), resource("free.a")).to_json())
    with pytest.raises(PlanFormatError):
        Plan.from_json(damage(data))


def test_a_plan_whose_actions_were_edited_is_stale() -> None:
    made = plan(Cloud(), resource("free.a"))
    edited = dataclasses.replace(made, nodes=(Node("free.a", "free", "none"),))
    with pytest.raises(StalePlanError, match="leads to another plan"):
        check_fresh(Plan.from_json(edited.to_json()), made)


@given(st.permutations(["label", "settings", "links", "password"]), st.permutations(["free.a", "fixed.b", "free.c"]))
@EXAMPLES
def test_the_order_of_a_description_does_not_change_the_fingerprint(names: list[str], addresses: list[str]) -> None:
    values = {"label": "x", "settings": {"k": "v", "l": "w"}, "links": ["1", "2"], "password": "${secret.word}"}
    described = [resource(address, **{name: values[name] for name in names}) for address in addresses]
    usual = [resource(address, **values) for address in ("free.a", "fixed.b", "free.c")]
    assert plan(Cloud(), *described).fingerprint == plan(Cloud(), *usual).fingerprint


MANY = [
    resource("fixed.b", links=["${free.n3.id}"]),
    *(
        resource(f"free.n{n}", links=[f"${{free.n{m}.id}}" for m in range(n)], peers=["${fixed.b.id}"])
        for n in range(5)
    ),
]
_PRINT_FINGERPRINT = """
import json, sys
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import propose
from tests.unit.engine.cloud import STACK, Cloud, kinds, resource
described = [resource(address, **properties) for address, properties in json.loads(sys.argv[1])]
print(propose(STACK, kinds(Cloud()), described).plan.to_json())
"""


def test_a_plan_is_the_same_in_every_process() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", _PRINT_FINGERPRINT, json.dumps([(item.address, item.properties) for item in MANY])],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Plan.from_json(printed) == propose(STACK, kinds(Cloud()), MANY).plan
