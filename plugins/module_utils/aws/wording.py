# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages in the words of whoever set the options of a task: the variables of an inventory. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..engine.errors import Fault, OptionRemedy


@dataclass(frozen=True)
class Wording:
    """How faults are told.

    variables: by `ADDRESS.PROPERTY`, which may hold wildcards, the variable that the property is made from; by the name
        of an option, the variable that it is set by.
    remedies: by option of the task, what to do instead of setting the option; `{address}` and `{value}` are filled in.
    """

    variables: Mapping[str, str]
    remedies: Mapping[str, str]

    def of(self, fault: Fault) -> Fault:
        """Return a fault in these words."""
        return replace(fault, remedy=self._remedy(fault), variable=self._variable(fault))

    def _remedy(self, fault: Fault) -> str:
        remedy = fault.remedy
        if not isinstance(remedy, OptionRemedy) or remedy.option not in self.remedies:
            return remedy
        words = self.remedies[remedy.option]
        return words.replace("{address}", fault.address.partition("#")[0]).replace("{value}", remedy.value)

    def _variable(self, fault: Fault) -> str:
        place = f"{fault.address}.{fault.path}" if fault.address else fault.path
        # What lies inside of a property is made from the same variable.
        return next(
            (
                variable
                for pattern, variable in self.variables.items()
                if any(fnmatch.fnmatchcase(place, f"{pattern}{rest}") for rest in ("", ".*", "[[]*"))
            ),
            "",
        )
