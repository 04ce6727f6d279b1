# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short name for what the services of a lakehouse are described as."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_DIGITS = 16


def description_digest(rendered: Mapping[str, Any]) -> str:
    """Return a digest of what a renderer returned: equal for equal descriptions, in whatever order they were made.

    A rendered description holds placeholders for secrets, so that no value of one is in the digest.
    """
    return hashlib.sha256(json.dumps(rendered, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]
