# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import check_argument_specs as check

SPECS = "meta/argument_specs.yml"
DEFAULTS = "defaults/main.yml"
VARS = "vars/main.yml"
GOOD: Mapping[str, str] = {
    "README.md": "# store\n",
    DEFAULTS: "---\nstore_port: 80\nstore_names: [a]\n",
    SPECS: """---
argument_specs:
  main:
    short_description: Store
    options:
      store_home: {type: path, required: true, description: Folder.}
      store_port: {type: int, default: 80, description: Port.}
      store_names: {type: list, elements: str, default: [a], description: Names.}
""",
    "tasks/main.yml": "- name: Say\n  ansible.builtin.debug:\n    msg: '{{ store_port }} of {{ lakehouse_home }}'\n",
}


def write_role(roles: Path, name: str = "store", changes: Mapping[str, str | None] | None = None) -> Path:
    """Write the valid role with some of its files replaced or omitted."""
    for file, text in {**GOOD, **(changes or {})}.items():
        if text is not None:
            path = roles / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("store_", f"{name}_"), "utf-8")
    return roles


def spec(line: str) -> dict[str, str | None]:
    """Return the valid specification with the line of store_port replaced."""
    return {SPECS: GOOD[SPECS].replace("{type: int, default: 80, description: Port.}", line)}


def shelf(keys: str) -> dict[str, str | None]:
    """Return the good role with a mapping `store_shelf` of these keys."""
    line = f"      store_shelf: {{type: dict, default: {{}}, description: Shelf., options: {keys}}}\n"
    return {SPECS: GOOD[SPECS] + line, DEFAULTS: GOOD[DEFAULTS] + "store_shelf: {}\n"}


BAD: dict[str, tuple[dict[str, str | None], str]] = {
    "no README": ({"README.md": None}, "README.md: the file is missing"),
    "no defaults": ({DEFAULTS: None}, "defaults/main.yml: the file is missing"),
    "no specification": ({SPECS: None}, "argument_specs.yml: the file is missing"),
    "no entry point": ({SPECS: "argument_specs: {}\n"}, "no entry point main"),
    "an undescribed variable": (
        {DEFAULTS: GOOD[DEFAULTS] + "store_new: 1\n"},
        "store_new is in defaults/main.yml but not described",
    ),
    "a variable without default": ({DEFAULTS: "store_names: [a]\n"}, "store_port is optional but not in defaults"),
    "another default": ({DEFAULTS: "store_port: 81\nstore_names: [a]\n"}, "store_port has default 80"),
    "another type of default": ({DEFAULTS: "store_port: '80'\nstore_names: [a]\n"}, "store_port has default 80"),
    "a boolean for a number": (
        {DEFAULTS: "store_port: true\nstore_names: [a]\n", **spec("{type: int, default: 1, description: Port.}")},
        "store_port has default 1",
    ),
    "an option that two entry points describe": (
        {SPECS: GOOD[SPECS] + "  other: {options: {store_port: {type: int, default: 80, description: Port.}}}\n"},
        "store_port of other is described for main already",
    ),
    "a key that is merged and not described": (
        {VARS: "_store_defaults: {shelf: {depth: 3}}\n", **shelf("{}")},
        "store_shelf has keys with defaults {}, vars/main.yml has {'depth': 3}",
    ),
    "another default of a key": (
        {VARS: "_store_defaults: {shelf: {depth: 3}}\n", **shelf("{depth: {type: int, default: 4}}")},
        "store_shelf has keys with defaults {'depth': 4}, vars/main.yml has {'depth': 3}",
    ),
    "a merged mapping that is not an option": (
        {VARS: "_store_defaults: {shelf: {depth: 3}}\n"},
        "store_shelf has keys with defaults {}, vars/main.yml has {'depth': 3}",
    ),
    "another list": ({DEFAULTS: "store_port: 80\nstore_names: [a, b]\n"}, "store_names has default ['a']"),
    "a default that is not described": (spec("{type: int, description: Port.}"), "store_port has no default"),
    "a required variable with a default": (
        spec("{type: int, required: true, description: Port.}"),
        "store_port is required and must have no default",
    ),
    "a variable without type": (spec("{default: 80, description: Port.}"), "store_port has no type"),
    "a variable without description": (spec("{type: int, default: 80}"), "store_port has no description"),
    "a foreign prefix": (
        {
            DEFAULTS: GOOD[DEFAULTS] + "port: 1\n",
            SPECS: GOOD[SPECS] + "      port: {type: int, default: 1, description: P.}\n",
        },
        "port must begin with store_",
    ),
}


