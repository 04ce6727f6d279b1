# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the chart values of the role monitoring."""

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_problems
version_added: "1.0.0"
short_description: Find rejected values of kube-prometheus-stack
description:
  - Returns a message with all problems of the values, or an empty string.
  - Secrets are rejected, because Helm stores values on the disk and in the cluster. So are values that expose
    Prometheus, Alertmanager or Grafana without authentication, and names that differ from those of the platform.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  _input:
    description: Complete values of the chart.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Reject values that contain secrets or expose monitoring without authentication
  ansible.builtin.assert:
    that: (values | crypto_lakehouse.platform.monitoring_problems) == ''
"""

RETURN = r"""
_value:
  description: Problems with their remedies, one per line.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ..module_utils.helm.chart_values import problems
from ..module_utils.shared.problem import problem_list


def monitoring_problems(values: Mapping[str, Any]) -> str:
    """Return the problems of the values as text, which is empty without problems."""
    found = problems(values)
    return problem_list(found) if found else ""


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"monitoring_problems": monitoring_problems}
