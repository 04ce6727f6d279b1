# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that `ansible-galaxy collection build` packs, from a clone as a release is built."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools.sanity import tracked_files

REPOSITORY = Path(__file__).resolve().parents[3]
LARGEST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the files that git tracks, and add leftovers of the tools."""
    tree = tmp_path_factory.mktemp("tree")
    leftovers = [".venv/bin/python", ".cache/x", "plugins/modules/__pycache__/x.pyc", "roles/a/files/.cache/ruff/x"]
    for name in [*tracked_files(), *leftovers]:
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = REPOSITORY / name
        target.write_bytes(source.read_bytes() if source.is_file() and name not in leftovers else b"")
    return tree


@pytest.fixture(scope="module")
def package(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the collection."""
    output = tmp_path_factory.mktemp("package")
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    command = [str(galaxy), "collection", "build", "--output-path", str(output), str(tree)]
    environment = {"ANSIBLE_HOME": str(output / "home"), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    subprocess.run(command, cwd=output, env=environment, check=True, capture_output=True)
    return next(output.glob("crypto_lakehouse-platform-*.tar.gz"))


@pytest.fixture(scope="module")
def packed(package: Path) -> set[str]:
    with tarfile.open(package) as archive:
        return {member.name for member in archive if member.isfile()}


def test_nothing_of_the_development_is_packed(packed: set[str]) -> None:
    unwanted = {".cache", ".ci", ".venv", "__pycache__", "molecule", "tests", "tools"}
    assert {name for name in packed if unwanted & set(Path(name).parts)} == set()
    hidden = {name for name in packed if Path(name).name.startswith(".") or name.endswith((".pyc", ".gz"))}
    assert hidden == {"roles/application/files/.dockerignore"}
    assert packed & {"Makefile", "ansible.cfg", "pyproject.toml", "requirements.txt", "requirements-dev.txt"} == set()


def test_everything_that_a_user_needs_is_packed(tree: Path, packed: set[str]) -> None:
    needed = {"LICENSE", "README.md", "meta/runtime.yml", "meta/ee-requirements.txt", "plugins/callback/progress.py"}
    assert needed - packed == set()
    shipped = {path for folder in ("plugins", "playbooks", "docs") for path in (tree / folder).rglob("*.*")}
    names = {path.relative_to(tree).as_posix() for path in shipped if path.suffix != ".pyc"}
    assert names - packed == set()


def test_the_package_is_small(package: Path) -> None:
    assert package.stat().st_size < LARGEST_BYTES
