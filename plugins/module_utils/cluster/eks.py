# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return the connection, settings and secret backend of an EKS cluster, from the outputs of its stack in AWS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACCESS = ("region", "profile", "assume_role_arn", "external_id", "role_session_name", "endpoint_url")
BUCKETS = ("bronze", "silver", "gold", "backups")
STORAGE_CLASS = "gp3"
# A planned database has no address.
UNKNOWN_ADDRESS = "known-after-apply.invalid"
POSTGRESQL_PORT = 5432


@dataclass(frozen=True)
class EksStack:
    """The stack of an EKS cluster. outputs: attributes of its resources by their addresses, as far as they exist."""

    outputs: Mapping[str, Mapping[str, Any]]
    region: str
    cluster_name: str

    def output(self, address: str, attribute: str, default: str = "") -> Any:
        """Return an attribute of a resource, or the default for a resource that is only planned."""
        return self.outputs.get(address, {}).get(attribute, default)

    @property
    def is_planned(self) -> bool:
        """Return whether the cluster does not exist yet."""
        return not self.output("eks_cluster.main", "endpoint")


def facts(settings: Mapping[str, Any], stack: EksStack, cloud: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the preflight of a cluster. cloud: connection options of the inventory, for AWS."""
    return {
        "connection": connection(settings, stack, cloud),
        "settings": catalogue_settings(settings, stack),
        "kubernetes_version": settings["lakehouse_eks_version"] if stack.is_planned else "",
    }


def arguments(settings: Mapping[str, Any], stack: EksStack, cloud: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of roles: `aws`, `secret_keeper`, and `prerequisites`, the first objects of the cluster."""
    return {
        "aws_connection": {**aws_connection(cloud), "region": stack.region},
        "aws": foundation(settings, stack),
        "secret_keeper": secret_keeper(settings, stack),
        "prerequisites": [] if settings["lakehouse_storage_class"] else [storage_class(stack)],
    }


def connection(settings: Mapping[str, Any], stack: EksStack, cloud: Mapping[str, Any]) -> dict[str, Any]:
    """Return the connection options of the cluster, which is found by its name unless there is a kubeconfig."""
    cluster = {} if settings["lakehouse_kubeconfig"] else {"eks_cluster": stack.cluster_name}
    return {**aws_connection(cloud), "region": stack.region, **cluster}


def aws_connection(cloud: Mapping[str, Any]) -> dict[str, Any]:
    """Return the connection options of AWS modules."""
    bundle = {"aws_ca_bundle": cloud["ca_bundle"]} if "ca_bundle" in cloud else {}
    return {**{option: cloud[option] for option in ACCESS if option in cloud}, **bundle}


def catalogue_settings(settings: Mapping[str, Any], stack: EksStack) -> dict[str, Any]:
    """Return the settings of the catalogue that the foundation determines."""
    environment = settings["lakehouse_environment"]
    buckets = {
        f"{tier}_bucket": stack.output(f"s3_bucket.{tier}", "id", f"crypto-lakehouse-{tier}-{environment}")
        for tier in BUCKETS
    }
    address = stack.output("db_instance.main", "address") or UNKNOWN_ADDRESS
    database = {"database_endpoint": f"{address}:{POSTGRESQL_PORT}"} if settings["lakehouse_aws_database"] else {}
    return {
        "region": stack.region,
        "ingress_cidrs": [settings["lakehouse_aws_vpc_cidr"]] if settings["lakehouse_domain"] else [],
        "storage_class": settings["lakehouse_storage_class"] or STORAGE_CLASS,
        **buckets,
        **database,
    }


def foundation(settings: Mapping[str, Any], stack: EksStack) -> dict[str, Any]:
    """Return the resources of the foundation that ingress and autoscaling use."""
    own = {"Environment": settings["lakehouse_environment"], "Project": "crypto-lakehouse"}
    group = stack.output("security_group.alb", "id")
    return {
        "cluster_name": stack.cluster_name,
        "region": stack.region,
        "tags": {**own, **settings["lakehouse_tags"]},
        "vpc_id": stack.output("vpc.main", "id"),
        "web_acl_arn": stack.output("web_acl.ingress", "arn"),
        "security_group_ids": [group] if group else [],
    }


def secret_keeper(settings: Mapping[str, Any], stack: EksStack) -> dict[str, Any]:
    """Return the secret backend in AWS Secrets Manager, as an option of the role `services`."""
    environment = settings["lakehouse_environment"]
    master = stack.output("db_instance.main", "master_user_secret_arn") if settings["lakehouse_aws_database"] else ""
    password = {"name": "database_superuser_password", "secret_id": master, "key": "password"}
    database = f"crypto-lakehouse-database-password-{environment}"
    return {
        "secret_id": f"crypto-lakehouse-service-secrets-{environment}",
        "managed": [
            *([password] if master else []),
            {"name": "database_lakehouse_password", "secret_id": database},
        ],
    }


def storage_class(stack: EksStack) -> dict[str, Any]:
    """Return the default storage class, whose volumes are encrypted with the foundation's key."""
    key = {"kmsKeyId": stack.output("kms_key.data", "arn")} if "kms_key.data" in stack.outputs else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "labels": {"app.kubernetes.io/part-of": "crypto-lakehouse"},
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "ebs.csi.aws.com",
        "parameters": {"type": "gp3", "encrypted": "true", **key},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
