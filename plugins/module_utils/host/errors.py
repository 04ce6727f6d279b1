# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host modules raise when the user, not the program, has to act."""

from __future__ import annotations


class HostError(Exception):
    """A message for the user: what is wrong, where, and what to do. It never holds a secret's value."""


class BlockedError(HostError):
    """Something that a run may not change lies where a described file or folder belongs; others are not concerned."""


def message_of(error: Exception) -> str:
    """What to tell the user: our own message, or what the system says of a file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
