# SPDX-License-Identifier: GPL-3.0-or-later
"""The annotations of a set, as defined in KEP-3659."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.applyset import (
    ID_LABEL,
    KINDS,
    NAMESPACES,
    PART_OF_LABEL,
    TOOLING,
    Extent,
    Parent,
    RefusedSetError,
    owns_label,
    set_of,
    with_label,
)

PARENT = Parent("shop-set", "shop")
GROUP_KINDS = st.tuples(st.sampled_from(["", "apps", "example.org"]), st.sampled_from(["Lamp", "Secret", "Deployment"]))
EXTENTS = st.builds(
    Extent, st.frozensets(GROUP_KINDS, max_size=6), st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=3)
)


def test_the_id_is_that_of_kubectl() -> None:
    """`kubectl apply --prune --applyset=my-set -n my-ns` of 1.36 writes this id."""
    assert Parent("my-set", "my-ns").id == "applyset-XPS7DQcglYD3_BOTiwpLtirwmT9y1Q06wbJ7TyrjGmY-v1"


def test_kinds_and_namespaces_are_sorted_texts_and_the_home_is_not_named() -> None:
    extent = PARENT.extent(
        [("apps", "Deployment", "shop"), ("", "Secret", "other"), ("", "Namespace", ""), ("", "Secret", "any")]
    )
    annotations = PARENT.manifest(extent)["metadata"]["annotations"]

    assert annotations == {
        TOOLING: "crypto-lakehouse/v1",
        KINDS: "Deployment.apps,Namespace,Secret",
        NAMESPACES: "any,other",
    }
    assert PARENT.manifest(extent)["metadata"]["labels"] == {ID_LABEL: PARENT.id}


@given(EXTENTS)
def test_what_is_written_is_what_is_read(extent: Extent) -> None:
    assert PARENT.recorded(PARENT.manifest(extent)) == extent


@given(EXTENTS, EXTENTS)
def test_widening_forgets_nothing(one: Extent, other: Extent) -> None:
    both = one | other

    assert both.kinds >= one.kinds | other.kinds
    assert both.namespaces >= one.namespaces | other.namespaces


def test_a_set_that_is_not_there_yet_has_nothing() -> None:
    assert PARENT.recorded(None) == Extent()


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "not the parent of a set"),
        ({"labels": {"app": "shop"}}, "another owner"),
        ({"annotations": {TOOLING: "kubectl/v1.31"}, "labels": {ID_LABEL: PARENT.id}}, "'kubectl/v1.31'"),
        ({"labels": {ID_LABEL: PARENT.id}}, "does not tell its name"),
        ({"annotations": {TOOLING: "crypto-lakehouse/v1"}}, "the id of another set"),
        ({"annotations": {TOOLING: "crypto-lakehouse/v1"}, "labels": {ID_LABEL: "applyset-x-v1"}}, PARENT.id),
    ],
)
def test_what_is_no_parent_of_ours_is_refused(metadata: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedSetError, match="Secret shop/shop-set") as caught:
        PARENT.recorded({"metadata": metadata})
    assert words in str(caught.value)


def test_a_member_carries_the_label_beside_its_own() -> None:
    made = with_label({"kind": "Lamp", "metadata": {"name": "desk", "labels": {"a": "b"}}}, PARENT.id)

    assert made["metadata"] == {"name": "desk", "labels": {"a": "b", PART_OF_LABEL: PARENT.id}}
    assert set_of(made) == PARENT.id
    assert set_of(None) == set_of({"metadata": {"labels": None}}) == ""


def entry(manager: str, operation: str, **labels: Any) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "fieldsV1": {"f:metadata": {"f:labels": {f"f:{name}": {} for name in labels.pop("names", [])}}},
        **labels,
    }


@pytest.mark.parametrize(
    ("entries", "owned"),
    [
        ([entry("me", "Apply", names=[PART_OF_LABEL])], True),
        ([entry("me", "Update", names=[PART_OF_LABEL])], False),
        ([entry("controller", "Apply", names=[PART_OF_LABEL])], False),
        ([entry("me", "Apply", names=["app"])], False),
        ([entry("me", "Apply", names=[PART_OF_LABEL], subresource="status")], False),
        ([entry("x", "Update"), entry("me", "Apply", names=[PART_OF_LABEL])], True),
        ([{"manager": "me", "operation": "Apply"}], False),
        ([], False),
        (None, False),
    ],
)
def test_a_label_proves_membership_only_where_this_manager_applied_it(entries: Any, owned: bool) -> None:
    assert owns_label({"metadata": {"managedFields": entries}}, "me") is owned
