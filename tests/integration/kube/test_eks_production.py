# SPDX-License-Identifier: GPL-3.0-or-later
"""The production environment on EKS: the foundation's database, ingresses behind the firewall, and autoscaling.

AWS by emulators, the cluster a real API server with a simulated node. The inventory omits the lock of a backup vault,
which the emulators do not support.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.aws.emulator import REGION
from tests.integration.kube.charts import ROOT, write_monitoring, write_stand_in
from tests.integration.kube.cluster import ControlPlane
from tests.integration.kube.eks_lab import Cloud, EksLakehouse, cloud
from tests.integration.kube.hollow import HollowNode
from tests.integration.kube.lakehouse import NAMESPACE, PLACE
from tests.integration.kube.roleplay import helm_program
from tests.unit.catalogue.clusters import CERTIFICATE as AUTHORITY

NAME = "crypto-lakehouse-production"
DOMAIN = "lake.example.org"
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/0f0e0d0c-1111-2222-3333-444455556666"
CONFIRMED = {"lakehouse_destroy_confirm": "production"}
DATA = {"lakehouse_destroy_data": True}
SMALL = ("metrics-server", "prometheus-adapter", "vertical-pod-autoscaler")
CONTROLLER = "aws-load-balancer-controller"
INGRESS = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses/api"
AUTOSCALER = "/apis/apps/v1/namespaces/kube-system/deployments/cluster-autoscaler"
HORIZONTAL = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/api"


@pytest.fixture(scope="module")
def account(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud(own_plane, tmp_path_factory.mktemp("cloud"), NAME) as found:
        yield found


@pytest.fixture(scope="module")
def deployed(
    account: Cloud, own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EksLakehouse]:
    """Return the account with a deployed production lakehouse."""
    folder = tmp_path_factory.mktemp("lakehouse")
    _write_charts(folder / "charts")
    with HollowNode(account.cluster, tmp_path_factory.mktemp("node")).running():
        lakehouse = EksLakehouse(account.cluster, folder, helm_program(own_plane.assets), "production", cloud=account)
        lakehouse.variables = _variables(folder)
        run = lakehouse.deploy()
        assert "Lakehouse production is deployed in namespace crypto-lakehouse" in run.words
        yield lakehouse


def _write_charts(folder: Path) -> None:
    """Write stand-ins: the webhook of the real load balancer controller would have no server on a simulated node."""
    folder.mkdir()
    write_monitoring(folder)
    write_stand_in(folder, CONTROLLER)


def _variables(folder: Path) -> dict[str, Any]:
    (folder / "rds-ca.pem").write_text(AUTHORITY, "utf-8")
    charts = ROOT / "tests" / "integration" / "kube" / "charts"
    return {
        "lakehouse_domain": DOMAIN,
        "lakehouse_tags": {"Team": "data platform"},
        "lakehouse_database_ca_bundle": str(folder / "rds-ca.pem"),
        "lakehouse_ingress_certificate_arn": CERTIFICATE,
        "lakehouse_aws_backup_vault_lock": False,
        "lakehouse_charts": {name: {"path": str(charts / name), "version": "1.0.0"} for name in SMALL},
        # Simulated pods have no metrics, so that load scales nothing.
        "autoscaling_wait": False,
    }


def _found(lakehouse: EksLakehouse, path: str) -> dict[str, Any]:
    found = lakehouse.get(path)
    assert found is not None, path
    return found


def test_a_second_deployment_changes_nothing(deployed: EksLakehouse) -> None:
    assert deployed.deploy("--diff").changed == 0
    assert deployed.deploy("--check", "--diff").changed == 0


def test_nothing_is_planned_and_nothing_has_drifted(deployed: EksLakehouse) -> None:
    plan = deployed.well("plan")
    assert "Nothing: the cluster is as described." in plan.words
    assert plan.changed == 0
    words = deployed.well("drift").words
    assert "AWS is as described." in words
    assert "The cluster is as described." in words


def _environment(deployed: EksLakehouse, secret: str) -> str:
    data = _found(deployed, f"{PLACE}/secrets/{secret}")["data"]
    return "\n".join(f"{name}={base64.b64decode(value).decode()}" for name, value in data.items())


def test_services_use_the_database_of_the_foundation_and_there_is_none_in_the_cluster(
    deployed: EksLakehouse, account: Cloud
) -> None:
    (database,) = account.client("rds").describe_db_instances()["DBInstances"]
    place = f"@{database['Endpoint']['Address']}:{database['Endpoint']['Port']}/"
    for name in ("api", "worker", "orchestrator", "bootstrap"):
        assert place in _environment(deployed, name)
    master = account.client("secretsmanager").get_secret_value(SecretId=database["MasterUserSecret"]["SecretArn"])
    password = json.loads(master["SecretString"])["password"]
    assert deployed.secrets["database_superuser_password"] == password
    assert f"://postgres:{quote(password, safe='')}{place}" in _environment(deployed, "bootstrap")
    names = deployed.names(f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")
    assert names == ["orchestrator", "worker"]


def test_services_verify_the_database_and_find_their_tables_in_glue(deployed: EksLakehouse) -> None:
    workloads = [("deployments", "api"), ("statefulsets", "worker")]
    for kind, name in workloads:
        pod = _found(deployed, f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}/{name}")["spec"]["template"]["spec"]
        environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        assert environment["PGSSLMODE"] == "verify-full"
        assert environment["LAKEHOUSE_CATALOG_TYPE"] == "glue"
        assert environment["LAKEHOUSE_CATALOG_NAMESPACE_PREFIX"] == "crypto_lakehouse_production_"
    assert _found(deployed, f"{PLACE}/configmaps/lakehouse-database-ca")["data"] == {"ca.crt": AUTHORITY}
    catalog = _found(deployed, f"{PLACE}/configmaps/trino")["data"]["trino.catalog.gold.properties"]
    assert "iceberg.catalog.type=glue" in catalog
    assert f"hive.metastore.glue.region={REGION}" in catalog


def test_the_door_is_behind_the_firewall_and_open_by_tls_alone(deployed: EksLakehouse, account: Cloud) -> None:
    ingress = _found(deployed, INGRESS)
    acl = account.client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"][0]["ARN"]
    annotations = ingress["metadata"]["annotations"]
    assert annotations["alb.ingress.kubernetes.io/wafv2-acl-arn"] == acl
    assert annotations["alb.ingress.kubernetes.io/certificate-arn"] == CERTIFICATE
    assert annotations["alb.ingress.kubernetes.io/ssl-redirect"] == "443"
    groups = account.client("ec2").describe_security_groups(
        Filters=[{"Name": "tag:lakehouse:address", "Values": ["security_group.alb"]}]
    )["SecurityGroups"]
    assert annotations["alb.ingress.kubernetes.io/security-groups"] == groups[0]["GroupId"]
    # It reaches the API, and Grafana, whose ingress belongs to monitoring.
    assert sorted(rule["FromPort"] for rule in groups[0]["IpPermissionsEgress"]) == [3000, 8080]
    tags = "Environment=production,Project=crypto-lakehouse,Team=data platform"
    assert annotations["alb.ingress.kubernetes.io/tags"] == tags
    assert ingress["spec"]["ingressClassName"] == "alb"
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [f"api.{DOMAIN}"]


def test_what_asks_nobody_is_not_exposed(deployed: EksLakehouse) -> None:
    run = deployed.badly("deploy", "-t", "services", "--check", lakehouse_ingress_services=["api", "orchestrator"])
    assert "orchestrator: nobody asks who calls. Remedy: name an identity provider in ingress_oidc" in run.words


def test_charts_that_the_folder_lacks_are_named_at_once(deployed: EksLakehouse) -> None:
    run = deployed.badly("deploy", "-t", "services", "--check", lakehouse_charts={})
    for name in SMALL:
        assert f"holds no chart {name}" in run.words


def test_the_controller_of_load_balancers_is_somebody_in_aws_by_its_service_account(
    deployed: EksLakehouse, account: Cloud
) -> None:
    pages = account.client("eks").get_paginator("list_pod_identity_associations")
    listed = pages.paginate(clusterName=NAME, namespace="kube-system").build_full_result()["associations"]
    names = deployed.names("/api/v1/namespaces/kube-system/serviceaccounts")
    assert {CONTROLLER, "cluster-autoscaler"} <= {one["serviceAccount"] for one in listed} & set(names)


def test_the_autoscaler_of_the_cluster_has_the_clusters_own_minor_version(
    deployed: EksLakehouse, account: Cloud
) -> None:
    version = deployed.client.request("GET", "/version")
    container = _found(deployed, AUTOSCALER)["spec"]["template"]["spec"]["containers"][0]
    image = f"registry.k8s.io/autoscaling/cluster-autoscaler:v{version['major']}.{version['minor']}.0"
    assert container["image"] == image
    assert f"k8s.io/cluster-autoscaler/{NAME}" in " ".join(container["command"])


def test_the_api_is_scaled_by_its_load_and_by_hand_only_at_the_lower_end(deployed: EksLakehouse) -> None:
    assert (
        _found(deployed, HORIZONTAL)["spec"]["minReplicas"],
        _found(deployed, HORIZONTAL)["spec"]["maxReplicas"],
    ) == (3, 20)
    refused = deployed.badly("scale", lakehouse_scale={"api": 21}, lakehouse_scale_nodes={"spot": 21})
    assert "21 replicas of api are beyond its bounds, 1 to 20" in refused.words
    assert "21 nodes of group spot are beyond its bounds, 0 to 20" in refused.words


def test_destruction_has_to_be_confirmed_and_is_refused_while_aws_protects_cluster_and_database(
    deployed: EksLakehouse, account: Cloud
) -> None:
    assert "add -e lakehouse_destroy_confirm=production" in deployed.badly("destroy", **DATA).words
    run = deployed.badly("destroy", **CONFIRMED, **DATA)
    assert "lakehouse_aws_deletion_protection: AWS refuses to delete cluster and database" in run.words
    assert account.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"] is True
    assert deployed.get(INGRESS) is not None


def test_a_destruction_with_data_leaves_a_last_snapshot_of_the_database_alone(
    deployed: EksLakehouse, account: Cloud
) -> None:
    deployed.variables["lakehouse_aws_deletion_protection"] = False
    deployed.well("deploy", "-t", "aws")
    deployed.well("destroy", **CONFIRMED, **DATA)
    assert account.eks.things == {}
    assert deployed.names(f"{PLACE}/persistentvolumeclaims") == []
    # The controller deletes its load balancers while the API server can notify it.
    assert deployed.get(INGRESS) is None
    rds = account.client("rds")
    assert rds.describe_db_instances()["DBInstances"] == []
    (snapshot,) = rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert snapshot["DBInstanceIdentifier"] == NAME
    assert "-final-" in snapshot["DBSnapshotIdentifier"]
    assert deployed.well("destroy", **CONFIRMED, **DATA).changed == 0


def test_no_value_of_a_secret_was_ever_told(deployed: EksLakehouse) -> None:
    assert len(deployed.secrets_seen) >= 15
    assert deployed.told() == []
