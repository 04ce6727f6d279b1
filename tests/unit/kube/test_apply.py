# SPDX-License-Identifier: GPL-3.0-or-later
"""An apply over a network with faults: order of the requests, and results after failures.

The semantics of server-side apply are tested on a real API server alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply import Apply
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import Options
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.results import ObjectResult, Outcome
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load
from tests.unit.kube.server import DROPPED, ApiServer, Reply, Request, slowly

Fields = dict[str, Any]
NAMESPACE: Fields = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
WEBHOOK: Fields = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "judge"},
    "webhooks": [{"name": "judge.example.org", "clientConfig": {"service": {"namespace": "shop", "name": "judge"}}}],
}
CRD: Fields = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "lamps.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"kind": "Lamp", "plural": "lamps"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
    "status": {"conditions": [{"type": "Established", "status": "True"}]},
}
LAMP: Fields = {"apiVersion": "example.org/v1", "kind": "Lamp", "metadata": {"name": "desk"}}


def config_map(name: str = "settings") -> Fields:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}}


def pod() -> Fields:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as made:
        made.objects.kinds["example.org/v1"] = [("Lamp", "lamps", True)]
        made.client().request("POST", "/api/v1/namespaces/shop", body=NAMESPACE)
        made.requests.clear()
        yield made


def run(server: ApiServer, *manifests: Fields, **options: Any) -> Outcome:
    with server.client() as client:
        return Apply(client, Discovery(client), Options(namespace="shop", **options)).run(load(manifests))


def refused(code: int, message: str, reason: str = "") -> Reply:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    return Reply(code, body)


def of(outcome: Outcome, name: str) -> ObjectResult:
    return next(result for result in outcome.objects if result.identity.name == name)


def sent(server: ApiServer, method: str = "PATCH") -> list[Request]:
    return [request for request in server.requests if request.method == method]


def name_of(request: Request) -> str:
    return request.path.rpartition("/")[2]


def test_each_phase_begins_when_the_one_before_is_answered(server: ApiServer) -> None:
    server.on("PATCH", "/namespaces/shop$|customresourcedefinitions", slowly(Reply(body=CRD), 0.05))
    outcome = run(server, WEBHOOK, pod(), config_map(), LAMP, CRD)

    assert [name_of(request) for request in sent(server)[:1]] == ["lamps.example.org"]
    assert [name_of(request) for request in sent(server)[-2:]] == ["once", "judge"]
    phases = [sent(server)[:1], sent(server)[1:3], sent(server)[3:4], sent(server)[4:]]
    for before, after in itertools.pairwise(phases):
        assert max(one.answered_s for one in before) <= min(one.arrived_s for one in after)
    assert not outcome.failed


def test_as_many_requests_are_under_way_as_is_allowed_and_no_more(server: ApiServer) -> None:
    server.on("PATCH", "/configmaps/", slowly(Reply(201, config_map()), 0.05))
    run(server, *(config_map(f"c{number}") for number in range(12)), parallelism=4)

    assert server.most_at_once == 4


def test_a_lost_server_ends_the_run_with_a_result_for_every_object(server: ApiServer) -> None:
    server.on("PATCH", "", DROPPED)
    outcome = run(server, *(config_map(f"c{number}") for number in range(6)), parallelism=1)

    assert [result.action for result in outcome.objects] == ["failed", *["skipped"] * 5]
    assert "cannot be reached any more" in outcome.objects[-1].reason
    assert not outcome.changed


@pytest.mark.parametrize(
    "fault",
    [
        DROPPED,
        refused(429, "too many requests", "TooManyRequests"),
        refused(503, "try later"),
        refused(500, 'Internal error occurred: failed calling webhook "judge": connection refused', "InternalError"),
        refused(409, "Operation cannot be fulfilled: the object has been modified", "Conflict"),
    ],
)
def test_what_passes_by_itself_is_tried_again(server: ApiServer, fault: Reply) -> None:
    server.on("PATCH", "/configmaps/", fault, Reply(201, config_map()))
    outcome = run(server, config_map())

    assert of(outcome, "settings").action == "create"


def test_an_apply_for_one_version_alone_is_not_repeated_for_another(server: ApiServer) -> None:
    server.on("PATCH", "/configmaps/", refused(409, "the object has been modified", "Conflict"))
    versioned = {**config_map(), "metadata": {"name": "settings", "resourceVersion": "7"}}
    outcome = run(server, versioned)

    assert of(outcome, "settings").action == "failed"
    assert len(sent(server)) == 1


def test_a_pod_of_a_new_namespace_waits_for_its_account(server: ApiServer) -> None:
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}
    message = 'pods "once" is forbidden: error looking up service account new/default: not found'
    server.on("PATCH", "/pods/", refused(403, message, "Forbidden"), Reply(201, pod()))
    outcome = run(server, made, {**pod(), "metadata": {"name": "once", "namespace": "new"}})

    assert of(outcome, "once").action == "create"


def test_a_webhook_that_does_not_allow_dry_runs_is_a_warning_that_names_it(server: ApiServer) -> None:
    message = 'admission webhook "judge.example.org" does not support dry run'
    server.on("PATCH", "/configmaps/", refused(400, message, "BadRequest"))
    server.on("GET", "/openapi/v3", Reply(body={"paths": {}}))
    outcome = run(server, config_map(), only_plans=True)

    result = of(outcome, "settings")
    assert result.action == "create"
    assert "judge.example.org" in result.warnings[0]
    assert "ConfigMap shop/settings" in result.warnings[0]


def test_without_a_dry_run_an_object_that_says_so_already_is_planned_to_stay(server: ApiServer) -> None:
    run(server, config_map("same"), config_map("other"))
    server.on("PATCH", "", refused(400, 'admission webhook "judge" does not support dry run', "BadRequest"))
    server.on("GET", "/openapi/v3", Reply(body={"paths": {}}))
    outcome = run(server, config_map("same"), {**config_map("other"), "data": {"a": "2"}}, only_plans=True)

    assert of(outcome, "same").action == "none"
    assert [change.path for change in of(outcome, "other").changes] == ["data.a"]


def test_without_the_right_to_list_objects_are_asked_for_one_by_one(server: ApiServer) -> None:
    server.on("GET", "/configmaps$", refused(403, "cannot list", "Forbidden"))
    outcome = run(server, *(config_map(f"c{number}") for number in range(4)))

    assert not outcome.failed
    assert len([request for request in sent(server, "GET") if "/configmaps/" in request.path]) == 4


def test_what_is_on_a_later_page_of_a_long_list_is_asked_for_by_name(server: ApiServer) -> None:
    run(server, *(config_map(f"c{number}") for number in range(4)))
    page = {"kind": "List", "metadata": {"continue": "more"}, "items": []}
    server.on("GET", "/configmaps$", Reply(body=page))
    outcome = run(server, *(config_map(f"c{number}") for number in range(4)))

    assert {result.action for result in outcome.objects} == {"none"}


def test_what_was_made_anew_behind_the_look_was_created(server: ApiServer) -> None:
    run(server, config_map())
    another = {**config_map(), "metadata": {"name": "settings", "uid": "another", "resourceVersion": "99"}}
    server.on("PATCH", "/configmaps/", Reply(body=another))

    assert of(run(server, config_map()), "settings").action == "create"


def test_of_large_kinds_no_more_is_listed_than_is_asked_for(server: ApiServer) -> None:
    definitions = [{**CRD, "metadata": {"name": f"lamps{number}.example.org"}} for number in range(3)]
    run(server, *definitions, wait_timeout_s=0.1)

    listed = next(request for request in sent(server, "GET") if request.path.endswith("customresourcedefinitions"))
    assert listed.options["limit"] == "6"


def test_secrets_are_never_listed(server: ApiServer) -> None:
    run(server, *({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s{number}"}} for number in range(5)))

    assert not [request for request in sent(server, "GET") if request.path.rpartition("/")[2].startswith("secrets")]


def test_a_forbidden_look_stops_before_anything_is_changed(server: ApiServer) -> None:
    server.on("GET", "/configmaps", refused(403, "cannot get", "Forbidden"))

    with pytest.raises(ApiError, match="cannot get"):
        run(server, config_map())
    assert sent(server) == []


def test_a_set_whose_parent_cannot_be_written_is_not_applied(server: ApiServer) -> None:
    server.on("PATCH", "/secrets/shop-set", refused(403, "cannot patch secrets", "Forbidden"))
    outcome = run(server, config_map(), prune="shop-set")

    assert [result.action for result in outcome.objects] == ["skipped"]
    assert "cannot patch secrets" in outcome.message
    assert len(sent(server)) == 1


def test_a_parent_that_cannot_be_narrowed_fails_the_run_with_all_results(server: ApiServer) -> None:
    run(server, config_map(), pod(), prune="shop-set")
    labelled = [request.body for request in sent(server) if name_of(request) == "once"]
    assert labelled[0]["metadata"]["labels"]
    server.on("PATCH", "/secrets/shop-set", refused(403, "cannot patch secrets", "Forbidden"))
    outcome = run(server, config_map(), prune="shop-set")

    assert of(outcome, "settings").action == "none"
    assert "the parent of the set cannot be written" in outcome.message


def test_the_parent_of_a_set_is_widened_before_its_members_and_narrowed_after_them(server: ApiServer) -> None:
    run(server, config_map("old"), prune="shop-set")
    server.requests.clear()
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}}
    run(server, service, prune="shop-set")

    assert [name_of(request) for request in sent(server)] == ["shop-set", "api", "shop-set"]
    kinds = "applyset.kubernetes.io/contains-group-kinds"
    parents = [request.body["metadata"]["annotations"][kinds] for request in sent(server)[::2]]
    assert parents == ["ConfigMap,Service", "Service"]


def test_a_kind_that_goes_while_its_members_are_looked_for_has_none(server: ApiServer) -> None:
    run(server, LAMP, prune="shop-set")
    server.on("GET", "/lamps", Reply(404, "404 page not found", content_type="text/plain"))
    outcome = run(server, config_map(), prune="shop-set")

    assert [(result.identity.name, result.action) for result in outcome.objects] == [("settings", "create")]
    assert outcome.message == ""


def test_what_judges_requests_is_left_out_when_what_answers_for_it_failed(server: ApiServer) -> None:
    server.on("PATCH", "/configmaps/", refused(422, "no", "Invalid"))
    outcome = run(server, config_map(), WEBHOOK)

    assert of(outcome, "judge").action == "skipped"


def test_a_definition_that_is_not_established_in_time_keeps_its_objects_out(server: ApiServer) -> None:
    never = {**CRD, "status": {"conditions": [{"type": "Established", "status": "False", "reason": "Installing"}]}}
    outcome = run(server, never, LAMP, wait_timeout_s=0.3)

    assert "not established in time: Installing" in of(outcome, "lamps.example.org").error
    assert of(outcome, "desk").action == "skipped"
    assert outcome.changed


def test_a_definition_whose_names_are_taken_fails_at_once(server: ApiServer) -> None:
    said = [{"type": "NamesAccepted", "status": "False", "reason": "ListKindConflict", "message": "taken"}]
    outcome = run(server, {**CRD, "status": {"conditions": said}}, LAMP)

    assert "its names are not accepted: ListKindConflict: taken" in of(outcome, "lamps.example.org").error