@pytest.mark.parametrize(("changes", "problem"), BAD.values(), ids=BAD)
def test_a_role_that_says_something_untrue_is_found(
    tmp_path: Path, changes: dict[str, str | None], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main([str(write_role(tmp_path, changes=changes))]) == 1
    assert problem in capsys.readouterr().err


READING: dict[str, tuple[str, str, int]] = {
    "in a template string": ("tasks/main.yml", "- debug:\n    msg: '{{ other_port }}'\n", 2),
    "in a condition": ("tasks/main.yml", "- debug:\n    msg: x\n  when:\n    - other_port > 1\n", 4),
    "in a block of text": ("tasks/main.yml", "- debug:\n    msg: |\n      one\n      {{ other_port }}\n", 4),
    "in a default": (DEFAULTS, "store_port: 80\nstore_names: [a]\nstore_x: '{{ other_port | int }}'\n", 3),
    "in a template file": ("templates/etc/x.j2", "one\n{% if _other_port %}{% endif %}\n", 2),
    "in variables": ("vars/main.yml", "_store_a: '{{ [other_port] }}'\n", 1),
}


@pytest.mark.parametrize(("file", "text", "line"), READING.values(), ids=READING)
def test_a_role_that_reads_another_roles_variable_is_found(tmp_path: Path, file: str, text: str, line: int) -> None:
    write_role(tmp_path, "other")
    write_role(tmp_path, changes={file: text})
    found = [problem for problem in check.problems(tmp_path) if "is a variable of the role other" in problem]
    assert len(found) == 1
    assert f"{file}:{line}:" in found[0]


def test_the_result_of_a_role_is_there_to_be_read(tmp_path: Path) -> None:
    task = "- name: Say\n  ansible.builtin.debug:\n    msg: '{{ store_result.changed }} {{ store_results }}'\n"
    write_role(tmp_path)
    write_role(tmp_path, "shop", {"tasks/main.yml": None})
    (tmp_path / "shop" / "tasks").mkdir()
    (tmp_path / "shop" / "tasks" / "main.yml").write_text(task, "utf-8")
    (problem,) = check.problems(tmp_path)
    assert "store_results is a variable of the role store" in problem


def test_words_that_only_look_like_another_roles_variable_are_no_problem(tmp_path: Path) -> None:
    write_role(tmp_path, "other")
    text = """
- name: Ask other_port about {{ store_port }}
  crypto_lakehouse.platform.other_module:
    other_port: "{{ store_port }}"
    path: /etc/other_port
    text: "{{ 'other_port' }} {{ store_answer.other_port }}"
  register: store_answer
  when: "'other_port' in store_names"
"""
    write_role(tmp_path, changes={"tasks/main.yml": text})
    assert check.problems(tmp_path) == []


def test_the_longest_role_name_owns_a_variable(tmp_path: Path) -> None:
    write_role(tmp_path, "store_users")
    write_role(tmp_path)
    assert check.problems(tmp_path) == []


def test_a_folder_that_only_holds_files_needs_a_readme(tmp_path: Path) -> None:
    (tmp_path / "application" / "files").mkdir(parents=True)
    assert check.problems(tmp_path) == [f"{tmp_path / 'application' / 'README.md'}: the file is missing"]
    (tmp_path / "application" / "README.md").touch()
    assert check.problems(tmp_path) == []


def test_no_role_at_all_is_a_problem(tmp_path: Path) -> None:
    assert check.main([str(tmp_path)]) == 1
    assert check.main([str(tmp_path / "absent")]) == 1


def test_a_role_that_is_true_passes(tmp_path: Path) -> None:
    assert check.main([str(write_role(tmp_path))]) == 0
