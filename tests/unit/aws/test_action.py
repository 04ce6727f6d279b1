# SPDX-License-Identifier: GPL-3.0-or-later
"""The module runs in Ansible's process where the result is the same, and like other modules elsewhere."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from ansible.utils.display import Display

from ansible_collections.crypto_lakehouse.platform.plugins.action import aws_stack
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import task as task_module
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import IncompleteError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    EngineError,
    Fault,
    RefusedError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import in_process

GIVEN = {"name": "lake", "environment": "development"}


class Templar:
    """Contains one variable."""

    def template(self, text: str) -> str:
        return text.replace("{{ ansible_playbook_python }}", sys.executable)


def action(**changes: Any) -> Any:
    """Return the action of a task on this machine, with the changes of the test."""
    there = SimpleNamespace(transport=changes.pop("transport", "local"), become=changes.pop("become", None))
    task = SimpleNamespace(
        **{
            "args": GIVEN,
            "async_val": 0,
            "timeout": 0,
            "environment": [{}],
            "delegate_to": None,
            "check_mode": False,
            **changes,
        }
    )
    made = aws_stack.ActionModule.__new__(aws_stack.ActionModule)
    made._task, made._connection, made._templar = task, there, Templar()
    return made


def is_here(changes: dict[str, Any], variables: Mapping[str, Any]) -> bool:
    return in_process.is_here(action(**changes), aws_stack.ActionModule.module, variables)


def run_here(arguments: Mapping[str, Any], *, check_mode: bool, tells_arguments: bool = False) -> dict[str, Any]:
    circumstances = in_process.Circumstances(check_mode)
    return in_process.run_here(aws_stack.ActionModule.module, arguments, circumstances, tells_arguments=tells_arguments)


HERE = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}


@pytest.mark.parametrize(
    ("changes", "variables"),
    [
        ({"transport": "ssh"}, HERE),
        ({"become": object()}, HERE),
        ({"async_val": 60}, HERE),
        ({"timeout": 60}, HERE),
        ({"environment": [{"AWS_PROFILE": "other"}]}, HERE),
        ({}, {}),
        ({}, {"ansible_python_interpreter": "auto_silent"}),
        ({}, {"ansible_python_interpreter": "/opt/other/bin/python"}),
        ({"delegate_to": "bastion"}, {**HERE, "ansible_delegated_vars": {"bastion": {}}}),
    ],
)
def test_another_place_user_environment_or_python_gets_the_module(
    changes: dict[str, Any], variables: dict[str, Any]
) -> None:
    assert is_here(changes, variables) is False


@pytest.mark.parametrize(
    ("changes", "variables"),
    [
        ({}, HERE),
        ({}, {"ansible_python_interpreter": sys.executable}),
        ({"delegate_to": "localhost"}, {"ansible_delegated_vars": {"localhost": HERE}}),
    ],
)
def test_the_same_python_on_this_machine_is_here(changes: dict[str, Any], variables: dict[str, Any]) -> None:
    assert is_here(changes, variables) is True


def test_where_a_forked_process_may_not_use_the_network_the_module_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "_FORKS_SAFELY", False)
    assert is_here({}, HERE) is False


def test_without_boto3_the_module_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert is_here({}, HERE) is False


def outcome_of(told: Any) -> Any:
    if isinstance(told, EngineError):
        raise told
    return told


class Task:
    """Replaces the module's own task."""

    outcome: ClassVar[Any] = {}
    parameters: Mapping[str, Any] = {}
    check_mode = False

    def __init__(self, parameters: Mapping[str, Any], *, check_mode: bool) -> None:
        Task.parameters, Task.check_mode = parameters, check_mode

    def run(self) -> Any:
        return outcome_of(Task.outcome)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> type[Task]:
    monkeypatch.setattr(task_module, "StackTask", Task)
    Task.outcome = {"changed": False}
    return Task


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "lake"}, "missing required arguments: environment"),
        ({**GIVEN, "prunes": True}, "Unsupported parameters for (crypto_lakehouse.platform.aws_stack) module: prunes."),
        ({**GIVEN, "plan": "a", "plan_path": "b"}, "mutually exclusive: plan|plan_path"),
        ({**GIVEN, "access_key": "a"}, "required together: access_key, secret_key"),
        ({**GIVEN, "state": "gone"}, "value of state must be one of"),
        ({**GIVEN, "resources": [{"kind": "vpc"}]}, "missing required arguments: name found in resources"),
    ],
)
def test_arguments_are_refused_as_the_module_refuses_them(
    task: type[Task], arguments: dict[str, Any], words: str
) -> None:
    outcome = run_here(arguments, check_mode=False)
    assert outcome["failed"]
    assert words in outcome["msg"]


