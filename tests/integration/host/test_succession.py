# SPDX-License-Identifier: GPL-3.0-or-later
"""A killed supervisord leaves its programs running, and its successor adopts them without a second copy."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    read_process,
    read_processes,
    supervised,
    wait_until,
    with_descendants,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.probes import run_probe
from tests.integration.host.conftest import Installation

RECOVERY_LIMIT_S = 30.0


@pytest.fixture
def deployed(installation: Installation, free_port: object) -> Iterator[Installation]:
    """Return two programs, one with a child that ignores TERM."""
    assert callable(free_port)
    installation.add("store", free_port(), "--child")
    installation.add("api", free_port(), order=1)
    installation.deploy()
    yield installation
    installation.operator().stopped(check_mode=False, absent=True)


def kill_supervisor(one: Installation) -> int:
    (pid,) = one.supervisor_pids()
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: read_process(pid) is None, 10)
    return pid


def start_successor(one: Installation) -> None:
    """Run the command of systemd or cron, with its own environment."""
    command = ["setsid", "--fork", str(one.home.start_script)]
    subprocess.run(
        command, env={"PATH": "/usr/bin:/bin"}, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, check=True
    )


def processes(one: Installation) -> dict[int, str]:
    return supervised(one.home.socket, read_processes())


def is_whole(one: Installation) -> bool:
    """Return whether one supervisord runs and owns all programs, and every program is healthy."""
    pids = one.supervisor_pids()
    own = with_descendants(pids, read_processes())
    return (
        len(pids) == 1
        and set(processes(one)) <= own
        and {state.state for state in one.states().values()} == {"RUNNING"}
        and all(run_probe(health.probe).healthy for health in one.health.values())
    )


def test_programs_outlive_a_killed_supervisord_and_go_on_writing_their_logs(deployed: Installation) -> None:
    before = deployed.pids()
    kill_supervisor(deployed)
    assert all(run_probe(health.probe).healthy for health in deployed.health.values())
    log = deployed.programs["store"].log_file
    size = log.stat().st_size
    os.kill(before["store"], signal.SIGTERM)
    assert wait_until(lambda: read_process(before["store"]) is None, 10)
    assert log.stat().st_size >= size
    assert read_process(before["api"]) is not None


def test_a_successor_ends_what_is_left_and_nothing_runs_twice(deployed: Installation) -> None:
    left = set(processes(deployed))
    assert len(left) > len(deployed.programs), "the child of a program is one of them"
    kill_supervisor(deployed)
    start_successor(deployed)
    assert wait_until(lambda: bool(deployed.supervisor_pids()) and is_whole(deployed), RECOVERY_LIMIT_S)
    assert not left & set(processes(deployed))
    assert (
        "ended processes of an earlier supervisord: api, store"
        in (deployed.home.path / "log/supervisord.log").read_text()
    )
    # The state that a deployment finds is as described.
    assert not deployed.deploy(check_mode=True).changed


def test_a_second_kill_during_the_recovery_converges(deployed: Installation) -> None:
    for _round in range(2):
        kill_supervisor(deployed)
        start_successor(deployed)
        assert wait_until(lambda: len(deployed.supervisor_pids()) == 1, 10)
    assert wait_until(lambda: is_whole(deployed), RECOVERY_LIMIT_S)


def test_a_successor_beside_a_supervisord_that_runs_ends_and_touches_nothing(deployed: Installation) -> None:
    before = deployed.pids()
    done = subprocess.run([deployed.home.start_script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0
    assert deployed.pids() == before
    assert is_whole(deployed)
