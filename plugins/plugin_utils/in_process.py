# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module in Ansible's process if it would use the same Python on the same machine.

Packing 100 files, starting Python and compiling them again takes longer than reading a foundation.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# On macOS, a forked process cannot read the system's proxies, as HTTP clients do.
_FORKS_SAFELY = sys.platform != "darwin"
# Objects created between two collections; parsed manifests are 100,000 objects without garbage.
_ALLOCATIONS = 100_000


@dataclass(frozen=True)
class Circumstances:
    """Circumstances of a module's run. hidden: values to mask in results; the module adds to them."""

    check_mode: bool = False
    with_diff: bool = False
    hidden: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Described:
    """A module as described in its file.

    constraints: between arguments, as for AnsibleModule. packages: required ones. run: runs the module. shown: returns
    the arguments that a result may contain. secrets: values in the arguments to mask in results, besides those of
    options with `no_log`.
    """

    name: str
    argument_spec: Mapping[str, Any]
    constraints: Mapping[str, Any]
    packages: Sequence[str]
    run: Callable[[dict[str, Any], Circumstances], dict[str, Any]]
    shown: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    secrets: Callable[[dict[str, Any]], Iterable[str]] = lambda _parameters: ()


def run(
    action: ActionBase, module: Described, variables: Mapping[str, Any], arguments: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run the module in this process, or as usual if connection, user, environment or Python differ.

    arguments: those of the module, if they differ from the action's.
    """
    task = action._task
    if not is_here(action, module, variables):
        there: dict[str, Any] = action._execute_module(
            module_name=module.name, module_args=arguments, task_vars=dict(variables), wrap_async=task.async_val
        )
        return there
    circumstances = Circumstances(bool(task.check_mode), bool(task.diff))
    # The working directory of a module on this machine, for relative paths.
    with contextlib.chdir(action._loader.get_basedir()), _collecting_less():
        given = task.args if arguments is None else arguments
        return run_here(module, given, circumstances, tells_arguments=_tells_arguments(variables))


class ModuleAction(ActionBase):
    """The action of a module: runs it in this process, or as usual if the circumstances of the task differ."""

    module: ClassVar[Described]
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        return {**result, **run(self, self.module, task_vars or {})}


@contextlib.contextmanager
def _collecting_less() -> Iterator[None]:
    """Collect garbage rarely, and exempt Ansible's objects, whose memory is shared with the parent process."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def is_here(action: ActionBase, module: Described, variables: Mapping[str, Any]) -> bool:
    """Return whether the module would run on this machine, as this user, in this environment, by this Python."""
    task, connection = action._task, action._connection
    if connection.transport != "local" or connection.become is not None or task.async_val:
        return False
    # A timeout ends a process, but not its threads. A module without its packages reports the missing ones.
    if task.timeout or any(task.environment or ()) or not _FORKS_SAFELY or not _has(module.packages):
        return False
    delegated = (variables.get("ansible_delegated_vars") or {}).get(task.delegate_to) if task.delegate_to else None
    interpreter = (variables if delegated is None else delegated).get("ansible_python_interpreter")
    return bool(interpreter) and is_this_python(str(action._templar.template(interpreter)))


def is_this_python(path: str) -> bool:
    """Return whether a path is this Python, or another name of it in the same folder: `python3` beside `python`.

    The folder identifies the virtual environment; Pythons of several environments can be links to one file.
    """
    given, own = Path(path), Path(sys.executable)
    if given == own:
        return True
    return given.parent == own.parent and given.exists() and given.samefile(own)


def _has(packages: Sequence[str]) -> bool:
    # Packages are found but not loaded, because the module may not use all of them.
    return all(importlib.util.find_spec(name) is not None for name in packages)


def _tells_arguments(variables: Mapping[str, Any]) -> bool:
    """Return whether results contain the arguments, as they always do before Ansible 2.21."""
    try:
        return bool(constants.config.get_config_value("INJECT_INVOCATION", variables=variables))
    except AnsibleError:
        return True


def run_here(
    module: Described, arguments: Mapping[str, Any], circumstances: Circumstances, *, tells_arguments: bool = False
) -> dict[str, Any]:
    """Return the result of the module for these arguments, with masked secret values."""
    # Plain types, as a module receives them: Ansible's own strings and maps contain their origin.
    given = json.loads(json.dumps(dict(arguments), default=_plain))
    validation = ArgumentSpecValidator(dict(module.argument_spec), **module.constraints).validate(given)
    for warning in validation._warnings:
        Display().warning(f"Both option {warning['option']} and its alias {warning['alias']} are set.")
    parameters = validation.validated_parameters
    circumstances.hidden.update(validation._no_log_values)
    outcome = _refusal(module.name, validation)
    if outcome is None:
        circumstances.hidden.update(module.secrets(parameters))
        outcome = module.run(parameters, circumstances)
    if tells_arguments:
        told = parameters if validation.error_messages else module.shown(parameters)
        outcome["invocation"] = {"module_args": told}
    return _without(outcome, circumstances.hidden)


def _plain(value: Any) -> Any:
    """Return a value that JSON does not support as a supported type."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _refusal(name: str, validation: Any) -> dict[str, Any] | None:
    """Return the module's result for invalid arguments, with Ansible's message."""
    if not validation.error_messages:
        return None
    message = validation.errors.msg
    unsupported = isinstance(validation.errors[0], UnsupportedError)
    return {
        "failed": True,
        "msg": f"Unsupported parameters for ({name}) module: {message}" if unsupported else message,
    }


def _without(outcome: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    """Return a result without these values. Booleans are kept, even if a short value is part of their text."""
    kept = {name: value for name, value in outcome.items() if value is None or isinstance(value, bool)}
    return {**remove_values(outcome, hidden), **kept}
