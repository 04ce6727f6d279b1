# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import WaitError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import (
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    document,
    owner_of,
    owner_tags,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    LATER,
    READY,
    RETIRED,
    Actual,
    Change,
    Owner,
    Request,
    Subject,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property, Schema
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import Secret, Unknown
from tests.integration.aws.clock import Clock

FOLDER = Path(__file__).parents[3] / "plugins" / "module_utils" / "aws" / "kinds"
OWNER = Owner("lake", "development", "thing.one")
WORDS = st.text("abcXYZ0 -_./:@=", min_size=1, max_size=8)
TAG_MAPS = st.dictionaries(WORDS, WORDS, max_size=5)


class Thing(AwsKind):
    """A kind whose readings a test scripts: each id answers the next reading of its list, and repeats the last one."""

    name = "thing"
    service = "logs"
    schema = Schema({"name": Property(required=True), "tags": TAGS})
    actions = Actions((), (), (), ())
    failed_states = frozenset({"CREATE_FAILED"})

    def __init__(self, readings: Mapping[str, Sequence[Actual | None]] | None = None) -> None:
        super().__init__(Session(Connection()))
        self.readings: dict[str, Iterator[Actual | None]] = {}
        self.last: dict[str, Actual | None] = {}
        for id_, answers in (readings or {}).items():
            self.readings[id_] = iter(answers)

    def read(self, id_: str) -> Actual | None:
        self.last[id_] = next(self.readings.get(id_, iter(())), self.last.get(id_))
        return self.last[id_]

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        found = [self.read(id_) for id_ in self.readings]
        return [actual for actual in found if actual and actual.owner and actual.owner.shares_stack_with(owner)]

    def create(self, request: Request) -> Actual:
        raise AssertionError("nothing is changed here")

    def update(self, request: Request) -> Actual:
        raise AssertionError("nothing is changed here")

    def delete(self, request: Request) -> None:
        raise AssertionError("nothing is changed here")


class Tagged(Thing):
    """The same, found by its tags."""

    found_by = "tags"

    def lookalikes(self, subject: Subject) -> Sequence[Actual]:
        return [actual("untagged", owner=None)] if subject.desired["name"] == "like" else []


def actual(id_: str = "one", status: str = READY, owner: Owner | None = OWNER, **tags: str) -> Actual:
    return Actual(id_, {"name": id_, "tags": tags}, {}, owner, status)


def subject(name: object = "one", address: str = "thing.one", **desired: Any) -> Subject:
    return Subject(address, replace(OWNER, address=address), {"name": name, **desired})


def request(existing: Actual | None = None, **desired: Any) -> Request:
    return Request("thing.one", OWNER, {"name": "one", **desired}, existing or actual())


def test_what_has_a_name_is_read_by_it() -> None:
    kind = Thing({"one": [actual()]})

    assert kind.read_all([subject(), subject("two", "thing.two")]) == {"thing.one": [actual()], "thing.two": []}


def test_what_has_a_name_that_is_not_known_yet_is_asked_for_later() -> None:
    assert Thing().read_all([subject(Unknown())]) == {"thing.one": LATER}


def test_what_has_no_name_is_found_in_one_listing() -> None:
    other = replace(OWNER, address="thing.two")
    foreign = Owner("lake", "production", "thing.one")
    kind = Tagged(
        {
            "one": [actual("one")],
            "two": [actual("two", owner=other)],
            "three": [actual("three", owner=foreign)],
            "four": [actual("four", owner=None)],
        }
    )
    found = kind.read_all([subject(), subject("b", "thing.two"), subject("c", "thing.none")])

    assert {address: [item.id for item in items] for address, items in found.items() if items is not LATER} == {
        "thing.one": ["one"],
        "thing.two": ["two"],
        "thing.none": [],
    }


def test_two_things_with_one_address_are_both_found() -> None:
    kind = Tagged({"one": [actual("one")], "again": [actual("again")]})

    assert len(list(kind.read_all([subject()])["thing.one"])) == 2  # type: ignore[arg-type]  # it is no LATER


