# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tools import gate

REPOSITORY = Path(__file__).resolve().parents[3]
JUNIT = (
    '<testsuites><testsuite tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"/></testsuites>'
)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a `make` whose targets do what a shell script of their name does."""
    program = tmp_path / "bin" / "make"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$2" >> ran\nexec sh "./$2.sh"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gate, "STEPS", {"test": ("lint-yaml", "unit", "docs-check")})
    report = JUNIT.format(tests=5, failures=0, errors=0, skipped=1)
    for step in ("lint-yaml", "docs-check"):
        (tmp_path / f"{step}.sh").touch()
    (tmp_path / "unit.sh").write_text(f"echo '{report}' > .cache/reports/unit.xml")
    return tmp_path


def test_a_failed_step_fails_the_gate_after_the_other_steps_have_run(
    make: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (make / "lint-yaml.sh").write_text("exit 3")
    assert gate.main(["test"]) == 1
    assert (make / "ran").read_text().split() == ["lint-yaml", "unit", "docs-check"]
    output = capsys.readouterr().out
    assert "lint-yaml" in output
    assert "FAILED (exit code 3)" in output
    assert "2 of 3 steps passed, failed: lint-yaml in " in output.splitlines()[-1]


@pytest.mark.parametrize("tests", [None, 0, 2], ids=["no report", "nothing collected", "everything skipped"])
def test_a_step_that_ran_no_test_fails_the_gate(
    make: Path, tests: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    report = JUNIT.format(tests=tests, failures=0, errors=0, skipped=tests)
    (make / "unit.sh").write_text("" if tests is None else f"echo '{report}' > .cache/reports/unit.xml")
    assert gate.main(["test"]) == 1
    assert "FAILED (no test ran)" in capsys.readouterr().out


def test_the_report_of_an_earlier_run_does_not_count(make: Path) -> None:
    assert gate.main(["test"]) == 0
    (make / "unit.sh").write_text("")
    assert gate.main(["test"]) == 1


def test_the_last_line_counts_the_tests_of_all_steps(make: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.main(["test"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"=+ 4 passed, 1 skipped, 3 of 3 steps passed in \d+\.\d\ds =+", last)


def test_errors_count_as_failures(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(JUNIT.format(tests=9, failures=2, errors=1, skipped=1))
    assert gate.counted(report) == {"passed": 5, "failed": 3, "skipped": 1}


def test_every_step_is_a_documented_target_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    steps = {step for group in gate.STEPS.values() for step in group}
    assert steps - targets == set()


def test_every_kind_of_check_is_part_of_the_gate() -> None:
    assert set(gate.LINT_STEPS) | set(gate.TEST_STEPS) | {"sanity"} == set(gate.STEPS["test"])
