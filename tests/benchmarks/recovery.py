# SPDX-License-Identifier: GPL-3.0-or-later
"""Downtime of a killed service: until it runs again and every layer is healthy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.host.examine import Installation, examine
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import ProgramState, Supervisor
from tests.benchmarks.deployment import BenchmarkError, Deployment

GIVE_UP_S = 180.0
PAUSE_S = 0.2
# Some effects of a killed service appear later, since the API caches checks for seconds.
SETTLED_S = 8.0


def recovery_times(deployment: Deployment) -> Iterator[tuple[str, float]]:
    """Kill one program after the other with SIGKILL; return the name of each and the seconds until all are healthy."""
    installation = deployment.installation()
    installation = replace(installation, health=[as_user(check, deployment.user) for check in installation.health])
    supervisor = Supervisor(deployment.socket)
    for program in installation.programs:
        name = str(program["name"])
        _wait_for_health(installation, supervisor, name, other_than=0)
        pid = supervisor.states()[name].pid
        os.kill(pid, signal.SIGKILL)
        yield name, _wait_for_health(installation, supervisor, name, other_than=pid)


def as_user(check: Mapping[str, Any], user: str) -> dict[str, Any]:
    """Return the check with its command run as `user`: the database accepts only the user of its services."""
    if os.geteuid() != 0 or not check.get("command"):
        return dict(check)
    identity = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return {**check, "command": ["setpriv", *identity, "--", *check["command"]]}


def _wait_for_health(installation: Installation, supervisor: Supervisor, name: str, other_than: int) -> float:
    """Return the seconds until the program runs as another process and all checks pass, then or soon after."""
    started_s = time.monotonic()
    well_since_s: float | None = None
    found = ""
    while time.monotonic() - started_s < GIVE_UP_S:
        found = _trouble(installation, supervisor, name, other_than)
        now_s = time.monotonic()
        well_since_s = None if found else well_since_s or now_s
        if well_since_s and now_s - well_since_s >= SETTLED_S:
            return well_since_s - started_s
        time.sleep(PAUSE_S)
    raise BenchmarkError(f"{name} has not recovered after {GIVE_UP_S:.0f} s: {found}")


def _trouble(installation: Installation, supervisor: Supervisor, name: str, other_than: int) -> str:
    """Return the failed checks, or nothing."""
    state = _state(supervisor, name)
    if state is None:
        return "supervisord does not answer"
    if state.state != "RUNNING" or state.pid == other_than:
        return f"{state.state}, process {state.pid}"
    return ", ".join(examine(installation).unhealthy)


def _state(supervisor: Supervisor, name: str) -> ProgramState | None:
    try:
        return supervisor.states().get(name)
    except HostError:
        return None
