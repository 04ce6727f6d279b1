# SPDX-License-Identifier: GPL-3.0-or-later
"""The time at which a killed service counts as recovered, on a fake clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.host.examine import Installation
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import ProgramState, Supervisor
from tests.benchmarks import recovery
from tests.benchmarks.deployment import BenchmarkError

KILLED, NEXT = 7, 8


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[tuple[str, int, list[str]]]], float]:
    """Return a function that measures a recovery whose moments, one second each, are state, process and trouble."""

    def measured(moments: Iterator[tuple[str, int, list[str]]]) -> float:
        clock = SimpleNamespace(now_s=100.0)
        moment: dict[str, Any] = {}

        def sleep(_seconds: float) -> None:
            clock.now_s += 1.0

        def states(_supervisor: Supervisor) -> dict[str, ProgramState]:
            word, pid, moment["unhealthy"] = next(moments)
            return {"api": ProgramState("api", word, pid, 1, "")}

        monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=lambda: clock.now_s, sleep=sleep))
        monkeypatch.setattr(Supervisor, "states", states)
        monkeypatch.setattr(recovery, "examine", lambda _installation: SimpleNamespace(unhealthy=moment["unhealthy"]))
        return recovery._wait_for_health(Installation("/x"), Supervisor(Path("/x")), "api", KILLED)

    return measured


def forever(*first: tuple[str, int, list[str]]) -> Iterator[tuple[str, int, list[str]]]:
    yield from first
    while True:
        yield first[-1]


def test_one_that_stays_ill_is_given_up_and_its_trouble_named(play: Callable[..., float]) -> None:
    with pytest.raises(BenchmarkError, match="api has not recovered after 180 s: data/database, services/api"):
        play(forever(("RUNNING", NEXT, ["data/database", "services/api"])))


def test_the_process_that_was_killed_counts_for_nothing(play: Callable[..., float]) -> None:
    assert play(forever(("RUNNING", KILLED, []), ("STARTING", NEXT, []), ("RUNNING", NEXT, []))) == 2


def test_health_that_does_not_last_is_no_health(play: Callable[..., float]) -> None:
    well: tuple[str, int, list[str]] = ("RUNNING", NEXT, [])
    ill = ("RUNNING", NEXT, ["services/worker"])
    assert play(forever(well, well, ill, ill, well)) == 4


@pytest.mark.parametrize(("effective_user", "prefixed"), [(0, True), (1000, False)])
def test_the_database_is_asked_as_the_user_of_the_services(
    monkeypatch: pytest.MonkeyPatch, effective_user: int, prefixed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: effective_user)
    command = recovery.as_user({"service": "database", "command": ["psql", "-l"]}, "lake")["command"]
    assert command[-2:] == ["psql", "-l"]
    assert (command[:2] == ["setpriv", "--reuid=lake"]) is prefixed
    assert recovery.as_user({"service": "api", "type": "http"}, "lake") == {"service": "api", "type": "http"}
