# SPDX-License-Identifier: GPL-3.0-or-later
"""Immutable fields: planned as expansion or replacement, changed in an order without data loss, or refused first."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply import Apply
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.applyset import PART_OF_LABEL
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import FIELD_MANAGER, Options
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.results import Outcome
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load
from tests.unit.kube.server import DROPPED, ApiServer, Reply, Request, status

Fields = dict[str, Any]
NAMESPACE: Fields = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
CLAIMS = "/api/v1/namespaces/shop/persistentvolumeclaims"
SETS = "/apis/apps/v1/namespaces/shop/statefulsets"
IMMUTABLE = "updates to statefulset spec for fields other than 'replicas', 'template' are forbidden"
MUTABLE = {"replicas", "template", "updateStrategy"}


class Judging:
    """Applies the server's rules for immutable fields; dry runs store nothing, a patch of a claim is merged into it."""

    def __init__(self, server: ApiServer) -> None:
        self.server, self.store = server, server.objects
        server.answer = self.answer

    def get(self, path: str) -> Fields | None:
        code, body = self.store.answer("GET", path, {}, None)
        return body if code == 200 and isinstance(body, dict) else None

    def put(self, path: str, body: Fields) -> None:
        self.store.answer("PUT", path, {}, body)

    def answer(self, request: Request) -> Reply:
        body, before = request.body, self.get(request.path)
        if request.method == "PATCH" and before is not None:
            body = _merged(before, body) if "merge-patch" in request.headers["Content-Type"] else body
            fixed = [key for key in {**before.get("spec", {}), **body.get("spec", {})} if key not in MUTABLE]
            is_set = body["kind"] == "StatefulSet"
            if is_set and any(before["spec"].get(key) != body["spec"].get(key) for key in fixed):
                return status(422, IMMUTABLE, "Invalid")
            if body["kind"] == "Deployment" and before["spec"]["selector"] != body["spec"]["selector"]:
                return status(422, "spec.selector: Invalid value: field is immutable", "Invalid")
        is_dry = "dryRun" in request.options or bool((body or {}).get("dryRun"))
        if is_dry and request.method == "PATCH":
            head = {"uid": "of-a-dry-run", **(before or {}).get("metadata", {}), **body["metadata"]}
            return Reply(200, {**body, "metadata": head})
        code, found = self.store.answer(request.method, request.path, request.options, body)
        return Reply(code, stream=found) if callable(found) else Reply(code, found)


def _merged(before: Any, patch: Any) -> Any:
    if isinstance(before, Mapping) and isinstance(patch, Mapping):
        return {**before, **{key: _merged(before.get(key), value) for key, value in patch.items()}}
    return patch


def stateful_set(size: str = "5Gi", **spec: Any) -> Fields:
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}}
    whole = {"replicas": 2, "serviceName": "db", "volumeClaimTemplates": [template], **spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": whole,
    }


def deployment(label: str) -> Fields:
    spec = {"selector": {"matchLabels": {"app": label}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": spec,
    }


def config_map(value: str) -> Fields:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": value}}


def claim(number: int, size: str = "5Gi", storage_class: str = "fast", phase: str = "Bound") -> Fields:
    spec = {"storageClassName": storage_class, "resources": {"requests": {"storage": size}}, "volumeName": "pv"}
    if phase == "Pending":
        del spec["volumeName"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"data-db-{number}", "namespace": "shop"},
        "spec": spec,
        "status": {"phase": phase, "capacity": {"storage": size}},
    }


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Judging]:
    with ApiServer(tmp_path) as server:
        server.objects.kinds["storage.k8s.io/v1"] = [("StorageClass", "storageclasses", False)]
        server.objects.kinds["monitoring.coreos.com/v1"] = [("Prometheus", "prometheuses", True)]
        judging = Judging(server)
        judging.put("/api/v1/namespaces/shop", NAMESPACE)
        for name, expands in (("fast", True), ("rigid", False)):
            judging.put(f"{CLASSES}/{name}", {"metadata": {"name": name}, "allowVolumeExpansion": expands})
        yield judging


