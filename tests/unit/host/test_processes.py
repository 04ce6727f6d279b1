# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    Process,
    environment_of,
    is_same,
    read_process,
    read_processes,
    starved_s,
    stop_processes,
    supervised,
    supervisors,
    with_ancestors,
    with_descendants,
)

SOCKET = Path("/home/run/supervisor.sock")
CONFIG = Path("/home/run/supervisor/supervisord.conf")


def process(pid: int, parent: int = 1, *command: str) -> Process:
    return Process(pid, parent, pid, 1000, 0, command or ("sleep",))


class FakeProc:
    """A fake /proc with chosen processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self, pid: int, name: str = "x", state: str = "S", parent: int = 1, environment: dict[str, str] | None = None
    ) -> None:
        folder = self.root / str(pid)
        folder.mkdir()
        fields = [state, str(parent), str(pid), *["0"] * 16, str(pid * 100), "0"]
        (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        (folder / "cmdline").write_bytes(b"prog\0--flag\0")
        entries = "".join(f"{key}={value}\0" for key, value in (environment or {}).items())
        (folder / "environ").write_text(entries)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


@pytest.fixture
def run() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    begun: list[subprocess.Popen[bytes]] = []

    def begin(script: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", f"import signal, time\n{script}\nprint(flush=True)\ntime.sleep(600)"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        begun.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child

    yield begin
    for child in begun:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def test_a_process_that_is_gone_or_only_waits_to_be_collected_does_not_count(proc: FakeProc) -> None:
    proc.add(10, state="Z")
    assert read_process(10, proc.root) is None
    assert read_process(11, proc.root) is None
    assert read_processes(proc.root) == {}


@pytest.mark.parametrize("name", ["plain", "with space", "a) S 99 (b", "(", ")"])
def test_a_name_cannot_be_taken_for_fields(proc: FakeProc, name: str) -> None:
    proc.add(10, name, parent=7)
    assert read_process(10, proc.root) == Process(10, 7, 10, os.getuid(), 1000, ("prog", "--flag"))


def test_this_process_is_read_as_it_is() -> None:
    me = read_process(os.getpid())
    assert me is not None
    assert (me.parent, me.group, me.uid) == (os.getppid(), os.getpgrp(), os.geteuid())
    assert environment_of(os.getpid())["PATH"]
    assert environment_of(0) == {}


def test_descendants_and_ancestors_follow_parents_even_through_a_cycle() -> None:
    there = {pid: process(pid, parent) for pid, parent in ((1, 0), (2, 1), (3, 2), (4, 2), (9, 1), (7, 8), (8, 7))}
    assert with_descendants([2, 99], there) == {2, 3, 4}
    assert with_ancestors(3, there) == {3, 2, 1}
    assert with_ancestors(7, there) == {7, 8}


def test_only_a_supervisord_with_this_very_configuration_is_ours() -> None:
    there = {
        1: process(1, 0, "/usr/bin/python3", "/x/bin/supervisord", "--configuration", str(CONFIG)),
        2: process(2, 1, "/x/bin/supervisord", "-c", str(CONFIG)),
        3: process(3, 1, "/usr/bin/python3", "/x/bin/supervisord", "--configuration", "/other.conf"),
        4: process(4, 1, "vi", str(CONFIG)),
        5: process(5, 1, "/usr/bin/python3", "/x/bin/supervisorctl", "-c", str(CONFIG)),
    }
    assert supervisors(CONFIG, there) == [1, 2]


def test_supervised_processes_are_told_by_their_socket_and_not_by_another_one(proc: FakeProc) -> None:
    ours = {"SUPERVISOR_SERVER_URL": f"unix://{SOCKET}", "SUPERVISOR_GROUP_NAME": "api"}
    proc.add(10, environment=ours)
    proc.add(11, environment={**ours, "SUPERVISOR_SERVER_URL": "unix:///other.sock"})
    proc.add(12)
    assert supervised(SOCKET, read_processes(proc.root), proc.root) == {10: "api"}


def test_a_deployment_that_runs_under_the_supervisord_itself_is_not_its_own_orphan(proc: FakeProc) -> None:
    ours = {"SUPERVISOR_SERVER_URL": f"unix://{SOCKET}", "SUPERVISOR_GROUP_NAME": "worker"}
    proc.add(10, environment=ours)
    proc.add(os.getpid(), parent=10, environment=ours)
    assert supervised(SOCKET, read_processes(proc.root), proc.root) == {}


def test_another_process_with_the_same_number_is_not_the_same() -> None:
    assert not is_same(process(5), None)
    assert not is_same(process(5), Process(5, 1, 5, 1000, 77))
    assert is_same(process(5), process(5))


def test_a_number_that_was_given_to_another_process_is_not_signalled(
    run: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    child = run("")
    now = read_process(child.pid)
    assert now is not None
    stop_processes([Process(now.pid, now.parent, now.group, now.uid, now.start_ticks - 1)], signal.SIGKILL, 0.1)
    assert child.poll() is None


def test_a_process_that_ignores_its_signal_is_killed_with_its_group(
    run: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    child = run("import subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); subprocess.Popen(['sleep', '600'])")
    there = read_process(child.pid)
    assert there is not None
    begun = time.monotonic()
    stop_processes([there], signal.SIGTERM, 0.3)
    assert time.monotonic() - begun < 100
    assert child.wait(60) == -signal.SIGKILL
    assert not [found for found in read_processes().values() if found.group == child.pid]


def test_a_process_that_ends_by_its_signal_is_not_waited_for_longer(
    run: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    child = run("")
    there = read_process(child.pid)
    assert there is not None
    begun = time.monotonic()
    stop_processes([there], signal.SIGTERM, 120)
    assert time.monotonic() - begun < 100
    assert child.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("content", "expected_s"), [("5 2500000000 7\n", 2.5), ("", 0.0), ("x y z\n", 0.0), (None, 0.0)]
)
def test_the_time_without_a_processor_is_read_from_the_scheduler(
    tmp_path: Path, content: str | None, expected_s: float
) -> None:
    (tmp_path / "7").mkdir()
    if content is not None:
        (tmp_path / "7/schedstat").write_text(content)
    assert starved_s(7, tmp_path) == expected_s


def test_the_kernel_tells_the_time_without_a_processor() -> None:
    assert starved_s(os.getpid()) >= 0.0
