# SPDX-License-Identifier: GPL-3.0-or-later
"""`eks_cluster` instead of a kubeconfig: AWS provides the address, and an STS token the identity.

The API server is real and resolves tokens with `authenticator`, like that of EKS.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.eks_token import make_token
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.access import cluster_connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError, ConfigError
from tests.integration.aws.emulator import REGION
from tests.integration.kube.applying import Shop, actions, config_map, look, secret
from tests.integration.kube.authenticator import LIFE_S
from tests.integration.kube.charts import ROOT
from tests.integration.kube.cluster import ControlPlane
from tests.integration.kube.eks_lab import ACCOUNT, ROOT_ARN, SECRET_KEY, Cloud, cloud
from tests.integration.kube.kubelet import deployment
from tests.integration.patience import HANG_S

LAKE, POND, PLACE = "lake", "pond", "shop"
PASSWORD = "hush-hush-7713"
# An API server verifies a token again after ten seconds.
LONGER_S = 14


@dataclass
class Account:
    """The cloud with two clusters that are the same API server, that of lake: pond's tokens are not valid for it."""

    cloud: Cloud
    shop: Shop
    options: dict[str, Any] = field(default_factory=lambda: {"kubeconfig": None, "eks_cluster": LAKE, "region": REGION})

    def apply(self, *manifests: Any, **options: Any) -> dict[str, Any]:
        return self.shop.run(*manifests, **{**self.options, **options})


@pytest.fixture(scope="module")
def lake(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with cloud(own_plane, tmp_path_factory.mktemp("cloud"), LAKE) as found:
        for name in (LAKE, POND):
            found.client("eks").create_cluster(
                name=name, roleArn=f"arn:aws:iam::{ACCOUNT}:role/eks", resourcesVpcConfig={"subnetIds": ["subnet-1"]}
            )
        with found.cluster.client() as client:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}}
            client.request("POST", "/api/v1/namespaces", body=body)
            yield Account(found, Shop(found.cluster, PLACE, client))


