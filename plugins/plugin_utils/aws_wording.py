# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory variables of the properties and options of the AWS stack, for messages."""

from __future__ import annotations

from collections.abc import Mapping

# By `ADDRESS.PROPERTY`, the variable that sets the property.
VARIABLES: Mapping[str, str] = {
    "backup_plan.*.rules": "lakehouse_backup_retention_days",
    "budget.*.limit": "lakehouse_aws_budget_usd",
    "db_instance.*.backup_retention_period": "lakehouse_backup_retention_days",
    "db_instance.*.deletion_protection": "lakehouse_aws_deletion_protection",
    "db_instance.*.instance_class": "lakehouse_aws_database_instance_class",
    "eks_access_entry.*.principal_arn": "lakehouse_eks_admin_arns",
    "eks_cluster.*.deletion_protection": "lakehouse_aws_deletion_protection",
    "eks_cluster.*.public_access_cidrs": "lakehouse_eks_public_access_cidrs",
    "eks_cluster.*.subnet_ids": "lakehouse_aws_zones",
    "eks_cluster.*.version": "lakehouse_eks_version",
    "eks_nodegroup.*.release_version": "lakehouse_node_release",
    "eks_nodegroup.on-demand.instance_types": "lakehouse_instance_types",
    "eks_nodegroup.on-demand.scaling_config": "lakehouse_node_count",
    "iam_role.*.permissions_boundary": "lakehouse_aws_permissions_boundary",
    "s3_bucket.*.name": "lakehouse_aws_bucket_suffix",
    "secretsmanager_secret.*.value": "lakehouse_secrets",
    "security_group.alb.ingress": "lakehouse_aws_ingress_cidrs",
    "security_group.eks-cluster.ingress": "lakehouse_aws_private_access_cidrs",
    "sns_topic.*.subscriptions": "lakehouse_aws_alarm_emails",
    "subnet.*.availability_zone": "lakehouse_aws_zones",
    "subnet.*.cidr_block": "lakehouse_aws_vpc_cidr",
    "vpc.*.cidr_block": "lakehouse_aws_vpc_cidr",
    "vpc_endpoint.*.service_name": "lakehouse_aws_interface_endpoints",
}
# By option of the stack, the variable that sets it.
OPTIONS: Mapping[str, str] = {
    "availability_zones": "lakehouse_aws_zones",
    "delete_contents": "lakehouse_destroy_unprotect",
    "ignore_tags": "lakehouse_aws_ignore_tags",
    "permissions_boundary": "lakehouse_aws_permissions_boundary",
    "tags": "lakehouse_tags",
    "unprotect": "lakehouse_destroy_unprotect",
}
_DESTROYS = (
    "set `lakehouse_destroy_data` to true to destroy everything that holds data, or name {address} in"
    " `lakehouse_destroy_unprotect`"
)
_REPLACES = "name {address} in `lakehouse_destroy_unprotect`"


def wording(verb: str) -> dict[str, dict[str, str]]:
    """Return the options `variables` and `remedies` of the stack for a verb."""
    allows = _DESTROYS if verb == "destroy" else _REPLACES
    remedies = {
        "account_id": "use other credentials, or correct `lakehouse_aws_account_id`",
        "again": "correct the cause and run the playbook again; completed changes are kept",
        "adopt": "set `lakehouse_aws_adopt` to true to adopt it",
        "availability_zones": "set `lakehouse_aws_zones` to {value}, or use another region",
        "delete_contents": allows,
        "endpoint_url": "check `lakehouse_aws_region`, `lakehouse_aws_endpoint_url`, the network and the proxy",
        "plan": "run plan.yml again",
        "plan_path": "set `lakehouse_plan_path` to another place",
        "profile": "check the credentials: `lakehouse_aws_profile`, or those of the environment",
        "region": "set `lakehouse_aws_region`, for example to eu-central-1",
        "unprotect": allows,
    }
    return {"variables": {**VARIABLES, **OPTIONS}, "remedies": remedies}
