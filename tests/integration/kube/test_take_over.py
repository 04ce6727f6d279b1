# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that kubectl applied, and lists that users edited, on a real API server."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.kube.applying import Fields, Kind, Shop, actions, config_map, one, paths, service
from tests.integration.kube.roleplay import PROGRAMS

MANAGER = "crypto-lakehouse"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
REVISION = "deployment.kubernetes.io/revision"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


def workload(**changes: Any) -> Fields:
    """Return a Deployment without pods that has every list with keys."""
    container = {
        "name": "web",
        "image": "web:1",
        "ports": [{"name": "http", "containerPort": 80}, {"name": "metrics", "containerPort": 9090}],
        "env": [{"name": "LEVEL", "value": "info"}, {"name": "MODE", "value": "fast"}],
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/web"}, {"name": "cache", "mountPath": "/cache"}],
    }
    pod = {
        "containers": [container],
        "initContainers": [{"name": "prepare", "image": "web:1"}],
        "imagePullSecrets": [{"name": "registry"}],
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}],
        "volumes": [{"name": "settings", "configMap": {"name": "settings"}}, {"name": "cache", "emptyDir": {}}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db.example.org"]}],
        "tolerations": [{"key": "spot", "operator": "Exists"}],
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {**pod, **changes}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def client_side(shop: Shop, *manifests: Fields) -> None:
    """Apply as `kubectl apply` does without --server-side."""
    documents = "\n---\n".join(map(json.dumps, manifests))
    kubectl = [str(PROGRAMS / "kubectl"), "--kubeconfig", str(shop.cluster.kubeconfig), "-n", shop.namespace]
    command = [*kubectl, "apply", "-f", "-"]
    subprocess.run(command, input=documents, text=True, check=True, capture_output=True, timeout=120)


def managers(obj: Fields | None) -> set[tuple[str, str]]:
    assert obj is not None
    entries = obj["metadata"]["managedFields"]
    return {(entry["manager"], entry["operation"]) for entry in entries if not entry.get("subresource")}


def eventually(works: Callable[[], bool]) -> bool:
    until_s = time.monotonic() + 30
    while not works():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.2)
    return True


def has_revision(shop: Shop) -> bool:
    """Return whether the controller of Deployments has annotated that of `workload`."""
    return (
        REVISION
        in shop.client.request("GET", shop.path("deployments", "web", "/apis/apps/v1"))["metadata"]["annotations"]
    )


@pytest.mark.parametrize("force", [False, True])
def test_what_left_the_manifest_goes_in_the_first_run_after_kubectl(shop: Shop, force: bool) -> None:
    client_side(shop, config_map(a="1", b="2"), service(), workload(nodeSelector={"disk": "ssd"}))
    wanted = [config_map(a="1"), service(), workload()]
    # No other client may change them between plan and apply.
    assert not shop.cluster.has_controllers or eventually(lambda: has_revision(shop))

    planned = shop.run(*wanted, check=True, force_conflicts=force)
    applied = shop.run(*wanted, force_conflicts=force)
    for result in (planned, applied):
        assert set(actions(result).values()) == {"update"}
        assert paths(result, "settings")["data.b"] == ("2", None)
        assert "spec.template.spec.nodeSelector" in paths(result, "web")
        for name in ("settings", "api", "web"):
            assert any("annotations" in path for path in paths(result, name))
    assert [change["path"] for item in planned["objects"] for change in item["changes"]] == [
        change["path"] for item in applied["objects"] for change in item["changes"]
    ]

    found = shop.get("configmaps", "settings")
    assert found is not None
    assert found["data"] == {"a": "1"}
    assert LAST_APPLIED not in (found["metadata"].get("annotations") or {})
    assert managers(found) == {(MANAGER, "Apply")}
    web = shop.get("deployments", "web", "/apis/apps/v1")
    assert web is not None
    assert "nodeSelector" not in web["spec"]["template"]["spec"]
    for check in (False, True):
        assert set(actions(shop.run(*wanted, check=check)).values()) == {"none"}


def test_a_port_that_kubectl_applied_is_changed_without_force(shop: Shop) -> None:
    client_side(shop, service(port=80))
    for check in (True, False):
        assert actions(shop.run(service(port=8080), check=check)) == {"Service api": "update"}
    found = shop.get("services", "api")
    assert found is not None
    assert [item["port"] for item in found["spec"]["ports"]] == [8080]


