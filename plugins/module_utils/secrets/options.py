# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every store of secrets; documented in the fragment `secrets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from .rules import KINDS, FormName
from .values import SecretSpec

_SECRET: Final[Mapping[str, Any]] = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "required": True, "choices": list(KINDS)},
    "length": {"type": "int"},
    "of": {"type": "str"},
    "issuer": {"type": "str"},
    "common_name": {"type": "str"},
    "form": {"type": "str", "choices": list(get_args(FormName))},
    "optional": {"type": "bool", "default": False},
    "services": {"type": "list", "elements": "str", "default": []},
}
SECRETS_SPEC: Final[Mapping[str, Any]] = {
    "secrets": {"type": "list", "elements": "dict", "required": True, "no_log": False, "options": _SECRET},
    "values": {"type": "dict", "default": {}, "no_log": True},
    "rotate": {"type": "bool", "default": False},
}


def specs_in(parameters: Mapping[str, Any]) -> list[SecretSpec]:
    """Return the described secrets. Raises SecretError for one that cannot be generated."""
    given = parameters["secrets"]
    return [SecretSpec(**{word: value for word, value in each.items() if word != "services"}) for each in given]
