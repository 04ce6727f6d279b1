# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in text: putting values in at their markers, and keeping values out of everything that is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError

HIDDEN_LINE = "(differs; holds a secret)"
# Those of the catalogue, whose own module takes five times as long to import.
ENCODINGS: Mapping[str, Callable[[str], str]] = {"url": lambda text: quote(text, safe=""), "json": json.dumps}
_MARKER = re.compile(r"\$\{secret_value\.([^}|]*)(?:\|([^}]*))?\}")


def encode(value: str, encoding: str | None) -> str:
    """The value as the marker wants it: `url` percent-encoded, `json` a quoted JSON string, else as it is."""
    return ENCODINGS[encoding](value) if encoding else value


def secret_names(content: str) -> list[str]:
    """The names of the secrets whose markers the content holds, each once, in order."""
    return list(dict.fromkeys(match[1] for match in _MARKER.finditer(content)))


def fill(content: str, values: Mapping[str, str], path: str) -> str:
    """The content with each marker replaced by its value.

    Raises `HostError` naming `path` and the secret for a marker whose secret or encoding is unknown.
    """

    def value_at(match: re.Match[str]) -> str:
        name, encoding = match[1], match[2]
        if encoding is not None and encoding not in ENCODINGS:
            raise HostError(f"{path}: '{match[0]}' has an unknown encoding; valid: {', '.join(ENCODINGS)}")
        if name not in values:
            raise HostError(f"{path}: the secret '{name}' is not in the store; describe it, or give it a value")
        return encode(values[name], encoding)

    return _MARKER.sub(value_at, content)


def mask(text: str, values: Mapping[str, Iterable[str]]) -> str:
    """The text with every known value (name -> values, in any encoding) replaced by the secret's marker."""
    forms: dict[str, str] = {}
    for name, known in values.items():
        for value in known:
            for encoding in (None, *ENCODINGS):
                forms.setdefault(encode(value, encoding), f"${{secret_value.{name}}}")
            forms.setdefault(json.dumps(value)[1:-1], f"${{secret_value.{name}}}")
    forms.pop("", None)
    if not forms:
        return text
    longest_first = sorted(forms, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda match: forms[match[0]], text)


def before_text(before: str, described: str, values: Mapping[str, str], known: Mapping[str, Iterable[str]]) -> str:
    """What was in a file, fit to be shown beside its description: no secret of today, of before or typed in by hand.

    Where the text fits the description but for its secrets, an unchanged value shows as its marker and another value
    as such. Otherwise every line that may stand where a secret belongs is hidden, and known values are masked.
    """
    if not secret_names(described):
        return mask(before, known)
    match = re.fullmatch(_pattern(described), before)
    if match:
        return _with_other_values_named(described, match, values)
    return mask(_hide_lines(before, described, values), known)


def _pattern(described: str) -> str:
    literals = _MARKER.split(described)[::3]
    return "([^\n]*?)".join(re.escape(literal) for literal in literals)


def _with_other_values_named(described: str, match: re.Match[str], values: Mapping[str, str]) -> str:
    found = iter(match.groups())

    def shown(marker: re.Match[str]) -> str:
        name, value = marker[1], next(found)
        unchanged = name in values and value == encode(values[name], marker[2])
        return marker[0] if unchanged else f"(another value of {name})"

    return _MARKER.sub(shown, described)


def _hide_lines(before: str, described: str, values: Mapping[str, str]) -> str:
    """Lines equal to the filled description show as described; any other that may hold a secret is hidden."""
    import difflib  # only a file that was changed by hand or by an upgrade comes here

    marked = described.splitlines(keepends=True)
    known = {name: values.get(name, "") for name in secret_names(described)}
    filled = [fill(line, known, "") for line in marked]
    found = before.splitlines(keepends=True)
    starts = tuple(filter(None, (_MARKER.split(line)[0].strip() for line in marked if _MARKER.search(line))))
    shown: list[str] = []
    matcher = difflib.SequenceMatcher(None, found, filled, autojunk=False)
    for action, first, last, first_marked, last_marked in matcher.get_opcodes():
        if action == "equal":
            shown += marked[first_marked:last_marked]
            continue
        beside_secret = any(_MARKER.search(line) for line in marked[first_marked:last_marked])
        for line in found[first:last]:
            hidden = beside_secret or (starts and line.strip().startswith(starts))
            shown.append(f"{HIDDEN_LINE}\n" if hidden else line)
    return "".join(shown)
