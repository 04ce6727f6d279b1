# SPDX-License-Identifier: GPL-3.0-or-later
"""Start moto's server with features of EKS and EC2 that both sides of the comparison need and moto lacks.

- the tags of node groups, and their update settings at creation;
- the resource type with which EC2 reports the tags of NAT gateways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE
from moto.eks.models import EKSBackend
from moto.eks.responses import EKSResponse
from moto.server import main


def _group(backend: EKSBackend, arn: str) -> Any:
    """Return the node group that has an ARN, or None."""
    groups = [group for cluster in backend.clusters.values() for group in cluster.nodegroups.values()]
    return next((group for group in groups if group.arn == arn), None)


def _for_groups_too(own: Callable[..., Any], of_group: Callable[..., Any]) -> Callable[..., Any]:
    def method(backend: EKSBackend, resource_arn: str, *more: Any) -> Any:
        group = _group(backend, resource_arn)
        return own(backend, resource_arn, *more) if group is None else of_group(group, *more)

    return method


def _untag(group: Any, keys: str | list[str]) -> None:
    for key in [keys] if isinstance(keys, str) else keys:
        group.tags.pop(key, None)


def complete() -> None:
    """Add the missing features to moto."""
    EC2_PREFIX_TO_RESOURCE["nat"] = "natgateway"
    methods: dict[str, Callable[..., Any]] = {
        "tag_resource": lambda group, tags: group.tags.update(tags),
        "untag_resource": _untag,
        "list_tags_for_resource": lambda group: group.tags,
    }
    for name, of_group in methods.items():
        setattr(EKSBackend, name, _for_groups_too(getattr(EKSBackend, name), of_group))
    create = EKSResponse.create_nodegroup

    def create_nodegroup(self: EKSResponse) -> Any:
        answer = create(self)
        cluster = self.eks_backend.clusters[self._get_param("name")]
        group = cluster.nodegroups[self._get_param("nodegroupName")]
        group.update_config = self._get_param("updateConfig") or {"maxUnavailable": 1}
        return answer

    setattr(EKSResponse, "create_nodegroup", create_nodegroup)  # noqa: B010 - mypy knows of no other way


if __name__ == "__main__":
    complete()
    main()
