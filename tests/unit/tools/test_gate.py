# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import gate, steps
from tools.steps import Outcome, Step

REPOSITORY = Path(__file__).resolve().parents[3]
JUNIT = (
    '<testsuites><testsuite tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"/></testsuites>'
)
# A gate in a separate process, since it takes over the signals and orphans of its process.
PROGRAM = """\
import sys
sys.path.insert(0, {repository!r})
from tools import gate, steps
from tools.steps import Step
steps.LEFTOVER_WAIT_S = 1.0
gate.PREPARE = Step("prepare", 1e9)
{prologue}
sys.exit(gate.run([Step("lint-yaml", 1e9), Step("unit", 1e9, tests=True), Step("docs-check", {budget})]))
"""
# A second interrupt that arrives before the steps receive the first.
IMPATIENT = """\
import os, signal
heard = os.killpg
def killpg(group, number):
    if number == signal.SIGINT:
        os.kill(os.getpid(), number)
    heard(group, number)
os.killpg = killpg
"""


class Gate:
    """A gate of three steps whose targets run a shell script of the same name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.budget_s = 1e9
        self.prologue = ""

    def script(self, step: str, text: str) -> None:
        (self.folder / f"{step}.sh").write_text(text)

    def start(self) -> subprocess.Popen[str]:
        program = PROGRAM.format(repository=str(REPOSITORY), budget=self.budget_s, prologue=self.prologue)
        return subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "MAKEFLAGS": "-k"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> tuple[int, list[str]]:
        """Run the gate; return its exit code and the lines of its output."""
        process = self.start()
        output, _nothing = process.communicate()
        return process.returncode, output.splitlines()

    def wait_for(self, name: str, process: subprocess.Popen[str]) -> str:
        """Wait until a step has written a file, and return its text."""
        path = self.folder / name
        while not (path.exists() and path.read_text().strip()):
            assert process.poll() is None, f"the gate ended before {name}"
            time.sleep(0.02)
        return path.read_text()


@pytest.fixture
def three_steps(tmp_path: Path) -> Gate:
    program = tmp_path / "bin" / "make"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$2" >> ran\nexec sh "./$2.sh"\n')
    program.chmod(0o755)
    made = Gate(tmp_path)
    for step in ("prepare", "lint-yaml", "docs-check"):
        made.script(step, "")
    made.script("unit", f"echo '{JUNIT.format(tests=5, failures=0, errors=0, skipped=1)}' > .cache/reports/unit.xml")
    return made


def is_running(pid: int) -> bool:
    try:
        return b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_failed_step_fails_the_gate_after_the_other_steps_have_run(three_steps: Gate) -> None:
    three_steps.script("lint-yaml", "echo the reason; exit 3")
    exit_code, lines = three_steps.run()
    assert exit_code == 1
    assert sorted((three_steps.folder / "ran").read_text().split()) == ["docs-check", "lint-yaml", "prepare", "unit"]
    assert "the reason" in lines
    assert any(line.startswith("lint-yaml") and "FAILED (exit code 3)" in line for line in lines)
    assert "3 of 4 steps passed, failed: lint-yaml in " in lines[-1]


@pytest.mark.parametrize("tests", [None, 0, 2], ids=["no report", "nothing collected", "everything skipped"])
def test_a_step_that_ran_no_test_fails_the_gate(three_steps: Gate, tests: int | None) -> None:
    report = JUNIT.format(tests=tests, failures=0, errors=0, skipped=tests)
    three_steps.script("unit", "" if tests is None else f"echo '{report}' > .cache/reports/unit.xml")
    exit_code, lines = three_steps.run()
    assert exit_code == 1
    assert any("FAILED (no test ran)" in line for line in lines)


def test_nothing_runs_when_the_preparation_fails(three_steps: Gate) -> None:
    three_steps.script("prepare", "exit 2")
    exit_code, lines = three_steps.run()
    assert exit_code == 1
    assert (three_steps.folder / "ran").read_text().split() == ["prepare"]
    assert "0 of 4 steps passed, failed: prepare, 3 not run" in lines[-1]


def test_the_report_of_an_earlier_run_does_not_count(three_steps: Gate) -> None:
    assert three_steps.run()[0] == 0
    three_steps.script("unit", "")
    assert three_steps.run()[0] == 1


def test_the_last_line_counts_the_tests_of_all_steps(three_steps: Gate) -> None:
    last = three_steps.run()[1][-1]
    assert re.fullmatch(r"=+ 4 passed, 1 skipped, 4 of 4 steps passed in \d+\.\d\ds =+", last)


def test_steps_run_side_by_side(three_steps: Gate) -> None:
    # Each of the two waits for the other: sequential steps would never end.
    three_steps.script("lint-yaml", "touch a; while ! [ -e b ]; do sleep 0.05; done")
    three_steps.script("docs-check", "touch b; while ! [ -e a ]; do sleep 0.05; done")
    assert three_steps.run()[0] == 0


def test_steps_that_wait_share_a_slot_and_are_served_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "make"
    program.parent.mkdir()
    # Each step ends when all three run; a fourth would exceed the limit.
    program.write_text('#!/bin/sh\nnice > "$2"\nwhile ! [ -e b ] || ! [ -e c ] || ! [ -e d ]; do sleep 0.05; done\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    told: list[str] = []
    waiting = (Step("c", 1.0, waits=True), Step("d", 2.0, waits=True))
    steps.Steps(slots=2, tell=told.append).run([Step("a", 3.0), Step("b", 4.0), *waiting])
    started = ["=== d: started", "=== c: started", "=== b: started"]
    assert (told[:3], told.index("=== a: started") > 3) == (started, True)
    # The gate itself runs this test with a lower priority; 19 is the lowest.
    own = os.nice(0)
    lower = min(own + 10, 19)
    assert {name: int((tmp_path / name).read_text()) for name in "abcd"} == {"a": lower, "b": lower, "c": own, "d": own}


def test_a_step_that_exceeds_its_budget_is_a_warning(three_steps: Gate) -> None:
    three_steps.budget_s = 0.0
    exit_code, lines = three_steps.run()
    assert exit_code == 0
    assert "warning: docs-check exceeds its budget of 0 s of CPU" in lines


def test_a_process_that_a_step_leaves_behind_is_ended_and_fails_the_gate(three_steps: Gate) -> None:
    three_steps.script("docs-check", "setsid sleep 300 >/dev/null 2>&1 & echo $! > pid")
    exit_code, lines = three_steps.run()
    assert exit_code == 1
    assert "error: a step left a process behind: sleep 300" in lines
    assert not is_running(int((three_steps.folder / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_every_step_and_starts_no_other(three_steps: Gate, number: signal.Signals) -> None:
    three_steps.script("lint-yaml", "trap 'echo ended > ended; exit 1' INT; sleep 300 & echo $! > pid; wait")
    with three_steps.start() as process:
        pid = int(three_steps.wait_for("pid", process))
        process.send_signal(number)
        output, _nothing = process.communicate()
    assert process.returncode == 130
    assert (three_steps.folder / "ended").read_text() == "ended\n"
    assert not is_running(pid)
    assert "=== interrupted: stopping" in output


def test_a_second_interrupt_kills_steps_that_do_not_end(three_steps: Gate) -> None:
    three_steps.script("lint-yaml", "trap '' INT; sleep 300 & echo $! > pid; wait; sleep 300")
    with three_steps.start() as process:
        pid = int(three_steps.wait_for("pid", process))
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while "=== interrupted" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert not is_running(pid)


def test_a_second_interrupt_counts_however_early_it_comes(three_steps: Gate) -> None:
    three_steps.prologue = IMPATIENT
    three_steps.script("lint-yaml", "trap '' INT; sleep 300 & echo $! > pid; wait; sleep 300")
    started_s = time.monotonic()
    with three_steps.start() as process:
        pid = int(three_steps.wait_for("pid", process))
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert not is_running(pid)
    assert time.monotonic() - started_s < steps.INTERRUPT_WAIT_S


def test_errors_count_as_failures(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(JUNIT.format(tests=9, failures=2, errors=1, skipped=1))
    assert steps.read_report(report).counts == {"passed": 5, "failed": 3, "skipped": 1}


def test_the_slowest_tests_come_first(tmp_path: Path) -> None:
    cases = "".join(f'<testcase classname="c" name="t{number}" time="{number}"/>' for number in range(12))
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite tests='12'>{cases}</testsuite></testsuites>")
    slowest = steps.read_report(report).slowest
    assert slowest[:2] == [(11.0, "c::t11"), (10.0, "c::t10")]
    assert len(slowest) == 10


def test_the_slowest_tests_are_printed_when_a_step_ends(three_steps: Gate) -> None:
    case = '<testsuites><testsuite tests="1"><testcase classname="c" name="slow" time="7.5"/></testsuite></testsuites>'
    three_steps.script("unit", f"echo '{case}' > .cache/reports/unit.xml")
    assert "        7.5 s  c::slow" in three_steps.run()[1]


def test_the_summary_says_why_tests_failed(three_steps: Gate) -> None:
    report = (
        '<testsuites><testsuite tests="2" failures="1"><testcase classname="c" name="good"/>'
        '<testcase classname="c" name="bad"><failure message="assert 2 is None&#10;and more">long</failure></testcase>'
        "</testsuite></testsuites>"
    )
    three_steps.script("unit", f"echo '{report}' > .cache/reports/unit.xml; exit 1")
    output = "\n".join(three_steps.run()[1])
    assert "failed: c::bad\n    assert 2 is None\n    and more\n" in output
    assert output.index("failed: c::bad") < output.index("FAILED (exit code 1) - 1 passed, 1 failed")


def test_many_failures_are_counted() -> None:
    failures = [(f"c::t{number}", "why") for number in range(steps.FAILURES_SHOWN + 2)]
    text = gate.summary([Outcome(Step("unit", 1.0), 1, 1.0, 1.0, failures=failures)], [], 1.0, 0)
    assert text.count("failed: c::t") == steps.FAILURES_SHOWN
    assert "\nand 2 more\n" in text


def test_the_reason_of_a_failed_playbook_is_what_its_task_said() -> None:
    playbook = [f"  task {number} changed" for number in range(40)]
    told = [
        "  Start the stores",
        "    object-store is FATAL",
        "    at /folder/roles/host/tasks/services.yml:4",
        "  invocation: {}",
    ]
    lines = steps.reason("\n".join(["AssertionError: exit code 2", *playbook, *told])).splitlines()
    assert lines[-3:] == [line.strip() for line in told[:3]]
    assert len(lines) == steps.REASON_LINES


def test_every_step_is_a_documented_target_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    names = {step.name for group in gate.STEPS.values() for step in group} | {gate.PREPARE.name}
    assert names - targets == set()


def test_every_kind_of_check_is_part_of_the_gate() -> None:
    names = {step.name for step in (*gate.LINT_STEPS, *gate.TEST_STEPS)} | {"sanity"}
    assert names == {step.name for step in gate.STEPS["test"]}


def test_a_step_that_only_warns_counts_as_passed() -> None:
    slow = Outcome(Step("lint-yaml", 1.0), 0, took_s=1.0, cpu_s=2.0)
    assert slow.over_budget
    assert slow.problem is None
