# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signs of actions in plans, as in the plans of Terraform."""

from __future__ import annotations

from collections.abc import Mapping

SIGNS: Mapping[str, str] = {
    "create": "+",
    "adopt": ">",
    "update": "~",
    "replace": "-/+",
    "delete": "-",
    "none": " ",
    "failed": "!",
    "skipped": "?",
}
