# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mask secrets in lines of a program: known values, and texts with the form of a secret. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MASK = "********"
# Shorter values occur in ordinary text.
_SHORTEST = 4
# A Secret may hold a whole configuration file. Its words of at least this length that look random are masked as
# separate secrets.
_SHORTEST_WORD = 8
_WORDS = re.compile(r"[^\s\"'`=,;:@/<>()\[\]{}]+")
_PATTERNS = (
    # The password in a URL, between user and host.
    (re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)(?=@)"), rf"\1:{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)\b([\w.-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)[\w.-]*"
            r"[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
        ),
        rf"\1{MASK}",
    ),
    # JSON Web Tokens, keys of AWS.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
)


class Redactor:
    """Masks known values in every form that programs write, and patterns of unknown secrets."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in _forms(value)}
        ordered = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        if self._known:
            text = self._known.sub(MASK, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def _forms(value: str) -> Iterator[str]:
    """Yield the value, its lines, and its random-looking words: plain, and encoded as in JSON, URLs and base64."""
    lines = [line.strip() for line in value.splitlines()]
    words = _WORDS.findall(value)
    is_one_word = len(words) == 1 and words[0] == value.strip()
    parts = {value.strip(), *lines, *(() if is_one_word else filter(_looks_random, words))}
    for part in parts:
        if len(part) < _SHORTEST or (part in lines and len(lines) > 1 and len(part) < _SHORTEST_WORD):
            continue
        yield part
        yield json.dumps(part)[1:-1]
        yield urllib.parse.quote(part, safe="")
        yield urllib.parse.quote_plus(part)
        yield base64.b64encode(part.encode()).decode()


def _looks_random(word: str) -> bool:
    if len(word) < _SHORTEST_WORD:
        return False
    has_digit, has_letter = any(map(str.isdigit, word)), any(map(str.isalpha, word))
    return (has_digit and has_letter) or (len(word) >= 2 * _SHORTEST_WORD and not word.islower())


def values_of(secret: Mapping[str, Any]) -> set[str]:
    """Return the texts in a Secret of the API. Binary data cannot occur in a line."""
    data = secret.get("data")
    return {text for value in (data.values() if isinstance(data, Mapping) else ()) if (text := _decoded(value))}


def _decoded(value: Any) -> str:
    try:
        return base64.b64decode(value, validate=True).decode() if isinstance(value, str) else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""
