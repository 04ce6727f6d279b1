# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets on emulators: their lifecycle, and that a value is sent to Secrets Manager alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.render import report_text, text
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

NAME = "crypto-lakehouse-database-password-development"
SECRET = "secretsmanager_secret.database"
FIRST, SECOND = "first-value-3f7a", "second-value-9c1e"
GIVEN = {SECRET: {"name": NAME, "value": "${secret.database}"}}
GENERATED = {SECRET: {"name": NAME, "generate": {"length": 40, "characters": "abcdefgh"}}}
EMPTY = {SECRET: {"name": NAME}}


def policy(lab: Lab, action: str = "secretsmanager:GetSecretValue") -> dict[str, Any]:
    principal = {"AWS": f"arn:aws:iam::{lab.emulator.account_id}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def edit_tags(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    lab.client("secretsmanager").tag_resource(SecretId=id_, Tags=pairs)
    lab.client("secretsmanager").untag_resource(SecretId=id_, TagKeys=removed)


def value(lab: Lab) -> str:
    # Without the stage, moto returns the latest version instead of the current one.
    answer = lab.client("secretsmanager").get_secret_value(SecretId=NAME, VersionStage="AWSCURRENT")
    return str(answer["SecretString"])


def given(lab: Lab, secret: str) -> Lab:
    """Return the same stack with another value of the secret."""
    return lab.other(secrets={"database": secret})


def begin(lab: Lab, secret: str) -> Lab:
    """Create the stack with a secret of this value.

    The secret is created first and filled after that, since ministack drops the id of the version with which a secret
    is created.
    """
    lab.apply(EMPTY)
    begun = given(lab, secret)
    begun.apply(GIVEN)
    return begun


def test_life(lab: Lab) -> None:
    lab.secrets = {"database": FIRST, "next": SECOND}
    lab.assert_matrix(
        SECRET,
        EMPTY[SECRET],
        {"kms_key.data": {"alias": "alias/data"}},
        changes={
            "description": "Password of the lakehouse",
            "value": "${secret.database}",
            "another value": {"value": "${secret.next}"},
            "kms_key_id": "${kms_key.data.arn}",
            "policy": policy(lab),
            "another policy": {"policy": policy(lab, "secretsmanager:DescribeSecret")},
            "no policy": {"policy": None},
            "recovery_window_in_days": 30,
            "a structure": {"value": {"user": "lake", "password": "${secret.next}"}},
            "a value of somebody else": {"value": None, "description": "Filled in by hand"},
        },
        vanish=lambda lab, id_: lab.client("secretsmanager").delete_secret(
            SecretId=id_, ForceDeleteWithoutRecovery=True
        ),
        edit_tags=edit_tags,
    )


# ministack gives the first version an id of its own.
@pytest.mark.emulators("moto")
def test_a_given_value_is_stored_and_the_same_one_is_no_change(lab: Lab) -> None:
    lab = given(lab, FIRST)
    lab.apply(GIVEN)
    assert value(lab) == FIRST
    lab.assert_unchanged(GIVEN)


def test_another_given_value_is_a_change_that_shows_neither(lab: Lab) -> None:
    begin(lab, FIRST)
    changed = given(lab, SECOND)
    plan = changed.plan(GIVEN)
    assert "value: (sensitive) -> (sensitive)" in text(plan)
    changed.apply(GIVEN)
    assert value(lab) == SECOND
    changed.assert_unchanged(GIVEN)


def test_an_earlier_value_is_put_in_force_again(lab: Lab) -> None:
    lab.apply(EMPTY)
    for secret in (FIRST, SECOND, FIRST):
        given(lab, secret).apply(GIVEN)
        assert value(lab) == secret
        given(lab, secret).assert_unchanged(GIVEN)


def test_a_value_that_was_changed_by_hand_is_found_without_being_read_and_put_right(lab: Lab) -> None:
    lab = begin(lab, FIRST)
    lab.client("secretsmanager").put_secret_value(SecretId=NAME, SecretString="by hand")
    assert [change.path for change in lab.plan(GIVEN).node(SECRET).changes] == ["value"]
    lab.apply(GIVEN)
    assert value(lab) == FIRST
    lab.assert_unchanged(GIVEN)


def test_a_structure_is_stored_as_json(lab: Lab) -> None:
    described = {SECRET: {"name": NAME, "value": {"username": "lake", "password": "${secret.database}"}}}
    lab.apply(EMPTY)
    lab = given(lab, FIRST)
    lab.apply(described)
    assert json.loads(value(lab)) == {"username": "lake", "password": FIRST}
    lab.assert_unchanged(described)


def test_a_value_is_generated_once(lab: Lab) -> None:
    ran = lab.apply(GENERATED)
    generated = value(lab)
    assert len(generated) == 40
    assert set(generated) <= set("abcdefgh")
    lab.assert_unchanged(GENERATED)
    lab.assert_unchanged({SECRET: {"name": NAME, "generate": {"length": 64}}})
    lab.assert_unchanged(EMPTY)
    assert value(lab) == generated
    assert ran.outputs(SECRET)["version_id"]


def test_two_generated_values_are_different(lab: Lab) -> None:
    other = {"secretsmanager_secret.other": {"name": "other", "generate": {}}}
    lab.apply({**GENERATED, **other})
    second = lab.client("secretsmanager").get_secret_value(SecretId="other")["SecretString"]
    assert len(second) == 32
    assert second != value(lab)


def test_a_generated_value_that_somebody_rotated_is_left_alone(lab: Lab) -> None:
    lab.apply(GENERATED)
    lab.client("secretsmanager").put_secret_value(SecretId=NAME, SecretString="rotated")
    lab.assert_unchanged(GENERATED)
    assert value(lab) == "rotated"


# ministack gives a secret without a value a version without one.
@pytest.mark.emulators("moto")
def test_a_secret_without_a_value_is_filled_in_by_others_or_later(lab: Lab) -> None:
    lab.apply(EMPTY)
    lab.assert_unchanged(EMPTY)
    assert [change.path for change in lab.plan(GENERATED).node(SECRET).changes] == ["generate"]
    lab.apply(GENERATED)
    assert len(value(lab)) == 40
    lab.client("secretsmanager").put_secret_value(SecretId=NAME, SecretString="by others")
    lab.assert_unchanged(EMPTY)


def test_a_null_is_the_same_as_nothing(lab: Lab) -> None:
    lab.apply(GENERATED)
    lab.assert_unchanged({SECRET: {"name": NAME, "value": None, "generate": None}})


def test_what_was_destroyed_comes_back_with_its_value(lab: Lab) -> None:
    described = {SECRET: {**GENERATED[SECRET], "recovery_window_in_days": 11, "policy": policy(lab)}}
    arn, generated = lab.apply(described).id(SECRET), value(lab)
    lab.destroy(described)
    (deletion,) = [call for call in lab.wire.calls if call.operation == "DeleteSecret"]
    assert deletion.parameters["RecoveryWindowInDays"] == 11
    assert lab.plan(described).node(SECRET).reason == "its deletion is cancelled"
    assert lab.apply(described).id(SECRET) == arn
    assert value(lab) == generated
    lab.assert_unchanged(described)


def test_another_value_is_given_while_a_deletion_is_taken_back(lab: Lab) -> None:
    given(lab, FIRST).apply(GIVEN)
    given(lab, FIRST).destroy(GIVEN)
    given(lab, SECOND).apply(GIVEN)
    assert value(lab) == SECOND


def test_what_is_scheduled_for_deletion_tells_its_date(lab: Lab) -> None:
    lab.apply(EMPTY)
    stack = lab.stack(EMPTY, state="absent", unprotect=(SECRET,))
    proposal = stack.propose()
    stack.apply(proposal)
    (left,) = stack.left(proposal)
    assert left["deletion_date"].startswith("20")


def test_it_is_protected(lab: Lab) -> None:
    lab.apply(EMPTY)
    with pytest.raises(RefusedError, match="is protected and would be deleted"):
        lab.plan(EMPTY, state="absent")


def test_a_secret_of_another_environment_is_refused(lab: Lab) -> None:
    lab.other(environment="staging").apply(EMPTY)
    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'staging'"):
        lab.plan(EMPTY)


def test_a_secret_that_another_tool_made_is_adopted_with_its_value(lab: Lab) -> None:
    lab.client("secretsmanager").create_secret(Name=NAME, SecretString="from before")
    lab.apply(GENERATED, adopt=True)
    assert value(lab) == "from before"
    lab.assert_unchanged(GENERATED)


def test_its_arn_can_be_referred_to(lab: Lab) -> None:
    reader = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "${" + SECRET + ".arn}"}
    document = {"Version": "2012-10-17", "Statement": [reader]}
    described = {**EMPTY, "iam_policy.reader": {"name": "reader", "policy": document}}
    lab.apply(described)
    lab.assert_unchanged(described)


