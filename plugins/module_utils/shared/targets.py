# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets that a lakehouse is deployed to, and their capabilities. The only list of targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """A target.

    group: the Ansible group whose plays deploy it. renderer: the package of the catalogue that renders its services.
    on_aws: whether its foundation is in AWS. ingress_controller: the controller that serves its ingresses, empty
    without one. ingress_class: its default class. ingress_namespace: the namespace of the controller's pods, which
    services accept connections from; empty where the controller has none. own_charts: charts whose component a new
    cluster contains already.
    """

    name: str
    group: str
    renderer: Literal["host", "kubernetes"]
    on_aws: bool = False
    ingress_controller: Literal["", "traefik", "aws-load-balancer-controller"] = ""
    ingress_class: str = ""
    ingress_namespace: str = ""
    own_charts: tuple[str, ...] = ()

    @property
    def is_cluster(self) -> bool:
        """Whether its services are objects of a Kubernetes cluster."""
        return self.renderer == "kubernetes"


_TABLE = (
    Target("host", "lakehouse_on_host", "host"),
    Target(
        "k3s",
        "lakehouse_on_cluster",
        "kubernetes",
        ingress_controller="traefik",
        ingress_class="traefik",
        ingress_namespace="kube-system",
        own_charts=("metrics-server",),
    ),
    Target(
        "eks",
        "lakehouse_on_eks",
        "kubernetes",
        on_aws=True,
        ingress_controller="aws-load-balancer-controller",
        ingress_class="alb",
    ),
    Target(
        "gke",
        "lakehouse_on_cluster",
        "kubernetes",
        ingress_controller="traefik",
        ingress_class="traefik",
        ingress_namespace="traefik",
    ),
)

TARGETS: Mapping[str, Target] = {target.name: target for target in _TABLE}
CLUSTERS = tuple(target.name for target in _TABLE if target.is_cluster)
ON_AWS = tuple(target.name for target in _TABLE if target.on_aws)
