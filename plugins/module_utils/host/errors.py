# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the host modules that require an action of the user."""

from __future__ import annotations


class HostError(Exception):
    """A message for the user with problem, location and remedy. It never contains a secret's value."""


class BlockedError(HostError):
    """A file, folder or link that a run must not change is at the path of a described one; other paths are valid."""


def message_of(error: Exception) -> str:
    """Return the message for the user: our own message, or the system's error with its file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
