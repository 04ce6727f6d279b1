# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields of other managers that an apply takes over, and the values that it removes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply import Apply
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import Options
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.results import Outcome
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.take_over import (
    LAST_APPLIED,
    applied,
    merge_patch,
    take_over,
    union,
    without_taken,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load
from tests.unit.kube.server import ApiServer, Reply, status

Fields = dict[str, Any]
US = "crypto-lakehouse"
CLIENT_SIDE = "kubectl-client-side-apply"


def entry(manager: str, fields: Fields, operation: str = "Update", **more: str) -> Fields:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields, **more}


def config_map(data: Fields, *entries: Fields, annotations: Fields | None = None) -> Fields:
    metadata: Fields = {"name": "settings", "namespace": "shop", "uid": "1", "resourceVersion": "7"}
    metadata |= {"managedFields": list(entries), **({"annotations": annotations} if annotations else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def manifest(data: Fields) -> Fields:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}


CLIENT_FIELDS: Fields = {
    "f:data": {".": {}, "f:a": {}, "f:b": {}},
    "f:metadata": {"f:annotations": {".": {}, f"f:{LAST_APPLIED}": {}}},
}
NOTE = {LAST_APPLIED: "{}"}


def test_the_fields_of_a_client_side_apply_become_ours() -> None:
    live = config_map({"a": "1", "b": "2"}, entry(CLIENT_SIDE, CLIENT_FIELDS), annotations=NOTE)
    taken = take_over(live, manifest({"a": "1"}), US, ())
    assert taken is not None
    (ours,) = taken.managed_fields
    assert (ours["manager"], ours["operation"], ours["apiVersion"]) == (US, "Apply", "v1")
    assert ours["fieldsV1"] == CLIENT_FIELDS
    assert taken.patch(live) == [
        {"op": "replace", "path": "/metadata/managedFields", "value": [ours]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
    ]


def test_they_are_added_to_what_we_own_and_others_keep_theirs() -> None:
    other = entry("autoscaler", {"f:data": {"f:b": {}}})
    subresource = entry(CLIENT_SIDE, {"f:status": {}}, subresource="status")
    ours = entry(US, {"f:data": {"f:c": {}}}, "Apply")
    live = config_map({"a": "1"}, entry(CLIENT_SIDE, CLIENT_FIELDS), other, subresource, ours, annotations=NOTE)
    taken = take_over(live, manifest({"a": "1"}), US, ())
    assert taken is not None
    assert taken.managed_fields[0]["fieldsV1"]["f:data"] == {"f:a": {}, "f:b": {}, "f:c": {}, ".": {}}
    assert list(taken.managed_fields[1:]) == [other, subresource]


def test_fields_noted_in_another_version_are_treated_as_kubectl_treats_them() -> None:
    older = {**entry(CLIENT_SIDE, CLIENT_FIELDS), "apiVersion": "v1beta1"}
    live = config_map({"a": "1", "b": "2"}, older, annotations=NOTE)
    taken = take_over(live, manifest({"a": "1"}), US, ())
    assert taken is not None
    assert taken.managed_fields[0] == {**older, "manager": US, "operation": "Apply"}
    ours = entry(US, {"f:data": {"f:a": {}}}, "Apply")
    live = config_map({"a": "1", "b": "2"}, older, ours)
    taken = take_over(live, manifest({"a": "1"}), US, ())
    assert taken is not None
    assert taken.managed_fields == (ours,)


@pytest.mark.parametrize("operation", ["Update", "Apply"])
def test_fields_of_another_manager_are_taken_where_it_is_named(operation: str) -> None:
    live = config_map({"a": "1"}, entry("helm", {"f:data": {"f:a": {}}}, operation))
    assert take_over(live, manifest({"a": "1"}), US, ()) is None
    taken = take_over(live, manifest({"a": "1"}), US, ("helm",))
    assert taken is not None
    assert [one["manager"] for one in taken.managed_fields] == [US]


def test_a_note_of_an_earlier_client_side_apply_goes_whoever_kept_it() -> None:
    note: Fields = {"f:metadata": {"f:annotations": {f"f:{LAST_APPLIED}": {}}}}
    live = config_map({"a": "1"}, entry("before-first-apply", note), annotations=NOTE)
    taken = take_over(live, manifest({"a": "1"}), US, ())
    assert taken is not None
    assert [one["manager"] for one in taken.managed_fields] == [US]
    assert take_over(live, {**manifest({}), "metadata": {"name": "settings", "annotations": NOTE}}, US, ()) is None


def service(*ports: Fields) -> Fields:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": list(ports)}}


def noted(keys: list[str], path: list[str], *elements: Fields) -> Fields:
    fields: Fields = {}
    for element in elements:
        key = {name: element[name] for name in keys}
        fields[f"k:{json.dumps(key)}"] = {".": {}, **{f"f:{name}": {} for name in element}}
    for part in reversed(path):
        fields = {f"f:{part}": fields}
    return fields


def listed(path: list[str], elements: list[Fields]) -> Fields:
    value: Any = elements
    for part in reversed(path):
        value = {part: value}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "web"}, **value}


