# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors for answers of a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ApiError,
    Cause,
    Conflict,
    ExpiredError,
    ManifestError,
    ManifestProblem,
    api_error,
    with_remedy,
)


def answer(code: int, message: str = "m", reason: str = "", **details: Any) -> ApiError:
    return api_error(code, {"kind": "Status", "message": message, "reason": reason, "details": details})


def conflict(message: str, field: str = ".spec.replicas") -> dict[str, str]:
    return {"reason": "FieldManagerConflict", "message": message, "field": field}


@pytest.mark.parametrize(
    ("message", "manager"),
    [
        ('conflict with "kubectl" using apps/v1', "kubectl"),
        ('conflict with "hpa" with subresource "scale" using apps/v1', "hpa"),
        ('conflict with "kubectl-edit" using v1 at 2026-01-02T03:04:05Z', "kubectl-edit"),
        ('conflict with "a \\"b\\" c" using v1', 'a "b" c'),
        (r'conflict with "a\x00b"', r"a\x00b"),
        ("something new", "another manager"),
    ],
)
def test_conflicts_name_manager_and_field(message: str, manager: str) -> None:
    error = answer(409, "Apply failed", "Conflict", causes=[conflict(message), {"reason": "Other", "message": "x"}])

    assert error.is_conflict
    assert error.conflicts == (Conflict(manager, ".spec.replicas"),)


@pytest.mark.parametrize(
    ("error", "true"),
    [
        (answer(401), {"is_unauthorized"}),
        (answer(403), {"is_forbidden"}),
        (answer(404), {"is_not_found"}),
        (answer(409, reason="AlreadyExists"), {"is_already_there"}),
        (answer(409, reason="Conflict"), {"is_conflict"}),
        (answer(410), {"is_expired"}),
        (answer(422), {"is_invalid"}),
        (answer(429), {"is_throttled", "is_undone", "is_passing"}),
        (answer(500), {"is_passing"}),
        (answer(500, reason="ServerTimeout", retryAfterSeconds=1), {"is_undone", "is_passing"}),
        (answer(500, "failed to create typed patch object: x"), {"is_invalid"}),
        (answer(500, 'failed calling webhook "w": x'), {"is_webhook_down", "is_undone", "is_passing"}),
        (answer(500, 'failed calling webhook "w": received invalid webhook response: x'), set()),
        (answer(501), set()),
        (answer(503), {"is_passing"}),
        (answer(503, retryAfterSeconds=1), {"is_undone", "is_passing"}),
        (answer(504), {"is_passing"}),
        (answer(400, 'admission webhook "w" denied the request: failed calling webhook'), set()),
    ],
)
def test_what_an_answer_is_and_what_it_is_not(error: ApiError, true: set[str]) -> None:
    words = [name for name in dir(ApiError) if name.startswith("is_")]

    assert {name for name in words if getattr(error, name)} == true


def test_causes_are_told_unless_the_message_tells_them() -> None:
    causes = [{"field": "spec.a", "reason": "FieldValueInvalid", "message": "Invalid value: 1"}]

    assert str(answer(422, "x is invalid", causes=causes)) == "422 x is invalid (spec.a: Invalid value: 1)"
    assert str(answer(422, "spec.a: Invalid value: 1", causes=causes)) == "422 spec.a: Invalid value: 1"
    assert answer(422, causes=causes).causes == (Cause("spec.a", "FieldValueInvalid", "Invalid value: 1"),)


def test_an_error_with_a_remedy_is_the_same_error() -> None:
    error = answer(410, "too old", "Expired", retryAfterSeconds=3)
    remedied = with_remedy(error, "list anew")

    assert isinstance(remedied, ExpiredError)
    assert str(remedied) == "410 too old; list anew"
    assert (remedied.reason, remedied.retry_after_s) == ("Expired", 3.0)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (None, "502 no message"),
        ("", "502 no message"),
        (
            "<b>\n  Bad   gateway</b>",
            "502 <b> Bad gateway</b>; the answer is not from a Kubernetes API: check the address",
        ),
        ({"kind": "Status"}, "502 no message"),
        ({"kind": "Status", "reason": "Odd"}, "502 Odd"),
        ({"kind": "Status", "details": None, "metadata": None}, "502 no message"),
        ([1], "502 [1]; the answer is not"),
    ],
)
def test_any_body_makes_an_error(body: object, text: str) -> None:
    assert str(api_error(502, body)).startswith(text)


@given(st.integers(300, 599), st.text(), st.text())
def test_any_message_makes_an_error(code: int, message: str, reason: str) -> None:
    error = answer(code, message, reason)

    assert str(code) in str(error)
    assert not error.is_undone or error.is_passing


def test_problems_of_manifests_are_listed_once_each() -> None:
    problem = ManifestProblem("a.yaml", "wrong", "do this")

    assert str(ManifestError([problem, problem])) == "a.yaml: wrong; do this"
    assert str(ManifestError([problem, ManifestProblem("b.yaml", "bad")])) == (
        "2 problems in the manifests:\na.yaml: wrong; do this\nb.yaml: bad"
    )
