# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a service is away when it is killed: until it runs again and every layer is healthy."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.examine import Installation, examine
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import ProgramState, Supervisor
from tests.benchmarks.deployment import BenchmarkError, Deployment

GIVE_UP_S = 180.0
PAUSE_S = 0.2


def recovery_times(deployment: Deployment) -> Iterator[tuple[str, float]]:
    """Kill one program after the other with SIGKILL; return the name of each and the seconds until all is well."""
    installation = deployment.installation()
    # Whatever an examination imports late is imported before the process loses the rights to read it.
    examine(installation)
    # The database asks for the user that its services run as, and nobody else's health checks would be let in.
    with ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("fork"), initializer=_become, initargs=(deployment.user,)
    ) as pool:
        for program in installation.programs:
            name = str(program["name"])
            yield name, pool.submit(_killed, installation, name).result()


def _become(user: str) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def _killed(installation: Installation, name: str) -> float:
    supervisor = Supervisor(Path(installation.supervisor_socket))
    _wait_for_health(installation, supervisor, name, other_than=0)
    pid = supervisor.states()[name].pid
    os.kill(pid, signal.SIGKILL)
    return _wait_for_health(installation, supervisor, name, other_than=pid)


def _wait_for_health(installation: Installation, supervisor: Supervisor, name: str, other_than: int) -> float:
    """Return the seconds until the program runs as another process and nothing is unhealthy."""
    started_s = time.monotonic()
    found: object = "supervisord does not answer"
    while time.monotonic() - started_s < GIVE_UP_S:
        state = _state(supervisor, name)
        if state and state.state == "RUNNING" and state.pid != other_than:
            report = examine(installation)
            if report.healthy:
                return time.monotonic() - started_s
            found = ", ".join(report.unhealthy)
        elif state:
            found = state
        time.sleep(PAUSE_S)
    raise BenchmarkError(f"{name} has not recovered after {GIVE_UP_S:.0f} s: {found}")


def _state(supervisor: Supervisor, name: str) -> ProgramState | None:
    try:
        return supervisor.states().get(name)
    except HostError:
        return None