def run(api: Judging, *manifests: Fields, **options: Any) -> Outcome:
    api.server.requests.clear()
    with api.server.client() as client:
        return Apply(client, Discovery(client), Options(namespace="shop", **options)).run(load(manifests))


def deployed(api: Judging, *claims: Fields) -> None:
    run(api, stateful_set())
    for one in claims or (claim(0), claim(1)):
        api.put(f"{CLAIMS}/{one['metadata']['name']}", one)


def changes_sent(api: Judging) -> list[tuple[str, str]]:
    """Return the real changes: method and name, in order."""
    return [
        (request.method, request.path.rpartition("/")[2])
        for request in api.server.requests
        if request.method in {"PATCH", "DELETE"} and "dryRun" not in request.options
    ]


def actions(outcome: Outcome) -> dict[str, str]:
    return {one.identity.name: one.action for one in outcome.objects}


def size_of(api: Judging, number: int) -> str:
    found = api.get(f"{CLAIMS}/data-db-{number}")
    assert found is not None
    size: str = found["spec"]["resources"]["requests"]["storage"]
    return size


def test_a_grown_volume_expands_every_claim_and_then_replaces_the_set_without_its_pods(api: Judging) -> None:
    deployed(api)
    outcome = run(api, stateful_set("10Gi"))

    assert actions(outcome) == {"db": "replace", "data-db-0": "update", "data-db-1": "update"}
    assert changes_sent(api) == [("PATCH", "data-db-0"), ("PATCH", "data-db-1"), ("DELETE", "db"), ("PATCH", "db")]
    assert (size_of(api, 0), size_of(api, 1)) == ("10Gi", "10Gi")
    deletion = next(request for request in api.server.requests if request.method == "DELETE")
    assert deletion.body["propagationPolicy"] == "Orphan"
    assert deletion.body["preconditions"]["uid"]
    again = run(api, stateful_set("10Gi"))
    assert actions(again) == {"db": "none"}
    assert changes_sent(api) == [("PATCH", "db")]


def test_a_plan_shows_expansion_and_replacement_and_changes_nothing(api: Judging) -> None:
    deployed(api)
    outcome = run(api, stateful_set("10Gi"), only_plans=True)

    assert actions(outcome) == {"db": "replace", "data-db-0": "update", "data-db-1": "update"}
    assert changes_sent(api) == []
    assert (
        "-/+ StatefulSet shop/db (apps/v1)  replace (deleted without its pods, which the new one adopts)"
        in outcome.text
    )
    assert 'spec.resources.requests.storage: "5Gi" -> "10Gi"' in outcome.text
    assert outcome.summary == "Plan: 2 to update, 1 to replace."


def prometheus(size: str) -> Fields:
    template = {"spec": {"resources": {"requests": {"storage": size}}}}
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": {"name": "k8s"}}
    return {**head, "spec": {"storage": {"volumeClaimTemplate": template}}}


@pytest.mark.parametrize("by_helm", [False, True])
def test_a_claim_of_prometheus_is_expanded_whoever_changed_its_description(api: Judging, by_helm: bool) -> None:
    run(api, prometheus("5Gi"))
    name = "prometheus-k8s-db-prometheus-k8s-0"
    api.put(f"{CLAIMS}/{name}", {**claim(0), "metadata": {"name": name, "namespace": "shop"}})
    if by_helm:
        run(api, prometheus("10Gi"))
        api.put(f"{CLAIMS}/{name}", {**claim(0), "metadata": {"name": name, "namespace": "shop"}})
    outcome = run(api, prometheus("10Gi"))

    assert actions(outcome) == {"k8s": "none" if by_helm else "update", name: "update"}
    assert changes_sent(api) == [("PATCH", name), ("PATCH", "k8s")]
    assert actions(run(api, prometheus("10Gi"))) == {"k8s": "none"}


