# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode on a real API server: the changes of a run are predicted, and none is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import FIELD_MANAGER
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ManifestError
from tests.integration.kube.applying import (
    Fields,
    Kind,
    Shop,
    actions,
    b64,
    config_map,
    look,
    namespaced,
    one,
    paths,
    secret,
    service,
)
from tests.integration.kube.kubelet import deployment

PLANNED = "planned-by-a-test"
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLANNED}}


def everything(shop: Shop) -> list[Fields]:
    """Return the content of the module's objects; the cluster creates others, and annotates them."""
    apis = {"/api/v1": ("configmaps", "secrets", "services"), "/apis/apps/v1": ("deployments",)}
    return [
        {"name": item["metadata"]["name"], **{key: item.get(key) for key in ("data", "spec")}}
        for api, plurals in apis.items()
        for plural in plurals
        for item in shop.client.pages(f"{api}/namespaces/{shop.namespace}/{plural}", query={})
        if item["metadata"]["managedFields"][0]["manager"] == FIELD_MANAGER
    ]


def test_a_first_run_is_planned_as_it_is_then_done(shop: Shop) -> None:
    manifests = [config_map(), secret(a="hush-hush"), service(), deployment("api")]
    planned = shop.run(*manifests, prune="shop-set", check=True)

    assert everything(shop) == []
    assert planned["changed"]
    assert actions(planned) == actions(shop.run(*manifests, prune="shop-set"))


def test_an_update_is_planned_as_it_is_then_done_and_secrets_are_masked(shop: Shop) -> None:
    shop.run(secret(a="hush-one"), deployment("api", 1), config_map(a="1"))
    before = everything(shop)
    manifests = [secret(a="hush-two"), deployment("api", 3), config_map(a="1")]
    planned = shop.run(*manifests, check=True)

    assert everything(shop) == before
    done = shop.run(*manifests)
    for name in ("key", "api", "settings"):
        assert paths(planned, name) == paths(done, name)
    assert planned["diff"] == done["diff"]
    assert paths(planned, "key") == {"data.a": ("(sensitive)", "(sensitive, new value)")}
    for value in ("hush-one", "hush-two", b64("hush-one"), b64("hush-two")):
        assert value not in str(planned)


def test_what_is_in_place_is_planned_to_stay(shop: Shop) -> None:
    manifests = [config_map(), service(), deployment("api"), secret(a="b")]
    shop.run(*manifests)
    planned = shop.run(*manifests, check=True)

    assert set(actions(planned).values()) == {"none"}
    assert not planned["changed"]


def test_objects_of_a_planned_kind_in_a_planned_namespace_are_to_be_created(shop: Shop, kind: Kind) -> None:
    manifests = [
        NAMESPACE,
        kind.definition(),
        namespaced(kind.lamp(), PLANNED),
        namespaced(deployment("api"), PLANNED),
        namespaced(config_map(), PLANNED),
    ]
    planned = shop.run(*manifests, check=True)

    assert set(actions(planned).values()) == {"create"}
    assert one(planned, "desk")["reason"] == "its CRD is only planned"
    assert one(planned, "api")["reason"] == f"the namespace {PLANNED} is only planned"
    assert look(shop.client, kind.path) is None
    assert look(shop.client, f"/api/v1/namespaces/{PLANNED}") is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"wats": 1}, "spec.wats: is an unknown field; did you mean 'watts'?"),
        ({"watts": "many"}, "spec.watts: is not an integer"),
        ({"watts": 101}, "spec.watts: is 101, more than 100"),
        ({"watts": None}, "spec.watts: is required"),
    ],
)
def test_an_object_of_a_planned_kind_is_checked_against_its_schema(
    shop: Shop, kind: Kind, spec: dict[str, Any], words: str
) -> None:
    planned = shop.run(kind.definition(), kind.lamp(**spec), config_map(), check=True)

    assert planned["failed"]
    assert words in one(planned, "desk")["error"]
    assert actions(planned)["ConfigMap settings"] == "create"
    # The server itself rejects the same.
    shop.run(kind.definition())
    assert actions(shop.run(kind.lamp(**spec)))["Lamp desk"] == "failed"


def test_an_object_in_a_planned_namespace_is_checked_against_the_schemas_of_the_server(shop: Shop) -> None:
    wrong = namespaced(deployment("api", replica=3), PLANNED)
    planned = shop.run(NAMESPACE, wrong, check=True)

    assert "spec.replica: is an unknown field; did you mean 'replicas'?" in one(planned, "api")["error"]


def test_a_namespace_that_the_run_would_make_is_planned(shop: Shop) -> None:
    planned = shop.run(config_map(), namespace=PLANNED, create_namespace=True, prune="shop-set", check=True)

    assert actions(planned) == {f"Namespace {PLANNED}": "create", "ConfigMap settings": "create"}


def test_kinds_and_namespaces_of_other_tasks_are_planned_where_they_are_named(
    shop: Shop, kind: Kind, tmp_path: Path
) -> None:
    file = tmp_path / "planned.yaml"
    file.write_text(yaml.safe_dump_all([kind.definition(), NAMESPACE]))
    manifests = [kind.lamp(), namespaced(config_map(), PLANNED)]

    with pytest.raises(ManifestError, match="the cluster has no Lamp"):
        shop.run(*manifests, check=True)
    assert set(actions(shop.run(*manifests, planned_src=[str(file)], check=True)).values()) == {"create"}
    # A real run requires them.
    with pytest.raises(ManifestError, match="the cluster has no Lamp"):
        shop.run(*manifests, planned_src=[str(file)])


def test_a_field_that_only_the_planned_definition_knows_is_planned(shop: Shop, kind: Kind) -> None:
    shop.run(kind.definition(), kind.lamp())
    planned = shop.run(kind.definition(colour={"type": "string"}), kind.lamp(colour="red"), check=True)

    assert paths(planned, "desk") == {"spec.colour": (None, "red")}
    assert one(planned, "desk")["reason"].startswith("its CRD is only planned to change")
    wrong = shop.run(kind.definition(colour={"type": "string"}), kind.lamp(color="red"), check=True)
    assert "did you mean 'colour'?" in one(wrong, "desk")["error"]


def test_a_deletion_is_planned_and_not_done(shop: Shop) -> None:
    shop.run(config_map(), service())
    planned = shop.run(config_map(), service(), config_map("never"), state="absent", check=True)

    assert actions(planned) == {"ConfigMap settings": "delete", "Service api": "delete", "ConfigMap never": "none"}
    assert shop.get("configmaps", "settings") is not None


def test_a_secret_whose_values_are_only_planned_is_to_be_created(shop: Shop) -> None:
    planned = shop.run(secret(a="${secret_value.password}"), secrets_from="store", check=True)

    assert actions(planned) == {"Secret key": "create"}


def test_what_is_being_deleted_would_be_made_anew(shop: Shop) -> None:
    shop.run({**config_map(), "metadata": {"name": "settings", "finalizers": ["example.org/hold"]}})
    shop.client.request("DELETE", shop.path("configmaps", "settings"))
    planned = shop.run(config_map(), check=True)
    shop.client.request(
        "PATCH",
        shop.path("configmaps", "settings"),
        body={"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )

    assert actions(planned) == {"ConfigMap settings": "create"}
    assert "going away" in one(planned, "settings")["reason"]


def test_a_conflict_is_known_before_the_run(shop: Shop) -> None:
    obj = namespaced(config_map(a="theirs"), shop.namespace)
    shop.apply_as("somebody-else", shop.path("configmaps", "settings"), obj)

    assert "owned by somebody-else" in shop.run(config_map(a="ours"), check=True)["msg"]
