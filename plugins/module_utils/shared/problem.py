# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems of an inventory or a machine, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """A problem that stops a run: the variable or option, the fault, and the remedy."""

    variable: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.message}. Remedy: {self.remedy}."


def problem_list(problems: Iterable[Problem]) -> str:
    """Return all problems as one message, one line each, in a stable order and without repetitions."""
    unique = sorted(set(problems))
    count = f"{len(unique)} problem{'' if len(unique) == 1 else 's'}"
    return "\n".join([f"{count}, nothing was changed:", *(f"  - {problem}" for problem in unique)])
