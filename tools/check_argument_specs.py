# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the documentation of role variables.

For every role: it has a README, defaults and argument specifications; the specification of its main entry point and
its defaults name the same variables with the same defaults; a required variable has no default; every variable begins
with the role's name and has a type and a description; and no role reads another role's variables, except the result
(``ROLE_result``) of one that it includes. A folder with files for roles, without tasks and variables, only requires a
README.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nodes
import yaml

ENTRY_POINTS_FILE = Path("meta/argument_specs.yml")
DEFAULTS_FILE = Path("defaults/main.yml")
REQUIRED_FILES = (Path("README.md"), ENTRY_POINTS_FILE, DEFAULTS_FILE)
# A role has at least one of these; its other parts (files, templates) have no effect by themselves.
ROLE_FOLDERS = ("defaults", "handlers", "tasks", "vars")
# Folders whose YAML files and templates can read variables.
READING_FOLDERS = ("defaults", "handlers", "tasks", "templates", "vars")
READING_SUFFIXES = frozenset({".j2", ".yaml", ".yml"})
# Values that Ansible evaluates as expressions without braces.
EXPRESSION_KEYS = frozenset({"assert", "changed_when", "failed_when", "that", "until", "var", "when"})


def load(path: Path) -> Mapping[str, Any]:
    """Return a YAML mapping; an empty file is an empty mapping."""
    content = yaml.load(path.read_text("utf-8"), Loader=AnsibleLoader)  # noqa: S506 - a safe loader with two tags more
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: the file must hold a mapping")
    return content


class AnsibleLoader(yaml.SafeLoader):
    """YAML as Ansible writes it: ``!unsafe`` and ``!vault`` are strings."""


def _as_text(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    return str(loader.construct_scalar(node)) if isinstance(node, yaml.ScalarNode) else ""


for tag in ("!unsafe", "!vault"):
    AnsibleLoader.add_constructor(tag, _as_text)


def role_problems(role: Path, roles: Sequence[str]) -> Iterator[str]:
    """Yield the problems of one role."""
    holds_only_files = not any((role / folder).exists() for folder in ROLE_FOLDERS)
    required = REQUIRED_FILES[:1] if holds_only_files else REQUIRED_FILES
    missing = [file for file in required if not (role / file).is_file()]
    for file in missing:
        yield f"{role / file}: the file is missing"
    if not holds_only_files and ENTRY_POINTS_FILE not in missing and DEFAULTS_FILE not in missing:
        yield from specification_problems(role)
    yield from reading_problems(role, [name for name in roles if name != role.name])


def specification_problems(role: Path) -> Iterator[str]:
    """Yield the differences between the defaults and the specification of the main entry point."""
    where = role / ENTRY_POINTS_FILE
    entry_points = load(where).get("argument_specs", {})
    if "main" not in entry_points:
        yield f"{where}: argument_specs has no entry point main"
        return
    options: Mapping[str, Mapping[str, Any]] = entry_points["main"].get("options") or {}
    defaults = load(role / DEFAULTS_FILE)
    for name in sorted(defaults.keys() | options.keys()):
        if not name.startswith(f"{role.name}_"):
            yield f"{where}: {name} must begin with {role.name}_"
        if name not in options:
            yield f"{where}: {name} is in {DEFAULTS_FILE} but not described"
            continue
        yield from option_problems(f"{where}: {name}", options[name], defaults, name)


def option_problems(where: str, option: Mapping[str, Any], defaults: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the problems of one variable's description."""
    for word in ("type", "description"):
        if not option.get(word):
            yield f"{where} has no {word}"
    if option.get("required"):
        if name in defaults or "default" in option:
            yield f"{where} is required and must have no default"
    elif name not in defaults:
        yield f"{where} is optional but not in {DEFAULTS_FILE}"
    elif "default" not in option:
        yield f"{where} has no default, {DEFAULTS_FILE} has {defaults[name]!r}"
    elif not same(option["default"], defaults[name]):
        yield f"{where} has default {option['default']!r}, {DEFAULTS_FILE} has {defaults[name]!r}"


def same(described: object, real: object) -> bool:
    """Compare two defaults strictly: ``1``, ``1.0``, ``true`` and ``"1"`` all differ."""
    if isinstance(described, dict) and isinstance(real, dict):
        return described.keys() == real.keys() and all(same(described[key], real[key]) for key in described)
    if isinstance(described, list) and isinstance(real, list):
        return len(described) == len(real) and all(map(same, described, real))
    return type(described) is type(real) and described == real


def reading_problems(role: Path, other_roles: Sequence[str]) -> Iterator[str]:
    """Yield the places in which a role reads a variable of another role."""
    for path in reading_files(role):
        for line, name in sorted(variables_read(path)):
            owner = owner_of(name, [role.name, *other_roles])
            if owner not in (None, role.name) and name != f"{owner}_result":
                yield f"{path}:{line}: {name} is a variable of the role {owner}; the playbook must map it"


def owner_of(name: str, roles: Iterable[str]) -> str | None:
    """Return the role with the longest matching prefix, so that host_users_x does not belong to the role host."""
    owners = [role for role in roles if name.lstrip("_").startswith(f"{role}_")]
    return max(owners, key=len, default=None)


def reading_files(role: Path) -> Iterator[Path]:
    """Yield the files of a role that can read variables."""
    for folder in READING_FOLDERS:
        for path in sorted((role / folder).rglob("*")):
            if path.is_file() and path.suffix in READING_SUFFIXES:
                yield path


def variables_read(path: Path) -> set[tuple[int, str]]:
    """Return line and name of every variable that a template or the templates in a YAML file read."""
    text = path.read_text("utf-8")
    if path.suffix == ".j2":
        return names_in(text)
    found: set[tuple[int, str]] = set()
    for node, key in scalars(yaml.compose(text, Loader=AnsibleLoader)):
        # The text of a block begins on the line after its indicator.
        first = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
        template = f"{{{{ ({node.value}) }}}}" if key in EXPRESSION_KEYS and "{{" not in node.value else node.value
        found |= {(first + line - 1, name) for line, name in names_in(template)}
    return found


def scalars(node: yaml.Node | None, key: str = "") -> Iterator[tuple[yaml.ScalarNode, str]]:
    """Yield every string value of a YAML tree with its key."""
    match node:
        case yaml.ScalarNode():
            yield node, key
        case yaml.SequenceNode():
            for item in node.value:
                yield from scalars(item, key)
        case yaml.MappingNode():
            for name, value in node.value:
                yield from scalars(value, str(name.value))


def names_in(template: str) -> set[tuple[int, str]]:
    """Return line and name of the variables that a Jinja template reads; none for invalid templates."""
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"]).parse(template)  # noqa: S701
    except jinja2.TemplateSyntaxError:
        return set()
    return {(name.lineno, name.name) for name in tree.find_all(jinja2.nodes.Name) if name.ctx == "load"}


def problems(folder: Path) -> list[str]:
    """Return the problems of the roles below a folder. A missing role is a problem."""
    roles = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not roles:
        return [f"{folder}: there is no role"]
    names = [role.name for role in roles]
    return [problem for role in roles for problem in role_problems(role, names)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every problem; return 1 when there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("roles"))
    found = problems(parser.parse_args(arguments).folder)
    for problem in found:
        print(problem, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