def test_fields_that_another_manager_sets_as_well_stay(shop: Shop) -> None:
    client_side(shop, config_map(a="1", b="2"))
    shop.apply_as("another", shop.path("configmaps", "settings"), config_map(b="2"))
    result = shop.run(config_map(a="1"), check=True)
    assert "data.b" not in paths(result, "settings")
    shop.run(config_map(a="1"))
    found = shop.get("configmaps", "settings")
    assert found is not None
    assert found["data"] == {"a": "1", "b": "2"}


@pytest.mark.parametrize("is_apply", [False, True])
def test_fields_of_a_manager_that_is_named_are_taken_over(shop: Shop, is_apply: bool) -> None:
    if is_apply:
        shop.apply_as("older", shop.path("configmaps", "settings"), config_map(a="1", b="2"))
    else:
        path, query = shop.path("configmaps", "")[:-1], {"fieldManager": "older"}
        shop.client.request("POST", path, query=query, body=config_map(a="1", b="2"))
    assert actions(shop.run(config_map(a="1"), check=True)) == {"ConfigMap settings": "none"}
    for check in (True, False):
        result = shop.run(config_map(a="1"), check=check, adopted_managers=["older"])
        assert paths(result, "settings") == {"data.b": ("2", None)}
    assert managers(shop.get("configmaps", "settings")) == {(MANAGER, "Apply")}
    assert actions(shop.run(config_map(a="1"), adopted_managers=["older"])) == {"ConfigMap settings": "none"}


def test_a_key_that_leaves_an_atomic_map_goes_in_the_plan_as_well(shop: Shop) -> None:
    client_side(shop, service(selector={"app": "api", "tier": "web"}))
    for check in (True, False):
        result = shop.run(service(), check=check)
        assert paths(result, "api")["spec.selector.tier"] == ("web", None)
    assert actions(shop.run(service())) == {"Service api": "none"}


def test_immutable_fields_that_leave_the_manifest_after_kubectl_are_refused_or_replaced(shop: Shop) -> None:
    before = workload()
    before["spec"]["selector"]["matchLabels"]["tier"] = "x"
    before["spec"]["template"]["metadata"]["labels"]["tier"] = "x"
    client_side(shop, before, {**config_map(a="1", b="2"), "immutable": True}, service())
    wanted = [workload(), {**config_map(a="1"), "immutable": True}, service(port=8080)]

    refused = shop.run(*wanted)
    assert actions(refused) == {"Deployment web": "failed", "ConfigMap settings": "failed", "Service api": "skipped"}
    assert one(refused, "web")["message"].startswith("cannot change spec.selector.matchLabels.tier")
    assert one(refused, "settings")["message"].startswith("cannot change data.b")
    for check in (True, False):
        result = shop.run(*wanted, check=check, replace="always")
        assert actions(result) == {
            "Deployment web": "replace",
            "ConfigMap settings": "replace",
            "Service api": "update",
        }
    assert set(actions(shop.run(*wanted)).values()) == {"none"}


def edit(shop: Shop, path: str, *operations: tuple[str, Any]) -> None:
    """Replace values manually, as `kubectl edit` does."""
    body = [{"op": "replace", "path": place, "value": value} for place, value in operations]
    shop.client.request("PATCH", path, query={"fieldManager": "kubectl-edit"}, body=body, content_type=JSON_PATCH)


