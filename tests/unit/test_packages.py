# SPDX-License-Identifier: GPL-3.0-or-later
"""Dependencies between the packages of `plugins/module_utils` point one way, as docs/architecture.md describes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
MODULE_UTILS = PLUGINS / "module_utils"
COLLECTION = "ansible_collections.crypto_lakehouse.platform."

# Each package, and the packages that it may import.
PACKAGES: dict[str, set[str]] = {
    "shared": set(),
    "engine": {"shared"},
    "secrets": {"shared"},
    "aws": {"engine", "secrets", "shared"},
    "inventory": {"aws", "secrets", "shared"},
    "catalogue": {"inventory", "secrets", "shared"},
    "host": {"secrets", "shared"},
    "kube": {"engine", "shared"},
    "helm": {"kube", "shared"},
    "k3s": {"shared"},
    "k3s_host": {"host", "k3s", "kube", "shared"},
    "cluster": {"aws", "catalogue", "engine", "kube", "secrets", "shared"},
    "health": {"cluster", "host", "kube", "shared"},
    "jobs": {"cluster", "host", "kube", "secrets", "shared"},
}
# The packages inside `kube`, and those of `kube` that they may import.
OF_KUBE: dict[str, set[str]] = {
    "yaml": set(),
    "client": {"yaml"},
    "manifests": {"client", "yaml"},
    "ready": {"client", "manifests"},
    "apply": {"client", "manifests", "ready", "yaml"},
}
# Libraries, and the packages that may import them. `engine` thus has neither Ansible nor an API.
LIBRARIES: dict[str, set[str]] = {"ansible": set(), "boto3": {"aws"}, "botocore": {"aws"}, "kubernetes": {"aws"}}


@cache
def imports(path: Path) -> list[tuple[ast.stmt, str]]:
    """Return every import of a file: its statement and the absolute name of what it imports from."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    folder = path.parent.relative_to(PLUGINS.parent).parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
            start = f"{COLLECTION}{base}" if node.level else ""
            yield from ((node, f"{start}.{node.module or ''}.{alias.name}".strip(".")) for alias in node.names)


def imported_packages(path: Path) -> set[tuple[str, ...]]:
    """Return what a file imports from `module_utils`, as the parts of its names."""
    prefix = f"{COLLECTION}plugins.module_utils."
    return {tuple(name[len(prefix) :].split(".")) for _node, name in imports(path) if name.startswith(prefix)}


def files(package: str) -> list[Path]:
    """Return the files of a package."""
    return sorted((MODULE_UTILS / package).rglob("*.py"))


def test_every_package_is_described() -> None:
    found = {path.relative_to(MODULE_UTILS).parts[0] for path in MODULE_UTILS.rglob("*.py")}
    assert found == set(PACKAGES)
    kube = {path.relative_to(MODULE_UTILS / "kube").parts[0] for path in files("kube")}
    assert kube == set(OF_KUBE)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_only_those_below_it(package: str) -> None:
    for path in files(package):
        used = {parts[0] for parts in imported_packages(path)} - {package}
        assert used <= PACKAGES[package], path


@pytest.mark.parametrize("package", sorted(OF_KUBE))
def test_a_package_of_kube_imports_only_those_below_it(package: str) -> None:
    for path in files(f"kube/{package}"):
        used = {parts[1] for parts in imported_packages(path) if parts[0] == "kube"} - {package}
        assert used <= OF_KUBE[package], path


def test_no_package_depends_on_itself() -> None:
    for table in (PACKAGES, OF_KUBE):
        remaining = dict(table)
        while remaining:
            free = [name for name, needed in remaining.items() if not needed & set(remaining)]
            assert free, f"cycle: {sorted(remaining)}"
            for name in free:
                del remaining[name]


def test_no_kind_of_aws_imports_another() -> None:
    for path in files("aws/kinds"):
        assert not {parts for parts in imported_packages(path) if parts[:2] == ("aws", "kinds")}, path


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_library_is_imported_only_where_it_may_be(library: str) -> None:
    for package in set(PACKAGES) - LIBRARIES[library]:
        for path in files(package):
            assert library not in {name.partition(".")[0] for _node, name in imports(path)}, path


def test_plugins_import_each_other_relatively() -> None:
    for path in sorted(PLUGINS.rglob("*.py")):
        absolute = [node for node, name in imports(path) if name.startswith(COLLECTION) and not _is_relative(node)]
        # `import a.b` for its effect has no relative form.
        assert not [node for node in absolute if isinstance(node, ast.ImportFrom)], path


def _is_relative(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.level > 0
