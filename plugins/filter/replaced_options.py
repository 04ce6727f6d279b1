# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find options of roles that other options replaced."""

from __future__ import annotations

DOCUMENTATION = r"""
name: replaced_options
version_added: "1.0.0"
short_description: Find replaced options of roles
description:
  - Returns a message with the new name of each replaced option of a role, or an empty string.
  - Ansible ignores unknown variables, so a role would otherwise ignore an option of an earlier release.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  _input:
    description: Names of variables.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Reject replaced options
  ansible.builtin.assert:
    that: replaced == ''
    fail_msg: "{{ replaced }}"
  vars:
    replaced: "{{ query('ansible.builtin.varnames', '^monitoring_') | crypto_lakehouse.platform.replaced_options }}"
"""

RETURN = r"""
_value:
  description: Replaced options with their new names, one per line.
  type: str
"""

from typing import Any

from ..plugin_utils.replaced_options import replaced_options


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"replaced_options": replaced_options}
