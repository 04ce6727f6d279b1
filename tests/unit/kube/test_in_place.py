# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof from the server's managed fields that objects match their manifest.

tests/integration/kube/test_in_place.py proves that a server agrees.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.in_place import is_in_place

Fields = dict[str, Any]
OURS = "ours"


def note(value: Any) -> Fields:
    """Return the server's record of an applied value whose lists have one owner as a whole."""
    if isinstance(value, dict) and value:
        return {f"f:{key}": note(item) for key, item in value.items()}
    return {}


def live(desired: Fields, noted: Fields | None = None, **entry: Any) -> Fields:
    """Return an object as the server stores it after this collection's apply."""
    kept = copy.deepcopy(desired)
    metadata = {key: value for key, value in desired["metadata"].items() if key not in {"name", "namespace"}}
    fields = {key: value for key, value in desired.items() if key not in {"apiVersion", "kind", "metadata"}}
    if noted is None:
        noted = note({**fields, **({"metadata": metadata} if metadata else {})})
    mine = {"manager": OURS, "operation": "Apply", "apiVersion": desired["apiVersion"], "fieldsV1": noted, **entry}
    kept["metadata"] |= {"uid": "1", "resourceVersion": "7", "managedFields": [mine]}
    return kept


def settings(**data: Any) -> Fields:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "shop", "labels": {"a": "1"}},
        "data": data or {"x": "1", "y": "2"},
    }


def ports(*elements: Fields) -> Fields:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": {"ports": list(elements)}}


HTTP, ADMIN = {"port": 80, "protocol": "TCP", "targetPort": 8080}, {"port": 81, "protocol": "TCP", "targetPort": 8081}
NOTED_PORTS: Fields = {
    "f:spec": {
        "f:ports": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}},
            'k:{"port":81,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}},
        }
    }
}


def without(element: Fields, name: str) -> Fields:
    return {key: value for key, value in element.items() if key != name}


def test_what_was_applied_as_it_is_described_is_in_place() -> None:
    assert is_in_place(live(settings()), settings(), OURS)


def test_what_others_wrote_into_other_fields_does_not_matter() -> None:
    found = live(settings())
    found["metadata"]["annotations"] = {"controller": "was here"}
    found["immutable"] = False

    assert is_in_place(found, settings(), OURS)


@pytest.mark.parametrize("data", [{"x": "1"}, {"x": "1", "y": "3"}, {"x": "1", "y": "2", "z": "3"}, {"x": 1, "y": "2"}])
def test_another_value_one_more_and_one_less_are_not_in_place(data: Fields) -> None:
    assert not is_in_place(live(settings()), settings(**data), OURS)


def test_a_value_that_somebody_else_took_over_is_not_in_place() -> None:
    noted = note({"metadata": {"labels": {"a": "1"}}, "data": {"x": "1"}})

    assert not is_in_place(live(settings(), noted), settings(), OURS)


@pytest.mark.parametrize(
    "entry", [{"manager": "theirs"}, {"operation": "Update"}, {"apiVersion": "v1beta1"}, {"subresource": "status"}]
)
def test_the_note_of_another_manager_operation_version_or_subresource_proves_nothing(entry: Fields) -> None:
    assert not is_in_place(live(settings(), **entry), settings(), OURS)


def test_an_object_that_nobody_applied_is_not_in_place() -> None:
    found = live(settings())
    del found["metadata"]["managedFields"]

    assert not is_in_place(found, settings(), OURS)


def test_an_object_that_is_going_away_is_not_in_place() -> None:
    found = live(settings())
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert not is_in_place(found, settings(), OURS)


def test_a_version_that_the_manifest_insists_on_is_left_to_the_server() -> None:
    desired = settings()
    desired["metadata"]["resourceVersion"] = "7"

    assert not is_in_place(live(settings()), desired, OURS)


def test_the_null_of_a_time_that_tools_write_is_no_field() -> None:
    desired = settings()
    desired["metadata"]["creationTimestamp"] = None

    assert is_in_place(live(settings()), desired, OURS)


def test_any_other_null_is_left_to_the_server() -> None:
    assert not is_in_place(live(settings()), settings(x=None, y="2"), OURS)