def test_claims_that_stayed_small_beside_a_grown_template_are_expanded(api: Judging) -> None:
    run(api, stateful_set("10Gi"))
    api.put(f"{CLAIMS}/data-db-0", claim(0))
    outcome = run(api, stateful_set("10Gi"))

    assert actions(outcome) == {"db": "none", "data-db-0": "update"}
    assert size_of(api, 0) == "10Gi"


@pytest.mark.parametrize(
    ("size", "claims", "told", "remedy"),
    [
        ("10Gi", (claim(0, storage_class="rigid"),), "does not allow volume expansion", "restore the size 5Gi"),
        ("4Gi", (claim(0),), "does not shrink volumes", "restore the size 5Gi"),
    ],
)
def test_a_volume_change_that_loses_data_is_refused_before_the_first_change(
    api: Judging, size: str, claims: tuple[Fields, ...], told: str, remedy: str
) -> None:
    run(api, config_map("1"))
    deployed(api, *claims)
    outcome = run(api, config_map("2"), stateful_set(size))

    assert actions(outcome) == {"settings": "skipped", "db": "failed"}
    assert changes_sent(api) == []
    refused = next(one for one in outcome.objects if one.action == "failed").to_data()
    assert told in refused["message"]
    assert remedy in refused["remedy"]
    assert remedy not in refused["message"]
    assert not outcome.changed
    planned = run(api, config_map("2"), stateful_set(size), only_plans=True)
    assert actions(planned) == {"settings": "update", "db": "failed"}


def test_a_refused_expansion_leaves_the_set_as_it_is(api: Judging) -> None:
    deployed(api)
    api.server.on("PATCH", "data-db-1", status(403, "exceeded quota", "Forbidden"))
    outcome = run(api, stateful_set("10Gi"))

    assert actions(outcome)["db"] == "failed"
    assert ("DELETE", "db") not in changes_sent(api)
    assert outcome.changed


def test_a_claim_without_a_volume_is_made_again_after_its_set(api: Judging) -> None:
    deployed(api, claim(0, phase="Pending"))
    outcome = run(api, stateful_set("10Gi"))

    assert actions(outcome) == {"db": "replace", "data-db-0": "replace"}
    assert changes_sent(api) == [("DELETE", "db"), ("PATCH", "db"), ("DELETE", "data-db-0")]
    assert api.server.requests[-1].body["preconditions"]["resourceVersion"]


def test_a_run_that_was_cut_off_after_the_deletion_is_completed_by_the_next(api: Judging) -> None:
    deployed(api)
    api.server.on("PATCH", f"{SETS}/db$", status(422, IMMUTABLE, "Invalid"), DROPPED)
    outcome = run(api, stateful_set("10Gi"))

    failed = next(one for one in outcome.objects if one.identity.name == "db")
    assert failed.action == "failed"
    assert failed.changed
    assert "run again" in failed.remedy
    api.server._rules.clear()
    assert actions(run(api, stateful_set("10Gi"))) == {"db": "create"}


def test_a_successor_that_the_server_does_not_take_keeps_the_object_from_being_deleted(api: Judging) -> None:
    deployed(api)
    api.server.on("PATCH", f"{SETS}/db-", status(422, "spec.template: Required value", "Invalid"))
    outcome = run(api, stateful_set("10Gi"))

    assert actions(outcome) == {"db": "failed"}
    assert "Required value" in outcome.message
    assert changes_sent(api) == []


def test_an_object_is_replaced_with_its_pods_only_where_that_is_allowed(api: Judging) -> None:
    run(api, deployment("a"))
    refused = run(api, deployment("b"))

    assert actions(refused) == {"api": "failed"}
    assert refused.objects[0].remedy.startswith("set `replace: always`")
    assert changes_sent(api) == []
    outcome = run(api, deployment("b"), replace="always")
    assert actions(outcome) == {"api": "replace"}
    deletion = next(request for request in api.server.requests if request.method == "DELETE")
    assert deletion.body["propagationPolicy"] == "Foreground"
    assert [(change.before, change.after) for change in outcome.objects[0].changes] == [("a", "b")]


