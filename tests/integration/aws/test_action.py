# SPDX-License-Identifier: GPL-3.0-or-later
"""A real playbook gets the same result from the module inside of Ansible's process and outside of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.aws.emulator import Emulator
from tests.integration.patience import HANG_S

ROOT = Path(__file__).resolve().parents[3]
MODULE = "crypto_lakehouse.platform.aws_stack"
PASSWORD = "hunter-2-of-the-test"
GROUP = {"kind": "log_group", "name": "main", "properties": {"name": "/{{ stack }}", "retention_in_days": 30}}
SECRET = {
    "kind": "secretsmanager_secret",
    "name": "database",
    "properties": {"name": "{{ stack }}-database", "value": "${secret.password}"},
}


def task(register: str, **arguments: Any) -> dict[str, Any]:
    """Return a task of a stack of the name `stack`."""
    given = {"name": "{{ stack }}", "environment": "development", "resources": [GROUP], **arguments}
    return {"name": register, MODULE: given, "register": register, "ignore_errors": True}


def playbook(interpreter: str, result: Path) -> list[dict[str, Any]]:
    """Return a play that runs the module in every way, and writes the results."""
    secret = {"resources": [GROUP, SECRET], "secret_values": {"password": PASSWORD}}
    tasks = [
        {**task("in_check_mode"), "check_mode": True},
        {**task("in_a_loop"), "loop": ["one", "two"], "loop_control": {"loop_var": "stack"}},
        task("planned", state="planned", plan_path="plans/main.json", **secret),
        task("applied", plan_path="plans/main.json", **secret),
        {**task("with_the_difference", **secret), "diff": True},
        task("misspelled", resorces=[]),
        task("not_a_map", secret_values=PASSWORD),
        task("of_no_kind", resources=[{"kind": "log_grup", "name": "main"}]),
        {**task("in_the_background"), "async": 60, "poll": 1},
        {**task("in_an_environment"), "environment": {"AWS_MAX_ATTEMPTS": "2"}},
        task("unanswered", endpoint_url="http://127.0.0.1:9"),
    ]
    content = {item["register"]: "{{ " + item["register"] + " }}" for item in tasks}
    keep = {"copy": {"content": "{{ results | to_json }}", "dest": str(result), "mode": "0600"}}
    return [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": interpreter, "stack": "lake"},
            "module_defaults": {"group/crypto_lakehouse.platform.aws": {"region": "eu-central-1"}},
            "tasks": [*tasks, {**keep, "vars": {"results": content}}],
        }
    ]


def run(account: Emulator, folder: Path, interpreter: str) -> tuple[dict[str, Any], str]:
    """Return the results of the tasks, and the whole output."""
    folder.mkdir()
    (folder / "play.yml").write_text(yaml.safe_dump(playbook(interpreter, folder / "results.json")), "utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-vvv", folder / "play.yml"],
        cwd=ROOT,
        env={
            **account.variables(folder),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "ansible"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    results: dict[str, Any] = json.loads((folder / "results.json").read_text("utf-8"))
    assert PASSWORD not in json.dumps(results)
    return results, done.stdout


@pytest.mark.emulators("moto")  # ministack drops the id of the version that a secret is created with.
def test_a_playbook_gets_the_same_from_inside_and_from_beside(
    emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # The test's folder has a long name: Ansible creates a socket in its home, whose path is limited to 108 characters.
    tmp_path = tmp_path_factory.mktemp("play")
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', "utf-8")
    other.chmod(0o755)
    inside, told_inside = run(emulator, tmp_path / "inside", "{{ ansible_playbook_python }}")
    beside, told_beside = run(emulator.server.account(), tmp_path / "beside", str(other))

    # One for each task and item: in the background, or with its own environment, it always runs as a module.
    modules = [len(re.findall(r"Using module file .*/aws_stack\.py", text)) for text in (told_inside, told_beside)]
    assert modules == [2, len(beside) + 1]
    assert {name: told(result) for name, result in inside.items()} == {
        name: told(result) for name, result in beside.items()
    }
    expected = {"misspelled", "not_a_map", "of_no_kind", "unanswered"}
    assert {name for name, result in inside.items() if result["failed"]} == expected
    assert [item["changed"] for item in inside["in_a_loop"]["results"]] == [True, True]
    assert inside["applied"]["summary"] == inside["planned"]["summary"]
    assert not inside["with_the_difference"]["changed"], inside["with_the_difference"]["plan_text"]
    for place in ("inside", "beside"):
        plan = tmp_path / place / "plans" / "main.json"
        assert plan.stat().st_mode & 0o777 == 0o600


_CHANCE = {"plan", "outputs", "resources", "report_text", "left", "account_id", "api_calls", "ansible_job_id"}
_OF_THE_BACKGROUND = {"results_file", "started", "finished", "stdout", "stdout_lines", "stderr", "stderr_lines"}


def told(result: dict[str, Any]) -> dict[str, Any]:
    """Return the texts and the keys of a result."""
    shown = {name: value for name, value in result.items() if name not in _CHANCE | _OF_THE_BACKGROUND | {"results"}}
    items = [told(item) for item in result.get("results", [])]
    return {**shown, "keys": sorted(result), "items": items}
