# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of objects, as data and as text; the meaning of answers and errors of the server."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.compare import Change
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.explain import (
    explained,
    is_unknown_field,
    webhook_without_dry_run,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.judge import (
    compared,
    created,
    deleted,
    is_untouched,
    is_work_of_others,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.results import (
    ObjectResult,
    Outcome,
    in_order,
    kept,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError, Cause
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity

API = Identity("apps/v1", "Deployment", "shop", "api")
KEY = Identity("v1", "Secret", "shop", "key")
MANAGER = "crypto-lakehouse"
NOW_S = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC).timestamp()


def conflict(manager: str, field: str) -> ApiError:
    cause = Cause(field, "FieldManagerConflict", f'conflict with "{manager}" using apps/v1')
    return ApiError(409, "Conflict", "Apply failed with 1 conflict", [cause])


@pytest.mark.parametrize(
    ("error", "identity", "words"),
    [
        (conflict("helm", ".spec.paused"), API, ".spec.paused (owned by helm): remove it"),
        (conflict("kube-controller-manager", ".spec.x"), API, "remove fields that a controller sets"),
        (conflict("kubectl-edit", ".spec.replicas"), API, "a controller sets"),
        (conflict("kubectl-edit", ".spec.paused"), API, "another user changed it"),
        (ApiError(422, "Invalid", "spec.selector: Invalid value: field is immutable"), API, "delete the object"),
        (
            ApiError(422, "Invalid", "spec: Forbidden: updates to statefulset spec for fields other than 'replicas'"),
            Identity("apps/v1", "StatefulSet", "shop", "db"),
            "`kubectl -n shop delete statefulset db`",
        ),
        (
            ApiError(422, "Invalid", "spec: Forbidden: spec is immutable after creation except resources.requests"),
            Identity("v1", "PersistentVolumeClaim", "shop", "data"),
            "copy the data",
        ),
        (ApiError(422, "Invalid", "data: Forbidden: field is immutable when `immutable` is set"), KEY, "a new name"),
        (ApiError(404, "NotFound", 'namespaces "shop" not found'), API, "create_namespace"),
        (ApiError(400, "BadRequest", 'strict decoding error: unknown field "spec.x"'), API, "correct the name"),
        (ApiError(403, "Forbidden", "x because it is being terminated"), API, "wait until the namespace is gone"),
        (ApiError(400, "BadRequest", 'admission webhook "w" denied the request: no'), API, "as the webhook asks"),
        (ApiError(413, "RequestEntityTooLarge", "limit is 3145728"), API, "split the object"),
    ],
)
def test_a_refusal_says_what_to_do(error: ApiError, identity: Identity, words: str) -> None:
    text = str(explained(error, identity))

    assert words in text
    assert error.message in text


def test_a_conflict_names_every_field_its_owner_and_the_option() -> None:
    causes = [
        Cause(".spec.a", "FieldManagerConflict", 'conflict with "helm" using apps/v1'),
        Cause(".spec.b", "FieldManagerConflict", 'conflict with "argo" using apps/v1'),
    ]
    text = str(explained(ApiError(409, "Conflict", "Apply failed with 2 conflicts", causes), API))

    assert ".spec.a (owned by helm), .spec.b (owned by argo)" in text
    assert "force_conflicts" in text


def test_a_refusal_that_nobody_knows_better_stays_as_it_is() -> None:
    error = ApiError(422, "Invalid", "spec.replicas: must be greater than or equal to 0")

    assert explained(error, API) is error


def test_a_webhook_that_does_not_allow_dry_runs_is_known_by_its_name() -> None:
    error = ApiError(400, "BadRequest", 'admission webhook "judge.example.org" does not support dry run')

    assert webhook_without_dry_run(error) == "judge.example.org"
    assert webhook_without_dry_run(ApiError(400, "BadRequest", "x")) == ""
    assert is_unknown_field(ApiError(500, "", "failed: .spec.x: field not declared in schema"))


def lamp(watts: int, version: str = "1", *, at: str = "2026-11-23T10:00:00Z", manager: str = MANAGER) -> dict[str, Any]:
    entry = {"manager": manager, "operation": "Apply", "time": at, "fieldsV1": {"f:spec": {"f:watts": {}}}}
    metadata = {"name": "desk", "resourceVersion": version, "managedFields": [entry]}
    return {"apiVersion": "example.org/v1", "kind": "Lamp", "metadata": metadata, "spec": {"watts": watts}}


DESIRED = {"apiVersion": "example.org/v1", "kind": "Lamp", "metadata": {"name": "desk"}, "spec": {"watts": 2}}


def test_an_apply_that_only_moves_managed_fields_is_no_change() -> None:
    assert compared(API, lamp(1, "1"), lamp(1, "2", manager="another"), DESIRED).action == "none"
    assert not is_untouched(lamp(1, "1"), lamp(1, "2"))


def test_the_same_version_is_the_same_object_and_no_version_is_no_proof() -> None:
    assert is_untouched(lamp(1, "7"), lamp(1, "7"))
    assert not is_untouched(lamp(1, ""), lamp(1, ""))


@pytest.mark.parametrize(
    ("after", "theirs"),
    [
        (lamp(2, "2"), True),
        (lamp(2, "2", at="2026-11-23T12:00:00Z"), False),
        (lamp(2, "2", manager="another"), False),
    ],
)
def test_a_difference_without_a_new_stamp_was_written_by_others(after: dict[str, Any], theirs: bool) -> None:
    assert is_work_of_others(lamp(1, "1"), after, MANAGER, NOW_S) is theirs


def test_a_stamp_of_this_very_moment_proves_nothing() -> None:
    just_now = "2026-11-23T11:59:58Z"

    assert not is_work_of_others(lamp(1, at=just_now), lamp(2, at=just_now), MANAGER, NOW_S)


def test_an_object_of_somebody_else_is_never_the_work_of_others() -> None:
    assert not is_work_of_others(lamp(1, manager="helm"), lamp(2, manager="helm"), MANAGER, NOW_S)


def test_a_creation_shows_what_was_asked_for_in_the_values_of_the_server() -> None:
    after = {**lamp(2), "spec": {"watts": 2, "colour": "white"}, "status": {"on": False}}
    result = created(API, after, DESIRED)

    assert result.after == DESIRED
    assert [change.path for change in result.changes] == ["metadata", "spec"]


def test_results_of_secrets_hold_no_value() -> None:
    def key(value: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"a": value}}

    results = [
        created(KEY, key("aHVzaA=="), key("aHVzaA==")),
        compared(KEY, key("b2xk"), key("aHVzaA=="), key("aHVzaA==")),
        deleted(KEY, key("aHVzaA==")),
    ]
    outcome = Outcome(tuple(results), only_planned=False)

    written = f"{outcome.plan()} {outcome.text} {outcome.diff(str)} {[one.to_data() for one in outcome.objects]}"
    assert "aHVzaA" not in written
    assert "b2xk" not in written
    assert "data.a" in written


def test_an_outcome_says_in_one_line_what_happened_or_would() -> None:
    objects = (ObjectResult(API, "update", (Change("spec.replicas", 1, 2),)), ObjectResult(KEY, "none"))

    assert Outcome(objects, only_planned=True).summary == "Plan: 1 to update, 1 unchanged."
    assert Outcome(objects, only_planned=False).summary == "Done: 1 updated, 1 unchanged."
    assert Outcome(objects[1:], only_planned=True).summary == "No changes: 1 object as described."
    assert Outcome((), only_planned=True).summary == "Nothing to apply."


def test_a_plan_reads_like_those_of_the_engine() -> None:
    objects = (
        ObjectResult(API, "update", (Change("spec.replicas", 1, 2), Change("spec.paused", None, True))),
        ObjectResult(KEY, "delete", reason="it left the set"),
    )

    assert Outcome(objects, only_planned=True).text.splitlines() == [
        "    ~ Deployment shop/api (apps/v1)  update",
        "        spec.replicas: 1 -> 2",
        "        spec.paused = true",
        "    - Secret shop/key (v1)  delete (it left the set)",
        "",
        "Plan: 1 to update, 1 to delete.",
    ]


def test_failures_are_told_with_what_was_left_out_because_of_them_and_change_nothing_by_themselves() -> None:
    objects = (ObjectResult(API, "failed", error="no"), ObjectResult(KEY, "skipped", reason="Deployment failed"))
    outcome = Outcome(objects, only_planned=False)

    assert outcome.message.splitlines() == [
        "1 of 2 objects failed:",
        "  Deployment shop/api (apps/v1): no",
        "  Secret shop/key (v1): left out: Deployment failed",
    ]
    assert not outcome.changed


def test_an_object_that_was_changed_and_did_not_become_ready_was_changed_all_the_same() -> None:
    result = ObjectResult(API, "update", (Change("spec.replicas", 1, 2),)).failed_because("not ready")

    assert Outcome((result,), only_planned=False).changed


def test_a_value_without_end_is_cut_and_says_how_long_it_was() -> None:
    cut = kept([Change("spec", None, {"a": "x" * 9000})])[0]

    assert len(cut.after) < 4100
    assert cut.after.endswith("(9009 characters)")


def test_results_come_in_the_order_of_the_manifests() -> None:
    results = [
        ObjectResult(KEY, "none"),
        ObjectResult(Identity("v1", "Pod", "", "x"), "none"),
        ObjectResult(API, "none"),
    ]

    assert [one.identity.name for one in in_order(results, [API, KEY])] == ["api", "key", "x"]
