# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison of two states of an object, and their differences."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.compare import (
    Change,
    changes,
    content,
    merged,
    projected,
    same,
    views,
)

LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0]) | st.sampled_from(["", "a", "b"])
)
KEYS = st.sampled_from(["name", "a", "b", "c.d"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)
MAPS = st.dictionaries(KEYS, VALUES, max_size=4)


def deployment(replicas: int = 1, **metadata: Any) -> dict[str, Any]:
    container = {"name": "api", "image": "api:1", "terminationMessagePath": "/dev/termination-log"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api", "namespace": "shop", **metadata},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 10,
            "template": {"spec": {"containers": [container], "dnsPolicy": "ClusterFirst"}},
        },
    }


def retyped(value: Any, kind: type) -> Any:
    """Return an equal Python value with numbers of another possible type."""
    if isinstance(value, dict):
        return {key: retyped(item, kind) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [retyped(item, kind) for item in value]
    return kind(value) if isinstance(value, bool | int | float) and kind(value) == value else value


DESIRED = {
    "metadata": {"name": "api", "namespace": "shop"},
    "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "api", "image": "api:1"}]}}},
}


@pytest.mark.parametrize(
    "moved",
    [
        {"resourceVersion": "2"},
        {"generation": 7},
        {"managedFields": [{"manager": "x"}]},
        {"uid": "another"},
        {"creationTimestamp": "2026-01-01T00:00:00Z"},
    ],
)
def test_bookkeeping_of_the_server_is_no_content(moved: dict[str, Any]) -> None:
    assert content(deployment(**moved)) == content(deployment())


def test_a_status_is_no_content() -> None:
    assert content({**deployment(), "status": {"replicas": 1}}) == content(deployment())


@pytest.mark.parametrize("wanted", [{"labels": {"a": "b"}}, {"annotations": {"a": "b"}}, {"finalizers": ["x"]}])
def test_metadata_that_somebody_wanted_is_content(wanted: dict[str, Any]) -> None:
    assert content(deployment(**wanted)) != content(deployment())


@pytest.mark.parametrize(
    ("one", "other"), [(True, 1), (False, 0), (1, 1.0), (0.0, -0.0), ("1", 1), (None, ""), ([], {})]
)
def test_values_that_python_takes_for_equal_are_told_apart(one: Any, other: Any) -> None:
    assert not same({"a": one}, {"a": other})
    assert not same([{"b": [other]}], [{"b": [one]}])


@given(VALUES, st.sampled_from([bool, int, float]))
def test_values_are_the_same_where_their_json_is(value: Any, kind: type) -> None:
    other = retyped(value, kind)
    assert same(value, other) == (json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True))


def test_a_change_shows_without_the_defaults_that_stand_around_it() -> None:
    before, after = views(content(deployment(1)), content(deployment(2)), DESIRED)

    assert changes(before, after) == (Change("spec.replicas", 1, 2),)
    assert "revisionHistoryLimit" not in after["spec"]
    assert after["spec"]["template"]["spec"]["containers"] == [{"name": "api", "image": "api:1"}]


def test_a_default_that_comes_with_a_change_is_left_out() -> None:
    old, new = content(deployment(1)), content(deployment(2))
    del old["spec"]["revisionHistoryLimit"]

    assert changes(*views(old, new, DESIRED)) == (Change("spec.replicas", 1, 2),)


def test_what_only_the_server_changed_is_shown_all_the_same() -> None:
    old, new = content(deployment(2)), content(deployment(2))
    new["spec"]["paused"] = True

    assert changes(*views(old, new, DESIRED)) == (Change("spec.paused", None, True),)


def test_a_removed_field_shows_although_the_manifest_does_not_know_it() -> None:
    old = content(deployment(2, labels={"old": "yes"}))

    assert Change("metadata.labels", {"old": "yes"}, None) in changes(*views(old, content(deployment(2)), DESIRED))


def test_elements_are_named_by_what_tells_them_apart() -> None:
    old = {"ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 81}]}
    new = {"ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 82}]}

    assert changes(old, new) == (
        Change("ports[name=http].port", 80, 8080),
        Change("ports[name=grpc]", {"name": "grpc", "port": 81}, None),
        Change("ports[name=admin]", None, {"name": "admin", "port": 82}),
    )


def test_another_order_of_the_same_elements_is_a_difference() -> None:
    one, other = {"name": "a"}, {"name": "b"}

    assert changes([one, other], [other, one]) == (Change("", [one, other], [other, one]),)


@given(VALUES)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    assert changes(value, copy.deepcopy(value)) == ()


@given(VALUES, VALUES)
def test_there_are_changes_exactly_where_values_differ(one: Any, other: Any) -> None:
    assert bool(changes(one, other)) == (not same(one, other))


@given(MAPS, MAPS, MAPS)
def test_no_change_is_ever_left_out_as_a_whole(before: Any, after: Any, desired: Any) -> None:
    shown = views(before, after, desired)

    assert same(*shown) == same(before, after)


@given(MAPS, MAPS, MAPS)
def test_a_view_shows_nothing_that_is_not_there(before: Any, after: Any, desired: Any) -> None:
    left, right = views(before, after, desired)

    assert set(left) <= set(before)
    assert set(right) <= set(after)


@given(MAPS, MAPS)
def test_a_projection_holds_nothing_but_what_the_shape_speaks_of(value: Any, shape: Any) -> None:
    assert set(projected(value, shape)) == set(value) & set(shape)


@given(MAPS, MAPS)
def test_merging_the_same_again_changes_nothing(before: Any, desired: Any) -> None:
    once = merged(before, desired)

    assert same(merged(once, desired), once)


def test_merging_goes_into_elements_that_can_be_told_apart() -> None:
    before = {"containers": [{"name": "a", "image": "a:1", "tty": False}, {"name": "side"}]}
    desired = {"containers": [{"name": "a", "image": "a:2"}]}

    assert merged(before, desired) == {
        "containers": [{"name": "a", "image": "a:2", "tty": False}, {"name": "side"}],
    }


def test_lists_without_keys_are_compared_place_by_place() -> None:
    def templates(size: str, **added: Any) -> dict[str, Any]:
        return {"templates": [{"spec": {"size": size, **added}, **added}]}

    shown = views(templates("1Gi", mode="Filesystem"), templates("2Gi", mode="Filesystem"), templates("2Gi"))
    assert changes(*shown) == (Change("templates[0].spec.size", "1Gi", "2Gi"),)
