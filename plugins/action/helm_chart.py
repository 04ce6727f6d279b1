# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `helm_chart` in Ansible's process if it would use the same Python on the same machine."""

from __future__ import annotations

from typing import Any

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

from ..module_utils.cluster.access import CLUSTER_EXCLUSIVE, CLUSTER_TOGETHER, secrets_in
from ..modules.helm_chart import ARGUMENT_SPEC, REQUIRED_IF, outcome
from ..plugin_utils import in_process


def answered(parameters: dict[str, Any], circumstances: in_process.Circumstances) -> dict[str, Any]:
    """Return the result of the module."""
    return outcome(parameters, circumstances.hidden.update)


class ActionModule(in_process.ModuleAction):
    """Runs the module."""

    module = in_process.Described(
        name="crypto_lakehouse.platform.helm_chart",
        argument_spec=ARGUMENT_SPEC,
        constraints={
            "mutually_exclusive": CLUSTER_EXCLUSIVE,
            "required_together": CLUSTER_TOGETHER,
            "required_if": REQUIRED_IF,
        },
        packages=("urllib3", "yaml"),
        run=answered,
        secrets=secrets_in,
    )
