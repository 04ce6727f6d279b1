# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets on a real API server: former members are deleted, foreign objects stay, killed runs leave nothing behind."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply import Apply
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.applyset import (
    KINDS,
    NAMESPACES,
    PART_OF_LABEL,
    TOOLING,
    Parent,
    RefusedSetError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import Options
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.prune import TooManyError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE, Answer, Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ManifestError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load
from tests.integration.kube.applying import (
    Fields,
    Kind,
    Shop,
    actions,
    config_map,
    namespaced,
    one,
    secret,
    service,
)

SET = "shop-set"
CLAIM: Fields = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def noted(shop: Shop) -> dict[str, str]:
    parent = shop.get("secrets", SET)
    assert parent is not None
    found: dict[str, str] = parent["metadata"]["annotations"]
    return found


def test_what_leaves_the_set_goes_and_only_that(shop: Shop) -> None:
    shop.run(config_map("stranger"))
    shop.run(config_map("kept"), config_map("gone"), service("api"), prune=SET)
    result = shop.run(config_map("kept"), prune=SET)

    assert actions(result) == {"ConfigMap kept": "none", "ConfigMap gone": "delete", "Service api": "delete"}
    assert shop.get("configmaps", "gone") is None
    assert shop.get("services", "api") is None
    assert shop.get("configmaps", "stranger") is not None
    assert noted(shop)[KINDS] == "ConfigMap"
    again = shop.run(config_map("kept"), prune=SET)
    assert actions(again) == {"ConfigMap kept": "none"}
    assert not again["changed"]


def test_check_mode_tells_what_would_go_and_removes_nothing(shop: Shop) -> None:
    shop.run(config_map("kept"), config_map("gone"), prune=SET)
    result = shop.run(config_map("kept"), prune=SET, check=True)

    assert actions(result)["ConfigMap gone"] == "delete"
    assert result["changed"]
    assert shop.get("configmaps", "gone") is not None
    assert not any(one_of["name"] == SET for one_of in result["objects"])


def test_a_label_that_somebody_copied_makes_no_member(shop: Shop) -> None:
    shop.run(config_map("kept"), prune=SET)
    copied = namespaced(config_map("copied"), shop.namespace)
    copied["metadata"]["labels"] = {PART_OF_LABEL: Parent(SET, shop.namespace).id}
    shop.apply_as("some-controller", shop.path("configmaps", "copied"), copied)
    result = shop.run(config_map("kept"), prune=SET)

    assert "ConfigMap copied" not in actions(result)
    assert any("copied" in notice and "it stays" in notice for notice in result["notices"])
    assert shop.get("configmaps", "copied") is not None


def test_more_than_the_limit_is_refused_before_anything_is_changed(shop: Shop) -> None:
    shop.run(*(config_map(f"c{number}") for number in range(4)), prune=SET)

    with pytest.raises(TooManyError, match="3 objects left the set"):
        shop.run(config_map("c0", a="new"), prune=SET, prune_limit=2)
    found = shop.get("configmaps", "c0")
    assert found is not None
    assert found["data"] == {"a": "1"}


def test_claims_and_kinds_go_only_with_an_explicit_word_and_stay_members_until_then(shop: Shop, kind: Kind) -> None:
    shop.run(config_map("kept"), CLAIM, kind.definition(), prune=SET)
    result = shop.run(config_map("kept"), prune=SET)

    assert actions(result)["PersistentVolumeClaim data"] == "skipped"
    assert actions(result)[f"CustomResourceDefinition {kind.name}"] == "skipped"
    assert "set prune_data" in one(result, "data")["reason"]
    assert not result["changed"]
    assert "PersistentVolumeClaim" in noted(shop)[KINDS]
    told = shop.run(config_map("kept"), prune=SET, prune_data=True)
    assert actions(told)["PersistentVolumeClaim data"] == "delete"
    assert actions(told)[f"CustomResourceDefinition {kind.name}"] == "delete"
    assert noted(shop)[KINDS] == "ConfigMap"


def test_members_in_other_namespaces_are_found_again(shop: Shop) -> None:
    other = f"{shop.namespace}-other"
    there = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}
    shop.run(there)
    shop.run(config_map("kept"), namespaced(config_map("gone"), other), prune=SET)
    assert noted(shop)[NAMESPACES] == other
    result = shop.run(config_map("kept"), prune=SET)

    assert actions(result)["ConfigMap gone"] == "delete"
    assert noted(shop)[NAMESPACES] == ""
    shop.run(there, state="absent")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"annotations": {TOOLING: "kubectl/v1.36.0"}}, "belongs to 'kubectl/v1.36.0'"),
        ({}, "is not the parent of a set"),
    ],
)
def test_the_set_of_another_tool_and_somebodys_secret_are_refused(
    shop: Shop, metadata: dict[str, Any], words: str
) -> None:
    parent = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SET, **metadata}}
    shop.client.request("POST", f"/api/v1/namespaces/{shop.namespace}/secrets", body=parent)

    with pytest.raises(RefusedSetError, match=words):
        shop.run(config_map(), prune=SET)
    assert shop.get("configmaps", "settings") is None


