# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the default sources of charts from the roles that install them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .catalogue import role_variables

CHARTS = {
    "kube-prometheus-stack": ("monitoring", "chart"),
    "cloudnative-pg": ("services", "operator_chart"),
    "prometheus-adapter": ("autoscaling", "adapter_chart"),
    "metrics-server": ("autoscaling", "metrics_chart"),
    "vertical-pod-autoscaler": ("autoscaling", "vertical_chart"),
    "traefik": ("ingress", "traefik_chart"),
    "aws-load-balancer-controller": ("ingress", "aws_chart"),
}
"""Role and option of each chart; the option has the role's name as its prefix."""


def chart_defaults(roles: Path) -> dict[str, dict[str, str]]:
    """Return `repository`, `version`, `path` and `checksum` of each chart, from a folder of roles."""
    defaults = {role: role_defaults(roles, role) for role in sorted({role for role, _option in CHARTS.values()})}
    return {name: defaults[role][option] for name, (role, option) in CHARTS.items()}


def role_defaults(roles: Path, role: str) -> dict[str, Any]:
    """Return the values that a role merges its options over, by the option without the role's prefix."""
    defaults: dict[str, Any] = role_variables(roles / role)[f"_{role}_defaults"]
    return defaults
