# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of AWS by name. The file of a kind is imported with its literal name when the kind is first used.

Ansible packs only imported files into a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .kind import AwsKind
from .session import Session


def _alarms() -> Any:
    from .kinds import alarms

    return alarms


def _athena() -> Any:
    from .kinds import athena

    return athena


def _backup() -> Any:
    from .kinds import backup

    return backup


def _backup_plan() -> Any:
    from .kinds import backup_plan

    return backup_plan


def _budgets() -> Any:
    from .kinds import budgets

    return budgets


def _cloudwatch() -> Any:
    from .kinds import cloudwatch

    return cloudwatch


def _compute() -> Any:
    from .kinds import compute

    return compute


def _ecr() -> Any:
    from .kinds import ecr

    return ecr


def _efs() -> Any:
    from .kinds import efs

    return efs


def _eks() -> Any:
    from .kinds import eks

    return eks


def _eks_access() -> Any:
    from .kinds import eks_access

    return eks_access


def _eks_addons() -> Any:
    from .kinds import eks_addons

    return eks_addons


def _eks_fargate() -> Any:
    from .kinds import eks_fargate

    return eks_fargate


def _eks_nodes() -> Any:
    from .kinds import eks_nodes

    return eks_nodes


def _endpoints() -> Any:
    from .kinds import endpoints

    return endpoints


def _flow_logs() -> Any:
    from .kinds import flow_logs

    return flow_logs


def _gateways() -> Any:
    from .kinds import gateways

    return gateways


def _glue() -> Any:
    from .kinds import glue

    return glue


def _iam() -> Any:
    from .kinds import iam

    return iam


def _iam_policy() -> Any:
    from .kinds import iam_policy

    return iam_policy


def _iam_role() -> Any:
    from .kinds import iam_role

    return iam_role


def _kms() -> Any:
    from .kinds import kms

    return kms


def _network() -> Any:
    from .kinds import network

    return network


def _rds() -> Any:
    from .kinds import rds

    return rds


def _routing() -> Any:
    from .kinds import routing

    return routing


def _s3() -> Any:
    from .kinds import s3

    return s3


def _secrets() -> Any:
    from .kinds import secrets

    return secrets


def _security_group() -> Any:
    from .kinds import security_group

    return security_group


def _sns() -> Any:
    from .kinds import sns

    return sns


def _waf() -> Any:
    from .kinds import waf

    return waf


KINDS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "vpc": (_network, "Vpc"),
    "subnet": (_network, "Subnet"),
    "security_group": (_security_group, "SecurityGroup"),
    "route_table": (_routing, "RouteTable"),
    "internet_gateway": (_gateways, "InternetGateway"),
    "elastic_ip": (_gateways, "ElasticIp"),
    "nat_gateway": (_gateways, "NatGateway"),
    "vpc_endpoint": (_endpoints, "VpcEndpoint"),
    "flow_log": (_flow_logs, "FlowLog"),
    "s3_bucket": (_s3, "S3Bucket"),
    "kms_key": (_kms, "KmsKey"),
    "iam_role": (_iam_role, "IamRole"),
    "iam_policy": (_iam_policy, "IamPolicy"),
    "instance_profile": (_iam, "InstanceProfile"),
    "oidc_provider": (_iam, "OidcProvider"),
    "secretsmanager_secret": (_secrets, "SecretsManagerSecret"),
    "web_acl": (_waf, "WebAcl"),
    "db_subnet_group": (_rds, "DbSubnetGroup"),
    "db_instance": (_rds, "DbInstance"),
    "efs_file_system": (_efs, "EfsFileSystem"),
    "ecr_repository": (_ecr, "EcrRepository"),
    "glue_database": (_glue, "GlueDatabase"),
    "glue_crawler": (_glue, "GlueCrawler"),
    "athena_workgroup": (_athena, "AthenaWorkgroup"),
    "launch_template": (_compute, "LaunchTemplate"),
    "key_pair": (_compute, "KeyPair"),
    "eks_cluster": (_eks, "EksCluster"),
    "eks_nodegroup": (_eks_nodes, "EksNodegroup"),
    "fargate_profile": (_eks_fargate, "FargateProfile"),
    "eks_addon": (_eks_addons, "EksAddon"),
    "eks_access_entry": (_eks_access, "EksAccessEntry"),
    "pod_identity_association": (_eks_access, "PodIdentityAssociation"),
    "log_group": (_cloudwatch, "LogGroup"),
    "dashboard": (_cloudwatch, "Dashboard"),
    "metric_alarm": (_alarms, "MetricAlarm"),
    "sns_topic": (_sns, "SnsTopic"),
    "backup_vault": (_backup, "BackupVault"),
    "backup_plan": (_backup_plan, "BackupPlan"),
    "budget": (_budgets, "Budget"),
}


def kind_class(name: str) -> type[AwsKind]:
    """Return the class of a kind. Raises KeyError for an unknown name."""
    load, class_name = KINDS[name]
    kind: type[AwsKind] = getattr(load(), class_name)
    return kind


def make_kinds(session: Session, names: Iterable[str]) -> list[AwsKind]:
    """Return the kinds of these names, ready to use."""
    wanted = set(names)
    return [kind_class(name)(session) for name in KINDS if name in wanted]
