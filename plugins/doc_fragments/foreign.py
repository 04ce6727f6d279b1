# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that compare access with the description."""

from __future__ import annotations


class ModuleDocFragment:
    """What is expected, and what is removed."""

    DOCUMENTATION = r"""
options:
  expected:
    description: Patterns C(KIND/NAME) of those that are expected, which are not removed.
    type: list
    elements: str
    default: []
  remove:
    description: Groups of those that are removed.
    type: list
    elements: str
    choices: [policies, identities, roles, bindings]
    default: []
"""
