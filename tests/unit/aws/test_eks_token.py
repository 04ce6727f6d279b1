# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens for clusters: their content, and no parameter that a verifier rejects."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import types
import urllib.parse
from collections.abc import Callable

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import eks_token
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.eks_token import TokenSource, make_token
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session
from tests.unit.aws.service import IDENTITY, Service

SECRET = "wJalrXUtnFEMI-a-secret-key"


@pytest.fixture
def session(connect: Callable[..., Session]) -> Session:
    return connect(endpoint_url="", session_token="a-session-token")


def opened(token: str) -> tuple[urllib.parse.SplitResult, dict[str, str]]:
    """Return the presigned URL in a token, and its query."""
    encoded = token.removeprefix("k8s-aws-v1.")
    url = urllib.parse.urlsplit(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
    return url, dict(urllib.parse.parse_qsl(url.query))


def test_a_token_is_what_the_authenticator_documents(session: Session) -> None:
    token = make_token(session.client("sts"), "lake")
    url, query = opened(token)

    assert token.startswith("k8s-aws-v1.")
    assert "=" not in token
    # The authenticator accepts only STS's own hosts, over TLS, at the root, with these parameters.
    assert (url.scheme, url.hostname, url.path) == ("https", "sts.eu-central-1.amazonaws.com", "/")
    assert query.keys() == {
        "Action",
        "Version",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
    }
    assert (query["Action"], query["Version"]) == ("GetCallerIdentity", "2011-06-15")
    assert query["X-Amz-Expires"] == "60"
    assert query["X-Amz-SignedHeaders"] == "host;x-k8s-aws-id"
    signed_s = dt.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    assert abs((dt.datetime.now(dt.UTC) - signed_s).total_seconds()) < 60
    assert SECRET not in token


@pytest.mark.parametrize(("cluster", "fits"), [("lake", True), ("other", False)])
def test_the_signature_is_for_one_cluster(session: Session, cluster: str, fits: bool) -> None:
    url, query = opened(make_token(session.client("sts"), "lake"))
    unsigned = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
    request = AWSRequest("GET", f"https://{url.hostname}/?{urllib.parse.urlencode(unsigned)}")
    request.headers["x-k8s-aws-id"] = cluster
    request.context["timestamp"] = query["X-Amz-Date"]
    auth = SigV4QueryAuth(Credentials("AKIATESTTESTTEST", SECRET), "sts", "eu-central-1")

    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)

    assert (signature == query["X-Amz-Signature"]) is fits


def test_making_one_makes_no_call_and_leaves_the_client_as_it_was(
    service: Service, connect: Callable[..., Session]
) -> None:
    service.replies = (IDENTITY,)
    session = connect()
    make_token(session.client("sts"), "lake")
    make_token(session.client("sts"), "other")
    assert not service.asked

    session.call("sts", "get_caller_identity")

    assert "x-k8s-aws-id" not in {name.lower() for name in service.asked[0].headers}


def test_a_token_is_renewed_before_it_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(eks_token, "time", types.SimpleNamespace(monotonic=lambda: now_s[0]))
    numbers = itertools.count()
    source = TokenSource(lambda: f"token-{next(numbers)}")

    first = source()
    now_s[0] += 29
    again = source()
    now_s[0] += 2
    renewed = source()

    assert (first, again, renewed) == ("token-0", "token-0", "token-1")
