# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible packs a module once, not in each of its runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - crypto_lakehouse.platform.preflight:
        verb: health
        source: ROOT/roles/catalogue
        application: ROOT/roles/application/files
        host: ROOT/roles/host/files
        packages: []
        postgresql_major: 17
      ignore_errors: true
    - crypto_lakehouse.platform.host_files:
        root: HOME
        files: []
"""


def _packings(tmp_path: Path, *, utilities: bool = False) -> int:
    """Return how many times Ansible packed a module in a run."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.replace("ROOT", str(ROOT)).replace("HOME", str(tmp_path)))
    if utilities:
        (tmp_path / "module_utils").mkdir()
        (tmp_path / "module_utils/mine.py").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv/collections"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_DEBUG": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(playbook)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr
    return ran.stdout.count("ANSIBALLZ: Creating module")


def test_ansible_packs_a_module_in_the_first_run_alone(tmp_path: Path) -> None:
    assert _packings(tmp_path) == 1
    assert _packings(tmp_path) == 0
    # Files of the user may replace Ansible's own.
    assert _packings(tmp_path, utilities=True) == 1
