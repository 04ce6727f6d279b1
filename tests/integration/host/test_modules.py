# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules in Ansible: their output at the highest verbosity, and in check mode."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host import store
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.markers import HIDDEN_LINE
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import Tree
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets import values as secret_values
from tests.integration.host.conftest import Installation
from tests.integration.patience import HANG_S

COLLECTIONS = Path(store.__file__).parents[6]
GIVEN = "https://hooks.example.org/T00/B00/given-by-the-inventory"
SECRETS = """
        secrets:
          - {name: database_password, kind: password, services: [database]}
          - {name: database_password_bcrypt, kind: bcrypt, of: database_password}
          - {name: slack_url, kind: given, optional: true}
        values:
          slack_url: "{{ slack_url | default('') }}"
        rotate: "{{ rotate | default(false) }}"
        files:
          - {path: "{{ home }}/secrets/database/database_password", secret: database_password}
"""
PLAYBOOK = f"""
- hosts: all
  gather_facts: false
  vars:
    ansible_connection: local
  tasks:
    - crypto_lakehouse.platform.secret_store:
        path: "{{{{ home }}}}/secrets/store.json"{SECRETS}
      register: secrets
    - crypto_lakehouse.platform.host_files:
        directories:
          - {{path: "{{{{ home }}}}", mode: "0750"}}
        files: "{{{{ files }}}}"
        secrets: "{{{{ home }}}}/secrets/store.json"
        changed_secrets: "{{{{ secrets.changed_secrets }}}}"
        prune: ["{{{{ home }}}}/etc/pruned"]
      register: files_result
    - crypto_lakehouse.platform.host_services:
        home: "{{{{ home }}}}"
        bin: "{{{{ bin }}}}"
        programs: "{{{{ programs }}}}"
        health: "{{{{ health }}}}"
        environment: {{HTTPS_PROXY: "http://user:proxy-password@proxy:3128"}}
        changed_paths: "{{{{ secrets.changed_paths + files_result.changed_paths }}}}"
        wait_timeout_s: 120
      register: services
    - ansible.builtin.copy:
        dest: "{{{{ results }}}}"
        mode: "0600"
        content: "{{{{ {{'secrets': secrets, 'files': files_result, 'services': services}} | to_json }}}}"
      check_mode: false
      diff: false
"""
# Replaces the system's log, which not every machine has.
LOGGER = """
import os
import syslog


def write(*words):
    with open(os.environ["TEST_LOG"], "a") as file:
        print(*words, file=file)


syslog.openlog = syslog.syslog = write
"""


