# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the steps of the gate, and the test files in them, that a change affects.

A changed test file is affected. So is a test file that imports a changed module, directly or not. A changed file that
is not Python affects a test file that names it, or its role, directly or through an imported test helper. Tests that
run playbooks do not import the modules of the playbooks: ``make integration`` and ``make molecule`` cover them.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath

from tools.steps import Step

COLLECTION = "ansible_collections.crypto_lakehouse.platform."
APPLICATION = "roles/application/files/"
# The folder of each step's test files; the first matching prefix counts.
TEST_FOLDERS = {
    "tests/unit/": "unit",
    "tests/integration/aws/": "aws",
    "tests/integration/kube/": "kube",
    "tests/integration/": "integration",
    f"{APPLICATION}tests/": "application",
}
# The changed files that affect a step without tests of its own.
CHECKED = {
    "lint-python": r"\.py$|^pyproject\.toml$",
    "lint-types": r"^(plugins|tools|tests)/.*\.py$|^pyproject\.toml$",
    "lint-application": rf"^{APPLICATION}.*\.py$|^{APPLICATION}pyproject\.toml$",
    "lint-yaml": r"\.ya?ml$|^\.yamllint$",
    "lint-ansible": r"^(roles|playbooks|molecule|inventories|meta)/.*\.ya?ml$|^plugins/|^galaxy\.yml$|^\.ansible-lint$",
    "lint-specs": r"^roles/",
    "lint-manifests": r"^(roles/catalogue|roles/services|plugins/module_utils/catalogue)/|^tools/check_manifests\.py$",
    "lint-files": r"",
    "lint-words": r"\.(md|py|ya?ml|j2)$|^tools/words\w*\.txt$",
    "lint-workflows": r"^\.github/",
    "docs-check": r"^(plugins|roles)/|^galaxy\.yml$",
    "lint-changelog": r"^changelogs/",
    "sanity": r"^plugins/|\.py$|^tests/config\.yml$|^galaxy\.yml$",
    "molecule": r"^molecule/|^tools/(run_molecule|systemd_hosts)\.py$",
}


def affected_steps(root: Path, steps: Sequence[Step], base: str | None = None) -> list[Step]:
    """Return the affected steps of a repository; those with tests are narrowed to the affected test files.

    base: the commit to compare the work tree with; by default the fork from ``origin/main`` or ``main``.
    """
    changed = changed_files(root, base)
    tests = affected_tests(root, changed)
    found = []
    for step in steps:
        if step.name in CHECKED:
            if any(re.search(CHECKED[step.name], name) for name in changed):
                found.append(replace(step, arguments=narrowed(root, changed)) if step.name == "sanity" else step)
        elif files := sorted(name for name in tests if step_of(name) == step.name):
            words = " ".join(name.removeprefix(APPLICATION) for name in files)
            found.append(replace(step, arguments=(f"TESTS={words}",)))
    return found


def narrowed(root: Path, changed: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments of the step ``sanity`` for changed files; none where a change concerns all files.

    ansible-test checks every Python file of the collection, those of tests and of the application included.
    """
    files = sorted(name for name in changed if (root / name).is_file())
    if any(name in ("galaxy.yml", "tests/config.yml") for name in files):
        return ()
    checked = [name for name in files if name.endswith(".py") or name.startswith("plugins/")]
    return (f"ARGS={' '.join(checked)}",) if checked else ()


def changed_files(root: Path, base: str | None) -> set[str]:
    """Return the files that differ from the base, untracked ones included."""
    base = base or _fork(root)
    tracked = _git(root, "diff", "--name-only", "-z", base)
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return {name for name in (tracked + untracked).split("\0") if name}


def step_of(name: str) -> str | None:
    """Return the step that runs a test file; None for every other file."""
    if not re.fullmatch(r"test_\w+\.py", PurePosixPath(name).name):
        return None
    return next((step for folder, step in TEST_FOLDERS.items() if name.startswith(folder)), None)


def affected_tests(root: Path, changed: Iterable[str]) -> set[str]:
    """Return the test files that a change of these files affects."""
    files = _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.py").split("\0")
    sources = {name: (root / name).read_text("utf-8") for name in files if name and (root / name).is_file()}
    imports = {name: set(imported_files(name, source, sources)) for name, source in sources.items()}
    touched = set(changed)
    data = [name for name in touched if not name.endswith(".py")]
    touched |= {name for name, source in sources.items() if "tests/" in name and _names_any(source, data)}
    return {name for name in sources if step_of(name) and touched & _closure(name, imports)}


def imported_files(name: str, source: str, known: Mapping[str, str]) -> Iterator[str]:
    """Yield the files that a Python file imports, including the conftest files above a test."""
    for parent in PurePosixPath(name).parents:
        for implied in ("conftest.py", "__init__.py"):
            if (path := (parent / implied).as_posix()) in known and path != name:
                yield path
    package = PurePosixPath(name).parent
    try:
        tree = ast.parse(source)
    except SyntaxError:
        # The linters report the location.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = _absolute(node, package)
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in names:
            yield from (path for path in _paths(module) if path in known)


def _absolute(node: ast.ImportFrom, package: PurePosixPath) -> str:
    """Return the dotted name of a ``from`` statement, a relative one as the path from the repository's root."""
    if not node.level:
        return node.module or ""
    folder = package
    for _up in range(node.level - 1):
        folder = folder.parent
    return ".".join([*folder.parts, *((node.module or "").split(".") if node.module else [])])


@cache
def _paths(module: str) -> tuple[str, ...]:
    """Return the possible files of a dotted module name."""
    path = module.removeprefix(COLLECTION).replace(".", "/")
    if module.split(".", maxsplit=1)[0] == "crypto_lakehouse":
        path = f"{APPLICATION}src/{path}"
    return (f"{path}.py", f"{path}/__init__.py")


def _closure(name: str, imports: Mapping[str, set[str]]) -> set[str]:
    """Return a file and all of its imports, direct and indirect."""
    found, open_ = {name}, [name]
    while open_:
        more = imports.get(open_.pop(), set()) - found
        found |= more
        open_ += more
    return found


def _names_any(source: str, data: Iterable[str]) -> bool:
    """Return whether a test's source names one of these files, or a role of one of them."""
    for name in data:
        path = PurePosixPath(name)
        role = path.parts[1] if path.parts[0] == "roles" and len(path.parts) > 2 else None
        if path.name in source or (role and re.search(rf"""roles/{role}\b|["']{role}["']""", source)):
            return True
    return False


def _fork(root: Path) -> str:
    for branch in ("origin/main", "main"):
        if _git(root, "rev-parse", "--verify", "--quiet", branch, check=False):
            return _git(root, "merge-base", "HEAD", branch).strip()
    return "HEAD"


def _git(root: Path, *words: str, check: bool = True) -> str:
    return subprocess.run(["git", *words], cwd=root, check=check, capture_output=True, text=True).stdout
