# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that every task process needs are loaded before Ansible forks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "ansible_collections.crypto_lakehouse.platform.plugins"
PREPARED = f"""
import gc, os, sys
from ansible.plugins.loader import filter_loader, init_plugin_loader
init_plugin_loader([sys.argv[1]])
import {PLUGINS}.{{module}}
{{call}}
assert gc.get_freeze_count() > 10_000, gc.get_freeze_count()
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
before = set(sys.modules)
assert filter_loader.get("regex_replace").j2_function("1", "1", "2") == "2"
os._exit(len(set(sys.modules) - before))
"""


@pytest.mark.parametrize(
    ("module", "call"),
    [("action.preflight", ""), ("plugin_utils.forks", f"{PLUGINS}.plugin_utils.forks.prepare()")],
)
def test_a_forked_process_has_the_filters_already(module: str, call: str) -> None:
    code = PREPARED.format(module=module, call=call)
    subprocess.run([sys.executable, "-c", code, str(ROOT / ".venv" / "collections")], check=True)
