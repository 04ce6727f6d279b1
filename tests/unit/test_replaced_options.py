# SPDX-License-Identifier: GPL-3.0-or-later
"""A replaced option of a role is rejected with its new name, at every entry point of the role."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.replaced_options import (
    REPLACED,
    replaced_options,
)

ROLES = Path(__file__).resolve().parents[2] / "roles"
GROUPED = ("autoscaling", "helm_release", "ingress", "monitoring", "services")
CHECK = "crypto_lakehouse.platform.replaced_options"
INCLUDE = "ansible.builtin.include_tasks"


@cache
def specifications(role: str) -> dict[str, dict[str, Any]]:
    """Return the options of each entry point of a role."""
    found = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text("utf-8"))
    return {entry: spec["options"] for entry, spec in found["argument_specs"].items()}


def role_of(option: str) -> str:
    (role,) = (role for role in GROUPED if option.startswith(f"{role}_"))
    return role


@pytest.mark.parametrize("old", sorted(REPLACED))
def test_a_replaced_option_is_reported_with_an_option_of_the_role(old: str) -> None:
    new = REPLACED[old]
    option, _dot, key = new.partition(".")
    options = specifications(role_of(old))["main"]
    assert old not in options
    assert key in options[option]["options"]
    assert replaced_options(["lakehouse_domain", old, option]) == f"{old} was replaced by {new}."


def test_all_replaced_options_are_reported_at_once_and_others_are_not() -> None:
    given = ["services_wait", "services_operator_chart_version", "services_helm_binary", "services_helm"]
    assert replaced_options(given).splitlines() == [
        "services_helm_binary was replaced by services_helm.binary.",
        "services_operator_chart_version was replaced by services_operator_chart.version.",
    ]
    assert replaced_options([]) == ""


def test_each_key_of_a_grouped_option_has_an_old_name() -> None:
    """Without an entry in the table, a role would ignore the old option."""
    merged = set()
    for role in GROUPED:
        defaults = yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text("utf-8"))[f"_{role}_defaults"]
        merged |= {f"{role}_{option}.{key}" for option, keys in defaults.items() for key in keys}
    assert merged == set(REPLACED.values())


def rejects_first(role: str, entry: str) -> bool:
    """Return whether the first task of each path through an entry point rejects replaced options."""
    tasks = yaml.safe_load((ROLES / role / "tasks" / f"{entry}.yml").read_text("utf-8"))
    if INCLUDE not in tasks[0]:
        return bool(tasks[0].get("ansible.builtin.assert", {}).get("that") == f"_{role}_replaced == ''")
    included = [task[INCLUDE] for task in tasks if INCLUDE in task] if "when" in tasks[0] else [tasks[0][INCLUDE]]
    return all(rejects_first(role, file.removesuffix(".yml")) for file in included)


@pytest.mark.parametrize(
    ("role", "entry"), [(role, entry) for role in GROUPED for entry in sorted(specifications(role))]
)
def test_every_entry_point_rejects_replaced_options_first(role: str, entry: str) -> None:
    variables = yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text("utf-8"))
    assert variables[f"_{role}_replaced"] == f"{{{{ query('ansible.builtin.varnames', '^{role}_') | {CHECK} }}}}"
    assert rejects_first(role, entry)
