# SPDX-License-Identifier: GPL-3.0-or-later
"""Run targets of the Makefile side by side, each with a log of its own, and leave no process behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

REPORTS = Path(".cache/reports")
LOGS = Path(".cache/gate")
COUNTED = ("passed", "failed", "skipped")
SLOWEST = 10
# Failed tests that a summary names with the reason, and the lines and characters of one reason.
FAILURES_SHOWN = 30
REASON_LINES = 8
REASON_LINE_LENGTH = 300
# Lines of a failed step's log that are repeated on the terminal.
LOG_TAIL_LINES = 400
# Seconds that steps have to stop their servers after an interrupt; a second interrupt kills them at once.
INTERRUPT_WAIT_S = 180.0
# Seconds that processes have to end after SIGTERM and SIGKILL.
TERMINATE_WAIT_S = 10.0
# Seconds in which processes of a step may end by themselves after it.
LEFTOVER_WAIT_S = 10.0
STATUS_EVERY_S = 60.0
_PR_SET_CHILD_SUBREAPER = 36
# Computing steps have a lower priority than waiting ones, so that neither delays the other.
_NICE: dict[bool, tuple[str, ...]] = {True: (), False: ("nice", "-n", "10")}
# End of a failed task in a playbook's output.
_TASK_PLACE = re.compile(r"at /\S+:\d+")
_STOPPED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Step:
    """A target of the Makefile.

    budget_s: seconds of processor time that the step may take; more is a warning.
    tests: whether the step leaves a JUnit file in which at least one test must have passed.
    waits: whether it waits most of the time. Two of these share one slot, and the processor is theirs first.
    arguments: further words for make, such as ``TESTS=...``.
    """

    name: str
    budget_s: float
    tests: bool = False
    waits: bool = False
    arguments: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Return the part of a slot that the step takes."""
        return 0.5 if self.waits else 1.0


@dataclass(frozen=True)
class Outcome:
    """How one step ended. `cpu_s` is user and system time of the step with all processes that it waited for."""

    step: Step
    exit_code: int
    took_s: float
    cpu_s: float
    tests: dict[str, int] = field(default_factory=dict)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def problem(self) -> str | None:
        """Return why the step failed, or None."""
        if self.exit_code:
            return f"exit code {self.exit_code}"
        if self.step.tests and not self.tests.get("passed"):
            return "no test ran"
        return None

    @property
    def over_budget(self) -> bool:
        return self.cpu_s > self.step.budget_s


@dataclass(frozen=True)
class Report:
    """The results in a JUnit file.

    counts: number of tests per word of `COUNTED`; empty where there is no file.
    slowest: seconds and name, the slowest test first.
    failures: name and reason of each test that failed.
    """

    counts: dict[str, int] = field(default_factory=dict)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def read_report(path: Path) -> Report:
    """Return the results in a JUnit file; an empty report without a file."""
    if not path.exists():
        return Report()
    # The file was written by pytest a moment ago on this machine.
    root = ET.parse(path).getroot()  # noqa: S314
    total = failed = skipped = 0
    for suite in root.iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    cases = [(_name(case), case) for case in root.iter("testcase") if case.get("name")]
    return Report(
        {"passed": total - failed - skipped, "failed": failed, "skipped": skipped},
        sorted(((float(case.get("time", 0)), name) for name, case in cases), reverse=True)[:SLOWEST],
        [
            (name, reason(problem.get("message") or problem.text or ""))
            for name, case in cases
            for problem in case
            if problem.tag in ("failure", "error")
        ],
    )


def _name(case: ET.Element) -> str:
    return f"{case.get('classname', '')}::{case.get('name', '')}"


def reason(message: str) -> str:
    """Return the lines with the cause of a failed test: those up to the location of a failed task, or the first.

    A message may hold the whole output of a playbook, in which a failed task ends with a line ``at FILE:LINE``.
    """
    lines = [line.strip()[:REASON_LINE_LENGTH] for line in message.splitlines() if line.strip()]
    place = next((number for number, line in enumerate(lines) if _TASK_PLACE.fullmatch(line)), None)
    if place is None:
        return "\n".join(lines[:REASON_LINES])
    return "\n".join(lines[max(0, place + 1 - REASON_LINES) : place + 1])


@dataclass
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    started_s: float


