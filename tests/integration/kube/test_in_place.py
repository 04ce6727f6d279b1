# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that are skipped because an apply would change nothing, compared with the server's own answer.

The platform is applied as rendered. Then each described field is changed, or removed, manually: a field that the
comparison ignored would never be repaired.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.compare import content, same
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.in_place import is_in_place
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import APPLY, Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from tests.integration.kube.applying import Kind, Shop, actions, config_map, service
from tests.integration.kube.kubelet import deployment
from tests.unit.catalogue.clusters import platform_on

Fields = dict[str, Any]
Pointer = tuple[str | int, ...]
MANAGER = "crypto-lakehouse"
JSON_PATCH = "application/json-patch+json"
# Every form of field, without volume templates, into which the server writes defaults and a status: an object with such
# a list is always sent.
KINDS = ("ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount")
_REVISION = "deployment.kubernetes.io/revision"
_SETTLING_ATTEMPTS, _SETTLING_PAUSE_S = 10, 0.5
NAMING = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


@dataclass(frozen=True)
class Applied:
    """An applied object. described: as it is rendered."""

    client: Client
    path: str
    described: Fields

    def live(self) -> Fields:
        found: Fields = self.client.request("GET", self.path)
        return found

    def again(self) -> Fields:
        """Apply it, with force."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": "true"}
        found: Fields = self.client.request("PATCH", self.path, query=query, body=self.described, content_type=APPLY)
        return found

    def stays(self) -> bool:
        """Return whether an apply stores nothing. A controller's concurrent writes end by themselves."""
        for _attempt in range(_SETTLING_ATTEMPTS):
            before = self.live()["metadata"]["resourceVersion"]
            if self.again()["metadata"]["resourceVersion"] == before:
                return True
            time.sleep(_SETTLING_PAUSE_S)
        return False

    def content(self) -> Fields:
        """Return the described content: without the annotation that the controller of Deployments writes late."""
        found = content(self.live())
        annotations = dict(found["metadata"].get("annotations") or {})
        annotations.pop(_REVISION, None)
        return {**found, "metadata": {**found["metadata"], "annotations": annotations}}

    def is_in_place(self) -> bool:
        return is_in_place(self.live(), self.described, MANAGER)


@pytest.fixture
def applied(shop: Shop) -> list[Applied]:
    client, discovery = shop.client, Discovery(shop.client)
    made = []
    for manifest in platform_on("k3s", "production", namespace=shop.namespace)["manifests"]:
        resource = discovery.find(manifest["apiVersion"], manifest["kind"])
        if resource is None or manifest["kind"] not in KINDS:
            continue
        # No pod runs here, and none is created: a controller's annotations would interfere.
        described = copy.deepcopy(manifest)
        if "replicas" in described.get("spec", {}):
            described["spec"]["replicas"] = 0
        metadata = described["metadata"]
        made.append(Applied(client, resource.path(metadata.get("namespace"), metadata["name"]), described))
    for one in made:
        one.again()
    return made


def leaves(value: Any, at: Pointer = ()) -> Iterator[Pointer]:
    """Yield the paths of an object's values."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = [leaf for key, item in parts for leaf in leaves(item, (*at, key))]
    yield from inner or [at]


def another(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return f"{value}x" if isinstance(value, str) else {"x": "x"}


def in_live(live: Any, described: Any, at: Pointer) -> Pointer | None:
    """Return the server's path of the description's path `at`: the server may have inserted elements."""
    if not at:
        return ()
    part = at[0]
    if isinstance(part, int):
        fitting = [index for index, element in enumerate(live) if is_part(described[part], element)]
        place: str | int | None = fitting[0] if fitting else None
    else:
        place = part if part in live else None
    inner = None if place is None else in_live(live[place], described[part], at[1:])
    return None if place is None or inner is None else (place, *inner)


def is_part(wanted: Any, live: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(key in live and is_part(value, live[key]) for key, value in wanted.items())
    return json.dumps(wanted) == json.dumps(live) or isinstance(wanted, list | dict)


def pointer(at: Pointer) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in at)


def value_at(obj: Any, at: Pointer) -> Any:
    for part in at:
        obj = obj[part]
    return obj


def edits(one: Applied) -> Iterator[tuple[str, Fields]]:
    """Yield possible manual changes of described fields, as text and as an operation of a JSON patch."""
    live = one.live()
    for at in leaves(one.described):
        place = None if at in NAMING else in_live(live, one.described, at)
        if place is not None:
            value = another(value_at(live, place))
            yield f"{pointer(at)} replaced", {"op": "replace", "path": pointer(place), "value": value}
            yield f"{pointer(at)} removed", {"op": "remove", "path": pointer(place)}


def test_what_is_proven_to_be_in_place_is_left_as_it_is_by_an_apply(applied: list[Applied]) -> None:
    proven = [one for one in applied if one.is_in_place()]
    assert [one.path for one in proven if not one.stays()] == []

    kinds = {one.described["kind"] for one in proven}
    assert kinds == set(KINDS)
    # The platform renders fields in the form that the server stores.
    assert len(proven) == len(applied)


@pytest.mark.parametrize("kind", KINDS)
def test_no_edit_by_hand_is_passed_over(applied: list[Applied], kind: str) -> None:
    of_kind = [one for one in applied if one.described["kind"] == kind]
    fullest = max((one for one in of_kind if one.is_in_place()), key=lambda one: len(json.dumps(one.described)))
    made = 0
    for what, operation in edits(fullest):
        before = fullest.content()
        try:
            query = {"fieldManager": "by-hand"}
            fullest.client.request("PATCH", fullest.path, query=query, body=[operation], content_type=JSON_PATCH)
        except ApiError:
            # Immutable fields need not be found.
            continue
        if same(fullest.content(), before):
            # A default replaced the removed field.
            continue
        made += 1
        assert not fullest.is_in_place(), f"{fullest.path}: {what}"
        # An element under another name would stay beside the described one.
        fullest.client.request("DELETE", fullest.path)
        fullest.again()
    assert made >= 3
    assert fullest.is_in_place()


def test_a_second_run_only_reads(shop: Shop) -> None:
    manifests = [config_map(), service(), deployment("api", 0)]
    shop.run(*manifests)
    sent = shop.run(*manifests)

    assert set(actions(sent).values()) == {"none"}
    # Two requests for discovery, the namespace, and each object.
    assert sent["calls"] == 2 + 1 + len(manifests)


def test_objects_of_a_kind_that_changed_are_judged_by_the_new_definition(shop: Shop, kind: Kind) -> None:
    shop.run(kind.definition(), kind.lamp("desk", 40))
    renamed = copy.deepcopy(kind.definition(lumen={"type": "integer"}))
    spec = renamed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["watts"], spec["required"]
    result = shop.run(renamed, kind.lamp("desk", 40))

    assert actions(result)["Lamp desk"] == "failed"
    assert "watts" in result["msg"]


def taken_over(shop: Shop) -> Callable[[], dict[str, str]]:
    """Return a function that applies as another manager and returns the actions."""
    return lambda: actions(shop.run(config_map(), field_manager="another", force_conflicts=True))


def test_what_another_manager_applied_is_applied_once_more_to_own_it(shop: Shop) -> None:
    shop.run(config_map())
    apply = taken_over(shop)
    apply()
    found = shop.get("configmaps", "settings")

    assert found is not None
    assert {entry["manager"] for entry in found["metadata"]["managedFields"]} == {MANAGER, "another"}
    assert apply() == {"ConfigMap settings": "none"}
