# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed processes return: a service by itself, supervisord with the next deployment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    PROGRAMS,
    Lakehouse,
    assert_whole,
    is_gone,
    wait_for_health,
)
from tests.integration.patience import wait_for

RECOVERY_LIMIT_S = 30.0


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_a_killed_service_is_back_and_everything_healthy_within_half_a_minute(
    lakehouse: Lakehouse, program: str
) -> None:
    wait_for_health(lakehouse, "healthy before the kill", 60.0)
    pid = lakehouse.states()[program].pid
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        state = lakehouse.states()[program]
        return state.state == "RUNNING" and state.pid != pid and lakehouse.is_healthy()

    wait_for(is_back, f"{program} back and everything healthy", RECOVERY_LIMIT_S, poll_s=0.5)
    assert_whole(lakehouse)


def edit_software(lakehouse: Lakehouse) -> dict[Path, str | None]:
    """Edit the source, the installed application and a dependency in place; return their former content."""
    software = lakehouse.programs.parent
    (site,) = (software / "venv/lib").glob("python*/site-packages")
    paths = [
        software / "application/src/crypto_lakehouse/cli.py",
        site / "crypto_lakehouse/cli.py",
        site / "crypto_lakehouse/settings.py",
        site / "supervisor/options.py",
        site / "sitecustomize.py",
    ]
    before = {path: content_of(path) for path in paths}
    for path in paths:
        with path.open("a") as file:
            file.write("# by hand\n")
    return before


def content_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def test_a_deployment_heals_a_killed_supervisord_and_edited_software_once(
    lakehouse: Lakehouse,
) -> None:
    (supervisor,) = lakehouse.supervisor_pids()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: is_gone(supervisor), "supervisord is gone")
    assert lakehouse.processes(), "its programs go on without it"
    edited = edit_software(lakehouse)
    drift = lakehouse.run("drift").must_fail()
    assert all(f"program {name}" in drift.output for name in PROGRAMS)
    software = lakehouse.programs.parent
    assert all(f"{path.relative_to(software)}: " in drift.output for path in edited), drift.output
    deploy = lakehouse.deploy("--skip-tags", "verify").must_pass()
    assert "Unpack the distribution's packages" not in deploy.output, "what is intact is not installed again"
    assert {path: content_of(path) for path in edited} == edited
    assert_whole(lakehouse)
    wait_for_health(lakehouse, wait_s=RECOVERY_LIMIT_S)


def test_a_deployment_starts_everything_after_a_loss_of_power(lakehouse: Lakehouse) -> None:
    lakehouse.kill_everything()
    wait_for(lambda: not lakehouse.processes(), "nothing runs")
    lakehouse.deploy("--skip-tags", "verify").must_pass()
    assert_whole(lakehouse)
    wait_for_health(lakehouse, wait_s=RECOVERY_LIMIT_S)