def test_what_nothing_carries_the_tags_of_may_be_a_lookalike() -> None:
    found = Tagged({"one": [actual("one")]}).read_all([subject(), subject("like", "thing.two")])

    assert found["thing.two"] == [actual("untagged", owner=None)]
    assert found["thing.one"] == [actual("one")]


@pytest.mark.parametrize(
    "key", ["aws:cloudformation:stack-id", "eks:cluster-name", "kubernetes.io/cluster/x", "karpenter.sh/nodepool"]
)
def test_tags_of_other_controllers_are_left_alone_unless_described(key: str) -> None:
    tags = {key: "theirs", "Name": "ours"}
    kind = Thing({"one": [replace(actual(), properties={"name": "one", "tags": tags})]})
    (alone,) = kind.read_all([subject()])["thing.one"]  # type: ignore[misc]  # it is no LATER
    (described,) = kind.read_all([subject(tags={key: "wanted"})])["thing.one"]  # type: ignore[misc]  # the same

    assert alone.properties["tags"] == {"Name": "ours"}
    assert described.properties["tags"] == {key: "theirs", "Name": "ours"}


def test_waiting_ends_when_it_is_ready(clock: Clock) -> None:
    kind = Thing({"one": [actual(status="CREATING"), actual(status="CREATING"), actual()]})

    assert kind.wait(request()).status == READY
    assert clock.pauses


def test_waiting_begins_when_it_becomes_visible() -> None:
    assert Thing({"one": [None, None, actual()]}).wait(request()).id == "one"


def test_what_never_becomes_visible_is_an_error_with_its_address_and_id(clock: Clock) -> None:
    with pytest.raises(WaitError, match=r"waited 60 s for thing\.one \(one\) to become visible"):
        Thing().wait(request())
    assert sum(clock.pauses) < 70


@pytest.mark.parametrize("status", ["CREATE_FAILED", "CREATE_FAILED: no addresses left"])
def test_a_failed_state_ends_the_wait_at_once(clock: Clock, status: str) -> None:
    kind = Thing({"one": [actual(status="CREATING"), actual(status=status)]})

    with pytest.raises(WaitError, match=r"thing\.one \(one\) cannot become ready: CREATE_FAILED"):
        kind.wait(request())
    assert sum(clock.pauses) < 2


def test_a_wait_that_takes_too_long_says_the_last_state(clock: Clock) -> None:
    with pytest.raises(WaitError, match=r"waited 600 s for thing\.one \(one\) to be ready; it is UPDATING"):
        Thing({"one": [actual(status="UPDATING")]}).wait(request())


def test_what_vanishes_while_it_is_waited_for_is_said_to_be_not_there() -> None:
    with pytest.raises(WaitError, match="it is not there"):
        Thing({"one": [actual(status="CREATING"), None]}).wait(request())


def test_what_is_scheduled_for_deletion_counts_as_deleted() -> None:
    Thing({"one": [actual(), actual(status=RETIRED)]}).wait_deleted(request())


def test_waiting_for_a_deletion_ends_when_nothing_is_left() -> None:
    Thing({"one": [actual(status="DELETING"), actual(status="DELETING"), None]}).wait_deleted(request())


def test_a_deletion_that_does_not_end_says_what_is_left() -> None:
    with pytest.raises(WaitError, match=r"waited 600 s for thing\.one \(one\) to be gone; it is DELETE_FAILED"):
        Thing({"one": [actual(status="DELETE_FAILED")]}).wait_deleted(request())


def test_a_revealed_secret_is_hidden_from_then_on() -> None:
    kind, secret = Thing(), Secret.of("hunter22", "salt")
    wanted = request(name=[{"password": secret, "plain": "shown"}])

    assert kind.revealed(wanted, "name") == [{"password": "hunter22", "plain": "shown"}]
    assert kind.session.redacted("it was hunter22, shown") == "it was ********, shown"