@pytest.fixture
def account(lake: Account, monkeypatch: pytest.MonkeyPatch) -> Account:
    """Return the account for this process; no test changes its users permanently."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in lake.cloud.variables.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    eks, authenticator = lake.cloud.eks, lake.cloud.authenticator
    monkeypatch.setattr(eks, "expired", set())
    monkeypatch.setattr(authenticator, "users", dict(authenticator.users))
    monkeypatch.setattr(authenticator, "life_s", LIFE_S)
    authenticator.refusals.clear()
    return lake


def test_objects_are_applied_with_nothing_but_the_name_of_the_cluster(account: Account) -> None:
    predicted = account.apply(config_map("first"), check=True)
    assert actions(predicted) == {"ConfigMap first": "create"}
    assert account.shop.get("configmaps", "first") is None
    assert actions(account.apply(config_map("first"))) == {"ConfigMap first": "create"}
    assert account.shop.get("configmaps", "first") is not None
    assert not account.apply(config_map("first"))["changed"]
    assert account.cloud.authenticator.refusals == []


def test_who_asks_is_the_identity_of_aws(account: Account) -> None:
    with Client(cluster_connection(account.options)) as client:
        answer = client.request(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )
    assert answer["status"]["userInfo"]["username"] == "creator"


def test_an_identity_with_fewer_rights_is_told_what_it_may_not(account: Account) -> None:
    account.cloud.authenticator.users = {ROOT_ARN: ("reader", ("readers",))}
    # Answers for the same token are cached; the next second has another one.
    time.sleep(1.1)
    with pytest.raises(ApiError, match='User "reader" cannot get resource "configmaps"'):
        account.apply(config_map("second"))


def test_a_token_for_another_cluster_is_refused(account: Account) -> None:
    with pytest.raises(ApiError) as caught:
        account.apply(config_map("second"), eks_cluster=POND)
    assert "the token that was made for the cluster pond of EKS is not accepted" in str(caught.value)
    assert "lakehouse_eks_admin_arns" in str(caught.value)
    assert f"SignatureDoesNotMatch: the token is not of cluster {LAKE}" in account.cloud.authenticator.refusals
    assert account.shop.get("configmaps", "second") is None


def test_an_identity_that_the_cluster_does_not_know_is_told_how_to_get_in(account: Account) -> None:
    account.cloud.authenticator.users = {}
    time.sleep(1.1)
    with pytest.raises(ApiError, match="by an access entry of the cluster") as caught:
        account.apply(config_map("second"))
    assert caught.value.is_unauthorized
    assert f"{ROOT_ARN} has no access entry" in account.cloud.authenticator.refusals


def test_credentials_that_have_expired_are_told(account: Account) -> None:
    account.cloud.eks.expired.add(ACCOUNT)
    with pytest.raises(ConfigError, match="the cluster lake cannot be asked for") as caught:
        account.apply(config_map("second"))
    assert "expired" in str(caught.value)
    assert SECRET_KEY not in str(caught.value)


def test_credentials_that_aws_does_not_know_are_told(account: Account) -> None:
    with pytest.raises(ConfigError, match="the cluster lake cannot be asked for") as caught:
        account.apply(config_map("second"), access_key="AKIANOBODY", secret_key="anything-at-all")
    assert "anything-at-all" not in str(caught.value)


def test_a_wrong_secret_key_lets_nobody_in(account: Account) -> None:
    with pytest.raises(ApiError, match="is not accepted") as caught:
        account.apply(config_map("second"), access_key=ACCOUNT, secret_key="another-key-altogether")
    assert "another-key-altogether" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eks_cluster": "laek"}, f"the cluster laek in {REGION} cannot be used: there is none of this name"),
        ({"region": "us-east-1"}, "the cluster lake in us-east-1 cannot be used: there is none of this name"),
    ],
)
def test_a_cluster_that_is_not_there_is_named_with_its_region(
    account: Account, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        account.apply(config_map("second"), **options)
    assert message in str(caught.value)


def test_a_cluster_that_is_being_made_cannot_be_used_yet(account: Account) -> None:
    thing = account.cloud.eks.thing("cluster", POND)
    endpoint = thing.body.pop("endpoint")
    thing.status = "CREATING"
    try:
        with pytest.raises(ConfigError, match="cannot be used: it is CREATING"):
            account.apply(config_map("second"), eks_cluster=POND)
    finally:
        thing.body["endpoint"], thing.status = endpoint, "ACTIVE"


def test_another_authority_than_eks_names_is_not_trusted(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.integration.kube.applying import b64
    from tests.integration.kube.cluster import Authority

    body = account.cloud.eks.thing("cluster", POND).body
    monkeypatch.setitem(body, "certificateAuthority", {"data": b64(Authority.make().pem.decode())})
    seen = len(account.cloud.authenticator.refusals)
    with pytest.raises(Exception, match="its certificate is not of the authority"):
        account.apply(config_map("second"), eks_cluster=POND)
    assert len(account.cloud.authenticator.refusals) == seen


def test_a_run_that_outlives_its_token_gets_new_ones(account: Account) -> None:
    """A token is valid for two seconds here. The awaited object never appears, and then the cause is read."""
    authenticator = account.cloud.authenticator
    authenticator.life_s = 2.0
    before = len(authenticator.tokens)
    result = account.apply(deployment("slow"), wait=True, wait_timeout=LONGER_S)
    assert result["failed"]
    assert "Deployment shop/slow" in result["msg"]
    assert "is not accepted" not in result["msg"]
    assert any("the token has expired" in refusal for refusal in authenticator.refusals)
    assert len(authenticator.tokens) - before > 1


def test_a_token_that_was_caught_is_worth_nothing_after_a_quarter_of_an_hour(account: Account) -> None:
    """The webhook's clock is ahead: a token from a log is rejected."""
    token = make_token(account.cloud.client("sts"), LAKE)
    authenticator = account.cloud.authenticator
    assert authenticator.review(_review(token))["status"]["authenticated"]
    authenticator.life_s = -1.0
    assert not authenticator.review(_review(token))["status"]["authenticated"]


def _review(token: str) -> dict[str, Any]:
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}


def _play(account: Account, folder: Path, *plays: dict[str, Any]) -> str:
    tasks = [
        {"crypto_lakehouse.platform.k8s_apply": {**_given(account), **options}, "ignore_errors": True}
        for options in plays
    ]
    playbook = folder / "play.json"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]), "utf-8")
    program = Path(sys.executable).with_name("ansible-playbook")
    interpreter = f"ansible_python_interpreter={sys.executable}"
    done = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", "-e", interpreter, "-vvvv", "--diff", playbook],
        env={
            **account.cloud.variables,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv" / "collections"),
            "ANSIBLE_HOME": str(folder / "ansible"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def _given(account: Account) -> dict[str, Any]:
    given = {"eks_cluster": LAKE, "region": REGION, "namespace": PLACE, "access_key": ACCOUNT, "secret_key": SECRET_KEY}
    return {**given, "manifests": [secret("key", password=PASSWORD)]}


def test_the_loudest_output_holds_neither_token_nor_key_nor_secret(account: Account, tmp_path: Path) -> None:
    output = _play(account, tmp_path, {}, {"eks_cluster": POND}, {"eks_cluster": "laek"}, {"region": "us-east-1"})
    assert "Secret shop/key" in output
    assert "is not accepted" in output
    assert "there is none of this name" in output
    for word in ("k8s-aws-v1", "X-Amz-Signature", SECRET_KEY, PASSWORD, "aHVzaC1odXNoLTc3MTM="):
        assert word not in output
    assert look(account.shop.client, f"/api/v1/namespaces/{PLACE}/secrets/key") is not None
