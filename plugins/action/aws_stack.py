# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `aws_stack` in Ansible's process if it would use the same Python on the same machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode

# Caches botocore's service models.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.service_models  # noqa: F401 - both for effect

# isort: split
from ..module_utils.aws.arguments import CONNECTION_TOGETHER
from ..module_utils.aws.task import outcome
from ..modules.aws_stack import ARGUMENT_SPEC, EXCLUSIVE
from ..plugin_utils import in_process


def stack(parameters: Mapping[str, Any], circumstances: in_process.Circumstances) -> dict[str, Any]:
    """Return the result of the module."""
    result = outcome(parameters, check_mode=circumstances.check_mode)
    for notice in result.get("notices", ()):
        Display().warning(notice)
    return result


class ActionModule(in_process.ModuleAction):
    """Runs the module."""

    module = in_process.Described(
        name="crypto_lakehouse.platform.aws_stack",
        argument_spec=ARGUMENT_SPEC,
        constraints={"mutually_exclusive": EXCLUSIVE, "required_together": CONNECTION_TOGETHER},
        packages=("boto3", "botocore"),
        run=stack,
    )
