# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError, ReadTimeoutError

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError, call_error


def client_error(code: str, message: str = "words", status: int = 400, **more: Any) -> CallError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return call_error("ec2:CreateVpc", ClientError(response, "CreateVpc"), **more)


def test_a_refused_call_names_the_action_that_it_is_named_after() -> None:
    assert str(client_error("UnauthorizedOperation", status=403)) == (
        "ec2:CreateVpc: UnauthorizedOperation: words; allow ec2:CreateVpc to the identity that runs this"
    )


def test_a_refused_call_names_the_actions_that_it_needs_under_other_names() -> None:
    error = client_error("AccessDenied", actions=("s3:PutEncryptionConfiguration", "kms:DescribeKey"))

    assert "allow s3:PutEncryptionConfiguration and kms:DescribeKey to" in str(error)


@pytest.mark.parametrize(
    ("message", "action"),
    [
        (
            "User: arn:aws:iam::1:user/x is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role",
            "iam:PassRole",
        ),
        ("You are not authorized to perform: ec2:RunInstances", "ec2:RunInstances"),
        ("not authorized to perform elasticfilesystem:TagResource on the specified resource", "elasticfilesystem:"),
    ],
)
def test_the_action_that_the_service_itself_names_wins(message: str, action: str) -> None:
    error = client_error("AccessDeniedException", message, actions=("eks:CreateCluster",))

    assert f"allow {action}" in str(error)
    assert "allow eks:CreateCluster" not in str(error)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure"])
def test_bad_credentials_say_where_credentials_come_from(code: str) -> None:
    assert "check the credentials: profile, access_key, secret_key" in str(client_error(code))


def test_an_exception_without_an_answer_is_known_by_its_name() -> None:
    error = call_error("sts:GetCallerIdentity", NoCredentialsError())

    assert (error.code, error.status) == ("NoCredentialsError", 0)
    assert "check the credentials" in str(error)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_nobody_knows_what_became_of_a_call_that_ended_in_5xx(status: int) -> None:
    error = client_error("InternalFailure", status=status)

    assert (error.is_ambiguous, error.is_throttled, error.is_denied) == (True, False, False)


@pytest.mark.parametrize(
    ("code", "status"), [("SlowDown", 503), ("RequestLimitExceeded", 503), ("Throttling", 400), ("Any", 429)]
)
def test_a_throttled_call_did_certainly_nothing(code: str, status: int) -> None:
    error = client_error(code, status=status)

    assert (error.is_throttled, error.is_ambiguous) == (True, False)


def test_a_lost_connection_is_ambiguous_only_after_it_stood() -> None:
    lost = call_error("s3:PutObject", ReadTimeoutError(endpoint_url="https://x"))
    unsent = call_error("s3:PutObject", ConnectTimeoutError(endpoint_url="https://x"))

    assert (lost.is_ambiguous, lost.is_unsent) == (True, False)
    assert (unsent.is_ambiguous, unsent.is_unsent) == (False, True)


@pytest.mark.parametrize(
    ("patterns", "matches"),
    [
        ([], False),
        (["InvalidParameterValue"], True),
        (["InvalidParameter"], False),
        (["InvalidParameterValue:role"], True),
        (["InvalidParameterValue:rule"], False),
        (["Other:role", "InvalidParameterValue:The role"], True),
        (["InvalidParameterValue:arn:aws"], True),
    ],
)
def test_a_pattern_is_a_code_and_some_words(patterns: list[str], *, matches: bool) -> None:
    error = client_error("InvalidParameterValue", "The role arn:aws:iam::1:role/x cannot be assumed")

    assert error.is_one_of(patterns) is matches


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ({}, "Unknown"),
        ({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "404"),
        ({"Error": {"Code": "", "Message": ""}, "ResponseMetadata": {}}, "Unknown"),
    ],
)
def test_an_answer_without_a_code_still_is_an_error_of_one_line(response: Any, code: str) -> None:
    error = call_error("s3:HeadBucket", ClientError(response, "HeadBucket"))

    assert str(error) == f"s3:HeadBucket: {code}"