@pytest.mark.parametrize("kept", [True, 1.0, "1"])
def test_values_that_python_takes_for_equal_are_told_apart(kept: Any) -> None:
    found = live(settings(x=1))
    found["data"]["x"] = kept

    assert not is_in_place(found, settings(x=1), OURS)


def test_a_list_with_one_owner_is_compared_as_a_whole() -> None:
    desired = ports(HTTP, ADMIN)
    found = live(desired)
    found["spec"]["ports"][0]["nodePort"] = 30000

    assert is_in_place(live(desired), desired, OURS)
    assert not is_in_place(found, desired, OURS)


def test_elements_that_have_keys_are_compared_one_by_one() -> None:
    found = live(ports(HTTP, ADMIN), NOTED_PORTS)
    found["spec"]["ports"][0]["nodePort"] = 30000

    assert is_in_place(found, ports(HTTP, ADMIN), OURS)


@pytest.mark.parametrize(
    "elements",
    [
        (HTTP,),
        (ADMIN, HTTP),
        (HTTP, {**ADMIN, "targetPort": 9}),
        (HTTP, {**ADMIN, "port": 82}),
        (HTTP, HTTP),
        (HTTP, "81"),
        (HTTP, without(ADMIN, "targetPort")),
    ],
)
def test_elements_that_differ_are_missing_or_stand_in_another_order_are_not_in_place(elements: tuple[Any, ...]) -> None:
    assert not is_in_place(live(ports(HTTP, ADMIN), NOTED_PORTS), ports(*elements), OURS)


def test_a_key_that_is_left_to_its_default_is_found() -> None:
    noted = copy.deepcopy(NOTED_PORTS)
    for fields in noted["f:spec"]["f:ports"].values():
        del fields["f:protocol"]
    found = live(ports(HTTP, ADMIN), noted)

    assert is_in_place(found, ports(without(HTTP, "protocol"), without(ADMIN, "protocol")), OURS)


def test_a_key_left_to_its_default_that_fits_two_elements_is_left_to_the_server() -> None:
    noted: Fields = {
        "f:spec": {
            "f:ports": {
                f'k:{{"port":53,"protocol":"{protocol}"}}': {".": {}, "f:port": {}} for protocol in ("TCP", "UDP")
            }
        }
    }
    found = live(ports({"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}), noted)

    assert not is_in_place(found, ports({"port": 53}, {"port": 53}), OURS)


def finalizers(*names: str) -> Fields:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": list(names)}}


def noted_values(*names: str) -> Fields:
    return {"f:metadata": {"f:finalizers": {".": {}, **{f"v:{json.dumps(name)}": {} for name in names}}}}


def test_a_set_may_hold_what_others_put_in() -> None:
    found = live(finalizers("a/x", "theirs/y", "b/z"), noted_values("a/x", "b/z"))

    assert is_in_place(found, finalizers("a/x", "b/z"), OURS)


@pytest.mark.parametrize("names", [("a/x",), ("b/z", "a/x"), ("a/x", "c/z"), ("a/x", "b/z", "c/z")])
def test_a_set_with_other_values_or_in_another_order_is_not_in_place(names: tuple[str, ...]) -> None:
    assert not is_in_place(live(finalizers("a/x", "b/z"), noted_values("a/x", "b/z")), finalizers(*names), OURS)


@pytest.mark.parametrize("noted", [{"f:spec": {"f:ports": {"i:0": {}}}}, {"f:spec": {"f:ports": {"?": {}}}}, None, []])
def test_a_note_in_a_form_that_is_not_known_proves_nothing(noted: Any) -> None:
    found = live(ports(HTTP), {})
    found["metadata"]["managedFields"][0]["fieldsV1"] = noted

    assert not is_in_place(found, ports(HTTP), OURS)


LEAVES = st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"])
KEYS = st.sampled_from(["name", "a", "b", "c.d"])
MAPS = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
    ),
    min_size=1,
    max_size=4,
)


def thing(spec: Fields) -> Fields:
    return {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": spec}


@given(MAPS)
def test_whatever_was_applied_is_in_place(spec: Fields) -> None:
    assert is_in_place(live(thing(spec)), thing(spec), OURS)


@given(MAPS, MAPS)
def test_nothing_else_is_in_place(spec: Fields, other: Fields) -> None:
    is_same = json.dumps(spec, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert is_in_place(live(thing(spec)), thing(other), OURS) == is_same
