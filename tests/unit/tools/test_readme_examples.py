# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples in the READMEs of roles are plays that the roles accept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLES = Path(__file__).resolve().parents[3] / "roles"
PREFIX = "crypto_lakehouse.platform."
_BLOCK = re.compile(r"```ya?ml\n(.*?)```", re.DOTALL)
_IMPORTS = ("ansible.builtin.import_role", "ansible.builtin.include_role")


def calls() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield README, role and variables of each call of a role in an example."""
    for path in sorted(ROLES.glob("*/README.md")):
        for block in _BLOCK.findall(path.read_text("utf-8")):
            example = yaml.safe_load(block)
            for task in [task for play in example for task in play["tasks"]] if isinstance(example, list) else ():
                for word in _IMPORTS:
                    if word in task:
                        yield path.parent.name, task[word], task.get("vars", {})


CALLS = list(calls())


def test_there_are_examples() -> None:
    assert len({role for role, _call, _variables in CALLS}) >= 8


@pytest.mark.parametrize(("readme", "call", "variables"), CALLS, ids=[role for role, _call, _variables in CALLS])
def test_an_example_gives_a_role_what_it_takes(readme: str, call: dict[str, Any], variables: dict[str, Any]) -> None:
    role = call["name"].removeprefix(PREFIX)
    assert role == readme
    assert call["name"].startswith(PREFIX)
    entries = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]
    options = entries[call.get("tasks_from", "main")]["options"]
    # Results of other tasks have any type.
    known = {name: value for name, value in variables.items() if "{{" not in str(value)}
    assert set(variables) <= set(options)
    taken = {name: spec for name, spec in options.items() if name in known or name not in variables}
    result = ArgumentSpecValidator(taken).validate(known)
    assert result.error_messages == []
