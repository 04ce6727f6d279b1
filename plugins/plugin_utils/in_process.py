# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module inside of Ansible where it would run beside it, by the same Python on the same machine.

Packing a hundred files, starting Python and compiling them again takes longer than reading a foundation does.
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

# A process that was forked may not ask macOS for proxies, which HTTP clients do.
_FORKS_SAFELY = sys.platform != "darwin"
# Objects made between two looks for garbage; parsed manifests are a hundred thousand, and none of them is garbage.
_ALLOCATIONS = 100_000


@dataclass(frozen=True)
class Circumstances:
    """How the module is run. hidden: values that no result may hold; the module adds to them."""

    check_mode: bool = False
    with_diff: bool = False
    hidden: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Described:
    """A module, as its file describes it.

    constraints: between arguments, as AnsibleModule takes them. packages: that have to be there. run: does what the
    module does. shown: what a result may tell of the arguments. secrets: values in the arguments that no result may
    hold, beside those of options with `no_log`.
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
    """Run the module here, or where the connection, the user, the environment or the Python is another one, there.

    arguments: those of the module, where they are not the action's own.
    """
    task = action._task
    if not is_here(action, module, variables):
        there: dict[str, Any] = action._execute_module(
            module_name=module.name, module_args=arguments, task_vars=dict(variables), wrap_async=task.async_val
        )
        return there
    circumstances = Circumstances(bool(task.check_mode), bool(task.diff))
    # The folder that a module on this machine starts in: a path may be relative to it.
    with contextlib.chdir(action._loader.get_basedir()), _collecting_less():
        given = task.args if arguments is None else arguments
        return run_here(module, given, circumstances, tells_arguments=_tells_arguments(variables))


class ModuleAction(ActionBase):
    """The action of a module: runs it here, or where the circumstances of the task are other ones, there."""

    module: ClassVar[Described]
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        return {**result, **run(self, self.module, task_vars or {})}


@contextlib.contextmanager
def _collecting_less() -> Iterator[None]:
    """Look for garbage seldom, and not among the objects of Ansible, whose memory is shared with the parent process."""
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
    # A timeout ends a process, but no threads. Without its packages, the module says what is missing.
    if task.timeout or any(task.environment or ()) or not _FORKS_SAFELY or not _has(module.packages):
        return False
    delegated = (variables.get("ansible_delegated_vars") or {}).get(task.delegate_to) if task.delegate_to else None
    interpreter = (variables if delegated is None else delegated).get("ansible_python_interpreter")
    return bool(interpreter) and is_this_python(str(action._templar.template(interpreter)))


def is_this_python(path: str) -> bool:
    """Return whether a path is this Python, or another name of it in the same folder: `python3` beside `python`.

    The folder tells which virtual environment it is; those of different ones lead to the same file.
    """
    given, own = Path(path), Path(sys.executable)
    if given == own:
        return True
    return given.parent == own.parent and given.exists() and given.samefile(own)


def _has(packages: Sequence[str]) -> bool:
    # Found is not loaded: not all of them may be needed.
    return all(importlib.util.find_spec(name) is not None for name in packages)


def _tells_arguments(variables: Mapping[str, Any]) -> bool:
    """Return whether results hold the arguments. Before 2.21 they always do."""
    try:
        return bool(constants.config.get_config_value("INJECT_INVOCATION", variables=variables))
    except AnsibleError:
        return True


def run_here(
    module: Described, arguments: Mapping[str, Any], circumstances: Circumstances, *, tells_arguments: bool = False
) -> dict[str, Any]:
    """Return what the module returns for these arguments, without the values that no log may hold."""
    # As plain as a module gets them: Ansible's own strings and maps remember where they come from.
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
    """Return what JSON does not know as what it does know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _refusal(name: str, validation: Any) -> dict[str, Any] | None:
    """Return what the module answers to arguments that it cannot take, in Ansible's words."""
    if not validation.error_messages:
        return None
    message = validation.errors.msg
    unsupported = isinstance(validation.errors[0], UnsupportedError)
    return {
        "failed": True,
        "msg": f"Unsupported parameters for ({name}) module: {message}" if unsupported else message,
    }


def _without(outcome: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    """Return a result without these values; also a short one, which is part of many words, leaves yes and no alone."""
    kept = {name: value for name, value in outcome.items() if value is None or isinstance(value, bool)}
    return {**remove_values(outcome, hidden), **kept}
