# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Different spellings of one identifier: AWS returns its own, whichever it received. Pure."""

from __future__ import annotations


def key_id(value: str) -> str:
    """Return the id of a KMS key from its id or ARN; an alias is returned unchanged."""
    return value.rpartition(":key/")[2]


def role_name(value: str) -> str:
    """Return path and name of an IAM role from its ARN or its name."""
    return value.rpartition(":role/")[2]
