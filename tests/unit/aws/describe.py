# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the resources that the playbooks render from settings: one line of output per line of JSON on standard input.

It runs as a separate process because Ansible's plugin loader changes how the process imports collections.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]


def _trusted(value: Any) -> Any:
    """Return a value as Ansible reads it from its own files: its strings may be templates."""
    if isinstance(value, Mapping):
        return {key: _trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def _loaded(path: Path) -> Any:
    return _trusted(yaml.safe_load(path.read_text("utf-8")))


def _facts(task: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    templar = Templar(loader=DataLoader(), variables=dict(variables))
    facts: dict[str, Any] = templar.template(task["ansible.builtin.set_fact"])
    return facts


def _role(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that the entry point `describe` of a role sets."""
    folder = ROOT / "roles" / name
    (task,) = _loaded(folder / "tasks" / "describe.yml")
    known = {
        **_loaded(folder / "defaults" / "main.yml"),
        **_loaded(folder / "vars" / "main.yml"),
        **variables,
        "ansible_search_path": [str(folder)],
    }
    return _facts(task, known)


def described(given: Mapping[str, Any]) -> list[Any]:
    """Describe the foundation and the cluster as playbooks/tasks/aws.yml does."""
    known = {
        "lakehouse_secrets": given["secrets"],
        "_aws_settings": given["settings"],
        "preflight_result": given["preflight_result"],
    }
    for task in _loaded(ROOT / "playbooks" / "tasks" / "aws.yml")[:2]:
        role = task["ansible.builtin.import_role"]["name"].rpartition(".")[2]
        templar = Templar(loader=DataLoader(), variables=known)
        known |= _role(role, templar.template(task["vars"]))
    return [*known["aws_foundation_resources"], *known["eks_resources"]]


def main() -> None:
    """Answer requests until standard input ends. Starting Ansible takes longer than all answers."""
    init_plugin_loader()
    for line in sys.stdin:
        print(json.dumps(described(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
