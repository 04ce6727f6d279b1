# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The encodings that a placeholder `${NAME|ENCODING}` may name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from urllib.parse import quote

ENCODINGS: Mapping[str, Callable[[str], str]] = {"url": lambda text: quote(text, safe=""), "json": json.dumps}
"""`url` percent-encodes, `json` gives a quoted JSON string."""
