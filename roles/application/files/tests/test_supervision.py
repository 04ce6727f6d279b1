# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord's successor ends exactly the processes of its predecessor; logs are rotated during writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crypto_lakehouse.supervision import Survivor, end_survivors, rotate_all, survivors

URL = "unix:///srv/lakehouse/run/supervisor.sock"
PATIENT = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
INTERRUPTED = (
    "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(7)); print(flush=True); time.sleep(60)"
)
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python code as a program of a supervisord at a URL."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str = "print(flush=True); import time; time.sleep(60)", url: str = URL) -> subprocess.Popen[str]:
        given = {"PATH": os.environ["PATH"], "SUPERVISOR_SERVER_URL": url, "SUPERVISOR_GROUP_NAME": "api"}
        process = subprocess.Popen([sys.executable, "-c", code], env=given, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_only_the_processes_of_this_supervisord_are_found(start: Start) -> None:
    own, _other = start(), start(url=f"{URL}.other")
    assert [(found.pid, found.program) for found in survivors(URL)] == [(own.pid, "api")]


def test_this_process_and_those_above_it_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERVISOR_SERVER_URL", URL)
    assert survivors(URL) == []


def test_each_is_ended_by_the_signal_of_its_program(start: Start) -> None:
    process = start(INTERRUPTED)
    ended = end_in_background(process, {"api": signal.SIGINT})
    assert (ended, process.returncode) == ([process.pid], 7)


def test_one_that_does_not_end_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crypto_lakehouse.supervision.END_LIMIT_S", 0.3)
    process = start(PATIENT)
    assert end_in_background(process, {}) == [process.pid]
    assert process.returncode == -signal.SIGKILL


def end_in_background(process: subprocess.Popen[str], signals: dict[str, int]) -> list[int]:
    """End the survivors; the process is a child of the test, and a zombie counts as ended."""
    found = end_survivors(URL, signals)
    process.wait(10)
    return [survivor.pid for survivor in found]


def test_a_number_that_went_to_another_process_gets_no_signal(start: Start) -> None:
    from crypto_lakehouse.supervision import _send

    process = start()
    _send(Survivor(process.pid, "1", "api"), signal.SIGKILL)
    time.sleep(0.1)
    assert process.poll() is None


def test_a_log_that_has_grown_is_rotated_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    with log.open("a") as writer:
        for number in range(6):
            writer.write(f"{number}" * 100)
            writer.flush()
            rotate_all(tmp_path, 50, 3)
    assert log.read_text() == ""
    found = {path.name: path.read_text()[0] for path in tmp_path.glob("api.log.*")}
    assert found == {"api.log.1": "5", "api.log.2": "4", "api.log.3": "3"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("api.log.*")} == {0o600}


def test_small_logs_and_that_of_supervisord_are_left(tmp_path: Path) -> None:
    (tmp_path / "api.log").write_text("short")
    (tmp_path / "supervisord.log").write_text("long" * 100)
    rotate_all(tmp_path, 50, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["api.log", "supervisord.log"]