class Refusing(Behaviour):
    """Refuses an operation with a message that repeats all its parameters."""

    def __init__(self, *operations: str) -> None:
        self.operations = operations
        self.sent: list[str] = []

    def before(self, call: Call) -> Answer | None:
        if "SecretString" in call.parameters:
            self.sent.append(call.parameters["SecretString"])
        if call.operation in self.operations:
            return Answer.error("InvalidParameterException", f"cannot take {json.dumps(dict(call.parameters))}")
        return None


def everything_shown(lab: Lab, described: Any, caplog: pytest.LogCaptureFixture) -> str:
    """Return all texts that a run may print, return or write: plan, report, outputs, log, calls, errors."""
    session = lab.session()
    stack = lab.stack(described, session=session)
    proposal = stack.propose()
    report = stack.apply(proposal)
    saved = proposal.plan.to_json()
    assert Plan.from_json(saved) == proposal.plan
    results = [result.to_data() for result in report.results]
    errors = [f"{result.error!r} {result.error.__cause__!r}" for result in report.results if result.error]
    shown = [saved, text(proposal.plan, unchanged=True), report_text(report), repr(proposal), repr(report)]
    return "\n".join([*shown, repr(stack.description), json.dumps(results), *errors, *session.calls, caplog.text])


@pytest.mark.parametrize("refused", ["", "CreateSecret", "PutSecretValue"])
@pytest.mark.parametrize("structured", [False, True])
def test_no_value_is_ever_shown(lab: Lab, caplog: pytest.LogCaptureFixture, refused: str, *, structured: bool) -> None:
    caplog.set_level("INFO")
    wanted: Any = {"user": "lake", "password": "${secret.database}"} if structured else "${secret.database}"
    described = {
        SECRET: {"name": NAME, "value": wanted},
        "secretsmanager_secret.generated": {"name": "generated", "generate": {"length": 24}},
    }
    seen: list[str] = []
    for secret in (FIRST, SECOND):
        current = given(lab, secret)
        current.wire.behaviour = refusing = Refusing(refused)
        shown = everything_shown(current, described, caplog)
        assert refusing.sent
        seen += [secret, *refusing.sent, *(json.dumps(sent) for sent in refusing.sent)]
        assert not [value for value in seen if value in shown]
    operations = {call.operation for call in lab.wire.calls}
    assert not operations & {"GetSecretValue", "BatchGetSecretValue"}


