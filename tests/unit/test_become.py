# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks become the service user without a login shell, and modules reach the user without a file on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLAY = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "become": True,
        "become_method": "crypto_lakehouse.platform.service_user",
        "become_user": "jo",
        "vars": {"lakehouse_su_exe": "{{ su }}", "ansible_pipelining": True},
        "tasks": [{"ansible.builtin.command": {"argv": ["echo", "hunter2"]}, "register": "done"}],
    }
]
# The arguments of `su` are written to a file; the command of the shell runs as the user of the test.
SU = """#!/bin/sh
echo "$@" >> "$0.called"
exec /bin/sh -c "$5"
"""


@pytest.fixture
def calls(tmp_path: Path) -> list[str]:
    """Return the arguments of `su` in a play with one module."""
    su, play = tmp_path / "su", tmp_path / "play.yml"
    su.write_text(SU)
    su.chmod(0o755)
    play.write_text(json.dumps(PLAY))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", str(play)]
    variables = json.dumps({"su": str(su), "ansible_python_interpreter": sys.executable})
    done = subprocess.run([*command, "-e", variables], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(f"{su}.called").read_text().splitlines()


def test_a_module_is_one_call_of_su_and_no_file(calls: list[str]) -> None:
    (call,) = calls
    assert call.startswith("-s /bin/sh jo -c ")
    assert "ansible-tmp" not in call
    assert "AnsiballZ" not in call