_POD = "/spec/template/spec"
_WEB = f"{_POD}/containers/0"
EDITS: dict[str, tuple[tuple[str, Any], ...]] = {
    "containers": ((f"{_WEB}/name", "other"),),
    "initContainers": ((f"{_POD}/initContainers/0/name", "other"),),
    "imagePullSecrets": ((f"{_POD}/imagePullSecrets/0/name", "other"),),
    "topologySpreadConstraints": ((f"{_POD}/topologySpreadConstraints/0/topologyKey", "other"),),
    "containerPorts": ((f"{_WEB}/ports/0/containerPort", 8080),),
    "env": ((f"{_WEB}/env/0/name", "LEVELS"),),
    "volumes": ((f"{_POD}/volumes/0/name", "other"), (f"{_WEB}/volumeMounts/0/name", "other")),
    "volumeMounts": ((f"{_WEB}/volumeMounts/0/mountPath", "/etc/other"),),
    "hostAliases": ((f"{_POD}/hostAliases/0/ip", "10.0.0.2"),),
    "tolerations": ((f"{_POD}/tolerations/0/key", "other"),),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_list_is_found_and_repaired(shop: Shop, what: str) -> None:
    shop.run(workload())
    path = shop.path("deployments", "web", "/apis/apps/v1")
    before = shop.client.request("GET", path)["spec"]
    edit(shop, path, *EDITS[what])

    refused = one(shop.run(workload()), "web")
    assert refused["action"] == "failed"
    assert "force_conflicts" in refused["error"]
    planned = shop.run(workload(), check=True, force_conflicts=True)
    applied = shop.run(workload(), force_conflicts=True)
    for result in (planned, applied):
        assert actions(result) == {"Deployment web": "update"}
        assert all(change.startswith("spec.template.spec") for change in paths(result, "web"))
    assert shop.client.request("GET", path)["spec"] == before
    for check in (False, True):
        assert actions(shop.run(workload(), check=check, force_conflicts=True)) == {"Deployment web": "none"}


@pytest.mark.parametrize("name", ["http", None])
def test_an_edited_port_of_a_service_is_found_and_repaired(shop: Shop, name: str | None) -> None:
    wanted = service()
    wanted["spec"]["ports"] = [{"port": 80, **({"name": name} if name else {})}]
    shop.run(wanted)
    path = shop.path("services", "api")
    before = shop.client.request("GET", path)["spec"]
    edit(shop, path, ("/spec/ports/0/port", 8080))

    refused = one(shop.run(wanted), "api")
    assert refused["action"] == "failed"
    assert refused["error"].endswith("or adopt it with `force_conflicts`")
    for check in (True, False):
        result = shop.run(wanted, check=check, force_conflicts=True)
        assert actions(result) == {"Service api": "update"}
        assert any("port" in change for change in paths(result, "api"))
    assert shop.client.request("GET", path)["spec"] == before
    assert actions(shop.run(wanted)) == {"Service api": "none"}


def test_an_edited_port_is_repaired_by_one_request_after_its_owner_changed(shop: Shop) -> None:
    shop.run(service("own", 80), service())
    ordinary = shop.run(service("own", 81))
    edit(shop, shop.path("services", "api"), ("/spec/ports/0/port", 8080))
    taken = shop.run(service(), force_conflicts=True)
    assert [actions(result) for result in (ordinary, taken)] == [{"Service own": "update"}, {"Service api": "update"}]
    assert taken["calls"] == ordinary["calls"] + 1


def test_our_own_fields_that_leave_the_manifest_go_in_the_plan_of_a_takeover(shop: Shop) -> None:
    wanted = service(sessionAffinity="ClientIP", selector={"app": "api", "tier": "web"})
    wanted["spec"]["ports"].append({"name": "metrics", "port": 90})
    shop.run(wanted)
    edit(shop, shop.path("services", "api"), ("/spec/ports/0/port", 8080))
    planned, done = (shop.run(service(), check=check, force_conflicts=True) for check in (True, False))
    gone = {"spec.ports[name=metrics]", "spec.selector.tier", "spec.sessionAffinity", "spec.sessionAffinityConfig"}
    assert set(paths(done, "api")) == {"spec.ports[name=http].port", *gone}
    assert paths(planned, "api") == paths(done, "api")


def test_what_a_program_added_to_a_list_stays(shop: Shop) -> None:
    shop.run(workload())
    path = shop.path("deployments", "web", "/apis/apps/v1")
    added = {"op": "add", "path": f"{_WEB}/env/-", "value": {"name": "INJECTED", "value": "info"}}
    shop.client.request("PATCH", path, query={"fieldManager": "injector"}, body=[added], content_type=JSON_PATCH)
    assert actions(shop.run(workload(), force_conflicts=True)) == {"Deployment web": "none"}
    changed = copy.deepcopy(workload())
    changed["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "NEW", "value": "info"})
    shop.run(changed, force_conflicts=True)
    env = shop.client.request("GET", path)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [item["name"] for item in env] == ["LEVEL", "MODE", "INJECTED", "NEW"]


def test_a_name_that_a_program_gave_another_element_is_refused_and_each_way_out_works(shop: Shop) -> None:
    shop.run(service(port=80))
    path = shop.path("services", "api")
    added: Fields = {"op": "add", "path": "/spec/ports/-"}
    added["value"] = {"name": "metrics", "port": 9090, "targetPort": "metrics"}
    shop.client.request("PATCH", path, query={"fieldManager": "injector"}, body=[added], content_type=JSON_PATCH)
    wanted = service(port=80)
    wanted["spec"]["ports"].append({"name": "metrics", "port": 90})

    refused = one(shop.run(wanted, check=True), "api")
    assert refused["action"] == "failed"
    assert one(shop.run(wanted), "api")["error"] == refused["error"]
    assert "adopt it with `force_conflicts`" in refused["error"]

    same = service(port=80)
    same["spec"]["ports"].append(added["value"])
    assert not shop.run(same).get("failed")
    assert not shop.run(service(port=80)).get("failed")
    assert actions(shop.run(wanted, force_conflicts=True)) == {"Service api": "update"}
    found = shop.client.request("GET", path)["spec"]["ports"]
    assert [(item["name"], item["port"]) for item in found] == [("http", 80), ("metrics", 90)]


def test_edited_conditions_of_a_custom_resource_are_found_and_repaired(shop: Shop, kind: Kind) -> None:
    item = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}, "value": {"type": "string"}},
    }
    conditions = {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    wanted = kind.lamp(conditions=[{"type": "Ready", "value": "soon"}])
    shop.run(kind.definition(conditions=conditions), wanted)
    path = shop.path("lamps", "desk", kind.api)
    edit(shop, path, ("/spec/conditions/0/type", "Readyy"))
    refused = one(shop.run(wanted), "desk")
    assert refused["action"] == "failed"
    assert "force_conflicts" in refused["error"]
    for check in (True, False):
        result = shop.run(wanted, check=check, force_conflicts=True)
        assert actions(result) == {"Lamp desk": "update"}
    assert shop.client.request("GET", path)["spec"] == wanted["spec"]
    assert actions(shop.run(wanted)) == {"Lamp desk": "none"}


def test_a_status_without_its_subresource_is_a_change(shop: Shop, kind: Kind) -> None:
    definition = kind.definition()
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["status"] = {"type": "object", "properties": {"state": {"type": "string"}}}
    lamp = kind.lamp()
    shop.run(definition, {**lamp, "status": {"state": "off"}})
    for check in (True, False):
        result = shop.run({**lamp, "status": {"state": "on"}}, check=check)
        assert result["changed"]
        assert paths(result, "desk") == {"status.state": ("off", "on")}
    assert not shop.run({**lamp, "status": {"state": "on"}})["changed"]


def test_what_controllers_copy_labels_to_gives_no_warning(shop: Shop) -> None:
    endpoints = {"subsets": [{"addresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 80}]}]}
    given = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db"}, **endpoints}
    shop.run(service(), given, prune="everything")
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{shop.namespace}/endpointslices"

    def are_copied() -> bool:
        return shop.get("endpoints", "api") is not None and bool(list(shop.client.pages(slices)))

    assert not shop.cluster.has_controllers or eventually(are_copied)
    notices = shop.run(service(), given, prune="everything")["notices"]
    assert not [text for text in notices if "never applied it" in text]


def test_a_namespace_that_is_being_deleted_names_its_finalizer(shop: Shop) -> None:
    shop.run({**config_map(), "metadata": {"name": "settings", "finalizers": ["example.org/clean"]}})
    path = f"/api/v1/namespaces/{shop.namespace}"
    shop.client.request("DELETE", path)
    try:
        if shop.cluster.has_controllers:
            assert eventually(lambda: "example.org/clean" in json.dumps(shop.client.request("GET", path)))
            assert "example.org/clean" in one(shop.run(config_map("late")), "late")["error"]
    finally:
        body = {"metadata": {"finalizers": None}}
        target = shop.path("configmaps", "settings")
        shop.client.request("PATCH", target, body=body, content_type=MERGE_PATCH)
