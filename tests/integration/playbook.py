# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests know of a playbook that was run."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """How one run of a playbook ended."""

    exit_code: int
    output: str

    @property
    def changed(self) -> int:
        return int(re.findall(r"changed=(\d+)", self.output)[-1])

    @property
    def words(self) -> str:
        """The output on one line, as if the screen were endlessly wide."""
        return " ".join(self.output.split())
