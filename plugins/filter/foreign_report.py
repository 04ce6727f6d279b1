# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sort foreign resources by their consequences."""

from __future__ import annotations

DOCUMENTATION = r"""
name: foreign_report
version_added: "1.0.0"
short_description: Sort foreign resources by their consequences
description:
  - Returns a line for each foreign resource of services, as the application's job C(bootstrap) reports them.
  - Drift fails for resources that grant access or change behaviour. Other resources that users added are listed.
positional: expected
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  _input:
    description: Foreign resources, each with C(kind), C(name) and C(detail).
    type: list
    elements: dict
    required: true
  expected:
    description: Patterns C(KIND/NAME) of expected foreign resources.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show resources that grant access
  ansible.builtin.debug:
    msg: "{{ found | crypto_lakehouse.platform.foreign_report(['role/reporting_*']) }}"
  vars:
    found: "{{ (bootstrapped.stdout | from_json).foreign }}"
"""

RETURN = r"""
_value:
  description: Lines by class, in C(grants), C(behaviour), C(added) and C(expected).
  type: dict
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.shared.foreign import judge, listing
from ..module_utils.shared.foreign_kinds import classified


def foreign_report(reported: Sequence[Mapping[str, Any]], expected: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the lines of each class."""
    try:
        report = judge([finding for _each, finding in classified(reported)], expected)
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"cannot sort foreign resources: {error}") from error
    return {
        "grants": listing(report.grants),
        "behaviour": listing(report.behaviour),
        "added": listing(report.added),
        "expected": listing(report.expected),
    }


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"foreign_report": foreign_report}
