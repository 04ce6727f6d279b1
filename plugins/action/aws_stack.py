# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `aws_stack` inside of Ansible where it would run beside it, by the same Python on the same machine.

Packing a hundred files, starting Python and compiling them again takes longer than reading a foundation does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.arguments import CONNECTION_TOGETHER
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import IncompleteError, StackTask
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import EngineError
from ansible_collections.crypto_lakehouse.platform.plugins.modules.aws_stack import ARGUMENT_SPEC, EXCLUSIVE

MODULE = "crypto_lakehouse.platform.aws_stack"
# A process that was forked may not ask macOS for proxies, which botocore does.
_FORKS_SAFELY = sys.platform != "darwin"


class ActionModule(ActionBase):
    """Runs the module here, or where the connection, the user, the environment or the Python is another one, there."""

    _supports_check_mode = True
    _supports_diff = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if not self._is_here(variables):
            waits = self._task.async_val
            return {**result, **self._execute_module(module_name=MODULE, task_vars=variables, wrap_async=waits)}
        # The folder that a module on this machine starts in: a path may be relative to it.
        with contextlib.chdir(self._loader.get_basedir()):
            outcome = run_here(
                self._task.args, check_mode=bool(self._task.check_mode), tells_arguments=_tells_arguments(variables)
            )
        return {**result, **outcome}

    def _is_here(self, variables: Mapping[str, Any]) -> bool:
        """Return whether the module would run on this machine, as this user, in this environment, by this Python."""
        task, connection = self._task, self._connection
        if connection.transport != "local" or connection.become is not None or task.async_val:
            return False
        # A timeout ends a process, but no threads. Without botocore, the module says what is missing.
        if task.timeout or any(task.environment or ()) or not _FORKS_SAFELY or not _has_botocore():
            return False
        delegated = (variables.get("ansible_delegated_vars") or {}).get(task.delegate_to) if task.delegate_to else None
        interpreter = (variables if delegated is None else delegated).get("ansible_python_interpreter")
        return bool(interpreter) and self._templar.template(interpreter) == sys.executable


def _has_botocore() -> bool:
    # Found is not loaded: nothing of boto3 itself is used.
    return all(importlib.util.find_spec(name) is not None for name in ("boto3", "botocore"))


def _tells_arguments(variables: Mapping[str, Any]) -> bool:
    """Return whether results hold the arguments. Before 2.21 they always do."""
    try:
        return bool(constants.config.get_config_value("INJECT_INVOCATION", variables=variables))
    except AnsibleError:
        return True


def run_here(arguments: Mapping[str, Any], *, check_mode: bool, tells_arguments: bool = False) -> dict[str, Any]:
    """Return what the module returns for these arguments, without the values that no log may hold."""
    # As plain as a module gets them: Ansible's own strings and maps remember where they come from.
    given = json.loads(json.dumps(dict(arguments), default=_plain))
    validator = ArgumentSpecValidator(
        ARGUMENT_SPEC, mutually_exclusive=EXCLUSIVE, required_together=CONNECTION_TOGETHER
    )
    validation = validator.validate(given)
    for warning in validation._warnings:
        Display().warning(f"Both option {warning['option']} and its alias {warning['alias']} are set.")
    parameters = validation.validated_parameters
    outcome = _refusal(validation) or _outcome(parameters, check_mode=check_mode)
    if tells_arguments:
        outcome["invocation"] = {"module_args": parameters}
    return _without(outcome, validation._no_log_values)


def _plain(value: Any) -> Any:
    """Return what JSON does not know as what it does know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _refusal(validation: Any) -> dict[str, Any] | None:
    """Return what the module answers to arguments that it cannot take, in Ansible's words."""
    if not validation.error_messages:
        return None
    message = validation.errors.msg
    unsupported = isinstance(validation.errors[0], UnsupportedError)
    return {
        "failed": True,
        "msg": f"Unsupported parameters for ({MODULE}) module: {message}" if unsupported else message,
    }


def _outcome(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    try:
        return StackTask(parameters, check_mode=check_mode).run()
    except IncompleteError as error:
        return {**error.result, "failed": True, "msg": str(error)}
    except EngineError as error:
        return {"failed": True, "msg": str(error)}


def _without(outcome: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    """Return a result without these values; also a short one, which is part of many words, leaves yes and no alone."""
    kept = {name: value for name, value in outcome.items() if value is None or isinstance(value, bool)}
    return {**remove_values(outcome, hidden), **kept}
