# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digest of the description of a lakehouse's services."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_DIGITS = 16


def description_digest(rendered: Mapping[str, Any]) -> str:
    """Return the digest of a renderer's result, which is equal for equal descriptions in any order.

    A rendered description contains placeholders for secrets, so that the digest does not depend on their values.
    """
    return hashlib.sha256(json.dumps(rendered, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]
