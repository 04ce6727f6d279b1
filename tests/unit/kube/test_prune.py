# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that left a set: permitted deletions, kept objects, and reasons. Only applied objects are deleted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.applyset import PART_OF_LABEL
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.prune import (
    Member,
    TooManyError,
    check_limit,
    judge,
    member,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Resource

MANAGER = "crypto-lakehouse"
OWNED: dict[str, Any] = {"f:metadata": {"f:labels": {f"f:{PART_OF_LABEL}": {}}}}


def made(kind: str, name: str, api_version: str = "v1", manager: str = MANAGER, **fields: Any) -> Member:
    group, _slash, version = api_version.rpartition("/")
    metadata = {
        "name": name,
        "namespace": "shop",
        "managedFields": [{"manager": manager, "operation": "Apply", "fieldsV1": OWNED}],
    }
    return member({"metadata": metadata, **fields}, Resource(group, version, kind, f"{kind.lower()}s", True))


KINDS = st.sampled_from(["ConfigMap", "Service", "PersistentVolumeClaim", "Namespace"])
MEMBERS = st.lists(
    st.builds(made, KINDS, st.sampled_from("abcdef"), manager=st.sampled_from([MANAGER, "helm"])),
    unique_by=lambda one: one.key,
)


@given(MEMBERS, st.data(), st.booleans())
def test_only_what_was_applied_and_is_not_described_any_more_goes(members: list[Member], data: Any, word: bool) -> None:
    chosen = data.draw(st.lists(st.sampled_from(members)) if members else st.just([]))
    described = {one.key for one in chosen}

    judged = judge(members, described, MANAGER, with_data=word)

    left = [one for one in members if one.key not in described]
    for one in judged.going:
        assert one in left
        assert one.obj["metadata"]["managedFields"][0]["manager"] == MANAGER
        assert word or one.kind in {"ConfigMap", "Service"}
    assert len(judged.going) + len(judged.kept) + len(judged.foreign) == len(left)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (made("PersistentVolumeClaim", "data"), "it holds data"),
        (made("PersistentVolume", "data"), "it holds data"),
        (made("Namespace", "shop"), "everything in it"),
        (made("CustomResourceDefinition", "lamps", "apiextensions.k8s.io/v1"), "every object of its kind"),
        (made("Cluster", "db", "postgresql.cnpg.io/v1"), "its volumes"),
        (made("VolumeSnapshot", "x", "snapshot.storage.k8s.io/v1"), "it holds data"),
        (
            made(
                "StatefulSet", "db", "apps/v1", spec={"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}
            ),
            "its volumes",
        ),
    ],
)
def test_what_holds_data_goes_only_with_an_explicit_word(one: Member, why: str) -> None:
    kept = judge([one], (), MANAGER, with_data=False).kept

    assert kept[0][0] == one
    assert why in kept[0][1]
    assert "prune_data" in kept[0][1]
    assert judge([one], (), MANAGER, with_data=True).going == (one,)


def test_a_stateful_set_that_leaves_its_volumes_goes_without() -> None:
    one = made("StatefulSet", "db", "apps/v1", spec={})

    assert judge([one], (), MANAGER, with_data=False).going == (one,)


def test_a_copied_label_is_no_membership() -> None:
    copied = made("ConfigMap", "copy", manager="some-controller")

    assert judge([copied], (), MANAGER, with_data=True).foreign == (copied,)


def test_another_version_of_the_api_is_the_same_object() -> None:
    one = made("HorizontalPodAutoscaler", "api", "autoscaling/v2")

    described = {("autoscaling", "HorizontalPodAutoscaler", "shop", "api")}

    assert judge([one], described, MANAGER, with_data=True).going == ()


def test_more_than_the_limit_stops_and_says_what_it_would_have_been() -> None:
    going = [made("ConfigMap", f"c{number}") for number in range(12)]

    with pytest.raises(TooManyError, match="12 objects left the set shop") as caught:
        check_limit(going, 11, "shop")
    assert "nothing was changed" in str(caught.value)
    assert "ConfigMap shop/c9 (v1) and 2 more" in str(caught.value)
    check_limit(going, 12, "shop")
