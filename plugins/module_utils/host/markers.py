# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in text: values replace their markers in a file, and placeholders replace values in everything shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from ..shared.placeholders import ENCODINGS, SECRET
from ..shared.redact import Redactor
from .errors import HostError

HIDDEN_LINE = "(differs; may hold a secret)"


def encode(value: str, encoding: str | None) -> str:
    """Return the value in the encoding of its marker; without one it is unchanged."""
    return ENCODINGS[encoding](value) if encoding else value


def secret_names(content: str) -> list[str]:
    """Return the names of the secrets whose markers the content holds, each once, in order."""
    return list(dict.fromkeys(match[1] for match in SECRET.finditer(content)))


def fill(content: str, values: Mapping[str, str], path: str) -> str:
    """Return the content with each marker replaced by its value.

    Raises `HostError` naming `path` and the secret for a marker whose secret or encoding is unknown.
    """

    def value_at(match: re.Match[str]) -> str:
        name, encoding = match[1], match[2]
        if encoding is not None and encoding not in ENCODINGS:
            raise HostError(f"{path}: '{match[0]}' has an unknown encoding; valid: {', '.join(ENCODINGS)}")
        if name not in values:
            raise HostError(f"{path}: the secret '{name}' is not in the store; describe it, or give it a value")
        return encode(values[name], encoding)

    return SECRET.sub(value_at, content)


def mask(text: str, values: Mapping[str, str]) -> str:
    """Return the text with every value, in any encoding, replaced by the marker of its secret."""
    forms: dict[str, str] = {}
    for name, value in values.items():
        for encoding in (None, *ENCODINGS):
            forms.setdefault(encode(value, encoding), f"${{secret_value.{name}}}")
        forms.setdefault(json.dumps(value)[1:-1], f"${{secret_value.{name}}}")
    forms.pop("", None)
    if not forms:
        return text
    longest_first = sorted(forms, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda match: forms[match[0]], text)


def redacted(text: str, values: Mapping[str, str]) -> str:
    """Return lines that a program wrote without `values`, and without text that looks like a credential.

    A program may still write a value that a rotation has replaced; such a value is not in any store.
    """
    return Redactor(())(mask(text, values))


def before_text(before: str, descriptions: Sequence[str], values: Mapping[str, str]) -> str:
    """Return the content of a file that holds or held secrets, with placeholders instead of values.

    descriptions: the texts with markers that the file may have been written from, and the one that it will be written
    from. values: by name, those that the file will hold too; any other value shows as such. No former value is needed:
    everything that is shown stands in a description, and a line that stands in none is hidden.
    """
    for described in descriptions:
        match = re.fullmatch(_pattern(described), before)
        if match:
            return _with_placeholders(described, match, values)
    lines = list(dict.fromkeys(line for described in descriptions for line in described.splitlines()))
    # A line without a marker is equal or not; the pattern of a line with one may fit more than the line meant.
    lines.sort(key=lambda line: len(SECRET.findall(line)))
    patterns = [(re.compile(_pattern(line)), line) for line in lines]
    shown = "\n".join(_shown_line(line, patterns, values) for line in before.splitlines())
    return shown + "\n" * before.endswith("\n")


def _pattern(described: str) -> str:
    literals = SECRET.split(described)[::3]
    return "([^\n]*?)".join(re.escape(literal) for literal in literals)


def _shown_line(line: str, patterns: Sequence[tuple[re.Pattern[str], str]], values: Mapping[str, str]) -> str:
    for pattern, described in patterns:
        match = pattern.fullmatch(line)
        if match:
            return _with_placeholders(described, match, values)
    return HIDDEN_LINE


def _with_placeholders(described: str, match: re.Match[str], values: Mapping[str, str]) -> str:
    found = iter(match.groups())

    def shown(marker: re.Match[str]) -> str:
        name, value = marker[1], next(found)
        unchanged = name in values and value == encode(values[name], marker[2])
        return marker[0] if unchanged else f"(another value of {name})"

    return SECRET.sub(shown, described)
