# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of an EKS cluster, from the outputs of its stack."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster import eks
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check

CLOUD = {
    "region": "eu-west-1",
    "profile": "lake",
    "account_id": "123456789012",
    "ca_bundle": "/etc/ca.pem",
    "endpoint_url": "https://aws.example.org",
}
MASTER = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-1"
OUTPUTS: dict[str, dict[str, Any]] = {
    "eks_cluster.main": {"endpoint": "https://eks.example.org"},
    "vpc.main": {"id": "vpc-1"},
    "web_acl.ingress": {"arn": "arn:aws:wafv2:acl"},
    "security_group.alb": {"id": "sg-1"},
    "kms_key.data": {"arn": "arn:aws:kms:key/1"},
    "s3_bucket.gold": {"id": "gold-of-ours"},
    "db_instance.main": {"address": "db.example.org", "master_user_secret_arn": MASTER},
}
STACK = eks.EksStack(OUTPUTS, "eu-central-1", "lake-development")
PLANNED = eks.EksStack({}, "eu-central-1", "lake-development")


def settings(**given: Any) -> dict[str, Any]:
    """Return checked settings of an EKS cluster."""
    found, problems = check({"lakehouse_target": "eks", "lakehouse_environment": "development", **given})
    assert problems == []
    return found


def test_a_cluster_is_reached_by_its_name_with_the_access_to_aws() -> None:
    assert eks.connection(settings(), STACK, CLOUD) == {
        "region": "eu-central-1",
        "profile": "lake",
        "endpoint_url": "https://aws.example.org",
        "aws_ca_bundle": "/etc/ca.pem",
        "eks_cluster": "lake-development",
    }
    assert eks.connection(settings(), STACK, {}) == {"region": "eu-central-1", "eks_cluster": "lake-development"}


def test_a_kubeconfig_replaces_the_name_of_the_cluster() -> None:
    chosen = settings(lakehouse_kubeconfig="/etc/kubeconfig")
    assert eks.connection(chosen, STACK, {}) == {"region": "eu-central-1"}


def test_modules_of_aws_get_the_region_of_the_stack_and_no_account() -> None:
    expected = eks.connection(settings(), STACK, CLOUD)
    del expected["eks_cluster"]
    assert eks.arguments(settings(), STACK, CLOUD)["aws_connection"] == expected
    assert eks.aws_connection(CLOUD) == {**expected, "region": "eu-west-1"}


@pytest.mark.parametrize(
    ("stack", "version"), [(STACK, ""), (PLANNED, "1.34"), (eks.EksStack({"eks_cluster.main": {}}, "r", "n"), "1.34")]
)
def test_only_a_planned_cluster_has_the_version_of_the_inventory(stack: eks.EksStack, version: str) -> None:
    found = eks.facts(settings(lakehouse_eks_version="1.34"), stack, {})
    assert found["kubernetes_version"] == version


def test_the_foundation_determines_the_settings_of_the_catalogue() -> None:
    chosen = settings(lakehouse_aws_database=True, lakehouse_domain="lake.example.org", lakehouse_storage_class="fast")
    assert eks.catalogue_settings(chosen, STACK) == {
        "region": "eu-central-1",
        "ingress_cidrs": [chosen["lakehouse_aws_vpc_cidr"]],
        "storage_class": "fast",
        "bronze_bucket": "crypto-lakehouse-bronze-development",
        "silver_bucket": "crypto-lakehouse-silver-development",
        "gold_bucket": "gold-of-ours",
        "backups_bucket": "crypto-lakehouse-backups-development",
        "database_endpoint": "db.example.org:5432",
    }


def test_a_planned_database_has_no_address_and_a_cluster_without_one_has_no_setting() -> None:
    planned = eks.catalogue_settings(settings(lakehouse_aws_database=True), PLANNED)
    assert planned["database_endpoint"] == "known-after-apply.invalid:5432"
    without = eks.catalogue_settings(settings(lakehouse_aws_database=False), STACK)
    assert "database_endpoint" not in without
    assert (without["ingress_cidrs"], without["storage_class"]) == ([], "gp3")


def test_ingress_and_autoscaling_get_resources_of_the_foundation() -> None:
    assert eks.foundation(settings(lakehouse_tags={"Team": "data"}), STACK) == {
        "cluster_name": "lake-development",
        "region": "eu-central-1",
        "tags": {"Environment": "development", "Project": "crypto-lakehouse", "Team": "data"},
        "vpc_id": "vpc-1",
        "web_acl_arn": "arn:aws:wafv2:acl",
        "security_group_ids": ["sg-1"],
    }
    planned = eks.foundation(settings(), PLANNED)
    assert (planned["vpc_id"], planned["web_acl_arn"], planned["security_group_ids"]) == ("", "", [])


@pytest.mark.parametrize(("database", "stack"), [(False, STACK), (True, PLANNED)])
def test_secrets_without_a_password_of_the_database_owner(database: bool, stack: eks.EksStack) -> None:
    assert eks.secret_keeper(settings(lakehouse_aws_database=database), stack) == {
        "secret_id": "crypto-lakehouse-service-secrets-development",
        "managed": [
            {"name": "database_lakehouse_password", "secret_id": "crypto-lakehouse-database-password-development"}
        ],
    }


def test_the_password_of_the_database_owner_is_in_the_secret_of_the_database() -> None:
    managed = eks.secret_keeper(settings(lakehouse_aws_database=True), STACK)["managed"]
    assert managed[0] == {"name": "database_superuser_password", "secret_id": MASTER, "key": "password"}
    assert len(managed) == 2


def test_volumes_are_encrypted_with_the_key_of_the_foundation() -> None:
    (found,) = eks.arguments(settings(), STACK, {})["prerequisites"]
    assert found["metadata"]["name"] == "gp3"
    assert found["parameters"] == {"type": "gp3", "encrypted": "true", "kmsKeyId": "arn:aws:kms:key/1"}
    (planned,) = eks.arguments(settings(), PLANNED, {})["prerequisites"]
    assert planned["parameters"] == {"type": "gp3", "encrypted": "true"}


def test_a_storage_class_of_the_inventory_is_not_created() -> None:
    assert eks.arguments(settings(lakehouse_storage_class="fast"), STACK, {})["prerequisites"] == []