def test_an_object_of_another_set_is_refused_unless_it_is_taken_over(shop: Shop) -> None:
    shop.run(config_map(), prune="first")
    result = shop.run(config_map(), prune="second")

    assert "it belongs to another set" in one(result, "settings")["error"]
    assert actions(shop.run(config_map(), prune="second", force_conflicts=True)) == {"ConfigMap settings": "update"}
    assert actions(shop.run(secret(a="b"), prune="first")) == {"Secret key": "create"}


def test_a_run_without_the_set_takes_nobody_out_of_it(shop: Shop) -> None:
    shop.run(config_map("kept"), config_map("gone"), prune=SET)
    plain = shop.run(config_map("kept"), config_map("gone"))

    assert not plain["changed"]
    assert actions(shop.run(config_map("kept"), prune=SET))["ConfigMap gone"] == "delete"


def test_nothing_is_pruned_while_something_fails(shop: Shop) -> None:
    shop.run(config_map("kept"), config_map("gone"), prune=SET)
    broken = {**config_map("broken"), "data": {"a": 1}}
    result = shop.run(config_map("kept"), broken, prune=SET)

    assert actions(result) == {"ConfigMap kept": "none", "ConfigMap broken": "failed", "ConfigMap gone": "skipped"}
    assert shop.get("configmaps", "gone") is not None
    assert actions(shop.run(config_map("kept"), prune=SET))["ConfigMap gone"] == "delete"


def test_an_empty_set_and_one_that_holds_its_own_parent_are_refused(shop: Shop) -> None:
    with pytest.raises(ManifestError, match="would be empty"):
        shop.run(prune=SET)
    with pytest.raises(ManifestError, match="the place of the parent"):
        shop.run(secret(SET, a="b"), prune=SET)


def test_absent_removes_the_set_with_its_parent_and_data_only_with_the_word(shop: Shop) -> None:
    shop.run(config_map(), service(), CLAIM, prune=SET)
    first = shop.run(state="absent", prune=SET)

    assert actions(first)["ConfigMap settings"] == "delete"
    assert actions(first)["PersistentVolumeClaim data"] == "skipped"
    assert noted(shop)[KINDS] == "PersistentVolumeClaim"
    shop.run(state="absent", prune=SET, prune_data=True)
    assert shop.get("secrets", SET) is None
    assert not shop.run(state="absent", prune=SET)["changed"]


class KilledError(Exception):
    """The run ends here, as if by a signal."""


class Mortal(Client):
    """A client whose process is killed at a mutating request: before it is sent, or after."""

    def __init__(self, shop: Shop, lives: int, *, after: bool) -> None:
        super().__init__(connection({"kubeconfig": str(shop.cluster.kubeconfig)}))
        self.lives, self.after = lives, after

    def send(self, method: str, path: str, **more: Any) -> Answer:
        if method in {"PATCH", "DELETE"}:
            self.lives -= 1
            if self.lives < 0:
                raise KilledError
            answer = super().send(method, path, **more)
            if self.after and self.lives == 0:
                raise KilledError
            return answer
        return super().send(method, path, **more)


@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_is_killed_at_any_change_is_completed_by_the_next(shop: Shop, after: bool) -> None:
    old = [config_map("kept"), config_map("gone"), service("old")]
    new = [config_map("kept", a="2"), service("new"), secret("key", a="hush")]
    changes_in_a_run = 7
    for lives in range(changes_in_a_run):
        shop.run(*old, prune=SET)
        mortal = Mortal(shop, lives, after=after)
        options = Options(namespace=shop.namespace, prune=SET, parallelism=1)
        # The last interruptions are not used where a run needs fewer changes.
        with mortal, contextlib.suppress(KilledError):
            Apply(mortal, Discovery(mortal), options).run(load(new))
        shop.run(*new, prune=SET)

        assert noted(shop)[KINDS] == "ConfigMap,Secret,Service"
        assert [shop.get("configmaps", "gone"), shop.get("services", "old")] == [None, None]
        found = [shop.get("configmaps", "kept"), shop.get("services", "new"), shop.get("secrets", "key")]
        assert all(found)
        assert found[0] is not None
        assert found[0]["data"] == {"a": "2"}
        assert not shop.run(*new, prune=SET)["changed"]


def test_a_member_whose_kind_went_away_is_not_missed(shop: Shop, kind: Kind) -> None:
    shop.run(config_map(), kind.definition(), prune=SET)
    shop.client.request("DELETE", kind.path)
    shop.client.request(
        "PATCH",
        shop.path("secrets", SET),
        body={"metadata": {"annotations": {KINDS: f"ConfigMap,Lamp.{kind.group}"}}},
        content_type=MERGE,
    )

    assert actions(shop.run(config_map(), prune=SET)) == {"ConfigMap settings": "none"}
