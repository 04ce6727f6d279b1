# SPDX-License-Identifier: GPL-3.0-or-later
"""Schemas and differences: equal values, changes, replacements, and hidden values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.diff import (
    creation,
    diff,
    forced_by,
    managed,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Change
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property, found, wanted
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import (
    Secret,
    Unknown,
    decode,
    encode,
)
from tests.unit.engine.cloud import EXAMPLES

SALT = "lake/development"


def normal(item: Property, value: Any) -> Any:
    values, validation_errors = wanted({"p": item}, {} if value is ... else {"p": value}, SALT)
    assert validation_errors == []
    return values.get("p", ...)


def changes(item: Property, desired: Any, actual: Any) -> tuple[Change, ...]:
    values, validation_errors = wanted({"p": item}, {} if desired is ... else {"p": desired}, SALT)
    assert validation_errors == []
    return diff({"p": item}, values, found({"p": item}, {} if actual is ... else {"p": actual}, SALT))


@pytest.mark.parametrize(
    ("item", "value", "message"),
    [
        (Property("string"), ["x"], "is not a string"),
        (Property("string"), True, "is not a string"),
        (Property("integer"), "many", "is not a whole number"),
        (Property("integer"), 1.5, "is not a whole number"),
        (Property("integer"), True, "is not a whole number"),
        (Property("number"), "nan", "is not a number"),
        (Property("boolean"), "perhaps", "is not a boolean"),
        (Property("boolean"), 1, "is not a boolean"),
        (Property("list"), "x", "is not a list"),
        (Property("set"), {"x": 1}, "is not a list"),
        (Property("map"), ["x"], "is not a map"),
        (Property("policy"), "{", "is not valid JSON"),
        (Property(choices=("on", "off")), "of", "did you mean 'off'?"),
        (Property(check=lambda value: f"{value} is odd"), "x", "x is odd"),
        (Property(required=True, purpose="Where it is."), ..., "is required and not given"),
        (Property(), Secret("v", "hush"), "would show a secret"),
        (Property(), Unknown(sensitive=True), "would show a secret"),
        (Property("json"), {"a": [Secret("v", "hush")]}, "would show a secret"),
        (Property("map", fields={"size": Property()}), {"sise": "1"}, "did you mean 'size'?"),
        (Property("list", elements=Property("integer")), [1, "x"], "is not a whole number"),
    ],
)
def test_a_value_that_does_not_fit_is_named(item: Property, value: Any, message: str) -> None:
    _desired, validation_errors = wanted({"p": item}, {} if value is ... else {"p": value}, SALT)
    assert len(validation_errors) == 1
    assert message in "; ".join(validation_errors[0][1:])
    assert "hush" not in str(validation_errors)


def test_an_unknown_property_is_named_with_the_nearest_valid_one() -> None:
    _desired, validation_errors = wanted({"cidr": Property()}, {"cird": "x"}, SALT)
    assert validation_errors == [("cird", "there is no such property", "did you mean 'cidr'?")]


@pytest.mark.parametrize("wrong", [{"replace": True}, {"required": True}])
def test_a_deferred_property_can_neither_replace_nor_be_required(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="deferred"):
        Property(deferred=True, **wrong)


def test_a_field_of_a_list_element_cannot_belong_to_others() -> None:
    with pytest.raises(ValueError, match="compared as a whole"):
        Property("list", elements=Property("map", fields={"size": Property(owned_by="somebody")}))


@pytest.mark.parametrize(
    ("item", "desired", "actual"),
    [
        (Property("integer"), "5", 5),
        (Property("number"), 1, 1.0),
        (Property("boolean"), "yes", True),
        (Property("string"), 30, "30"),
        (Property("set"), ["b", "a", "b"], ["a", "b"]),
        (Property("set"), [], ...),
        (Property("map"), {}, None),
        (Property("map", elements=Property()), {"a": None}, {}),
        (Property("list"), None, []),
        (Property(default="on"), ..., "on"),
        (Property(default="on"), None, ...),
        (Property(when_unset="off"), ..., ...),
        (Property(when_unset="off"), "off", ...),
        (Property(computed=True), ..., "whatever"),
        (Property(owned_by="the autoscaler"), "3", "7"),
        (Property("json"), '{"a": [1, 2]}', {"a": [1, 2]}),
        (Property("policy"), '{"S": {"Action": ["b", "a"]}}', {"S": [{"Action": ["a", "b"]}]}),
        (Property("policy"), {"Bool": {"x": False}}, {"Bool": {"x": "false"}}),
        (Property(canonical=str.lower), "ABC", "abc"),
        (Property("list", elements=Property(canonical=str.lower)), ["A"], ["a"]),
        (Property("set", elements=Property("map", fields={"n": Property("integer")})), [{"n": "1"}], [{"n": 1}]),
        (Property(sensitive=True), "hush", "hush"),
        (Property("map", fields={"a": Property(), "b": Property(owned_by="x")}), {"a": "1"}, {"a": "1", "b": "9"}),
    ],
)
def test_values_that_mean_the_same_are_no_difference(item: Property, desired: Any, actual: Any) -> None:
    assert changes(item, desired, actual) == ()


@pytest.mark.parametrize(
    ("item", "desired", "actual", "paths"),
    [
        (Property(), ..., "by hand", ["p"]),
        (Property("list"), ["a", "b"], ["b", "a"], ["p"]),
        (Property("json"), {"a": [1, 2]}, {"a": [2, 1]}, ["p"]),
        (Property("policy"), {"Action": ["a"]}, {"Action": ["a", "b"]}, ["p"]),
        (Property("map"), {"Name": "x", "a.b": "y"}, {"Name": "z", "extra": "1"}, ["p.Name", 'p["a.b"]', "p.extra"]),
        (Property("map"), ..., {"extra": "1"}, ["p"]),
        (Property("boolean", default=True), ..., False, ["p"]),
        (Property("boolean", default=True), ..., ..., ["p"]),
        (Property("integer"), 5, "garbage", ["p"]),
        (Property("map", fields={"a": Property(), "b": Property()}), {"a": "1"}, {"a": "2", "b": "3"}, ["p.a", "p.b"]),
        (Property(), Unknown(), "x", ["p"]),
        (Property("set"), ["a", Unknown()], ["a"], ["p"]),
        (Property(sensitive=True), "hush", "other", ["p"]),
    ],
)
def test_values_that_differ_are_found_where_they_differ(
    item: Property, desired: Any, actual: Any, paths: list[str]
) -> None:
    assert [change.path for change in changes(item, desired, actual)] == paths


@pytest.mark.parametrize(
    ("item", "desired", "actual", "forced"),
    [
        (Property(replace=True), "b", "a", ["p"]),
        (Property("integer", replace=lambda before, after: after < before), 1, 2, ["p"]),
        (Property("integer", replace=lambda before, after: after < before), 2, 1, []),
        (Property("integer", replace=lambda before, after: after < before), Unknown(), 1, ["p"]),
        (Property("map", replace=True, fields={"a": Property()}), {"a": "1"}, {"a": "2"}, ["p.a"]),
        (Property("map", fields={"a": Property(replace=True), "b": Property()}), {"a": "1"}, {"b": "2"}, ["p.a"]),
    ],
)
def test_what_cannot_change_in_place_is_marked(item: Property, desired: Any, actual: Any, forced: list[str]) -> None:
    assert list(forced_by(changes(item, desired, actual))) == forced


def test_secrets_are_compared_by_version_and_never_shown() -> None:
    shown = str(changes(Property(sensitive=True), "hush", "other"))
    assert "hush" not in shown
    assert "other" not in shown
    version = normal(Property(sensitive=True), "hush").version
    assert changes(Property(sensitive=True), Secret("composed", "hush"), Secret(version)) == ()
    assert normal(Property(sensitive=True), {"user": "u", "word": Secret("v", "w")}).reveal() == {
        "user": "u",
        "word": "w",
    }
    assert normal(Property(sensitive=True), ["x", Unknown()]) == Unknown(sensitive=True)


def test_what_is_governed_leaves_out_what_others_own_and_what_is_not_described() -> None:
    fields = {"least": Property("integer"), "now": Property("integer", owned_by="the autoscaler")}
    properties = {"scaling": Property("map", fields=fields), "zone": Property(computed=True)}
    desired, _validation_errors = wanted(properties, {"scaling": {"least": 1, "now": 2}}, SALT)
    actual = found(properties, {"scaling": {"least": 1, "now": 9}, "zone": "a"}, SALT)
    assert managed(properties, desired, actual) == {"scaling": {"least": 1}}


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text("ab$", max_size=3))
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3)
)
HELD = st.recursive(
    SCALARS | st.builds(Unknown, st.text(max_size=3), st.booleans()) | st.builds(Secret, st.text("ab", max_size=2)),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["a", "$secret", "$unknown", "$map", "$sensitive_unknown"]), inner, max_size=2
        )
    ),
)
PROPERTIES = {
    "text": Property(),
    "flag": Property("boolean", default=True, when_unset=False),
    "items": Property("list"),
    "names": Property("set"),
    "tags": Property("map"),
    "scaling": Property("map", fields={"least": Property("integer"), "most": Property("integer", default=3)}),
    "document": Property("json"),
    "policy": Property("policy"),
}
GIVEN = st.fixed_dictionaries(
    {},
    optional={
        "text": st.none() | st.text("ab", max_size=2),
        "flag": st.none() | st.booleans(),
        "items": st.lists(SCALARS, max_size=3),
        "names": st.lists(SCALARS, max_size=3),
        "tags": st.dictionaries(st.text("ab.", max_size=2), SCALARS, max_size=3),
        "scaling": st.none()
        | st.fixed_dictionaries({}, optional={"least": st.integers(0, 2), "most": st.integers(0, 2)}),
        "document": DOCUMENTS.filter(lambda value: not isinstance(value, str)),
        "policy": DOCUMENTS.filter(lambda value: not isinstance(value, str)),
    },
)


@given(GIVEN)
@EXAMPLES
def test_nothing_differs_from_itself(given_: dict[str, Any]) -> None:
    desired, validation_errors = wanted(PROPERTIES, given_, SALT)
    assert validation_errors == []
    assert diff(PROPERTIES, desired, desired) == ()
    assert diff(PROPERTIES, desired, found(PROPERTIES, desired, SALT)) == ()


@given(GIVEN, GIVEN)
@EXAMPLES
def test_two_descriptions_differ_where_the_other_way_round_they_do(one: dict[str, Any], two: dict[str, Any]) -> None:
    first, second = wanted(PROPERTIES, one, SALT)[0], wanted(PROPERTIES, two, SALT)[0]
    there, back = diff(PROPERTIES, first, second), diff(PROPERTIES, second, first)
    assert [(c.path, c.before, c.after) for c in there] == [(c.path, c.after, c.before) for c in back]


@given(GIVEN, GIVEN)
@EXAMPLES
def test_applying_the_difference_leaves_none(one: dict[str, Any], two: dict[str, Any]) -> None:
    desired, actual = wanted(PROPERTIES, one, SALT)[0], wanted(PROPERTIES, two, SALT)[0]
    changed = {change.path.partition(".")[0].partition("[")[0] for change in diff(PROPERTIES, desired, actual)}
    assert diff(PROPERTIES, desired, {**actual, **{name: desired[name] for name in changed}}) == ()


@given(GIVEN)
@EXAMPLES
def test_a_creation_holds_exactly_what_is_wanted(given_: dict[str, Any]) -> None:
    desired = wanted(PROPERTIES, given_, SALT)[0]
    made = {change.path: change.after for change in creation(PROPERTIES, desired)}
    assert made == {name: value for name, value in desired.items() if value is not None}


@given(DOCUMENTS, st.randoms())
@EXAMPLES
def test_the_order_inside_a_policy_does_not_matter(document: Any, order: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return order.sample([shuffled(item) for item in value], len(value))
        return {key: shuffled(item) for key, item in value.items()} if isinstance(value, dict) else value

    assert changes(Property("policy"), {"d": document}, {"d": shuffled(document)}) == ()


@given(HELD)
@EXAMPLES
def test_a_value_survives_its_way_through_json(value: Any) -> None:
    assert decode(encode(value)) == value
