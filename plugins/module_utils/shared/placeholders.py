# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placeholders of secrets, `${secret_value.NAME|ENCODING}`, and the encodings that they may name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

SECRET = re.compile(r"\$\{secret_value\.([^}|]*)(?:\|([^}]*))?\}")
"""Its groups are the name of the secret and the encoding, which is None without one."""

ENCODINGS: Mapping[str, Callable[[str], str]] = {"url": lambda text: quote(text, safe=""), "json": json.dumps}
"""`url` percent-encodes, `json` gives a quoted JSON string."""
