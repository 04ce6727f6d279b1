# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `k3s_info` and compare the machine's clock with the controller's."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

MODULE = "crypto_lakehouse.platform.k3s_info"


def clock_offset_s(sent: float, began: float, ended: float, received: float) -> float:
    """Return the machine's clock minus the controller's in seconds, 0 if the times do not prove a difference.

    sent, received: times of the controller. began, ended: times of the machine in between. The offset lies between
    `ended - received` and `began - sent`; the value nearest to 0 is returned, because the transport time is unknown.
    """
    lowest, highest = ended - received, began - sent
    return lowest if lowest > 0 else min(highest, 0.0)


class ActionModule(ActionBase):
    """Runs the module and sets `time_offset_s` of its report."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        sent = time.time()
        found: dict[str, Any] = self._execute_module(MODULE, task_vars=task_vars)
        if "clock" in found and found["report"]["system"]:
            began, ended = found["clock"]
            found["report"]["system"]["time_offset_s"] = round(clock_offset_s(sent, began, ended, time.time()), 3)
        return {**result, **found}
