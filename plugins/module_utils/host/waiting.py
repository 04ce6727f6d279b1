# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until services are healthy, all of a step concurrently, and report causes of failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..shared.probes import run_probe
from .errors import HostError
from .markers import redacted
from .processes import starved_s
from .services import Health
from .supervisor import ProgramState, Supervisor

# A program without a health check must stay up; supervisord reports RUNNING after a second.
PATIENCE_WITHOUT_HEALTH_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Awaited:
    """A service to wait for. `program` is whether supervisord runs it; otherwise another service answers for it."""

    name: str
    program: bool
    health: Health | None


@dataclass(frozen=True)
class Outcome:
    """The result of waiting for one service; `problem` is empty when it is healthy."""

    name: str
    problem: str
    waited_s: float


def wait_for_all(socket: Path, services: Sequence[Awaited], deadline: float) -> list[Outcome]:
    """Wait for every service concurrently, each up to its maximum time and `deadline`.

    Time without a processor does not count: on a busy machine, a program takes longer to start.
    """
    if not services:
        return []
    with ThreadPoolExecutor(len(services)) as pool:
        return list(pool.map(lambda service: _wait_for(Supervisor(socket), service, deadline), services))


def _wait_for(supervisor: Supervisor, service: Awaited, deadline: float) -> Outcome:
    started = time.monotonic()
    patience_s = service.health.patience_s if service.health else PATIENCE_WITHOUT_HEALTH_S
    last_moment, pause_s = min(deadline, started + patience_s), FIRST_PAUSE_S
    while True:
        problem, hopeless, busy_s = _look(supervisor, service)
        waited_s = time.monotonic() - started
        if not problem or hopeless:
            return Outcome(service.name, problem, waited_s)
        if time.monotonic() + pause_s > last_moment + busy_s:
            return Outcome(service.name, f"not healthy after {waited_s:.0f} s: {problem}", waited_s)
        time.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 1.3)


def _look(supervisor: Supervisor, service: Awaited) -> tuple[str, bool, float]:
    """Return the current problem (empty: none), whether waiting is useless, and the seconds without a processor."""
    busy_s = 0.0
    if service.program:
        try:
            state = supervisor.states().get(service.name)
        except HostError as error:
            return str(error), False, busy_s
        busy_s = starved_s(state.pid) if state and state.pid else busy_s
        problem = _program_problem(state)
        if problem:
            return problem, state is None or state.state == "FATAL", busy_s
    if service.health is None:
        return "", False, busy_s
    result = run_probe(service.health.probe)
    return "" if result.healthy else result.detail, False, busy_s


def _program_problem(state: ProgramState | None) -> str:
    """Return the problem of a program. It must run before its port is probed: another process may answer there."""
    if state is None:
        return "supervisord does not know the program"
    if state.state == "RUNNING":
        return ""
    reason = f": {state.reason}" if state.reason else ""
    if state.state == "FATAL":
        return f"the program ended again and again, and supervisord has given up{reason}"
    if state.state == "BACKOFF":
        return f"the program ends right after its start{reason}"
    return f"the program is in state {state.state}{reason}"


def log_tail(path: Path, known: Mapping[str, str], since_byte: int = 0) -> str:
    """Return the last lines of a log without secrets: the lines after `since_byte` if there are any."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            start = since_byte if since_byte < end else 0
            file.seek(max(start, end - LOG_TAIL_BYTES))
            text = file.read(LOG_TAIL_BYTES).decode(errors="replace")
    except OSError as error:
        return f"(no log: {path}: {error.strerror})"
    lines = redacted(text, known).splitlines()[-LOG_TAIL_LINES:]
    return "\n".join(lines) or f"(the log {path} is empty)"


def failure(outcomes: Iterable[Outcome], tail_of: Callable[[str], str], held_back: Sequence[str]) -> str:
    """Return one message for all unhealthy services: cause, end of the log, and services that were not started."""
    parts = []
    for outcome in outcomes:
        tail = tail_of(outcome.name)
        parts.append(f"{outcome.name}: {outcome.problem}" + (f"\n{tail}" if tail else ""))
    if held_back:
        parts.append(f"not started, since they start after it: {', '.join(held_back)}")
    return "\n\n".join(parts)
