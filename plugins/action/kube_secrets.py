# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `kube_secrets` in Ansible's process if it would use the same Python on the same machine."""

from __future__ import annotations

from typing import Any

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

from ..module_utils.cluster.access import CLUSTER_EXCLUSIVE, CLUSTER_TOGETHER, secrets_in
from ..modules.kube_secrets import ARGUMENT_SPEC, outcome
from ..plugin_utils import in_process


def answered(parameters: dict[str, Any], circumstances: in_process.Circumstances) -> dict[str, Any]:
    """Return the result of the module."""
    return outcome(parameters, circumstances.hidden.update, check_mode=circumstances.check_mode)


class ActionModule(in_process.ModuleAction):
    """Runs the module."""

    module = in_process.Described(
        name="crypto_lakehouse.platform.kube_secrets",
        argument_spec=ARGUMENT_SPEC,
        constraints={"mutually_exclusive": CLUSTER_EXCLUSIVE, "required_together": CLUSTER_TOGETHER},
        packages=("urllib3", "yaml"),
        run=answered,
        secrets=secrets_in,
    )
