# SPDX-License-Identifier: GPL-3.0-or-later
"""Code of the collection is compiled once, not in every run of Ansible."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode import Finder

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "ansible_collections.crypto_lakehouse.platform.plugins"
# Collections are found as by `ansible-playbook`; the module itself is loaded before Ansible's finder exists.
IN_ANSIBLE = f"""
import sys
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
_AnsibleCollectionFinder(paths=[sys.argv[1]])._install()
import {PLUGINS}.plugin_utils.bytecode
import {PLUGINS}.plugin_utils.bytecode
from {PLUGINS}.module_utils.kube.client.paths import check_path
from {PLUGINS}.module_utils.kube.manifests import quantities
print(sum(type(one).__name__ == "Finder" for one in sys.meta_path))
"""


def test_bytecode_of_what_ansible_imports_is_kept(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ran = subprocess.run(
        [sys.executable, "-c", IN_ANSIBLE, str(ROOT / ".venv" / "collections")],
        env={**environment, "PYTHONPYCACHEPREFIX": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    kept = {path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc") if "plugins" in path.parts}
    assert {"paths", "quantities"} <= kept
    assert "bytecode" not in kept
    assert ran.stdout == "1\n"


def test_a_file_of_the_collection_is_loaded_by_pythons_own_loader() -> None:
    folder = ROOT / "plugins/module_utils/shared"
    spec = Finder().find_spec(f"{PLUGINS}.module_utils.shared.version", ["/nonexistent", str(folder)])
    assert spec is not None
    assert isinstance(spec.loader, SourceFileLoader)
    assert spec.origin == str(folder / "version.py")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        (f"{PLUGINS}.module_utils.kube", "plugins/module_utils"),
        (f"{PLUGINS}.module_utils.nothing", "plugins/module_utils"),
        (f"{PLUGINS}.action.preflight", "plugins/action"),
        ("ansible_collections.another.collection.plugins.module_utils.version", "plugins/module_utils"),
        ("version", "plugins/module_utils"),
    ],
)
def test_everything_else_is_left_to_ansible(name: str, folder: str) -> None:
    assert Finder().find_spec(name, [str(ROOT / folder)]) is None


@pytest.mark.parametrize("action", sorted((ROOT / "plugins" / "action").glob("*.py")), ids=lambda path: path.stem)
def test_actions_keep_the_bytecode_of_all_that_they_import(action: Path) -> None:
    own = re.compile(rf"import {PLUGINS}\.|from \.+\w")
    lines = [line for line in action.read_text("utf-8").splitlines() if own.match(line)]
    # A module without imports from the collection has no bytecode to keep.
    assert not lines or lines[0].split()[:2] == ["import", f"{PLUGINS}.plugin_utils.bytecode"]
