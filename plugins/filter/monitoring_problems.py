# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role monitoring refuses in the values of its chart."""

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_problems
version_added: "1.0.0"
short_description: Find what may not stand in the values of kube-prometheus-stack
description:
  - Returns a message with everything that is wrong with the values, or an empty string.
  - Wrong is a secret, since Helm keeps values on the disk and in the cluster; what would make Prometheus, Alertmanager
    or Grafana reachable without an account; and another name than the one that the platform finds them by.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  _input:
    description: The values, complete.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse values that expose something
  ansible.builtin.assert:
    that: (values | crypto_lakehouse.platform.monitoring_problems) == ''
"""

RETURN = r"""
_value:
  description: Every problem with its remedy, one a line.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ..module_utils.helm.chart_values import problems
from ..module_utils.shared.problem import problem_list


def monitoring_problems(values: Mapping[str, Any]) -> str:
    """Return what is wrong with the values; an empty text when nothing is."""
    found = problems(values)
    return problem_list(found) if found else ""


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"monitoring_problems": monitoring_problems}
