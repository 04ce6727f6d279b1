# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace placeholders with secrets in files, and secrets with placeholders in shown text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from ..shared.placeholders import ENCODINGS, SECRET
from ..shared.redact import Redactor
from .errors import HostError

HIDDEN_LINE = "(differs; may hold a secret)"


def encode(value: str, encoding: str | None) -> str:
    """Return the value in the encoding of its placeholder; without an encoding, it is unchanged."""
    return ENCODINGS[encoding](value) if encoding else value


def secret_names(content: str) -> list[str]:
    """Return the distinct names of the secrets with placeholders in the content, in order."""
    return list(dict.fromkeys(match[1] for match in SECRET.finditer(content)))


def fill(content: str, values: Mapping[str, str], path: str) -> str:
    """Return the content with each placeholder replaced by its value.

    Raise `HostError` with `path` and the secret for a placeholder with an unknown secret or encoding.
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
    """Return the text with every value, in any encoding, replaced by the placeholder of its secret."""
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
    """Return lines of a program's output without `values`, and without text that looks like a credential.

    A program may still write a value that a rotation replaced and that is no longer in a store.
    """
    return Redactor(())(mask(text, values))


def before_text(before: str, descriptions: Sequence[str], values: Mapping[str, str]) -> str:
    """Return the content of a file that contains or contained secrets, with placeholders instead of values.

    descriptions: the texts with placeholders from which the file may have been written, and the new one. values: by
    name, those that the new file also contains; other values are shown as different. Former values are not required:
    shown lines are lines of a description, and lines without a description are hidden.
    """
    for described in descriptions:
        match = re.fullmatch(_pattern(described), before)
        if match:
            return _with_placeholders(described, match, values)
    lines = list(dict.fromkeys(line for described in descriptions for line in described.splitlines()))
    # A line without a placeholder matches exactly; the pattern of a line with one may match other lines.
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
