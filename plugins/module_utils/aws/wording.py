# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that name inventory variables instead of options of the module. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..engine.errors import Fault, OptionRemedy


@dataclass(frozen=True)
class Wording:
    """Names and remedies for messages.

    variables: by `ADDRESS.PROPERTY`, which may contain wildcards, the source variable of the property; by the name of
    an option, the variable that sets it.
    remedies: by option of the task, the replacement for setting the option; `{address}` and `{value}` are filled in.
    """

    variables: Mapping[str, str]
    remedies: Mapping[str, str]

    def of(self, fault: Fault) -> Fault:
        """Return an error with the names of the inventory."""
        return replace(fault, remedy=self._remedy(fault), variable=self._variable(fault))

    def _remedy(self, fault: Fault) -> str:
        remedy = fault.remedy
        if not isinstance(remedy, OptionRemedy) or remedy.option not in self.remedies:
            return remedy
        words = self.remedies[remedy.option]
        return words.replace("{address}", fault.address.partition("#")[0]).replace("{value}", remedy.value)

    def _variable(self, fault: Fault) -> str:
        place = f"{fault.address}.{fault.path}" if fault.address else fault.path
        # Nested values come from the same variable as their property.
        return next(
            (
                variable
                for pattern, variable in self.variables.items()
                if any(fnmatch.fnmatchcase(place, f"{pattern}{rest}") for rest in ("", ".*", "[[]*"))
            ),
            "",
        )
