# SPDX-License-Identifier: GPL-3.0-or-later
"""No output contains the content of a Secret; a change is visible."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.mask import (
    LAST_APPLIED,
    NEW_VALUE,
    Hider,
    hidden_values,
    masked,
    masked_pair,
    secret_values,
)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "type": "Opaque", **fields}


def applied(**fields: Any) -> dict[str, Any]:
    annotation = json.dumps(secret(**fields))
    return {**secret(**fields), "metadata": {"name": "key", "annotations": {LAST_APPLIED: annotation, "a": "b"}}}


@given(st.dictionaries(st.sampled_from(["user", "password", "token"]), st.text(min_size=12, max_size=40), min_size=1))
def test_no_value_of_a_secret_is_in_what_is_shown_in_any_form(values: dict[str, str]) -> None:
    data = {name: b64(value) for name, value in values.items()}
    for obj in (secret(stringData=values), secret(data=data), applied(data=data), applied(stringData=values)):
        shown = json.dumps([masked(obj), *masked_pair(obj, obj), *masked_pair(None, obj), *masked_pair(secret(), obj)])
        for value in values.values():
            assert json.dumps(value)[1:-1] not in shown
            assert b64(value) not in shown


def test_an_unchanged_value_and_a_new_one_are_told_apart() -> None:
    old, new = secret(data={"a": b64("one"), "b": b64("two")}), secret(data={"a": b64("one"), "b": b64("three")})

    left, right = masked_pair(old, new)

    assert left["data"] == {"a": "(sensitive)", "b": "(sensitive)"}
    assert right["data"] == {"a": "(sensitive)", "b": NEW_VALUE}


def test_everything_but_the_values_of_a_secret_is_shown() -> None:
    assert masked(secret(data={"a": b64("one")}, immutable=True)) == secret(data={"a": "(sensitive)"}, immutable=True)


def test_the_annotation_of_kubectl_keeps_its_form() -> None:
    annotations = masked(applied(data={"a": b64("one")}))["metadata"]["annotations"]

    assert annotations["a"] == "b"
    assert json.loads(annotations[LAST_APPLIED])["data"] == {"a": "(sensitive)"}


@pytest.mark.parametrize("broken", ["{", "[]", '"x"', 7])
def test_an_annotation_that_cannot_be_read_is_hidden_as_a_whole(broken: Any) -> None:
    obj = {**secret(), "metadata": {"name": "key", "annotations": {LAST_APPLIED: broken}}}

    assert masked(obj)["metadata"]["annotations"][LAST_APPLIED] == "(sensitive)"


def test_values_of_a_wrong_form_are_hidden_as_well() -> None:
    assert masked(secret(data="hush"))["data"] == "(sensitive)"
    assert masked(secret(stringData={"a": {"b": "hush"}}))["stringData"] == {"a": "(sensitive)"}


@pytest.mark.parametrize(
    "obj",
    [
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"password": "in plain sight"}},
        {"apiVersion": "example.org/v1", "kind": "Secret", "data": {"a": "b"}},
    ],
)
def test_what_is_no_secret_is_shown_as_it_is(obj: dict[str, Any]) -> None:
    assert masked(obj) == obj
    assert masked_pair(obj, obj) == (obj, obj)


def test_known_values_are_text_and_base64_of_all_places() -> None:
    known = secret_values([applied(data={"a": b64("hush-1")}, stringData={"b": "hush-2"})])

    assert {"hush-1", b64("hush-1"), "hush-2", b64("hush-2")} <= known


def test_bytes_that_are_no_text_are_known_in_base64_alone() -> None:
    encoded = base64.b64encode(b"\xff\xfe\xfd\xfc").decode()

    assert secret_values([secret(data={"a": encoded})]) == {encoded}


def test_a_value_that_is_in_a_shown_name_or_in_half_of_all_words_is_not_looked_for() -> None:
    assert hidden_values({"postgres", "on", "s3cr3t-value"}, "Deployment shop/postgres (apps/v1)") == {"s3cr3t-value"}


def test_what_others_wrote_is_cleaned_the_longest_value_first() -> None:
    assert Hider({"hush", "hush-hush"})("got hush-hush and hush") == "got (sensitive) and (sensitive)"
