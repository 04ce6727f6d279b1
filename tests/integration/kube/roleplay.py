# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays of one role on this machine, and their results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.patience import HANG_S
from tests.integration.playbook import played

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(os.environ.get("LAKEHOUSE_TEST_PROGRAMS", ROOT / ".cache" / "kube" / "bin"))
"""helm and kubectl, as installed by `make kubernetes`."""
CHARTS = os.environ.get("LAKEHOUSE_TEST_CHARTS")
"""A folder with packages of the real charts, if available."""
HELM = PROGRAMS / "helm"
_RECAP = re.compile(r"^localhost\s*:\s*(.*)$", re.MULTILINE)


def helm_program(assets: Path) -> Path:
    """Return the helm beside the programs of a control plane, otherwise that of `make kubernetes`."""
    return assets / "helm" if (assets / "helm").exists() else HELM


@dataclass(frozen=True)
class Played:
    """A completed play. facts: the requested ones, as far as the play ran."""

    status: int
    output: str
    facts: Mapping[str, Any]

    @property
    def changed(self) -> int:
        found = _RECAP.search(self.output)
        assert found, self.output
        return int(dict(pair.split("=") for pair in found[1].split())["changed"])

    def succeeded(self) -> Played:
        assert self.status == 0, self.output
        return self

    def failed(self) -> Played:
        assert self.status != 0, self.output
        return self


def play(folder: Path, role: str, *arguments: str, facts: tuple[str, ...] = (), **variables: Any) -> Played:
    """Run a role (`name`, or `name:entry`) with its variables. facts: names of the values to return."""
    name, _separator, entry = role.partition(":")
    include = {"name": f"crypto_lakehouse.platform.{name}", **({"tasks_from": entry} if entry else {})}
    return play_tasks(folder, [{"ansible.builtin.include_role": include, "vars": variables}], *arguments, facts=facts)


def play_tasks(folder: Path, tasks: list[dict[str, Any]], *arguments: str, facts: tuple[str, ...] = ()) -> Played:
    """Run tasks."""
    told = folder / "facts.json"
    told.unlink(missing_ok=True)
    known = ", ".join(f"'{fact}': {fact} | default(none)" for fact in facts)
    # In one expression each, so that the quoting of other plays does not matter here.
    tell = {"content": f"{{{{ {{ {known} }} | to_json }}}}", "dest": str(told), "mode": "0600"}
    last = [{"ansible.builtin.copy": tell, "check_mode": False, "changed_when": False, "diff": False}] if facts else []
    run = played(command(folder, [*tasks, *last], *arguments), folder, environment(folder), folder / "output.txt")
    found = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
    return Played(run.exit_code, run.output, found)


def command(folder: Path, tasks: list[dict[str, Any]], *arguments: str) -> list[str]:
    """Write a play of tasks and return the command that runs it, in the folder and with its `environment`."""
    playbook = folder / "play.json"
    plays = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    playbook.write_text(json.dumps(plays), encoding="utf-8")
    program = str(Path(sys.executable).parent / "ansible-playbook")
    interpreter = f"ansible_python_interpreter={sys.executable}"
    return [program, "-i", "localhost,", "-e", interpreter, *arguments, str(playbook)]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a play: without the user's clusters, Helm and earlier downloads."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("K8S_AUTH_", "HELM_"))}
    return {
        **inherited,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv" / "collections"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_HOME": str(folder / "ansible"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        # The user's own Helm, with its plugins and repositories, is not tested.
        **{f"HELM_{kind}_HOME": str(folder / "helm") for kind in ("CACHE", "CONFIG", "DATA")},
    }


def helm(*arguments: str | Path) -> str:
    """Run Helm and return its output."""
    if not os.access(HELM, os.X_OK):
        raise AssertionError(f"{HELM} is not there: run `make kubernetes`")
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
