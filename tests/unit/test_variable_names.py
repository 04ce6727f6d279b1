# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of variables in roles and playbooks, which share one namespace in a run of several playbooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted(
    [
        *REPOSITORY.glob("roles/*/tasks/*.yml"),
        *REPOSITORY.glob("playbooks/*.yml"),
        *REPOSITORY.glob("playbooks/tasks/*.yml"),
    ]
)


class Loader(yaml.SafeLoader):
    """Reads Ansible's tags as null."""


Loader.add_multi_constructor("!", lambda *_: None)


def mappings(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping of a document."""
    if isinstance(node, Mapping):
        yield node
        for value in node.values():
            yield from mappings(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from mappings(value)


def names(document: Any) -> tuple[set[str], set[str]]:
    """Return the persistent names that tasks register or set, and the names in `vars` of tasks and plays."""
    stays: set[str] = set()
    given: set[str] = set()
    for each in mappings(document):
        if isinstance(each.get("register"), str):
            stays.add(each["register"])
        if isinstance(each.get("ansible.builtin.set_fact"), Mapping):
            stays.update(each["ansible.builtin.set_fact"])
        if isinstance(each.get("vars"), Mapping):
            given.update(each["vars"])
    return stays, given


def test_what_is_registered_and_what_is_given_are_found() -> None:
    tasks = yaml.safe_load(
        "[{a: {}, register: x}, {ansible.builtin.set_fact: {y: 1}}, {block: [{b: {}, vars: {z: 1}}]}]"
    )
    assert names(tasks) == ({"x", "y"}, {"z"})


def test_no_result_that_stays_hides_a_variable_of_a_task() -> None:
    """A registered result wins over `vars`, also in a later playbook of the same run: destroy, deploy and restore."""
    stays: dict[str, list[str]] = defaultdict(list)
    given: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        found = names(yaml.load(path.read_text(encoding="utf-8"), Loader))  # noqa: S506 - a safe loader
        for target, part in zip((stays, given), found, strict=True):
            for name in part:
                target[name].append(str(path.relative_to(REPOSITORY)))
    assert len(stays) > 50
    assert {name: (stays[name], given[name]) for name in stays.keys() & given.keys()} == {}