POD = ["spec", "template", "spec"]
CASES: dict[str, tuple[list[str], list[str], Fields, Fields]] = {
    "port": (
        ["spec", "ports"],
        ["port", "protocol"],
        {"port": 80, "name": "http"},
        {"port": 8080, "protocol": "TCP", "name": "http"},
    ),
    "port without a name": (["spec", "ports"], ["port", "protocol"], {"port": 80}, {"port": 8080, "protocol": "TCP"}),
    "containerPort": (
        [*POD, "ports"],
        ["containerPort", "protocol"],
        {"containerPort": 80, "name": "http"},
        {"containerPort": 8080, "protocol": "TCP", "name": "http"},
    ),
    "volumeMount": (
        [*POD, "volumeMounts"],
        ["mountPath"],
        {"mountPath": "/data", "name": "data"},
        {"mountPath": "/other", "name": "data"},
    ),
    "volume": (
        [*POD, "volumes"],
        ["name"],
        {"name": "data", "secret": {"secretName": "x"}},
        {"name": "other", "secret": {"secretName": "x", "defaultMode": 420}},
    ),
    "env": ([*POD, "env"], ["name"], {"name": "LEVEL", "value": "info"}, {"name": "LEVELS", "value": "info"}),
    "image pull secret": ([*POD, "imagePullSecrets"], ["name"], {"name": "registry"}, {"name": "other"}),
    "hostAlias": (
        [*POD, "hostAliases"],
        ["ip"],
        {"ip": "10.0.0.1", "hostnames": ["a"]},
        {"ip": "10.0.0.2", "hostnames": ["a"]},
    ),
    "condition": (
        ["spec", "conditions"],
        ["type"],
        {"type": "Ready", "reason": "Set"},
        {"type": "Readyy", "reason": "Set"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_element_under_another_key_is_found(case: str) -> None:
    path, keys, wanted, edited = CASES[case]
    live = listed(path, [edited])
    live["metadata"]["managedFields"] = [
        entry(US, {"f:spec": {}}, "Apply"),
        entry("kubectl-edit", noted(keys, path, edited)),
    ]
    taken = take_over(live, listed(path, [wanted]), US, ())
    assert taken is not None
    (found,) = taken.renumbered
    assert found.element == edited
    assert found.field.startswith(f".{'.'.join(path)}[")
    assert [one["manager"] for one in taken.managed_fields] == [US]
    left = without_taken(live, listed(path, [wanted]), taken.managed_fields[0]["fieldsV1"], [])
    assert left == {**listed(path, []), "metadata": live["metadata"]}


@pytest.mark.parametrize("case", CASES)
def test_an_element_of_a_manager_that_is_taken_over_needs_no_force(case: str) -> None:
    path, keys, wanted, edited = CASES[case]
    live = listed(path, [edited])
    live["metadata"]["managedFields"] = [entry(CLIENT_SIDE, noted(keys, path, edited))]
    taken = take_over(live, listed(path, [wanted]), US, ())
    assert taken is not None
    assert taken.renumbered == ()
    left = without_taken(live, listed(path, [wanted]), taken.managed_fields[0]["fieldsV1"], [])
    assert left == {**listed(path, []), "metadata": live["metadata"]}


@pytest.mark.parametrize("case", [case for case in CASES if "ort" not in case])
def test_an_element_that_a_program_added_is_left_alone(case: str) -> None:
    path, keys, wanted, edited = CASES[case]
    live = listed(path, [edited])
    live["metadata"]["managedFields"] = [entry("injector", noted(keys, path, edited))]
    assert take_over(live, listed(path, [wanted]), US, ()) is None


@pytest.mark.parametrize("case", CASES)
def test_an_element_beside_ours_is_left_alone(case: str) -> None:
    path, keys, wanted, edited = CASES[case]
    ours = {**edited, **wanted}
    live = listed(path, [ours, edited])
    live["metadata"]["managedFields"] = [
        entry(US, noted(keys, path, ours), "Apply"),
        entry("kubectl-edit", noted(keys, path, edited)),
    ]
    assert take_over(live, listed(path, [wanted]), US, ()) is None


def test_a_set_and_a_whole_list_have_no_elements_under_another_key() -> None:
    tolerations = ["spec", "tolerations"]
    live = listed(tolerations, [{"key": "a"}])
    live["metadata"]["managedFields"] = [entry("kubectl-edit", {"f:spec": {"f:tolerations": {}}})]
    assert take_over(live, listed(tolerations, [{"key": "b"}]), US, ()) is None


def test_what_others_own_as_well_stays() -> None:
    live = {"data": {"a": "1", "b": "2", "c": "3"}, "spec": {"list": ["x", "y"]}}
    taken = {"f:data": {"f:a": {}, "f:b": {}}, "f:spec": {"f:list": {'v:"x"': {}, 'v:"y"': {}}}}
    others = [{"f:data": {"f:b": {}}, "f:spec": {"f:list": {'v:"y"': {}}}}]
    assert without_taken(live, {"data": {}}, taken, others) == {"data": {"b": "2", "c": "3"}, "spec": {"list": ["y"]}}


fieldsets: st.SearchStrategy[Fields] = st.recursive(
    st.just({}), lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", "."]), inner, max_size=3), max_leaves=8
)


@given(one=fieldsets, other=fieldsets)
def test_a_union_holds_both_and_nothing_else(one: Fields, other: Fields) -> None:
    both = union(one, other)
    assert set(both) == {*one, *other}
    assert union(both, one) == union(both, other) == both


values = st.recursive(
    st.integers() | st.text(max_size=2) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def patched(document: Any, patch: Any) -> Any:
    """Apply a merge patch as defined in RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


@given(before=documents, after=documents)
def test_a_merge_patch_makes_one_document_of_the_other(before: Fields, after: Fields) -> None:
    assert patched(before, merge_patch(before, after)) == after


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as made:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        made.client().request("POST", "/api/v1/namespaces/shop", body=namespace)
        made.requests.clear()
        yield made


def run(server: ApiServer, wanted: Fields, **options: Any) -> Outcome:
    with server.client() as client:
        return Apply(client, Discovery(client), Options(namespace="shop", **options)).run(load([wanted]))


def test_the_owner_changes_before_the_apply_and_again_where_somebody_wrote_in_between(server: ApiServer) -> None:
    live = config_map({"a": "1", "b": "2"}, entry(CLIENT_SIDE, CLIENT_FIELDS), annotations=NOTE)
    newer = {**live, "metadata": {**live["metadata"], "resourceVersion": "8"}}
    after = config_map({"a": "1"}, entry(US, {"f:data": {"f:a": {}}}, "Apply"))
    after["metadata"]["resourceVersion"] = "9"
    server.on("GET", "/configmaps/settings$", Reply(200, live), Reply(200, newer))
    server.on(
        "PATCH", "/configmaps/settings$", status(409, "changed", "Conflict"), Reply(200, newer), Reply(200, after)
    )
    outcome = run(server, manifest({"a": "1"}))
    sent = [request for request in server.requests if request.method == "PATCH"]
    assert [request.headers["Content-Type"].partition("+")[0] for request in sent] == [
        "application/json-patch",
        "application/json-patch",
        "application/apply-patch",
    ]
    assert [request.body[1]["value"] for request in sent[:2]] == ["7", "8"]
    (result,) = outcome.objects
    assert result.action == "update"
    assert [change.path for change in result.changes] == ["data.b", "metadata.annotations"]


def test_a_plan_says_what_goes_and_writes_nothing(server: ApiServer) -> None:
    live = config_map({"a": "1", "b": "2"}, entry(CLIENT_SIDE, CLIENT_FIELDS), annotations=NOTE)
    server.on("GET", "/configmaps/settings$", Reply(200, live))
    server.on("PATCH", "/configmaps/settings$", Reply(200, live), Reply(200, config_map({"a": "1"})))
    outcome = run(server, manifest({"a": "1"}), only_plans=True)
    sent = [request for request in server.requests if request.method == "PATCH"]
    assert {request.options["dryRun"] for request in sent} == {"All"}
    assert sent[1].body == {"data": {"b": None}, "metadata": {"annotations": None}}
    assert outcome.objects[0].action == "update"


def test_an_element_under_another_key_needs_force_conflicts(server: ApiServer) -> None:
    edited = {"port": 8080, "protocol": "TCP", "name": "http"}
    live = service(edited)
    live["metadata"] |= {"namespace": "shop", "uid": "1", "resourceVersion": "7"}
    live["metadata"]["managedFields"] = [entry("kubectl-edit", noted(["port", "protocol"], ["spec", "ports"], edited))]
    server.on("GET", "/services/web$", Reply(200, live))
    outcome = run(server, service({"port": 80, "name": "http"}))
    assert "cannot apply over .spec.ports[" in outcome.objects[0].error
    assert outcome.objects[0].error.endswith("or adopt it with `force_conflicts`")
    assert not [request for request in server.requests if request.method == "PATCH"]


MOUNTS: Fields = {
    "f:mounts": {
        part: {".": {}} for part in ('k:{"mountPath":"/etc"}', 'k:{"mountPath":"/var"}', 'k:{"mountPath":"/injected"}')
    }
}


def mount(path: str, name: str) -> Fields:
    return {"mountPath": path, "name": name}


def test_a_list_is_merged_by_the_keys_of_its_managed_fields() -> None:
    live = {"mounts": [mount("/etc", "other"), mount("/injected", "token"), mount("/var", "cache")]}
    wanted = {"mounts": [mount("/etc", "settings"), mount("/var", "cache"), mount("/new", "new")]}
    assert applied(live, wanted, [MOUNTS]) == {
        "mounts": [mount("/etc", "settings"), mount("/injected", "token"), mount("/var", "cache"), mount("/new", "new")]
    }


def test_merged_elements_have_the_order_of_the_manifest() -> None:
    live = {"mounts": [mount("/etc", "a"), mount("/var", "b")]}
    wanted = {"mounts": [mount("/var", "b"), mount("/etc", "a")]}
    assert applied(live, wanted, [MOUNTS]) == wanted


def test_a_set_keeps_the_values_of_others_and_an_atomic_list_is_replaced() -> None:
    live = {"finalizers": ["a", "b"], "args": ["x", "y"]}
    wanted = {"finalizers": ["b", "c"], "args": ["z"]}
    sets: list[Fields] = [{"f:finalizers": {".": {}, 'v:"a"': {}, 'v:"b"': {}}, "f:args": {}}]
    assert applied(live, wanted, sets) == {"finalizers": ["a", "b", "c"], "args": ["z"]}