def test_arguments_arrive_as_plain_values_with_their_defaults(task: type[Task]) -> None:
    class Tagged(str):
        """Like Ansible's own strings."""

        __slots__ = ()

    plan = {"day": dt.date(2026, 1, 2), "names": ("a", "b"), "nodes": MappingProxyType({"a": 1})}
    arguments = {"name": Tagged("lake"), "parallelism": "4", "aws_region": "eu-west-1", "plan": plan}
    run_here({**GIVEN, **arguments}, check_mode=True)
    given = task.parameters
    assert given["plan"] == {"day": "2026-01-02", "names": ["a", "b"], "nodes": {"a": 1}}
    assert given["name"].__class__ is str
    assert (given["parallelism"], given["region"], given["state"], given["plan_path"]) == (
        4,
        "eu-west-1",
        "present",
        None,
    )
    assert task.check_mode is True


def test_a_secret_is_in_no_result(task: type[Task]) -> None:
    task.outcome = {"changed": True, "msg": "it is hunter-2 and key-of-mine", "outputs": {"a": ["hunter-2"]}}
    secrets = {"secret_values": {"password": "hunter-2"}, "access_key": "AKIA", "secret_key": "key-of-mine"}
    outcome = run_here({**GIVEN, **secrets}, check_mode=False)
    assert "hunter-2" not in json.dumps(outcome)
    assert "key-of-mine" not in json.dumps(outcome)
    assert outcome["changed"] is True


def test_a_secret_is_not_in_the_refusal_of_its_option(task: type[Task]) -> None:
    outcome = run_here({**GIVEN, "secret_values": {}, "validate_certs": "x", "secret_key": "x"}, check_mode=False)
    assert outcome["failed"]
    assert "'x'" not in outcome["msg"]


def test_a_secret_of_one_letter_leaves_yes_and_no_alone(task: type[Task]) -> None:
    task.outcome = {"changed": False, "msg": "a"}
    outcome = run_here({**GIVEN, "secret_values": {"letter": "a"}}, check_mode=False)
    assert outcome["changed"] is False
    assert outcome["msg"] != "a"


def test_the_arguments_are_told_where_ansible_is_to_tell_them_and_secrets_never(task: type[Task]) -> None:
    given = {**GIVEN, "secret_values": {"password": "hunter-2"}}
    assert "invocation" not in run_here(given, check_mode=False)
    told = run_here(given, check_mode=False, tells_arguments=True)
    assert told["invocation"]["module_args"]["name"] == "lake"
    assert "hunter-2" not in json.dumps(told)


def test_two_names_of_one_option_are_warned_of(task: type[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _display, text: said.append(text))
    run_here({**GIVEN, "region": "eu-west-1", "aws_region": "eu-central-1"}, check_mode=False)
    assert said == ["Both option region and its alias aws_region are set."]


@pytest.mark.parametrize(
    ("error", "more"),
    [
        (EngineError("no such kind"), {}),
        (IncompleteError("1 of 2 failed", {"resources": [1]}), {"resources": [1]}),
        (
            RefusedError([Fault("vpc.main", "name", "is taken", "choose another one")]),
            {
                "faults": [
                    {
                        "address": "vpc.main",
                        "path": "name",
                        "message": "is taken",
                        "remedy": "choose another one",
                        "variable": "",
                    }
                ]
            },
        ),
    ],
)
def test_a_failure_is_a_message_and_what_is_known(task: type[Task], error: EngineError, more: dict[str, Any]) -> None:
    task.outcome = error
    assert run_here(GIVEN, check_mode=False) == {"failed": True, "msg": str(error), **more}
