# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to an EKS cluster: read from AWS, with tokens that are created and renewed locally."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import eks_token
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster import access as cluster_access
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ConfigError
from tests.unit.kube.server import ApiServer, status

KEYS = {"access_key": "AKIA" + "IOSFODNN7EXAMPLE", "secret_key": "hush-hush-hush", "region": "eu-central-1"}
GIVEN = {"eks_cluster": "lake", **KEYS}


def answers(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    """Set EKS' description of the cluster."""

    def look(_session: Session, service: str, operation: str, absent: Any, **parameters: Any) -> Any:
        assert (service, operation, parameters) == ("eks", "describe_cluster", {"name": "lake"})
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(Session, "look", look)


def described(server: ApiServer) -> dict[str, Any]:
    authority = base64.b64encode(server.authority.pem.encode()).decode()
    return {"cluster": {"status": "ACTIVE", "endpoint": server.url, "certificateAuthority": {"data": authority}}}


def test_every_request_carries_a_token_that_aws_can_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with ApiServer(tmp_path) as server:
        answers(monkeypatch, described(server))
        with Client(cluster_access.cluster_connection(GIVEN)) as client:
            client.request("GET", "/version")
        token = server.requests[0].headers["Authorization"].removeprefix("Bearer ")

    assert token.startswith(eks_token.PREFIX)
    encoded = token.removeprefix(eks_token.PREFIX)
    url = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    assert "Action=GetCallerIdentity" in url
    assert eks_token.CLUSTER_HEADER in url
    assert "hush" not in url


def test_a_token_that_has_expired_is_made_anew_in_the_middle_of_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = iter(f"token-{number}" for number in range(9))
    monkeypatch.setattr(eks_token, "make_token", lambda _sts, _cluster: next(made))
    with ApiServer(tmp_path) as server:
        answers(monkeypatch, described(server))
        server.on("GET", "/version", status(401, "Unauthorized", "Unauthorized"), status(200))
        with Client(cluster_access.cluster_connection(GIVEN)) as client:
            client.request("GET", "/version")
        tokens = [request.headers["Authorization"] for request in server.requests]

    assert len(tokens) == 2
    assert len(set(tokens)) == 2


@pytest.mark.parametrize(
    ("found", "kind", "words"),
    [
        (None, cluster_access.AbsentClusterError, "there is none of this name"),
        ({"cluster": {"status": "CREATING"}}, cluster_access.AbsentClusterError, "it is CREATING"),
        (
            CallError("eks:DescribeCluster", "AccessDeniedException", "no"),
            ConfigError,
            "allow eks:DescribeCluster to the identity that runs this",
        ),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, found: Any, kind: type[ConfigError], words: str
) -> None:
    answers(monkeypatch, found)

    with pytest.raises(kind, match="the cluster lake") as caught:
        cluster_access.cluster_connection(GIVEN)
    assert words in str(caught.value)


def test_without_a_cluster_of_eks_nothing_of_aws_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers(monkeypatch, AssertionError("AWS was asked"))
    with ApiServer(tmp_path) as server:
        found = cluster_access.cluster_connection({"kubeconfig": server.kubeconfig()})

    assert found.server == server.url
