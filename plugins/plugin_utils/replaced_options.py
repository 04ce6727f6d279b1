# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of roles that were replaced by keys of grouped options."""

from __future__ import annotations

from collections.abc import Iterable

_SOURCE = ("repository", "version", "path", "checksum")
_ACCOUNT = ("username", "password")
# Prefix of old options, the option that replaces them, and its keys, which are the rest of the old names.
_GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("services_operator_chart", "services_operator_chart", _SOURCE),
    ("services_operator_chart", "services_helm", _ACCOUNT),
    ("services_helm", "services_helm", ("binary",)),
    ("monitoring_chart", "monitoring_chart", _SOURCE),
    ("monitoring_chart", "monitoring_helm", _ACCOUNT),
    ("monitoring_helm", "monitoring_helm", ("binary",)),
    ("monitoring_image", "monitoring_images", ("registry", "pull_secrets")),
    ("autoscaling_adapter_chart", "autoscaling_adapter_chart", _SOURCE),
    ("autoscaling_vertical_chart", "autoscaling_vertical_chart", _SOURCE),
    ("autoscaling_metrics_chart", "autoscaling_metrics_chart", _SOURCE),
    ("autoscaling_chart", "autoscaling_helm", _ACCOUNT),
    ("autoscaling_helm", "autoscaling_helm", ("binary",)),
    ("autoscaling_image", "autoscaling_images", ("registry", "pull_secrets")),
    ("ingress_traefik_chart", "ingress_traefik_chart", _SOURCE),
    ("ingress_aws_chart", "ingress_aws_chart", _SOURCE),
    ("ingress_chart", "ingress_helm", _ACCOUNT),
    ("ingress_helm", "ingress_helm", ("binary",)),
    ("ingress_image", "ingress_images", ("registry", "pull_secrets")),
    ("ingress", "ingress_aws", ("cluster_name", "region", "vpc_id", "web_acl_arn", "security_group_ids")),
    ("helm_release", "helm_release_source", _SOURCE),
    ("helm_release", "helm_release_helm", (*_ACCOUNT, "binary")),
)
REPLACED: dict[str, str] = {
    **{f"{old}_{key}": f"{new}.{key}" for old, new, keys in _GROUPS for key in keys},
    "autoscaling_min_replicas": "autoscaling_replicas.min",
    "autoscaling_max_replicas": "autoscaling_replicas.max",
    "ingress_aws_tags": "ingress_aws.tags",
}
"""New option and key, by the old option."""


def replaced_options(names: Iterable[str]) -> str:
    """Return a message that has a line for each replaced option among these names; empty without one."""
    return "\n".join(f"{name} was replaced by {REPLACED[name]}." for name in sorted(REPLACED.keys() & set(names)))
