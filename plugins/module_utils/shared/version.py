# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the collection, and the rules for upgrades."""

from __future__ import annotations

COLLECTION_VERSION = "1.0.0"


def parse_version(text: str) -> tuple[int, int, int]:
    """Return ``major.minor.patch`` as a tuple; raise ``ValueError`` for anything else."""
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not a version of the form MAJOR.MINOR.PATCH")
    major, minor, patch = (int(part) for part in parts)
    return major, minor, patch


def upgrade_refusal(deployed: str, ours: str = COLLECTION_VERSION) -> str | None:
    """Return the reason why a deployment of version `deployed` cannot be upgraded to `ours`, or None.

    Upgrades go to any newer release of the same major version, or to the next major version.
    """
    old, new = parse_version(deployed), parse_version(ours)
    if new < old:
        return f"it was deployed by version {deployed}, which is newer than this collection ({ours})"
    if new[0] - old[0] > 1:
        return f"it was deployed by version {deployed}; upgrade one major version at a time, {old[0] + 1}.x comes next"
    return None
