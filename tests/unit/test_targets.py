# SPDX-License-Identifier: GPL-3.0-or-later
"""`shared/targets.py` is the only list of targets; places that need a literal list agree with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.targets import CLUSTERS, TARGETS

REPOSITORY = Path(__file__).parents[2]
NAMES = list(TARGETS)


def test_clusters_are_targets_with_a_renderer_for_kubernetes() -> None:
    assert [name for name in NAMES if TARGETS[name].is_cluster] == list(CLUSTERS)


def choices(options: Any) -> Iterator[list[str]]:
    """Yield every list of choices in a documentation or a specification."""
    if isinstance(options, dict):
        yield from ([options["choices"]] if isinstance(options.get("choices"), list) else [])
        for value in options.values():
            yield from choices(value)
    elif isinstance(options, list):
        for value in options:
            yield from choices(value)


def documentation(path: Path) -> Any:
    """Return the documentation of a plugin, None for a file without one."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(node.value))
    return None


SPECIFICATIONS = {
    path: yaml.safe_load(path.read_text("utf-8")) for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml")
}
DOCUMENTED = {path: documentation(path) for path in sorted(REPOSITORY.glob("plugins/*/*.py"))}


def test_documented_choices_of_targets_are_those_of_the_table() -> None:
    lists = [
        found
        for place in (SPECIFICATIONS, DOCUMENTED)
        for each in place.values()
        for found in choices(each)
        if set(found) & set(NAMES)
    ]
    assert len(lists) >= 8
    assert all(found in (NAMES, list(CLUSTERS)) for found in lists), lists


@pytest.mark.parametrize("target", NAMES)
def test_plays_of_a_target_are_those_of_its_group(target: str) -> None:
    play = yaml.safe_load((REPOSITORY / "playbooks/guard.yml").read_text("utf-8"))[0]
    checked, told_apart = play["tasks"][0], play["tasks"][1]["ansible.builtin.group_by"]
    rendered = [
        jinja2.Environment(autoescape=False).from_string(text).render(lakehouse_target=target).strip()  # noqa: S701
        for text in (told_apart["key"], told_apart["parents"], checked["loop"])
    ]
    cluster = TARGETS[target].is_cluster
    group = TARGETS[target].group
    parent = "lakehouse_on_cluster" if cluster and group != "lakehouse_on_cluster" else "all"
    hosts = ["lakehouse_controller"] if cluster else ["lakehouse_controller", "lakehouse_hosts"]
    assert rendered == [group, str([parent]), str(hosts)]


def test_no_other_file_lists_targets() -> None:
    pattern = re.compile(r"""(["'])(?:host|k3s|eks|gke)\1\s*,\s*(["'])(?:host|k3s|eks|gke)\2""")
    found = [
        path.relative_to(REPOSITORY).as_posix()
        for path in sorted((REPOSITORY / "plugins").rglob("*.py"))
        if pattern.search(path.read_text("utf-8"))
    ]
    assert found == []
