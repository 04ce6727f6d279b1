# SPDX-License-Identifier: GPL-3.0-or-later
"""Semantics of server-side apply, on a real API server."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply import Apply
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import FIELD_MANAGER, Options
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE, Answer, Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ConfigError,
    ManifestError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load
from tests.integration.kube.applying import (
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
from tests.integration.kube.kubelet import deployment, pod_spec

APPS = "/apis/apps/v1"


def test_what_is_applied_again_is_unchanged_and_only_read(shop: Shop) -> None:
    manifests = [config_map(f"c{number}") for number in range(20)]
    first = shop.run(*manifests)
    again = shop.run(*manifests)

    assert set(actions(first).values()) == {"create"}
    assert first["changed"]
    assert set(actions(again).values()) == {"none"}
    assert not again["changed"]
    assert again["diff"] == []
    # Two requests for discovery, the namespace, and one list.
    assert again["calls"] == 4


def test_a_change_is_made_and_shown_without_defaults(shop: Shop) -> None:
    shop.run(deployment("api", 1), service("api", 80))
    result = shop.run(deployment("api", 2), service("api", 80))

    assert actions(result) == {"Deployment api": "update", "Service api": "none"}
    assert paths(result, "api") == {"spec.replicas": (1, 2)}
    assert "terminationMessagePath" not in str(result["diff"])
    assert "managedFields" not in str(result["diff"])
    found = shop.get("deployments", "api", APPS)
    assert found is not None
    assert found["spec"]["replicas"] == 2


def test_the_default_of_a_new_port_is_no_part_of_the_difference(shop: Shop) -> None:
    shop.run(service("api", 80))
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    result = shop.run(service("api", 80, ports=ports))

    assert paths(result, "api") == {"spec.ports[name=admin]": (None, {"name": "admin", "port": 81})}


def test_that_only_managed_fields_move_is_no_change(shop: Shop) -> None:
    obj = namespaced(config_map(a="1"), shop.namespace)
    before = shop.apply_as("somebody", shop.path("configmaps", "settings"), obj)
    result = shop.run(config_map(a="1"))
    after = shop.get("configmaps", "settings")

    assert after is not None
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert actions(result) == {"ConfigMap settings": "none"}
    assert not result["changed"]


def test_a_conflict_names_the_other_manager_and_the_field_and_the_others_are_applied(shop: Shop) -> None:
    obj = namespaced(config_map(a="theirs"), shop.namespace)
    shop.apply_as("somebody-else", shop.path("configmaps", "settings"), obj)
    result = shop.run(config_map(a="ours"), config_map("other"))

    assert result["failed"]
    assert actions(result) == {"ConfigMap settings": "failed", "ConfigMap other": "create"}
    assert ".data.a (owned by somebody-else)" in one(result, "settings")["error"]
    assert "force_conflicts" in result["msg"]
    taken = shop.run(config_map(a="ours"), config_map("other"), force_conflicts=True)
    assert paths(taken, "settings") == {"data.a": ("theirs", "ours")}


def test_what_kubectl_applied_from_the_client_is_taken_over_and_changed(shop: Shop) -> None:
    def update(**data: str) -> None:
        query = {"fieldManager": "kubectl-client-side-apply"}
        shop.client.request("PUT", path, query=query, body=namespaced(config_map(**data), shop.namespace))

    path = shop.path("configmaps", "settings")
    create = {"fieldManager": "kubectl-client-side-apply"}
    shop.client.request("POST", path.rpartition("/")[0], query=create, body=config_map(a="1", b="2"))

    assert actions(shop.run(config_map(a="1", b="2"))) == {"ConfigMap settings": "none"}
    update(a="1", b="3")
    for check in (True, False):
        assert paths(shop.run(config_map(a="1", b="2"), check=check), "settings") == {"data.b": ("3", "2")}
    assert actions(shop.run(config_map(a="1", b="2"))) == {"ConfigMap settings": "none"}


def test_what_was_changed_by_hand_is_put_right_where_that_is_wanted(shop: Shop) -> None:
    shop.run(deployment("api", 2))
    body = {"spec": {"replicas": 7, "paused": True}}
    shop.client.request("PATCH", shop.path("deployments", "api", APPS), body=body, content_type=MERGE)

    assert ".spec.replicas (owned by " in shop.run(deployment("api", 2))["msg"]
    result = shop.run(deployment("api", 2), force_conflicts=True)
    # Fields outside of the manifest belong to other managers.
    assert paths(result, "api") == {"spec.replicas": (7, 2)}


def test_a_field_that_leaves_the_manifest_leaves_the_object(shop: Shop) -> None:
    shop.run(config_map(a="1", b="2"))
    result = shop.run(config_map(a="1"))

    assert paths(result, "settings") == {"data.b": ("2", None)}
    found = shop.get("configmaps", "settings")
    assert found is not None
    assert found["data"] == {"a": "1"}


def test_what_a_controller_writes_between_look_and_apply_is_no_change_of_ours(shop: Shop) -> None:
    class Interrupted(Client):
        """Another client writes to the object after it was read."""

        def send(self, method: str, path: str, **more: Any) -> Answer:
            if method == "PATCH":
                body = {"metadata": {"annotations": {"revision": "2"}}}
                shop.client.request("PATCH", shop.path("configmaps", "settings"), body=body, content_type=MERGE)
            return super().send(method, path, **more)

    shop.run(config_map(a="1"))
    # Timestamps are whole seconds: an apply in the same second would look identical.
    time.sleep(6)
    with Interrupted(connection({"kubeconfig": str(shop.cluster.kubeconfig)})) as client:
        options = Options(namespace=shop.namespace)
        outcome = Apply(client, Discovery(client), options).run(load([config_map(a="1")]))

    assert [result.action for result in outcome.objects] == ["none"]


def test_kinds_and_objects_of_them_are_applied_in_one_run(shop: Shop, kind: Kind) -> None:
    manifests = [kind.lamp("desk"), kind.lamp("wall"), kind.definition()]
    first = shop.run(*manifests)

    assert set(actions(first).values()) == {"create"}
    assert [result["name"] for result in first["objects"]] == ["desk", "wall", kind.name]
    again = shop.run(*manifests)
    assert set(actions(again).values()) == {"none"}


def test_a_kind_that_gets_a_field_can_be_given_it_in_the_same_run(shop: Shop, kind: Kind) -> None:
    shop.run(kind.definition(), kind.lamp())
    result = shop.run(kind.definition(colour={"type": "string"}), kind.lamp(colour="red"))

    assert actions(result) == {f"CustomResourceDefinition {kind.name}": "update", "Lamp desk": "update"}
    assert paths(result, "desk") == {"spec.colour": (None, "red")}


def test_objects_of_a_kind_that_fails_are_left_out_and_all_others_applied(shop: Shop, kind: Kind) -> None:
    broken = kind.definition(colour={"type": "no type"})
    result = shop.run(broken, kind.lamp(), config_map())

    assert actions(result) == {
        f"CustomResourceDefinition {kind.name}": "failed",
        "Lamp desk": "skipped",
        "ConfigMap settings": "create",
    }
    assert f"CustomResourceDefinition {kind.name}" in one(result, "desk")["reason"]


def test_a_namespace_is_made_first_and_a_pod_waits_for_its_account(shop: Shop) -> None:
    name = f"{shop.namespace}-made"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once", "namespace": name}, "spec": pod_spec()}
    result = shop.run(pod, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    assert actions(result) == {"Pod once": "create", f"Namespace {name}": "create"}
    shop.run({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, state="absent")


def test_a_namespace_is_made_where_that_is_asked_for(shop: Shop) -> None:
    name = f"{shop.namespace}-asked"
    result = shop.run(config_map(), namespace=name, create_namespace=True)

    assert actions(result) == {f"Namespace {name}": "create", "ConfigMap settings": "create"}
    assert actions(shop.run(config_map(), namespace=name, create_namespace=True))[f"Namespace {name}"] == "none"
    shop.client.request("DELETE", f"/api/v1/namespaces/{name}")


def test_secrets_are_kept_as_the_server_keeps_them_and_shown_nowhere(shop: Shop) -> None:
    shop.run(secret(password="hush-hush-1", user="reader"))
    result = shop.run(secret(password="hush-hush-2"), config_map(password="in plain sight"))
    found = shop.get("secrets", "key")

    assert found is not None
    assert found["data"] == {"password": b64("hush-hush-2")}
    assert "stringData" not in found
    assert paths(result, "key") == {
        "data.password": ("(sensitive)", "(sensitive, new value)"),
        "data.user": ("(sensitive)", None),
    }
    for value in ("hush-hush-1", "hush-hush-2", b64("hush-hush-1"), b64("hush-hush-2")):
        assert value not in str(result)
    assert "in plain sight" in str(result["diff"])
    assert {"hush-hush-2", b64("hush-hush-2")} <= shop.hidden
    assert actions(shop.run(secret(password="hush-hush-2"))) == {"Secret key": "none"}


def test_placeholders_are_filled_from_a_secret_of_the_cluster(shop: Shop) -> None:
    shop.run(secret("store", password="p@ss-word"))
    given = secret(url="postgresql://api:${secret_value.password|url}@db")
    result = shop.run(given, secrets_from="store")
    found = shop.get("secrets", "key")

    assert found is not None
    assert found["data"] == {"url": b64("postgresql://api:p%40ss-word@db")}
    assert "p@ss-word" not in str(result)
    assert {"p@ss-word", "postgresql://api:p%40ss-word@db"} <= shop.hidden
    assert not shop.run(given, secrets_from="store")["changed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"secrets_from": "nothing"}, "there is no Secret"), ({}, "secrets_from")],
)
def test_a_placeholder_without_its_secret_stops_the_run_before_anything_is_applied(
    shop: Shop, options: dict[str, Any], words: str
) -> None:
    with pytest.raises((ConfigError, ManifestError), match=words):
        shop.run(config_map(), secret(a="${secret_value.password}"), **options)
    assert shop.get("configmaps", "settings") is None


def test_what_is_being_deleted_is_waited_for_and_made_anew(shop: Shop) -> None:
    path = shop.path("configmaps", "settings")
    shop.run({**config_map(), "metadata": {"name": "settings", "finalizers": ["example.org/hold"]}})
    shop.client.request("DELETE", path)
    old = shop.get("configmaps", "settings")
    release = threading.Timer(
        1.0,
        lambda: shop.client.request("PATCH", path, body={"metadata": {"finalizers": None}}, content_type=MERGE),
    )
    release.start()
    result = shop.run(config_map())
    release.join()
    new = shop.get("configmaps", "settings")

    assert actions(result) == {"ConfigMap settings": "create"}
    assert old is not None
    assert new is not None
    assert new["metadata"]["uid"] != old["metadata"]["uid"]


def test_what_does_not_go_away_is_an_error_that_names_what_holds_it(shop: Shop) -> None:
    path = shop.path("configmaps", "settings")
    shop.run({**config_map(), "metadata": {"name": "settings", "finalizers": ["example.org/hold"]}})
    shop.client.request("DELETE", path)
    result = shop.run(config_map(), wait_timeout=1)
    shop.client.request("PATCH", path, body={"metadata": {"finalizers": None}}, content_type=MERGE)

    assert "it waits for example.org/hold" in one(result, "settings")["error"]


def test_what_does_not_get_ready_fails_with_the_reason_and_was_changed(shop: Shop) -> None:
    result = shop.run(deployment("api"), config_map(), wait=True, wait_timeout=2)

    assert result["failed"]
    assert result["changed"]
    assert actions(result) == {"Deployment api": "failed", "ConfigMap settings": "create"}
    assert "is not ready after 2 s" in one(result, "api")["error"]


def test_what_is_ready_is_not_waited_for(shop: Shop) -> None:
    result = shop.run(config_map(), service(), secret(a="b"), wait=True)

    assert "failed" not in result


def test_absent_deletes_what_is_there_and_is_content_with_what_is_not(shop: Shop, kind: Kind) -> None:
    manifests = [kind.definition(), kind.lamp(), config_map(), deployment("api")]
    shop.run(*manifests)
    result = shop.run(*manifests, state="absent", wait=True)

    assert set(actions(result).values()) == {"delete"}
    assert shop.get("configmaps", "settings") is None
    assert look(shop.client, kind.path) is None
    again = shop.run(*manifests, state="absent")
    assert set(actions(again).values()) == {"none"}
    assert not again["changed"]
    assert one(again, "desk")["reason"] == "the cluster has no such kind"


def test_a_deletion_that_hangs_is_told_and_keeps_what_would_end_it(shop: Shop, kind: Kind) -> None:
    held = kind.lamp()
    held["metadata"]["finalizers"] = ["example.org/hold"]
    manifests = [kind.definition(), held, deployment("operator")]
    shop.run(*manifests)
    result = shop.run(*manifests, state="absent", wait_timeout=1)
    shop.client.request(
        "PATCH",
        shop.path("lamps", "desk", kind.api),
        body={"metadata": {"finalizers": None}},
        content_type=MERGE,
    )

    assert actions(result)["Lamp desk"] == "failed"
    assert actions(result)["Deployment operator"] == "skipped"
    assert shop.get("deployments", "operator", APPS) is not None


def test_fields_belong_to_the_manager_that_is_named(shop: Shop) -> None:
    shop.run(config_map())
    shop.run(config_map("other"), field_manager="night-shift")
    mine, other = shop.get("configmaps", "settings"), shop.get("configmaps", "other")

    assert mine is not None
    assert other is not None
    assert [entry["manager"] for entry in mine["metadata"]["managedFields"]] == [FIELD_MANAGER]
    assert [entry["manager"] for entry in other["metadata"]["managedFields"]] == ["night-shift"]


def test_a_namespace_on_what_has_none_is_dropped_as_kubectl_does(shop: Shop) -> None:
    name = f"reader-{shop.namespace}"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "namespace": shop.namespace},
        "rules": [],
    }
    result = shop.run(role)

    assert actions(result) == {f"ClusterRole {name}": "create"}
    shop.run(role, state="absent")
