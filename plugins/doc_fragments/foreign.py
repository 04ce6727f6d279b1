# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that compare access with its description."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that select expected and removed resources."""

    DOCUMENTATION = r"""
options:
  expected:
    description: Patterns C(KIND/NAME) of expected foreign resources, which are kept.
    type: list
    elements: str
    default: []
  remove:
    description: Groups of foreign resources to remove. By default none.
    type: list
    elements: str
    choices: [policies, identities, roles, bindings]
    default: []
"""
