# SPDX-License-Identifier: GPL-3.0-or-later
"""The role `health` against a real supervisord, Prometheus, Alertmanager and node exporter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.answers import (
    NoAnswerError,
    ask_supervisor,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.host.examine import Installation, examine
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import Check, Report
from tests.integration.patience import HANG_S, is_within, wait_for

PROGRAMS = {"steady": "sleep 600", "victim": "sleep 600", "broken": "sh -c 'exit 3'"}
LIMIT_S = 30.0


@dataclass(frozen=True)
class Supervised:
    """A home with a supervisord in it."""

    home: Path

    @property
    def socket(self) -> str:
        return str(self.home / "run" / "supervisor.sock")

    def processes(self) -> dict[str, dict[str, Any]]:
        return {process["name"]: process for process in ask_supervisor(self.socket, 5.0).processes}

    def wait_for(self, **states: str) -> None:
        begun_s = time.monotonic()
        while is_within(begun_s, LIMIT_S):
            try:
                known = self.processes()
            except NoAnswerError:
                known = {}
            if {name: known.get(name, {}).get("statename") for name in states} == states:
                return
            time.sleep(0.1)
        pytest.fail(f"supervisord does not come to {states}")


@pytest.fixture
def supervised(programs: Path, tmp_path: Path) -> Iterator[Supervised]:
    for folder in ("run", "log"):
        (tmp_path / folder).mkdir()
    sections = [
        f"[unix_http_server]\nfile={tmp_path}/run/supervisor.sock\nchmod=0700",
        f"[supervisord]\nlogfile={tmp_path}/log/supervisord.log\npidfile={tmp_path}/run/supervisord.pid\nnodaemon=true",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        *(
            f"[program:{name}]\ncommand={command}\nautorestart=true\nstartretries=1\nstartsecs=1"
            for name, command in PROGRAMS.items()
        ),
    ]
    configuration = tmp_path / "supervisord.conf"
    configuration.write_text("\n".join(sections) + "\n", encoding="utf-8")
    with subprocess.Popen(
        [programs / "supervisord", "-c", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        found = Supervised(tmp_path)
        try:
            found.wait_for(steady="RUNNING", victim="RUNNING", broken="FATAL")
            yield found
        finally:
            process.terminate()


def of(report: Report, name: str) -> Check:
    (check,) = (check for check in report.checks if check.name == name)
    return check


def test_programs_are_judged_by_what_supervisord_says_of_them(supervised: Supervised) -> None:
    programs = [{"name": name, "log_file": f"{supervised.home}/log/{name}.log"} for name in (*PROGRAMS, "unheard")]
    killed = supervised.processes()["victim"]["pid"]
    os.kill(killed, 9)
    wait_for(lambda: supervised.processes()["victim"]["pid"] not in (0, killed), "the victim is started again")
    supervised.wait_for(victim="RUNNING")
    report = examine(Installation(home=str(supervised.home), programs=programs))
    assert of(report, "supervisor/steady").status == "healthy"
    assert of(report, "supervisor/broken").detail.startswith("FATAL")
    assert of(report, "supervisor/broken").remedy == f"tail -n 50 {supervised.home}/log/broken.log"
    assert of(report, "supervisor/unheard").status == "unhealthy"
    assert of(report, "supervisor/victim").status == "degraded"
    assert "exited once in the last 10 min" in of(report, "supervisor/victim").detail


def play(folder: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role on this machine; its variables are given, the play is the shortest that uses it."""
    playbook = folder / "health.yml"
    tasks = [{"ansible.builtin.import_role": {"name": "crypto_lakehouse.platform.health"}}]
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    collections = Path(__file__).resolve().parents[3] / ".venv" / "collections"
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_HOME": str(folder / "ansible"),
    }
    options = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *options, "-e", json.dumps(variables), *arguments, playbook],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=HANG_S,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["for real", "in check mode"])
def test_the_role_prints_the_table_and_fails_with_the_names(
    supervised: Supervised, prometheus_url: str, alertmanager_url: str, arguments: tuple[str, ...]
) -> None:
    ran = play(
        supervised.home,
        *arguments,
        health_home=str(supervised.home),
        health_prometheus_url=prometheus_url,
        health_checks=[{"service": "alertmanager", "type": "http", "url": f"{alertmanager_url}/-/ready"}],
    )
    assert ran.returncode != 0
    assert "changed=0" in ran.stdout
    task = "TASK [crypto_lakehouse.platform.health : Check that no layer is unhealthy]"
    table, _separator, failure = ran.stdout.partition(task)
    for line in ("STATUS", "unhealthy  supervisor/broken", "healthy    services/alertmanager", "monitoring/targets"):
        assert line in table
    assert "supervisor/broken: FATAL" in failure


def test_the_role_reports_without_failing_when_it_is_told_to(supervised: Supervised) -> None:
    ran = play(supervised.home, health_home=str(supervised.home), health_fail_on_unhealthy=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "unhealthy  supervisor/broken" in ran.stdout


def test_the_role_passes_when_nothing_is_unhealthy(supervised: Supervised, programs: Path) -> None:
    stop: list[str | Path] = [programs / "supervisorctl", "-s", f"unix://{supervised.socket}", "remove", "broken"]
    subprocess.run(stop, capture_output=True, check=True)
    ran = play(supervised.home, health_home=str(supervised.home), health_disk_free_min_percent=0.1)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "All assertions passed" not in ran.stdout
    assert "6 checks: " in ran.stdout


def test_the_role_refuses_a_variable_of_the_wrong_type(tmp_path: Path) -> None:
    ran = play(tmp_path, health_home=str(tmp_path), health_timeout_s="soon")
    assert ran.returncode != 0
    assert "health_timeout_s" in ran.stdout + ran.stderr