@given(TAG_MAPS)
def test_tags_survive_the_way_to_a_service_and_back(tags: dict[str, str]) -> None:
    assert tag_map(tag_list(tags)) == tags
    assert tag_map(tag_list(tags, "TagKey", "TagValue"), "TagKey", "TagValue") == tags


@pytest.mark.parametrize("stack", ["lake", "a/b"])
@pytest.mark.parametrize("environment", ["development", "x"])
@pytest.mark.parametrize("address", ["vpc.main", "a.b"])
@pytest.mark.parametrize("region", ["", "eu-central-1"])
def test_an_owner_survives_the_way_into_tags_and_back(stack: str, environment: str, address: str, region: str) -> None:
    owner = Owner(stack, environment, address, region)

    assert owner_of(owner_tags(owner)) == owner
    assert property_tags({**owner_tags(owner), "Name": "x"}) == {"Name": "x"}


@pytest.mark.parametrize(
    "tags", [{}, {"lakehouse:address": "vpc.main"}, {"lakehouse:stack": ""}, {"lakehouse:stack": "no slash"}]
)
def test_tags_that_do_not_say_whose_it_is_make_nobody_the_owner(tags: dict[str, str]) -> None:
    assert owner_of(tags) is None


@given(TAG_MAPS, TAG_MAPS, st.booleans())
def test_the_changes_of_tags_lead_from_what_is_to_what_is_wanted(
    before: dict[str, str], after: dict[str, str], claim: bool
) -> None:
    changes = (Change("tags", before, after),) if before != after else ()
    wanted = replace(request(replace(actual(), properties={"tags": before}), tags=after), changes=changes, claim=claim)

    written, removed = tag_changes(wanted)

    result = {key: value for key, value in {**before, **written}.items() if key not in removed}
    assert property_tags(result) == after
    assert (owner_of(result) == OWNER) is claim
    assert not set(written) & set(removed)
    assert all(before.get(key) != value for key, value in written.items())


def test_tags_that_are_not_to_change_are_not_removed() -> None:
    """Fields that a description does not manage are not in the changes: they stay, independent of the reading."""
    wanted = request(replace(actual(), properties={"tags": {"theirs": "x"}}), tags={})

    assert tag_changes(wanted) == ({}, [])


def test_a_resource_carries_its_owner_from_the_first_moment() -> None:
    assert all_tags(request(tags={"Name": "x"})) == {
        "Name": "x",
        "lakehouse:stack": "lake/development",
        "lakehouse:address": "thing.one",
    }
    assert set(all_tags(request(tags=None))) == {"lakehouse:stack", "lakehouse:address"}


@given(st.recursive(st.none() | st.booleans() | WORDS, lambda inner: st.dictionaries(WORDS, inner, max_size=3)))
def test_equal_documents_are_one_text(value: Any) -> None:
    text = document(value)

    assert text == value if isinstance(value, str) else json.loads(text) == value
    if isinstance(value, dict):
        assert document(dict(reversed(value.items()))) == text


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_kind_knows_another_one(path: Path) -> None:
    text = path.read_text()

    assert not re.findall(r"import\s.*\.aws\.kinds|from \S+\.aws\.kinds", text)
    assert not re.findall(r"^(?:from|import) (?:boto3|botocore|ansible)\b", text, re.MULTILINE)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_explains_itself(name: str) -> None:
    kind = kind_class(name)

    assert kind.name == name
    assert (kind.__doc__ or "").strip().endswith(".")
    unexplained = [path for path, item in properties(kind.schema.properties) if not item.purpose]
    assert not unexplained
    assert not [output for output, item in kind.schema.outputs.items() if not item.purpose]
    assert "id" in kind.schema.outputs
    assert kind.schema.properties.get("tags", TAGS) == TAGS


def properties(items: Mapping[str, Property], above: str = "") -> Iterator[tuple[str, Property]]:
    """Yield the properties of a description with their paths; content of a map with free keys needs no explanation."""
    for name, item in items.items():
        yield f"{above}{name}", item
        yield from properties(item.fields, f"{above}{name}.")
