# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions of K3s are pure: they read no clock, file, process or network, and import the standard library alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import model

FOLDER = Path(model.__file__).parent
PURE = {
    "__future__",
    "base64",
    "binascii",
    "collections",
    "dataclasses",
    "difflib",
    "hashlib",
    "hmac",
    "ipaddress",
    "itertools",
    "json",
    "pathlib",
    "re",
    "types",
    "typing",
}


def imported(path: Path) -> set[str]:
    """Return the names of imported modules and of imports from `pathlib`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"pathlib.{alias.name}" for alias in node.names}
            found |= names if node.module == "pathlib" else {"." * node.level + node.module}
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_modules_import_only_pure_ones(path: Path) -> None:
    for name in imported(path):
        own = name in {"..shared.nearest", "..shared.problem"} or (name.startswith(".") and not name.startswith(".."))
        assert own or name.partition(".")[0] in PURE, name
        assert not name.startswith("pathlib.") or name == "pathlib.PurePosixPath"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_modules_open_and_print_nothing(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}
