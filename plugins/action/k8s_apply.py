# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `k8s_apply` in Ansible's process if it would use the same Python on the same machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

# isort: split
from ..module_utils.cluster.access import CLUSTER_TOGETHER, cluster_connection, secrets_in
from ..module_utils.kube.apply.apply_task import ApplyTask, shown_parameters
from ..module_utils.kube.client.errors import KubeError
from ..modules.k8s_apply import ARGUMENT_SPEC, EXCLUSIVE, NEEDED_BY, NEEDED_IF
from ..plugin_utils import in_process
from ..plugin_utils.kept_definitions import kept_definitions


def applied(parameters: Mapping[str, Any], circumstances: in_process.Circumstances) -> dict[str, Any]:
    """Return the result of the module."""
    task = ApplyTask(
        parameters,
        cluster_connection,
        circumstances.hidden.update,
        check_mode=circumstances.check_mode,
        with_diff=circumstances.with_diff,
        kept=kept_definitions(),
    )
    try:
        result = task.run()
    except KubeError as error:
        return {"failed": True, "msg": str(error)}
    return {"warnings": result.pop("notices"), **result}


class ActionModule(in_process.ModuleAction):
    """Runs the module."""

    module = in_process.Described(
        name="crypto_lakehouse.platform.k8s_apply",
        argument_spec=ARGUMENT_SPEC,
        constraints={
            "mutually_exclusive": EXCLUSIVE,
            "required_together": CLUSTER_TOGETHER,
            "required_by": NEEDED_BY,
            "required_if": NEEDED_IF,
        },
        packages=("urllib3", "yaml"),
        run=applied,
        secrets=secrets_in,
        shown=shown_parameters,
    )
