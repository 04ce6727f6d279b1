# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on EKS, from an empty account to a destroyed one: AWS by emulators, the cluster a real API server.

One account, through its lifecycle in the order of this file. The playbooks get the cluster's address from AWS alone,
and authenticate with a token that the API server verifies. No output may contain a secret value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE
from tests.integration.kube.charts import write_monitoring
from tests.integration.kube.cluster import ControlPlane
from tests.integration.kube.eks_lab import Cloud, EksLakehouse, cloud
from tests.integration.kube.eks_service import ADDONS
from tests.integration.kube.hollow import HollowNode
from tests.integration.kube.lakehouse import NAMESPACE, PLACE
from tests.integration.kube.roleplay import helm_program

NAME = "crypto-lakehouse-development"
STORE = "crypto-lakehouse-service-secrets-development"
API = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/api"
WORKER = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/worker"
BUDGET = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/worker"
MARKER = f"{PLACE}/configmaps/crypto-lakehouse"
CHECKS = [{"name": "metrics scraped", "healthy": True, "detail": "12 targets", "duration_s": 0.5}]


@pytest.fixture(scope="module")
def account(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud(own_plane, tmp_path_factory.mktemp("cloud"), NAME) as found:
        yield found


@pytest.fixture(scope="module")
def empty(account: Cloud, own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EksLakehouse]:
    """Return an empty account. Its cluster will have a simulated node."""
    folder = tmp_path_factory.mktemp("lakehouse")
    (folder / "charts").mkdir()
    write_monitoring(folder / "charts")
    log = f"starting\n{json.dumps({'result': CHECKS})}\n"
    with HollowNode(account.cluster, tmp_path_factory.mktemp("node"), {"verify": log}).running():
        yield EksLakehouse(account.cluster, folder, helm_program(own_plane.assets), "development", cloud=account)


@pytest.fixture(scope="module")
def deployed(empty: EksLakehouse) -> EksLakehouse:
    """Return the account with a deployed lakehouse. Each test restores its state."""
    run = empty.deploy()
    assert "Lakehouse development is deployed in namespace crypto-lakehouse" in run.words
    return empty


def _size(account: Cloud, group: str = "crypto-lakehouse-nodes") -> dict[str, int]:
    found = account.client("eks").describe_nodegroup(clusterName=NAME, nodegroupName=group)["nodegroup"]
    sizes: dict[str, int] = found["scalingConfig"]
    return sizes


@pytest.mark.parametrize("verb", ["plan", "deploy"])
def test_in_an_empty_account_cluster_and_services_are_planned_and_nothing_is_made(
    empty: EksLakehouse, account: Cloud, verb: str
) -> None:
    before = empty.names("/api/v1/namespaces")
    run = empty.well(verb, *([] if verb == "plan" else ["--check", "--diff"]))
    for line in ("+ eks_cluster.main  create", "Deployment crypto-lakehouse/api", "StorageClass gp3", "ServiceMonitor"):
        assert line in run.output
    assert account.eks.things == {}
    assert empty.names("/api/v1/namespaces") == before


@pytest.mark.parametrize("verb", ["drift", "health", "scale"])
def test_a_verb_that_needs_a_cluster_says_that_there_is_none(empty: EksLakehouse, verb: str) -> None:
    run = empty.badly(verb, *(["-t", "services"] if verb == "drift" else []))
    assert "holds no lakehouse. Remedy: run playbooks/deploy.yml first" in run.words


def test_a_second_deployment_changes_nothing(deployed: EksLakehouse) -> None:
    assert deployed.deploy("--diff").changed == 0
    assert deployed.deploy("--check", "--diff").changed == 0


def test_nothing_has_drifted(deployed: EksLakehouse) -> None:
    words = deployed.well("drift").words
    assert "AWS is as described." in words
    assert "The cluster is as described." in words


def test_every_request_came_with_a_token_that_was_checked(deployed: EksLakehouse, account: Cloud) -> None:
    assert len(account.authenticator.tokens) > 1
    assert account.authenticator.refusals == []


def test_the_contract_is_passed_in_the_cluster(deployed: EksLakehouse) -> None:
    assert "metrics scraped" in deployed.well("verify").output


def test_the_examination_reaches_the_cluster(deployed: EksLakehouse) -> None:
    run = deployed.badly("health")
    assert "workloads/crypto-lakehouse/deployment/api" in run.output


def test_secrets_are_kept_by_secrets_manager_and_the_cluster_has_a_copy(deployed: EksLakehouse, account: Cloud) -> None:
    store = json.loads(account.client("secretsmanager").get_secret_value(SecretId=STORE)["SecretString"])["secrets"]
    assert {name: fields["value"] for name, fields in store.items()} == deployed.secrets
    password = account.client("secretsmanager").get_secret_value(
        SecretId="crypto-lakehouse-database-password-development"
    )
    assert deployed.secrets["database_lakehouse_password"] == password["SecretString"]


def _pod(deployed: EksLakehouse, path: str) -> dict[str, Any]:
    found = deployed.get(path)
    assert found is not None
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


def test_pods_are_somebody_in_aws_by_their_service_account_alone(deployed: EksLakehouse, account: Cloud) -> None:
    client = account.client("eks")
    listed = client.list_pod_identity_associations(clusterName=NAME, namespace=NAMESPACE)["associations"]
    accounts = {one["serviceAccount"] for one in listed}
    assert accounts == {"pipeline", "query"}
    assert accounts <= set(deployed.names(f"{PLACE}/serviceaccounts"))
    assert {_pod(deployed, path)["serviceAccountName"] for path in (API, WORKER)} <= accounts
    written = json.dumps([_pod(deployed, path) for path in (API, WORKER)])
    assert "AWS_SECRET_ACCESS_KEY" not in written


def test_services_are_given_the_buckets_and_the_catalog_of_the_account(deployed: EksLakehouse, account: Cloud) -> None:
    rendered = json.dumps(deployed.get(API))
    buckets = [bucket["Name"] for bucket in account.client("s3").list_buckets()["Buckets"]]
    assert next(name for name in buckets if "-gold-" in name) in rendered
    assert "eu-central-1" in rendered


def _rotate(account: Cloud, name: str, value: str) -> None:
    client = account.client("secretsmanager")
    document = json.loads(client.get_secret_value(SecretId=STORE)["SecretString"])
    document["secrets"][name]["value"] = value
    client.put_secret_value(SecretId=STORE, SecretString=json.dumps(document))


def test_drift_names_what_was_changed_by_hand_and_a_deployment_repairs_it(
    deployed: EksLakehouse, account: Cloud
) -> None:
    _rotate(account, "api_token", "rotated-by-hand-0123456789")
    deployed.client.request(
        "PATCH", WORKER, body={"spec": {"template": {"spec": {"priorityClassName": None}}}}, content_type=MERGE
    )
    account.client("eks").update_nodegroup_config(
        clusterName=NAME, nodegroupName="crypto-lakehouse-nodes", scalingConfig={"maxSize": 20}
    )
    before = deployed.get(API)
    cluster = deployed.badly("drift", "-t", "services")
    for line in ("secret api_token", "Deployment crypto-lakehouse/api", "StatefulSet crypto-lakehouse/worker"):
        assert line in cluster.words
    assert "eks_nodegroup.on-demand" in deployed.badly("drift").words

    deployed.deploy()
    assert deployed.secrets["api_token"] == "rotated-by-hand-0123456789"
    assert _size(account)["maxSize"] == 10
    # Pods that use it are replaced.
    after = deployed.get(API)
    assert before is not None
    assert after is not None
    assert before["spec"]["template"] != after["spec"]["template"]
    assert deployed.deploy().changed == 0


def test_rotation_writes_the_keeper_and_the_cluster(deployed: EksLakehouse, account: Cloud) -> None:
    before = deployed.secrets
    deployed.deploy(lakehouse_rotate_secrets=True)
    after = deployed.secrets
    store = json.loads(account.client("secretsmanager").get_secret_value(SecretId=STORE)["SecretString"])["secrets"]
    assert {name: fields["value"] for name, fields in store.items()} == after
    # Its own secret of the foundation stores this one.
    assert {name for name in before if before[name] == after[name]} == {"database_lakehouse_password"}
    assert deployed.deploy().changed == 0


def test_scaling_beyond_the_bounds_is_refused_with_the_bounds(deployed: EksLakehouse, account: Cloud) -> None:
    run = deployed.badly("scale", lakehouse_scale={"api": 21}, lakehouse_scale_nodes={"on-demand": 11, "spot": 1})
    assert "21 replicas of api are beyond its bounds, 1 to 20" in run.words
    assert "11 nodes of group on-demand are beyond its bounds, 1 to 10" in run.words
    assert "there is no node group 'spot'" in run.words
    assert "0 nodes of group on-demand" in deployed.badly("scale", lakehouse_scale_nodes={"on-demand": 0}).words
    assert _size(account) == {"minSize": 1, "maxSize": 10, "desiredSize": 2}


def test_nodes_and_replicas_are_scaled_and_stay_so(deployed: EksLakehouse, account: Cloud) -> None:
    wanted: dict[str, Any] = {"lakehouse_scale": {"worker": 3}, "lakehouse_scale_nodes": {"on-demand": 4}}
    predicted = deployed.well("scale", "--check", **wanted)
    assert "node group on-demand: 2 to 4 nodes" in predicted.words
    assert _size(account)["desiredSize"] == 2
    run = deployed.well("scale", **wanted)
    assert "node group on-demand: 2 to 4 nodes" in run.words
    assert "StatefulSet crypto-lakehouse/worker" in run.words
    # The autoscaler continues within the limits of the group.
    assert _size(account) == {"minSize": 1, "maxSize": 10, "desiredSize": 4}
    again = deployed.well("scale", **wanted)
    assert "Nothing: these sizes are already set." in again.words
    assert again.changed == 0
    assert deployed.get(BUDGET) is not None
    assert "The cluster is as described." in deployed.well("drift").words
    assert deployed.deploy().changed == 0
    assert _size(account)["desiredSize"] == 4


def test_what_is_scaled_back_leaves_nothing(deployed: EksLakehouse, account: Cloud) -> None:
    deployed.well("scale", lakehouse_scale={"worker": 1}, lakehouse_scale_nodes={"on-demand": 2})
    assert _size(account)["desiredSize"] == 2
    assert deployed.get(BUDGET) is None
    assert deployed.deploy().changed == 0


def test_bounds_that_a_run_left_behind_are_given_back(deployed: EksLakehouse, account: Cloud) -> None:
    account.client("eks").update_nodegroup_config(
        clusterName=NAME,
        nodegroupName="crypto-lakehouse-nodes",
        scalingConfig={"minSize": 5, "maxSize": 5, "desiredSize": 5},
    )
    run = deployed.well("scale", lakehouse_scale_nodes={"on-demand": 5})
    assert "bounds of eks_nodegroup.on-demand" in run.words
    assert _size(account) == {"minSize": 1, "maxSize": 10, "desiredSize": 5}
    deployed.well("scale", lakehouse_scale_nodes={"on-demand": 2})


def test_nodes_are_not_scaled_while_aws_differs_in_something_else(deployed: EksLakehouse, account: Cloud) -> None:
    account.client("logs").put_retention_policy(logGroupName="/aws/crypto-lakehouse/development", retentionInDays=7)
    run = deployed.badly("scale", lakehouse_scale={"worker": 2}, lakehouse_scale_nodes={"on-demand": 3})
    assert "AWS differs from its description in more than the number of nodes: log_group.application" in run.words
    worker = deployed.get(WORKER)
    assert worker is not None
    assert worker["spec"]["replicas"] == 1
    assert _size(account)["desiredSize"] == 2
    deployed.deploy()


def test_nodes_and_addons_follow_the_cluster_to_the_next_version_of_kubernetes(
    deployed: EksLakehouse, account: Cloud
) -> None:
    client = account.client("eks")
    refused = deployed.badly("deploy", "-t", "aws", lakehouse_eks_version="1.34")
    assert "EKS does not go back to 1.34" in refused.words
    deployed.deploy(lakehouse_eks_version="1.36")
    deployed.variables["lakehouse_eks_version"] = "1.36"
    assert client.describe_cluster(name=NAME)["cluster"]["version"] == "1.36"
    group = client.describe_nodegroup(clusterName=NAME, nodegroupName="crypto-lakehouse-nodes")["nodegroup"]
    assert group["version"] == "1.36"
    addons = {name: client.describe_addon(clusterName=NAME, addonName=name)["addon"] for name in ADDONS}
    assert {addon["addonVersion"] for addon in addons.values()} == {"v1.36.0-eksbuild.1"}
    assert deployed.deploy().changed == 0


def test_an_older_lakehouse_is_upgraded(deployed: EksLakehouse) -> None:
    deployed.client.request("PATCH", MARKER, body={"data": {"version": "0.9.0"}}, content_type=MERGE)
    refused = deployed.badly("deploy", "-t", "preflight,services")
    assert "was deployed by version 0.9.0, this is 1.0.0. Remedy: run playbooks/upgrade.yml" in refused.words
    run = deployed.badly("upgrade")
    # The upgrade is complete; only the examination fails, on answers that simulated pods do not have.
    assert "Version 0.9.0 becomes 1.0.0" in run.words
    assert "services/api" in run.output
    assert (deployed.get(MARKER) or {})["data"]["version"] == "1.0.0"


def test_destruction_has_to_be_confirmed_and_data_is_protected(deployed: EksLakehouse) -> None:
    assert "add -e lakehouse_destroy_confirm=development" in deployed.badly("destroy").words
    kept = deployed.badly("destroy", lakehouse_destroy_confirm="development")
    assert "eks_cluster.main: is protected" in kept.words
    assert deployed.get(API) is not None


def test_destruction_with_data_leaves_nothing(deployed: EksLakehouse, account: Cloud) -> None:
    assert deployed.names(f"{PLACE}/persistentvolumeclaims")
    deployed.well("destroy", lakehouse_destroy_confirm="development", lakehouse_destroy_data=True)
    assert account.eks.things == {}
    # Volumes of the cluster are released before its deletion: their owner would be unknown after it.
    assert deployed.names(f"{PLACE}/persistentvolumeclaims") == []


def test_no_value_of_a_secret_was_ever_told(deployed: EksLakehouse) -> None:
    assert len(deployed.secrets_seen) > 15
    assert deployed.told() == []