class Playbook:
    """Runs the playbook above on an installation and stores its whole output and log."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation, self.folder = installation, folder
        self.home = installation.home.path
        self.log = folder / "log"
        self.results = folder / "results.json"
        self.printed = ""
        (folder / "sitecustomize.py").write_text(LOGGER)
        (folder / "playbook.yml").write_text(PLAYBOOK)
        self.log.touch()
        self.conf = installation.home.wanted_program("api").read_text()

    def variables(self) -> dict[str, Any]:
        marked = "password=${secret_value.database_password}\nurl=http://u:${secret_value.database_password|url}@h\n"
        files = [
            {"path": str(self.home / "etc/api.settings"), "content": f"level=info\n{marked}"},
            {"path": str(self.home / "etc/hook.json"), "content": '{"hook": ${secret_value.database_password|json}}'},
            {"path": str(self.installation.home.wanted_program("api")), "content": self.conf},
        ]
        programs = [
            {
                "name": program.name,
                "directory": str(program.directory),
                "log_file": str(program.log_file),
                "paths": [str(path) for path in program.paths],
                "start_order": program.start_order,
                "command": ["unused"],
                "environment_file": None,
            }
            for program in self.installation.programs.values()
        ]
        health = [
            {
                "service": name,
                "type": "http",
                "url": check.probe.url,
                "start_period_s": 60,
                "interval_s": 1,
                "retries": 3,
            }
            for name, check in self.installation.health.items()
        ]
        python = str((self.installation.home.bin / "supervisord").resolve().with_name("python"))
        return {
            "home": str(self.home),
            "bin": str(self.installation.home.bin),
            "results": str(self.results),
            "files": files,
            "programs": programs,
            "health": health,
            "ansible_python_interpreter": python,
        }

    def run(self, *options: str, expect_failure: bool = False, **variables: object) -> dict[str, Any]:
        self.results.unlink(missing_ok=True)
        extra = self.folder / "variables.json"
        extra.write_text(json.dumps({**self.variables(), **variables}))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_INJECT_INVOCATION": "1",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.folder),
            "TEST_LOG": str(self.log),
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [str(program), "-i", "host,", "-vvv", "--diff", "-e", f"@{extra}", *options, "playbook.yml"]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=HANG_S
        )
        self.printed += done.stdout + done.stderr
        assert (done.returncode != 0) == expect_failure, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(self.results.read_text()) if self.results.exists() else {}
        return found

    @staticmethod
    def differences(predicted: dict[str, Any], done: dict[str, Any]) -> list[str]:
        """Return the differences between check mode and the real run.

        The current state of services cannot be predicted.
        """
        pairs = [(name, word) for name in done for word in done[name] if word not in ("services", "invocation")]
        return [f"{name}.{word}" for name, word in pairs if predicted[name].get(word) != done[name][word]]

    def known(self) -> set[str]:
        path = self.home / "secrets/store.json"
        return secret_values.hidden_values(store.read_store(Tree(path.parent), path))


@pytest.fixture
def playbook(installation: Installation, free_port: Callable[[], int], tmp_path: Path) -> Playbook:
    installation.add("api", free_port())
    folder = tmp_path / "controller"
    folder.mkdir()
    return Playbook(installation, folder)


def test_no_secret_is_ever_printed_or_logged(playbook: Playbook) -> None:
    seen = set()
    playbook.run("--check", slack_url=GIVEN)
    playbook.run(slack_url=GIVEN)
    seen |= playbook.known()
    settings = playbook.home / "etc/api.settings"
    settings.write_text(settings.read_text().replace("level=info", "level=debug") + "password = typed-in-by-hand\n")
    pruned = playbook.home / "etc/pruned"
    pruned.mkdir()
    (pruned / "old.conf").write_text(settings.read_text())
    playbook.run("--check", rotate=True)
    playbook.run(rotate=True)
    seen |= playbook.known()
    playbook.run("--check")
    assert playbook.run()["secrets"]["changed"] is False
    # A program that prints its whole configuration and ends is the worst case for a log.
    playbook.conf = "".join(
        f"command=/bin/sh -c 'cat {settings}; exit 1'\n" if line.startswith("command=") else line
        for line in playbook.conf.splitlines(keepends=True)
    )
    playbook.run(expect_failure=True)
    assert "password=${secret_value.database_password}" in playbook.printed
    for wrong in ({"slack_url": "tiny"}, {"slack_url": "two\nlines of it"}):
        playbook.run(expect_failure=True, **wrong)
        seen |= set(wrong.values())
    logged = playbook.log.read_text()
    for name in ("secret_store", "host_files", "host_services"):
        assert f"ansible-crypto_lakehouse.platform.{name} " in logged
    assert "values=NOT_LOGGING_PARAMETER" in logged
    assert "invocation" in playbook.printed
    assert GIVEN in seen
    assert len(seen) >= 6
    for value in {*seen, "proxy-password", "typed-in-by-hand"}:
        for form in (
            value,
            urllib.parse.quote(value, safe=""),
            json.dumps(value),
            base64.b64encode(value.encode()).decode(),
        ):
            assert form not in playbook.printed
            assert form not in logged


def test_check_mode_on_an_empty_machine_predicts_what_the_run_does(playbook: Playbook) -> None:
    daemon = (playbook.installation.home.wanted / "supervisord.conf").read_text()
    shutil.rmtree(playbook.home)
    playbook.home.mkdir(mode=0o750)
    files = [
        *playbook.variables()["files"],
        {"path": str(playbook.installation.home.wanted / "supervisord.conf"), "content": daemon},
        {"path": str(playbook.home / "log/.keep"), "content": ""},
    ]
    predicted = playbook.run("--check", files=files)
    assert not list(playbook.home.iterdir())
    done = playbook.run(files=files)
    assert playbook.differences(predicted, done) == []
    assert done["services"]["started"] == ["api"]
    assert not any(result["changed"] for result in playbook.run(files=files).values())


def test_a_deployed_host_shows_no_change_and_after_an_edit_that_edit_alone(playbook: Playbook) -> None:
    playbook.run()
    results = playbook.run("--check")
    assert [results[name]["changed"] for name in ("secrets", "files", "services")] == [False, False, False]
    settings = playbook.home / "etc/api.settings"
    settings.write_text(settings.read_text().replace("level=info", "level=debug"))
    predicted, done = playbook.run("--check"), playbook.run()
    assert predicted["files"]["diff"] == done["files"]["diff"]
    (change,) = done["files"]["diff"]
    # The file contains a secret as well: lines outside of every description are not shown.
    assert change["before"] == change["after"].replace("level=info", HIDDEN_LINE)
    assert predicted["services"]["restarted"] == done["services"]["restarted"] == ["api"]


def test_rotation_is_predicted_down_to_the_restart(playbook: Playbook) -> None:
    playbook.run()
    predicted, done = playbook.run("--check", rotate=True), playbook.run(rotate=True)
    assert playbook.differences(predicted, done) == []
    assert done["services"]["restarted"] == ["api"]