class Steps:
    """Run steps as long as a slot is free.

    Every descendant becomes a child of this process when its parent ends.
    """

    def __init__(self, slots: int, tell: Callable[[str], None] = lambda line: print(line, flush=True)) -> None:
        self._slots = slots
        self._tell = tell
        self._running: dict[int, _Running] = {}
        self._interrupts = 0

    @property
    def interrupted(self) -> bool:
        return self._interrupts > 0

    def run(self, steps: Iterable[Step]) -> list[Outcome]:
        """Run the steps; return the outcomes in the order in which they ended.

        Those that wait start first, then the one with the largest budget.

        An interrupt reaches every running step, and no further step is started.
        """
        waiting = sorted(steps, key=lambda step: (not step.waits, -step.budget_s))
        outcomes: list[Outcome] = []
        with _Wakeup(self._on_signal) as wakeup:
            status_s = time.monotonic() + STATUS_EVERY_S
            while self._running or (waiting and not self.interrupted):
                while waiting and self._taken() < self._slots and not self.interrupted:
                    self._start(waiting.pop(0))
                wakeup.wait(1.0)
                outcomes += self._reap()
                if time.monotonic() > status_s:
                    self._tell(f"... {self._status()}; waiting: {len(waiting)}")
                    status_s = time.monotonic() + STATUS_EVERY_S
                if self.interrupted and self._running:
                    outcomes += self._stop(wakeup)
        return outcomes

    def leftovers(self) -> list[str]:
        """End remaining processes of the steps. Return the command lines of those that did not end by themselves."""
        until_s = time.monotonic() + LEFTOVER_WAIT_S
        while (names := _alive(os.getpid())) and time.monotonic() < until_s:
            _collect()
            time.sleep(0.1)
        for number in (signal.SIGTERM, signal.SIGKILL):
            _end(_alive(os.getpid()), number)
        return list(names.values())

    def _start(self, step: Step) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        REPORTS.mkdir(parents=True, exist_ok=True)
        (REPORTS / f"{step.name}.xml").unlink(missing_ok=True)
        with (LOGS / f"{step.name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*_NICE[step.waits], "make", "--no-print-directory", step.name, *step.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tell(f"=== {step.name}: started")
        self._running[process.pid] = _Running(step, process, time.monotonic())

    def _taken(self) -> float:
        return sum(running.step.share for running in self._running.values())

    def _reap(self) -> list[Outcome]:
        """Collect the children that have ended; return the outcomes of the steps among them."""
        outcomes: list[Outcome] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return outcomes
            if not pid:
                return outcomes
            running = self._running.pop(pid, None)
            if running:
                exit_code = os.waitstatus_to_exitcode(status)
                running.process.returncode = exit_code
                took_s = time.monotonic() - running.started_s
                report = read_report(REPORTS / f"{running.step.name}.xml")
                cpu_s = usage.ru_utime + usage.ru_stime
                outcome = Outcome(
                    running.step, exit_code, took_s, cpu_s, report.counts, report.slowest, report.failures
                )
                self._tell("\n".join(_ending(outcome)))
                outcomes.append(outcome)

    def _stop(self, wakeup: _Wakeup) -> list[Outcome]:
        """Interrupt all running steps and wait for their end. Kill them after the limit or a second interrupt."""
        self._tell(f"=== interrupted: stopping {', '.join(one.step.name for one in self._running.values())}")
        outcomes: list[Outcome] = []
        # The second interrupt also counts if it arrives before the steps received the first.
        for number, wait_s, enough in ((signal.SIGINT, INTERRUPT_WAIT_S, 2), (signal.SIGKILL, TERMINATE_WAIT_S, None)):
            for pid in self._running:
                os.killpg(pid, number)
            until_s = time.monotonic() + wait_s
            while self._running and (enough is None or self._interrupts < enough) and time.monotonic() < until_s:
                wakeup.wait(0.2)
                outcomes += self._reap()
        return outcomes

    def _status(self) -> str:
        now_s = time.monotonic()
        return ", ".join(f"{one.step.name} for {now_s - one.started_s:.0f} s" for one in self._running.values())

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._interrupts += 1


def _ending(outcome: Outcome) -> list[str]:
    """Return what the terminal shows when a step ends: a failed one's log, the duration, and the slowest tests."""
    name = outcome.step.name
    lines = []
    if outcome.problem:
        log = (LOGS / f"{name}.log").read_text(errors="replace").splitlines()
        lines = [f"--- {LOGS / name}.log", *log[-LOG_TAIL_LINES:], f"--- end of {LOGS / name}.log"]
    verdict = outcome.problem or "passed"
    lines.append(f"=== {name}: {verdict} in {outcome.took_s:.1f} s, {outcome.cpu_s:.1f} s of CPU")
    lines += [f"    {took_s:7.1f} s  {test}" for took_s, test in outcome.slowest]
    return lines


class _Wakeup:
    """Wake up the main loop on signals, and restore their handlers at the end."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old = {number: signal.signal(number, self._handler) for number in (signal.SIGCHLD, *_STOPPED)}
        self._old_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        return self

    def wait(self, limit_s: float) -> None:
        """Wait for a signal."""
        if select.select([self._read_fd], [], [], limit_s)[0]:
            os.read(self._read_fd, 4096)

    def __exit__(self, *_details: object) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._read_fd)
        os.close(self._write_fd)


def _descendants(root: int) -> list[int]:
    """Return the processes below a process, those that only wait to be collected included."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc") if Path("/proc").is_dir() else ():
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text(errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})


def _alive(root: int) -> dict[int, str]:
    """Return the command lines of the processes below a process that still run."""
    return {pid: command for pid in _descendants(root) if (command := _command(pid))}


def _command(pid: int) -> str:
    """Return the command line of a process; an empty text when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _end(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, and wait until they have ended or the limit has passed."""
    alive = list(pids)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    until_s = time.monotonic() + TERMINATE_WAIT_S
    while any(map(_command, alive)) and time.monotonic() < until_s:
        _collect()
        time.sleep(0.05)


def _collect() -> None:
    """Collect the children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