def test_where_nothing_may_be_replaced_the_remedy_names_what_to_set(api: Judging) -> None:
    deployed(api)
    refused = run(api, stateful_set("10Gi"), replace="never")

    assert actions(refused) == {"db": "failed"}
    assert "set `replace: orphan`" in refused.objects[0].remedy
    assert 'from "5Gi" to "10Gi"' in refused.objects[0].message
    assert actions(run(api, stateful_set("10Gi"), replace="orphan"))["db"] == "replace"


def test_a_change_that_the_server_takes_is_an_update_whatever_the_table_says(api: Judging) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {"completions": 1}}
    run(api, job)
    outcome = run(api, {**copy.deepcopy(job), "spec": {"completions": 2}})

    assert actions(outcome) == {"once": "update"}


def test_claims_that_no_pod_uses_any_more_are_a_warning(api: Judging) -> None:
    deployed(api)
    outcome = run(api, stateful_set(volumeClaimTemplates=[]))

    assert actions(outcome) == {"db": "replace"}
    assert "volume claims data-db-*: they stay with their data" in outcome.warnings[0]


def test_claims_that_may_not_be_listed_are_a_warning(api: Judging) -> None:
    deployed(api)
    api.server.on("GET", "/persistentvolumeclaims$", status(403, "cannot list", "Forbidden"))
    outcome = run(api, stateful_set("10Gi"))

    assert actions(outcome) == {"db": "replace"}
    assert "cannot list the volume claims of namespace shop" in outcome.warnings[0]


def test_a_set_without_volumes_costs_no_request(api: Judging) -> None:
    run(api, stateful_set(volumeClaimTemplates=[]))
    run(api, stateful_set(volumeClaimTemplates=[]))

    assert not [request for request in api.server.requests if "persistentvolumeclaims" in request.path]


def deployed_as_member(api: Judging, *claims: Fields) -> None:
    """Apply the StatefulSet with a prune set and its claims, and record its field manager as a server does."""
    run(api, config_map("a"), stateful_set(), prune="shop-set")
    noted: Fields = {"f:metadata": {"f:labels": {f"f:{PART_OF_LABEL}": {}}}}
    found = api.get(f"{SETS}/db")
    assert found is not None
    found["metadata"]["managedFields"] = [{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": noted}]
    api.put(f"{SETS}/db", found)
    for one in claims:
        api.put(f"{CLAIMS}/{one['metadata']['name']}", one)


def test_a_renamed_set_is_refused_while_its_former_name_has_data(api: Judging) -> None:
    deployed_as_member(api, claim(0), claim(1))
    renamed = stateful_set()
    renamed["metadata"]["name"] = "store"
    planned = run(api, config_map("b"), renamed, prune="shop-set", only_plans=True)
    assert actions(planned) == {"settings": "update", "store": "failed", "db": "skipped"}
    assert changes_sent(api) == []

    outcome = run(api, config_map("b"), renamed, prune="shop-set")
    assert actions(outcome) == {"settings": "skipped", "store": "failed"}
    assert changes_sent(api) == []
    refused = next(one for one in outcome.objects if one.identity.name == "store")
    assert "cannot rename StatefulSet db to store: its data is on data-db-0, data-db-1" in refused.message


def test_a_removed_set_leaves_its_claims_and_says_so(api: Judging) -> None:
    deployed_as_member(api, claim(0))
    outcome = run(api, config_map("a"), prune="shop-set")
    assert actions(outcome) == {"settings": "none", "db": "delete"}
    expected = "StatefulSet shop/db is not described any more: its volume claims data-db-0 stay with their data"
    assert expected in outcome.warnings
    assert api.get(f"{CLAIMS}/data-db-0") is not None
