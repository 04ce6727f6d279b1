# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for a job in calls of the module `lakehouse_job`, and show its progress between them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

# isort: split
from ..module_utils.cluster.access import CLUSTER_TOGETHER, secrets_in
from ..module_utils.jobs.task import outcome
from ..modules.lakehouse_job import ARGUMENT_SPEC, EXCLUSIVE, NEEDED_BY, NEEDED_ONE_OF
from ..plugin_utils import in_process
from ..plugin_utils.job_progress import attached_line, owner, progress_line

_MODULE = "crypto_lakehouse.platform.lakehouse_job"
_WIDEST_LINE = 100


def looked(parameters: Mapping[str, Any], circumstances: in_process.Circumstances) -> dict[str, Any]:
    """Return the result of the module."""
    return outcome(parameters, check_mode=circumstances.check_mode)


def _shown(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in parameters.items() if key not in ("input", "manifest")}


class ActionModule(ActionBase):
    """Runs the module until the job has ended."""

    module = in_process.Described(
        name=_MODULE,
        argument_spec=ARGUMENT_SPEC,
        constraints={
            "mutually_exclusive": EXCLUSIVE,
            "required_together": CLUSTER_TOGETHER,
            "required_one_of": NEEDED_ONE_OF,
            "required_by": NEEDED_BY,
        },
        packages=("urllib3", "yaml"),
        run=looked,
        secrets=secrets_in,
        shown=_shown,
    )
    _supports_check_mode = True
    _supports_diff = False
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module when the job has ended."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = {"owner": owner(variables), **self._task.args}
        first = found = self._call(arguments, variables)
        host = str(variables.get("inventory_hostname", ""))
        name, shown = str(arguments.get("name", "")), ""
        if first.get("attached") and not first.get("finished"):
            self._show(attached_line(name, host, first))
        while found.get("finished") is False:
            line = progress_line(name, host, found.get("progress") or {})
            if line != shown:
                self._show(line)
                shown = line
            # The module needs the input to mask it in the log.
            found = self._call({**arguments, "run_id": found["run_id"]}, variables)
        return {**result, **found, **({"attached": True} if first.get("attached") else {})}

    def _call(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        if arguments.get("manifest") is not None:
            return in_process.run(self, self.module, variables, dict(arguments))
        found: dict[str, Any] = self._execute_module(
            module_name=_MODULE, module_args=dict(arguments), task_vars=dict(variables)
        )
        return found

    @staticmethod
    def _show(line: str) -> None:
        """Show a separate line. On a terminal, it replaces the line of the running task."""
        if line:
            display = Display()
            width = min(display.columns, _WIDEST_LINE) - 1 if sys.stdout.isatty() else 0
            display.display(line.ljust(width))