def test_nothing_reads_a_value(lab: Lab) -> None:
    lab = begin(lab, FIRST)
    for described in (GIVEN, GENERATED, EMPTY):
        lab.apply(described)
        lab.assert_unchanged(described)
    lab.destroy(EMPTY)
    assert "secrets-manager:GetSecretValue" not in lab.wire.names()


def test_a_refused_call_names_the_action(lab: Lab) -> None:
    class Denying(Behaviour):
        def before(self, call: Call) -> Answer | None:
            return Answer.error("AccessDeniedException") if call.operation == "CreateSecret" else None

    lab.wire.behaviour = Denying()
    assert "allow secretsmanager:CreateSecret" in lab.run(EMPTY).report.result(SECRET).message


class DeadAfter(Behaviour):
    """The process is dead after a call: calls have no effect any more."""

    def __init__(self, operation: str) -> None:
        self.operation, self.dead = operation, False

    def before(self, call: Call) -> Answer | None:
        return Answer.error("AccessDenied", "the process is dead") if self.dead else None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        self.dead = self.dead or call.operation == self.operation
        return None


@pytest.mark.parametrize("operation", ["CreateSecret", "PutResourcePolicy"])
def test_a_crash_while_it_is_made_converges(lab: Lab, operation: str) -> None:
    described = {SECRET: {**GENERATED[SECRET], "policy": policy(lab)}}
    lab.wire.behaviour = DeadAfter(operation)
    assert not lab.run(described).report.complete
    lab.wire.behaviour = Behaviour()
    generated = value(lab)
    lab.run(described)
    lab.assert_unchanged(described)
    assert value(lab) == generated


def test_a_crash_while_an_earlier_value_is_put_in_force_converges(lab: Lab) -> None:
    begin(lab, FIRST)
    given(lab, SECOND).apply(GIVEN)
    dying = given(lab, FIRST)
    dying.wire.behaviour = DeadAfter("PutSecretValue")
    assert not dying.run(GIVEN).report.complete
    given(lab, FIRST).apply(GIVEN)
    assert value(lab) == FIRST


def test_a_lost_answer_makes_nothing_twice(lab: Lab) -> None:
    class Losing(Behaviour):
        lost = False

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            if call.operation != "CreateSecret" or self.lost:
                return None
            self.lost = True
            return Answer.error("InternalServiceError", status=500)

    lab.wire.behaviour = Losing()
    lab.apply(GENERATED)
    lab.assert_unchanged(GENERATED)
    assert lab.wire.names().count("secrets-manager:CreateSecret") == 1
