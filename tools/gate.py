# SPDX-License-Identifier: GPL-3.0-or-later
"""Run steps of the gate one after the other, all of them, and fail at the end when any of them failed.

Each step is a target of the Makefile, so that ``make STEP`` repeats one alone. Steps that run tests leave a JUnit file
behind, from which the closing line counts the tests of all steps; a step that ran no test has failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPORTS = Path(".cache/reports")
LINT_STEPS = (
    "lint-python",
    "lint-types",
    "lint-application",
    "lint-yaml",
    "lint-ansible",
    "lint-specs",
    "lint-manifests",
    "lint-files",
    "lint-workflows",
    "docs-check",
    "lint-changelog",
)
TEST_STEPS = ("unit", "application", "integration", "aws", "kube", "molecule")
STEPS = {
    "lint": LINT_STEPS,
    "test": (*LINT_STEPS, "sanity", *TEST_STEPS),
}
COUNTED = ("passed", "failed", "skipped")


@dataclass(frozen=True)
class Outcome:
    """How one step ended."""

    step: str
    exit_code: int
    took_s: float
    tests: dict[str, int]

    @property
    def problem(self) -> str | None:
        """Say why the step failed, or None."""
        if self.exit_code:
            return f"exit code {self.exit_code}"
        if self.step in TEST_STEPS and not self.tests.get("passed"):
            return "no test ran"
        return None


def counted(report: Path) -> dict[str, int]:
    """Return how many tests passed, failed and were skipped according to a JUnit file; nothing when there is none."""
    if not report.exists():
        return {}
    # The file was written by pytest a moment ago on this machine.
    suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def run_step(step: str) -> Outcome:
    """Run one target of the Makefile with its output on this terminal."""
    report = REPORTS / f"{step}.xml"
    report.unlink(missing_ok=True)
    print(f"\n=== {step}", flush=True)
    started_s = time.monotonic()
    done = subprocess.run(["make", "--no-print-directory", step], check=False)
    outcome = Outcome(step, done.returncode, time.monotonic() - started_s, counted(report))
    print(f"=== {step}: {outcome.problem or 'passed'} in {outcome.took_s:.1f} s", flush=True)
    return outcome


def summary(outcomes: Sequence[Outcome], took_s: float) -> str:
    """Return a table of the steps and a closing line in pytest's manner."""
    lines = [""]
    for outcome in outcomes:
        tests = ", ".join(f"{outcome.tests[word]} {word}" for word in COUNTED if outcome.tests.get(word))
        verdict = f"FAILED ({outcome.problem})" if outcome.problem else "passed"
        lines.append(f"{outcome.step:<18} {outcome.took_s:>7.1f} s  {verdict}{f' - {tests}' if tests else ''}")
    failed_steps = [outcome.step for outcome in outcomes if outcome.problem]
    totals = {word: sum(outcome.tests.get(word, 0) for outcome in outcomes) for word in COUNTED}
    parts = [f"{number} {word}" for word, number in totals.items() if number]
    parts.append(f"{len(outcomes) - len(failed_steps)} of {len(outcomes)} steps passed")
    if failed_steps:
        parts.append(f"failed: {' '.join(failed_steps)}")
    lines.append(f" {', '.join(parts)} in {took_s:.2f}s ".center(100, "="))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named group of steps; return 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=sorted(STEPS))
    group = parser.parse_args(arguments).group
    REPORTS.mkdir(parents=True, exist_ok=True)
    # The steps are runs of make of their own, not jobs of the one that started this program.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)
    started_s = time.monotonic()
    outcomes = [run_step(step) for step in STEPS[group]]
    print(summary(outcomes, time.monotonic() - started_s), flush=True)
    return int(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
