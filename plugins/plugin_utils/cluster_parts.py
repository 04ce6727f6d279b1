# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that roles apply to a cluster, for the comparison by drift. A test compares them with the roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MONITORING, AUTOSCALING, OPERATOR, INGRESS, SYSTEM = (
    "monitoring",
    "autoscaling",
    "cnpg-system",
    "traefik",
    "kube-system",
)
SETS = {
    "": ("lakehouse-services", "lakehouse-ingress"),
    MONITORING: ("lakehouse-monitoring",),
    AUTOSCALING: ("lakehouse-autoscaling", "lakehouse-vertical-pod-autoscaler"),
}
"""ApplySets by the namespace of their parent, empty for that of the lakehouse."""
RELEASES = {
    MONITORING: ("monitoring",),
    AUTOSCALING: ("metrics-server", "prometheus-adapter", "vertical-pod-autoscaler"),
    OPERATOR: ("cloudnative-pg",),
    INGRESS: ("traefik",),
    SYSTEM: ("aws-load-balancer-controller",),
}
"""Helm releases by their namespace."""


def described_parts(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return namespaces, sets and releases as options of the module `cluster_foreign`, and expected patterns.

    The system namespace is not compared, although it may have a release. Users create the Secrets that the inventory
    references.
    """
    namespace = str(settings["lakehouse_namespace"])
    secrets = [*settings["lakehouse_image_pull_secrets"], settings["lakehouse_ingress_tls_secret"]]
    return {
        "namespaces": [namespace, MONITORING, f"{MONITORING}-nodes", AUTOSCALING, OPERATOR, INGRESS],
        "sets": [f"{place or namespace}/{name}" for place, names in SETS.items() for name in names],
        "releases": [f"{place}/{name}" for place, names in RELEASES.items() for name in names],
        "expected": [f"secret/*/{name}" for name in secrets if name],
    }
