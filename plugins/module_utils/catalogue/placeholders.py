# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts values in at ``${name}``: one rule for command lines, environments and files.

``${name|url}`` and ``${name|json}`` encode the value, ``$${`` is a literal ``${``. The value of a secret is never known
here: ``${secret_value.NAME}`` is checked and stays as a marker, which the machine that holds the secret replaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ..shared.nearest import closest, replacement
from ..shared.placeholders import ENCODINGS
from .words import Complaint

SECRET_VALUE = "secret_value."  # noqa: S105 - the prefix of a name
_TOKEN = re.compile(r"\$\$\{|\$\{([^{}\n]*)\}|\$\{")


@dataclass(frozen=True)
class Scope:
    """What a service may refer to: names with their values, and secrets whose values it may hold.

    `refused` are names that exist on other targets, or under other settings, with what to say of each.
    """

    names: Mapping[str, str]
    secrets: Collection[str] = ()
    refused: Mapping[str, Complaint] = field(default_factory=dict)

    def fill(self, text: str, complain: Callable[[Complaint], None], markers: bool = False) -> str:
        """Return `text` with values in the place of names; secret markers are allowed only where `markers` says so."""

        def value(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match[1] is None:
                complain(("a ${ has no }", "close it, or write $${ for a literal ${"))
                return match[0]
            name, _bar, encoding = match[1].partition("|")
            if encoding and encoding not in ENCODINGS:
                complain((f"${{{match[1]}}} has an unknown encoding {encoding!r}", replacement(encoding, ENCODINGS)))
            elif name.startswith(SECRET_VALUE):
                return self._marker(match[0], name.removeprefix(SECRET_VALUE), complain, markers)
            elif name in self.names:
                return ENCODINGS[encoding](self.names[name]) if encoding else self.names[name]
            else:
                complain(self._unknown(name))
            return match[0]

        filled = _TOKEN.sub(value, text)
        if filled.count("${" + SECRET_VALUE) > len(secret_values(text)):
            complain(("a literal text reads like the marker of a secret", "write it in another way"))
        return filled

    def _marker(self, token: str, secret: str, complain: Callable[[Complaint], None], allowed: bool) -> str:
        if not allowed:
            remedy = f"name its file instead: ${{secret.{secret}}}"
            complain((f"{token} would show a secret to every user of the machine", remedy))
        elif secret not in self.secrets:
            complain(self._undeclared(token, secret))
        return token

    def _unknown(self, name: str) -> Complaint:
        if name in self.refused:
            return self.refused[name]
        if name.startswith("secret."):
            return self._undeclared(f"${{{name}}}", name.removeprefix("secret."))
        near = closest(name, self.names)
        return (
            f"${{{name}}} is not known",
            f"write {near}" if near else "see the list of placeholders in the role's README",
        )

    def _undeclared(self, token: str, secret: str) -> Complaint:
        near = closest(secret, self.secrets)
        remedy = f"add {secret} to the service's `secrets`"
        return f"{token} is not among the service's secrets", f"write {near}, or {remedy}" if near else remedy


def references(text: str, family: str) -> list[str]:
    """Return the names of a family (``secret``, ``file``) that `text`, which is not filled yet, refers to."""
    prefix = f"{family}."
    names = ((match[1] or "").partition("|")[0] for match in _TOKEN.finditer(text))
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def secret_values(text: str) -> list[str]:
    """Return the names of the secrets whose values belong into `text`, which is not filled yet."""
    return references(text, SECRET_VALUE.removesuffix("."))
